"""What was begun and has not ended, and what of it the screen in front waits for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from textual.app import App
from textual.screen import Screen
from textual.timer import Timer

from kmslab.tui.host import in_worker

SOON: Final = 0.05
"""After how many seconds without an answer it is told what is waited for: a disk or a remote may
take its time, and whoever has pressed a key is to know that it was heard."""

Flow = Callable[[], Coroutine[Any, Any, None]]


class Begun:
    """What was begun in an app, once at a time for each name, or for each screen.

    `tell_waits` is called with the name of what the screen in front has waited for longer than
    SOON, and with "" where it waits for nothing any more.
    """

    def __init__(self, app: App[Any], tell_waits: Callable[[str], None]) -> None:
        self._app = app
        self._tell_waits = tell_waits
        self._names: dict[object, str] = {}
        self._timer: Timer | None = None

    def __contains__(self, once: object) -> bool:
        """Whether what is of this screen, or has this name, has not ended yet."""
        return once in self._names

    def __len__(self) -> int:
        """How many have not ended yet."""
        return len(self._names)

    def name(self, screen: Screen[Any]) -> str:
        """What a screen waits for; "" where it waits for nothing."""
        return self._names.get(screen, "")

    def begin(self, once: object, name: str, flow: Flow) -> None:
        """Begin `flow`, of a screen or by its name alone; nothing else may be under way there."""
        self._names[once] = name
        in_worker(self._app, partial(self._to_the_end, once, flow), name=name)
        self.look()

    async def _to_the_end(self, once: object, flow: Flow) -> None:
        try:
            await flow()
        finally:
            del self._names[once]
            self.look()

    def look(self) -> None:
        """Something was begun or has ended, or another screen is in front."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        self._tell_waits("")
        if self._waited_for():
            self._timer = self._app.set_timer(SOON, self._still)

    def _waited_for(self) -> str:
        screens = self._app.screen_stack  # none any more where the app ends
        return self.name(screens[-1]) if screens else ""

    def _still(self) -> None:
        self._tell_waits(self._waited_for())
