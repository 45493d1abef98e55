"""How one process tells the others that the lab has changed.

`lab.bell` holds 8 bytes. Whoever has committed a change, of more than the audit log, writes 8
random ones there before the call returns; who reads other bytes than last time looks into the
database. Asking SQLite itself takes 3.7 us a call, and this 0.5 us. It is a hint and no more: the
keystore asks the database anyway, `look_seconds` after it asked last, which covers a process that
was killed before it could ring, and a bell that somebody has deleted, cut or written to.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from kmslab.errors import LabError

BELL_FILE = "lab.bell"
_SIZE = 8


class Bell:
    """The 8 bytes of one lab. `heard()` gives what the bell holds now."""

    __slots__ = ("__weakref__", "_descriptor", "_finalizer", "heard")

    look_seconds = 0.05

    def __init__(self, lab: Path) -> None:
        path = lab / BELL_FILE
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise LabError(f"{path} cannot be opened: {error.strerror}") from None
        # Every call of a lab listens, so nothing stands between it and the system.
        self.heard: Callable[[], bytes] = partial(os.pread, self._descriptor, _SIZE, 0)
        self._finalizer = weakref.finalize(self, os.close, self._descriptor)

    def ring(self) -> None:
        """Say that the lab has changed."""
        # A full disk does not matter: who hears nothing looks into the database soon.
        with suppress(OSError):
            os.pwrite(self._descriptor, os.urandom(_SIZE), 0)
