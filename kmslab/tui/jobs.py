"""Something long that is at work in a thread, told of by a `Watch`, which can be asked to stop."""

from __future__ import annotations

import threading
from time import monotonic

from kmslab.campaign.watching import Progress, Watch
from kmslab.tui.responsive import Turns


class Job:
    """One pass over a source. Written to from its thread, looked at from the event loop.

    `name` is its title; `campaign` says that it changes records, and keeps a journal of that. It
    rests where it is not its turn. `latest` is how far it is; nothing is posted, so that however
    fast it is nobody has to keep up.
    """

    def __init__(self, name: str, turns: Turns, *, campaign: bool = False) -> None:
        self.name = name
        self.campaign = campaign
        self.latest: Progress | None = None
        self._doing = ""
        self._since = self._told_at = monotonic()
        self._stop = threading.Event()
        self.waits_for = ""
        """What is waited for just now: the provider that does not answer, and what it says."""
        stop = turns.gently(self._stop.is_set)
        self.watch = Watch(self._told, stop, self._waits, pause=turns.rest)

    def stop(self) -> None:
        """Ask it to end after the chunk that is at work."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def rate(self) -> float:
        """Records a second, of the pass that is at work; 0.0 where it has just begun."""
        seconds = monotonic() - self._since
        return 0.0 if self.latest is None or seconds < 0.05 else self.latest.rows / seconds

    def left(self) -> float | None:
        """The seconds that are left at this rate; None where that is not known."""
        rate, latest = self.rate(), self.latest
        if not rate or latest is None or latest.total is None:
            return None
        return max(latest.total - latest.rows, 0) / rate

    def waiting(self) -> float:
        """The seconds since it was told of last."""
        return monotonic() - self._told_at

    def _waits(self, what: str) -> None:
        self.waits_for = what

    def _told(self, progress: Progress) -> None:
        if progress.doing != self._doing:
            self._doing, self._since = progress.doing, monotonic()
        self.latest, self._told_at = progress, monotonic()
