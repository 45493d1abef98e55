"""What the two remote clouds share: who calls where and how fast, and what answers become.

A provider's `remote.py` has the operations, over a `Line` to its `Link`. A link sends one request;
a line keeps the rate, and has several calls under way at once. Nothing here says or logs a header,
a key, a query or a body.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

from kmslab.clock import Clock
from kmslab.context import Context
from kmslab.errors import (
    BadAnswer,
    KmsError,
    ProfileError,
    Retryable,
    Unreachable,
)
from kmslab.model import Record, ReEncryptResult
from kmslab.providers.base import Opened, ReEncrypted, Sealed, column
from kmslab.providers.fields import Fields
from kmslab.providers.transfer import Opener, unequal_many
from kmslab.rate import OWN_WINDOWS, Windows
from kmslab.secret import Plaintext, Secret

T = TypeVar("T")
R = TypeVar("R")

USUAL_RATE: Final = 50.0
"""Calls a second to a remote, unless another rate is given: half of what is documented, since
production shares it (lab's choice)."""

AT_ONCE: Final = 16
"""The most calls of one remote that are under way at once: 100 a second where each takes 0.16 s."""

SECONDS: Final = 30.0
"""How long an answer is waited for."""

_CHUNK: Final = 1_000
_WAITS: Final = (0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go: a scheme, and a host with its port where that is not the usual one."""

    scheme: str
    host: str

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint of `HOST`, `HOST:PORT` or a URL of them; https unless it says http.

        ProfileError for anything else, and for plain http to another machine: requests and
        answers may hold plaintext.

        >>> str(Endpoint.parse("kms.tencentcloudapi.com"))
        'https://kms.tencentcloudapi.com'
        """
        try:
            parts = urlsplit(text if "://" in text else f"https://{text}")
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            host, parts = "", urlsplit("")
        bare = parts.path in ("", "/") and not (parts.query or parts.fragment or "@" in text)
        web = parts.scheme in ("http", "https")
        if not (web and host and bare and text.isprintable()):
            raise ProfileError("an endpoint is HOST, HOST:PORT or https://HOST:PORT, nothing more")
        if parts.scheme == "http" and not _is_loopback(host):
            raise ProfileError("plain http is for this machine alone: give an https endpoint")
        return cls(parts.scheme, parts.netloc)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """Whom a remote calls, as whom, and how often a second. It shows no credential.

    `account` is what the user calls the account that the credential belongs to, None for none.
    """

    provider: str
    region: str
    endpoint: Endpoint
    secret_id: str = field(repr=False)
    secret_key: Secret = field(repr=False)
    token: Secret | None = field(default=None, repr=False)
    account: str | None = None
    rate: float = USUAL_RATE

    @property
    def rate_name(self) -> str:
        """Whose rate it is: of a provider, a region and a credential, which is not shown."""
        caller = hashlib.sha256(self.secret_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{self.provider} {self.region} {caller}"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request: the envelope as it is, {} where the answer is none.

    `status` is that of HTTP; `request_id` is the provider's, "" where it gave none.
    """

    envelope: dict[str, Any]
    request_id: str = ""
    status: int = 200


class Link(Protocol):
    """Sends single requests to one provider, as one caller. Threads may share it."""

    def send(self, action: str, request: Mapping[str, Any]) -> Reply:
        """The answer to one request; Unreachable where there is none."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Line:
    """A link whose rate is kept whatever goes through it, with several calls under way at once.

    `read` gives the fields of a reply, and raises the error that it is, where it is one. Threads
    may share a Line, and processes its rate, through `windows`.
    """

    __slots__ = ("_clock", "_link", "_lock", "_pool", "_read", "_turn", "_window")

    def __init__(
        self,
        link: Link,
        access: Access,
        clock: Clock,
        read: Callable[[Reply], Fields],
        windows: Windows = OWN_WINDOWS,
    ) -> None:
        self._link = link
        self._clock = clock
        self._read = read
        self._window = windows.window(access.rate_name, access.rate, clock=clock)
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def send(self, action: str, request: Mapping[str, Any]) -> Reply:
        """Send a request when its turn has come; the answer to it."""
        with self._turn:  # one waits for the rate, and the others for it
            while seconds := self._window.take():
                self._clock.sleep(seconds)
        return self._link.send(action, request)

    def ask(self, action: str, request: Mapping[str, Any]) -> Fields:
        """The fields of the answer to a request; the error that it is, where it is one."""
        return self._read(self.send(action, request))

    def look(self, action: str, request: Mapping[str, Any]) -> Fields:
        """`ask`, and again a few times where it fails for a while: for what is needed before
        anything else can be done. A campaign has its own patience with records."""
        for seconds in _WAITS:
            try:
                return self.ask(action, request)
            except Retryable:
                self._clock.sleep(seconds)
        return self.ask(action, request)

    def each(self, items: Sequence[T], ask: Callable[[T], R]) -> list[R | KmsError]:
        """What `ask` gives for each item, in their order; where it refuses, the KmsError. What
        nobody foresaw is a BadAnswer of that item alone: the others have been answered."""

        def answer(item: T) -> R | KmsError:
            try:
                return ask(item)
            except KmsError as error:
                return error.with_traceback(None)  # whose frames hold the request
            except Exception as error:
                return BadAnswer(f"an answer could not be read ({type(error).__name__})")

        if len(items) <= 1:
            return [answer(item) for item in items]
        found: list[R | KmsError] = []
        for start in range(0, len(items), _CHUNK):
            for future in self._begin(answer, items[start : start + _CHUNK]):
                try:
                    found.append(future.result())
                except CancelledError:
                    found.append(Unreachable("the remote was closed before this was asked"))
        return found

    def close(self) -> None:
        """Wait for what is under way, and let go of threads and connections. What waits for its
        turn is Unreachable; what is asked afterwards opens others."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        self._link.close()

    def _begin(
        self, answer: Callable[[T], R | KmsError], items: Sequence[T]
    ) -> list[Future[R | KmsError]]:
        with self._lock:  # so that nobody closes the pool meanwhile
            if self._pool is None:
                self._pool = ThreadPoolExecutor(AT_ONCE, "kmslab-remote")
            return [self._pool.submit(answer, item) for item in items]


def unreachable(access: Access, why: str) -> Unreachable:
    """The error of a request that had no answer."""
    told = f"{access.provider} at {access.endpoint} {why}"
    return Unreachable(told, endpoint=str(access.endpoint))


def missing_extra(error: ModuleNotFoundError, provider: str) -> ProfileError:
    """What is said where a provider's client is not installed."""
    return ProfileError(
        f"a remote {provider} needs the extra `remote` ({error.name} is not installed): "
        "pip install 'kmslab[remote]'"
    )


# Rows as columns


@dataclass(frozen=True, slots=True)
class OpenedRow:
    """What one decryption gives; an id is None where the cloud does not tell it."""

    plaintext: Plaintext
    key_id: str | None
    key_version_id: str | None


@dataclass(frozen=True, slots=True)
class SealedRow:
    """What one encryption gives; an id is None where the cloud does not tell it."""

    ciphertext_blob: str
    key_id: str | None
    key_version_id: str | None


def re_encrypted(rows: Sequence[ReEncryptResult | KmsError]) -> ReEncrypted:
    """The columns of re-encryptions. Nothing is verified yet."""

    def column(name: str) -> list[Any]:
        return [None if isinstance(row, KmsError) else getattr(row, name) for row in rows]

    return ReEncrypted(
        ciphertext_blob=column("ciphertext_blob"),
        re_encrypted=column("re_encrypted"),
        key_id=column("key_id"),
        key_version_id=column("key_version_id"),
        source_key_id=column("source_key_id"),
        source_key_version_id=column("source_key_version_id"),
        verified=[None] * len(rows),
        error=[row if isinstance(row, KmsError) else None for row in rows],
    )


def opened(rows: Sequence[OpenedRow | KmsError]) -> Opened:
    """The columns of decryptions."""
    good = [row if isinstance(row, OpenedRow) else None for row in rows]
    return Opened(
        plaintext=[None if row is None else row.plaintext for row in good],
        key_id=[None if row is None else row.key_id for row in good],
        key_version_id=[None if row is None else row.key_version_id for row in good],
        error=[row if isinstance(row, KmsError) else None for row in rows],
    )


def sealed_many(
    line: Line,
    plaintexts: Sequence[bytes | None],
    contexts: Sequence[Context] | Context,
    seal: Callable[[bytes, Context], SealedRow],
) -> Sealed:
    """The columns of encryptions that are made here; a row of None stays None. ValueError where
    the lengths of the columns differ."""
    each: Sequence[Context] = column(contexts, len(plaintexts), "contexts")

    def row(number: int) -> SealedRow | None:
        plaintext = plaintexts[number]
        return None if plaintext is None else seal(plaintext, each[number])

    return sealed(line.each(range(len(plaintexts)), row))


def sealed(rows: Sequence[SealedRow | KmsError | None]) -> Sealed:
    """The columns of encryptions; a row of None was not asked for."""
    good = [row if isinstance(row, SealedRow) else None for row in rows]
    return Sealed(
        ciphertext_blob=[None if row is None else row.ciphertext_blob for row in good],
        key_id=[None if row is None else row.key_id for row in good],
        key_version_id=[None if row is None else row.key_version_id for row in good],
        error=[row if isinstance(row, KmsError) else None for row in rows],
    )


def proven(
    opener: Opener, old: Sequence[Record], after: Sequence[str | None], done: ReEncrypted
) -> ReEncrypted:
    """Re-encryptions of `old` with `verified`: each new blob is opened, under its context of
    `after`, and compared with what the old one holds. A row that fails has an error alone."""
    fresh = [_fresh(*row) for row in zip(old, done.ciphertext_blob, after, strict=True)]
    rows = [row for row, record in enumerate(fresh) if record is not None]
    new = [record for record in fresh if record is not None]
    found = unequal_many(opener, opener, [old[row] for row in rows], new)
    for row, error in zip(rows, found, strict=True):
        done.verified[row] = True
        if error is not None:
            _refuse(done, row, error)
    return done


def _fresh(old: Record, blob: str | None, context: str | None) -> Record | None:
    return None if blob is None else Record(old.record_id, old.provider, blob, context=context)


def _refuse(done: ReEncrypted, row: int, error: KmsError) -> None:
    for each in fields(done):
        getattr(done, each.name)[row] = error if each.name == "error" else None
