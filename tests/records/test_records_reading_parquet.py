"""Parquet files become records, or say why not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record_files import TEXTS, edit, names_in, new_blob, orders, part_of, records_of

from kmslab.errors import SourceError
from kmslab.model import Record
from kmslab.records.files import open_files
from kmslab.records.source import Change
from kmslab.records.spec import SourceSpec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.parquet"


class TestRecords:
    @pytest.mark.parametrize("text", TEXTS, ids=str)
    def test_text(self, path: Path, text: pa.DataType) -> None:
        pq.write_table(orders(2, text), path)
        assert records_of(path) == [
            Record(f"订单-{n}", "tencent", "A", n, key_id="k1") for n in (1, 2)
        ]

    @pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
    def test_ids_that_are_numbers(self, path: Path, kind: pa.DataType) -> None:
        pq.write_table(orders(2).set_column(0, "record_id", pa.array([7, None], kind)), path)
        assert [record.record_id for record in records_of(path)] == ["7", ""]

    @pytest.mark.parametrize(
        "kind",
        [
            *(
                pa.timestamp(unit, zone)
                for unit in ("s", "ms", "us", "ns")
                for zone in (None, "UTC")
            ),
            pa.timestamp("ms", "Asia/Shanghai"),
            pa.int64(),
            pa.string(),
        ],
        ids=str,
    )
    def test_times(self, path: Path, kind: pa.DataType) -> None:
        moment = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
        seconds = int(moment.timestamp())
        if pa.types.is_timestamp(kind):
            naive = moment if kind.tz else moment.replace(tzinfo=None)
            column = pa.array([naive, None], kind)
        else:
            column = pa.array([seconds, None], pa.int64()).cast(kind)
        pq.write_table(orders(2, created_at=column), path)
        assert [record.created_at for record in records_of(path)] == [moment, None]

    def test_a_day_is_its_beginning(self, path: Path) -> None:
        pq.write_table(orders(1, created_at=pa.array([dt.date(2026, 1, 2)])), path)
        assert records_of(path)[0].created_at == dt.datetime(2026, 1, 2, tzinfo=dt.UTC)

    def test_nanoseconds_are_cut_off(self, path: Path) -> None:
        pq.write_table(orders(1, created_at=pa.array([1_999], pa.timestamp("ns"))), path)
        assert records_of(path)[0].created_at == dt.datetime(1970, 1, 1, 0, 0, 0, 1, dt.UTC)

    def test_a_column_without_a_type_is_not_there(self, path: Path) -> None:
        table = orders(2).drop_columns(["key_id"])
        pq.write_table(table.append_column("key_id", pa.nulls(2)), path)
        source = open_files(SourceSpec(str(path)))
        assert "key_id" not in source.fields
        assert records_of(path)[0].key_id is None

    def test_no_rows(self, path: Path) -> None:
        pq.write_table(orders(0), path)
        before = path.read_bytes()
        assert records_of(path) == []
        edit(part_of(path), new_blob)
        assert path.read_bytes() == before

    def test_a_template(self, path: Path) -> None:
        pq.write_table(orders(2, tenant=pa.array([7, None])), path)
        contexts = [r.context for r in records_of(path, context_template='{"t":"{tenant}"}')]
        assert contexts == ['{"t":"7"}', '{"t":""}']
        contexts = [r.context for r in records_of(path, context_template='{"t":"x"}')]
        assert contexts == ['{"t":"x"}'] * 2

    def test_places_go_on_over_row_groups(self, path: Path) -> None:
        pq.write_table(orders(4_500), path, row_group_size=2_100)
        chunks = list(part_of(path).read())
        assert [len(chunk.records) for chunk in chunks] == [2000, 100] * 2 + [300]
        assert [place for chunk in chunks for place in chunk.places] == list(range(1, 4_501))


def _folders(folder: Path) -> Path:
    for name, provider in (("tencent", "腾讯=%"), ("none", None)):
        value = "__HIVE_DEFAULT_PARTITION__" if provider is None else "%E8%85%BE%E8%AE%AF%3D%25"
        inner = folder / "day=1" / f"provider={value}"
        inner.mkdir(parents=True)
        pq.write_table(orders(1).drop_columns(["provider"]), inner / f"{name}.parquet")
    (folder / "_SUCCESS").touch()
    return folder


def test_folders_that_stand_for_columns(tmp_path: Path) -> None:
    source = open_files(SourceSpec(str(_folders(tmp_path / "table"))))
    assert source.fields == {"record_id", "ciphertext_blob", "context", "key_id"}
    records = [r for part in source.parts for chunk in part.read() for r in chunk.records]
    assert sorted(record.provider for record in records) == ["", "腾讯=%"]
    edit(source.parts[0], new_blob)
    change = Change(1, "订单-1", "NEW", "B", {"provider": ("腾讯=%", "ctyun")})
    with pytest.raises(SourceError, match="no column for provider"):
        edit(source.parts[0], lambda _: change)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda p: p.write_text("record_id\n"), "not Parquet that can be read"),
    "empty": (lambda p: p.write_bytes(b""), "not Parquet that can be read"),
    "cut": (lambda p: pq.write_table(orders(), p) or p.write_bytes(p.read_bytes()[:-9]), "cut"),
    "binary": (
        lambda p: pq.write_table(orders().set_column(1, "ciphertext_blob", [[b"A"] * 5]), p),
        "column 'ciphertext_blob' is binary and not text",
    ),
    "number": (
        lambda p: pq.write_table(orders().set_column(4, "key_id", [[1] * 5]), p),
        "column 'key_id' is int64 and not text",
    ),
    "no blob": (
        lambda p: pq.write_table(orders().drop_columns(["ciphertext_blob"]), p),
        "no column 'ciphertext_blob'; found: 'record_id'",
    ),
    "twice": (
        lambda p: pq.write_table(orders().append_column("key_id", [["x"] * 5]), p),
        "column 'key_id' is there twice",
    ),
}


@pytest.mark.parametrize(("make", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable(path: Path, make: Callable[[Path], object], message: str) -> None:
    make(path)
    with pytest.raises(SourceError) as caught:
        open_files(SourceSpec(str(path)))
    assert message in str(caught.value) or message == "cut"
    assert str(path) in str(caught.value)


def test_cells_that_cannot_be_read_are_named(path: Path) -> None:
    pq.write_table(orders(3, created_at=pa.array(["0", None, "yesterday"])), path)
    for use in (lambda: list(part_of(path).read()), lambda: edit(part_of(path), new_blob)):
        with pytest.raises(SourceError, match="row 3: created_at: 'yesterday' is neither"):
            use()
    bad = pa.StringArray.from_buffers(1, *pa.array([b"\xff"]).buffers()[1:])
    pq.write_table(orders(1, owner=bad), path)
    with pytest.raises(SourceError, match="text that is not UTF-8"):
        records_of(path)
    pq.write_table(orders(1, created_at=pa.array([10**15], pa.timestamp("ms"))), path)
    with pytest.raises(SourceError, match="beyond the year 9999"):
        records_of(path)
    assert names_in(path.parent) == [path.name]
