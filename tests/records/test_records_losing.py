"""A row that does not hold what a change says is left alone and named; all others change."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record_files import new_blob, part_of, records_of

from kmslab.errors import SourceError
from kmslab.model import Record
from kmslab.records.source import Change, Place

FIELDS = ("record_id", "ciphertext_blob", "provider", "encryption_context", "key_id")
ROWS = [(f"订单-{n}", "A", "tencent", '{"a":"b"}', "k1") for n in range(1, 6)]


def write_csv(folder: Path) -> Path:
    path = folder / "orders.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([FIELDS, *ROWS])
    return path


def write_jsonl(folder: Path) -> Path:
    path = folder / "orders.jsonl"
    path.write_text("".join(json.dumps(dict(zip(FIELDS, r, strict=True))) + "\n" for r in ROWS))
    return path


def write_parquet(folder: Path) -> Path:
    path = folder / "orders.parquet"
    pq.write_table(pa.table(list(map(list, zip(*ROWS, strict=True))), FIELDS), path)
    return path


@pytest.fixture(params=[write_csv, write_jsonl, write_parquet], ids=["csv", "jsonl", "parquet"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write: Callable[[Path], Path] = request.param
    return write(tmp_path)


def write(path: Path, changes: Sequence[Change]) -> Sequence[Place]:
    """Make changes of a source that is one chunk; the places of the lost ones."""
    with part_of(path).edit() as edit:
        for _ in edit:
            lost = edit.write(changes)
        edit.finish()
    return lost


OTHERS = {"provider": ("tencent", "ctyun"), "context": ('{"a":"b"}', None), "key_id": ("k1", "k2")}
NOT_HELD = {
    "blob": Change(3, "订单-3", "B", "NEW", OTHERS),
    "id": Change(3, "订单-4", "A", "NEW", OTHERS),
    "key": Change(3, "订单-3", "A", "NEW", OTHERS | {"key_id": ("k0", "k2")}),
    "no key": Change(3, "订单-3", "A", "NEW", OTHERS | {"key_id": (None, "k2")}),
    "context": Change(3, "订单-3", "A", "NEW", OTHERS | {"context": ('{"a": "b"}', None)}),
    "provider": Change(3, "订单-3", "A", "NEW", OTHERS | {"provider": ("ctyun", "tencent")}),
}


@pytest.mark.parametrize("change", NOT_HELD.values(), ids=NOT_HELD)
def test_what_a_row_does_not_hold(path: Path, change: Change) -> None:
    before = records_of(path)
    others = [Change(r.row, r.record_id, "A", "NEW", OTHERS) for r in before if r.row != 3]
    assert list(write(path, [*others[:2], change, *others[2:]])) == [3]
    after = records_of(path)
    assert after[2] == before[2]
    assert [record for record in after if record.row != 3] == [
        Record(r.record_id, "ctyun", "NEW", r.row, None, "k2") for r in before if r.row != 3
    ]


def test_nothing_but_lost_rows(path: Path) -> None:
    content, status = path.read_bytes(), path.stat()
    changes = [Change(n, f"订单-{n}", "B", "NEW") for n in range(1, 6)]
    assert list(write(path, changes)) == [1, 2, 3, 4, 5]
    assert (path.read_bytes(), path.stat().st_ino) == (content, status.st_ino)


def test_a_lost_row_is_copied_to_an_output(path: Path) -> None:
    output = path.with_name(f"new{path.suffix}")
    with part_of(path).edit(output=output) as edit:
        for chunk in edit:
            changes = [new_blob(record) for record in chunk.records]
            changes[1] = Change(2, "订单-2", "B", "NEW")
            assert list(edit.write(changes)) == [2]
        edit.finish()
    assert [r.ciphertext_blob for r in records_of(output)] == ["NEW", "A", "NEW", "NEW", "NEW"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Change(3, "订单-3", "B", "NEW", {"note": (None, "k")}), "no column for note"),
        (Change(9, "订单-3", "B", "NEW"), "row 9 is not in the chunk"),
    ],
)
def test_what_is_an_error_all_the_same(path: Path, change: Change, says: str) -> None:
    content = path.read_bytes()
    with pytest.raises(SourceError, match=says):
        write(path, [change])
    assert path.read_bytes() == content
