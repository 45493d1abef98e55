"""The keys of the pane that has the focus, of its screen, and of the explorer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from rich.cells import set_cell_size
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from kmslab.tui.actions import APP, Acting
from kmslab.tui.chrome import KeyLine
from kmslab.tui.filtering import FIELDS
from kmslab.tui.finishing import leave
from kmslab.tui.modal import Modal
from kmslab.tui.panes import PANES, Pane
from kmslab.tui.states import LEGEND

_WIDTH = 16

STATES = "As they are now, by the heads of their blobs; in a filter _ stands for the space in them."


class Help(Modal[None]):
    """What can be pressed here."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "close", "Close", key_display="Esc"),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
    ]
    DEFAULT_CSS = """
    Help { align: center middle; }
    Help > Vertical {
        width: 84; max-width: 98%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    Help VerticalScroll { height: auto; max-height: 85vh; }
    """

    def __init__(self, screen: Screen[Any], focused: Widget | None) -> None:
        super().__init__()
        self._text = help_text(screen, focused)

    def compose(self) -> ComposeResult:
        """One text, which can be scrolled."""
        with Vertical(), VerticalScroll():
            yield Static(self._text)
        yield KeyLine()

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)


def help_text(screen: Screen[Any], focused: Widget | None) -> Text:
    """What can be pressed on a screen, in this pane of it first."""
    text = Text()
    pane = pane_of(focused)
    if pane is not None:
        _part(text, pane.title, pane.keys, pane.about)
    if pane is not None and pane.name == "filter":
        fields = [(f"{name}:", wanted) for name, wanted in FIELDS.items()]
        _part(text, "The filter's fields", fields, "Terms must all hold; ! turns one round.")
    if pane is not None and pane.name in ("filter", "records"):
        _part(text, "The words of the column STATE", list(LEGEND), STATES)
    if isinstance(screen, Acting):
        keys = [(action.shown_keys, action.title) for action in screen.ACTIONS]
        _part(text, "This screen", keys)
    _part(text, "Everywhere", [(action.shown_keys, action.title) for action in APP])
    return text


def pane_of(focused: Widget | None) -> Pane | None:
    """The pane that a widget is, or is in."""
    for widget in _up(focused):
        for pane in PANES:
            if type(widget).__name__ == pane.widget:
                return pane
    return None


def _up(widget: Any) -> Iterator[Any]:
    while widget is not None:
        yield widget
        widget = widget.parent


def _part(text: Text, title: str, keys: list[tuple[str, str]], about: str = "") -> None:
    if text:
        text.append("\n\n")
    text.append(title, "bold underline")
    if about:
        text.append(f"\n{about}")
    for key, what in keys:
        text.append(f"\n{set_cell_size(key, _WIDTH)}", "bold")
        text.append(what)
