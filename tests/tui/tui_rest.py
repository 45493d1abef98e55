"""When an app that is played has done what it was told.

Textual's own `wait_for_idle` asks the processor's clock, in steps of 20 ms and twice for each key:
that is most of what a scene takes, and on a busy machine it may be over before anything is done.
"""

from __future__ import annotations

from asyncio import sleep
from time import monotonic, process_time

from textual._context import active_app

STEP = 0.004


async def at_rest(_least: float = 0.0, most: float = 1.0) -> None:
    """Wait until no message waits for anybody, the screen is laid out, and no thread is at work.

    After `most` seconds it is enough.
    """
    app = active_app.get()
    end = monotonic() + most
    while monotonic() < end:
        before = process_time()
        await sleep(STEP)
        worked = process_time() - before
        if worked > STEP / 4 or any(each.message_queue_size for each in (app, *app._registry)):
            continue
        screen = app.screen_stack[-1] if app.screen_stack else None
        if screen is None or not screen._update_timer._active.is_set():
            return
        screen._on_timer_update()
