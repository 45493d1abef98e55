"""The command line. `kmslab.cli:main` is the program `kmslab`.

stdout is data, stderr is narration, and the exit code says how it went (docs/cli.md).
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line that the process was started with, and exit."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It was closed by whoever started the process.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    try:
        from kmslab.cli.app import app

        app(prog_name="kmslab")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)
