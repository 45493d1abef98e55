"""The explorer on a small lab: made once, copied for each test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import textual.app
import textual.pilot
from textual._compositor import Compositor
from tui_rest import Rest
from tui_stalls import stall
from tui_world import Stage, World, make_world

from kmslab import Lab
from kmslab.tui.dialogs import confirm
from kmslab.tui.screens import records
from kmslab.tui.session import Session

STALLS = os.environ.get("KMSLAB_STALLS", "")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests gets in."""
    for name in list(os.environ):
        if name.startswith("KMSLAB_") and name not in ("KMSLAB_REQUIRE_ALL", "KMSLAB_SOAK"):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.setattr(confirm, "QUIET", 0.0)


@pytest.fixture(autouse=True)
def stalls(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The machine is a slow one, where that is asked for."""
    if STALLS:
        stall(monkeypatch, f"{STALLS} {request.node.nodeid}")


@pytest.fixture(autouse=True)
def at_rest_means_done(stalls: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses a key waits for what it does, and no longer."""
    rest = Rest(asyncio.to_thread)
    monkeypatch.setattr(asyncio, "to_thread", rest.to_thread)
    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", rest.at_rest)


@pytest.fixture(scope="session")
def first_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("tui"))


@pytest.fixture
def world(first_world: World, tmp_path: Path) -> World:
    """A lab and records of the test's own."""
    return first_world.copy(tmp_path / "world")


@pytest.fixture
def lab(world: World) -> Iterator[Lab]:
    """The lab, open."""
    with world.lab() as opened:
        yield opened


@pytest.fixture
def session(world: World, lab: Lab) -> Session:
    """A session that may write."""
    return world.session(lab)


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screens are laid out as ever, and drawn only when somebody looks at them."""
    drawn = Compositor.render_update

    def looked_at(
        self: Compositor, full: bool = False, screen_stack: Any = None, simplify: bool = False
    ) -> Any:
        if full:
            return drawn(self, full, screen_stack, simplify)
        self._dirty_regions.clear()
        return None

    monkeypatch.setattr(Compositor, "render_update", looked_at)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether somebody else has changed something is looked at so often that nobody waits."""
    monkeypatch.setattr(records, "LOOK_SECONDS", 0.1)


@pytest.fixture
def stage(tmp_path: Path, unpainted: None) -> Stage:
    """Where the explorer is played, without what costs most of the time."""
    return Stage(tmp_path / "log")


@pytest.fixture
def painted_stage(tmp_path: Path) -> Stage:
    """Where every change is drawn, as in a terminal."""
    return Stage(tmp_path / "log")
