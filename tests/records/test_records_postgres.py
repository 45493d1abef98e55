"""What only PostgreSQL has: its types, its locks and rights, and the ways in which it fails."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from postgres_server import Server
from record_tables import (
    ORDERS,
    PostgresBase,
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

from kmslab.errors import SourceBusy, SourceChanged, SourceError
from kmslab.records import sql_errors, sql_postgres
from kmslab.records.source import ALL_ROWS, CHUNK_ROWS, Change, Divisible, Lockable, alone
from kmslab.records.spec import SourceSpec
from kmslab.records.sql import TableSource, open_table

pytestmark = pytest.mark.scale


@contextmanager
def application(base: PostgresBase) -> Iterator[psycopg.Connection[Any]]:
    """Another connection, whose transactions end when it says so."""
    with closing(psycopg.connect(base.url)) as connection:
        yield connection


def table(source: object) -> TableSource:
    assert isinstance(source, TableSource)
    return source


# Types


def test_types_of_columns(server: PostgresBase) -> None:
    key = uuid.UUID("6f2f0000-0000-4000-8000-00000000abcd")
    server.execute("CREATE TYPE cloud AS ENUM ('tencent', 'ctyun')")
    make(
        server,
        [(-(2**40), "AAAA", "tencent", None, key, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))],
        "CREATE TABLE orders (record_id BIGINT PRIMARY KEY, ciphertext_blob VARCHAR(400),"
        " provider cloud, encryption_context VARCHAR(40), key_id UUID, created_at TIMESTAMPTZ)",
    )
    source = opened(server)
    (record,) = records(source)
    assert (record.record_id, record.provider, record.key_id) == (
        str(-(2**40)),
        "tencent",
        str(key),
    )
    assert record.created_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert source.blob_capacity == 400
    other = str(uuid.uuid4())
    assert change_all(source, provider="ctyun", key_id=other, context="{}") == []
    assert dump(server, "provider, key_id::text, encryption_context") == [("ctyun", other, "{}")]
    assert change_all(source, key_id=None) == []


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ", "DATE", "TEXT"])
@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/Lima"])
def test_times_are_read_as_they_are_meant(server: PostgresBase, kind: str, zone: str) -> None:
    make(
        server,
        [("1", "A", "2026-01-02 00:00:00Z")],
        "CREATE TABLE orders (record_id TEXT PRIMARY KEY, ciphertext_blob TEXT,"
        f" created_at {kind})",
    )
    name = server.url.rsplit("/", 1)[1]
    server.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
    server.execute(f"ALTER DATABASE {name} SET datestyle = 'German'")
    try:
        (record,) = records(opened(server, provider="ctyun"))
    finally:
        server.execute(f"ALTER DATABASE {name} RESET ALL")
    assert record.created_at == datetime(2026, 1, 2, tzinfo=UTC)


TOO_LONG = {
    "varchar": ("VARCHAR(10)", "value too long for type character varying(10)"),
    "domain": ("short", "value too long for type character varying(10)"),
    "check": ("TEXT CHECK (length(ciphertext_blob) < 11)", 'violates check constraint "'),
}


@pytest.mark.parametrize(("kind", "says"), TOO_LONG.values(), ids=TOO_LONG)
def test_what_is_too_long_is_refused_and_not_cut(
    server: PostgresBase, kind: str, says: str
) -> None:
    server.execute("CREATE DOMAIN short AS VARCHAR(10)")
    make(
        server,
        [(1, "old"), (2, "old")],
        f"CREATE TABLE orders (record_id INT PRIMARY KEY, ciphertext_blob {kind})",
    )
    source = opened(server, provider="ctyun")
    assert source.blob_capacity == (None if "CHECK" in kind else 10)
    with source.parts[0].edit() as edit:
        chunk = first_chunk(edit)
        with pytest.raises(SourceError) as caught:
            edit.write([Change(1, "1", "old", "fits"), Change(2, "2", "old", "n" * 11)])
        assert says in str(caught.value)
        assert blobs(server) == ["old", "old"]
        assert edit.write(changes(chunk)) == []


UNFIT = {
    "a materialised view": ("CREATE MATERIALIZED VIEW {t} AS SELECT 1 AS x", "materialised view"),
    "a foreign table": (
        "CREATE EXTENSION IF NOT EXISTS postgres_fdw;"
        "CREATE SERVER IF NOT EXISTS far FOREIGN DATA WRAPPER postgres_fdw;"
        "CREATE FOREIGN TABLE {t} (record_id INT) SERVER far",
        "this is a foreign table",
    ),
    "inherited": (
        "CREATE TABLE {t} (record_id INT PRIMARY KEY, ciphertext_blob TEXT);"
        "CREATE TABLE child () INHERITS ({t})",
        "other tables inherit from it",
    ),
    "ids with fractions": (
        "CREATE TABLE {t} (record_id NUMERIC PRIMARY KEY, ciphertext_blob TEXT)",
        "column 'record_id' is of type numeric; ids must be whole numbers, text or UUIDs",
    ),
    "padded blobs": (
        "CREATE TABLE {t} (record_id INT PRIMARY KEY, ciphertext_blob CHAR(40))",
        "column 'ciphertext_blob' is of type character(40); blobs are stored as text",
    ),
    "blobs of bytes": (
        "CREATE TABLE {t} (record_id INT PRIMARY KEY, ciphertext_blob BYTEA)",
        "column 'ciphertext_blob' is of type bytea; blobs are stored as text",
    ),
    "a context that is no text": (
        "CREATE TABLE {t} (record_id INT PRIMARY KEY, ciphertext_blob TEXT,"
        " encryption_context JSONB)",
        "is of type jsonb; of a context every character counts: store it as text",
    ),
    "a key of bytes": (
        "CREATE TABLE {t} (record_id INT PRIMARY KEY, ciphertext_blob TEXT, key_id BYTEA)",
        "column 'key_id' is of type bytea; it must hold text",
    ),
    "partitioned by another column": (
        "CREATE TABLE {t} (record_id INT, ciphertext_blob TEXT, day DATE,"
        " PRIMARY KEY (record_id, day)) PARTITION BY RANGE (day)",
        "(unique: none); or name the partitions one by one",
    ),
    "a partition elsewhere": (
        "CREATE EXTENSION IF NOT EXISTS postgres_fdw;"
        "CREATE SERVER IF NOT EXISTS far FOREIGN DATA WRAPPER postgres_fdw;"
        "CREATE TABLE {t} (record_id INT, ciphertext_blob TEXT) PARTITION BY LIST (record_id);"
        "CREATE FOREIGN TABLE piece PARTITION OF {t} FOR VALUES IN (1) SERVER far",
        "some of its partitions are foreign tables",
    ),
    "an index that is not finished": (
        "CREATE TABLE {t} (record_id INT, ciphertext_blob TEXT);"
        "CREATE UNIQUE INDEX i ON {t} (record_id);"
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass",
        "is not unique",
    ),
}


@pytest.mark.parametrize(("statements", "says"), UNFIT.values(), ids=UNFIT)
def test_tables_that_are_not_fit(server: PostgresBase, statements: str, says: str) -> None:
    server.execute(*statements.format(t="orders").split(";"))
    with pytest.raises(SourceError) as caught:
        opened(server, provider="ctyun")
    assert says in str(caught.value)


def test_schemas(server: PostgresBase) -> None:
    server.execute('DROP SCHEMA IF EXISTS "the ""shop" CASCADE', 'CREATE SCHEMA "the ""shop"')
    server.execute(ORDERS.replace("orders", '"the ""shop".orders'))
    server.execute("""INSERT INTO "the ""shop".orders VALUES ('1', 'old-1', 'tencent')""")
    with pytest.raises(SourceError, match=r"""no table 'orders'.*found: 'the "shop\.orders'"""):
        opened(server)
    source = opened(server, 'the "shop.orders')
    assert source.name == f'{server.url}#the "shop.orders'
    assert change_all(source) == []
    assert server.execute('SELECT ciphertext_blob FROM "the ""shop".orders') == [("new-1",)]
    name = server.url.rsplit("/", 1)[1]
    server.execute(f'ALTER DATABASE {name} SET search_path = "$user", "the ""shop", public')
    try:
        assert opened(server).name == f"{server.url}#orders"
        assert opened(server, 'the "shop.orders').name == f"{server.url}#orders"
    finally:
        server.execute(f"ALTER DATABASE {name} RESET ALL", 'DROP SCHEMA "the ""shop" CASCADE')


def test_partitions(server: PostgresBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole table, or one of its partitions, and never both at once."""
    monkeypatch.setattr(sql_postgres, "LOCK_SECONDS", 0.0)
    server.execute(ORDERS.strip().removesuffix(")") + ") PARTITION BY HASH (record_id)")
    for number in range(2):
        server.execute(
            f"CREATE TABLE part{number} PARTITION OF orders"
            f" FOR VALUES WITH (MODULUS 2, REMAINDER {number})"
        )
    server.insert(orders(2 * CHUNK_ROWS))
    whole, piece, other = (table(opened(server, name)) for name in ("orders", "part0", "part1"))
    with whole.lock():
        for each in (whole, piece):
            with pytest.raises(SourceBusy), each.lock():
                pass
    with piece.lock(), other.lock(), pytest.raises(SourceBusy), whole.lock():
        pass
    assert change_all(piece) == []
    assert change_all(whole) == []
    assert {blob[:3] for blob in blobs(server)} == {"new"}
    assert len(read(piece)) + len(read(other)) == 2 * CHUNK_ROWS


# One campaign at a time


def test_a_lock_is_on_the_table_whatever_it_is_called(
    server: PostgresBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_postgres, "LOCK_SECONDS", 0.0)
    make(server, orders(1))
    one, two = opened(server), open_table(SourceSpec(server.url.replace("127.0.0.1", "localhost"),
                                                     "public.orders"))  # fmt: skip
    assert isinstance(one, Lockable)
    with alone(one):
        for readers in (False, True):
            with (
                pytest.raises(SourceBusy, match=r"another campaign is at work on it \(from 127"),
                alone(two, but_readers=readers),
            ):
                pass
        assert change_all(two) == []  # which is no lock of rows
        server.execute("ALTER TABLE orders ADD COLUMN more TEXT")
    readers = alone(one, but_readers=True), alone(two, but_readers=True)
    with readers[0], readers[1], pytest.raises(SourceBusy), alone(one):
        pass
    with alone(two):
        pass


def test_a_lock_ends_with_whoever_had_it(server: PostgresBase) -> None:
    make(server, orders(1))
    source = opened(server)
    with alone(source):
        # What a server sees when a machine has gone.
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        with alone(source):
            pass


# Others at work on the same rows


def test_rows_that_an_application_has_locked(
    server: PostgresBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_errors, "BUSY_SECONDS", 0.1)
    make(server, orders(3))
    with opened(server).parts[0].edit() as edit, application(server) as other:
        chunk = first_chunk(edit)
        other.execute("SELECT * FROM orders WHERE record_id = '订单-00001' FOR UPDATE")
        with pytest.raises(SourceError, match=r"rows are locked by another program for over 0\.1"):
            edit.write(changes(chunk))
        assert {blob[:3] for blob in blobs(server)} == {"old"}
        other.rollback()
        assert edit.write(changes(chunk)) == []


@pytest.mark.parametrize("theirs", ["commit", "rollback"])
def test_a_row_that_is_waited_for(server: PostgresBase, theirs: str) -> None:
    """What an application does to it counts when it commits, and not before."""
    make(server, orders(3))
    with opened(server).parts[0].edit() as edit, application(server) as other:
        chunk = first_chunk(edit)
        other.execute("UPDATE orders SET ciphertext_blob = 'x' WHERE record_id = '订单-00001'")
        with ThreadPoolExecutor(1) as pool:
            lost = pool.submit(edit.write, changes(chunk))
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not server.execute(waiting):
                time.sleep(0.01)
            getattr(other, theirs)()
            assert lost.result() == (["订单-00001"] if theirs == "commit" else [])


def test_no_application_waits_for_a_campaign_between_two_chunks(server: PostgresBase) -> None:
    make(server, orders(CHUNK_ROWS + 1))
    server.execute("SET lock_timeout = '20s'")
    with alone(opened(server)), opened(server).parts[0].edit() as edit:
        for chunk in edit:
            server.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            assert edit.write(changes(chunk)) == []
            server.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")


def test_a_deadlock_is_tried_again(server: PostgresBase) -> None:
    """An application has locked rows in another order: one of the two gives way."""
    make(server, orders(3))
    name = server.url.rsplit("/", 1)[1]
    server.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '10ms'")
    lock = "UPDATE orders SET note = note || '!' WHERE record_id = %s"
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def until_waiting(how_many: int) -> None:
        while len(server.execute(waiting)) < how_many:
            time.sleep(0.005)

    try:
        with (
            opened(server).parts[0].edit() as edit,
            application(server) as other,
            application(server) as third,
            ThreadPoolExecutor(2) as pool,
        ):
            chunk = first_chunk(edit)
            # Whoever begins to wait last sees the deadlock: the chunk, as it is let go on last.
            other.execute("SET deadlock_timeout = '60s'")
            other.execute(lock, ("订单-00002",))
            third.execute("SELECT 1 FROM orders WHERE record_id = '订单-00001' FOR UPDATE")
            lost = pool.submit(edit.write, changes(chunk))
            until_waiting(1)
            locked = pool.submit(other.execute, lock, ("订单-00000",))
            until_waiting(2)
            third.commit()
            locked.result()
            other.commit()
            assert lost.result() == []
    finally:
        server.execute(f"ALTER DATABASE {name} RESET ALL")
    assert dump(server, "ciphertext_blob, note") == [
        ("new-0", "note 0!"),
        ("new-1", "note 1"),
        ("new-2", "note 2!"),
    ]


def test_a_role_that_wants_its_transactions_serializable(server: PostgresBase) -> None:
    make(server, orders(5))
    name = server.url.rsplit("/", 1)[1]
    server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    try:
        with opened(server).parts[0].edit() as edit, application(server) as other:
            chunk = first_chunk(edit)
            other.execute("UPDATE orders SET ciphertext_blob = 'x' WHERE record_id = '订单-00001'")
            other.commit()
            assert edit.write(changes(chunk)) == ["订单-00001"]
    finally:
        server.execute(f"ALTER DATABASE {name} RESET ALL")


# What is not allowed


@contextmanager
def user(base: PostgresBase, *rights: str) -> Iterator[str]:
    """The URL of a user who may do just this."""
    base.execute("CREATE ROLE clerk LOGIN", "GRANT USAGE ON SCHEMA public TO clerk", *rights)
    try:
        yield base.url.replace("kmslab@", "clerk@")
    finally:
        base.execute("DROP OWNED BY clerk", "DROP ROLE clerk")


def test_a_user_who_may_only_read(server: PostgresBase) -> None:
    make(server, orders(3))
    with user(server, "GRANT SELECT ON orders TO clerk") as url:
        source = open_table(SourceSpec(url, "orders"))
        assert len(read(source)) == 3
        with (
            pytest.raises(SourceError, match=r"change column 'ciphertext_blob': GRANT UPDATE \("),
            source.parts[0].edit(),
        ):
            pass


def test_a_user_with_rights_on_columns(server: PostgresBase) -> None:
    make(server, orders(3))
    columns = "record_id, ciphertext_blob, provider, encryption_context, key_id"
    rights = (
        f"GRANT SELECT ({columns}) ON orders TO clerk",
        "GRANT UPDATE (ciphertext_blob) ON orders TO clerk",
    )
    with user(server, *rights) as url:
        source = open_table(SourceSpec(url, "orders"))
        assert change_all(source) == []
        with pytest.raises(SourceError, match=r"a right is missing \(permission denied for table"):
            change_all(source, key_id="k2")


def test_a_user_without_rights(server: PostgresBase) -> None:
    make(server, orders(3))
    with user(server) as url, pytest.raises(SourceError, match="a right is missing"):
        read(open_table(SourceSpec(url, "orders")))


def test_rows_that_a_policy_hides_are_an_error(server: PostgresBase) -> None:
    make(server, orders(3))
    server.execute(
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON orders USING (record_id <> '订单-00001')",
    )
    with user(server, "GRANT SELECT, UPDATE ON orders TO clerk") as url:
        source = open_table(SourceSpec(url, "orders"))
        with pytest.raises(SourceError, match=r"hidden by a policy \(row-level security\)"):
            read(source)
    assert change_all(opened(server)) == []  # its owner sees all


def test_a_database_that_is_only_read(server: PostgresBase) -> None:
    make(server, orders(3))
    name = server.url.rsplit("/", 1)[1]
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        source = opened(server)
        assert len(read(source)) == 3
        with alone(source), pytest.raises(SourceError, match="it is a standby, or set to be read"):
            change_all(source)
    finally:
        server.execute("SET default_transaction_read_only = off")
        server.execute(f"ALTER DATABASE {name} RESET ALL")
    assert {blob[:3] for blob in blobs(server)} == {"old"}


def test_a_blob_that_is_computed(server: PostgresBase) -> None:
    make(
        server,
        [],
        "CREATE TABLE orders (record_id INT PRIMARY KEY, raw TEXT,"
        " ciphertext_blob TEXT GENERATED ALWAYS AS (raw || '=') STORED)",
    )
    with (
        pytest.raises(SourceError, match="'ciphertext_blob' is computed by the database; name"),
        opened(server, provider="ctyun").parts[0].edit(),
    ):
        pass


# What fails on the way

SAYS = {
    "08006": "there is no connection to the database (oh); see that it runs",
    "22P02": "the table does not take a new value (oh); change its columns",
    "23514": "the table does not take a new value (oh); change its rules",
    "25006": "the database cannot be written to (oh): it is a standby",
    "40001": "other programs change the same rows all the time (oh)",
    "40P01": "other programs lock the same rows in another order (oh)",
    "42501": "a right is missing (oh); grant it",
    "53100": "the disk of the database is full (oh); make room",
    "53200": "the database has no memory left (oh)",
    "53300": "the database has too many connections (oh)",
    "55P03": "rows are locked by another program for over 30 s",
    "57014": "the statement was cancelled (oh); where statement_timeout says so, raise it",
    "57P01": "the database was shut down, or the connection was ended by its administrator (oh)",
    "57P03": "the database cannot be connected to now (oh)",
    "58030": "the database says: oh (58030)",
    "P0001": "the table does not take a new value (oh); change its rules",
}


def test_what_it_says_and_what_to_do(server: PostgresBase) -> None:
    make(server, orders(2))
    server.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'oh' USING ERRCODE = NEW.note,"
        " DETAIL = 'hunter2'; END $$",
        "CREATE TRIGGER t BEFORE UPDATE OF ciphertext_blob ON orders FOR EACH ROW"
        " EXECUTE FUNCTION refuse()",
    )
    source = opened(server)
    for state, says in SAYS.items():
        server.execute(f"UPDATE orders SET note = '{state}'")
        with pytest.raises(SourceError) as caught:
            change_all(source)
        assert str(caught.value).startswith(f"{source.name}: {says}"), state
        assert str(caught.value).endswith("; what was not yet stored is as it was")
        assert "hunter2" not in str(caught.value)
    assert {blob[:3] for blob in blobs(server)} == {"old"}


def test_a_statement_that_takes_too_long(server: PostgresBase) -> None:
    make(server, orders(2))
    server.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(5); RETURN NEW; END $$",
        "CREATE TRIGGER t BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION slow()",
    )
    url = f"{server.url}?options=-c%20statement_timeout%3D50"
    with pytest.raises(SourceError, match="where statement_timeout says so, raise it"):
        change_all(open_table(SourceSpec(url, "orders")))


REFUSED = {
    "no server": (
        lambda url: url.replace("127.0.0.1:", "127.0.0.1:1/x#"),
        "there is no connection",
    ),
    "no database": (lambda url: url + "x", "the database does not let us in"),
    "no user": (lambda url: url.replace("kmslab@", "nobody@"), "the database does not let us in"),
    "another driver": (lambda url: url.replace("postgresql:", "postgresql+pg8000:"), "psycopg 3"),
}


@pytest.mark.parametrize(("spoil", "says"), REFUSED.values(), ids=REFUSED)
def test_a_database_that_is_not_there(
    server: PostgresBase, spoil: Callable[[str], str], says: str
) -> None:
    with pytest.raises(SourceError, match=says):
        open_table(SourceSpec(spoil(server.url), "orders"))


def end_connections(base: PostgresBase) -> None:
    base.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'kmslab' AND datname = current_database()"
    )


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
def test_a_connection_that_is_ended(server: PostgresBase, atomic: bool) -> None:
    make(server, orders(2 * CHUNK_ROWS))
    with opened(server).parts[0].edit(atomic=atomic) as edit:
        edit.write(changes(first_chunk(edit)))
        end_connections(server)
        with pytest.raises(SourceError, match="see that it runs, then go on"):
            next(iter(edit))
    new = [blob.startswith("new") for blob in blobs(server)]
    assert new == [not atomic] * CHUNK_ROWS + [False] * CHUNK_ROWS


@pytest.mark.parametrize("atomic", [False, True], ids=["", "atomic"])
def test_a_connection_that_is_lost_in_the_commit(server: PostgresBase, atomic: bool) -> None:
    make(server, orders(3))
    server.execute(
        "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON orders DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION leave()",
    )
    with opened(server).parts[0].edit(atomic=atomic) as edit:
        chunk = first_chunk(edit)
        with pytest.raises(
            SourceError,
            match="whether the last chunk was stored shows when the campaign is resumed",
        ):
            _ = edit.write(changes(chunk)) or edit.finish()


def test_a_view_in_the_place_of_the_table(server: PostgresBase) -> None:
    make(server, orders(3))
    with opened(server).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        server.execute(
            "ALTER TABLE orders RENAME TO orders_2", "CREATE VIEW orders AS SELECT * FROM orders_2"
        )
        with pytest.raises(SourceChanged, match="the table is not there any more"):
            edit.write(changes(chunk))


def test_a_table_cannot_change_its_shape_in_the_middle_of_a_chunk(server: PostgresBase) -> None:
    make(server, orders(3))
    with opened(server).parts[0].edit() as edit:
        chunk = first_chunk(edit)
        with application(server) as other:
            other.execute("ALTER TABLE orders ADD COLUMN more TEXT")
            with ThreadPoolExecutor(1) as pool:
                written = pool.submit(edit.write, changes(chunk))
                while not server.execute("SELECT 1 FROM pg_locks WHERE NOT granted"):
                    time.sleep(0.01)
                other.commit()
                with pytest.raises(SourceChanged, match="the columns of the table"):
                    written.result()
    assert {blob[:3] for blob in blobs(server)} == {"old"}


# Speed


PLANS = {
    "integers": "BIGINT",
    "text": "TEXT",
    "another order": 'TEXT COLLATE "en-x-icu"',
    "short text": "VARCHAR(40)",
    "identifiers": "UUID",
}


@pytest.mark.parametrize("kind", PLANS.values(), ids=PLANS)
def test_every_statement_goes_by_the_index(
    server: PostgresBase, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is known of the table yet: no page costs more in a longer table."""
    server.execute(
        f"CREATE TABLE orders (record_id {kind} PRIMARY KEY, ciphertext_blob TEXT)",
        "INSERT INTO orders SELECT " + ("n" if kind == "BIGINT" else "md5(n::text)::uuid")
        + ("" if kind in ("BIGINT", "UUID") else "::text")
        + f", 'old' FROM generate_series(1, {3 * CHUNK_ROWS}) AS n",
    )  # fmt: skip
    source = opened(server, provider="ctyun")
    plans: list[str] = []

    class Explaining:
        def __init__(self, cursor: Any) -> None:
            self._cursor = cursor

        def execute(self, statement: str, parameters: Any) -> Any:
            if "orders" in statement and "pg_class" not in statement:
                self._cursor.execute("EXPLAIN " + statement, parameters)
                plans.append("\n".join(row[0] for row in self._cursor.fetchall()))
            return self._cursor.execute(statement, parameters)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._cursor, name)

    cursor_of = sql_postgres.cursor_of
    monkeypatch.setattr(
        "kmslab.records.sql_postgres_rows.cursor_of", lambda c: Explaining(cursor_of(c))
    )
    part = source.parts[0]
    assert isinstance(part, Divisible)
    ranges = part.key_ranges(3 * CHUNK_ROWS // 2)
    for each in (ALL_ROWS, ranges[-1]):
        with part.within(each).edit() as edit:
            for chunk in edit:
                edit.write(changes(chunk))
    assert len(plans) > 10
    for plan in plans:
        assert "Index" in plan
        assert "Seq Scan" not in plan, plan


def test_several_at_once_on_ranges_of_their_own(server: PostgresBase) -> None:
    make(server, orders(4 * CHUNK_ROWS))
    part = opened(server).parts[0]
    assert isinstance(part, Divisible)

    def over(key_range: Any) -> int:
        done = 0
        with part.within(key_range).edit() as edit:
            for chunk in edit:
                assert edit.write(changes(chunk)) == []
                done += len(chunk.places)
            edit.finish()
        return done

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(over, part.key_ranges(CHUNK_ROWS))) == [CHUNK_ROWS] * 4 + [0]
    assert {blob[:3] for blob in blobs(server)} == {"new"}


def test_connections_are_closed(server: PostgresBase, postgres: Server) -> None:
    source = opened(make(server, orders(3)))
    with alone(source):
        change_all(source)
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kmslab'"
    until = time.monotonic() + 60
    while server.execute(left) != [(0,)]:
        assert time.monotonic() < until
        time.sleep(0.01)
