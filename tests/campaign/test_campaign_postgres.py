"""Campaigns over a table in PostgreSQL: others use the server too, and it may end at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from campaign_data import COLUMNS, TWO_CHUNKS, Row, World
from campaign_sources import plaintexts
from command_line import Warm
from postgres_server import Server, programs, running
from psycopg.rows import dict_row
from typer.testing import CliRunner

from kmslab import Lab
from kmslab.analysis.classify import Outcome
from kmslab.campaign.closing import campaigns
from kmslab.campaign.journal import Journal
from kmslab.campaign.retire import survey
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.sources import Sources
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.campaign.watching import Progress, Watch
from kmslab.cli.app import app
from kmslab.errors import CampaignInterrupted, SourceBusy, SourceError
from kmslab.records import sql_postgres
from kmslab.records.opening import open_source
from kmslab.records.source import alone
from kmslab.records.spec import SourceSpec
from kmslab.records.sql_database import Database
from kmslab.records.sql_errors import CommitUnknown

pytestmark = pytest.mark.scale

TABLE = "secrets"


@pytest.fixture
def records(small_chunks: None) -> int:
    return TWO_CHUNKS


def write(url: str, rows: list[Row]) -> SourceSpec:
    """All records, in a table of a database."""
    columns = ", ".join(f"{name} TEXT" for name in COLUMNS[1:])
    with psycopg.connect(url) as database:
        database.execute(f"DROP TABLE IF EXISTS {TABLE}".encode())
        database.execute(f"CREATE TABLE {TABLE} (record_id TEXT PRIMARY KEY, {columns})".encode())
        with database.cursor().copy(f"COPY {TABLE} FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row([row[name] for name in COLUMNS])
    return SourceSpec(url, TABLE)


def rows_in(url: str) -> list[Row]:
    """What is in the table, read by something that is not kmslab."""
    with psycopg.connect(url, row_factory=dict_row) as database:
        return database.execute(f"SELECT * FROM {TABLE} ORDER BY record_id".encode()).fetchall()


@dataclass(frozen=True, slots=True)
class Ends:
    """What an uninterrupted campaign leaves."""

    census: object
    results: object
    plaintexts: dict[str, bytes | None]


@pytest.fixture(scope="module")
def seen() -> list[Ends]:
    """What was seen of an uninterrupted campaign, once one was run: every test has its records."""
    return []


@pytest.fixture
def ends(seen: list[Ends], postgres_url: str, world: World, lab: Lab, ground: Ground) -> Ends:
    if not seen:
        spec = write(postgres_url, world.rows)
        before = plaintexts(lab, rows_in(postgres_url))
        whole = run(ground, spec)
        seen.append(Ends(whole.census_after, whole.results, before))
    return seen[0]


def own(ground: Ground, folder: Path) -> Ground:
    """The same lab on another machine, so to speak: with a state folder of its own."""
    return replace(ground, state=State.of(None, str(folder)))


def test_run_again_and_undo(postgres_url: str, world: World, lab: Lab, ground: Ground) -> None:
    spec = write(postgres_url, world.rows)
    before, opened = rows_in(postgres_url), plaintexts(lab, rows_in(postgres_url))
    report = run(ground, spec)
    plan = report.plan
    assert plan is not None
    assert sum(plan.outcomes.values()) == plan.total == len(world.rows)
    results = report.results
    assert results.re_encrypted + results.unchanged + results.failed == plan.total
    assert results.re_encrypted > 0 < plan.outcomes[Outcome.STALE]
    stored = rows_in(postgres_url)
    assert stored != before
    assert plaintexts(lab, stored) == opened
    again = run(ground, spec)
    assert (again.results.re_encrypted, again.results.lost) == (0, 0)
    assert rows_in(postgres_url) == stored
    assert undo(ground, report.campaign).undone == report.results.re_encrypted
    assert rows_in(postgres_url) == before


def test_a_right_that_is_missing_is_said_before_anything_begins(
    postgres_url: str, world: World, ground: Ground
) -> None:
    write(postgres_url, world.rows)
    spec = SourceSpec(postgres_url.replace("kmslab@", "clerk@"), TABLE)
    with psycopg.connect(postgres_url, autocommit=True) as database:
        database.execute("CREATE ROLE clerk LOGIN")
        try:
            database.execute(f"GRANT SELECT ON {TABLE} TO clerk".encode())
            with pytest.raises(SourceError) as refused:
                run(ground, spec)
            assert not ground.state.journals()
            _, _, statement = str(refused.value).rpartition(": ")
            assert statement == f'GRANT UPDATE ("ciphertext_blob") ON "public"."{TABLE}" TO clerk'
            database.execute(statement.encode())
            assert run(ground, spec).state == "finished"
        finally:
            database.execute("DROP OWNED BY clerk")
            database.execute("DROP ROLE clerk")


def test_by_the_command_line(postgres_url: str, world: World, tmp_path: Path) -> None:
    write(postgres_url, world.rows)
    before = rows_in(postgres_url)
    environment = {"KMSLAB_LAB": str(world.path), "KMSLAB_STATE": str(tmp_path / "state")}
    # A password goes no further than to the driver, which this server does not even ask for it.
    secret = postgres_url.replace("kmslab@", "kmslab:hunter2@")

    def command(*arguments: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json"], env=environment)
        assert done.exit_code == code, done.output
        assert "hunter2" not in done.output
        return json.loads(done.stdout)

    command("source", "add", "shop", postgres_url, "--table", TABLE)
    plan = command("campaign", "plan", "shop")
    assert sum(plan["outcomes"].values()) == plan["total"] == len(world.rows)
    assert sum(row["records"] for row in command("census", secret, "--table", TABLE)) > 0
    report = command("campaign", "run", "shop", "--yes", code=1)  # a disabled key's records fail
    assert report["results"]["re_encrypted"] > 0
    command("campaign", "verify", report["campaign"])
    command("campaign", "undo", report["campaign"], "--yes")
    assert rows_in(postgres_url) == before
    kept = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert b"hunter2" not in kept


def test_one_campaign_at_a_time_on_whatever_machine(
    postgres_url: str,
    world: World,
    lab: Lab,
    ground: Ground,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sql_postgres, "LOCK_SECONDS", 0.0)
    spec = write(postgres_url, world.rows)
    elsewhere = own(ground, tmp_path / "elsewhere")
    report = run(ground, spec)
    Sources(elsewhere.state, ground.clock).add("orders", spec)
    with alone(open_source(spec)):
        for use in (
            lambda: run(elsewhere, spec),
            lambda: undo(ground, report.campaign),
        ):
            with pytest.raises(SourceBusy, match="another campaign is at work on it"):
                use()
        left = survey(elsewhere, lab.key(world.keys.orders)).left
        assert any("another campaign is at work on it" in each.where for each in left)
    assert undo(ground, report.campaign).undone == report.results.re_encrypted


def test_what_an_application_changes_meanwhile_is_named(
    postgres_url: str, world: World, ground: Ground
) -> None:
    spec = write(postgres_url, world.rows)
    taken: list[str] = []
    intend = Journal.intend

    def meanwhile(journal: Journal, part: int, changes: Any, providers: Any) -> Any:
        numbers = intend(journal, part, changes, providers)
        if not taken:
            taken.append(changes[1].record_id)
            with psycopg.connect(postgres_url) as application:
                application.execute(
                    "UPDATE secrets SET ciphertext_blob = 'theirs' WHERE record_id = %s", taken
                )
        return numbers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "intend", meanwhile)
        report = run(ground, spec)
    assert report.results.lost == 1
    theirs = [row for row in rows_in(postgres_url) if row["ciphertext_blob"] == "theirs"]
    assert [row["record_id"] for row in theirs] == taken


# Killed, and on a server that ends


def test_killed_anywhere_it_ends_the_same(
    postgres: Server,
    world: World,
    lab: Lab,
    ground: Ground,
    ends: Ends,
    warm: Warm,
    tmp_path: Path,
    soak: bool,
) -> None:
    count = 200 if soak else 3
    rng = random.Random(20260102)
    with postgres.database() as url:
        duration = 0.0
        for number in range(-1, count):
            spec = write(url, world.rows)
            state = str(tmp_path / f"kill{number}")
            job = {"location": url, "table": TABLE, "state": state, "lab": str(world.path)}
            started = time.perf_counter()
            work = f"import campaign_victim; campaign_victim.campaign({job})"
            child = warm.start([], None, None, 2, before=work)
            if number < 0:
                assert child.wait() == 0
                duration = time.perf_counter() - started
                continue
            time.sleep((number + rng.random()) / count * duration)
            with suppress(ProcessLookupError):  # it was done already
                os.kill(child.pid, signal.SIGKILL)
            child.wait()
            there = own(ground, Path(state))
            left = [each.campaign for each in campaigns(there.state)]
            report = resume(there, left[0]) if left else run(there, spec)
            assert plaintexts(lab, rows_in(url)) == ends.plaintexts, number
            assert (report.census_after, report.results) == (ends.census, ends.results), number
            if number % 5 == 0:
                assert undo(there, report.campaign).undone == report.results.re_encrypted
                assert rows_in(url) == sorted(world.rows, key=lambda row: row["record_id"] or "")


@pytest.fixture(scope="module")
def durable(postgres: Server) -> Iterator[Server]:
    """A server that keeps what it has committed, whatever happens to it."""
    binaries = programs()
    assert binaries is not None
    with running(binaries, durable=True) as server:
        yield server


@pytest.mark.parametrize(
    ("how", "chunk"), [(signal.SIGINT, 0), (signal.SIGQUIT, 1)], ids=["shut down", "crash"]
)
def test_a_server_that_ends_in_the_middle(
    durable: Server,
    how: signal.Signals,
    chunk: int,
    world: World,
    lab: Lab,
    ground: Ground,
    ends: Ends,
    tmp_path: Path,
) -> None:
    url = durable.url()
    there = own(ground, tmp_path / "there")
    chunks = 0

    def progress(told: Progress) -> None:
        nonlocal chunks
        if told.doing == "re-encrypting":
            if chunks == chunk:
                durable.restart(how)
            chunks += 1

    spec = write(url, world.rows)
    with pytest.raises((SourceError, CampaignInterrupted)) as caught:
        run(there, spec, watch=Watch(progress))
    assert "go on" in str(caught.value) or "resume" in str(caught.value)
    (left,) = campaigns(there.state)
    report = resume(there, left.campaign)
    assert plaintexts(lab, rows_in(url)) == ends.plaintexts
    assert (report.census_after, report.results) == (ends.census, ends.results)
    assert undo(there, report.campaign).undone == report.results.re_encrypted
    assert rows_in(url) == sorted(world.rows, key=lambda row: row["record_id"] or "")


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_a_commit_of_which_nobody_knows(
    postgres_url: str,
    world: World,
    lab: Lab,
    ground: Ground,
    ends: Ends,
    tmp_path: Path,
    done: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection is lost in the commit of a chunk: what is stored says whether it was done."""
    spec = write(postgres_url, world.rows)
    there = own(ground, tmp_path / "there")
    chunks = iter(range(10))
    commit = Database.commit

    def lost(database: Database, connection: Any) -> None:
        if next(chunks) != 1:
            return commit(database, connection)
        if done:
            commit(database, connection)
        raise CommitUnknown from psycopg.OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "commit", lost)
        with pytest.raises(SourceError, match="stored shows when the campaign is resumed"):
            run(there, spec)
    (left,) = campaigns(there.state)
    report = resume(there, left.campaign)
    assert plaintexts(lab, rows_in(postgres_url)) == ends.plaintexts
    assert (report.census_after, report.results) == (ends.census, ends.results)


@pytest.mark.soak
def test_a_server_that_ends_at_any_moment(
    durable: Server, world: World, lab: Lab, ground: Ground, ends: Ends, tmp_path: Path
) -> None:
    url = durable.url()
    rng = random.Random(20260103)
    for number in range(60):
        spec = write(url, world.rows)
        there = own(ground, tmp_path / f"ends{number}")
        how = (signal.SIGINT, signal.SIGQUIT)[number % 2]
        # Started again from here: the server ends with the thread that has started it.
        stopping = threading.Timer(rng.random() * 0.3, durable.stop, [how])
        stopping.start()
        try:
            report = run(there, spec)
        except (SourceError, CampaignInterrupted):
            stopping.join()
            durable.start()
            left = [each for each in campaigns(there.state) if each.state != "aborted"]
            report = resume(there, left[0].campaign) if left else run(there, spec)
        else:
            stopping.join()
            durable.start()
        assert plaintexts(lab, rows_in(url)) == ends.plaintexts, number
        assert (report.census_after, report.results) == (ends.census, ends.results), number
        if number % 5 == 0:
            assert undo(there, report.campaign).undone == report.results.re_encrypted
