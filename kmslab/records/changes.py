"""What a change asks of a row, in any format."""

from __future__ import annotations

from collections.abc import Iterator

from kmslab.errors import SourceChanged, SourceError
from kmslab.records.source import Change

Value = str | None


def new_values(change: Change) -> Iterator[tuple[str, Value, Value]]:
    """The fields that a change is about, with the values before and after.

    >>> list(new_values(Change(1, "a", "old", "new")))
    [('record_id', 'a', 'a'), ('ciphertext_blob', 'old', 'new')]
    """
    yield "record_id", change.record_id, change.record_id
    yield "ciphertext_blob", change.old_blob, change.new_blob
    for name, (old, new) in change.others.items():
        yield name, old, new


def not_held(source: str, change: Change, field: str) -> SourceChanged:
    """The error for a row whose `field` is not what the change says it was."""
    return SourceChanged(
        f"{source}, row {change.place}: {field} is not what it was when it was read; the file was"
        " left as it was. Plan again",
        source=source,
        row=change.place if isinstance(change.place, int) else None,
    )


def no_column(source: str, field: str) -> SourceError:
    """The error for a change of a field that has no column."""
    return SourceError(f"{source}: no column for {field}, which was to change", source=source)
