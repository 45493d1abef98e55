"""A lab in a database, served: the network may stand still, and the server does not."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from wire_server import Reply, Wire, serving

from kmslab import Lab
from kmslab.model import CTYUN, TENCENT


@pytest.fixture
def far(postgres_url: str, tmp_path: Path) -> Iterator[Wire]:
    """A lab in PostgreSQL, served, with a key of each provider called orders."""
    with Lab.create(postgres_url, root_key=tmp_path / "root.key") as lab:
        lab.tencent().create_key("orders")
        lab.ctyun().create_key(alias="orders")
        with serving(lab, health_seconds=0.3) as wire:
            yield wire


def encrypting(wire: Wire, provider: str) -> Callable[[], Reply]:
    """A call that is soon done, as a rule; it is ready to be sent."""
    plain = base64.b64encode(b"plain").decode()
    (key,) = (key.key_id for key in wire.lab.keys() if key.provider == provider)
    if provider == TENCENT:
        body = json.dumps({"KeyId": key, "Plaintext": plain}).encode()
        return lambda: wire.send_tc3(wire.tc3(action="Encrypt", body=body))
    body = json.dumps({"cmkUuid": key, "plaintext": plain}).encode()
    return lambda: wire.send_eop(wire.eop(call="encrypt", body=body))


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
def test_calls_that_wait_for_a_database_hold_up_nobody_else(
    far: Wire, postgres_url: str, provider: str
) -> None:
    encrypt = encrypting(far, provider)
    assert encrypt().code == ""
    replies: list[Reply] = []
    call = threading.Thread(target=lambda: replies.append(encrypt()))
    with psycopg.connect(postgres_url) as database:
        database.execute("LOCK TABLE kmslab.lab")
        call.start()
        until_somebody_waits(database)
        reply = far.send("GET", "/healthz", {})
        assert (reply.status, reply.json["problem"]) == (503, "no answer within 0.3 s")
        assert far.send("GET", "/metrics", {}).status == 200
        assert replies == []
    call.join(60)
    assert [reply.code for reply in replies] == [""]
    until = time.monotonic() + 60
    while (reply := far.send("GET", "/healthz", {})).status != 200:  # on a busy machine
        assert time.monotonic() < until
    assert reply.json == {"status": "ok"}


def until_somebody_waits(database: psycopg.Connection) -> None:
    """Until another session waits for a lock that this one has."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    until = time.monotonic() + 60
    while database.execute(waiting).fetchone() == (0,):
        assert time.monotonic() < until
        time.sleep(0.01)
