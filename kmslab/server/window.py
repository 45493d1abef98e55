"""How old a request may be, and that each is made once."""

from __future__ import annotations

import math
from collections import deque
from hashlib import blake2b
from threading import Lock
from typing import Final

from kmslab.clock import Clock
from kmslab.errors import RequestReplayed, SignatureExpired, Throttled

WINDOW: Final = 300.0
"""Seconds between a request's time and the server's, either way (Tencent Cloud's; CTyun's is not
documented, so it is the lab's choice there)."""

MOST_REMEMBERED: Final = 1_000_000

# A request is refused for its time once its own time is WINDOW ago, which is 2 * WINDOW after it
# may have come; each generation gathers for one WINDOW.
_GENERATIONS: Final = 3


class Window:
    """What belongs to the time of requests. Safe in threads."""

    def __init__(self, clock: Clock, *, most: int = MOST_REMEMBERED) -> None:
        self._clock = clock
        self._most = most
        self._lock = Lock()
        self._generations: deque[set[bytes]] = deque([set()], maxlen=_GENERATIONS)
        self._began = -math.inf

    def check(self, *moments: float) -> None:
        """SignatureExpired unless one of these times, in seconds since 1970, is near enough."""
        now = self._clock.time()
        if not any(abs(now - moment) <= WINDOW for moment in moments):
            raise SignatureExpired("the request's time is more than 5 minutes from the server's")

    def use_up(self, caller: str, once: str) -> None:
        """Note that a caller has made the request with this id or nonce; RequestReplayed where
        that is so already. Throttled where more came inside the window than can be remembered."""
        mark = blake2b(f"{caller}\n{once}".encode("utf-8", "surrogatepass"), digest_size=12)
        with self._lock:
            self._turn(self._clock.time())
            found = mark.digest()
            if any(found in generation for generation in self._generations):
                raise RequestReplayed("a request with this id was made before")
            if sum(map(len, self._generations)) >= self._most:
                raise Throttled("too many requests inside the window", retry_after=WINDOW)
            self._generations[-1].add(found)

    def _turn(self, now: float) -> None:
        if now - self._began > WINDOW * _GENERATIONS:
            self._generations.clear()
        elif now - self._began < WINDOW:
            return
        self._generations.append(set())
        self._began = now
