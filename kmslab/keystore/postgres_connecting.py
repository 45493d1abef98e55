"""Connections to a lab's database: how they are made, shared, replaced, and left to the parent."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Final

import psycopg

from kmslab.database_url import with_driver
from kmslab.errors import DatabaseUrlError, LabClosed, LabError
from kmslab.keystore.lab_url import LabUrl
from kmslab.keystore.postgres_errors import lab_error, no_lab

# libpq has no limits of its own: whoever asks a machine that is not there would wait for ever.
_LIMITS: Final = {"connect_timeout": 10, "tcp_user_timeout": 20_000, "keepalives_idle": 20}
# A standby is behind: who asks it goes on under versions that are no longer the newest.
_SESSION: Final = "target_session_attrs"
_WRITABLE: Final = ("read-write", "primary")

Session = psycopg.Connection[tuple[Any, ...]]


class Connections:
    """The connections of this process to one database. A forked child leaves them alone.

    `losses` counts how often one was found to be gone: the server was started again, so that those
    that were made before are gone as well.
    """

    __slots__ = ("_location", "_open", "_options", "losses")

    def __init__(self, url: LabUrl) -> None:
        self._location = url.location
        target = with_driver(url.database, url.password)
        _, options = target.get_dialect()().create_connect_args(target)
        limits = dict(_LIMITS)
        if "PGCONNECT_TIMEOUT" in os.environ:
            del limits["connect_timeout"]
        wanted = options.get(_SESSION, _WRITABLE[0])
        if wanted not in _WRITABLE:
            raise DatabaseUrlError(
                f"{url.location}: a lab is on the server that takes changes: {_SESSION} is "
                f"{' or '.join(_WRITABLE)}; leave it out"
            )
        settings = {"client_encoding": "utf8", "fallback_application_name": "kmslab"}
        self._options: dict[str, Any] = {**limits, _SESSION: wanted, **options, **settings}
        self._open: weakref.WeakSet[Session] = weakref.WeakSet()
        self.losses = 0

    def connect(self) -> Session:
        """Another one, without a transaction. LabError for a database that cannot keep a lab."""
        connection = psycopg.connect(**self._options, autocommit=True)
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            connection.close()
            raise LabError(
                f"{self._location}: the database is in {encoding}, and a lab needs UTF8: "
                "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )
        self._open.add(connection)
        return connection

    def begin_child(self) -> None:
        """In a forked child: close all of them without a word to the server, which would end the
        parent's sessions. What they write on closing goes nowhere."""
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for connection in list(self._open):
                if not connection.closed:
                    os.dup2(nowhere, connection.fileno(), inheritable=False)
                    connection.close()
        finally:
            os.close(nowhere)
            self._open = weakref.WeakSet()


class Asking:
    """One question that every call has, on a connection of its own, which all threads share.

    A connection that is gone is replaced, once a call.
    """

    __slots__ = ("_closed", "_connection", "_connections", "_lock", "_query", "_where")

    def __init__(self, query: str, where: str, connections: Connections) -> None:
        self._query = query.encode()
        self._where = where
        self._connections = connections
        self._connection: Session | None = None
        self._closed = False
        self._lock = threading.Lock()

    def heard(self) -> object:
        """The answer: the only value of the only row, None where there is none."""
        try:
            connection = self._connection or self._replaced(None)
            try:
                return self._ask(connection)
            except psycopg.Error:
                if not connection.closed:
                    raise
            return self._ask(self._replaced(connection))
        except psycopg.Error as error:
            raise lab_error(self._where, error, no_lab(self._where)) from None

    def _ask(self, connection: Session) -> object:
        row = connection.execute(self._query, prepare=True).fetchone()
        return None if row is None else row[0]

    def _replaced(self, gone: Session | None) -> Session:
        with self._lock:
            if self._closed:
                raise LabClosed("the lab has been closed")
            if self._connection is None or self._connection is gone:
                if gone is not None:
                    self._connections.losses += 1
                self._connection = self._connections.connect()
            return self._connection

    def begin_child(self) -> None:
        """In a forked child: the connection is the parent's."""
        self._lock = threading.Lock()
        self._connection = None

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
