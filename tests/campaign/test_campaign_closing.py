"""Closing: what is said to be erased is erased, and nothing else is possible on the way."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from campaign_data import World, read_rows, write_csv

from kmslab.analysis.classify import Target
from kmslab.campaign import journal_schema
from kmslab.campaign.closing import Unreadable, campaigns, close
from kmslab.campaign.journal import Journal
from kmslab.campaign.proof import verify
from kmslab.campaign.rendering import markdown
from kmslab.campaign.report import Report
from kmslab.campaign.run import Ground, run
from kmslab.campaign.undo import undo
from kmslab.errors import CampaignState, StateError
from kmslab.records.spec import SourceSpec


@pytest.fixture
def spec(world: World, tmp_path: Path) -> SourceSpec:
    return write_csv(tmp_path / "s", world.rows)


def on_the_disk(ground: Ground, text: str) -> bool:
    folder = ground.state.journals()[0].parent
    return any(text.encode() in file.read_bytes() for file in folder.iterdir())


def test_it_stays_as_it_was_while_somebody_reads(
    ground: Ground, spec: SourceSpec, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {row["record_id"]: row["ciphertext_blob"] for row in world.rows}
    report = run(ground, spec)
    blob = next(
        old[row["record_id"]] or ""
        for row in read_rows(spec)
        if row["ciphertext_blob"] != old[row["record_id"]]
    )
    assert on_the_disk(ground, blob)
    monkeypatch.setattr(journal_schema, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(ground.state.journals()[0])) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entry").fetchall()
        with pytest.raises(StateError, match="another program has this journal open"):
            close(ground, report.campaign)
    (found,) = campaigns(ground.state)
    assert isinstance(found, Report)
    assert (found.state, found.results) == ("finished", report.results)
    assert on_the_disk(ground, blob)
    assert close(ground, report.campaign).state == "closed"
    assert not on_the_disk(ground, blob)


def test_killed_on_the_way_it_is_closing(
    ground: Ground, spec: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = run(ground, spec)

    def killed(self: Journal) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "scrub", killed)
        with pytest.raises(KeyboardInterrupt):
            close(ground, report.campaign)
    for impossible in (undo, verify):
        with pytest.raises(CampaignState, match="is closing"):
            impossible(ground, report.campaign)
    assert close(ground, report.campaign).results == report.results


def test_a_context_is_erased_too(ground: Ground, spec: SourceSpec, world: World) -> None:
    named = Target(key_id=world.keys.sessions, context='{"tenant":"CANARY"}')
    report = run(ground, spec, named)
    assert report.results.re_encrypted
    assert on_the_disk(ground, "CANARY")
    closed = close(ground, report.campaign)
    assert not on_the_disk(ground, "CANARY")
    assert closed.plan is not None
    assert closed.plan.context_erased
    assert "one that was named, and was erased" in markdown(closed)


def test_a_kept_context_is_said_to_be_kept(ground: Ground, spec: SourceSpec) -> None:
    closed = close(ground, run(ground, spec).campaign)
    assert "each record keeps its own" in markdown(closed)


def test_one_that_cannot_be_read_is_listed(ground: Ground, spec: SourceSpec) -> None:
    report = run(ground, spec)
    folder = ground.state.journals()[0].parent
    (folder / "20250101-000000-0000.db").write_bytes(b"no database, and long enough for one" * 9)
    (folder / "20250101-000000-0001.db").touch()
    Journal.create(folder / "20250101-000000-0002.db", {"state": "running"}).close()
    *broken, whole = campaigns(ground.state)
    assert [each.state for each in broken] == ["unreadable"] * 3
    errors = [each.error for each in broken if isinstance(each, Unreadable)]
    assert "cannot be read" in errors[0]
    assert "a journal of format 0" in errors[1]
    assert "not what kmslab writes there: KeyError" in errors[2]
    assert isinstance(whole, Report)
    assert whole.campaign == report.campaign


def test_one_that_lacks_something_is_named_to_who_begins_another(
    ground: Ground, spec: SourceSpec
) -> None:
    path = ground.state.journal_path("20250101-000000-0002")
    path.parent.mkdir(parents=True, exist_ok=True)
    Journal.create(path, {"state": "running"}).close()
    with pytest.raises(StateError, match=f"{path.name}: this is not what kmslab writes there"):
        run(ground, spec)
