"""Two workers beside one process, over a folder of Parquet files: plan, campaign and census after.

It is the time on the wall that counts, so that the figure says something only on a machine with
two idle cores. They run by turns, so that both meet the same machine. Each worker needs half a
second to start, which a campaign of a few seconds does not make good.
"""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_bulk import ground_in, rows_of, stale_blobs, write_source
from pytest_benchmark.fixture import BenchmarkFixture

from kmslab import Lab
from kmslab.campaign.crew import Workers
from kmslab.campaign.pool import Pool
from kmslab.campaign.run import run
from kmslab.model import CTYUN
from kmslab.records.spec import SourceSpec

FILES, ROWS = 100, 1_000_000
FLOOR = 1.7


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab, and a folder of files with stale records."""
    folder = tmp_path_factory.mktemp("scale")
    (folder / "orders").mkdir()
    each = ROWS // FILES
    with Lab.create(folder / "lab") as lab:
        batches = stale_blobs(lab, CTYUN, [each] * FILES)
        for number, (key_id, blobs) in enumerate(batches):
            place = folder / "orders" / f"{number:03}"
            place.mkdir()
            write_source(place, "parquet", [rows_of(CTYUN, key_id, blobs, number * each)])
        lab.rotate(key_id)
    return folder


def test_two_workers(made: Path, benchmark: BenchmarkFixture, note: Callable[[str], None]) -> None:
    gc.collect()
    gc.freeze()
    seconds: dict[int, float] = {}

    def campaign(workers: Workers | None) -> float:
        folder = made / "round"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copytree(made / "orders", folder / "orders")
        spec = SourceSpec(str(folder / "orders" / "*" / "*.parquet"))
        with Lab.open(made / "lab") as lab:
            begun = time.perf_counter()
            report = run(ground_in(folder, lab), spec, workers=workers)
            taken = time.perf_counter() - begun
        assert report.results.re_encrypted == ROWS
        return taken

    def both() -> None:
        for size, workers in ((1, None), (2, Pool(2))):
            taken = campaign(workers)
            seconds[size] = min(taken, seconds.get(size, taken))

    benchmark.pedantic(both, rounds=2, iterations=1)
    found = seconds[1] / seconds[2]
    benchmark.extra_info.update(ratio=round(found, 3), floor=FLOOR, load=os.getloadavg()[0])
    one, two = (ROWS / seconds[size] for size in (1, 2))
    note(
        f"{'two workers, 100 Parquet files':44} {two:>12,.0f} rows/s  {found:6.3f} x one"
        f" ({one:,.0f})  floor {FLOOR:.2f}  {'ok' if found >= FLOOR else 'BELOW'};"
        f" {os.getloadavg()[0]:.1f} processes at work on {os.cpu_count()} cores"
    )
