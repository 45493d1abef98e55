"""Leaving a screen when something has ended, and not when a key was pressed."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from textual.screen import Screen

T = TypeVar("T")

_LOOKS: Final = 0.05


async def finish(screen: Screen[T], result: T) -> None:
    """Leave a screen with its result as soon as nothing is in front of it.

    Dismissing takes away whatever is in front, also a message that nobody has read.
    """
    while screen in (stack := screen.app.screen_stack):
        if stack[-1] is screen:
            screen.dismiss(result)
            return
        await asyncio.sleep(_LOOKS)
