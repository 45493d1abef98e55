"""One key: its versions on a time line, each with its share of the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Static

from kmslab.model import Key
from kmslab.tui.actions import KEY, Action, bindings
from kmslab.tui.census import Tallies
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.dialogs import keys as key_dialogs
from kmslab.tui.finishing import leave
from kmslab.tui.host import Host, host_of
from kmslab.tui.rows import Rows
from kmslab.tui.screen import ShownOnce
from kmslab.tui.sheet import SHORT
from kmslab.tui.texts import bar, fields, key_mark, moment, percent, short_moment, visible
from kmslab.tui.tree import PROVIDER_NAMES, Place

_BAR: Final = 20


class KeyScreen(ShownOnce[Place | None]):
    """A key with its versions; `counted` gives the records that are counted by now.

    Enter on a version gives its place, to show the records there.
    """

    ACTIONS: tuple[Action, ...] = KEY
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(KEY)]
    DEFAULT_CSS = """
    KeyScreen #about { height: auto; padding: 0 1; max-height: 60%; overflow-y: auto; }
    KeyScreen DataTable { height: 1fr; margin: 1 0 0 0; }
    KeyScreen.-short #about { max-height: 30%; }
    KeyScreen.-short DataTable { margin: 0; }
    """
    VERTICAL_BREAKPOINTS = SHORT

    def __init__(self, key: Key, counted: Callable[[], Tallies]) -> None:
        super().__init__()
        self._key = key
        self._counted = counted

    def compose(self) -> ComposeResult:
        """What the lab knows of it; the versions."""
        yield TopBar()
        name = self._key.alias or self._key.key_id
        yield Crumbs(PROVIDER_NAMES[self._key.provider], name, "versions")
        yield Static("", id="about")
        yield Rows()
        yield KeyLine()

    def on_mount(self) -> None:
        """Show it."""
        table = self.query_one(DataTable)
        table.add_columns("VERSION", "MADE", "UNTIL", "RECORDS", "SHARE", "", "ENCRYPTIONS", "ID")
        table.focus()
        self._show()

    @property
    def explorer(self) -> Host:
        """The app."""
        return host_of(self)

    def changed(self, keys: Mapping[str, Key]) -> None:
        """Keys, here by their ids, or records are not what they were."""
        found = keys.get(self._key.key_id)
        if found is None:
            leave(self, None)
            return
        self._key = found
        if self.is_mounted:
            self._show()
            self.refresh_bindings()

    def _show(self) -> None:
        self.query_one("#about", Static).update(about(self._key))
        table = self.query_one(DataTable)
        at = table.cursor_row
        table.clear()
        for cells in rows(self._key, self._counted()):
            table.add_row(*[Text(visible(cell)) for cell in cells])
        table.move_cursor(row=at)

    def why_not(self, action: Action) -> str:
        """Why an action cannot be done now."""
        return key_dialogs.why_not(action.deed, self._key) if action.deed else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions that cannot be done now are grey."""
        return self.explorer.allowed(self, self.ACTIONS, action, parameters)

    @on(DataTable.RowSelected)
    def action_records(self) -> None:
        """The records of this version."""
        key, at = self._key, self.query_one(DataTable).cursor_row
        versions = key.versions[::-1]
        if 0 <= at < len(versions):
            version = versions[at]
            leave(self, Place(key.provider, key.key_id, version.version_id, key, version))

    def action_deed(self, name: str) -> None:
        """Do something to it."""
        key_dialogs.begin(self.explorer, name, self._key, self._counted, of=self)

    def action_close(self) -> None:
        """Go back."""
        leave(self, None)


def about(key: Key) -> Text:
    """What the lab knows of a key; its material is never shown."""
    rotation = "off" if key.rotation_days is None else f"every {key.rotation_days} days"
    if key.next_rotation_at is not None:
        rotation += f", next {moment(key.next_rotation_at)}"
    pairs = [
        ("alias", key.alias or "-"),
        ("key id", key.key_id),
        ("provider", f"{PROVIDER_NAMES[key.provider]}, {key.region}"),
        ("state", f"{key_mark(key)} {key.state.value}"),
        ("material", f"{key.spec.value}, {'imported' if key.origin.value != 'kms' else 'own'}"),
        ("made", moment(key.created_at)),
        ("rotation", rotation),
    ]
    if key.deletion_at is not None:
        pairs.append(("deleted on", moment(key.deletion_at)))
    if key.description:
        pairs.append(("description", key.description))
    return fields(pairs)


def _minute(at: datetime | None) -> str:
    """A time to the minute, where several versions are of one day."""
    return moment(at)[:16]


def rows(key: Key, tallies: Tallies) -> list[list[str]]:
    """The versions, the newest first, each with how long it was the primary one and its records."""
    total = tallies.key(key.provider, key.key_id).total
    found = []
    ends = [version.made_at for version in key.versions[1:]]
    days = {short_moment(version.made_at) for version in key.versions}
    when = short_moment if len(days) == len(key.versions) else _minute
    for at, version in enumerate(key.versions):
        primary = version.version_id == key.primary_version_id
        count = tallies.version(key.provider, key.key_id, version.version_id).total
        share = count / total if total else 0.0
        until = "● primary" if primary else when(ends[at]) if at < len(ends) else "-"
        found.append(
            [
                f"{'●' if primary else '○'} v{version.number}",
                when(version.made_at),
                until if version.has_material else "✗ no material",
                f"{count:>9,}",
                bar(share, _BAR),
                f"{percent(share):>5}",
                f"{version.encryptions:>11,}",
                version.version_id,
            ]
        )
    return found[::-1]
