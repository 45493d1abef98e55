"""Where time comes from.

Everything in kmslab that asks for the time asks a `Clock` that was passed in, so that two years of
rotations can be played in a second and a test never waits.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of time and a way to wait.

    `time()` is in seconds since 1970-01-01 UTC; `now()` is the same instant as an aware datetime.
    `monotonic()` measures times that pass: nobody sets it.
    """

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    def now(self) -> datetime:
        """The same instant as an aware datetime in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment, whatever the time is set to."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        ...


class SystemClock:
    """The machine's clock.

    >>> SystemClock().now().tzinfo
    datetime.timezone.utc
    """

    __slots__ = ()

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return time.time()

    def now(self) -> datetime:
        """The same instant as an aware datetime in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment, whatever the time is set to."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)


class ManualClock:
    """A clock that moves only when told to. `sleep` moves it and returns at once.

    Raises ValueError for a start without a time zone and for a step backwards.

    >>> clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    >>> clock.advance(timedelta(days=365))
    >>> clock.now().isoformat()
    '2027-01-01T00:00:00+00:00'
    """

    __slots__ = ("_now",)

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a ManualClock starts at a datetime with a time zone")
        self._now = start.astimezone(UTC)

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        return self._now.timestamp()

    def now(self) -> datetime:
        """The same instant as an aware datetime in UTC."""
        return self._now

    def monotonic(self) -> float:
        """The same as `time()`, as it only moves forward."""
        return self.time()

    def sleep(self, seconds: float) -> None:
        """Move the clock forward by so many seconds."""
        self.advance(timedelta(seconds=seconds))

    def advance(self, step: timedelta) -> None:
        """Move the clock forward by `step`."""
        if step < timedelta(0):
            raise ValueError("a ManualClock only moves forward")
        self._now += step

    def set(self, moment: datetime) -> None:
        """Move the clock forward to `moment`."""
        self.advance(moment.astimezone(UTC) - self._now)
