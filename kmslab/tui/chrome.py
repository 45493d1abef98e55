"""What stands above and below every screen: which lab, whether it can be written, where one is."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Footer, Static

from kmslab.tui.host import host_of
from kmslab.tui.texts import visible


class TopBar(Static):
    """Whether anything can be written, how many records are marked, and which lab it is.

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
        for name in ("read_only", "marked"):
            self.watch(self.app, name, self._show)

    def _show(self) -> None:
        app = host_of(self)
        parts = ["kmslab", "read-only" if app.read_only else "writable"]
        if app.marked:
            parts.append(f"{app.marked:,} marked")
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


class KeyLine(Footer):
    """The keys of a screen. It is made anew only where they are others: each focus asks for it."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._shown: list[tuple[Binding, bool]] | None = None

    def compose(self) -> ComposeResult:
        """A label for each key."""
        if self._bindings_ready:
            self._shown = self._keys()
        return super().compose()

    async def recompose(self) -> None:
        """Show the keys that there are now, where the screen is still there."""
        if self.is_attached and self._keys() != self._shown:
            await super().recompose()

    def _keys(self) -> list[tuple[Binding, bool]]:
        found = self.screen.active_bindings.values()
        return [(each.binding, each.enabled) for each in found if each.binding.show]
