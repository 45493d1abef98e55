"""The registered sources: look at another one."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Static

from kmslab.campaign.rendering import moment
from kmslab.campaign.sources import RegisteredSource
from kmslab.tui.actions import SOURCES, Action, bindings
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.finishing import leave
from kmslab.tui.host import host_of
from kmslab.tui.screen import ShownOnce
from kmslab.tui.texts import visible


class SourcesScreen(ShownOnce[RegisteredSource | None]):
    """Gives the source that is chosen."""

    ACTIONS: tuple[Action, ...] = SOURCES
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(SOURCES)]
    DEFAULT_CSS = """
    SourcesScreen DataTable { height: 1fr; }
    SourcesScreen #about { height: auto; padding: 0 1; background: $panel; }
    """

    def __init__(self, found: list[RegisteredSource]) -> None:
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        """A table."""
        yield TopBar()
        yield Crumbs("Registered sources")
        yield DataTable(cursor_type="row", zebra_stripes=True)
        about = "Enter looks at one" if self._found else "none: kmslab source add NAME SOURCE"
        yield Static(about, id="about", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Show them."""
        app = host_of(self)
        table = self.query_one(DataTable)
        table.add_columns("", "NAME", "ADDED", "TABLE", "WHERE")
        for source in self._found:
            here = "▸" if source.spec == app.session.spec else ""
            spec = source.spec
            cells = [here, source.name, moment(source.added_at), spec.table or "-", spec.location]
            table.add_row(*[Text(visible(cell)) for cell in cells])
        table.focus()

    def why_not(self, action: Action) -> str:
        """Why an action cannot be done now."""
        return "no source is registered" if action.name == "choose" and not self._found else ""

    @on(DataTable.RowSelected)
    def action_choose(self) -> None:
        """Look at this one."""
        at = self.query_one(DataTable).cursor_row
        if 0 <= at < len(self._found):
            leave(self, self._found[at])

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)
