"""A table of a database as a source of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise, starmap
from pathlib import Path

from sqlalchemy import Connection

from kmslab.errors import FormatError, SourceError
from kmslab.records.columns import ContextTemplate
from kmslab.records.layout import Layout
from kmslab.records.source import ALL_ROWS, Chunk, Edit, KeyRange
from kmslab.records.spec import SourceSpec
from kmslab.records.sql_database import Database
from kmslab.records.sql_edit import Pages, TableEdit
from kmslab.records.sql_errors import database_errors
from kmslab.records.sql_rows import TableRows
from kmslab.records.sql_shape import Column, Shape


def open_table(spec: SourceSpec, *, password: str | None = None) -> TableSource:
    """The table that a spec names, which is there: no database is ever made.

    Its id column must be unique: the primary key, or under a unique index of its own. A `password`
    is kept in memory only, and is never in the spec; without it the driver finds one by its own
    means, such as PGPASSWORD or ~/.pgpass.

    SourceError where the table cannot be read or is not fit: it says what to do. ContextError for
    a context template that is none.

    >>> import sqlite3
    >>> path = getfixture("tmp_path") / "orders.db"
    >>> with sqlite3.connect(path) as database:
    ...     _ = database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, blob TEXT)")
    ...     _ = database.execute("INSERT INTO orders VALUES (-7, 'a21z')")
    >>> database.close()
    >>> from kmslab.records import Columns
    >>> columns = Columns(record_id="id", ciphertext_blob="blob")
    >>> source = open_table(SourceSpec(f"sqlite:///{path}", "orders", columns, "ctyun"))
    >>> for chunk in source.parts[0].read():
    ...     print(chunk.places, chunk.records[0].ciphertext_blob)
    [-7] a21z
    """
    given = spec.context_template
    template = None if given is None else ContextTemplate.parse(given)
    database = Database.of(spec.location, password)
    if not spec.table:
        raise SourceError(
            f"{database.name}: a database has tables; name one with --table", source=database.name
        )
    name = f"{database.name}#{spec.table}"
    with database_errors(name), database.connected() as connection:
        shape = database.shape(connection, spec.table, name)
    if shape is None:
        raise SourceError(f"{name}: the table is not there any more", source=name)
    name = f"{database.name}#{shape.name}"
    try:
        layout, names = _layout(shape, spec, template)
    except FormatError as error:
        raise SourceError(f"{name}: {error}", source=name) from None
    _check_columns(name, shape, names, layout)
    rows = database.rows(shape, names, layout)
    return TableSource(TablePart(name, database, shape, rows, layout))


def _layout(
    shape: Shape, spec: SourceSpec, template: ContextTemplate | None
) -> tuple[Layout, list[str]]:
    """The layout of the columns that are wanted, and their names in order."""
    every = [column.name for column in shape.columns]
    whole = Layout.of(every, spec.columns, spec.provider, template)
    wanted = {every[at] for at in whole.at.values()} | set(template.columns if template else ())
    names = [name for name in every if name in wanted]
    return Layout.of(names, spec.columns, spec.provider, template), names


def _check_columns(name: str, shape: Shape, names: Sequence[str], layout: Layout) -> None:
    identity = shape.column(names[layout.at["record_id"]])
    if identity.name not in shape.unique:
        fit = ", ".join(repr(column) for column in shape.unique) or "none"
        raise SourceError(
            f"{name}: the id column {identity.name!r} is not unique; make it the primary key or "
            f"put a unique index on it alone, or name another with --id-column (unique: {fit})"
            f"{shape.unique_hint}",
            source=name,
        )
    if not identity.can_be_id:
        raise _unfit(name, identity, "ids must be whole numbers, text or UUIDs")
    blob = shape.column(names[layout.at["ciphertext_blob"]])
    if not blob.is_text:
        raise _unfit(name, blob, "blobs are stored as text, in base64")
    if "context" in layout.at:
        context = shape.column(names[layout.at["context"]])
        if not context.is_text:
            raise _unfit(name, context, "of a context every character counts: store it as text")
    for column in map(shape.column, names):
        if column.is_bytes:
            raise _unfit(name, column, "it must hold text")


def _unfit(name: str, column: Column, why: str) -> SourceError:
    return SourceError(
        f"{name}: column {column.name!r} is of type {column.declared}; {why}", source=name
    )


@dataclass(frozen=True, slots=True)
class TablePart:
    """The one part of a table, or a range of it: see `kmslab.records.source.Part`."""

    source: str
    _database: Database
    _shape: Shape
    _rows: TableRows = field(repr=False)
    _layout: Layout = field(repr=False)
    _range: KeyRange = ALL_ROWS

    @property
    def name(self) -> str:
        """The table."""
        return self._shape.name

    @property
    def fields(self) -> frozenset[str]:
        """The fields of a `Record` that have a column."""
        return frozenset(self._layout.at)

    @property
    def blob_capacity(self) -> int | None:
        """The length of the blob column; None where it has none, or where it binds nobody."""
        return self._database.capacity(self._shape, self._blob)

    @property
    def _blob(self) -> str:
        return self._rows.columns[self._layout.at["ciphertext_blob"]].name

    def fingerprint(self) -> str:
        """A digest of the table's name and columns, as they are now."""
        with database_errors(self.source), self._database.connected() as connection:
            shape = self._database.shape_now(connection, self._shape, self.source)
        if shape is None:
            raise SourceError(f"{self.source}: the table is not there any more", source=self.source)
        return shape.fingerprint

    def key_ranges(self, rows: int) -> Sequence[KeyRange]:
        """Ranges of so many records each: see `kmslab.records.source.Divisible`."""
        with database_errors(self.source), self._database.connected() as connection:
            ends = self._rows.ends(connection, rows)
        return tuple(starmap(KeyRange, pairwise([None, *ends, None])))

    def within(self, key_range: KeyRange) -> TablePart:
        """The same table, less the records that are not in a range."""
        return replace(self, _range=key_range)

    def read(self) -> Iterator[Chunk]:
        """All records in the order of their ids. No transaction is open between two chunks."""
        with self._connected() as connection:
            yield from self._pages(connection)

    def edit(
        self, *, output: Path | None = None, atomic: bool = False
    ) -> AbstractContextManager[Edit]:
        """A pass that changes rows where they are: see `TableEdit`.

        It locks nothing between two chunks, unless it is atomic: one campaign at a time works on a
        source because it has locked it (`kmslab.campaign.state.State.lock`).
        """
        if output is not None:
            raise SourceError(
                f"{self.source}: a table is changed where it is, and not written to {output}; "
                "leave out --output, or export the table to a file first",
                source=self.source,
            )
        return self._edit(atomic=atomic)

    @contextmanager
    def _edit(self, *, atomic: bool) -> Iterator[Edit]:
        with self._connected() as connection:
            self._refuse_unwritable(connection)
            pages = self._pages(connection)
            yield TableEdit(connection, self._database, self.source, pages, atomic=atomic)

    def check_writable(self) -> None:
        """SourceError where it is known that it takes no new blobs."""
        with self._connected() as connection:
            self._refuse_unwritable(connection)

    def _refuse_unwritable(self, connection: Connection) -> None:
        with database_errors(self.source):
            self._database.refuse_unwritable(connection, self.source, self._shape, self._blob)

    def _pages(self, connection: Connection) -> Pages:
        database, shape, rows = self._database, self._shape, self._rows
        return Pages(connection, database, self.source, shape, rows, self._layout, self._range)

    @contextmanager
    def lock(self, *, but_readers: bool = False) -> Iterator[None]:
        """Be the only campaign at work on the table: see `kmslab.records.source.Lockable`."""
        with ExitStack() as stack:
            with database_errors(self.source):
                lock = self._database.locked(self.source, self._shape, but_readers=but_readers)
                stack.enter_context(lock)
            yield

    @contextmanager
    def marked(self) -> Iterator[str]:
        """Have the table carry a mark: see `kmslab.records.source.Recognisable`."""
        with self._connected() as connection:
            with database_errors(self.source):
                mark = self._database.mark(connection, self._shape)
            yield mark

    def carries(self, mark: str) -> bool:
        """Whether it is the table that carries a mark."""
        with database_errors(self.source), self._database.connected() as connection:
            return self._database.carries(connection, self._shape, mark)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection for one pass; only its opening is looked after here, not the pass."""
        with ExitStack() as stack:
            with database_errors(self.source):
                connection = stack.enter_context(self._database.connected())
            yield connection


@dataclass(frozen=True, slots=True)
class TableSource:
    """A table as a source: see `kmslab.records.source.Source`."""

    _part: TablePart

    @property
    def name(self) -> str:
        """The database's URL without a password, and the table."""
        return self._part.source

    @property
    def fields(self) -> frozenset[str]:
        """The fields of a `Record` that have a column here."""
        return self._part.fields

    @property
    def parts(self) -> Sequence[TablePart]:
        """The table."""
        return (self._part,)

    @property
    def blob_capacity(self) -> int | None:
        """The greatest length of a blob that the column takes; None for any."""
        return self._part.blob_capacity

    def lock(self, *, but_readers: bool = False) -> AbstractContextManager[None]:
        """Be the only campaign at work on the table: see `kmslab.records.source.Lockable`."""
        return self._part.lock(but_readers=but_readers)

    def check_writable(self) -> None:
        """SourceError where it is known that it takes no new blobs."""
        self._part.check_writable()

    def marked(self) -> AbstractContextManager[str]:
        """Have the table carry a mark: see `kmslab.records.source.Recognisable`."""
        return self._part.marked()

    def carries(self, mark: str) -> bool:
        """Whether it is the table that carries a mark."""
        return self._part.carries(mark)
