"""The explorer's event loop is asyncio's, but for how often it looks what came from outside."""

from __future__ import annotations

import asyncio
import socket
from selectors import DefaultSelector
from time import monotonic
from typing import Any

import pytest

from kmslab.tui.loop import LOOK_SECONDS, Loop, run

ROUNDS = 1_000


def test_it_looks_seldom_while_it_has_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    select = DefaultSelector.select

    def looked(*given: Any) -> Any:
        looks.append(given)
        return select(*given)

    monkeypatch.setattr(DefaultSelector, "select", looked)

    async def rounds() -> float:
        looks.clear()
        begun = monotonic()
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        return monotonic() - begun

    assert len(looks) <= run(rounds()) / LOOK_SECONDS + 2
    asyncio.run(rounds())
    assert len(looks) >= ROUNDS, "asyncio looks before each round"


def test_what_comes_from_outside_is_seen_however_much_there_is_to_do() -> None:
    async def seen() -> list[str]:
        found, running = list[str](), asyncio.get_running_loop()
        one, other = socket.socketpair()
        with one, other:
            running.add_reader(one, lambda: found.append(one.recv(9).decode()))
            running.call_later(0.05, found.append, "a time")
            thread = running.run_in_executor(None, lambda: "a thread")
            thread.add_done_callback(lambda done: found.append(done.result()))
            other.send(b"a text")
            async with asyncio.timeout(30):
                while len(found) < 3:
                    await asyncio.sleep(0)
            running.remove_reader(one)
        return found

    assert sorted(run(seen())) == ["a text", "a thread", "a time"]


def test_it_tells_while_it_has_nothing_to_do() -> None:
    async def main() -> None:
        running = asyncio.get_running_loop()
        assert isinstance(running, Loop)
        assert not running.idle.is_set(), "it runs this"
        asleep = asyncio.ensure_future(asyncio.to_thread(running.idle.wait, 30))
        while not asleep.done():
            await asyncio.sleep(0.01)
        assert asleep.result(), "it slept"
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
            assert not running.idle.is_set(), "it has something to do in the next round"

    run(main())


def test_it_ends_as_asyncio_does_and_with_what_was_given() -> None:
    ended = []

    async def left() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("a task that was left")

    async def main() -> str:
        ended.append(asyncio.create_task(left()).get_name())
        await asyncio.sleep(0)
        return "given"

    assert run(main()) == "given"
    assert ended[1:] == ["a task that was left"]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
