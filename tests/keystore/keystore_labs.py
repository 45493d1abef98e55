"""Looking at a lab from outside: its rows, its files, and other processes on it."""

from __future__ import annotations

import base64
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import kmslab
from kmslab import Lab
from kmslab.model import Key

SOURCE = Path(kmslab.__file__).parents[1]
SERVANT = Path(__file__).with_name("keystore_servant.py")


@contextmanager
def database(lab: Path) -> Iterator[sqlite3.Connection]:
    """The lab's database, opened by somebody who is not kmslab; what is done is committed."""
    with closing(sqlite3.connect(lab / "lab.db", timeout=20)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        with connection:
            yield connection


def execute(lab: Path, statement: str, *parameters: object) -> int:
    """Run one statement on the lab's database; how many rows it changed."""
    with database(lab) as connection:
        return connection.execute(statement, parameters).rowcount


def rows(lab: Path, table: str, where: str = "1") -> list[dict[str, Any]]:
    """The rows of a table, each with its `place`."""
    with database(lab) as connection:
        connection.row_factory = sqlite3.Row
        query = f"SELECT rowid AS place, * FROM {table} WHERE {where} ORDER BY rowid"
        found = connection.execute(query).fetchall()
        return [dict(row) for row in found]


def replace_rows(lab: Path, table: str, old: list[dict[str, Any]], where: str = "1") -> None:
    """Put rows back as they once were."""
    with database(lab) as connection:
        connection.execute(f"DELETE FROM {table} WHERE {where}")
        for row in old:
            row = {name: value for name, value in row.items() if name != "place"}
            names, marks = ", ".join(f'"{n}"' for n in row), ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [*row.values()])


def copy(lab: Path, to: Path) -> Path:
    """A copy of a closed lab."""
    shutil.copytree(lab, to)
    to.chmod(0o700)
    return to


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


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
    paths = [str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def python(script: str, *args: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, args)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Servant:
    """Another process with the lab open, which does what it is told, line by line."""

    def __init__(self, lab: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(SERVANT), str(lab)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self.answer() == "ready"

    def ask(self, *words: str) -> str:
        """What it says to a line."""
        self.tell(*words)
        return self.answer()

    def tell(self, *words: str) -> None:
        """Give it a line without waiting for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """The next line it says."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._end()
