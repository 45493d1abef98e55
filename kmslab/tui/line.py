"""A line to write in that does what is typed in the order in which it is typed, and one that has
one of several texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.reactive import reactive
from textual.widget import Widget
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


class Pick(Widget, can_focus=True):
    """One of several texts. Left, right, space and a click go from one to the next, Enter to the
    next field.

    A `Select` has a list of its own to open, which makes a dozen widgets of one.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "turn(1)", "Next", key_display="Space"),
        Binding("left", "turn(-1)", show=False),
        Binding("enter", "app.focus_next", show=False),
    ]
    DEFAULT_CSS = """
    Pick { height: 1; background: $surface; }
    Pick:focus { background: $block-cursor-background; color: $block-cursor-foreground; }
    """

    value: reactive[str] = reactive("")

    def __init__(self, choices: Sequence[str], value: str, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._choices = choices
        self.set_reactive(Pick.value, value)

    def render(self) -> Text:
        """Which one, and of how many."""
        at = self._choices.index(self.value) + 1
        return Text(f"◂ {self.value} ▸  {at} of {len(self._choices)}")

    def action_turn(self, by: int) -> None:
        """To another one."""
        at = self._choices.index(self.value) + by
        self.value = self._choices[at % len(self._choices)]

    def on_click(self) -> None:
        """To the next one."""
        self.action_turn(1)
