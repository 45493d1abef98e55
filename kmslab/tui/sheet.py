"""A text that is laid out for the room there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.text import Text
from textual.widgets import Static

SHORT: Final = [(0, "-short"), (16, "-tall")]
"""The breakpoints of screens that leave something out where there are few lines."""

Laid = Callable[[int], Text]
"""Gives a text for so many cells in a line."""


class Sheet(Static):
    """Shows a text that is laid out anew where there comes to be more room, or less."""

    def __init__(self, laid: Laid = lambda _: Text(), *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id, markup=False)
        self._laid = laid
        self._width = 0

    def on_mount(self) -> None:
        """Show it; how much room there is is told afterwards."""
        self._lay_out(self.app.size.width)

    def on_resize(self) -> None:
        """There is another width."""
        width = self.content_size.width  # the event's has the padding too
        if width != self._width:
            self._lay_out(width)

    def show(self, laid: Laid) -> None:
        """Show another text."""
        self._laid = laid
        if self._width:
            self._lay_out(self._width)

    def _lay_out(self, width: int) -> None:
        self._width = width
        self.update(self._laid(width))
