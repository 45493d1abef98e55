"""What keeps keys quick while threads are at work."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kmslab.tui.loop import Loop
from kmslab.tui.stopping import Stop
from kmslab.tui.strips import not_held_by_themselves

SWITCH_SECONDS: Final = 0.001
"""How long another thread goes on while the event loop waits for its turn.

A key takes several turns, and with Python's own 5 ms each they add up to more than can be felt.
"""

SELDOM: Final = 10_000
"""How many collections of young objects there are to one of all; Python has 10.

Not even a million new objects bring one about, which would take half a second then.
"""

QUIET_SECONDS: Final = 0.04
"""How long the event loop had next to nothing to do when an answer is painted: longer than Textual
waits between two paintings."""

ANSWER_SECONDS: Final = 0.3
"""How long an answer takes at most: then it is the turn of the threads, whatever there is to do."""

REST_SECONDS: Final = 0.1
"""How long a thread rests at most between two steps."""

AFTER_SECONDS: Final = 0.03
"""How long a thread lets the event loop go first at most."""

_TICKS: Final = 8  # in QUIET_SECONDS
_LATE: Final = 0.003  # seconds: a tick that is later had to wait for something

_MUCH: Final = 2  # collections of young objects: what a dialog leaves


@contextmanager
def responsive() -> Iterator[None]:
    """Run what is inside, for as long as the explorer runs, so that keys are answered soon.

    All are settings of the whole process, and as they were afterwards. The garbage collector stops
    every thread while it looks through what is there, which takes 0.1 s: so it does that seldom
    while keys are pressed (`tidy`), and never again through what stays (`keep`).

    >>> with responsive():
    ...     sys.getswitchinterval()
    0.001
    """
    before, often = sys.getswitchinterval(), gc.get_threshold()
    gc.set_threshold(*often[:2], SELDOM)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    try:
        with not_held_by_themselves():
            yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)
        gc.set_threshold(*often)


def keep() -> None:
    """What is there stays, where all is `responsive`; it is not looked through again until then."""
    if is_responsive():
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def set_aside() -> None:
    """What there is now stays for long, where all is `responsive`: the next `keep` only looks
    through it."""
    if is_responsive():
        gc.freeze()


def tidy(*, stays: bool = False) -> None:
    """Collect what is garbage, where all is `responsive` and there may be much of it.

    `stays` says that most of the rest will not be garbage soon: it is looked through by the next
    `keep` only.
    """
    if is_responsive() and gc.isenabled() and gc.get_count()[2] >= _MUCH:
        gc.collect()
        if stays:
            gc.freeze()


def is_responsive() -> bool:
    """Whether all is `responsive` now."""
    return gc.get_threshold()[2] == SELDOM


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from a list of a million, for a second or two.

    It would look through all of it again and again, and every thread waits meanwhile.

    >>> with uncollected():
    ...     gc.isenabled()
    False
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Of two threads at once, the one that found it at work sets it to work again.
        if enabled:
            gc.enable()


class Turns:
    """Has threads that are at work for long rest while the event loop answers a key.

    Python runs one thread at a time: beside one that is at work, an answer takes twice as long.
    """

    def __init__(self) -> None:
        self._quiet, self._idle = threading.Event(), threading.Event()
        self._quiet.set()
        self._idle.set()
        self._in_time = 0
        self._began = self._threads_until = 0.0

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let a loop of the explorer's go first, whatever it does."""
        if isinstance(loop, Loop):
            self._idle = loop.idle

    @property
    def quiet(self) -> bool:
        """Whether nothing is being answered, so that nobody rests."""
        return self._quiet.is_set()

    def answer(self) -> None:
        """The event loop has something to answer, and the others rest until that is done.

        Where it never is, as with a key that is held down, they have every fourth moment.
        """
        self._in_time = 0
        loop = asyncio.get_running_loop()
        if self.quiet and loop.time() >= self._threads_until:
            self._began = loop.time()
            self._quiet.clear()
            self._tick(loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        at = loop.time() + QUIET_SECONDS / _TICKS

        def ticks() -> None:
            now = loop.time()
            self._in_time = self._in_time + 1 if now - at < _LATE else 0
            if self._in_time == _TICKS:
                self._quiet.set()
            elif now < self._began + ANSWER_SECONDS:
                self._tick(loop)
            else:
                self._threads_until = now + ANSWER_SECONDS / 3
                self._quiet.set()

        loop.call_at(at, ticks)

    def rest(self) -> None:
        """Wait while something is answered; a thread asks for it after each short step.

        While the event loop does anything else, a thread only lets it go first.
        """
        self._quiet.wait(REST_SECONDS)
        self._idle.wait(AFTER_SECONDS)

    def gently(self, stop: Stop) -> Stop:
        """A `stop` for a thread, which rests whenever it asks it.

        >>> Turns().gently(lambda: True)()
        True
        """

        def asked() -> bool:
            if not stop():
                self.rest()
            return stop()

        return asked
