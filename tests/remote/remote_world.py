"""Remotes over a lab: through a server, in this process, or one that plays a cloud."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import csv
import hashlib
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kmslab import Lab, Record
from kmslab.campaign.run import Ground
from kmslab.campaign.state import State
from kmslab.clock import Clock, SystemClock
from kmslab.lab import REGIONS
from kmslab.model import TENCENT
from kmslab.providers.ctyun.blob import HEADER_BYTES
from kmslab.providers.ctyun.remote import CtyunRemote
from kmslab.providers.remote import Access, Endpoint, Link, Reply
from kmslab.providers.tencent.blob import NO_CONTEXT
from kmslab.providers.tencent.remote import TencentRemote
from kmslab.remotes import Remote, Remotes
from kmslab.secret import Secret
from kmslab.server.app import make_app
from kmslab.server.logs import JsonLog
from kmslab.server.running import Place, listen, server_of

COLUMNS = ("record_id", "provider", "ciphertext_blob", "encryption_context", "region", "account")
SECRET_KEY = "unmistakable-secret-key-of-a-test"


class LabLink:
    """Asks a lab of this process what a server would ask it."""

    def __init__(self, kms: Any) -> None:
        self.kms = kms
        self.asked: list[str] = []
        self.faults: list[Exception] = []

    def send(self, action: str, request: Mapping[str, Any]) -> Reply:
        self.asked.append(action)
        if self.faults:
            raise self.faults.pop(0)
        envelope = self.answer(action, json.loads(json.dumps(request)))
        if "Response" in envelope:
            return Reply(envelope, envelope["Response"]["RequestId"])
        return Reply(envelope, "eop-request", int(envelope["code"]))

    def answer(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.kms.call(action, request)
        return found

    def close(self) -> None:
        pass


class CloudLink(LabLink):
    """A lab that plays a cloud: no blob of it has the lab's magic, and with `calls` only those are
    there, as with a cloud of which no more is known."""

    def __init__(self, kms: Any, calls: Sequence[str] = ()) -> None:
        super().__init__(kms)
        self.calls = calls
        self._inside: dict[str, str] = {}
        self._outside: dict[str, str] = {}

    def send(self, action: str, request: Mapping[str, Any]) -> Reply:
        if self.calls and action not in self.calls:
            self.asked.append(action)
            return Reply({}, "gateway", 404)
        return super().send(action, request)

    def answer(self, action: str, request: dict[str, Any]) -> dict[str, Any]:
        name = "CiphertextBlob" if self.kms.provider == TENCENT else "ciphertextBlob"
        if name in request:
            request[name] = self._inside.get(request[name], request[name])
        envelope = super().answer(action, request)
        told = envelope.get("Response") or envelope.get("data") or {}
        if name in told:
            after = request.get("DestinationEncryptionContext", request.get("EncryptionContext"))
            told[name] = self._cloud_blob(told[name], after)
        return envelope

    def _cloud_blob(self, text: str, context: str | None) -> str:
        if text not in self._outside:
            made = self._tencent(text, context) if "-k-" in text else self._ctyun(text)
            self._outside[text], self._inside[made] = made, text
        return self._outside[text]

    def _tencent(self, text: str, context: str | None) -> str:
        """s1 for the key, s2 for the context, and s3 as it is: as in the public samples."""
        key = self.kms.key_of(text)
        s1 = _b64(hashlib.sha512(f"fingerprint {key}".encode()).digest())
        s2 = _b64(hashlib.md5(context.encode()).digest()) if context else NO_CONTEXT
        return "-k-".join((s1, s2, text.split("-k-")[2]))

    def _ctyun(self, text: str) -> str:
        """The header as it is, and a body of whole blocks."""
        head = base64.b64decode(text)[:HEADER_BYTES]
        return _b64(head + hashlib.sha256(text.encode()).digest()[:16])


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def access(provider: str, **changed: Any) -> Access:
    """Whom a remote without a network calls."""
    given: dict[str, Any] = {
        "region": REGIONS[provider],
        "endpoint": Endpoint.parse("kms.test"),
        "secret_id": "id-of-a-test",
        "secret_key": Secret(SECRET_KEY.encode()),
        "rate": 1e6,
    }
    return Access(provider, **{**given, **changed})


def remote_over(link: Link, provider: str, clock: Clock | None = None, **changed: Any) -> Remote:
    """A remote that asks this link."""
    kind = TencentRemote if provider == TENCENT else CtyunRemote
    return kind(access(provider, **changed), link, clock or SystemClock())


def remotes_over(*links: LabLink, clock: Clock | None = None, **changed: Any) -> Remotes:
    """The remotes that ask these links."""
    return Remotes([remote_over(each, each.kms.provider, clock, **changed) for each in links])


def write_records(path: Path, records: Sequence[Record]) -> Path:
    """A CSV file of records."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for each in records:
            cells = (each.record_id, each.provider, each.ciphertext_blob, each.context)
            writer.writerow([cell or "" for cell in (*cells, each.region, each.account)])
    return path


def blobs_of(path: Path) -> dict[str, str]:
    """The blobs of a CSV file, read by something that is not kmslab."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["record_id"]: row["ciphertext_blob"] for row in csv.DictReader(file)}


def ground_on(providers: Remotes, folder: Path, **given: Any) -> Ground:
    """What a campaign stands on."""
    return Ground(providers, State.of(None, str(folder / "state")), SystemClock(), **given)


class Server:
    """A lab that is served, and can be stopped and started again on the same port."""

    def __init__(self, lab: Lab, *, rate_limit: bool) -> None:
        self.made = lab.credentials.create("remote")
        self.text = io.StringIO()
        self.port = 0
        self._log = JsonLog(self.text, SystemClock())
        self._make = lambda: make_app(lab, rate_limit=rate_limit, log=self._log)
        self._server: Any = None
        self._loop: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        place = Place(port=self.port)
        listener = listen(place)
        self.port = listener.getsockname()[1]
        self._server = server_of(self._make(), place)

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[listener])

        def work() -> None:
            with listener:
                asyncio.run(serve())

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def stop(self, *, at_once: bool = False) -> None:
        """`at_once` cuts connections off, as the end of a process does."""
        if self._thread is not None:
            if at_once:
                self._loop.call_soon_threadsafe(self._cut)
            else:
                self._server.should_exit = True
            self._thread.join(60)
            self._thread = None

    def _cut(self) -> None:
        for each in self._server.servers:
            each.close()

        def abort() -> None:
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()
            self._server.should_exit = True

        self._loop.call_later(0.05, abort)  # those that are being accepted are there by then

    @property
    def environment(self) -> dict[str, str]:
        """The credential, where each vendor's tools look for it."""
        key = self.made.secret_key.expose().decode()
        who = self.made.credential.secret_id
        return {
            "TENCENTCLOUD_SECRET_ID": who,
            "TENCENTCLOUD_SECRET_KEY": key,
            "CTYUN_AK": who,
            "CTYUN_SK": key,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def codes(self, action: str) -> list[str]:
        """The codes of the answers to one action."""
        return [line["code"] for line in self._lines(action)]

    def times(self, action: str) -> list[float]:
        """When one action was answered, in seconds, in order."""
        return sorted(
            datetime.fromisoformat(line["time"]).timestamp() for line in self._lines(action)
        )

    def _lines(self, action: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self.text.getvalue().splitlines())
        return [line for line in lines if line.get("action", "").lower() == action.lower()]


@contextlib.contextmanager
def served(lab: Lab, *, rate_limit: bool = False) -> Iterator[Server]:
    """A server while the block runs."""
    server = Server(lab, rate_limit=rate_limit)
    server.start()
    try:
        yield server
    finally:
        server.stop()
