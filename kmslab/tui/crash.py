"""What is kept of an error that nobody foresaw: where it came about, and nothing that it held."""

from __future__ import annotations

import os
import platform
import secrets
import traceback
from datetime import UTC, datetime
from pathlib import Path

from kmslab import __version__


def write_crash(error: BaseException, folder: Path) -> Path | None:
    """Write the frames of an error to a new file (0600), and give its path; None where none can be.

    Neither the error's own text nor a variable is written: either may hold a plaintext.
    """
    now = datetime.now(UTC)
    path = folder / f"tui-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.log"
    lines = [f"kmslab {__version__}, Python {platform.python_version()}, {now.isoformat()}\n"]
    found: BaseException | None = error
    while found is not None:
        lines.append(f"\n{type(found).__module__}.{type(found).__qualname__}\n")
        for frame in traceback.extract_tb(found.__traceback__):
            lines.append(f"  {frame.filename}:{frame.lineno} in {frame.name}\n")
        found = found.__cause__ or found.__context__
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError:
        return None
    return path
