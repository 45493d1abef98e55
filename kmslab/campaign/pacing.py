"""Waiting: for the next call that a rate allows, and for a provider to recover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kmslab.clock import Clock
from kmslab.rate import TokenBucket

Stop = Callable[[], bool]
"""Says that somebody wants the campaign to end; asked often, so it must be quick."""

# How long a wait does not look at `stop`, in seconds.
_SLICE: Final = 0.1
# Of a limit, how much is called steadily and how much may come at once: together all of it.
_STEADY: Final = 0.995
_AT_ONCE: Final = 0.005
_UNPACED_ROWS: Final = 1_000


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
    """So many calls a second and never more; with enough to do, 99.5 % of `limit` is kept.

    In any second there are at most `limit` calls (rounded up to whole ones), the first second too:
    the steady rate is 99.5 % of it, and what may come at once the rest, or one call. `limit` is
    None where nothing is to be waited for. ValueError for a limit that is not above 0.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> pace = Pace(1000, clock)
    >>> all(pace.wait(pace.most) for _ in range(200)), round(clock.time() - 1767225600, 3)
    (True, 1.0)
    """

    __slots__ = ("_bucket", "_clock", "most")

    def __init__(self, limit: float | None, clock: Clock) -> None:
        self._clock = clock
        self._bucket: TokenBucket | None = None
        self.most = _UNPACED_ROWS
        if limit is not None:
            burst = max(1.0, _AT_ONCE * limit)
            self._bucket = TokenBucket(_STEADY * limit, clock=clock, burst=burst)
            self.most = min(int(burst), _UNPACED_ROWS)

    def wait(self, calls: int, stop: Stop = never) -> bool:
        """Wait until so many calls, `most` at most, may be made; False where `stop` came first."""
        if self._bucket is None:
            return not stop()
        while seconds := self._bucket.take(calls):
            if not pause(self._clock, seconds, stop):
                return False
        return True
