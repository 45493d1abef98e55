"""The entries of a journal as rows of its table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, Final

from kmslab.records.changes import others_as_json, others_from_json
from kmslab.records.source import BlobChanges, Change

ENTRIES: Final = (
    "SELECT id, part, place, record_id, old_blob, new_blob, others, provider FROM entry"
)
"""What `entry_of` reads."""

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
    blobs = BlobChanges.of(changes)
    if blobs is not None and providers and providers.count(providers[0]) == len(providers):
        alike: tuple[Any, ...] = part, providers[0]
        columns = (blobs.places, blobs.record_ids, blobs.old_blobs, blobs.new_blobs)
        insert, width = _insert_alike, len(columns)
        rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True)
    else:
        alike, insert, width = (), _insert, _WIDTH
        rows = (
            (part, c.place, c.record_id, c.old_blob, c.new_blob, _others_text(c), provider)
            for c, provider in zip(changes, providers, strict=True)
        )
    values = list(chain.from_iterable(rows))
    for at in range(0, len(values), _AT_ONCE * width):
        block = values[at : at + _AT_ONCE * width]
        yield insert(len(block) // width), (*alike, *block)


_WIDTH: Final = 7
_INSERT: Final = (
    "INSERT INTO entry (part, place, record_id, old_blob, new_blob, others, provider) VALUES "
)
_INSERT_ALIKE: Final = (
    "INSERT INTO entry (part, place, record_id, old_blob, new_blob, provider) VALUES "
)


@cache
def _insert(rows: int) -> str:
    """Writes down so many rows, whatever they are."""
    return _INSERT + ", ".join([f"({', '.join('?' * _WIDTH)})"] * rows)


@cache
def _insert_alike(rows: int) -> str:
    """The same where part and provider, which come first, are those of all rows, and only blobs
    change: half as many values to give take two thirds of the time."""
    each = (", ".join(f"?{3 + 4 * row + column}" for column in range(4)) for row in range(rows))
    return _INSERT_ALIKE + ", ".join(f"(?1, {values}, ?2)" for values in each)


def entry_of(row: tuple[Any, ...]) -> Entry:
    """The entry that a row of `ENTRIES` is."""
    number, part, place, record_id, old_blob, new_blob, others, provider = row
    moved = {} if others is None else others_from_json(others)
    change = Change(place, record_id, old_blob or "", new_blob or "", moved)
    return Entry(number, part, change, provider)


def _others_text(change: Change) -> str | None:
    return others_as_json(change.others) if change.others else None
