"""Whatever is sent, an answer of the provider's comes back: never a 5xx, never a problem.

Each case has a number, and is made again from it.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from provider_clouds import CTYUN_SEED_INPUT, TENCENT_SEED_OUTPUT, Cloud
from wire_server import Wire

from kmslab.clock import SystemClock
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.ctyun.wire import CALLS
from kmslab.providers.tencent.wire import ACTIONS
from kmslab.server.callers import Callers
from kmslab.server.ctyun import CtyunDoor
from kmslab.server.exchange import Headers, Request
from kmslab.server.tencent import TencentDoor
from kmslab.server.window import Window

SCRAPS = [
    b"",
    b"\x00",
    b"\xff",
    b"%",
    b"&",
    b"=",
    b".",
    b"{",
    b"}",
    b'"',
    b"\\ud800",
    b"-k-",
    b"9" * 30,
]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    7,
    2**63,
    1e308,
    "",
    "x",
    "\ud800",
    "订单",
    [],
    ["x"],
    {},
    {"a": 1},
]
Case = tuple[Any, Request]


def mangled(chance: random.Random, data: bytes) -> bytes:
    """Bytes with a few of them gone, changed, or others in between."""
    found = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0:
                del found[at : at + chance.randrange(1, 9)]
            case 1:
                found[at:at] = chance.choice(SCRAPS)
            case 2:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case _:
                found[at:at] = found[: chance.randrange(len(found) + 1)]
    return bytes(found)


class Cases:
    """Makes requests, most of them with a right signature."""

    def __init__(self, wire: Wire, clouds: dict[str, Cloud]) -> None:
        self.wire = wire
        callers = Callers(wire.lab, regions={}, rate_limit=False)
        window = Window(SystemClock(), most=10**9)
        self.tencent = TencentDoor(callers, window)
        self.ctyun = CtyunDoor(callers, window)
        keys = [clouds[provider].create().key_id for provider in (TENCENT, CTYUN)]
        blobs = [
            clouds[p].kms.encrypt(k, b"x") for p, k in zip((TENCENT, CTYUN), keys, strict=True)
        ]
        self.values = [*VALUES, *keys, *blobs, TENCENT_SEED_OUTPUT, CTYUN_SEED_INPUT]

    def case(self, number: int) -> Case:
        chance = random.Random(number)
        make = chance.choice([self._tc3, self._tc3_get, self._v1, self._eop])
        door, request = make(chance)
        return door, self._spoiled(chance, request) if chance.random() < 0.4 else request

    def _parameters(self, chance: random.Random, call: Any) -> dict[str, Any]:
        names = [parameter.name for parameter in call.parameters] or ["Limit"]
        found = {name: chance.choice(self.values) for name in names if chance.random() < 0.7}
        if chance.random() < 0.1:
            found[chance.choice(["Region", "Action", "", "\ud800", "a.b"])] = "x"
        return found

    def _named(self, chance: random.Random, calls: Any) -> tuple[str, dict[str, Any]]:
        # Those that make keys would only make the lab larger.
        name = chance.choice(
            [n for n in calls if n.lower() not in ("createkey", "createkeyversion")]
        )
        return name, self._parameters(chance, calls[name])

    def _body(self, chance: random.Random, parameters: dict[str, Any]) -> bytes:
        body = json.dumps(parameters, ensure_ascii=chance.random() < 0.5)
        data = body.encode("utf-8", "surrogatepass")
        return mangled(chance, data) if chance.random() < 0.4 else data

    def _flat(self, parameters: dict[str, Any]) -> dict[str, str]:
        flat: dict[str, str] = {}
        for name, value in parameters.items():
            if isinstance(value, list):
                flat |= {f"{name}.{at}": str(item) for at, item in enumerate(value)}
            elif isinstance(value, dict):
                flat |= {f"{name}.{key}": str(item) for key, item in value.items()}
            else:
                flat[name] = str(value)
        return {_text(name): _text(value) for name, value in flat.items()}

    def _tc3(self, chance: random.Random) -> Case:
        action, parameters = self._named(chance, ACTIONS)
        made = self.wire.tc3(action=action, body=self._body(chance, parameters))
        return self.tencent, _request("POST", "", b"", made.headers(), made.body)

    def _tc3_get(self, chance: random.Random) -> Case:
        action, parameters = self._named(chance, ACTIONS)
        query = urlencode(self._flat(parameters)).encode()
        query = mangled(chance, query) if chance.random() < 0.4 else query
        made = self.wire.tc3(action=action, method="GET", body=b"", query=query)
        return self.tencent, _request("GET", "", query, made.headers(), b"")

    def _v1(self, chance: random.Random) -> Case:
        action, parameters = self._named(chance, ACTIONS)
        method = chance.choice(["GET", "POST"])
        form = self.wire.v1(method, **{"Action": action, **self._flat(parameters)})
        headers = {"Host": self.wire.host, "Content-Type": "application/x-www-form-urlencoded"}
        query, body = (form, b"") if method == "GET" else (b"", form)
        return self.tencent, _request(method, "", query, headers, body)

    def _eop(self, chance: random.Random) -> Case:
        call, parameters = self._named(chance, CALLS)
        made = self.wire.eop(call=call, body=self._body(chance, parameters))
        return self.ctyun, _request("POST", call, b"", made.headers(), made.body)

    def _spoiled(self, chance: random.Random, request: Request) -> Request:
        headers = [(name.encode(), value) for name, value in request.headers._values.items()]
        method, path, query, body = request.method, request.path, request.query, request.body
        match chance.randrange(5):
            case 0:
                at = chance.randrange(len(headers))
                headers[at] = (headers[at][0], mangled(chance, headers[at][1]))
            case 1:
                headers.pop(chance.randrange(len(headers)))
            case 2:
                query = mangled(chance, query)
            case 3:
                body = mangled(chance, body or b"")
            case _:
                method, path = (
                    chance.choice(["GET", "POST", "HEAD"]),
                    path + chance.choice("/x\x00"),
                )
        return Request(method, path, query, Headers(headers), body)


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode()


def _request(method: str, path: str, query: bytes, headers: dict[str, str], body: bytes) -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request(method, path, query, Headers(raw), body)


@pytest.fixture(scope="module")
def cases(wire: Wire, clouds: dict[str, Cloud]) -> Callable[[int], Iterator[tuple[int, Case]]]:
    made = Cases(wire, clouds)
    return lambda count: ((number, made.case(number)) for number in range(count))


def test_every_request_has_an_answer(
    cases: Callable[[int], Iterator[tuple[int, Case]]], soak: bool
) -> None:
    codes = set()
    for number, (door, request) in cases(100_000 if soak else 3000):
        answer = door.answer(request)
        assert not answer.problem, (number, answer)
        assert not answer.code.endswith("InternalError"), (number, answer)
        envelope = json.loads(answer.body)
        if door.provider == TENCENT:
            assert answer.status == 200, (number, answer)
            assert envelope["Response"]["RequestId"]
        else:
            assert answer.status in (200, 400, 401, 404), (number, answer)
            assert envelope["code"] == str(answer.status)
        codes.add(answer.code)
    # The cases reach far: past signatures and parsers, into the calls.
    assert {
        "OK",
        "InvalidParameterValue.InvalidCiphertext",
        "UnknownParameter",
        "AuthFailure.SignatureFailure",
        "KMS.0108",
        "LAB.KeyNotFound",
        "LAB.SignatureMismatch",
    } <= codes


def test_no_bytes_on_a_connection_break_the_server(wire: Wire, soak: bool) -> None:
    request = wire.tc3(body=b'{"Limit": 10}')
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers().items())
    head += f"Content-Length: {len(request.body)}\r\nConnection: close\r\n"
    whole = f"POST / HTTP/1.1\r\n{head}\r\n".encode() + request.body
    answered, count = 0, 10_000 if soak else 150
    for number in range(count):
        data = mangled(random.Random(number), whole)
        # A request that is not whole is waited for, so that nothing comes back.
        with socket.create_connection(("127.0.0.1", wire.port), timeout=0.03) as connection:
            try:
                connection.sendall(data)
                # Once the next one is answered, however busy the machine, it was looked at.
                assert wire.send_tc3().code == ""
                said = connection.recv(65536)
            except (ConnectionError, TimeoutError):
                said = b""
        answered += said.startswith(b"HTTP/1.1 ")
        assert not said.startswith(b"HTTP/1.1 5"), (number, data, said)
    assert answered > count / 2
    assert wire.send_tc3().code == ""
    assert '"problem"' not in wire.log.getvalue()
