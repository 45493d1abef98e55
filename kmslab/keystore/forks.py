"""Forks wait until no thread is inside a transaction, and the child lets go of what it inherited.

SQLite forbids carrying a connection across a fork: the child would write without locks.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What is held while the process forks."""

    def hold(self) -> None:
        """Before a fork, in the parent."""
        ...

    def release(self) -> None:
        """After a fork, in the parent."""
        ...

    def begin_child(self) -> None:
        """After a fork, in the child."""
        ...


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()
_held: list[Forkable] = []
_forking = threading.Lock()


def watch(item: Forkable) -> None:
    """Hold `item` through every fork, as long as it is there."""
    with _forking:
        _watched.add(item)


def _before() -> None:
    _forking.acquire()
    _held.extend(_watched)
    for item in _held:
        item.hold()


def _in_parent() -> None:
    for item in _held:
        item.release()
    _held.clear()
    _forking.release()


def _in_child() -> None:
    for item in _held:
        item.begin_child()
    _held.clear()
    _forking.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
