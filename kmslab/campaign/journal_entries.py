"""The entries of a journal as rows of its table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Final

from kmslab.records.source import BlobChanges, Change

ENTRIES: Final = (
    "SELECT id, part, place, record_id, old_blob, new_blob, others, provider FROM entry"
)
"""What `entry_of` reads."""

_INSERT: Final = (
    "INSERT INTO entry (part, place, record_id, old_blob, new_blob, others, provider) VALUES "
)
_WIDTH: Final = 7
_VALUES: Final = f"({', '.join('?' * _WIDTH)})"

# Rows in one statement: it takes two thirds of the time of one statement a row.
_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class Entry:
    """A change as it was intended, with its number in the journal.

    `provider` is the one that the record had before.
    """

    number: int
    part: int
    change: Change
    provider: str


def insertions(
    part: int, changes: Sequence[Change], providers: Sequence[str]
) -> Iterator[tuple[str, Sequence[Any]]]:
    """The statements that write changes down, with their values."""
    values = list(chain.from_iterable(_rows(part, changes, providers)))
    for at in range(0, len(values), _AT_ONCE * _WIDTH):
        block = values[at : at + _AT_ONCE * _WIDTH]
        yield _INSERT + ", ".join([_VALUES] * (len(block) // _WIDTH)), block


def entry_of(row: tuple[Any, ...]) -> Entry:
    """The entry that a row of `ENTRIES` is."""
    number, part, place, record_id, old_blob, new_blob, others, provider = row
    moved = {} if others is None else {k: (v[0], v[1]) for k, v in json.loads(others).items()}
    change = Change(place, record_id, old_blob or "", new_blob or "", moved)
    return Entry(number, part, change, provider)


def _rows(
    part: int, changes: Sequence[Change], providers: Sequence[str]
) -> Iterable[tuple[Any, ...]]:
    blobs = BlobChanges.of(changes)
    if blobs is not None:
        columns = (blobs.places, blobs.record_ids, blobs.old_blobs, blobs.new_blobs)
        return zip(repeat(part), *columns, repeat(None), providers, strict=False)
    return [
        (part, c.place, c.record_id, c.old_blob, c.new_blob, _others_text(c), provider)
        for c, provider in zip(changes, providers, strict=True)
    ]


def _others_text(change: Change) -> str | None:
    return json.dumps(dict(change.others), ensure_ascii=False) if change.others else None
