"""Tables in SQLite and in PostgreSQL, in the hands of an application."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import psycopg

from kmslab.model import Record
from kmslab.records.source import Change, Chunk, Edit, Place, Source
from kmslab.records.spec import SourceSpec
from kmslab.records.sql import open_table

Row = tuple[Any, ...]

ORDERS = """
CREATE TABLE orders (
    record_id TEXT PRIMARY KEY,
    ciphertext_blob TEXT NOT NULL,
    provider TEXT NOT NULL,
    encryption_context TEXT,
    key_id TEXT,
    note TEXT
)
"""


class Base(Protocol):
    """A database of one kind. What an application does in it is committed."""

    kind: str
    url: str

    def execute(self, *statements: str) -> list[Row]:
        """Run statements; the rows of the last."""
        ...

    def insert(self, rows: Sequence[Row]) -> None:
        """Put rows into the table `orders`."""
        ...


class SqliteBase:
    """A file."""

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        with closing(sqlite3.connect(path)) as database:  # WAL: it is there for its readers
            database.execute("PRAGMA user_version = 1")

    def execute(self, *statements: str) -> list[Row]:
        with closing(sqlite3.connect(self.path)) as database, database:
            found: list[Row] = []
            for statement in statements:
                found = database.execute(statement).fetchall()
            return found

    def insert(self, rows: Sequence[Row]) -> None:
        with closing(sqlite3.connect(self.path)) as database, database:
            marks = ", ".join("?" * len(rows[0]))
            database.executemany(f"INSERT INTO orders VALUES ({marks})", rows)


class PostgresBase:
    """A database of a server, with one connection that is there all the time."""

    kind = "postgresql"

    def __init__(self, url: str, connection: psycopg.Connection[Row]) -> None:
        self.url = url
        self._connection = connection

    def execute(self, *statements: str) -> list[Row]:
        with self._connection.transaction():
            cursor = self._connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def insert(self, rows: Sequence[Row]) -> None:
        with self._connection.cursor().copy("COPY orders FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def make(base: Base, rows: Sequence[Row] = (), table: str = ORDERS) -> Base:
    """The table `orders` with these rows."""
    base.execute(table)
    if rows:
        base.insert(rows)
    return base


def dump(base: Base, columns: str = "*") -> list[Row]:
    """Every row in the order of ids."""
    return base.execute(f"SELECT {columns} FROM orders ORDER BY record_id")


def blobs(base: Base) -> list[str]:
    """Every blob in the order of ids."""
    return [row[0] for row in dump(base, "ciphertext_blob")]


def orders(count: int) -> list[Row]:
    """Rows for a table as in ORDERS."""
    return [
        (f"订单-{n:05}", f"old-{n}", "tencent", '{"a": "b"}', "k1", f"note {n}")
        for n in range(count)
    ]


def opened(base: Base, table: str = "orders", **more: Any) -> Source:
    """The table as a source."""
    return open_table(SourceSpec(base.url, table, **more))


def read(source: Source) -> list[tuple[Place, str]]:
    """The place and the blob of every record."""
    return [
        (place, record.ciphertext_blob)
        for chunk in source.parts[0].read()
        for place, record in zip(chunk.places, chunk.records, strict=True)
    ]


def changes(chunk: Chunk, **others: str | None) -> list[Change]:
    """A new blob for every record, and new values for these fields."""
    return [
        Change(
            place,
            record.record_id,
            record.ciphertext_blob,
            record.ciphertext_blob.replace("old", "new"),
            {name: (getattr(record, name), value) for name, value in others.items()},
        )
        for place, record in zip(chunk.places, chunk.records, strict=True)
    ]


def change_all(source: Source, **others: str | None) -> list[Place]:
    """Change every record; the places of the lost ones."""
    lost: list[Place] = []
    with source.parts[0].edit() as edit:
        for chunk in edit:
            lost += edit.write(changes(chunk, **others))
        edit.finish()
    return lost


def first_chunk(edit: Edit) -> Chunk:
    """The first chunk of a pass."""
    return next(iter(edit))


def records(source: Source) -> list[Record]:
    """Every record."""
    return [record for chunk in source.parts[0].read() for record in chunk.records]
