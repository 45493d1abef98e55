"""The explorer in a browser: who may reach it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tui_world import World

aiohttp = pytest.importorskip("aiohttp", reason="the extra `web` is not installed")
pytest.importorskip("textual_serve", reason="the extra `web` is not installed")

pytestmark = pytest.mark.scale

ROOT = Path(__file__).parents[2]
SECONDS = 30


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def processes_with(word: str) -> list[int]:
    """The processes that have a word on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


async def visited(address: str, ends: Any, word: str) -> list[int]:
    """Open a tab, see the records, have it end; the processes that are left in the end."""
    origin = "/".join(address.split("/")[:3])
    async with aiohttp.ClientSession() as session:
        for path in (f"{origin}/", f"{origin}/ws", f"{origin}/static/css/xterm.css"):
            async with session.get(path) as refused:
                assert refused.status in (403, 404), path
        async with session.get(address, headers={"Host": "example.test"}) as refused:
            assert refused.status == 403
        async with session.get(address) as page:
            assert page.status == 200
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]
            links = re.findall(r"""(?:href|src)=["']([^"']*)""", await page.text())
            assert len(links) >= 2
            assert all(link.startswith(("/", origin)) for link in links), links
        place = f"{address.replace('http', 'ws', 1)}ws?width=100&height=30"
        for headers in ({}, {"Origin": "http://example.test"}):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(place, headers=headers)
        tab = await session.ws_connect(place, headers={"Origin": origin})
        shown = b""
        async with asyncio.timeout(SECONDS):
            while b"20 records" not in shown or b"read-only" not in shown:
                message = await tab.receive()
                shown += message.data if message.type is aiohttp.WSMsgType.BINARY else b""
        assert len(processes_with(word)) == 2
        await ends(tab)
        end = monotonic() + SECONDS
        while len(found := processes_with(word)) > (0 if ends is not closed else 1):
            if monotonic() > end:
                break
            await asyncio.sleep(0.1)
        return found


async def closed(tab: Any) -> None:
    """The tab is closed; the server goes on."""
    await tab.close()


def test_no_process_is_left(world: World) -> None:
    """Neither of a tab that is closed, nor of one whose server is killed."""
    state = str(world.path / "state")
    words = ["tui", "--web", "--port", str(free_port()), "--lab", str(world.path / "lab")]
    server = subprocess.Popen(
        [sys.executable, "-m", "kmslab", *words, "--source", str(world.csv), "--state", state],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")

        async def killed(_tab: Any) -> None:
            server.kill()
            server.wait()

        assert asyncio.run(visited(address, closed, state)) == [server.pid]
        assert asyncio.run(visited(address, killed, state)) == []
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(SECONDS)
        if server.stdout is not None:
            server.stdout.close()
        for pid in processes_with(state):
            os.kill(pid, signal.SIGKILL)
    assert processes_with(state) == []
