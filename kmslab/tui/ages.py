"""How long ago, in a few letters, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

UNITS: Final[Mapping[str, int]] = {
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 604_800,
    "y": 31_536_000,
}
"""The units of ages in seconds; a year has 365 days (lab's choice)."""

_AGE: Final = re.compile(rf"([0-9]{{1,9}})([{''.join(UNITS)}])")


def seconds_of(text: str) -> int | None:
    """The seconds of an age such as 90d; None for a text that is none.

    >>> seconds_of("2h"), seconds_of("1y") == seconds_of("365d"), seconds_of("2")
    (7200, True, None)
    """
    found = _AGE.fullmatch(text.lower())
    return None if found is None else int(found[1]) * UNITS[found[2]]


def age_text(seconds: float) -> str:
    """An age in one unit, rounded down, in at most five letters for the first 2,700 years.

    Days go on to 9,999, so that what is in one column can be compared.

    >>> [age_text(n) for n in (59, 3_700, 7_200, 400 * 86_400, 30 * 31_536_000, -5)]
    ['59s', '61m', '2h', '400d', '30y', '-5s']
    """
    size = abs(seconds)
    if size < 120:
        unit = "s"
    elif size < 7_200:
        unit = "m"
    elif size < 2 * 86_400:
        unit = "h"
    elif size < 10_000 * 86_400:
        unit = "d"
    else:
        unit = "y"
    return f"{'-' if seconds < 0 else ''}{int(size // UNITS[unit])}{unit}"
