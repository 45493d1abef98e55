"""The databases that tables are in: their URLs, their transactions, and how they fail.

All that only SQLite needs is here: it would make a file that is missing, begins a transaction only
when told to, and goes on writing to a file that is no longer there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

from kmslab.database_url import EXTRAS, shown, storable, with_driver
from kmslab.errors import DatabaseUrlError, SourceChanged, SourceError

BUSY_SECONDS: Final = 30
"""How long SQLite waits for another program that has the database locked."""

SQLITE: Final = "sqlite"
# Collations under which a text equals only itself, whatever the column's own says.
_EXACT: Final = {SQLITE: "BINARY", "postgresql": "C", "mysql": "utf8mb4_bin"}


def absolute_url(url: str) -> str:
    """A database URL to be kept: it means the same wherever this process stands.

    SourceError where it holds a password, or an option that may hold one.
    """
    with url_errors():
        found = storable(url)
    return f"sqlite:///{_sqlite_path(found)}" if found.get_backend_name() == SQLITE else url


@contextmanager
def url_errors() -> Iterator[None]:
    """A SourceError for what is wrong with a URL."""
    try:
        yield
    except DatabaseUrlError as error:
        raise SourceError(str(error)) from None


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
    def exact_collation(self) -> str | None:
        """The collation under which a text equals only itself; None where none is known."""
        return _EXACT.get(self._engine.dialect.name)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, which stores what it is given, whatever a column's type."""
        return self.path is not None

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A connection, closed in the end; what it has not committed is rolled back."""
        if self.path is not None and not self.path.is_file():
            raise SourceError(f"{self.name}: there is no such file", source=self.name)
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def reading(self, connection: Connection) -> Iterator[None]:
        """A short transaction that sees one state; the one that is open, if one is."""
        if connection.in_transaction():
            yield
            return
        with connection.begin():
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        """A transaction that is committed in the end, and rolled back on an error."""
        with connection.begin():
            self._begin_writing(connection)
            yield

    def begin_writing(self, connection: Connection) -> None:
        """Begin a transaction that `Connection.commit` ends."""
        connection.begin()
        self._begin_writing(connection)

    def _begin_writing(self, connection: Connection) -> None:
        # Were it to begin as a reader, SQLite would refuse its first write at once, and not after
        # waiting, where another program has written meanwhile.
        if self.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    def schema_token(self, connection: Connection) -> int | None:
        """What is other after any change of the schema; None where nothing says it cheaply."""
        if not self.is_sqlite:
            return None
        token: int = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        return token

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
            timeout=BUSY_SECONDS,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,
        )

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)


def _engine(name: str, url: URL) -> Engine:
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    except (ImportError, NoSuchModuleError) as error:
        hint = EXTRAS.get(url.get_backend_name(), "; install a driver that SQLAlchemy knows")
        raise SourceError(f"{name}: no driver for this database ({error}){hint}") from None
    except SQLAlchemyError as error:
        raise SourceError(f"{name}: {_first_line(error)}") from None
    if engine.dialect.is_async:
        raise SourceError(f"{name}: {url.drivername} is an asynchronous driver; name another one")
    return engine


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Turn what a database says into a SourceError that names the source and what to do."""
    try:
        yield
    except DBAPIError as error:
        raise source_error(name, error.orig) from None
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise source_error(name, error) from None
    except UnicodeDecodeError:
        # What SQLite complained of is in its message, and is no text.
        raise source_error(name, sqlite3.DatabaseError("malformed text")) from None


_SQLITE_SAYS: Final = {
    sqlite3.SQLITE_BUSY: "locked by another program for over {seconds} s; let it end",
    sqlite3.SQLITE_LOCKED: "locked by another program; let it end",
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_READONLY: "the database cannot be written to ({error}); allow it",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened ({error}); look at its permissions "
    "and its folder's",
    sqlite3.SQLITE_IOERR: "the database cannot be read or written ({error}); look at its disk",
    sqlite3.SQLITE_NOTADB: "this is no SQLite database; name another file",
    sqlite3.SQLITE_CORRUPT: "the database is damaged ({error}); restore it from a backup",
    sqlite3.SQLITE_CONSTRAINT: "the table does not take a new value ({error}); change its rules",
}


def source_error(name: str, error: BaseException | None) -> SourceError:
    """The SourceError of what a database said. What was not committed has been rolled back."""
    # An extended code has the plain one in its last byte.
    code = getattr(error, "sqlite_errorcode", None)
    says = "the database says: {error}" if code is None else _SQLITE_SAYS.get(code & 0xFF)
    text = (says or "the database cannot be used ({error})").format(
        error=_first_line(error), seconds=BUSY_SECONDS
    )
    return SourceError(f"{name}: {text}; what was not yet stored is as it was", source=name)


def _first_line(error: BaseException | None) -> str:
    # Further lines of PostgreSQL's show the row.
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
