"""A lab in PostgreSQL: what is there only with a server. The other tests of the keystore run on
PostgreSQL too, by `make test-postgres`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from keystore_kinds import CHEAP
from keystore_labs import python
from lab_stores import TABLES, sql
from postgres_server import Server

from kmslab import Lab, ManualClock
from kmslab.crypto import Argon2Parameters
from kmslab.errors import (
    DatabaseUrlError,
    LabError,
    LabExists,
    LabNotFound,
    RootKeyError,
    SettingError,
    TamperedLab,
)
from kmslab.keystore import root
from kmslab.keystore.postgres_connecting import Asking, Connections
from kmslab.model import KeyState

# A lab by its URL


def test_a_lab_is_made_opened_and_told_of(url: str, root_key: Path) -> None:
    secret = url.replace("kmslab@", "kmslab:sesame@")
    with Lab.create(secret, root_key=root_key) as lab:
        key = lab.tencent().create_key("orders", description="订单")
        blob = lab.tencent().encrypt(key.key_id, b"plain", context={"app": "订单"})
        assert lab.location == lab.info().path == url
        assert lab.root_key == root_key
        assert lab.info().root == str(root_key)
        assert "sesame" not in repr(lab) + repr(lab.info()) + repr(vars(lab._keystore.database))
    with Lab.open(lab.location, root_key=root_key) as lab:
        (version,) = lab.key("orders").versions
        assert version.version_id == key.primary_version_id
        assert bytes(lab.tencent().decrypt(blob, context={"app": "订单"})) == b"plain"
        assert lab.audit.verify().intact


@pytest.mark.postgresql
def test_a_lab_under_a_passphrase(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(root, "Argon2Parameters", partial(Argon2Parameters, **CHEAP))
    with Lab.create(url, passphrase="one") as lab:
        key = lab.tencent().create_key("orders")
        assert lab.root_key is None
        lab.rekey(new_passphrase="two")
    with pytest.raises(RootKeyError, match="not this lab's"):
        Lab.open(url, passphrase="one")
    with Lab.open(url, passphrase="two") as lab:
        assert lab.key("orders") == key


@pytest.mark.postgresql
def test_each_schema_is_a_lab_of_its_own(shared: str, tmp_path: Path) -> None:
    with (
        Lab.create(shared, root_key=tmp_path / "a") as one,
        Lab.create(f"{shared}?schema=team_b", root_key=tmp_path / "b") as other,
    ):
        one.tencent().create_key("orders")
        assert other.keys() == ()
        assert one.location == shared


def test_a_lab_is_made_once(url: str, root_key: Path, tmp_path: Path) -> None:
    Lab.create(url, root_key=root_key).close()
    with pytest.raises(LabExists, match=r"\?schema=NAME"):
        Lab.create(url, root_key=tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(RootKeyError, match="is there already"):
        Lab.create(url + "x", root_key=root_key)
    with pytest.raises(LabNotFound, match=r"kmslab lab init '.*x'"):
        Lab.open(url + "x", root_key=root_key)


@pytest.mark.postgresql
def test_of_several_that_make_a_lab_at_once_one_wins(url: str, tmp_path: Path) -> None:
    outcomes: list[object] = []

    def make(number: int) -> None:
        try:
            Lab.create(url, root_key=tmp_path / str(number)).close()
            outcomes.append(number)
        except LabExists:
            outcomes.append(None)

    threads = [threading.Thread(target=make, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (n for n in outcomes if n is not None)
    assert [path.name for path in tmp_path.iterdir()] == [str(winner)]
    Lab.open(url, root_key=tmp_path / str(winner)).close()


def test_without_a_place_for_the_root_key_nothing_is_made(url: str, root_key: Path) -> None:
    for call in (Lab.create, Lab.open):
        with pytest.raises(RootKeyError, match="--root-key PATH or KMSLAB_ROOT_KEY"):
            call(url)
    Lab.create(url, root_key=root_key).close()


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("sqlite:///lab.db", "name a directory"),
        ("postgresql+psycopg2://h/d", "postgresql://user@host/database"),
        ("postgresql://h/d?schema=pg_catalog", "not pg_"),
        ("postgresql://h/d?schema=a%22b", "small letters"),
        ("postgresql://h/d?schema=public", "neither public"),
        ("postgresql://h/d?schema=information_schema", "neither public"),
        ("postgresql://h/d?schema=a&schema=b", "one schema"),
        ("postgresql://h/d?sslpassword=sesame", "may hold a secret"),
        ("postgresql://a:sesame@h/d?password=other", "several passwords"),
        ("postgresql:/a:sesame@h/d://", "no database URL"),
    ],
)
def test_urls_that_name_no_lab(bad: str, match: str, root_key: Path) -> None:
    with pytest.raises(DatabaseUrlError, match=match) as caught:
        Lab.create(bad, root_key=root_key)
    assert "sesame" not in str(caught.value)
    assert not root_key.exists()


def test_a_driver_that_is_missing_is_named(
    url: str, root_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith("kmslab.keystore.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingError, match=r"install kmslab\[postgres\]"):
        Lab.open(url, root_key=root_key)


# Several processes


ROTATE = """
import sys
from kmslab import Lab
with Lab.open(sys.argv[1], root_key=sys.argv[2]) as lab:
    print(lab.rotate(sys.argv[3]).primary_version_id)
"""


def test_a_rotation_is_seen_by_the_next_call_of_another_process(pg_lab: Lab, url: str) -> None:
    key = pg_lab.tencent().create_key("orders").key_id
    done = python(ROTATE, url, pg_lab.root_key, key)
    assert pg_lab.key(key).primary_version_id == done.stdout.strip(), done.stderr


def test_nobody_looks_for_what_was_only_audited(
    pg_lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for what has not changed: each look is five round trips."""
    monkeypatch.setattr(Asking, "look_seconds", 60.0)
    kms = pg_lab.tencent()
    blob = kms.encrypt(kms.create_key("orders").key_id, b"plain")
    with Lab.open(url, root_key=pg_lab.root_key, clock=pg_lab.clock) as other:
        other.tencent().decrypt(blob)
        pg_lab._keystore.flush()
        pg_lab.keys()
        before = pg_lab._keystore.epoch
        other.tencent().decrypt(blob)
        other._keystore.flush()
        pg_lab.keys()
        assert pg_lab._keystore.epoch == before
        other.settings.set("balance", 7)
        assert pg_lab.settings.all()["balance"] == 7
    assert pg_lab.audit.verify().intact


def test_a_lab_row_that_something_else_edits_is_seen_in_an_open_lab(
    pg_lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the look that is taken now and then, whatever was heard."""
    monkeypatch.setattr(Asking, "look_seconds", 0.0)
    pg_lab.tencent().create_key("orders")
    with sql(url) as connection:
        connection.execute("UPDATE lab SET generation = generation + 1, created_at = 1")
    with pytest.raises(TamperedLab):
        pg_lab.keys()


@pytest.mark.scale
def test_writers_at_once_lose_nothing(pg_lab: Lab, url: str) -> None:
    """Each counts, rotates and audits over what the others have written."""
    key = pg_lab.tencent().create_key("orders").key_id

    def work() -> None:
        with Lab.open(url, root_key=pg_lab.root_key, clock=pg_lab.clock) as lab:
            for _ in range(5):
                lab.rotate(key)
                for _ in range(5):
                    lab.tencent().encrypt(key, b"plain")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = pg_lab.key(key).versions
    assert len(versions) == 21
    assert sum(version.encryptions for version in versions) == 100
    check = pg_lab.audit.verify()
    assert (check.intact, check.open_ends) == (True, 0)


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(pg_lab: Lab) -> None:
    kms = pg_lab.tencent()
    key = kms.create_key("orders").key_id
    child = os.fork()
    if child == 0:
        code = 1
        try:
            pg_lab.rotate(key)
            pg_lab.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(pg_lab.key(key).versions) == 2
    assert len(pg_lab.rotate(key).versions) == 3
    assert pg_lab.audit.verify().intact


@pytest.mark.postgresql
def test_a_key_file_that_another_machine_has_replaced(
    pg_lab: Lab, url: str, tmp_path: Path
) -> None:
    """Each machine has a root key file of its own; a rekey on one waits for the others' files."""
    mine = tmp_path / "here"
    mine.write_bytes(pg_lab.root_key.read_bytes())
    mine.chmod(0o600)
    with Lab.open(url, root_key=mine) as here:
        key = here.tencent().create_key("orders").key_id
        pg_lab.rekey()
        with pytest.raises(RootKeyError, match="put the file that it has now in this place"):
            here.keys()
        mine.write_bytes(pg_lab.root_key.read_bytes())
        assert len(here.rotate(key).versions) == 2


# What the rows may not be


EDITS = [
    "UPDATE keys SET state = 'disabled'",
    "UPDATE versions SET encryptions = 0",
    "UPDATE versions SET sealed = sealed || '\\x00'",
    "DELETE FROM versions WHERE number = 2",
    "DELETE FROM keys",
    "UPDATE lab SET unsafe = true",
    "UPDATE lab SET generation = generation + 1",
    "DELETE FROM lab",
    "DELETE FROM credentials",
    "UPDATE credentials SET rights = 'null'",
    "ALTER TABLE lab DROP CONSTRAINT lab_pkey; INSERT INTO lab SELECT * FROM lab",
    "ALTER TABLE keys DROP COLUMN mac",
    "ALTER TABLE keys ALTER COLUMN generation TYPE text",
]


@pytest.mark.parametrize(
    "statement",
    [EDITS[0], *(pytest.param(edit, marks=pytest.mark.postgresql) for edit in EDITS[1:])],
)
def test_what_was_changed_by_something_else_is_refused(
    pg_lab: Lab, url: str, statement: str
) -> None:
    key = pg_lab.tencent().create_key("orders").key_id
    pg_lab.rotate(key)
    pg_lab.tencent().encrypt(key, b"plain")
    pg_lab.credentials.create("app", rights=["Encrypt"])
    pg_lab.close()
    with sql(url) as connection:
        rows = connection.execute(statement).rowcount
        assert statement.startswith("ALTER") or rows > 0
    with pytest.raises(TamperedLab):
        Lab.open(url, root_key=pg_lab.root_key)


def test_an_older_state_that_was_put_back_is_seen_while_the_lab_is_open(
    pg_lab: Lab, url: str
) -> None:
    with sql(url) as connection:
        connection.execute("CREATE TEMPORARY TABLE old AS SELECT * FROM lab")
        pg_lab.settings.set("balance", 7)
        connection.execute("DELETE FROM lab")
        connection.execute("INSERT INTO lab SELECT * FROM old")
        with pytest.raises(TamperedLab, match="went back"):
            pg_lab.settings.all()


def end_as_another_lab(lab: Lab) -> None:
    lab.settings.set("balance", 9)


def go_on_under_another_root_key(lab: Lab) -> None:
    lab.settings.set("balance", 9)
    lab.rekey()


def go_on_without_the_log(lab: Lab) -> None:
    """Only counts, of which the log says nothing: as many as were lost."""
    (key,) = lab.keys()
    with lab._keystore.change() as change:
        change.count(lab._keystore.unit(key.key_id).handles[key.versions[0].version_id], 3)


@pytest.mark.parametrize("lost", ["rotated", "counted"])
@pytest.mark.parametrize(
    "go_on", [end_as_another_lab, go_on_under_another_root_key, go_on_without_the_log]
)
def test_a_lab_that_goes_on_from_an_older_state_is_another_one(
    url: str, root_key: Path, go_on: Callable[[Lab], None], lost: str
) -> None:
    """After a failover to a server that lacked a change: whoever made it reads and writes nothing
    more, and the others have their lab."""
    lab = Lab.create(url, root_key=root_key)
    key = lab.tencent().create_key("orders").key_id
    lab.rotate(key)
    lab.audit.verify()
    with sql(url) as connection:
        for table in TABLES:
            connection.execute(f"CREATE TEMPORARY TABLE old_{table} AS SELECT * FROM {table}")
        if lost == "rotated":
            lab.rotate(key)
        else:
            with lab._keystore.change() as change:
                change.count(
                    lab._keystore.unit(key).handles[lab.key(key).versions[1].version_id], 5
                )
        for table in TABLES:
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")
    with Lab.open(url, root_key=root_key) as other:
        if lost == "rotated":
            other.rotate(key)
        go_on(other)
    # Counts that were lost are no other past where nothing was built on them.
    refused = suppress(TamperedLab) if lost == "counted" else pytest.raises(TamperedLab)
    for call in (lambda: lab.tencent().encrypt(key, b"plain"), lambda: lab.rotate(key)):
        with refused:
            call()
    with suppress(TamperedLab):
        lab.close()
    with Lab.open(url, root_key=root_key) as other:
        other.tencent().encrypt(key, b"plain")
        assert other.audit.verify().intact


@pytest.mark.postgresql
def test_tables_of_somebody_else_are_not_taken_for_the_labs(
    pg_lab: Lab, url: str, shared: str
) -> None:
    with sql(url) as connection:
        connection.execute("ALTER TABLE keys RENAME TO hidden")
        connection.execute("CREATE TABLE public.keys AS SELECT * FROM hidden")
        try:
            with pytest.raises(LabError):
                Lab.open(url, root_key=pg_lab.root_key)
        finally:
            connection.execute("DROP TABLE public.keys")


HOSTILE = [
    "CREATE TABLE {schema}.loot (who text)",
    "GRANT ALL ON {schema}.loot TO PUBLIC",
    """CREATE FUNCTION {schema}.eq(varchar, varchar) RETURNS bool LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO {schema}.loot VALUES (current_user); RETURN $1::text = $2::text; END $$""",
    "CREATE OPERATOR {schema}.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = {schema}.eq)",
]


def test_operators_of_somebody_else_are_not_run(pg_lab: Lab, url: str) -> None:
    """One for just the types of a column would go before PostgreSQL's own."""
    schema = url.rpartition("=")[2]
    with sql(url) as connection:
        for statement in HOSTILE:
            connection.execute(statement.format(schema=schema).encode())
        key = pg_lab.tencent().create_key("orders").key_id
        pg_lab.rotate(key)
        pg_lab.tencent().encrypt(key, b"plain")
        with Lab.open(url, root_key=pg_lab.root_key) as other:
            other.rotate(key)
        assert len(pg_lab.key(key).versions) == 3
        assert connection.execute("SELECT * FROM loot").fetchall() == []


@pytest.mark.postgresql
def test_a_temporary_table_is_not_taken_for_one_of_the_lab(pg_lab: Lab, url: str) -> None:
    key = pg_lab.tencent().create_key("orders").key_id
    schema = url.rpartition("=")[2]
    with pg_lab._keystore.database.writing() as connection:
        for table in ("lab", "keys", "versions"):
            connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {table} (LIKE {schema}.{table})")
    with Lab.open(url, root_key=pg_lab.root_key) as other:
        other.rotate(key)
    assert len(pg_lab.key(key).versions) == 2
    assert len(pg_lab.rotate(key).versions) == 3


@pytest.mark.postgresql
def test_no_operator_or_function_of_somebody_else_is_run(pg_lab: Lab, url: str) -> None:
    """Whoever may make objects in the schema `public` has none of the rights of the lab."""
    kinds = ("varchar", "text", "bigint", "integer", "boolean")
    with sql(url) as connection:
        connection.execute("CREATE TABLE public.ran (what text)")
        try:
            for kind in kinds:
                connection.execute(
                    f"CREATE FUNCTION public.same(a {kind}, b {kind}) RETURNS bool"
                    " LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user);"
                    " RETURN a OPERATOR(pg_catalog.=) b; END $$"
                )
                connection.execute(
                    f"CREATE OPERATOR public.= (LEFTARG={kind}, RIGHTARG={kind},"
                    " FUNCTION=public.same)"
                )
            key = pg_lab.tencent().create_key("orders").key_id
            pg_lab.rotate(key)
            pg_lab.tencent().encrypt(key, b"plain")
            made = pg_lab.credentials.create("app", rights=["Encrypt"]).credential
            pg_lab.credentials.revoke(made.secret_id)
            pg_lab.tencent().disable_key(key)
            assert pg_lab.audit.verify().intact
            pg_lab.close()
            Lab.open(url, root_key=pg_lab.root_key).close()
            assert connection.execute("SELECT what FROM public.ran").fetchall() == []
        finally:
            for kind in kinds:
                connection.execute(f"DROP FUNCTION IF EXISTS public.same({kind}, {kind}) CASCADE")
            connection.execute("DROP TABLE public.ran")


# What is erased


@pytest.mark.postgresql
def test_no_statistics_are_kept_of_what_is_sealed(pg_lab: Lab, url: str) -> None:
    for number in range(5):
        pg_lab.tencent().create_key(f"key-{number}")
        pg_lab.credentials.create(f"app-{number}")
    with sql(url) as connection:
        connection.execute("ANALYZE")
        found = connection.execute(
            "SELECT tablename, attname FROM pg_stats WHERE schemaname = current_schema()"
        ).fetchall()
    assert ("versions", "version_id") in found
    assert not {("versions", "sealed"), ("credentials", "sealed")} & set(found)


def test_deleted_material_is_in_no_file_of_the_database(
    pg_lab: Lab, url: str, manual_clock: ManualClock, postgres: Server
) -> None:
    kms = pg_lab.ctyun()
    gone, kept = kms.create_key(alias="gone").key_id, kms.create_key(alias="kept").key_id
    sealed = {
        key: bytes(pg_lab._keystore.unit(key).versions[0].sealed or b"") for key in (gone, kept)
    }
    with sql(url) as connection:
        connection.execute("ANALYZE")

    def holding() -> set[str]:
        postgres.execute("CHECKPOINT")
        files = [p.read_bytes() for p in (postgres.data / "base").rglob("*") if p.is_file()]
        return {key for key, text in sealed.items() if any(text in file for file in files)}

    assert holding() == {gone, kept}
    kms.schedule_key_deletion(gone, 7)
    manual_clock.advance(timedelta(days=7))
    with sql(url) as connection, connection.transaction():
        # Somebody looks at the database as it was.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT 1 FROM pg_class")
        assert pg_lab.key(gone).state is KeyState.PENDING_DELETION
        assert holding() == {gone, kept}
    manual_clock.advance(timedelta(seconds=2))
    assert pg_lab.key(gone).state is KeyState.DELETED
    assert holding() == {kept}


def test_an_erasure_leaves_a_connection_as_it_was(
    pg_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a pooler it is somebody else's next."""
    kept = pg_lab._keystore.database._connections.connect()  # type: ignore[attr-defined]
    with closing(kept), monkeypatch.context() as patch:
        patch.setattr(Connections, "connect", lambda _: kept)
        patch.setattr(kept, "close", lambda: None)
        settings = "SELECT name, setting FROM pg_settings ORDER BY name"
        before = kept.execute(settings).fetchall()
        assert pg_lab._keystore.erase_deleted_bytes()
        assert kept.execute(settings).fetchall() == before


@pytest.mark.postgresql
def test_an_erasure_waits_for_nobody(pg_lab: Lab, url: str) -> None:
    pg_lab.tencent().create_key("orders")
    with sql(url) as connection, connection.transaction():
        connection.execute("LOCK TABLE versions IN ACCESS SHARE MODE")
        assert not pg_lab._keystore.erase_deleted_bytes()
    assert pg_lab._keystore.erase_deleted_bytes()
