"""Parquet files: columns become records, and change while all other columns stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import repeat
from operator import eq
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from kmslab.errors import FormatError, SourceError
from kmslab.model import Record
from kmslab.records.changes import empty_texts, new_values, no_column
from kmslab.records.layout import Cell, Layout, Reading
from kmslab.records.parquet_writing import GroupWriter, text_type
from kmslab.records.replacing import explained, file_digest, fingerprint, replacing
from kmslab.records.source import ABSENT, CHUNK_ROWS, BlobChanges, Change, Chunk, Edit, Place

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def _understood(path: str) -> Iterator[None]:
    """What pyarrow has to say of a file, as a SourceError."""
    try:
        yield
    except pa.ArrowException as error:
        why = str(error).splitlines()[0]
        raise SourceError(f"{path}: not Parquet that can be read: {why}", source=path) from None
    except UnicodeError:
        raise SourceError(f"{path}: text that is not UTF-8", source=path) from None
    except OverflowError:
        raise SourceError(f"{path}: a time beyond the year 9999", source=path) from None


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which columns of a Parquet file are read, and what they become."""

    layout: Layout
    names: tuple[str, ...]
    """All columns of the file, then those that its folders stand for."""
    constants: Mapping[str, str | None]
    stored: tuple[int, ...]
    """The positions of the columns to read from the file."""
    fields: frozenset[str]
    """The fields with a column that can hold a value."""

    @classmethod
    def of(
        cls, schema: pa.Schema, reading: Reading, partition: Mapping[str, str | None], name: str
    ) -> _Shape:
        constants = {key: value for key, value in partition.items() if key not in schema.names}
        names = (*schema.names, *constants)
        try:
            layout = reading.layout(names)
            field_at = {at: field for field, at in layout.at.items()}
            stored = sorted(at for at in layout.read_at if at < len(schema.names))
            for at in stored:
                _check_type(schema.field(at), field_at.get(at))
        except FormatError as error:
            raise SourceError(f"{name}: {error}", source=name) from None
        held = [at for at in stored if schema.types[at] != pa.null()]
        fields = frozenset(field_at[at] for at in held if at in field_at)
        return cls(layout, names, constants, tuple(stored), fields)

    def cells(self, table: pa.Table) -> list[Sequence[Cell]]:
        """The cells of a few rows, column by column; nothing for a column that is not read."""
        columns: list[Sequence[Cell]] = [()] * len(self.names)
        for at in self.layout.read_at:
            name = self.names[at]
            if name not in self.constants:
                columns[at] = _cells(table.column(name))
            else:
                columns[at] = [self.constants[name]] * table.num_rows
        return columns

    def records(self, columns: list[Sequence[Cell]], first: int, count: int) -> Sequence[Record]:
        """The records of these rows. FormatError, with the row, for a time that is none."""
        try:
            return self.layout.records(columns, first, count)
        except FormatError:
            rows = zip(*(column or repeat(None, count) for column in columns), strict=False)
            for row, cells in enumerate(rows, start=first):
                try:
                    self.layout.record(cells, row)
                except FormatError as error:
                    raise FormatError(f"row {row}: {error}") from None
            raise


def _check_type(field: pa.Field, of: str | None) -> None:
    """FormatError for a column of a type that its field cannot be read from."""
    kind = field.type
    if text_type(kind) is not None or kind == pa.null():
        return
    if pa.types.is_integer(kind) and of in ("record_id", "owner", "account", "created_at", None):
        return
    if of == "created_at" and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return
    raise FormatError(f"column {field.name!r} is {kind} and not text; cast it to string")


def _cells(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(text_type(kind))
    elif pa.types.is_integer(kind):
        column = column.cast(pa.string())
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        # By way of numbers: pyarrow takes five times as long to make a time. Nanoseconds are cut.
        unit = pa.timestamp("us", getattr(kind, "tz", None))
        numbers = column.cast(unit, safe=False).cast(pa.int64()).to_pylist()
        return [None if n is None else _EPOCH + timedelta(microseconds=n) for n in numbers]
    cells: list[Any] = column.to_pylist()
    return cells


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """A Parquet file: see `Part`.

    `partition` gives the columns that its folders stand for; they are read where the file has no
    such column, and cannot change. A column without a type (`null`) is one that is not there.
    """

    path: Path
    reading: Reading
    partition: Mapping[str, str | None]

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self.path)

    @property
    def fields(self) -> frozenset[str]:
        """The fields that have a column in the file."""
        with self._opened() as file:
            return self._shape(file).fields

    def fingerprint(self) -> str:
        """The SHA-256 of its bytes."""
        return fingerprint(self.path)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        with (
            explained(self.path),
            _understood(self.name),
            self.path.open("rb") as raw,
            pq.ParquetFile(raw) as file,
        ):
            yield file

    def _shape(self, file: pq.ParquetFile) -> _Shape:
        return _Shape.of(file.schema_arrow, self.reading, self.partition, self.name)

    def read(self) -> Iterator[Chunk]:
        """All its records."""
        with self._opened() as file:
            shape = self._shape(file)
            names = [shape.names[at] for at in shape.stored]
            first = 1
            for index in range(file.num_row_groups):
                table = file.read_row_group(index, columns=names, use_threads=False)
                for chunk, _ in _chunks(shape, table, first, self.name):
                    yield chunk
                first += table.num_rows

    @contextmanager
    def edit(self, *, output: Path | None = None, atomic: bool = False) -> Iterator[Edit]:
        """A pass that may change it. It is always atomic."""
        with replacing(self.path, output) as replacement:
            with explained(self.path), _understood(self.name):
                digest = file_digest(replacement.source)
                file = pq.ParquetFile(_unclosed(replacement.source))
                shape = self._shape(file)
                writer = GroupWriter(file, replacement, self.name, _movable(shape))
            with file, closing(writer):
                yield _ParquetEdit(shape, file, writer, digest, self.name)


def _unclosed(file: BinaryIO) -> pa.PythonFile:
    file.seek(0)
    return pa.PythonFile(file, mode="r")


def _movable(shape: _Shape) -> frozenset[str]:
    """The columns that a change may be about."""
    kept = {"record_id", "created_at", "owner", "region", "account"}
    return frozenset(shape.names[shape.layout.at[field]] for field in shape.fields - kept)


def _chunks(
    shape: _Shape, table: pa.Table, first: int, name: str
) -> Iterator[tuple[Chunk, list[Sequence[Cell]]]]:
    """The chunks of a row group, with their cells column by column."""
    for start in range(0, table.num_rows, CHUNK_ROWS):
        rows = table.slice(start, CHUNK_ROWS)
        count = rows.num_rows
        cells = shape.cells(rows)
        try:
            records = shape.records(cells, first + start, count)
        except FormatError as error:
            raise SourceError(f"{name}, {error}", source=name) from None
        places = range(first + start, first + start + count)
        nothing = partial(empty_texts, shape.layout.at, cells, first + start)
        yield Chunk(records, places, nothing), cells


class _ParquetEdit:
    """A pass over a Parquet file, row group by row group."""

    __slots__ = (
        "_cells",
        "_columns",
        "_digest",
        "_ended",
        "_file",
        "_first",
        "_name",
        "_shape",
        "_writer",
    )

    def __init__(
        self, shape: _Shape, file: pq.ParquetFile, writer: GroupWriter, digest: str, name: str
    ) -> None:
        self._shape = shape
        self._file = file
        self._writer = writer
        self._digest = digest
        self._name = name
        # The column of each field that a change can be about: its name, and its position
        known = shape.fields | {"record_id"}
        at = shape.layout.at.items()
        self._columns = {field: (shape.names[i], i) for field, i in at if field in known}
        self._first = 1  # the first row of the chunk that was taken last
        self._cells: list[Sequence[Cell]] | None = None  # its cells, until it is written
        self._ended = False

    @property
    def immediate(self) -> bool:
        return False

    def __iter__(self) -> Iterator[Chunk]:
        first = 1
        names = [self._shape.names[at] for at in self._shape.stored]
        with explained(Path(self._name)), _understood(self._name):
            for index in range(self._file.num_row_groups):
                table = self._file.read_row_group(index, columns=names, use_threads=False)
                self._writer.begin(table)
                for chunk, cells in _chunks(self._shape, table, first, self._name):
                    self._first, self._cells = int(chunk.places[0]), cells
                    yield chunk
                    self.write(())  # a chunk that nobody wrote
                self._writer.end()
                first += table.num_rows
        self._ended = True

    def write(self, changes: Sequence[Change]) -> Sequence[Place]:
        if self._cells is None:
            if changes:
                raise self._not_taken(changes[0])
            return ()
        new = self._new_blobs(changes)
        lost: list[Place] = []
        if new is None:
            new = {}
            lost = [change.place for change in changes if not self._change(change, new)]
        with _understood(self._name):
            self._writer.chunk(len(self._cells[self._columns["record_id"][1]]), new)
        self._cells = None
        return lost

    def _new_blobs(self, changes: Sequence[Change]) -> dict[str, list[Any]] | None:
        """What `_change` makes of changes to the blobs alone; None where one is another, or where
        anything is not as it should be."""
        assert self._cells is not None  # noqa: S101  # for the type checker
        at, given = self._shape.layout.at, BlobChanges.of(changes)
        ids, blobs = self._cells[at["record_id"]], self._cells[at["ciphertext_blob"]]
        if given is None or not changes or "ciphertext_blob" not in self._shape.fields:
            return None
        if not all(given.new_blobs) or any(map(eq, given.old_blobs, given.new_blobs)):
            return None
        name = self._shape.names[at["ciphertext_blob"]]
        if given.places == range(self._first, self._first + len(ids)):  # all of the chunk
            held = ids == given.record_ids and blobs == given.old_blobs
            return {name: list(given.new_blobs)} if held else None
        rows = [place - self._first for place in given.places if isinstance(place, int)]
        if len(set(rows)) < len(changes) or min(rows) < 0 or max(rows) >= len(ids):
            return None
        if [ids[row] for row in rows] != given.record_ids:
            return None
        if [blobs[row] for row in rows] != given.old_blobs:
            return None
        new = list(blobs)
        for row, blob in zip(rows, given.new_blobs, strict=True):
            new[row] = blob
        return {name: new}

    def _change(self, change: Change, new: dict[str, list[Any]]) -> bool:
        """Put the new values of one record into `new`, column by column.

        False where it does not hold what the change says; nothing of it is put there then.
        """
        assert self._cells is not None  # noqa: S101  # for the type checker
        columns = self._cells
        if not isinstance(change.place, int):
            raise self._not_taken(change)
        row = change.place - self._first
        if not 0 <= row < len(columns[self._columns["record_id"][1]]):
            raise self._not_taken(change)
        held = True
        put: list[tuple[str, int, str | None]] = []
        for field, old, value in new_values(change):
            if field not in self._columns:
                raise no_column(self._name, field)
            name, column = self._columns[field]
            cell = new.get(name, columns[column])[row]
            held = held and (cell or None) == (old or None)
            stored = None if value is ABSENT else value
            if value != old and stored != cell:
                put.append((name, column, stored))
        for name, column, stored in put if held else ():
            if name not in new:
                new[name] = list(columns[column])
            new[name][row] = stored
        return held

    def _not_taken(self, change: Change) -> SourceError:
        return SourceError(
            f"{self._name}: row {change.place} is not in the chunk that was taken last",
            source=self._name,
        )

    def finish(self) -> None:
        if not self._ended:
            raise SourceError(f"{self._name}: not all records were taken", source=self._name)
        with _understood(self._name):
            self._writer.finish(self._digest)
