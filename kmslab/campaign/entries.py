"""Which entry of a journal is about which record of a source."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kmslab.campaign.journal import Entry, Journal, Step
from kmslab.model import Record
from kmslab.records.source import Change, Chunk


def stored(journal: Journal, part: int, chunk: Chunk) -> list[tuple[Record, Entry]]:
    """The records of a chunk that the campaign has changed, each with its entry."""
    found = journal.find(part, [record.record_id for record in chunk.records])
    if not found:
        return []
    numbers = [entry.number for entries in found.values() for entry in entries]
    applied = journal.standing(Step.APPLIED, min(numbers), max(numbers))
    pairs: list[tuple[Record, Entry]] = []
    for record, place in zip(chunk.records, chunk.places, strict=True):
        entries = [e for e in found.get(record.record_id, ()) if e.number in applied]
        # Ids of a file may be there twice: the one that holds the blob, at this place if it can.
        entries.sort(
            key=lambda e: (e.change.new_blob != record.ciphertext_blob, e.change.place != place)
        )
        if entries:
            found[record.record_id].remove(entries[0])
            moved = replace(entries[0].change, place=place)
            pairs.append((record, replace(entries[0], change=moved)))
    return pairs


def before(record: Record, change: Change) -> Record:
    """A record as it was before a change."""
    old: dict[str, Any] = {name: values[0] for name, values in change.others.items()}
    return replace(record, ciphertext_blob=change.old_blob, **old)


def after(record: Record, change: Change) -> Record:
    """A record as it is after a change."""
    new: dict[str, Any] = {name: values[1] for name, values in change.others.items()}
    return replace(record, ciphertext_blob=change.new_blob, **new)
