"""The grid under the hands of somebody: keys, the mouse, what is on the screen."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from threading import Event

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot
from tui_rest import held_back
from tui_tables import BILLS, KEYS, NOW, ORDERS, Rows, row, table_of

from kmslab import ManualClock
from kmslab.analysis import Outcome, Verdict
from kmslab.errors import FilterError
from kmslab.model import Record
from kmslab.tui.cells import COLUMNS, MORE, laid_out, version_text
from kmslab.tui.grid import Grid
from kmslab.tui.lines import GUTTER
from kmslab.tui.responsive import SELDOM, keep, responsive, set_aside, tidy
from kmslab.tui.sorting import By, Sort
from kmslab.tui.states import state_text
from kmslab.tui.table import Kind, Table, pack
from kmslab.tui.view import Arrangement, View, Wanted

HOSTILE = "[red]x[/]\x1b[31m\n\u202e订单"


def many(count: int) -> Rows:
    return [
        (
            Record(f"order-{n:03}", "tencent", "a21z", n + 1, created_at=NOW - timedelta(days=n)),
            Verdict(Outcome.CURRENT if n % 3 else Outcome.STALE, "", ORDERS, None, 1 + n % 2),
        )
        for n in range(count)
    ]


class One(App[None]):
    """A grid and nothing else, and what it told of."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.grid = Grid(view)
        self.told: list[Grid.Of] = []

    def compose(self) -> ComposeResult:
        yield self.grid

    def on_grid_highlighted(self, message: Grid.Highlighted) -> None:
        self.told.append(message)

    def on_grid_chosen(self, message: Grid.Chosen) -> None:
        self.told.append(message)

    def on_grid_marks_changed(self, message: Grid.MarksChanged) -> None:
        self.told.append(message)

    def on_grid_arranged(self, message: Grid.Arranged) -> None:
        self.told.append(message)

    def on_grid_failed(self, message: Grid.Failed) -> None:
        self.told.append(message)

    def heard(self, kind: type[Message]) -> list[Grid.Of]:
        return [message for message in self.told if isinstance(message, kind)]

    def lines(self) -> list[str]:
        """What is on the screen, line by line."""
        height = self.size.height
        return [self.grid.render_line(y).text for y in range(height)]


Steps = Callable[[One, Pilot[None]], Awaitable[None]]


def run(some: Rows | View, steps: Steps, size: tuple[int, int] = (80, 24)) -> One:
    view = some if isinstance(some, View) else View(table_of(some, 100), ManualClock(NOW))
    app = One(view)

    async def whole() -> None:
        async with app.run_test(size=size) as pilot:
            app.grid.focus()
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(whole())
    return app


def shown_ids(grid: Grid) -> list[str]:
    return [grid.view.table.record(at).record_id for at in grid.view.rows]


async def arranged(app: One, pilot: Pilot[None]) -> None:
    """Wait until what was asked for is shown, or has failed."""
    for _ in range(6000):
        if app.grid.view.wanted == app.grid.wanted or app.heard(Grid.Failed):
            await pilot.pause()
            return
        await pilot.pause(0.01)
    pytest.fail("nothing came of what was asked for")


# -- the cursor


WAYS = {
    "": 0,
    "j": 1,
    "down j k": 1,
    "k": 0,
    "up": 0,
    "G": 99,
    "end j": 99,
    "G g": 0,
    "end home": 0,
    "pagedown": 23,
    "pagedown pagedown pageup": 23,
    "G pageup": 76,
}


def test_the_cursor_goes_where_a_key_says_and_stays_in_sight() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        for keys, position in WAYS.items():
            app.grid.go_to(0)
            await pilot.press(*keys.split())
            await pilot.pause()
            assert (keys, app.grid.cursor) == (keys, position)
            (line,) = [line for line in app.lines() if line.startswith("▸")]
            assert f"order-{position:03}" in line
            assert app.heard(Grid.Highlighted)[-1].row == position  # type: ignore[attr-defined]

    run(many(100), steps)


def test_enter_chooses_the_row_and_nothing_where_there_is_none() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press("j", "enter")

    assert [m.row for m in run(many(3), steps).heard(Grid.Chosen)] == [1]  # type: ignore[attr-defined]
    app = run([], steps)
    assert not app.heard(Grid.Chosen)
    assert app.heard(Grid.Highlighted)[-1].row is None  # type: ignore[attr-defined]


def test_no_key_troubles_an_empty_grid() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        for key in ("space", "v", "a", "A", "s", "S", "G", "pagedown", "enter", "right"):
            await pilot.press(key, key)
        assert app.grid.view.marked == 0

    run([], steps)


# -- marks


def test_marks_by_key() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        view = app.grid.view
        await pilot.press("space", "j", "j", "space")
        assert list(view.marked_rows()) == [0, 2]
        assert [line[1] for line in app.lines()[1:5]] == ["✓", " ", "✓", " "]
        await pilot.press("space")
        assert list(view.marked_rows()) == [0]
        await pilot.press("a")
        assert view.marked == 10
        await pilot.press("A")
        assert view.marked == 0
        assert len(app.heard(Grid.MarksChanged)) == 5

    run(many(10), steps)


@pytest.mark.parametrize("last", ["v", "space"])
def test_a_range_is_marked_from_its_beginning_to_the_cursor(last: str) -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press("G", "k", "v", "k", "k")
        assert [line[0] for line in app.lines()[6:11]] == [" ", "▸", "┃", "┃", " "]
        await pilot.press(last)
        assert list(app.grid.view.marked_rows()) == [6, 7, 8]
        await pilot.press("k", last)
        assert app.grid.begun == (5 if last == "v" else None)

    run(many(10), steps)


def test_escape_leaves_a_range_and_is_somebody_elses_otherwise() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        assert app.grid.check_action("leave_range", ()) is False
        await pilot.press("v", "j", "escape")
        assert app.grid.begun is None
        assert app.grid.view.marked == 0
        assert app.grid.check_action("leave_range", ()) is False

    run(many(10), steps)


def test_marks_survive_a_filter_and_an_order() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        view = app.grid.view
        await pilot.press("space", "j", "space")
        app.grid.ask_filter("out:stale")
        await arranged(app, pilot)
        assert shown_ids(app.grid) == [f"order-00{n}" for n in (0, 3, 6, 9)]
        assert (view.shown, view.total, view.marked, view.hidden_marks) == (4, 10, 2, 1)
        app.grid.ask_sort(Sort(By.ID, reverse=True))
        await arranged(app, pilot)
        assert shown_ids(app.grid) == [f"order-00{n}" for n in (9, 6, 3, 0)]
        assert list(view.marked_rows()) == [0, 1]

    run(many(10), steps)


# -- filter and order


def test_the_cursor_stays_on_its_record_while_that_is_shown() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press(*"jjj")
        app.grid.ask_filter("out:stale")
        await arranged(app, pilot)
        assert (app.grid.cursor, app.grid.row) == (1, 3)
        app.grid.ask_filter("out:current")
        await arranged(app, pilot)
        assert (app.grid.cursor, app.grid.row) == (0, 1)

    run(many(10), steps)


def test_another_order_is_seen_from_its_beginning() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press("G")
        app.grid.ask_sort(Sort(By.AGE, reverse=True))
        await arranged(app, pilot)
        assert (app.grid.cursor, app.grid.row) == (0, 99)
        assert "order-099" in app.lines()[1]

    run(many(100), steps)


def test_a_filter_that_is_none_is_refused_at_once_and_changes_nothing() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        with pytest.raises(FilterError):
            app.grid.ask_filter("out:old")
        await arranged(app, pilot)
        assert app.grid.view.shown == 10

    run(many(10), steps)


def test_only_the_last_of_many_filters_is_shown() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        for text in ("o", "or", "ord", "order-00", "order-007"):
            app.grid.ask_filter(text)
        await arranged(app, pilot)
        assert shown_ids(app.grid) == ["order-007"]
        assert str(app.grid.view.wanted.query) == "order-007"

    run(many(10), steps)


class Slow(View):
    """A view that takes until it is asked to stop, or broken."""

    def __init__(self, table: Table, *, broken: bool = False) -> None:
        super().__init__(table, ManualClock(NOW))
        self.broken, self.stopped = broken, Event()

    def arrange(self, wanted: Wanted, stop: Callable[[], bool] = lambda: False) -> Arrangement:
        if self.broken:
            raise ZeroDivisionError("a fault")
        if not wanted.query.terms:
            return super().arrange(wanted, stop)
        while not stop():
            held_back(0.001)
        self.stopped.set()
        return super().arrange(wanted)


def test_a_filter_that_is_not_wanted_any_more_is_stopped_and_keys_are_answered() -> None:
    view = Slow(table_of(many(10)))

    async def steps(app: One, pilot: Pilot[None]) -> None:
        app.grid.ask_filter("order-007")
        await pilot.press("j", "space")
        assert list(view.marked_rows()) == [1]
        app.grid.ask_filter("")
        await arranged(app, pilot)
        assert view.stopped.wait(60)
        assert view.shown == 10

    run(view, steps)


def test_a_fault_in_a_thread_is_told_and_the_grid_lives_on() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        app.grid.ask_filter("order")
        await arranged(app, pilot)
        await pilot.press("j")
        assert app.grid.cursor == 1

    app = run(Slow(table_of(many(3)), broken=True), steps)
    (failed,) = app.heard(Grid.Failed)
    assert isinstance(failed.error, ZeroDivisionError)  # type: ignore[attr-defined]


def test_a_key_goes_through_the_columns_and_another_turns_the_order_round() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press("S")
        seen = [app.grid.wanted.sort]
        for _ in range(len(COLUMNS) + 1):
            await pilot.press("s")
            seen.append(app.grid.wanted.sort)
        assert seen == [None, *(Sort(column.by) for column in COLUMNS), None]
        await pilot.press("s", "s", "S")
        await arranged(app, pilot)
        assert app.grid.view.wanted.sort == Sort(By.ID, reverse=True)
        assert "RECORD▼" in app.lines()[0]
        await pilot.press("S")
        assert "RECORD▲" in app.lines()[0]

    run(many(10), steps)


# -- the mouse


def test_clicks_on_rows_marks_and_headers() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.click(Grid, offset=(20, 4))
        assert app.grid.cursor == 3
        assert app.grid.view.marked == 0
        await pilot.click(Grid, offset=(1, 3))
        assert list(app.grid.view.marked_rows()) == [2]
        await pilot.click(Grid, offset=(20, 20))
        assert app.grid.cursor == 2  # there is no such row
        await pilot.click(Grid, offset=(20, 6), times=2)
        assert [m.row for m in app.heard(Grid.Chosen)] == [5]  # type: ignore[attr-defined]
        await pilot.click(Grid, offset=(20, 0))
        assert app.grid.wanted.sort == Sort(By.ID)
        await pilot.click(Grid, offset=(20, 0))
        assert app.grid.wanted.sort == Sort(By.ID, reverse=True)
        await pilot.click(Grid, offset=(1, 0))
        assert app.grid.wanted.sort == Sort(By.ID, reverse=True)

    run(many(10), steps)


# -- what is on the screen


def test_a_row_says_all_in_words() -> None:
    some = row(
        "order-1",
        Outcome.STALE,
        key=ORDERS,
        version_number=1,
        owner="欧阳建国",
        created_at=NOW - timedelta(days=120),
    )

    async def steps(app: One, pilot: Pilot[None]) -> None:
        header, line = app.lines()[:2]
        assert header.split() == [column.title for column in COLUMNS]
        words = " ".join(line.split())
        assert words == "▸ ○ stale order-1 tencent orders 1 of 2 120d 欧阳建…"

    run(some, steps)


@pytest.mark.parametrize("width", [40, 78, 80, 140, 200])
def test_lines_are_as_wide_as_the_grid_whatever_the_data_hold(width: int) -> None:
    some = row(HOSTILE, owner=HOSTILE, provider=HOSTILE, key=HOSTILE, context=HOSTILE)
    some = [(some[0][0], replace(some[0][1], reason=HOSTILE, key_version_id=HOSTILE)), *many(3)]

    async def steps(app: One, pilot: Pilot[None]) -> None:
        for left in ("", "right"):
            await pilot.press(*left.split())
            lines = app.lines()
            assert {cell_len(line) for line in lines} == {app.grid.scrollable_content_region.width}
            assert all(line.isprintable() for line in lines)
        if width >= 80:
            assert "[red]x[/]\\x1b" in app.lines()[1]

    run(some, steps, (width, 10))


@pytest.mark.parametrize("width", [77 - GUTTER, 100, 140, 233])
def test_columns_take_all_the_room_there_is(width: int) -> None:
    columns = laid_out(width)
    assert sum(cells for _, cells in columns) + len(columns) - 1 == width
    assert all(cells >= column.width for column, cells in columns)


def test_all_columns_fit_into_80_and_a_narrower_grid_scrolls_to_the_side() -> None:
    async def wide(app: One, pilot: Pilot[None]) -> None:
        assert not app.grid.show_horizontal_scrollbar

    run(many(50), wide)

    async def narrow(app: One, pilot: Pilot[None]) -> None:
        assert "OWNER" not in app.lines()[0]
        await pilot.press(*["right"] * 6)
        assert "OWNER" in app.lines()[0]
        await pilot.press(*"hhhhhh")
        assert "STATE" in app.lines()[0]

    run(many(50), narrow, (40, 10))


def test_a_terminal_that_becomes_tiny_and_large_again() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press("G")
        for size in ((40, 10), (20, 3), (1, 1), (140, 45), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.grid.cursor == 99
            if size[1] > 3:
                assert any(line.startswith("▸") for line in app.lines())

    run(many(100), steps)


def test_what_is_said_where_no_row_is_shown() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        app.grid.empty = "no record passes\nEsc clears the filter [red]x[/]"
        await pilot.pause()
        assert "no record passes" in app.lines()[2]
        assert "Esc clears the filter [red]x[/]" in app.lines()[3]

    run([], steps)

    async def filled(app: One, pilot: Pilot[None]) -> None:
        app.grid.empty = "no record passes"
        await pilot.pause()
        assert not any("no record passes" in line for line in app.lines())

    run(many(1), filled)


def test_states_are_told_apart_without_colour() -> None:
    told = {state_text(Verdict(outcome)) for outcome in Outcome}
    assert len(told) == len(Outcome)
    assert state_text(Verdict(Outcome.BLOCKED, "key disabled")) == "✗ disabled"
    assert state_text(Verdict(Outcome.BLOCKED, "no answer: the line is down")) == "✗ no answer"
    assert state_text(Verdict(Outcome.BLOCKED, "too long")) == "✗ blocked"


def test_versions_are_told_as_far_as_they_are_known() -> None:
    table = Table(keys=KEYS)

    def told(**fields: object) -> str:
        ((record, verdict),) = row("order-1", **fields)  # type: ignore[arg-type]
        return version_text(Kind(record.provider, verdict), table)

    assert told(key=BILLS, version_number=1) == "1 of 2"
    assert told(key="elsewhere", version_number=7) == "7"
    assert told(key=BILLS, key_version_id="a1b2c3d4-0000") == "a1b2c3d4"
    assert told() == ""


# -- records that come and change


def test_records_are_shown_as_they_come() -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        view = app.grid.view
        for n, pair in enumerate(many(3)):
            records, verdicts = zip(pair, strict=True)
            view.table.append(pack(records, verdicts, view.table.shared))
            app.grid.grow()
            await pilot.pause()
            assert view.shown == n + 1
            assert app.heard(Grid.Highlighted)[-1].row == 0  # type: ignore[attr-defined]
        assert [line.split()[2] for line in app.lines()[2:4]] == ["order-001", "order-002"]

    run([], steps)


def test_another_table_takes_over_filter_order_marks_and_cursor() -> None:
    later = [pair for pair in many(10) if pair[0].record_id != "order-000"]
    later[2] = (later[2][0], replace(later[2][1], outcome=Outcome.CURRENT))  # order-003

    async def steps(app: One, pilot: Pilot[None]) -> None:
        app.grid.ask_filter("out:stale")
        app.grid.ask_sort(Sort(By.ID, reverse=True))
        await arranged(app, pilot)
        await pilot.press("a", "j")
        assert app.grid.view.table.record(app.grid.row or 0).record_id == "order-006"
        await app.grid.swap(table_of(later))
        await pilot.pause()
        assert shown_ids(app.grid) == ["order-009", "order-006"]
        assert app.grid.view.table.record(app.grid.row or 0).record_id == "order-006"
        assert app.grid.view.marked_ids() == {"order-003", "order-006", "order-009"}
        assert app.grid.view.hidden_marks == 1
        assert app.grid.wanted == app.grid.view.wanted

    run(many(10), steps)


def test_nothing_is_marked_while_what_was_asked_for_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on, arrange = Event(), View.arrange

    def slow(self: View, *arguments: object) -> object:
        go_on.wait(60)
        return arrange(self, *arguments)  # type: ignore[arg-type]

    async def steps(app: One, pilot: Pilot[None]) -> None:
        monkeypatch.setattr(View, "arrange", slow)
        app.grid.ask_filter("out:stale")
        await pilot.press("a", "v")
        assert (app.grid.view.marked, app.grid.begun) == (0, None)
        go_on.set()
        await arranged(app, pilot)
        await pilot.press("a")
        assert app.grid.view.marked == 4

    run(many(10), steps)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """The first view over another table waits for this."""
    go_on, over = Event(), View.over

    def slow(self: View, *arguments: object) -> object:
        go_on.wait(60)
        return over(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(View, "over", slow)
    yield go_on
    go_on.set()


def test_what_is_marked_while_a_table_is_swapped_is_not_lost(waiting: Event) -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        swapping = asyncio.create_task(app.grid.swap(table_of(many(10))))
        await pilot.press("j", "space")
        waiting.set()
        await swapping
        assert app.grid.view.marked_ids() == {"order-001"}
        assert app.grid.cursor == 1

    run(many(10), steps)


# -- looks


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
def test_cursor_range_and_marks_are_seen_in_every_theme(theme: str) -> None:
    async def steps(app: One, pilot: Pilot[None]) -> None:
        if theme not in app.available_themes:
            pytest.skip(f"this Textual has no {theme}")
        app.theme = theme
        await pilot.press("j", "v", "j", "j")
        grounds = [
            next(iter(app.grid.render_line(y)))[1].bgcolor  # type: ignore[union-attr]
            for y in (1, 2, 4)
        ]
        assert len(set(map(str, grounds))) == 3

    run(many(10), steps)


def test_without_colours_all_is_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def steps(app: One, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        assert app.lines()[1].startswith("▸✓ ○ stale")

    run(many(3), steps)


def test_settings_of_the_process_are_as_they_were_afterwards() -> None:
    def settings() -> tuple[object, ...]:
        return sys.getswitchinterval(), gc.get_freeze_count(), gc.get_threshold()

    before = settings()
    with responsive():
        assert sys.getswitchinterval() < before[0]
        assert gc.get_freeze_count() > before[1]
        assert gc.get_threshold()[2] == SELDOM
    assert settings() == before


def test_no_title_loses_a_letter_to_the_arrow() -> None:
    for column in (*COLUMNS, *MORE):
        assert len(column.title) < column.width, column.title


class Cycle:
    """What only the garbage collector throws away."""

    def __init__(self) -> None:
        self.myself = self


def test_what_is_left_behind_is_collected_when_nobody_presses_a_key() -> None:
    frozen = gc.get_freeze_count()
    keep()
    assert gc.get_freeze_count() == frozen  # it is nobody's business but the explorer's
    with responsive():
        cycle = Cycle()
        left = weakref.ref(cycle)
        for _ in range(10):
            gc.collect(1)
        del cycle
        gc.collect(1)
        assert left() is not None
        tidy()
        assert left() is None
        frozen, stays = gc.get_freeze_count(), [Cycle() for _ in range(1_000)]
        keep()
        assert gc.get_freeze_count() >= frozen + len(stays)
        left = weakref.ref(stays.pop())
        for _ in range(10):
            gc.collect(1)
        tidy(stays=True)
        assert left() is not None
        keep()
        assert left() is None


def test_what_is_set_aside_is_not_looked_through_for_long() -> None:
    frozen = gc.get_freeze_count()
    set_aside()
    assert gc.get_freeze_count() == frozen  # as above
    with responsive():
        cycle = Cycle()
        left = weakref.ref(cycle)
        set_aside()
        del cycle
        for _ in range(10):
            gc.collect(1)
        tidy()
        assert left() is not None
        keep()
        assert left() is None
