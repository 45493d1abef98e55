"""The audit log: append-only, each row under a MAC that binds it to the row before.

Rows say who did what to which key with what outcome, and how often. They hold no context, no
blob, no plaintext. Like data calls are gathered into one row until they are flushed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any

from kmslab.encoding import pack
from kmslab.errors import LabClosed
from kmslab.keystore.rows import row_of
from kmslab.keystore.sealing import Subkeys, same_mac
from kmslab.keystore.units import moment

OK = "ok"
SESSION_BEGIN = "BeginSession"
SESSION_END = "EndSession"
MOST_GROUPS = 256
MOST_SECONDS = 1.0
IDLE_SECONDS = 0.1


class AuditMode(StrEnum):
    """`GROUPED`: like data calls share a row, written within a second. `SYNC`: each call is
    durable before it returns."""

    GROUPED = "grouped"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row: `count` like calls, the first at `at` (microseconds since 1970).

    `outcome` is "ok" or the provider's error code.
    """

    at: int
    who: str
    provider: str
    action: str
    key_id: str | None = None
    version_id: str | None = None
    source_key_id: str | None = None
    source_version_id: str | None = None
    outcome: str = OK
    request_id: str | None = None
    last_request_id: str | None = None
    count: int = 1

    @property
    def time(self) -> datetime:
        """When the first of these calls was made."""
        return moment(self.at)


ENTRY_FIELDS = tuple(f.name for f in fields(AuditEntry))
entry_values: Callable[[AuditEntry], tuple[Any, ...]] = attrgetter(*ENTRY_FIELDS)
"""What an entry holds; `astuple` would copy each value deeply, twice for every batch."""


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """What `audit verify` found.

    `broken_at` is the first row that is not what was written. `open_ends` counts the other
    processes that are still at work or were killed: of each, the last group may be missing.
    """

    rows: int
    head: str
    broken_at: int | None
    open_ends: int

    @property
    def intact(self) -> bool:
        """Whether every row is what was written."""
        return self.broken_at is None


def stored_entry(columns: Mapping[Any, Any]) -> tuple[int, AuditEntry, bytes]:
    """A row of `audit`: its number, entry and MAC; ValueError for one that no lab writes."""
    seq, mac = columns["seq"], columns["mac"]
    if type(seq) is not int or type(mac) is not bytes:
        raise ValueError("the number or the MAC of an audit row is none")
    return seq, row_of(AuditEntry, columns), mac


def entry_mac(subkeys: Subkeys, previous: bytes, seq: int, entry: AuditEntry) -> bytes:
    """The MAC of row `seq`, over the row and the MAC of the one before."""
    return subkeys.chain(previous, pack(seq, *entry_values(entry)))


def first_broken(
    subkeys: Subkeys, rows: Iterable[tuple[int, AuditEntry, bytes]], seq: int, head: bytes
) -> tuple[int, int | None]:
    """How many rows there are, and the first that does not follow from the one before.

    A log cut at its end is broken at the row after the last.
    """
    previous, count = b"", 0
    try:
        for count, (number, entry, mac) in enumerate(rows, start=1):
            expected = entry_mac(subkeys, previous, number, entry)
            if number != count or not same_mac(mac, expected):
                return count, count
            previous = mac
    except ValueError:
        return count + 1, count + 1
    if count != seq or not same_mac(previous, head):
        return count, count + 1
    return count, None


class OpenSessions:
    """The sessions that began and have not ended, gathered while rows go by."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: set[str | None] = set()

    def watch(
        self, rows: Iterable[tuple[int, AuditEntry, bytes]]
    ) -> Iterator[tuple[int, AuditEntry, bytes]]:
        """The rows, unchanged."""
        for row in rows:
            if row[1].action == SESSION_BEGIN:
                self.open.add(row[1].request_id)
            elif row[1].action == SESSION_END:
                self.open.discard(row[1].request_id)
            yield row


# Who, provider, action, key, version, source key, source version, outcome: AuditEntry's own order.
Like = tuple[str, str, str, str | None, str | None, str | None, str | None, str]


@dataclass(slots=True)
class _Group:
    at: int
    request_id: str | None
    last_request_id: str | None
    count: int = 1


class AuditBuffer:
    """Data calls that are not written yet, like ones together, in the order of their first."""

    __slots__ = ("_groups", "_lock", "_sealed", "first_at", "last_at")

    def __init__(self) -> None:
        self._groups: dict[Like, _Group] = {}
        self._lock = threading.Lock()
        self._sealed = False
        self.first_at = 0.0
        self.last_at = 0.0

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, like: Like, at: float, request_id: str) -> int:
        """Count one call, made `at` seconds since 1970. Gives the number of groups where this
        began one, else 0. LabClosed once the buffer is sealed."""
        with self._lock:
            if self._sealed:
                raise LabClosed("the lab has been closed")
            group = self._groups.get(like)
            self.last_at = time.monotonic()
            if group is not None:
                group.last_request_id = request_id
                group.count += 1
                return 0
            if not self._groups:
                self.first_at = self.last_at
            self._groups[like] = _Group(int(at * 1e6), request_id, request_id)
            return len(self._groups)

    def seal(self) -> None:
        """Take no more calls: what is written after this is everything."""
        with self._lock:
            self._sealed = True

    def take(self) -> list[AuditEntry]:
        """Everything gathered so far, which the caller now writes."""
        with self._lock:
            groups, self._groups = self._groups, {}
        return list(_entries(groups))

    def put_back(self, entries: Iterable[AuditEntry]) -> None:
        """Return entries that could not be written."""
        with self._lock:
            later, self._groups = self._groups, {}
            for entry in entries:
                self._groups[_like(entry)] = _Group(
                    entry.at, entry.request_id, entry.last_request_id, entry.count
                )
            for like, group in later.items():
                found = self._groups.setdefault(like, group)
                if found is not group:
                    found.last_request_id = group.last_request_id
                    found.count += group.count


_like: Callable[[AuditEntry], Like] = attrgetter(*ENTRY_FIELDS[1:9])


def _entries(groups: dict[Like, _Group]) -> Iterator[AuditEntry]:
    for like, group in groups.items():
        yield AuditEntry(group.at, *like, group.request_id, group.last_request_id, group.count)


class Flusher:
    """A thread that calls `flush` when the buffer is idle, and at the latest after a second."""

    __slots__ = ("_buffer", "_flush", "_starting", "_stop", "_thread", "_wake")

    def __init__(self, buffer: AuditBuffer, flush: Callable[[], None]) -> None:
        self._buffer = buffer
        self._flush = flush
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """There is something in the buffer."""
        with self._starting:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="kmslab-audit", daemon=True)
                self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """End the thread. What is still in the buffer is the caller's to write."""
        with self._starting:
            self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            while len(self._buffer) and not self._stop.wait(IDLE_SECONDS / 2):
                now = time.monotonic()
                idle = now - self._buffer.last_at >= IDLE_SECONDS
                if idle or now - self._buffer.first_at >= MOST_SECONDS - IDLE_SECONDS:
                    self._flush()
