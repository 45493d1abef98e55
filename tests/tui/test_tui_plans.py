"""The plan that runs is the one on the screen, and its keys do what the screen says of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from threading import Event

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import OptionList
from tui_golden import screen_text
from tui_world import Stage, back, come, hears, in_turn, until, world_of

from kmslab.analysis.classify import DROP, STAY
from kmslab.providers.base import KEEP
from kmslab.records.spec import SourceSpec
from kmslab.tui.activity import source_words
from kmslab.tui.app import Explorer
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Choose
from kmslab.tui.dialogs.notice import Notice
from kmslab.tui.screens import plan
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.records import Records
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.session import Session

VERSION_1 = ("1", "down", "down", "down", "right", "down")
"""To version 1 of the key orders, in the tree."""


def at_once(app: Explorer, *keys: str) -> None:
    """Press keys as fast as a terminal gives them."""
    for key in keys:
        app.post_message(Key(key, key if len(key) == 1 else None))


async def made(pilot: Pilot[None], screen: PlanScreen) -> None:
    """Wait until there is a plan."""
    await until(pilot, lambda: screen.plan is not None)
    await pilot.pause()


def command(screen: PlanScreen) -> str:
    """The line below a plan."""
    return str(screen.query_one("#same").render())


async def chosen(pilot: Pilot[None], name: str) -> None:
    """Choose a destination."""
    dialog = await come(pilot, Choose)
    names = [text for _, text, _ in dialog._options]
    at = next(at for at, text in enumerate(names) if text.startswith(name))
    dialog.query_one(OptionList).highlighted = at
    await pilot.press("enter")


async def what_is_typed_ahead_makes_no_other_plan(app: Explorer, pilot: Pilot[None]) -> None:
    """Neither of another source, nor for another destination, nor under another context."""
    world, session = world_of(app), app.session
    before = world.blobs()
    at_once(app, "r", "O")
    screen = await come(pilot, PlanScreen)
    await made(pilot, screen)
    assert app.screen_stack[1:] == [screen], "O was meant for the records, which are left"
    assert isinstance(app.screen_stack[0], Records)
    keys, go_on = session.lab.keys, Event()
    session.lab.keys = lambda: go_on.wait(60) and keys()  # type: ignore[method-assign]
    at_once(app, "d", "enter")
    await hears(pilot, "go on: not before destination has ended")
    assert app.screen is screen, "what is agreed to is not what is about to be chosen"
    go_on.set()
    await come(pilot, Choose)
    session.lab.keys = keys  # type: ignore[method-assign]
    await pilot.press("escape")
    await made(pilot, screen)
    await pilot.press("enter")
    await come(pilot, Confirm)
    screen.action_context()
    await pilot.press("y")
    await until(pilot, lambda: app.screen is screen)
    await hears(pilot, "the plan is another by now; nothing was done")
    spec = session.spec
    session.spec = SourceSpec(str(shutil.copy(world.csv, world.path / "other.csv")))
    screen.action_context()
    await made(pilot, screen)
    session.spec = spec
    assert screen.plan.spec == spec, "of the source that it was begun on"
    assert world.blobs() == before


async def destination_context_and_proof(app: Explorer, pilot: Pilot[None]) -> None:
    """`d`, `c` and `p`, in the plan, in the command that does the same, and in the source."""
    world, lab = world_of(app), app.session.lab
    orders, bills = lab.key("orders"), lab.key("bills")
    before = world.blobs()
    await pilot.press(*VERSION_1, "r")
    screen = await come(pilot, PlanScreen)
    await made(pilot, screen)
    assert (screen.plan.target, screen.plan.unverified, screen.plan.to_send) == (STAY, True, 8)
    version = orders.versions[0].version_id
    line = f"campaign run records.csv --key orders --key-version {version}"
    assert line in command(screen).replace(f"{world.path}/", "")
    await pilot.press("c")
    await made(pilot, screen)
    assert screen.plan.target.context is DROP
    assert "--drop-context" in command(screen)
    await pilot.press("c")
    await made(pilot, screen)
    assert screen.plan.target.context is KEEP
    assert "--drop-context" not in command(screen)
    await pilot.press("c", "d")
    await chosen(pilot, "bills")
    await made(pilot, screen)
    assert f"--to {bills.alias} --drop-context" in command(screen)
    await pilot.press("p")
    await made(pilot, screen)
    assert not screen.plan.unverified, "every blob was opened"
    assert "campaign run --plan FILE --yes" in command(screen)
    agreed = screen.plan
    await pilot.press("enter")
    await come(pilot, Confirm)
    await pilot.press("y")
    result = await come(pilot, ResultScreen)
    ran = result.report.plan
    assert (ran.target, ran.options) == (agreed.target, agreed.options)
    assert agreed.target.key_id == bills.key_id
    changed = [blob for name, blob in world.blobs().items() if blob != before[name]]
    assert len(changed) == 8
    for blob in changed:
        assert lab.ctyun().decrypt(blob)
    await pilot.press("escape")
    await back(pilot)


def test_a_source_is_called_as_it_is_registered(session: Session) -> None:
    assert session.spec is not None
    session.spec = spec = replace(session.spec, provider="tencent")
    assert source_words(session) == [spec.location, "--provider", "tencent"]
    session.sources.add("orders", spec)
    assert source_words(session) == ["orders"], "a path alone would say less"


def test_the_plan_on_the_screen_is_the_one_that_runs(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError

    async def a_plan_that_died_is_at_work_no_more(app: Explorer, pilot: Pilot[None]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(plan, "make_plan", fails)
            await pilot.press("r")
            await come(pilot, Notice)
            await pilot.press("escape")
        screen = await come(pilot, PlanScreen)
        await pilot.pause(0.2)
        assert "No plan: an error that nobody foresaw" in screen_text(app)
        screen.action_context()
        await made(pilot, screen)
        for log in stage.log_folder.glob("*"):
            log.unlink()

    stage.play(
        session,
        in_turn(
            a_plan_that_died_is_at_work_no_more,
            what_is_typed_ahead_makes_no_other_plan,
            destination_context_and_proof,
        ),
    )
