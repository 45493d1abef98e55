"""Connections to a lab's database: how they are made, shared, replaced, and left to the parent."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

from kmslab.database_url import with_driver
from kmslab.errors import DatabaseUrlError, LabClosed, LabError
from kmslab.keystore.lab_url import LabUrl
from kmslab.keystore.postgres_errors import lab_error, no_lab

Got = TypeVar("Got")

# libpq has no limits of its own: whoever asks a machine that is not there would wait for ever.
_LIMITS: Final = {"connect_timeout": 10, "tcp_user_timeout": 20_000, "keepalives_idle": 20}
# A standby is behind: who asks it goes on under versions that are no longer the newest.
_SESSION: Final = "target_session_attrs"
_WRITABLE: Final = ("read-write", "primary")

SILENT_SECONDS: Final = 30.0
"""How long a server is waited for that says nothing: longer than for a lock."""


class Silence(psycopg.OperationalError):
    """The server has said nothing for too long; the connection is closed."""


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for no answer without end.

    The kernel of a machine whose disk hangs goes on to acknowledge what is sent to it, and so does
    a pooler: only who waits can tell.
    """

    patience: float | None = SILENT_SECONDS

    def wait(self, gen: PQGen[Got], *arguments: Any, **options: Any) -> Got:
        """Wait as psycopg does; Silence where nothing is heard for `patience` seconds."""
        if self.patience is None:
            return super().wait(gen, *arguments, **options)
        return super().wait(self._heard(gen, self.patience), *arguments, **options)

    def _heard(self, gen: PQGen[Got], patience: float) -> PQGen[Got]:
        last = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    last = time.monotonic()
                elif time.monotonic() - last > patience:
                    self.pgconn.finish()
                    raise Silence(f"no answer for {patience:g} s")
                wanted = gen.send(ready)
        except StopIteration as ended:
            found: Got = ended.value
            return found


class Connections:
    """The connections of this process to one database. A forked child leaves them alone."""

    __slots__ = ("_location", "_open", "_options")

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

    def connect(self) -> Session:
        """Another one, without a transaction. LabError for a database that cannot keep a lab."""
        connection = Session.connect(**self._options, autocommit=True)
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

    # The answer is exact: what is read besides is for rows that something else has edited.
    look_seconds = 1.0

    __slots__ = ("_closed", "_connection", "_connections", "_failure", "_lock", "_query", "_where")

    def __init__(self, query: str, where: str, connections: Connections) -> None:
        self._query = query.encode()
        self._where = where
        self._connections = connections
        self._connection: Session | None = None
        self._closed = False
        self._failure: tuple[psycopg.Error | None, float] = None, 0.0
        self._lock = threading.Lock()

    def heard(self) -> object:
        """The answer: the only row, None where there is none."""
        try:
            connection = self._connection or self._replaced(None)
            try:
                return self._ask(connection)
            except psycopg.errors.UndefinedColumn:
                # Whoever looks at the lab then finds out why.
                return object()
            except Silence:
                raise
            except psycopg.Error:
                if not connection.closed:
                    raise
            return self._ask(self._replaced(connection))
        except psycopg.Error as error:
            raise lab_error(self._where, error, no_lab(self._where)) from None

    def _ask(self, connection: Session) -> object:
        return connection.execute(self._query, prepare=True).fetchone()

    def _replaced(self, gone: Session | None) -> Session:
        since = time.monotonic()
        with self._lock:
            if self._closed:
                raise LabClosed("the lab has been closed")
            if self._connection is None or self._connection is gone:
                failure, at = self._failure
                if failure is not None and at > since:
                    # Another thread has tried while this one waited.
                    raise failure
                try:
                    self._connection = self._connections.connect()
                except psycopg.Error as error:
                    self._failure = error, time.monotonic()
                    raise
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
