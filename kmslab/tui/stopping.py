"""Asking a thread to stop."""

from __future__ import annotations

from collections.abc import Callable

Stop = Callable[[], bool]
"""Whether nobody wants the answer any more."""


class Stopped(Exception):
    """Nobody wants the answer any more."""
