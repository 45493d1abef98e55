"""A machine that stalls: with KMSLAB_STALLS=SEED in the environment, whatever is played does.

Now and then a message is handled late, and what a thread does begins or ends late, so that whatever
happens soon after something else happens long after it too. What a scene asserts without having
waited for it fails then, and so does the explorer where it takes for granted what comes first.
SEED is any text; each test has its own chances by it and by its name, about the same in every run:

    KMSLAB_STALLS=7 pytest tests/tui/test_tui_safety.py -k exports
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from textual.message import Message
from textual.message_pump import MessagePump

MESSAGES: Final = 0.1
"""How many of the messages are late, from 0 to 1."""

MESSAGE_SECONDS: Final = 0.03
THREAD_SECONDS: Final = 0.15
"""How late something is at the most."""


def stall(monkeypatch: pytest.MonkeyPatch, seed: str) -> None:
    """Have everything that is played from now on stall."""
    chance = random.Random(seed)
    to_thread, dispatch = asyncio.to_thread, MessagePump._dispatch_message

    async def late(work: Callable[..., Any], /, *given: Any, **options: Any) -> Any:
        before, after = (max(chance.uniform(-1, 1), 0) * THREAD_SECONDS for _ in range(2))

        def slow() -> Any:
            time.sleep(before)
            try:
                return work(*given, **options)
            finally:
                time.sleep(after)

        return await to_thread(slow)

    async def handled(self: MessagePump, message: Message) -> None:
        if chance.random() < MESSAGES:
            time.sleep(chance.random() * MESSAGE_SECONDS)
        await dispatch(self, message)

    monkeypatch.setattr(asyncio, "to_thread", late)
    monkeypatch.setattr(MessagePump, "_dispatch_message", handled)
