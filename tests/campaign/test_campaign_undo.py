"""Undo, where records, keys and other campaigns are not what they were."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from campaign_data import COLUMNS, WRITERS, Row, World, read_rows, write_csv, write_table

from kmslab import Lab
from kmslab.analysis.classify import Target
from kmslab.campaign.closing import campaigns, close
from kmslab.campaign.journal import Journal, Step
from kmslab.campaign.passes import Pass
from kmslab.campaign.proof import verify
from kmslab.campaign.report import Report
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.standing import why_no_undo
from kmslab.campaign.undo import FORBIDDEN, plan_undo, undo
from kmslab.campaign.watching import Progress, Watch
from kmslab.errors import (
    CampaignInterrupted,
    CampaignState,
    InternalError,
    SourceBusy,
    UnknownCredential,
)
from kmslab.model import Record
from kmslab.providers.base import Opened
from kmslab.providers.tencent.service import TencentKms
from kmslab.records.opening import open_source
from kmslab.records.source import CHUNK_ROWS
from kmslab.records.spec import SourceSpec

NEW_CLOSED = "the new blob does not open, and the old one does: --unproven restores it"


def row(record_id: str, blob: str) -> Row:
    given = {"record_id": record_id, "provider": "tencent", "ciphertext_blob": blob}
    return dict.fromkeys(COLUMNS) | given


@pytest.fixture
def key(lab: Lab) -> str:
    return lab.tencent().create_key(alias="of-these-tests").key_id


@pytest.fixture
def other_key(lab: Lab) -> str:
    return lab.tencent().create_key(alias="another").key_id


@pytest.fixture
def sealed(lab: Lab, key: str) -> Callable[[int], list[str]]:
    """So many old blobs; what is sealed later is on the new version."""

    def made(count: int) -> list[str]:
        found = lab.tencent().encrypt_many([b"%d" % n for n in range(count)], key_id=key)
        lab.rotate(key)
        return [blob or "" for blob in found.ciphertext_blob]

    return made


class Killed(BaseException):
    pass


def run_and_be_killed(ground: Ground, spec: SourceSpec, monkeypatch: pytest.MonkeyPatch) -> str:
    """A campaign that was killed once its source was written, and before its journal was told."""

    def finish(self: Pass) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Pass, "finish", finish)
        with pytest.raises(Killed):
            run(ground, spec)
    return ground.state.journals()[-1].stem


def stopping_after(doing: str) -> Watch:
    told: list[Progress] = []

    def progress(now: Progress) -> None:
        if now.doing == doing:
            told.append(now)

    return Watch(progress, lambda: bool(told))


def change(spec: SourceSpec, record_id: str, blob: str) -> None:
    with closing(sqlite3.connect(spec.location.removeprefix("sqlite:///"))) as database:
        database.execute(
            "UPDATE secrets SET ciphertext_blob = ? WHERE record_id = ?", (blob, record_id)
        )
        database.commit()


class TestWithoutTheNewKey:
    @pytest.fixture
    def spec(self, kind: str, tmp_path: Path, sealed: Callable[[int], list[str]]) -> SourceSpec:
        return WRITERS[kind](tmp_path / "s", [row(f"r{n}", b) for n, b in enumerate(sealed(4))])

    def test_it_is_restored_by_name_only(
        self, ground: Ground, lab: Lab, spec: SourceSpec, other_key: str
    ) -> None:
        before = read_rows(spec)
        report = run(ground, spec, Target(key_id=other_key))
        lab.tencent().disable_key(other_key)
        after = read_rows(spec)
        left = undo(ground, report.campaign)
        assert (left.undone, left.undo_left, left.undone_unproven) == (0, 4, 0)
        assert {lost.reason for lost in left.undo_lost} == {NEW_CLOSED}
        assert read_rows(spec) == after
        with pytest.raises(CampaignState, match="left 4 records, and their old blobs may be now"):
            close(ground, report.campaign)
        done = undo(ground, report.campaign, unproven=True)
        assert (done.undone, done.undo_left, done.undone_unproven) == (4, 0, 4)
        assert read_rows(spec) == before
        again = undo(ground, report.campaign, unproven=True)
        assert (again.undone, again.undone_unproven) == (4, 4)
        assert close(ground, report.campaign).state == "closed"

    def test_where_the_old_one_does_not_open_it_is_left(
        self, ground: Ground, lab: Lab, spec: SourceSpec, key: str, other_key: str
    ) -> None:
        report = run(ground, spec, Target(key_id=other_key))
        lab.tencent().disable_key(key)
        done = undo(ground, report.campaign, unproven=True)
        assert (done.undone, done.undo_left, done.undone_unproven) == (0, 4, 0)
        assert close(ground, report.campaign, abandon=True).state == "closed"

    def test_a_provider_that_does_not_answer_proves_nothing(
        self, ground: Ground, spec: SourceSpec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        report = run(ground, spec)
        after = read_rows(spec)
        new = {each["ciphertext_blob"] for each in after}
        opened = TencentKms.decrypt_records

        def failing(self: TencentKms, records: Sequence[Record]) -> Opened:
            answer = opened(self, records)
            for at, record in enumerate(records):
                if record.ciphertext_blob in new:
                    answer.plaintext[at], answer.error[at] = None, InternalError("again")
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(TencentKms, "decrypt_records", failing)
            left = undo(ground, report.campaign, unproven=True)
        assert {lost.reason for lost in left.undo_lost} == {"a provider did not answer: undo again"}
        assert read_rows(spec) == after
        assert undo(ground, report.campaign).undone == 4

    def test_a_credential_that_is_refused_stops_it_and_proves_nothing(
        self, ground: Ground, lab: Lab, spec: SourceSpec
    ) -> None:
        report = run(ground, spec)
        after = read_rows(spec)
        lab.faults.add("Decrypt", "AuthFailure.SecretIdNotFound", count=1)
        with pytest.raises(CampaignInterrupted, match="refuses the credential") as stopped:
            undo(ground, report.campaign)
        assert isinstance(stopped.value.error, UnknownCredential)
        assert read_rows(spec) == after
        assert undo(ground, report.campaign).undone == 4

    def test_a_right_that_is_missing_is_named(
        self, ground: Ground, lab: Lab, spec: SourceSpec
    ) -> None:
        report = run(ground, spec)
        lab.faults.add("Decrypt", "UnauthorizedOperation", count=1)
        left = undo(ground, report.campaign)
        assert (left.undone, {lost.reason for lost in left.undo_lost}) == (3, {FORBIDDEN})
        assert undo(ground, report.campaign).undone == 4


class TestIdsThatOccurTwice:
    def test_the_row_that_was_changed_is_restored(
        self, ground: Ground, lab: Lab, key: str, tmp_path: Path, sealed: Callable[[int], list[str]]
    ) -> None:
        (old,) = sealed(1)
        spec = write_csv(
            tmp_path / "s", [row("x", lab.tencent().encrypt(key, b"now")), row("x", old)]
        )
        before = read_rows(spec)
        report = run(ground, spec)
        assert verify(ground, report.campaign).complete
        plan = plan_undo(ground, report.campaign)
        assert (plan.restorable, plan.touched_count, plan.gone_count) == (1, 0, 0)
        done = undo(ground, report.campaign)
        assert (done.undone, done.undo_left) == (1, 0)
        assert read_rows(spec) == before

    def test_a_copy_of_a_row_in_another_chunk_counts_once(
        self, ground: Ground, tmp_path: Path, sealed: Callable[[int], list[str]]
    ) -> None:
        count = CHUNK_ROWS + 1
        rows = [row(f"r{n}", blob) for n, blob in enumerate(sealed(count))]
        spec = write_csv(tmp_path / "s", rows)
        report = run(ground, spec)
        now = read_rows(spec)
        write_csv(tmp_path / "s", [*now, now[0]])
        plan = plan_undo(ground, report.campaign)
        assert (plan.restorable, plan.gone_count) == (count, 0)
        proof = verify(ground, report.campaign)
        assert (proof.proven, proof.gone) == (count, 0)
        done = undo(ground, report.campaign)
        assert (done.undone, done.undo_left) == (count, 0)

    def test_rows_that_moved_keep_their_entries(
        self, ground: Ground, tmp_path: Path, sealed: Callable[[int], list[str]]
    ) -> None:
        blobs = sealed(3)
        spec = write_csv(tmp_path / "s", [row("x", blob) for blob in blobs])
        report = run(ground, spec)
        now = read_rows(spec)
        write_csv(tmp_path / "s", [row("x", "AAAA"), now[2], now[0], now[1]])
        assert verify(ground, report.campaign).complete
        done = undo(ground, report.campaign)
        assert (done.undone, done.undo_left) == (3, 0)
        restored = [each["ciphertext_blob"] for each in read_rows(spec)]
        assert restored == ["AAAA", blobs[2], blobs[0], blobs[1]]

    def test_an_interrupted_campaign_is_settled_once(
        self,
        ground: Ground,
        tmp_path: Path,
        sealed: Callable[[int], list[str]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (blob,) = sealed(1)
        spec = write_csv(tmp_path / "s", [row("x", blob), row("x", blob), row("y", blob)])
        campaign_id = run_and_be_killed(ground, spec, monkeypatch)
        plan = plan_undo(ground, campaign_id)
        assert (plan.restorable, plan.gone_count) == (3, 0)
        done = undo(ground, campaign_id)
        assert (done.results.re_encrypted, done.undone, done.undo_left) == (3, 3, 0)
        assert [each["ciphertext_blob"] for each in read_rows(spec)] == [blob] * 3


class TestBesideOthers:
    def test_one_that_is_not_finished_is_in_the_way(
        self, ground: Ground, lab: Lab, spec: SourceSpec, world: World
    ) -> None:
        first = run(ground, spec)
        lab.rotate(world.keys.orders)
        with pytest.raises(CampaignInterrupted):
            run(ground, spec, watch=stopping_after("re-encrypting"))
        second = ground.state.journals()[-1].stem
        with pytest.raises(CampaignState, match=f"campaign {second} on .* is not finished"):
            undo(ground, first.campaign)
        assert resume(ground, second).results.lost == 0
        assert undo(ground, second).undo_left == 0
        assert undo(ground, first.campaign).undo_left == 0

    def test_what_is_closed_meanwhile_is_not_undone(
        self, ground: Ground, tmp_path: Path, sealed: Callable[[int], list[str]]
    ) -> None:
        spec = write_csv(tmp_path / "s", [row("r", sealed(1)[0])])
        report = run(ground, spec)
        busy: list[object] = []

        def slowly(spec: SourceSpec) -> object:
            with pytest.raises(SourceBusy):
                close(ground, report.campaign)
            busy.append(spec)
            return open_source(spec)

        other = Ground(ground.providers, ground.state, ground.clock, open_source=slowly)  # type: ignore[arg-type]
        assert undo(other, report.campaign).undone == 1
        assert busy

    def test_what_a_later_campaign_has_changed_was_undone_before(
        self, ground: Ground, tmp_path: Path, sealed: Callable[[int], list[str]]
    ) -> None:
        spec = write_table(tmp_path / "s", [row(f"r{n}", b) for n, b in enumerate(sealed(4))])
        first = run(ground, spec)
        undo(ground, first.campaign)
        run(ground, spec)
        now = read_rows(spec)
        again = undo(ground, first.campaign)
        assert (again.undone, again.undo_left) == (4, 0)
        assert read_rows(spec) == now


def test_what_is_restored_from_a_backup_is_left_and_not_undone(
    ground: Ground, lab: Lab, tmp_path: Path, sealed: Callable[[int], list[str]], other_key: str
) -> None:
    spec = write_table(tmp_path / "s", [row(f"r{n}", b) for n, b in enumerate(sealed(3))])
    report = run(ground, spec, Target(key_id=other_key))
    new = read_rows(spec)
    undo(ground, report.campaign)
    change(spec, "r1", new[1]["ciphertext_blob"] or "")
    lab.tencent().disable_key(other_key)
    again = undo(ground, report.campaign)
    assert (again.undone, again.undo_left) == (2, 1)
    with pytest.raises(CampaignState, match="left 1 record, and its old blob may"):
        close(ground, report.campaign)


def test_what_was_lost_and_came_back_counts_once(
    ground: Ground, tmp_path: Path, sealed: Callable[[int], list[str]], lab: Lab, key: str
) -> None:
    count = CHUNK_ROWS + 200
    blobs = sealed(count)
    spec = write_table(tmp_path / "s", [row(f"r{n:04}", b) for n, b in enumerate(blobs)])

    def open_and_change(spec: SourceSpec) -> object:
        return _Meddled(open_source(spec), lambda: change(spec, "r0003", "AAAA"))

    meddled = Ground(ground.providers, ground.state, ground.clock, open_source=open_and_change)  # type: ignore[arg-type]
    with pytest.raises(CampaignInterrupted) as stopped:
        run(meddled, spec, watch=stopping_after("re-encrypting"))
    campaign_id = stopped.value.campaign_id
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        assert journal.count_lost(Step.APPLIED) == 1
    change(spec, "r0003", blobs[3])
    report = resume(ground, campaign_id)
    assert (report.results.re_encrypted, report.results.lost, report.losses) == (count, 0, ())


class _Meddled:
    """A source of which a record is changed between the reading and the writing of a chunk."""

    def __init__(self, source: object, meddle: Callable[[], None]) -> None:
        self._source = source
        self._meddle = meddle

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    @property
    def parts(self) -> list[object]:
        return [_MeddledPart(part, self._meddle) for part in self._source.parts]  # type: ignore[attr-defined]


class _MeddledPart(_Meddled):
    @contextmanager
    def edit(self, **how: object) -> Iterator[object]:
        with self._source.edit(**how) as edit:  # type: ignore[attr-defined]
            yield _MeddledEdit(edit, self._meddle)


class _MeddledEdit(_Meddled):
    def __iter__(self) -> Iterator[object]:
        return iter(self._source)  # type: ignore[call-overload]

    def write(self, changes: object) -> object:
        self._meddle()
        return self._source.write(changes)  # type: ignore[attr-defined]


class TestSeveralFiles:
    @pytest.fixture
    def spec(self, tmp_path: Path, sealed: Callable[[int], list[str]]) -> SourceSpec:
        (tmp_path / "d").mkdir()
        for name, blob in zip("ab", sealed(2), strict=True):
            write_csv(tmp_path / "d" / name, [row(name, blob)])
        return SourceSpec(str(tmp_path / "d"))

    def test_a_file_of_another_name_is_not_there(
        self, ground: Ground, spec: SourceSpec, tmp_path: Path
    ) -> None:
        report = run(ground, spec)
        shutil.move(tmp_path / "d" / "b.csv", tmp_path / "d" / "c.csv")
        assert plan_undo(ground, report.campaign).gone_count == 1
        done = undo(ground, report.campaign)
        assert [(lost.record_id, lost.reason) for lost in done.undo_lost] == [
            ("b", "its file is not there any more")
        ]
        shutil.move(tmp_path / "d" / "c.csv", tmp_path / "d" / "b.csv")
        assert undo(ground, report.campaign).undo_left == 0

    def test_what_was_stored_before_an_abort_can_be_undone(
        self, ground: Ground, spec: SourceSpec
    ) -> None:
        report = run(ground, spec)
        with Journal.open(ground.state.journal_path(report.campaign)) as journal:
            journal.note(state="aborted")
        assert verify(ground, report.campaign).complete
        assert undo(ground, report.campaign).undone == 2

    def test_what_an_aborted_journal_was_not_told_of_is_undone(
        self, ground: Ground, spec: SourceSpec
    ) -> None:
        """Killed after the source was written, and before that was told."""
        report = run(ground, spec)
        with Journal.open(ground.state.journal_path(report.campaign)) as journal:
            journal.note(state="aborted")
            journal.database.run("DELETE FROM span")
        (aborted,) = campaigns(ground.state)
        assert isinstance(aborted, Report)
        assert why_no_undo(aborted) == ""
        assert plan_undo(ground, report.campaign).restorable == 2
        assert undo(ground, report.campaign).undone == 2

    def test_an_abort_whose_intents_are_not_stored_cannot(
        self, ground: Ground, spec: SourceSpec
    ) -> None:
        report = run(ground, spec)
        undo(ground, report.campaign)
        with Journal.open(ground.state.journal_path(report.campaign)) as journal:
            journal.note(state="aborted")
            journal.database.run("DELETE FROM span")
        for attempt in (plan_undo, undo):
            with pytest.raises(CampaignState, match="aborted, and its source is as it was"):
                attempt(ground, report.campaign)

    def test_an_abort_that_has_stored_nothing_cannot(
        self, ground: Ground, spec: SourceSpec, lab: Lab, key: str
    ) -> None:
        lab.tencent().disable_key(key)
        report = run(ground, spec)
        with Journal.open(ground.state.journal_path(report.campaign)) as journal:
            journal.note(state="aborted")
        with pytest.raises(CampaignState, match="is aborted; there is nothing to undo"):
            undo(ground, report.campaign)
        with pytest.raises(CampaignState, match="is aborted; a finished one can be verified"):
            verify(ground, report.campaign)
