"""Campaigns over every kind of source: one contract."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from campaign_data import (
    CHUNK,
    MANY_TWENTIES,
    RECORDS,
    TWENTIES,
    TWO_CHUNKS,
    WRITERS,
    Row,
    World,
    read_rows,
    write_parquet,
)
from campaign_sources import plaintexts

from kmslab import Lab, ManualClock
from kmslab.analysis.classify import DROP, STAY, Outcome, Target
from kmslab.campaign.closing import campaigns, close
from kmslab.campaign.plan import Options, Plan
from kmslab.campaign.planning import make_plan
from kmslab.campaign.proof import verify
from kmslab.campaign.report import Report
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import plan_undo, undo
from kmslab.campaign.watching import Progress, Watch
from kmslab.errors import (
    CampaignError,
    CampaignInterrupted,
    CampaignState,
    PlanOutdated,
    SourceBusy,
)
from kmslab.records.opening import open_source
from kmslab.records.spec import SourceSpec

START = datetime(2026, 1, 1, tzinfo=UTC)

# Of twenty records in `campaign_data`, how many have each outcome without a destination.
OF_TWENTY = {
    Outcome.STALE: 9 + 1,  # nine made before the rotation, and the twin of one of them
    Outcome.CURRENT: 6,
    Outcome.BLOCKED: 1 + 1,  # the disabled key, and public-key ciphertext
    Outcome.FOREIGN: 1,
    Outcome.INVALID: 1,
}


def planned(ground: Ground, spec: SourceSpec, target: Target = STAY, **how: object) -> Plan:
    return make_plan(
        open_source(spec),
        spec,
        ground.providers,
        target,
        clock=ground.clock,
        **how,  # type: ignore[arg-type]
    )


def stored_bytes(spec: SourceSpec) -> bytes:
    return Path(spec.location.removeprefix("sqlite:///")).read_bytes()


class TestPlan:
    def test_every_record_has_one_outcome(self, ground: Ground, spec: SourceSpec) -> None:
        plan = planned(ground, spec)
        assert plan.total == RECORDS == sum(plan.outcomes.values())
        assert {o: n for o, n in plan.outcomes.items() if n} == {
            outcome: each * TWENTIES for outcome, each in OF_TWENTY.items()
        }
        assert sum(row.records for row in plan.census) == RECORDS
        assert sum(reason.records for reason in plan.reasons) == RECORDS
        # Twins are sent with the ones that they are equal to, and those without context are equal.
        twins = TWENTIES + TWENTIES - 1
        assert plan.forecast.calls == plan.outcomes[Outcome.STALE] - twins

    def test_nothing_is_changed(self, ground: Ground, spec: SourceSpec) -> None:
        before = stored_bytes(spec)
        planned(ground, spec)
        planned(ground, spec, deep=True)
        assert stored_bytes(spec) == before

    def test_deep_opens_what_can_be_opened(self, ground: Ground, spec: SourceSpec) -> None:
        plan = planned(ground, spec, deep=True)
        assert not plan.unverified
        # A blob that was made under a context does not open without one.
        assert plan.outcomes[Outcome.INVALID] == 2 * TWENTIES
        assert plan.outcomes[Outcome.STALE] == 9 * TWENTIES

    def test_it_survives_being_saved(self, ground: Ground, spec: SourceSpec) -> None:
        for target in (STAY, Target(context=DROP), Target(context={"a": "b"})):
            plan = planned(ground, spec, target)
            assert Plan.from_dict(plan.as_dict()).as_dict() == plan.as_dict()

    def test_a_rotation_outdates_it(
        self, ground: Ground, spec: SourceSpec, lab: Lab, world: World
    ) -> None:
        plan = planned(ground, spec)
        lab.rotate(world.keys.billing)
        with pytest.raises(PlanOutdated, match=f"key {world.keys.billing} was rotated after"):
            run(ground, spec, plan=plan)

    def test_another_state_of_a_key_outdates_it(
        self, ground: Ground, spec: SourceSpec, lab: Lab, world: World
    ) -> None:
        plan = planned(ground, spec)
        lab.tencent().enable_key(world.keys.disabled)
        with pytest.raises(PlanOutdated, match="was disabled when the plan was made, and is enabl"):
            run(ground, spec, plan=plan)

    def test_another_source_outdates_it(
        self, ground: Ground, spec: SourceSpec, kind: str, tmp_path: Path, world: World
    ) -> None:
        plan = planned(ground, spec)
        if kind == "sqlite":
            with closing(sqlite3.connect(spec.location.removeprefix("sqlite:///"))) as database:
                database.execute("ALTER TABLE secrets ADD COLUMN more TEXT")
        else:
            WRITERS[kind](tmp_path / "records", world.rows[1:])
        with pytest.raises(PlanOutdated, match="was changed after the plan was made"):
            run(ground, spec, plan=plan)
        assert list(campaigns(ground.state)) == []


@dataclass(frozen=True, slots=True)
class Ran:
    """A source that was re-encrypted, and how it was before."""

    ground: Ground
    spec: SourceSpec
    rows: list[Row]
    stored: bytes
    opened: dict[str, bytes | None]
    report: Report
    told: list[Progress]


@pytest.fixture(scope="module", params=sorted(WRITERS))
def ran(
    request: pytest.FixtureRequest,
    worlds: Callable[[int], World],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ran]:
    folder, world = tmp_path_factory.mktemp("ran"), worlds(RECORDS)
    shutil.copytree(world.path, folder / "lab")
    clock = ManualClock(START)
    with Lab.open(folder / "lab", clock=clock) as lab:
        ground = Ground(lab, State.of(None, str(folder / "state")), clock)
        spec = WRITERS[request.param](folder / "records", world.rows)
        rows, stored, told = read_rows(spec), stored_bytes(spec), list[Progress]()
        opened = plaintexts(lab, rows)
        report = run(ground, spec, watch=Watch(progress=told.append))
        yield Ran(ground, spec, rows, stored, opened, report, told)


class TestRun:
    def test_what_is_stale_is_moved_and_nothing_else(self, ran: Ran) -> None:
        report, after = ran.report, read_rows(ran.spec)
        plan = report.plan
        assert plan is not None
        assert report.state == "finished"
        # Those made under a context that their record lacks are refused by the provider.
        assert (
            report.results.failed == report.failure_codes["InvalidParameterValue.InvalidCiphertext"]
        )
        assert report.results.failed == TWENTIES
        assert report.results.re_encrypted == plan.outcomes[Outcome.STALE] - TWENTIES
        assert report.results.lost == 0
        assert sum(Counter(vars_of(report)).values()) == plan.total
        assert plaintexts(ran.ground.providers, after) == ran.opened
        changed = [(a, b) for a, b in zip(ran.rows, after, strict=True) if a != b]
        assert len(changed) == report.results.re_encrypted
        for old, new in changed:
            assert {name for name in old if old[name] != new[name]} == {"ciphertext_blob"}

    def test_untouched_lines_keep_their_bytes(self, ran: Ran) -> None:
        if ran.spec.location.endswith((".csv", ".jsonl")):
            lines = zip(ran.stored.splitlines(), stored_bytes(ran.spec).splitlines(), strict=True)
            assert sum(a != b for a, b in lines) == ran.report.results.re_encrypted

    def test_twins_stay_twins(self, ran: Ran) -> None:
        rows = read_rows(ran.spec)
        for at in range(5, len(rows), 20):
            assert rows[at]["ciphertext_blob"] == rows[at + 1]["ciphertext_blob"]
        assert ran.report.plan is not None
        assert sum(ran.report.calls.values()) == ran.report.plan.forecast.calls

    def test_the_census_after_is_of_what_is_there(self, ran: Ran) -> None:
        assert ran.report.census_after is not None
        again = planned(ran.ground, ran.spec)
        assert ran.report.census_after == again.census
        assert ran.report.outcomes_after == again.outcomes
        assert again.outcomes[Outcome.STALE] == TWENTIES  # those that are refused, by name

    def test_progress_is_told(self, ran: Ran) -> None:
        assert {p.doing for p in ran.told} == {"planning", "re-encrypting", "counting"}
        last = ran.told[-1]
        assert last.rows == last.total == sum(last.counts.values()) == RECORDS

    def test_a_second_run_changes_nothing(self, ground: Ground, spec: SourceSpec) -> None:
        run(ground, spec)
        path = Path(spec.location.removeprefix("sqlite:///"))
        before, stamp = read_rows(spec), path.stat()
        report = run(ground, spec)
        assert report.results.re_encrypted == 0
        assert read_rows(spec) == before
        if not spec.table:
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (
                stamp.st_ino,
                stamp.st_mtime_ns,
            )

    def test_an_empty_source(self, ground: Ground, kind: str, tmp_path: Path, world: World) -> None:
        spec = WRITERS[kind](tmp_path / "empty", [])
        report = run(ground, spec)
        assert report.state == "finished"
        assert sum(Counter(vars_of(report)).values()) == 0

    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"], indirect=True)
    def test_a_copy_is_written_and_the_source_left(
        self, ground: Ground, spec: SourceSpec, kind: str, tmp_path: Path, lab: Lab
    ) -> None:
        before = stored_bytes(spec)
        path = Path(spec.location)
        copy = tmp_path / f"copy{path.suffix}"
        report = run(ground, spec, options=Options(output=str(copy)))
        assert stored_bytes(spec) == before
        copied = replace(spec, location=str(copy))
        assert plaintexts(lab, read_rows(copied)) == plaintexts(lab, read_rows(spec))
        assert report.census_after == planned(ground, copied).census
        assert verify(ground, report.campaign).proven == report.results.re_encrypted
        with pytest.raises(CampaignState, match=r"wrote a copy .* nothing to undo"):
            undo(ground, report.campaign)


def vars_of(report: Report) -> dict[str, int]:
    results = report.results
    return {
        "re_encrypted": results.re_encrypted,
        "unchanged": results.unchanged,
        "failed": results.failed,
        "lost": results.lost,
    }


class TestToAnotherKey:
    def test_all_that_can_goes(
        self, ground: Ground, spec: SourceSpec, lab: Lab, world: World
    ) -> None:
        """From both providers to one of CTyun, contexts dropped by name."""
        opened = plaintexts(lab, read_rows(spec))
        target = Target(key_id=world.keys.archive, provider="ctyun", context=DROP)
        report = run(ground, spec, target)
        rows = read_rows(spec)
        assert plaintexts(lab, rows) == opened
        moved = [row for row in rows if row["key_id"] == world.keys.archive]
        assert {row["provider"] for row in moved} == {"ctyun"}
        assert {row["encryption_context"] for row in moved} == {None}
        pairs = [row for row in moved if row["record_id"] in _pair_ids()]
        assert len(pairs) == TWENTIES
        for row in pairs:
            names = ("source_key_id", "source_key_version_id", "source_encryption_algorithm")
            assert not any(row[name] for name in names)
        assert report.outcomes_after is not None
        assert report.outcomes_after[Outcome.MOVE] == report.results.failed

    def test_there_and_back(self, ground: Ground, spec: SourceSpec, lab: Lab, world: World) -> None:
        opened = plaintexts(lab, read_rows(spec))
        there = Target(key_id=world.keys.archive, provider="ctyun", context=DROP)
        back = Target(key_id=world.keys.sessions, provider="tencent")
        run(ground, spec, there)
        report = run(ground, spec, back)
        # Those whose context is missing went neither there nor back.
        assert report.results.re_encrypted == 16 * TWENTIES
        assert report.failure_codes == {"InvalidParameterValue.InvalidCiphertext": TWENTIES}
        moved = [row for row in read_rows(spec) if row["key_id"] == world.keys.sessions]
        assert {row["provider"] for row in moved} == {"tencent"}
        assert plaintexts(lab, read_rows(spec)) == opened

    def test_a_context_is_lost_only_by_name(
        self, ground: Ground, spec: SourceSpec, world: World
    ) -> None:
        plan = planned(ground, spec, Target(key_id=world.keys.archive, provider="ctyun"))
        lost = [r.records for r in plan.reasons if r.reason == "context would be lost"]
        assert lost == [3 * TWENTIES]

    def test_without_a_provider_column_nothing_crosses(
        self, ground: Ground, tmp_path: Path, world: World
    ) -> None:
        path = tmp_path / "secrets.csv"
        row = world.rows[0]
        path.write_text(f"record_id,ciphertext_blob\n1,{row['ciphertext_blob']}\n", "utf-8")
        spec = SourceSpec(str(path), provider="tencent")
        with pytest.raises(CampaignError, match="has no provider column"):
            planned(ground, spec, Target(key_id=world.keys.archive, provider="ctyun"))

    def test_without_a_context_column_no_context_changes(
        self, ground: Ground, tmp_path: Path, world: World
    ) -> None:
        path = tmp_path / "secrets.csv"
        path.write_text("record_id,ciphertext_blob\n", "utf-8")
        with pytest.raises(CampaignError, match="has no context column"):
            planned(ground, SourceSpec(str(path), provider="tencent"), Target(context=DROP))


def planned_stale(report: Report) -> int:
    assert report.plan is not None
    return report.plan.outcomes[Outcome.STALE]


def _pair_ids() -> set[str]:
    return {f"rec-{n:07}" for n in range(11, RECORDS, 20)}


class TestStopAndResume:
    @pytest.fixture
    def records(self, small_chunks: None) -> int:
        return TWO_CHUNKS

    def test_stopped_after_a_chunk_and_resumed(
        self, ground: Ground, spec: SourceSpec, tmp_path: Path, lab: Lab
    ) -> None:
        opened = plaintexts(lab, read_rows(spec))
        chunks = []

        def stop() -> bool:
            return len(chunks) == 1

        def progress(told: Progress) -> None:
            if told.doing == "re-encrypting":
                chunks.append(told)

        with pytest.raises(
            CampaignInterrupted, match=rf"stopped after ({CHUNK:,}|{TWO_CHUNKS // 3}) records"
        ) as stopped:
            run(ground, spec, watch=Watch(progress, stop))
        with pytest.raises(CampaignState, match="is not finished: resume it"):
            run(ground, spec)
        report = resume(ground, stopped.value.campaign_id)
        assert report.state == "finished"
        assert sum(Counter(vars_of(report)).values()) == TWO_CHUNKS
        assert report.results.re_encrypted == 9 * MANY_TWENTIES
        assert plaintexts(lab, read_rows(spec)) == opened
        assert resume(ground, stopped.value.campaign_id).as_dict() == report.as_dict()
        assert undo(ground, report.campaign).undone == 9 * MANY_TWENTIES

    def test_stopped_while_planning_it_plans_again(self, ground: Ground, spec: SourceSpec) -> None:
        with pytest.raises(CampaignInterrupted, match="stopped while planning"):
            run(ground, spec, watch=Watch(stop=lambda: True))
        (unfinished,) = campaigns(ground.state)
        assert (unfinished.state, unfinished.plan) == ("planning", None)
        assert resume(ground, unfinished.campaign).results.re_encrypted == 9 * MANY_TWENTIES


class TestUndo:
    def test_every_value_comes_back(self, ground: Ground, spec: SourceSpec, world: World) -> None:
        before = read_rows(spec)
        target = Target(key_id=world.keys.archive, provider="ctyun", context=DROP)
        report = run(ground, spec, target)
        plan = plan_undo(ground, report.campaign)
        assert (plan.restorable, plan.touched_count, plan.gone_count) == (
            report.results.re_encrypted,
            0,
            0,
        )
        done = undo(ground, report.campaign)
        assert done.undone == report.results.re_encrypted
        assert read_rows(spec) == before
        assert done.state == "undone"

    def test_undone_twice_is_undone_once(self, ground: Ground, spec: SourceSpec) -> None:
        before = read_rows(spec)
        report = run(ground, spec)
        undo(ground, report.campaign)
        again = undo(ground, report.campaign)
        assert (again.undone, again.undo_lost) == (report.results.re_encrypted, ())
        assert read_rows(spec) == before

    def test_what_does_not_open_is_left(
        self, ground: Ground, spec: SourceSpec, lab: Lab, world: World
    ) -> None:
        report = run(ground, spec)
        lab.ctyun().disable_key(world.keys.billing)
        done = undo(ground, report.campaign)
        assert {lost.reason for lost in done.undo_lost} == {
            "the old blob does not open to what the new one holds"
        }
        assert done.undone + len(done.undo_lost) == report.results.re_encrypted
        lab.ctyun().enable_key(world.keys.billing)
        again = undo(ground, report.campaign)
        assert (again.undone, again.undo_lost) == (report.results.re_encrypted, ())

    def test_closing_ends_it(self, ground: Ground, spec: SourceSpec) -> None:
        blobs = [row["ciphertext_blob"] or "" for row in read_rows(spec)]
        report = run(ground, spec)
        new = [row["ciphertext_blob"] or "" for row in read_rows(spec)]
        old_and_new = next(pair for pair in zip(blobs, new, strict=True) if pair[0] != pair[1])
        closed = close(ground, report.campaign)
        assert closed.results == report.results
        with pytest.raises(CampaignState, match="is closed; there is nothing to undo"):
            undo(ground, report.campaign)
        assert close(ground, report.campaign).state == "closed"
        for file in ground.state.journals()[0].parent.iterdir():
            assert not [blob for blob in old_and_new if blob.encode() in file.read_bytes()]


class TestVerify:
    def test_what_holds_is_proven(self, ground: Ground, spec: SourceSpec) -> None:
        report = run(ground, spec)
        proof = verify(ground, report.campaign)
        assert (proof.changed, proof.proven) == (report.results.re_encrypted,) * 2

    @pytest.mark.parametrize("kind", ["csv"], indirect=True)
    def test_what_was_changed_since_is_told(
        self, ground: Ground, spec: SourceSpec, kind: str
    ) -> None:
        report = run(ground, spec)
        rows = read_rows(spec)
        path = Path(spec.location)
        text = path.read_text("utf-8").replace(rows[0]["ciphertext_blob"] or "", "AAAA", 1)
        lines = text.splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "rec-0000001" not in line), "utf-8")
        proof = verify(ground, report.campaign)
        assert (proof.touched, proof.gone) == (1, 1)
        assert proof.proven == report.results.re_encrypted - 2
        done = undo(ground, report.campaign)
        assert {(lost.record_id, lost.reason) for lost in done.undo_lost} == {
            ("rec-0000000", "changed by somebody else since"),
            ("rec-0000001", "not there any more"),
        }
        assert done.undone == proof.proven


class TestAtomic:
    def test_nothing_is_written_unless_all_succeed(self, ground: Ground, spec: SourceSpec) -> None:
        before = stored_bytes(spec)
        report = run(ground, spec, options=Options(atomic=True))
        assert report.state == "aborted"
        assert report.results.re_encrypted == 0
        assert stored_bytes(spec) == before

    def test_a_refusal_on_the_way_takes_all_back(
        self, ground: Ground, kind: str, tmp_path: Path, world: World
    ) -> None:
        good = [row for row in world.rows if row["key_id"]]
        bad = [row for at, row in enumerate(world.rows) if at % 20 == 17][:1]
        spec = WRITERS[kind](tmp_path / "atomic", [*good, *bad])
        before = read_rows(spec)
        report = run(ground, spec, options=Options(atomic=True))
        assert report.state == "aborted"
        assert (report.results.re_encrypted, report.results.failed) == (0, 1)
        assert read_rows(spec) == before

    def test_when_all_succeed_all_is_written(
        self, ground: Ground, kind: str, tmp_path: Path, world: World
    ) -> None:
        good = [row for row in world.rows if row["key_id"]]
        spec = WRITERS[kind](tmp_path / "atomic", good)
        report = run(ground, spec, options=Options(atomic=True))
        assert report.state == "finished"
        assert report.results.re_encrypted == planned_stale(report)


def test_one_campaign_at_a_time(ground: Ground, spec: SourceSpec) -> None:
    with ground.state.lock(open_source(spec).name), pytest.raises(SourceBusy):
        run(ground, spec)


def test_a_directory_is_many_files(ground: Ground, world: World, tmp_path: Path, lab: Lab) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    specs = [write_parquet(folder / f"p{n}", world.rows[n::3]) for n in range(3)]
    opened = [plaintexts(lab, read_rows(each)) for each in specs]
    spec = SourceSpec(str(folder))
    report = run(ground, spec)
    assert report.results.re_encrypted == 9 * TWENTIES
    assert [plaintexts(lab, read_rows(each)) for each in specs] == opened
    assert undo(ground, report.campaign).undone == 9 * TWENTIES
