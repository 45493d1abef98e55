"""What all screens are: styled, laid out and painted once when they are shown."""

from __future__ import annotations

from typing import TypeVar

from textual.events import Resize, ScreenResume
from textual.screen import Screen

from kmslab.tui.styles import reached

T = TypeVar("T")


class ShownOnce(Screen[T]):
    """A screen that comes with its size (`fit`): Textual styles, lays out and paints all of it once
    more where it is told what it knows by then."""

    _was_shown = False
    knows_its_size = False
    """Whether it is shown, and not just about to be."""

    def _on_screen_resume(self, event: ScreenResume) -> None:
        """What is there by then was styled as it came; later, it may have changed meanwhile."""
        event.refresh_styles = event.refresh_styles and self._was_shown
        self._was_shown = True

    async def _on_resize(self, event: Resize) -> None:
        """What is told first is the size in which all is laid out and painted by then."""
        first, self.knows_its_size = not self.knows_its_size, True
        if first and set(reached(self, event.size)) <= self.classes:
            event.prevent_default()
