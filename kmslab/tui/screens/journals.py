"""The campaigns that this state folder remembers, whoever ran them: show, continue, undo, close."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Static

from kmslab.campaign.closing import Unreadable, campaigns
from kmslab.campaign.rendering import moment
from kmslab.campaign.report import Report
from kmslab.campaign.standing import said, why_no_close, why_no_resume, why_no_undo
from kmslab.tui.actions import JOURNALS, Action, bindings
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.finishing import leave
from kmslab.tui.host import Host, away_for, host_of, in_worker, is_left
from kmslab.tui.rows import Rows
from kmslab.tui.screen import ShownOnce
from kmslab.tui.screens import flows
from kmslab.tui.texts import visible

_COLUMNS = ("CAMPAIGN", "STATE", "STARTED", "TOTAL", "DONE", "FAILED", "LOST", "UNDONE", "SOURCE")


class Journals(ShownOnce[None]):
    """The journals, the newest first."""

    ACTIONS: tuple[Action, ...] = JOURNALS
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(JOURNALS)]
    DEFAULT_CSS = """
    Journals DataTable { height: 1fr; }
    Journals #about { height: auto; padding: 0 1; background: $panel; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Report | Unreadable] = []

    def compose(self) -> ComposeResult:
        """A table, and a line on the journal under the cursor."""
        yield TopBar()
        yield Crumbs("Journals of campaigns")
        yield Rows(zebra_stripes=True)
        yield Static("", id="about", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Read them."""
        self.query_one(DataTable).add_columns(*_COLUMNS)
        self.query_one(DataTable).focus()
        self.action_reload()

    @property
    def explorer(self) -> Host:
        """The app."""
        return host_of(self)

    @property
    def chosen(self) -> Report | Unreadable | None:
        """The one under the cursor."""
        at = self.query_one(DataTable).cursor_row
        return self._found[at] if 0 <= at < len(self._found) else None

    def why_not(self, action: Action) -> str:
        """Why an action cannot be done now."""
        if action.name in ("reload", "close"):
            return ""
        found = self.chosen
        if found is None:
            return "there is no campaign"
        if isinstance(found, Unreadable):
            return "its journal cannot be read"
        if action.name == "undo":
            return why_no_undo(found)
        if action.name == "resume":
            return why_no_resume(found)
        if action.name == "end":
            return why_no_close(found)
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions that cannot be done now are grey."""
        return self.explorer.allowed(self, self.ACTIONS, action, parameters)

    def action_reload(self) -> None:
        """Read them again, where somebody looks at them still."""
        if is_left(self):
            return
        self._tell("looking")
        # A worker of the screen, so that it ends with the screen.
        work = partial(self.explorer.guarded, self._load)
        in_worker(self, work, exclusive=True)

    async def _load(self) -> None:
        state = self.explorer.session.ground.state
        found = await away_for(self, lambda: list(campaigns(state)))
        stood = self.chosen
        self._found = found[::-1]
        table = self.query_one(DataTable)
        at = table.cursor_row
        if stood is not None:  # others may have come above it, or gone
            ids = [each.campaign for each in self._found]
            at = ids.index(stood.campaign) if stood.campaign in ids else at
        table.clear()
        for each in self._found:
            table.add_row(*[Text(visible(cell)) for cell in _cells(each)])
        table.move_cursor(row=min(at, len(self._found) - 1))
        self._show()

    @on(DataTable.RowHighlighted)
    def _show(self) -> None:
        found = self.chosen
        match found:
            case None:
                about = "no campaigns yet: mark records, and r plans their re-encryption"
            case Unreadable():
                about = f"! {found.error}"
            case _:
                about = f"{found.campaign} on {found.source}"
        self._tell(about)
        self.refresh_bindings()

    def _tell(self, about: str) -> None:
        self.query_one("#about", Static).update(visible(about))

    @on(DataTable.RowSelected)
    def action_show(self) -> None:
        """Its result."""
        self._with_chosen("result", self._result)

    def action_undo(self) -> None:
        """Undo it."""
        self._with_chosen("undo", self._undo)

    def action_resume(self) -> None:
        """Continue it."""
        self._with_chosen("continue", self._resume)

    def action_end(self) -> None:
        """Close it."""
        self._with_chosen("close", self._end)

    def action_write(self) -> None:
        """Write its report."""
        self._with_chosen("report", self._write)

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)

    def _with_chosen(self, name: str, flow: Callable[[Report], Coroutine[Any, Any, None]]) -> None:
        found = self.chosen
        if isinstance(found, Report):
            self.explorer.begin(name, lambda: flow(found), of=self)

    async def _result(self, report: Report) -> None:
        full = await away_for(self, lambda: flows.report_of(self.explorer, report.campaign))
        await flows.show_result(self.explorer, full)
        self.action_reload()

    async def _undo(self, report: Report) -> None:
        done = await flows.undo_campaign(self.explorer, report.campaign)
        if done is not None:
            await flows.show_result(self.explorer, done)
        self.action_reload()

    async def _resume(self, report: Report) -> None:
        done = await flows.resume_campaign(self.explorer, report.campaign)
        if done is not None:
            await flows.show_result(self.explorer, done)
        self.action_reload()

    async def _write(self, report: Report) -> None:
        await flows.write_report(self.explorer, report.campaign)

    async def _end(self, report: Report) -> None:
        await flows.close_campaign(self.explorer, report)
        self.action_reload()


def _cells(found: Report | Unreadable) -> list[str]:
    if isinstance(found, Unreadable):
        return [found.campaign, f"! {found.state}", *["-"] * 7]
    results = found.results
    return [
        found.campaign,
        said(found.state),
        moment(found.started_at),
        "-" if found.plan is None else f"{found.plan.total:,}",
        f"{results.re_encrypted:,}",
        f"{results.failed:,}",
        f"{results.lost:,}",
        f"{found.undone:,}",
        found.source,
    ]
