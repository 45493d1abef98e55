"""Keys at random, faster than screens come up: whatever is pressed, nothing is unforeseen."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from time import monotonic

import pytest
from rich.text import Text
from textual.command import CommandList, CommandPalette
from textual.events import Key
from textual.pilot import Pilot
from tui_world import Stage, World, back, come, until

from kmslab import Lab
from kmslab.errors import KmslabError
from kmslab.tui.app import Explorer
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Choose
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.key import KeyScreen
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.session import Session

NAMES = {"space": " ", "slash": "/", "colon": ":", "question_mark": "?"}
KEYS = [
    *"jkhlgGvaAsSyYiodrcuxJHOLtnReDPNKCbmpw123",
    *NAMES,
    *["enter", "escape", "y"] * 6,
    *["tab", "up", "down", "left", "right", "pagedown", "home", "end", "backspace", "f5", "f10"],
]
FLOWS = ["a r", "r enter y", "u y", "J u y", "J c y", "J C y", "x enter enter", "R y", "e y", "K D"]
SIZES = [(140, 45), (80, 24), (40, 10)]


async def mash(app: Explorer, pilot: Pilot[None], seed: int, seconds: float, lab: Lab) -> None:
    """Press keys; now and then, somebody else rotates a key, and the terminal is resized."""
    chance, end = random.Random(seed), monotonic() + seconds
    while monotonic() < end:
        keys = chance.choice(FLOWS).split() if chance.random() < 0.3 else [chance.choice(KEYS)]
        for key in keys:
            app.post_message(Key(key, NAMES.get(key, key if len(key) == 1 else None)))
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05]))
        if chance.random() < 0.05:
            await pilot.resize_terminal(*chance.choice(SIZES))
        if chance.random() < 0.03:
            with suppress(KmslabError):  # it may have been disabled meanwhile
                await asyncio.to_thread(lab.rotate, lab.key("orders").key_id)


def test_a_key_that_comes_before_all_of_a_dialog_is_there_is_not_for_it(
    session: Session, stage: Stage
) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        for key in ("escape", "y", "n", "enter", "1"):
            dialog = Confirm("Sure?", Text(), answer="Do it", records=2_000)
            app.push_screen(dialog)
            app.post_message(Key(key, key if len(key) == 1 else None))
            await pilot.pause()
            assert app.screen is dialog, key
            await pilot.press("escape")
            assert app.screen is app.records, key

    stage.play(session, scene)


def test_what_is_pressed_twice_leaves_one_screen(session: Session, stage: Stage) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await pilot.press("a", "r")
        plan = await come(pilot, PlanScreen)
        await pilot.press("d")
        await come(pilot, Choose)
        for _ in range(3):
            app.post_message(Key("enter", None))
        await until(pilot, lambda: not isinstance(app.screen, Choose))
        await until(pilot, lambda: plan.plan is not None)
        assert plan in app.screen_stack
        while app.screen is not app.records:
            await pilot.press("escape")
            await pilot.pause()
        await pilot.press("K")
        key = await come(pilot, KeyScreen)
        for _ in range(3):
            key.action_close()
        await back(pilot)
        await pilot.press("J")
        journals = await come(pilot, Journals)
        await pilot.press("escape")
        await app.act(journals, journals.ACTIONS[0])
        await back(pilot)

    stage.play(session, scene)


def test_the_palette_can_be_paged_while_it_is_filled(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await pilot.press("colon")
        await pilot.pause()
        lines = app.screen.query_one(CommandList)
        monkeypatch.setattr(CommandList, "_index_to_line", property(lambda _: {}))
        app.screen.set_focus(lines)
        await pilot.press("pagedown")
        assert isinstance(app.screen, CommandPalette)
        monkeypatch.undo()

    stage.play(session, scene)


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=pytest.mark.soak) for n in (2, 3, 4))])
def test_whatever_is_pressed_nothing_is_unforeseen(
    seed: int, session: Session, world: World, painted_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.path)  # what is exported goes there

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        with world.lab() as other:
            await mash(app, pilot, seed, 1.5 if seed == 1 else 20, other)

    painted_stage.play(session, scene, size=SIZES[seed % 3], notifications=True)
