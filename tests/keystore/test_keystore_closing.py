"""A lab that has been closed is closed, whoever else was at it."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from keystore_labs import python, rows
from lab_stores import files

from kmslab import Lab, ManualClock
from kmslab.errors import (
    KeyNotFound,
    LabClosed,
    LabError,
    LabRolledBack,
    LabUncertain,
    RootKeyError,
)


@pytest.mark.parametrize("where", ["lab", "memory_lab"])
def test_everything_is_refused_after_it(where: str, request: pytest.FixtureRequest) -> None:
    lab: Lab = request.getfixturevalue(where)
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    blob = kms.encrypt(key, b"plain")
    lab.close()
    calls: list[Callable[[], object]] = [
        lab.keys,
        lab.info,
        lab.rekey,
        lab.tencent,
        lab.settings.all,
        lab.faults.all,
        lab.faults.clear,
        lab.credentials.list,
        lab.audit.verify,
        lab.audit.entries,
        lambda: lab.rotate(key),
        lambda: lab.settings.set("balance", 1),
        lambda: lab.credentials.create("app"),
        lambda: lab.export_bundle("nowhere", "x"),
        lambda: lab.import_bundle("nowhere", "x"),
        lambda: lab.seed("nowhere"),
        lambda: kms.encrypt(key, b"plain"),
        lambda: kms.decrypt(blob),
        lambda: kms.create_key("more"),
        lambda: kms.re_encrypt_many([blob]),
        lab._keystore.flush,
        lab._keystore.erase_deleted_bytes,
    ]
    for call in calls:
        if where == "memory_lab" and call in (lab.rekey, lab._keystore.erase_deleted_bytes):
            continue
        if call == lab._keystore.flush:
            call()  # nothing is left to flush
            continue
        with pytest.raises(LabClosed):
            call()


def test_closing_twice_is_no_error(lab: Lab) -> None:
    lab.close()
    lab.close()
    with lab:
        pass


@pytest.mark.sqlite("files of its own")
def test_a_closed_lab_leaves_one_database_file(lab: Lab, lab_path: Path) -> None:
    lab.tencent().create_key("orders")
    lab.close()
    assert set(files(lab_path)) == {".gitignore", "lab.bell", "lab.db", "root.key"}


def test_closing_at_once_in_many_threads(lab: Lab) -> None:
    kms = lab.tencent()
    kms.encrypt(kms.create_key("orders").key_id, b"plain")
    faults: list[str] = []

    def close() -> None:
        try:
            lab.close()
        except Exception as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def work(lab: Lab, key: str, mine: int, answered: list[int], faults: list[str]) -> None:
    """Encrypt until the lab is closed, counting what was answered."""
    try:
        kms = lab.tencent()
        while True:
            kms.encrypt(key, b"plain")
            answered[mine] += 1
    except LabClosed:
        return
    except Exception as error:
        faults.append(repr(error))


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.05, 0.12])
def test_each_call_that_was_answered_is_in_the_log(
    tmp_path: Path, soak: bool, pause: float
) -> None:
    """Closed while others work and the log is being flushed: counted and audited, each call."""
    for number in range(30 if soak else 2):
        path = tmp_path / str(number)
        lab = Lab.create(path)
        key = lab.tencent().create_key("orders").key_id
        answered, faults = [0] * 4, list[str]()

        threads = [
            threading.Thread(target=work, args=(lab, key, mine, answered, faults))
            for mine in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.05 + pause)
        lab.close()
        for thread in threads:
            thread.join()
        assert faults == []
        log = rows(path, "audit")
        audited = sum(row["count"] for row in log if row["action"] == "Encrypt")
        assert sum(answered) <= audited <= sum(answered) + 4
        assert log[-1]["action"] == "EndSession"
        assert rows(path, "versions")[0]["encryptions"] >= sum(answered)


def test_closing_ends_the_thread_of_the_log(lab: Lab) -> None:
    others = {*threading.enumerate()}  # of labs that other tests have left to the collector
    kms = lab.tencent()
    kms.encrypt(kms.create_key("orders").key_id, b"plain")
    (own,) = {*threading.enumerate()} - others
    assert own.name == "kmslab-audit"
    lab.close()
    assert not own.is_alive()


def test_nothing_is_left_open(tmp_path: Path, manual_clock: ManualClock) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(3):
            path = tmp_path / str(number)
            with Lab.create(path, clock=manual_clock) as lab:
                kms = lab.tencent()
                kms.encrypt(kms.create_key("orders").key_id, b"plain")
            with pytest.raises(LabRolledBack):
                Lab.open(path, expect_generation=10**6)
            (path / "root.key").unlink()
            with pytest.raises(RootKeyError):
                Lab.open(path)
        with Lab.in_memory() as memory:
            memory.tencent().create_key("orders")
        del lab, memory, kms
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == []


LEFT_OPEN = """
import gc, os, sys, tracemalloc
from kmslab import Lab
def fds():
    held = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            held.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    with open("/proc/self/maps") as maps:
        return [p for p in held + maps.read().split() if p.startswith(sys.argv[1])]
for _ in range(3):
    lab = Lab.open(sys.argv[1])
    lab.tencent().encrypt(lab.keys()[0].key_id, b"plain")
    assert fds()
    lab.close()
    assert not fds(), fds()
"""


@pytest.mark.sqlite("files of its own")
def test_no_file_is_held_after_it(lab: Lab, lab_path: Path) -> None:
    lab.tencent().create_key("orders")
    lab.close()
    done = python(LEFT_OPEN, lab_path)
    assert done.returncode == 0, done.stderr


def test_a_close_that_cannot_write_closes_all_the_same(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms = lab.tencent()
    kms.encrypt(kms.create_key("orders").key_id, b"plain")

    def fail(*args: object) -> None:
        raise LabError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("kmslab.keystore.writing.write", fail)
        with pytest.raises(LabError, match="full"):
            lab.close()
    lab.close()
    with pytest.raises(LabClosed):
        lab.keys()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert opened.audit.verify().intact
        assert opened.audit.verify().open_ends == 1


def of_kmslab(text: str) -> RuntimeError:
    """An error of somebody else's that was made of one of kmslab's."""
    error = RuntimeError(text)
    error.__cause__ = KeyNotFound("no such key")
    return error


@pytest.mark.parametrize(
    ("first", "stays"),
    [
        (LabUncertain("may have been made"), True),
        (KeyNotFound("no such key"), True),
        (of_kmslab("refused"), True),
        (ValueError("a mistake"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
    ids=repr,
)
def test_what_was_said_before_a_close_that_cannot_write_stays(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, first: BaseException | None, stays: bool
) -> None:
    """It says what became of what was asked for; the other is a note on it."""
    kms = lab.tencent()
    kms.encrypt(kms.create_key("orders").key_id, b"plain")

    def fail(*args: object) -> None:
        raise LabError("the disk is full")

    def leave() -> None:
        with lab:
            monkeypatch.setattr("kmslab.keystore.writing.write", fail)
            if first is not None:
                raise first

    with pytest.raises(type(first) if first is not None and stays else LabError) as raised:
        leave()
    if stays:
        assert raised.value is first
        assert raised.value.__notes__ == ["leaving the lab failed too: the disk is full"]
    else:
        assert str(raised.value) == "the disk is full"
        assert raised.value.__context__ is first
    with pytest.raises(LabClosed):
        lab.keys()


FORGOTTEN = """
import gc
from kmslab import Lab
import sys
def use():
    lab = Lab.open(sys.argv[1])
    kms = lab.tencent()
    for _ in range(3):
        kms.encrypt(lab.keys()[0].key_id, b"plain")
use()
gc.collect()
"""


def test_a_lab_that_was_forgotten_is_closed_at_the_end(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    lab.tencent().create_key("orders")
    lab.close()
    done = python(FORGOTTEN, lab_path)
    assert (done.returncode, done.stderr) == (0, "")
    log = rows(lab_path, "audit")
    assert sum(row["count"] for row in log if row["action"] == "Encrypt") == 3
    assert log[-1]["action"] == "EndSession"
