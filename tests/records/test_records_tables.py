"""A table, in whatever database: every row is read once, and changed only where it still holds what
was read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_tables import (
    ORDERS,
    Base,
    PostgresBase,
    SqliteBase,
    blobs,
    change_all,
    changes,
    dump,
    first_chunk,
    make,
    opened,
    orders,
    read,
    records,
)

import kmslab
from kmslab.errors import SourceChanged, SourceError
from kmslab.model import Record
from kmslab.records import Columns
from kmslab.records.source import CHUNK_ROWS, Change, Divisible, Place

SOURCE = Path(kmslab.__file__).parents[1]
CHUNKING = ("kmslab.records.sql_rows.CHUNK_ROWS", "kmslab.records.sql_postgres_rows.CHUNK_ROWS")
KINDS = ["sqlite", "postgresql"]


def empty(kind: str, folder: Path, request: pytest.FixtureRequest) -> Base:
    """An empty database of a kind."""
    if kind == "sqlite":
        return SqliteBase(Path(tempfile.mkdtemp(dir=folder)) / "订单 1%.db")
    base: PostgresBase = request.getfixturevalue("server_base")
    base.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return base


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, quick_folder: Path) -> Base:
    return empty(request.param, quick_folder, request)


# Reading


def test_every_column(base: Base) -> None:
    make(
        base,
        [("b", "AAAA", "tencent", '{"租户":"7"}', "k1", "1"), ("2", "B", "c", "", None, "2")],
    )
    source = opened(base)
    (chunk,) = source.parts[0].read()
    assert list(chunk.records) == [
        Record("2", "c", "B", 1),
        Record("b", "tencent", "AAAA", 2, context='{"租户":"7"}', key_id="k1"),
    ]
    assert list(chunk.places) == ["2", "b"]
    assert source.fields == {"record_id", "ciphertext_blob", "provider", "context", "key_id"}
    assert source.blob_capacity is None
    assert [part.name for part in source.parts] == ["orders"]
    assert source.name == f"{base.url}#orders"


def test_other_names_one_provider_and_a_template(base: Base) -> None:
    make(
        base,
        [(7, "AAAA", "x", "租户", 12)],
        'CREATE TABLE orders ("the id%" INTEGER PRIMARY KEY, "sel""ect" TEXT, skip TEXT,'
        ' tenant TEXT, "%s" INTEGER)',
    )
    source = opened(
        base,
        columns=Columns(record_id="the id%", ciphertext_blob='sel"ect'),
        provider="ctyun",
        context_template='{"t":"{tenant}","n":"{%s}"}',
    )
    assert records(source) == [Record("7", "ctyun", "AAAA", 1, context='{"t":"租户","n":"12"}')]
    assert source.fields == {"record_id", "ciphertext_blob"}
    with source.parts[0].edit() as edit:
        assert edit.write([Change(7, "7", "AAAA", "BBBB")]) == []
    assert read(source) == [(7, "BBBB")]


def test_pages(base: Base) -> None:
    assert list(opened(make(base)).parts[0].read()) == []
    base.insert(orders(2 * CHUNK_ROWS + 1))
    chunks = list(opened(base).parts[0].read())
    assert [len(chunk.records) for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 1]
    assert [r.row for chunk in chunks for r in chunk.records] == list(range(1, 2 * CHUNK_ROWS + 2))
    base.execute(f"DELETE FROM orders WHERE record_id >= '订单-{CHUNK_ROWS:05}'")
    assert len(list(opened(base).parts[0].read())) == 1


def test_nothing_is_locked_between_two_pages(base: Base) -> None:
    make(base, orders(CHUNK_ROWS + 1))
    pages = iter(opened(base).parts[0].read())
    next(pages)
    base.execute(f"DELETE FROM orders WHERE record_id = '订单-{CHUNK_ROWS:05}'")
    assert list(pages) == []


def test_a_reader_that_is_dropped_closes_its_connection(base: Base) -> None:
    pages = iter(opened(make(base, orders(2))).parts[0].read())
    next(pages)
    del pages  # a connection left open is a warning, and warnings are errors


TABLES = {
    "sqlite": {
        "integer key": "record_id INTEGER PRIMARY KEY",
        "descending key": "record_id INTEGER PRIMARY KEY DESC",
        "text key": "record_id TEXT PRIMARY KEY",
        "no type": "record_id PRIMARY KEY",
        "no case": "record_id TEXT COLLATE NOCASE PRIMARY KEY",
        "unique": "x INTEGER PRIMARY KEY, record_id TEXT NOT NULL UNIQUE",
        "no case, index with case": "record_id TEXT COLLATE NOCASE",
        "case, index without": "record_id TEXT",
        "trimmed": "record_id TEXT COLLATE RTRIM PRIMARY KEY",
    },
    "postgresql": {
        "integer key": "record_id BIGINT PRIMARY KEY",
        "small key": "record_id SMALLINT PRIMARY KEY",
        "text key": "record_id TEXT PRIMARY KEY",
        "a language's order": 'record_id VARCHAR(200) COLLATE "en-x-icu" PRIMARY KEY',
        "no case": "record_id TEXT COLLATE ci PRIMARY KEY",
        "unique": "x SERIAL PRIMARY KEY, record_id TEXT NOT NULL UNIQUE",
        "no case, index with case": "record_id TEXT COLLATE ci NOT NULL",
        "case, index without": "record_id TEXT NOT NULL",
        "padded": "record_id CHAR(40) PRIMARY KEY",
        "identifier": "record_id UUID PRIMARY KEY",
        "domain": "record_id code PRIMARY KEY",
    },
}
INDEXES = {
    "sqlite": {
        "no case, index with case": "CREATE UNIQUE INDEX i ON orders (record_id COLLATE BINARY)",
        "case, index without": "CREATE UNIQUE INDEX i ON orders (record_id COLLATE NOCASE)",
    },
    "postgresql": {
        "no case, index with case": 'CREATE UNIQUE INDEX i ON orders (record_id COLLATE "C")',
        "case, index without": "CREATE UNIQUE INDEX i ON orders (record_id COLLATE ci)",
    },
}
TYPES = (
    "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE DOMAIN code AS VARCHAR(100) CHECK (value <> 'x')",
)
ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.sampled_from(["a", "A", "a ", "", "1", "01", "订单", "é", "É", "1e3", "%s", "\\", "_"]),
    st.uuids().map(str),
)


@given(data=st.data(), wanted=st.lists(ids, max_size=9), page=st.integers(2, 5))
@pytest.mark.parametrize("database", KINDS)
def test_every_row_is_read_and_changed_once(
    database: str,
    data: st.DataObject,
    wanted: list[Any],
    page: int,
    quick_folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Whatever the ids are, in whatever order and collation the table has them."""
    base = empty(database, quick_folder, request)
    kind = data.draw(st.sampled_from(sorted(TABLES[database])))
    if database == "postgresql":
        base.execute(*TYPES)
    base.execute(
        f"CREATE TABLE orders ({TABLES[database][kind]}, ciphertext_blob TEXT)",
        INDEXES[database].get(kind, "SELECT 1"),
    )
    stored = "record_id::text" if "CHAR(" in TABLES[database][kind] else "record_id"
    for number, value in enumerate(wanted):
        text = "'" + str(value).replace("'", "''") + "'"
        number_too = text if database == "postgresql" or isinstance(value, str) else value
        with suppress(Exception):
            base.execute(
                "INSERT INTO orders (record_id, ciphertext_blob)"
                f" VALUES ({number_too}, 'old-{number}')"
            )
    there = base.execute(f"SELECT {stored}, ciphertext_blob FROM orders")
    with pytest.MonkeyPatch.context() as patched:
        for constant in CHUNKING:
            patched.setattr(constant, page)
        source = opened(base, provider="ctyun")
        found = read(source)
        assert change_all(source) == []
        after = read(source)
    key = repr if kind != "identifier" else str
    assert sorted(map(key, found)) == sorted(
        key((str(i) if kind == "identifier" else i, blob)) for i, blob in there
    )
    assert after == [(place, blob.replace("old", "new")) for place, blob in found]


# Ranges


@pytest.mark.parametrize(("count", "rows"), [(0, 10), (9, 10), (10, 10), (25, 10), (2_500, 1_100)])
def test_ranges_together_are_the_table(base: Base, count: int, rows: int) -> None:
    make(base, orders(count))
    whole = opened(base)
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


def test_an_edit_of_a_range_changes_no_other_row(base: Base) -> None:
    make(base, orders(30))
    part = opened(base).parts[0]
    assert isinstance(part, Divisible)
    with part.within(part.key_ranges(10)[1]).edit() as edit:
        for chunk in edit:
            assert edit.write(changes(chunk)) == []
        edit.finish()
    changed = [blob.startswith("new") for blob in blobs(base)]
    assert changed == [False] * 10 + [True] * 10 + [False] * 10


# Changing


def test_other_values_stay(base: Base) -> None:
    make(base, orders(2 * CHUNK_ROWS + 7))
    before = dump(base)
    base.execute("CREATE TABLE birds (name TEXT)", "INSERT INTO birds VALUES ('喜鹊')")
    assert change_all(opened(base)) == []
    assert dump(base) == [(row[0], row[1].replace("old", "new"), *row[2:]) for row in before]
    assert base.execute("SELECT * FROM birds") == [("喜鹊",)]


@pytest.mark.parametrize("nullable", ["", " NOT NULL DEFAULT ''"], ids=["nullable", "not null"])
def test_blob_provider_key_and_context_move_together(base: Base, nullable: str) -> None:
    table = (
        "CREATE TABLE orders (record_id INTEGER PRIMARY KEY, ciphertext_blob TEXT, provider TEXT,"
        f" encryption_context TEXT{nullable}, key_id TEXT{nullable},"
        f" source_key_version_id TEXT{nullable})"
    )
    nothing = "" if nullable else None
    make(base, [(n, f"old-{n}", "tencent", "{}", nothing, "3") for n in range(5)], table)
    before = dump(base)
    source = opened(base)
    moved = {"provider": "ctyun", "context": None, "key_id": "k2", "source_key_version_id": None}
    made: list[Change] = []
    with source.parts[0].edit() as edit:
        for chunk in edit:
            made = changes(chunk, **moved)
            assert edit.write(made) == []
        edit.finish()
    assert dump(base) == [(n, f"new-{n}", "ctyun", nothing, "k2", nothing) for n in range(5)]
    with source.parts[0].edit() as edit:
        first_chunk(edit)
        assert edit.write([change.undone() for change in made]) == []
        edit.finish()
    assert dump(base) == before


def test_changes_of_several_kinds_in_one_chunk(base: Base) -> None:
    make(base, orders(4))
    with opened(base).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        plain, moved = changes(chunk), changes(chunk, key_id="k2", context=None)
        assert edit.write([plain[3], moved[1], moved[2]]) == []
    assert dump(base, "ciphertext_blob, encryption_context, key_id") == [
        ("old-0", '{"a": "b"}', "k1"),
        ("new-1", None, "k2"),
        ("new-2", None, "k2"),
        ("new-3", '{"a": "b"}', "k1"),
    ]


def test_an_empty_cell_and_null_are_one(base: Base) -> None:
    make(base, [("1", "old-1", "tencent", "", "k", "0"), ("2", "old-2", "tencent", None, "k", "0")])
    assert change_all(opened(base), context="{}", key_id="k2") == []


MEANWHILE = {
    "its blob": "UPDATE orders SET ciphertext_blob = 'other' WHERE record_id = '订单-00002'",
    "its blob in capitals": "UPDATE orders SET ciphertext_blob = upper(ciphertext_blob)"
    " WHERE record_id = '订单-00002'",
    "its key": "UPDATE orders SET key_id = 'K1' WHERE record_id = '订单-00002'",
    "no key": "UPDATE orders SET key_id = NULL WHERE record_id = '订单-00002'",
    "its id": "UPDATE orders SET record_id = 'x' WHERE record_id = '订单-00002'",
    "it is gone": "DELETE FROM orders WHERE record_id = '订单-00002'",
}
COLLATIONS = {"sqlite": ["BINARY", "NOCASE"], "postgresql": ['"C"', "ci"]}


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
@pytest.mark.parametrize("loose", [False, True], ids=["", "loose"])
@pytest.mark.parametrize("statement", MEANWHILE.values(), ids=MEANWHILE)
def test_what_an_application_has_changed_is_not_overwritten(
    base: Base, statement: str, loose: bool, atomic: bool
) -> None:
    if base.kind == "postgresql":
        base.execute(*TYPES)
    collation = COLLATIONS[base.kind][loose]
    make(base, orders(5), ORDERS.replace("TEXT", f"TEXT COLLATE {collation}"))
    with opened(base).parts[0].edit(atomic=atomic) as edit:
        chunk = first_chunk(edit)
        base.execute(statement)
        theirs = [row for row in dump(base) if row[5] == "note 2"]
        assert edit.write(changes(chunk, key_id="k2")) == ["订单-00002"]
        edit.finish()
    after = dump(base)
    assert [row for row in after if row[5] == "note 2"] == theirs
    changed = {row[1] for row in after if row[5] != "note 2"}
    assert changed == {"new-0", "new-1", "new-3", "new-4"}


def test_an_id_in_capitals_is_another_id(base: Base) -> None:
    if base.kind == "postgresql":
        base.execute(*TYPES)
    collation = COLLATIONS[base.kind][True]
    table = ORDERS.replace("record_id TEXT", f"record_id TEXT COLLATE {collation}")
    make(base, [("a", "old-1", "tencent", None, None, "0")], table)
    with opened(base).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        base.execute("UPDATE orders SET record_id = 'A'")
        assert edit.write(changes(chunk)) == ["a"]
    assert dump(base)[0][:2] == ("A", "old-1")


def test_somebody_elses_same_value_is_no_loss(base: Base) -> None:
    make(base, orders(3))
    with opened(base).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        base.execute("UPDATE orders SET ciphertext_blob = 'new-1' WHERE key_id = 'k1'")
        base.execute("UPDATE orders SET ciphertext_blob = 'old-0' WHERE record_id = '订单-00000'")
        base.execute("UPDATE orders SET ciphertext_blob = 'old-2' WHERE record_id = '订单-00002'")
        assert edit.write(changes(chunk)) == []


@given(
    mine=st.sets(st.integers(0, 11), max_size=12),
    theirs=st.sets(st.integers(0, 11), max_size=12),
    gone=st.sets(st.integers(0, 11)),
)
@pytest.mark.parametrize("database", KINDS)
def test_exactly_what_was_changed_meanwhile_is_lost(
    database: str,
    mine: set[int],
    theirs: set[int],
    gone: set[int],
    quick_folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    base = make(empty(database, quick_folder, request), orders(12))
    with opened(base).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        base.execute(
            "SELECT 1",
            *(
                f"UPDATE orders SET ciphertext_blob = 'theirs' WHERE record_id = '订单-{n:05}'"
                for n in theirs
            ),
            *(f"DELETE FROM orders WHERE record_id = '订单-{n:05}'" for n in gone),
        )
        made = [change for n, change in enumerate(changes(chunk)) if n in mine]
        lost = edit.write(made)
        edit.finish()
    assert list(lost) == [f"订单-{n:05}" for n in sorted(mine & (theirs | gone))]
    expected = {n: f"new-{n}" if n in mine - theirs else f"old-{n}" for n in range(12)}
    expected |= dict.fromkeys(theirs, "theirs")
    assert {int(row[0][3:]): row[1] for row in dump(base)} == {
        n: blob for n, blob in expected.items() if n not in gone
    }


APPLICATION = """
import sys
url = sys.argv[1]
if url.startswith("sqlite"):
    import sqlite3
    database = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30, isolation_level=None)
    mark = "?"
else:
    import psycopg
    database = psycopg.connect(url, autocommit=True)
    mark = "%s"
statement = f"UPDATE orders SET ciphertext_blob = 'theirs' WHERE record_id = {mark}"
print("ready", flush=True)
number = 0
while True:
    for row in (number * 37 % 5000, 4999 - number * 11 % 5000):
        database.execute(statement, (f"订单-{row:05}",))
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


@pytest.mark.scale
def test_a_table_that_another_process_changes_all_the_time(base: Base) -> None:
    """Every row is then either changed, or theirs and reported, or was theirs before."""
    make(base, orders(5000))
    if base.kind == "sqlite":
        base.execute("PRAGMA journal_mode = WAL")
    lost, read_as_theirs = set[Place](), set[Place]()
    with other_process(APPLICATION, base.url), opened(base).parts[0].edit() as edit:
        for chunk in edit:
            read_as_theirs |= {
                place
                for place, record in zip(chunk.places, chunk.records, strict=True)
                if record.ciphertext_blob == "theirs"
            }
            lost |= set(edit.write([c for c in changes(chunk) if c.old_blob != "theirs"]))
        edit.finish()
    found = {row[0]: row[1] for row in dump(base)}
    assert {found[place] for place in lost} <= {"theirs"}
    assert not [blob for blob in found.values() if blob.startswith("old")]


# Atomic


def test_an_atomic_pass_stores_nothing_before_it_is_finished(base: Base) -> None:
    make(base, orders(2 * CHUNK_ROWS))
    before = dump(base)
    with opened(base).parts[0].edit(atomic=True) as edit:
        assert not edit.immediate
        for chunk in edit:
            assert edit.write(changes(chunk)) == []
            assert {blob[:3] for blob in blobs(base)} == {"old"}
    assert dump(base) == before  # it was not finished
    with opened(base).parts[0].edit(atomic=True) as edit:
        for chunk in edit:
            edit.write(changes(chunk))
        edit.finish()
    assert {blob[:3] for blob in blobs(base)} == {"new"}


def test_a_pass_stores_a_chunk_when_it_is_written(base: Base) -> None:
    make(base, orders(CHUNK_ROWS + 1))
    with opened(base).parts[0].edit() as edit:
        assert edit.immediate
        for chunk in edit:
            edit.write(changes(chunk))
            stored = sum(blob[:3] == "new" for blob in blobs(base))
            assert stored in (CHUNK_ROWS, CHUNK_ROWS + 1)
    assert {blob[:3] for blob in blobs(base)} == {"new"}


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


@pytest.mark.scale
@pytest.mark.parametrize(
    ("how", "moment"),
    [("immediate", 0), ("immediate", 1), ("immediate", 4), ("atomic", 1), ("atomic", 4)],
)
def test_a_killed_pass_leaves_whole_chunks(
    base: Base, how: str, moment: int, victims: subprocess.Popen[str]
) -> None:
    make(base, orders(6 * CHUNK_ROWS))
    if moment % 2 and base.kind == "sqlite":
        base.execute("PRAGMA journal_mode = WAL")
    stdin, stdout = victims.stdin, victims.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(f"{base.url}\t{how}\n")
    stdin.flush()
    process = int(stdout.readline())
    said = [stdout.readline().strip() for _ in range(moment)]
    os.kill(process, signal.SIGKILL)
    said += iter(lambda: stdout.readline().strip(), "ended")
    # What a server was still at when its client was killed, it ends before or undoes.
    base.execute("UPDATE orders SET note = ''")
    changed = [blob.endswith("!") for blob in blobs(base)]
    count = sum(changed)
    assert changed == sorted(changed, reverse=True)
    if how == "atomic":
        assert count in ((6 * CHUNK_ROWS,) if "done" in said else (0, 6 * CHUNK_ROWS))
    else:
        acknowledged = sum(int(word) for word in said if word != "done")
        assert count in (acknowledged, acknowledged + CHUNK_ROWS)


def test_two_edits_at_once_lose_nothing_unsaid(base: Base) -> None:
    make(base, orders(10))
    source = opened(base)
    with source.parts[0].edit() as one, source.parts[0].edit() as two:
        first, second = first_chunk(one), first_chunk(two)
        mine = changes(first)[:6]
        theirs = [Change(c.place, c.record_id, c.old_blob, "other") for c in changes(second)[4:]]
        assert one.write(mine) == []
        assert list(two.write(theirs)) == ["订单-00004", "订单-00005"]
    assert blobs(base) == [f"new-{n}" for n in range(6)] + ["other"] * 4


# What tells a table from others, and its shape


def test_a_table_with_a_point_in_its_name(base: Base) -> None:
    make(base, table=ORDERS.replace("orders", '"a.b"'))
    assert opened(base, "a.b").parts[0].name == "a.b"


FINGERPRINTS = {
    "a new column": "ALTER TABLE orders ADD COLUMN more TEXT",
    "a renamed column": "ALTER TABLE orders RENAME COLUMN note TO remark",
    "a dropped column": "ALTER TABLE orders DROP COLUMN note",
}


@pytest.mark.parametrize("statement", FINGERPRINTS.values(), ids=FINGERPRINTS)
def test_the_fingerprint_is_of_the_columns(base: Base, statement: str) -> None:
    part = opened(make(base)).parts[0]
    before = part.fingerprint()
    base.execute(
        "INSERT INTO orders VALUES ('1', 'A', 'c', NULL, NULL, '1')", "CREATE TABLE x (y TEXT)"
    )
    assert part.fingerprint() == before == opened(base).parts[0].fingerprint()
    base.execute(statement)
    assert part.fingerprint() != before


CHANGED = {
    **{name: (statement, "the columns of the table") for name, statement in FINGERPRINTS.items()},
    "no table": ("DROP TABLE orders", "the table is not there any more"),
    "another table": ("ALTER TABLE orders RENAME TO old_orders", "the table is not there any more"),
}


@pytest.mark.parametrize("when", ["read", "take", "write", "atomic"])
@pytest.mark.parametrize(("statement", "says"), CHANGED.values(), ids=CHANGED)
def test_a_schema_that_changes_meanwhile(base: Base, statement: str, says: str, when: str) -> None:
    make(base, orders(CHUNK_ROWS + 1))
    part = opened(base).parts[0]
    with part.edit(atomic=when == "atomic") as edit:
        pages = iter(part.read() if when == "read" else edit)
        chunk = next(pages)
        base.execute(statement)
        with pytest.raises(SourceChanged) as caught:
            _ = next(pages) if when in ("read", "take") else edit.write(changes(chunk))
    assert str(caught.value).startswith(f"{base.url}#orders: {says}")
    assert caught.value.source == f"{base.url}#orders"
    for table in ("orders", "old_orders"):
        with suppress(Exception):
            found = base.execute(f"SELECT DISTINCT substr(ciphertext_blob, 1, 3) FROM {table}")
            assert found == [("old",)]


def test_another_table_may_change(base: Base) -> None:
    make(base, orders(CHUNK_ROWS + 1))
    with opened(base).parts[0].edit() as edit:
        for number, chunk in enumerate(edit):
            base.execute(f"CREATE TABLE t{number} (x TEXT)")
            assert edit.write(changes(chunk)) == []


def test_an_index_that_is_made_meanwhile(base: Base) -> None:
    make(base, orders(CHUNK_ROWS + 1))
    with opened(base).parts[0].edit() as edit:
        for number, chunk in enumerate(edit):
            base.execute(f"CREATE INDEX i{number} ON orders (key_id)")
            assert edit.write(changes(chunk)) == []


# What is refused


def unfit(columns: str, *more: str) -> tuple[str, ...]:
    return (f"CREATE TABLE orders ({columns}, ciphertext_blob TEXT, provider TEXT)", *more)


UNFIT: dict[str, tuple[tuple[str, ...], str]] = {
    "no table": (("SELECT 1",), "no table 'orders' in the database; found: no table"),
    "another table": (("CREATE TABLE birds (x TEXT)",), "found: 'birds'"),
    "a view": (("CREATE VIEW orders AS SELECT 1 AS x",), "this is a view; name the table"),
    "no id column": (unfit("id INTEGER PRIMARY KEY"), "no column 'record_id'; found: 'id'"),
    "no unique id": (
        unfit("record_id TEXT, n INTEGER PRIMARY KEY"),
        "the id column 'record_id' is not unique; make it the primary key or put a unique index "
        "on it alone, or name another with --id-column (unique: 'n')",
    ),
    "a key of two columns": (
        (
            "CREATE TABLE orders (record_id TEXT, ciphertext_blob TEXT, provider TEXT,"
            " PRIMARY KEY (record_id, provider))",
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
        unfit("record_id TEXT", "CREATE UNIQUE INDEX i ON orders (lower(record_id))"),
        "not unique",
    ),
    "an index that is not unique": (
        unfit("record_id TEXT", "CREATE INDEX i ON orders (record_id)"),
        "not unique",
    ),
}


@pytest.mark.parametrize(("statements", "says"), UNFIT.values(), ids=UNFIT)
def test_tables_that_are_not_fit(base: Base, statements: tuple[str, ...], says: str) -> None:
    base.execute(*statements)
    with pytest.raises(SourceError) as caught:
        opened(base)
    assert says in str(caught.value)
    assert caught.value.source == f"{base.url}#orders"


def test_a_row_without_an_id(base: Base) -> None:
    make(base, [("1", "A"), (None, "B")], "CREATE TABLE orders (record_id TEXT UNIQUE,"
         " ciphertext_blob TEXT)")  # fmt: skip
    with pytest.raises(SourceError, match="a row has no record_id, so that nothing tells it from"):
        read(opened(base, provider="ctyun"))


def test_a_time_that_is_none(base: Base) -> None:
    make(
        base,
        [("订单-1", "A", "soon")],
        "CREATE TABLE orders (record_id TEXT PRIMARY KEY, ciphertext_blob TEXT, created_at TEXT)",
    )
    with pytest.raises(SourceError, match="id '订单-1': created_at: 'soon' is neither") as caught:
        read(opened(base, provider="ctyun"))
    assert caught.value.row == 1


FORBIDS = {
    "sqlite": [
        "CREATE TRIGGER t BEFORE UPDATE ON orders WHEN NEW.ciphertext_blob = 'new-2'"
        " BEGIN SELECT raise(ABORT, 'not so'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not so'; END $$",
        "CREATE TRIGGER t BEFORE UPDATE ON orders FOR EACH ROW"
        " WHEN (NEW.ciphertext_blob = 'new-2') EXECUTE FUNCTION refuse()",
    ],
}
ALTERS = {
    "sqlite": [
        "CREATE TRIGGER t AFTER UPDATE ON orders WHEN NEW.ciphertext_blob = 'new-2'"
        " BEGIN UPDATE orders SET ciphertext_blob = 'other' WHERE record_id = NEW.record_id; END"
    ],
    "postgresql": [
        "CREATE FUNCTION alter_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE orders SET ciphertext_blob = 'other' WHERE record_id = NEW.record_id;"
        " RETURN NULL; END $$",
        "CREATE TRIGGER t AFTER UPDATE ON orders FOR EACH ROW"
        " WHEN (NEW.ciphertext_blob = 'new-2') EXECUTE FUNCTION alter_it()",
    ],
}
NOTHING: dict[str, list[str]] = {kind: [] for kind in KINDS}
RULES = {
    "a check": (
        NOTHING,
        "CHECK (ciphertext_blob <> 'new-2')",
        "the table does not take a new value",
    ),
    "a trigger that forbids": (FORBIDS, "", "the table does not take a new value (not so)"),
    "a trigger that changes": (
        ALTERS,
        "",
        "what was written does not read back as it was; a trigger",
    ),
}


@pytest.mark.parametrize(("trigger", "check", "says"), RULES.values(), ids=RULES)
def test_a_value_that_the_table_does_not_take(
    base: Base, trigger: dict[str, list[str]], check: str, says: str
) -> None:
    make(base, orders(5), ORDERS.replace("note TEXT\n", f"note TEXT {check}\n"))
    base.execute("SELECT 1", *trigger[base.kind])
    before = dump(base)
    with opened(base).parts[0].edit() as edit, pytest.raises(SourceError) as caught:
        edit.write(changes(first_chunk(edit)))
    assert says in str(caught.value)
    assert dump(base) == before


LOGS = {
    "sqlite": [
        "ALTER TABLE orders ADD COLUMN size AS (length(ciphertext_blob) || '/' || key_id)",
        "CREATE TRIGGER t AFTER UPDATE ON orders BEGIN INSERT INTO log VALUES (NEW.record_id); END",
    ],
    "postgresql": [
        "ALTER TABLE orders ADD COLUMN size TEXT GENERATED ALWAYS AS"
        " (length(ciphertext_blob)::text || '/' || key_id) STORED",
        "CREATE FUNCTION log_it() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO log VALUES (NEW.record_id); RETURN NULL; END $$",
        "CREATE TRIGGER t AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION log_it()",
    ],
}


def test_triggers_and_generated_columns_do_their_work(base: Base) -> None:
    make(base, orders(3))
    base.execute("CREATE TABLE log (id TEXT)", *LOGS[base.kind])
    assert change_all(opened(base), key_id="k22") == []
    assert base.execute("SELECT count(*) FROM log") == [(3,)]
    assert base.execute("SELECT DISTINCT size FROM orders") == [("5/k22",)]


def test_a_table_is_not_written_elsewhere(base: Base, tmp_path: Path) -> None:
    part = opened(make(base, orders(1))).parts[0]
    with pytest.raises(SourceError, match="leave out --output"):
        part.edit(output=tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
