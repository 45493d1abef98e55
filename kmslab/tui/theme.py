"""The themes that `t` goes through: a dark one, a light one, and the terminal's own
colours on dark and on light."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

THEMES: Final = ("textual-dark", "textual-light", "ansi-dark", "ansi-light")
"""The themes, in their order; each is tested to be readable."""


def themes(*, coloured: bool) -> tuple[str, ...]:
    """Those that there are. Without colours a terminal's own ones are all black to Textual."""
    return THEMES if coloured else tuple(t for t in THEMES if not t.startswith("ansi"))


def next_theme(now: str, *, coloured: bool = True) -> str:
    """The theme after this one.

    >>> next_theme("ansi-light"), next_theme("another")
    ('textual-dark', 'textual-dark')
    >>> next_theme("textual-light"), next_theme("textual-light", coloured=False)
    ('ansi-dark', 'textual-dark')
    """
    there = themes(coloured=coloured)
    return there[(there.index(now) + 1) % len(there)] if now in there else there[0]


def first_theme(environment: Mapping[str, str], *, coloured: bool = True) -> str:
    """A theme that can be read in this terminal: COLORFGBG says whether its background is light.

    >>> first_theme({"COLORFGBG": "0;15"}), first_theme({})
    ('textual-light', 'textual-dark')
    >>> first_theme({"KMSLAB_THEME": "ansi-light"})
    'ansi-light'
    >>> first_theme({"KMSLAB_THEME": "ansi-light"}, coloured=False)
    'textual-light'
    """
    named = environment.get("KMSLAB_THEME", "")
    if named in THEMES:
        return named if coloured else named.replace("ansi", "textual")
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return "textual-light" if background in ("7", "15") else "textual-dark"
