"""One record on a screen of its own: its blob part by part, and its bytes."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from kmslab.analysis.classify import Verdict
from kmslab.keys import Names
from kmslab.model import Key, Record
from kmslab.tui import saving
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.detail import Detail
from kmslab.tui.finishing import leave
from kmslab.tui.host import host_of
from kmslab.tui.screen import ShownOnce
from kmslab.tui.session import Session


class InspectScreen(ShownOnce[None]):
    """A record in full width."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy the blob"),
        Binding("escape,i,enter", "close", "Back", key_display="Esc"),
    ]
    DEFAULT_CSS = "InspectScreen Detail { padding: 0 1; height: 1fr; }"

    def __init__(
        self, session: Session, record: Record, verdict: Verdict, key: Key | None, names: Names
    ) -> None:
        super().__init__()
        self._names = names
        self._session = session
        self._record = record
        self._verdict = verdict
        self._key = key

    def compose(self) -> ComposeResult:
        """The detail, wide."""
        yield TopBar()
        yield Crumbs(self._session.source, self._record.record_id, "inspect")
        yield Detail(id="detail")
        yield KeyLine()

    def on_mount(self) -> None:
        """Show it."""
        now = self._session.ground.clock.now()
        detail = self.query_one(Detail)
        detail.show(self._record, self._verdict, self._key, self._names, now)
        detail.focus()

    def action_copy(self) -> None:
        """Copy the blob."""
        app = host_of(self)
        saving.copy(app, "the blob", self._record.ciphertext_blob)

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)
