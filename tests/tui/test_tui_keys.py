"""Keys from the explorer: each deed tells first how many records it touches, and is audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.screen import Screen
from tui_golden import screen_text
from tui_world import (
    CURRENT,
    FROZEN,
    MARKUP,
    Stage,
    World,
    back,
    come,
    forget,
    hears,
    in_turn,
    settled,
    told,
    typed,
    until,
)

from kmslab import Lab
from kmslab.campaign.journal import Journal
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.run import run
from kmslab.model import KeySpec, KeyState
from kmslab.tui.app import Explorer
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Form
from kmslab.tui.dialogs.keys import why_not
from kmslab.tui.line import Line, Pick
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.key import KeyScreen
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.session import Session
from kmslab.tui.texts import moment

LOOKS = {"DescribeKey", "describeKey"}
"""What the lab may be asked for in read-only."""


def report_of(path: Path) -> Report:
    """What a journal tells."""
    with Journal.open(path) as journal:
        return read_report(journal)


def said(app: Explorer) -> str:
    """What a dialog says, as one line."""
    return " ".join(screen_text(app).replace("│", " ").split())


async def yes(pilot: Pilot[None]) -> None:
    """Agree to what is asked."""
    await come(pilot, Confirm)
    await pilot.press("y")
    await pilot.pause()
    await until(pilot, lambda: not pilot.app.begun._ones)  # type: ignore[attr-defined]
    await settled(pilot)


async def filled(pilot: Pilot[None], **values: str) -> None:
    """Fill a form in, and go on."""
    form = await come(pilot, Form)
    for name, value in values.items():
        form.query_one(f"#{name}").value = value
    form.query_one("#go").press()
    await pilot.pause()


async def rotate_disable_and_enable(app: Explorer, pilot: Pilot[None]) -> None:
    lab = app.session.lab
    await typed(pilot, "key:orders")
    await pilot.press("enter", "R")
    await come(pilot, Confirm)
    assert f"{CURRENT} records on the primary version now; stale afterwards" in said(app)
    assert "kmslab key rotate orders --lab lab" in said(app)
    await pilot.press("escape")
    await back(pilot)
    assert len(lab.key("orders").versions) == 2
    await pilot.press("R")
    await yes(pilot)
    assert len(lab.key("orders").versions) == 3
    assert app.records.tallies.every.old == 12 + CURRENT, "what is said of records is told anew"
    await pilot.press("e")
    await come(pilot, Confirm)
    assert "12 records on it cannot be read" in said(app)
    await yes(pilot)
    assert lab.key("orders").state is KeyState.DISABLED
    await pilot.press("e")
    await yes(pilot)
    assert lab.key("orders").state is KeyState.ENABLED
    actions = [entry.action for entry in lab.audit.entries()]
    assert {"RotateNow", "DisableKey", "EnableKey"} <= set(actions)


async def alias_rotation_policy_and_deletion(app: Explorer, pilot: Pilot[None]) -> None:
    lab = app.session.lab
    await typed(pilot, "out:blocked")
    await pilot.press("enter", "N")
    await filled(pilot, alias="ice")
    await come(pilot, Confirm)
    assert f"{FROZEN} records on it; none is touched" in said(app)
    await yes(pilot)
    assert lab.key("ice").state is KeyState.DISABLED
    await pilot.press("D")
    await filled(pilot, days="7")
    await come(pilot, Confirm)
    assert f"{FROZEN} records on it. What is not re-encrypted" in said(app)
    told_before = said(app)
    await yes(pilot)
    assert lab.key("ice").state is KeyState.PENDING_DELETION
    assert moment(lab.key("ice").deletion_at) in told_before, "as it is then"
    await pilot.press("D")
    await come(pilot, Confirm)
    assert "Keep the key (y)" in said(app)
    await yes(pilot)
    assert lab.key("ice").state is KeyState.DISABLED
    await typed(pilot, "key:bills")
    await pilot.press("enter", "P")
    await filled(pilot, days="90")
    await yes(pilot)
    assert lab.key("bills").rotation_days == 90
    await pilot.press("P")
    await filled(pilot, days="")
    await yes(pilot)
    assert lab.key("bills").rotation_days is None


async def what_is_typed_fast_is_typed_in_its_order(app: Explorer, pilot: Pilot[None]) -> None:
    await typed(pilot, "key:bills")
    await pilot.press("enter", "P")
    form = await come(pilot, Form)
    for key in ("9", "9", "backspace", "0", "left", "left", "delete", "4"):
        app.post_message(Key(key, key if key.isdigit() else None))
    await until(pilot, lambda: form.query_one("#days").value == "40")
    await pilot.press("escape")
    await back(pilot)


async def create_and_what_the_provider_refuses(app: Explorer, pilot: Pilot[None]) -> None:
    lab = app.session.lab
    await pilot.press("n")
    await filled(pilot, alias="")
    assert isinstance(app.screen, Form)
    assert "needs an alias" in screen_text(app)
    await filled(pilot, alias="fresh", description=MARKUP)
    await come(pilot, Confirm)
    assert "It touches no record" in said(app)
    await yes(pilot)
    assert lab.key("fresh").description == MARKUP
    await pilot.press("n")
    for alias, days, wrong in (
        ("fresh", "", "another key of tencent is called so"),
        ("账单[b]", "", "an alias has 1 to 60 letters"),
    ):
        await filled(pilot, alias=alias, days=days)
        assert wrong in screen_text(app)
    lab.faults.add("CreateKey", "LimitExceeded")
    await filled(pilot, alias="x2", days="400")
    await come(pilot, Confirm)
    await pilot.press("y")
    form = await come(pilot, Form)
    assert "LimitExceeded" in screen_text(app)
    assert form.query_one("#alias").value == "x2", "what was typed is still there"
    await filled(pilot)
    await yes(pilot)
    assert lab.key("x2").rotation_days is None
    await hears(pilot, "created key")  # it is there, although its rotation was refused
    (made,) = (each for each in app.activity.entries if each.text.startswith("created key"))
    assert made.command.endswith("--alias x2 --lab lab")
    assert any("without automatic rotation" in entry.text for entry in app.activity.entries)


async def what_cannot_be_done_says_why(app: Explorer, pilot: Pilot[None]) -> None:
    reasons = {
        "frozen": [("R", "the key is disabled"), ("P", "the key is disabled")],
        "orders": [("D", "a key of Tencent's is disabled first (e)")],
    }
    for key, cases in reasons.items():
        await typed(pilot, f"key:{key}")
        await pilot.press("enter")
        for letter, reason in cases:
            forget(app)
            await pilot.press(letter)
            assert (await hears(pilot, reason)).endswith(reason), letter
    pair = app.session.lab.ctyun().create_key(alias="pair", spec=KeySpec.RSA_2048)
    assert why_not("policy", pair) == "a pair does not rotate by itself"
    assert why_not("rotate", pair) == ""
    await typed(pilot, "id:rec-cut")
    await pilot.press("enter", "K")
    await hears(pilot, "the cursor is on no key of this lab")


async def a_key_by_its_versions(app: Explorer, pilot: Pilot[None]) -> None:
    await typed(pilot, "key:orders")
    await pilot.press("enter", "K")
    await come(pilot, KeyScreen)
    text = screen_text(app)
    assert MARKUP in text
    assert "● v2" in text
    assert "○ v1" in text
    await pilot.press("down", "enter")
    await back(pilot)
    await settled(pilot)
    assert app.records.place.version is not None
    assert app.records.place.version.number == 1
    assert app.records.grid.view.shown == 8


async def a_key_that_others_rotate_meanwhile(app: Explorer, pilot: Pilot[None]) -> None:
    lab = app.session.lab
    orders = lab.key("orders").key_id
    await typed(pilot, "key:orders")
    await pilot.press("enter", "K")
    screen = await come(pilot, KeyScreen)
    await pilot.press("N")
    await come(pilot, Form)
    lab.rotate(orders)
    app.keys_changed()
    await until(pilot, lambda: "judge" not in app.begun)
    await pilot.press("escape")
    await come(pilot, KeyScreen)
    assert len(screen._key.versions) == 3, "also behind a dialog"
    lab.rotate(orders)
    await pilot.press("R")
    await come(pilot, Confirm)
    assert "gets version 5," in said(app), "as it is now, whatever was shown of it"
    assert "0 records on the primary version now" in said(app)


def test_read_only_writes_nothing_whatever_is_pressed(
    world: World, lab: Lab, painted_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.path)
    session = world.session(lab, locked=True)
    assert session.spec is not None
    campaign = run(session.ground, session.spec).campaign

    def found() -> object:
        journal = report_of(session.ground.state.journal_path(campaign))
        files = {path for path in world.path.rglob("*") if path.suffix[:3] != ".db"}
        return world.blobs(), lab.keys(), journal, files

    async def tried(app: Explorer, pilot: Pilot[None], screen: Screen[Any]) -> None:
        """Every action that writes, by its key and by the palette."""
        for action in (each for each in screen.ACTIONS if each.writes):  # type: ignore[attr-defined]
            refused = [f"{action.said}: this is read-only (it was started so)"]
            forget(app)
            await pilot.press(action.keys.split(",")[0])
            assert (told(app), app.screen) == (refused, screen)
            forget(app)
            await app.act(screen, action)
            await pilot.pause()
            assert (told(app), app.screen) == (refused, screen)

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        assert "read-only" in screen_text(app).splitlines()[0]
        await tried(app, pilot, app.screen)
        await pilot.press("a", "r")
        plan = await come(pilot, PlanScreen)
        await until(pilot, lambda: plan.plan is not None)
        await tried(app, pilot, plan)
        await pilot.press("escape", "J")
        screen = await come(pilot, Journals)
        await until(pilot, lambda: screen.chosen is not None)
        await tried(app, pilot, screen)
        await pilot.press("enter")
        await tried(app, pilot, await come(pilot, ResultScreen))
        await pilot.press("escape", "escape")
        await back(pilot)
        await pilot.press("K")
        await tried(app, pilot, await come(pilot, KeyScreen))
        await pilot.press("escape", "f10")
        await back(pilot)
        assert app.read_only

    before, audited = found(), len(lab.audit.entries())
    painted_stage.play(session, scene)
    assert found() == before
    assert {entry.action for entry in lab.audit.entries()[audited:]} <= LOOKS


def test_what_is_done_to_keys(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            rotate_disable_and_enable,
            alias_rotation_policy_and_deletion,
            what_is_typed_fast_is_typed_in_its_order,
            create_and_what_the_provider_refuses,
        ),
    )


def test_what_is_told_of_keys(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            what_cannot_be_done_says_why, a_key_by_its_versions, a_key_that_others_rotate_meanwhile
        ),
    )


def test_one_of_several_values_is_turned_to(session: Session, stage: Stage) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await pilot.press("n")
        form = await come(pilot, Form)
        pick = form.query_one("#provider", Pick)
        seen = [pick.value]
        for key in ("space", "right", "left"):
            await pilot.press(key)
            seen.append(pick.value)
        await pilot.click(pick)
        assert [*seen, pick.value] == ["tencent", "ctyun", "tencent", "ctyun", "tencent"]
        await pilot.press("enter", "x")
        assert form.query_one("#alias", Line).value == "x"

    stage.play(session, scene)
