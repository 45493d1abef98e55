"""What the tests of files share: opening, editing, and what must be left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from kmslab.model import Record
from kmslab.records.files import open_files
from kmslab.records.source import Change, Part
from kmslab.records.spec import SourceSpec


def part_of(path: Path, provider: str | None = None, **spec: object) -> Part:
    """The only part of a source."""
    (part,) = open_files(SourceSpec(str(path), provider=provider, **spec)).parts  # type: ignore[arg-type]
    return part


def records_of(path: Path, provider: str | None = None, **spec: object) -> list[Record]:
    """All records of a source."""
    source = open_files(SourceSpec(str(path), provider=provider, **spec))  # type: ignore[arg-type]
    return [r for part in source.parts for chunk in part.read() for r in chunk.records]


def new_blob(record: Record, blob: str = "NEW") -> Change:
    """Another blob for a record."""
    return Change(record.row, record.record_id, record.ciphertext_blob, blob)


def edit(
    part: Part, change: Callable[[Record], Change | None], output: Path | None = None
) -> Sequence[Change]:
    """Change the records that `change` gives one for."""
    made = []
    with part.edit(output=output) as pass_:
        assert not pass_.immediate
        for chunk in pass_:
            assert len(chunk.records) == len(chunk.places) <= 2000
            changes = [c for c in map(change, chunk.records) if c is not None]
            assert list(pass_.write(changes)) == []
            made += changes
        pass_.finish()
    return made


def names_in(folder: Path) -> list[str]:
    """What is in a folder: nothing of ours is to be left behind."""
    return sorted(path.name for path in folder.iterdir())


# The types that text has in Parquet
TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]


def orders(count: int = 5, text: pa.DataType | None = None, **columns: Any) -> pa.Table:
    """A table of records, all of one provider, key and blob."""
    kind = text or pa.string()
    return pa.table(
        {
            "record_id": pa.array([f"订单-{n}" for n in range(1, count + 1)], kind),
            "ciphertext_blob": pa.array(["A"] * count, kind),
            "provider": pa.array(["tencent"] * count, kind),
            "encryption_context": pa.array([None] * count, kind),
            "key_id": pa.array(["k1"] * count, kind),
            **columns,
        }
    )
