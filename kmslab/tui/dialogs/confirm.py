"""The one dialog before anything is written: what will happen, Cancel focused."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.events import Key
from textual.widgets import Button, Input, Static

from kmslab.campaign.plan import SURE
from kmslab.tui.chrome import KeyLine
from kmslab.tui.dialogs.form import see_focused
from kmslab.tui.finishing import leave
from kmslab.tui.line import Line
from kmslab.tui.modal import Modal
from kmslab.tui.sheet import Laid, Sheet

QUIET: Final = 0.5
"""The seconds without a key after which a dialog that has just come up hears one: what is typed
before was meant for something else."""

_HEARD: Final = frozenset({"escape", "n"})
_SCROLLED: Final = ("up", "down", "pageup", "pagedown")


class Confirm(Modal[bool]):
    """Asks whether to go on; Enter alone is a no.

    Cancel has the focus, `y` is a yes. For more than `SURE` records it is not: their number has to
    be typed, wherever the focus is; `name` is what has to be typed where their number is not known.
    `answer` is what the yes button says. Until it has been on the screen for QUIET seconds without
    a key, only a no is heard, and what is wanted in the field.
    """

    VERTICAL_BREAKPOINTS = [(0, "-short"), (24, "-tall")]  # noqa: RUF012 - as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "Yes"),
        Binding("escape,n", "cancel", "Cancel", key_display="Esc"),
        Binding("left,right", "other_button", show=False),
        *(Binding(key, f"body('{key}')", show=False) for key in _SCROLLED),
    ]
    DEFAULT_CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 96%;
        border: round $warning; padding: 0 1; background: $surface; overflow-y: auto;
    }
    Confirm .title { text-style: bold; width: 1fr; }
    Confirm VerticalScroll { height: auto; max-height: 50vh; margin: 1 0 0 0; }
    Confirm Input { margin: 1 0 0 0; }
    Confirm .wrong { color: $error; height: auto; }
    Confirm Horizontal { height: auto; margin: 1 0 0 0; align-horizontal: right; }
    Confirm Button { margin: 0 0 0 2; min-width: 0; }
    Confirm.-short VerticalScroll { max-height: 35vh; margin: 0; }
    Confirm.-short Input { border: none; height: 1; padding: 0; margin: 0; }
    Confirm.-short Horizontal { margin: 0; }
    Confirm.-short KeyLine { display: none; }
    """

    def __init__(
        self, title: str, body: Text | Laid, *, answer: str, records: int = 0, name: str = ""
    ) -> None:
        super().__init__()
        self._title = title
        self._body: Laid = (lambda _: body) if isinstance(body, Text) else body
        self._answer = answer
        self._wanted = name or (str(records) if records > SURE else "")
        self._why = "more than 1,000 records: their number has to be typed"
        if name:
            self._why = "how many records it touches is not known: the name has to be typed"
        self._quiet_since: float | None = None

    def compose(self) -> ComposeResult:
        """Title, what will happen, the number where one is asked for, two buttons."""
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            with VerticalScroll(can_focus=False):
                yield Sheet(self._body)
            if self._wanted:
                wanted = f"type {self._wanted} to go on"
                yield Line(placeholder=wanted, id="wanted", select_on_focus=False)
                yield Static("", classes="wrong", markup=False)
            with Horizontal():
                yield Button("Cancel", id="cancel", compact=True)
                label = self._answer if self._wanted else f"{self._answer} (y)"
                yield Button(
                    label,
                    id="yes",
                    variant="warning",
                    compact=True,
                    disabled=bool(self._wanted),
                )
        yield KeyLine()

    def on_mount(self) -> None:
        """Cancel has the focus."""
        self.query_one("#cancel").focus()
        self.call_after_refresh(self._hush)

    def on_resize(self) -> None:
        """What has the focus stays in sight."""
        self.call_after_refresh(see_focused, self)

    def _hush(self) -> None:
        self._quiet_since = monotonic()

    @property
    def hears(self) -> bool:
        """Whether a yes is one."""
        return self._quiet_since is not None and monotonic() - self._quiet_since >= QUIET

    def on_key(self, event: Key) -> None:
        """What was typed ahead is no answer, but for what is wanted in the field."""
        if self._is_wanted(event):
            event.stop()
            self._type(event.character or "")
        elif not self.hears and event.key not in _HEARD and not self._is_in_field(event):
            event.stop()
            if self._quiet_since is not None:
                self._hush()

    def _is_wanted(self, event: Key) -> bool:
        """Whether a key is for the field: it came to another, since the field takes its own."""
        letter = event.character
        if not self._wanted or letter is None:
            return False
        return letter.isdigit() if self._wanted.isdigit() else letter.isprintable()

    def _is_in_field(self, event: Key) -> bool:
        """Whether a key is for the field that has the focus; Enter is where what is wanted stands
        there, which nobody types by chance."""
        field = self.focused
        if not isinstance(field, Input):
            return False
        return event.key != "enter" or (
            self._quiet_since is not None and self._is_agreed(field.value)
        )

    def _type(self, letter: str) -> None:
        field = self.query_one("#wanted", Input)
        self.set_focus(field)  # at once: what is typed next is for it
        field.insert_text_at_cursor(letter)

    def action_yes(self) -> None:
        """Agree, where one key may."""
        if not self._wanted:
            leave(self, True)
        else:
            self.query_one("#wanted").focus()
            self._say(self._why)

    def action_cancel(self) -> None:
        """Do nothing."""
        leave(self, False)

    def action_body(self, key: str) -> None:
        """Show more of what will happen."""
        body = self.query_one(VerticalScroll)
        {
            "up": body.scroll_up,
            "down": body.scroll_down,
            "pageup": body.scroll_page_up,
            "pagedown": body.scroll_page_down,
        }[key](animate=False)

    def action_other_button(self) -> None:
        """Left and right go from one button to the other."""
        yes, cancel = self.query_one("#yes", Button), self.query_one("#cancel", Button)
        (cancel if yes.has_focus or yes.disabled else yes).focus()

    @on(Button.Pressed, "#cancel")
    def _cancelled(self) -> None:
        leave(self, False)

    @on(Button.Pressed, "#yes")
    def _agreed(self) -> None:
        if self.hears:
            leave(self, True)

    @on(Input.Changed, "#wanted")
    def _typed(self, event: Input.Changed) -> None:
        self.query_one("#yes", Button).disabled = not self._is_agreed(event.value)
        self._say("")

    @on(Input.Submitted, "#wanted")
    def _entered(self, event: Input.Submitted) -> None:
        if self._is_agreed(event.value):
            leave(self, True)
        else:
            self._say(f"that is not {self._wanted}; Esc leaves everything as it is")

    def _is_agreed(self, typed: str) -> bool:
        typed = typed.strip()
        return (typed.replace(",", "") if self._wanted.isdigit() else typed) == self._wanted

    def _say(self, text: str) -> None:
        self.query_one(".wrong", Static).update(text)
