"""What PostgreSQL answers, as a LabError that names the lab and what to do.

By SQLSTATE, since texts come in the server's language. Of an answer the first line is shown: the
others may hold what was to be stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from shlex import quote
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

from kmslab.errors import LabBusy, LabError, LabNotFound, LabUnreachable, TamperedLab
from kmslab.keystore.database import BUSY_SECONDS

_BUSY: Final = ("55P03", "40001", "40P01")  # a lock, a serialization, a deadlock
# The server goes down, or is not up yet; or has ended a session that did nothing for too long.
_GONE: Final = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04")
_RIGHTS: Final = "42501"
_READ_ONLY: Final = "25006"
_DISK_FULL: Final = "53100"
_CONNECTIONS: Final = "53300"
# Classes of states that say that the tables or rows are not what kmslab made: constraints, columns
# and types, damage.
_DAMAGE: Final = ("23", "42", "XX")
_NO_VALUE: Final = "22"
_FORGETS: Final = (
    "a pooler between forgets prepared statements: have one that keeps them (PgBouncer 1.21 or "
    "newer, max_prepared_statements above 0), or connect to the server itself"
)
_ADVICE: Final = {
    "26000": _FORGETS,
    "42P05": _FORGETS,
    "57014": "where statement_timeout says so, raise it for the lab's role",
}

_MADE: Final = "the database and the role are made by the server's administrator"
_LOGIN: Final = "give the right one in PGPASSWORD or ~/.pgpass, or look at the one in the URL"
_HBA: Final = "its administrator has to allow this machine and role there"
# What a server says that lets nobody in until somebody has done something about it, without the
# names in it, of which all but the quotes is taken out: they may hold any words.
_REFUSED: Final = {
    "password authentication failed": _LOGIN,
    "no password supplied": _LOGIN,
    "empty password returned": _LOGIN,
    "no pg_hba.conf entry": _HBA,
    "pg_hba.conf rejects": _HBA,
    'role "" does not exist': _MADE,
    'database "" does not exist': _MADE,
    "not permitted to log in": _MADE,
    "permission denied for database": (
        "its administrator has to GRANT CONNECT on the database to the role"
    ),
}
_NAMES: Final = re.compile(r""""[^"]*"|'[^'\s]*'""")


@contextmanager
def lab_errors(where: str, special: Mapping[str, LabError] | None = None) -> Iterator[None]:
    """Turn what PostgreSQL answers into a LabError; `special` has those of some SQLSTATEs."""
    try:
        yield
    except DBAPIError as error:
        raise lab_error(where, error.orig, special) from None
    except psycopg.Error as error:
        raise lab_error(where, error, special) from None


def lab_error(
    where: str, error: BaseException | None, special: Mapping[str, LabError] | None = None
) -> LabError:
    """The LabError of an answer."""
    state = getattr(error, "sqlstate", None) or ""
    text = said(error)
    if special and state in special:
        return special[state]
    if state in _BUSY:
        return LabBusy(
            f"{where}: another process has held the lab for over {BUSY_SECONDS} s; try again"
        )
    if state == _DISK_FULL:
        return LabError(f"{where}: the database's disk is full; nothing was changed")
    if state == _RIGHTS:
        return LabError(
            f"{where}: the role has not the rights that a lab needs: {text}; have it own the "
            "schema and its tables"
        )
    if state == _READ_ONLY:
        return LabError(
            f"{where}: the database is read-only: {text}; name the primary server, not a replica"
        )
    if state in _ADVICE:
        return LabError(f"{where}: the database refused: {text}; {_ADVICE[state]}")
    if not state or state.startswith("08") or state in (*_GONE, _CONNECTIONS):
        return _unreachable(where, error, text)
    if state.startswith(_NO_VALUE):
        return LabError(f"{where}: PostgreSQL cannot store this: {text}; nothing was changed")
    if state.startswith(_DAMAGE):
        return TamperedLab(f"{where}: the database is damaged: {text}")
    return LabError(f"{where}: the database refused: {text} (SQLSTATE {state})")


def no_lab(where: str) -> dict[str, LabError]:
    """What to say where the table that every lab has is missing, or its schema."""
    missing = f"there is no lab at {where}; make one with `kmslab lab init {quote(where)}`"
    return {state: LabNotFound(missing) for state in ("42P01", "3F000")}


def said(error: BaseException | None) -> str:
    """The first line of an answer."""
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    return primary or (str(error).strip().splitlines() or [type(error).__name__])[0]


def _unreachable(where: str, error: BaseException | None, text: str) -> LabError:
    if isinstance(error, psycopg.DataError):
        return LabError(f"{where}: PostgreSQL cannot store this: {text}; nothing was changed")
    if not isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return LabError(f"{where}: the database cannot be used: {text}")
    # A connection that was refused has no SQLSTATE. Its text may be in another language; then the
    # advice is missing, and the text says it all the same.
    if isinstance(error, psycopg.Error) and error.pgconn and error.pgconn.needs_password:
        return LabError(
            f"{where}: the database asks for a password: give it in PGPASSWORD or ~/.pgpass"
        )
    plain = _NAMES.sub('""', text)
    advice = "try again"
    if "too many" in plain:
        advice = "end some, or have the server allow more (max_connections); then try again"
    elif "read-only" in plain or "standby" in plain:
        advice = "name the primary server, not a replica; during a failover try again"
    else:
        for words, refused in _REFUSED.items():
            if words in plain:
                return LabError(f"{where}: the database does not let us in: {text}; {refused}")
    return LabUnreachable(f"{where}: the database does not answer: {text}; {advice}")
