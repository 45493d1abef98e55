"""From what a provider answers to what goes over the wire, whatever happens on the way."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any, Final

OK: Final = "OK"

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


def encoded(envelope: dict[str, Any]) -> bytes:
    """An envelope as JSON in ASCII, which a text with half a surrogate pair cannot break."""
    return _ENCODE(envelope).encode("ascii")


def problem_of(error: Exception) -> str:
    """The kind of an unexpected error and where it arose; its text may hold anything.

    >>> problem_of(ValueError("secret"))
    'ValueError'
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
