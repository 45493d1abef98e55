"""What was done in this session, each with the command that does the same."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.finishing import leave
from kmslab.tui.host import host_of
from kmslab.tui.screen import ShownOnce
from kmslab.tui.texts import visible


class ActivityScreen(ShownOnce[None]):
    """The log of the session, the newest entry first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Back", key_display="Esc")]
    DEFAULT_CSS = "ActivityScreen VerticalScroll { padding: 0 1; }"

    def compose(self) -> ComposeResult:
        """One text."""
        yield TopBar()
        yield Crumbs("Activity of this session")
        with VerticalScroll():
            yield Static(self._text())
        yield KeyLine()

    def _text(self) -> Text:
        app = host_of(self)
        text = Text()
        for entry in reversed(app.activity.entries):
            if text:
                text.append("\n")
            sign = "! " if entry.failed else "  "
            text.append(f"{sign}{entry.at:%H:%M:%S}  {visible(entry.text)}")
            if entry.command:
                text.append(f"\n            {visible(entry.command)}", "bold")
        return text or Text("Nothing yet. What is done here is listed with its command.")

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)
