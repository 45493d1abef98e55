"""The statements that read and change the rows of one table in PostgreSQL.

A chunk is changed by one statement, which takes whole columns as arrays: one statement for each row
takes five times as long. A value is cast to the type of its column but never to its length, so that
what is too long is refused and not cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from kmslab.records.layout import Layout
from kmslab.records.source import CHUNK_ROWS, MOVED_FIELDS, Change, Place, Value
from kmslab.records.sql_postgres import cursor_of, quoted
from kmslab.records.sql_rows import cell, values_of
from kmslab.records.sql_shape import Column, Shape

# Others may have put many rows in between two ids.
_SOME_ROWS: Final = 1_000
# The collation in which a text equals only itself.
_EXACT: Final = 'COLLATE "C"'

_PAGE: Final = "SELECT {cells} FROM {table} AS t {where} ORDER BY {id} LIMIT {rows}"
_ENDS: Final = """
SELECT {cell} FROM (
    SELECT {name}, row_number() OVER (ORDER BY {id}) AS number FROM {table} AS t
) AS t WHERE number %% %(rows)s = 0 ORDER BY number
"""
_WITHOUT_ID: Final = "SELECT 1 FROM {table} AS t WHERE {key} IS NULL LIMIT 1"
_STORED: Final = "SELECT {cells} FROM {table} AS t WHERE {between}"
_SWAP: Final = """
UPDATE {table} AS t SET {sets} FROM unnest({arrays}) AS k({names}) WHERE {same}
"""


@dataclass(frozen=True, slots=True)
class PostgresRows:
    """The rows of a table in PostgreSQL: see `kmslab.records.sql_rows.TableRows`."""

    columns: tuple[Column, ...]
    id: Column
    _blob: Column
    _moved: Mapping[str, Column]
    _table: str
    _collation: str | None

    @classmethod
    def of(cls, shape: Shape, names: Sequence[str], layout: Layout) -> PostgresRows:
        """The rows of a table of this shape; `layout` is that of the columns `names`."""
        columns = tuple(shape.column(name) for name in names)
        at = layout.at
        identity = columns[at["record_id"]]
        return cls(
            columns=columns,
            id=identity,
            _blob=columns[at["ciphertext_blob"]],
            _moved={name: columns[at[name]] for name in MOVED_FIELDS if name in at},
            _table=f"{quoted(shape.stored_in)}.{quoted(shape.table)}",
            _collation=shape.unique[identity.name],
        )

    def page(
        self, connection: Connection, after: Place | None, until: Place | None
    ) -> Sequence[Sequence[Any]]:
        """See `TableRows.page`."""
        bounds = []
        if after is not None:
            bounds.append(f"{self._id} > {self._given('after')}")
        if until is not None:
            bounds.append(f"{self._id} <= {self._given('until')}")
        found = cursor_of(connection).execute(
            _PAGE.format(
                cells=", ".join(map(self._cell, self.columns)),
                table=self._table,
                where=f"WHERE {' AND '.join(bounds)}" if bounds else "",
                id=self._id,
                rows=CHUNK_ROWS,
            ),
            {"after": after, "until": until},
        )
        return list(zip(*found.fetchall(), strict=True))

    def ends(self, connection: Connection, rows: int) -> Sequence[Place]:
        """See `TableRows.ends`."""
        found = cursor_of(connection).execute(
            _ENDS.format(
                cell=self._cell(self.id),
                name=quoted(self.id.name),
                id=self._id,
                table=self._table,
            ),
            {"rows": rows},
        )
        return [row[0] for row in found.fetchall()]

    def lacks_id(self, connection: Connection) -> bool:
        """See `TableRows.lacks_id`."""
        statement = _WITHOUT_ID.format(table=self._table, key=self._key)
        return cursor_of(connection).execute(statement, {}).fetchone() is not None

    def stored(
        self, connection: Connection, fields: Sequence[str], first: Place, last: Place
    ) -> Iterator[Sequence[Sequence[Any]]]:
        """See `TableRows.stored`."""
        wanted = [self.id, self._blob, *(self._moved[name] for name in fields)]
        cursor = cursor_of(connection)
        cursor.execute(
            _STORED.format(
                cells=", ".join(map(self._cell, wanted)),
                table=self._table,
                between=self._between,
            ),
            {"first": first, "last": last},
        )
        while page := cursor.fetchmany(_SOME_ROWS):
            yield page

    def swap(self, connection: Connection, fields: Sequence[str], changes: Sequence[Change]) -> int:
        """See `TableRows.swap`."""
        columns = values_of(changes, fields, self._new_cell)
        names = ["id", "old", "new"]
        for name in fields:
            names += [f"old_{name}", f"new_{name}"]
        given = {name: list(column) for name, column in zip(names, columns, strict=True)}
        places = given["id"]
        cursor = cursor_of(connection)
        cursor.execute(self._swap(fields, names), {**given, "first": places[0], "last": places[-1]})
        changed: int = cursor.rowcount
        return changed

    def _swap(self, fields: Sequence[str], names: Sequence[str]) -> str:
        sets = [f"{quoted(self._blob.name)} = k.new"]
        same = [
            f"{self._id} = k.id",
            self._between,
            f"t.{quoted(self._blob.name)}::text {_EXACT} = k.old",
        ]
        if self.id.is_text or self.id.own == "bpchar":
            # Under its index another id may equal one: the same in capitals, say.
            same.append(f"{self._key}::text {_EXACT} = k.id::text")
        for name in fields:
            column = self._moved[name]
            sets.append(f"{quoted(column.name)} = k.new_{name}::{column.own}")
            text = f"coalesce(t.{quoted(column.name)}::text, '')"
            same.append(f"{text} {_EXACT} = k.old_{name}")
        arrays = [f"%({name})b::{self._array if name == 'id' else 'text[]'}" for name in names]
        return _SWAP.format(
            table=self._table,
            sets=", ".join(sets),
            arrays=", ".join(arrays),
            names=", ".join(names),
            same=" AND ".join(same),
        )

    def _new_cell(self, field: str, value: Value) -> str | None:
        return cell(value, nullable=self._moved[field].nullable)

    @property
    def _key(self) -> str:
        return f"t.{quoted(self.id.name)}"

    @property
    def _id(self) -> str:
        """The id as its unique index compares it."""
        return self._key if self._collation is None else f"{self._key} COLLATE {self._collation}"

    @property
    def _type(self) -> str:
        """The type by which an id is given: such that its index is used."""
        return "bigint" if self.id.is_number else self.id.own

    @property
    def _array(self) -> str:
        """That of many; the driver knows nothing of types that somebody has made."""
        return "bigint[]" if self.id.is_number else f"text[]::{self.id.own}[]"

    def _given(self, name: str) -> str:
        return (
            f"%({name})s::{self._type}" if self.id.is_number else f"%({name})s::text::{self._type}"
        )

    @property
    def _between(self) -> str:
        return f"{self._id} BETWEEN {self._given('first')} AND {self._given('last')}"

    def _cell(self, column: Column) -> str:
        """A cell as it is read: numbers as such where they are ids, times as such, all else as
        text."""
        name = f"t.{quoted(column.name)}"
        number = column.is_number and column is self.id
        return name if number or column.is_time else f"{name}::text"
