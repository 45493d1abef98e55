"""What happens around a campaign while it runs: nothing is lost, nobody's work overwritten."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from campaign_data import (
    CHUNK,
    CHUNK_TWENTIES,
    MANY_TWENTIES,
    TWO_CHUNKS,
    World,
    read_rows,
    write_csv,
    write_table,
)
from campaign_sources import plaintexts

from kmslab import Lab
from kmslab.analysis.classify import Outcome
from kmslab.campaign.closing import campaigns
from kmslab.campaign.plan import Options
from kmslab.campaign.report import Report
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.undo import undo
from kmslab.campaign.watching import Progress, Watch
from kmslab.errors import (
    CampaignInterrupted,
    LabUnreachable,
    SourceChanged,
    SourceError,
    UnknownCredential,
)
from kmslab.model import Record
from kmslab.providers.base import ReEncrypted
from kmslab.records.source import Change
from kmslab.records.spec import SourceSpec


def at_first_chunk(act: Callable[[], object]) -> Watch:
    """Does something once the first chunk is stored, or written to the new file."""
    done: list[Progress] = []

    def progress(told: Progress) -> None:
        if told.doing == "re-encrypting":
            if not done:
                act()
            done.append(told)

    return Watch(progress)


def whole_table(spec: SourceSpec) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(spec.location.removeprefix("sqlite:///"))) as database:
        return database.execute("SELECT * FROM secrets ORDER BY record_id").fetchall()


@pytest.fixture
def records(small_chunks: None) -> int:
    return TWO_CHUNKS


@pytest.fixture
def table(world: World, tmp_path: Path) -> SourceSpec:
    return write_table(tmp_path / "records", world.rows)


@pytest.fixture
def csv(world: World, tmp_path: Path) -> SourceSpec:
    return write_csv(tmp_path / "records", world.rows)


class TestTheApplicationGoesOn:
    def test_a_row_that_it_changed_is_not_overwritten(
        self, ground: Ground, table: SourceSpec, lab: Lab, world: World
    ) -> None:
        """It re-encrypts one, gives one another value, and removes one, before their turn comes."""
        database = sqlite3.connect(table.location.removeprefix("sqlite:///"))
        own = lab.tencent().encrypt(world.keys.orders, b"newer")
        first, last = f"rec-{CHUNK:07}", f"rec-{TWO_CHUNKS - 1:07}"

        def act() -> None:
            with database:
                sql = "UPDATE secrets SET ciphertext_blob = ? WHERE record_id = ?"
                database.execute(sql, (own, first))
                database.execute("DELETE FROM secrets WHERE record_id = ?", (last,))

        with closing(database):
            report = run(ground, table, watch=at_first_chunk(act))
        rows = {row["record_id"]: row for row in read_rows(table)}
        assert rows[first]["ciphertext_blob"] == own
        assert last not in rows
        assert report.results.lost == 0  # they were read after they had changed
        assert sum(Counter(vars_of(report)).values()) == TWO_CHUNKS - 1

    def test_a_row_that_changes_under_it_is_left_and_named(
        self, ground: Ground, table: SourceSpec, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Changed between the reading of a chunk and the writing of it."""
        from kmslab.campaign.journal import Journal

        intend = Journal.intend
        path = table.location.removeprefix("sqlite:///")

        def meanwhile(self: Journal, part: int, changes: list[Change], names: list[str]) -> range:
            numbers = intend(self, part, changes, names)
            with closing(sqlite3.connect(path)) as database, database:
                database.execute(
                    "UPDATE secrets SET ciphertext_blob = 'theirs' WHERE record_id = 'rec-0000000'"
                )
            return numbers

        monkeypatch.setattr(Journal, "intend", meanwhile)
        report = run(ground, table)
        assert read_rows(table)[0]["ciphertext_blob"] == "theirs"
        assert report.results.lost == 1
        assert [(lost.record_id, lost.reason) for lost in report.losses] == [
            ("rec-0000000", "changed by somebody else meanwhile")
        ]
        assert sum(Counter(vars_of(report)).values()) == TWO_CHUNKS

    def test_a_file_that_it_edits_is_left_as_it_is(self, ground: Ground, csv: SourceSpec) -> None:
        path = Path(csv.location)
        edited = path.read_bytes() + b"rec-more,tencent,,AAAA,,,,,,,\n"
        with pytest.raises(SourceChanged):
            run(ground, csv, watch=at_first_chunk(lambda: path.write_bytes(edited)))
        assert path.read_bytes() == edited
        (left,) = campaigns(ground.state)
        report = resume(ground, left.campaign)
        assert report.results.re_encrypted == 9 * MANY_TWENTIES
        assert sum(Counter(vars_of(report)).values()) == TWO_CHUNKS + 1
        assert path.read_bytes().endswith(b"rec-more,tencent,,AAAA,,,,,,,\n")

    def test_rows_that_moved_in_a_file_keep_their_new_blobs(
        self, ground: Ground, csv: SourceSpec, lab: Lab
    ) -> None:
        """A file edited between kill and resume: what is in the journal finds its record."""
        path = Path(csv.location)
        lines = path.read_text("utf-8").splitlines(keepends=True)
        moved = [lines[0], *reversed(lines[1:])]
        with pytest.raises(SourceChanged):
            run(ground, csv, watch=at_first_chunk(lambda: path.write_text("".join(moved), "utf-8")))
        before = plaintexts(lab, read_rows(csv))
        (left,) = campaigns(ground.state)
        report = resume(ground, left.campaign)
        assert (report.results.re_encrypted, report.results.lost) == (9 * MANY_TWENTIES, 0)
        assert plaintexts(lab, read_rows(csv)) == before


class TestKeys:
    def test_one_that_is_disabled_meanwhile_is_not_asked_again(
        self, ground: Ground, table: SourceSpec, lab: Lab, world: World
    ) -> None:
        kms = lab.ctyun()
        report = run(
            ground, table, watch=at_first_chunk(lambda: kms.disable_key(world.keys.billing))
        )
        assert report.results.re_encrypted == 3 * CHUNK_TWENTIES + 6 * MANY_TWENTIES
        assert report.census_after is not None
        blocked = (report.outcomes_after or {})[Outcome.BLOCKED]
        assert blocked == 2 * MANY_TWENTIES + 4 * MANY_TWENTIES
        kms.enable_key(world.keys.billing)
        again = run(ground, table)
        assert again.results.re_encrypted == 3 * (MANY_TWENTIES - CHUNK_TWENTIES)

    def test_a_rotation_meanwhile_is_followed(
        self, ground: Ground, table: SourceSpec, lab: Lab, world: World
    ) -> None:
        watch = at_first_chunk(lambda: lab.rotate(world.keys.billing))
        report = run(ground, table, watch=watch)
        assert report.census_after is not None
        on = {
            row.version_number: row.records
            for row in report.census_after
            if row.key_id == world.keys.billing
        }
        # The first chunk is on the version that was primary then; what came later on the next one,
        # and of the records on the one before none was left behind.
        assert on == {2: 4 * CHUNK_TWENTIES, 3: 4 * (MANY_TWENTIES - CHUNK_TWENTIES)}


class TestProviders:
    def test_one_that_fails_for_long_stops_the_campaign(
        self, ground: Ground, table: SourceSpec, lab: Lab
    ) -> None:
        lab.faults.add("ReEncrypt", "InternalError", count=1_000_000)
        with pytest.raises(CampaignInterrupted, match="a provider does not answer") as stopped:
            run(ground, table)
        assert stopped.value.error is not None
        lab.faults.clear()
        report = resume(ground, stopped.value.campaign_id)
        assert report.results.re_encrypted == 9 * MANY_TWENTIES
        assert report.results.failed == MANY_TWENTIES

    def test_one_that_refuses_the_credential_stops_the_campaign(
        self, ground: Ground, table: SourceSpec, lab: Lab
    ) -> None:
        lab.faults.add("ReEncrypt", "AuthFailure.SecretIdNotFound")
        with pytest.raises(CampaignInterrupted, match="refuses the credential") as stopped:
            run(ground, table)
        assert isinstance(stopped.value.error, UnknownCredential)
        report = resume(ground, stopped.value.campaign_id)
        assert report.results.re_encrypted == 9 * MANY_TWENTIES
        assert report.results.failed == MANY_TWENTIES

    def test_one_that_refuses_whoever_resumes_loses_nothing(
        self, ground: Ground, table: SourceSpec, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is in the journal and not yet stored waits for a credential that is good."""

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("kmslab.records.sql_edit.TableEdit.write", cut)
            with pytest.raises(KeyboardInterrupt):
                run(ground, table)
        (found,) = campaigns(ground.state)
        for code in ("AuthFailure.SecretIdNotFound", "InternalError"):
            lab.faults.add("Decrypt", code)
            with pytest.raises(CampaignInterrupted, match="since a provider"):
                resume(ground, found.campaign)
        report = resume(ground, found.campaign)
        assert (report.results.re_encrypted, report.results.lost) == (9 * MANY_TWENTIES, 0)

    def test_one_that_fails_for_a_while_is_asked_again(
        self, ground: Ground, table: SourceSpec, lab: Lab
    ) -> None:
        lab.faults.add("ReEncrypt", "InternalError", count=3)
        report = run(ground, table)
        assert report.results.re_encrypted == 9 * MANY_TWENTIES


class Killed(BaseException):
    """Stands for kill -9: whatever has caught errors and counted then does not."""


@pytest.mark.parametrize("write", [write_csv, write_table])
def test_calls_are_known_with_what_they_have_answered(
    ground: Ground, world: World, tmp_path: Path, write: Callable[..., SourceSpec]
) -> None:
    def kill() -> None:
        raise Killed

    expected = run(ground, write(tmp_path / "whole", world.rows)).calls
    spec = write(tmp_path / "records", world.rows)
    with pytest.raises(Killed):
        run(ground, spec, watch=at_first_chunk(kill))
    *_, campaign = campaigns(ground.state)
    assert isinstance(campaign, Report)
    assert sum(campaign.calls.values()) > 0
    calls = resume(ground, campaign.campaign).calls
    assert all(calls[provider] >= made for provider, made in expected.items())


@pytest.mark.parametrize("ending", [LabUnreachable("gone"), KeyboardInterrupt()], ids=repr)
def test_calls_are_known_whatever_ends_them(
    ground: Ground, table: SourceSpec, monkeypatch: pytest.MonkeyPatch, ending: BaseException
) -> None:
    """Also of a chunk of which a rate has let only some batches go."""
    kms = type(ground.providers.kms("tencent"))
    real, made = kms.re_encrypt_records, Counter[str]()

    def asked(self: Any, records: Sequence[Record], **options: Any) -> ReEncrypted:
        if made["batches"] == 2:
            raise ending
        made["batches"] += 1
        made["rows"] += len(records)
        return real(self, records, **options)

    monkeypatch.setattr(kms, "re_encrypt_records", asked)
    with pytest.raises((CampaignInterrupted, KeyboardInterrupt)):
        run(ground, table, options=Options(rates={"tencent": 20}))
    (campaign,) = campaigns(ground.state)
    assert isinstance(campaign, Report)
    assert not campaign.results.re_encrypted
    assert campaign.calls["tencent"] >= made["rows"] > 0


def test_a_folder_that_takes_no_new_file_is_said_before_anything_begins(
    ground: Ground, csv: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(csv.location).parent
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    with pytest.raises(SourceError, match=f"{folder} cannot be written to.*--output"):
        run(ground, csv)
    assert not ground.state.journals()


def test_of_a_link_the_folder_of_the_file_is_the_one_that_counts(
    ground: Ground, csv: SourceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "records.csv"
    link.symlink_to(csv.location)
    spec = replace(csv, location=str(link.parent))
    folder = Path(csv.location).parent
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path) != folder)
        with pytest.raises(SourceError, match=f"{folder} cannot be written to.*--output"):
            run(ground, spec)
    assert not ground.state.journals()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != link.parent)
    assert run(ground, spec).results.re_encrypted == 9 * MANY_TWENTIES


def test_a_lab_that_does_not_answer_stops_the_campaign(
    ground: Ground, table: SourceSpec, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise LabUnreachable("the lab does not answer")

    with monkeypatch.context() as patch:
        watch = at_first_chunk(lambda: patch.setattr(lab._keystore, "begin", gone))
        with pytest.raises(CampaignInterrupted, match="the lab cannot be used") as stopped:
            run(ground, table, watch=watch)
    assert isinstance(stopped.value.error, LabUnreachable)
    report = resume(ground, stopped.value.campaign_id)
    assert report.results.re_encrypted == 9 * MANY_TWENTIES


def test_who_looks_on_may_go_first_within_a_chunk(ground: Ground, table: SourceSpec) -> None:
    """Between what is called, written to the journal and stored: a chunk takes its time."""
    told: list[str] = []
    watch = Watch(lambda seen: told.append(seen.doing), pause=lambda: told.append("pause"))
    campaign = run(ground, table, watch=watch).campaign
    assert "pause pause re-encrypting" in " ".join(told)
    told.clear()
    undo(ground, campaign, watch=watch)
    assert "pause pause pause undoing" in " ".join(told)


class TestTheDisk:
    def test_full_while_the_file_is_written(
        self, ground: Ground, csv: SourceSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = Path(csv.location).read_bytes()

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            watch = at_first_chunk(lambda: patched.setattr(os, "fsync", full))
            with pytest.raises(SourceError, match="the disk is full; nothing was changed"):
                run(ground, csv, watch=watch)
        assert Path(csv.location).read_bytes() == before
        assert [p.name for p in Path(csv.location).parent.iterdir() if "tmp" in p.name] == []
        (left,) = campaigns(ground.state)
        assert resume(ground, left.campaign).results.re_encrypted == 9 * MANY_TWENTIES

    def test_a_table_that_vanishes(self, ground: Ground, table: SourceSpec) -> None:
        path = table.location.removeprefix("sqlite:///")

        def act() -> None:
            with closing(sqlite3.connect(path)) as database:
                database.execute("ALTER TABLE secrets RENAME TO other")

        with pytest.raises(SourceError, match="secrets"):
            run(ground, table, watch=at_first_chunk(act))
        with closing(sqlite3.connect(path)) as database:
            database.execute("ALTER TABLE other RENAME TO secrets")
        (left,) = campaigns(ground.state)
        assert resume(ground, left.campaign).results.re_encrypted == 9 * MANY_TWENTIES


def test_no_plaintext_is_in_the_state_folder(
    ground: Ground, csv: SourceSpec, lab: Lab, tmp_path: Path
) -> None:
    """Canaries: every plaintext of the world begins with "secret "."""
    run(ground, csv)
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            for canary in (b"secret 00", b"c2VjcmV0ID", b"7365637265742030"):
                assert canary not in data, file


def vars_of(report: object) -> dict[str, int]:
    results = report.results  # type: ignore[attr-defined]
    return {
        name: getattr(results, name) for name in ("re_encrypted", "unchanged", "failed", "lost")
    }
