"""What kmslab did not write is refused: when a lab is opened, and when a running one looks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from keystore_labs import execute, replace_rows, rows, set_column
from lab_stores import REFUSED, copy, database, store
from sqlalchemy import Table

from kmslab import Lab
from kmslab.errors import KmslabError, LabError, LabRolledBack, TamperedLab
from kmslab.keystore.schema import (
    credentials_table,
    keys_table,
    lab_table,
    versions_table,
)
from kmslab.model import KeySpec

# A value of each type that no column holds.
OTHER_TYPES: tuple[object, ...] = (0.5, "x", b"x")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed lab in which every column that may hold something does."""
    path = tmp_path_factory.mktemp("made") / "lab"
    with Lab.create(path) as lab:
        tencent, ctyun = lab.tencent(), lab.ctyun()
        key = tencent.create_key("orders", description="all orders")
        tencent.enable_key_rotation(key.key_id, rotate_days=30)
        lab.rotate(key.key_id)
        tencent.encrypt(key.key_id, b"plain")
        pair = ctyun.create_key(spec=KeySpec.RSA_2048, alias="pair")
        ctyun.create_key_version(pair.key_id)
        gone = tencent.create_key("gone")
        tencent.disable_key(gone.key_id)
        tencent.schedule_key_deletion(gone.key_id, 7)
        lab.credentials.create("app", rights=["Encrypt"])
        lab.credentials.create("old")
        lab.credentials.revoke("old")
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return copy(made, tmp_path / "lab")


def edits(value: object) -> Iterator[object]:
    """What one edit may make of a value: a bit, a byte, a type, or nothing at all."""
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, -value - 1, value ^ 2, *OTHER_TYPES)
        case str():
            yield from (chr(ord(value[0]) ^ 1) + value[1:] if value else "x", value + " ")
            yield from (value[:-1] if value else " ", value.swapcase(), value.encode(), 7)
        case bytes():
            flipped = bytes([value[0] ^ 1])
            yield from (flipped + value[1:], value[:-1] + bytes([value[-1] ^ 128]))
            yield from (value[:-1], value + b"\0", b"", value.hex(), 7, 10**12)
        case None:
            yield from (0, "", b"", *OTHER_TYPES)


def columns() -> Iterator[Any]:
    for table in (lab_table, keys_table, versions_table, credentials_table):
        for column in table.c:
            yield pytest.param(table, column.name, id=f"{table.name}.{column.name}")


@pytest.mark.parametrize(("table", "column"), list(columns()))
def test_every_column_is_authenticated(
    made: Path, tmp_path: Path, table: Table, column: str, soak: bool
) -> None:
    path = copy(made, tmp_path / "lab")
    untouched = rows(made, table.name)
    found = untouched
    if not soak:  # one row where there is something, and one where there is nothing
        found = [*{row[column] is None: row for row in untouched}.values()]
    seen = 0
    for row in found:
        value = row[column]
        tried = [*edits(value)]
        if table.c[column].nullable and value is not None:
            tried.append(None)
        # PostgreSQL has few of them, keeping columns to their types.
        for edit in tried if soak or store() else tried[::3]:
            replace_rows(path, table.name, untouched)
            try:
                set_column(path, table.name, row, column, edit)
            except REFUSED:
                continue  # the database itself does not have it
            if rows(path, table.name) == untouched:
                continue  # the database has made of it what was there
            seen += 1
            with pytest.raises(LabError) as refused:
                Lab.open(path)
            # An edit of the lab row may also name another root key or a newer schema.
            assert table is lab_table or type(refused.value) is TamperedLab, (value, edit)
    assert seen


@pytest.mark.sqlite("PostgreSQL keeps no text that is none")
@pytest.mark.parametrize("column", ["alias", "description", "provider"])
def test_text_that_is_none_is_refused(path: Path, column: str) -> None:
    execute(path, f"UPDATE keys SET {column} = CAST(x'ff41' AS TEXT)")
    with pytest.raises(TamperedLab):
        Lab.open(path)


def test_each_byte_of_sealed_material_counts(path: Path) -> None:
    # The shortest: what a pair is sealed in is twenty times as long, and opened no other way.
    row = min(rows(path, "versions"), key=lambda row: len(row["sealed"] or bytes(10**6)))
    for at in range(len(row["sealed"])):
        edited = bytearray(row["sealed"])
        edited[at] ^= 1 << (at % 8)
        execute(
            path,
            "UPDATE versions SET sealed = ? WHERE version_id = ?",
            bytes(edited),
            row["version_id"],
        )
        with pytest.raises(TamperedLab):
            Lab.open(path)


def state(lab: Lab) -> object:
    """Everything a lab says of itself."""
    info = lab.info()
    material = [
        lab._keystore.material(handle)
        for unit in lab._keystore.units.values()
        for handle in unit.handles.values()
        if handle.row.sealed is not None
    ]
    return (
        sorted(lab.keys(), key=lambda key: key.key_id),
        lab.credentials.list(),
        lab.audit.entries(),
        (info.lab_id, info.generation, info.audit_head, info.settings, info.unsafe),
        sorted(secret.expose() for secret in material),
    )


@pytest.mark.sqlite("a file of its own")
def test_one_changed_bit_of_the_file_is_refused_or_changes_nothing(
    made: Path, tmp_path: Path, soak: bool
) -> None:
    with Lab.open(copy(made, tmp_path / "untouched")) as lab:
        expected = state(lab)
    data = (made / "lab.db").read_bytes()
    places = random.Random(7).sample(range(len(data)), 5000 if soak else 50)
    path = copy(made, tmp_path / "lab")
    refused = 0
    for place in places:
        for leftover in path.glob("lab.db-*"):
            leftover.unlink()
        edited = bytearray(data)
        edited[place] ^= 1 << (place % 8)
        (path / "lab.db").write_bytes(edited)
        try:
            with Lab.open(path) as lab:
                check = lab.audit.verify()
                assert not check.intact or state(lab) == expected, place
        except LabError:
            refused += 1
    assert refused > len(places) // 10


Edit = Callable[[Path], None]


def statement(*statements: str) -> Edit:
    def edit(path: Path) -> None:
        for sql in statements:
            execute(path, sql)

    return edit


def swap(table: str, column: str, where: str = "1 = 1") -> Edit:
    """Exchange a column between the first two rows."""

    def edit(path: Path) -> None:
        first, second, *_ = rows(path, table, where)
        for here, there in ((first, second), (second, first)):
            set_column(path, table, here, column, there[column])

    return edit


def another(column: str) -> str:
    """SQL for an id that is not the one in the column."""
    return f"CASE WHEN {column} LIKE 'f%' THEN 'e' ELSE 'f' END || substr({column}, 2)"


def added_key(path: Path) -> None:
    """A key that is the copy of another, with its versions, under an id of its own."""
    with database(path) as connection:
        connection.execute("CREATE TABLE k AS SELECT * FROM keys WHERE alias = 'orders'")
        connection.execute(
            "CREATE TABLE v AS SELECT * FROM versions WHERE key_id = (SELECT key_id FROM k)"
        )
        for table in ("k", "v"):
            connection.execute(f"UPDATE {table} SET key_id = {another('key_id')}")
        connection.execute(f"UPDATE v SET version_id = {another('version_id')}")
        connection.execute("INSERT INTO keys SELECT * FROM k")
        connection.execute("INSERT INTO versions SELECT * FROM v")
        connection.execute("DROP TABLE k")
        connection.execute("DROP TABLE v")


ORDERS = "key_id = (SELECT key_id FROM keys WHERE alias = 'orders')"

ROWS: dict[str, Edit] = {
    "key added": added_key,
    "key deleted": statement(f"DELETE FROM keys WHERE {ORDERS}"),
    "versions deleted": statement(f"DELETE FROM versions WHERE {ORDERS}"),
    "one version deleted": statement(f"DELETE FROM versions WHERE {ORDERS} AND number = 2"),
    "version added": statement(
        f"INSERT INTO versions SELECT key_id, {another('version_id')}, 3, made_at, due_at, "
        f"sealed, public_key, encryptions FROM versions WHERE {ORDERS} AND number = 2"
    ),
    "version of no key": statement(
        f"INSERT INTO versions SELECT {another('key_id')}, version_id, number, made_at, "
        f"due_at, sealed, public_key, encryptions FROM versions WHERE {ORDERS}"
    ),
    "version moved to another key": statement(
        "UPDATE versions SET key_id = (SELECT key_id FROM keys WHERE alias = 'gone') "
        f"WHERE {ORDERS} AND number = 2"
    ),
    "every key deleted": statement("DELETE FROM keys"),
    "every key and version deleted": statement("DELETE FROM keys", "DELETE FROM versions"),
    "material swapped between versions": swap("versions", "sealed", ORDERS),
    "material swapped between keys": swap("versions", "sealed", "number = 1"),
    "version ids swapped": swap("versions", "number", ORDERS),
    "key MACs swapped": swap("keys", "mac"),
    "generations swapped": swap("keys", "generation"),
    "credential deleted": statement("DELETE FROM credentials WHERE name = 'app'"),
    "every credential deleted": statement("DELETE FROM credentials"),
    "credential added": statement(
        "INSERT INTO credentials SELECT 'KLIDX', 'more', sealed, rights, created_at, revoked_at "
        "FROM credentials WHERE name = 'app'"
    ),
    "secret keys swapped": swap("credentials", "sealed"),
    "lab row deleted": statement("DELETE FROM lab"),
    "lab row added": statement(
        "INSERT INTO lab SELECT 2, lab_id, schema_version, created_at, unsafe, root_id, kdf, "
        "settings, generation, keys_digest, credentials_digest, audit_seq, audit_head, mac FROM lab"
    ),
    "audit row added": statement(
        "INSERT INTO audit SELECT seq + 100, at, who, provider, action, key_id, version_id, "
        "source_key_id, source_version_id, outcome, request_id, last_request_id, count, mac "
        "FROM audit WHERE seq = 1"
    ),
    "table dropped": statement("DROP TABLE versions"),
    "column dropped": statement("ALTER TABLE keys DROP COLUMN description"),
    "table of another kind": statement("DROP TABLE keys", "CREATE VIEW keys AS SELECT * FROM lab"),
}


@pytest.mark.parametrize("edit", ROWS.values(), ids=ROWS.keys())
def test_rows_that_were_added_deleted_or_moved_are_refused(path: Path, edit: Edit) -> None:
    edit(path)
    with pytest.raises(TamperedLab):
        Lab.open(path)


CHANGES: dict[str, Callable[[Lab, str], object]] = {
    "rotate": lambda lab, key: lab.rotate(key),
    "disable": lambda lab, key: lab.tencent().disable_key(key),
    "alias": lambda lab, key: lab.tencent().update_alias(key, "other"),
    "encrypt": lambda lab, key: [lab.tencent().encrypt(key, b"x") for _ in range(3)],
}
TABLES = ("keys", "versions", "credentials", "lab", "audit")


def taken(path: Path) -> dict[str, list[dict[str, Any]]]:
    return {table: rows(path, table) for table in TABLES}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_replayed_key_is_refused(path: Path, change: Callable[[Lab, str], object]) -> None:
    """Row and versions together, just as the lab had written them once."""
    before = taken(path)
    with Lab.open(path) as lab:
        key_id = lab.key("orders").key_id
        change(lab, key_id)
    for table in ("keys", "versions"):
        where = f"key_id = '{key_id}'"
        old = [row for row in before[table] if row["key_id"] == key_id]
        replace_rows(path, table, old, where)
    with pytest.raises(TamperedLab):
        Lab.open(path)


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        (lambda lab: lab.settings.set("balance", 0), ("lab",)),
        (lambda lab: lab.rotate(lab.key("orders").key_id), ("lab",)),
        (lambda lab: lab.credentials.revoke("app"), ("lab",)),
        (lambda lab: lab.credentials.revoke("app"), ("credentials",)),
        (lambda lab: lab.credentials.revoke("app"), ("lab", "credentials")),
    ],
)
def test_a_replayed_row_of_the_lab_is_refused(
    path: Path, change: Callable[[Lab], object], tables: tuple[str, ...]
) -> None:
    before = taken(path)
    with Lab.open(path) as lab:
        change(lab)
    for table in tables:
        assert before[table] != rows(path, table)
        replace_rows(path, table, before[table])
    with pytest.raises(TamperedLab):
        Lab.open(path)


def test_a_replayed_lab_is_seen_from_outside_only(path: Path) -> None:
    before = taken(path)
    with Lab.open(path) as lab:
        lab.rotate(lab.key("orders").key_id)
        reached = lab.info().generation
    for table in TABLES:
        replace_rows(path, table, before[table])
    Lab.open(path).close()
    with pytest.raises(LabRolledBack):
        Lab.open(path, expect_generation=reached + 1)


def test_rows_of_another_lab_are_refused(path: Path, tmp_path: Path) -> None:
    with Lab.create(tmp_path / "other") as lab:
        key_id = lab.tencent().create_key("orders").key_id
    where = f"key_id = '{key_id}'"
    for table in ("keys", "versions"):
        replace_rows(path, table, rows(tmp_path / "other", table, where), where)
    with pytest.raises(TamperedLab):
        Lab.open(path)


# A running lab


@pytest.fixture
def running(path: Path) -> Iterator[Lab]:
    """A lab that is open while others change its rows."""
    lab = Lab.open(path)
    yield lab
    with suppress(LabError):
        lab.close()


RELOADED: dict[str, Edit] = {
    "state": statement(f"UPDATE keys SET state = 'disabled' WHERE {ORDERS}"),
    "alias": statement(f"UPDATE keys SET alias = 'orderz' WHERE {ORDERS}"),
    "material": statement(
        f"UPDATE versions SET sealed = x'{bytes(range(60)).hex()}' WHERE {ORDERS}"
    ),
    "encryptions": statement(f"UPDATE versions SET encryptions = 0 WHERE {ORDERS}"),
    "swapped": swap("versions", "sealed", ORDERS),
    "deleted version": statement(f"DELETE FROM versions WHERE {ORDERS} AND number = 1"),
    "deleted key": statement(f"DELETE FROM keys WHERE {ORDERS}"),
    "added key": added_key,
}


@pytest.mark.parametrize("edit", RELOADED.values(), ids=RELOADED.keys())
def test_a_running_lab_refuses_what_it_reloads(path: Path, running: Lab, edit: Edit) -> None:
    key_id = running.key("orders").key_id
    kms = running.tencent()
    blob = kms.encrypt(key_id, b"plain")
    running._keystore.flush()
    with Lab.open(path) as other:
        other.rotate(key_id)
    edit(path)
    for call in (
        lambda: kms.encrypt(key_id, b"plain"),
        lambda: kms.decrypt(blob),
        lambda: running.rotate(key_id),
        running.keys,
    ):
        with pytest.raises(TamperedLab):
            call()


@pytest.mark.parametrize("tables", [("keys", "versions"), TABLES, ("lab",)])
def test_a_running_lab_refuses_what_went_back(
    path: Path, running: Lab, tables: tuple[str, ...]
) -> None:
    key_id = running.key("orders").key_id
    before = taken(path)
    with Lab.open(path) as other:
        other.rotate(key_id)
        if tables != ("keys", "versions"):
            running.rotate(key_id)
    for table in tables:
        replace_rows(path, table, before[table])
    time.sleep(0.06)
    with pytest.raises(TamperedLab):
        running.rotate(key_id)
    with pytest.raises(TamperedLab):
        running.tencent().encrypt(key_id, b"plain")


def test_a_running_lab_refuses_another_history(path: Path, tmp_path: Path, running: Lab) -> None:
    """An older copy that went its own way, as far as or farther than the lab that is open."""
    key_id = running.key("orders").key_id
    running._keystore.flush()
    fork = copy(path, tmp_path / "fork")
    running.rotate(key_id)
    with Lab.open(fork) as lab:
        for number in range(3):
            lab.settings.set("balance", number)
    for table in TABLES:
        replace_rows(path, table, rows(fork, table))
    time.sleep(0.06)
    with pytest.raises(TamperedLab):
        running.keys()


def test_a_refused_lab_recovers_with_its_rows(path: Path, running: Lab) -> None:
    key_id = running.key("orders").key_id
    with Lab.open(path) as other:
        other.rotate(key_id)
    kept = rows(path, "keys")
    execute(path, "UPDATE keys SET alias = 'x'")
    with pytest.raises(KmslabError):
        running.keys()
    replace_rows(path, "keys", kept)
    assert len(running.key("orders").versions) == 3
