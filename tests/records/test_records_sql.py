"""A table in a SQLite file, and the URLs of databases: see test_records_tables.py for what holds of
every table."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
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
from kmslab.records import sql_database, sql_errors
from kmslab.records.opening import absolute, open_source, split_location
from kmslab.records.source import CHUNK_ROWS, Change, Chunk, Edit, Place, Source
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


# Changing


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


def test_a_blob_that_became_bytes_is_not_overwritten(path: Path) -> None:
    make(path, orders(5))
    with opened(path).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        execute(path, "UPDATE orders SET ciphertext_blob = CAST('old-2' AS BLOB) WHERE rowid = 3")
        assert edit.write(changes(chunk)) == ["订单-00002"]
    assert dump(path)[2][3] == b"old-2"


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


def test_the_fingerprint_is_what_it_was(path: Path) -> None:
    """Plans are kept: one of an older kmslab is to be known again."""
    assert opened(make(path)).parts[0].fingerprint() == (
        "ee7951203a83b988262da23e545942da8dc0b82821e3daa4ae909f699f4d1897"
    )


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
