"""The lab's audit log: who did what, and whether the log is just as it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Input, Static

from kmslab.campaign.rendering import moment
from kmslab.errors import KmslabError
from kmslab.tui.actions import AUDIT, Action, bindings
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.finishing import leave
from kmslab.tui.host import Flow, Host, away_for, host_of, in_worker, is_left
from kmslab.tui.line import Line
from kmslab.tui.rows import Rows
from kmslab.tui.screen import ShownOnce
from kmslab.tui.texts import visible

LISTED: Final = 500
"""The newest rows that are shown; `kmslab audit show` has all."""

_AT_ONCE: Final = 25  # rows: a few milliseconds

_COLUMNS = ("TIME", "ACTION", "OUTCOME", "KEY", "PROVIDER", "WHO", "CALLS", "REQUEST")


class Words(Line):
    """What rows are to have: each word, but for those after a `!`."""

    DEFAULT_CSS = """
    Words { height: 1; border: none; padding: 0 1; display: none; }
    Words:focus { border: none; }
    Words.used { display: block; }
    """


class AuditLog(ShownOnce[None]):
    """The newest rows of the log, the newest first."""

    ACTIONS: tuple[Action, ...] = AUDIT
    BINDINGS: ClassVar[list[BindingType]] = [
        # Nothing may overtake the key of the filter: what is typed next is for its line.
        *(replace(each, priority=each.action == "filter") for each in bindings(AUDIT)),
    ]
    DEFAULT_CSS = """
    AuditLog DataTable { height: 1fr; }
    AuditLog #about { height: auto; padding: 0 1; background: $panel; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[list[str]] = []

    def compose(self) -> ComposeResult:
        """A table, a filter, and what is known of the log."""
        yield TopBar()
        yield Crumbs("Audit log of the lab")
        yield Rows(zebra_stripes=True)
        yield Words(placeholder="words that rows have: decrypt !ok", select_on_focus=False)
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
        self._begin("looking", self._load)

    def _begin(self, doing: str, flow: Flow) -> None:
        # A worker of the screen, so that it ends with the screen.
        work = partial(self.explorer.guarded, partial(self._do, doing, flow))
        in_worker(self, work, exclusive=True)

    async def _do(self, doing: str, flow: Flow) -> None:
        self._say(doing)
        try:
            await flow()
        except KmslabError:
            if not is_left(self):
                self._say("! it cannot be read")
            raise

    async def _load(self) -> None:
        session = self.explorer.session
        entries, names = await away_for(
            self, lambda: (session.lab.audit.entries(LISTED), session.names())
        )
        self._rows = [
            [
                moment(entry.time),
                entry.action,
                entry.outcome if entry.outcome == "ok" else f"! {entry.outcome}",
                names(entry.key_id) or "-",
                entry.provider or "-",
                entry.who,
                f"{entry.count:,}",
                entry.request_id or "-",
            ]
            for entry in reversed(entries)
        ]
        self._show()

    @on(Input.Changed)
    def _show(self) -> None:
        in_worker(self, self._fill, group="rows", exclusive=True)

    async def _fill(self) -> None:
        """Show the rows that are wanted, some at a time: keys are answered in between."""
        rows = [row for row in self._rows if has(row, self.query_one(Words).value)]
        table = self.query_one(DataTable)
        table.clear()
        for start in range(0, len(rows), _AT_ONCE):
            for row in rows[start : start + _AT_ONCE]:
                table.add_row(*[Text(visible(cell)) for cell in row])
            await asyncio.sleep(0)
        newest = f"the newest {len(self._rows):,} rows"
        shown = newest if len(rows) == len(self._rows) else f"{len(rows):,} of {newest}"
        self._say(f"{shown}; v checks that the log is whole")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In the line of the filter a key is a letter."""
        if action == "filter" and isinstance(self.focused, Input):
            return False
        return self.explorer.allowed(self, self.ACTIONS, action, parameters)

    def action_filter(self) -> None:
        """Write a filter."""
        line = self.query_one(Words)
        line.add_class("used")
        self.set_focus(line)  # at once: what is typed next is for it

    @on(Input.Submitted)
    def _leave_filter(self) -> None:
        line = self.query_one(Words)
        line.set_class(bool(line.value), "used")
        self.query_one(DataTable).focus()

    def action_verify(self) -> None:
        """Check the whole log."""
        self._begin("checking that the log is whole", self._verify)

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
        """Out of the filter, else back."""
        line = self.query_one(Words)
        if line.value or line.has_focus:
            line.value = ""
            self._leave_filter()
        else:
            leave(self, None)


def has(row: Sequence[str], words: str) -> bool:
    """Whether a row has all of some words in it, whatever their case, and none of those after `!`.

    >>> has(["Decrypt", "ok"], "decrypt !fail"), has(["Decrypt", "ok"], "!OK")
    (True, False)
    """
    text = " ".join(row).casefold()
    return all(
        (word.lstrip("!") in text) is not word.startswith("!")
        for word in words.casefold().split()
        if word != "!"
    )
