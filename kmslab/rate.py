"""A token bucket, so that no more calls are made, or answered, than a limit allows."""

from __future__ import annotations

import math
import threading

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
