"""Several workers on one table of a database server, each with ids of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaign_data import COLUMNS, Row, make_keys, make_rows
from campaign_sources import plaintexts
from postgres_server import Server, programs, running
from psycopg.rows import dict_row
from scale_crews import Here
from scale_sources import RECORDS

from kmslab import Lab
from kmslab.campaign.ground import Ground
from kmslab.campaign.pool import Pool
from kmslab.campaign.run import resume, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.campaign.watching import Watch
from kmslab.clock import SystemClock
from kmslab.errors import CampaignError, CampaignInterrupted, SourceError
from kmslab.records.spec import SourceSpec

pytestmark = [pytest.mark.scale, pytest.mark.usefixtures("small_ranges")]


def write(url: str, rows: list[Row]) -> SourceSpec:
    columns = ", ".join(f"{name} TEXT" for name in COLUMNS[1:])
    with psycopg.connect(url) as database:
        database.execute("DROP TABLE IF EXISTS secrets")
        database.execute(f"CREATE TABLE secrets (record_id TEXT PRIMARY KEY, {columns})".encode())
        with database.cursor().copy("COPY secrets FROM STDIN") as copy:
            for row in rows:
                copy.write_row([row[name] for name in COLUMNS])
    return SourceSpec(url, "secrets")


def rows_in(url: str) -> list[Row]:
    with psycopg.connect(url, row_factory=dict_row) as database:
        return database.execute("SELECT * FROM secrets ORDER BY record_id").fetchall()


@pytest.fixture
def lab(postgres: Server, tmp_path: Path) -> Iterator[Lab]:
    """A lab in the server too."""
    with postgres.database() as url, Lab.create(url, root_key=tmp_path / "root.key") as made:
        yield made


@pytest.fixture
def rows(lab: Lab) -> list[Row]:
    return make_rows(lab, make_keys(lab), RECORDS)


def test_the_same_as_one_process(
    postgres_url: str, lab: Lab, rows: list[Row], ground: Ground
) -> None:
    expected = run(ground, write(postgres_url, rows))
    spec = write(postgres_url, rows)
    before, opened = rows_in(postgres_url), plaintexts(lab, rows_in(postgres_url))
    report = run(ground, spec, workers=Here())
    assert report.results == expected.results
    assert report.census_after == expected.census_after
    assert plaintexts(lab, rows_in(postgres_url)) == opened
    assert undo(ground, report.campaign).undone == report.results.re_encrypted
    assert rows_in(postgres_url) == before


def test_processes_open_the_lab_by_its_url(
    postgres_url: str, lab: Lab, rows: list[Row], ground: Ground
) -> None:
    spec = write(postgres_url, rows)
    opened = plaintexts(lab, rows_in(postgres_url))
    report = run(ground, spec, workers=Pool(2))
    assert report.state == "finished"
    assert plaintexts(lab, rows_in(postgres_url)) == opened


def test_a_worker_that_sees_another_database_of_the_same_shape_takes_no_part(
    postgres: Server, postgres_url: str, ground: Ground, rows: list[Row], monkeypatch: Any
) -> None:
    """As one does where its own PGDATABASE, service file or localhost leads elsewhere."""
    with postgres.database() as other:
        write(postgres_url, rows)
        write(other, rows)
        ours, theirs = (psycopg.conninfo.conninfo_to_dict(url) for url in (postgres_url, other))
        for name in ("host", "port", "user", "dbname"):
            variable = "PGDATABASE" if name == "dbname" else f"PG{name.upper()}"
            monkeypatch.setenv(variable, str(ours[name]))

        def elsewhere(order: dict[str, Any]) -> None:
            monkeypatch.setenv("PGDATABASE", str(theirs["dbname"]))

        with pytest.raises(CampaignError, match=r"worker 0 cannot take part: .* is not there what"):
            run(ground, SourceSpec("postgresql://", "secrets"), workers=Here(asked=elsewhere))
        assert not ground.state.journals()
        assert rows_in(postgres_url) == rows_in(other)


@pytest.mark.soak
def test_a_server_that_is_restarted_at_any_moment(
    lab: Lab, rows: list[Row], ground: Ground, tmp_path: Path
) -> None:
    """The table's server, while workers are at work; the lab's stays."""
    binaries = programs()
    assert binaries is not None
    rng = random.Random(20260101)
    with running(binaries) as server, server.database() as url:
        expected = run(ground, write(url, rows))
        for number in range(12):
            spec = write(url, rows)
            opened = plaintexts(lab, rows_in(url))
            own = Ground(lab, State.of(None, str(tmp_path / f"own-{number}")), SystemClock())
            told, at = count(), rng.randrange(12)

            def progress(found: Any, told: Iterator[int] = told, at: int = at) -> None:
                if found.doing == "re-encrypting" and next(told) == at:
                    server.restart()

            try:
                report = run(own, spec, workers=Here(), watch=Watch(progress))
            except (CampaignInterrupted, SourceError):
                report = resume(own, own.state.journals()[0].stem, workers=Pool(2))
            assert report.results == expected.results
            assert report.census_after == expected.census_after
            assert plaintexts(lab, rows_in(url)) == opened
