"""What keeps keys quick while threads are at work."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_SECONDS: Final = 0.001
"""How long another thread goes on while the event loop waits for its turn.

A key takes several turns, and with Python's own 5 ms each they add up to more than can be felt.
"""


@contextmanager
def responsive() -> Iterator[None]:
    """Run what is inside, for as long as the explorer runs, so that keys are answered soon.

    Both are settings of the whole process, and as they were afterwards. What is there already,
    mostly Textual, is not looked through again by the garbage collector: that takes 0.1 s.

    >>> with responsive():
    ...     sys.getswitchinterval()
    0.001
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


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
