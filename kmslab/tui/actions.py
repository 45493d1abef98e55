"""Every action of the explorer: its key, its words, and where it is at home.

Bindings, footer, palette, help and docs/tui.md are all made from, or held against, these tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from textual.binding import Binding
from textual.events import Key


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that can be done. `action_<name>` of its screen, or of the app, does it.

    `keys` are parted by commas; `label` is its word in the footer, "" where it is not there.
    `title` is `area: action`, as in the palette; `writes` says that read-only forbids it: it
    writes a record, a key, a journal or a file, or decrypts.
    """

    name: str
    keys: str
    title: str
    label: str = ""
    writes: bool = False

    @property
    def said(self) -> str:
        """What it is called where there is little room.

        >>> Action("go_on", "enter", "plan: go on, which asks first", "Go on").said
        'Go on'
        >>> Action("whole", "Y", "records: show the blob whole").said
        'Show the blob whole'
        """
        return self.label or self.title.rpartition(": ")[2].capitalize()

    @property
    def deed(self) -> str:
        """What it does to a key; "" where it does nothing to one.

        >>> Action("deed('rotate')", "R", "key: rotate").deed
        'rotate'
        """
        return self.name[6:-2] if self.name.startswith("deed('") else ""

    def is_called(self, name: str, parameters: tuple[object, ...]) -> bool:
        """Whether this is the action that Textual calls so."""
        return self.name in (name, f"{name}({', '.join(map(repr, parameters))})")

    @property
    def binding(self) -> Binding:
        """The same as Textual takes it."""
        return Binding(
            self.keys,
            self.name,
            self.label or self.title,
            show=bool(self.label),
            key_display=self.shown_keys.split(" ")[0],
            tooltip=self.title,
            id=self.name,
        )

    def has_key(self, event: Key) -> bool:
        """Whether a key that was pressed is one of its own."""
        return bool({event.key, event.character} & set(self.keys.split(",")))

    @property
    def shown_keys(self) -> str:
        """Its keys as people are told of them.

        >>> Action("help", "question_mark,f1", "help: of this pane").shown_keys
        '? F1'
        """
        return " ".join(_shown(key) for key in self.keys.split(","))


@runtime_checkable
class Acting(Protocol):
    """A screen that has actions, and knows why one cannot be done now."""

    ACTIONS: tuple[Action, ...]

    def why_not(self, action: Action) -> str:
        """Why it cannot be done now, in a sentence; "" where it can."""
        ...


_SIGNS: Final = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "escape": "Esc",
    "enter": "Enter",
    "space": "Space",
    "ctrl+p": "^p",
    "ctrl+q": "^q",
    "f1": "F1",
    "f5": "F5",
    "f10": "F10",
    "delete": "Del",
    "tab": "Tab",
}


def _shown(key: str) -> str:
    return _SIGNS.get(key, key)


def bindings(actions: Iterable[Action]) -> list[Binding]:
    """The bindings of some actions."""
    return [action.binding for action in actions]


APP: Final = (
    Action("help", "question_mark,f1", "help: the keys of this pane", "Help"),
    Action("command_palette", "colon,ctrl+p", "help: command palette", "More"),
    Action("activity", "L", "view: what was done in this session, as commands"),
    Action("theme", "t", "view: next theme"),
    Action("toggle_read_only", "f10", "view: read-only on or off"),
    Action("quit", "q,ctrl+q", "quit", "Quit"),
)
"""What can be done on every screen."""

RECORDS: Final = (
    Action("re_encrypt", "r", "records: plan the re-encryption of what is marked", "Re-encrypt"),
    Action("filter", "slash", "records: filter", "Filter"),
    Action("inspect", "i", "records: inspect the blob on a screen of its own"),
    Action("decrypt", "d", "records: decrypt preview, masked and audited", writes=True),
    Action("copy", "y", "records: copy the blob"),
    Action("whole", "Y", "records: show the blob whole, to be selected by hand"),
    Action("write", "o", "records: write the blob to a file", writes=True),
    Action("export", "x", "records: export what is marked, else what is shown", writes=True),
    Action("undo", "u", "records: undo the last campaign", "Undo", writes=True),
    Action("key", "K", "key: its versions on a time line", "Key"),
    Action("create", "n", "key: create", writes=True),
    Action("deed('rotate')", "R", "key: rotate", "Rotate", writes=True),
    Action("deed('enable')", "e", "key: enable or disable", writes=True),
    Action("deed('deletion')", "D", "key: schedule or cancel its deletion", writes=True),
    Action("deed('policy')", "P", "key: automatic rotation", writes=True),
    Action("deed('alias')", "N", "key: another alias", writes=True),
    Action("journals", "J", "view: journals of campaigns", "Journals"),
    Action("audit", "H", "view: audit log of the lab"),
    Action("sources", "O", "view: another source"),
    Action("reload", "f5", "view: read source and keys again"),
    Action("pane('tree')", "1", "view: the tree of keys"),
    Action("pane('records')", "2", "view: the records"),
    Action("pane('detail')", "3", "view: the record"),
    Action("back", "escape", "view: back, out of the filter, out of the pane"),
)
"""What can be done on the records screen."""

GRID: Final = (
    Action("mark", "space", "records: mark the record, or take its mark away"),
    Action("range", "v", "records: begin a range of marks; again: mark what is in it"),
    Action("mark_shown", "a", "records: mark everything that is shown"),
    Action("clear_marks", "A", "records: take every mark away, hidden ones too"),
    Action("sort", "s", "records: sort by the next column"),
    Action("reverse", "S", "records: sort the other way round"),
)
"""What the records themselves can do; their keys are the grid's."""

PLAN: Final = (
    Action("go_on", "enter", "plan: go on, which asks first", "Go on", writes=True),
    Action("destination", "d", "plan: another destination", "To key"),
    Action("context", "c", "plan: keep or drop the contexts", "Context"),
    Action("deep", "p", "plan: open every blob, or read heads only", "Prove", writes=True),
    Action("write", "o", "plan: write it to a file, for the command line", "Write", writes=True),
    Action("close", "escape", "plan: leave, nothing was changed", "Back"),
)
"""What can be done with a plan."""

RESULT: Final = (
    Action("undo", "u", "campaign: undo", "Undo", writes=True),
    Action("resume", "c", "campaign: continue where it was stopped", "Continue", writes=True),
    Action("mark_failed", "f", "campaign: mark the records that failed", "Mark failed"),
    Action("write", "o", "campaign: write its report to a file", "Report", writes=True),
    Action("close", "escape,enter", "campaign: back", "Back"),
)
"""What can be done with the result of a campaign."""

JOURNALS: Final = (
    Action("show", "enter", "journal: result and failures", "Result"),
    Action("undo", "u", "journal: undo the campaign", "Undo", writes=True),
    Action("resume", "c", "journal: continue the campaign", "Continue", writes=True),
    Action("end", "C", "journal: close it, which ends its undo", "Close", writes=True),
    Action("write", "o", "journal: write the report to a file", "Report", writes=True),
    Action("reload", "f5", "journal: look again"),
    Action("close", "escape", "journal: back", "Back"),
)
"""What can be done with the journals."""

AUDIT: Final = (
    Action("filter", "slash", "audit: filter by words, !word for what is not wanted", "Filter"),
    Action("verify", "v", "audit: check that the log is whole", "Verify"),
    Action("reload", "f5", "audit: look again", "Again"),
    Action("close", "escape", "audit: back, out of the filter", "Back"),
)
"""What can be done with the audit log."""

KEY: Final = (
    Action("records", "enter", "key: the records of the version", "Records"),
    Action("deed('rotate')", "R", "key: rotate", "Rotate", writes=True),
    Action("deed('enable')", "e", "key: enable or disable", "On/off", writes=True),
    Action("deed('deletion')", "D", "key: schedule or cancel its deletion", "Delete", writes=True),
    Action("deed('policy')", "P", "key: automatic rotation", "Policy", writes=True),
    Action("deed('alias')", "N", "key: another alias", "Alias", writes=True),
    Action("close", "escape", "key: back", "Back"),
)
"""What can be done on the screen of a key."""

SOURCES: Final = (
    Action("choose", "enter", "source: look at it", "Look at it"),
    Action("close", "escape", "source: back", "Back"),
)
"""What can be done with the sources."""
