"""Listening, serving, and stopping: the application on uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kmslab.errors import SettingError

STOP_SECONDS: Final = 5
"""How long requests that are under way may take once the server is to stop."""

MOST_HEAD: Final = 256 * 1024
"""Bytes of a request line and its headers, or of anything else that is not a body; beyond, the
connection ends."""

KEEP_ALIVE_SECONDS: Final = 75
BACKLOG: Final = 1024
_STOPS: Final = (signal.SIGINT, signal.SIGTERM)


class OneWrite:
    """A transport that sends all that is written in one turn of the loop at once.

    uvicorn writes head and body of an answer one after the other, and each write is a call of the
    system that costs as much as reading the request.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send data before the loop waits again."""
        if not self._parts:
            self._loop.call_soon(self._send)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then end the connection."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._parts and not self._transport.is_closing():
            self._transport.write(b"".join(self._parts))
        self._parts.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's reader of HTTP, which takes no more than MOST_HEAD bytes (and a read) at a stretch
    that are no body: a head, or what stands around and after the chunks of a body.

    The fields after a chunked body are dropped; uvicorn would have them be headers.
    """

    _beside = 0
    _moved_on = False

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(OneWrite(transport))  # type: ignore[arg-type]

    def on_headers_complete(self) -> None:
        """A head is whole."""
        super().on_headers_complete()
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """More of a body."""
        self._moved_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._moved_on = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """More of what the client sends."""
        self._moved_on = False
        super().data_received(data)
        self._beside = 0 if self._moved_on else self._beside + len(data)
        if self._beside > MOST_HEAD:
            self.send_400_response("The head of the request is too long.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens. With a certificate and its key it speaks TLS.

    Off loopback `plain_http` must say that requests may be readable on the way.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    private_key: Path | None = None
    plain_http: bool = False

    @property
    def tls(self) -> bool:
        """Whether it speaks TLS."""
        return self.certificate is not None


def listen(place: Place) -> socket.socket:
    """The socket of a server, which connections can be made to from now on.

    SettingError for a place that is off loopback without TLS, for a TLS set-up that is half one or
    cannot be used, and where nothing can listen.
    """
    _check_tls(place)
    try:
        found = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise SettingError(f"--host {place.host}: {error.strerror or error}") from None
    family, address = found[0][0], found[0][4]
    if not (place.tls or place.plain_http or ipaddress.ip_address(address[0]).is_loopback):
        raise SettingError(
            f"{place.host} is not loopback: plaintexts would be readable on the network; give"
            " --tls-cert and --tls-key, or --plain-http if that is meant"
        )
    # asyncio sends without delay only on sockets whose protocol is named; otherwise the second part
    # of each answer waits 40 ms for the first to be acknowledged.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingError(
            f"cannot listen on {place.host} port {place.port}: {error.strerror or error}"
        ) from None
    return listener


def _check_tls(place: Place) -> None:
    certificate, key = place.certificate, place.private_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise SettingError("TLS needs both --tls-cert and --tls-key")
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise SettingError(f"{option} {path}: {error.strerror or error}") from None
    try:
        # Without a passphrase given, OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except ssl.SSLError:
        raise SettingError(
            f"--tls-cert {certificate}, --tls-key {key}: not a certificate and its own private key,"
            " both as PEM, the key without a passphrase"
        ) from None


def url_of(place: Place, listener: socket.socket) -> str:
    """The address of a server, as its clients write it.

    >>> with listen(Place()) as listener:
    ...     url_of(Place(), listener)
    'http://127.0.0.1:...'
    """
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if place.tls else 'http'}://{shown}:{port}"


def server_of(app: Starlette, place: Place) -> uvicorn.Server:
    """The server of an application; `serve(sockets=[…])` runs it, `should_exit` stops it."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=BoundedHttp,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        log_config=None,
        access_log=False,
        ws="none",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.private_key,
        timeout_graceful_shutdown=STOP_SECONDS,
        lifespan="on",
    )
    return uvicorn.Server(config)


def serve(
    app: Starlette, place: Place, listener: socket.socket, ready: Callable[[], None]
) -> signal.Signals | None:
    """Serve until SIGINT or SIGTERM; `ready` is called once requests are answered.

    Requests that are under way then are finished first. Gives the signal.
    """
    with _stops_noted() as stops:
        asyncio.run(_serve(server_of(app, place), listener, ready))
    return stops[0] if stops else None


async def _serve(server: uvicorn.Server, listener: socket.socket, ready: Any) -> None:
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.005)
    if not serving.done():
        ready()
    await serving


@contextmanager
def _stops_noted() -> Iterator[list[signal.Signals]]:
    """Have the signals that stop a server do no more than that.

    uvicorn raises them anew once it has stopped; by default that would end the process before the
    lab is closed.
    """
    noted: list[signal.Signals] = []
    before = {
        number: signal.signal(number, lambda got, _frame: noted.append(signal.Signals(got)))
        for number in _STOPS
    }
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
