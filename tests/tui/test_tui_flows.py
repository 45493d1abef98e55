"""Mark, plan, agree, watch, see, undo; and everything that must not happen by one key."""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event, current_thread, main_thread
from time import monotonic
from types import ModuleType

import pytest
from campaign_data import make_keys, make_rows, write_csv
from rich.text import Text
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input
from tui_golden import screen_text
from tui_rest import held_back
from tui_world import (
    CURRENT,
    FROZEN,
    MARKUP,
    NOW,
    RECORDS,
    STALE,
    Stage,
    back,
    come,
    grid,
    hears,
    in_turn,
    settled,
    status,
    typed,
    until,
    world_of,
)

from kmslab import Lab, ManualClock
from kmslab.analysis.classify import DROP, STAY, Target
from kmslab.campaign.plan import SURE, Options, Plan
from kmslab.campaign.planning import make_plan
from kmslab.campaign.run import Ground, run
from kmslab.campaign.state import State
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted
from kmslab.tui import view
from kmslab.tui.app import Explorer
from kmslab.tui.dialogs import confirm
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.notice import Notice
from kmslab.tui.screens import flows, plan
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.progress import AtWork
from kmslab.tui.screens.records import Records
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.session import Session
from kmslab.tui.sheet import Sheet


async def planned(pilot: Pilot[None]) -> PlanScreen:
    """The plan of what is marked."""
    await pilot.press("r")
    screen = await come(pilot, PlanScreen)
    await until(pilot, lambda: screen.plan is not None)
    await pilot.pause()
    return screen


async def agreed(pilot: Pilot[None]) -> ResultScreen:
    """Go on with a plan, and say yes."""
    await pilot.press("enter")
    await come(pilot, Confirm)
    await pilot.press("y")
    return await come(pilot, ResultScreen)


async def marked_records_are_re_encrypted_and_undone(app: Explorer, pilot: Pilot[None]) -> None:
    world = world_of(app)
    before = world.blobs()
    await typed(pilot, "key:orders out:stale")
    await pilot.press("enter", "a")
    assert app.marked == 8
    plan = (await planned(pilot)).plan
    assert plan is not None
    assert (plan.total, plan.to_send) == (8, 8)
    result = await agreed(pilot)
    assert result.report.results.re_encrypted == 8
    changed = {name for name, blob in world.blobs().items() if before[name] != blob}
    assert len(changed) == 8
    await pilot.press("u")
    await come(pilot, Confirm)
    assert world.blobs() != before
    await pilot.press("y")
    await settled(pilot)
    undone = await come(pilot, ResultScreen)
    assert undone.report.state == "undone"
    await pilot.press("escape")
    await back(pilot)
    commands = [entry.command for entry in app.activity.entries]
    assert f"kmslab campaign undo {result.report.campaign} --yes --lab lab" in commands
    assert world.blobs() == before


async def enter_alone_never_re_encrypts(app: Explorer, pilot: Pilot[None]) -> None:
    world = world_of(app)
    before = world.blobs()
    await pilot.press("a")
    await planned(pilot)
    for _ in range(4):
        await pilot.press("enter")
    assert isinstance(app.screen, PlanScreen | Confirm)
    await pilot.press("escape", "escape")
    await back(pilot)
    assert world.blobs() == before


async def cancel_is_focused_and_the_yes_button_can_be_reached(
    app: Explorer, pilot: Pilot[None]
) -> None:
    await pilot.press("a")
    screen = await planned(pilot)
    bills = app.session.lab.key("bills")
    screen._target = Target(bills.key_id, context=DROP, provider="ctyun")
    screen._plan_anew()
    await until(pilot, lambda: screen.plan is not None)
    await pilot.press("enter")
    dialog = await come(pilot, Confirm)
    said = str(dialog.query_one(Sheet).render())
    for line in ("from     orders of tencent", "to       bills of ctyun, all", "context  DROPPED"):
        assert line in said
    await pilot.press("escape")
    screen._target = STAY
    screen._plan_anew()
    await until(pilot, lambda: screen.plan is not None)
    await pilot.press("enter")
    await come(pilot, Confirm)
    assert app.focused is not None
    assert app.focused.id == "cancel"
    await pilot.press("right", "enter")
    result = await come(pilot, ResultScreen)
    assert result.report.results.re_encrypted == STALE


async def many_records_are_agreed_to_by_their_number(app: Explorer, pilot: Pilot[None]) -> None:
    answers: list[bool | None] = []
    for keys in (["y", "enter"], [*"1000", "enter"], [*"1001", "enter"]):
        dialog = Confirm("Sure?", Text("all of them"), answer="Do it", records=SURE + 1)
        app.push_screen(dialog, answers.append)
        await pilot.pause()
        assert dialog.query_one("#yes").disabled
        await pilot.press("y")
        assert app.screen is dialog, "one key is not enough"
        await pilot.press(*keys[1:] if keys[0] == "y" else keys)
        if app.screen is dialog:
            await pilot.press("escape")
    assert answers == [False, False, True]
    for size, records, name, keys in (
        ((100, 24), SURE + 1, "", "1001"),
        ((80, 20), SURE + 1, "", "1001"),
        ((40, 10), SURE + 1, "", "1001"),
        ((40, 10), 0, "n-1", "n-1"),
    ):
        await pilot.resize_terminal(*size)
        body = Text("all of them, " * 40)
        dialog = Confirm("Sure?", body, answer="Do it", records=records, name=name)
        app.push_screen(dialog, answers.append)
        await pilot.pause()
        assert app.focused is dialog.query_one("#cancel")
        assert dialog.region.contains_region(dialog.query_one("#cancel").region), size
        shown = screen_text(app)
        assert "Sure?" in shown
        assert "Cancel" in shown
        for key in keys:  # as fast as a terminal gives them
            app.post_message(Key(key, key))
        field = dialog.query_one(Input)
        await until(pilot, lambda field=field, keys=keys: field.value == keys)
        await pilot.press("enter")
        await pilot.pause()
        assert answers.pop() is True, "what is typed is for the field, wherever the focus is"
    await pilot.resize_terminal(100, 24)


async def a_plan_says_what_is_left_and_why(app: Explorer, pilot: Pilot[None]) -> None:
    await pilot.press("a")
    screen = await planned(pilot)
    text = str(screen.query_one("#plan").render())
    for line in ("key disabled (e on the key enables it)", "total", "Re-encryption does not"):
        assert line in text
    sheet = screen.query_one("#plan", Sheet)
    assert sheet._width == sheet.content_size.width, "its lines are not wrapped again"
    plan = screen.plan
    assert plan is not None
    assert plan.total == RECORDS
    by_outcome = {name.value: count for name, count in plan.outcomes.items() if count}
    expected = {"stale": STALE, "current": CURRENT, "blocked": FROZEN, "invalid": 1}
    assert by_outcome == expected
    await pilot.press("escape")


async def records_of_a_disabled_key_are_blocked(app: Explorer, pilot: Pilot[None]) -> None:
    world = world_of(app)
    before = world.blobs()
    await typed(pilot, "key:frozen")
    await pilot.press("enter", "a")
    await planned(pilot)
    await pilot.press("enter")
    await pilot.pause()
    assert isinstance(app.screen, PlanScreen)
    await hears(pilot, "nothing is to be re-encrypted")
    await pilot.press("escape")
    assert world.blobs() == before


async def a_version_of_the_tree_is_planned_as_one(app: Explorer, pilot: Pilot[None]) -> None:
    session = app.session
    await pilot.press("1", "down", "down", "down", "right", "down")
    selection, what = app.records.selection()
    assert (selection.key_id, what) == (session.lab.key("orders").key_id, "on orders version 1")
    plan = (await planned(pilot)).plan
    assert plan is not None
    assert plan.total == 8


async def marks_survive_filter_sort_and_reading_again(app: Explorer, pilot: Pilot[None]) -> None:
    await pilot.press("space", "down", "space")
    marked = grid(app).view.marked_ids()
    assert marked == {"rec-00", f"{MARKUP}-01"}
    await typed(pilot, "prov:ctyun")
    assert status(app) == f"showing 4 of {RECORDS}, 2 marked (2 hidden by the filter)"
    await pilot.press("enter", "s", "s", "f5")
    await settled(pilot)
    await pilot.press("escape")
    await settled(pilot)
    assert grid(app).view.marked_ids() == marked


def test_quit_asks_while_a_campaign_is_at_work(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Event()

    def work(watch: Watch) -> None:
        while not (end.is_set() or watch.stop()):
            held_back(0.01)

    async def fails() -> None:
        raise RuntimeError

    async def flow() -> None:
        await flows.at_work(app_of[0], "Looking", work)

    async def writing() -> None:
        await flows.at_work(app_of[0], "Re-encrypting", work, campaign=True)

    app_of: list[Explorer] = []

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        app_of.append(app)
        app.begin("campaign", flow)
        await come(pilot, AtWork)
        app.begin("judge", fails)
        await until(pilot, lambda: "judge" not in app.begun)
        assert isinstance(app.screen, AtWork), "what is to be read waits"
        job = app.job
        assert job is not None
        await pilot.press("q")
        dialog = await come(pilot, Confirm)
        said = str(dialog.query_one(Sheet).render())
        assert "At work: Looking." in said
        assert "it changes nothing" in said
        end.set()
        await come(pilot, Notice)
        await pilot.press("escape")
        await come(pilot, Confirm)
        await pilot.press("escape")
        await back(pilot)
        assert not job.stopping
        for log in stage.log_folder.glob("*"):
            log.unlink()
        end.clear()
        app.begin("campaign", writing)
        await come(pilot, AtWork)
        await pilot.press("ctrl+q")
        dialog = await come(pilot, Confirm)
        assert "resumed or undone" in str(dialog.query_one(Sheet).render())
        await pilot.press("y")
        await until(pilot, lambda: app._exit)

    stage.play(session, scene)


def test_escape_stops_after_the_chunk_and_the_rest_is_resumed(
    tmp_path: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over two chunks: stopped after the first one, then continued to the end; then left."""
    monkeypatch.setattr("kmslab.records.text.CHUNK_ROWS", 1_000)
    with Lab.create(tmp_path / "lab", clock=ManualClock(NOW)) as lab:
        rows = make_rows(lab, make_keys(lab), 1_100)
        spec = write_csv(tmp_path / "many", rows)
        ground = Ground(lab, State.of(tmp_path / "lab", None), ManualClock(NOW))
        session = Session(lab, ground, "lab", spec=spec, source="many.csv")

        planning, ended_early = Event(), Event()

        def endless(*_: object, watch: Watch, **__: object) -> None:
            planning.set()
            end = monotonic() + 60
            while monotonic() < end:
                if watch.stop():
                    ended_early.set()
                    return
                held_back(0.01)

        def make() -> Plan:
            source, options = ground.open_source(spec), Options(verify="answer")
            return make_plan(source, spec, lab, STAY, clock=ground.clock, options=options)

        async def scene(app: Explorer, pilot: Pilot[None]) -> None:
            asked = Event()

            def begin(watch: Watch) -> object:
                assert asked.wait(60)
                return run(ground, spec, watch=watch)

            ended: list[object] = []

            async def flow() -> None:
                ended.append(await flows.at_work(app, "Re-encrypting", begin))

            app.begin("campaign", flow)
            await come(pilot, AtWork)
            await pilot.press("escape")
            assert app.job is not None
            assert app.job.stopping
            asked.set()
            await back(pilot)
            state = ended[0].error
            assert state is not None
            lab.rotate(lab.key("orders").key_id)
            await pilot.press("f5")
            await until(pilot, lambda: "is not finished (J)" in status(app))
            await pilot.press("a", "r")
            stopped = await come(pilot, PlanScreen)
            await until(pilot, lambda: stopped.plan is not None)
            await pilot.press("enter")
            refused = [entry.text for entry in app.activity.entries if entry.failed]
            assert "J continues, undoes or ends it" in refused[-1], "told before it is agreed to"
            await pilot.press("escape", "A", "J")
            await until(pilot, lambda: app.screen.chosen is not None)
            assert "not planned" in screen_text(app)
            await pilot.press("c")
            dialog = await come(pilot, Confirm)
            left = int(
                re.search(r"re-encrypt ([0-9,]+) rec", str(dialog.query_one(Sheet).render()))[
                    1
                ].replace(",", "")
            )
            await pilot.press("y")
            result = await come(pilot, ResultScreen)
            assert result.report.state == "finished"
            results = result.report.results
            assert results.re_encrypted + results.failed == left, "what was agreed to, no more"
            await pilot.press("escape")
            await come(pilot, Journals)
            for letter, said, state in (("u", "Undo", "undone"), ("C", "Abandon", "closed")):
                lab.rotate(lab.key("orders").key_id)
                with pytest.raises(CampaignInterrupted):
                    run(ground, spec, plan=make(), watch=Watch(stop=lambda: True))
                there = len(app.screen._found)
                await pilot.press("f5")
                await until(pilot, lambda there=there: len(app.screen._found) > there)
                await pilot.press("g")
                await until(pilot, lambda: app.screen.chosen.state == "running")
                await pilot.press(letter)
                dialog = await come(pilot, Confirm)
                assert dialog._title.startswith(f"{said} campaign")
                await pilot.press("y")
                if letter == "u":
                    await come(pilot, ResultScreen)
                    await pilot.press("escape")
                await come(pilot, Journals)
                await until(pilot, lambda state=state: app.screen.chosen.state == state)
            await pilot.press("escape")
            await back(pilot)
            await until(pilot, lambda: "is not finished" not in status(app))
            with monkeypatch.context() as patch:
                patch.setattr(plan, "make_plan", endless)
                await pilot.press("r")
                await until(pilot, planning.is_set)
                await pilot.press("q")
                await until(pilot, lambda: app._exit)

        stage.play(session, scene)
        assert ended_early.wait(60), "nobody waits for the plan"


def test_a_failing_provider_is_told_per_record_and_the_app_lives_on(
    lab: Lab, session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.faults.add("ReEncrypt", "InternalError", count=1)
    lab.faults.add("ReEncrypt", "UnauthorizedOperation", count=2)
    asked: list[tuple[str, bool]] = []

    def spied(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def spy(*given: object, **options: object) -> object:
            asked.append((name, current_thread() is main_thread()))
            return real(*given, **options)

        monkeypatch.setattr(module, name, spy)

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await typed(pilot, "key:orders out:stale")
        await pilot.press("enter", "a")
        spied(view, "marked_ids")
        spied(flows, "failed_ids")
        await planned(pilot)
        report = (await agreed(pilot)).report
        assert (report.results.re_encrypted, report.results.failed) == (6, 2)
        await pilot.press("f")
        await back(pilot)
        await until(pilot, lambda: app.marked == 2)
        await settled(pilot)
        found = {("marked_ids", False), ("failed_ids", False)}
        assert set(asked) == found, "neither is looked for in the event loop"
        failed = {failure.record_id for failure in report.failures}
        assert grid(app).view.marked_ids() == failed
        await settled(pilot)
        assert status(app) == f"showing 2 of {RECORDS}, 2 marked", "they are what is shown"
        assert isinstance(app.screen, Records)

    stage.play(session, scene)


def test_what_needs_more_than_one_key(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            enter_alone_never_re_encrypts,
            many_records_are_agreed_to_by_their_number,
            a_plan_says_what_is_left_and_why,
            records_of_a_disabled_key_are_blocked,
            a_version_of_the_tree_is_planned_as_one,
            marks_survive_filter_sort_and_reading_again,
        ),
    )


def test_mark_plan_agree_watch_and_undo(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def what_is_typed_ahead_undoes_nothing(app: Explorer, pilot: Pilot[None]) -> None:
        before = world_of(app).blobs()
        monkeypatch.setattr(confirm, "QUIET", 60.0)
        answers: list[bool | None] = []
        counting = Confirm("Sure?", Text("all"), answer="Do it", records=SURE + 1)
        app.push_screen(counting, answers.append)
        await until(pilot, lambda: counting._quiet_since is not None)
        await pilot.press(*"100", "enter", "1", "enter")
        assert answers == [True], "a number that is right is no chance"
        await pilot.press("u", "slash", *"pay", "enter")
        dialog = await come(pilot, Confirm)
        assert not dialog.hears
        await pilot.press(*"payday", "right", "enter")
        assert app.screen is dialog
        assert world_of(app).blobs() == before
        monkeypatch.setattr(confirm, "QUIET", 0.0)
        await pilot.press("y")
        undone = await come(pilot, ResultScreen)
        assert undone.report.state == "undone"

    stage.play(
        session,
        in_turn(
            marked_records_are_re_encrypted_and_undone,
            cancel_is_focused_and_the_yes_button_can_be_reached,
            what_is_typed_ahead_undoes_nothing,
        ),
    )
