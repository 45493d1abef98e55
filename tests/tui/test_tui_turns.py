"""Threads rest while the event loop answers a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from kmslab.tui import responsive
from kmslab.tui.responsive import Turns
from kmslab.tui.stopping import Stop

Scene = Callable[[Turns, Stop], Awaitable[None]]


def play(scene: Scene) -> None:
    async def whole() -> None:
        turns = Turns()
        await scene(turns, turns.gently(lambda: False))

    asyncio.run(whole())


async def busy(seconds: float) -> None:
    """Have the event loop do one short thing after the other, as for a dialog."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
        await asyncio.sleep(0)


def test_nobody_rests_while_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responsive, "REST_SECONDS", 60.0)

    async def scene(_: Turns, stop: Stop) -> None:
        assert not await asyncio.to_thread(stop)

    play(scene)


def test_a_thread_rests_until_all_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responsive, "REST_SECONDS", 60.0)

    async def scene(turns: Turns, stop: Stop) -> None:
        turns.answer()
        resting = asyncio.ensure_future(asyncio.to_thread(stop))
        for _ in range(3):
            await busy(0.05)
            assert not resting.done()
            turns.answer()
        assert await resting is False
        turns.answer()
        assert await asyncio.to_thread(turns.gently(lambda: True)) is True, "it asks as before"

    play(scene)


def test_a_key_that_is_held_down_stops_nobody() -> None:
    async def scene(turns: Turns, stop: Stop) -> None:
        def work() -> list[bool]:
            return [stop() for _ in range(3)]

        working = asyncio.ensure_future(asyncio.to_thread(work))
        while not working.done():
            turns.answer()
            await busy(0.02)
        assert await working == [False] * 3

    play(scene)
