"""A process whose children change a lab until they are killed at a chosen write.

Reads lines of `script path n torn`, forks a child for each, and answers with one line of JSON: the
child's exit status, the number of writes, and what it acknowledged, in order. LD_PRELOAD holds
kill_at_write.c.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from compiled_once import engines_alike

from kmslab import Lab, ManualClock
from kmslab.crypto import Argon2Parameters
from kmslab.keystore import root, sqlite

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)

Say = Callable[..., None]


def cheap(**cost: int) -> Argon2Parameters:
    """What a passphrase costs in these tests: as little as can be."""
    return Argon2Parameters(**(cost or {"iterations": 1, "lanes": 1, "memory_kib": 8}))


def snapshot(lab: Lab) -> dict[str, Any]:
    """What a lab says of itself, as JSON keeps it; counts are reserved ahead and left out."""
    keys = {
        key.key_id: [key.state.value, key.alias, *(v.version_id for v in key.versions)]
        for key in lab.keys()
    }
    credentials = [[c.name, c.revoked_at is None] for c in lab.credentials.list()]
    return {"keys": keys, "settings": lab.settings.all(), "credentials": credentials}


def changes(lab: Lab) -> Iterator[None]:
    """One change after the other, of every kind."""
    kms, ctyun = lab.tencent(), lab.ctyun()
    key = kms.create_key("orders").key_id
    yield
    lab.rotate(key)
    yield
    lab.settings.set("balance", 7)
    yield
    kms.disable_key(key)
    yield
    kms.enable_key(key)
    yield
    lab.rekey()
    yield
    lab.rotate(key)
    yield
    lab.credentials.create("app")
    yield
    gone = ctyun.create_key(alias="gone").key_id
    yield
    lab.rotate(gone)
    yield
    lab.credentials.revoke("app")
    yield
    lab.rekey()
    yield
    ctyun.schedule_key_deletion(gone, 7)
    yield


def change(path: str, say: Say) -> None:
    """Change a lab, use its first key in between, and let a deletion fall due at the end."""
    clock = ManualClock(START)
    with Lab.open(path, clock=clock) as lab:
        for _ in changes(lab):
            say(snapshot=snapshot(lab))
            if lab.settings.all()["balance"] == 7 and lab.keys()[0].state == "enabled":
                say(blob=lab.tencent().encrypt(lab.key("orders").key_id, b"plain"))
        clock.advance(7 * DAY)
        say(snapshot=snapshot(lab), deleted=True)


def create(path: str, say: Say) -> None:
    """Make a lab."""
    with Lab.create(path, clock=ManualClock(START)) as lab:
        say(snapshot=snapshot(lab))


def rekey_passphrase(path: str, say: Say) -> None:
    """Give a lab two other passphrases, one after the other."""
    root.Argon2Parameters = cheap  # type: ignore[assignment,misc]
    with Lab.open(path, passphrase="0", clock=ManualClock(START)) as lab:
        for number in ("1", "2"):
            lab.rekey(new_passphrase=number)
            say(passphrase=number)


SCRIPTS: dict[str, Callable[[str, Say], None]] = {
    "change": change,
    "create": create,
    "rekey_passphrase": rekey_passphrase,
}


def warm_up() -> None:
    """Have what every lab needs loaded and compiled, so that no child has to."""
    sqlite.create_engine = engines_alike()  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder, Lab.create(folder) as lab:
        for _ in changes(lab):
            snapshot(lab)


def main() -> None:
    warm_up()
    library = ctypes.CDLL(None)
    library.writes_so_far.restype = ctypes.c_long
    for line in sys.stdin:
        script, path, at, torn = line.split()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            library.kill_at(ctypes.c_long(int(at)), int(torn))
            say = partial(acknowledge, writing)
            try:
                SCRIPTS[script](path, say)
                say(writes=library.writes_so_far())
                os._exit(0)
            except BaseException as error:
                say(error=repr(error))
                os._exit(1)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = [json.loads(text) for text in pipe]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"status": status, "said": said}), flush=True)


def acknowledge(pipe: int, **what: object) -> None:
    """Say, in one write, that something has been done."""
    os.write(pipe, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    main()
