"""What a disk refuses, in words that say what to do about it."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk, or a user's part of it, that is full."""

_FULL: Final = "nothing that was done is lost: make room on its disk, then try again"
_CLOSED: Final = "let this user read and write it and its folder, then try again"
_ADVICE: Final = {
    **dict.fromkeys(FULL, _FULL),
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.EROFS: _CLOSED,
    errno.EIO: "look at its disk, then try again",
    errno.EMFILE: "allow this user more open files (ulimit -n), then try again",
}
_SQLITE_ADVICE: Final = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _CLOSED,
    sqlite3.SQLITE_CANTOPEN: "is its disk full, or its folder closed to this user?",
    sqlite3.SQLITE_IOERR: "is its disk full, or damaged?",
}


def refusal(error: OSError | sqlite3.Error) -> str:
    """What the system said of a file, and what to do; the file is to be named before.

    >>> refusal(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device; nothing that was done is lost: make room on its disk, then try again'
    """
    if isinstance(error, OSError):
        said, advice = error.strerror or str(error), _ADVICE.get(error.errno or 0)
    else:
        # An extended code has the plain one in its last byte.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        said, advice = str(error), _SQLITE_ADVICE.get(code)
    return said if advice is None else f"{said}; {advice}"
