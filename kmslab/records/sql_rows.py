"""The statements that read and change the rows of one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
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
    Value,
)
from kmslab.records.sql_shape import Shape

_BLOB: Final = "ciphertext_blob"
_PREFIX: Final = "kmslab_swap_"  # such as no column begins with


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table, in the order of their ids.

    `columns` are the wanted ones by their names, `moved` those of MOVED_FIELDS that have one, by
    field. Cells are compared as the text that a `Record` has: NULL is an empty one.
    """

    table: Table
    columns: tuple[Column[Any], ...]
    id: Column[Any]
    blob: Column[Any]
    moved: Mapping[str, Column[Any]]
    id_collation: str | None
    exact_collation: str | None

    @classmethod
    def of(cls, shape: Shape, names: Sequence[str], layout: Layout, exact: str | None) -> Rows:
        """The rows of a table of this shape; `layout` is that of the columns `names`."""
        wanted = [shape.column(name) for name in names]
        columns = tuple(Column(c.name, c.type, nullable=c.nullable) for c in wanted)
        identity = columns[layout.at["record_id"]]
        return cls(
            table=Table(shape.table, MetaData(), *columns, schema=shape.schema),
            columns=columns,
            id=identity,
            blob=columns[layout.at[_BLOB]],
            moved={name: columns[layout.at[name]] for name in MOVED_FIELDS if name in layout.at},
            id_collation=shape.unique[identity.name],
            exact_collation=exact,
        )

    def page(self, *, after: bool, until: bool) -> Select[Any]:
        """A page of rows: `after` one of the id `after`, `until` that of the id `until`."""
        found = select(*self.columns).order_by(self._id).limit(CHUNK_ROWS)
        if after:
            found = found.where(self._id > bindparam("after"))
        return found.where(self._id <= bindparam("until")) if until else found

    def every(self, rows: int) -> Select[Any]:
        """The id of each `rows`-th row."""
        numbered = select(
            self.id.label("id"), func.row_number().over(order_by=self._id).label("number")
        ).subquery()
        return (
            select(numbered.c.id).where(numbered.c.number % rows == 0).order_by(numbered.c.number)
        )

    def without_id(self) -> Select[Any]:
        """One row whose id is NULL."""
        return select(literal_column("1")).select_from(self.table).where(self.id.is_(None)).limit(1)

    def between(self, fields: Sequence[str]) -> Select[Any]:
        """Id, blob and these fields of the rows from the id `first` to the id `last`."""
        wanted = [self.id, self.blob, *(self.moved[name] for name in fields)]
        ends = (self._id >= bindparam("first"), self._id <= bindparam("last"))
        return select(*wanted).where(*ends)

    def cell(self, field: str, value: Value) -> str | None:
        """What is stored for a field's value: for None NULL, where that may be."""
        if value is None or value is ABSENT:
            return None if self.moved[field].nullable else ""
        return value

    @property
    def _id(self) -> ColumnElement[Any]:
        """The id as its unique index compares it."""
        return self.id if self.id_collation is None else collate(self.id, self.id_collation)

    @property
    def _id_is_loose(self) -> bool:
        """Whether another id may equal one under its index: the same in capitals, say."""
        if self.id_collation is None:
            return isinstance(self.id.type, String)
        return self.id_collation != self.exact_collation

    def _exactly(self, element: ColumnElement[Any]) -> ColumnElement[Any]:
        """A text that equals only itself, and not the same in capitals."""
        return element if self.exact_collation is None else collate(element, self.exact_collation)

    def swap(self, connection: Connection, fields: Sequence[str]) -> Swap:
        """The statement that changes the blob and these fields of a row that is as it was."""
        at = {"id": self.id.type, "old": self.blob.type, "new": self.blob.type}
        for name in fields:
            at |= {f"old_{name}": Text(), f"new_{name}": self.moved[name].type}
        bind = {name: bindparam(_PREFIX + name, type_=type_) for name, type_ in at.items()}
        statement = update(self.table).where(self._id == bind["id"])
        if self._id_is_loose:
            statement = statement.where(self._exactly(self.id) == bind["id"])
        statement = statement.where(self._exactly(self.blob) == bind["old"])
        values = {self.blob.name: bind["new"]}
        for name in fields:
            column = self.moved[name]
            text = func.coalesce(cast(column, Text), literal_column("''"))
            statement = statement.where(self._exactly(text) == bind[f"old_{name}"])
            values[column.name] = bind[f"new_{name}"]
        compiled = statement.values(values).compile(dialect=connection.dialect)
        names = [_PREFIX + name for name in at]
        return Swap(str(compiled), tuple(names), tuple(fields), compiled.positiontup)


@dataclass(frozen=True, slots=True)
class Swap:
    """A compare-and-swap as the driver takes it: through SQLAlchemy's it takes twice as long."""

    text: str
    names: tuple[str, ...]
    fields: tuple[str, ...]
    positions: Sequence[str] | None

    def run(self, connection: Connection, rows: Rows, changes: Sequence[Change]) -> int:
        """Make the changes that can be made; how many, or less than 0 where it is not known."""
        columns = dict(zip(self.names, self._columns(rows, changes), strict=True))
        parameters: list[Any]
        if self.positions is None:
            each_row = zip(*columns.values(), strict=True)
            parameters = [dict(zip(self.names, each, strict=True)) for each in each_row]
        else:
            parameters = list(zip(*(columns[name] for name in self.positions), strict=True))
        return connection.exec_driver_sql(self.text, parameters).rowcount

    def _columns(self, rows: Rows, changes: Sequence[Change]) -> list[Sequence[Any]]:
        """The values of all changes for each of `names`."""
        blobs = BlobChanges.of(changes)
        if blobs is not None:
            return [blobs.places, blobs.old_blobs, blobs.new_blobs]
        columns: list[Sequence[Any]] = [
            [change.place for change in changes],
            [change.old_blob for change in changes],
            [change.new_blob for change in changes],
        ]
        for name in self.fields:
            columns.append([change.others[name][0] or "" for change in changes])
            columns.append([rows.cell(name, change.others[name][1]) for change in changes])
        return columns
