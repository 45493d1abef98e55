"""The hot path that both local KMSs share: rows in chunks, one bad row costing only itself.

A provider's part is a function that does the rows of one chunk, with everything that is the same
for many rows found once; what is here gives it the chunk, counts, audits and makes the columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_not
from typing import Final, Protocol, TypeVar

from kmslab.crypto import bytes_eq
from kmslab.errors import BadAnswer, InvalidRequest, KmsError
from kmslab.keystore.audit import OK, AuditEntry
from kmslab.keystore.units import Handle
from kmslab.providers.base import Opened, ReEncrypted, Sealed
from kmslab.providers.local import UNKNOWN_IDS, Ids, Route, Session, logging_after
from kmslab.secret import Plaintext

T = TypeVar("T")

LOOK_AGAIN_ROWS: Final = 1_000
"""A call sees another process's rotation when it begins; a batch looks again every so many rows."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows `first` to `last` (not included) of a batch, and where their results go.

    A row has a route and, but for decryption, a blob; or an error. `gate` is None, or is called
    before each row: it meets the lab's faults and the session's rate limit.
    """

    first: int
    last: int
    routes: list[Route | None]
    blobs: list[str | None]
    errors: list[KmsError | None]
    gate: Callable[[], None] | None

    def fail(self, row: int, error: KmsError) -> None:
        """Give a row its error, the first that it has, and nothing else."""
        if self.errors[row] is None:
            self.errors[row] = error
        self.blobs[row] = None
        self.routes[row] = None

    def passes(self, row: int) -> bool:
        """Whether a row passes the gate; if not, it has the error."""
        try:
            if self.gate is not None:
                self.gate()
        except KmsError as error:
            self.fail(row, error)
            return False
        return True

    def good_rows(self, texts: Sequence[str]) -> Sequence[int]:
        """The rows that have no error yet. One whose blob is no text gets the error."""
        if set(map(type, texts[self.first : self.last])) != {str}:
            for row in range(self.first, self.last):
                if not isinstance(texts[row], str):
                    self.fail(row, InvalidRequest("the blob is not a text"))
        rows = range(self.first, self.last)
        if not any(self.errors[self.first : self.last]):
            return rows
        return [row for row in rows if self.errors[row] is None]


def re_encrypt(
    session: Session,
    action: str,
    texts: Sequence[str],
    work: Callable[[Chunk], None],
    *,
    verify: bool,
) -> ReEncrypted:
    """Re-encrypt `texts`, a chunk at a time, as `work` does it.

    A row whose blob is the very text that was given was not re-encrypted. The whole batch is
    audited, durably, before it is given.
    """
    done = _run(session, action, len(texts), work, name_source=True)
    blobs = done.blobs
    re_encrypted: list[bool | None] = list(map(is_not, blobs, texts))
    verified: list[bool | None] = [True if verify else None] * len(blobs)
    if any(done.errors):
        for row, blob in enumerate(blobs):
            if blob is None:
                re_encrypted[row] = verified[row] = None
    key_id, key_version_id, source_key_id, source_key_version_id = _ids(done.routes)
    return ReEncrypted(
        ciphertext_blob=blobs,
        re_encrypted=re_encrypted,
        key_id=key_id,
        key_version_id=key_version_id,
        source_key_id=source_key_id,
        source_key_version_id=source_key_version_id,
        verified=verified,
        error=done.errors,
    )


def decrypt(
    session: Session,
    action: str,
    plaintexts: list[Plaintext | None],
    work: Callable[[Chunk], None],
) -> Opened:
    """Decrypt as many rows as `plaintexts` has, which `work` fills."""
    done = _run(session, action, len(plaintexts), work, name_source=False)
    _, _, key_id, key_version_id = _ids(done.routes)
    return Opened(
        plaintext=plaintexts, key_id=key_id, key_version_id=key_version_id, error=done.errors
    )


def encrypt(session: Session, action: str, rows: int, work: Callable[[Chunk], None]) -> Sealed:
    """Encrypt `rows` rows. A row that `work` leaves alone stays None."""
    done = _run(session, action, rows, work, name_source=False)
    key_id, key_version_id, _, _ = _ids(done.routes)
    return Sealed(
        ciphertext_blob=done.blobs,
        key_id=key_id,
        key_version_id=key_version_id,
        error=done.errors,
    )


def _run(
    session: Session,
    action: str,
    rows: int,
    work: Callable[[Chunk], None],
    *,
    name_source: bool,
) -> Chunk:
    whole = Chunk(0, rows, [None] * rows, [None] * rows, [None] * rows, None)
    try:
        for first in range(0, rows, LOOK_AGAIN_ROWS):
            session.keystore.begin()
            last = min(first + LOOK_AGAIN_ROWS, rows)
            gate = session.gate(action)
            work(Chunk(first, last, whole.routes, whole.blobs, whole.errors, gate))
    except BaseException as error:
        # What was done before a later chunk failed as a whole is done.
        with logging_after(error):
            _audit(session, action, whole, name_source=name_source)
        raise
    _audit(session, action, whole, name_source=name_source)
    return whole


def _ids(routes: list[Route | None]) -> list[list[str | None]]:
    """The four columns of `Route.ids`. There are few routes for many rows, and mostly one."""
    found: dict[Route | None, Ids]
    found = {route: UNKNOWN_IDS if route is None else route.ids for route in set(routes)}
    if len(found) == 1:
        return [[each] * len(routes) for each in found[routes[0]]]
    each_row = [found[route] for route in routes]
    return [[ids[at] for ids in each_row] for at in range(len(UNKNOWN_IDS))]


def _audit(session: Session, action: str, whole: Chunk, *, name_source: bool) -> None:
    request_id = session.request_id()
    counts: Counter[tuple[Handle | None, Handle | None, str]] = Counter()
    for route, count in Counter(whole.routes).items():
        if route is not None:
            counts[(route.destination, route.source if name_source else None, OK)] += count
    for error in filter(None, whole.errors):
        error.request_id = request_id
        counts[(None, None, session.code_of(error, action))] += 1
    if not counts:
        return
    now = int(session.keystore.clock.time() * 1_000_000)
    with session.keystore.change(*_entries(session, action, counts, now, request_id)):
        pass


def _entries(
    session: Session,
    action: str,
    counts: Counter[tuple[Handle | None, Handle | None, str]],
    now: int,
    request_id: str,
) -> Iterator[AuditEntry]:
    for (handle, source, outcome), count in counts.items():
        yield AuditEntry(
            at=now,
            who=session.who,
            provider=session.provider,
            action=action,
            key_id=handle.row.key_id if handle else None,
            version_id=handle.row.version_id if handle else None,
            source_key_id=source.row.key_id if source else None,
            source_version_id=source.row.version_id if source else None,
            outcome=outcome,
            request_id=request_id,
            last_request_id=request_id,
            count=count,
        )


class Work(Protocol):
    """A provider's part of a re-encryption: what it does with rows of one group, which have the
    same beginning, length and destination."""

    def route(self, row: int) -> Route:
        """Where a row comes from and goes to; a KmsError to refuse."""
        ...

    def open_many(self, route: Route, rows: Sequence[int]) -> Sequence[bytes | None]:
        """The plaintexts of rows, as `seal_many` takes them; None where `open` must say what is
        wrong."""
        ...

    def open(self, route: Route, row: int) -> bytes:
        """The plaintext of a row, as `seal_many` takes it; a KmsError to refuse."""
        ...

    def changing(self, route: Route, rows: Sequence[int]) -> Sequence[int]:
        """The positions in `rows` that get a new blob."""
        ...

    def count(self, route: Route, encryptions: int) -> None:
        """Count the encryptions that `seal_many` will make, 0 included; a KmsError to refuse."""
        ...

    def seal_many(
        self, route: Route, rows: Sequence[int], plaintexts: Sequence[bytes]
    ) -> list[str]:
        """New blobs for rows."""
        ...

    def reopen_many(
        self, route: Route, rows: Sequence[int], sealed: Sequence[str]
    ) -> Sequence[bytes | None]:
        """The plaintexts of the new blobs of rows, as `open_many` gives them."""
        ...


def move(
    chunk: Chunk, texts: Sequence[str], rows: Sequence[int], work: Work, *, verify: bool
) -> None:
    """Re-encrypt the rows of one group into `chunk`."""
    rows, route = _routed(chunk, rows, work)
    if route is None:
        return
    if chunk.gate is not None:
        rows = [row for row in rows if chunk.passes(row)]
    changing = work.changing(route, rows)
    try:
        # Before anything is opened: a count may be too high, and no plaintext is in reach of it.
        work.count(route, len(changing))
    except KmsError as error:
        for row in [rows[at] for at in changing]:
            chunk.fail(row, error)
        rows = [row for row in rows if chunk.errors[row] is None]
    rows, plaintexts = _opened(chunk, rows, work, route)
    changing = work.changing(route, rows)
    if len(changing) < len(rows):
        _scatter(chunk, rows, picked(texts, rows), route)
    if not changing:
        return
    chosen = rows if len(changing) == len(rows) else [rows[at] for at in changing]
    old = plaintexts if chosen is rows else [plaintexts[at] for at in changing]
    sealed = work.seal_many(route, chosen, old)
    _scatter(chunk, chosen, sealed, route)
    if verify:
        new = work.reopen_many(route, chosen, sealed)
        for row, one, other in zip(chosen, old, new, strict=True):
            if other is None or not bytes_eq(one, other):
                chunk.fail(row, BadAnswer("the new blob does not open to the old plaintext"))


def _routed(chunk: Chunk, rows: Sequence[int], work: Work) -> tuple[Sequence[int], Route | None]:
    # A row may be malformed behind a beginning that is good for the others.
    for at, row in enumerate(rows):
        try:
            return rows[at:], work.route(row)
        except KmsError as error:
            chunk.fail(row, error)
    return (), None


def _opened(
    chunk: Chunk, rows: Sequence[int], work: Work, route: Route
) -> tuple[Sequence[int], Sequence[bytes]]:
    found = work.open_many(route, rows) if rows else []
    if all(found):
        return rows, found  # type: ignore[return-value]
    good, plaintexts = [], []
    for row, plaintext in zip(rows, found, strict=True):
        try:
            plaintexts.append(work.open(route, row) if plaintext is None else plaintext)
        except KmsError as error:
            chunk.fail(row, error)
        else:
            good.append(row)
    return good, plaintexts


def _scatter(chunk: Chunk, rows: Sequence[int], blobs: Sequence[str], route: Route) -> None:
    if isinstance(rows, range):
        chunk.blobs[rows.start : rows.stop] = blobs
        chunk.routes[rows.start : rows.stop] = [route] * len(rows)
        return
    for row, blob in zip(rows, blobs, strict=True):
        chunk.blobs[row] = blob
        chunk.routes[row] = route


def groups(rows: Sequence[int], *columns: Sequence[Hashable]) -> Iterator[Sequence[int]]:
    """The rows that have the same values in all columns, combination by combination.

    >>> list(groups([10, 11, 12], ["a", "b", "a"], [1, 1, 1]))
    [[10, 12], [11]]
    """
    if not rows:
        return
    if all(column.count(column[0]) == len(column) for column in columns):
        yield rows
        return
    found: dict[Hashable, list[int]] = {}
    for row, key in zip(rows, zip(*columns, strict=True), strict=True):
        found.setdefault(key, []).append(row)
    yield from found.values()


def picked(values: Sequence[T], rows: Sequence[int]) -> Sequence[T]:
    """The values of these rows."""
    if isinstance(rows, range):
        return values[rows.start : rows.stop]
    return [values[row] for row in rows]
