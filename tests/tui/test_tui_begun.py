"""What takes longer than a key press says so, until it is there or has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Any

import pytest
from textual.pilot import Pilot
from tui_world import Stage, back, come, hears, in_turn, settled, typed, until

from kmslab.errors import LabUnreachable
from kmslab.tui import begun
from kmslab.tui.app import Explorer
from kmslab.tui.chrome import TopBar
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.screens.audit import AuditLog
from kmslab.tui.screens.journals import Journals
from kmslab.tui.session import Session


def bars(app: Explorer) -> list[str]:
    """The first line of each screen that has one, the screen in front last."""
    found = [screen.query(TopBar) for screen in app.screen_stack]
    return [str(bar.first().render()) for bar in found if bar]


@contextmanager
def held(owner: Any, name: str) -> Iterator[Callable[[], None]]:
    """A method that does not answer before the function that this gives is called."""
    method, go_on = getattr(owner, name), Event()

    def slow(*arguments: Any, **options: Any) -> Any:
        assert go_on.wait(60)
        return method(*arguments, **options)

    setattr(owner, name, slow)
    try:
        yield go_on.set
    finally:
        go_on.set()
        delattr(owner, name)


async def what_a_key_waits_for_is_said(app: Explorer, pilot: Pilot[None]) -> None:
    """And the question that comes of it waits for nothing."""
    await typed(pilot, "key:orders")
    await pilot.press("enter")
    with held(app.session.lab, "keys") as answers:
        await pilot.press("R")
        await until(pilot, lambda: "at work: rotate" in bars(app)[-1])
        await pilot.press("e")
        await hears(pilot, "on/off: not before rotate has ended")
        assert "at work: rotate" in bars(app)[-1]
        answers()
        await come(pilot, Confirm)
    await pilot.pause(2 * begun.SOON)
    assert not any("at work" in bar for bar in bars(app))
    await pilot.press("escape")
    await back(pilot)


async def so_is_what_an_answer_to_a_question_waits_for(app: Explorer, pilot: Pilot[None]) -> None:
    lab = app.session.lab
    await typed(pilot, "key:orders")
    await pilot.press("enter", "R")
    await come(pilot, Confirm)
    versions = len(lab.key("orders").versions)
    with held(lab, "rotate") as answers:
        await pilot.press("y")
        await until(pilot, lambda: "at work: rotate" in bars(app)[-1])
        assert len(lab.key("orders").versions) == versions
        answers()
        await settled(pilot)
    assert not any("at work" in bar for bar in bars(app))
    assert len(lab.key("orders").versions) == versions + 1


async def no_screen_waits_for_what_another_one_began(app: Explorer, pilot: Pilot[None]) -> None:
    with held(app.session.lab, "keys") as answers:
        await typed(pilot, "key:orders")
        await pilot.press("enter", "R")
        await until(pilot, lambda: "at work: rotate" in bars(app)[-1])
        timer = app.begun._timer
        app.push_screen(Journals())
        await come(pilot, Journals)
        timer._callback()
        await pilot.pause(2 * begun.SOON)
        assert not any("at work" in bar for bar in bars(app))
        await pilot.press("escape")
        await until(pilot, lambda: "at work: rotate" in bars(app)[-1])
        answers()
        await come(pilot, Confirm)
    await pilot.press("escape")
    await back(pilot)


async def it_is_said_until_it_is_there(app: Explorer, pilot: Pilot[None]) -> None:
    """Whatever else begins and ends meanwhile, and also of what lets other things begin."""
    with held(app.session.lab, "keys") as answers:
        await pilot.press("f5")
        await until(pilot, lambda: "at work: reload" in bars(app)[-1])
        said: list[str] = []
        app.watch(app, "waits_for", lambda waits: said.append(waits))
        await pilot.press("space", "space", "s")
        app.begin("twins", app.records._count_twins)
        await until(pilot, lambda: "twins" not in app.begun)
        assert said == ["reload"], "it is what it was"
        await pilot.press("J")
        await come(pilot, Journals)
        await pilot.press("escape")
        await back(pilot)
        answers()
        await settled(pilot)
        await until(pilot, lambda: not app.waits_for)


async def nothing_is_said_of_what_is_there_soon(app: Explorer, pilot: Pilot[None]) -> None:
    with pytest.MonkeyPatch.context() as patch, held(app.session.lab, "keys") as answers:
        patch.setattr(begun, "SOON", 60.0)
        await pilot.press("f5")
        await pilot.pause(0.2)
        assert "reload" in app.begun
        assert not app.waits_for
        answers()
        await settled(pilot)
    await until(pilot, lambda: "reload" not in app.begun)


async def what_has_failed_is_waited_for_no_more(app: Explorer, pilot: Pilot[None]) -> None:
    failed = Event()

    async def flow() -> None:
        def fails() -> None:
            assert failed.wait(60)
            raise LabUnreachable("the database does not answer; try again")

        await app.away(fails)

    app.begin("decrypt", flow, of=app.records)
    await until(pilot, lambda: "at work: decrypt" in bars(app)[-1])
    failed.set()
    await settled(pilot)
    assert not any("at work" in bar for bar in bars(app))


def about(app: Explorer) -> str:
    """The line below the audit log."""
    return str(app.screen.query_one("#about").render())


async def so_says_the_audit_log(app: Explorer, pilot: Pilot[None]) -> None:
    log = app.session.lab._keystore
    with held(log, "audit_rows") as answers:
        await pilot.press("H")
        await come(pilot, AuditLog)
        await until(pilot, lambda: about(app) == "looking")
        answers()
        await until(pilot, lambda: "v checks that the log is whole" in about(app))
    with held(log, "verify_audit") as answers:
        await pilot.press("v")
        await until(pilot, lambda: about(app) == "checking that the log is whole")
        answers()
        await until(pilot, lambda: about(app).startswith("● whole"))

    def fails(_: object) -> None:
        raise LabUnreachable("the database does not answer; try again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(log), "verify_audit", fails)
        await pilot.press("v")
        await hears(pilot, "does not answer")
        assert about(app) == "! it cannot be read"


def test_what_is_waited_for_is_said(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            what_a_key_waits_for_is_said,
            so_is_what_an_answer_to_a_question_waits_for,
            no_screen_waits_for_what_another_one_began,
            it_is_said_until_it_is_there,
            nothing_is_said_of_what_is_there_soon,
            what_has_failed_is_waited_for_no_more,
            so_says_the_audit_log,
        ),
    )
