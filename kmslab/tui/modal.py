"""What all dialogs are: in front of a screen, which is seen dimmed behind them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Self, TypeVar

from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import ModalScreen
from textual.timer import Timer

from kmslab.tui.host import host_of
from kmslab.tui.screen import ShownOnce

T = TypeVar("T")

BEHIND_SECONDS: Final = 0.3
"""How much later, at most, a dialog shows what has changed behind it."""

_NO_STYLE: Final = Style()


class Modal(ModalScreen[T], ShownOnce[T]):
    """Textual's, which paints what is behind seldom."""

    _behind_changed: Timer | None = None

    def refresh(
        self,
        *regions: Region,
        repaint: bool = True,
        layout: bool = False,
        recompose: bool = False,
    ) -> Self:
        """Paint anew. What is behind names the regions in which it changed, and is painted with all
        that changes within BEHIND_SECONDS: Textual paints all of it for each change."""
        if not regions or not self.is_mounted:
            return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        if self._behind_changed is None:
            self._behind_changed = self.set_timer(BEHIND_SECONDS, self.paint_behind)
        return self

    def paint_behind(self) -> bool:
        """Paint now what has changed behind; whether anything had."""
        changed, self._behind_changed = self._behind_changed, None
        if changed is None:
            return False
        changed.stop()
        for screen in self.app._background_screens:
            screen._repaint_required = False  # or it asks again, each time that it is idle
        self.refresh()
        return True

    def render(self) -> RenderableType:
        """What is behind. To paint it takes long: until the dialog is there, threads rest."""
        behind = super().render()
        if isinstance(behind, BackgroundScreen):
            if not self.knows_its_size:
                host_of(self).turns.answer()
            return _Dimmed(behind.screen, behind.color)
        return behind


class _Dimmed(BackgroundScreen):
    """Textual's, which mixes each style once, and not anew for each piece of text."""

    @classmethod
    def process_segments(cls, segments: Iterable[Segment], color: Color) -> Iterable[Segment]:
        for segment in segments:
            text, style, control = segment
            yield segment if control else Segment(text, _dimmed(style or _NO_STYLE, color))


@lru_cache(4_096)
def _dimmed(style: Style, color: Color) -> Style:
    (segment,) = BackgroundScreen.process_segments([Segment("", style)], color)
    return segment.style or _NO_STYLE
