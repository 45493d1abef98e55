"""Workers that are processes of their own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from keystore_labs import leaks
from scale_sources import SOURCES, all_rows, contents

from kmslab import Lab
from kmslab.campaign import pool
from kmslab.campaign.ground import Ground
from kmslab.campaign.pool import Pool
from kmslab.campaign.run import resume, run
from kmslab.campaign.state import State
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignError, CampaignInterrupted
from kmslab.records.spec import SourceSpec

pytestmark = pytest.mark.scale


@pytest.fixture
def spec(world: World, tmp_path: Path) -> SourceSpec:
    return SOURCES["csv"](tmp_path / "records", world.rows)


@pytest.fixture
def root_keys(world: World) -> list[bytes]:
    """What must be nowhere but in memory and in its file."""
    text = (world.path / "root.key").read_text("ascii").split()[-1]
    return [text.encode(), b"secret 00000"]


class Overheard:
    """All that went to the workers or came back, and what anybody can see of their processes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[bytes] = []
        self.processes: list[bytes] = []
        monkeypatch.setattr(pool._Process, "_say", self._around(pool._Process._say))
        monkeypatch.setattr(pool.os, "read", self._reading(os.read))

    def _around(self, say: Any) -> Any:
        def said(process: pool._Process, value: object) -> None:
            self.lines.append(json.dumps(value).encode())
            pid = process._process.pid
            for name in ("cmdline", "environ"):
                self.processes.append(Path(f"/proc/{pid}/{name}").read_bytes())
            say(process, value)

        return said

    def _reading(self, read: Any) -> Any:
        def heard(descriptor: int, size: int) -> bytes:
            data: bytes = read(descriptor, size)
            self.lines.append(data)
            return data

        return heard


def test_two_processes_do_it_and_nothing_secret_is_seen(
    spec: SourceSpec,
    ground: Ground,
    lab: Lab,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    root_keys: list[bytes],
) -> None:
    overheard = Overheard(monkeypatch)
    before = contents(lab, spec)
    blobs = {(row["ciphertext_blob"] or "").encode() for row in world.rows}
    report = run(ground, spec, workers=Pool(2))
    assert report.state == "finished"
    assert report.results.re_encrypted > 0
    assert contents(lab, spec) == before
    for text in [*overheard.lines, *overheard.processes]:
        assert not [found for secret in root_keys for found in leaks(secret, text)]
        assert not any(blob in text for blob in blobs)
    assert sum(b'"ending"' in line for line in overheard.lines) > 2


def test_there_are_no_more_workers_than_tasks(spec: SourceSpec, ground: Ground) -> None:
    said: list[str] = []
    started: list[int] = []

    def progress(found: Any) -> None:
        started.append(len(workers_of(os.getpid())))

    for path in sorted(Path(spec.location).iterdir())[2:]:
        path.unlink()
    run(ground, spec, workers=Pool(100), watch=Watch(progress, said=said.append))
    assert set(started) == {2}
    assert said == ["2 workers are at work: the source is divided into 2 tasks"]


@contextmanager
def killing(how_many: int = 1) -> Iterator[Watch]:
    """Ends a worker in the middle of what it re-encrypts."""
    killed: list[int] = []

    def progress(found: Any) -> None:
        if found.doing == "re-encrypting" and len(killed) < how_many:
            pid = workers_of(os.getpid())[0]
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    yield Watch(progress)
    assert killed


def workers_of(pid: int) -> list[int]:
    """The workers that a process has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [int(pid) for pid in found if b"pool import serve" in _line(pid)]


def _line(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_worker_that_is_killed_interrupts(spec: SourceSpec, ground: Ground, lab: Lab) -> None:
    before = contents(lab, spec)
    with killing() as watch, pytest.raises(CampaignInterrupted) as interrupted:
        run(ground, spec, workers=Pool(2), watch=watch)
    assert "was ended by SIGKILL" in str(interrupted.value)
    assert "task 0000" in str(interrupted.value)
    assert str(Path(spec.location) / "part-") in str(interrupted.value)
    report = resume(ground, interrupted.value.campaign_id)
    assert report.state == "finished"
    assert (report.pending, report.results.lost) == (0, 0)
    assert contents(lab, spec) == before


COORDINATOR = """
import json, sys
from kmslab import Lab
from kmslab.campaign.ground import Ground
from kmslab.campaign.pool import Pool
from kmslab.campaign.run import run
from kmslab.campaign.state import State
from kmslab.campaign.state import State
from kmslab.campaign.watching import Watch
from kmslab.clock import SystemClock
from kmslab.records.spec import SourceSpec

lab, state, location, table = sys.argv[1:]
with Lab.open(lab) as opened:
    ground = Ground(opened, State.of(None, state), SystemClock())
    watch = Watch(lambda found: print(found.doing, flush=True))
    run(ground, SourceSpec(location, table or None), workers=Pool(2), watch=watch)
"""


def coordinator(arguments: list[str]) -> subprocess.Popen[bytes]:
    """A process that runs a campaign with two workers, and says what it is at."""
    return subprocess.Popen(
        [sys.executable, "-c", COORDINATOR, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@pytest.mark.soak
def test_workers_end_when_nobody_is_there_any_more(
    spec: SourceSpec, ground: Ground, lab: Lab, world: World
) -> None:
    before = contents(lab, spec)
    arguments = [str(world.path), str(ground.state.path), spec.location, ""]
    with coordinator(arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == b"re-encrypting\n":
                break
        workers = workers_of(process.pid)
        assert len(workers) == 2
        process.kill()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.01)
    (path,) = ground.state.journals()
    report = resume(ground, path.stem)
    assert report.state == "finished"
    assert (report.pending, report.results.lost) == (0, 0)
    assert contents(lab, spec) == before


@pytest.mark.soak
def test_killed_at_any_moment_it_ends_the_same(
    ground: Ground, lab: Lab, world: World, tmp_path: Path
) -> None:
    """The command or one of its workers, and then whoever takes it up."""
    rng = random.Random(20260101)
    write = SOURCES["table"]
    expected = run(ground, write(tmp_path / "whole", world.rows))
    for number in range(20):
        folder = tmp_path / f"kill-{number}"
        folder.mkdir()
        spec, own = write(folder / "records", world.rows), State.of(None, str(folder / "state"))
        before = contents(lab, spec)
        arguments = [str(world.path), str(own.path), spec.location, spec.table or ""]
        with coordinator(arguments) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.4)
            victims = [process.pid, *workers_of(process.pid)]
            with suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
            process.stdout.read()
        again = Ground(lab, own, ground.clock)
        (path,) = own.journals()
        report = resume(again, path.stem, workers=rng.choice([None, Pool(2)]))
        assert report.results == expected.results, number
        assert report.census_after == expected.census_after, number
        assert sum(report.calls.values()) >= sum(expected.calls.values()), number
        assert contents(lab, spec) == before, number


def test_a_password_that_no_worker_is_told_is_refused(
    spec: SourceSpec, ground: Ground, postgres_url: str, tmp_path: Path
) -> None:
    url = postgres_url.replace("@", ":geheim@")
    with (
        Lab.create(url, root_key=tmp_path / "root.key") as lab,
        pytest.raises(CampaignError, match="told no password: leave it out") as refused,
    ):
        run(Ground(lab, ground.state, ground.clock), spec, workers=Pool(2))
    assert "geheim" not in str(refused.value)
    assert not ground.state.journals()


@pytest.mark.parametrize("what", ["memory", "passphrase"])
def test_what_no_worker_could_open_is_refused(
    what: str, spec: SourceSpec, tmp_path: Path, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KMSLAB_PASSPHRASE", raising=False)
    rows = all_rows(spec)
    made = {
        "memory": Lab.in_memory,
        "passphrase": lambda: Lab.create(tmp_path / "typed", passphrase="typed here"),
    }[what]()
    said = {"memory": "a lab in memory", "passphrase": "set KMSLAB_PASSPHRASE"}[what]
    with made as lab, pytest.raises(CampaignError, match=said):
        run(Ground(lab, ground.state, ground.clock), spec, workers=Pool(2))
    assert not ground.state.journals()
    assert all_rows(spec) == rows
