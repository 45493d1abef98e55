"""Threads rest while the event loop answers a key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from threading import Thread

import pytest

from kmslab.tui import responsive
from kmslab.tui.loop import run
from kmslab.tui.responsive import Turns

Scene = Callable[[Turns], Awaitable[None]]


def play(scene: Scene) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await scene(Turns())

    asyncio.run(whole())


async def busy(seconds: float) -> None:
    """Have the event loop do one short thing after the other, as for a dialog."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
        await asyncio.sleep(0)


async def quiet(turns: Turns) -> None:
    """Wait until nothing is answered."""
    while not turns.quiet:
        await asyncio.sleep(0.001)


def test_a_thread_rests_until_all_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responsive, "REST_SECONDS", 60.0)
    monkeypatch.setattr(responsive, "ANSWER_SECONDS", 60.0)

    async def scene(turns: Turns) -> None:
        stop = turns.gently(lambda: False)
        assert turns.quiet
        assert await asyncio.to_thread(stop) is False, "nobody rests while nothing is answered"
        turns.answer()
        assert not turns.quiet
        resting = asyncio.ensure_future(asyncio.to_thread(stop))
        for _ in range(3):
            await busy(0.05)
            assert not resting.done()
            turns.answer()
        await quiet(turns)
        assert await asyncio.wait_for(resting, 30) is False

    play(scene)


def test_a_thread_lets_the_loop_go_first_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does, and not only for an answer; however long that is, the thread goes on."""

    async def scene(turns: Turns) -> None:
        turns.follow(asyncio.get_running_loop())
        rested: list[float] = []

        def work() -> None:
            began = time.monotonic()
            turns.rest()
            rested.append(time.monotonic() - began)

        async def while_busy() -> float:
            thread = Thread(target=work)
            thread.start()
            while thread.is_alive():
                await busy(0.01)
            thread.join()
            return rested.pop()

        monkeypatch.setattr(responsive, "AFTER_SECONDS", 0.2)
        assert await while_busy() >= 0.2
        monkeypatch.setattr(responsive, "AFTER_SECONDS", 60.0)
        await asyncio.wait_for(asyncio.to_thread(work), 30)

    async def whole() -> None:
        await scene(Turns())

    run(whole())


def test_who_is_to_stop_does_not_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responsive, "REST_SECONDS", 60.0)

    async def scene(turns: Turns) -> None:
        turns.answer()
        assert turns.gently(lambda: True)()

    play(scene)


def test_a_key_that_is_held_down_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responsive, "ANSWER_SECONDS", 0.1)

    async def scene(turns: Turns) -> None:
        turns.answer()
        while not turns.quiet:
            await busy(0.01)
        turns._threads_until += 60  # however slow the machine is
        turns.answer()
        assert turns.quiet, "now it is the turn of the threads"
        turns._threads_until = 0.0
        turns.answer()
        assert not turns.quiet

    play(scene)
