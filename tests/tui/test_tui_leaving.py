"""What is still at work when a screen or the app is left finds none of its widgets, and ends in
silence."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import pytest
from rich.text import Text
from textual.events import Key
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import DataTable
from tui_golden import screen_text
from tui_rest import held_back
from tui_world import Stage, back, come, in_turn, until

from kmslab.campaign.selection import Selection
from kmslab.campaign.watching import Watch
from kmslab.tui.app import END_SECONDS, Explorer
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Form
from kmslab.tui.screens import flows, records
from kmslab.tui.screens.audit import AuditLog
from kmslab.tui.screens.inspect import InspectScreen
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.key import KeyScreen
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.progress import AtWork
from kmslab.tui.screens.records import Records
from kmslab.tui.session import Session


class Late:
    """Holds back what threads have found, until the widgets of a screen are gone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.waiting = 0

    def until_left(self, kind: type[Screen[Any]]) -> None:
        """Hold back what a screen of this kind waits for until its widgets are gone, before it."""
        gone, away = asyncio.Event(), Explorer.away
        ended = kind.__dict__.get("on_unmount", lambda screen: None)

        async def late(app: Explorer, work: Callable[[], Any]) -> Any:
            here = isinstance(app.screen, kind)
            found = await away(app, work)
            if here:
                self.waiting += 1
                await gone.wait()
                self.waiting -= 1
            return found

        async def unmounted(screen: Screen[Any]) -> None:
            self._monkeypatch.undo()
            gone.set()
            await asyncio.sleep(0.05)
            ended(screen)

        self._monkeypatch.setattr(Explorer, "away", late)
        self._monkeypatch.setattr(kind, "on_unmount", unmounted, raising=False)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[Late]:
    monkeypatch.setattr(records, "LOOK_SECONDS", 3600.0)  # a look would be late too
    with monkeypatch.context() as patch:
        yield Late(patch)


def test_the_records_are_left_while_they_are_judged_and_counted(
    session: Session, stage: Stage, late: Late
) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        late.until_left(Records)
        await pilot.press("space")
        app.keys_changed()
        await until(pilot, lambda: late.waiting == 2)

    stage.play(session, scene)
    assert late.waiting == 0


async def screens_that_are_being_filled_are_left(
    app: Explorer, pilot: Pilot[None], late: Late
) -> None:
    for key, kind in (("r", PlanScreen), ("H", AuditLog), ("J", Journals)):
        late.until_left(kind)
        await pilot.press(key)
        await come(pilot, kind)
        await until(pilot, lambda: late.waiting)
        await pilot.press("escape")
        await back(pilot)
        await until(pilot, lambda: not late.waiting)


async def a_dialog_of_a_plan_that_was_left_is_not_shown(
    app: Explorer, pilot: Pilot[None], late: Late
) -> None:
    await pilot.press("r")
    plan = await come(pilot, PlanScreen)
    await until(pilot, lambda: plan.plan)
    late.until_left(PlanScreen)
    await pilot.press("d")
    await until(pilot, lambda: late.waiting)
    await pilot.press("escape")
    await back(pilot)
    await until(pilot, lambda: not late.waiting)
    await pilot.pause()
    assert isinstance(app.screen, Records)


async def a_key_may_change_while_its_screen_is_opened(
    app: Explorer, pilot: Pilot[None], late: Late
) -> None:
    lab = app.session.lab
    key = lab.key("orders")
    screen = KeyScreen(key, app.records.counted)
    lab.rotate(key.key_id)
    app.push_screen(screen)
    screen.changed({key.key_id: key for key in lab.keys()})
    await come(pilot, KeyScreen)
    assert screen.query_one(DataTable).row_count == len(key.versions) + 1


async def no_key_waits_for_what_the_journals_leave_to_be_looked_at(
    app: Explorer, pilot: Pilot[None], late: Late
) -> None:
    seen, looks = threading.Event(), list[str]()

    def slow(_: Session) -> str:
        looks.append(f"campaign {len(looks)}")
        seen.wait(60)
        return looks[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "unfinished", slow)
        await pilot.press("J")
        await come(pilot, Journals)
        await pilot.press("escape")
        await back(pilot)
        await pilot.press("i")
        await come(pilot, InspectScreen)
        await pilot.press("escape")
        await back(pilot)
        await pilot.press("J")
        await come(pilot, Journals)
        await pilot.press("escape")
        await back(pilot)
        await pilot.press("n")
        await come(pilot, Form)
        seen.set()
        await until(pilot, lambda: app.records._unfinished == "campaign 1")
    await pilot.press("escape")


async def keys_may_change_while_a_plan_is_opened(
    app: Explorer, pilot: Pilot[None], late: Late
) -> None:
    screen = PlanScreen(app.session, lambda: (Selection(), "all"), "all")
    app.push_screen(screen)
    screen.keys_changed("orders was rotated")
    await come(pilot, PlanScreen)
    await until(pilot, lambda: screen.plan)
    assert "planned anew" not in screen_text(app), "it was not planned before"


def test_screens_are_left_and_opened(session: Session, stage: Stage, late: Late) -> None:
    scenes = (
        screens_that_are_being_filled_are_left,
        a_dialog_of_a_plan_that_was_left_is_not_shown,
        a_key_may_change_while_its_screen_is_opened,
        no_key_waits_for_what_the_journals_leave_to_be_looked_at,
        keys_may_change_while_a_plan_is_opened,
    )
    stage.play(session, in_turn(*(partial(scene, late=late) for scene in scenes)))


@pytest.mark.parametrize(("exits", "turns"), [(False, 1), (True, 0), (True, 2)])
def test_the_app_may_end_while_a_dialog_comes_up(
    session: Session, stage: Stage, *, exits: bool, turns: int
) -> None:
    """By itself or by a signal: so many turns of the event loop later."""

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        app.push_screen(Confirm("Sure?", Text(), answer="Do it"))
        for _ in range(turns):
            await asyncio.sleep(0)
        if exits:
            app.exit()
            await until(pilot, lambda: not app.is_running)

    stage.play(session, scene)


def test_keys_that_come_while_the_app_ends_are_for_nobody(session: Session, stage: Stage) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        closed = app._close_all

        async def pressed() -> None:
            await closed()
            app.post_message(Key("j", "j"))

        app._close_all = pressed  # type: ignore[method-assign]

    stage.play(session, scene)


@pytest.mark.parametrize("gone", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_the_app_stops_what_is_at_work(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch, gone: signal.Signals
) -> None:
    """As a kill, a tab that was closed and a terminal that hung up do; nobody is asked."""
    stopped: list[bool] = []
    limits: list[float] = []
    closed: list[int] = []

    class Limit(threading.Timer):
        def start(self) -> None:
            limits.append(self.interval)

    def work(watch: Watch) -> None:
        end = monotonic() + 60
        while not watch.stop() and monotonic() < end:
            held_back(0.01)
        stopped.append(watch.stop())

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        app.begin("campaign", lambda: flows.at_work(app, "Re-encrypting", work))
        await come(pilot, AtWork)
        with monkeypatch.context() as patch:
            patch.setattr(Explorer, "is_headless", False)
            patch.setattr(threading, "Timer", Limit)
            patch.setattr(os, "dup2", lambda _, descriptor: closed.append(descriptor))
            app.on_mount()
            os.kill(os.getpid(), gone)
            await until(pilot, lambda: app._exit)

    stage.play(session, scene)
    assert stopped == [True], "it would have gone on to the end of the source"
    hung_up = gone is signal.SIGHUP
    assert (limits, closed) == (([END_SECONDS], [0, 1, 2]) if hung_up else ([], []))
