"""When an app that is played has done what it was told.

Textual's own `wait_for_idle` asks the processor's clock, in steps of 20 ms and twice for each key:
that is most of what a scene takes, and on a busy machine it may be over before anything is done.
Here the event loop itself is asked: it has nothing to do, and no thread works for it, however long
that takes. What a timer brings about later is waited for by nobody but the scene itself (`until`).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import sleep
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

from textual._context import active_app
from textual.app import App

from kmslab.tui import responsive
from kmslab.tui.modal import Modal

STEP = 0.002


class Rest:
    """Counts what is at work in threads, which `to_thread` has to begin in place of asyncio's."""

    def __init__(self, to_thread: Callable[..., Any]) -> None:
        self._to_thread = to_thread
        self._at_work: dict[object, int | None] = {}

    async def to_thread(self, work: Callable[..., Any], /, *given: Any, **options: Any) -> Any:
        """As `asyncio.to_thread`."""
        this = object()

        def counted() -> Any:
            self._at_work[this] = threading.get_ident()
            return work(*given, **options)

        self._at_work[this] = None
        try:
            return await self._to_thread(counted)
        finally:
            del self._at_work[this]

    async def at_rest(self, _least: float = 0.0, most: float = 5.0) -> None:
        """Wait until the event loop has nothing to do, the screen is laid out, and no thread works.

        A thread that a test holds back by an `Event` does not work. After `most` seconds with
        nothing but threads at work it is enough.
        """
        end = None
        while True:
            await drained()
            if not self._is_at_work():
                if not laid_out(active_app.get()):
                    return
                continue
            end = end or monotonic() + most
            if monotonic() > end:
                return
            await sleep(STEP)

    def _is_at_work(self) -> bool:
        frames = sys._current_frames() if self._at_work else {}
        return not all(
            ident is not None and ident in frames and is_held(frames[ident])
            for ident in list(self._at_work.values())
        )


def laid_out(app: App[Any]) -> bool:
    """Do at once what Textual does to a screen some milliseconds later; whether there was any."""
    if app._resize_timer is not None:
        app._check_resize()
        return True
    screen = next(iter(app.screen_stack[::-1]), None)
    if isinstance(screen, Modal) and screen.paint_behind():
        return True
    if screen is None or not screen._update_timer._active.is_set():
        return False
    screen._on_timer_update()
    return True


def held_back(seconds: float) -> None:
    """Let a thread of a test wait, which is at rest meanwhile."""
    threading.Event().wait(seconds)


async def drained(most: float = 60.0) -> None:
    """Wait until the event loop has nothing more to do, but for what waits for a time or a
    thread."""
    loop: Any = asyncio.get_running_loop()
    loop.who_waits = getattr(loop, "who_waits", 0) + 1
    end = monotonic() + most
    try:
        await sleep(0)
        while len(loop._ready) >= loop.who_waits:  # whoever else waits so has always a turn to come
            assert monotonic() < end, "the event loop never comes to rest"
            await sleep(0)
    finally:
        loop.who_waits -= 1


def is_held(frame: FrameType | None) -> bool:
    """Whether a thread waits for an `Event` that is not set."""
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code is threading.Event.wait.__code__:
            event: threading.Event = frame.f_locals["self"]
            by = "" if frame.f_back is None else frame.f_back.f_code.co_filename
            return by != responsive.__file__ and not event.is_set()  # that one only rests
        frame = frame.f_back
    return False
