"""The grid of records: a million rows scroll at once, since only those in sight are looked at."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kmslab.tui.filtering import Marked, Query
from kmslab.tui.lines import GUTTER, Lines
from kmslab.tui.responsive import Turns
from kmslab.tui.sorting import By, Sort
from kmslab.tui.stopping import Stopped
from kmslab.tui.table import Table
from kmslab.tui.texts import visible
from kmslab.tui.view import Arrangement, View, Wanted


class Grid(ScrollView, can_focus=True):
    """Shows a `View`. Filters and orders it in a thread that rests while keys are answered, in the
    `turns` of whoever has it."""

    DEFAULT_CSS = """
    Grid {
        background: $surface;
        color: $foreground;
        overflow-x: auto;
        overflow-y: auto;
        scrollbar-gutter: stable;

        & > .grid--row { background: $surface; color: $foreground; }
        & > .grid--header { color: $foreground; text-style: bold; background: $panel; }
        & > .grid--cursor { background: $block-cursor-blurred-background; color: $foreground; }
        & > .grid--range { background: $secondary 30%; color: $foreground; }
        & > .grid--mark { color: $text-accent; text-style: bold; }
        & > .grid--stale { color: $text-warning; }
        & > .grid--current { color: $text-success; }
        & > .grid--stopped { color: $text-error; }
        & > .grid--other { color: $foreground-muted; }
        & > .grid--empty { color: $foreground-muted; }

        /* A light theme's own colours for these have a contrast of 3 and less. */
        &:light > .grid--mark { color: #6d3f00; }
        &:light > .grid--stale { color: #6d3f00; text-style: bold; }
        &:light > .grid--current { color: #1b5a2f; }
        &:light > .grid--other { color: #4a4a4a; }
        &:light > .grid--empty { color: #4a4a4a; }
        &:light:ansi > .grid--mark { color: ansi_default; }
        &:light:ansi > .grid--stale { color: ansi_default; }
        &:light:ansi > .grid--current { color: ansi_green; }
        &:light:ansi > .grid--other { color: ansi_default; }
        &:light:ansi > .grid--empty { color: ansi_default; }

        &:focus > .grid--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
            text-style: $block-cursor-text-style;
        }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "grid--row",
        "grid--header",
        "grid--cursor",
        "grid--range",
        "grid--mark",
        "grid--stale",
        "grid--current",
        "grid--stopped",
        "grid--other",
        "grid--empty",
    }

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("g,home", "first", "First record", show=False),
        Binding("G,end", "last", "Last record", show=False),
        Binding("right,l", "sideways(8)", "Scroll right", show=False),
        Binding("left,h", "sideways(-8)", "Scroll left", show=False),
        Binding("enter", "choose", "Open", show=False),
        Binding("space", "mark", "Mark"),
        Binding("v", "range", "Range", show=False),
        Binding("a", "mark_shown", "Mark all shown", show=False),
        Binding("A", "clear_marks", "Clear marks", show=False),
        Binding("s", "sort", "Sort", show=False),
        Binding("S", "reverse", "Reverse", show=False),
        Binding("escape", "leave_range", "Leave range", show=False),
    ]

    cursor: reactive[int] = reactive(0, init=False, repaint=False)
    """Where the cursor is among the rows that are shown, from 0."""

    begun: reactive[int | None] = reactive(None, init=False)
    """Where a range was begun; None while there is none."""

    empty: reactive[str] = reactive("no records", init=False)
    """What is said where no row is shown."""

    unclear: str = ""
    """Why nobody knows what is asked for; "" where that is clear."""

    class Of(Message):
        """Something about a grid."""

        def __init__(self, grid: Grid) -> None:
            super().__init__()
            self.grid = grid

        @property
        def control(self) -> Grid:
            """The grid."""
            return self.grid

    class Highlighted(Of):
        """The cursor came to a row of the table; None where no row is shown."""

        def __init__(self, grid: Grid, row: int | None) -> None:
            super().__init__(grid)
            self.row = row

    class Chosen(Of):
        """A row was chosen, by Enter or by clicking it twice."""

        def __init__(self, grid: Grid, row: int) -> None:
            super().__init__(grid)
            self.row = row

    class MarksChanged(Of):
        """Marks came or went."""

    class Arranging(Of):
        """A filter or an order is being worked at; `Arranged` or `Failed` follows, or another."""

    class Arranged(Of):
        """Other rows are shown, or in another order."""

    class Failed(Of):
        """A filter or an order came to nothing, for a reason that nobody had thought of."""

        def __init__(self, grid: Grid, error: Exception) -> None:
            super().__init__(grid)
            self.error = error

    def __init__(
        self,
        view: View,
        turns: Turns | None = None,
        *,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.view = view
        self._turns = turns or Turns()
        self.wanted = view.wanted
        self._lines = Lines(
            self.get_component_rich_style,
            lambda name: self.get_component_rich_style(name, partial=True),
        )

    # -- what is shown

    @property
    def row(self) -> int | None:
        """The row of the table that the cursor is on; None where no row is shown."""
        rows = self.view.rows
        return rows[self.cursor] if self.cursor < len(rows) else None

    def ask_filter(self, text: str) -> None:
        """Show what a filter lets through, soon. FilterError, at once, for a text that is none."""
        self.ask_query(Query.parse(text))

    def ask_query(self, query: Query) -> None:
        """Show what a query lets through, soon."""
        self._ask(Wanted(query, self.wanted.sort))

    def ask_sort(self, sort: Sort | None) -> None:
        """Show the rows in another order, soon; None is that of the source."""
        self._ask(Wanted(self.wanted.query, sort))

    def arrange_again(self) -> None:
        """Filter and order again what is wanted, since ages or the table are not what they were."""
        self._ask(self.wanted)

    def _ask(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.post_message(self.Arranging(self))
        self._arrange(self.view, wanted)
        self.refresh()

    @work(exclusive=True, group="arrange")
    async def _arrange(self, view: View, wanted: Wanted) -> None:
        left = Event()
        stop = self._turns.gently(left.is_set)
        try:
            arrangement = await asyncio.to_thread(view.arrange, wanted, stop)
        except asyncio.CancelledError:
            left.set()
            raise
        except Stopped:
            return
        except Exception as error:  # a thread's end must be told, whatever it is
            self.post_message(self.Failed(self, error))
            return
        if view is self.view:
            self._show(arrangement)

    def _show(self, arrangement: Arrangement) -> None:
        row, before = self.row, self.view.wanted
        if not self.view.show(arrangement):
            return
        # Whoever sorts wants to see what comes first, whoever filters where the record is now.
        stays = row is not None and arrangement.wanted.sort == before.sort
        position = self.view.position_of(row) if stays and row is not None else None
        if position is None:
            position = self.cursor if arrangement.wanted == before else 0
        self.begun = None
        self._laid_out()
        self.go_to(position)
        self.post_message(self.Arranged(self))

    def show_table(self, view: View) -> None:
        """Show another view in place of this one; the cursor stays where it was."""
        self.view = view
        self.wanted = view.wanted
        self.begun = None
        self._laid_out()
        self.go_to(self.cursor)
        self.post_message(self.Arranged(self))
        self.post_message(self.MarksChanged(self))

    async def swap(self, table: Table) -> None:
        """Show another table in place of this one, with the same filter, order and marks.

        Those are found in a thread. The cursor stays on its record, where that is still shown.
        """
        while True:
            old, wanted, row = self.view, self.wanted, self.row
            changes = old.mark_changes
            view, found = await asyncio.to_thread(old.over, table, wanted, row)
            if self.view is not old:
                return
            if (self.wanted, self.row, old.mark_changes) == (wanted, row, changes):
                break
        position = None if found is None else view.position_of(found)
        if position is not None:
            self.cursor = position
        self.show_table(view)

    def grow(self) -> None:
        """Show records that came to the table meanwhile."""
        nothing = self.row is None
        self.view.grow()
        self._laid_out()
        if nothing:
            self.go_to(0)

    # -- laying out

    def on_mount(self) -> None:
        """Tell of the first row."""
        self.go_to(0)

    def on_resize(self) -> None:
        """Other columns may fit."""
        self._laid_out()
        self.call_after_refresh(self._into_sight)

    def _laid_out(self) -> None:
        """The columns for the width, and how far it can be scrolled."""
        whole = self._lines.lay_out(self.scrollable_content_region.width)
        self.virtual_size = Size(whole, self.view.shown + 1)
        self.refresh()

    @property
    def _page(self) -> int:
        """How many rows are in sight; the header is not one."""
        return max(self.scrollable_content_region.height - 1, 1)

    def _into_sight(self) -> None:
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + self._page:
            self.scroll_to(y=self.cursor - self._page + 1, animate=False)

    # -- the cursor

    def go_to(self, position: int) -> None:
        """Put the cursor on a row that is shown, by its position, or as near as there is one."""
        left = self.cursor
        self.cursor = max(0, min(position, self.view.shown - 1))
        self._into_sight()
        if self.begun is None:
            self.refresh_line(left + 1)
            self.refresh_line(self.cursor + 1)
        else:
            self.refresh()
        self.post_message(self.Highlighted(self, self.row))

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self.go_to(self.cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by what is in sight."""
        self.go_to(self.cursor + pages * self._page)

    def action_first(self) -> None:
        """To the first row."""
        self.go_to(0)

    def action_last(self) -> None:
        """To the last row."""
        self.go_to(self.view.shown - 1)

    def action_sideways(self, cells: int) -> None:
        """Scroll to the side, where there is something."""
        self.scroll_relative(x=cells, animate=False)

    def action_choose(self) -> None:
        """Choose the row."""
        if self.row is not None:
            self.post_message(self.Chosen(self, self.row))

    # -- marks

    def action_mark(self) -> None:
        """Mark the row, or take its mark away; in a range, mark the range."""
        if self.begun is not None:
            self.action_range()
        elif self.row is not None:
            self.view.toggle(self.row)
            self._marked()

    def action_range(self) -> None:
        """Begin a range; the second time, mark what is in it."""
        if self.row is None or not self._is_arranged():
            return
        if self.begun is None:
            self.begun = self.cursor
        else:
            self.view.mark_range(self.begun, self.cursor)
            self.begun = None
            self._marked()
        self.refresh()

    def action_leave_range(self) -> None:
        """Leave a range without marking it."""
        self.begun = None
        self.refresh()

    def action_mark_shown(self) -> None:
        """Mark every row that is shown, once that is what is wanted."""
        if self._is_arranged():
            self.view.mark_shown()
            self._marked()

    def _is_arranged(self) -> bool:
        """Whether what is shown is what was asked for; where it is not, that is told."""
        if self.wanted == self.view.wanted and not self.unclear:
            return True
        why = self.unclear or "what was asked for is not shown yet"
        self.notify(f"{why}; nothing is marked", severity="warning", markup=False)
        return False

    def action_clear_marks(self) -> None:
        """Take every mark away."""
        self.view.clear_marks()
        self._marked()

    def _marked(self) -> None:
        self.refresh()
        if any(isinstance(term.test, Marked) for term in self.wanted.query.terms):
            self.arrange_again()
        self.post_message(self.MarksChanged(self))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is the grid's only while there is a range to leave."""
        return self.begun is not None if action == "leave_range" else True

    # -- order

    def action_sort(self) -> None:
        """Sort by the next column; after the last one, as in the source."""
        columns = [None, *(column.by for column, _ in self._lines.columns)]
        now = self.wanted.sort
        at = (
            columns.index(None if now is None else now.by)
            if now is None or now.by in columns
            else 0
        )
        by = columns[(at + 1) % len(columns)]
        self.ask_sort(None if by is None else Sort(by))

    def action_reverse(self) -> None:
        """Turn the order round."""
        now = self.wanted.sort
        if now is not None:
            self.ask_sort(Sort(now.by, not now.reverse))

    def sort_by(self, by: By) -> None:
        """Sort by a column; where that is so already, turn it round."""
        now = self.wanted.sort
        self.ask_sort(Sort(by, now is not None and now.by is by and not now.reverse))

    # -- the mouse

    def on_click(self, event: events.Click) -> None:
        """A row: the cursor; its mark; twice: choose it. The header: sort."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            column = self._lines.column_at(offset.x + self.scroll_offset.x)
            if column is not None:
                self.sort_by(column.by)
            return
        position = self.scroll_offset.y + offset.y - 1
        if position >= self.view.shown:
            return
        self.go_to(position)
        if offset.x + self.scroll_offset.x < GUTTER:
            self.action_mark()
        elif event.chain == 2:
            self.action_choose()

    # -- lines

    def render_line(self, y: int) -> Strip:
        """The header, then the rows in sight."""
        width = self.scrollable_content_region.width
        position = self.scroll_offset.y + y - 1
        if y == 0:
            segments, style = self._lines.header(self.wanted.sort)
        elif position < self.view.shown:
            segments, style = self._lines.row(self.view, position, self.cursor, self.begun)
        else:
            style = self.get_component_rich_style("grid--empty")
            return Strip(self._blank(y, style)).adjust_cell_length(width, style)
        left, whole = self.scroll_offset.x, self.virtual_size.width
        strip = Strip(segments, whole)
        if left or whole != width:
            strip = strip.crop(left, left + width).extend_cell_length(width, style)
        return strip

    def _blank(self, y: int, style: Style) -> list[Segment]:
        lines = [] if self.view.shown else self.empty.splitlines()
        return [Segment("  " + visible(lines[y - 2]), style)] if 0 <= y - 2 < len(lines) else []

    def watch_empty(self) -> None:
        """Something else is said where no row is shown."""
        self.refresh()
