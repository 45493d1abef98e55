"""A campaign of several workers that ends on the way: taken up by whoever, it ends the same."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from scale_crews import Here, Killed
from scale_sources import RANGE_ROWS, RECORDS, SOURCES, Write, all_rows, contents

from kmslab import Lab
from kmslab.analysis import Target
from kmslab.analysis.classify import Outcome
from kmslab.campaign import shards as shards_module
from kmslab.campaign import sharing as sharing_module
from kmslab.campaign.absorbing import FINISHED, absorb
from kmslab.campaign.closing import campaigns, close
from kmslab.campaign.ground import Ground
from kmslab.campaign.journal import Journal
from kmslab.campaign.plan import Options
from kmslab.campaign.report import Report
from kmslab.campaign.rest import check_rest, plan_rest
from kmslab.campaign.retire import Kind, survey
from kmslab.campaign.run import resume, run
from kmslab.campaign.shards import settle_if_free
from kmslab.campaign.sources import Sources
from kmslab.campaign.state import State
from kmslab.campaign.tasks import Task, TaskList
from kmslab.campaign.undo import plan_undo, undo
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted, CampaignState, ShardDamaged, SourceBusy, StateError
from kmslab.records.spec import SourceSpec

pytestmark = [pytest.mark.scale, pytest.mark.usefixtures("small_ranges")]


@dataclass(frozen=True)
class Ends:
    """What an uninterrupted campaign leaves, and how a source is written for another one."""

    report: Report
    plaintexts: Mapping[str, bytes | None]
    write: Callable[[Path], SourceSpec]


@pytest.fixture
def ends(write: Write, world: World, ground: Ground, lab: Lab, tmp_path: Path) -> Ends:
    spec = write(tmp_path / "whole", world.rows)
    before = contents(lab, spec)
    return Ends(run(ground, spec), before, lambda path: write(path, world.rows))


def check_ends(ends: Ends, report: Report, lab: Lab, spec: SourceSpec, state: State) -> None:
    """It ended as the uninterrupted one did, and nothing is left of its workers."""
    assert report.results == ends.report.results
    assert report.census_after == ends.report.census_after
    assert report.outcomes_after == ends.report.outcomes_after
    assert report.kept_out == ends.report.kept_out
    assert report.pending == 0
    assert contents(lab, spec) == ends.plaintexts
    # What a check of workers leaves that was killed, the next one clears away.
    left = [path for path in state.campaigns_path().iterdir() if "seen-" not in path.name]
    assert [path.suffix for path in left] == [".db"]


def only(state: State) -> str:
    """The id of the one campaign there is."""
    (path,) = state.journals()
    return path.stem


def stopping_after(chunks: int) -> Watch:
    """Stops once so many chunks were told of."""
    told = count(1)
    seen: list[int] = []
    return Watch(lambda _: seen.append(next(told)), lambda: len(seen) >= chunks)


@pytest.mark.parametrize(
    ("write", "chunks", "workers"),
    [
        (SOURCES["csv"], 2, None),
        (SOURCES["table"], 9, Here(1)),
        (SOURCES["table"], 17, None),
        (SOURCES["csv"], 19, Here(3)),
    ],
    ids=["planning, then none", "planning, then one", "none", "three"],
)
def test_stopped_and_taken_up_by_others(
    ends: Ends, ground: Ground, lab: Lab, tmp_path: Path, workers: Here | None, chunks: int
) -> None:
    spec, state = ends.write(tmp_path / "stopped"), State.of(None, str(tmp_path / "own"))
    own = Ground(lab, state, ground.clock)
    with pytest.raises(CampaignInterrupted) as stopped:
        run(own, spec, workers=Here(), watch=stopping_after(chunks))
    assert stopped.value.campaign_id == only(state)
    with pytest.raises(CampaignInterrupted):
        resume(own, only(state), workers=Here(), watch=stopping_after(4))
    check_ends(ends, resume(own, only(state), workers=workers), lab, spec, state)


class _Dying:
    """Ends the process at the n-th of all steps that leave something on the disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self._left = at
        for owner, names in (
            (Journal, ("intend", "note", "finish_part")),
            (shards_module, ("absorb", "give_back", "write_private")),
            (shards_module.Shards, ("revoke", "remove")),
            (Path, ("unlink", "replace")),
        ):
            for name in names:
                monkeypatch.setattr(owner, name, self._dying(getattr(owner, name)))

    def _dying(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            found = step(*arguments, **options)
            self._left -= 1
            if self._left == 0:
                raise Killed
            return found

        return called


@pytest.mark.parametrize("write", [SOURCES["csv"], SOURCES["table"]], ids=["csv", "table"])
def test_killed_anywhere_it_ends_the_same(
    ends: Ends, ground: Ground, lab: Lab, tmp_path: Path, soak: bool
) -> None:
    """Coordinator and workers end at once, after any step; and those who take it up, once more."""
    rng = random.Random(20260101)
    steps = range(1, 90) if soak else sorted(rng.sample(range(1, 90), 2))
    for number, at in enumerate(steps):
        folder = tmp_path / f"kill-{number}"
        folder.mkdir()
        spec, state = ends.write(folder / "records"), State.of(None, str(folder / "state"))
        own = Ground(lab, state, ground.clock)
        for again in (at, rng.randrange(1, 30)):
            with pytest.MonkeyPatch.context() as patch:
                _Dying(patch, again)
                try:
                    if state.journals():
                        resume(own, only(state), workers=Here())
                    else:
                        run(own, spec, workers=Here())
                except Killed:
                    pass
        report = resume(own, only(state)) if state.journals() else run(own, spec)
        check_ends(ends, report, lab, spec, state)
        undone = undo(own, report.campaign)
        assert (undone.undone, undone.undo_left) == (report.results.re_encrypted, 0), at


UNHURRIED = Options(rates={"tencent": 1e5, "ctyun": 1e5})
"""Rates that workers share, and that hold nobody back."""


@pytest.fixture
def killed(world: World, ground: Ground, tmp_path: Path) -> SourceSpec:
    """A source whose campaign was killed with all it is: some tasks are finished and not taken,
    one is in its middle."""
    spec = SOURCES["table"](tmp_path / "killed", world.rows)
    ran: list[str] = []

    def last(order: dict[str, Any], how_far: Mapping[str, Any]) -> None:
        if order["kind"] == "run":
            ran.append(order["task"]["part"])
            if len(ran) == 7:
                raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmslab.campaign.shards.Shards.take", lambda *_: None)
        with pytest.raises(Killed):
            run(ground, spec, options=UNHURRIED, workers=Here(chunks=last))
    return spec


def intended(state: State) -> int:
    with Journal.open(state.journals()[0]) as journal:
        return journal.count_intended()


def test_an_undo_takes_what_workers_left(
    killed: SourceSpec, world: World, ground: Ground, tmp_path: Path
) -> None:
    assert intended(ground.state) == 0
    would = plan_undo(ground, only(ground.state))
    assert intended(ground.state) > 0
    report = undo(ground, only(ground.state))
    assert report.undone == would.restorable > 0
    assert report.undo_left == 0
    before = {row["record_id"]: row["ciphertext_blob"] for row in world.rows}
    assert {r["record_id"]: r["ciphertext_blob"] for r in all_rows(killed)} == before
    assert not ground.state.shards_path(report.campaign).exists()


def test_what_workers_have_finished_with_is_not_planned_again(
    world: World, ground: Ground, tmp_path: Path
) -> None:
    """It is not gone over again: what failed there has failed."""
    spec = SOURCES["table"](tmp_path / "table", world.rows)
    with pytest.raises(CampaignInterrupted):
        run(ground, spec, workers=Here(), watch=stopping_after(12 + 8))
    plan = plan_rest(ground, only(ground.state))
    with Journal.open(ground.state.journals()[0]) as journal:
        query = journal.database.query
        ((taken,),) = query("SELECT sum(rows) FROM task WHERE state = 'taken'")
        ((begun,),) = query("SELECT last + 1 - first FROM task WHERE state = 'copied'")
    assert (taken, begun > 0) == (2 * RANGE_ROWS, True)
    assert plan.total == RECORDS - taken - begun
    check_rest(ground, only(ground.state), plan)


def test_closing_erases_what_workers_left(killed: SourceSpec, ground: Ground) -> None:
    with pytest.raises(CampaignState, match="resume or undo it first"):
        close(ground, only(ground.state))
    assert close(ground, only(ground.state), abandon=True).state == "closed"
    assert intended(ground.state) > 0
    assert not ground.state.shards_path(only(ground.state)).exists()
    with Journal.open(ground.state.journals()[0]) as journal:
        assert {entry.change.new_blob for entry in journal.entries()} == {""}


@pytest.mark.parametrize("end", [undo, resume, partial(close, abandon=True)])
def test_nothing_is_left_of_the_rates_that_workers_shared(
    killed: SourceSpec, ground: Ground, end: Callable[[Ground, str], Report]
) -> None:
    leases = ground.state.path / "leases"
    assert list(leases.iterdir())
    end(ground, only(ground.state))
    assert not list(leases.iterdir())


@pytest.mark.parametrize("registered", [True, False])
def test_retiring_looks_at_what_workers_left(
    killed: SourceSpec, world: World, ground: Ground, lab: Lab, registered: bool
) -> None:
    if registered:
        Sources(ground.state).add("orders", killed)
    key = lab.key(world.keys.orders)
    found = survey(ground, key, accept_unreadable=True)
    (left,) = [each for each in found.left if each.kind is Kind.JOURNAL]
    assert left.records > 0


def test_a_report_counts_what_workers_left(killed: SourceSpec, ground: Ground) -> None:
    (before,) = campaigns(ground.state)
    settle_if_free(ground.state, only(ground.state))
    settle_if_free(ground.state, only(ground.state))
    (after,) = campaigns(ground.state)
    assert isinstance(before, Report)
    assert isinstance(after, Report)
    assert before.results.total == 0
    assert after.results.re_encrypted > 0
    assert after.pending >= 0


def test_a_shard_that_is_gone_is_missed(killed: SourceSpec, ground: Ground) -> None:
    settle_if_free(ground.state, only(ground.state))
    folder = ground.state.shards_path(only(ground.state))
    (shard,) = folder.glob("*.db")
    shard.unlink()
    with pytest.raises(StateError, match="is not there any more"):
        resume(ground, only(ground.state))
    assert undo(ground, only(ground.state)).undo_left == 0


@pytest.mark.parametrize("damage", ["torn", "emptied", "another format"])
def test_a_damaged_shard_is_named_and_blocks_no_other(
    killed: SourceSpec, world: World, ground: Ground, damage: str
) -> None:
    campaign = only(ground.state)
    shard = sorted(ground.state.shards_path(campaign).glob("*.db"))[-1]
    whole = shard.read_bytes()
    shard.write_bytes(
        {
            "torn": whole[:16384] + bytes(len(whole) - 16384),
            "emptied": b"",
            "another format": whole[:63] + b"\x09" + whole[64:],
        }[damage]
    )
    damaged = pytest.raises(ShardDamaged, match=rf"{shard}: what a worker wrote for task 0000\d")
    before = {row["record_id"]: row["ciphertext_blob"] for row in world.rows}

    def changed() -> int:
        return sum(r["ciphertext_blob"] != before[r["record_id"]] for r in all_rows(killed))

    first = changed()
    for attempt in (resume, undo, undo, close):
        with damaged:
            attempt(ground, campaign)
    with damaged:
        settle_if_free(ground.state, campaign)
    left = changed()
    assert 0 < left < first
    assert shard.is_file()
    (report,) = campaigns(ground.state)
    assert isinstance(report, Report)
    assert (report.state, report.undone) == ("undoing", first - left)
    if damage == "torn":
        shard.write_bytes(whole)
        assert undo(ground, campaign).undone == first
        assert changed() == 0
    else:
        assert close(ground, campaign, abandon=True).state == "closed"
        assert changed() == left


def test_files_that_went_are_lost_and_new_ones_done(
    world: World, ground: Ground, lab: Lab, tmp_path: Path
) -> None:
    """As in a campaign of one process."""
    results = []
    for workers in (None, Here()):
        folder = tmp_path / f"some-{len(results)}"
        folder.mkdir()
        spec = SOURCES["csv"](folder / "files", world.rows)
        own = Ground(lab, State.of(None, str(folder / "state")), ground.clock)
        with pytest.raises(CampaignInterrupted):
            # Planning is fifteen chunks; the first file is done then, and the second one begun.
            run(own, spec, workers=workers, watch=stopping_after(15 + 4))
        (folder / "files" / "part-1.csv").rename(folder / "files" / "part-9.csv")
        report = resume(own, only(own.state), workers=workers)
        results.append((report.results, report.census_after))
    assert results[0] == results[1]
    assert results[0][0].lost > 0


def test_an_order_of_a_run_that_has_ended_is_not_begun(
    world: World, ground: Ground, tmp_path: Path
) -> None:
    """As one that waits in a scheduler while its campaign is stopped and undone."""
    spec = SOURCES["csv"](tmp_path / "files", world.rows)
    crew = Here()
    report = run(ground, spec, workers=crew)
    undo(ground, report.campaign)
    rows = all_rows(spec)
    late = [text for text in crew.said if '"kind": "run"' in text]
    with crew.ready():
        outcomes = list(crew.do([(str(n), text) for n, text in enumerate(late)], print, bool))
    assert {text for _, text in outcomes} == {'{"found": null, "error": null, "refused": null}'}
    assert all_rows(spec) == rows
    assert not ground.state.shards_path(report.campaign).exists()


def test_an_order_that_is_repeated_does_nothing(
    world: World, ground: Ground, lab: Lab, tmp_path: Path
) -> None:
    """As a scheduler does whose worker has ended with its answers; a key was rotated since."""
    spec = SOURCES["table"](tmp_path / "table", world.rows)
    crew, stored = Here(), list[Any]()

    def again(order: dict[str, Any]) -> None:
        if order["kind"] == "count" and not stored:
            lab.rotate(world.keys.orders)
            stored.append(all_rows(spec))
            first = next(text for text in crew.said if '"kind": "run"' in text)
            outcome = crew.workers[1].do(first, lambda _: None, lambda: False)
            assert '"spoilt": false' in outcome
            assert all_rows(spec) == stored[0]

    crew.before = again
    assert run(ground, spec, workers=crew).state == "finished"
    assert stored


def test_two_are_never_at_work_on_one_task(
    world: World, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same task begun again while an earlier worker is in its middle waits for it, and sends
    nothing twice."""
    spec = SOURCES["table"](tmp_path / "table", world.rows)
    monkeypatch.setattr(shards_module, "BUSY_SECONDS", 0.1)
    met: list[BaseException] = []

    def intrude(order: dict[str, Any], how_far: Mapping[str, Any]) -> None:
        if order["kind"] != "run" or met:
            return
        met.append(Killed())
        with Journal.open(ground.state.journals()[0]) as journal:
            shards = shards_module.Shards.of(ground.state, only(ground.state))
            with pytest.raises(SourceBusy, match="still at work on task 00001"):
                shards.settle(journal, seconds=0.1)

    with pytest.raises(CampaignInterrupted):
        run(ground, spec, workers=Here(chunks=intrude))  # whose permit that took away
    assert met
    assert resume(ground, only(ground.state), workers=Here()).pending == 0


def test_nothing_is_removed_below_a_worker(
    world: World, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has its task and has not written yet would go on with files that are gone."""
    spec = SOURCES["table"](tmp_path / "table", world.rows)
    monkeypatch.setattr(sharing_module, "_END_SECONDS", 0.1)
    monkeypatch.setattr(shards_module, "BUSY_SECONDS", 0.1)
    with ExitStack() as stack:

        def hold(order: dict[str, Any]) -> None:
            if order["kind"] == "run":
                shards = shards_module.Shards.of(ground.state, only(ground.state))
                stack.enter_context(shards.alone(Task.from_dict(order["task"])))

        with pytest.raises(SourceBusy, match="still at work on task 00001"):
            run(ground, spec, workers=Here(before=hold))
        assert ground.state.shards_path(only(ground.state)).is_dir()
        with Journal.open(ground.state.journals()[0]) as journal:
            shards = shards_module.Shards.of(ground.state, journal.campaign_id)
            with pytest.raises(SourceBusy, match="still at work on task 00001"):
                shards.remove(journal)
            assert journal.facts()["state"] == "running"
    assert resume(ground, only(ground.state)).state == "finished"


def test_a_task_that_fails_is_named(world: World, ground: Ground, tmp_path: Path) -> None:
    spec = SOURCES["csv"](tmp_path / "files", world.rows)

    def spoil(order: dict[str, Any]) -> None:
        if order["kind"] == "run" and order["task"]["number"] == 2:
            path = Path(order["task"]["part"])
            path.write_text(path.read_text("utf-8").replace("record_id", "id"), "utf-8")

    with pytest.raises(Exception, match=r"task 00002 of campaign .*: .*part-1.csv"):
        run(ground, spec, Target(), workers=Here(before=spoil))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_what_was_shown_last_stays(tmp_path: Path, order: tuple[int, int]) -> None:
    tasks = [Task(1, "a"), Task(2, "b")]
    with Journal.create(tmp_path / "journal.db", {"state": "running"}) as journal:
        TaskList(journal.database).add(tasks)
        for number in order:
            path = tmp_path / f"{number}.db"
            with Journal.create(path, {"state": FINISHED}, shard=True) as shard:
                shard.finish_part(shard.part("x"), 0, 0)
                shard.show([(b"digest", f"key-{number}")], at=float(number))
                shard.note()
            assert absorb(journal, tasks[number - 1], path)
        assert journal.shown([b"digest"]) == {b"digest": ("key-2", 2.0)}


def test_the_folder_of_the_shards_is_durable(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(shards_module, "sync_directory", synced.append)
    folder = ground.state.shards_path("20260101-120000-0000")
    folder.parent.mkdir(parents=True, exist_ok=True)
    shards_module.Shards.of(ground.state, folder.stem).permit({})
    assert synced == [folder.parent]


def test_a_file_that_is_away_for_a_while_is_done_when_it_is_back(
    world: World, ground: Ground, lab: Lab, tmp_path: Path
) -> None:
    """A mount that is late, say: campaigns are resumed without it, and with it again."""
    spec = SOURCES["csv"](tmp_path / "files", world.rows)
    before = contents(lab, spec)
    last = tmp_path / "files" / "part-4.csv"

    def once() -> Watch:
        told: list[Any] = []
        return Watch(
            lambda found: told.append(found) if found.doing == "re-encrypting" else None,
            lambda: bool(told),
        )

    with pytest.raises(CampaignInterrupted):
        run(ground, spec, workers=Here(), watch=once())
    last.rename(tmp_path / "away.csv")
    with pytest.raises(CampaignInterrupted):
        resume(ground, only(ground.state), workers=Here(), watch=once())
    (tmp_path / "away.csv").rename(last)
    report = resume(ground, only(ground.state), workers=Here())
    assert (report.state, report.pending, report.results.lost) == ("finished", 0, 0)
    assert report.outcomes_after[Outcome.STALE] == report.results.failed
    assert contents(lab, spec) == before


def test_a_worker_that_does_not_see_the_run_any_more_says_so(
    world: World, ground: Ground, tmp_path: Path
) -> None:
    """Its mount of the state folder has gone: it is not as if somebody had stopped the run."""
    spec = SOURCES["csv"](tmp_path / "files", world.rows)

    def gone(order: dict[str, Any]) -> None:
        for brief in ground.state.shards_path(order["campaign"]).glob("*.json"):
            brief.unlink()

    with pytest.raises(CampaignInterrupted, match="does not find the run in the state folder"):
        run(ground, spec, workers=Here(before=gone))


@pytest.mark.parametrize("call", ["mkdir", "write_text", "unlink", "fsync"])
def test_a_disk_that_refuses_is_named_with_what_to_do(
    call: str,
    world: World,
    ground: Ground,
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a full one does wherever it is met: in a folder, a file of the run, or a shard."""
    spec = SOURCES["csv"](tmp_path / "records", world.rows)
    before = contents(lab, spec)
    folder = str(ground.state.path)
    where, what = (os, call) if call == "fsync" else (Path, call)
    real: Callable[..., Any] = getattr(where, what)

    def full(found: Any, *arguments: Any, **options: Any) -> Any:
        path = str(Path(f"/proc/self/fd/{found}").readlink() if call == "fsync" else found)
        if path.startswith(folder) and ".shards" in path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(found, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, what, full)
        with pytest.raises(StateError, match=f"{folder}.*No space left.*make room") as refused:
            run(ground, spec, workers=Here())
    assert ".shards" in str(refused.value)
    report = resume(ground, only(ground.state), workers=Here())
    if report.state == "aborted":  # while it was planned
        report = run(ground, spec, workers=Here())
    assert (report.state, report.results.lost) == ("finished", 0)
    assert contents(lab, spec) == before
