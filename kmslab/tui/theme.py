"""The themes that `t` goes through: a dark one, a light one, and the terminal's own
colours on dark and on light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

THEMES: Final = ("textual-dark", "textual-light", "ansi-dark", "ansi-light")
"""The themes, in their order; each is tested to be readable."""


def next_theme(now: str) -> str:
    """The theme after this one.

    >>> next_theme("ansi-light"), next_theme("another")
    ('textual-dark', 'textual-dark')
    """
    at = THEMES.index(now) + 1 if now in THEMES else 0
    return THEMES[at % len(THEMES)]


def first_theme(environment: Mapping[str, str]) -> str:
    """A theme that can be read in this terminal: COLORFGBG says whether its background is light.

    >>> first_theme({"COLORFGBG": "0;15"}), first_theme({})
    ('textual-light', 'textual-dark')
    >>> first_theme({"KMSLAB_THEME": "ansi-dark"})
    'ansi-dark'
    """
    named = environment.get("KMSLAB_THEME", "")
    if named in THEMES:
        return named
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return "textual-light" if background in ("7", "15") else "textual-dark"
