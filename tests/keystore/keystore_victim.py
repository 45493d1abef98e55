"""Changes labs in every way, saying each change once it is acknowledged, and is killed at it."""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kmslab import Lab, ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def say(*words: object) -> None:
    print(*words, flush=True)


def changes(path: str) -> None:
    clock = ManualClock(START)
    with Lab.open(path, clock=clock) as lab:
        kms, other = lab.tencent(), lab.ctyun()
        key = kms.create_key("orders")
        say("created", key.key_id, 1)
        say("rotated", key.key_id, len(lab.rotate(key.key_id).versions))
        say("blob", key.key_id, kms.encrypt(key.key_id, b"plain"))
        say("state", key.key_id, kms.disable_key(key.key_id).state.value)
        say("state", key.key_id, kms.schedule_key_deletion(key.key_id, 7).state.value)
        second = other.create_key(rotation_days=30)
        say("created", second.key_id, 1)
        lab.settings.set("balance", 7)
        say("balance", "-", 7)
        lab.credentials.create("reader")
        say("credential", "-", "reader")
        clock.advance(timedelta(days=70))
        say("rotated", second.key_id, len(other.describe_key(second.key_id).versions))
        say("state", key.key_id, lab.key(key.key_id).state.value)
    say("closed", "-", "-")


def rekey(path: str, passphrase: str | None = None, new: str | None = None) -> None:
    with Lab.open(path, passphrase=passphrase, clock=ManualClock(START)) as lab:
        lab.rekey(new_passphrase=new)
        say("rekeyed", "-", "-")


WAYS: dict[str, Callable[[str], None]] = {
    "changes": changes,
    "rekey": rekey,
    "passphrase": lambda path: rekey(path, "old", "new"),
}


def serve() -> None:
    """For each line `lab way at output count` change that lab in a child that dies at that call.

    Python and kmslab are loaded once; each child is a fork.
    """
    for line in sys.stdin:
        lab, way, at, output, count = line.split()
        child = os.fork()
        if child == 0:
            die_at(lab, way, int(at), output, count)
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))


def die_at(lab: str, way: str, at: int, output: str, count: str) -> None:
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 1)
    killer = ctypes.CDLL(None)
    killer.kill_from(at)
    try:
        WAYS[way](lab)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    calls = killer.kill_calls()
    killer.kill_from(-1)
    Path(count).write_text(str(calls), "ascii")
    os._exit(0)


serve()
