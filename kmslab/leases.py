"""A rate that several processes share: none of them makes a call that another has left no room for.

Each call is written down where all of them see it: in a small file of the state folder, or in the
table `leases` of a lab in PostgreSQL, by the server's clock.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from kmslab.clock import Clock
from kmslab.database_url import EXTRAS, POSTGRESQL
from kmslab.disk import refusal
from kmslab.errors import LabBusy, LabError, StateError
from kmslab.keystore.lab_url import LabUrl, in_database
from kmslab.rate import Window, calls_and_window

FOLDER: Final = "leases"

_MAGIC: Final = b"KLW1"
_HEAD: Final = struct.Struct("<4sd")
_ENTRY: Final = struct.Struct("<ddI")
_SUM: Final = struct.Struct("<I")
# Calls that are so near to each other, in parts of a window, are written down as one.
_GRAIN: Final = 1_000

_THERE: Final = "SELECT to_regclass(%s)"
_MAKE: Final = """
CREATE TABLE IF NOT EXISTS {table} (name VARCHAR(200) PRIMARY KEY, calls BYTEA NOT NULL)
"""
# One at a time makes the table: whoever has the lab's row, which is nobody but the lab's own role.
_MAKING: Final = "SELECT 1 FROM {lab} FOR UPDATE"
_ADD: Final = "INSERT INTO {table} VALUES (%s, '') ON CONFLICT DO NOTHING"
# The time is told once the row is ours, and not before it is waited for.
_READ: Final = """
SELECT calls, extract(epoch FROM clock_timestamp())::float8
FROM (SELECT calls FROM {table} WHERE name = %s FOR UPDATE) AS mine
"""
_WRITE: Final = "UPDATE {table} SET calls = %s WHERE name = %s"
_BUSY_SECONDS: Final = 10
_LOCK_TIMEOUT: Final = "55P03"
# In each transaction, since there may be a pooler between. Functions and operators are PostgreSQL's
# own: those of somebody else in the database would have the rights of the lab's role. A machine
# that vanishes holds the others up for less than they wait. What a crash of the server takes back
# is older than a window when it is there again.
_BEGIN: Final = (
    "BEGIN; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL synchronous_commit = off; "
    f"SET LOCAL lock_timeout = '{_BUSY_SECONDS}s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '5s'"
)


@dataclass(frozen=True, slots=True)
class Leases:
    """The rates that all processes with the same leases share; made from a text, and sent as one.

    `location` is a state folder, or the URL of a lab in PostgreSQL without its password, as `of`
    takes it apart. `scope` parts those who do not share. The password is not sent along: another
    process finds its own, as by PGPASSWORD.

    >>> from kmslab.clock import SystemClock
    >>> one, other = (Leases.of(str(getfixture("tmp_path"))) for _ in range(2))
    >>> one.window("ctyun", 2, clock=SystemClock()).take(2)
    0.0
    >>> 0 < other.window("ctyun", 2, clock=SystemClock()).take() <= 1
    True
    """

    location: str
    scope: str = ""
    password: str | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, location: str, scope: str = "") -> Leases:
        """The leases in a state folder, or in the lab of a URL, which may hold its password.

        DatabaseUrlError for a URL that is of no lab.
        """
        if not in_database(location):
            return cls(str(Path(location).absolute()), scope)
        found = LabUrl.of(location)
        return cls(found.location, scope, found.password)

    def __reduce__(self) -> tuple[type[Leases], tuple[str, str]]:
        return Leases, (self.location, self.scope)

    def within(self, scope: str) -> Leases:
        """The same, for those of this scope."""
        return Leases(self.location, scope, self.password)

    def window(self, name: str, rate: float, *, clock: Clock) -> Window:
        """The window of all that is called by a name: see `kmslab.rate.Windows.window`."""
        if in_database(self.location):
            url = replace(LabUrl.of(self.location), password=self.password)
            return TableWindow(url, f"{self.scope}/{name}", rate)
        return FileWindow(self._file(name), rate, clock=clock)

    def forget(self, names: Iterable[str]) -> None:
        """Remove the files of windows that nobody asks any more. A lab's database keeps its rows,
        some hundred bytes each."""
        if in_database(self.location):
            return
        for name in names:
            path = self._file(name)
            with _file_errors(path):
                path.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        whole = f"{self.scope}/{name}".encode("utf-8", "surrogatepass")
        return Path(self.location) / FOLDER / f"{hashlib.sha256(whole).hexdigest()}.calls"


class FileWindow:
    """A window that is kept in a file: see `kmslab.rate.Window`.

    A process that is killed leaves what it has written down, which is all that it has called. What
    is not a file of ours is taken for a full window: nothing is called for as long as it lasts.
    """

    __slots__ = ("_clock", "_path", "_window", "calls")

    def __init__(self, path: Path, rate: float, *, clock: Clock) -> None:
        self.calls, self._window = calls_and_window(rate)
        self._path = path
        self._clock = clock
        with _file_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self, count: int = 1) -> float:
        """Make so many calls now: see `kmslab.rate.Window.take`."""
        with _file_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                stored = _whole(descriptor)
                now = self._clock.monotonic()
                seconds, after = taken(stored, now, count, self.calls, self._window)
                if after is not None:
                    os.pwrite(descriptor, after, 0)
                    os.ftruncate(descriptor, len(after))
                return seconds
            finally:
                os.close(descriptor)


class TableWindow:
    """A window that is kept in a PostgreSQL lab: see `kmslab.rate.Window`.

    LabError where it cannot be reached, LabBusy where another process holds it for 10 s; the next
    call tries anew.
    """

    __slots__ = (
        "_connection",
        "_inherited",
        "_lab",
        "_lock",
        "_name",
        "_owner",
        "_table",
        "_url",
        "_window",
        "calls",
    )

    def __init__(self, url: LabUrl, name: str, rate: float) -> None:
        self._connection: Any = None
        self._inherited: Any = None
        self._owner = 0
        self.calls, self._window = calls_and_window(rate)
        self._url = url
        self._lab, self._table = f'"{url.schema}".lab', f'"{url.schema}".leases'
        self._name = name[:200]
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> float:
        """Make so many calls now: see `kmslab.rate.Window.take`."""
        with self._lock, _lab_errors(self._url.location):
            try:
                connection = self._connected()
                connection.execute(_BEGIN)
                seconds = self._taken(connection, count)
                connection.execute("COMMIT")
            except BaseException:
                self.close()  # which ends the transaction too
                raise
            return seconds

    def close(self) -> None:
        """Let go of the connection; what is asked afterwards opens another."""
        if self._connection is not None and self._owner == os.getpid():
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        self.close()

    def _taken(self, connection: Any, count: int) -> float:
        read = _READ.format(table=self._table)
        row = connection.execute(read, (self._name,)).fetchone()
        if row is None:
            connection.execute(_ADD.format(table=self._table), (self._name,))
            row = connection.execute(read, (self._name,)).fetchone()
        stored, now = row
        seconds, after = taken(bytes(stored), now, count, self.calls, self._window)
        if after is not None:
            connection.execute(_WRITE.format(table=self._table), (after, self._name))
        return seconds

    def _connected(self) -> Any:
        if self._connection is not None:
            if self._owner == os.getpid():
                return self._connection
            self._inherited = self._connection  # that of the process we were forked from
        connection = _connect(self._url)
        connection.prepare_threshold = None  # a pooler may know no prepared statements
        self._connection, self._owner = connection, os.getpid()
        connection.execute(_BEGIN)
        if connection.execute(_THERE, (self._table,)).fetchone()[0] is None:
            connection.execute(_MAKING.format(lab=self._lab))
            connection.execute(_MAKE.format(table=self._table))
        connection.execute("COMMIT")
        return connection


def taken(
    stored: bytes, now: float, count: int, calls: int, window: float
) -> tuple[float, bytes | None]:
    """Take so many calls of a window as it was stored: the seconds to wait, and what to store, or
    None where that is what is stored. ValueError for more than `calls`.

    >>> first, stored = taken(b"", 10.0, 2, 2, 1.0)
    >>> first, taken(stored, 10.4, 1, 2, 1.0)
    (0.0, (0.6, None))
    >>> taken(b"what is this?", 10.0, 1, 2, 1.0)
    (1.0, b'...')
    """
    if count > calls:
        raise ValueError(f"{count} calls at once, of at most {calls}")
    read = _read(stored)
    longest, made = (window, [(now, now, calls)]) if read is None else read
    longest = max(longest, window)
    # What is ahead of us was written by a clock that was set: it counts from now on, and is stored
    # so, or it would count from now on whenever somebody asks.
    unlike = read is None or any(b > now for _, b, _ in made)
    made = [(min(a, now), min(b, now), n) for a, b, n in made if b + longest > now]
    within = [each for each in made if each[1] + window > now]
    over = sum(n for _, _, n in within) + count - calls
    if over > 0:
        freed = accumulate(n for _, _, n in within)
        late = next(b for (_, b, _), free in zip(within, freed, strict=True) if free >= over)
        # In whole microseconds, which is as little as a clock moves, and never too few.
        wait = math.ceil((late + window - now) * 1_000_000) / 1_000_000
        return wait, _written(longest, made) if unlike else None
    if made and now - made[-1][0] <= window / _GRAIN:
        made[-1] = (made[-1][0], now, made[-1][2] + count)
    else:
        made.append((now, now, count))
    return 0.0, _written(longest, made)


def _written(longest: float, made: list[tuple[float, float, int]]) -> bytes:
    body = _HEAD.pack(_MAGIC, longest) + b"".join(_ENTRY.pack(*each) for each in made)
    return body + _SUM.pack(zlib.crc32(body))


def _read(stored: bytes) -> tuple[float, list[tuple[float, float, int]]] | None:
    """The longest window and the calls that were stored; None for what is none of ours."""
    if not stored:
        return 0.0, []
    body, checked = stored[: -_SUM.size], stored[-_SUM.size :]
    entries = len(body) - _HEAD.size
    if entries < 0 or entries % _ENTRY.size or _SUM.pack(zlib.crc32(body)) != checked:
        return None
    magic, longest = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        return None
    return longest, list(_ENTRY.iter_unpack(body[_HEAD.size :]))


def _whole(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(f"{path} cannot be used: {refusal(error)}") from None


def _connect(url: LabUrl) -> Any:
    try:
        from kmslab.keystore.postgres_connecting import Connections
    except ImportError as error:
        hint = EXTRAS[POSTGRESQL]
        raise LabError(f"{url.location}: no driver for this database ({error}){hint}") from None
    return Connections(url).connect()


@contextmanager
def _lab_errors(location: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "psycopg":
            raise
        from kmslab.keystore.postgres_errors import lab_error, no_lab

        busy = (
            f"{location}: another process has held the rate that is shared here for over "
            f"{_BUSY_SECONDS} s; try again"
        )
        special = {**no_lab(location), _LOCK_TIMEOUT: LabBusy(busy)}
        raise lab_error(location, error, special) from None
