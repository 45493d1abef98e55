"""What only PostgreSQL needs: its connections, a token of a table's shape, and a lock on a table
that holds on every machine."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL

from kmslab.errors import SourceBusy, SourceError
from kmslab.records import sql_errors
from kmslab.records.sql_shape import GONE

LOCK_SECONDS: Final = 1.0
"""How long a lock is waited for: a server takes a while to see that whoever had it is gone."""

_LOCK_POLLS: Final = 0.02
# In the upper half of a lock's number; the table's is in the lower one.
_LOCK_SPACE: Final = int.from_bytes(b"kmsl", "big")

# What is given unless the URL says otherwise: nobody waits for ever for a machine that is gone.
_USUAL: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "fallback_application_name": "kmslab",
    "client_encoding": "utf8",
}

# For each connection; those that a server does not know are left out.
_SETTINGS: Final = {
    # Rows that a policy hides are an error, and not silently missed.
    "row_security": "off",
    # Times as they are meant, in whatever zone and style the server shows them.
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    # Pages are in the order of a unique index: a table without statistics is not sorted instead.
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    # A campaign's lock is held by a connection that does nothing else; one of a machine that is
    # gone is not held for hours.
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


def engine_of(name: str, url: URL) -> Engine:
    """The engine of a URL. SourceError where psycopg is not there, or another driver is named."""
    if url.get_driver_name() != "psycopg":
        raise SourceError(f"{name}: tables are read through psycopg 3: say postgresql://")
    given = set(url.query)
    if "PGCONNECT_TIMEOUT" in os.environ:
        given.add("connect_timeout")
    options = {option: value for option, value in _USUAL.items() if option not in given}
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        # A pooler between us and the server would have to know of prepared statements.
        connect_args={**options, "prepare_threshold": None},
    )
    event.listen(engine, "connect", _set_up)
    return engine


def _set_up(connection: Any, _: object) -> None:
    settings = {**_SETTINGS, "lock_timeout": f"{round(sql_errors.BUSY_SECONDS * 1000)}ms"}
    connection.execute(
        "SELECT set_config(name, value, false)"
        " FROM unnest(%s::text[], %s::text[]) AS v(name, value)"
        " WHERE current_setting(name, true) IS NOT NULL",
        (list(settings), list(settings.values())),
    )
    connection.commit()


def cursor_of(connection: Connection) -> Any:
    """A cursor of the driver's own, inside the transaction of the connection. Values go to and fro
    as they are stored, which takes a fraction of the time of text, and of SQLAlchemy's own way."""
    driver: Any = connection.connection.driver_connection
    return driver.cursor(binary=True)


def quoted(name: str) -> str:
    """A name of a table or column in a statement with parameters.

    >>> print(quoted('a"%'))
    "a""%%"
    """
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def token(connection: Connection, schema: str, table: str) -> object:
    """What is other after any change of the table's columns or unique indexes; GONE where the
    table is not there, and the transaction has failed then.

    Until the transaction ends the table's shape stays as it is: it is locked as any reader does.
    """
    relation = f"{quoted(schema)}.{quoted(table)}"
    cursor = cursor_of(connection)
    try:
        # A table is locked before what the statement reads is.
        cursor.execute(
            _AS_IT_IS.format(relation=relation), {"relation": relation.replace("%%", "%")}
        )
    except Exception as error:
        if getattr(error, "sqlstate", None) in ("42P01", "3F000"):
            return GONE
        raise
    return cursor.fetchone()


_AS_IT_IS: Final = """
SELECT concat_ws(' ', c.oid, c.relkind,
    (SELECT md5(string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod,
            a.attnotnull, a.attgenerated, a.attcollation), ',' ORDER BY a.attnum))
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT string_agg(concat_ws(' ', i.indexrelid, i.indisvalid), ',' ORDER BY i.indexrelid)
        FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique))
FROM pg_class AS c
WHERE NOT EXISTS (SELECT FROM {relation} LIMIT 0) AND c.oid = %(relation)s::text::regclass
"""


def refuse_unwritable(
    connection: Connection, name: str, schema: str, table: str, column: str
) -> None:
    """SourceError where the column of a table cannot be written to, before anything is begun."""
    relation = f"{quoted(schema)}.{quoted(table)}".replace("%%", "%")
    cursor = cursor_of(connection)
    cursor.execute(
        "SELECT current_setting('transaction_read_only') = 'on',"
        " has_column_privilege(%(relation)s::text::regclass, %(column)s::text, 'UPDATE'),"
        " attgenerated <> '', quote_ident(current_user) FROM pg_attribute"
        " WHERE attrelid = %(relation)s::text::regclass AND attname = %(column)s::text",
        {"relation": relation, "column": column},
    )
    read_only, allowed, generated, user = cursor.fetchone() or (False, True, False, "")
    why = None
    if read_only:
        why = (
            "the database cannot be written to: it is a standby, or set to be read only; name the "
            "one that is written to, or allow it"
        )
    elif generated:
        why = f"column {column!r} is computed by the database; name the one that is stored"
    elif not allowed:
        grant = f"GRANT UPDATE ({quoted(column)}) ON {quoted(schema)}.{quoted(table)} TO {user}"
        why = f"this user may not change column {column!r}: {grant.replace('%%', '%')}"
    if why is not None:
        raise SourceError(f"{name}: {why}", source=name)


@contextmanager
def locked(
    engine: Engine, name: str, schema: str, table: str, *, but_readers: bool
) -> Iterator[None]:
    """Be the only campaign at work on a table, whatever machine others are on; SourceBusy where
    somebody else is.

    It is PostgreSQL's advisory lock on the table's number: no application waits for it. It ends
    with the connection, however this process ends. A partition is kept from whoever works on the
    whole table, and the other way round.
    """
    relation = f"{quoted(schema)}.{quoted(table)}".replace("%%", "%")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        cursor = cursor_of(connection)
        until = time.monotonic() + LOCK_SECONDS
        while not _take(cursor, relation, _SHARED if but_readers else _EXCLUSIVE):
            if time.monotonic() > until:
                raise SourceBusy(
                    f"{name}: another campaign is at work on it{_holder(cursor, relation)}, or "
                    "`kmslab retire` is reading it; wait until it has ended, or interrupt it",
                    source=name,
                )
            time.sleep(_LOCK_POLLS)
        yield


_TAKE: Final = """
SELECT coalesce((SELECT bool_and(
        pg_try_advisory_lock_shared((%(space)s::bigint << 32) | relid::oid::bigint))
    FROM pg_partition_ancestors(%(relation)s::text::regclass) AS relid
    WHERE relid <> %(relation)s::text::regclass), true)
AND {lock}((%(space)s::bigint << 32) | %(relation)s::text::regclass::oid::bigint)
"""
_EXCLUSIVE: Final = "pg_try_advisory_lock"
_SHARED: Final = "pg_try_advisory_lock_shared"


def _take(cursor: Any, relation: str, lock: str) -> bool:
    """Take the lock of a table, and shared ones of the tables that it is a partition of."""
    cursor.execute(_TAKE.format(lock=lock), {"space": _LOCK_SPACE, "relation": relation})
    taken: bool = cursor.fetchone()[0]
    if not taken:
        cursor.execute("SELECT pg_advisory_unlock_all()")
    return taken


def _holder(cursor: Any, relation: str) -> str:
    """Where the lock is held, as far as this user may see it."""
    cursor.execute(
        "SELECT coalesce(host(a.client_addr), 'its own machine') FROM pg_locks AS l"
        " JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted"
        " AND l.classid = %(space)s::bigint::oid AND l.objid = %(relation)s::text::regclass::oid"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND l.pid <> pg_backend_pid() LIMIT 1",
        {"space": _LOCK_SPACE, "relation": relation},
    )
    found = cursor.fetchone()
    return "" if found is None else f" (from {found[0]})"


def mark(connection: Connection, schema: str, table: str) -> str:
    """Have a table carry a mark until the connection is closed.

    It is an advisory lock of a number that nobody else draws, which is seen in no other database,
    and the table's own number in this one.
    """
    cursor = cursor_of(connection)
    drawn = secrets.randbits(62)
    cursor.execute("SELECT pg_advisory_lock_shared(%s)", (drawn,))
    number = _number(cursor, schema, table)
    connection.commit()
    return f"{drawn} {number}"


def carries(connection: Connection, schema: str, table: str, given: str) -> bool:
    """Whether a table carries the mark that `mark` gave."""
    drawn, _, number = given.partition(" ")
    cursor = cursor_of(connection)
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32) | objid::bigint = %s)",
        (int(drawn),),
    )
    return bool(cursor.fetchone()[0]) and number == str(_number(cursor, schema, table))


def _number(cursor: Any, schema: str, table: str) -> int:
    relation = f"{quoted(schema)}.{quoted(table)}".replace("%%", "%")
    cursor.execute("SELECT %s::text::regclass::oid::bigint", (relation,))
    return int(cursor.fetchone()[0])
