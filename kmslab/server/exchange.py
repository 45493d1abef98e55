"""A request as it came over the wire, its raw bytes, and the answer that goes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from kmslab.errors import InvalidRequest, MissingParameter

MOST_DRAINED: Final = 64 * 1024 * 1024
"""Bytes of a body that is too large which are still read, so that its sender hears the answer."""

BODY_SECONDS: Final = 30.0
"""How long the rest of a body may be on its way."""

REQUEST_TIMEOUT: Final = 408

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class SenderGone(Exception):
    """Whoever sent the request has gone: nobody waits for an answer."""


class SenderSlow(Exception):
    """The body of the request did not come in time."""


class Headers:
    """The headers of a request by their lower-case names, the values as they came.

    One that is there twice counts as not there: nobody can say which of them was signed.
    """

    __slots__ = ("_values",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._values = {name.decode("latin-1").lower(): v.strip(b" \t") for name, v in raw}
        if len(self._values) != len(raw):
            times = Counter(name.decode("latin-1").lower() for name, _ in raw)
            self._values = {n: v for n, v in self._values.items() if times[n] == 1}

    def raw(self, name: str) -> bytes | None:
        """The bytes of a header; None where it is not there."""
        return self._values.get(name)

    def text(self, name: str) -> str | None:
        """A header as text, one letter a byte."""
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` is what follows its route; `body` is None where there was too much."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and what may be told of it in logs and metrics.

    `action` is a known one or empty, `code` the provider's or `OK`. `problem` says what was wrong
    with the lab or with kmslab, where that is why the request was refused.
    """

    status: int
    body: bytes
    code: str
    action: str = ""
    caller: str = ""
    request_id: str = ""
    problem: str = ""


async def read_body(receive: Receive, most: int) -> bytes | None:
    """The body of a request, None where it has more than `most` bytes. SenderGone where it ends
    before it is whole, SenderSlow where it takes longer than BODY_SECONDS."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body if len(body) <= most else None
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_on(message, receive, most)
    except TimeoutError:
        raise SenderSlow from None


async def _read_on(message: Message, receive: Receive, most: int) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise SenderGone
        part = message.get("body", b"")
        size += len(part)
        if size <= most:
            parts.append(part)
        else:
            parts.clear()
        if size > MOST_DRAINED:
            return None
        if not message.get("more_body"):
            return b"".join(parts) if size <= most else None
        message = await receive()


async def send_answer(send: Send, answer: Answer) -> None:
    """Send an answer. Its Content-Type is `application/json` to the letter: with anything after
    that, Tencent Cloud's client takes errors for answers without fields."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    if answer.status == REQUEST_TIMEOUT:
        # What is still to come of the body would be read as the next request.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def needed(headers: Headers, name: str, shown: str) -> str:
    """A header that must be there once; MissingParameter names it as `shown`."""
    value = headers.text(name)
    if value is None or not value:
        raise MissingParameter(f"the header {shown} is needed, once", parameter=shown)
    return value


def check_json_type(headers: Headers) -> None:
    """InvalidRequest unless the body is said to be JSON."""
    said = (headers.text("content-type") or "").partition(";")[0].strip().lower()
    if said != "application/json":
        raise InvalidRequest("the Content-Type is application/json", parameter="Content-Type")
