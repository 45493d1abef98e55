"""An edit and the one that takes it back leave what was there: text, empty text, null, absent."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_files import TEXTS, part_of

from kmslab.errors import SourceError
from kmslab.model import Record
from kmslab.records.changes import others_as_json, others_from_json
from kmslab.records.source import ABSENT, MOVED_FIELDS, Change, Chunk, Part, Value
from kmslab.records.spec import SourceSpec
from kmslab.records.sql import open_table

MOVED = ("provider", "encryption_context", "key_id", "source_key_id")
FIELDS = {name: "context" if name == "encryption_context" else name for name in MOVED}

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | (
    st.sampled_from(["", '"', ",", "\n", " ", '{"租户":"7"}', "}", "\\"])
)
cells = st.none() | texts
Cells = dict[str, str | None]


def rows_of(values: st.SearchStrategy[Cells]) -> st.SearchStrategy[list[Cells]]:
    return st.lists(values, min_size=1, max_size=4)


full_rows = rows_of(st.fixed_dictionaries(dict.fromkeys(("ciphertext_blob", *MOVED), cells)))
partial_rows = rows_of(
    st.fixed_dictionaries({"ciphertext_blob": texts}, optional=dict.fromkeys(MOVED, cells))
)


def held(chunk: Chunk, record: Record, field: str) -> Value:
    """What a record holds exactly."""
    value: Value = getattr(record, field) or None
    return chunk.nothing(record).get(field, value)


def drawn(chunk: Chunk, data: st.DataObject) -> list[Change]:
    """Changes of some rows of a chunk, in some of their fields."""
    changes = []
    for place, record in zip(chunk.places, chunk.records, strict=True):
        if data.draw(st.booleans()):
            fields = data.draw(st.sets(st.sampled_from(sorted(FIELDS.values()))))
            others = {name: (held(chunk, record, name), data.draw(cells)) for name in fields}
            old = record.ciphertext_blob
            changes.append(Change(place, record.record_id, old, data.draw(texts), others))
    return changes


def edit_and_take_back(part: Part, data: st.DataObject) -> None:
    """Make changes, see that exactly they are there, and take them back."""
    made: list[Change] = []
    with part.edit() as edit:
        for chunk in edit:
            made = drawn(chunk, data)
            assert list(edit.write(made)) == []
        edit.finish()
    back = [change.undone() for change in made]
    with part.edit() as edit:
        for chunk in edit:
            records = dict(zip(chunk.places, chunk.records, strict=True))
            for change in made:
                record = records[change.place]
                assert record.ciphertext_blob == change.new_blob
                for name, (_, new) in change.others.items():
                    exactly = held(chunk, record, name)
                    assert (exactly or None) == (new or None)
                    assert is_csv(part) or exactly == new
            assert list(edit.write(back)) == []
        edit.finish()


def is_csv(part: Part) -> bool:
    return part.name.endswith(".csv")


@given(full_rows, st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.data())
def test_csv(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Cells],
    quoting: Any,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "undone.csv"
    # Not every Python quotes these where lines end otherwise.
    rows = [{k: v and v.replace("\r", "") for k, v in row.items()} for row in rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, ["record_id", *rows[0]], quoting=quoting)
    writer.writeheader()
    writer.writerows({"record_id": n} | row for n, row in enumerate(rows))
    path.write_bytes(file.getvalue().encode())
    before = path.read_bytes()
    edit_and_take_back(part_of(path), data)
    assert path.read_bytes() == before


@given(
    partial_rows,
    st.booleans(),
    st.sampled_from([None, (",", ":"), (" ,\t", "  : ")]),
    st.data(),
)
def test_jsonl(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Cells],
    ascii_only: bool,
    separators: tuple[str, str] | None,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "undone.jsonl"
    lines = []
    for row in [dict.fromkeys(("ciphertext_blob", *MOVED), "x"), *rows]:
        # The note tells in each row, also once it is changed, whether it is written in ASCII.
        members = data.draw(st.permutations([*row.items(), ("record_id", "1"), ("note", "租")]))
        lines.append(json.dumps(dict(members), ensure_ascii=ascii_only, separators=separators))
    path.write_bytes("\n".join(lines).encode())
    before = path.read_bytes()
    edit_and_take_back(part_of(path), data)
    assert path.read_bytes() == before


@given(full_rows, st.sampled_from(TEXTS), st.data())
def test_parquet(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Cells],
    kind: pa.DataType,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "undone.parquet"
    rows = [{"record_id": "1"} | row | {"ciphertext_blob": "A"} for row in rows]
    pq.write_table(pa.table({n: pa.array([r[n] for r in rows], kind) for n in rows[0]}), path)
    edit_and_take_back(part_of(path), data)
    with path.open("rb") as file:
        assert pq.read_table(file).to_pylist() == rows


@given(full_rows, st.data())
def test_sqlite(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Cells], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "undone.db"
    path.unlink(missing_ok=True)
    stored = [(n, "A", *(row[name] for name in MOVED)) for n, row in enumerate(rows)]
    with closing(sqlite3.connect(path)) as database, database:
        columns = ", ".join(f"{name} TEXT" for name in MOVED)
        database.execute(
            f"CREATE TABLE t (record_id INTEGER PRIMARY KEY, ciphertext_blob, {columns})"
        )
        database.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(stored[0]))})", stored)
    (part,) = open_table(SourceSpec(f"sqlite:///{path}", "t")).parts
    edit_and_take_back(part, data)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT * FROM t").fetchall() == stored


def test_a_column_that_must_hold_something(tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    names = ["record_id", "ciphertext_blob", "provider", "key_id"]
    schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in names])
    pq.write_table(pa.table([["1"], ["A"], ["tencent"], ["k"]], schema=schema), path)
    for value in (None, ABSENT):
        with part_of(path).edit() as edit:
            for _ in edit:
                assert edit.write([Change(1, "1", "A", "B", {"key_id": ("k", value)})]) == []
            edit.finish()
        with part_of(path).edit() as edit:
            for chunk in edit:
                assert held(chunk, chunk.records[0], "key_id") == ""
                assert edit.write([Change(1, "1", "B", "A", {"key_id": (value, "k")})]) == []
            edit.finish()


def test_nothing_is_known_of_a_chunk_that_is_written(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text('{"record_id":"1","ciphertext_blob":"A","key_id":""}\n')
    with part_of(path, "ctyun").edit() as edit:
        for chunk in edit:
            absent = dict.fromkeys((*MOVED_FIELDS[2:], "key_id"), ABSENT)
            assert chunk.nothing(chunk.records[0]) == absent | {"key_id": ""}
            edit.write(())
            with pytest.raises(SourceError, match="row 1 is not in the chunk"):
                chunk.nothing(chunk.records[0])


@given(st.dictionaries(texts, st.tuples(cells | st.just(ABSENT), cells | st.just(ABSENT))))
def test_others_as_json(others: dict[str, tuple[Value, Value]]) -> None:
    assert others_from_json(others_as_json(others)) == others
