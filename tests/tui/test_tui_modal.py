"""Screens and dialogs look as Textual's own, however large the terminal is, and becomes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.pilot import Pilot
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from kmslab.tui import modal
from kmslab.tui.modal import Modal
from kmslab.tui.responsive import Turns
from kmslab.tui.screen import ShownOnce
from kmslab.tui.styles import fit

BEHIND = "[on red]red[/] [bold blue]欧阳[/] [link='x:y']link[/] [@click='app.quit']quit[/]\n" * 20


class Behind(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns()

    def compose(self) -> ComposeResult:
        yield Static(BEHIND)


class Boxed:
    CSS = """
    .box { width: 50%; height: auto; border: round $primary; }
    .-narrow .box { width: 100%; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (60, "-wide")]  # noqa: RUF012 - as Textual has it

    def compose(self) -> ComposeResult:
        with Vertical(classes="box"):
            yield Static("a dialog, with a text that takes more than one line where it is narrow")


class Plain(Boxed, ModalScreen[None]): ...


class Own(Boxed, Modal[None]): ...


class PlainScreen(Boxed, Screen[None]): ...


class OwnScreen(Boxed, ShownOnce[None]): ...


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until what is behind is painted too, at whatever time it would be."""
    await pilot.pause(0.1)
    screen = pilot.app.screen
    if isinstance(screen, Modal) and screen.paint_behind():
        await pilot.pause()


def drawn(app: App[Any]) -> list[list[Any]]:
    """What is on the screen, with all styles."""
    update: Any = app.screen._compositor.render_update(
        full=True, screen_stack=app._background_screens
    )
    return [[list(strip) for strip in line] for line in update.strips]


@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("kinds", [(Own, Plain), (OwnScreen, PlainScreen)])
def test_it_looks_as_textuals_own(
    kinds: tuple[type[Screen[None]], ...], monkeypatch: pytest.MonkeyPatch, *, no_color: bool
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")

    async def seen(kind: type[Screen[None]]) -> list[Any]:
        app, found = Behind(), []
        async with app.run_test(size=(80, 24)) as pilot:
            await app.push_screen(screen := kind())
            await pilot.pause()
            found.append(drawn(app))
            for size in ((40, 12), (100, 30), (80, 24)):
                await pilot.resize_terminal(*size)
                await settled(pilot)
                found.append((drawn(app), screen.classes))
            app.theme = "textual-light"
            await settled(pilot)
            found.append(drawn(app))
        return found

    own, plain = (asyncio.run(seen(kind)) for kind in kinds)
    assert own == plain
    assert own[1][1] == {"-narrow"}
    assert own[2][1] == {"-wide"}
    assert own[1] != own[2]


def test_threads_rest_until_a_dialog_is_there_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = []
    monkeypatch.setattr(Turns, "answer", lambda turns: answers.append(turns))

    async def seen() -> None:
        app = Behind()
        async with app.run_test(size=(80, 24)) as pilot:
            await app.push_screen(Own())
            await pilot.pause()
            assert answers
            answers.clear()
            app.screen_stack[0].query_one(Static).update("something else\n" * 20)
            await settled(pilot)
            assert "something else" in str(drawn(app))
            assert not answers

    asyncio.run(seen())


@pytest.mark.parametrize("kinds", [(Own, Plain), (OwnScreen, PlainScreen)])
@pytest.mark.parametrize("work", ["_screen_resized", "update_node_styles"])
def test_it_is_styled_and_laid_out_once_when_it_is_shown(
    work: str, kinds: tuple[type[Screen[None]], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    textuals = getattr(Screen, work)
    monkeypatch.setattr(Screen, work, lambda *args, **more: done.append(1) or textuals(*args))

    async def seen(kind: type[Screen[None]]) -> int:
        done.clear()
        app = Behind()
        async with app.run_test(size=(80, 24)) as pilot:
            screen = kind()
            fit(screen, app.size)
            await app.push_screen(screen)
            await pilot.pause()
        return len(done)

    own, plain = (asyncio.run(seen(kind)) for kind in kinds)
    assert own < plain


def test_what_changes_behind_a_dialog_is_painted_all_at_once_and_a_little_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    painted = []
    dimmed = modal._Dimmed.__init__

    def counted(*given: Any) -> None:
        painted.append(given)
        dimmed(*given)

    monkeypatch.setattr(modal._Dimmed, "__init__", counted)
    monkeypatch.setattr(modal, "BEHIND_SECONDS", 60.0)

    async def seen() -> None:
        app = Behind()
        async with app.run_test(size=(80, 24)) as pilot:
            await app.push_screen(Own())
            await settled(pilot)
            behind = app.screen_stack[0].query_one(Static)
            painted.clear()
            for text in ("one", "two", "three", "four", "five"):
                behind.update(f"{text}\n" * 20)
                await pilot.pause(0.03)
            assert not painted
            await settled(pilot)
            assert "five" in str(drawn(app))
            assert len(painted) == 1
            behind.screen.call_later(lambda: None)
            await settled(pilot)
            assert len(painted) == 1, "nothing more has changed"
            monkeypatch.setattr(modal, "BEHIND_SECONDS", 0.01)
            behind.update("six\n" * 20)
            async with asyncio.timeout(60):
                while "six" not in str(drawn(app)):
                    await pilot.pause(0.01)

    asyncio.run(seen())
