"""What databases say when they refuse, and what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from kmslab.errors import DatabaseUrlError, SourceError

BUSY_SECONDS: Final = 30
"""How long another program that has rows, or all of SQLite's file, locked is waited for."""

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

_NO_CONNECTION: Final = (
    "there is no connection to the database ({error}); see that it runs and can be reached, "
    "then go on"
)
_REFUSED: Final = (
    "the database does not let us in ({error}); look at the URL, at PGPASSWORD or ~/.pgpass, and "
    "at how many connections it allows"
)
_REFUSED_VALUE: Final = "the table does not take a new value ({error}); change its rules"

# By SQLSTATE, or by its first two letters, which are its class.
_POSTGRES_SAYS: Final = {
    "08": _NO_CONNECTION,
    "22": "the table does not take a new value ({error}); change its columns",
    "23": _REFUSED_VALUE,
    "P0": _REFUSED_VALUE,  # what a trigger raises
    "25006": "the database cannot be written to ({error}): it is a standby, or set to be read "
    "only; name the one that is written to, or allow it",
    "25P03": "the transaction was open for longer than the server lets it "
    "(idle_in_transaction_session_timeout); raise that for this user, or leave out --atomic",
    "25P04": "the transaction took longer than the server lets it (transaction_timeout); raise "
    "that for this user, or leave out --atomic",
    "28": "the database does not let us in ({error}); look at the user, at PGPASSWORD or "
    "~/.pgpass, and at pg_hba.conf",
    "3D000": "{error}; look at the URL",
    "40001": "other programs change the same rows all the time ({error}); go on when they have "
    "ended",
    "40P01": "other programs lock the same rows in another order ({error}); go on when they have "
    "ended",
    "42501": "a right is missing ({error}); grant it to this user",
    "428C9": "{error}; it is computed by the database: name another column",
    "53100": "the disk of the database is full ({error}); make room, then go on",
    "53200": "the database has no memory left ({error}); make room, then go on",
    "53300": "the database has too many connections ({error}); end some, or raise max_connections",
    "55P03": "rows are locked by another program for over {seconds} s; let it end, then go on",
    "57014": "the statement was cancelled ({error}); where statement_timeout says so, raise it "
    "for this user",
    "57P01": "the database was shut down, or the connection was ended by its administrator "
    "({error}); see that it runs, then go on",
    "57P02": "the database has crashed ({error}); see that it runs, then go on",
    "57P03": "the database cannot be connected to now ({error}); wait until it has started",
}
_POLICIES: Final = (
    "its rows are hidden by a policy (row-level security), so that nobody would know what is "
    "missed; connect as a user with BYPASSRLS, or as one whom no policy binds"
)
_SHUT_DOWN: Final = ("57P01", "57P02", "57P05")


class CommitUnknown(Exception):
    """The connection was lost in a COMMIT: nobody knows whether it was done."""


@contextmanager
def url_errors() -> Iterator[None]:
    """A SourceError for what is wrong with a URL."""
    try:
        yield
    except DatabaseUrlError as error:
        raise SourceError(str(error)) from None


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Turn what a database says into a SourceError that names the source and what to do."""
    try:
        yield
    except CommitUnknown as error:
        raise source_error(name, error.__cause__, unknown=True) from None
    except DBAPIError as error:
        raise source_error(name, error.orig) from None
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise source_error(name, error) from None
    except UnicodeDecodeError:
        # What SQLite complained of is in its message, and is no text.
        raise source_error(name, sqlite3.DatabaseError("malformed text")) from None
    except Exception as error:
        if not _is_postgres(error):
            raise
        raise source_error(name, error) from None


def source_error(name: str, error: BaseException | None, *, unknown: bool = False) -> SourceError:
    """The SourceError of what a database said. What was not committed has been rolled back.

    `unknown`: a commit had been asked for.
    """
    says = _postgres_says(error) if _is_postgres(error) else _sqlite_says(error)
    text = says.format(error=_first_line(error), seconds=BUSY_SECONDS)
    rest = (
        "whether the last chunk was stored shows when the campaign is resumed"
        if unknown
        else "what was not yet stored is as it was"
    )
    return SourceError(f"{name}: {text}; {rest}", source=name)


def may_be_tried_again(error: BaseException | None) -> bool:
    """Whether the same transaction may succeed at once: another one was in its way."""
    return getattr(error, "sqlstate", None) in ("40001", "40P01")


def connection_is_lost(error: BaseException | None) -> bool:
    """Whether the server has said nothing, or that it ends."""
    if not _is_postgres(error):
        return False
    state = getattr(error, "sqlstate", None)
    return state is None or state.startswith("08") or state in _SHUT_DOWN


def _is_postgres(error: BaseException | None) -> bool:
    # Without importing psycopg, which need not be installed.
    return type(error).__module__.split(".")[0] in ("psycopg", "psycopg_binary")


def _sqlite_says(error: BaseException | None) -> str:
    # An extended code has the plain one in its last byte.
    code = getattr(error, "sqlite_errorcode", None)
    says = "the database says: {error}" if code is None else _SQLITE_SAYS.get(code & 0xFF)
    return says or "the database cannot be used ({error})"


def _postgres_says(error: BaseException | None) -> str:
    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if not kinds & {"OperationalError", "InterfaceError"}:
            return "the database says: {error}"
        # What refuses a connection has no SQLSTATE here, and says FATAL.
        said = str(error)
        if "FATAL:" not in said:
            return _NO_CONNECTION
        return _POSTGRES_SAYS["57P03"] if "the database system is" in said else _REFUSED
    if state == "42501" and "row-level security" in str(error):
        return _POLICIES
    found = _POSTGRES_SAYS.get(state) or _POSTGRES_SAYS.get(state[:2])
    return found or f"the database says: {{error}} ({state})"


def _first_line(error: BaseException | None) -> str:
    # Further lines of PostgreSQL's show the row, where they are of a statement.
    said = getattr(getattr(error, "diag", None), "message_primary", None)
    if said:
        return str(said)[:300]
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if _is_postgres(error) and getattr(error, "sqlstate", None) is None:
        return " ".join(lines)[:300]
    return lines[0][:300] if lines else type(error).__name__
