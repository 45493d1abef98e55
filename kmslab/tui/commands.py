"""The command palette: every action that there is here, with its key.

What cannot be done now says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from kmslab.tui.actions import APP, GRID, Acting, Action
from kmslab.tui.grid import Grid
from kmslab.tui.host import Host
from kmslab.tui.sorting import By


class Commands(Provider):
    """The actions of the screen that is in front, and those of the app."""

    async def search(self, query: str) -> Hits:
        """The actions whose words fit."""
        matcher = self.matcher(query)
        for text, why, run in self._all():
            score = matcher.match(text)
            if score > 0:
                yield Hit(score, matcher.highlight(text), run, text=text, help=why)

    async def discover(self) -> Hits:
        """All of them."""
        for text, why, run in self._all():
            yield DiscoveryHit(text, run, text=text, help=why)

    def _all(self) -> Iterator[tuple[str, str, Callable[[], object]]]:
        app = cast(Host, self.app)
        screen = self.screen
        actions: list[Action] = [*screen.ACTIONS] if isinstance(screen, Acting) else []
        for action in (*actions, *APP):
            why = app.why_not(screen, action)
            text = f"{action.title} ({action.shown_keys})"
            shown = f"not now: {why}" if why else ""
            yield text, shown, partial(app.act, screen, action)
        for grid in screen.query(Grid):
            for action in GRID:
                text = f"{action.title} ({action.shown_keys})"
                yield text, "", partial(self.app.run_action, action.name, grid)
            for by in By:
                yield f"records: sort by {by.value}", "", partial(grid.sort_by, by)
