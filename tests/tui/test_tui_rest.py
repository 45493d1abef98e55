"""What is at rest, and what only rests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event

import pytest
from tui_rest import Rest

from kmslab.tui import responsive
from kmslab.tui.responsive import Turns


def test_who_is_held_back_by_a_test_is_at_rest_and_who_rests_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(responsive, "REST_SECONDS", 60.0)
    rest = Rest(asyncio.to_thread)

    async def at_work(work: Callable[[], object], let_go: Callable[[], object]) -> bool:
        begun = Event()
        working = asyncio.ensure_future(rest.to_thread(lambda: (begun.set(), work())))
        await asyncio.to_thread(begun.wait)
        await asyncio.sleep(0.05)
        found = rest._is_at_work()
        let_go()
        await asyncio.wait_for(working, 30)
        return found

    async def scene() -> None:
        held, turns = Event(), Turns()
        assert not await at_work(lambda: held.wait(60), held.set)
        turns._quiet.clear()
        assert await at_work(turns.rest, turns._quiet.set)

    asyncio.run(scene())
