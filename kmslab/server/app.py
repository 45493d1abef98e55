"""The application: which path leads to which door, and what is noted of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kmslab.clock import Clock, SystemClock
from kmslab.keystore.lab_url import in_database
from kmslab.lab import Lab
from kmslab.server.callers import Callers
from kmslab.server.ctyun import CtyunDoor
from kmslab.server.exchange import (
    REQUEST_TIMEOUT,
    Answer,
    Headers,
    Receive,
    Request,
    Scope,
    Send,
    SenderGone,
    SenderSlow,
    read_body,
    send_answer,
)
from kmslab.server.health import HEALTH_SECONDS, Health
from kmslab.server.logs import JsonLog
from kmslab.server.metrics import Metrics
from kmslab.server.tencent import TencentDoor
from kmslab.server.window import Window

THREADS = 4
"""Calls at once that are not soon done: they wait for the disk, or make a pair of keys. Every call
of a lab in a database is one, since it waits for the network."""


class Door(Protocol):
    """What answers the requests of one provider's clients."""

    @property
    def provider(self) -> str:
        """Whose clients come here."""
        ...

    def most_bytes(self, headers: Headers) -> int:
        """The longest body that such a request may have."""
        ...

    def quick(self, request: Request) -> bool:
        """Whether `answer` is soon done, as far as can be told before it is asked."""
        ...

    def answer(self, request: Request) -> Answer:
        """The answer to a request, whatever it is."""
        ...


class Endpoint:
    """Brings requests to a door and its answers back.

    Where the lab is `local`, what is soon done is done at once; all else waits in the threads.
    """

    def __init__(
        self,
        door: Door,
        metrics: Metrics,
        log: JsonLog | None,
        threads: ThreadPoolExecutor,
        *,
        local: bool,
    ) -> None:
        self._door = door
        self._metrics = metrics
        self._log = log
        self._threads = threads
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = perf_counter()
        self._metrics.in_flight += 1
        try:
            request = await self._read(scope, receive)
            if self._local and self._door.quick(request):
                answer = self._door.answer(request)
            else:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._threads, self._door.answer, request)
            await send_answer(send, answer)
        except SenderGone:
            answer = Answer(0, b"", code="SenderGone")
        except SenderSlow:
            answer = Answer(REQUEST_TIMEOUT, b"", code="SenderSlow")
            await send_answer(send, answer)
        finally:
            self._metrics.in_flight -= 1
        self._note(answer, perf_counter() - began)

    async def _read(self, scope: Scope, receive: Receive) -> Request:
        headers = Headers(scope["headers"])
        return Request(
            method=scope["method"],
            path=scope["path_params"].get("name", ""),
            query=scope["query_string"],
            headers=headers,
            body=await read_body(receive, self._door.most_bytes(headers)),
        )

    def _note(self, answer: Answer, seconds: float) -> None:
        self._metrics.note(self._door.provider, answer.action, answer.code, seconds)
        if self._log is not None:
            self._log.request(
                provider=self._door.provider,
                action=answer.action,
                code=answer.code,
                status=answer.status,
                caller=answer.caller,
                request_id=answer.request_id,
                milliseconds=round(seconds * 1000, 3),
                problem=answer.problem,
            )


def make_app(
    lab: Lab,
    *,
    regions: Mapping[str, Iterable[str]] | None = None,
    rate_limit: bool = True,
    clock: Clock | None = None,
    log: JsonLog | None = None,
    health_seconds: float = HEALTH_SECONDS,
) -> Starlette:
    """The ASGI application over an open lab.

    `regions` are further regions by provider, `clock` is what the times of requests are compared
    with, `log` takes a line for each request, `health_seconds` is how long /healthz waits for the
    lab.
    """
    callers = Callers(lab, regions=regions or {}, rate_limit=rate_limit)
    window, metrics = Window(clock or SystemClock()), Metrics()
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kmslab call")
    health, local = Health(lab, health_seconds), not in_database(lab.location or "")

    def endpoint(door: Door) -> Endpoint:
        return Endpoint(door, metrics, log, threads, local=local)

    async def show_metrics(_request: StarletteRequest) -> Response:
        text = metrics.text(0 if log is None else log.dropped)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    @asynccontextmanager
    async def lifespan(_app: Any) -> Any:
        yield
        health.close()
        threads.shutdown(cancel_futures=True)

    app = Starlette(
        routes=[
            Route("/", endpoint(TencentDoor(callers, window))),
            Route("/v1/cmkManage/{name:path}", endpoint(CtyunDoor(callers, window))),
            Route("/healthz", health.answer),
            Route("/metrics", show_metrics),
        ],
        lifespan=lifespan,
    )
    # A redirection would repeat the query.
    app.router.redirect_slashes = False
    return app
