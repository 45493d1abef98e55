"""Campaigns killed at any moment: taken up again they end where an uninterrupted one ends."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from campaign_data import TWO_CHUNKS, WRITERS, World, read_rows
from campaign_sources import plaintexts
from campaign_victim import STEPS
from command_line import Command, Warm

from kmslab import Lab
from kmslab.campaign.closing import campaigns, close
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.records.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class Victim:
    """Starts the processes that are killed, each with a job on one lab."""

    warm: Warm
    lab: Path

    def start(self, job: dict[str, str]) -> Command:
        work = f"import campaign_victim; campaign_victim.campaign({job | {'lab': str(self.lab)}})"
        return self.warm.start([], None, None, 2, before=work)


OTHERS = [pytest.param(kind, marks=pytest.mark.scale) for kind in sorted(WRITERS) if kind != "csv"]


@pytest.fixture(params=["csv", *OTHERS])
def kind(request: pytest.FixtureRequest) -> str:  # in place of all of them in each run
    return str(request.param)


@pytest.fixture
def records(small_chunks: None) -> int:
    return TWO_CHUNKS


@pytest.fixture
def victim(warm: Warm, world: World) -> Victim:
    return Victim(warm, world.path)


RUN_STEPS = [name for name in STEPS if "erased" not in name and "rewritten" not in name]
UNDO_STEPS = ["the second chunk is written", "all is written", "the part is in its place"]
CLOSE_STEPS = ["the blobs are erased", "the journal is rewritten"]


def moments(soak: bool) -> list[float]:
    """When to kill, as parts of the time that a campaign takes."""
    count = 200 if soak else 10 - len(RUN_STEPS)
    rng = random.Random(20260101)
    return [(n + rng.random()) / count for n in range(count)]


def timed(victim: Victim, job: dict[str, str]) -> float:
    started = time.perf_counter()
    assert victim.start(job).wait() == 0
    return time.perf_counter() - started


def kill_at(victim: Victim, job: dict[str, str], delay: float) -> None:
    child = victim.start(job)
    time.sleep(delay)
    with suppress(ProcessLookupError):  # it was done already
        os.kill(child.pid, signal.SIGKILL)
    child.wait()


def kill_in(victim: Victim, job: dict[str, str], step: str) -> None:
    assert victim.start(job | {"step": step}).wait() == -signal.SIGKILL, step


@dataclass(frozen=True, slots=True)
class Ends:
    """What an uninterrupted campaign leaves."""

    census: object
    results: object
    plaintexts: dict[str, bytes | None]


@pytest.fixture
def make(world: World, kind: str) -> Callable[[Path], tuple[SourceSpec, dict[str, str]]]:
    """A source of its own for each kill, and the job that names it."""

    def made(folder: Path) -> tuple[SourceSpec, dict[str, str]]:
        folder.mkdir()
        spec = WRITERS[kind](folder / "records", world.rows)
        job = {"location": spec.location, "table": spec.table or "", "state": str(folder / "state")}
        return spec, job

    return made


def leftovers(folder: Path) -> list[str]:
    """What a campaign may not leave beside a source."""
    known = {"records", "state"}
    return [p.name for p in folder.iterdir() if p.name.partition(".")[0] not in known]


def test_killed_anywhere_it_ends_the_same(
    victim: Victim,
    make: Callable[[Path], tuple[SourceSpec, dict[str, str]]],
    ground: Ground,
    lab: Lab,
    tmp_path: Path,
    soak: bool,
) -> None:
    spec, job = make(tmp_path / "whole")
    before = plaintexts(lab, read_rows(spec))
    whole = run(ground, spec)
    ends = Ends(whole.census_after, whole.results, before)
    duration = timed(victim, make(tmp_path / "timed")[1])
    for number, moment in enumerate([*RUN_STEPS, *moments(soak)]):
        folder = tmp_path / f"kill-{number}"
        spec, job = make(folder)
        if isinstance(moment, str):
            kill_in(victim, job, moment)
        else:
            kill_at(victim, job, moment * duration)
        own = Ground(lab, State.of(None, job["state"]), ground.clock)
        left = [each.campaign for each in campaigns(own.state)]
        report = resume(own, left[0]) if left else run(own, spec)
        assert plaintexts(lab, read_rows(spec)) == ends.plaintexts, moment
        assert report.census_after == ends.census, moment
        assert report.results == ends.results, moment
        assert leftovers(folder) == []
        if number % 5 == 0:
            undone = undo(own, report.campaign)
            assert undone.undone == report.results.re_encrypted


def test_an_undo_killed_anywhere_is_taken_up(
    victim: Victim,
    make: Callable[[Path], tuple[SourceSpec, dict[str, str]]],
    ground: Ground,
    lab: Lab,
    tmp_path: Path,
    soak: bool,
) -> None:
    for number, moment in enumerate([*UNDO_STEPS, *(moments(soak)[::4] if soak else ())]):
        spec, job = make(tmp_path / f"undo-{number}")
        before = read_rows(spec)
        own = Ground(lab, State.of(None, job["state"]), ground.clock)
        report = run(own, spec)
        undoing = job | {"undo": report.campaign}
        if isinstance(moment, str):
            kill_in(victim, undoing, moment)
        else:
            kill_at(victim, undoing, moment * 0.4)
        assert undo(own, report.campaign).undone == report.results.re_encrypted, moment
        assert read_rows(spec) == before, moment


@pytest.mark.parametrize("step", CLOSE_STEPS)
def test_a_close_that_is_killed_says_that_it_is_not_done(
    victim: Victim, world: World, ground: Ground, lab: Lab, tmp_path: Path, step: str
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    spec = WRITERS["csv"](folder / "records", world.rows)
    own = Ground(lab, State.of(None, str(folder / "state")), ground.clock)
    report = run(own, spec)
    job = {"location": spec.location, "table": "", "state": str(folder / "state")}
    kill_in(victim, job | {"close": report.campaign}, step)
    (left,) = campaigns(own.state)
    assert left.state == "closing"
    assert close(own, report.campaign).state == "closed"
