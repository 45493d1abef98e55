"""What a campaign has done: results that sum up, failures with code and request id, censuses."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll

from kmslab.campaign.report import Report
from kmslab.campaign.standing import said, why_no_resume, why_no_undo
from kmslab.keys import Names
from kmslab.tui.actions import RESULT, Action, bindings
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.finishing import leave
from kmslab.tui.host import host_of
from kmslab.tui.screen import ShownOnce
from kmslab.tui.sheet import Sheet
from kmslab.tui.shown import report_text


class ResultScreen(ShownOnce[str | None]):
    """Shows a report, and gives what is asked for: undo, resume, mark or write."""

    ACTIONS: tuple[Action, ...] = RESULT
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(RESULT)]
    DEFAULT_CSS = "ResultScreen VerticalScroll { padding: 0 1; height: 1fr; }"

    def __init__(self, source: str, report: Report, names: Names) -> None:
        super().__init__()
        self._source = source
        self._names = names
        self.report = report

    def compose(self) -> ComposeResult:
        """One text."""
        yield TopBar()
        yield Crumbs(self._source, "Campaign", self.report.campaign, said(self.report.state))
        with VerticalScroll():
            yield Sheet(partial(report_text, self.report, self._names))
        yield KeyLine()

    def why_not(self, action: Action) -> str:
        """Why an action cannot be done now."""
        report = self.report
        if action.name == "undo":
            return why_no_undo(report)
        if action.name == "resume":
            return why_no_resume(report)
        if action.name == "mark_failed" and not (report.results.failed or report.results.lost):
            return "no record failed"
        return ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions that cannot be done now are grey."""
        app = host_of(self)
        return app.allowed(self, self.ACTIONS, action, parameters)

    def action_undo(self) -> None:
        """Take it back."""
        leave(self, "undo")

    def action_resume(self) -> None:
        """Go on."""
        leave(self, "resume")

    def action_mark_failed(self) -> None:
        """Mark what failed."""
        leave(self, "mark")

    def action_write(self) -> None:
        """Write the report."""
        leave(self, "write")

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)
