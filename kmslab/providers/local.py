"""What the two local KMSs share: how a call begins and ends, and whose keys it may use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from kmslab.crypto import load_sealed_rsa_private
from kmslab.encoding import is_uuid
from kmslab.ending import after
from kmslab.errors import (
    InvalidKeyId,
    InvalidRequest,
    KeyArchived,
    KeyDisabled,
    KeyNotFound,
    KeyPendingDeletion,
    KeyPendingImport,
    KmsError,
    LabError,
    Throttled,
    Unauthorized,
    Unsupported,
)
from kmslab.keystore import credentials
from kmslab.keystore.audit import OK
from kmslab.keystore.counting import Counters
from kmslab.keystore.credentials import Credential
from kmslab.keystore.lifecycle import Act, now_of
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import Handle, KeyRow, Unit
from kmslab.model import KeyState, OaepAlgorithm
from kmslab.rate import TokenBucket

# Calls a second per action, region and credential, as documented for ReEncrypt (seed 000): what an
# action is limited to where its provider's rules have no other number.
DOCUMENTED_RATE = 100
_IDS_AT_A_TIME = 64
_HEAD_BYTES = 10
_NODE_BYTES = 6

CodeOf = Callable[[KmsError, str], str]
ErrorFor = Callable[[str], KmsError]
Ids = tuple[str | None, str | None, str | None, str | None]
UNKNOWN_IDS: Ids = (None, None, None, None)


class Route:
    """From the version that opens a blob to the version that seals the next one.

    `ids` are the key and version of the destination, then of the source: the order in which
    answers and the audit log have them.
    """

    __slots__ = ("destination", "ids", "source")

    def __init__(self, source: Handle, destination: Handle) -> None:
        self.source = source
        self.destination = destination
        to, by = destination.row, source.row
        self.ids = (to.key_id, to.version_id, by.key_id, by.version_id)


class Found:
    """What was looked up in one epoch of the lab, rights, check values and states included."""

    __slots__ = ("epoch", "routes", "sources")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.sources: dict[Any, Any] = {}
        self.routes: dict[Any, Any] = {}


class Lookups:
    """The look-ups of the present epoch.

    They are replaced, never emptied: a thread that began before a change writes what it found
    into those of before, which nobody reads any more.
    """

    __slots__ = ("_found", "_keystore")

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore
        self._found = Found(-1)

    def now(self) -> Found:
        """The look-ups to read from and to write into."""
        found = self._found
        epoch = self._keystore.epoch
        if found.epoch != epoch:
            found = self._found = Found(epoch)
        return found


class RequestIds:
    """Version-4 UUIDs, drawn many at a time, since each draw is a call of the system.

    Those of one draw differ in their last 48 bits, which are random.
    """

    __slots__ = ("_drawn", "_entropy")

    def __init__(self, keystore: Keystore) -> None:
        self._entropy = keystore.entropy
        self._drawn: list[str] = []
        keystore.on_fork.append(self._drawn.clear)

    def draw(self) -> str:
        """One that nobody has had."""
        try:
            return self._drawn.pop()
        except IndexError:
            drawn = self._entropy(_HEAD_BYTES + _NODE_BYTES * _IDS_AT_A_TIME)
            h = drawn[:_HEAD_BYTES].hex()
            head = f"{h[:8]}-{h[8:12]}-4{h[12:15]}-a{h[15:18]}-"
            first, *others = drawn[_HEAD_BYTES:].hex("-", _NODE_BYTES).split("-")
            self._drawn += [head + node for node in others]
            return head + first


@dataclass(frozen=True, slots=True)
class Grounds:
    """What every session on one lab stands on."""

    keystore: Keystore
    counters: Counters
    request_ids: RequestIds
    owner: str
    limits: dict[tuple[str, str, str], dict[str, TokenBucket]] = field(default_factory=dict)

    def session(
        self,
        provider: str,
        region: str,
        *,
        code_of: CodeOf,
        error_for: ErrorFor,
        credential: str | None,
        rate_limit: bool,
        rates: Mapping[str, int],
    ) -> Session:
        """A session of the lab's owner, or of a credential, in one region of one provider.

        `rates` are the limits, in calls a second, of the actions that have one of their own.
        """
        self.keystore.begin()
        found = None if credential is None else credentials.find(self.keystore, credential)
        who = self.owner if found is None else found.name
        limits = None
        if rate_limit:
            # One for all sessions of a caller in a region.
            caller = "" if found is None else found.secret_id
            limits = self.limits.setdefault((provider, region, caller), {})
        return Session(self, provider, region, code_of, error_for, who, found, limits, rates)


class Latest(threading.local):
    """Of the call that this thread made last: its request id, for the answer that repeats it, and
    why it was refused, for the owner of the lab."""

    request_id = ""
    refusal = ""


class Session:
    """One caller's way to one provider's keys in one region. `request_id()` draws a fresh one."""

    __slots__ = (
        "_credential",
        "_limits",
        "_rates",
        "code_of",
        "counters",
        "error_for",
        "keystore",
        "latest",
        "limited",
        "provider",
        "region",
        "request_id",
        "who",
    )

    def __init__(
        self,
        grounds: Grounds,
        provider: str,
        region: str,
        code_of: CodeOf,
        error_for: ErrorFor,
        who: str,
        credential: Credential | None,
        limits: dict[str, TokenBucket] | None,
        rates: Mapping[str, int],
    ) -> None:
        self.keystore = grounds.keystore
        self.counters = grounds.counters
        self.request_id: Callable[[], str] = grounds.request_ids.draw
        self.provider = provider
        self.region = region
        self.code_of = code_of
        self.error_for = error_for
        self.who = who
        self._credential = credential
        self._limits = limits
        self._rates = rates
        self.limited = limits is not None
        self.latest = Latest()

    def find(self, key_id: str, parameter: str) -> Unit:
        """The key of this id in this region.

        InvalidKeyId where it is not a lower-case UUID, KeyNotFound where there is none, where it
        is deleted, and where its deletion is overdue.
        """
        unit = self.keystore.units.get(key_id)
        if unit is None or not self.owns(unit):
            if not is_uuid(key_id):
                raise InvalidKeyId(f"{parameter} is not a key id", parameter=parameter)
            raise KeyNotFound(f"there is no key {key_id} in {self.region}")
        return unit

    def owns(self, unit: Unit) -> bool:
        """Whether the key is of this provider and region, and still there."""
        row = unit.row
        if row.provider != self.provider or row.region != self.region:
            return False
        if row.state is KeyState.DELETED:
            return False
        overdue = row.state is KeyState.PENDING_DELETION and row.deletion_at is not None
        return not (overdue and row.deletion_at <= now_of(self.keystore))  # type: ignore[operator]

    def handle(self, version_id: str) -> Handle | None:
        """The version of this id, if it is one of this region's."""
        handle = self.keystore.handles.get(version_id)
        return handle if handle is not None and self.owns(handle.unit) else None

    def units(self) -> list[Unit]:
        """Every key of the region that is there, oldest first."""
        found = [unit for unit in self.keystore.units.values() if self.owns(unit)]
        return sorted(found, key=lambda unit: (unit.row.created_at, unit.row.key_id))

    def key_marks(self) -> Hashable:
        """The state and primary version of every key of the region, as the lab is now."""
        self.keystore.begin()
        rows = (unit.row for unit in self.units())
        return frozenset((row.key_id, row.state, row.primary_version_id) for row in rows)

    def authorise(self, action: str, *units: Unit) -> None:
        """Unauthorized unless the caller may make this call on each of these keys."""
        if self._credential is None:
            return
        current = {c.secret_id: c for c in credentials.listed(self.keystore)}
        credential = current[self._credential.secret_id]
        for unit in units or (None,):
            key_id = None if unit is None else unit.row.key_id
            if not credential.allows(action, key_id):
                raise Unauthorized(f"the credential {credential.name} has no right to {action}")

    def admit(self, action: str) -> None:
        """Throttled where the session is rate-limited and the action's limit is used up."""
        if self._limits is None:
            return
        rate = self._rates.get(action, DOCUMENTED_RATE)
        bucket = self._limits.get(action)
        if bucket is None:
            clock = self.keystore.clock
            bucket = self._limits.setdefault(action, TokenBucket(rate, clock=clock))
        wait = bucket.take()
        if wait:
            raise Throttled(f"{action} is limited to {rate} calls a second", retry_after=wait)

    def require_owner(self, action: str) -> None:
        """Unauthorized for a credential."""
        if self._credential is not None:
            raise Unauthorized(f"{action} is for the owner of the lab")

    def gate(self, action: str) -> Callable[[], None] | None:
        """What stands before each row of a batch: faults and the rate limit; None for nothing."""
        faults = self.keystore.settings["faults"]
        if self._limits is None and not faults:
            return None

        def gate() -> None:
            error = self.take_fault(action)
            if error is not None:
                raise error
            self.admit(action)

        return gate

    def take_fault(self, action: str) -> KmsError | None:
        """The error that a fault wants this call to have, used up by one."""
        if not any(fault["action"] == action for fault in self.keystore.settings["faults"]):
            return None
        code = None
        with self.keystore.change() as change:
            left = []
            for fault in self.keystore.settings["faults"]:
                if code is None and fault["action"] == action:
                    code = fault["code"]
                    fault = {**fault, "count": fault["count"] - 1}
                if fault["count"]:
                    left.append(fault)
            change.setting("faults", left)
        return None if code is None else self.error_for(code)


class Operation:
    """One call, from its request id to its audit row.

    Entering it sees what other processes have changed, does what the clock owes, and meets the
    lab's faults. Leaving it audits the call with `ids`, those of key and version, then of the
    ciphertext's own, as far as they are known, and gives a KmsError the request id. `durable` says
    that a change has audited the call already.
    """

    __slots__ = ("action", "durable", "ids", "request_id", "session", "time")

    def __init__(self, session: Session, action: str) -> None:
        self.session = session
        self.action = action
        self.request_id = ""
        self.durable = False
        self.time = 0.0
        self.ids: Ids = UNKNOWN_IDS

    def __enter__(self) -> Self:
        session = self.session
        self.time = session.keystore.begin()
        self.request_id = session.latest.request_id = session.request_id()
        if session.keystore.settings["faults"]:
            error = session.take_fault(self.action)
            if error is not None:
                self.__exit__(type(error), error, None)
                raise error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        session = self.session
        if error is None:
            if self.durable:
                return
            outcome = OK
        elif isinstance(error, KmsError):
            error.request_id = self.request_id
            outcome = session.code_of(error, self.action)
        else:
            outcome = "InternalError"
        key, version, source_key, source_version = self.ids
        like = (
            session.who,
            session.provider,
            self.action,
            key,
            version,
            source_key,
            source_version,
            outcome,
        )
        if error is None:  # as nearly always
            session.keystore.note(like, self.time, self.request_id)
            return
        with logging_after(error):
            session.keystore.note(like, self.time, self.request_id)

    def admit(self) -> None:
        """Throttled where the limit of this call is used up."""
        self.session.admit(self.action)

    def on(self, handle: Handle) -> None:
        """Name the version that the call is about."""
        row = handle.row
        self.ids = (row.key_id, row.version_id, None, None)

    def on_key(self, unit: Unit) -> None:
        """Name the key that the call is about."""
        self.ids = (unit.row.key_id, None, None, None)

    def find(self, key_id: str, parameter: str = "KeyId") -> Unit:
        """The key of this id, which the caller may make this call on."""
        unit = self.session.find(key_id, parameter)
        self.on_key(unit)
        self.session.authorise(self.action, unit)
        return unit

    def act(self) -> Act:
        """This call as a change audits it; Throttled where its limit is used up."""
        self.admit()
        self.durable = True
        session = self.session
        return Act(session.who, session.provider, self.action, self.request_id)


def logging_after(error: BaseException) -> AbstractContextManager[None]:
    """Log calls that `error` has ended. What a lab says of itself stays what is raised; a refusal,
    which is an answer, does not go out without being logged."""
    return after(error if isinstance(error, LabError) else None, "logging the call")


def oaep_algorithm(name: OaepAlgorithm | str, parameter: str) -> OaepAlgorithm:
    """The OAEP variant of a name; Unsupported for PKCS#1 v1.5, which is known and not offered."""
    if name == "RSAES_PKCS1_V1_5":
        raise Unsupported("RSAES_PKCS1_V1_5 is not offered; use RSAES_OAEP_SHA_256")
    try:
        return OaepAlgorithm(name)
    except ValueError:
        names = " or ".join(OaepAlgorithm)
        raise InvalidRequest(f"{parameter} is {names}", parameter=parameter) from None


def pair_of(session: Session, handle: Handle) -> RSAPrivateKey:
    """The private key of a pair's version, loaded once."""
    if handle.cipher is None:
        handle.cipher = load_sealed_rsa_private(session.keystore.material(handle).expose())
    pair: RSAPrivateKey = handle.cipher
    return pair


def check_usable(unit: Unit) -> None:
    """Raise what the state of a key says against using it; nothing for an enabled one."""
    state = unit.row.state
    if state is not KeyState.ENABLED:
        raise unusable(unit.row)


_UNUSABLE: Mapping[
    KeyState, type[KeyDisabled | KeyArchived | KeyPendingDeletion | KeyPendingImport]
]
_UNUSABLE = {
    KeyState.DISABLED: KeyDisabled,
    KeyState.ARCHIVED: KeyArchived,
    KeyState.PENDING_DELETION: KeyPendingDeletion,
    KeyState.PENDING_IMPORT: KeyPendingImport,
}


def unusable(row: KeyRow) -> KmsError:
    """The error of a key's state."""
    kind = _UNUSABLE.get(row.state)
    if kind is None:
        return KeyNotFound(f"there is no key {row.key_id}")
    return kind(f"key {row.key_id} is {row.state}", key_id=row.key_id)
