"""Rows of JSONL files, and how one changes while all other text stays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NoReturn

from kmslab.errors import FormatError, SourceError
from kmslab.model import Record
from kmslab.records.changes import new_values, no_column
from kmslab.records.layout import Reading
from kmslab.records.replacing import explained
from kmslab.records.source import ABSENT, MOVED_FIELDS, Change, Nothing, Value
from kmslab.records.text import MAX_ROW_BYTES, Lines

_FIRST_OBJECTS: Final = 1_000
"""The objects whose members tell which fields a file has."""

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_TEXT: Final = frozenset({str, type(None)})


def _refuse_constant(name: str) -> NoReturn:
    raise FormatError(f"{name}, which JSON does not know")


# An object becomes a tuple of its members: so one is told from a list, and a member that is there
# twice is seen.
_DECODER: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_constant=_refuse_constant)


class JsonRows:
    """The rows of an open JSONL file: one JSON object a line, its members the columns.

    A member that is not there, or null, is an empty cell. `record_id`, `owner` and `account` may be
    integers, `created_at` a number of seconds; everything else is a string, the context too: it is
    an exact text, and the text of an object is not kept by all that reads and writes it.

    >>> from io import BytesIO
    >>> rows = JsonRows(
    ...     BytesIO(b'{"record_id": 7, "ciphertext_blob": "a21z"}'),
    ...     "orders.jsonl",
    ...     Reading(provider="ctyun"),
    ... )
    >>> [record.record_id for record, raw in rows if record]
    ['7']
    """

    __slots__ = ("_at", "_lines", "_names", "_record", "_source", "_types")

    def __init__(self, file: BinaryIO, source: str, reading: Reading) -> None:
        self._source = source
        self._lines = Lines(file, source, row=1)
        self._names = reading.names
        layout = reading.layout(self._names)
        self._record = layout.record
        self._at = {field: self._names[at] for field, at in layout.at.items()}
        also = {name: _TEXT | {int} for name in ("record_id", "owner", "account")}
        also["created_at"] = _TEXT | {int, float}
        of_name = {self._at[field]: also.get(field, _TEXT) for field in self._at}
        # What only a template reads may be a number too.
        self._types = [of_name.get(name, _TEXT | {int, float}) for name in self._names]

    def __iter__(self) -> Iterator[tuple[Record | None, bytes]]:
        lines = self._lines
        names, make = self._names, self._record
        try:
            for text in lines:
                raw = lines.taken()
                if lines.mark:
                    yield None, lines.mark
                    lines.mark = b""
                if text.isspace():
                    yield None, raw
                    continue
                get = dict(self._parsed(text)).get
                cells = [get(name) for name in names]
                if not _TEXT.issuperset(map(type, cells)):
                    cells = self._as_text(cells)
                if "\\u" in text:
                    _check_characters(names, cells)
                yield make(cells, lines.row), raw
                lines.row += 1
        except FormatError as error:
            raise lines.error(str(error)) from None
        if lines.mark:
            yield None, lines.mark

    def first_names(self) -> frozenset[str]:
        """The names of the members of the first 1,000 objects."""
        lines = self._lines
        names: set[str] = set()
        try:
            for text in lines:
                lines.taken()
                if text.isspace():
                    continue
                names.update(name for name, _ in self._parsed(text))
                lines.row += 1
                if lines.row > _FIRST_OBJECTS:
                    break
        except FormatError as error:
            raise lines.error(str(error)) from None
        return frozenset(names)

    def _parsed(self, text: str) -> tuple[tuple[str, Any], ...]:
        """The members of the object in a line."""
        try:
            row = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            raise FormatError(f"not JSON: {error.msg} at character {error.colno}") from None
        except FormatError:
            raise
        except (ValueError, RecursionError):  # a number of very many digits; very deep nesting
            raise FormatError("a number too long, or nesting too deep, to be read") from None
        if not isinstance(row, tuple):
            raise FormatError("not a JSON object; each line is one object")
        if len(dict(row)) != len(row):
            names = [name for name, _ in row]
            double = next(name for name in names if names.count(name) > 1)
            raise FormatError(f"member {double[:60]!r} is there twice")
        return row

    def _as_text(self, cells: Sequence[Any]) -> list[str | None]:
        """Cells that are not all text; FormatError for a type that does not belong there."""
        for name, types, cell in zip(self._names, self._types, cells, strict=True):
            if type(cell) not in types:
                hint = ""
                if name == self._at.get("context"):
                    hint = (
                        "; the context is given letter by letter as the blob was made with it,"
                        ' as the text of a string: "{\\"app\\":\\"orders\\"}"'
                    )
                raise FormatError(f"member {name!r} is {_kind(cell)} and not a string{hint}")
        return [cell if cell is None else str(cell) for cell in cells]

    def changed(self, raw: bytes, change: Change) -> bytes | None:
        """The bytes of a row after a change: see `TextRows`.

        Only the text of members that change is other. What is None becomes null; a member that
        was not there is put at the end of the object, and one that is to be ABSENT is taken out.
        """
        text = raw.decode("utf-8")
        row = dict(_DECODER.decode(text))
        new: dict[str, Value] = {}
        held = True
        for field, old, value in new_values(change):
            name = self._at.get(field)
            if name is None:
                raise no_column(self._source, field)
            cell = row.get(name)
            held = held and ("" if cell is None else str(cell)) == (old or "")
            if value != old and value != row.get(name, ABSENT):
                new[name] = value
        if not held:
            return None
        if not new:
            return raw
        expected = {k: v for k, v in (row | new).items() if v is not ABSENT}
        changed = _with_members(text, new)
        self._check(changed, expected, change)
        return changed.encode("utf-8")

    def nothing(self, raw: bytes) -> Mapping[str, Nothing]:
        """Which of MOVED_FIELDS are an empty text, and which the row has no member for."""
        row = dict(_DECODER.decode(raw.decode("utf-8")))
        names = {field: self._at[field] for field in MOVED_FIELDS if field in self._at}
        found = {field: row.get(name, ABSENT) for field, name in names.items()}
        return {field: cell for field, cell in found.items() if cell == "" or cell is ABSENT}

    def _check(self, text: str, expected: dict[str, Any], change: Change) -> None:
        """Hold that a changed row will be read as it is meant."""
        try:
            right = self._parsed(text) == tuple(expected.items())
            right = right and len(text.encode("utf-8")) <= MAX_ROW_BYTES
        except (FormatError, UnicodeEncodeError):
            right = False
        if not right:
            raise SourceError(
                f"{self._source}, row {change.place}: the new values cannot be written as JSON",
                source=self._source,
            )


def jsonl_names(path: Path, reading: Reading) -> frozenset[str]:
    """The names of the members that the first 1,000 objects of a JSONL file have."""
    with explained(path), path.open("rb") as file:
        return JsonRows(file, str(path), reading).first_names()


def _check_characters(names: Sequence[str], cells: Sequence[str | None]) -> None:
    """FormatError for text with half a surrogate pair, which only an escape can bring in."""
    for name, cell in zip(names, cells, strict=True):
        try:
            (cell or "").encode("utf-8")
        except UnicodeEncodeError:
            raise FormatError(f"member {name!r} holds half a surrogate pair") from None


def _kind(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case tuple():
            return "an object"
        case _:
            return "a list"


def _with_members(text: str, new: Mapping[str, Value]) -> str:
    """The text of an object with other values of some members, and without those ABSENT."""
    # What was written without other characters than ASCII stays so.
    ascii_only = text.isascii()
    values = {
        name: None if value is ABSENT else json.dumps(value, ensure_ascii=ascii_only)
        for name, value in new.items()
    }
    pieces, kept = [], 0
    stays = 0  # the end of the last member that stays; 0 for none
    at = _after_space(text, text.index("{") + 1)
    while values and text[at] != "}":
        first = at
        name, at = _DECODER.raw_decode(text, at)
        start = _after_space(text, text.index(":", at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
        if name not in values:
            stays = end
        elif (value := values.pop(name)) is not None:
            pieces += [text[kept:start], value]
            kept = stays = end
        elif stays:  # it goes with the comma before it
            pieces.append(text[kept:stays])
            kept = end
        else:  # it goes with the comma behind it, if there is one
            pieces.append(text[kept:first])
            kept = end if text[at] == "}" else at
    added = [
        f"{json.dumps(name, ensure_ascii=ascii_only)}: {value}"
        for name, value in values.items()
        if value is not None
    ]
    if added:
        at = len(text[:at].rstrip(" \t\r\n"))
        pieces += [text[kept:at], ", " if stays else "", ", ".join(added)]
        kept = at
    return "".join([*pieces, text[kept:]])


def _after_space(text: str, at: int) -> int:
    if text[at] not in " \t\r\n":
        return at
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
