"""Killed at any call that changes a file, a lab opens and has everything it acknowledged."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from keystore_labs import SOURCE

from kmslab import Lab, ManualClock
from kmslab.errors import RootKeyError
from kmslab.model import KeyState

HERE = Path(__file__).parent
POINTS = 14
FEW = 5  # each opening under a passphrase takes Argon2id's own time
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Killer:
    """Has the victim change fresh copies of a lab, and die at a given call."""

    victim: subprocess.Popen[str]
    original: Path
    place: Path

    def run(self, way: str, at: int) -> tuple[Path, list[list[str]], int]:
        """The lab that is left, what was acknowledged, and how many calls were made."""
        lab, output, count = (self.place / name for name in ("lab", "output", "count"))
        shutil.rmtree(lab, ignore_errors=True)
        shutil.copytree(self.original, lab)
        assert self.victim.stdin is not None
        assert self.victim.stdout is not None
        print(lab, way, at, output, count, file=self.victim.stdin, flush=True)
        assert int(self.victim.stdout.readline()) == (137 if at else 0)
        calls = at or int(count.read_text("ascii"))
        return lab, [line.split() for line in output.read_text("ascii").splitlines()], calls


@pytest.fixture(scope="module")
def library(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("kill") / "kill_at_write.so"
    source = HERE / "kill_at_write.c"
    subprocess.run(
        [require("gcc"), "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True
    )
    return made


@pytest.fixture(scope="module")
def victim(library: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "LD_PRELOAD": str(library)}
    command = [sys.executable, HERE / "keystore_victim.py"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(timeout=30) == 0


@pytest.fixture
def killer(victim: subprocess.Popen[str], tmp_path: Path) -> Killer:
    return Killer(victim, tmp_path / "original", tmp_path)


def points(calls: int, soak: bool, most: int = POINTS) -> Sequence[int]:
    """Every call in a soak; otherwise the first, the last, and some between, each time others."""
    everything = range(1, calls + 1)
    if soak or calls <= most:
        return everything
    return sorted({1, calls, *random.sample(everything, most - 2)})


def test_killed_at_any_write_the_lab_has_what_it_acknowledged(killer: Killer, soak: bool) -> None:
    Lab.create(killer.original, clock=ManualClock(START)).close()
    _, acknowledged, calls = killer.run("changes", 0)
    assert acknowledged[-1][0] == "closed"
    assert calls > 40
    for at in points(calls, soak):
        path, acknowledged, _ = killer.run("changes", at)
        with Lab.open(path, clock=ManualClock(START)) as lab:
            check_acknowledged(lab, acknowledged)
            check = lab.audit.verify()
            assert check.intact, at
            # What was not acknowledged is one change at most, and it is whole.
            assert len(lab.keys()) <= sum(word[0] == "created" for word in acknowledged) + 1


def check_acknowledged(lab: Lab, acknowledged: list[list[str]]) -> None:
    states = {key_id: state for what, key_id, state in acknowledged if what == "state"}
    for what, key_id, value in acknowledged:
        if what in ("created", "rotated"):
            assert len(lab.key(key_id).versions) >= int(value)
        elif what == "blob" and states.get(key_id) is None and _usable(lab, key_id):
            assert lab.tencent().decrypt(value) == b"plain"
            assert sum(v.encryptions for v in lab.key(key_id).versions) >= 1
        elif what == "balance":
            assert lab.settings.all()["balance"] == int(value)
        elif what == "credential":
            assert [found.name for found in lab.credentials.list()] == [value]
    for key_id, state in states.items():
        found = lab.key(key_id).state
        order = ["disabled", "pending-deletion", "deleted"]
        assert order.index(found.value) >= order.index(state)


def _usable(lab: Lab, key_id: str) -> bool:
    return lab.key(key_id).state is KeyState.ENABLED


@pytest.mark.parametrize("way", ["rekey", "passphrase"])
def test_a_rekey_killed_at_any_step_opens(killer: Killer, soak: bool, way: str) -> None:
    passphrase = "old" if way == "passphrase" else None
    clock = ManualClock(START)
    with Lab.create(killer.original, passphrase=passphrase, clock=clock) as lab:
        key_id = lab.tencent().create_key("orders").key_id
        blob = lab.tencent().encrypt(key_id, b"plain")
    _, acknowledged, calls = killer.run(way, 0)
    assert [words[0] for words in acknowledged] == ["rekeyed"]
    for at in points(calls, soak, POINTS if way == "rekey" else FEW):
        path, acknowledged, _ = killer.run(way, at)
        with reopened(path, way, rekeyed=bool(acknowledged)) as lab:
            assert lab.tencent().decrypt(blob) == b"plain"
            assert lab.audit.verify().intact
            assert [p.name for p in path.glob("root.key.*")] == [] or way == "rekey"
        with reopened(path, way, rekeyed=bool(acknowledged)) as lab:
            lab.rotate(key_id)


def reopened(path: Path, way: str, *, rekeyed: bool) -> Lab:
    """The lab, with the one passphrase of two that is its own; the new one once that was said."""
    if way == "rekey":
        return Lab.open(path, clock=ManualClock(START))
    try:
        return Lab.open(path, passphrase="new", clock=ManualClock(START))
    except RootKeyError:
        assert not rekeyed
        return Lab.open(path, passphrase="old", clock=ManualClock(START))
