"""Killed at any write, a lab opens, and what was acknowledged is there."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from keystore_labs import environment
from keystore_victim import START, cheap, snapshot
from lab_stores import copy, files

from kmslab import Lab, ManualClock
from kmslab.errors import RootKeyError

pytestmark = pytest.mark.sqlite("kills at the writes of a process")

HERE = Path(__file__).parent
KILLED = 137

Kill = Callable[[str, Path, int, bool], dict[str, Any]]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]) -> Path:
    """kill_at_write.c, compiled."""
    made = tmp_path_factory.mktemp("kill") / "kill_at_write.so"
    command = [require("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(made)]
    subprocess.run([*command, str(HERE / "kill_at_write.c"), "-ldl"], check=True)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every write counts."""
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def kill(library: Path, folder: Path) -> Iterator[Kill]:
    """Runs a script on a lab until its n-th write, and gives what it acknowledged."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "keystore_victim.py")],
        env=environment(LD_PRELOAD=str(library), KILL_UNDER=str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def run(script: str, path: Path, at: int, torn: bool) -> dict[str, Any]:
        stdin.write(f"{script} {path} {at} {int(torn)}\n")
        stdin.flush()
        found: dict[str, Any] = json.loads(stdout.readline())
        assert found["status"] in (0, KILLED), found
        return found

    with process:
        yield run
        stdin.close()


def points(writes: int, sample: int, soak: bool) -> list[int]:
    """The first and last writes, and some or all of those between."""
    every = range(1, writes + 1)
    if soak or writes <= sample:
        return list(every)
    return sorted({1, 2, writes - 1, writes, *random.Random(5).sample(every, sample)})


def said(found: dict[str, Any], name: str) -> list[Any]:
    return [what[name] for what in found["said"] if name in what]


# The changes of the script, as the audit log names them.
ACTIONS = [
    "CreateKey",
    "RotateNow",
    "Set balance",
    "DisableKey",
    "EnableKey",
    "Rekey",
    "RotateNow",
    "CreateCredential",
    "createKey",
    "RotateNow",
    "RevokeCredential",
    "Rekey",
    "scheduleKeyDeletion",
]
NO_CHANGES = {"Encrypt", "BeginSession", "EndSession", "DeletionBegun", "Deleted"}


@pytest.mark.parametrize("torn", [False, True], ids=["before", "half-way"])
def test_a_lab_killed_at_any_write(folder: Path, kill: Kill, torn: bool, soak: bool) -> None:
    template = folder / f"template-{torn}"
    Lab.create(template, clock=ManualClock(START)).close()
    path = folder / f"lab-{torn}"
    (writes,) = said(kill("change", copy(template, path), 0, torn), "writes")
    assert writes > 100
    seen = set()
    for at in points(writes, 6, soak):
        shutil.rmtree(path)
        found = kill("change", copy(template, path), at, torn)
        # How often the log is flushed hangs on the time, and so does which write is the last.
        assert found["status"] == KILLED or at > 0.8 * writes
        seen.add(check(path, found, said(found, "snapshot"), f"write {at}"))
    assert {0, 1} <= seen


def check(path: Path, found: dict[str, Any], acknowledged: list[Any], where: str) -> int:
    """A killed lab against what it acknowledged; how many changes more it has."""
    clock = ManualClock(START)
    with Lab.open(path, clock=clock) as lab:
        audit = lab.audit.verify()
        assert audit.intact, where
        done = [e.action for e in lab.audit.entries() if e.action not in NO_CHANGES]
        assert done == ACTIONS[: len(done)], where
        deleted = bool(said(found, "deleted"))
        more = len(done) - (len(acknowledged) - deleted)
        assert more in (0, 1), where
        if acknowledged and more == 0 and len(done) < len(ACTIONS):
            assert snapshot(lab) == acknowledged[-1], where
        blobs = said(found, "blob")
        if blobs and lab.key("orders").state == "disabled":
            lab.tencent().enable_key(lab.key("orders").key_id)
        for blob in blobs:
            assert lab.tencent().decrypt(blob) == b"plain", where
        made = sum(version.encryptions for key in lab.keys() for version in key.versions)
        assert made >= len(blobs), where
        assert [name for name in files(path) if name.startswith("root.key.")] == [] or (
            done and done[-1] != "Rekey"
        ), where
        if "scheduleKeyDeletion" in done:
            clock.advance(timedelta(days=7))
            states = {key.alias: key.state for key in lab.keys()}
            assert states["gone"] == "deleted", where
        # And it goes on.
        key = lab.tencent().create_key("after")
        lab.rekey()
        lab.rotate(key.key_id)
    with Lab.open(path, clock=clock) as lab:
        assert lab.audit.verify().intact, where
        assert [name for name in files(path) if name.startswith("root.key")] == ["root.key"]
    return more


def test_a_lab_killed_while_it_is_made(folder: Path, kill: Kill, soak: bool) -> None:
    path = folder / "new"
    (writes,) = said(kill("create", path, 0, False), "writes")
    for at in points(writes, 5, soak):
        shutil.rmtree(path, ignore_errors=True)
        found = kill("create", path, at, False)
        assert found["status"] == KILLED
        if not path.exists():
            assert not said(found, "snapshot")
            Lab.create(path).close()
        with Lab.open(path) as lab:
            assert lab.audit.verify().intact
            assert lab.keys() == ()


def test_a_rekey_to_another_passphrase_killed_at_any_write(
    folder: Path, kill: Kill, soak: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmslab.keystore.root.Argon2Parameters", cheap)
    template, path = folder / "sealed", folder / "rekeyed"
    with Lab.create(template, passphrase="0", clock=ManualClock(START)) as lab:
        kms = lab.tencent()
        blob = kms.encrypt(kms.create_key("orders").key_id, b"plain")
    monkeypatch.undo()
    (writes,) = said(kill("rekey_passphrase", copy(template, path), 0, False), "writes")
    opened_with = set()
    for at in points(writes, 5, soak):
        shutil.rmtree(path)
        found = kill("rekey_passphrase", copy(template, path), at, False)
        acknowledged = int((said(found, "passphrase") or ["0"])[-1])
        opens = [number for number in range(3) if does_open(path, str(number))]
        assert opens in ([acknowledged], [acknowledged + 1])
        with Lab.open(path, passphrase=str(opens[0])) as lab:
            assert lab.tencent().decrypt(blob) == b"plain"
            assert lab.audit.verify().intact
        opened_with.update(opens)
    assert opened_with == {0, 1, 2}


def does_open(path: Path, passphrase: str) -> bool:
    try:
        Lab.open(path, passphrase=passphrase).close()
    except RootKeyError:
        return False
    return True


def test_a_process_killed_between_switch_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab is on its new root key, and the key still waits: it opens, and rekeys again."""
    path = tmp_path / "lab"
    with Lab.create(path) as lab:
        kms = lab.tencent()
        blob = kms.encrypt(kms.create_key("orders").key_id, b"plain")
        other = Lab.open(path)
        with monkeypatch.context() as patch:
            patch.setattr("kmslab.keystore.opening.switch_root_key", lambda *args: None)
            lab.rekey()
        assert len(list(path.glob("root.key.*"))) == 1
        # One that is open takes the waiting key, and does not throw it away.
        other.rekey()
        assert other.tencent().decrypt(blob) == b"plain"
        other.close()
    with Lab.open(path) as lab:
        assert lab.tencent().decrypt(blob) == b"plain"
    assert [p.name for p in path.glob("root.key*")] == ["root.key"]


def test_a_rekey_that_fails_half_way_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lab"
    with Lab.create(path) as lab:
        kms = lab.tencent()
        blob = kms.encrypt(kms.create_key("orders").key_id, b"plain")
        with monkeypatch.context() as patch:
            patch.setattr("kmslab.keystore.writing.state.lab_mac", lambda *args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                lab.rekey()
        assert kms.decrypt(blob) == b"plain"
        lab.rotate(lab.keys()[0].key_id)
    with Lab.open(path) as lab:
        assert lab.tencent().decrypt(blob) == b"plain"
        lab.rekey()
    assert [p.name for p in path.glob("root.key*")] == ["root.key"]
