"""The rates of DataFrames: a million rows inspected, counted and charted, and the memory of it."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from uuid import UUID

import matplotlib
import numpy as np
import pandas as pd
import pytest

import kmslab.frames  # noqa: F401  df.kms
from kmslab import Lab
from kmslab.analysis import rotation
from kmslab.analysis.many_heads import many_heads
from kmslab.analysis.simulate import Arrivals, Campaign, simulate

ROWS = 1_000_000
matplotlib.use("Agg")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.in_memory() as lab:
        yield lab


@pytest.fixture(scope="module")
def frame(lab: Lab) -> pd.DataFrame:
    """A million records of both providers, three keys of each and four versions of each key, with
    plaintexts of several lengths; 60,000 different blobs, since rates do not depend on that."""
    keys = [lab.tencent().create_key(f"k{n}").key_id for n in range(3)]
    keys += [lab.ctyun().create_key().key_id for _ in range(3)]
    blobs: list[str | None] = []
    for _ in range(4):
        for number, key_id in enumerate(keys):
            kms = lab.tencent() if number < 3 else lab.ctyun()
            texts = [os.urandom((16, 32, 32, 48)[n % 4]) for n in range(2_500)]
            blobs += kms.encrypt_many(texts, key_id=key_id).ciphertext_blob
        for key_id in keys:
            lab.rotate(key_id)
    random = np.random.default_rng(1)
    chosen = pd.Series(blobs, dtype="string").take(random.integers(0, len(blobs), ROWS))
    seconds = pd.to_timedelta(random.integers(0, 86_400 * 700, ROWS), unit="s").as_unit("us")
    return pd.DataFrame(
        {
            "record_id": [f"r{n}" for n in range(ROWS)],
            "ciphertext_blob": chosen.reset_index(drop=True),
            "created_at": pd.Timestamp("2024-01-01", tz="UTC").as_unit("us") + seconds,
            "owner": pd.Categorical.from_codes(
                random.integers(0, 40, ROWS), [f"team {n}" for n in range(40)]
            ),
        }
    )


def test_frame_inspection(lab: Lab, frame: pd.DataFrame, rate: Callable[..., float]) -> None:
    rate(lambda: frame.kms.inspect(lab), ROWS, 400_000)


def test_inspection_of_ctyun_cloud_blobs(rate: Callable[..., float]) -> None:
    names = [b64encode(b"&".join(2 * [str(UUID(int=n)).encode()])) for n in range(40)]
    blobs = [
        b64encode(b"0064" + names[n % 40] + os.urandom(16 * (1 + n % 3))).decode()
        for n in range(100_000)
    ]
    column = pd.Series(blobs, dtype="string")
    assert not many_heads(column, strict=True).errors
    rate(lambda: many_heads(column, strict=True), len(blobs), 400_000)


def test_frame_census_from_heads(lab: Lab, frame: pd.DataFrame, rate: Callable[..., float]) -> None:
    rate(lambda: frame.kms.census(lab), ROWS, 1_000_000)


def test_a_notebook_of_a_million_rows(
    lab: Lab, frame: pd.DataFrame, benchmark, note: Callable[[str], None]
) -> None:
    """Inspected, counted, analysed and charted; and how much memory that took beside the frame."""
    import matplotlib.pyplot as plt

    from kmslab import charts

    before = _memory(reset=True)
    own = frame.memory_usage(deep=True).sum() / 2**20
    times: dict[str, float] = {}

    def timed(name: str, ask: Callable[[], object]) -> object:
        begun = perf_counter()
        found = ask()
        times[name] = perf_counter() - begun
        return found

    def session() -> None:
        inventory = timed("inspect", lambda: frame.kms.inspect(lab))
        assert isinstance(inventory, pd.DataFrame)
        census = timed("census", inventory.kms.census)
        timed("census over time", lambda: rotation.census_over_time(inventory))
        exposure = timed("exposure", inventory.kms.exposure)
        timed("blast radius", lambda: rotation.blast_radius(inventory))
        policy = rotation.Policy(re_encrypt_within_days=30, max_age_days=365)
        timed("compliance", lambda: rotation.compliance(inventory, policy))
        timed("census bars", lambda: charts.census_bars(census))
        timed("age histogram", lambda: charts.age_histogram(inventory))
        timed("exposure map", lambda: charts.exposure_map(exposure))

    benchmark.pedantic(session, rounds=1, iterations=1)
    peak = _memory() - before
    plt.close("all")
    note(f"{'1,000,000 rows in a notebook':44} {sum(times.values()):12.2f} s")
    for name, seconds in times.items():
        note(f"  {name:42} {seconds:12.2f} s")
    note(f"  {'memory, beside a frame of ' + f'{own:.0f} MiB':42} {peak:12.0f} MiB")


def _memory(*, reset: bool = False) -> float:
    """The most memory that the process has had since the last reset, in MiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_frame_plan(lab: Lab, frame: pd.DataFrame, benchmark, note) -> None:
    """From heads, as a campaign plans: each row gets an outcome, and pairs are counted."""
    some = frame.head(200_000)
    benchmark.pedantic(lambda: some.kms.plan(lab), rounds=2, iterations=1)
    each = benchmark.stats.stats.min / len(some)
    note(f"{'df.kms.plan, from heads':44} {1 / each:12,.0f} rows/s")


def test_frame_re_encryption(lab: Lab, frame: pd.DataFrame, benchmark, note) -> None:
    some = frame.drop_duplicates("ciphertext_blob").head(40_000)
    benchmark.pedantic(lambda: some.kms.re_encrypt(lab), rounds=1, iterations=1)
    each = benchmark.stats.stats.min / len(some)
    note(f"{'df.kms.re_encrypt, verified':44} {1 / each:12,.0f} rows/s")


def test_a_billion_records_over_five_years(benchmark, note) -> None:
    arrivals = Arrivals(per_day=500_000, initial=100_000_000)
    benchmark.pedantic(lambda: simulate(90, arrivals, Campaign(rate=100)), rounds=5, iterations=1)
    note(f"{'simulate, 5 years':44} {benchmark.stats.stats.min * 1000:12.0f} ms")
