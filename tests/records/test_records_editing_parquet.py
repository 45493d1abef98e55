"""A pass over a Parquet file changes cells and keeps everything else."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_files import TEXTS, edit, names_in, new_blob, orders, part_of, records_of

from kmslab.errors import SourceBusy, SourceChanged, SourceError
from kmslab.model import Record
from kmslab.records.source import Change

MOVE = {"provider": ("tencent", "ctyun"), "key_id": ("k1", None), "context": (None, '{"租":"7"}')}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.parquet"


def read(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read()


def damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196
    path.write_bytes(data)


def test_a_damaged_page(path: Path) -> None:
    pq.write_table(orders(1_000), path)
    damaged(path)
    for use in (lambda: records_of(path), lambda: edit(part_of(path), new_blob)):
        with pytest.raises(SourceError, match=str(path)):
            use()
    assert names_in(path.parent) == [path.name]


def rich() -> pa.Table:
    """A table with columns of many kinds, in no need of us."""
    count = 6
    return orders(
        count,
        nested=pa.array([{"a": [1, None], "b": {"ciphertext_blob": "A"}}, None] * 3),
        tags=pa.array([["x", None], [], None] * 2),
        amount=pa.array([1.5, float("nan"), None, -0.0, float("inf"), 0.1]),
        price=pa.array([None, 1, 2, 3, 4, Decimal("5.25")], pa.decimal128(9, 2)),
        taken=pa.array([1, None, 3, 4, 5, 6], pa.timestamp("ns", "Asia/Shanghai")),
        waited=pa.array([1, None, 3, 4, 5, 6], pa.duration("ms")),
        small=pa.array([1, None, 3, 4, 5, 6], pa.uint8()),
        raw=pa.array([b"\xff", None, b"", b"1", b"2", b"3"]),
        half=pa.array([[0.5, float("nan")]] * count, pa.list_(pa.float32(), 2)),
        day=pa.array([dt.date(2026, 1, 2)] * count),
        yes=pa.array([True, None] * 3),
        kind=pa.array(["a", "b", None] * 2).dictionary_encode(),
        pairs=pa.array([[("k", 1)], None, []] * 2, pa.map_(pa.string(), pa.int32())),
        identity=pa.ExtensionArray.from_storage(
            pa.uuid(), pa.array([b"x" * 16] * count, pa.binary(16))
        ),
    )


def described(schema: pa.Schema) -> pa.Schema:
    schema = schema.set(1, schema.field(1).with_metadata({"secret": "no"}))
    return schema.with_metadata({"pandas": "{}", "注": "x"})


# name: how the file is written
WRITERS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "no compression, no dictionary": {"compression": "NONE", "use_dictionary": False},
    "columns apart": {
        "compression": {"ciphertext_blob": "ZSTD", "nested.a.list.element": "GZIP"},
        "use_dictionary": ["provider", "kind"],
        "write_statistics": ["record_id"],
    },
    "version 1": {"version": "1.0", "data_page_version": "1.0"},
    "pages of version 2": {"version": "2.4", "data_page_version": "2.0"},
    "index, order": {
        "write_page_index": True,
        "sorting_columns": [pq.SortingColumn(0, True, True), pq.SortingColumn(4)],
    },
    "encodings": {
        "use_dictionary": False,
        "column_encoding": {"record_id": "DELTA_BYTE_ARRAY", "amount": "BYTE_STREAM_SPLIT"},
    },
    "no arrow schema, old lists": {"store_schema": False, "use_compliant_nested_type": False},
    "old times, new decimals": {
        "use_deprecated_int96_timestamps": True,
        "store_decimal_as_integer": True,
    },
    "filters": {"bloom_filter_options": {"record_id": {"ndv": 10}}},
}


def shape_of(path: Path) -> list[Any]:
    """All that is to be kept of how a file is written."""
    with pq.ParquetFile(path) as file:
        meta = file.metadata
        columns = [
            (
                group.num_rows,
                [
                    (s.column_index, s.descending, s.nulls_first)
                    for s in group.sorting_columns
                    if s.column_index != 4
                ],
                [
                    (
                        column.path_in_schema,
                        column.compression,
                        column.has_dictionary_page,
                        sorted(column.encodings),
                        column.is_stats_set,
                        column.has_column_index,
                        column.bloom_filter_offset is None,
                    )
                    for column in map(group.column, range(group.num_columns))
                ],
            )
            for group in map(meta.row_group, range(meta.num_row_groups))
        ]
        data = path.read_bytes()
        first = meta.row_group(0).column(0).data_page_offset
        known = dict(meta.metadata or {}) | {b"ARROW:schema": b""}
        return [
            meta.format_version,
            known,
            str(file.schema).splitlines()[1:],
            data[first : first + 2],
            columns,
        ]


@pytest.mark.parametrize("options", WRITERS.values(), ids=WRITERS)
def test_everything_else_is_kept(path: Path, options: dict[str, Any]) -> None:
    table = rich()
    if "version" in options:  # which knows no nanoseconds
        table = table.drop_columns(["taken"])
    table = table.cast(described(table.schema))
    pq.write_table(table, path, row_group_size=4, **options)
    before, old, records = shape_of(path), read(path), records_of(path)
    changes = {2: Change(2, "订单-2", "A", "NEW", MOVE), 6: Change(6, "订单-6", "A", "B" * 300)}
    edit(part_of(path), lambda record: changes.get(record.row))
    assert shape_of(path) == before
    new = read(path)
    assert new.schema.equals(old.schema, check_metadata=True)
    for name in table.column_names:
        if name not in ("ciphertext_blob", "provider", "key_id", "encryption_context"):
            assert repr(new.column(name).to_pylist()) == repr(old.column(name).to_pylist()), name
    assert new.column("ciphertext_blob").to_pylist() == ["A", "NEW", "A", "A", "A", "B" * 300]
    assert new.column("provider").to_pylist() == ["tencent", "ctyun"] + ["tencent"] * 4
    assert new.column("key_id").to_pylist() == ["k1", None] + ["k1"] * 4
    assert new.column("encryption_context").to_pylist() == [None, '{"租":"7"}'] + [None] * 4
    edit(part_of(path), lambda r: changes[r.row].undone() if r.row in changes else None)
    assert records_of(path) == records
    assert repr(read(path).to_pylist()) == repr(old.to_pylist())
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("text", TEXTS, ids=str)
def test_text_keeps_its_type(path: Path, text: pa.DataType) -> None:
    pq.write_table(orders(3_000, text), path, row_group_size=2_500)
    schema = read(path).schema
    edit(part_of(path), lambda record: new_blob(record) if record.row > 2_000 else None)
    assert read(path).schema.equals(schema, check_metadata=True)
    blobs = read(path).column("ciphertext_blob").to_pylist()
    assert blobs == ["A"] * 2_000 + ["NEW"] * 1_000
    with pq.ParquetFile(path) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(2)] == [2_500, 500]
        assert file.metadata.row_group(0).column(1).has_dictionary_page


def test_a_sort_order_is_kept_up_to_what_may_change(path: Path) -> None:
    order = [pq.SortingColumn(0), pq.SortingColumn(1), pq.SortingColumn(2)]
    pq.write_table(orders(), path, sorting_columns=order)
    edit(part_of(path), new_blob)
    with pq.ParquetFile(path) as file:
        assert [s.column_index for s in file.metadata.row_group(0).sorting_columns] == [0]


def test_a_column_that_must_be_there_gets_an_empty_text(path: Path) -> None:
    schema = pa.schema(
        [field.with_nullable(field.name == "encryption_context") for field in orders().schema]
    )
    pq.write_table(orders().cast(schema), path)
    edit(part_of(path), lambda r: Change(r.row, r.record_id, "A", "B", {"key_id": ("k1", None)}))
    assert read(path).schema == schema
    assert records_of(path)[0].key_id is None


def test_nothing_to_change_leaves_the_very_file(path: Path) -> None:
    pq.write_table(orders(), path)
    before, content = path.stat(), path.read_bytes()
    edit(part_of(path), lambda record: new_blob(record, "A") if record.row > 2 else None)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    edit(part_of(path), lambda _: None, path.with_name("copy.parquet"))
    assert path.with_name("copy.parquet").read_bytes() == content


def test_an_output(path: Path) -> None:
    pq.write_table(orders(), path)
    content = path.read_bytes()
    edit(part_of(path), new_blob, path.with_name("copy.parquet"))
    assert path.read_bytes() == content
    assert {r.ciphertext_blob for r in records_of(path.with_name("copy.parquet"))} == {"NEW"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            Change(1, "订单-1", "A", "C", {"source_key_id": (None, "k")}),
            "no column for source_key_id",
        ),
        (Change(9, "订单-1", "A", "C"), "row 9 is not in the chunk"),
        (Change("1", "订单-1", "A", "C"), "row 1 is not in the chunk"),
        (Change(1, "订单-1", "A", "\ud800"), "UTF-8"),
    ],
)
def test_refused_changes(path: Path, change: Change, message: str) -> None:
    pq.write_table(orders(1), path)
    content = path.read_bytes()
    with pytest.raises(SourceError, match=message) as caught:
        edit(part_of(path), lambda _: change)
    assert not isinstance(caught.value, SourceChanged)
    assert path.read_bytes() == content
    assert names_in(path.parent) == [path.name]


def test_a_file_that_changes_meanwhile(path: Path) -> None:
    pq.write_table(orders(), path)
    with part_of(path).edit() as pass_:
        with pytest.raises(SourceBusy):
            part_of(path).edit().__enter__()
        for chunk in pass_:
            pass_.write([new_blob(record) for record in chunk.records])
        pq.write_table(orders(3), path)
        with pytest.raises(SourceChanged):
            pass_.finish()
    assert len(records_of(path)) == 3
    assert names_in(path.parent) == [path.name]


def test_a_pass_that_is_given_up(path: Path) -> None:
    pq.write_table(orders(3_000), path, row_group_size=1_000)
    content = path.read_bytes()
    with part_of(path).edit() as pass_:
        for chunk in pass_:
            pass_.write([new_blob(record) for record in chunk.records])
            break
        with pytest.raises(SourceError, match="not all records were taken"):
            pass_.finish()
    assert path.read_bytes() == content
    assert names_in(path.parent) == [path.name]


cells = st.none() | st.text(st.characters(codec="utf-8"), max_size=4)


@given(
    st.lists(st.tuples(cells, cells, cells), max_size=12),
    st.integers(1, 5),
    st.sampled_from(TEXTS),
    st.data(),
)
def test_any_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str | None, str | None, str | None]],
    group: int,
    kind: pa.DataType,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    names = ["record_id", "ciphertext_blob", "key_id"]
    arrays = [pa.array([row[at] for row in rows], kind) for at in range(3)]
    table = pa.table([*arrays, pa.array([row[2] for row in rows], kind)], [*names, "note"])
    pq.write_table(table, path, row_group_size=group)
    before = records_of(path, "ctyun")
    assert before == [
        Record(row[0] or "", "ctyun", row[1] or "", n, key_id=row[2] or None)
        for n, row in enumerate(rows, start=1)
    ]
    new = {
        r.row: Change(
            r.row,
            r.record_id,
            r.ciphertext_blob,
            data.draw(cells) or "",
            {"key_id": (r.key_id, data.draw(cells))},
        )
        for r in before
        if data.draw(st.booleans())
    }
    edit(part_of(path, "ctyun"), lambda record: new.get(record.row))
    for record, old in zip(records_of(path, "ctyun"), before, strict=True):
        change = new.get(record.row)
        assert record.ciphertext_blob == (change.new_blob if change else old.ciphertext_blob)
        assert record.key_id == (change.others["key_id"][1] or None if change else old.key_id)
    assert read(path).column("note").to_pylist() == table.column("note").to_pylist()
    edit(part_of(path, "ctyun"), lambda r: new[r.row].undone() if r.row in new else None)
    assert records_of(path, "ctyun") == before
