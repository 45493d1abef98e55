"""The event loop of the explorer: while it has something to do, no thread takes its turn for
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from selectors import DefaultSelector, SelectorKey
from threading import Event
from time import monotonic
from typing import Any, Final, TypeVar

T = TypeVar("T")

LOOK_SECONDS: Final = 0.01
"""How often the loop looks what came from outside while it has something to do."""


class _Selector(DefaultSelector):
    """Looks seldom where nobody would wait, and tells while it does wait.

    asyncio looks before each of its rounds, also where the next one has something to do. Python
    lets another thread go on meanwhile, which then has the next millisecond; and to answer a key
    takes dozens of rounds.
    """

    def __init__(self, idle: Event) -> None:
        super().__init__()
        self._idle = idle
        self._looked_at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        nobody_waits = timeout is not None and timeout <= 0
        if nobody_waits and monotonic() - self._looked_at < LOOK_SECONDS:
            return []
        if not nobody_waits:
            self._idle.set()
        found = super().select(timeout)
        self._idle.clear()
        self._looked_at = monotonic()
        return found


class Loop(asyncio.SelectorEventLoop):
    """An event loop that keeps its turn; `idle` is set while it has nothing to do."""

    def __init__(self) -> None:
        self.idle = Event()
        super().__init__(_Selector(self.idle))


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, where answers come soon although threads are at work.

    >>> run(asyncio.sleep(0, "done"))
    'done'
    """
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)
