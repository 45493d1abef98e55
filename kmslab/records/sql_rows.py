"""The statements that read and change the rows of one table, in any database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    MetaData,
    Select,
    String,
    Table,
    Text,
    bindparam,
    cast,
    collate,
    func,
    literal_column,
    select,
    update,
)

from kmslab.records.layout import Layout
from kmslab.records.source import (
    ABSENT,
    CHUNK_ROWS,
    MOVED_FIELDS,
    BlobChanges,
    Change,
    Place,
    Value,
)
from kmslab.records.sql_shape import Column as ShapeColumn
from kmslab.records.sql_shape import Shape

_BLOB: Final = "ciphertext_blob"
_PREFIX: Final = "kmslab_swap_"  # such as no column begins with


# So few at a time that Python need not look for cycles among them.
_FEW_ROWS: Final = 200


class TableRows(Protocol):
    """The rows of a table, in the order of their ids; each call is inside a transaction.

    Cells are compared as the text that a `Record` has: NULL is an empty one.
    """

    @property
    def columns(self) -> Sequence[ShapeColumn]:
        """The columns that are read."""
        ...

    @property
    def id(self) -> ShapeColumn:
        """That of the ids."""
        ...

    def page(
        self, connection: Connection, after: Place | None, until: Place | None
    ) -> Sequence[Sequence[Any]]:
        """At most CHUNK_ROWS rows behind the id `after` up to `until`, column by column; nothing
        where there are none."""
        ...

    def ends(self, connection: Connection, rows: int) -> Sequence[Place]:
        """The id of each `rows`-th row."""
        ...

    def lacks_id(self, connection: Connection) -> bool:
        """Whether the id of some row is NULL."""
        ...

    def stored(
        self, connection: Connection, fields: Sequence[str], first: Place, last: Place
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """Id, blob and these fields of the rows from one id to another, some rows at a time."""
        ...

    def swap(self, connection: Connection, fields: Sequence[str], changes: Sequence[Change]) -> int:
        """Change the blob and these fields of the rows that are as they were; how many, or less
        than 0 where it is not known."""
        ...


@dataclass(frozen=True, slots=True)
class AnyRows:
    """The rows of a table through SQLAlchemy: see `TableRows`.

    `moved` are the columns of those of MOVED_FIELDS that have one, by field.
    """

    columns: tuple[ShapeColumn, ...]
    id: ShapeColumn
    _table: Table
    _cells: tuple[Column[Any], ...]
    _key: Column[Any]
    _blob: Column[Any]
    _moved: Mapping[str, Column[Any]]
    _id_collation: str | None
    _exact_collation: str | None
    _made: dict[tuple[Any, ...], Any]
    """The statements that were made already."""

    @classmethod
    def of(cls, shape: Shape, names: Sequence[str], layout: Layout, exact: str | None) -> AnyRows:
        """The rows of a table of this shape; `layout` is that of the columns `names`. `exact` is
        the collation in which a text equals only itself."""
        wanted = tuple(shape.column(name) for name in names)
        cells = tuple(Column(c.name, c.type, nullable=c.nullable) for c in wanted)
        at = layout.at
        return cls(
            columns=wanted,
            id=wanted[at["record_id"]],
            _table=Table(shape.table, MetaData(), *cells, schema=shape.schema),
            _cells=cells,
            _key=cells[at["record_id"]],
            _blob=cells[at[_BLOB]],
            _moved={name: cells[at[name]] for name in MOVED_FIELDS if name in at},
            _id_collation=shape.unique[wanted[at["record_id"]].name],
            _exact_collation=exact,
            _made={},
        )

    def page(
        self, connection: Connection, after: Place | None, until: Place | None
    ) -> list[list[Any]]:
        """See `TableRows.page`."""
        bounds = {"after": after, "until": until}
        given = {name: place for name, place in bounds.items() if place is not None}
        key = ("page", *given)
        if key not in self._made:
            self._made[key] = self._page(after="after" in given, until="until" in given)
        return _by_column(connection.execute(self._made[key], given))

    def ends(self, connection: Connection, rows: int) -> Sequence[Place]:
        """See `TableRows.ends`."""
        numbered = select(
            self._key.label("id"), func.row_number().over(order_by=self._id).label("number")
        ).subquery()
        wanted = select(numbered.c.id).where(numbered.c.number % rows == 0)
        return connection.execute(wanted.order_by(numbered.c.number)).scalars().all()

    def lacks_id(self, connection: Connection) -> bool:
        """See `TableRows.lacks_id`."""
        one: Select[Any] = (
            select(literal_column("1")).select_from(self._table).where(self._key.is_(None))
        )
        return connection.execute(one.limit(1)).first() is not None

    def stored(
        self, connection: Connection, fields: Sequence[str], first: Place, last: Place
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """See `TableRows.stored`."""
        key = ("stored", *fields)
        if key not in self._made:
            wanted = [self._key, self._blob, *(self._moved[name] for name in fields)]
            ends = (self._id >= bindparam("first"), self._id <= bindparam("last"))
            self._made[key] = select(*wanted).where(*ends)
        found = connection.execute(self._made[key], {"first": first, "last": last})
        yield from found.partitions(_FEW_ROWS)  # others may have put many rows in between

    def swap(self, connection: Connection, fields: Sequence[str], changes: Sequence[Change]) -> int:
        """See `TableRows.swap`."""
        key = ("swap", *fields)
        if key not in self._made:
            self._made[key] = self._swap(connection, fields)
        swap: _Swap = self._made[key]
        columns = dict(zip(swap.names, values_of(changes, fields, self.cell), strict=True))
        parameters: list[Any]
        if swap.positions is None:
            each_row = zip(*columns.values(), strict=True)
            parameters = [dict(zip(swap.names, each, strict=True)) for each in each_row]
        else:
            parameters = list(zip(*(columns[name] for name in swap.positions), strict=True))
        return connection.exec_driver_sql(swap.text, parameters).rowcount

    def cell(self, field: str, value: Value) -> str | None:
        """What is stored for a field's value: for None NULL, where that may be."""
        return cell(value, nullable=bool(self._moved[field].nullable))

    def _page(self, *, after: bool, until: bool) -> Select[Any]:
        found = select(*self._cells).order_by(self._id).limit(CHUNK_ROWS)
        if after:
            found = found.where(self._id > bindparam("after"))
        return found.where(self._id <= bindparam("until")) if until else found

    @property
    def _id(self) -> ColumnElement[Any]:
        """The id as its unique index compares it."""
        return self._key if self._id_collation is None else collate(self._key, self._id_collation)

    @property
    def _id_is_loose(self) -> bool:
        """Whether another id may equal one under its index: the same in capitals, say."""
        if self._id_collation is None:
            return isinstance(self._key.type, String)
        return self._id_collation != self._exact_collation

    def _exactly(self, element: ColumnElement[Any]) -> ColumnElement[Any]:
        """A text that equals only itself, and not the same in capitals."""
        return element if self._exact_collation is None else collate(element, self._exact_collation)

    def _swap(self, connection: Connection, fields: Sequence[str]) -> _Swap:
        """The statement that changes the blob and these fields of a row that is as it was."""
        at = {"id": self._key.type, "old": self._blob.type, "new": self._blob.type}
        for name in fields:
            at |= {f"old_{name}": Text(), f"new_{name}": self._moved[name].type}
        bind = {name: bindparam(_PREFIX + name, type_=type_) for name, type_ in at.items()}
        statement = update(self._table).where(self._id == bind["id"])
        if self._id_is_loose:
            statement = statement.where(self._exactly(self._key) == bind["id"])
        statement = statement.where(self._exactly(self._blob) == bind["old"])
        values = {self._blob.name: bind["new"]}
        for name in fields:
            column = self._moved[name]
            text = func.coalesce(cast(column, Text), literal_column("''"))
            statement = statement.where(self._exactly(text) == bind[f"old_{name}"])
            values[column.name] = bind[f"new_{name}"]
        compiled = statement.values(values).compile(dialect=connection.dialect)
        names = tuple(_PREFIX + name for name in at)
        return _Swap(str(compiled), names, compiled.positiontup)


@dataclass(frozen=True, slots=True)
class _Swap:
    """A compare-and-swap as the driver takes it: through SQLAlchemy's it takes twice as long."""

    text: str
    names: tuple[str, ...]
    positions: Sequence[str] | None


def cell(value: Value, *, nullable: bool) -> str | None:
    """What is stored for a value: for None NULL, where that may be.

    >>> cell(None, nullable=True), cell(None, nullable=False), cell("k1", nullable=False)
    (None, '', 'k1')
    """
    if value is None or value is ABSENT:
        return None if nullable else ""
    return value


def values_of(
    changes: Sequence[Change], fields: Sequence[str], stored: Callable[[str, Value], str | None]
) -> list[Sequence[Any]]:
    """The ids, old and new blobs of changes, then for each field what it was and what it is to be,
    as `stored` gives it: column by column."""
    blobs = BlobChanges.of(changes) if not fields else None
    if blobs is not None:
        return [blobs.places, blobs.old_blobs, blobs.new_blobs]
    columns: list[Sequence[Any]] = [
        [change.place for change in changes],
        [change.old_blob for change in changes],
        [change.new_blob for change in changes],
    ]
    for name in fields:
        columns.append([change.others[name][0] or "" for change in changes])
        columns.append([stored(name, change.others[name][1]) for change in changes])
    return columns


def _by_column(found: CursorResult[Any]) -> list[list[Any]]:
    """The columns of what was found; none where nothing was."""
    columns: list[list[Any]] = []
    for page in found.partitions(_FEW_ROWS):
        more = zip(*page, strict=True)
        if columns:
            for column, cells in zip(columns, more, strict=True):
                column += cells
        else:
            columns = list(map(list, more))
    return columns
