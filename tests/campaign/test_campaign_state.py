"""The state folder is its owner's alone, keeps what it is given, and locks sources."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import kmslab
from kmslab import Lab, ManualClock
from kmslab.campaign import state as state_module
from kmslab.campaign.journal import Journal
from kmslab.campaign.shards import settle_if_free
from kmslab.campaign.state import LOCK_SECONDS, State
from kmslab.errors import CampaignNotFound, SourceBusy, StateError

SOURCE = Path(kmslab.__file__).parents[1]
NAME = "/data/订单.csv"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextmanager
def other_process(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has said a line, and is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
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


LOCKS = """
import sys, time
from pathlib import Path
from kmslab.campaign.state import State

with State(Path(sys.argv[1])).lock(sys.argv[2]):
    print("ready", flush=True)
    time.sleep(60)
"""


# Where it is


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert State.of(Path("lab"), None).path == tmp_path / "lab/state"
    assert State.of(Path("lab"), "elsewhere").path == tmp_path / "elsewhere"
    assert State.of(None, "elsewhere").path == tmp_path / "elsewhere"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("override", [None, ""])
def test_nowhere(override: str | None) -> None:
    with pytest.raises(StateError, match="--state DIR or KMSLAB_STATE"):
        State.of(None, override)


def test_a_lab_opens_with_its_state_folder(lab_path: Path, lab: Lab) -> None:
    state = State.of(lab_path, None)
    state.write_json("x.json", 1)
    lab.close()
    with Lab.open(lab_path):
        assert state.read_json("x.json") == 1


# Whose it is


def test_everything_in_it_is_its_owners_alone(state: State) -> None:
    before = os.umask(0)
    try:
        state.write_json("x.json", 1)
        state.write_json("plans/x.json", 1)
        state.journal_path("x")
        with state.lock(NAME), state.updating("x.json"):
            pass
    finally:
        os.umask(before)
    assert mode(state.path) == 0o700
    found = {str(p.relative_to(state.path)): p for p in state.path.rglob("*")}
    assert {"x.json", "plans/x.json", "campaigns", ".gitignore"} < found.keys()
    for path in found.values():
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


USES: dict[str, Callable[[State], object]] = {
    "journals": lambda state: state.journals(),
    "journal_path": lambda state: state.journal_path("x"),
    "new_id": lambda state: state.new_id(ManualClock(datetime(2026, 1, 1, tzinfo=UTC))),
    "lock": lambda state: state.lock(NAME).__enter__(),
    "updating": lambda state: state.updating("x.json").__enter__(),
    "read": lambda state: state.read_json("x.json"),
    "write": lambda state: state.write_json("x.json", 1),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("bits", [0o750, 0o701, 0o770])
def test_a_folder_that_others_can_look_into_is_refused(
    state: State, use: Callable[[State], object], bits: int
) -> None:
    state.path.mkdir()
    state.path.chmod(bits)
    with pytest.raises(StateError, match=f"{state.path} can be read by others; chmod it to 0700"):
        use(state)
    assert list(state.path.iterdir()) == []


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_link_is_refused(state: State, tmp_path: Path, use: Callable[[State], object]) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    state.path.symlink_to(tmp_path / "there")
    with pytest.raises(StateError, match="is a symbolic link"):
        use(state)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_file_in_its_place_is_refused(state: State, use: Callable[[State], object]) -> None:
    state.path.touch(mode=0o600)
    with pytest.raises(StateError, match="is no folder"):
        use(state)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_folder_of_somebody_else_is_refused(
    state: State, use: Callable[[State], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    state.path.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateError, match="belongs to another user"):
        use(state)


def test_a_file_that_others_can_read_is_refused(state: State) -> None:
    state.write_json("x.json", 1)
    (state.path / "x.json").chmod(0o644)
    with pytest.raises(StateError, match=r"x\.json can be read by others; chmod it to 0600"):
        state.read_json("x.json")


@pytest.mark.parametrize("opened", ["read", "write"])
def test_a_file_that_is_closed_to_us_is_to_be_opened_to_both(
    state: State, monkeypatch: pytest.MonkeyPatch, opened: str
) -> None:
    """Who may not read it is not sent to allow writing alone."""

    def closed(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    state.write_json("x.json", 1)
    monkeypatch.setattr(os, "open", closed)
    with pytest.raises(StateError, match="Permission denied; let this user read and write it"):
        state.read_json("x.json") if opened == "read" else state.write_json("x.json", 2)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=str(tmp_path / "file/state")):
        State(tmp_path / "file/state").write_json("x.json", 1)


# Campaigns


def test_looking_makes_nothing(state: State) -> None:
    assert state.journals() == ()
    assert state.read_json("x.json") is None
    assert state.read_json("plans/x.json") is None
    assert not state.path.exists()


def test_journals_are_listed_oldest_first(state: State, manual_clock: ManualClock) -> None:
    ids = []
    for number in range(300):
        ids.append(state.new_id(manual_clock))
        state.journal_path(ids[-1]).touch()
        if number % 100 == 99:
            manual_clock.advance(timedelta(seconds=1))
    state.journal_path("x").with_name("x.db-journal").touch()
    assert len(set(ids)) == 300
    assert [path.stem for path in state.journals()] == ids
    assert ids[0].startswith("20260101-000000-")
    assert ids[-1].startswith("20260101-000002-")


def test_a_second_that_is_used_up(state: State, manual_clock: ManualClock) -> None:
    state.journal_path("20260101-000000-ffff").touch()
    assert state.new_id(manual_clock).startswith("20260101-000001-")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/x", "x\0", "x\n", ".x", "订单", "x" * 101]
)
def test_what_is_no_id(state: State, name: str) -> None:
    with pytest.raises(CampaignNotFound, match="kmslab campaign list"):
        state.journal_path(name)
    assert not state.path.exists()


# Locks


def test_one_campaign_on_a_source(state: State) -> None:
    with state.lock(NAME):
        with state.lock("another"):
            pass
        with pytest.raises(SourceBusy, match=NAME) as caught, state.lock(NAME):
            pass
        assert caught.value.source == NAME
    with state.lock(NAME):
        pass


def test_a_lock_binds_other_processes_and_dies_with_them(state: State) -> None:
    with other_process(LOCKS, state.path, NAME) as process:
        with pytest.raises(SourceBusy, match="interrupt it"), state.lock(NAME):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with state.lock(NAME):
            pass


class Waited:
    """A clock that somebody waits by: he has slept so many `seconds`, and at `until` something
    happens."""

    def __init__(self, until: float, then: Callable[[], object]) -> None:
        self.seconds = 0.0
        self._until = until
        self._then = then

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.seconds >= self._until:
            self._then()


@pytest.mark.parametrize("free_at", [0.1, LOCK_SECONDS - 0.1])
def test_who_looks_for_a_moment_keeps_no_campaign_from_its_source(
    state: State, monkeypatch: pytest.MonkeyPatch, free_at: float
) -> None:
    monkeypatch.setattr(state_module, "LOCK_SECONDS", LOCK_SECONDS)
    with ExitStack() as looking:
        looking.enter_context(state.lock(NAME))
        waited = Waited(free_at, looking.close)
        monkeypatch.setattr(state_module, "time", waited)
        with state.lock(NAME):
            assert waited.seconds == pytest.approx(free_at, abs=0.01)


@pytest.mark.parametrize("seconds", [None, 0])
def test_a_source_is_not_waited_for_for_ever(
    state: State, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    monkeypatch.setattr(state_module, "LOCK_SECONDS", LOCK_SECONDS)
    waited = Waited(60, pytest.fail)
    monkeypatch.setattr(state_module, "time", waited)
    busy = pytest.raises(SourceBusy)
    with state.lock(NAME), busy, state.lock(NAME, seconds=seconds):
        pass
    expected = LOCK_SECONDS if seconds is None else seconds
    assert waited.seconds == pytest.approx(expected, abs=0.01)


def test_who_only_looks_waits_for_no_source(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "LOCK_SECONDS", LOCK_SECONDS)
    path = state.journal_path("20260101-000000-0000")
    Journal.create(path, {"state": "running", "source": NAME}).close()
    path.with_suffix(".shards").mkdir(mode=0o700)
    waited = Waited(0, pytest.fail)
    with state.lock(NAME):
        monkeypatch.setattr(state_module, "time", waited)
        settle_if_free(state, path.stem)
    assert waited.seconds == 0


def test_updates_wait_for_each_other(state: State) -> None:
    def add() -> None:
        for _ in range(10):
            with state.updating("x.json"):
                state.write_json("x.json", (state.read_json("x.json") or 0) + 1)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.read_json("x.json") == 40


def test_a_folder_that_another_makes_meanwhile_is_taken(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def late(path: Path) -> bool:
        found = is_dir(path)
        if path == state.path and not found:
            path.mkdir(mode=0o700)  # by another process, right after the look
        return found

    monkeypatch.setattr(Path, "is_dir", late)
    state.write_json("x.json", 1)
    assert state.read_json("x.json") == 1


def test_an_update_does_not_wait_for_ever(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "UPDATE_SECONDS", 0.01)
    with (
        state.updating("x.json"),
        pytest.raises(StateError, match=r"x\.json: another process"),
        state.updating("x.json"),
    ):
        pass


# Files


@pytest.mark.parametrize("value", [None, [], {"名": ["订单", 1, 1.5, None]}, "\ud800"])
def test_what_is_written_is_read(state: State, value: object) -> None:
    for name in ("x.json", "plans/20260101-000000-0000.json"):
        state.write_json(name, "before")
        state.write_json(name, value)
        assert state.read_json(name) == value
    assert sorted(path.name for path in state.path.iterdir()) == [".gitignore", "plans", "x.json"]


@pytest.mark.parametrize("name", ["", "..", "../x", "/x", "a/b/c", "a/", ".x", "a/../b"])
def test_what_is_no_name(state: State, name: str) -> None:
    with pytest.raises(StateError, match="no name of a file"):
        state.write_json(name, 1)
    with pytest.raises(StateError, match="no name of a file"):
        state.read_json(name)
    assert not state.path.exists()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_file(state: State, text: bytes) -> None:
    state.write_json("x.json", 1)
    (state.path / "x.json").write_bytes(text)
    with pytest.raises(StateError, match=r"x\.json is damaged"):
        state.read_json("x.json")


def test_a_write_that_fails_leaves_what_was_there(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.write_json("x.json", 1)

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StateError, match=r"x\.json cannot be written: No space left"):
        state.write_json("x.json", 2)
    with pytest.raises(TypeError):
        state.write_json("x.json", object())
    monkeypatch.undo()
    assert state.read_json("x.json") == 1
    assert sorted(path.name for path in state.path.iterdir()) == [".gitignore", "x.json"]
    assert json.loads((state.path / "x.json").read_text()) == 1
