"""A Kms that plays a cloud over a lab's: it limits, fails, delays and tells less than it knows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kmslab import Lab
from kmslab.clock import Clock, ManualClock
from kmslab.context import Context
from kmslab.errors import KmsError, Throttled
from kmslab.model import CTYUN, TENCENT, Key, KeyVersion, Record, UnverifiedHeader
from kmslab.providers.base import (
    KEEP,
    UNKNOWN,
    Capabilities,
    Keep,
    Kms,
    Opened,
    ReEncrypted,
    Sealed,
    Unknown,
)

Answer = ReEncrypted | Opened | Sealed
Fault = Callable[[int, str, str], Exception | None]
"""Of a call's number (from 1), its action and its row's blob ("" for a plaintext): what goes wrong.

A KmsError is the row's answer; any other exception (an OSError) ends the whole batch there.
"""


def nothing_wrong(_number: int, _action: str, _blob: str) -> None:
    """The fault of a Kms that has none."""


def at_calls(error: Callable[[], Exception], numbers: Iterable[int]) -> Fault:
    """Goes wrong at these calls, and not when they are made again."""
    wrong = frozenset(numbers)
    return lambda number, _action, _blob: error() if number in wrong else None


def for_blobs(error: Callable[[], Exception], blobs: Iterable[str], times: int = 1 << 60) -> Fault:
    """Goes wrong for these blobs, each so many times."""
    left = Counter(dict.fromkeys(blobs, times))

    def fault(_number: int, _action: str, blob: str) -> Exception | None:
        if left[blob] <= 0:
            return None
        left[blob] -= 1
        return error()

    return fault


class Gate:
    """At most `limit` calls in any one second, as a strict server counts; others are throttled."""

    def __init__(self, clock: Clock, limit: int) -> None:
        self.limit = limit
        self.throttled = 0
        self.most = 0
        self._clock = clock
        self._times: deque[float] = deque()

    def admit(self) -> Throttled | None:
        """Let one call in, or say when to come again."""
        now = self._clock.time()
        while self._times and self._times[0] <= now - 1.0:
            self._times.popleft()
        if len(self._times) >= self.limit:
            self.throttled += 1
            wait = self._times[0] + 1.0 - now
            return Throttled(f"{self.limit} calls a second", retry_after=wait)
        self._times.append(now)
        self.most = max(self.most, len(self._times))
        return None


@dataclass(slots=True)
class CloudKms:
    """A lab's Kms that is asked like a cloud's: one call for each row.

    With `tells` False it hides versions, and cannot authenticate by itself. Every row is counted
    in `calls`, takes `seconds`, passes the `gate`, meets the `fault`, and only then reaches the
    lab; `spoil` may change an answer on its way back.
    """

    inner: Any
    clock: ManualClock
    tells: bool = False
    gate: Gate | None = None
    seconds: float = 0.0
    fault: Fault = nothing_wrong
    spoil: Callable[[ReEncrypted], ReEncrypted] = lambda done: done
    calls: Counter[str] = field(default_factory=Counter)
    batches: Counter[str] = field(default_factory=Counter)

    @property
    def provider(self) -> str:
        return self.inner.provider

    @property
    def region(self) -> str:
        return self.inner.region

    @property
    def capabilities(self) -> Capabilities:
        if self.tells:
            return self.inner.capabilities
        return replace(self.inner.capabilities, versions=False, authenticate=False)

    def describe_key(self, key_id: str) -> Key:
        key = self.inner.describe_key(key_id)
        return key if self.tells else replace(key, versions=(), primary_version_id=None)

    def list_keys(self) -> tuple[Key, ...]:
        return self.inner.list_keys()

    def versions(self, key_id: str) -> tuple[KeyVersion, ...] | Unknown:
        return self.inner.versions(key_id) if self.tells else UNKNOWN

    def version_of(self, header: UnverifiedHeader) -> KeyVersion | Unknown:
        return self.inner.version_of(header) if self.tells else UNKNOWN

    def key_marks(self) -> Hashable | Unknown:
        return self.inner.key_marks() if self.tells else UNKNOWN

    def re_encrypt_records(
        self,
        records: Sequence[Record],
        *,
        destination_key_id: str | None = None,
        destination_context: Context | Keep = KEEP,
        verify: bool = False,
    ) -> ReEncrypted:
        blobs = [record.ciphertext_blob for record in records]

        def ask(rows: Sequence[int]) -> ReEncrypted:
            return self.inner.re_encrypt_records(
                [records[row] for row in rows],
                destination_key_id=destination_key_id,
                destination_context=destination_context,
                verify=verify,
            )

        return self.spoil(self._answer(ReEncrypted, "ReEncrypt", blobs, ask))

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        blobs = [record.ciphertext_blob for record in records]
        return self._answer(
            Opened,
            "Decrypt",
            blobs,
            lambda rows: self.inner.decrypt_records([records[row] for row in rows]),
        )

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        each = contexts if isinstance(contexts, list) else [contexts] * len(plaintexts)
        return self._answer(
            Sealed,
            "Encrypt",
            [""] * len(plaintexts),
            lambda rows: self.inner.encrypt_many(
                [plaintexts[row] for row in rows],
                key_id=key_id,
                contexts=[each[row] for row in rows],
            ),
        )

    def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        return self.inner.call(action, request)

    def _answer(
        self, kind: Any, action: str, blobs: Sequence[str], ask: Callable[[Sequence[int]], Any]
    ) -> Any:
        name = action if self.provider == TENCENT else action[0].lower() + action[1:]
        self.batches[name] += 1
        # The client counts what it asked for, also where the network drops the rest.
        number = sum(self.calls.values())
        self.calls[name] += len(blobs)
        errors: list[KmsError | None] = [None] * len(blobs)
        for row, blob in enumerate(blobs):
            self.clock.sleep(self.seconds)
            error = None if self.gate is None else self.gate.admit()
            wrong = error or self.fault(number + row + 1, action, blob)
            if wrong is not None and not isinstance(wrong, KmsError):
                raise wrong
            errors[row] = wrong
        good = [row for row, error in enumerate(errors) if error is None]
        columns = {each.name: [None] * len(blobs) for each in fields(kind)}
        if good:
            done = ask(good)
            for name, column in columns.items():
                for row, value in zip(good, getattr(done, name), strict=True):
                    column[row] = value
        for row, error in enumerate(errors):
            if error is not None:
                columns["error"][row] = error
        return kind(**columns)


class Rehearsed:
    """A Kms that asked the inner one beforehand, so that thousands of single calls take no time."""

    def __init__(self, inner: Kms, records: Sequence[Record]) -> None:
        self.provider, self.region = inner.provider, inner.region
        self.capabilities = inner.capabilities
        self._done = inner.re_encrypt_records(records)
        self._rows = {record.ciphertext_blob: row for row, record in enumerate(records)}

    def re_encrypt_records(self, records: Sequence[Record], **_options: Any) -> ReEncrypted:
        rows = [self._rows[record.ciphertext_blob] for record in records]
        columns = (getattr(self._done, each.name) for each in fields(ReEncrypted))
        return ReEncrypted(*([column[row] for row in rows] for column in columns))


class Clouds:
    """Both providers of a lab, each behind a `CloudKms` that is made with `settings`."""

    def __init__(self, lab: Lab, clock: ManualClock, **settings: Any) -> None:
        self.tencent = CloudKms(lab.tencent(), clock, **settings)
        self.ctyun = CloudKms(lab.ctyun(), clock, **settings)

    def providers(self) -> tuple[str, ...]:
        return TENCENT, CTYUN

    def kms(self, provider: str) -> CloudKms:
        return {TENCENT: self.tencent, CTYUN: self.ctyun}[provider]

    @property
    def calls(self) -> dict[str, dict[str, int]]:
        """The calls that arrived, by provider and action; providers without calls left out."""
        made = {name: dict(self.kms(name).calls) for name in self.providers()}
        return {name: calls for name, calls in made.items() if calls}
