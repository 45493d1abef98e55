"""What a database says of a table: its columns, and which of them tells its rows apart.

This is what SQLAlchemy finds out of any database; PostgreSQL is asked itself.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Enum, Inspector, Integer, String, Uuid, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.exc import CompileError, NoSuchTableError, SAWarning
from sqlalchemy.types import NullType, TypeEngine

from kmslab.errors import SourceError

SQLITE: Final = "sqlite"
GONE: Final = object()
"""In place of a token: the table is not there any more."""

# The unique indexes of one column, with the collation in which it is unique: SQLite lets it be
# another than the column's own, and SQLAlchemy does not tell.
_SQLITE_UNIQUE: Final = text(
    "SELECT min(x.name), min(x.coll) FROM pragma_index_list(:name) AS i"
    " JOIN pragma_index_xinfo(i.name) AS x ON x.key"
    ' WHERE i."unique" AND NOT i.partial GROUP BY i.name HAVING count(*) = 1'
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the table declares it, and what follows from that.

    `own` is the type as PostgreSQL calls it, without a length; `type` is how SQLAlchemy sees it,
    where the table is read through that.
    """

    name: str
    declared: str
    nullable: bool
    is_text: bool
    """Whether it holds text, as far as it says."""
    can_be_id: bool
    """Whether it holds whole numbers, text or UUIDs, as far as it says."""
    length: int | None = None
    """The longest text that it takes; None for any."""
    own: str = ""
    is_number: bool = False
    is_time: bool = False
    is_bytes: bool = False
    type: TypeEngine[Any] = field(default_factory=NullType, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Shape:
    """A table. `unique` has each column that alone tells its rows apart, with its collation.

    `schema` is None for the usual one; `stored_in` is what it is called, where that matters.
    """

    table: str
    schema: str | None
    columns: tuple[Column, ...]
    unique: Mapping[str, str | None]
    stored_in: str = ""
    unique_hint: str = ""
    """What else to say where no index is unique."""

    @property
    def name(self) -> str:
        """The table, with its schema where that is not the usual one."""
        return self.table if self.schema is None else f"{self.schema}.{self.table}"

    @property
    def fingerprint(self) -> str:
        """A digest of the table's name and its columns."""
        columns = [(column.name, column.declared, column.nullable) for column in self.columns]
        described = json.dumps([self.name, columns], ensure_ascii=False)
        return hashlib.sha256(described.encode("utf-8", "surrogatepass")).hexdigest()

    def column(self, name: str) -> Column:
        """The column of a name."""
        return next(column for column in self.columns if column.name == name)


def find_table(connection: Connection, given: str, source: str) -> tuple[str | None, str]:
    """The schema (None for the usual one) and the table that `given` names.

    SourceError where there is none, and for a view: what it shows is stored elsewhere.
    """
    inspector = inspect(connection)
    schema, table = None, given
    if "." in given and given not in inspector.get_table_names():
        schema, table = given.split(".", 1)
        if schema == inspector.default_schema_name:
            schema = None
        elif schema not in inspector.get_schema_names():
            raise SourceError(f"{source}: no schema {schema!r} in the database", source=source)
    tables = inspector.get_table_names(schema)
    if table in tables:
        return schema, table
    if table in inspector.get_view_names(schema):
        raise SourceError(
            f"{source}: this is a view; name the table in which its rows are stored", source=source
        )
    raise no_table(source, table, sorted(tables)[:30])


def no_table(source: str, table: str, others: Sequence[str]) -> SourceError:
    """The error where there is no table of a name, but others."""
    found = ", ".join(map(repr, others)) or "no table"
    return SourceError(
        f"{source}: no table {table!r} in the database; found: {found}", source=source
    )


def shape_of(connection: Connection, schema: str | None, table: str) -> Shape | None:
    """The shape of a table; None where it is not there."""
    inspector = inspect(connection)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # of types that SQLAlchemy does not know
            columns = inspector.get_columns(table, schema)
            unique = _unique(connection, inspector, schema, table)
    except NoSuchTableError:
        return None
    dialect = connection.dialect
    return Shape(
        table=table,
        schema=schema,
        columns=tuple(_column(column, dialect) for column in columns),
        unique=unique,
    )


def _column(column: ReflectedColumn, dialect: Dialect) -> Column:
    value = _value_type(column["type"], dialect)
    return Column(
        name=column["name"],
        declared=_declared(column["type"], dialect),
        nullable=column["nullable"],
        is_text=_is_text(value),
        can_be_id=_is_text(value) or isinstance(value, Integer | Uuid),
        length=getattr(value, "length", None),
        type=value,
    )


def _unique(
    connection: Connection, inspector: Inspector, schema: str | None, table: str
) -> dict[str, str | None]:
    found = [inspector.get_pk_constraint(table, schema)["constrained_columns"]]
    if connection.dialect.name == SQLITE:
        by_index = connection.execute(_SQLITE_UNIQUE, {"name": table}).all()
        unique = dict.fromkeys(name for names in found if len(names) == 1 for name in names)
        # Of several collations any will do; the last that is set is the simplest, BINARY.
        return {**unique, **{name: coll for name, coll in sorted(by_index, reverse=True) if name}}
    found += [entry["column_names"] for entry in inspector.get_unique_constraints(table, schema)]
    for index in inspector.get_indexes(table, schema):
        partial = any(option.endswith("_where") for option in index.get("dialect_options", {}))
        if index["unique"] and not partial:
            found.append([name or "" for name in index["column_names"]])  # None: an expression
    return dict.fromkeys(names[0] for names in found if len(names) == 1)


def _declared(type_: TypeEngine[Any], dialect: Dialect) -> str:
    try:
        return type_.compile(dialect)
    except CompileError:
        return type(type_).__name__


def _value_type(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """The type by which values go to and fro: such that they are numbers, times and text."""
    if dialect.name == SQLITE:
        # A value there has its own type; what a column says of itself may be anything.
        return NullType()
    if isinstance(type_, String) and not isinstance(type_, Enum):
        return String(type_.length)  # its collation apart, which a bound value would bring along
    return Uuid(as_uuid=False) if isinstance(type_, Uuid) else type_


def _is_text(value: TypeEngine[Any]) -> bool:
    return isinstance(value, NullType) or (
        isinstance(value, String) and not isinstance(value, Enum)
    )
