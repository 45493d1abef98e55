"""What the tests of the command line say of it."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence

from typer.testing import Result

Run = Callable[..., Result]
"""Run the command line with these arguments; `stdin=` and variables of the environment by name."""


def at_terminal(
    args: Sequence[str], typed: Sequence[bytes], prompt: bytes = b": "
) -> tuple[int, str]:
    """Run at a terminal, typing a line whenever a prompt is there; exit code and screen."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _AT_TERMINAL, *args],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
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
    return process.wait(timeout=60), screen.decode().replace("\r\n", "\n")


# The new session takes the terminal as its own, as a shell's child would have it.
_AT_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv[0] = "kmslab"
from kmslab.cli import main
main()
"""
