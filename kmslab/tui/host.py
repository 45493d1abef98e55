"""What the app is to its screens and dialogs, which know no more of it than this."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from textual.dom import DOMNode
from textual.message_pump import MessagePump
from textual.screen import Screen

from kmslab.errors import KmslabError
from kmslab.tui.actions import Action
from kmslab.tui.activity import Activity
from kmslab.tui.jobs import Job
from kmslab.tui.responsive import Turns
from kmslab.tui.session import Session
from kmslab.tui.stopping import Stopped

T = TypeVar("T")

Flow = Callable[[], Coroutine[Any, Any, None]]
"""What may ask, wait and fail."""


class Host(Protocol):
    """The explorer, as those see it who are shown in it."""

    session: Session
    activity: Activity
    turns: Turns
    job: Job | None
    read_only: bool
    marked: int
    waits_for: str

    def tell(self, text: str, *, severity: Any = "information") -> None:
        """A message that goes by itself."""
        ...

    def done(self, text: str, *words: str, line: str = "") -> None:
        """Something was done; the words, or the line, are those of the command that does so too."""
        ...

    def noticed(self, text: str) -> None:
        """Somebody else has done something."""
        ...

    def refused(self, error: KmslabError) -> None:
        """Something was refused."""
        ...

    def unforeseen(self, error: BaseException) -> None:
        """An error that nobody foresaw, in something that was at work."""
        ...

    async def away(self, work: Callable[[], T]) -> T:
        """Do something in a thread, and wait for it."""
        ...

    def begin(
        self,
        name: str,
        flow: Flow,
        *,
        of: Screen[Any] | None = None,
        on: Screen[Any] | None = None,
    ) -> None:
        """Begin something that may ask, wait and fail; once at a time for each name.

        What shows another screen is `of` one: of all that is so, one at a time, and only while
        that screen is in front. What is typed ahead is not meant for what comes. What a screen only
        waits for is begun `on` it. Either is named there where it takes longer than a moment.
        """
        ...

    def is_free(self, screen: Screen[Any]) -> bool:
        """Whether a screen is in front, and nothing of its own is about to come before it."""
        ...

    async def guarded(self, flow: Flow) -> None:
        """Do something that may fail; how it failed is told."""
        ...

    async def push_screen_wait(self, screen: Screen[T]) -> T:
        """Show a screen, and wait for what it gives."""
        ...

    def push_screen(self, screen: Screen[Any]) -> Any:
        """Show a screen."""
        ...

    def call_from_thread(self, call: Callable[..., Any], *args: Any) -> Any:
        """Have the event loop do something, and wait for it."""
        ...

    def copy_to_clipboard(self, text: str) -> None:
        """Send a text to the terminal's clipboard."""
        ...

    def read_again(self) -> None:
        """The source is not what it was."""
        ...

    async def change_keys(self, change: Callable[[], T]) -> T:
        """Do in a thread what changes keys, and wait for it. Nobody is told that they were changed,
        as where somebody else does so."""
        ...

    def source_changed(self) -> None:
        """A campaign has changed the source, and nobody else; a thread may say so."""
        ...

    def keys_changed(self) -> None:
        """Keys are not what they were."""
        ...

    async def mark_records(self, record_ids: frozenset[str]) -> None:
        """Mark the records with these ids, and no other."""
        ...

    def why_not(self, screen: Screen[Any], action: Action) -> str:
        """Why an action cannot be done now; "" where it can."""
        ...

    async def act(self, screen: Screen[Any], action: Action) -> None:
        """Do an action, or say why not."""
        ...

    def allowed(
        self,
        screen: Screen[Any],
        actions: tuple[Action, ...],
        name: str,
        parameters: tuple[object, ...],
    ) -> bool | None:
        """What `check_action` of a screen with these actions answers."""
        ...


def host_of(node: MessagePump) -> Host:
    """The explorer that something is shown in."""
    return cast(Host, node.app)


def is_left(screen: Screen[Any]) -> bool:
    """Whether a screen has been left: its widgets are gone before it has ended, and its workers."""
    return not screen.is_running or screen not in screen.app.screen_stack


async def away_for(screen: Screen[Any], work: Callable[[], T]) -> T:
    """Do something in a thread for a screen, and wait for it. Stopped where that has been left."""
    found = await host_of(screen).away(work)
    if is_left(screen):
        raise Stopped
    return found


def in_worker(
    node: DOMNode,
    work: Flow,
    *,
    name: str = "",
    group: str = "default",
    exclusive: bool = False,
) -> None:
    """Do something in a worker of a node, which ends with it.

    The coroutine is made only when the worker begins: one that is ended before leaves none behind
    that nobody has awaited.
    """
    made: Any = work  # Textual's own type of it fits nothing
    node.run_worker(made, name=name, group=group, exclusive=exclusive, exit_on_error=False)
