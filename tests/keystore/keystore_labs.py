"""Looking at a lab from outside: its rows, its files, and other processes on it."""

from __future__ import annotations

import atexit
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from lab_stores import database

import kmslab
from kmslab import Lab
from kmslab.keystore import schema
from kmslab.model import Key

SOURCE = Path(kmslab.__file__).parents[1]
SERVANT = Path(__file__).with_name("keystore_servant.py")
TABLES = schema.metadata.sorted_tables


PRIMARY = {table.name: [column.name for column in table.primary_key] for table in TABLES}


def execute(lab: Path, statement: str, *parameters: object) -> int:
    """Run one statement on the lab's database; how many rows it changed."""
    with database(lab) as connection:
        changed: int = connection.execute(statement, parameters).rowcount
        return changed


def rows(lab: Path, table: str, where: str = "1 = 1") -> list[dict[str, Any]]:
    """The rows of a table, in the order of their primary keys."""
    with database(lab) as connection:
        found = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchall()
    read = [dict(row) for row in found]
    return sorted(read, key=lambda row: [str(row[name]).zfill(9) for name in PRIMARY[table]])


def set_column(lab: Path, table: str, row: dict[str, Any], column: str, value: object) -> None:
    """Edit one row."""
    names = PRIMARY[table]
    where = " AND ".join(f"{name} = ?" for name in names)
    statement = f"UPDATE {table} SET {column} = ? WHERE {where}"
    assert execute(lab, statement, value, *(row[name] for name in names)) == 1


def replace_rows(lab: Path, table: str, old: list[dict[str, Any]], where: str = "1 = 1") -> None:
    """Put rows back as they once were."""
    with database(lab) as connection:
        connection.execute(f"DELETE FROM {table} WHERE {where}")
        for row in old:
            names, marks = ", ".join(f'"{n}"' for n in row), ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*row.values()])


def spellings(secret: bytes) -> dict[str, bytes]:
    """What `secret` may look like where it leaks: raw, hex, and base64 at each of three offsets."""
    found = {"raw": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + secret)
        found[f"base64+{offset}"] = text[4 if offset else 0 : -4]
    found["repr"] = repr(secret)[2:-1].encode()
    return found


def leaks(secret: bytes, text: bytes) -> list[str]:
    """The spellings in which `secret` is in `text`."""
    return [name for name, spelling in spellings(secret).items() if spelling in text]


def key_of(lab: Lab, key_id: str) -> Key:
    """A key as the lab has it now."""
    return next(key for key in lab.keys() if key.key_id == key_id)


def environment(**more: str) -> dict[str, str]:
    """What a process needs to find kmslab."""
    paths = [str(SOURCE), str(SOURCE / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


@cache
def _nursery() -> str:
    """The socket of a process that has kmslab loaded, and forks one for each connection."""
    place = str(Path(tempfile.mkdtemp()) / "servants")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(SERVANT), place],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.kill()
        process.communicate()
        shutil.rmtree(Path(place).parent)

    atexit.register(end)
    return place


class Program:
    """A script in a process of its own, which had kmslab loaded when it began."""

    def __init__(self, script: str, *args: object, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(120)
        self._socket.connect(_nursery())
        self._answers = self._socket.makefile("r", encoding="utf-8")
        socket.send_fds(self._socket, [b"!"], [stdout.fileno(), stderr.fileno()])
        self._socket.sendall(json.dumps([script, *map(str, args)]).encode() + b"\n")
        self._process = int(self._answers.readline())

    def kill(self) -> None:
        """End it at once."""
        os.kill(self._process, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        with self._socket, self._answers:
            return int(self._answers.readline())


def python(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, until it and what it has forked have ended."""
    with ExitStack() as stack:
        readers, writers = [], []
        for _ in range(2):
            reading, writing = os.pipe()
            readers.append(stack.enter_context(os.fdopen(reading)))
            writers.append(stack.enter_context(os.fdopen(writing, "wb")))
        program = Program(script, *args, stdout=writers[0], stderr=writers[1])
        for writer in writers:
            writer.close()
        said = [reader.read() for reader in readers]
        return subprocess.CompletedProcess(script, program.wait(), *said)


class Servant:
    """Another process with the lab open, which does what it is told, line by line."""

    def __init__(self, lab: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(120)
        self._socket.connect(_nursery())
        self._answers = self._socket.makefile("r", encoding="utf-8")
        self.tell(str(lab))
        self._process = int(self.answer())

    def ask(self, *words: str) -> str:
        """What it says to a line."""
        self.tell(*words)
        return self.answer()

    def tell(self, *words: str) -> None:
        """Give it a line without waiting for the answer."""
        self._socket.sendall(("\t".join(words) + "\n").encode())

    def answer(self) -> str:
        """The next line it says; nothing where it has ended."""
        try:
            return self._answers.readline().rstrip("\n")
        except ConnectionResetError:
            return ""

    def kill(self) -> None:
        """End it at once."""
        os.kill(self._process, signal.SIGKILL)
        self._wait()

    def _wait(self) -> None:
        while self.answer():
            pass
        self._answers.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._answers.closed:
            return
        self._socket.shutdown(socket.SHUT_WR)
        self._wait()
