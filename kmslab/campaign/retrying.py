"""A provider's Kms as a campaign calls it: no faster than its rate, and again where it may help."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

from kmslab.analysis.forecast import action_name
from kmslab.campaign.pacing import Pace, Stop, pause
from kmslab.clock import Clock
from kmslab.context import Context
from kmslab.errors import InternalError, KmsError, Retryable, RotatedRecently
from kmslab.model import CTYUN, TENCENT, Record
from kmslab.providers.base import (
    KEEP,
    Capabilities,
    Keep,
    Kms,
    Opened,
    ReEncrypted,
    Sealed,
    column,
)
from kmslab.providers.ctyun import codes as ctyun_codes
from kmslab.providers.tencent import codes as tencent_codes

T = TypeVar("T", ReEncrypted, Opened, Sealed)

_CODES: Final[Mapping[str, Callable[[KmsError, str], str]]] = {
    TENCENT: tencent_codes.code_of,
    CTYUN: ctyun_codes.code_of,
}

# So many batches in a row that were given up, and the provider is not asked any more.
_STRIKES: Final = 3


# So many seconds of waiting for a provider, and somebody is told (lab's choice).
_TOLD_SECONDS: Final = 1.0


class NotSent(KmsError):
    """A row that was not sent, or not to the end, since somebody asked to stop."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often the same rows are tried, and how long is waited in between, in seconds.

    Between two attempts passes a random part of a time that doubles from `first` to `longest`, and
    before it as long as the provider said. Where even one of the rows was answered for good, the
    others have all attempts again. What would take more than `seconds` of waiting is given up.

    >>> [Patience().backoff(attempt, 1.0) for attempt in (1, 2, 3, 20)]
    [0.5, 1.0, 2.0, 30.0]
    """

    attempts: int = 8
    first: float = 0.5
    longest: float = 30.0
    seconds: float = 120.0

    def backoff(self, attempt: int, part: float) -> float:
        """The wait after an attempt (from 1), where `part` of it, 0 to 1, was drawn."""
        return part * min(self.longest, self.first * 2.0 ** min(attempt - 1, 60))


def code_of(provider: str, error: KmsError, action: str) -> str:
    """The provider's code of an error; `action` is spelled as Tencent does.

    >>> from kmslab.errors import KeyDisabled
    >>> code_of("ctyun", KeyDisabled("disabled"), "ReEncrypt")
    'LAB.KeyUnavailable'
    """
    return _CODES[provider](error, action_name(provider, action))


def transient(error: KmsError | None) -> bool:
    """Whether the same call may succeed in a while.

    >>> from kmslab.errors import Throttled
    >>> transient(Throttled("")), transient(RotatedRecently("")), transient(None)
    (True, False, False)
    """
    return isinstance(error, Retryable) and not isinstance(error, RotatedRecently)


class Caller:
    """One provider's Kms, with its pace. Rows are asked one batch after the other.

    Rows that fail for a while are asked again, and nothing but them; so is everything where the
    network fails. What outlasts `patience` keeps its error. After three batches in a row that were
    given up, the rest has that error without being asked (`given_up`): the campaign is to be
    resumed later. Rows that were not asked since `stop` came have the error NotSent.

    An error that comes back has the provider's code in `code`. Threads may share a Caller.
    """

    __slots__ = (
        "_calls",
        "_clock",
        "_jitter",
        "_kms",
        "_lock",
        "_pace",
        "_patience",
        "_stop",
        "_strikes",
        "_waiting",
        "_waits",
        "given_up",
    )

    def __init__(
        self,
        kms: Kms,
        pace: Pace,
        *,
        patience: Patience,
        clock: Clock,
        jitter: Callable[[], float],
        stop: Stop,
        waiting: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._kms = kms
        self._pace = pace
        self._patience = patience
        self._clock = clock
        self._jitter = jitter
        self._stop = stop
        self._calls: Counter[str] = Counter()
        self._strikes = 0
        self._waiting = waiting
        self._waits = False
        self._lock = threading.Lock()
        self.given_up: KmsError | None = None

    @property
    def provider(self) -> str:
        """The provider of the Kms."""
        return self._kms.provider

    @property
    def capabilities(self) -> Capabilities:
        """What the Kms can do."""
        return self._kms.capabilities

    @property
    def most(self) -> int:
        """The most rows that may be asked at once."""
        return self._pace.most

    @property
    def calls(self) -> Mapping[str, int]:
        """The calls that were made so far, by action: one for each row and attempt."""
        with self._lock:
            return dict(self._calls)

    def re_encrypt_records(
        self,
        records: Sequence[Record],
        *,
        destination_key_id: str | None = None,
        destination_context: Context | Keep = KEEP,
        verify: bool = False,
    ) -> ReEncrypted:
        """See `Kms.re_encrypt_records`."""

        def ask(rows: Sequence[int]) -> ReEncrypted:
            whole = len(rows) == len(records)
            return self._kms.re_encrypt_records(
                records if whole else [records[row] for row in rows],
                destination_key_id=destination_key_id,
                destination_context=destination_context,
                verify=verify,
            )

        rows = range(len(records))
        return self._all(_blank(ReEncrypted, len(records)), rows, "ReEncrypt", ask)

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """See `Kms.decrypt_records`."""

        def ask(rows: Sequence[int]) -> Opened:
            return self._kms.decrypt_records([records[row] for row in rows])

        rows = range(len(records))
        return self._all(_blank(Opened, len(records)), rows, "Decrypt", ask)

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """See `Kms.encrypt_many`. A row of None is no call."""
        each: Sequence[Context] = column(contexts, len(plaintexts), "contexts")

        def ask(rows: Sequence[int]) -> Sealed:
            return self._kms.encrypt_many(
                [plaintexts[row] for row in rows],
                key_id=key_id,
                contexts=[each[row] for row in rows],
            )

        rows = [row for row, plaintext in enumerate(plaintexts) if plaintext is not None]
        return self._all(_blank(Sealed, len(plaintexts)), rows, "Encrypt", ask)

    def _all(
        self, done: T, rows: Sequence[int], action: str, ask: Callable[[Sequence[int]], T]
    ) -> T:
        for start in range(0, len(rows), self.most):
            part = rows[start : start + self.most]
            self._persist(done, part, action, ask)
        return done

    def _persist(
        self, done: T, rows: Sequence[int], action: str, ask: Callable[[Sequence[int]], T]
    ) -> None:
        """Ask for rows of one batch until each has an answer, or patience is at its end."""
        if self.given_up is not None:
            _refuse(done, rows, self.given_up)
            return
        attempt, waited = 0, 0.0
        while True:
            if not self._pace.wait(len(rows), self._stop):
                _refuse(done, rows, NotSent("the campaign was stopped"))
                return
            left = self._once(done, rows, action, ask)
            if len(left) < len(rows):
                attempt, waited, self._strikes = 0, 0.0, 0
                self._tell(None)
            if not left:
                return
            rows, attempt = left, attempt + 1
            wait = self._wait(done, rows, attempt)
            if self._strikes or attempt >= self._patience.attempts:
                break
            waited += wait
            if waited > self._patience.seconds:
                break
            if waited >= _TOLD_SECONDS:
                self._tell(done.error[rows[0]], action)
            if not pause(self._clock, wait, self._stop):
                _refuse(done, rows, NotSent("the campaign was stopped"))
                return
        self._strike(done.error[rows[0]])

    def _tell(self, error: KmsError | None, action: str = "") -> None:
        """Say, once, that the provider is waited for, and when that is over."""
        with self._lock:
            if self._waits is (error is not None):
                return
            self._waits = not self._waits
        said = ""
        if error is not None:
            code = error.code or code_of(self.provider, error, action)
            said = f"waiting for {self.provider}, to try again: {code}: {error}"
        self._waiting(said)

    def _strike(self, error: KmsError | None) -> None:
        with self._lock:
            self._strikes += 1
            if self._strikes >= _STRIKES:
                self.given_up = error

    def _wait(self, done: T, rows: Sequence[int], attempt: int) -> float:
        told = [getattr(done.error[row], "retry_after", 0.0) for row in rows]
        return float(max(told)) + self._patience.backoff(attempt, self._jitter())

    def _once(
        self, done: T, rows: Sequence[int], action: str, ask: Callable[[Sequence[int]], T]
    ) -> list[int]:
        """Ask once; the rows that are to be asked again."""
        name = action_name(self.provider, action)
        with self._lock:
            self._calls[name] += len(rows)
        try:
            _scatter(done, rows, ask(rows))
        except KmsError as error:
            _refuse(done, rows, error)
        except OSError as error:
            why = error.strerror or type(error).__name__
            _refuse(done, rows, InternalError(f"{self.provider} could not be reached: {why}"))
        if not any(done.error):
            return []
        again = []
        for row in rows:
            found = done.error[row]
            if found is None:
                continue
            if not found.code:
                found.code = code_of(self.provider, found, action)
            if transient(found):
                again.append(row)
        return again


def _blank(kind: type[T], rows: int) -> T:
    columns: list[Any] = [[None] * rows for _ in fields(kind)]
    return kind(*columns)


def _scatter(done: T, rows: Sequence[int], part: T) -> None:
    """Put the columns of `part` into these rows of `done`."""
    for each in fields(part):
        values, into = getattr(part, each.name), getattr(done, each.name)
        if len(values) == len(into):
            into[:] = values
            continue
        for row, value in zip(rows, values, strict=True):
            into[row] = value


def _refuse(done: T, rows: Sequence[int], error: KmsError) -> None:
    """Give rows of `done` an error, and nothing else."""
    for each in fields(done):
        into = getattr(done, each.name)
        value = error if each.name == "error" else None
        for row in rows:
            into[row] = value
