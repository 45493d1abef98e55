"""Which entry of a journal is about which record of a source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kmslab.campaign.journal import Entry, Journal, Step
from kmslab.model import Record
from kmslab.records.source import Change, Chunk, Place

_BLOCK: Final = 1_024  # numbers whose bits are one int

_Test = Callable[[Change, str, Place], bool]

# From the surest to the least sure. New blobs come first: no two records have one by chance.
_TESTS: Final[Sequence[_Test]] = (
    lambda change, blob, place: change.new_blob == blob and change.place == place,
    lambda change, blob, _: change.new_blob == blob,
    lambda change, blob, place: change.old_blob == blob and change.place == place,
    lambda change, blob, _: change.old_blob == blob,
    lambda change, _, place: change.place == place,
)


@dataclass(frozen=True, slots=True)
class Match:
    """A record, by its row in the chunk, and the entry that is about it.

    The change of the entry is at the place where the record is now. `applied`: the campaign has
    stored it, whatever is there now.
    """

    row: int
    record: Record
    entry: Entry
    applied: bool


class Matching:
    """Gives the records of a part their entries, over one pass: chunk by chunk, `of`.

    A record's entry is one with its id and its blob, old or new; where several are, the one at its
    place; where none is, the one at its place, whatever blob it has. Ids of a file may be there
    twice, and its rows may have moved since, so no entry is given twice in a pass. For that it
    keeps a few bits for each entry that was given. With `stored` only entries count that the
    campaign has stored.
    """

    def __init__(self, journal: Journal, part: int, *, stored: bool = False) -> None:
        self._journal = journal
        self._part = part
        self._stored = stored
        self._given: dict[int, int] = {}

    def of(self, chunk: Chunk) -> list[Match]:
        """The records of a chunk that have an entry, in the chunk's order."""
        found = self._journal.find(self._part, [record.record_id for record in chunk.records])
        if not found:
            return []
        numbers = [entry.number for entries in found.values() for entry in entries]
        applied = self._journal.standing(Step.APPLIED, min(numbers), max(numbers))
        free = {
            record_id: [
                entry
                for entry in entries
                if not self._is_given(entry.number)
                and (entry.number in applied or not self._stored)
            ]
            for record_id, entries in found.items()
        }
        given = self._give(chunk, free)
        return [
            Match(row, chunk.records[row], _at(entry, chunk.places[row]), entry.number in applied)
            for row, entry in sorted(given.items())
        ]

    def _give(self, chunk: Chunk, free: dict[str, list[Entry]]) -> dict[int, Entry]:
        """The entries by row. The surer test goes first for all rows, then the next."""
        given: dict[int, Entry] = {}
        rows = [row for row, record in enumerate(chunk.records) if free.get(record.record_id)]
        for fits in _TESTS:
            rest = []
            for row in rows:
                record, place = chunk.records[row], chunk.places[row]
                entries = free[record.record_id]
                for at, entry in enumerate(entries):
                    if fits(entry.change, record.ciphertext_blob, place):
                        given[row] = entries.pop(at)
                        self._mark(entry.number)
                        break
                else:
                    rest.append(row)
            rows = rest
        return given

    def _is_given(self, number: int) -> bool:
        return bool(self._given.get(number // _BLOCK, 0) >> number % _BLOCK & 1)

    def _mark(self, number: int) -> None:
        block = number // _BLOCK
        self._given[block] = self._given.get(block, 0) | 1 << number % _BLOCK


def _at(entry: Entry, place: Place) -> Entry:
    if entry.change.place == place:
        return entry
    return replace(entry, change=replace(entry.change, place=place))


def before(record: Record, change: Change) -> Record:
    """A record as it was before a change."""
    old: dict[str, Any] = {name: values[0] for name, values in change.others.items()}
    return replace(record, ciphertext_blob=change.old_blob, **old)


def after(record: Record, change: Change) -> Record:
    """A record as it is after a change."""
    new: dict[str, Any] = {name: values[1] for name, values in change.others.items()}
    return replace(record, ciphertext_blob=change.new_blob, **new)
