"""The records screen while lab and source change under it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot
from tui_golden import screen_text
from tui_rest import held_back
from tui_world import (
    FROZEN,
    RECORDS,
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
    typed,
    until,
    world_of,
)

from kmslab import Lab
from kmslab.analysis import Outcome
from kmslab.cli.source_options import opener
from kmslab.errors import KmslabError, SourceError
from kmslab.records.spec import SourceSpec
from kmslab.tui import loading, reader
from kmslab.tui.app import Explorer
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Form
from kmslab.tui.reader import rows_of
from kmslab.tui.screens.layout import FilterLine
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.sources import SourcesScreen
from kmslab.tui.session import Session
from kmslab.tui.sheet import Sheet
from kmslab.tui.sorting import By, Sort
from kmslab.tui.table import Block
from kmslab.tui.tree import NO_KEY, Everything, KeyTree


class Gate:
    """Holds up the end of what a thread does, while it is shut."""

    def __init__(self) -> None:
        self.inside, self._open = Event(), Event()
        self._open.set()

    def over(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*given: Any) -> Any:
            found = real(*given)
            self.inside.set()
            self._open.wait(60)
            return found

        return slow

    def shut(self) -> None:
        self.inside.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """What holds up the end of a reading."""
    gate = Gate()
    monkeypatch.setattr(reader, "read", gate.over(reader.read))
    yield gate
    gate.open()


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """What holds up the end of a judging."""
    gate = Gate()
    monkeypatch.setattr(reader, "judge_again", gate.over(reader.judge_again))
    yield gate
    gate.open()


def blocked(app: Explorer) -> int:
    """How many records cannot be moved, as the table has it."""
    counts = grid(app).view.table.counts
    return sum(n for kind, n in counts.items() if kind.verdict.outcome is Outcome.BLOCKED)


def shorten(world: World, less: int) -> None:
    """Take records from the end of the source."""
    lines = world.csv.read_text(encoding="utf-8").splitlines(keepends=True)
    world.csv.write_text("".join(lines[:-less]), encoding="utf-8")


async def on_line(
    app: Explorer, pilot: Pilot[None], provider: str, key_id: str | None = None
) -> None:
    """Put the cursor on a line of the tree."""
    await pilot.press("1")
    tree = app.records.query_one(KeyTree)
    tree.move_cursor(tree._by_name[provider, key_id, None])
    assert (tree.place.provider, tree.place.key_id) == (provider, key_id)


def test_filter_order_and_marks_are_there_in_every_table_that_comes(
    world: World, session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another source is opened; of its records one has no time, so that they are read twice."""
    gate, blocks_of, begun = Event(), loading._blocks, Event()

    def cut(*given: Any) -> Iterator[Block]:
        yield from blocks_of(*given)
        if not begun.is_set():
            begun.set()
            gate.wait(60)
            raise SourceError("row 20: no time")

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await typed(pilot, "prov:ctyun")
        await pilot.press("enter", "s", "S")
        await settled(pilot)
        wanted, shown = grid(app).wanted, [*grid(app).view.rows]
        assert (wanted.sort, len(shown)) == (Sort(By.STATE, reverse=True), 4)
        app.session.sources.add("other", SourceSpec(str(world.csv)))
        monkeypatch.setattr(loading, "_blocks", cut)
        await pilot.press("O")
        await come(pilot, SourcesScreen)
        await pilot.press("enter")
        await back(pilot)
        await until(pilot, lambda: grid(app).view.total)
        assert sorted(grid(app).view.rows) == sorted(shown)
        await pilot.press("a")
        marked = grid(app).view.marked_ids()
        assert len(marked) == len(shown)
        gate.set()
        await settled(pilot)
        assert (grid(app).view.wanted, [*grid(app).view.rows]) == (wanted, shown)
        assert grid(app).view.marked_ids() == marked

    stage.play(session, scene)


def test_a_key_that_changes_while_records_are_judged_is_not_missed(
    lab: Lab, session: Session, stage: Stage, judging: Gate
) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        before = blocked(app)
        judging.shut()
        lab.rotate(lab.key("orders").key_id)
        app.keys_changed()
        await until(pilot, judging.inside.is_set)
        lab.ctyun().disable_key(lab.key("bills").key_id)
        app.keys_changed()
        judging.open()
        await until(pilot, lambda: blocked(app) > before)

    stage.play(session, scene)


def test_what_changes_while_the_source_is_read_is_not_missed(
    world: World, lab: Lab, session: Session, stage: Stage, reading: Gate
) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        before = blocked(app)
        reading.shut()
        await pilot.press("f5")
        await until(pilot, reading.inside.is_set)
        lab.ctyun().disable_key(lab.key("bills").key_id)
        shorten(world, 2)
        await app.records._look()
        reading.open()
        await until(pilot, lambda: blocked(app) > before and grid(app).view.total == RECORDS - 2)

    stage.play(session, scene)


def test_judging_ends_when_the_explorer_is_left(
    session: Session, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, asked = Event(), Event()

    def endless(table: Any, job: Any, stop: Callable[[], bool]) -> Any:
        inside.set()
        for _ in range(3000):
            if stop():
                asked.set()
                break
            held_back(0.02)
        return table

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        monkeypatch.setattr(reader, "judge_again", endless)
        app.keys_changed()
        await until(pilot, inside.is_set)

    stage.play(session, scene)
    assert asked.is_set()


async def the_records_that_are_named_are_marked(app: Explorer, pilot: Pilot[None]) -> None:
    """Another table comes while their rows are looked for."""
    away, asked = app.away, frozenset({"rec-05"})

    async def slow(work: Callable[[], Any]) -> Any:
        found = await away(work)
        if app.away is not slow or getattr(work, "func", None) is not rows_of:
            return found  # a look at lab and source, or at ids
        app.away = away  # type: ignore[method-assign]
        rows = world_of(app).csv.read_text(encoding="utf-8").splitlines(keepends=True)
        world_of(app).csv.write_text("".join([rows[0], *rows[3:]]), encoding="utf-8")
        app.read_again()
        await settled(pilot)
        assert grid(app).view.total == len(rows) - 3
        return found

    app.away = slow  # type: ignore[method-assign]
    await app.mark_records(asked)
    assert grid(app).view.marked_ids() == asked


async def what_is_typed_after_slash_is_for_the_filter(app: Explorer, pilot: Pilot[None]) -> None:
    for key in ("slash", "a", "slash", "v"):
        app.post_message(Key(key, "/" if key == "slash" else key))
    await settled(pilot)
    assert app.records.query_one(FilterLine).value == "a/v"
    assert (grid(app).view.marked, grid(app).begun) == (0, None)
    for key in "12":
        await pilot.press(key)
    assert app.records.query_one(FilterLine).value == "a/v12"
    await pilot.press("escape")
    await settled(pilot)
    for keys in ("1jj", "2j"):  # as fast as a terminal gives them
        for key in keys:
            app.post_message(Key(key, key))
        await settled(pilot)
    assert (app.records.query_one(KeyTree).cursor_line, grid(app).cursor) == (2, 1)


async def a_provider_of_the_tree_is_planned_alone(app: Explorer, pilot: Pilot[None]) -> None:
    await on_line(app, pilot, "ctyun")
    await pilot.press("r")
    plan = await come(pilot, PlanScreen)
    await until(pilot, lambda: plan.plan)
    assert (plan.plan.total, plan._what) == (4, "all of CTyun")


async def what_the_data_call_a_provider_is_no_filter(app: Explorer, pilot: Pilot[None]) -> None:
    file = world_of(app).csv
    kept = file.read_text(encoding="utf-8")
    text = kept.replace("rec-cut,tencent,", 'rec-cut,"aws ""kms"" !x",')
    file.write_text(text.replace("rec-05,tencent,", "rec-05,aws,"), encoding="utf-8")
    await pilot.press("f5")
    await settled(pilot)
    for name, shown in (('aws "kms" !x', ["rec-cut"]), ("aws", ["rec-05"])):
        await on_line(app, pilot, name)
        await pilot.press("enter")
        await settled(pilot)
        view = grid(app).view
        assert [view.table.record(at).record_id for at in view.rows] == shown
    file.write_text(kept, encoding="utf-8")
    app.records.place = Everything
    app.records._filter()
    await pilot.press("f5")
    await settled(pilot)


async def the_lines_below_a_provider_sum_to_its_own(app: Explorer, pilot: Pilot[None]) -> None:
    tree = app.records.query_one(KeyTree)
    places = [node.data for node in tree._by_name.values()]
    for provider in ("tencent", "ctyun"):
        keys = [p for p in places if p.provider == provider and p.key_id is not None]
        below = sum(tree._tally(place).total for place in keys if place.version_id is None)
        assert below == tree.tallies.providers[provider].total
    await on_line(app, pilot, "tencent", NO_KEY)
    await pilot.press("r", "enter")
    await settled(pilot)
    await hears(pilot, "the blobs there name no key")
    assert [app.records.record.record_id, grid(app).view.shown] == ["rec-cut", 1]
    await pilot.press("escape")
    await settled(pilot)


async def what_a_line_of_the_tree_cannot_do_is_grey(app: Explorer, pilot: Pilot[None]) -> None:
    def grey(*keys: str) -> list[bool]:
        could = zip(app.records.ACTIONS, app.records._could, strict=True)
        found = {action.keys: not can for action, can in could}
        return [found[key] for key in keys]

    frozen = app.session.lab.key("frozen").key_id
    await settled(pilot)
    assert grey("K", "R", "r") == [False, False, False]
    await on_line(app, pilot, "tencent")
    await settled(pilot)
    assert grey("K", "R", "r") == [True, True, False]
    await on_line(app, pilot, "tencent", frozen)
    await settled(pilot)
    assert grey("K", "R", "r") == [False, True, False]
    await on_line(app, pilot, "tencent", NO_KEY)
    await settled(pilot)
    assert grey("K", "R", "r") == [True, True, True]


async def nothing_is_said_of_versions_that_a_provider_does_not_tell(
    app: Explorer, pilot: Pilot[None]
) -> None:
    app.session.lab.faults.add("DescribeKey", "InternalError", count=100)
    await pilot.press("f5")
    await settled(pilot)
    tree = app.records.query_one(KeyTree).region
    lines = screen_text(app).splitlines()[tree.y : tree.y + 5]
    said = ["no answer" in line[: tree.right] for line in lines]
    assert said == [True, True, False, True, False], "frozen is disabled, CTyun answers"
    assert "! tencent does not answer (F5 asks again)" in status(app)
    await pilot.press("i")
    assert "outcome     ✗ no answer: " in screen_text(app)
    assert "no answer: no answer" not in screen_text(app)
    await pilot.press("escape", "a", "r")
    plan = await come(pilot, PlanScreen)
    await until(pilot, lambda: "No plan: InternalError" in screen_text(app))
    assert plan.plan is None
    await pilot.press("escape")
    await back(pilot)
    app.session.lab.faults.clear()
    await pilot.press("f5")
    await settled(pilot)
    assert "no answer" not in screen_text(app) + status(app)


async def records_with_the_same_id_are_told_of(app: Explorer, pilot: Pilot[None]) -> None:
    file = world_of(app).csv
    text = file.read_text(encoding="utf-8")
    for name in ("rec-03", "rec-04"):
        text = text.replace(f"{name},", "rec-00,")
    file.write_text(text, encoding="utf-8")
    await pilot.press("f5")
    await settled(pilot)
    for mark, what in (("", "rec-00"), ("space", "1 marked")):
        await pilot.press(*mark.split())
        await until(pilot, lambda mark=mark: not mark or "2 others" in status(app))
        await pilot.press("r")
        plan = await come(pilot, PlanScreen)
        await until(pilot, lambda plan=plan: plan.plan)
        assert plan._what == f"{what}, and 2 others with the same id"
        await pilot.press("escape")
        await back(pilot)


async def deletion_of(app: Explorer, pilot: Pilot[None], alias: str) -> str:
    """What is said before the deletion of a key."""
    key = app.session.lab.key(alias)
    await on_line(app, pilot, key.provider, key.key_id)
    await pilot.press("D")
    form = await come(pilot, Form)
    form.query_one("#go").press()
    dialog = await come(pilot, Confirm)
    said = str(dialog.query_one(Sheet).render())
    assert dialog._wanted == (alias if "there may be more" in said else "")
    await pilot.press("escape")
    await back(pilot)
    return said


async def nothing_is_said_of_records_that_cannot_be_counted(
    app: Explorer, pilot: Pilot[None]
) -> None:
    file = world_of(app).csv
    kept = file.rename(file.with_name("kept.csv"))
    await pilot.press("f5")
    await settled(pilot)
    said = await deletion_of(app, pilot, "frozen")
    assert "(it cannot be read: there may be more)" in said
    kept.rename(file)
    await pilot.press("f5")
    await settled(pilot)
    assert f"records.csv: {FROZEN} records on it" in await deletion_of(app, pilot, "frozen")


async def an_error_of_the_lab_is_told_while_it_lasts(app: Explorer, pilot: Pilot[None]) -> None:
    screen, lab = app.records, app.session.lab
    seen = screen.watched.keys_seen

    def busy() -> Any:
        raise KmslabError("the lab is busy")

    screen.watched.keys_seen = busy  # type: ignore[method-assign]
    await until(pilot, lambda: "the lab is busy" in status(app))
    grid(app).ask_filter("out:stale")
    screen._filter()
    await settled(pilot)
    assert "the lab is busy" in status(app), "a filter does not mend it"
    screen.watched.keys_seen = seen  # type: ignore[method-assign]
    await until(pilot, lambda: "the lab is busy" not in status(app))
    key = lab.key("orders")
    keys, lab.keys = lab.keys, busy  # type: ignore[method-assign]
    await pilot.press("f5")
    await settled(pilot)
    assert app.return_code is None
    await hears(pilot, "the lab is busy")
    kms = lab.tencent()
    kms.update_alias(key.key_id, "orders-2")
    await until(pilot, lambda: "the lab is busy" in status(app))
    lab.keys = keys  # type: ignore[method-assign]
    await until(pilot, lambda: "the lab is busy" not in status(app))
    await until(pilot, lambda: app.records.keys[key.key_id].alias == "orders-2")
    kms.update_alias(key.key_id, "orders")


@pytest.mark.usefixtures("often")
def test_what_is_shown_stays_true(session: Session, stage: Stage) -> None:
    stage.play(
        session,
        in_turn(
            what_is_typed_after_slash_is_for_the_filter,
            a_provider_of_the_tree_is_planned_alone,
            what_the_data_call_a_provider_is_no_filter,
            the_lines_below_a_provider_sum_to_its_own,
            what_a_line_of_the_tree_cannot_do_is_grey,
            nothing_is_said_of_versions_that_a_provider_does_not_tell,
            records_with_the_same_id_are_told_of,
            the_records_that_are_named_are_marked,
            nothing_is_said_of_records_that_cannot_be_counted,
            an_error_of_the_lab_is_told_while_it_lasts,
        ),
    )


def test_records_that_are_not_counted_yet_are_not_none(
    session: Session, stage: Stage, reading: Gate
) -> None:
    assert session.spec is not None
    session.sources.add("other", session.spec)

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        reading.shut()
        await pilot.press("O")
        await come(pilot, SourcesScreen)
        await pilot.press("enter")
        await until(pilot, reading.inside.is_set)
        said = await deletion_of(app, pilot, "frozen")
        assert "In other (not counted yet: there may be more)" in said
        assert "no record" not in said
        forget(app)
        await pilot.press("1", "g", "r")
        await hears(pilot, "not all records are read yet")
        await back(pilot)
        reading.open()
        await settled(pilot)
        assert f"In other: {FROZEN} records" in await deletion_of(app, pilot, "frozen")

    stage.play(session, scene)


def test_a_password_goes_to_its_own_database_alone(world: World, lab: Lab) -> None:
    here, other = SourceSpec("postgresql://app@db.example/shop"), SourceSpec("postgresql://x/y")
    session = world.session(lab, spec=here, password=(here.location, "secret"))
    assert session.password_of(here) == "secret"
    assert session.password_of(other) is None
    assert "secret" not in repr(session)


def test_what_opens_a_database_keeps_its_password_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[str, str | None]] = []

    def spy(spec: SourceSpec, *, password: str | None = None, placed: bool = False) -> None:
        opened.append((spec.location, password))

    monkeypatch.setattr("kmslab.records.opening.open_source", spy)
    opens = opener("postgresql://app:secret@db.example/shop")
    for location in ("postgresql://app@db.example/shop", "postgresql://app@evil.example/shop"):
        opens(SourceSpec(location))
    assert opened == [
        ("postgresql://app@db.example/shop", "secret"),
        ("postgresql://app@evil.example/shop", None),
    ]
