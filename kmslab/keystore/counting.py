"""How many ciphertexts each key version has made, against 2^32 (NIST SP 800-38D section 8.3).

The store's number is reserved ahead, so a crash over-counts and never under-counts.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

from kmslab.errors import EncryptionCountWarning, EncryptionLimitReached
from kmslab.keystore.store import Keystore

LIMIT = 2**32
WARN_AT = 2**31
LARGEST_STEP = 2**16


class Counter:
    """This process's share of one version's encryptions.

    `reserve(count, step)` makes at least `count` and at best `step` more durable in the store, and
    says how many it got.
    """

    __slots__ = ("_left", "_lock", "_reserve", "_step")

    def __init__(self, reserve: Callable[[int, int], int]) -> None:
        self._reserve = reserve
        self._left = 0
        self._step = 1
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> None:
        """Use `count` encryptions, reserving more where the share is too small."""
        with self._lock:
            if self._left < count:
                self._left += self._reserve(count - self._left, max(self._step, count))
                self._step = min(self._step * 2, LARGEST_STEP)
            self._left -= count

    def give(self, count: int) -> None:
        """Put back `count` that were taken and not used."""
        with self._lock:
            self._left += count

    def drain(self) -> int:
        """Take the whole share away, to return it to the store."""
        with self._lock:
            left, self._left = self._left, 0
            return left


class Counters:
    """This process's shares, by version."""

    __slots__ = ("_counters", "_keystore", "_lock")

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore
        self._drop()
        keystore.on_close.append(self._drain)
        keystore.on_fork.append(self._drop)

    def take(self, version_id: str, count: int = 1) -> None:
        """Count encryptions of a version before they are made; EncryptionLimitReached to refuse."""
        counter = self._counters.get(version_id)
        if counter is None:
            with self._lock:
                counter = self._counters.setdefault(version_id, self._counter(version_id))
        counter.take(count)

    def _counter(self, version_id: str) -> Counter:
        return Counter(lambda least, step: self._reserve(version_id, least, step))

    def _reserve(self, version_id: str, least: int, step: int) -> int:
        with self._keystore.change() as change:
            handle = self._keystore.handles[version_id]
            made = handle.row.encryptions
            if made + least > LIMIT:
                raise EncryptionLimitReached(
                    f"version {handle.row.number} of key {handle.row.key_id} has made 2^32 "
                    "ciphertexts; rotate the key"
                )
            granted = min(LIMIT - made, max(least, step))
            change.count(handle, granted)
        if made < WARN_AT <= made + granted:
            warnings.warn(
                f"version {handle.row.number} of key {handle.row.key_id} has made 2^31 "
                "ciphertexts, half of what it may; rotate the key",
                EncryptionCountWarning,
                stacklevel=4,
            )
        return granted

    def _drain(self) -> dict[str, int]:
        counters = list(self._counters.items())
        left = {version_id: counter.drain() for version_id, counter in counters}
        return {version_id: count for version_id, count in left.items() if count}

    def _drop(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, Counter] = {}
