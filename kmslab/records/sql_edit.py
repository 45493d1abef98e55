"""One pass over a table: its pages, and the changes that are made in them row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from kmslab.errors import FormatError, SourceChanged, SourceError
from kmslab.model import Record
from kmslab.records.changes import empty_texts
from kmslab.records.layout import Layout
from kmslab.records.source import (
    BlobChanges,
    Change,
    Chunk,
    KeyRange,
    Place,
    Value,
)
from kmslab.records.sql_database import Database
from kmslab.records.sql_errors import database_errors, may_be_tried_again
from kmslab.records.sql_rows import TableRows
from kmslab.records.sql_shape import GONE, Shape

ATTEMPTS: Final = 5
"""How often a chunk is written where other programs lock its rows in another order."""

_TEXT: Final = frozenset({str, type(None), datetime})


class Pages:
    """The pages of a table, or of a range of it, each read in a short transaction of its own.

    SourceChanged, at the page or change that sees it, where the table is not of its shape any more.
    """

    __slots__ = (
        "_connection",
        "_database",
        "_file",
        "_name",
        "_range",
        "_shape",
        "_token",
        "layout",
        "rows",
    )

    def __init__(
        self,
        connection: Connection,
        database: Database,
        name: str,
        shape: Shape,
        rows: TableRows,
        layout: Layout,
        key_range: KeyRange,
    ) -> None:
        self._connection = connection
        self._database = database
        self._name = name
        self._shape = shape
        self._range = key_range
        self._file = database.file_identity()
        self._token: object = None
        self.rows = rows
        self.layout = layout

    def __iter__(self) -> Iterator[Chunk]:
        rows, after = 0, self._range.after
        while True:
            with database_errors(self._name), self._database.reading(self._connection):
                self.check()
                if not rows:
                    self._check_ids()
                columns = self.rows.page(self._connection, after, self._range.until)
            if not columns:
                return
            yield self._chunk(columns, rows)
            ids = columns[self._id_at]
            rows += len(ids)
            after = ids[-1]

    def check(self) -> None:
        """See that the table is what it was; in the transaction that is open."""
        if self._database.file_identity() != self._file:
            raise self._changed("its file has been replaced")
        token = self._database.schema_token(self._connection, self._shape)
        if token is not None and token == self._token:
            return
        shape = None
        if token is not GONE:
            shape = self._database.shape_now(self._connection, self._shape, self._name)
        if shape is None:
            raise self._changed("the table is not there any more")
        if shape != self._shape:
            raise self._changed("the columns of the table are not what they were")
        self._token = token

    def _changed(self, what: str) -> SourceChanged:
        return SourceChanged(
            f"{self._name}: {what}; what has been stored stays, and nothing more is; "
            "look at it, then go on",
            source=self._name,
        )

    @property
    def _id_at(self) -> int:
        return self.layout.at["record_id"]

    def _check_ids(self) -> None:
        if not self.rows.id.nullable:
            return
        if self.rows.lacks_id(self._connection):
            raise SourceError(
                f"{self._name}: a row has no {self.rows.id.name}, so that nothing tells it from "
                "others; give every row one",
                source=self._name,
            )

    def _chunk(self, columns: Sequence[Sequence[Any]], before: int) -> Chunk:
        """A page as records; SourceError where a cell is nothing that a record can have."""
        for column, cells in zip(self.rows.columns, columns, strict=True):
            kinds = set(map(type, cells))
            wrong = kinds - {int, str} if column is self.rows.id else kinds & {bytes, memoryview}
            if wrong:
                at = next(at for at, cell in enumerate(cells) if type(cell) in wrong)
                raise self._unusable(before + at + 1, column.name, cells[at])
        places = columns[self._id_at]
        nothing = partial(empty_texts, self.layout.at, columns, before + 1)
        return Chunk(self._records([_as_text(cells) for cells in columns], before), places, nothing)

    def _records(self, columns: Sequence[Sequence[Any]], before: int) -> Sequence[Record]:
        try:
            return self.layout.records(columns, before + 1, len(columns[0]))
        except FormatError as error:
            number = self._first_unreadable(columns)
            raise SourceError(
                f"{self._name}, id {columns[self._id_at][number]!r}: {error}",
                source=self._name,
                row=before + number + 1,
            ) from None

    def _first_unreadable(self, columns: Sequence[Sequence[Any]]) -> int:
        """Which row of a page cannot be read; asked only once one cannot."""
        for number, cells in enumerate(zip(*columns, strict=True)):
            try:
                self.layout.record(cells, 0)
            except FormatError:
                return number
        return 0

    def _unusable(self, row: int, column: str, cell: object) -> SourceError:
        needs = "a whole number or text" if column == self.rows.id.name else "text"
        return SourceError(
            f"{self._name}, row {row}: column {column!r} holds {type(cell).__name__}; "
            f"it must hold {needs}, a blob as base64",
            source=self._name,
            row=row,
        )


class TableEdit:
    """A pass over a table that may change it: see `kmslab.records.source.Edit`.

    A change is a compare-and-swap. Those of one `write` are one transaction, in which they are
    read back; of an atomic pass all of them are.
    """

    __slots__ = ("_atomic", "_connection", "_database", "_ends", "_name", "_pages")

    def __init__(
        self, connection: Connection, database: Database, name: str, pages: Pages, *, atomic: bool
    ) -> None:
        self._connection = connection
        self._database = database
        self._name = name
        self._pages = pages
        self._atomic = atomic
        self._ends: tuple[Place, Place] | None = None

    @property
    def immediate(self) -> bool:
        """Whether a change is stored when `write` returns, and not only when `finish` does."""
        return not self._atomic

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self._pages:
            self._ends = (chunk.places[0], chunk.places[-1])
            yield chunk

    def write(self, changes: Sequence[Change]) -> Sequence[Place]:
        """Change rows of the chunk that was taken last; the places of those that were lost."""
        if not changes:
            return ()
        with database_errors(self._name):
            for _ in range(ATTEMPTS - 1):
                try:
                    return self._write(changes)
                except Exception as error:
                    said = error.orig if isinstance(error, DBAPIError) else error
                    if self._atomic or not may_be_tried_again(said):
                        raise
            return self._write(changes)

    def _write(self, changes: Sequence[Change]) -> Sequence[Place]:
        with self._writing():
            self._pages.check()
            made = self._swap(changes)
            lost = self._not_as_meant(changes)
            if made > len(changes) - len(lost):
                raise SourceError(
                    f"{self._name}: what was written does not read back as it was; a trigger or "
                    "the type of a column changes it. Nothing of this chunk was stored",
                    source=self._name,
                )
        return lost

    def finish(self) -> None:
        """Commit what an atomic pass has changed."""
        with database_errors(self._name):
            if self._connection.in_transaction():
                self._pages.check()
                self._database.commit(self._connection)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._atomic:
            with self._database.writing(self._connection):
                yield
            return
        if not self._connection.in_transaction():
            self._database.begin_writing(self._connection)
        yield

    def _swap(self, changes: Sequence[Change]) -> int:
        """Make the changes that can be made; how many."""
        made = 0
        for fields, group in _by_fields(changes).items():
            made += max(0, self._pages.rows.swap(self._connection, fields, group))
        return made

    def _not_as_meant(self, changes: Sequence[Change]) -> list[Place]:
        """The places of the changes whose new values are not what is stored."""
        simple = BlobChanges.of(changes)
        fields = (
            []
            if simple is not None
            else sorted({name for change in changes for name in change.others})
        )
        first, last = self._ends or (changes[0].place, changes[-1].place)
        # The whole page is read again: that is faster than to ask for a thousand ids.
        found = self._pages.rows.stored(self._connection, fields, first, last)
        if simple is not None:
            stored: dict[Place, object] = {}
            for page in found:
                stored.update(zip(*zip(*page, strict=True), strict=True))
            meant = zip(simple.places, simple.new_blobs, strict=True)
            return [place for place, blob in meant if stored.get(place) != blob]
        kept = set[Place]()
        blobs = {change.place: change.new_blob for change in changes}
        others = {change.place: change.others for change in changes}
        for page in found:
            for row in page:
                place = row[0]
                if blobs.get(place) == row[1] and _hold(others[place], fields, row[2:]):
                    kept.add(place)
        return [change.place for change in changes if change.place not in kept]


def _by_fields(changes: Sequence[Change]) -> dict[tuple[str, ...], Sequence[Change]]:
    """Changes by the fields that they change beside the blob."""
    blobs = BlobChanges.of(changes)
    if blobs is not None:
        return {(): blobs}
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        groups.setdefault(tuple(change.others), []).append(change)
    return {**groups}


def _as_text(cells: Sequence[Any]) -> Sequence[Any]:
    """A column of cells as text, times apart."""
    if not set(map(type, cells)) - _TEXT:
        return cells
    return [cell if type(cell) in _TEXT else str(cell) for cell in cells]


def _hold(
    others: Mapping[str, tuple[Value, Value]],
    fields: Sequence[str],
    cells: Sequence[object],
) -> bool:
    """Whether the changed ones of these fields have their new values, as text."""
    return all(
        ("" if cell is None else str(cell)) == (others[name][1] or "")
        for name, cell in zip(fields, cells, strict=True)
        if name in others
    )
