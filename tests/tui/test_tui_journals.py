"""Campaigns of the past: which one is meant, and what undoing, continuing and closing leave."""

from __future__ import annotations

import shutil
from threading import Event
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot
from tui_world import Stage, back, come, hears, in_turn, until, world_of

from kmslab.analysis.classify import STAY
from kmslab.campaign.closing import close
from kmslab.campaign.plan import Options
from kmslab.campaign.planning import make_plan
from kmslab.campaign.report import Report
from kmslab.campaign.run import run
from kmslab.campaign.selection import Selection
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted
from kmslab.records.spec import SourceSpec
from kmslab.tui.app import Explorer
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.screens import flows
from kmslab.tui.screens.journals import Journals
from kmslab.tui.session import Session


def one_record(session: Session, record_id: str, spec: SourceSpec | None = None) -> Report:
    """A campaign over one record."""
    spec = spec or session.spec
    assert spec is not None
    options = Options(selection=Selection(record_ids=frozenset({record_id})))
    return run(session.ground, spec, options=options)


async def only_campaigns_on_this_source_are_undone(app: Explorer, pilot: Pilot[None]) -> None:
    world = world_of(app)
    other = shutil.copy(world.csv, world.path / "other.csv")
    one_record(app.session, "rec-04", SourceSpec(str(other)))
    after = other.read_bytes()
    app.post_message(Key("u", "u"))
    app.post_message(Key("J", "J"))
    await hears(pilot, "no campaign on this source")
    await back(pilot)
    assert other.read_bytes() == after


async def the_campaign_under_the_cursor_is_closed(app: Explorer, pilot: Pilot[None]) -> None:
    world, state = world_of(app), app.session.ground.state
    old = world.blobs()
    meant = one_record(app.session, "rec-00").campaign
    await pilot.press("J")
    screen = await come(pilot, Journals)
    await until(pilot, lambda: screen.chosen is not None)
    assert screen.chosen.campaign == meant
    for late in (app.records.action_sources, app.records.action_audit, app.records.action_journals):
        late()
    await pilot.pause()
    assert app.screen_stack == [app.records, screen], "what comes late for the records is dropped"
    newer = one_record(app.session, "rec-02").campaign
    await pilot.press("f5")
    await until(pilot, lambda: len(screen._found) == 3)
    assert screen._found[0].campaign == newer
    assert screen.chosen.campaign == meant, "the cursor stays on it"
    after = world.blobs()
    assert old["rec-00"].encode() in state.journal_path(meant).read_bytes()
    await pilot.press("C")
    await come(pilot, Confirm)
    await pilot.press("y")
    await until(pilot, lambda: screen.chosen.state == "closed")
    assert screen.chosen.campaign == meant
    assert old["rec-00"].encode() not in state.journal_path(meant).read_bytes()
    assert old["rec-02"].encode() in state.journal_path(newer).read_bytes()
    assert world.blobs() == after, "no record is touched"
    command = f"kmslab campaign close {meant} --lab lab"
    assert command in [entry.command for entry in app.activity.entries]


def refusals(app: Explorer) -> list[str]:
    """What was refused, as the log has it."""
    return [entry.text for entry in app.activity.entries if entry.failed]


async def what_is_continued_is_what_was_agreed_to(app: Explorer, pilot: Pilot[None]) -> None:
    session = app.session
    ground, spec, lab = session.ground, session.spec, session.lab
    assert spec is not None
    plan = make_plan(
        ground.open_source(spec), spec, lab, STAY, clock=ground.clock, options=Options()
    )
    with pytest.raises(CampaignInterrupted):
        run(ground, spec, plan=plan, watch=Watch(stop=lambda: True))
    before = world_of(app).blobs()
    await pilot.press("J")
    screen = await come(pilot, Journals)
    await until(pilot, lambda: screen.chosen is not None)
    await pilot.press("c")
    await come(pilot, Confirm)
    lab.rotate(lab.key("orders").key_id)
    await pilot.press("y")
    await until(pilot, lambda: any("after the plan was made" in no for no in refusals(app)))
    await come(pilot, Journals)
    assert world_of(app).blobs() == before
    assert screen.chosen.state == "running"


def test_which_campaign_is_meant(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            only_campaigns_on_this_source_are_undone,
            the_campaign_under_the_cursor_is_closed,
            what_is_continued_is_what_was_agreed_to,
        ),
    )


def test_what_ends_after_the_journals_were_left_shows_nothing_there(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = Event()

    def late(*args: Any, **options: Any) -> None:
        assert left.wait(10)
        close(*args, **options)

    monkeypatch.setattr(flows, "close", late)

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        campaign = one_record(session, "rec-00").campaign
        await pilot.press("J")
        screen = await come(pilot, Journals)
        await until(pilot, lambda: screen.chosen is not None)
        await pilot.press("C")
        await come(pilot, Confirm)
        await pilot.press("y", "escape")
        await back(pilot)
        left.set()
        await hears(pilot, f"campaign {campaign} is closed")

    stage.play(session, scene)
