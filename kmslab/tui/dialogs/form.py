"""A dialog that asks for some values. It changes nothing: what is asked for is confirmed after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from kmslab.tui.chrome import KeyLine
from kmslab.tui.finishing import leave
from kmslab.tui.line import Line, Pick
from kmslab.tui.modal import Modal
from kmslab.tui.texts import visible


@dataclass(frozen=True, slots=True)
class Field:
    """One value that is asked for: a text, or one of `choices`."""

    name: str
    label: str
    value: str = ""
    choices: tuple[str, ...] = ()


Check = Callable[[Mapping[str, str]], str]
"""What is wrong with the values, in a sentence; "" where nothing is."""


def see_focused(screen: Screen[Any]) -> None:
    """Scroll what has the focus into sight, where there is less room than before."""
    if screen.focused is not None:
        screen.focused.scroll_visible(animate=False)


class Form(Modal[Mapping[str, str] | None]):
    """Asks for the values of fields; None where it is left.

    `wrong` says what was wrong with the values that are in them already.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", key_display="Esc")
    ]
    DEFAULT_CSS = """
    Form { align: center middle; }
    Form > Vertical {
        width: 72; max-width: 96%; height: auto; max-height: 96%;
        border: round $primary; padding: 0 1; background: $surface; overflow-y: auto;
    }
    Form .title { text-style: bold; margin: 0 0 1 0; }
    Form .row { height: auto; }
    Form .row Static { width: 18; }
    Form .row Input, Form .row Pick { width: 1fr; }
    Form .wrong { color: $error; height: auto; }
    Form .buttons { height: auto; margin: 1 0 0 0; align-horizontal: right; }
    Form Button { margin: 0 0 0 2; min-width: 0; }
    Form.-narrow .row { layout: vertical; }
    Form.-narrow .row Static { width: 1fr; }
    """
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (60, "-wide")]  # noqa: RUF012 - as Textual has it

    def __init__(
        self, title: str, fields: Sequence[Field], check: Check, *, answer: str, wrong: str = ""
    ) -> None:
        super().__init__()
        self._wrong = visible(wrong)
        self._title = title
        self._fields = fields
        self._check = check
        self._answer = answer

    def compose(self) -> ComposeResult:
        """A line for each field, and two buttons."""
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            for field in self._fields:
                with Horizontal(classes="row"):
                    yield Static(field.label, markup=False)
                    if field.choices:
                        value = field.value or field.choices[0]
                        yield Pick(field.choices, value, id=field.name)
                    else:
                        yield Line(field.value, id=field.name, compact=True)
            yield Static(self._wrong, classes="wrong", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", compact=True)
                yield Button(self._answer, id="go", variant="primary", compact=True)
        yield KeyLine()

    def on_mount(self) -> None:
        """The first field has the focus."""
        self.query_one(f"#{self._fields[0].name}").focus()

    def on_resize(self) -> None:
        """What has the focus stays in sight."""
        self.call_after_refresh(see_focused, self)

    def action_cancel(self) -> None:
        """Ask nothing more."""
        leave(self, None)

    @on(Button.Pressed, "#cancel")
    def _cancelled(self) -> None:
        leave(self, None)

    @on(Button.Pressed, "#go")
    @on(Input.Submitted)
    def _gone_on(self) -> None:
        values = {field.name: self._value(field) for field in self._fields}
        wrong = self._check(values)
        if wrong:
            self.query_one(".wrong", Static).update(visible(wrong))
        else:
            leave(self, values)

    def _value(self, field: Field) -> str:
        if field.choices:
            return self.query_one(f"#{field.name}", Pick).value
        return self.query_one(f"#{field.name}", Input).value.strip()


class Choose(Modal[str | None]):
    """Choose one of several things; None where it is left.

    `options` are ids with what is shown of each, and why it cannot be chosen ("" where it can).
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", key_display="Esc")
    ]
    DEFAULT_CSS = """
    Choose { align: center middle; }
    Choose > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 90%;
        border: round $primary; padding: 0 1; background: $surface;
    }
    Choose .title { text-style: bold; margin: 0 0 1 0; }
    Choose OptionList, Choose OptionList:focus { height: auto; max-height: 60vh; border: none; }
    """

    def __init__(self, title: str, options: Sequence[tuple[str, str, str]]) -> None:
        super().__init__()
        self._title = title
        self._options = options

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            yield OptionList(
                *[
                    Option(
                        Text(f"{text}  ({reason})" if reason else text, no_wrap=True),
                        id=f"option-{at}",
                        disabled=bool(reason),
                    )
                    for at, (_, text, reason) in enumerate(self._options)
                ]
            )
        yield KeyLine()

    def on_mount(self) -> None:
        """The list has the focus."""
        self.query_one(OptionList).focus()

    def action_cancel(self) -> None:
        """Choose nothing."""
        leave(self, None)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        leave(self, self._options[event.option_index][0])
