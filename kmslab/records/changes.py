"""What a change asks of a row, in any format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kmslab.errors import SourceError
from kmslab.model import Record
from kmslab.records.source import ABSENT, MOVED_FIELDS, Change, Nothing, Value

_ABSENT: Final = {"absent": True}


def new_values(change: Change) -> Iterator[tuple[str, Value, Value]]:
    """The fields that a change is about, with the values before and after.

    >>> list(new_values(Change(1, "a", "old", "new")))
    [('record_id', 'a', 'a'), ('ciphertext_blob', 'old', 'new')]
    """
    yield "record_id", change.record_id, change.record_id
    yield "ciphertext_blob", change.old_blob, change.new_blob
    for name, (old, new) in change.others.items():
        yield name, old, new


def empty_texts(
    at: Mapping[str, int], columns: Sequence[Sequence[object]], first: int, record: Record
) -> Mapping[str, Nothing]:
    """Which of MOVED_FIELDS hold an empty text: see `Chunk.nothing`.

    `columns` has the cells of a chunk whose first record is row `first`; `at` says which of them
    are those of a field.

    >>> keys, contexts = ["k", ""], [None, None]
    >>> empty_texts({"key_id": 0, "context": 1}, [keys, contexts], 7, Record("b", "ctyun", "A", 8))
    {'key_id': ''}
    """
    row = record.row - first
    return {name: "" for name in MOVED_FIELDS if name in at and columns[at[name]][row] == ""}


def others_as_json(others: Mapping[str, tuple[Value, Value]]) -> str:
    """`Change.others` as text.

    >>> others_as_json({"key_id": (ABSENT, "k1"), "context": ("", None)})
    '{"key_id": [{"absent": true}, "k1"], "context": ["", null]}'
    """
    return json.dumps(dict(others), ensure_ascii=False, default=lambda _: _ABSENT)


def others_from_json(text: str) -> dict[str, tuple[Value, Value]]:
    """`Change.others` from the text that `others_as_json` gave.

    >>> others_from_json('{"key_id": [{"absent": true}, "k1"], "context": ["", null]}')
    {'key_id': (<Absent.ABSENT: 'absent'>, 'k1'), 'context': ('', None)}
    """
    pairs = json.loads(text).items()
    return {name: (_value(old), _value(new)) for name, (old, new) in pairs}


def _value(value: Any) -> Value:
    return ABSENT if value == _ABSENT else value


def no_column(source: str, field: str) -> SourceError:
    """The error for a change of a field that has no column."""
    return SourceError(f"{source}: no column for {field}, which was to change", source=source)
