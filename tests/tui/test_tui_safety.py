"""What must never be seen, what must never be lost, and what others do meanwhile."""

from __future__ import annotations

import csv
import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from rich.cells import cached_cell_len
from textual.color import Color
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Static, TextArea
from tui_golden import screen_text
from tui_tables import row, table_of
from tui_world import (
    CANARY,
    MARKUP,
    RECORDS,
    STALE,
    Stage,
    World,
    back,
    come,
    forget,
    grid,
    hears,
    in_turn,
    settled,
    status,
    told,
    typed,
    until,
    world_of,
)

from kmslab import Lab
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted, StateError
from kmslab.model import KeyState
from kmslab.records.spec import SourceSpec
from kmslab.secret import Plaintext
from kmslab.tui import saving, watching
from kmslab.tui.app import BUG, Explorer
from kmslab.tui.crash import write_crash
from kmslab.tui.dialogs import confirm
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.decrypt import Preview
from kmslab.tui.dialogs.form import Choose, Form
from kmslab.tui.dialogs.notice import Notice, Whole
from kmslab.tui.grid import Grid
from kmslab.tui.screens import journals
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.layout import FilterLine
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.records import Records
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.screens.sources import SourcesScreen
from kmslab.tui.session import Session
from kmslab.tui.sorting import By, Sort
from kmslab.tui.table import Block
from kmslab.tui.theme import THEMES
from kmslab.tui.tree import Everything, Place


def measured() -> bool:
    """Whether Rich holds a plaintext among the texts whose width it remembers."""
    held = gc.get_referents(cached_cell_len)
    return any(isinstance(text, str) and CANARY in text for text in held)


async def a_plaintext_is_seen_where_it_was_asked_for(app: Explorer, pilot: Pilot[None]) -> None:
    lab = app.session.lab
    await pilot.press("d")
    preview = await come(pilot, Preview)
    assert CANARY not in screen_text(app)
    await pilot.press("space")
    assert f"{CANARY} 0" in screen_text(app)
    await pilot.press("space")
    assert CANARY not in screen_text(app)
    assert measured()
    await pilot.press("space", "escape")
    await back(pilot)
    assert CANARY not in screen_text(app)
    assert preview._plaintext is None
    assert CANARY not in repr(vars(preview))
    assert not measured()
    await pilot.press("d")
    preview = await come(pilot, Preview)
    held = preview._plaintext
    preview._forget()
    await until(pilot, lambda: sys.getrefcount(held) <= 2)  # only this test holds it
    await pilot.press("escape")
    await back(pilot)
    assert any(entry.action == "Decrypt" for entry in lab.audit.entries())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confirm, "QUIET", 60.0)
        left = Preview("rec-00", Plaintext(CANARY.encode()))
        app.push_screen(left)
        await until(pilot, lambda: left._quiet_since is not None)
        await pilot.press("space")
        assert CANARY not in screen_text(app), "it was typed ahead"
        patch.setattr(confirm, "QUIET", 0.0)
        await pilot.press("space")
        assert CANARY in screen_text(app)
        text = left.query_one("#plaintext", Static)
        await app.pop_screen()
    assert left._plaintext is None
    assert CANARY not in str(text.content)
    assert not measured()
    brief = Preview("rec-00", Plaintext(CANARY.encode()), seconds=0.2)
    app.push_screen(brief)
    await pilot.pause()
    await pilot.press("space")
    await until(pilot, lambda: "(cleared)" in screen_text(app))
    assert brief._plaintext is None
    await pilot.press("space")
    assert CANARY not in screen_text(app)
    await pilot.press("escape")
    await typed(pilot, "id:cut")
    await pilot.press("enter", "d")
    await hears(pilot, "InvalidCiphertext")
    lab.faults.add("Decrypt", "InternalError")
    await pilot.press("escape")
    await settled(pilot)
    await pilot.press("g", "d")
    assert "It opens with key" in await hears(pilot, "InternalError")


async def markup_is_shown_as_it_is(app: Explorer, pilot: Pilot[None]) -> None:
    text = screen_text(app)
    assert f"{MARKUP}-01" in text
    for owner in ("[bold]o[/]", "欧阳建国"):
        await pilot.press("i")
        await pilot.pause()
        assert owner in screen_text(app)
        await pilot.press("escape", "down")
    await pilot.press("g")
    await pilot.press("down", "Y")
    await come(pilot, Whole)
    assert MARKUP in screen_text(app)
    await pilot.press("escape")
    app.push_screen(Whole("rec\x1b]0;x\x07", "\x1b]52;c;aGk=\x07"))
    whole = await come(pilot, Whole)
    assert "\\x1b]0;x\\x07" in screen_text(app)
    assert "\x1b" not in whole.query_one(TextArea).text
    await pilot.press("escape", "y")
    await pilot.pause()
    assert app.clipboard == app.records.record.ciphertext_blob
    await pilot.press("i")
    await pilot.pause()
    assert f"{MARKUP}-01" in screen_text(app)
    await pilot.press("escape")


async def what_is_long_or_unseen_keeps_to_its_line(app: Explorer, pilot: Pilot[None]) -> None:
    file = world_of(app).csv
    kept = file.read_text(encoding="utf-8")
    names = {
        "rec-00": "L" * 200,
        "rec-02": "c\x1b]0;x\x07\u202e-" + "d" * 40,
        "rec-03": "账单" * 40,
    }
    text = kept
    for name, other in names.items():
        text = text.replace(f"{name},", f"{other},")
    file.write_text(text, encoding="utf-8")
    await pilot.press("f5")
    await settled(pilot)
    await pilot.resize_terminal(40, 10)
    for other in (names["rec-00"], MARKUP, names["rec-02"], names["rec-03"]):
        await pilot.press("i")
        await pilot.pause()
        assert app.screen._record.record_id.startswith(other)
        shown = app.export_screenshot()
        assert not {letter for letter in shown if letter < " " and letter != "\n"}
        assert "\u202e" not in shown
        assert screen_text(app).splitlines()[1].endswith("…") == (len(other) > 20)
        await pilot.press("escape", "down")
    await pilot.resize_terminal(100, 24)
    file.write_text(kept, encoding="utf-8")
    await pilot.press("f5")
    await settled(pilot)


async def a_lab_that_another_process_changes_shows_it(app: Explorer, pilot: Pilot[None]) -> None:
    world = world_of(app)
    with world.lab() as other:
        other.rotate(other.key("orders").key_id)
    await until(pilot, lambda: app.records.tallies.every.old == STALE + 4)
    said = "keys were changed by somebody else: orders was rotated"
    await hears(pilot, said)
    await pilot.press("a", "r")
    plan = await come(pilot, PlanScreen)
    await until(pilot, lambda: plan.plan is not None)
    first = plan.plan
    with world.lab() as other:
        other.tencent().update_alias(other.key("orders").key_id, "sales")
    await until(pilot, lambda: plan.plan not in (None, first))
    assert "planned anew, since sales was orders" in screen_text(app)
    await pilot.press("enter")
    await come(pilot, Confirm)
    with world.lab() as other:
        other.rotate(other.key("sales").key_id)
        await pilot.press("y")
        await until(pilot, lambda: app.screen is not plan and isinstance(app.screen, PlanScreen))
    await hears(pilot, "sales was rotated")
    await pilot.press("escape")
    await back(pilot)
    await pilot.press("J", "c", "escape")
    entries = [entry.text for entry in app.activity.entries]
    assert said in entries
    assert "Continue: there is no campaign" in entries
    rows = world.csv.read_text(encoding="utf-8").splitlines(keepends=True)
    world.csv.write_text("".join(rows[:-2]), encoding="utf-8")
    await until(pilot, lambda: grid(app).view.total == RECORDS - 2)
    await hears(pilot, "the source was changed")


async def what_is_done_here_was_done_by_nobody_else(app: Explorer, pilot: Pilot[None]) -> None:
    """Also where it is looked for before keys and source are read again."""
    forget(app)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Explorer, "keys_changed", lambda app: None)
        patch.setattr(Explorer, "read_again", lambda app: None)
        await pilot.press("1", "j", "j", "j", "R")
        await come(pilot, Confirm)
        await pilot.press("y")
        await hears(pilot, "orders has version 3")
        await app.records._look()
        await pilot.press("2", "a", "r")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen) and app.screen.plan)
        await pilot.press("enter")
        await come(pilot, Confirm)
        await pilot.press("y")
        await come(pilot, ResultScreen)
        await app.records._look()
        await pilot.pause()
    assert "somebody else" not in " ".join(told(app))
    app.keys_changed()
    app.read_again()
    await pilot.press("escape")
    await back(pilot)


async def a_source_that_vanishes_is_a_message(app: Explorer, pilot: Pilot[None]) -> None:
    world = world_of(app)
    total = grid(app).view.total
    world.csv.rename(world.csv.with_suffix(".away"))
    forget(app)
    await app.records._look()
    await until(pilot, lambda: status(app).startswith("! "))
    said = await hears(pilot, "there is no such file")
    assert told(app) == [said], "one message, and it says what is so"
    assert said.endswith("there is no such file")
    assert grid(app).view.total == total, "what was read is still shown"
    forget(app)
    await pilot.press("a", "r")
    await hears(pilot, "records.csv")
    assert isinstance(app.screen, PlanScreen)
    await pilot.press("escape")
    await back(pilot)
    world.csv.with_suffix(".away").rename(world.csv)
    await pilot.press("f5")
    await until(pilot, lambda: not status(app).startswith("! "))


async def what_is_left_before_it_is_read_is_no_error(app: Explorer, pilot: Pilot[None]) -> None:
    began, end = Event(), Event()

    def slow(_: object) -> Iterator[object]:
        began.set()
        end.wait(60)
        return iter(())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journals, "campaigns", slow)
        await pilot.press("J")
        await until(pilot, began.is_set)
        await pilot.press("escape")
        await back(pilot)
        end.set()
        await pilot.pause(0.1)
        assert not isinstance(app.screen, Notice)


async def a_lab_that_cannot_be_read_is_a_message(app: Explorer, pilot: Pilot[None]) -> None:
    def refuses() -> None:
        raise StateError("the lab is not what it was")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.session.lab, "keys", refuses)
        await pilot.press("r")
        screen = await come(pilot, PlanScreen)
        await until(pilot, lambda: "No plan" in str(screen.query_one("#plan", Static).render()))
        forget(app)
        await pilot.press("d")
        await hears(pilot, "not what it was")
        await pilot.press("escape")
        await back(pilot)


async def a_filter_that_is_none_says_where(app: Explorer, pilot: Pilot[None]) -> None:
    await typed(pilot, "out:nonsense")
    assert "'nonsense' is not a word of the column STATE" in status(app)
    assert status(app).endswith(f"{RECORDS} records")
    assert grid(app).view.shown == RECORDS
    await pilot.press("enter", "a", "x")
    assert app.marked == 0, "what was asked for is not what is shown"
    await hears(pilot, "the filter is wrong")
    await pilot.press("space", "slash")
    line = app.records.query_one(FilterLine)
    assert (line.selected_text, line.cursor_position) == ("", len("out:nonsense"))
    line.value = "is:marked"
    await settled(pilot)
    await pilot.press("enter")
    assert grid(app).view.shown == 1
    await pilot.press("A")
    await settled(pilot)
    assert grid(app).view.shown == 0
    await pilot.press("escape")
    await settled(pilot)
    for key in ("slash", *"outstale", "enter", "a"):  # all at once, as over a slow line
        app.post_message(Key(key, "/" if key == "slash" else key if len(key) == 1 else None))
    await until(pilot, lambda: line.value == "outstale" and grid(app).has_focus)
    await settled(pilot)
    assert (grid(app).view.shown, app.marked) == (0, 0), "nothing is marked that was not asked for"
    await pilot.press("escape")
    await until(pilot, lambda: not status(app).startswith("!"))


@pytest.mark.usefixtures("often")
def test_an_unforeseen_error_tells_a_log_and_nothing_that_it_held(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "crashes"

    def raises(*_: object) -> None:
        secret = CANARY
        raise RuntimeError(f"holding {secret}")

    async def fails() -> None:
        secret = CANARY
        raise RuntimeError(f"holding {secret}")

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        app.begin("something", fails)
        await come(pilot, Notice)
        shown = " ".join(screen_text(app).replace("│", " ").split())
        assert "RuntimeError" in shown
        assert CANARY not in shown
        await pilot.press("escape")
        await back(pilot)
        (log,) = folder.glob("*.log")
        assert log.stat().st_mode & 0o777 == 0o600
        assert "in fails" in log.read_text(encoding="utf-8")
        assert CANARY not in log.read_text(encoding="utf-8")
        log.unlink()
        places = [
            (type(session), "sources", ["a", "r"]),
            (type(session.lab), "keys", ["f5"]),
            (watching.Watched, "look", ["f5"]),  # which looks again where the one before ended it
        ]
        for owner, name, keys in places:
            with monkeypatch.context() as patch:
                value = property(raises) if name == "sources" else raises
                patch.setattr(owner, name, value)
                await pilot.press(*keys)
                await until(pilot, lambda: isinstance(app.screen, Notice))
                assert CANARY not in screen_text(app), name
                plans = [each for each in app.screen_stack if isinstance(each, PlanScreen)]
                assert len(plans) == (name == "sources")
                for plan in plans:
                    await pilot.pause(0.15)
                    assert "No plan" in str(plan.query_one("#plan", Static).render())
            while not isinstance(app.screen, Records):
                await pilot.press("escape")
                await pilot.pause()
            for log in folder.glob("*.log"):
                assert CANARY not in log.read_text(encoding="utf-8")
                log.unlink()
        assert app.return_code is None

    Stage(folder).play(session, scene)


def test_an_error_in_the_event_loop_ends_it_with_a_message(
    session: Session, tmp_path: Path
) -> None:
    app = Explorer(session, tmp_path)
    app._handle_exception(ValueError(CANARY))
    assert app.return_code == BUG
    (shown,) = app._exit_renderables
    assert CANARY not in str(shown)
    assert str(next(tmp_path.glob("tui-*.log"))) in str(shown)


def test_a_log_that_cannot_be_written_is_no_further_error(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    assert write_crash(ValueError(), place) is None


def test_exports_hold_all_that_is_marked_or_shown(
    world: World, session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.path)

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await typed(pilot, "prov:ctyun")
        await pilot.press("enter", "s", "S")
        for name, form in (("a.csv", "csv"), ("a.jsonl", "jsonl"), ("m.csv", "csv")):
            await settled(pilot)
            await pilot.press(*(["space", "down", "space"] * (name == "m.csv")), "x")
            await come(pilot, Choose)
            await pilot.press(*(["down"] * (form == "jsonl")), "enter")
            dialog = await come(pilot, Form)
            dialog.query_one("#file").value = name
            dialog.query_one("#go").press()
            await back(pilot)
            await until(pilot, (world.path / name).exists)
        await settled(pilot)
        await pilot.press("o")
        dialog = await come(pilot, Form)
        dialog.query_one("#file").value = "a.csv"
        dialog.query_one("#go").press()
        await pilot.pause()
        assert isinstance(app.screen, Form), "nothing is written over"
        await pilot.press("escape")

    stage.play(session, scene)
    blobs = world.blobs()
    shown = [f"rec-{at:02}" for at in (8, 9, 10, 11)]
    for name, ids in (("a.csv", shown), ("m.csv", shown[:2])):
        with (world.path / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == saving.COLUMNS
        found = {row["record_id"]: row["ciphertext_blob"] for row in rows}
        assert list(found.items()) == [(each, blobs[each]) for each in ids], name
    lines = (world.path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["record_id"] for line in lines] == shown


def test_an_export_unpacks_each_block_once_and_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = table_of([each for at in range(12) for each in row(f"r-{at}")])
    unpacked: list[Block] = []
    records = Block.records
    monkeypatch.setattr(Block, "records", lambda b, s: unpacked.append(b) or records(b, s))
    wanted = [11, 3, 4, 2, 8, 5]
    lines = "".join(saving.exported(table, wanted, "jsonl")).splitlines()
    assert [json.loads(line)["record_id"] for line in lines] == [f"r-{at}" for at in wanted]
    assert len(unpacked) == 3
    with pytest.raises(CampaignInterrupted, match="stopped while exporting"):
        saving.exported(table, wanted, "csv", Watch(stop=lambda: True))
    assert len(unpacked) == 4


def test_what_utf_8_has_no_bytes_for_is_written_as_its_escape(tmp_path: Path) -> None:
    saving.write_new(tmp_path / "new", ['"\udc80', '\r\n"'])
    assert (tmp_path / "new").read_bytes() == b'"\\udc80\r\n"'


def test_no_source_and_no_records(world: World, lab: Lab, painted_stage: Stage) -> None:
    session, frozen = world.session(lab, spec=None, source=""), lab.key("frozen")

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        assert "no source" in screen_text(app)
        assert all(name in screen_text(app) for name in ("orders", "bills", "frozen"))
        await pilot.press("r")
        await hears(pilot, "there is no source")
        app.records.place = Place("tencent", frozen.key_id, None, frozen)
        await pilot.press("D")
        form = await come(pilot, Form)
        form.query_one("#go").press()
        await come(pilot, Confirm)
        assert "In no source (none is open: there may be more)" in screen_text(app)
        await pilot.press("y")
        assert isinstance(app.screen, Confirm), "nobody has counted: the name has to be typed"
        await pilot.press("escape")
        await back(pilot)
        assert lab.key("frozen").state is KeyState.DISABLED
        app.records.place = Everything
        for key in ("1", "2", "3", "i", "x", "K", "u", "f5", "a", "space", "s"):
            await pilot.press(key)
        for size in ((40, 10), (200, 50)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await back(pilot)
        assert "kmslab source add NAME FILE registers one" in screen_text(app)
        session.sources.add("empty", SourceSpec(str(world.csv)))
        await pilot.press("f5")
        await until(pilot, lambda: "O opens one that is registered" in screen_text(app))
        lines = world.csv.read_text(encoding="utf-8").splitlines(keepends=True)
        world.csv.write_text(lines[0], encoding="utf-8")
        await pilot.press("O")
        await come(pilot, SourcesScreen)
        await pilot.press("enter")
        await until(pilot, lambda: "the source holds no record" in screen_text(app))

    painted_stage.play(session, scene)


def contrast(one: Color, other: Color) -> float:
    """How far two colours are apart, as the WCAG has it; 4.5 can be read."""

    def luminance(colour: Color) -> float:
        parts = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in colour.normalized
        ]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_themes_without_colour(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMSLAB_THEME", "ansi-dark")
    monkeypatch.setenv("NO_COLOR", "1")

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        def shown() -> list[str]:
            return [note.message for note in app._notifications]

        assert app.theme == "textual-dark", "a terminal's own colours would be black on black"
        for _ in THEMES:
            await pilot.press("t")
            assert not app.theme.startswith("ansi")
        app.no_color = False
        seen = []
        for _ in THEMES:
            await pilot.press("t")
            seen.append(app.theme)
            if not app.theme.startswith("ansi"):
                ground = grid(app).get_component_styles("grid--row").background
                for kind in ("stale", "current", "stopped", "other", "mark"):
                    colour = grid(app).get_component_styles(f"grid--{kind}").color
                    assert contrast(colour, ground) >= 4.5, (app.theme, kind)
        assert sorted(seen) == sorted(THEMES)
        await pilot.press("f10")
        assert app.read_only
        await pilot.press("f10")
        assert not app.read_only
        monkeypatch.setattr("kmslab.tui.app.BRIEF", 60.0)
        forget(app)
        app.tell(f"{MARKUP}\x1b[31m")
        await until(pilot, lambda: f"{MARKUP}\\x1b[31m" in screen_text(app))
        app.tell("the first of two", severity="warning")
        app.tell("the second")
        await until(pilot, lambda: "the second" in screen_text(app).splitlines()[0])
        assert "the first" not in screen_text(app)
        assert MARKUP not in screen_text(app).splitlines()[0]
        await pilot.press("J")
        await come(pilot, Journals)
        assert shown() == ["the second"], "what was told before stays"
        app.tell("about a journal", severity="warning")
        await pilot.press("escape")
        await back(pilot)
        assert shown() == [], "a message goes with its screen"

    stage.play(session, scene, notifications=True)


async def the_palette_has_every_action(app: Explorer, pilot: Pilot[None]) -> None:
    from kmslab.tui.actions import APP, GRID, RECORDS
    from kmslab.tui.commands import Commands

    provider = Commands(app.screen)
    hits = [hit async for hit in provider.discover()]
    shown = {hit.text for hit in hits}
    for action in (*RECORDS, *GRID, *APP):
        assert f"{action.title} ({action.shown_keys})" in shown
    keys = {name for binding in Grid.BINDINGS for name in binding.key.split(",")}
    assert {key for action in GRID for key in action.keys.split(",")} <= keys
    by_name = {hit.text: hit.command for hit in hits}
    await by_name["records: mark everything that is shown (a)"]()
    by_name["records: sort by age"]()
    await settled(pilot)
    assert app.marked == grid(app).view.total
    assert grid(app).wanted.sort == Sort(By.AGE)
    grid(app).ask_sort(None)
    await pilot.press("colon")
    await until(pilot, lambda: type(app.screen).__name__ == "CommandPalette")
    await pilot.press(*"journals")
    await until(pilot, lambda: "view: journals" in screen_text(app))
    await pilot.press("enter")
    await until(pilot, lambda: type(app.screen).__name__ == "Journals")


def test_the_sessions_own_files_are_removed() -> None:
    from kmslab.tui.session import demo_session

    with demo_session(locked=True) as session:
        place = Path(session.options[1]).parent
        assert session.read_only
        assert place.is_dir()
    assert not place.exists()


def test_what_is_seen_and_kept(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            a_plaintext_is_seen_where_it_was_asked_for,
            markup_is_shown_as_it_is,
            what_is_long_or_unseen_keeps_to_its_line,
            what_is_left_before_it_is_read_is_no_error,
            a_lab_that_cannot_be_read_is_a_message,
            a_filter_that_is_none_says_where,
            the_palette_has_every_action,
        ),
    )


def test_what_is_done_here_was_done_by_nobody_else(session: Session, stage: Stage) -> None:
    stage.play(session, what_is_done_here_was_done_by_nobody_else)


@pytest.mark.usefixtures("often")
def test_what_others_do_meanwhile(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            a_lab_that_another_process_changes_shows_it,
            a_source_that_vanishes_is_a_message,
        ),
    )
