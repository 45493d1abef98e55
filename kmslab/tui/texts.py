"""Values as the explorer shows them. Everything here is data of users: none of it is markup."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from kmslab.campaign.rendering import duration as duration
from kmslab.campaign.rendering import moment as moment
from kmslab.campaign.rendering import visible as visible
from kmslab.model import Key, KeyState, KeyVersion

UNKNOWN: Final = "not known"

_FULL: Final = "█"
_EMPTY: Final = "░"


def fitted(text: str, width: int) -> str:
    """A text in just so many cells: padded, or cut with an ellipsis.

    >>> fitted("订单orders", 6), fitted("a", 3)
    ('订单o…', 'a  ')
    """
    shown = visible(text)
    if cell_len(shown) > width > 0:
        return set_cell_size(set_cell_size(shown, width - 1).rstrip(" ") + "…", width)
    return set_cell_size(shown, max(width, 0))


def bar(share: float, width: int) -> str:
    """A share of 0 to 1 as a bar. What is not nothing shows, and what is not all does not fill it.

    >>> bar(0.5, 4), bar(0.001, 4), bar(0.999, 4), bar(0, 2)
    ('██░░', '█░░░', '███░', '░░')
    """
    full = round(share * width)
    if share > 0:
        full = max(full, 1)
    if share < 1:
        full = min(full, width - 1)
    return _FULL * full + _EMPTY * (width - full)


def percent(share: float) -> str:
    """A share as it is said; only nothing is 0 %, and only all is 100 %.

    >>> percent(0.004), percent(0.5), percent(0.999)
    ('1%', '50%', '99%')
    """
    if 0 < share < 0.01:
        return "1%"
    if 0.99 < share < 1:
        return "99%"
    return f"{share:.0%}"


def records(count: int) -> str:
    """A number of records.

    >>> records(1), records(1200)
    ('1 record', '1,200 records')
    """
    return "1 record" if count == 1 else f"{count:,} records"


def short(identifier: str) -> str:
    """An id by its beginning, where an alias would stand."""
    return visible(identifier[:8]) + "…" if len(identifier) > 9 else visible(identifier)


def short_moment(at: datetime | None) -> str:
    """A day, where the hour does not matter."""
    return "-" if at is None else at.strftime("%Y-%m-%d")


_STATES: Final = {
    KeyState.ENABLED: "●",
    KeyState.ARCHIVED: "◐",
    KeyState.PENDING_IMPORT: "!",
    KeyState.PENDING_DELETION: "!",
    KeyState.DISABLED: "✗",
    KeyState.DELETED: "✗",
}


def key_mark(key: Key) -> str:
    """A sign for a key's state; the word stands beside it where the key can be used no more.

    >>> from types import SimpleNamespace
    >>> key_mark(SimpleNamespace(state=KeyState.DISABLED))
    '✗'
    """
    return _STATES[key.state]


def version_mark(key: Key, version: KeyVersion) -> str:
    """A sign for a version: the primary one, an old one, one without material."""
    if not version.has_material:
        return "✗"
    return "●" if version.version_id == key.primary_version_id else "○"


def fields(pairs: list[tuple[str, str]]) -> Text:
    """Names and values, one pair a line; values are shown as they are, whatever they hold."""
    width = max((cell_len(name) for name, _ in pairs), default=0)
    found = Text()
    for at, (name, value) in enumerate(pairs):
        if at:
            found.append("\n")
        found.append(set_cell_size(name, width + 2), "bold")
        found.append(visible(value))
    return found


def table(
    columns: list[str], rows: list[list[str]], *, right: frozenset[int] = frozenset()
) -> Text:
    """A small table as text; columns of `right` stand to the right."""
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [
        max([cell_len(name), *(cell_len(row[at]) for row in cells)])
        for at, name in enumerate(columns)
    ]
    found = Text()
    found.append(_line(columns, widths, right), "bold")
    for row in cells:
        found.append(f"\n{_line(row, widths, right)}")
    return found


def _line(row: list[str], widths: list[int], right: frozenset[int]) -> str:
    cells = []
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        blank = " " * (width - cell_len(cell))
        cells.append(blank + cell if at in right else cell + blank)
    return "  ".join(cells).rstrip()


def heading(title: str) -> Text:
    """A title above a part of a text."""
    found = Text()
    found.append(title, "bold underline")
    return found
