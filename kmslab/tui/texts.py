"""Values as the explorer shows them. Everything here is data of users: none of it is markup."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from kmslab.campaign.rendering import duration as duration
from kmslab.campaign.rendering import moment as moment
from kmslab.campaign.rendering import visible as visible
from kmslab.errors import CampaignInterrupted, KmsError, KmslabError
from kmslab.model import Key, KeyState, KeyVersion

UNKNOWN: Final = "not known"


def told(error: KmslabError) -> str:
    """An error with the provider's code, the request that it answers, and its notes.

    >>> told(KmsError("no such key"))
    'KmsError: no such key'
    """
    text = str(error)
    if isinstance(error, KmsError) and not isinstance(error, CampaignInterrupted):
        request = f" (request {error.request_id})" if error.request_id else ""
        text = f"{error.code or type(error).__name__}: {text}{request}"
    return " ".join([text, *getattr(error, "__notes__", ())])


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


_BETWEEN: Final = 2
_LEAST: Final = 4
_LEAST_WRAPPED: Final = 24


def table(
    columns: list[str],
    rows: list[list[str]],
    width: int,
    *,
    right: frozenset[int] = frozenset(),
    wrapped: bool = False,
) -> Text:
    """A small table as text of so many cells in a line.

    Columns of `right` stand to the right, and are never cut. Where there is too little room, the
    widest of the others are cut; with `wrapped` the last one goes on in further lines, below the
    row where too little is left beside it.

    >>> print(table(["KEY", "RECORDS"], [["orders-of-2024", "7"]], 16, right=frozenset({1})).plain)
    KEY      RECORDS
    orders…        7
    >>> print(table(["WHAT", "WHY"], [["a", "one two three four"]], 20, wrapped=True).plain)
    WHAT
    a
      one two three four
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    widths = [
        max([cell_len(name), *(cell_len(row[at]) for row in cells)])
        for at, name in enumerate(columns)
    ]
    last = widths.pop() if wrapped else 0
    _narrow(widths, width, right)
    start = sum(widths) + _BETWEEN * len(widths)
    beside = wrapped and (start + last <= width or width - start >= _LEAST_WRAPPED)
    found = Text()
    found.append(_line(columns if beside or not wrapped else columns[:-1], widths, right), "bold")
    for row in cells:
        line = _line(row[: len(widths)], widths, right)
        if wrapped:
            indent = start if beside else _BETWEEN
            others = [" " * indent + part for part in _parts(row[-1], width - indent)]
            if beside and others:
                line = set_cell_size(line, start) + others.pop(0)[start:]
            line = "\n".join([line.rstrip(), *others])
        found.append(f"\n{line}")
    return found


def _narrow(widths: list[int], width: int, right: frozenset[int]) -> None:
    """Take cells from the widest columns until all of them fit."""
    cut = [at for at in range(len(widths)) if at not in right]
    while sum(widths) + _BETWEEN * (len(widths) - 1) > width:
        widest = max(cut, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _LEAST:
            return
        widths[widest] -= 1


def _line(row: list[str], widths: list[int], right: frozenset[int]) -> str:
    cells = []
    for at, (cell, width) in enumerate(zip(row, widths, strict=False)):
        blank = " " * (width - cell_len(cell))
        cells.append(blank + cell if at in right else fitted(cell, width))
    cells += row[len(widths) :]
    return (" " * _BETWEEN).join(cells).rstrip()


def _parts(text: str, width: int) -> list[str]:
    """The lines of a text that are no wider than this; a word that is wider is cut."""
    found: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            word = word if cell_len(word) <= width else fitted(word, width)
            longer = f"{line} {word}" if line else word
            if line and cell_len(longer) > width:
                found.append(line)
                longer = word
            line = longer
        found.append(line)
    return found if text else []


def heading(title: str) -> Text:
    """A title above a part of a text."""
    found = Text()
    found.append(title, "bold underline")
    return found
