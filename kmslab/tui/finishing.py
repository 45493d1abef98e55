"""Leaving a screen: when a key was pressed, and when something has ended."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from textual.screen import Screen

T = TypeVar("T")

_LOOKS: Final = 0.05


def leave(screen: Screen[T], result: T) -> None:
    """Leave a screen that is in front with its result, once.

    Dismissing takes away whatever is in front: pressed twice, the screen behind it too.
    """
    if screen.app.screen_stack[-1:] == [screen]:
        screen.dismiss(result)


async def finish(screen: Screen[T], result: T) -> None:
    """Leave a screen with its result as soon as nothing is in front of it, also no message that
    nobody has read."""
    while screen in (stack := screen.app.screen_stack):
        if stack[-1] is screen:
            leave(screen, result)
            return
        await asyncio.sleep(_LOOKS)
