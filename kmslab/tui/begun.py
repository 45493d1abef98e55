"""What was begun and has not ended, and what of it the screen in front waits for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from textual.app import App
from textual.screen import Screen
from textual.timer import Timer

from kmslab.tui.host import Flow, in_worker

SOON: Final = 0.05
"""After how many seconds without an answer it is told what is waited for: a disk or a remote may
take its time, and whoever has pressed a key is to know that it was heard."""


@dataclass(frozen=True, slots=True)
class _One:
    name: str
    waits: Screen[Any] | None


class Begun:
    """What was begun in an app, once at a time for each name, or for each screen.

    `tell_waits` is called with the name of what the screen in front has waited for longer than
    SOON, and with "" where it waits for that no more.
    """

    def __init__(self, app: App[Any], tell_waits: Callable[[str], None]) -> None:
        self._app = app
        self._tell_waits = tell_waits
        self._ones: dict[object, _One] = {}
        self._timer: Timer | None = None
        self._in_front: _One | None = None

    def __contains__(self, once: object) -> bool:
        """Whether what is of this screen, or has this name, has not ended yet."""
        return once in self._ones

    def name(self, once: object) -> str:
        """What it is called, where it has not ended yet."""
        return self._ones[once].name

    def begin(self, once: object, name: str, flow: Flow, *, waits: Screen[Any] | None) -> None:
        """Begin what is not under way, of a screen or by its name; `waits` is who waits for it."""
        self._ones[once] = _One(name, waits)
        in_worker(self._app, partial(self._to_the_end, once, flow), name=name)
        self.look()

    async def _to_the_end(self, once: object, flow: Flow) -> None:
        try:
            await flow()
        finally:
            del self._ones[once]
            self.look()

    def look(self) -> None:
        """Something was begun or has ended, or another screen is in front."""
        waited_for = self._waited_for()
        if waited_for is self._in_front:
            return
        self._in_front = waited_for
        self._tell_waits("")
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if waited_for is not None:
            self._timer = self._app.set_timer(SOON, partial(self._still, waited_for))

    def _still(self, one: _One) -> None:
        # A timer that has ended is heard a little later.
        if one is self._in_front:
            self._tell_waits(one.name)

    def _waited_for(self) -> _One | None:
        front = self._app.screen_stack[-1:]  # none any more where the app ends
        return next((one for one in reversed(self._ones.values()) if one.waits in front), None)
