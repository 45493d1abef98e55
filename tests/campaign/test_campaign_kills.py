"""Campaigns killed at any moment: taken up again they end where an uninterrupted one ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from campaign_data import WRITERS, World, read_rows
from campaign_sources import plaintexts

from kmslab import Lab
from kmslab.campaign.closing import campaigns
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.records.spec import SourceSpec


@dataclass(frozen=True, slots=True)
class Victim:
    """The process whose children are killed."""

    process: subprocess.Popen[str]

    def start(self, job: dict[str, str]) -> int:
        """Start a campaign; the pid of the child that runs it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def status(self) -> int:
        """How the child ended."""
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture
def victim(world: World, tmp_path: Path) -> Iterator[Victim]:
    warm = WRITERS["csv"](tmp_path / "warm", [])
    command = [sys.executable, str(Path(__file__).parent / "campaign_victim.py"), str(world.path)]
    with subprocess.Popen(
        [*command, warm.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Victim(process)
        assert process.stdin is not None
        process.stdin.close()


def moments(soak: bool) -> list[float]:
    """When to kill, as parts of the time that a campaign takes."""
    count = 200 if soak else 10
    rng = random.Random(20260101)
    return [(n + rng.random()) / count for n in range(count)]


def timed(victim: Victim, job: dict[str, str]) -> float:
    started = time.perf_counter()
    victim.start(job)
    assert victim.status() == 0
    return time.perf_counter() - started


def kill_at(victim: Victim, job: dict[str, str], delay: float) -> None:
    child = victim.start(job)
    time.sleep(delay)
    with suppress(ProcessLookupError):  # it was done already
        os.kill(child, signal.SIGKILL)
    victim.status()


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
    for number, moment in enumerate(moments(soak)):
        folder = tmp_path / f"kill-{number}"
        spec, job = make(folder)
        kill_at(victim, job, moment * duration)
        own = Ground(lab, State.of(None, job["state"]), ground.clock)
        left = [each.campaign for each in campaigns(own.state)]
        report = resume(own, left[0]) if left else run(own, spec)
        rows = read_rows(spec)
        assert plaintexts(lab, rows) == ends.plaintexts, (number, moment)
        assert report.census_after == ends.census, (number, moment)
        assert report.results == ends.results, (number, moment)
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
    for number, moment in enumerate(moments(soak)[:: 4 if soak else 5]):
        spec, job = make(tmp_path / f"undo-{number}")
        before = read_rows(spec)
        own = Ground(lab, State.of(None, job["state"]), ground.clock)
        report = run(own, spec)
        kill_at(victim, job | {"undo": report.campaign}, moment * 0.4)
        assert undo(own, report.campaign).undone == report.results.re_encrypted
        assert read_rows(spec) == before
