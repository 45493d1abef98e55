"""The lab's audit log: who did what, and whether the log is just as it was written."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import DataTable, Static

from kmslab.campaign.rendering import moment
from kmslab.tui.actions import AUDIT, Action, bindings
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.host import Host, away_for, host_of, in_worker
from kmslab.tui.rows import Rows
from kmslab.tui.texts import visible

LISTED: Final = 500
"""The newest rows that are shown; `kmslab audit show` has all."""

_COLUMNS = ("TIME", "ACTION", "OUTCOME", "KEY", "PROVIDER", "WHO", "CALLS", "REQUEST")


class AuditLog(Screen[None]):
    """The newest rows of the log, the newest first."""

    ACTIONS: tuple[Action, ...] = AUDIT
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(AUDIT)]
    DEFAULT_CSS = """
    AuditLog DataTable { height: 1fr; }
    AuditLog #about { height: auto; padding: 0 1; background: $panel; }
    """

    def compose(self) -> ComposeResult:
        """A table, and what is known of the log."""
        yield TopBar()
        yield Crumbs("Audit log of the lab")
        yield Rows(zebra_stripes=True)
        yield Static("", id="about", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Read it."""
        self.query_one(DataTable).add_columns(*_COLUMNS)
        self.query_one(DataTable).focus()
        self.action_reload()

    @property
    def explorer(self) -> Host:
        """The app."""
        return host_of(self)

    def why_not(self, _action: Action) -> str:
        """Everything can be done at any time."""
        return ""

    def action_reload(self) -> None:
        """Read it again."""
        self._begin(self._load)

    def _begin(self, flow: Callable[[], Coroutine[Any, Any, None]]) -> None:
        # A worker of the screen, so that it ends with the screen.
        in_worker(self, partial(self.explorer.guarded, flow), exclusive=True)

    async def _load(self) -> None:
        session = self.explorer.session
        entries, names = await away_for(
            self, lambda: (session.lab.audit.entries(LISTED), session.names())
        )
        table = self.query_one(DataTable)
        table.clear()
        for entry in reversed(entries):
            cells = [
                moment(entry.time),
                entry.action,
                entry.outcome if entry.outcome == "ok" else f"! {entry.outcome}",
                names(entry.key_id) or "-",
                entry.provider or "-",
                entry.who,
                f"{entry.count:,}",
                entry.request_id or "-",
            ]
            table.add_row(*[Text(visible(cell)) for cell in cells])
        self._say(f"the newest {len(entries):,} rows; v checks that the log is whole")

    def action_verify(self) -> None:
        """Check the whole log."""
        self._begin(self._verify)

    async def _verify(self) -> None:
        check = await away_for(self, self.explorer.session.lab.audit.verify)
        ends = f"; {check.open_ends} other processes are at work or were killed"
        if check.intact:
            self._say(f"● whole: {check.rows:,} rows{ends if check.open_ends else ''}")
        else:
            self._say(f"! row {check.broken_at:,} is not what was written")

    def _say(self, text: str) -> None:
        self.query_one("#about", Static).update(text)

    def action_close(self) -> None:
        """Go back."""
        self.dismiss(None)
