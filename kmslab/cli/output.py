"""What commands print. stdout is data, in one of three dresses; stderr is narration.

On a terminal tables are laid out by rich, in a pipe as aligned plain text; both show everything,
however long, and neither lets a value control the terminal. JSON is indented on a terminal and
one line elsewhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any


def narrate(text: str) -> None:
    """Say something to whoever watches."""
    print(printable(text), file=sys.stderr)


def narrate_text(text: str) -> None:
    """A sentence or two to whoever watches, parted between words on a terminal."""
    if not sys.stderr.isatty():
        narrate(text)
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False, markup=False, emoji=False).print(Text(printable(text)))


def write_line(text: str) -> None:
    """One value, for a script to take."""
    print(printable(text))


def write_json(value: Any) -> None:
    """A result as JSON: dataclasses become objects, times ISO 8601 in UTC."""
    print(json_text(value, indent=sys.stdout.isatty()))


def json_text(value: Any, *, indent: bool = False) -> str:
    """The text of `write_json`, in ASCII alone where stdout is not UTF-8."""
    utf_8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(plain(value), ensure_ascii=not utf_8, indent=2 if indent else None)


def write_fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    from kmslab.cli.tables import plain_lines

    for line in plain_lines([[name, shown(value)] for name, value in pairs]):
        print(line)


def write_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, whole: int = 36
) -> None:
    """A table with a header. Columns of numbers stand to the right.

    On a terminal that is too narrow cells are folded, words of up to `whole` letters last.
    """
    from kmslab.cli.tables import plain_lines, print_fitted

    values = [list(row) for row in rows]
    right = {at for at in range(len(columns)) if _are_numbers(row[at] for row in values)}
    if sys.stdout.isatty():
        # A time may be parted there, between date and hour.
        cells = [[shown(value, between=" ") for value in row] for row in values]
        print_fitted(columns, cells, right, whole)
        return
    for line in plain_lines([columns, *([shown(value) for value in row] for row in values)], right):
        print(line)


def write_text(text: str) -> None:
    """A sentence or two, parted between words on a terminal."""
    if not sys.stdout.isatty():
        print(printable(text))
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, markup=False, emoji=False).print(Text(printable(text)))


def shown(value: object, *, between: str = "T") -> str:
    """A value as a cell shows it; `between` parts the date of a time from the hour."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).strftime(f"%Y-%m-%d{between}%H:%M:%SZ")
        case _:
            return one_line(str(value))


def one_line(text: str) -> str:
    """A text as one line: `printable`, and its ends of lines shown as escapes too.

    >>> one_line("orders\\nno row")
    'orders\\\\nno row'
    """
    return printable(text).replace("\n", "\\n")


def printable(text: str) -> str:
    """A text without letters that a terminal obeys: those are shown as escapes.

    >>> printable("orders\\x1b[31m")
    'orders\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def plain(value: Any) -> Any:
    """A value as JSON takes it."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return value.value
        case str():
            return value
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
        case bytes():
            raise TypeError("bytes are not written as JSON by chance")
        case Iterable():
            return [plain(item) for item in value]
        case _:
            return str(value)


def _are_numbers(values: Iterable[object]) -> bool:
    kinds = {type(value) for value in values if value is not None}
    return kinds == {int}
