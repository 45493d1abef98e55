"""The explorer in a browser on this machine, through textual-serve.

It listens on the loopback address alone, under a path that nobody can guess, and takes no page of
another origin: whoever can reach it sees the lab. Each tab is a process of its own, which ends with
its tab, and with the server however that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp_jinja2
import jinja2
from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.server import Server, to_int

HOST: Final = "127.0.0.1"
PATIENCE: Final = 5.0
"""The seconds that a process has to end by itself, when it is asked to, and when it is told to."""

_LINK: Final = re.compile(r"""<link\b[^>]*\bhref=["'](?P<to>[^"']*)["'][^>]*>\s*""")

_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws://{host}; "
    "frame-ancestors 'none'; base-uri 'none'"
)


class Tab(AppService):
    """The process behind one tab, in a group of its own, so that all of it can be ended."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], **rest: Any) -> None:
        super().__init__(" ".join(argv), **rest)
        self._argv = argv
        self._environment = environment

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**self._build_environment(width, height), **self._environment},
            start_new_session=True,
        )
        self._stdin = self._process.stdin
        return self._process

    async def stop(self) -> None:
        """Ask it to end; tell it to; end it."""
        process = self._process
        if process is None or self._task is None:
            return
        with suppress(asyncio.TimeoutError, ConnectionError):
            await asyncio.wait_for(super().stop(), PATIENCE)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is not None:
                break
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), PATIENCE)
        self._task = None


class LoopbackServer(Server):
    """Serves one command to tabs. `tell` is told where, once it listens."""

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        environment: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(" ".join(argv), host=HOST, port=port, title="kmslab")
        self._argv = argv
        self._environment = environment
        self._tell = tell
        self._tabs: set[Tab] = set()
        self.path = f"/{secrets.token_urlsafe(24)}"

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{self.public_url}{self.path}/"

    async def _make_app(self) -> web.Application:
        app = web.Application(middlewares=[self._own_pages_only])
        aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(self.templates_path))
        app.add_routes(
            [
                web.get(f"{self.path}/", self.handle_index, name="index"),
                web.get(f"{self.path}/ws", self.handle_websocket, name="websocket"),
                web.get(f"{self.path}/download/{{key}}", self.handle_download, name="download"),
                web.static(f"{self.path}/static", self.statics_path, name="static"),
            ]
        )
        app.on_shutdown.append(self.on_shutdown)
        return app

    @web.middleware
    async def _own_pages_only(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Refuse whatever did not come from a page of this server; a WebSocket has no other
        guard against pages of others."""
        here = f"{HOST}:{self.port}"
        origin = request.headers.get("Origin")
        if request.host != here or origin not in (None, f"http://{here}"):
            raise web.HTTPForbidden(text="this page is not served to others")
        if request.path.endswith("/ws") and origin is None:
            raise web.HTTPForbidden(text="this page is not served to others")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = _POLICY.format(host=here)
            response.headers["Referrer-Policy"] = "no-referrer"
            response.headers["Cache-Control"] = "no-store"
        return response

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page, without the font that textual-serve takes from elsewhere."""
        page = await super().handle_index(request)
        if isinstance(page, web.Response) and page.text is not None:
            page.text = _LINK.sub(self._own_link, page.text)
        return page

    def _own_link(self, found: re.Match[str]) -> str:
        return found[0] if found["to"].startswith(self.public_url) else ""

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """One tab, until it is closed."""
        websocket = web.WebSocketResponse(heartbeat=15)
        await websocket.prepare(request)
        tab = Tab(
            self._argv,
            self._environment,
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=websocket.close,
            download_manager=self.download_manager,
        )
        self._tabs.add(tab)
        try:
            width = to_int(request.query.get("width", "80"), 80)
            await tab.start(width, to_int(request.query.get("height", "24"), 24))
            await self._process_messages(websocket, tab)
        finally:
            await asyncio.shield(tab.stop())
            self._tabs.discard(tab)
        return websocket

    async def on_shutdown(self, app: web.Application) -> None:
        """End every process."""
        await asyncio.gather(*(tab.stop() for tab in self._tabs), return_exceptions=True)

    def run(self) -> None:
        """Serve until somebody ends it. No log is kept."""
        logging.getLogger("textual-serve").addHandler(logging.NullHandler())
        logging.getLogger("textual-serve").propagate = False
        logging.getLogger("aiohttp.access").disabled = True
        web.run_app(
            self._make_app(),
            host=self.host,
            port=self.port,
            shutdown_timeout=PATIENCE,
            print=lambda *_: self._tell(self.address),  # once it listens
            access_log=None,
        )


def serve(
    words: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    tell: Callable[[str], None],
) -> None:
    """Serve `kmslab tui` with these words to tabs, until somebody ends it."""
    argv = [sys.executable, "-m", "kmslab", "tui", *words]
    LoopbackServer(argv, port, environment, tell).run()
