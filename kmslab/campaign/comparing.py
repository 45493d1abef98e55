"""Old and new blobs, opened and compared: what stands between them and a proof."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from kmslab.crypto import bytes_eq
from kmslab.errors import KmsError, Retryable, Unauthenticated, Unauthorized
from kmslab.model import Record
from kmslab.providers.base import Providers

_Opened = tuple[bytes | None, KmsError | None]


class Found(Enum):
    """What two blobs were found to be to each other."""

    SAME = auto()
    """Both open, to the same plaintext."""
    OTHER = auto()
    """Both open, to different plaintexts."""
    OLD_CLOSED = auto()
    """The old one does not open."""
    NEW_CLOSED = auto()
    """The old one opens, and the new one does not."""
    FORBIDDEN = auto()
    """The right to open one of them is missing."""
    NO_ANSWER = auto()
    """A provider did not answer; the same call may succeed later."""


def compared(providers: Providers, old: Sequence[Record], new: Sequence[Record]) -> list[Found]:
    """What old and new records, row for row, are to each other.

    Unauthenticated where a provider refuses whoever asks: that says nothing of any record. The
    comparison of plaintexts takes the same time whatever the bytes are.
    """
    return [
        _found(one, other)
        for one, other in zip(_opened(providers, old), _opened(providers, new), strict=True)
    ]


def _found(old: _Opened, new: _Opened) -> Found:
    if any(isinstance(error, Retryable) for _, error in (old, new)):
        return Found.NO_ANSWER
    if any(isinstance(error, Unauthorized) for _, error in (old, new)):
        return Found.FORBIDDEN
    if old[0] is None:
        return Found.OLD_CLOSED
    if new[0] is None:
        return Found.NEW_CLOSED
    return Found.SAME if bytes_eq(old[0], new[0]) else Found.OTHER


def _opened(providers: Providers, records: Sequence[Record]) -> list[_Opened]:
    """Each record's plaintext or error; neither for a provider that there is not."""
    found: list[_Opened] = [(None, None)] * len(records)
    for provider in providers.providers():
        rows = [row for row, record in enumerate(records) if record.provider == provider]
        if rows:
            opened = providers.kms(provider).decrypt_records([records[row] for row in rows])
            answers = zip(opened.plaintext, opened.error, strict=True)
            for row, (plaintext, error) in zip(rows, answers, strict=True):
                if isinstance(error, Unauthenticated):
                    raise error
                found[row] = plaintext, error
    return found
