"""A lab in PostgreSQL: what is there only with a server. The other tests of the keystore run on
PostgreSQL too, by `make test-postgres`."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import psycopg
import pytest
from keystore_kinds import CHEAP
from keystore_labs import python
from postgres_server import Server

from kmslab import Lab, ManualClock
from kmslab.crypto import Argon2Parameters
from kmslab.errors import (
    DatabaseUrlError,
    LabBusy,
    LabError,
    LabExists,
    LabNotFound,
    LabUncertain,
    LabUnreachable,
    RootKeyError,
    SettingError,
    TamperedLab,
)
from kmslab.keystore import postgres as postgres_lab
from kmslab.keystore import postgres_errors, root
from kmslab.model import KeyState


@pytest.fixture(scope="module")
def shared(postgres: Server) -> Iterator[str]:
    """One database for the labs of this module."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return count()


@pytest.fixture
def url(shared: str, numbers: Iterator[int]) -> str:
    """A place for a lab."""
    return f"{shared}?schema=lab_{next(numbers)}"


@pytest.fixture
def root_key(tmp_path: Path) -> Path:
    return tmp_path / "root.key"


@pytest.fixture
def made(url: str, root_key: Path, manual_clock: ManualClock) -> Iterator[Lab]:
    """A lab in PostgreSQL, on the manual clock."""
    with Lab.create(url, root_key=root_key, clock=manual_clock) as lab:
        yield lab


@contextmanager
def sql(url: str) -> Iterator[psycopg.Connection]:
    """The lab's database, by somebody who is not kmslab."""
    plain, _, schema = url.partition("?schema=")
    options = f"-c search_path={schema or 'kmslab'}"
    with closing(psycopg.connect(plain, options=options, autocommit=True)) as connection:
        yield connection


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


def test_a_rotation_is_seen_by_the_next_call_of_another_process(made: Lab, url: str) -> None:
    key = made.tencent().create_key("orders").key_id
    done = python(ROTATE, url, made.root_key, key)
    assert made.key(key).primary_version_id == done.stdout.strip(), done.stderr


def test_writers_at_once_lose_nothing(made: Lab, url: str) -> None:
    """Each counts, rotates and audits over what the others have written."""
    key = made.tencent().create_key("orders").key_id

    def work() -> None:
        with Lab.open(url, root_key=made.root_key, clock=made.clock) as lab:
            for _ in range(5):
                lab.rotate(key)
                for _ in range(5):
                    lab.tencent().encrypt(key, b"plain")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = made.key(key).versions
    assert len(versions) == 21
    assert sum(version.encryptions for version in versions) == 100
    check = made.audit.verify()
    assert (check.intact, check.open_ends) == (True, 0)


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(made: Lab) -> None:
    kms = made.tencent()
    key = kms.create_key("orders").key_id
    child = os.fork()
    if child == 0:
        code = 1
        try:
            made.rotate(key)
            made.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(made.key(key).versions) == 2
    assert len(made.rotate(key).versions) == 3
    assert made.audit.verify().intact


def test_a_key_file_that_another_machine_has_replaced(made: Lab, url: str, tmp_path: Path) -> None:
    """Each machine has a root key file of its own; a rekey on one waits for the others' files."""
    mine = tmp_path / "here"
    mine.write_bytes(made.root_key.read_bytes())
    mine.chmod(0o600)
    with Lab.open(url, root_key=mine) as here:
        key = here.tencent().create_key("orders").key_id
        made.rekey()
        with pytest.raises(RootKeyError, match="put the file that it has now in this place"):
            here.keys()
        mine.write_bytes(made.root_key.read_bytes())
        assert len(here.rotate(key).versions) == 2


# What the rows may not be


@pytest.mark.parametrize(
    "statement",
    [
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
    ],
)
def test_what_was_changed_by_something_else_is_refused(made: Lab, url: str, statement: str) -> None:
    key = made.tencent().create_key("orders").key_id
    made.rotate(key)
    made.tencent().encrypt(key, b"plain")
    made.credentials.create("app", rights=["Encrypt"])
    made.close()
    with sql(url) as connection:
        assert connection.execute(statement).rowcount != 0
    with pytest.raises(TamperedLab):
        Lab.open(url, root_key=made.root_key)


def test_an_older_state_that_was_put_back_is_seen_while_the_lab_is_open(
    made: Lab, url: str
) -> None:
    with sql(url) as connection:
        connection.execute("CREATE TEMPORARY TABLE old AS SELECT * FROM lab")
        made.settings.set("balance", 7)
        connection.execute("DELETE FROM lab")
        connection.execute("INSERT INTO lab SELECT * FROM old")
        with pytest.raises(TamperedLab, match="went back"):
            made.settings.all()


def test_tables_of_somebody_else_are_not_taken_for_the_labs(
    made: Lab, url: str, shared: str
) -> None:
    """Neither of another schema nor temporary ones."""
    with sql(url) as connection:
        connection.execute("ALTER TABLE keys RENAME TO hidden")
        connection.execute("CREATE TABLE public.keys AS SELECT * FROM hidden")
        try:
            with pytest.raises(LabError):
                Lab.open(url, root_key=made.root_key)
        finally:
            connection.execute("DROP TABLE public.keys")


# What is erased


def test_no_statistics_are_kept_of_what_is_sealed(made: Lab, url: str) -> None:
    for number in range(5):
        made.tencent().create_key(f"key-{number}")
        made.credentials.create(f"app-{number}")
    with sql(url) as connection:
        connection.execute("ANALYZE")
        found = connection.execute(
            "SELECT tablename, attname FROM pg_stats WHERE schemaname = current_schema()"
        ).fetchall()
    assert ("versions", "version_id") in found
    assert not {("versions", "sealed"), ("credentials", "sealed")} & set(found)


def test_deleted_material_is_in_no_file_of_the_database(
    made: Lab, url: str, manual_clock: ManualClock, postgres: Server
) -> None:
    kms = made.ctyun()
    gone, kept = kms.create_key(alias="gone").key_id, kms.create_key(alias="kept").key_id
    sealed = {
        key: bytes(made._keystore.unit(key).versions[0].sealed or b"") for key in (gone, kept)
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
        assert made.key(gone).state is KeyState.PENDING_DELETION
        assert holding() == {gone, kept}
    manual_clock.advance(timedelta(seconds=2))
    assert made.key(gone).state is KeyState.DELETED
    assert holding() == {kept}


def test_an_erasure_waits_for_nobody(made: Lab, url: str) -> None:
    made.tencent().create_key("orders")
    with sql(url) as connection, connection.transaction():
        connection.execute("LOCK TABLE versions IN ACCESS SHARE MODE")
        assert not made._keystore.erase_deleted_bytes()
    assert made._keystore.erase_deleted_bytes()


# A server that does not do as it is asked


def test_a_server_that_was_started_again_is_connected_to_again(made: Lab, postgres: Server) -> None:
    key = made.tencent().create_key("orders").key_id
    postgres.restart()
    assert len(made.rotate(key).versions) == 2
    postgres.stop()
    try:
        for call in (made.keys, lambda: made.rotate(key)):
            with pytest.raises(LabUnreachable, match=r"does not answer.*try again"):
                call()
    finally:
        postgres.start()
    assert len(made.rotate(key).versions) == 3
    assert made.audit.verify().intact


def test_a_connection_that_ends_within_a_change_changes_nothing(made: Lab, url: str) -> None:
    def interrupted() -> None:
        with made._keystore.change() as change:
            change.setting("balance", 7)
            end_sessions(url)

    with pytest.raises(LabUnreachable, match="try again"):
        interrupted()
    assert made.settings.all()["balance"] == 100


def test_a_commit_whose_outcome_is_unknown_is_not_reported_as_done(
    made: Lab, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        with made._keystore.change() as change:
            change.setting("balance", 7)
            monkeypatch.setattr(psycopg.Connection, "commit", answer_lost)

    with pytest.raises(LabUncertain, match="made or not"):
        interrupted()
    monkeypatch.undo()
    assert made.settings.all()["balance"] == 7


def answer_lost(connection: psycopg.Connection) -> None:
    """A commit that was made, and whose answer was on its way when the connection ended."""
    connection.execute("COMMIT")
    connection.pgconn.finish()
    raise psycopg.OperationalError("server closed the connection unexpectedly")


def test_a_lab_that_may_have_been_made_keeps_its_root_key(
    url: str, root_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "commit", answer_lost)
        with pytest.raises(LabUncertain):
            Lab.create(url, root_key=root_key)
    Lab.open(url, root_key=root_key).close()


def end_sessions(url: str) -> None:
    """End every session in the lab's database but the one that says so."""
    with sql(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_lab_that_is_held_is_busy(
    made: Lab, url: str, root_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_lab, "BUSY_SECONDS", 0.05)
    key = made.tencent().create_key("orders").key_id
    made.close()
    with Lab.open(url, root_key=root_key) as lab, sql(url) as holder:
        with holder.transaction():
            holder.execute("SELECT * FROM lab FOR UPDATE")
            with pytest.raises(LabBusy, match="try again"):
                lab.rotate(key)
            assert len(lab.keys()) == 1  # reading goes on
        assert len(lab.rotate(key).versions) == 2


# Rights, and databases that cannot keep a lab


@pytest.fixture
def role(shared: str, numbers: Iterator[int]) -> Iterator[str]:
    """A role without any rights."""
    name = f"role_{next(numbers)}"
    with sql(shared) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        connection.execute(f"DROP OWNED BY {name} CASCADE")
        connection.execute(f"DROP ROLE {name}")


def as_role(url: str, role: str) -> str:
    return url.replace("kmslab@", f"{role}@")


def test_a_role_needs_a_schema_of_its_own_and_nothing_else(
    url: str, role: str, root_key: Path, manual_clock: ManualClock
) -> None:
    mine, schema = as_role(url, role), url.rpartition("=")[2]
    with pytest.raises(LabError, match=f'CREATE SCHEMA "{schema}" AUTHORIZATION'):
        Lab.create(mine, root_key=root_key)
    assert not root_key.exists()
    with sql(url) as connection:
        connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    with Lab.create(mine, root_key=root_key, clock=manual_clock) as lab:
        gone = lab.ctyun().create_key().key_id
        lab.ctyun().schedule_key_deletion(gone, 7)
        manual_clock.advance(timedelta(days=7))
        assert lab.key(gone).state is KeyState.DELETED
        lab.rekey()
        assert lab.audit.verify().intact


def test_a_role_that_may_write_and_not_rewrite_is_told(made: Lab, url: str, role: str) -> None:
    schema = url.rpartition("=")[2]
    with pytest.raises(LabError, match=r"has not the rights.*have it own the schema"):
        Lab.open(as_role(url, role), root_key=made.root_key)
    with sql(url) as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        rights = "SELECT, INSERT, UPDATE, DELETE"
        connection.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}")
    with Lab.open(as_role(url, role), root_key=made.root_key, clock=made.clock) as lab:
        lab.tencent().create_key("orders")
        with pytest.raises(LabError, match="may not rewrite the lab's tables"):
            lab._keystore.erase_deleted_bytes()


def test_a_role_with_too_few_connections(made: Lab, url: str, role: str) -> None:
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    with pytest.raises(LabUnreachable, match="too many connections"):
        Lab.open(as_role(url, role), root_key=made.root_key)


def test_a_wrong_password(
    made: Lab, url: str, role: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hba = postgres.data / "pg_hba.conf"
    hba.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} PASSWORD 'sesame' SUPERUSER")
        connection.execute("SELECT pg_reload_conf()")
    mine = as_role(url, role)
    for given in (mine, mine.replace("@", ":saesame@")):
        with pytest.raises(LabUnreachable, match=r"PGPASSWORD or ~/\.pgpass") as caught:
            Lab.open(given, root_key=made.root_key)
        assert "sesame" not in str(caught.value)
    Lab.open(mine.replace("@", ":sesame@"), root_key=made.root_key).close()
    monkeypatch.setenv("PGPASSWORD", "sesame")
    Lab.open(mine, root_key=made.root_key).close()


def test_a_database_or_a_server_that_is_not_there(url: str, root_key: Path) -> None:
    with pytest.raises(LabUnreachable, match="does not exist"):
        Lab.open(url.replace("/test_", "/text_"), root_key=root_key)
    with pytest.raises(LabUnreachable, match="try again"):
        Lab.open("postgresql://kmslab@127.0.0.1:1/kmslab", root_key=root_key)


def test_a_database_that_keeps_no_utf_8(postgres: Server, root_key: Path) -> None:
    postgres.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(LabError, match="in SQL_ASCII, and a lab needs UTF8"):
        Lab.create(postgres.url("plain"), root_key=root_key)
    postgres.execute("DROP DATABASE plain")
    assert not root_key.exists()


def test_a_database_that_is_read_only(made: Lab, url: str, role: str) -> None:
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} SUPERUSER")
        connection.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    with pytest.raises(LabError, match=r"read-only.*not a replica"):
        Lab.open(as_role(url, role), root_key=made.root_key)


def test_a_commit_is_durable_whatever_the_default_is(made: Lab, url: str, role: str) -> None:
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} SUPERUSER")
        connection.execute(f"ALTER ROLE {role} SET synchronous_commit = off")
    with (
        Lab.open(as_role(url, role), root_key=made.root_key) as lab,
        lab._keystore.change() as change,
    ):
        setting = change.connection.exec_driver_sql("SHOW synchronous_commit")
        assert setting.scalar_one() == "on"


def test_a_text_that_postgresql_cannot_keep_is_refused(made: Lab) -> None:
    with pytest.raises(LabError, match=r"cannot store this.*nothing was changed"):
        made.tencent().create_key("orders", description="a\0b")
    assert made.keys() == ()


@pytest.mark.parametrize(
    ("state", "kind", "match"),
    [
        ("55P03", LabBusy, "try again"),
        ("40001", LabBusy, "try again"),
        ("40P01", LabBusy, "try again"),
        ("53100", LabError, "disk is full; nothing was changed"),
        ("53300", LabUnreachable, "try again"),
        ("25006", LabError, "not a replica"),
        ("42501", LabError, "own the schema"),
        ("42P01", TamperedLab, "damaged"),
        ("57P01", LabUnreachable, "try again"),
        ("57P03", LabUnreachable, "try again"),
        ("08006", LabUnreachable, "try again"),
        ("57014", LabError, "57014"),
        ("22001", LabError, "cannot store this"),
        ("23505", TamperedLab, "damaged"),
        ("42703", TamperedLab, "damaged"),
        ("XX001", TamperedLab, "damaged"),
        (None, LabUnreachable, "try again"),
    ],
)
def test_each_sqlstate_has_its_error(state: str | None, kind: type[LabError], match: str) -> None:
    error = psycopg.OperationalError("said\nwith details")
    error.sqlstate = state
    with pytest.raises(LabError, match=match) as caught, postgres_errors.lab_errors("here"):
        raise error
    assert type(caught.value) is kind
    assert "details" not in str(caught.value)
