"""What stands above and below every screen: which lab, whether it can be written, where one is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.events import MouseDown
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from kmslab.tui.host import host_of
from kmslab.tui.texts import visible


class TopBar(Static):
    """Whether anything can be written, how many records are marked, what is waited for, and which
    lab it is.

    The lab comes last: its path may be longer than a line.
    """

    DEFAULT_CSS = """
    TopBar {
        height: 1; background: $primary; color: $text; padding: 0 1; text-style: bold;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    TopBar.writable { background: $accent; }
    """

    def on_mount(self) -> None:
        """Follow what the app knows."""
        for name in ("read_only", "marked", "waits_for"):
            self.watch(self.app, name, self._show)

    def _show(self) -> None:
        app = host_of(self)
        parts = ["kmslab", "read-only" if app.read_only else "writable"]
        if app.marked:
            parts.append(f"{app.marked:,} marked")
        if app.waits_for:
            parts.append(f"at work: {app.waits_for}")
        parts.append(visible(app.session.where))
        self.set_class(not app.read_only, "writable")
        self.update(Text(" - ".join(parts)), layout=False)


class Crumbs(Static):
    """Where one is, from the outside in."""

    DEFAULT_CSS = """
    Crumbs {
        height: 1; padding: 0 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self._steps = steps

    def on_mount(self) -> None:
        """Show the first steps."""
        self.show(*self._steps)

    def show(self, *steps: str) -> None:
        """Be there."""
        text = " ▸ ".join(visible(step) for step in steps if step)
        self.update(Text(text), layout=False)


@dataclass(frozen=True, slots=True)
class Label:
    """A key in the line: what it is called there, what it does, whether that can be done now."""

    key: str
    name: str
    does: str
    enabled: bool


class KeyLine(Widget):
    """The keys of a screen; the mouse presses them too. A `Footer` in one text: a widget for
    each key costs as much as all the rest of a dialog."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"keyline--key", "keyline--does"}
    DEFAULT_CSS = """
    KeyLine { dock: bottom; height: 1; background: $footer-background; text-wrap: nowrap; }
    KeyLine > .keyline--key { color: $footer-key-foreground; text-style: bold; }
    KeyLine > .keyline--does { color: $footer-description-foreground; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[Label] = []
        """What is shown, from the left."""

    def on_mount(self) -> None:
        """Follow what can be done."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[Any]) -> None:
        labels = self._labels()
        if labels != self.labels:
            self.labels = labels
            self.refresh()

    def _labels(self) -> list[Label]:
        """The keys that there are now; of several that do the same the first."""
        found: dict[str, Label] = {}
        for each in self.screen.active_bindings.values():
            binding = each.binding
            if binding.show and binding.action not in found:
                name = self.app.get_key_display(binding)
                label = Label(binding.key, name, binding.description, each.enabled)
                found[binding.action] = label
        return list(found.values())

    def render(self) -> Text:
        """One text."""
        styles = [self.get_component_rich_style(f"keyline--{part}") for part in ("key", "does")]
        text = Text(no_wrap=True)
        for label in self.labels:
            start = len(text)
            text.append(label.name, styles[0]).append(f" {label.does}", styles[1]).append(" ")
            if not label.enabled:
                text.stylize("dim", start)
        return text

    def on_mouse_down(self, event: MouseDown) -> None:
        """Press the key that is pointed at."""
        end = 0
        for label in self.labels:
            end += cell_len(f"{label.name} {label.does} ")
            if event.x < end:
                if label.enabled:
                    self.app.simulate_key(label.key)
                return
