"""What the tests of the command line say of it, and how they run it in a process of its own."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any

import warm

if TYPE_CHECKING:
    from typer.testing import Result

Run = Callable[..., "Result"]
"""Run the command line with these arguments; `stdin=` and variables of the environment by name."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command at work."""

    pid: int
    told: socket

    def wait(self) -> int:
        """Its exit code, or the negative number of the signal that ended it."""
        return warm.ended(self.told)


@dataclass(frozen=True, slots=True)
class Warm:
    """Runs commands in processes of their own, which need not load anything (see `warm.py`).

    All that only a process shows is as it is: streams, terminals, signals, exit codes.
    """

    path: str

    def start(self, args: Sequence[str], *streams: int | None, **how: Any) -> Command:
        """Start a command with its stdin, stdout and stderr; None is a closed one."""
        given = {name: fd for name, fd in zip(warm.STREAMS, streams, strict=True) if fd is not None}
        told, pid = warm.ask(self.path, list(args), given, **how)
        return Command(pid, told)

    def run(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(stdin)
            given.seek(0)
            read, write = os.pipe()
            command = self.start(args, given.fileno(), write, said.fileno())
            os.close(write)
            with open(read, "rb") as stream:  # noqa: PTH123
                out = stream.read()
            code = command.wait()
            said.seek(0)
            return subprocess.CompletedProcess(args, code, out, said.read())

    def at_terminal(
        self, args: Sequence[str], typed: Sequence[bytes], prompt: bytes = b": ", before: str = ""
    ) -> tuple[int, str]:
        """Run at a terminal, typing a line whenever a prompt is there; exit code and screen."""
        controller, terminal = pty.openpty()
        command = self.start(args, terminal, terminal, terminal, terminal=True, before=before)
        os.close(terminal)
        screen, lines = b"", list(typed)
        while True:
            try:
                data = os.read(controller, 4096)
            except OSError:
                break
            if not data:
                break
            screen += data
            if lines and screen.endswith(prompt):
                os.write(controller, lines.pop(0) + b"\n")
        os.close(controller)
        return command.wait(), screen.decode().replace("\r\n", "\n")

    @property
    def shell_function(self) -> str:
        """What gives a shell the command `kmslab`."""
        client = f'"{sys.executable}" -I -S "{warm.__file__}" run "{self.path}"'
        return f'kmslab() {{ {client} "$@"; }}'


@contextmanager
def warmed(path: Path) -> Iterator[Warm]:
    """A process that has everything loaded, listening at this path."""
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, warm.__file__, "serve", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | settings,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Warm(str(path))
