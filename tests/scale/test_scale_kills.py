"""Campaigns whose processes are killed, as by kill -9: nothing that is on the way out of a block is
done."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from scale_crews import Here
from scale_sources import SOURCES, all_rows

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

pytestmark = pytest.mark.usefixtures("small_ranges")


def only(state: State) -> str:
    """The id of the one campaign there is."""
    (path,) = state.journals()
    return path.stem


def killed(world: World, work: Callable[[Lab], object]) -> bool:
    """Have a process of its own do some work, with the lab that it opens; whether it was killed."""
    child = os.fork()
    if child == 0:
        try:
            with Lab.open(world.path) as lab:
                work(lab)
        finally:
            os._exit(0)
    ended = os.waitpid(child, 0)[1]
    assert os.WIFEXITED(ended) or os.WTERMSIG(ended) == signal.SIGKILL
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
