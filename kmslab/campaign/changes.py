"""What a new blob changes in the record that it is stored in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from kmslab.analysis.classify import Drop, Target
from kmslab.campaign.sending import Answer, NewBlobs
from kmslab.columns import column_of
from kmslab.context import context_text
from kmslab.model import Record
from kmslab.providers.base import Keep
from kmslab.records.source import BlobChanges, Change, Nothing, Place, Value

_SOURCE_COLUMNS: Final = ("source_key_id", "source_key_version_id", "source_encryption_algorithm")

_Others = dict[str, tuple[Value, Value]]


def change(
    record: Record,
    place: Place,
    answer: Answer,
    target: Target,
    fields: Set[str],
    nothing: Callable[[Record], Mapping[str, Nothing]] | None = None,
) -> Change | None:
    """The change that stores an answer; None where there is nothing to store.

    `fields` are those that the source has a column for. `nothing` is that of the record's `Chunk`:
    it is asked so that an undo can store exactly what was there. Beside the blob change:

    * provider and key, where the blob is of another one now;
    * the context, where the target has another one;
    * source_*: emptied where a public-key ciphertext has become a symmetric blob; those of a
      symmetric blob name its new key and version (lab's choice).
    """
    if answer.ciphertext_blob is None or answer.ciphertext_blob == record.ciphertext_blob:
        return None
    others: _Others = {}
    if answer.provider != record.provider:
        others["provider"] = record.provider, answer.provider
    if answer.key_id != answer.source_key_id or answer.provider != record.provider:
        others["key_id"] = record.key_id, answer.key_id
    if not isinstance(target.context, Keep):
        text = "" if isinstance(target.context, Drop) else context_text(target.context)
        others["context"] = record.context, text or None
    if _names_source(record):
        others |= _source_columns(record, answer)
    others = {n: (a, b) for n, (a, b) in others.items() if a != b and n in fields}
    if nothing is not None and not all(old for old, _ in others.values()):
        exactly = nothing(record)
        others = {n: (a or exactly.get(n, a), b) for n, (a, b) in others.items()}
    return Change(place, record.record_id, record.ciphertext_blob, answer.ciphertext_blob, others)


def plain_changes(
    records: Sequence[Record],
    places: Sequence[Place],
    answers: Sequence[Answer | None],
    target: Target,
) -> BlobChanges | None:
    """`change` for each, where nothing but the blob changes in any of them; None where more may."""
    if not isinstance(answers, NewBlobs) or not isinstance(target.context, Keep):
        return None
    done = answers.done
    if done.key_id != done.source_key_id:
        return None
    if any(any(column_of(records, name)) for name in _SOURCE_COLUMNS):
        return None
    ids, old = column_of(records, "record_id"), column_of(records, "ciphertext_blob")
    return BlobChanges(places, ids, old, answers.blobs)


def _names_source(record: Record) -> bool:
    return bool(
        record.source_key_id or record.source_key_version_id or record.source_encryption_algorithm
    )


def _source_columns(record: Record, answer: Answer) -> _Others:
    symmetric = record.source_encryption_algorithm is None and answer.provider == record.provider
    key_id = answer.key_id if symmetric and record.source_key_id else None
    version_id = answer.key_version_id if symmetric and record.source_key_version_id else None
    return {
        "source_key_id": (record.source_key_id, key_id),
        "source_key_version_id": (record.source_key_version_id, version_id),
        "source_encryption_algorithm": (record.source_encryption_algorithm, None),
    }
