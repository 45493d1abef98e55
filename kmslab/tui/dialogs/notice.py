"""Dialogs that only tell something: a message, a text to be copied by hand."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Button, Static, TextArea

from kmslab.tui.chrome import KeyLine
from kmslab.tui.finishing import leave
from kmslab.tui.modal import Modal
from kmslab.tui.sheet import SHORT
from kmslab.tui.texts import visible


class Notice(Modal[None]):
    """A message that stays until somebody has read it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close")]
    DEFAULT_CSS = """
    Notice { align: center middle; }
    Notice > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 96%;
        border: round $error; padding: 0 1; background: $surface;
    }
    Notice .title { text-style: bold; }
    Notice VerticalScroll { height: auto; max-height: 60vh; margin: 1 0; }
    Notice.-short VerticalScroll { max-height: 50vh; margin: 0; }
    Notice.-short KeyLine { display: none; }
    """

    VERTICAL_BREAKPOINTS = SHORT

    def __init__(self, title: str, body: Text) -> None:
        super().__init__()
        self._title = title
        self._body = body

    def compose(self) -> ComposeResult:
        """Title, text, one button."""
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            with VerticalScroll(can_focus=False):
                yield Static(self._body)
            yield Button("Close", compact=True)
        yield KeyLine()

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)

    @on(Button.Pressed)
    def _pressed(self) -> None:
        leave(self, None)


class Whole(Modal[None]):
    """A whole text, to be selected by hand where no clipboard can be reached.

    What cannot be seen in it is shown as an escape: no data reaches the terminal as a command.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", "Close")]
    DEFAULT_CSS = """
    Whole { align: center middle; }
    Whole > Vertical {
        width: 90%; height: 80%; border: round $primary; padding: 0 1; background: $surface;
    }
    Whole TextArea { height: 1fr; border: none; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = visible(title)
        self._text = visible(text)

    def compose(self) -> ComposeResult:
        """The text, which cannot be changed."""
        with Vertical():
            yield Static(f"{self._title} (Esc closes)", markup=False)
            yield TextArea(self._text, read_only=True, soft_wrap=True)
        yield KeyLine()

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)
