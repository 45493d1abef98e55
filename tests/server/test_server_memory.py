"""A server does not grow with the requests that it has answered."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from provider_clouds import Cloud
from wire_server import Wire

from kmslab.model import CTYUN, TENCENT

pytestmark = pytest.mark.soak


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


def requests(wire: Wire, clouds: dict[str, Cloud]) -> Iterator[tuple[str, dict[str, str], bytes]]:
    """TC3 and EOP requests without end; every EOP request has an id of its own."""
    keys = {provider: clouds[provider].create().key_id for provider in (TENCENT, CTYUN)}
    blobs = {p: str(clouds[p].kms.encrypt(key, b"x")) for p, key in keys.items()}
    tencent = json.dumps({"CiphertextBlob": blobs[TENCENT]}).encode()
    fields = {"ciphertextBlob": blobs[CTYUN], "destinationKeyId": keys[CTYUN]}
    ctyun = json.dumps(fields).encode()
    while True:
        yield "/", wire.tc3(action="ReEncrypt", body=tencent).headers(), tencent
        yield "/", wire.tc3(action="Decrypt", body=b"{}").headers(), b"{}"
        eop = wire.eop(call="reEncrypt", body=ctyun)
        yield "/v1/cmkManage/reEncrypt", eop.headers(), ctyun


def test_100_000_requests_leave_nothing_behind(wire: Wire, clouds: dict[str, Cloud]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", wire.port, timeout=20)
    sizes = []
    for number, (path, headers, body) in enumerate(requests(wire, clouds)):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        assert answer.status in (200, 400)
        answer.read()
        if number % 1000 == 0:
            wire.log.seek(0)
            wire.log.truncate()
        if number % 10_000 == 0:
            sizes.append(resident())
        if number == 100_000:
            break
    connection.close()
    # The ids of five minutes' EOP requests are remembered: a third of them, 100 bytes each.
    assert sizes[-1] - sizes[2] < 12 * 1024 * 1024, sizes
