"""A server on loopback in a thread of its own, the official clients, and requests made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from ctyun_python_sdk_core.credential import Credential as CtyunCredential
from ctyun_python_sdk_core.ctyun_client import CtyunClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.kms.v20190118 import models
from tencentcloud.kms.v20190118.kms_client import KmsClient

from kmslab import Lab
from kmslab.lab import REGIONS
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.ctyun import signing as eop
from kmslab.providers.tencent import signing as tc3
from kmslab.server.app import make_app
from kmslab.server.logs import JsonLog
from kmslab.server.running import Place, listen, server_of

REGION = REGIONS[TENCENT]
REGION_ID = REGIONS[CTYUN]


@dataclass(frozen=True)
class Reply:
    """An answer over the wire."""

    status: int
    content_type: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The provider's error code, "" for success."""
        if "Response" in self.json:
            return str(self.json["Response"].get("Error", {}).get("Code", ""))
        return str(self.json["errorCode"] or "")


@dataclass(frozen=True)
class Tc3:
    """A TC3 request as the official client makes it; what is changed is signed too, unless it is
    changed after `signed`."""

    secret_id: str
    secret_key: bytes
    host: str
    action: str = "ListKeys"
    body: bytes = b"{}"
    method: str = "POST"
    query: bytes = b""
    timestamp: int | None = None
    version: str = "2019-01-18"
    region: str = REGION
    content_type: str = "application/json"
    signed_headers: tuple[str, ...] = ("content-type", "host")
    payload: bytes | None = None
    lower: bool = False

    def headers(self) -> dict[str, str]:
        timestamp = int(time.time()) if self.timestamp is None else self.timestamp
        headers = {
            "Host": self.host,
            "Content-Type": self.content_type,
            "X-TC-Action": self.action,
            "X-TC-Version": self.version,
            "X-TC-Region": self.region,
            "X-TC-Timestamp": str(timestamp),
            "X-TC-Language": "en-US",
        }
        known = {name.lower(): value.encode() for name, value in headers.items()}
        pairs = [(n, known[n].lower() if self.lower else known[n]) for n in self.signed_headers]
        payload = self.body if self.payload is None else self.payload
        canonical = tc3.canonical_request(self.method, self.query, pairs, payload)
        date = tc3.date_of(timestamp)
        text = tc3.string_to_sign(timestamp, canonical)
        signature = tc3.tc3_signature(self.secret_key, date, text)
        said = tc3.Authorization(self.secret_id, date, "kms", self.signed_headers, signature)
        return {**headers, "Authorization": said.text()}


@dataclass(frozen=True)
class Eop:
    """An EOP request as the official client makes it."""

    access_key: str
    secret_key: bytes
    call: str = "listKeys"
    body: bytes = b"{}"
    query: bytes = b""
    request_id: str = ""
    date: str = ""
    date_header: str = "Eop-date"
    signed_headers: tuple[str, ...] = (eop.REQUEST_ID, eop.EOP_DATE)
    region: str = REGION_ID
    content_type: str = "application/json;charset=UTF-8"

    def headers(self) -> dict[str, str]:
        date = self.date or eop.eop_date(datetime.now(UTC))
        request_id = self.request_id or str(uuid.uuid4())
        headers = {
            "Content-Type": self.content_type,
            "ctyun-eop-request-id": request_id,
            "regionId": self.region,
        }
        known = {name.lower(): value.encode() for name, value in headers.items()}
        known[eop.EOP_DATE] = date.encode()
        text = eop.string_to_sign(
            [(n, known[n]) for n in self.signed_headers], self.query, self.body
        )
        signature = eop.eop_signature(self.secret_key, self.access_key, date, text)
        said = eop.Authorization(self.access_key, self.signed_headers, signature)
        return {**headers, self.date_header: date, "Eop-Authorization": said.text()}


@dataclass(frozen=True)
class Wire:
    """A lab that is served, and a credential for it that may do everything."""

    lab: Lab
    port: int
    secret_id: str
    secret_key: str
    log: io.StringIO

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    # The official clients

    def tencent(self, *, method: str = "POST", sign: str = "", **options: Any) -> KmsClient:
        """The official client of Tencent Cloud."""
        options = {"endpoint": self.host, "region": REGION, "key": self.secret_key, **options}
        place = HttpProfile(
            protocol="http", endpoint=options["endpoint"], reqMethod=method, reqTimeout=20
        )
        profile = ClientProfile(httpProfile=place, signMethod=sign or "TC3-HMAC-SHA256")
        who = Credential(options.get("id", self.secret_id), options["key"], options.get("token"))
        return KmsClient(who, options["region"], profile)

    def ctyun(self, call: str, body: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """The official client of CTyun makes a call; the response of requests."""
        headers = {"regionId": REGION_ID, **options.get("headers", {})}
        who = CtyunCredential(self.secret_id, options.get("key", self.secret_key))
        with contextlib.redirect_stdout(io.StringIO()):
            return CtyunClient().request(
                f"{self.url}/v1/cmkManage/{call}",
                "POST",
                headers={k: v for k, v in headers.items() if v is not None},
                params=options.get("params", {}),
                body=body,
                credential=who,
            )

    # Requests made by hand

    def tc3(self, **fields: Any) -> Tc3:
        return replace(Tc3(self.secret_id, self.secret_key.encode(), self.host), **fields)

    def eop(self, **fields: Any) -> Eop:
        return replace(Eop(self.secret_id, self.secret_key.encode()), **fields)

    def send_tc3(self, request: Tc3 | None = None, **changed: str | None) -> Reply:
        """Send a TC3 request, some headers changed after it was signed."""
        request = request or self.tc3()
        target = "/" + (f"?{request.query.decode('latin-1')}" if request.query else "")
        headers = _changed(request.headers(), changed)
        return self.send(request.method, target, headers, request.body)

    def send_eop(self, request: Eop | None = None, **changed: str | None) -> Reply:
        """Send an EOP request, some headers changed after it was signed."""
        request = request or self.eop()
        query = f"?{request.query.decode('latin-1')}" if request.query else ""
        headers = _changed(request.headers(), changed)
        return self.send("POST", f"/v1/cmkManage/{request.call}{query}", headers, request.body)

    def v1(self, method: str = "GET", *, sign: str = "HmacSHA1", **fields: str | None) -> bytes:
        """The query or form of a request of version 1; fields that are None are left out."""
        pairs: dict[str, str | None] = {
            "Action": "ListKeys",
            "Version": "2019-01-18",
            "Region": REGION,
            "Timestamp": str(int(time.time())),
            "Nonce": str(uuid.uuid4().int >> 66),
            "SecretId": self.secret_id,
            "SignatureMethod": sign,
            **fields,
        }
        given = {name: value for name, value in pairs.items() if value is not None}
        text = tc3.v1_string(method, self.host.encode(), given.items())
        signature = tc3.v1_signature(self.secret_key.encode(), text, sign)
        return urlencode({"Signature": signature, **given}).encode()

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Reply:
        """Send a request just as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": self.host, **headers}.items():
                connection.putheader(name, value)
            if body or method == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheader("Content-Type", ""), answer.read())
        finally:
            connection.close()


def _changed(headers: dict[str, str], changed: Mapping[str, str | None]) -> dict[str, str]:
    """`x_tc_action=` names a header; None takes it away."""
    names = {name.lower(): name for name in headers}
    found: dict[str, str | None] = dict(headers)
    for key, value in changed.items():
        name = key.replace("_", "-")
        found[names.get(name.lower(), name)] = value
    return {name: value for name, value in found.items() if value is not None}


@contextlib.contextmanager
def serving(lab: Lab, *, rate_limit: bool = False, **options: Any) -> Iterator[Wire]:
    """Serve a lab in a thread while the block runs."""
    text = io.StringIO()
    log = JsonLog(text, lab._keystore.clock)
    made = lab.credentials.create(f"wire-{uuid.uuid4().hex[:8]}")
    server = server_of(make_app(lab, rate_limit=rate_limit, log=log, **options), Place())
    with listen(Place()) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            secret_key = made.secret_key.expose().decode()
            port = listener.getsockname()[1]
            yield Wire(lab, port, made.credential.secret_id, secret_key, text)
        finally:
            server.should_exit = True
            thread.join(60)
            log.close()
    assert not thread.is_alive()


def typed(client: KmsClient, action: str, parameters: Mapping[str, Any]) -> Any:
    """A call by the client's own method and its own types."""
    request = getattr(models, f"{action}Request")()
    request.from_json_string(json.dumps(parameters))
    return getattr(client, action)(request)
