"""The explorer: what all of its screens share."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from rich.text import Text
from textual.app import App, ScreenStackError
from textual.binding import BindingType
from textual.command import CommandPalette
from textual.css.query import NoMatches
from textual.events import Event, InputEvent, MouseMove
from textual.events import Key as KeyPress
from textual.reactive import reactive
from textual.screen import Screen

from kmslab.errors import KmslabError
from kmslab.tui import loop
from kmslab.tui.actions import APP, Acting, Action, bindings
from kmslab.tui.activity import Activity, Entry, command_line
from kmslab.tui.begun import Begun
from kmslab.tui.commands import Commands
from kmslab.tui.crash import write_crash
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.notice import Notice
from kmslab.tui.host import Flow, in_worker, is_left
from kmslab.tui.jobs import Job
from kmslab.tui.responsive import Turns, is_responsive, keep, responsive, set_aside, tidy
from kmslab.tui.session import Session
from kmslab.tui.stopping import Stopped
from kmslab.tui.styles import Styles, fit, variables_of
from kmslab.tui.texts import told, visible
from kmslab.tui.theme import first_theme, next_theme, themes

if TYPE_CHECKING:
    from kmslab.tui.screens.records import Records

T = TypeVar("T")

BUG: Final = 70
"""The exit code after an error that nobody foresaw, as on the command line."""

BRIEF: Final = 3.0
"""The seconds for which it is told that something was done; what was refused stays for longer."""

IDLE_SECONDS: Final = 0.15
"""How long nothing was pressed when what is no more needed is thrown away: soon, while it is little
and goes in 30 ms."""

_LOOKS: Final = 0.05

GONE_SECONDS: Final = 30.0
"""How long nothing was pressed when all that there is is looked through for it: nobody is there."""

END_SECONDS: Final = 30.0
"""How long whatever is at work may take to end once the terminal is gone."""


class Explorer(App[None]):
    """The explorer on one session. `log_folder` is where errors that nobody foresaw are kept."""

    TITLE = "kmslab"
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[Any] = {Commands}
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(APP)]
    CSS = """
    Screen { layout: vertical; }
    ToastRack { dock: top; align: right top; margin: 0; overflow: hidden; }
    Toast { width: auto; max-width: 100%; max-height: 4; margin: 0; padding: 0 1; }
    """

    read_only: reactive[bool] = reactive(True)
    # Whoever shows one of these sees to it; else all of the screen were painted anew.
    marked: reactive[int] = reactive(0, repaint=False)
    waits_for: reactive[str] = reactive("", repaint=False)
    job: reactive[Job | None] = reactive(None, init=False, repaint=False)

    def __init__(self, session: Session, log_folder: Path) -> None:
        super().__init__()
        self.stylesheet: Styles = Styles(variables=self.get_css_variables())
        self.session = session
        self.activity = Activity()
        self.turns = Turns()
        self._held: list[Notice] = []
        self._told_on: Screen[Any] | None = None
        self._away = 0
        self._pressed, self._pressed_at = False, 0.0
        self._to_keep = False
        self._log_folder = log_folder
        self.begun = Begun(self, partial(setattr, self, "waits_for"))
        self.set_reactive(Explorer.read_only, session.read_only)

    def get_default_screen(self) -> Screen[Any]:
        """The records."""
        from kmslab.tui.screens.records import Records

        return Records(self.session)

    def on_mount(self) -> None:
        """Choose a theme that can be read."""
        running = asyncio.get_running_loop()
        self.turns.follow(running)
        self.theme = first_theme(os.environ, coloured=not self.no_color)
        if self.is_web:
            parent = os.getppid()
            self.set_interval(1.0, lambda: self._leave_with(parent))
        if not self.is_headless:
            running.add_signal_handler(signal.SIGHUP, self._terminal_gone)
            running.add_signal_handler(signal.SIGTERM, self.exit)

    def on_ready(self) -> None:
        """The first screen is there, with its styles, and stays."""
        self.screen_change_signal.subscribe(self, self._left, immediate=True)
        self.call_after_refresh(self._prepare)
        self.set_interval(_LOOKS, self._tidy)

    def _prepare(self) -> None:
        """Have ready what the first press of a key needs, and the next theme."""
        if is_responsive():
            in_worker(self, partial(self.guarded, self._parse_styles), name="styles")

    async def _parse_styles(self) -> None:
        there = themes(coloured=not self.no_color)
        variables = [variables_of(self, theme) for theme in sorted(there, key=self._is_other)]

        def work() -> None:
            from kmslab.tui.screens import activity, help  # noqa: A004, F401

            for each in variables:
                self.stylesheet.prepare(each, self.turns.rest)

        await self.away(work)
        set_aside()  # some 70,000 objects, two thirds of what a collection would look through
        self._to_keep = True

    def _is_other(self, theme: str) -> bool:
        return theme != self.theme

    async def on_event(self, event: Event) -> None:
        """Know when something was pressed. A key that comes before all of a screen is there was not
        meant for it, and what it would do there cannot be done yet."""
        if isinstance(event, InputEvent):
            self._pressed, self._pressed_at = True, monotonic()
            if not isinstance(event, MouseMove):
                self.turns.answer()
        if isinstance(event, KeyPress) and not all(s.is_mounted for s in self.screen_stack[-1:]):
            return
        await super().on_event(event)

    def _tidy(self) -> None:
        idle = monotonic() - self._pressed_at
        alone = len(self.screen_stack) == 1
        if self._away or any(screen.reader.busy for screen in self._records()):
            return
        if self._pressed and idle >= IDLE_SECONDS:
            self._pressed, self._to_keep = False, True
            tidy(stays=alone)
        elif self._to_keep and alone and idle >= GONE_SECONDS:
            self._to_keep = False
            keep()

    def _terminal_gone(self) -> None:
        """End as ever, so that what is temporary goes too; nobody reads what is written."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        last = threading.Timer(END_SECONDS, os._exit, [128 + signal.SIGHUP])
        last.daemon = True
        last.start()
        self.exit()

    def _leave_with(self, parent: int) -> None:
        """In a browser: end where the server has ended, however it did."""
        if os.getppid() != parent:
            self.exit()

    def push_screen(self, screen: Any, *args: Any, **options: Any) -> Any:
        """Show a screen, which knows at once how much room it has: Textual styles and paints all of
        it once more where it is told so later."""
        if isinstance(screen, Screen):
            fit(screen, self.size)
        return super().push_screen(screen, *args, **options)

    # What everything tells and asks

    def tell(self, text: str, *, severity: Any = "information") -> None:
        """A message that goes by itself, in place of the last one, or with the screen that it is
        about. It is no markup, whatever it holds."""
        timeout = BRIEF if severity == "information" else None
        self._told_on = next(s for s in self.screen_stack[::-1] if not s.is_modal)
        self.notify(visible(text), severity=severity, markup=False, timeout=timeout)

    def on_notify(self) -> None:
        """The last message goes where another comes, also where it is hardly there yet."""
        self.clear_notifications()
        self.screen.query("ToastHolder").remove()

    def _left(self, _now: Screen[Any]) -> None:
        """A message does not outlive its screen. Another one is to be painted."""
        self.turns.answer()
        self.begun.look()
        if self._told_on is not None and self._told_on not in self.screen_stack:
            self._told_on = None
            self.clear_notifications()

    def done(self, text: str, *words: str, line: str = "") -> None:
        """Something was done; the words, or the line, are those of the command that does so too."""
        command = command_line(words, self.session.options) if words else line
        self._note(text, command)
        self.tell(text)

    def noticed(self, text: str) -> None:
        """Somebody else has done something."""
        self._note(text)
        self.tell(text)

    def _note(self, text: str, command: str = "", *, failed: bool = False) -> None:
        at = self.session.ground.clock.now()
        self.activity.add(Entry(at, text, command, failed=failed))

    def refused(self, error: KmslabError) -> None:
        """Something was refused: a message, and a line in the log."""
        self._say_no(told(error))

    def _say_no(self, text: str) -> None:
        self._note(text, failed=True)
        self.tell(text, severity="warning")

    def unforeseen(self, error: BaseException) -> None:
        """An error that nobody foresaw in something that was at work: the app lives on."""
        notice = Notice("An error that nobody foresaw", self._unforeseen_text(error))
        if self.job is None:
            self.push_screen(notice)
        else:
            self._held.append(notice)

    def watch_job(self, job: Job | None) -> None:
        """What is to be read does not come in front of a pass that is at work."""
        while job is None and self._held:
            self.push_screen(self._held.pop(0))

    def _unforeseen_text(self, error: BaseException) -> Text:
        path = write_crash(error, self._log_folder)
        kept = "no log could be written" if path is None else f"where it came about is in {path}"
        return Text(f"{type(error).__name__}: {kept}. What was being done has ended.")

    def _handle_exception(self, error: Exception) -> None:
        """An error in the event loop ends the app: a message and a log, no traceback, no locals.

        A widget or screen that is gone while the app ends is no error.
        """
        ends = self._exit or not self.is_running
        if ends and isinstance(error, (NoMatches, ScreenStackError)):
            return
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        text = self._unforeseen_text(error)
        self._return_code = BUG
        self._exit_renderables.append(Text.assemble("kmslab: an error that nobody foresaw. ", text))
        self._close_messages_no_wait()

    # What the records screen is told

    @property
    def records(self) -> Records:
        """The records screen, which is always there."""
        return next(self._records())

    def _records(self) -> Iterator[Records]:
        from kmslab.tui.screens.records import Records

        return (screen for screen in self.screen_stack if isinstance(screen, Records))

    def read_again(self) -> None:
        """The source is not what it was."""
        self.records.read_again()

    async def change_keys(self, change: Callable[[], T]) -> T:
        """Do in a thread what changes keys, and wait for it."""
        return await self.away(partial(self.records.watched.while_changing_keys, change))

    def source_changed(self) -> None:
        """A campaign has changed the source."""
        for screen in self._records():
            screen.watched.source_taken()

    def keys_changed(self) -> None:
        """Keys are not what they were."""
        self.records.keys_changed()

    async def mark_records(self, record_ids: frozenset[str]) -> None:
        """Mark the records with these ids, and no other."""
        await self.records.mark(record_ids)

    # What takes longer than a key press

    async def away(self, work: Callable[[], T]) -> T:
        """Do something in a thread, and wait for it without holding up the screen."""
        self._away += 1
        try:
            return await asyncio.to_thread(work)
        finally:
            self._away -= 1

    def begin(
        self,
        name: str,
        flow: Flow,
        *,
        of: Screen[Any] | None = None,
        on: Screen[Any] | None = None,
    ) -> None:
        """Begin something that may ask, wait and fail; once at a time for each name, or for the
        screen that it is `of`. It is named where that, or the one that it is begun `on`, waits."""
        once: object = name if of is None else of
        if once not in self.begun and (of is None or self.is_free(of)):
            self.begun.begin(once, name, partial(self.guarded, flow), waits=of or on)
        elif of is self.screen and (other := self.begun.name(of)) != name:
            self.tell(f"{name}: not before {other} has ended", severity="warning")

    def is_free(self, screen: Screen[Any]) -> bool:
        """Whether a screen is in front, and nothing of its own is about to come before it."""
        return screen is self.screen and screen not in self.begun

    async def guarded(self, flow: Flow) -> None:
        """Do something that may fail; how it failed is told, where somebody waits for it still."""
        try:
            await flow()
        except Stopped:
            return
        except KmslabError as error:
            self.refused(error)
        except Exception as error:
            self.unforeseen(error)

    # Actions

    def why_not(self, screen: Screen[Any], action: Action) -> str:
        """Why an action cannot be done now, in a sentence; "" where it can."""
        if action.writes and self.read_only:
            locked = "it was started so" if self.session.locked else "F10 ends that"
            return f"this is read-only ({locked})"
        if action.name == "toggle_read_only" and self.session.locked:
            return "it was started read-only, and stays so"
        if action in APP:
            return ""
        if self.session.remote and (action.deed or action.name in ("create", "audit")):
            return "on a remote that is for the cloud's own tools"
        return screen.why_not(action) if isinstance(screen, Acting) else ""

    async def act(self, screen: Screen[Any], action: Action) -> None:
        """Do an action of a screen that is still there, or say why not."""
        if is_left(screen):
            return
        if why := self.why_not(screen, action):
            self._say_no(f"{action.said}: {why}")
        else:
            await self.run_action(action.name, self if action in APP else screen)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions that cannot be done now are grey."""
        return self.allowed(self.screen, APP, action, parameters)

    def allowed(
        self,
        screen: Screen[Any],
        actions: tuple[Action, ...],
        name: str,
        parameters: tuple[object, ...],
    ) -> bool | None:
        """What `check_action` of a screen with these actions answers."""
        found = next((a for a in actions if a.is_called(name, parameters)), None)
        return None if found is not None and self.why_not(screen, found) else True

    async def on_key(self, event: KeyPress) -> None:
        """A key of an action that is grey says why."""
        screen = self.screen
        actions = (*(screen.ACTIONS if isinstance(screen, Acting) else ()), *APP)
        for action in actions:
            if action.has_key(event):
                if why := self.why_not(screen, action):
                    self._say_no(f"{action.said}: {why}")
                return

    async def run_action(self, *args: Any, **options: Any) -> bool:
        """Do an action. The list of the palette has no lines while it is being filled, and cannot
        be paged then."""
        try:
            return await super().run_action(*args, **options)
        except KeyError:
            if isinstance(self.screen, CommandPalette):
                return False
            raise

    def action_theme(self) -> None:
        """The next theme."""
        self.theme = next_theme(self.theme, coloured=not self.no_color)
        self.call_after_refresh(self.tell, f"theme: {self.theme}")

    def action_toggle_read_only(self) -> None:
        """Allow writing, or no longer; a session that was started read-only stays so."""
        if self.session.locked:
            return
        self.session.read_only = self.read_only = not self.read_only
        self.refresh_bindings()

    def action_help(self) -> None:
        """The keys of the pane that has the focus."""
        from kmslab.tui.screens.help import Help

        if not isinstance(self.screen, Help):
            self.push_screen(Help(self.screen, self.focused))

    def action_activity(self) -> None:
        """What was done in this session."""
        from kmslab.tui.screens.activity import ActivityScreen

        if not isinstance(self.screen, ActivityScreen):
            self.push_screen(ActivityScreen())

    async def action_quit(self) -> None:
        """End; asks while a campaign is at work."""
        if self.job is None:
            self.exit()
        else:
            self.begin("quit", self._quit)

    async def _quit(self) -> None:
        job = self.job
        if job is None:
            self.exit()
            return
        body = Text(f"At work: {visible(job.name)}.\n\nIt ends after the chunk that it is at")
        body.append(
            ", and can be resumed or undone from the journals (J) later."
            if job.campaign
            else "; it changes nothing."
        )
        if not await self.push_screen_wait(Confirm("Stop and quit?", body, answer="Stop and quit")):
            return
        while self.job is not None:
            self.job.stop()
            await asyncio.sleep(0.05)
        self.exit()


def explore(session: Session, log_folder: Path) -> int:
    """Run the explorer on a session until it is left; its exit code."""
    if os.environ.get("NO_COLOR") == "":  # empty it says nothing, which Textual does not know
        del os.environ["NO_COLOR"]
    app = Explorer(session, log_folder)
    with responsive():
        loop.run(app.run_async())
    return app.return_code or 0
