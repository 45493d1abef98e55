"""The keystore: what is in the lab's database, checked, and how it changes.

Reading is from memory. `begin`, which every call makes first, looks whether another process has
changed the lab and whether the clock owes a change. Changing is one transaction: what others have
written is read and checked, the change is made, the units, the audit row and the lab row are
written with their MACs, and memory follows once the database has it.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from kmslab.clock import Clock
from kmslab.errors import (
    KeyNotFound,
    LabBusy,
    LabClosed,
    LabError,
    LabUncertain,
    RootKeyError,
    TamperedLab,
)
from kmslab.keystore import forks, state, writing
from kmslab.keystore.audit import (
    MOST_GROUPS,
    SESSION_BEGIN,
    SESSION_END,
    AuditBuffer,
    AuditCheck,
    AuditEntry,
    AuditMode,
    Flusher,
    Like,
    OpenSessions,
    first_broken,
    stored_entry,
)
from kmslab.keystore.catching_up import Known, read_changes
from kmslab.keystore.changes import Change
from kmslab.keystore.database import Database
from kmslab.keystore.schema import audit_table
from kmslab.keystore.sealing import Subkeys
from kmslab.keystore.state import CredentialRow, LabRow, Mark
from kmslab.keystore.units import Handle, KeyRow, Unit, VersionRow
from kmslab.secret import Entropy, Secret


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A change of which nobody can tell yet whether it was made: the lab row that it would have
    left, and what was waiting to be audited with it."""

    lab: LabRow
    entries: list[AuditEntry]


class Keystore:
    """An open lab's keys, versions, credentials, settings and audit log."""

    def __init__(
        self,
        database: Database,
        subkeys_for: Callable[[LabRow], Subkeys],
        *,
        clock: Clock,
        entropy: Entropy,
        audit_mode: AuditMode,
    ) -> None:
        self.database = database
        self.clock = clock
        self.entropy = entropy
        self.subkeys: Subkeys
        self.settings: Mapping[str, Any]
        self._lab: LabRow
        self._credentials: tuple[CredentialRow, ...]
        self.units: dict[str, Unit] = {}
        self._marks: dict[str, Mark] = {}
        self.handles: dict[str, Handle] = {}
        # Counts what was taken in or changed: what was found in one epoch holds through it.
        self.epoch = 0
        self.subkeys_for = subkeys_for
        self._sync_audit = audit_mode is AuditMode.SYNC
        self._lock = threading.RLock()
        self._closing = threading.Lock()
        self._next_event = -math.inf
        self._settle: Callable[[], float] = lambda: math.inf
        self._closed = False
        self._looked_at = -math.inf
        self.on_close: list[Callable[[], Mapping[str, int]]] = []
        self.on_fork: list[Callable[[], None]] = []
        self._session: str | None = None
        self._doubt: _Doubt | None = None
        self._buffer = AuditBuffer()
        self._flusher = Flusher(self._buffer, self._flush_quietly)
        self._ear = database.listen()
        self._heard = self._listen()
        # Nobody can change the root key between the look at the lab row and at the key's file.
        with database.writing() as connection:
            state.check_schema(connection)
            lab, mac = state.read_lab(connection)
            subkeys = subkeys_for(lab)
            state.check_lab(subkeys, lab, mac)
            self._take_in(connection, lab, subkeys, before=None)
        self._exit = _close_at_exit(self)
        forks.watch(self)

    # Looking

    def begin(self) -> float:
        """Begin a call: see what other processes have changed, do what the clock owes.

        Gives the time of the call in seconds since 1970.
        """
        if self._closed:
            raise LabClosed("the lab has been closed")
        ear = self._ear
        if ear is not None:
            changed = ear.heard() != self._heard
            if changed or time.monotonic() - self._looked_at > ear.look_seconds:
                self.refresh()
        now = self.clock.time()
        if now >= self._next_event:
            self.settle()
        return now

    def refresh(self) -> None:
        """Take in what has changed in the database since it was last read."""
        with self._lock:
            self._check_open()
            heard = self._listen()
            if self._doubt is not None:
                with self.change():
                    pass
                return
            try:
                with self.database.reading() as connection:
                    self._catch_up(connection)
            except RootKeyError:
                # The key's file may have moved on after that snapshot: look while it cannot.
                with self.database.writing() as connection:
                    self._catch_up(connection)
            self._heard, self._looked_at = heard, time.monotonic()

    def _listen(self) -> object:
        return None if self._ear is None else self._ear.heard()

    def unit(self, key_id: str) -> Unit:
        """The key of this id, whatever its state; KeyNotFound where there is none."""
        try:
            return self.units[key_id]
        except KeyError:
            raise KeyNotFound(f"no key {key_id}") from None

    @property
    def lab(self) -> LabRow:
        """The lab row as last read."""
        return self._lab

    @property
    def credentials(self) -> tuple[CredentialRow, ...]:
        """Every credential as last read."""
        return self._credentials

    def material(self, handle: Handle) -> Secret:
        """A version's key material, opened; TamperedLab where it is not bound to the version."""
        with self.steady():
            row = handle.row
            if row.sealed is None:
                raise KeyNotFound(f"version {row.number} of key {row.key_id} has no material")
            spec = handle.unit.row.spec
            return self.subkeys.open("material", row.sealed, row.key_id, row.version_id, spec)

    @contextmanager
    def steady(self) -> Iterator[None]:
        """While the block runs, rows and subkeys are of one state of the lab."""
        with self._lock:
            yield

    # Changing

    @contextmanager
    def change(self, *entries: AuditEntry, unhurried: bool = False) -> Iterator[Change]:
        """One transaction on the lab, audited as `entries`, durable when the block ends.

        Over a whole lab it is `unhurried`: long between its statements.
        """
        with self._lock:
            self._check_open()
            taken, doubt = self._buffer.take(), self._doubt
            pending = taken
            change: Change | None = None
            try:
                with self.database.writing() as connection:
                    if unhurried:
                        self.database.unhurried(connection)
                    self._catch_up(connection)
                    if doubt is not None and not state.has_head(connection, doubt.lab):
                        pending = [*doubt.entries, *taken]
                    change = Change(
                        connection, self.subkeys, self._lab, self._credentials, [*pending]
                    )
                    yield change
                    change.entries.extend(entries)
                    writing.write(change, self._lab, self._credentials, self.units, self._marks)
            except BaseException as error:
                if isinstance(error, LabUncertain) and change is not None:
                    # Whoever comes next sees which it was, once the database is done with it.
                    self._doubt, self._heard = _Doubt(change.lab, pending), None
                    raise
                self._buffer.put_back(taken)
                if taken:
                    self._flusher.wake()
                raise
            self._doubt = None
            audit_only = state.only_audited(self._lab, change.lab)
            self._heard = self.database.committed(change.lab, audit_only=audit_only)
            self._looked_at = time.monotonic()
            self.subkeys = change.subkeys
            self._credentials = change.credentials
            self._marks |= change.marks
            self._adopt(change.units.values())
            self._set_lab(change.lab)

    def settle(self) -> None:
        """Do what the clock owes: rotations, deletions, expiry of imported material."""
        with self._lock:
            self._next_event = max(self._settle(), self._earliest())

    def settle_with(self, settle: Callable[[], float]) -> None:
        """Name what does it; it gives the time before which it need not be asked again."""
        self._settle = settle
        self._next_event = -math.inf

    def note(self, like: Like, at: float, request_id: str) -> None:
        """Audit one data call; see `AuditBuffer.add`."""
        if self._session is None:
            self._begin_session(at)
        new_groups = self._buffer.add(like, at, request_id)
        if self._sync_audit or new_groups >= MOST_GROUPS:
            self.flush()
        elif new_groups == 1:
            self._flusher.wake()

    def flush(self) -> None:
        """Make every audited call durable."""
        if len(self._buffer) or self._doubt is not None:
            with self.change():
                pass

    def erase_deleted_bytes(self) -> bool:
        """Rewrite the database without what was deleted; whether nothing holds it any more.

        False where another process is at work on the lab: try again later.
        """
        with self._lock:
            self._check_open()
            try:
                return self.database.erase()
            except LabBusy:
                return False

    # The audit log

    def audit_rows(self, last: int | None = None) -> list[AuditEntry]:
        """The audit log, oldest first; only the `last` rows where that is given."""
        self.flush()
        query = select(audit_table).order_by(audit_table.c.seq.desc()).limit(last)
        with self._lock, self.database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        try:
            return [stored_entry(row)[1] for row in reversed(rows)]
        except ValueError as error:
            raise TamperedLab(f"{self.where}: the audit log was changed: {error}") from None

    def verify_audit(self) -> AuditCheck:
        """Check the whole chain against the lab row."""
        self.flush()
        with self._lock, self.database.reading() as connection:
            self._catch_up(connection)
            query = select(audit_table).order_by(audit_table.c.seq)
            sessions = OpenSessions()
            lab = self._lab
            with connection.execution_options(yield_per=1000).execute(query) as rows:
                checked = sessions.watch(map(stored_entry, rows.mappings()))
                count, broken = first_broken(self.subkeys, checked, lab.audit_seq, lab.audit_head)
        others = sessions.open - {self._session}
        return AuditCheck(count, lab.audit_head.hex(), broken, len(others))

    # Ending

    def close(self) -> None:
        """Write what is pending, return reserved counts, let go of the database."""
        with self._closing:
            if self._closed:
                return
            self._exit()
            self._flusher.stop()
            # A call that is still under way is refused or written: none goes missing.
            self._buffer.seal()
            shares = [act() for act in self.on_close]
            with self._lock:
                try:
                    self._end_session(shares)
                finally:
                    self._closed = True
                    self._ear = None
                    self.database.close()

    @property
    def where(self) -> str:
        """The lab's place, for messages."""
        return self.database.where

    def _check_open(self) -> None:
        if self._closed:
            raise LabClosed("the lab has been closed")

    def _catch_up(self, connection: Connection) -> None:
        lab, mac = state.read_lab(connection)
        if lab == self._lab:
            return
        same_root = lab.root_id == self._lab.root_id
        subkeys = self.subkeys if same_root else self.subkeys_for(lab)
        state.check_lab(subkeys, lab, mac)
        if lab.generation <= self._lab.generation:
            raise TamperedLab(f"{self.where} went back to an older state while it was open")
        state.check_schema(connection)
        self._take_in(connection, lab, subkeys, before=self._lab)

    def _take_in(
        self, connection: Connection, lab: LabRow, subkeys: Subkeys, *, before: LabRow | None
    ) -> None:
        known = None
        if before is not None:
            known = Known(before, self.subkeys, self._credentials, self._marks)
        now, changed = read_changes(connection, self.where, lab, subkeys, known)
        self.subkeys = now.subkeys
        self._credentials = now.credentials
        self._marks = now.marks
        self._adopt(changed)
        self._set_lab(lab)

    # What is read without the lock is replaced whole, and the epoch counts up when all of it is.

    def _set_lab(self, lab: LabRow) -> None:
        self._lab = lab
        self.settings = json.loads(lab.settings)
        self.epoch += 1

    def _adopt(self, changed: Iterable[tuple[KeyRow, tuple[VersionRow, ...]]]) -> None:
        units = {row.key_id: Unit(row, versions) for row, versions in changed}
        for unit in units.values():
            unit.bind(self.handles)
        if units.keys() <= self.units.keys():
            self.units.update(units)
        else:
            self.units = {**self.units, **units}
        self._next_event = self._earliest()

    def _earliest(self) -> float:
        return min((unit.next_event for unit in self.units.values()), default=math.inf)

    def _begin_session(self, at: float) -> None:
        # Durable before the first data call is, so that a log without the end of a session is
        # known to lack, at most, that session's last group.
        with self._lock:
            if self._session is None:
                session = str(uuid.UUID(bytes=os.urandom(16), version=4))
                with self.change(_session_entry(at, SESSION_BEGIN, session)):
                    pass
                self._session = session

    def _end_session(self, shares: list[Mapping[str, int]]) -> None:
        entries = []
        if self._session is not None:
            entries.append(_session_entry(self.clock.time(), SESSION_END, self._session))
        if entries or any(shares) or self._doubt is not None:
            with self.change(*entries) as change:
                for version_id, unused in (item for share in shares for item in share.items()):
                    change.count(self.handles[version_id], -unused)

    def _flush_quietly(self) -> None:
        # The thread's own call: a failure leaves the rows in the buffer, and the next call or
        # the close that cannot write them either raises it.
        try:
            self.flush()
        except LabError:
            return

    # Processes

    def hold(self) -> None:
        """Before a fork: no thread is inside a transaction."""
        self._lock.acquire()

    def release(self) -> None:
        """After a fork, in the parent."""
        self._lock.release()

    def begin_child(self) -> None:
        """After a fork, in the child: locks, threads, audit rows that are not written and reserved
        counts are the parent's, and so are the database's connections."""
        self._lock = threading.RLock()
        self._closing = threading.Lock()
        self._session = None
        self._doubt = None
        self._buffer = AuditBuffer()
        self._flusher = Flusher(self._buffer, self._flush_quietly)
        for act in self.on_fork:
            act()
        self.database.begin_child()


def _session_entry(at: float, action: str, session: str) -> AuditEntry:
    return AuditEntry(int(at * 1e6), "kmslab", "", action, request_id=session)


def _close_at_exit(keystore: Keystore) -> weakref.finalize[Any, Any]:
    reference = weakref.ref(keystore)

    def close() -> None:
        found = reference()
        if found is not None:
            found.close()

    atexit.register(close)
    finalizer = weakref.finalize(keystore, atexit.unregister, close)
    finalizer.atexit = False
    return finalizer
