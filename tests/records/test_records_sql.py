"""A table: every row is read once, and changed only where it still holds what was read."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL

import kmslab
from kmslab.database_url import password_of, split_password, without_password
from kmslab.errors import (
    ContextError,
    DatabaseUrlError,
    KmslabError,
    SourceChanged,
    SourceError,
)
from kmslab.model import Record
from kmslab.records import Columns, sql_database, sql_errors
from kmslab.records.opening import absolute, open_source, split_location
from kmslab.records.source import CHUNK_ROWS, Change, Chunk, Divisible, Edit, Place, Source
from kmslab.records.spec import SourceSpec
from kmslab.records.sql import open_table
from kmslab.records.sql_database import absolute_url

SOURCE = Path(kmslab.__file__).parents[1]
Row = tuple[Any, ...]

ORDERS = """
CREATE TABLE orders (
    record_id TEXT PRIMARY KEY,
    ciphertext_blob TEXT NOT NULL,
    provider TEXT NOT NULL,
    encryption_context TEXT,
    key_id TEXT,
    note
)
"""


@pytest.fixture(scope="session")
def quick_folder() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of durable commits take no time there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=quick_folder)) / "订单 1%.db"


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """The database in the hands of an application; what it does is committed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


def execute(path: Path, *statements: str) -> None:
    with database(path) as connection:
        for statement in statements:
            connection.execute(statement)


def make(path: Path, rows: Sequence[Row] = (), table: str = ORDERS) -> Path:
    with database(path) as connection:
        connection.execute(table)
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO orders VALUES ({marks})", rows)
    return path


def dump(path: Path, table: str = "orders") -> list[Row]:
    """Every value of every row with its type, in the order of rows."""
    with database(path) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        typed = ", ".join(f'"{name}", typeof("{name}")' for name in names)
        return connection.execute(f"SELECT rowid, {typed} FROM {table} ORDER BY rowid").fetchall()


def orders(count: int) -> list[Row]:
    return [
        (
            f"订单-{n:05}",
            f"old-{n}",
            "tencent",
            '{"a": "b"}',
            "k1",
            [n, "text", 1.5, b"x", None][n % 5],
        )
        for n in range(count)
    ]


def spec_of(path: Path, **more: Any) -> SourceSpec:
    return SourceSpec(f"sqlite:///{path}", "orders", **more)


def opened(path: Path, **more: Any) -> Source:
    return open_table(spec_of(path, **more))


def read(source: Source) -> list[tuple[Place, str]]:
    return [
        (place, record.ciphertext_blob)
        for chunk in source.parts[0].read()
        for place, record in zip(chunk.places, chunk.records, strict=True)
    ]


def changes(chunk: Chunk, **others: str | None) -> list[Change]:
    """A new blob for every record, and new values for these fields."""
    return [
        Change(
            place,
            record.record_id,
            record.ciphertext_blob,
            record.ciphertext_blob.replace("old", "new"),
            {name: (getattr(record, name), value) for name, value in others.items()},
        )
        for place, record in zip(chunk.places, chunk.records, strict=True)
    ]


def change_all(source: Source, **others: str | None) -> list[Place]:
    """Change every record; the places of the lost ones."""
    lost: list[Place] = []
    with source.parts[0].edit() as edit:
        for chunk in edit:
            lost += edit.write(changes(chunk, **others))
        edit.finish()
    return lost


def first_chunk(edit: Edit) -> Chunk:
    return next(iter(edit))


# Reading


class TestRecords:
    def test_every_column(self, path: Path) -> None:
        make(
            path,
            [("订单-1", "AAAA", "tencent", '{"租户":"7"}', "k1", 1), ("2", "B", "c", "", None, 2)],
        )
        source = opened(path)
        (chunk,) = source.parts[0].read()
        assert list(chunk.records) == [
            Record("2", "c", "B", 1),
            Record("订单-1", "tencent", "AAAA", 2, context='{"租户":"7"}', key_id="k1"),
        ]
        assert list(chunk.places) == ["2", "订单-1"]
        assert source.fields == {"record_id", "ciphertext_blob", "provider", "context", "key_id"}
        assert source.blob_capacity is None
        assert [part.name for part in source.parts] == ["orders"]

    def test_other_names_one_provider_and_a_template(self, path: Path) -> None:
        make(
            path,
            [(7, "AAAA", "x", "租户")],
            'CREATE TABLE orders ("the id" INTEGER PRIMARY KEY, "select" TEXT, skip, tenant TEXT)',
        )
        source = opened(
            path,
            columns=Columns(record_id="the id", ciphertext_blob="select"),
            provider="ctyun",
            context_template='{"t":"{tenant}"}',
        )
        (chunk,) = source.parts[0].read()
        assert list(chunk.records) == [Record("7", "ctyun", "AAAA", 1, context='{"t":"租户"}')]
        assert list(chunk.places) == [7]
        assert source.fields == {"record_id", "ciphertext_blob"}

    def test_times_of_any_kind(self, path: Path) -> None:
        make(
            path,
            [(1, "A", "2026-01-02 03:04:05"), (2, "A", 1767323045), (3, "A", None)],
            "CREATE TABLE orders (record_id PRIMARY KEY, ciphertext_blob, created_at DATETIME)",
        )
        (chunk,) = opened(path, provider="ctyun").parts[0].read()
        times = [record.created_at for record in chunk.records]
        assert times[0] == times[1] is not None
        assert times[2] is None

    def test_an_empty_table(self, path: Path) -> None:
        assert list(opened(make(path)).parts[0].read()) == []

    def test_pages(self, path: Path) -> None:
        make(path, orders(2 * CHUNK_ROWS + 1))
        chunks = list(opened(path).parts[0].read())
        assert [len(chunk.records) for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 1]
        assert [r.row for chunk in chunks for r in chunk.records] == list(range(1, 2002))
        make(path.with_name("even"), orders(CHUNK_ROWS))
        assert len(list(opened(path.with_name("even")).parts[0].read())) == 1

    def test_nothing_is_locked_between_two_pages(self, path: Path) -> None:
        make(path, orders(CHUNK_ROWS + 1))
        pages = iter(opened(path).parts[0].read())
        next(pages)
        execute(path, "DELETE FROM orders WHERE record_id = '订单-01000'")
        assert list(pages) == []

    def test_a_reader_that_is_dropped_closes_its_connection(self, path: Path) -> None:
        pages = iter(opened(make(path, orders(2))).parts[0].read())
        next(pages)
        del pages  # a connection left open is a warning, and warnings are errors


TABLES = {
    "integer key": "record_id INTEGER PRIMARY KEY",
    "descending key": "record_id INTEGER PRIMARY KEY DESC",
    "text key": "record_id TEXT PRIMARY KEY",
    "no type": "record_id PRIMARY KEY",
    "no case": "record_id TEXT COLLATE NOCASE PRIMARY KEY",
    "unique": "x INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE",
    "no case, index with case": "record_id TEXT COLLATE NOCASE",
    "case, index without": "record_id TEXT",
    "trimmed": "record_id TEXT COLLATE RTRIM PRIMARY KEY",
}
INDEXES = {
    "no case, index with case": "CREATE UNIQUE INDEX i ON orders (record_id COLLATE BINARY)",
    "case, index without": "CREATE UNIQUE INDEX i ON orders (record_id COLLATE NOCASE)",
}
ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.sampled_from(["a", "A", "a ", "", "1", "01", "订单", "é", "É", "1e3"]),
)


@given(kind=st.sampled_from(sorted(TABLES)), wanted=st.lists(ids), page=st.integers(2, 5))
def test_every_row_is_read_and_changed_once(
    kind: str, wanted: list[Any], page: int, quick_folder: Path
) -> None:
    """Whatever the ids are, in whatever order and collation the table has them."""
    path = Path(tempfile.mkdtemp(dir=quick_folder)) / "orders.db"
    with database(path) as connection:
        connection.execute(f"CREATE TABLE orders ({TABLES[kind]}, ciphertext_blob TEXT)")
        connection.execute(INDEXES.get(kind, "SELECT 1"))
        for number, value in enumerate(wanted):
            with suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
                connection.execute(
                    "INSERT INTO orders (record_id, ciphertext_blob) VALUES (?, ?)",
                    (value, f"old-{number}"),
                )
        stored = connection.execute("SELECT record_id, ciphertext_blob FROM orders").fetchall()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kmslab.records.sql_rows.CHUNK_ROWS", page)
        source = opened(path, provider="ctyun")
        found = read(source)
        assert change_all(source) == []
        after = read(source)
    assert sorted(map(repr, found)) == sorted(map(repr, stored))
    assert after == [(place, blob.replace("old", "new")) for place, blob in found]


# Changing


@pytest.mark.parametrize(("count", "rows"), [(0, 10), (9, 10), (10, 10), (25, 10), (2_500, 1_100)])
def test_ranges_together_are_the_table(path: Path, count: int, rows: int) -> None:
    make(path, orders(count))
    whole = opened(path)
    part = whole.parts[0]
    assert isinstance(part, Divisible)
    ranges = part.key_ranges(rows)
    assert ranges[0].after is None
    assert ranges[-1].until is None
    pieces = [part.within(each) for each in ranges]
    found = [[p for chunk in piece.read() for p in chunk.places] for piece in pieces]
    assert [len(places) for places in found[:-1]] == [rows] * (count // rows)
    assert [place for places in found for place in places] == [place for place, _ in read(whole)]
    assert {piece.name for piece in pieces} == {part.name}


def test_an_edit_of_a_range_changes_no_other_row(path: Path) -> None:
    make(path, orders(30))
    part = opened(path).parts[0]
    assert isinstance(part, Divisible)
    with part.within(part.key_ranges(10)[1]).edit() as edit:
        for chunk in edit:
            assert edit.write(changes(chunk)) == []
        edit.finish()
    blobs = [blob.startswith("new") for _, blob in read(opened(path))]
    assert blobs == [False] * 10 + [True] * 10 + [False] * 10


def test_other_values_keep_their_types_and_bytes(path: Path) -> None:
    make(path, orders(2 * CHUNK_ROWS + 7))
    before = dump(path)
    with database(path) as connection:
        connection.execute("CREATE TABLE birds (name)")
        connection.execute("INSERT INTO birds VALUES ('喜鹊')")
    settings = dump(path, "birds"), path.stat().st_mode
    assert change_all(opened(path)) == []
    assert dump(path) == [(*row[:3], row[3].replace("old", "new"), *row[4:]) for row in before]
    assert (dump(path, "birds"), path.stat().st_mode) == settings


def test_nothing_to_change_changes_no_byte(path: Path) -> None:
    make(path, orders(2 * CHUNK_ROWS))
    before = path.read_bytes()
    for atomic in (False, True):
        with opened(path).parts[0].edit(atomic=atomic) as edit:
            for _ in edit:
                assert edit.write([]) == ()
            edit.finish()
    assert path.read_bytes() == before


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_the_journal_mode_stays(path: Path, journal: str) -> None:
    make(path, orders(3))
    execute(path, f"PRAGMA journal_mode = {journal}")
    change_all(opened(path))
    with database(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (journal,)


@pytest.mark.parametrize("nullable", ["", " NOT NULL DEFAULT ''"], ids=["nullable", "not null"])
def test_blob_provider_key_and_context_move_together(path: Path, nullable: str) -> None:
    table = (
        "CREATE TABLE orders (record_id INTEGER PRIMARY KEY, ciphertext_blob TEXT, provider TEXT,"
        f" encryption_context TEXT{nullable}, key_id TEXT{nullable},"
        f" source_key_version_id INTEGER{nullable})"
    )
    empty = "" if nullable else None
    make(path, [(n, f"old-{n}", "tencent", "{}", empty, 3) for n in range(5)], table)
    before = dump(path)
    source = opened(path)
    moved = {"provider": "ctyun", "context": None, "key_id": "k2", "source_key_version_id": None}
    made: list[Change] = []
    with source.parts[0].edit() as edit:
        for chunk in edit:
            made = changes(chunk, **moved)
            assert edit.write(made) == []
        edit.finish()
    with database(path) as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [
            (n, f"new-{n}", "ctyun", empty, "k2", empty) for n in range(5)
        ]
    with source.parts[0].edit() as edit:
        first_chunk(edit)
        assert edit.write([change.undone() for change in made]) == []
        edit.finish()
    assert dump(path) == before


def test_changes_of_several_kinds_in_one_chunk(path: Path) -> None:
    make(path, orders(4))
    with opened(path).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        plain, moved = changes(chunk), changes(chunk, key_id="k2", context=None)
        assert edit.write([plain[3], moved[1], moved[2]]) == []
    with database(path) as connection:
        found = connection.execute("SELECT ciphertext_blob, encryption_context, key_id FROM orders")
        assert found.fetchall() == [
            ("old-0", '{"a": "b"}', "k1"),
            ("new-1", None, "k2"),
            ("new-2", None, "k2"),
            ("new-3", '{"a": "b"}', "k1"),
        ]


def test_an_empty_cell_and_null_are_one(path: Path) -> None:
    make(path, [("1", "old-1", "tencent", "", "k", 0), ("2", "old-2", "tencent", None, "k", 0)])
    assert change_all(opened(path), context="{}", key_id="k2") == []


MEANWHILE = {
    "its blob": "UPDATE orders SET ciphertext_blob = 'other' WHERE record_id = '订单-00002'",
    "its blob in capitals": "UPDATE orders SET ciphertext_blob = upper(ciphertext_blob)"
    " WHERE record_id = '订单-00002'",
    "its blob as bytes": "UPDATE orders SET ciphertext_blob = CAST(ciphertext_blob AS BLOB)"
    " WHERE record_id = '订单-00002'",
    "its key": "UPDATE orders SET key_id = 'K1' WHERE record_id = '订单-00002'",
    "no key": "UPDATE orders SET key_id = NULL WHERE record_id = '订单-00002'",
    "its id": "UPDATE orders SET record_id = 'x' WHERE record_id = '订单-00002'",
    "it is gone": "DELETE FROM orders WHERE record_id = '订单-00002'",
}


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
@pytest.mark.parametrize("collation", ["BINARY", "NOCASE"])
@pytest.mark.parametrize("statement", MEANWHILE.values(), ids=MEANWHILE)
def test_what_an_application_has_changed_is_not_overwritten(
    path: Path, statement: str, collation: str, atomic: bool
) -> None:
    make(path, orders(5), ORDERS.replace("TEXT", f"TEXT COLLATE {collation}"))
    with opened(path).parts[0].edit(atomic=atomic) as edit:
        chunk = first_chunk(edit)
        execute(path, statement)
        theirs = [row for row in dump(path) if row[0] == 3]
        assert edit.write(changes(chunk, key_id="k2")) == ["订单-00002"]
        edit.finish()
    after = dump(path)
    assert [row for row in after if row[0] == 3] == theirs
    assert {row[3] for row in after if row[0] != 3} == {"new-0", "new-1", "new-3", "new-4"}


def test_an_id_in_capitals_is_another_id(path: Path) -> None:
    table = ORDERS.replace("record_id TEXT", "record_id TEXT COLLATE NOCASE")
    make(path, [("a", "old-1", "tencent", None, None, 0)], table)
    with opened(path).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        execute(path, "UPDATE orders SET record_id = 'A'")
        assert edit.write(changes(chunk)) == ["a"]
    assert dump(path)[0][1:4] == ("A", "text", "old-1")


def test_somebody_elses_same_value_is_no_loss(path: Path) -> None:
    make(path, orders(3))
    with opened(path).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        execute(path, "UPDATE orders SET ciphertext_blob = 'new-1' WHERE rowid = 2")
        assert edit.write(changes(chunk)) == []


@given(
    st.sets(st.integers(0, 11), max_size=12),
    st.sets(st.integers(0, 11), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_exactly_what_was_changed_meanwhile_is_lost(
    quick_folder: Path, mine: set[int], theirs: set[int], gone: set[int]
) -> None:
    path = make(Path(tempfile.mkdtemp(dir=quick_folder)) / "orders.db", orders(12))
    with opened(path).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        with database(path) as connection:
            for number in theirs:
                connection.execute(
                    "UPDATE orders SET ciphertext_blob = 'theirs' WHERE rowid = ?", (number + 1,)
                )
            for number in gone:
                connection.execute("DELETE FROM orders WHERE rowid = ?", (number + 1,))
        made = [change for n, change in enumerate(changes(chunk)) if n in mine]
        lost = edit.write(made)
        edit.finish()
    assert list(lost) == [f"订单-{n:05}" for n in sorted(mine & (theirs | gone))]
    expected = {n: f"new-{n}" if n in mine - theirs else f"old-{n}" for n in range(12)}
    expected |= dict.fromkeys(theirs, "theirs")
    assert {row[0] - 1: row[3] for row in dump(path)} == {
        n: blob for n, blob in expected.items() if n not in gone
    }


APPLICATION = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
print("ready", flush=True)
number = 0
while True:
    for row in (number * 37 % 5000, 4999 - number * 11 % 5000):
        database.execute("UPDATE orders SET ciphertext_blob = 'theirs' WHERE rowid = ?", (row + 1,))
    number += 1
"""


@contextmanager
def other_process(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_table_that_another_process_changes_all_the_time(path: Path) -> None:
    """Every row is then either changed, or theirs and reported, or was theirs before."""
    make(path, orders(5000))
    execute(path, "PRAGMA journal_mode = WAL")
    lost, read_as_theirs = set[Place](), set[Place]()
    with other_process(APPLICATION, path), opened(path).parts[0].edit() as edit:
        for chunk in edit:
            read_as_theirs |= {
                place
                for place, record in zip(chunk.places, chunk.records, strict=True)
                if record.ciphertext_blob == "theirs"
            }
            lost |= set(edit.write([c for c in changes(chunk) if c.old_blob != "theirs"]))
        edit.finish()
    blobs = {row[1]: row[3] for row in dump(path)}
    assert {blobs[place] for place in lost} <= {"theirs"}
    assert not [blob for blob in blobs.values() if blob.startswith("old")]


# Atomic


def test_an_atomic_pass_stores_nothing_before_it_is_finished(path: Path) -> None:
    make(path, orders(2 * CHUNK_ROWS))
    before = dump(path)
    with opened(path).parts[0].edit(atomic=True) as edit:
        assert not edit.immediate
        for chunk in edit:
            assert edit.write(changes(chunk)) == []
            assert {row[3][:3] for row in dump(path)} == {"old"}
    assert dump(path) == before  # it was not finished
    with opened(path).parts[0].edit(atomic=True) as edit:
        for chunk in edit:
            edit.write(changes(chunk))
        edit.finish()
    assert {row[3][:3] for row in dump(path)} == {"new"}


def test_a_pass_stores_a_chunk_when_it_is_written(path: Path) -> None:
    make(path, orders(CHUNK_ROWS + 1))
    with opened(path).parts[0].edit() as edit:
        assert edit.immediate
        for chunk in edit:
            edit.write(changes(chunk))
            assert sum(row[3][:3] == "new" for row in dump(path)) in (CHUNK_ROWS, CHUNK_ROWS + 1)
    assert {row[3][:3] for row in dump(path)} == {"new"}


# Each pass is in a process of its own, forked from one that has everything loaded.
VICTIMS = """
import os, sys
from kmslab.records.source import Change
from kmslab.records.spec import SourceSpec
from kmslab.records.sql import open_table

def change_all(url, how):
    with open_table(SourceSpec(url, "orders")).parts[0].edit(atomic=how == "atomic") as edit:
        for chunk in edit:
            edit.write([
                Change(place, r.record_id, r.ciphertext_blob, r.ciphertext_blob + "!")
                for place, r in zip(chunk.places, chunk.records)
            ])
            print(len(chunk.places), flush=True)
        edit.finish()
    print("done", flush=True)

print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        change_all(*line[:-1].split("\\t"))
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def victims() -> Iterator[subprocess.Popen[str]]:
    """Where passes are begun that are to be killed."""
    with other_process(VICTIMS) as process:
        yield process


@pytest.mark.parametrize("moment", [0, 1, 4])
@pytest.mark.parametrize("how", ["immediate", "atomic"])
def test_a_killed_pass_leaves_whole_chunks(
    path: Path, how: str, moment: int, victims: subprocess.Popen[str]
) -> None:
    make(path, orders(6 * CHUNK_ROWS))
    if moment % 2:
        execute(path, "PRAGMA journal_mode = WAL")
    stdin, stdout = victims.stdin, victims.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(f"sqlite:///{path}\t{how}\n")
    stdin.flush()
    process = int(stdout.readline())
    said = [stdout.readline().strip() for _ in range(moment)]
    os.kill(process, signal.SIGKILL)
    said += iter(lambda: stdout.readline().strip(), "ended")
    changed = [row[3].endswith("!") for row in dump(path)]
    count = sum(changed)
    assert changed == sorted(changed, reverse=True)
    if how == "atomic":
        assert count in ((6 * CHUNK_ROWS,) if "done" in said else (0, 6 * CHUNK_ROWS))
    else:
        acknowledged = sum(int(word) for word in said if word != "done")
        assert count in (acknowledged, acknowledged + CHUNK_ROWS)


def test_two_edits_at_once_lose_nothing_unsaid(path: Path) -> None:
    make(path, orders(10))
    source = opened(path)
    with source.parts[0].edit() as one, source.parts[0].edit() as two:
        first, second = first_chunk(one), first_chunk(two)
        mine = changes(first)[:6]
        theirs = [Change(c.place, c.record_id, c.old_blob, "other") for c in changes(second)[4:]]
        assert one.write(mine) == []
        assert list(two.write(theirs)) == ["订单-00004", "订单-00005"]
    assert [row[3] for row in dump(path)] == [f"new-{n}" for n in range(6)] + ["other"] * 4


# What tells a source from others, and its shape


def test_the_name_is_one_whatever_the_url(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path)
    monkeypatch.chdir(path.parent)
    Path("link.db").symlink_to(path)
    urls = [
        f"sqlite:///{path}",
        f"sqlite:///{path.name}",
        "sqlite:///link.db",
        f"sqlite+pysqlite:///./{path.name}",
    ]
    names = {
        open_source(SourceSpec(url, table)).name
        for url in urls
        for table in ("orders", "main.orders")
    }
    assert names == {f"sqlite:///{path}#orders"}
    assert absolute(SourceSpec(urls[1], "orders")) == spec_of(path)
    assert open_source(absolute(SourceSpec(urls[1], "orders"))).name == f"sqlite:///{path}#orders"


def test_a_table_with_a_point_in_its_name(path: Path) -> None:
    make(path, table=ORDERS.replace("orders", '"a.b"'))
    assert open_table(SourceSpec(f"sqlite:///{path}", "a.b")).parts[0].name == "a.b"


FINGERPRINTS = {
    "a new column": "ALTER TABLE orders ADD COLUMN more TEXT",
    "a renamed column": "ALTER TABLE orders RENAME COLUMN note TO remark",
    "a dropped column": "ALTER TABLE orders DROP COLUMN note",
}


@pytest.mark.parametrize("statement", FINGERPRINTS.values(), ids=FINGERPRINTS)
def test_the_fingerprint_is_of_the_columns(path: Path, statement: str) -> None:
    part = opened(make(path)).parts[0]
    before = part.fingerprint()
    execute(path, "INSERT INTO orders VALUES ('1', 'A', 'c', NULL, NULL, 1)", "CREATE TABLE x (y)")
    assert part.fingerprint() == before == opened(path).parts[0].fingerprint()
    execute(path, statement)
    assert part.fingerprint() != before


def test_the_fingerprint_is_what_it_was(path: Path) -> None:
    """Plans are kept: one of an older kmslab is to be known again."""
    assert opened(make(path)).parts[0].fingerprint() == (
        "ee7951203a83b988262da23e545942da8dc0b82821e3daa4ae909f699f4d1897"
    )


CHANGED = {
    **{name: (statement, "the columns of the table") for name, statement in FINGERPRINTS.items()},
    "no table": ("DROP TABLE orders", "the table is not there any more"),
    "another table": ("ALTER TABLE orders RENAME TO old_orders", "the table is not there any more"),
}


@pytest.mark.parametrize("when", ["read", "take", "write", "atomic"])
@pytest.mark.parametrize(("statement", "says"), CHANGED.values(), ids=CHANGED)
def test_a_schema_that_changes_meanwhile(path: Path, statement: str, says: str, when: str) -> None:
    make(path, orders(CHUNK_ROWS + 1))
    part = opened(path).parts[0]
    with part.edit(atomic=when == "atomic") as edit:
        pages = iter(part.read() if when == "read" else edit)
        chunk = next(pages)
        execute(path, statement)
        with pytest.raises(SourceChanged) as caught:
            _ = next(pages) if when in ("read", "take") else edit.write(changes(chunk))
    assert str(caught.value).startswith(f"sqlite:///{path}#orders: {says}")
    assert caught.value.source == f"sqlite:///{path}#orders"
    with database(path) as connection:
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            blobs = connection.execute(
                f"SELECT DISTINCT substr(ciphertext_blob, 1, 3) FROM {table}"
            )
            assert blobs.fetchall() == [("old",)]


def test_another_table_may_change(path: Path) -> None:
    make(path, orders(CHUNK_ROWS + 1))
    with opened(path).parts[0].edit() as edit:
        for number, chunk in enumerate(edit):
            execute(path, f"CREATE TABLE t{number} (x)")
            assert edit.write(changes(chunk)) == []


REPLACED: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (lambda path: path.unlink(), "the file is not there any more"),
    "replaced": (
        lambda path: (
            shutil.copy(path, path.with_name("new")) and path.with_name("new").replace(path)
        ),
        "its file has been replaced",
    ),
}


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
@pytest.mark.parametrize(("spoil", "says"), REPLACED.values(), ids=REPLACED)
def test_a_file_that_is_not_there_any_more(
    path: Path, spoil: Callable[[Path], object], says: str, atomic: bool
) -> None:
    make(path, orders(3))
    with opened(path).parts[0].edit(atomic=atomic) as edit:
        chunk = first_chunk(edit)
        spoil(path)
        with pytest.raises(SourceChanged, match=says):
            edit.write(changes(chunk))
    if path.exists():
        assert {row[3][:3] for row in dump(path)} == {"old"}


def test_an_atomic_pass_on_a_file_that_is_replaced_stores_nothing(path: Path) -> None:
    make(path, orders(3))
    with opened(path).parts[0].edit(atomic=True) as edit:
        edit.write(changes(first_chunk(edit)))
        REPLACED["replaced"][0](path)
        with pytest.raises(SourceChanged):
            edit.finish()
    assert {row[3][:3] for row in dump(path)} == {"old"}


# What is refused


def unfit(columns: str, *more: str) -> tuple[str, ...]:
    return (f"CREATE TABLE orders ({columns}, ciphertext_blob, provider)", *more)


UNFIT: dict[str, tuple[tuple[str, ...], str]] = {
    "no table": ((), "no table 'orders' in the database; found: no table"),
    "another table": (("CREATE TABLE birds (x)",), "found: 'birds'"),
    "a view": (("CREATE VIEW orders AS SELECT 1 AS x",), "this is a view; name the table"),
    "no id column": (unfit("id INTEGER PRIMARY KEY"), "no column 'record_id'; found: 'id'"),
    "no unique id": (
        unfit("record_id TEXT, n INTEGER PRIMARY KEY"),
        "the id column 'record_id' is not unique; make it the primary key or put a unique index "
        "on it alone, or name another with --id-column (unique: 'n')",
    ),
    "a key of two columns": (
        (
            "CREATE TABLE orders"
            " (record_id, ciphertext_blob, provider, PRIMARY KEY (record_id, provider))",
        ),
        "(unique: none)",
    ),
    "a partial index": (
        unfit("record_id TEXT", "CREATE UNIQUE INDEX i ON orders (record_id) WHERE provider = 'x'"),
        "not unique",
    ),
    "an index of two columns": (
        unfit("record_id TEXT", "CREATE UNIQUE INDEX i ON orders (record_id, provider)"),
        "not unique",
    ),
    "an index of an expression": (
        unfit("record_id TEXT", "CREATE UNIQUE INDEX i ON orders (record_id, lower(provider))"),
        "not unique",
    ),
    "an index that is not unique": (
        unfit("record_id TEXT", "CREATE INDEX i ON orders (record_id)"),
        "not unique",
    ),
}


@pytest.mark.parametrize(("statements", "says"), UNFIT.values(), ids=UNFIT)
def test_tables_that_are_not_fit(path: Path, statements: tuple[str, ...], says: str) -> None:
    execute(path, "PRAGMA user_version = 1", *statements)
    with pytest.raises(SourceError) as caught:
        opened(path)
    assert says in str(caught.value)
    assert caught.value.source == f"sqlite:///{path}#orders"


CELLS: dict[str, tuple[Row, str, int | None]] = {
    "no id": ((None, "A"), "a row has no record_id, so that nothing tells it from others", None),
    "an id with a fraction": ((1.5, "A"), "row 2: column 'record_id' holds float", 2),
    "an id of bytes": ((b"x", "A"), "row 2: column 'record_id' holds bytes", 2),
    "a blob of bytes": (("x", b"A"), "row 2: column 'ciphertext_blob' holds bytes", 2),
}


@pytest.mark.parametrize(("row", "says", "number"), CELLS.values(), ids=CELLS)
def test_cells_that_are_not_fit(path: Path, row: Row, says: str, number: int | None) -> None:
    table = "CREATE TABLE orders (record_id PRIMARY KEY, ciphertext_blob)"
    make(path, [(1, "A"), row], table)
    with pytest.raises(SourceError, match=says) as caught:
        read(opened(path, provider="ctyun"))
    assert caught.value.row == number


def test_a_time_that_is_none(path: Path) -> None:
    make(
        path,
        [("订单-1", "A", "soon")],
        "CREATE TABLE orders (record_id PRIMARY KEY, ciphertext_blob, created_at)",
    )
    with pytest.raises(SourceError, match="id '订单-1': created_at: 'soon' is neither") as caught:
        read(opened(path, provider="ctyun"))
    assert caught.value.row == 1


URLS = {
    "sqlite://": "name the file of the database, and nothing else",
    "sqlite:///:memory:": "name the file of the database",
    "sqlite:///file:x.db?uri=true": "name the file of the database",
    "sqlite:///x.db?mode=ro": "name the file of the database",
    "sqlite+aiosqlite:///x.db": "a SQLite table is read with sqlite:///PATH",
    "sqlite:////nowhere/x.db": "sqlite:////nowhere/x.db: there is no such file",
    "birds://x": "no driver for this database",
    "://": "this is no database URL",
    "postgresql://app:hunter2@db.example:port/x": "this is no database URL",
    "postgresql://app:hunter2@db.example/x": "the URL holds a password",
}


@pytest.mark.parametrize(("url", "says"), URLS.items())
def test_urls_that_are_refused(url: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(SourceSpec(url, "orders"))
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_no_file_is_made(tmp_path: Path) -> None:
    for name in ("x.db", "folder/x.db"):
        with pytest.raises(SourceError, match="there is no such file"):
            opened(tmp_path / name)
    with pytest.raises(SourceError, match="there is no such file"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_url_needs_a_table(path: Path) -> None:
    with pytest.raises(SourceError, match="name one with --table"):
        open_source(SourceSpec(f"sqlite:///{make(path)}"))


def test_a_bad_template_is_refused(path: Path) -> None:
    with pytest.raises(ContextError):
        opened(make(path), context_template="{x}")


def test_a_table_is_not_written_elsewhere(path: Path, tmp_path: Path) -> None:
    part = opened(make(path, orders(1))).parts[0]
    with pytest.raises(SourceError, match="leave out --output"):
        part.edit(output=tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize(
    ("url", "without", "password"),
    [
        ("sqlite:///a.db", "sqlite:///a.db", None),
        ("postgresql://u:p%40@h:1/d?sslmode=x", "postgresql://u@h:1/d?sslmode=x", "p@"),
        ("postgresql://u@h/d?password=p&host=/run", "postgresql://u@h/d?host=%2Frun", "p"),
        ("mysql+pymysql://u:p@h/d", "mysql+pymysql://u@h/d", "p"),
    ],
)
def test_passwords_are_kept_apart(url: str, without: str, password: str | None) -> None:
    assert without_password(url) == without
    assert password_of(url) == password
    assert split_password(url) == (without, password)


SECRETS = [
    "mssql+pyodbc:///?odbc_connect=Driver%3Dx%3BPWD%3Dhunter2",
    "sqlite+libsql://db.example?authToken=hunter2",
    "databricks://h/d?token=hunter2",
    "postgresql://u@h/d?sslpassword=hunter2",
    "mysql+pymysql://u@h/d?ssl_key_password=hunter2",
    "postgresql://u@h/d?sslmode=require&anything=hunter2",
]


@pytest.mark.parametrize("url", SECRETS)
def test_an_option_that_may_be_a_secret_is_refused(url: str) -> None:
    assert "hunter2" not in without_password(url)
    for use in (
        split_location,
        split_password,
        absolute_url,
        lambda url: open_source(SourceSpec(url, "orders")),
    ):
        with pytest.raises(KmslabError, match="of the URL may hold a secret") as caught:
            use(url)
        assert isinstance(caught.value, DatabaseUrlError if use is split_password else SourceError)
        assert "hunter2" not in str(caught.value)
        assert "leave it out" in str(caught.value)


@pytest.mark.parametrize("name", ["Password", "PWD", "passwd"])
def test_a_password_is_one_in_any_capitals(name: str) -> None:
    url = f"postgresql://u@h/d?{name}=hunter2"
    assert split_password(url) == ("postgresql://u@h/d", "hunter2")
    with pytest.raises(SourceError, match="the URL holds a password"):
        absolute_url(url)


def test_several_passwords_are_refused() -> None:
    for url in ("postgresql://u@h/d?password=hunter2&password=hunter3", "x://u:hunter2@h?pwd=a"):
        with pytest.raises(DatabaseUrlError, match="several passwords") as caught:
            password_of(url)
        assert "hunter" not in str(caught.value)
    assert password_of("postgresql://u:p@h/d?password=p&password=p") == "p"


def test_the_password_reaches_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[URL] = []
    monkeypatch.setattr(sql_database, "_engine", lambda name, url: given.append(url))
    made = sql_database.Database.of("postgresql://u@h/d?sslmode=require", "hunter2")
    assert made.name == "postgresql://u@h/d?sslmode=require"
    assert given[0].password == "hunter2"


# What fails on the way


def test_a_database_that_another_program_has_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path, orders(3))
    monkeypatch.setattr(sql_errors, "BUSY_SECONDS", 0.05)
    source = opened(path)
    with source.parts[0].edit() as edit:
        chunk = first_chunk(edit)
        with database(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SourceError, match="locked by another program for over") as caught:
                edit.write(changes(chunk))
            assert caught.value.source == source.name
        with database(path) as other:
            other.execute("BEGIN EXCLUSIVE")
            for use in (source.parts[0].fingerprint, lambda: read(source)):
                with pytest.raises(SourceError, match="locked by another program"):
                    use()
        assert edit.write(changes(chunk)) == []


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
def test_a_reader_that_keeps_a_commit_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    make(path, orders(3))
    monkeypatch.setattr(sql_errors, "BUSY_SECONDS", 0.05)
    with opened(path).parts[0].edit(atomic=atomic) as edit, database(path) as other:
        chunk = first_chunk(edit)
        other.execute("BEGIN")
        other.execute("SELECT * FROM orders").fetchall()
        if atomic:
            edit.write(changes(chunk))
        with pytest.raises(SourceError, match="locked by another program"):
            _ = edit.finish() if atomic else edit.write(changes(chunk))
    assert {row[3][:3] for row in dump(path)} == {"old"}


RULES = {
    "a check": ("", "CHECK (ciphertext_blob <> 'new-2')", "the table does not take a new value"),
    "a trigger that forbids": (
        "CREATE TRIGGER t BEFORE UPDATE ON orders WHEN NEW.ciphertext_blob = 'new-2'"
        " BEGIN SELECT raise(ABORT, 'not so'); END",
        "",
        "the table does not take a new value (not so)",
    ),
    "a trigger that changes": (
        "CREATE TRIGGER t AFTER UPDATE ON orders WHEN NEW.ciphertext_blob = 'new-2'"
        " BEGIN UPDATE orders SET ciphertext_blob = 'other' WHERE record_id = NEW.record_id; END",
        "",
        "what was written does not read back as it was; a trigger",
    ),
}


@pytest.mark.parametrize(("trigger", "check", "says"), RULES.values(), ids=RULES)
def test_a_value_that_the_table_does_not_take(
    path: Path, trigger: str, check: str, says: str
) -> None:
    make(path, orders(5), ORDERS.replace("note\n", f"note {check}\n"))
    execute(path, trigger)
    before = dump(path)
    with opened(path).parts[0].edit() as edit, pytest.raises(SourceError) as caught:
        edit.write(changes(first_chunk(edit)))
    assert says in str(caught.value)
    assert dump(path) == before


def test_triggers_and_generated_columns_do_their_work(path: Path) -> None:
    make(path, orders(3))
    execute(
        path,
        "ALTER TABLE orders ADD COLUMN size AS (length(ciphertext_blob) || '/' || key_id)",
        "CREATE TABLE log (id)",
        "CREATE TRIGGER t AFTER UPDATE ON orders BEGIN INSERT INTO log VALUES (NEW.record_id); END",
    )
    assert change_all(opened(path), key_id="k22") == []
    with database(path) as connection:
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (3,)
        assert connection.execute("SELECT DISTINCT size FROM orders").fetchall() == [("5/k22",)]


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "text": (lambda data: b"record_id,ciphertext_blob\n" * 100, "this is no SQLite database"),
    "cut": (lambda data: data[: len(data) // 2], "the database is damaged"),
    "spoilt": (lambda data: data[:4096] + bytes(len(data) - 4096), "the database is damaged"),
}


@pytest.mark.parametrize(("spoil", "says"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file(path: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
    make(path, orders(500))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SourceError) as caught:
        change_all(opened(path))
    assert says in str(caught.value)
    assert caught.value.source.startswith(f"sqlite:///{path}")


def test_text_that_is_none(path: Path) -> None:
    make(path, orders(1))
    execute(path, "UPDATE orders SET key_id = CAST(x'ff' AS TEXT)")
    with pytest.raises(SourceError, match="Could not decode to UTF-8"):
        read(opened(path))


def test_an_empty_file_is_a_database_of_nothing(path: Path) -> None:
    path.touch()
    with pytest.raises(SourceError, match="no table 'orders'"):
        opened(path)
    assert path.read_bytes() == b""


def test_a_read_only_database_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(path, orders(3))
    connect = sqlite3.connect

    def read_only(name: str, **more: Any) -> sqlite3.Connection:  # root may write any file
        return connect(name.replace("mode=rw", "mode=ro"), **more)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    source = opened(path)
    assert len(read(source)) == 3
    with pytest.raises(SourceError, match="the database cannot be written to"):
        change_all(source)
    monkeypatch.undo()
    assert {row[3][:3] for row in dump(path)} == {"old"}


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_disk_that_fills_up(path: Path, journal: str, atomic: bool) -> None:
    """Files grow no more: what fits into the room that is left is whole chunks."""
    make(path, orders(3 * CHUNK_ROWS))
    execute(path, f"PRAGMA journal_mode = {journal}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    written: list[int] = []

    def fill() -> None:
        with opened(path).parts[0].edit(atomic=atomic) as edit:
            for chunk in edit:
                longer = [replace(c, new_blob=c.new_blob + "x" * 100) for c in changes(chunk)]
                edit.write(longer)
                written.append(len(longer))
            edit.finish()

    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4096, before[1]))
    try:
        with pytest.raises(SourceError, match=r"the disk is full|cannot be read or written"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    changed = [row[3].startswith("new") for row in dump(path)]
    assert changed == [n < (0 if atomic else sum(written)) for n in range(3 * CHUNK_ROWS)]
    assert [r.record_id for c in opened(path).parts[0].read() for r in c.records] == [
        row[0] for row in orders(3 * CHUNK_ROWS)
    ]


def test_connections_are_closed_and_no_password_is_shown(path: Path) -> None:
    source = opened(make(path, orders(3)))
    change_all(source)
    assert "orders" in repr(source)
    open_files = [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert path not in open_files
