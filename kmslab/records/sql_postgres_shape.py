"""What PostgreSQL says of a table, from its own catalogue: views, policies and partitions too."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection

from kmslab.errors import SourceError
from kmslab.records.sql_postgres import cursor_of
from kmslab.records.sql_shape import Column, Shape, no_table

_STORED: Final = ("r", "p")
_NOT_STORED: Final = {
    "v": "this is a view; name the table in which its rows are stored",
    "m": "this is a materialised view; name the table from which it is made",
    "f": "this is a foreign table; name the one in the database where its rows are stored",
}
_NUMBERS: Final = ("int2", "int4", "int8")
_TIMES: Final = ("timestamp", "timestamptz", "date")

# The tables of a name, and, where it has a point, of a schema and a name.
_NAMED: Final = """
SELECT n.nspname, c.relname, c.relkind::text, pg_table_is_visible(c.oid)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
    (c.relname = %(given)s::text AND pg_table_is_visible(c.oid))
    OR (n.nspname = %(schema)s::text AND c.relname = %(table)s::text))
ORDER BY c.relname = %(given)s::text DESC
LIMIT 1
"""
_OTHERS: Final = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN '' ELSE n.nspname || '.' END || c.relname
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\\_%%'
ORDER BY 1 LIMIT 30
"""

_TABLE: Final = """
SELECT c.oid, c.relkind::text, pg_table_is_visible(c.oid),
    EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS k ON k.oid = i.inhrelid
        WHERE i.inhparent = c.oid AND NOT k.relispartition),
    EXISTS (SELECT FROM pg_partition_tree(c.oid) AS t JOIN pg_class AS k ON k.oid = t.relid
        WHERE k.relkind = 'f')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s::text AND c.relname = %(table)s::text
"""

# Each column with the type that its own is made of, where that is a domain. `modifier` is the
# length of a text and 4, or -1.
_COLUMNS: Final = """
WITH RECURSIVE typed (attnum, type, modifier, required) AS (
    SELECT attnum, atttypid, atttypmod, attnotnull FROM pg_attribute
    WHERE attrelid = %(oid)s::oid AND attnum > 0 AND NOT attisdropped
  UNION ALL
    SELECT d.attnum, t.typbasetype, CASE WHEN d.modifier < 0 THEN t.typtypmod ELSE d.modifier END,
        d.required OR t.typnotnull
    FROM typed AS d JOIN pg_type AS t ON t.oid = d.type AND t.typtype = 'd'
)
SELECT a.attname, format_type(a.atttypid, a.atttypmod), d.required, t.typname,
    t.typcategory::text, format_type(t.oid, NULL), d.modifier
FROM typed AS d
JOIN pg_attribute AS a ON a.attrelid = %(oid)s::oid AND a.attnum = d.attnum
JOIN pg_type AS t ON t.oid = d.type AND t.typtype <> 'd'
ORDER BY a.attnum
"""

# The columns that alone are unique, in the order in which an index of them goes; the collation of
# the index where it is not the column's own.
_UNIQUE: Final = """
SELECT a.attname, CASE WHEN i.indcollation[0] <> a.attcollation
    THEN quote_ident(n.nspname) || '.' || quote_ident(k.collname) END AS other
FROM pg_index AS i
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
JOIN pg_opclass AS o ON o.oid = i.indclass[0] AND o.opcdefault
LEFT JOIN pg_collation AS k ON k.oid = i.indcollation[0]
LEFT JOIN pg_namespace AS n ON n.oid = k.collnamespace
WHERE i.indrelid = %(oid)s::oid AND i.indisunique AND i.indisvalid AND i.indnkeyatts = 1
    AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indcollation[0] <> a.attcollation, 2
"""


def find_table(connection: Connection, given: str, source: str) -> tuple[str, str]:
    """The schema and the table that `given` names: with its schema, or as the search path has it.

    SourceError where there is none, and for what stores no rows of its own.
    """
    schema, point, table = given.partition(".")
    parameters = {"given": given, "schema": schema if point else None, "table": table}
    cursor = cursor_of(connection)
    found = cursor.execute(_NAMED, parameters).fetchone()
    if found is None:
        others = [row[0] for row in cursor.execute(_OTHERS, {}).fetchall()]
        raise no_table(source, given, others)
    schema, table, kind, _ = found
    if kind not in _STORED:
        raise SourceError(f"{source}: {_NOT_STORED[kind]}", source=source)
    return schema, table


def shape_of(connection: Connection, schema: str, table: str, source: str) -> Shape | None:
    """The shape of a table; None where it is not there.

    SourceError where some of its rows are stored elsewhere, or nothing tells all of them apart.
    """
    cursor = cursor_of(connection)
    found = cursor.execute(_TABLE, {"schema": schema, "table": table}).fetchone()
    if found is None or found[1] not in _STORED:
        return None
    oid, kind, visible, inherited, foreign = found
    if inherited:
        raise SourceError(
            f"{source}: other tables inherit from it, and no index is unique over all of them; "
            "name these tables one by one, or make them partitions",
            source=source,
        )
    if foreign:
        raise SourceError(
            f"{source}: some of its partitions are foreign tables; name the others one by one",
            source=source,
        )
    unique: dict[str, str | None] = {}
    for name, collation in cursor.execute(_UNIQUE, {"oid": oid}).fetchall():
        unique.setdefault(name, collation)
    return Shape(
        table=table,
        schema=None if visible else schema,
        columns=tuple(_column(row) for row in cursor.execute(_COLUMNS, {"oid": oid}).fetchall()),
        unique=unique,
        stored_in=schema,
        unique_hint="; or name the partitions one by one" if kind == "p" else "",
    )


def _column(row: tuple[Any, ...]) -> Column:
    name, declared, required, base, category, own, modifier = row
    # A blank at the end of a char(n) is padding, or is not: no text that is compared exactly.
    text = category == "S" and base != "bpchar"
    return Column(
        name=name,
        declared=declared,
        nullable=not required,
        is_text=text,
        can_be_id=category == "S" or base in (*_NUMBERS, "uuid"),
        length=modifier - 4 if base == "varchar" and modifier >= 4 else None,
        own="bpchar" if base == "bpchar" else own,
        is_number=base in _NUMBERS,
        is_time=base in _TIMES,
        is_bytes=base == "bytea",
    )
