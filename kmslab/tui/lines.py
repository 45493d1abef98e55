"""The lines of the grid as they are drawn: a header, and the rows in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.segment import Segment
from rich.style import Style

from kmslab.analysis.classify import Outcome
from kmslab.tui.cells import Column, cells, laid_out
from kmslab.tui.sorting import Sort
from kmslab.tui.texts import fitted
from kmslab.tui.view import View

GUTTER: Final = 3
"""The cells before the first column: the cursor, the mark, and one between."""

REMEMBERED: Final = 1_000
"""The most rows whose texts are remembered: those of several pages."""

_STYLES: Final = {
    Outcome.STALE: "grid--stale",
    Outcome.MOVE: "grid--stale",
    Outcome.CURRENT: "grid--current",
    Outcome.MAY_CHANGE: "grid--other",
    Outcome.FOREIGN: "grid--other",
}
_STOPPED: Final = "grid--stopped"


class Lines:
    """Draws a view in the columns that there is room for.

    `style` gives the style of a name, whole; `partial` only what the name says of it.
    """

    def __init__(self, style: Callable[[str], Style], partial: Callable[[str], Style]) -> None:
        self._style = style
        self._partial = partial
        self.columns = laid_out(0)
        self._remembered: dict[int, tuple[str, str, str]] = {}
        self._remembered_at = 0.0

    def lay_out(self, width: int) -> int:
        """Take the columns for a width; the width that all of them need."""
        self.columns = laid_out(width - GUTTER)
        self._remembered = {}
        return GUTTER + sum(cells for _, cells in self.columns) + len(self.columns) - 1

    def column_at(self, x: int) -> Column | None:
        """The column that a cell is in, counted from the left of the grid."""
        start = GUTTER
        for column, width in self.columns:
            if start <= x <= start + width:
                return column
            start += width + 1
        return None

    def header(self, sort: Sort | None) -> tuple[list[Segment], Style]:
        """The titles, with an arrow at that which is sorted by."""
        style = self._style("grid--header")
        titles = []
        for column, width in self.columns:
            arrow = ""
            if sort is not None and sort.by is column.by:
                arrow = "▼" if sort.reverse else "▲"
            titles.append(fitted(column.title[: width - len(arrow)] + arrow, width))
        return [Segment(" " * GUTTER + " ".join(titles), style)], style

    def row(
        self, view: View, position: int, cursor: int, begun: int | None
    ) -> tuple[list[Segment], Style]:
        """The row at a position; `begun` is where a range was, which ends at the cursor."""
        row, here = view.rows[position], " "
        ground = self._style("grid--row")
        if position == cursor:
            here, ground = "▸", self._style("grid--cursor")
        elif begun is not None and min(begun, cursor) <= position <= max(begun, cursor):
            here, ground = "┃", self._style("grid--range")
        of_state, state, others = self._said(view, row)
        coloured = ground if position == cursor else ground + self._partial(of_state)
        found = [
            Segment(here, ground),
            Segment("✓ " if view.is_marked(row) else "  ", ground + self._partial("grid--mark")),
            Segment(state, coloured),
            Segment(others, ground),
        ]
        return found, ground

    def _said(self, view: View, row: int) -> tuple[str, str, str]:
        """The style of a row's state, the state and its other columns; remembered for a second."""
        now = view.clock.now()
        if len(self._remembered) > REMEMBERED or abs(now.timestamp() - self._remembered_at) > 1:
            self._remembered, self._remembered_at = {}, now.timestamp()
        found = self._remembered.get(row)
        if found is None:
            table = view.table
            texts = cells(table, row, [column for column, _ in self.columns], now)
            widths = (width for _, width in self.columns)
            state, *others = map(fitted, texts, widths)
            name = _STYLES.get(table.verdict(row).outcome, _STOPPED)
            found = self._remembered[row] = name, f"{state} ", " ".join(others)
        return found
