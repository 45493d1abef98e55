"""No more calls are made, or answered, than a limit allows: a token bucket, and a window."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Protocol

from kmslab.clock import Clock


class TokenBucket:
    """At most `rate` calls a second, and at most `burst` at once (one second's worth by default).

    Times come from `clock`, so a forecast and a test run on a `ManualClock`.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> bucket = TokenBucket(2, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    >>> bucket.take(), bucket.take(), bucket.take()
    (0.0, 0.0, 0.5)
    """

    __slots__ = ("_burst", "_clock", "_lock", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, *, clock: Clock, burst: float | None = None) -> None:
        if rate <= 0:
            raise ValueError("a rate is more than 0 calls a second")
        self._rate = rate
        self._burst = rate if burst is None else burst
        self._clock = clock
        self._tokens = self._burst
        self._updated = clock.time()
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> float:
        """Take `count` tokens if they are there; the seconds to wait (0.0: taken) if not."""
        with self._lock:
            now = self._clock.time()
            earned = max(0.0, now - self._updated) * self._rate
            self._tokens = min(self._burst, self._tokens + earned)
            self._updated = now
            if self._tokens + 1e-9 >= count:
                self._tokens -= count
                return 0.0
            # In whole microseconds, which is as little as a clock moves, and never too few.
            return math.ceil((count - self._tokens) / self._rate * 1_000_000) / 1_000_000


class Window(Protocol):
    """At most so many calls in any one second, and all of them: see `CallWindow`."""

    @property
    def calls(self) -> int:
        """The most that may be taken at once."""
        ...

    def take(self, count: int = 1) -> float:
        """Make so many calls now, `calls` at most: 0.0 where they may be made; else the seconds to
        wait before asking again."""
        ...


class Windows(Protocol):
    """Gives windows by name. Whoever has one of the same name shares it, in as many processes as
    these windows reach."""

    def window(self, name: str, rate: float, *, clock: Clock) -> Window:
        """The window of a name; ValueError for a rate that is not above 0."""
        ...


@dataclass(frozen=True, slots=True)
class OwnWindows:
    """Windows that nobody shares."""

    def window(self, name: str, rate: float, *, clock: Clock) -> Window:
        """See `Windows.window`."""
        return CallWindow(rate, clock=clock)


OWN_WINDOWS: Final = OwnWindows()


def calls_and_window(rate: float) -> tuple[int, float]:
    """How many calls may be made in how many seconds: a second's, where those are whole calls,
    and else one, so that they are spread evenly. ValueError for a rate that is not above 0.

    >>> calls_and_window(100), calls_and_window(2.5)
    ((100, 1.0), (1, 0.4))
    """
    if not rate > 0:
        raise ValueError("a rate is more than 0 calls a second")
    calls = int(rate) if rate == int(rate) else 1
    return calls, calls / rate


class CallWindow:
    """At most `rate` calls in any one second (rounded up to whole ones), and all of them.

    No token bucket: one that may never be passed has next to no burst, so that every delay of a
    busy machine would be lost for good. Here it is made up for, as far as the second allows.
    Set clocks change nothing. ValueError for a rate that is not above 0.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> window = CallWindow(2, clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    >>> window.take(), window.take(), window.take()
    (0.0, 0.0, 1.0)
    """

    __slots__ = ("_clock", "_lock", "_made", "_window", "calls")

    def __init__(self, rate: float, *, clock: Clock) -> None:
        self.calls, self._window = calls_and_window(rate)
        self._clock = clock
        self._made: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> float:
        """Make so many calls now, `calls` at most: 0.0 where they may be made; else the seconds to
        wait before asking again."""
        with self._lock:
            now = self._clock.monotonic()
            while self._made and self._made[0][0] + self._window <= now:
                self._made.popleft()
            over = sum(made for _, made in self._made) + count - self.calls
            if over <= 0:
                self._made.append((now, count))
                return 0.0
            # In whole microseconds, which is as little as a clock moves, and never too few.
            return math.ceil((self._free_at(over) - now) * 1_000_000) / 1_000_000

    def _free_at(self, calls: int) -> float:
        """When so many of the calls of the window are out of it."""
        freed = accumulate(count for _, count in self._made)
        late = next(at for (at, _), count in zip(self._made, freed, strict=True) if count >= calls)
        return late + self._window
