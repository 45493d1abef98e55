"""Records from files."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from kmslab.errors import FormatError, SourceError
from kmslab.model import Record
from kmslab.records.columns import DEFAULT_COLUMNS, Columns, ContextTemplate
from kmslab.records.layout import Layout

MAX_ROW_BYTES: Final = 16 * 1024 * 1024
"""The longest row that is read; what bounds the memory of a reader (lab's choice)."""

_USUAL_FIELD: Final = 131_072  # the standard library's limit, unless somebody has changed it
_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def read_csv(
    path: str | os.PathLike[str],
    *,
    columns: Columns = DEFAULT_COLUMNS,
    provider: str | None = None,
    context_template: str | None = None,
) -> Iterator[Record]:
    """The records of a CSV file, one by one; the file is open only while they are being taken.

    The file is UTF-8, with or without a byte order mark, separated by commas, quoted by `"`; its
    first row names the columns. Blank lines are passed over. `provider` is the provider of every
    record, in place of the provider column, and `context_template` (see `ContextTemplate`) makes
    every context, in place of the context column. Empty cells of columns that need not be there
    are None. What a cell means is not judged here, but for created_at (see `parse_time`).

    ContextError, at once, for a template that is none; SourceError, when records are taken, for a
    file or row that cannot be read: it names the source, the row and what to do.

    A row may have 16 MiB. The standard library's limit on a field (131,072 characters) holds for
    the whole process; it is raised when a longer row turns up, and not otherwise.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("record_id,ciphertext_blob\\n订单-1,a21z\\n", encoding="utf-8")
    >>> for record in read_csv(path, provider="ctyun"):
    ...     print(record.row, record.record_id, record.provider, record.context)
    1 订单-1 ctyun None
    """
    template = None if context_template is None else ContextTemplate.parse(context_template)
    return _records(Path(path), columns, provider, template)


def _records(
    path: Path, columns: Columns, provider: str | None, template: ContextTemplate | None
) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            place = _Rows(file, str(path))
            rows = iter(place)
            header = next(rows, None)
            if header is None:
                raise place.error("the file is empty; its first row names the columns")
            try:
                layout = Layout.of(header, columns, provider, template)
            except FormatError as error:
                raise place.error(str(error)) from None
            for cells in rows:
                yield _record(place, layout, cells)
    except OSError as error:
        raise SourceError(f"{path}: {_why_unreadable(error)}", source=str(path)) from error


def _why_unreadable(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "this is a directory; name a file in it"
        case PermissionError():
            return "the file may not be read by this user"
        case _:
            return f"the file cannot be read: {error.strerror or error}"


class _Rows:
    """The rows of an open CSV file as lists of cells, the header first; knows where it is."""

    __slots__ = ("_file", "_line", "_row_bytes", "_source", "row")

    def __init__(self, file: BinaryIO, source: str) -> None:
        self.row = 0
        """The row being read, from 1; 0 is the header."""
        self._file = file
        self._source = source
        self._line = 0
        self._row_bytes = 0

    def error(self, message: str) -> SourceError:
        """A SourceError that says where the reader is."""
        where = f"row {self.row} (line {self._line})" if self.row else "header"
        return SourceError(
            f"{self._source}, {where}: {message}", source=self._source, row=self.row or None
        )

    def __iter__(self) -> Iterator[list[str]]:
        # strict: a quote that is never closed is an error, and does not swallow the file
        reader = csv.reader(self._lines(), strict=True)
        try:
            for cells in reader:
                if cells:
                    yield cells
                    self.row += 1
                self._row_bytes = 0
        except csv.Error as error:
            raise self.error(_why_malformed(error)) from None

    def _lines(self) -> Iterator[str]:
        read = self._file.readline
        raw = read(MAX_ROW_BYTES + 1)
        if raw.startswith(_UTF_16):
            raise self.error("the file is UTF-16; save it as UTF-8")
        raw = raw.removeprefix(_BOM)
        while raw:
            self._line += 1
            self._row_bytes += len(raw)
            if self._row_bytes > _USUAL_FIELD:
                self._allow_long_row()
            if b"\0" in raw:
                raise self.error("a NUL byte; this is not the text of a CSV file")
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError:
                raise self.error("not UTF-8; save the file as UTF-8") from None
            raw = read(MAX_ROW_BYTES + 1)

    def _allow_long_row(self) -> None:
        if self._row_bytes > MAX_ROW_BYTES:
            raise self.error(f"longer than {MAX_ROW_BYTES:,} bytes; is a quote not closed?")
        # Never lowered again: another reader of this process may be in the middle of such a row.
        csv.field_size_limit(max(MAX_ROW_BYTES, csv.field_size_limit()))


def _why_malformed(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "the file ends inside a quoted cell; close its quote"
    if "new-line" in text:
        return "a carriage return inside a row; end lines with a line feed, or quote the cell"
    return f"malformed CSV: {text}"


def _record(rows: _Rows, layout: Layout, cells: list[str]) -> Record:
    if len(cells) != layout.width:
        raise rows.error(f"{len(cells)} cells where the header has {layout.width}")
    try:
        return layout.record(cells, rows.row)
    except FormatError as error:
        raise rows.error(str(error)) from None
