"""Waiting: for the next call that a rate allows, and for a provider to recover."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from kmslab.clock import Clock

Stop = Callable[[], bool]
"""Says that somebody wants the campaign to end; asked often, so it must be quick."""

# How long a wait does not look at `stop`, in seconds.
_SLICE: Final = 0.1
# Into how many parts a second's calls are divided: each costs a batch, and a look at `stop`.
_PARTS: Final = 10
_UNPACED_ROWS: Final = 2_000


def never() -> bool:
    """The `Stop` of whoever is never stopped."""
    return False


def pause(clock: Clock, seconds: float, stop: Stop = never) -> bool:
    """Wait, in small slices; False as soon as `stop` says so, without waiting any longer.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> pause(ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), 60.0, lambda: True)
    False
    """
    # What is left is counted here: a clock's times are too coarse to end exactly.
    while seconds > 0:
        if stop():
            return False
        clock.sleep(min(seconds, _SLICE))
        seconds -= _SLICE
    return True


class Pace:
    """So many calls a second and never more: with enough to do, all of `limit` is kept.

    In any second there are at most `limit` calls (rounded up to whole ones), the first second too.
    What was held up on the way is caught up with, as far as the second allows. `limit` is None
    where nothing is to be waited for. ValueError for a limit that is not above 0.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> pace = Pace(1000, clock)
    >>> all(pace.wait(pace.most) for _ in range(110)), round(clock.time() - 1767225600, 3)
    (True, 10.0)
    """

    # A window of the last calls, and no token bucket: a bucket that may never be passed has next
    # to no burst, so that every delay of a busy machine would be lost for good.
    __slots__ = ("_calls", "_clock", "_lock", "_sent", "_window", "most")

    def __init__(self, limit: float | None, clock: Clock) -> None:
        if limit is not None and not limit > 0:
            raise ValueError("a rate is more than 0 calls a second")
        self._clock = clock
        # A second has whole calls; where the limit is not whole, they are spread evenly.
        self._calls = 0 if limit is None else int(limit) if limit == int(limit) else 1
        self._window = 0.0 if limit is None else self._calls / limit
        self._sent: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()
        self.most = _UNPACED_ROWS if limit is None else _part(self._calls)

    def wait(self, calls: int, stop: Stop = never) -> bool:
        """Wait until so many calls, `most` at most, may be made; False where `stop` came first."""
        if not self._calls:
            return not stop()
        while seconds := self._take(calls):
            if not pause(self._clock, seconds, stop):
                return False
        return True

    def _take(self, calls: int) -> float:
        """Make so many calls now, where they may be made: 0.0; else the seconds to wait."""
        with self._lock:
            now = self._clock.time()
            while self._sent and self._sent[0][0] + self._window <= now:
                self._sent.popleft()
            over = sum(count for _, count in self._sent) + calls - self._calls
            if over <= 0:
                self._sent.append((now, calls))
                return 0.0
            # In whole microseconds, which is as little as a clock moves, and never too few.
            return math.ceil((self._free_at(over) - now) * 1_000_000) / 1_000_000

    def _free_at(self, calls: int) -> float:
        """When so many of the calls of the window are out of it."""
        freed = accumulate(count for _, count in self._sent)
        late = next(at for (at, _), count in zip(self._sent, freed, strict=True) if count >= calls)
        return late + self._window


def _part(calls: int) -> int:
    """How many calls are made at once: a tenth of a second's, or what divides them all.

    What does not divide them would leave some of each second unused.
    """
    most = min(calls // _PARTS, _UNPACED_ROWS)
    return next((part for part in range(most, 1, -1) if calls % part == 0), 1)
