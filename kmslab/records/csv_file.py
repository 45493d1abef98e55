"""Rows of CSV files, and how one changes while all others keep their bytes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from kmslab.errors import FormatError, SourceError
from kmslab.model import Record
from kmslab.records.changes import new_values, no_column
from kmslab.records.layout import Layout, Reading
from kmslab.records.replacing import explained
from kmslab.records.source import Change, Nothing
from kmslab.records.text import MAX_ROW_BYTES, USUAL_ROW, Lines

_QUOTED: Final = re.compile(r'"[^"]*(?:""[^"]*)*"')
_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]')


class CsvRows:
    """The rows of an open CSV file; the first names the columns, which are `header` then.

    >>> from io import BytesIO
    >>> rows = CsvRows(
    ...     BytesIO(b"record_id,ciphertext_blob\\n1,a21z\\n"),
    ...     "orders.csv",
    ...     Reading(provider="ctyun"),
    ... )
    >>> [raw for record, raw in rows if record]
    [b'1,a21z\\n']
    """

    __slots__ = ("_lines", "_reader", "_reading", "_source", "layout")

    def __init__(self, file: BinaryIO, source: str, reading: Reading) -> None:
        self._source = source
        self._reading = reading
        self._lines = Lines(file, source, row=0, long=_allow_long_rows)
        # strict: a quote that is never closed is an error, and does not swallow the file
        self._reader = csv.reader(self._lines, strict=True)
        self.layout: Layout | None = None

    def __iter__(self) -> Iterator[tuple[Record | None, bytes]]:
        lines = self._lines
        layout = self.read_header()
        yield None, lines.mark + lines.taken()
        record, width = layout.record, layout.width
        try:
            for cells in self._reader:
                raw = lines.taken()
                if not cells:
                    yield None, raw
                    continue
                if len(cells) != width:
                    raise lines.error(f"{len(cells)} cells where the header has {width}")
                yield record(cells, lines.row), raw
                lines.row += 1
        except csv.Error as error:
            raise lines.error(_why_malformed(error)) from None
        except FormatError as error:
            raise lines.error(str(error)) from None

    def read_header(self) -> Layout:
        """The layout that the first row gives."""
        try:
            header = next(filter(None, self._reader), None)
            if header is None:
                raise self._lines.error("the file is empty; its first row names the columns")
            self.layout = self._reading.layout(header)
        except csv.Error as error:
            raise self._lines.error(_why_malformed(error)) from None
        except FormatError as error:
            raise self._lines.error(str(error)) from None
        self._lines.row = 1
        return self.layout

    def changed(self, raw: bytes, change: Change) -> bytes | None:
        """The bytes of a row after a change: see `TextRows`.

        A cell is quoted where its new text needs it. One that was quoted without need stays so;
        one that needed it before stays so where others of its row are quoted without need.
        """
        text = raw.decode("utf-8")
        cells = next(csv.reader([text], strict=True))
        new: dict[int, str] = {}
        held = True
        for field, old, value in new_values(change):
            at = self.layout.at.get(field) if self.layout else None
            if at is None:
                raise no_column(self._source, field)
            held = held and cells[at] == (old or "")
            if (value or "") != cells[at]:
                new[at] = value or ""
        if not held:
            return None
        if not new:
            return raw
        changed = _with_cells(text, new)
        self._check(changed, [new.get(at, cell) for at, cell in enumerate(cells)], change)
        return changed.encode("utf-8")

    def nothing(self, raw: bytes) -> Mapping[str, Nothing]:
        """None of its fields: in CSV all that holds nothing is the same."""
        return {}

    def _check(self, text: str, cells: list[str], change: Change) -> None:
        """Hold that a changed row will be read as it is meant."""
        if len(text) > USUAL_ROW:
            _allow_long_rows()
        try:
            right = next(csv.reader([text], strict=True)) == cells and "\0" not in text
            right = right and len(text.encode("utf-8")) <= MAX_ROW_BYTES
        except (csv.Error, UnicodeEncodeError):
            right = False
        if not right:
            raise SourceError(
                f"{self._source}, row {change.place}: the new values cannot be written as CSV",
                source=self._source,
            )


def csv_fields(path: Path, reading: Reading) -> frozenset[str]:
    """The fields that have a column in a CSV file."""
    with explained(path), path.open("rb") as file:
        return frozenset(CsvRows(file, str(path), reading).read_header().at)


def _with_cells(text: str, new: dict[int, str]) -> str:
    """A row with other texts in some of its cells."""
    pieces, kept, start = [], 0, 0
    for index in range(max(new) + 1):
        end = _cell_end(text, start)
        if index in new:
            pieces += [text[kept:start], _written(new[index], text[start:end], text)]
            kept = end
        start = end + 1  # past the comma
    return "".join([*pieces, text[kept:]])


def _cell_end(text: str, start: int) -> int:
    if quoted := _QUOTED.match(text, start):
        return quoted.end()
    comma = text.find(",", start)
    return len(text.rstrip("\r\n")) if comma < 0 else comma


def _written(value: str, before: str, row: str) -> str:
    """A cell with another text, spelt as it and its row were."""
    quoted = _NEEDS_QUOTES.search(value) or _needless(before)
    if quoted or (before.startswith('"') and any(map(_needless, _spelt(row)))):
        return '"' + value.replace('"', '""') + '"'
    return value


def _needless(cell: str) -> bool:
    """Whether a cell is quoted and need not be."""
    return cell.startswith('"') and not _NEEDS_QUOTES.search(cell, 1, len(cell) - 1)


def _spelt(row: str) -> Iterator[str]:
    """The cells of a row as they are written."""
    end = -1
    while end < 0 or row[end : end + 1] == ",":
        start = end + 1
        end = _cell_end(row, start)
        yield row[start:end]


def _allow_long_rows() -> None:
    # Never lowered again: another reader of this process may be in the middle of such a row.
    if csv.field_size_limit() < MAX_ROW_BYTES:
        csv.field_size_limit(MAX_ROW_BYTES)


def _why_malformed(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "the file ends inside a quoted cell; close its quote"
    if "new-line" in text:
        return "a carriage return inside a row; end lines with a line feed, or quote the cell"
    return f"malformed CSV: {text}"
