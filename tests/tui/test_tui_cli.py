"""`kmslab tui` opens the explorer on what was named, else on the demo's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tui_world import World
from typer.testing import CliRunner

from kmslab.campaign.sources import Sources
from kmslab.campaign.state import State
from kmslab.cli.app import app
from kmslab.records.spec import SourceSpec
from kmslab.tui.session import Session


class Opened:
    """What the explorer was opened on."""

    def __init__(self, code: int) -> None:
        self.sessions: list[Session] = []
        self.keys: list[int] = []
        self._code = code

    def explore(self, session: Session, _log_folder: Path) -> int:
        self.sessions.append(session)
        self.keys.append(len(session.lab.keys()))
        return self._code


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    monkeypatch.chdir(tmp_path)
    found = Opened(0)
    monkeypatch.setattr("kmslab.tui.app.explore", found.explore)
    monkeypatch.setattr("kmslab.cli.tui._check_terminal", lambda: None)
    return found


def run(*words: str) -> int:
    return CliRunner().invoke(app, ["tui", *words], prog_name="kmslab").exit_code


def test_without_a_lab_it_is_the_demo_which_is_gone_afterwards(opened: Opened) -> None:
    assert run() == 0
    (session,) = opened.sessions
    assert session.demo
    assert opened.keys[0] > 10
    assert session.spec is not None
    assert not Path(session.spec.location).exists()


def test_without_a_terminal_it_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    done = CliRunner(env={"TEXTUAL_DRIVER": ""}).invoke(app, ["tui"], prog_name="kmslab")
    assert done.exit_code == 2
    assert "is no terminal, and the explorer needs one" in done.stderr
    assert "demo lab" not in done.stderr


def test_a_lab_with_its_first_registered_source(opened: Opened, world: World) -> None:
    lab = str(world.path / "lab")
    Sources(State.of(world.path / "lab", None)).add("orders", SourceSpec(str(world.csv)))
    assert run("--lab", lab, "--read-only") == 0
    (session,) = opened.sessions
    assert (session.source, session.locked, session.read_only) == ("orders", True, True)
    assert session.options == ("--lab", lab)


def test_a_lab_and_a_source(opened: Opened, world: World) -> None:
    lab, state = str(world.path / "lab"), str(world.path / "state")
    words = ["--lab", lab, "--state", state, "--source", str(world.csv), "--owner-column", "owner"]
    assert run(*words) == 0
    (session,) = opened.sessions
    assert session.spec == SourceSpec(str(world.csv))
    assert not session.read_only
    assert session.options == ("--lab", lab, "--state", state)


@pytest.mark.parametrize("demo", [True, False])
def test_the_password_of_a_database_reaches_it_and_no_screen(
    opened: Opened, world: World, monkeypatch: pytest.MonkeyPatch, demo: bool
) -> None:
    given: list[str | None] = []
    monkeypatch.setattr(
        "kmslab.records.opening.open_source", lambda _, *, password=None: given.append(password)
    )
    if demo:  # on another lab, which is there already

        @contextmanager
        def demo_session(**options: bool) -> Iterator[Session]:
            with world.lab() as lab:
                yield world.session(lab, **options)

        monkeypatch.setattr("kmslab.tui.session.demo_session", demo_session)
    words = [] if demo else ["--lab", str(world.path / "lab")]
    assert run(*words, "--source", "postgresql://app:hunter2@db.test/shop", "--table", "t") == 0
    (session,) = opened.sessions
    assert session.spec is not None
    assert session.source == session.spec.location == "postgresql://app@db.test/shop"
    assert session.password_of(session.spec) == "hunter2"
    session.ground.open_source(session.spec)
    assert given == ["hunter2"]
    assert "hunter2" not in repr(session)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--write"], 2),
        (["--web", "--write", "--read-only"], 2),
        (["--lab", "nowhere"], 2),
        (["--source", "nowhere.csv"], 2),
    ],
)
def test_what_does_not_go_together_is_refused(opened: Opened, words: list[str], code: int) -> None:
    assert run(*words) == code
    assert opened.sessions == []


def test_an_error_that_nobody_foresaw_is_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    monkeypatch.setattr("kmslab.cli.tui._check_terminal", lambda: None)
    monkeypatch.setattr("kmslab.tui.app.explore", Opened(70).explore)
    assert run("--lab", str(world.path / "lab")) == 70


@pytest.mark.parametrize("write", [False, True])
def test_each_tab_opens_the_same_by_itself(
    monkeypatch: pytest.MonkeyPatch, world: World, write: bool
) -> None:
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    served: list[tuple[list[str], int]] = []
    monkeypatch.setattr(
        "kmslab.tui.web.serve", lambda words, port, environment, tell: served.append((words, port))
    )
    lab = str(world.path / "lab")
    words = ["--lab", lab, "--source", "a.csv", "--id-column", "id", "--audit", "sync"]
    assert run(*words, "--web", "--port", "9000", *(["--write"] if write else [])) == 0
    ((given, port),) = served
    assert port == 9000
    read_only = [] if write else ["--read-only"]
    assert sorted(given) == sorted([*words, *read_only])
