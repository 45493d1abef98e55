"""The panes, and the keys that are theirs alone; help and docs/tui.md tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Pane:
    """A pane: the class of its widget, what it is called, its keys, a sentence on it."""

    name: str
    widget: str
    title: str
    keys: list[tuple[str, str]]
    about: str = ""


PANES: Final = (
    Pane(
        "tree",
        "KeyTree",
        "The tree of keys",
        [
            ("Up k  Down j", "move"),
            ("Right l  Left h", "show what is under it, hide it"),
            ("Space", "the same, in turn"),
            ("Enter", "show its records"),
            ("g Home  G End", "first, last"),
        ],
        "Count, and the share that is not on the primary version: ● primary, ○ old, ✗ cannot be "
        "used, ◐ archived (it only decrypts), ! soon gone, ? not in this lab.",
    ),
    Pane(
        "records",
        "Grid",
        "The records",
        [
            ("Up k  Down j", "move"),
            ("PgUp PgDn", "a page"),
            ("g Home  G End", "first, last"),
            ("Right l  Left h", "to the side, where there are more columns"),
            ("Space", "mark the record, or take its mark away"),
            ("v", "begin a range; again: mark what is in it; Esc leaves it"),
            ("a", "mark everything that is shown"),
            ("A", "take every mark away, hidden ones too"),
            ("s  S", "sort by the next column, to the first record; reverse"),
            ("Enter", "the record in detail"),
        ],
        "Marks stay with the records whatever is filtered or sorted. A click on a title sorts.",
    ),
    Pane(
        "detail",
        "Detail",
        "The record",
        [("Up k  Down j", "scroll"), ("g  G", "to the beginning, the end"), ("Esc", "back")],
        "What the bytes of a blob say is not proven until it is opened.",
    ),
    Pane(
        "filter",
        "FilterLine",
        "The filter",
        [("Enter", "to the records"), ("Esc", "clear it, and leave it")],
        "Filters while you type: a text, or fields as in  key:orders ver:<3 age:>90d !out:current. "
        "What is wrong filters nothing, and nothing can be marked at once then.",
    ),
)
"""The panes of the records screen."""
