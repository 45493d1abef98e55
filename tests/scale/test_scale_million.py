"""A million records, in 100 Parquet files and in a PostgreSQL table: one process, two workers and a
Dask cluster come to the same."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from campaign_bulk import ground_in, rows_of, stale_blobs, write_source
from distributed import Client, LocalCluster

from kmslab import Lab
from kmslab.campaign.cluster import Cluster
from kmslab.campaign.crew import Workers
from kmslab.campaign.pool import Pool
from kmslab.campaign.report import Report
from kmslab.campaign.run import run
from kmslab.model import CTYUN, TENCENT
from kmslab.records.spec import SourceSpec

pytestmark = pytest.mark.soak

FILES, RECORDS = 100, 1_000_000
EACH = RECORDS // FILES
KINDS = ("alone", "two workers", "a cluster")


def stored(lab: Lab) -> Iterator[list[tuple[str | None, ...]]]:
    """The rows of each file: of both providers by turns, every tenth file on the newest version,
    and one record in a thousand with a blob that is none."""
    sources = {p: stale_blobs(lab, p, [EACH] * FILES) for p in (TENCENT, CTYUN)}
    keys: dict[str, str] = {}
    for number in range(FILES):
        provider = (TENCENT, CTYUN)[number % 2]
        if number in (FILES // 10 * 9, FILES // 10 * 9 + 1):
            lab.rotate(keys[provider])
        keys[provider], blobs = next(sources[provider])
        rows = rows_of(provider, keys[provider], blobs, number * EACH)
        rows[::1000] = [(*row[:3], "bm9uZQ==", *row[4:]) for row in rows[::1000]]
        yield rows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab, and a folder of Parquet files."""
    folder = tmp_path_factory.mktemp("million")
    with Lab.create(folder / "lab") as lab:
        for number, rows in enumerate(stored(lab)):
            place = folder / "orders" / f"{number:03}"
            place.mkdir(parents=True)
            write_source(place, "parquet", [rows])
    return folder


def campaign(folder: Path, spec: SourceSpec, kind: str) -> Report:
    """A campaign that goes over everything; said with its rate."""
    with Lab.open(folder / "lab") as lab:
        begun = time.perf_counter()
        if kind == "a cluster":
            with (
                LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
                Client(cluster) as client,
            ):
                report = _run(folder, lab, spec, Cluster(client))
        else:
            report = _run(folder, lab, spec, Pool(2) if kind == "two workers" else None)
        rate = RECORDS / (time.perf_counter() - begun)
    print(f"{spec.table or 'files'}, {kind}: {rate:,.0f} records/s, load {os.getloadavg()[0]:.1f}")
    return report


def _run(folder: Path, lab: Lab, spec: SourceSpec, workers: Workers | None) -> Report:
    return run(ground_in(folder, lab), spec, workers=workers)


def outcome(report: Report) -> tuple[object, ...]:
    """What of a report is the same, whoever has done it."""
    assert report.state == "finished"
    assert report.plan is not None
    assert report.results.re_encrypted == RECORDS // 10 * 9 // 1000 * 999
    assert sum(report.plan.outcomes.values()) == RECORDS
    return (
        report.results,
        report.plan.outcomes,
        report.plan.census,
        report.outcomes_after,
        report.census_after,
        report.failure_codes,
    )


def test_files(made: Path, tmp_path: Path) -> None:
    found = []
    for kind in KINDS:
        shutil.copytree(made / "orders", tmp_path / "orders")
        spec = SourceSpec(str(tmp_path / "orders" / "*" / "*.parquet"))
        found.append(outcome(campaign(made, spec, kind)))
        shutil.rmtree(tmp_path / "orders")
    assert found[1:] == found[:-1]


def test_a_table(made: Path, postgres_url: str) -> None:
    write_source(made, "postgresql", parquet_rows(made), postgres_url)
    found = []
    for kind in KINDS:
        with psycopg.connect(postgres_url) as database:
            database.execute("CREATE TABLE round (LIKE orders INCLUDING ALL)")
            database.execute("INSERT INTO round SELECT * FROM orders")
        found.append(outcome(campaign(made, SourceSpec(postgres_url, "round"), kind)))
        with psycopg.connect(postgres_url) as database:
            database.execute("DROP TABLE round")
    assert found[1:] == found[:-1]


def parquet_rows(folder: Path) -> Iterator[list[tuple[str | None, ...]]]:
    """What the files hold."""
    for path in sorted((folder / "orders").glob("*/*.parquet")):
        table = pq.read_table(path)
        yield list(zip(*(column.to_pylist() for column in table.columns), strict=True))
