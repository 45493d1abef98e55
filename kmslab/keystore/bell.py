"""How one process tells the others that the lab has changed, in less time than a system call.

`lab.bell` holds 8 bytes that every process on the lab has mapped. Whoever has committed a change
writes 8 random bytes there before the call returns; who finds other bytes than last time looks into
the database. Asking SQLite itself takes 3.7 us a call, and this 0.1 us. It is a hint and no more:
the database is asked anyway, `LOOK_SECONDS` after it was asked last, which covers a process that
was killed before it could ring, and a bell that somebody has deleted or written to.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from kmslab.errors import LabError

BELL_FILE = "lab.bell"
LOOK_SECONDS = 0.05
_SIZE = 8


class Bell:
    """The mapped bytes of one lab."""

    __slots__ = ("_cell",)

    def __init__(self, lab: Path) -> None:
        path = lab / BELL_FILE
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
            try:
                # Written, not only made long: on a full disk a hole that is mapped kills.
                if os.fstat(descriptor).st_size < _SIZE:
                    os.pwrite(descriptor, os.urandom(_SIZE), 0)
                mapped = mmap.mmap(descriptor, _SIZE)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LabError(f"{path} cannot be opened: {error.strerror}") from None
        self._cell = memoryview(mapped).cast("Q")

    def heard(self) -> int:
        """What the bell holds now."""
        return self._cell[0]

    def ring(self) -> None:
        """Say that the lab has changed."""
        self._cell[0] = int.from_bytes(os.urandom(_SIZE), "little")
