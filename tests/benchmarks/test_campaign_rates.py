"""Durable, verified campaigns beside `re_encrypt_many(verify=True)`, and their memory.

Measured is a campaign as it is run: the lab, its state and the source on the disk, every new blob
opened and compared, journalled and written back, and the census of the source after it; what a
database server does for it is not in its own seconds of the processor. One call of
`re_encrypt_many` with all the same blobs runs right before each campaign, and is what it is held
against; the median of all rounds counts.

Both are measured in seconds of the processor: a campaign waits for the disk at every chunk, and on
a busy machine for its turn after it. The ratio of the seconds on the wall is told too, and that to
calls with 1,000 blobs each, which have a durable audit for each, as a campaign has for a chunk.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from campaign_bulk import CONTEXT, ground_in, peak_mb, rows_of, stale_blobs, write_source
from pytest_benchmark.fixture import BenchmarkFixture

import kmslab.campaign.run as campaigns
from kmslab import Lab
from kmslab.analysis import STAY
from kmslab.campaign.planning import make_plan
from kmslab.model import CTYUN, TENCENT
from kmslab.records.opening import open_source
from kmslab.records.source import CHUNK_ROWS

ROWS = 100_000  # each campaign takes some 40 ms, however few they are
ROUNDS = 5
FLOORS = {"parquet": 0.35, "sqlite": 0.2, "postgresql": 0.2, "csv": None, "jsonl": None}
FEW, MANY = 10_000, 1_000_000
MOST_GROWTH_MB = {"csv": 32, "sqlite": 32, "postgresql": 32, "parquet": 48}
"""How much more memory a campaign over a million records may take than one over ten thousand.

What is remembered fills up until 100,000. Of a Parquet file one row group is in memory, here of
10,000 rows.
"""


@dataclass
class Spent:
    """Seconds of the processor, and on the wall."""

    cpu: float = 0.0
    wall: float = 0.0


@dataclass
class Round:
    """What one campaign took, the census in it, and the calls beside it."""

    bare: Spent
    batches: Spent
    whole: Spent
    after: Spent


class Stopwatch:
    """A function that is timed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.spent = Spent()
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            return self._function(*arguments, **options)
        finally:
            self.spent = Spent(time.process_time() - cpu, time.perf_counter() - wall)


@pytest.fixture
def url(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a PostgreSQL database, where there is to be one."""
    if kind != "postgresql":
        return ""
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
@pytest.mark.parametrize("kind", FLOORS)
def test_campaign(
    kind: str,
    provider: str,
    tmp_path: Path,
    benchmark: BenchmarkFixture,
    note: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
) -> None:
    census = Stopwatch(campaigns.count_alone)
    monkeypatch.setattr(campaigns, "count_alone", census)
    rounds: list[Round] = []
    # The heap of the test run is no campaign's: without this the collector goes over it each time.
    gc.collect()
    gc.freeze()
    with Lab.create(tmp_path / "lab") as lab:
        kms: Any = lab.kms(provider)
        ((key_id, blobs),) = stale_blobs(lab, provider, [ROWS])
        lab.rotate(key_id)
        rows = rows_of(provider, key_id, blobs, 0)
        options = {
            TENCENT: {"source_contexts": CONTEXT, "destination_contexts": CONTEXT},
            CTYUN: {"destination_key_ids": key_id},
        }[provider]

        def calls(size: int) -> None:
            for at in range(0, ROWS, size):
                kms.re_encrypt_many(blobs[at : at + size], verify=True, **options)

        bare, batches = Stopwatch(calls), Stopwatch(calls)
        folder = tmp_path / "round"

        def prepare() -> tuple[tuple[Any, ...], dict[str, Any]]:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            spec = write_source(folder, kind, [rows], url)
            ground = ground_in(folder, lab)
            plan = make_plan(open_source(spec), spec, lab, STAY, clock=ground.clock)
            assert plan.options.verify == "decrypt"
            batches(CHUNK_ROWS)
            bare(ROWS)
            return (ground, spec, plan), {}

        def campaign(ground: Any, spec: Any, plan: Any) -> None:
            whole = Stopwatch(campaigns.run)
            report = whole(ground, spec, plan=plan)
            assert report.results.re_encrypted == ROWS
            rounds.append(Round(bare.spent, batches.spent, whole.spent, census.spent))

        campaign(*prepare()[0])
        rounds.clear()
        benchmark.pedantic(campaign, setup=prepare, rounds=ROUNDS, iterations=1)
    note(_line(f"campaign, {kind}, {provider}", rounds, FLOORS[kind], benchmark))


def _line(name: str, rounds: list[Round], floor: float | None, benchmark: BenchmarkFixture) -> str:
    ratios = [each.bare.cpu / each.whole.cpu for each in rounds]
    found = median(ratios)
    without = median(each.bare.cpu / (each.whole.cpu - each.after.cpu) for each in rounds)
    batches = median(each.batches.cpu / each.whole.cpu for each in rounds)
    wall = median(each.bare.wall / each.whole.wall for each in rounds)
    benchmark.extra_info.update(ratio=round(found, 3), best=round(max(ratios), 3), floor=floor)
    mark = "" if floor is None else f"  floor {floor:.2f}  {'ok' if found >= floor else 'BELOW'}"
    rate = ROWS / min(each.whole.wall for each in rounds)
    return (
        f"{name:44} {rate:>12,.0f} rows/s  {found:6.3f} x re_encrypt_many{mark}\n"
        f"{'':12} best {max(ratios):.3f}; without the census after it {without:.3f};"
        f" of calls of 1,000 {batches:.3f}; on the wall {wall:.3f}"
    )


@pytest.mark.parametrize("kind", MOST_GROWTH_MB)
def test_memory_is_flat(
    kind: str, tmp_path: Path, benchmark: BenchmarkFixture, note: Callable[[str], None], url: str
) -> None:
    """The whole process: plan, campaign and census after it."""
    few = peak_mb(tmp_path / "few", kind, FEW, url=url)
    many = benchmark.pedantic(
        lambda: peak_mb(tmp_path / "many", kind, MANY, url=url), rounds=1, iterations=1
    )
    most, growth = MOST_GROWTH_MB[kind], many - few
    benchmark.extra_info.update(few_mb=round(few), many_mb=round(many), most_growth_mb=most)
    note(
        f"{f'memory of a campaign, {kind}':44} {few:6.0f} MB for {FEW:,} records,"
        f" {many:.0f} MB for {MANY:,}: {growth:+.0f} MB, at most {most}"
        f"  {'ok' if growth <= most else 'ABOVE'}"
    )
    shutil.rmtree(tmp_path / "many")
