"""A line to write in that does what is typed in the order in which it is typed."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding
from textual.events import Key
from textual.widgets import Input

_EDITS: Final = {
    key: binding.action
    for binding in Input.BINDINGS
    if isinstance(binding, Binding)
    for key in binding.key.split(",")
    if key != "enter"
}


class Line(Input):
    """An `Input` that does its keys itself.

    Textual takes letters at once, and lets Backspace and the like go up to the app first: typed
    fast, Backspace takes away the letter that came after it.
    """

    async def on_key(self, event: Key) -> None:
        """What edits the line is done before the next key is looked at."""
        action = _EDITS.get(event.key)
        if action is not None:
            event.stop()
            event.prevent_default()
            await self.run_action(action)
