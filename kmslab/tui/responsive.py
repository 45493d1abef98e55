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

SELDOM: Final = 10_000
"""How many collections of young objects there are to one of all; Python has 10.

Not even a million new objects bring one about, which would take half a second then.
"""

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
