"""Rates that several processes share: never more than the limit in a second, and nearly all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmslab import Lab, ManualClock, Record, leases
from kmslab.analysis import STAY
from kmslab.analysis.classify import Classifier
from kmslab.campaign.pacing import Pace
from kmslab.campaign.sending import Sender, Verify
from kmslab.clock import SystemClock
from kmslab.errors import DatabaseUrlError, LabBusy, LabError, LabNotFound, StateError
from kmslab.leases import FileWindow, Leases, taken
from kmslab.providers.fields import Fields
from kmslab.providers.remote import Access, Endpoint, Line, Reply
from kmslab.rate import CallWindow
from kmslab.secret import Secret

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def root_key(tmp_path: Path) -> Path:
    return tmp_path / "root.key"


@pytest.fixture
def lab_url(postgres_url: str, root_key: Path) -> str:
    """A lab in PostgreSQL."""
    Lab.create(postgres_url, root_key=root_key).close()
    return postgres_url


def most_in_a_window(calls: Sequence[tuple[float, int]], window: float) -> int:
    """The most calls in any window of so many seconds."""
    return max(
        sum(count for at, count in calls if start <= at < start + window - 1e-6)
        for start, _ in calls
    )


@given(
    st.sampled_from([1, 2, 7, 100, 0.5, 2.5]),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 30), st.floats(0, 0.7)), min_size=1, max_size=60
    ),
)
def test_several_have_what_one_would_have(rate: float, asked: list[tuple[int, int, float]]) -> None:
    """Whoever takes, the answers are those of one window, but for a thousandth of it."""
    clock = ManualClock(START)
    folder = Path(tempfile.mkdtemp())
    try:
        windows = [Leases(str(folder)).window("x", rate, clock=clock) for _ in range(4)]
        one = CallWindow(rate, clock=clock)
        made: list[tuple[float, int]] = []
        grain = one.calls / rate / 1000
        for who, count, step in asked:
            count = min(count, one.calls)
            seconds = windows[who].take(count)
            if not seconds:
                made.append((clock.monotonic(), count))
                assert one.take(count) <= grain + 1e-6
            assert 0 <= seconds <= one.calls / rate + 1e-6
            clock.sleep(step)
        if made:
            assert most_in_a_window(made, one.calls / rate) <= one.calls
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("rate", [10, 100, 1_000, 997, 2.5])
def test_the_whole_rate_is_used(rate: float, tmp_path: Path) -> None:
    clock = ManualClock(START)
    paces = [Pace(rate, clock, windows=Leases(str(tmp_path)), name="x") for _ in range(3)]
    calls, number = 0, 0
    while calls < 10 * rate:
        pace = paces[number % 3]
        assert pace.wait(pace.most)
        calls += pace.most
        number += 1
    passed = (clock.now() - START).total_seconds()
    assert calls <= rate * (passed + 1)
    assert calls >= 0.99 * rate * passed


def test_names_and_scopes_are_apart(tmp_path: Path) -> None:
    clock = ManualClock(START)
    leases = Leases(str(tmp_path))
    for each in (leases, leases.within("a"), leases.within("b")):
        for name in ("tencent", "ctyun"):
            assert each.window(name, 1, clock=clock).take() == 0.0
            assert each.window(name, 1, clock=clock).take() == 1.0


def test_each_keeps_its_own_rate(tmp_path: Path) -> None:
    """Whoever has the lower one waits for it, whatever others have."""
    clock = ManualClock(START)
    slow, quick = (Leases(str(tmp_path)).window("x", rate, clock=clock) for rate in (0.5, 4))
    assert slow.take() == 0.0
    assert [quick.take() for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]
    clock.sleep(1)
    assert quick.take() == 0.0
    assert slow.take() == 2.0


def test_more_than_all_at_once_is_a_mistake(tmp_path: Path) -> None:
    window = Leases(str(tmp_path)).window("x", 2, clock=ManualClock(START))
    with pytest.raises(ValueError, match="3 calls at once, of at most 2"):
        window.take(3)
    with pytest.raises(ValueError, match="more than 0"):
        Leases(str(tmp_path)).window("x", 0, clock=ManualClock(START))


def files(folder: Path) -> list[Path]:
    return list((folder / "leases").iterdir())


@pytest.mark.parametrize("spoil", ["cut", "flipped", "alien", "empty"])
def test_a_file_that_is_none_is_a_full_window(tmp_path: Path, spoil: str) -> None:
    clock = ManualClock(START)
    window = Leases(str(tmp_path)).window("x", 10, clock=clock)
    assert window.take(3) == 0.0
    (path,) = files(tmp_path)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-7],
            "flipped": data[:9] + bytes([data[9] ^ 1]) + data[10:],
            "alien": b"{}\n" * 2000,
            "empty": b"",
        }[spoil]
    )
    assert window.take(10) == (0.0 if spoil == "empty" else 1.0)
    clock.sleep(1)
    assert window.take(10) == 0.0


def test_a_machine_that_has_started_again(tmp_path: Path) -> None:
    """Its clock begins anew: what was written before counts from now on, and no longer."""
    later, now = ManualClock(datetime(2027, 1, 1, tzinfo=UTC)), ManualClock(START)
    assert Leases(str(tmp_path)).window("x", 2, clock=later).take(2) == 0.0
    window = Leases(str(tmp_path)).window("x", 2, clock=now)
    assert window.take() == 1.0
    now.sleep(0.4)
    assert window.take() == 0.6
    now.sleep(0.6)
    assert window.take(2) == 0.0
    assert taken(b"", 0.0, 2, 2, 1.0)[0] == 0.0


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    Leases(str(tmp_path)).window("x", 2, clock=SystemClock()).take()
    (path,) = files(tmp_path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.unlink()
    path.symlink_to(tmp_path / "other")
    with pytest.raises(StateError, match="cannot be used"):
        Leases(str(tmp_path)).window("x", 2, clock=SystemClock()).take()
    assert not (tmp_path / "other").exists()


def test_leases_are_a_text_and_hold_no_password() -> None:
    leases = Leases.of("postgresql://app:hunter2@db.example/lab?schema=team", "campaign")
    assert leases.location == "postgresql://app@db.example/lab?schema=team"
    assert "hunter2" not in repr(leases) + repr(leases.within("x"))
    sent = pickle.dumps(leases)
    assert b"hunter2" not in sent
    assert pickle.loads(sent) == leases
    with pytest.raises(DatabaseUrlError, match="no lab can be in sqlite"):
        Leases.of("sqlite:///x.db")


def test_senders_share_the_rate_of_a_lab(memory_lab: Lab, tmp_path: Path) -> None:
    key = memory_lab.ctyun().create_key(alias="orders")
    blobs = [memory_lab.ctyun().encrypt(key.key_id, b"%d" % n) for n in range(40)]
    memory_lab.rotate(key.key_id)
    records = [Record(str(n), "ctyun", blob) for n, blob in enumerate(blobs)]
    verdicts = Classifier(memory_lab).classify_many(records)
    clock = ManualClock(START)
    for half in (slice(20), slice(20, 40)):
        sender = Sender(
            memory_lab,
            STAY,
            verify=Verify.ANSWER,
            rates={"ctyun": 10.0},
            clock=clock,
            jitter=lambda: 0.0,
            windows=Leases(str(tmp_path)),
        )
        answers = sender.send(records[half], verdicts[half])
        assert all(answer is not None and answer.re_encrypted for answer in answers)
    assert (clock.now() - START).total_seconds() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize("other", [False, True], ids=["same", "other"])
def test_remotes_of_one_caller_share_their_rate(tmp_path: Path, other: bool) -> None:
    clock = ManualClock(START)

    class Answers:
        def send(self, action: str, request: object) -> Reply:
            return Reply({})

        def close(self) -> None:
            pass

    def line(caller: str) -> Line:
        place = Endpoint.parse("kms.example")
        access = Access("ctyun", "r1", place, caller, Secret(b"s"), rate=10)
        return Line(Answers(), access, clock, lambda _: Fields({}), Leases(str(tmp_path)))

    for each in (line("AKID-1"), line("AKID-2" if other else "AKID-1")):
        for _ in range(20):
            each.send("ReEncrypt", {})
    # Twenty more calls at ten a second, unless they are another caller's, who waits for nobody.
    waited = (clock.now() - START).total_seconds()
    assert waited == pytest.approx(2.0 if other else 3.0, abs=0.01)
    assert not any(b"AKID" in str(path).encode() for path in files(tmp_path))


# In several processes, as time passes


def call(leases: Leases, rate: int, most: int, until: float) -> list[tuple[float, float, int]]:
    """Call as often as may be, until it is time; the moments between which each call was."""
    window, made = leases.window("x", rate, clock=SystemClock()), []
    while (before := time.monotonic()) < until:
        if wait := window.take(most):
            time.sleep(wait)
        else:
            made.append((before, time.monotonic(), most))
    return made


def called(
    leases: Leases, rate: int, most: int, seconds: float, folder: Path
) -> list[tuple[float, float, int]]:
    """What three processes call together."""
    until = time.monotonic() + seconds
    children = []
    for number in range(3):
        child = os.fork()
        if child == 0:
            made = call(leases, rate, most, until)
            (folder / f"made{number}").write_text(json.dumps(made))
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    found = [json.loads((folder / f"made{number}").read_text()) for number in range(3)]
    return sorted(tuple(each) for made in found for each in made)


@pytest.mark.scale
@pytest.mark.parametrize("where", ["file", "table"])
def test_processes_share_a_rate(
    where: str, tmp_path: Path, request: pytest.FixtureRequest, soak: bool
) -> None:
    location = str(tmp_path) if where == "file" else request.getfixturevalue("lab_url")
    seconds, rate = (10.0, 500) if soak else (1.2, 100)
    made = called(Leases(location), rate, 5, seconds, tmp_path)
    for start, _, _ in made:
        surely = sum(
            count for before, after, count in made if before >= start and after < start + 1
        )
        assert surely <= rate
    # A busy machine may wake everybody late; what it costs is seen with a manual clock.
    assert sum(count for _, _, count in made) >= (0.9 * rate * seconds if soak else rate)


# In a database


def test_a_table_is_made_once_and_kept(lab_url: str, root_key: Path) -> None:
    clock = SystemClock()
    one, other = (Leases(lab_url).window("x", 2, clock=clock) for _ in range(2))
    assert one.take(2) == 0.0
    assert 0 < other.take() <= 1
    with psycopg.connect(lab_url) as database:
        assert database.execute("SELECT name FROM kmslab.leases").fetchall() == [("/x",)]
    Lab.open(lab_url, root_key=root_key).close()


def test_a_server_that_is_gone_for_a_while(lab_url: str) -> None:
    window = Leases(lab_url).window("x", 100, clock=SystemClock())
    assert window.take() == 0.0
    with psycopg.connect(lab_url) as database:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(LabError):
        window.take()
    assert window.take() == 0.0
    gone = Leases("postgresql://app@127.0.0.1:1/lab").window("x", 1, clock=SystemClock())
    with pytest.raises(LabError, match=r"postgresql://app@127\.0\.0\.1:1/lab: "):
        gone.take()


def test_a_forked_child_has_a_connection_of_its_own(lab_url: str) -> None:
    window = Leases(lab_url).window("x", 3, clock=SystemClock())
    assert window.take() == 0.0
    child = os.fork()
    if child == 0:
        os._exit(0 if window.take() == 0.0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert window.take() == 0.0
    assert window.take() > 0


def test_nothing_of_somebody_else_is_run(lab_url: str) -> None:
    """Whoever may make an operator in the schema `public` has none of the rights of the lab."""
    with psycopg.connect(lab_url) as database:
        database.execute("CREATE TABLE public.ran (who text)")
        for kind in ("varchar", "text"):
            database.execute(
                f"CREATE FUNCTION public.same(a {kind}, b {kind}) RETURNS bool LANGUAGE plpgsql AS"
                " $$ BEGIN INSERT INTO public.ran VALUES (current_user);"
                " RETURN a::name OPERATOR(pg_catalog.=) b::name; END $$"
            )
            database.execute(
                f"CREATE OPERATOR public.= (LEFTARG={kind}, RIGHTARG={kind}, FUNCTION=public.same)"
            )
    window = Leases(lab_url).window("x", 1, clock=SystemClock())
    assert window.take() == 0.0
    assert window.take() > 0
    with psycopg.connect(lab_url) as database:
        assert database.execute("SELECT who FROM public.ran").fetchall() == []


@pytest.mark.parametrize("begun", [False, True], ids=["to make the table", "to take"])
def test_a_wait_is_bounded_and_told(
    lab_url: str, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_BEGIN", leases._BEGIN.replace("'10s'", "'100ms'", 1))
    window = Leases(lab_url).window("x", 100, clock=SystemClock())
    if begun:
        window.take()
    with psycopg.connect(lab_url) as database:
        database.execute(f"SELECT 1 FROM kmslab.{'leases' if begun else 'lab'} FOR UPDATE")
        with pytest.raises(LabBusy, match="held the rate that is shared here for over 10 s"):
            window.take()
    assert window.take() == 0.0


def test_whoever_stands_still_holds_nobody_up(
    lab_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, last, after = leases._BEGIN.partition("'5s'")
    assert last
    stopped, other = (Leases(lab_url).window("x", 100, clock=SystemClock()) for _ in range(2))
    assert other.take() == 0.0
    monkeypatch.setattr(leases, "_BEGIN", f"{before}'100ms'{after}")
    real, seen = leases.taken, []

    def stand_still(*asked: Any) -> tuple[float, bytes | None]:
        monkeypatch.setattr(leases, "taken", real)
        seen.append(other.take())  # which waits for the row, until the server ends our session
        return real(*asked)

    monkeypatch.setattr(leases, "taken", stand_still)
    with pytest.raises(LabError):
        stopped.take()
    assert seen == [0.0]
    assert stopped.take() == 0.0


def test_without_a_lab_there_is_no_rate(postgres_url: str) -> None:
    with pytest.raises(LabNotFound, match="kmslab lab init"):
        Leases(postgres_url).window("x", 1, clock=SystemClock()).take()


def test_it_takes_little(tmp_path: Path) -> None:
    """A file holds no more than what is called in a window, and near calls are one."""
    clock = ManualClock(START)
    window = FileWindow(tmp_path / "x.calls", 2_000, clock=clock)
    for _ in range(2_000):
        assert window.take() == 0.0
    assert window.take() > 0
    assert (tmp_path / "x.calls").stat().st_size < 100
