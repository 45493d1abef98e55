"""How old a request may be, and that each is made once."""

from __future__ import annotations

import math
from hashlib import blake2b
from threading import Lock
from typing import Final

from kmslab.clock import Clock
from kmslab.errors import RequestReplayed, SignatureExpired, Throttled

WINDOW: Final = 300.0
"""Seconds between a request's time and the server's, either way (Tencent Cloud's; CTyun's is not
documented, so it is the lab's choice there)."""

MOST_REMEMBERED: Final = 1_000_000
"""Requests of one caller that are remembered, about 100 bytes each. A caller whose clock is right
and whose time has one reading can make 2,700 a second."""

_STEP: Final = 60.0  # what is forgotten is forgotten in sets of so many seconds


class Window:
    """What belongs to the time of requests. Safe in threads.

    A time may have several readings (an Eop-date is in Beijing or in UTC). Such a request could be
    made again in the later one, hours after the first, so it is remembered until that has passed.
    """

    def __init__(self, clock: Clock, *, most: int = MOST_REMEMBERED) -> None:
        self._clock = clock
        self._most = most
        self._lock = Lock()
        self._callers: dict[str, _Used] = {}
        self._turned = -math.inf

    def check(self, *moments: float) -> None:
        """SignatureExpired unless one of these times, in seconds since 1970, is near enough."""
        now = self._clock.time()
        if not any(abs(now - moment) <= WINDOW for moment in moments):
            raise SignatureExpired("the request's time is more than 5 minutes from the server's")

    def use_up(self, caller: str, once: str, *moments: float) -> None:
        """Note that a caller has made the request with this id or nonce and these readings of its
        time, which were checked.

        RequestReplayed where the caller has used the id inside the window, or has made the request
        in another reading. Throttled where the caller made more requests than can be remembered.
        Before that those are forgotten which a later reading alone allows to be made again; until
        none of them could be, that caller's requests are taken in their first reading only.
        """
        mark = blake2b(once.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        with self._lock:
            now = self._clock.time()
            if _step(now) != self._turned:
                self._turned = _step(now)
                self._callers = {n: used for n, used in self._callers.items() if used.turn(now)}
            self._callers.setdefault(caller, _Used(self._most)).add(mark, moments, now)


class _Used:
    """What one caller has used up."""

    __slots__ = ("_forgotten", "_later", "_most", "_now", "_size")

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        # By the step in which the window ends that a request was made in, and the last one's.
        self._now: dict[int, set[bytes]] = {}
        self._later: dict[int, set[bytes]] = {}
        self._forgotten = -math.inf

    def turn(self, now: float) -> bool:
        """Forget what cannot be made again; whether anything is left."""
        self._now = {step: marks for step, marks in self._now.items() if step >= _step(now)}
        self._later = {step: marks for step, marks in self._later.items() if step >= _step(now)}
        self._size = sum(map(len, (*self._now.values(), *self._later.values())))
        return self._size > 0 or now <= self._forgotten

    def add(self, mark: bytes, moments: tuple[float, ...], now: float) -> None:
        """See `Window.use_up`."""
        ends = _step(min(moments, key=lambda moment: abs(now - moment)) + WINDOW)
        last = _step(max(moments) + WINDOW)
        if any(mark in marks for marks in self._now.values()) or mark in self._later.get(last, ()):
            raise RequestReplayed("a request with this id was made before")
        if min(moments) + WINDOW < now <= self._forgotten:
            raise RequestReplayed("too many requests came before to tell whether this was one")
        if self._size >= self._most:
            self._make_room(now)
        self._now.setdefault(ends, set()).add(mark)
        self._size += 1
        if last > ends:
            self._later.setdefault(last, set()).add(mark)
            self._size += 1

    def _make_room(self, now: float) -> None:
        if self._later:
            self._forgotten = (max(self._later) + 1) * _STEP
            self._later.clear()
            self.turn(now)
        if self._size >= self._most:
            wait = (min(self._now) + 1) * _STEP - now
            raise Throttled("too many requests inside the window", retry_after=wait)


def _step(moment: float) -> int:
    return int(moment // _STEP)
