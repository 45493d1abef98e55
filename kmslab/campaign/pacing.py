"""Waiting: for the next call that a rate allows, and for a provider to recover."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kmslab.clock import Clock
from kmslab.rate import OWN_WINDOWS, Windows
from kmslab.records.source import CHUNK_ROWS

Stop = Callable[[], bool]
"""Says that somebody wants the campaign to end; asked often, so it must be quick."""

REMOTE_IN_FLIGHT: Final = 4
"""Batches of a remote that are under way at once, unless another number is given."""

# How long a wait does not look at `stop`, in seconds.
_SLICE: Final = 0.1
# Into how many parts a second's calls are divided: each costs a batch, and a look at `stop`.
_PARTS: Final = 10
# A chunk goes out at once where no rate holds it back.
_UNPACED_ROWS: Final = CHUNK_ROWS


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
    where nothing is to be waited for. Whoever has `windows` that reach each other, and the same
    `name` in them, keeps the limit together. ValueError for a limit that is not above 0.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> pace = Pace(1000, clock)
    >>> all(pace.wait(pace.most) for _ in range(110)), round(clock.time() - 1767225600, 3)
    (True, 10.0)
    """

    __slots__ = ("_clock", "_window", "most")

    def __init__(
        self,
        limit: float | None,
        clock: Clock,
        *,
        windows: Windows = OWN_WINDOWS,
        name: str = "",
    ) -> None:
        self._clock = clock
        self._window = None if limit is None else windows.window(name, limit, clock=clock)
        self.most = _UNPACED_ROWS if self._window is None else _part(self._window.calls)

    def wait(self, calls: int, stop: Stop = never) -> bool:
        """Wait until so many calls, `most` at most, may be made; False where `stop` came first."""
        if self._window is None:
            return not stop()
        while seconds := self._window.take(calls):
            if not pause(self._clock, seconds, stop):
                return False
        return True


def _part(calls: int) -> int:
    """How many calls are made at once: a tenth of a second's, or what divides them all.

    What does not divide them would leave some of each second unused.
    """
    most = min(calls // _PARTS, _UNPACED_ROWS)
    return next((part for part in range(most, 1, -1) if calls % part == 0), 1)
