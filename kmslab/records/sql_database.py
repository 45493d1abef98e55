"""The databases that tables are in: their URLs, their connections and their transactions.

All that only SQLite needs is here: it would make a file that is missing, begins a transaction only
when told to, and goes on writing to a file that is no longer there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from kmslab.database_url import EXTRAS, POSTGRESQL, shown, storable, with_driver
from kmslab.errors import SourceChanged, SourceError
from kmslab.records import sql_errors, sql_postgres, sql_postgres_shape, sql_shape
from kmslab.records.layout import Layout
from kmslab.records.sql_errors import (
    CommitUnknown,
    connection_is_lost,
    source_error,
    url_errors,
)
from kmslab.records.sql_postgres_rows import PostgresRows
from kmslab.records.sql_rows import AnyRows, TableRows
from kmslab.records.sql_shape import SQLITE, Shape

# Collations under which a text equals only itself, whatever the column's own says.
_EXACT: Final = {SQLITE: "BINARY", "mysql": "utf8mb4_bin"}


def absolute_url(url: str) -> str:
    """A database URL to be kept: it means the same wherever this process stands.

    SourceError where it holds a password, or an option that may hold one.
    """
    with url_errors():
        found = storable(url)
    return f"sqlite:///{_sqlite_path(found)}" if found.get_backend_name() == SQLITE else url


@dataclass(frozen=True, slots=True)
class Database:
    """A database, and how to be connected to it. `name` is its URL, which has no password."""

    name: str
    path: Path | None
    """The file, where it is one."""
    _engine: Engine = field(repr=False)

    @classmethod
    def of(cls, url: str, password: str | None = None) -> Database:
        """The database of a URL, which must hold no password: that is given apart from it."""
        with url_errors():
            found = storable(url)
        if found.get_backend_name() == SQLITE:
            path = _sqlite_path(found)
            return cls(f"sqlite:///{path}", path, _sqlite_engine(path))
        name = found.set(drivername=found.get_backend_name()).render_as_string()
        return cls(name, None, _engine(name, with_driver(found, password)))

    @property
    def _is_sqlite(self) -> bool:
        return self.path is not None

    @property
    def _is_postgres(self) -> bool:
        return self._engine.dialect.name == POSTGRESQL

    def shape(self, connection: Connection, given: str, source: str) -> Shape | None:
        """The shape of the table that `given` names; None where it has just gone.

        SourceError where there is none, and for one whose rows are stored elsewhere.
        """
        if self._is_postgres:
            schema, table = sql_postgres_shape.find_table(connection, given, source)
            return sql_postgres_shape.shape_of(connection, schema, table, source)
        return sql_shape.shape_of(connection, *sql_shape.find_table(connection, given, source))

    def shape_now(self, connection: Connection, shape: Shape, source: str) -> Shape | None:
        """The shape that a table has by now; None where it is not there any more."""
        if self._is_postgres:
            return sql_postgres_shape.shape_of(connection, shape.stored_in, shape.table, source)
        return sql_shape.shape_of(connection, shape.schema, shape.table)

    def schema_token(self, connection: Connection, shape: Shape) -> object:
        """What is other after any change of a table's shape; None where nothing says it cheaply,
        GONE where it is known that there is no such table."""
        if self._is_postgres:
            return sql_postgres.token(connection, shape.stored_in, shape.table)
        if not self._is_sqlite:
            return None
        return connection.exec_driver_sql("PRAGMA schema_version").scalar_one()

    def rows(self, shape: Shape, names: Sequence[str], layout: Layout) -> TableRows:
        """The rows of a table of this shape; `layout` is that of the columns `names`."""
        if self._is_postgres:
            return PostgresRows.of(shape, names, layout)
        return AnyRows.of(shape, names, layout, _EXACT.get(self._engine.dialect.name))

    def capacity(self, shape: Shape, column: str) -> int | None:
        """The longest text that a column takes; None for any. What SQLite says binds nobody."""
        return None if self._is_sqlite else shape.column(column).length

    def refuse_unwritable(
        self, connection: Connection, source: str, shape: Shape, column: str
    ) -> None:
        """SourceError where it is known beforehand that a column cannot be written to."""
        if self._is_postgres:
            with self.reading(connection):
                sql_postgres.refuse_unwritable(
                    connection, source, shape.stored_in, shape.table, column
                )

    def locked(
        self, source: str, shape: Shape, *, but_readers: bool
    ) -> AbstractContextManager[None]:
        """Keep other machines' campaigns from a table, where they can reach it: see
        `kmslab.records.source.Lockable`."""
        if not self._is_postgres:
            return nullcontext()
        table = shape.stored_in, shape.table
        return sql_postgres.locked(self._engine, source, *table, but_readers=but_readers)

    def mark(self, connection: Connection, shape: Shape) -> str:
        """Have a table carry a mark that tells it from all of its name and shape, until the
        connection is closed; with databases that have nothing fit for it, the mark tells nothing.
        """
        if self._is_postgres:
            return sql_postgres.mark(connection, shape.stored_in, shape.table)
        return str(self.file_identity())

    def carries(self, connection: Connection, shape: Shape, mark: str) -> bool:
        """Whether a table carries a mark."""
        if self._is_postgres:
            return sql_postgres.carries(connection, shape.stored_in, shape.table, mark)
        return str(self.file_identity()) == mark

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection, closed in the end; what it has not committed is rolled back."""
        if self.path is not None and not self.path.is_file():
            raise SourceError(f"{self.name}: there is no such file", source=self.name)
        connection = self._engine.connect()
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # it was lost, and whoever met that has told of it
                connection.close()

    @contextmanager
    def reading(self, connection: Connection) -> Iterator[None]:
        """A short transaction that sees one state; the one that is open, if one is."""
        if connection.in_transaction():
            yield
            return
        with _rolled_back_on_error(connection):
            if self._is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield
            connection.commit()

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A transaction that is committed in the end, and rolled back on an error."""
        with _rolled_back_on_error(connection):
            self._begin_writing(connection)
            yield
            self.commit(connection)

    def begin_writing(self, connection: Connection) -> None:
        """Begin a transaction that `commit` ends."""
        connection.begin()
        self._begin_writing(connection)

    def commit(self, connection: Connection) -> None:
        """Commit; CommitUnknown where the connection is lost before the answer."""
        try:
            connection.commit()
        except DBAPIError as error:
            if connection_is_lost(error.orig):
                raise CommitUnknown from error.orig
            raise

    def _begin_writing(self, connection: Connection) -> None:
        # Were it to begin as a reader, SQLite would refuse its first write at once, and not after
        # waiting, where another program has written meanwhile.
        if self._is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def file_identity(self) -> tuple[int, int] | None:
        """Which file this is; None where it is none. SourceChanged where it is not there.

        SQLite would go on writing to a file that has been removed or replaced.
        """
        if self.path is None:
            return None
        try:
            status = self.path.stat()
        except OSError as error:
            raise SourceChanged(
                f"{self.name}: the file is not there any more ({error.strerror}); "
                "put it back, then resume",
                source=self.name,
            ) from None
        return status.st_dev, status.st_ino


@contextmanager
def _rolled_back_on_error(connection: Connection) -> Iterator[None]:
    """A transaction that is rolled back on an error, which is the one that is told."""
    connection.begin()
    try:
        yield
    except BaseException:
        with suppress(SQLAlchemyError):  # where the connection is gone, so is the transaction
            connection.rollback()
        raise


def _sqlite_path(url: URL) -> Path:
    name = shown(url).render_as_string()
    if url.drivername not in (SQLITE, "sqlite+pysqlite"):
        raise SourceError(f"{name}: a SQLite table is read with sqlite:///PATH")
    if url.host or url.query or not url.database or url.database.startswith((":", "file:")):
        raise SourceError(
            f"{name}: name the file of the database, and nothing else: sqlite:///orders.db, "
            "or with four slashes sqlite:////data/orders.db"
        )
    # A campaign locks a source by its name, so that two names of one file must be one.
    return Path(url.database).resolve()


def _sqlite_engine(path: Path) -> Engine:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.as_uri()}?mode=rw",  # never makes a file; reads where it may not write
            uri=True,
            timeout=sql_errors.BUSY_SECONDS,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,
        )

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _engine(name: str, url: URL) -> Engine:
    try:
        if url.get_backend_name() == POSTGRESQL:
            return sql_postgres.engine_of(name, url)
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    except (ImportError, NoSuchModuleError) as error:
        hint = EXTRAS.get(url.get_backend_name(), "; install a driver that SQLAlchemy knows")
        raise SourceError(f"{name}: no driver for this database ({error}){hint}") from None
    except SQLAlchemyError as error:
        raise source_error(name, error) from None
    if engine.dialect.is_async:
        raise SourceError(f"{name}: {url.drivername} is an asynchronous driver; name another one")
    return engine
