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

from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from kmslab.errors import SourceChanged, SourceError

BUSY_SECONDS: Final = 30
"""How long SQLite waits for another program that has the database locked."""

SQLITE: Final = "sqlite"
_PASSWORDS: Final = frozenset({"password", "passwd", "pwd"})
# The options of a URL that may be stored and shown; all others may hold a secret, whatever the
# driver calls it (odbc_connect, authToken, sslpassword). In small letters.
_KEPT: Final = frozenset(
    {
        *(
            "user",
            "host",
            "hostaddr",
            "port",
            "service",
            "service_name",
            "unix_socket",
            "load_balance_hosts",
        ),
        *("application_name", "fallback_application_name", "client_encoding", "charset", "options"),
        *("connect_timeout", "timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
        *("keepalives_count", "tcp_user_timeout", "target_session_attrs", "channel_binding"),
        *("gssencmode", "krbsrvname", "require_auth", "requirepeer", "passfile"),
        *("read_default_file", "read_default_group", "local_infile", "collation"),
        *("sslmode", "sslnegotiation", "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir"),
        *("sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version"),
        *("ssl", "ssl_mode", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_cipher"),
        *("ssl_disabled", "ssl_check_hostname", "ssl_verify_cert", "ssl_verify_identity"),
        *("driver", "encrypt", "trustservercertificate", "trusted_connection"),
        *("mode", "uri", "cache"),
    }
)
_EXTRAS: Final = {"postgresql": "; install kmslab[postgres]"}

# Collations under which a text equals only itself, whatever the column's own says.
_EXACT: Final = {SQLITE: "BINARY", "postgresql": "C", "mysql": "utf8mb4_bin"}


def without_password(url: str) -> str:
    """A database URL as it may be shown: without its password, and without every option that is
    not known to hold none.

    SourceError for what is no database URL; it is not shown, since it may hold a password.

    >>> without_password("postgresql://app:secret@db.example/shop?sslmode=require")
    'postgresql://app@db.example/shop?sslmode=require'
    """
    return _without_password(_parsed(url)).render_as_string(hide_password=False)


def password_of(url: str) -> str | None:
    """The password in a database URL, which is to be kept apart from it and stored nowhere.

    SourceError where it holds several.

    >>> password_of("postgresql://app:secret@db.example/shop")
    'secret'
    """
    parsed = _parsed(url)
    given = {password for password in _passwords(parsed) if password is not None}
    if len(given) > 1:
        raise SourceError(f"{without_password(url)}: the URL holds several passwords; give one")
    return next(iter(given), None)


def split_password(url: str) -> tuple[str, str | None]:
    """A database URL as it may be stored, and the password that was in it.

    SourceError where an option of it may hold another secret.

    >>> split_password("postgresql://app@db.example/shop?password=secret")
    ('postgresql://app@db.example/shop', 'secret')
    """
    password = password_of(url)
    _refuse_unknown(_parsed(url))
    return (url, None) if password is None else (without_password(url), password)


def absolute_url(url: str) -> str:
    """A database URL to be kept: it means the same wherever this process stands.

    SourceError where it holds a password, or an option that may hold one.
    """
    parsed = _storable(url)
    return f"sqlite:///{_sqlite_path(parsed)}" if parsed.get_backend_name() == SQLITE else url


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
        parsed = _storable(url)
        if parsed.get_backend_name() == SQLITE:
            path = _sqlite_path(parsed)
            return cls(f"sqlite:///{path}", path, _sqlite_engine(path))
        name = parsed.set(drivername=parsed.get_backend_name()).render_as_string()
        if password is not None:
            parsed = parsed.set(password=password)
        return cls(name, None, _engine(name, parsed))

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


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise SourceError(
            "this is no database URL; it should look like sqlite:///orders.db or "
            "postgresql://user@host/database"
        ) from None


def _storable(url: str) -> URL:
    parsed = _parsed(url)
    if any(password is not None for password in _passwords(parsed)):
        raise SourceError(
            f"{without_password(url)}: the URL holds a password, which would be stored with it; "
            f"leave it out, and {_ELSEWHERE}"
        )
    _refuse_unknown(parsed)
    return parsed


_ELSEWHERE: Final = "let the driver find it: for PostgreSQL in PGPASSWORD or ~/.pgpass"


def _refuse_unknown(url: URL) -> None:
    """SourceError where the URL has an option that is neither a password nor known to be none."""
    for name in url.query:
        if name.lower() not in _KEPT | _PASSWORDS:
            shown = _without_password(url).render_as_string()
            raise SourceError(
                f"{shown}: the option {name[:40]!r} of the URL may hold a secret, which would be "
                f"stored with it; leave it out, and {_ELSEWHERE}, or another setting in a "
                "file of its own: for PostgreSQL ~/.pg_service.conf"
            )


def _passwords(url: URL) -> Iterator[str | None]:
    """Everything that stands where a password does."""
    yield url.password
    for name, value in url.query.items():
        if name.lower() in _PASSWORDS:
            yield from (value,) if isinstance(value, str) else value


def _without_password(url: URL) -> URL:
    query = {name: value for name, value in url.query.items() if name.lower() in _KEPT}
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)


def _sqlite_path(url: URL) -> Path:
    shown = without_password(url.render_as_string(hide_password=False))
    if url.drivername not in (SQLITE, "sqlite+pysqlite"):
        raise SourceError(f"{shown}: a SQLite table is read with sqlite:///PATH")
    if url.host or url.query or not url.database or url.database.startswith((":", "file:")):
        raise SourceError(
            f"{shown}: name the file of the database, and nothing else: sqlite:///orders.db, "
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
        hint = _EXTRAS.get(url.get_backend_name(), "; install a driver that SQLAlchemy knows")
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
