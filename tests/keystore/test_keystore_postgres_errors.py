"""A lab in PostgreSQL when somebody is killed, the server too, or refuses, or lacks something."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from keystore_labs import Program
from lab_stores import sql
from postgres_server import Server, programs, running

from kmslab import Lab, ManualClock
from kmslab.errors import (
    DatabaseUrlError,
    KmslabError,
    LabBusy,
    LabError,
    LabUncertain,
    LabUnreachable,
    TamperedLab,
)
from kmslab.keystore import postgres as postgres_lab
from kmslab.keystore import postgres_errors, root
from kmslab.keystore.audit import Flusher
from kmslab.keystore.postgres_connecting import Session
from kmslab.model import KeyState
from kmslab.secret import Secret

# A server that does not do as it is asked


def test_a_server_that_was_started_again_is_connected_to_again(
    pg_lab: Lab, postgres: Server
) -> None:
    key = pg_lab.tencent().create_key("orders").key_id
    postgres.restart()
    assert len(pg_lab.rotate(key).versions) == 2
    postgres.stop()
    try:
        for call in (pg_lab.keys, lambda: pg_lab.rotate(key)):
            with pytest.raises(LabUnreachable, match=r"does not answer.*try again"):
                call()
    finally:
        postgres.start()
    assert len(pg_lab.rotate(key).versions) == 3
    assert pg_lab.audit.verify().intact


def test_what_waits_is_written_on_closing_after_the_server_was_started_again(
    pg_lab: Lab, url: str, root_key: Path, postgres: Server
) -> None:
    """Closing begins no call that would find out: its change is the first to meet the server."""
    kms = pg_lab.tencent()
    key = kms.create_key("orders").key_id
    for _ in range(20):
        kms.encrypt(key, b"plain")
    postgres.restart()
    pg_lab.close()
    with Lab.open(url, root_key=root_key) as lab:
        assert lab.key(key).versions[0].encryptions == 20
        made = [entry for entry in lab.audit.entries() if entry.action == "Encrypt"]
        assert sum(entry.count for entry in made) == 20
        check = lab.audit.verify()
        assert (check.intact, check.open_ends) == (True, 0)


def test_a_single_connection_that_was_ended_costs_no_call(pg_lab: Lab, url: str) -> None:
    """As by a proxy that forgets those that are idle."""
    end_sessions(url)
    pg_lab.settings.set("balance", 7)
    end_sessions(url)
    assert pg_lab.audit.verify().intact


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers that say nothing are waited for a moment only."""
    monkeypatch.setattr(Session, "patience", 0.3)


@pytest.mark.parametrize("held", ["lab", "keys"])
def test_a_server_that_does_not_answer_is_not_waited_for_without_end(
    impatient: None, pg_lab: Lab, url: str, held: str
) -> None:
    """A lock on a table stands for a disk that hangs: nothing is lost, and nothing is said."""
    kms = pg_lab.tencent()
    key = kms.create_key("orders").key_id
    with sql(url) as holder, holder.transaction():
        holder.execute(f"LOCK TABLE {held} IN ACCESS EXCLUSIVE MODE".encode())
        with pytest.raises(LabUnreachable, match=r"no answer for 0\.3 s; try again"):
            pg_lab.rotate(key)
    assert len(pg_lab.rotate(key).versions) == 2


def test_threads_that_wait_for_a_server_that_is_gone_share_the_answer(
    pg_lab: Lab, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    asked: list[int] = []
    all_asked = threading.Event()

    def connect(**_: object) -> Session:
        assert all_asked.wait(60)  # and a little longer, until all of them wait
        tried.append(time.monotonic())
        time.sleep(0.2)
        raise psycopg.OperationalError("timeout")

    pg_lab.keys()
    postgres.restart()
    monkeypatch.setattr(Session, "connect", connect)
    failed: list[LabUnreachable] = []

    def call() -> None:
        asked.append(1)
        if len(asked) == 8:
            all_asked.set()
        with pytest.raises(LabUnreachable) as caught:
            pg_lab._keystore._ear.heard()  # type: ignore[union-attr]
        failed.append(caught.value)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert len(failed) == 8
    assert len(tried) <= 3


def test_a_connection_that_ends_within_a_change_changes_nothing(pg_lab: Lab, url: str) -> None:
    def interrupted() -> None:
        with pg_lab._keystore.change() as change:
            change.setting("balance", 7)
            end_sessions(url)

    with pytest.raises(LabUnreachable, match="try again"):
        interrupted()
    assert pg_lab.settings.all()["balance"] == 100


def test_a_commit_whose_outcome_is_unknown_is_not_reported_as_done(
    pg_lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        with pg_lab._keystore.change() as change:
            change.setting("balance", 7)
            monkeypatch.setattr(psycopg.Connection, "commit", answer_lost)

    with pytest.raises(LabUncertain, match="made or not"):
        interrupted()
    monkeypatch.undo()
    assert pg_lab.settings.all()["balance"] == 7


@pytest.mark.parametrize("audited_after", [True, False], ids=["audited after", "left"])
def test_an_unknown_outcome_is_told_though_what_follows_fails(
    pg_lab: Lab, url: str, root_key: Path, monkeypatch: pytest.MonkeyPatch, audited_after: bool
) -> None:
    """The server is gone when the failed call is audited, and when the lab is left: whoever was
    told of that, and to try again, would make the change twice."""
    key = pg_lab.tencent().create_key("orders").key_id

    def nobody_there(**_: object) -> Session:
        raise psycopg.OperationalError("connection refused")

    def last_answer_lost(connection: psycopg.Connection) -> None:
        read_only = connection.execute("SHOW transaction_read_only").fetchone()
        if read_only == ("on",):
            connection.execute("COMMIT")
            return
        monkeypatch.setattr(Session, "connect", nobody_there)
        answer_lost(connection)

    def interrupted() -> None:
        with Lab.open(url, root_key=root_key) as lab:
            monkeypatch.setattr(psycopg.Connection, "commit", last_answer_lost)
            if audited_after:
                lab.rotate(key)
            else:
                lab.settings.set("balance", 7)

    with pytest.raises(LabUncertain, match="look before you make it again") as raised:
        interrupted()
    monkeypatch.undo()
    failed = [note.partition(" failed too")[0] for note in raised.value.__notes__]
    assert failed == [*(["logging the call"] if audited_after else []), "leaving the lab"]
    made = len(pg_lab.key(key).versions), pg_lab.settings.all()["balance"]
    assert made == ((2, 100) if audited_after else (1, 7))
    assert pg_lab.audit.verify().intact


def answer_lost(connection: psycopg.Connection) -> None:
    """A commit that was made, and whose answer was on its way when the connection ended."""
    connection.execute("COMMIT")
    connection.pgconn.finish()
    raise psycopg.OperationalError("server closed the connection unexpectedly")


def interrupted(connection: psycopg.Connection) -> None:
    """A commit during which somebody has pressed Ctrl-C."""
    connection.execute("COMMIT")
    raise KeyboardInterrupt


def answer_late(connection: psycopg.Connection) -> None:
    """A commit that the server is still at when the connection ends: a slow disk, or a standby."""
    connection.pgconn.send_query(b"COMMIT")
    connection.pgconn.flush()
    time.sleep(0.1)
    connection.pgconn.finish()
    raise psycopg.OperationalError("server closed the connection unexpectedly")


def never_sent(connection: psycopg.Connection) -> None:
    """A commit that did not reach the server."""
    connection.pgconn.finish()
    raise psycopg.OperationalError("server closed the connection unexpectedly")


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_catalog.pg_sleep(0.5); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON lab DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION slow()
"""


@pytest.mark.parametrize("commit", [answer_lost, answer_late, never_sent])
def test_after_an_unknown_outcome_the_log_has_each_call_once(
    pg_lab: Lab, url: str, monkeypatch: pytest.MonkeyPatch, commit: Callable[..., None]
) -> None:
    """The next call sees which it was, once the server is done with it."""
    kms = pg_lab.tencent()
    blob = kms.encrypt(kms.create_key("orders").key_id, b"plain")
    pg_lab._keystore.flush()
    with sql(url) as connection:
        connection.execute(SLOW.encode())
    with monkeypatch.context() as patch:
        patch.setattr(Flusher, "wake", lambda _: None)
        patch.setattr(psycopg.Connection, "commit", commit)
        for _ in range(5):
            kms.decrypt(blob)
        with pytest.raises(LabUncertain):
            pg_lab.settings.set("balance", 7)
    seen = pg_lab.settings.all()["balance"]
    assert seen == (100 if commit is never_sent else 7)
    with sql(url) as connection:
        connection.execute("DROP TRIGGER slow ON lab")
    made = [entry for entry in pg_lab.audit.entries() if entry.action == "Decrypt"]
    assert sum(entry.count for entry in made) == 5
    assert pg_lab.audit.verify().intact
    assert pg_lab.settings.all()["balance"] == seen


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("commit", "kind"), [(answer_lost, LabUncertain), (interrupted, KeyboardInterrupt)]
)
def test_a_lab_that_may_have_been_made_keeps_its_root_key(
    url: str,
    root_key: Path,
    monkeypatch: pytest.MonkeyPatch,
    commit: Callable[[psycopg.Connection], None],
    kind: type[BaseException],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "commit", commit)
        with pytest.raises(kind):
            Lab.create(url, root_key=root_key)
    Lab.open(url, root_key=root_key).close()


def end_sessions(url: str, of: str = "kmslab") -> None:
    """End every session of a role in the lab's database but the one that says so."""
    with sql(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = %s",
            (of,),
        )


def test_a_lab_that_is_held_is_busy(
    pg_lab: Lab, url: str, root_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_lab, "BUSY_SECONDS", 0.05)
    key = pg_lab.tencent().create_key("orders").key_id
    pg_lab.close()
    with Lab.open(url, root_key=root_key) as lab, sql(url) as holder:
        with holder.transaction():
            holder.execute("SELECT * FROM lab FOR UPDATE")
            with pytest.raises(LabBusy, match="try again"):
                lab.rotate(key)
            assert len(lab.keys()) == 1  # reading goes on
        assert len(lab.rotate(key).versions) == 2


HOLD = """
import sys, time
from kmslab import Lab
lab = Lab.open(sys.argv[1], root_key=sys.argv[2])
with lab._keystore.change() as change:
    change.setting("balance", 7)
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_machine_that_is_gone_in_the_middle_of_a_change_is_not_waited_for_long(
    pg_lab: Lab, url: str
) -> None:
    """The server's side ends it; this process stands for one without power, or cut off."""
    key = pg_lab.tencent().create_key("orders").key_id
    with pg_lab._keystore.change() as change:
        execute = change.connection.exec_driver_sql
        assert execute("SHOW idle_in_transaction_session_timeout").scalar_one() == "1min"
        assert execute("SHOW tcp_keepalives_idle").scalar_one() == "20"
        assert execute("SHOW tcp_user_timeout").scalar_one() == "60000"
        pg_lab._keystore.database.unhurried(change.connection)
        assert execute("SHOW idle_in_transaction_session_timeout").scalar_one() == "15min"
    script = HOLD.replace("import Lab", "import Lab\nfrom kmslab.keystore import postgres", 1)
    script = script.replace("lab = ", "postgres.GONE_SECONDS = 1\nlab = ", 1)
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines, os.fdopen(writing, "wb") as output:
        program = Program(script, url, pg_lab.root_key, stdout=output, stderr=output)
        assert lines.readline() == "in\n"
        assert len(pg_lab.rotate(key).versions) == 2
        program.kill()
        program.wait()
    assert pg_lab.settings.all()["balance"] == 100


CHANGE = """
import sys
from kmslab import Lab
lab = Lab.open(sys.argv[1], root_key=sys.argv[2])
kms, key = lab.tencent(), sys.argv[3]
while True:
    kms.encrypt_many([b"plain"] * 3, key_id=key)
    print(lab.rotate(key).primary_version_id, flush=True)
"""


@pytest.mark.postgresql
def test_a_process_that_is_killed_holds_nobody_up(pg_lab: Lab, url: str, soak: bool) -> None:
    """Whatever it was in the middle of: what it acknowledged is there, the rest is whole or not."""
    key = pg_lab.tencent().create_key("orders").key_id
    said: list[str] = []
    chance = random.Random(1)
    for _ in range(50 if soak else 5):
        reading, writing = os.pipe()
        with os.fdopen(reading) as lines, os.fdopen(writing, "wb") as output:
            program = Program(CHANGE, url, pg_lab.root_key, key, stdout=output, stderr=output)
            said.append(lines.readline().strip())
            time.sleep(chance.random() * 0.1)
            program.kill()
            program.wait()
            output.close()
            said += [line.strip() for line in lines if line.endswith("\n")]
        assert len(pg_lab.rotate(key).versions) >= len(said)
    assert set(said) <= {version.version_id for version in pg_lab.key(key).versions}
    assert pg_lab.audit.verify().intact


@pytest.mark.postgresql
def test_a_server_that_crashes_loses_nothing_that_was_acknowledged(
    root_key: Path, soak: bool
) -> None:
    binaries = programs()
    assert binaries is not None
    acknowledged, in_doubt, stop = [], [], threading.Event()
    with (
        running(binaries, durable=True) as server,
        Lab.create(server.url(), root_key=root_key) as lab,
    ):
        key = lab.tencent().create_key("orders").key_id

        def work() -> None:
            with Lab.open(server.url(), root_key=root_key) as mine:
                while not stop.is_set():
                    try:
                        acknowledged.append(mine.rotate(key).primary_version_id)
                    except LabUncertain:
                        in_doubt.append(1)
                    except LabUnreachable:
                        time.sleep(0.01)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(20 if soak else 3):
            time.sleep(0.3)
            server.restart(signal.SIGQUIT)
        before = len(acknowledged)
        wait_for(lambda: len(acknowledged) > before + 3)
        stop.set()
        for thread in threads:
            thread.join()
        versions = {version.version_id for version in lab.key(key).versions}
        assert set(acknowledged) <= versions
        assert len(acknowledged) < len(versions) <= 1 + len(acknowledged) + len(in_doubt)
        assert lab.audit.verify().intact


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


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


@pytest.mark.postgresql
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


def test_a_schema_of_somebody_else_is_not_taken(url: str, role: str, root_key: Path) -> None:
    """Who owns it could remove the lab, or put something in the place of its tables."""
    schema = url.rpartition("=")[2]
    with sql(url) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        connection.execute(f"GRANT ALL ON SCHEMA {schema} TO {role}".encode())
    with pytest.raises(LabError, match=f'ALTER SCHEMA "{schema}" OWNER TO'):
        Lab.create(as_role(url, role), root_key=root_key)
    assert not root_key.exists()


@pytest.mark.postgresql
def test_a_role_that_may_write_and_not_rewrite_is_told(pg_lab: Lab, url: str, role: str) -> None:
    schema = url.rpartition("=")[2]
    with pytest.raises(LabError, match=r"has not the rights.*have it own the schema"):
        Lab.open(as_role(url, role), root_key=pg_lab.root_key)
    with sql(url) as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        rights = "SELECT, INSERT, UPDATE, DELETE"
        connection.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}")
    with Lab.open(as_role(url, role), root_key=pg_lab.root_key, clock=pg_lab.clock) as lab:
        lab.tencent().create_key("orders")
        with pytest.raises(LabError, match="may not rewrite the lab's tables"):
            lab._keystore.erase_deleted_bytes()


@pytest.mark.postgresql
def test_a_role_with_too_few_connections(pg_lab: Lab, url: str, role: str) -> None:
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    with pytest.raises(LabUnreachable, match="too many connections"):
        Lab.open(as_role(url, role), root_key=pg_lab.root_key)


@pytest.mark.postgresql
def test_a_wrong_password(
    pg_lab: Lab, url: str, role: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    hba = postgres.data / "pg_hba.conf"
    hba.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} PASSWORD 'sesame' SUPERUSER")
        connection.execute("SELECT pg_reload_conf()")
    mine = as_role(url, role)
    for given in (mine, mine.replace("@", ":saesame@")):
        with pytest.raises(LabError, match=r"PGPASSWORD or ~/\.pgpass") as caught:
            Lab.open(given, root_key=pg_lab.root_key)
        assert type(caught.value) is LabError  # trying again is of no use
        assert "does not answer" not in str(caught.value)
        assert "sesame" not in str(caught.value)
    Lab.open(mine.replace("@", ":sesame@"), root_key=pg_lab.root_key).close()
    monkeypatch.setenv("PGPASSWORD", "sesame")
    Lab.open(mine, root_key=pg_lab.root_key).close()


SESAME = "sesame"


def no_root_key_at_hand(url: str, place: Path, _: str) -> None:
    Lab.open(url, root_key=place / "none")


def another_root_key(url: str, place: Path, _: str) -> None:
    root.write_root_key(place / "other", Secret(bytes(32)))
    Lab.open(url, root_key=place / "other")


def a_passphrase(url: str, _: Path, __: str) -> None:
    Lab.open(url, passphrase="one")


def a_later_generation(url: str, place: Path, _: str) -> None:
    Lab.open(url, root_key=place / "root.key", expect_generation=10**6)


def made_twice(url: str, place: Path, _: str) -> None:
    Lab.create(url, root_key=place / "new")


def no_lab(url: str, place: Path, _: str) -> None:
    Lab.open(f"{url}x", root_key=place / "root.key")


def no_place_for_the_root_key(url: str, _: Path, __: str) -> None:
    Lab.open(url)


def no_database(url: str, place: Path, _: str) -> None:
    Lab.open(url.replace("/test_", "/text_"), root_key=place / "root.key")


def no_server(url: str, place: Path, port: str) -> None:
    Lab.open(url.replace(f":{port}/", ":1/"), root_key=place / "root.key")


def an_edited_row(url: str, place: Path, _: str) -> None:
    with sql(url) as connection:
        connection.execute("UPDATE lab SET unsafe = true")
    Lab.open(url, root_key=place / "root.key")


def a_newer_schema(url: str, place: Path, _: str) -> None:
    with sql(url) as connection:
        connection.execute("UPDATE lab SET schema_version = 99")
    Lab.open(url, root_key=place / "root.key")


def a_schema_of_no_name(url: str, place: Path, _: str) -> None:
    Lab.create(f"{url}A", root_key=place / "new")


def two_schemas(url: str, place: Path, _: str) -> None:
    Lab.create(f"{url}&schema=b", root_key=place / "new")


def two_passwords(url: str, place: Path, _: str) -> None:
    Lab.create(f"{url}&password={SESAME}2", root_key=place / "new")


def a_secret_option(url: str, place: Path, _: str) -> None:
    Lab.create(f"{url}&sslpassword={SESAME}", root_key=place / "new")


def an_option_that_is_none(url: str, place: Path, _: str) -> None:
    Lab.create(f"{url}&connect_timeout=soon", root_key=place / "new")


@pytest.mark.parametrize(
    "call",
    [
        no_root_key_at_hand,
        another_root_key,
        a_passphrase,
        a_later_generation,
        made_twice,
        no_lab,
        no_place_for_the_root_key,
        no_database,
        no_server,
        an_edited_row,
        a_newer_schema,
        a_schema_of_no_name,
        two_schemas,
        two_passwords,
        a_secret_option,
        an_option_that_is_none,
    ],
)
def test_no_error_of_making_or_opening_shows_the_password(
    url: str,
    root_key: Path,
    postgres: Server,
    call: Callable[[str, Path, str], None],
) -> None:
    Lab.create(url, root_key=root_key).close()
    with pytest.raises(KmslabError) as caught:
        call(url.replace("kmslab@", f"kmslab:{SESAME}@"), root_key.parent, str(postgres.port))
    assert SESAME not in "".join(traceback.format_exception(caught.value))


def test_a_database_or_a_server_that_is_not_there(url: str, root_key: Path) -> None:
    with pytest.raises(LabError, match=r"let us in.*does not exist.*administrator") as caught:
        Lab.open(url.replace("/test_", "/text_"), root_key=root_key)
    assert type(caught.value) is LabError
    with pytest.raises(LabUnreachable, match="try again"):
        Lab.open("postgresql://kmslab@127.0.0.1:1/kmslab", root_key=root_key)


@pytest.mark.postgresql
def test_a_database_that_keeps_no_utf_8(postgres: Server, root_key: Path) -> None:
    postgres.execute("CREATE DATABASE plain ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(LabError, match="in SQL_ASCII, and a lab needs UTF8"):
        Lab.create(postgres.url("plain"), root_key=root_key)
    postgres.execute("DROP DATABASE plain")
    assert not root_key.exists()


@pytest.mark.postgresql
def test_a_database_that_is_read_only(pg_lab: Lab, url: str, role: str) -> None:
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} SUPERUSER")
        connection.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    with pytest.raises(LabError, match=r"read-only.*not a replica"):
        Lab.open(as_role(url, role), root_key=pg_lab.root_key)


def test_an_open_lab_takes_no_server_that_only_reads_for_its_own(
    pg_lab: Lab, url: str, role: str
) -> None:
    """A standby is behind, and would have a call go on under an older version."""
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} SUPERUSER".encode())
        with Lab.open(as_role(url, role), root_key=pg_lab.root_key) as lab:
            read_only = f"ALTER ROLE {role} SET default_transaction_read_only"
            connection.execute(f"{read_only} = on".encode())
            end_sessions(url, of=role)
            with pytest.raises(LabUnreachable, match="not a replica"):
                lab.keys()
            connection.execute(f"{read_only} = off".encode())
            assert lab.keys() == ()


@pytest.mark.parametrize("wanted", ["any", "read-only", "standby", "prefer-standby"])
def test_a_url_that_asks_for_a_server_that_only_reads(wanted: str, root_key: Path) -> None:
    with pytest.raises(DatabaseUrlError, match="is read-write or primary"):
        Lab.open(f"postgresql://h/d?target_session_attrs={wanted}", root_key=root_key)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("default", "used"), [("off", "on"), ("remote_write", "on"), ("remote_apply", "remote_apply")]
)
def test_a_commit_is_durable_whatever_the_default_is(
    pg_lab: Lab, url: str, role: str, default: str, used: str
) -> None:
    with sql(url) as connection:
        connection.execute(f"ALTER ROLE {role} SUPERUSER")
        connection.execute(f"ALTER ROLE {role} SET synchronous_commit = {default}".encode())
    with (
        Lab.open(as_role(url, role), root_key=pg_lab.root_key) as lab,
        lab._keystore.change() as change,
    ):
        setting = change.connection.exec_driver_sql("SHOW synchronous_commit")
        assert setting.scalar_one() == used


def test_a_text_that_postgresql_cannot_keep_is_refused(pg_lab: Lab) -> None:
    with pytest.raises(LabError, match=r"cannot store this.*nothing was changed"):
        pg_lab.tencent().create_key("orders", description="a\0b")
    assert pg_lab.keys() == ()


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
        ("25P03", LabUnreachable, "try again"),
        ("08006", LabUnreachable, "try again"),
        ("57014", LabError, "statement_timeout"),
        ("26000", LabError, "forgets prepared statements"),
        ("42P05", LabError, "forgets prepared statements"),
        ("0A000", LabError, "0A000"),
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


@pytest.mark.parametrize(
    ("said", "kind", "match"),
    [
        ('FATAL:  password authentication failed for user "a"', LabError, "PGPASSWORD"),
        ("fe_sendauth: no password supplied", LabError, "PGPASSWORD"),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "a"', LabError, "allow this machine"),
        ('FATAL:  pg_hba.conf rejects connection for host "::1"', LabError, "allow this machine"),
        ('FATAL:  role "a" does not exist', LabError, "made by"),
        ('FATAL:  database "a" does not exist', LabError, "made by"),
        ('FATAL:  role "a" is not permitted to log in', LabError, "made by"),
        ('FATAL:  permission denied for database "a"', LabError, "GRANT CONNECT"),
        ('FATAL:  too many connections for role "password_svc"', LabUnreachable, "end some"),
        ('FATAL:  too many connections for database "does not exist"', LabUnreachable, "end some"),
        ("FATAL:  sorry, too many clients already", LabUnreachable, "end some"),
        ("session is read-only", LabUnreachable, "not a replica"),
        (
            'on socket "/tmp/password authentication failed/.s.PGSQL.1" failed: No such file',
            LabUnreachable,
            "No such file.*; try again",
        ),
        ("failed to resolve host 'standby.example': unknown", LabUnreachable, "; try again"),
        ('root certificate file "/r.crt" does not exist', LabUnreachable, "; try again"),
    ],
)
def test_who_is_not_let_in_is_told_why_whatever_the_names_are(
    said: str, kind: type[LabError], match: str
) -> None:
    with pytest.raises(LabError, match=match) as caught, postgres_errors.lab_errors("here"):
        raise psycopg.OperationalError(f"connection failed: {said}")
    assert type(caught.value) is kind
    assert said in str(caught.value)
