"""Campaigns whose processes are killed, as by kill -9: nothing that is on the way out of a block is
done."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from scale_crews import Here
from scale_sources import SOURCES, all_rows, contents

from kmslab import Lab
from kmslab.campaign.closing import close
from kmslab.campaign.ground import Ground
from kmslab.campaign.run import resume, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import plan_undo, undo
from kmslab.campaign.watching import Progress, Watch
from kmslab.clock import SystemClock
from kmslab.errors import CampaignState, SourceError
from kmslab.records.spec import SourceSpec

pytestmark = [pytest.mark.scale, pytest.mark.usefixtures("small_ranges")]


def only(state: State) -> str:
    """The id of the one campaign there is."""
    (path,) = state.journals()
    return path.stem


def killed(world: World, work: Callable[[Lab], object], *, after: float | None = None) -> bool:
    """Have a process of its own do some work, with the lab that it opens; whether it was killed, as
    by itself after so many seconds."""
    child = os.fork()
    if child == 0:
        try:
            if after is not None:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends it as SIGKILL does
                signal.setitimer(signal.ITIMER_REAL, max(after, 0.001))
            with Lab.open(world.path) as lab:
                work(lab)
        finally:
            os._exit(0)
    ended = os.waitpid(child, 0)[1]
    assert os.WIFEXITED(ended) or os.WTERMSIG(ended) in (signal.SIGKILL, signal.SIGALRM)
    return os.WIFSIGNALED(ended)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_run(order: dict[str, Any], how_far: Mapping[str, Any]) -> None:
    if order["kind"] == "run":
        die()


def die_re_encrypting(progress: Progress) -> None:
    if progress.doing == "re-encrypting":
        die()


@pytest.mark.parametrize("crew", [Here(chunks=die_in_a_run), None], ids=["workers", "alone"])
def test_what_has_changed_records_is_never_aborted(
    crew: Here | None,
    world: World,
    ground: Ground,
    lab: Lab,
    tmp_path: Path,
) -> None:
    """Killed before any call was told of, and taken up while the source cannot be used."""
    spec = SOURCES["table"](tmp_path / "table", world.rows)
    watch = Watch() if crew else Watch(die_re_encrypting)

    def begin(own: Lab) -> None:
        run(Ground(own, ground.state, SystemClock()), spec, workers=crew, watch=watch)

    assert killed(world, begin)
    changed = changed_rows(world, spec)
    assert changed > 0

    def refuse(*_: object, **__: object) -> None:
        raise SourceError("the table is locked", source="table")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmslab.records.sql.TablePart.edit", refuse)
        with pytest.raises(SourceError, match="the table is locked"):
            resume(ground, only(ground.state), workers=Here() if crew else None)
    with pytest.raises(CampaignState, match="resume or undo it first"):
        close(ground, only(ground.state))
    assert plan_undo(ground, only(ground.state)).restorable == changed
    assert undo(ground, only(ground.state)).undone == changed
    assert changed_rows(world, spec) == 0


def changed_rows(world: World, spec: SourceSpec) -> int:
    """How many records have another blob than at first."""
    before = {row["record_id"]: row["ciphertext_blob"] for row in world.rows}
    return sum(row["ciphertext_blob"] != before[row["record_id"]] for row in all_rows(spec))


@pytest.mark.parametrize(
    "kind", ["table", *(pytest.param(kind, marks=pytest.mark.soak) for kind in ("csv", "parquet"))]
)
def test_killed_at_any_moment_it_ends_the_same(
    kind: str, world: World, ground: Ground, lab: Lab, tmp_path: Path, soak: bool
) -> None:
    """Coordinator and workers at once, again and again; then one process ends it."""
    spec = SOURCES[kind](tmp_path / "whole", world.rows)
    before = contents(lab, spec)
    began = time.monotonic()
    expected = run(ground, spec, workers=Here())
    took = time.monotonic() - began
    rng = random.Random(f"20260101 {kind}")
    for number in range(60 if soak else 1):
        folder = tmp_path / f"kill-{number}"
        folder.mkdir()
        spec, state = (
            SOURCES[kind](folder / "records", world.rows),
            State.of(None, str(folder / "state")),
        )

        def work(own_lab: Lab, spec: SourceSpec = spec, state: State = state) -> None:
            own = Ground(own_lab, state, SystemClock())
            if state.journals():
                resume(own, only(state), workers=Here())
            else:
                run(own, spec, workers=Here())

        for _ in range(3 if soak else 1):
            killed(world, work, after=took * rng.random())
        own = Ground(lab, state, SystemClock())
        report = resume(own, only(state)) if state.journals() else run(own, spec)
        assert report.results == expected.results
        assert report.census_after == expected.census_after
        assert (report.pending, report.kept_out) == (0, expected.kept_out)
        assert contents(lab, spec) == before
        undone = undo(own, report.campaign)
        assert (undone.undone, undone.undo_left) == (report.results.re_encrypted, 0)
