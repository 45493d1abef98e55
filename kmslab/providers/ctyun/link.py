"""Requests to CTyun over HTTP, with the EOP signature."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kmslab.clock import Clock
from kmslab.model import CTYUN
from kmslab.providers import remote
from kmslab.providers.ctyun import signing
from kmslab.providers.remote import Access, Reply

if TYPE_CHECKING:
    import httpx

_PATH: Final = "/v1/cmkManage/"


class EopLink:
    """Requests over HTTP with the EOP signature, over connections that threads share.

    ProfileError where httpx is not installed.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise remote.missing_extra(error, CTYUN) from None
        self._access = access
        self._clock = clock
        self._failed = httpx.HTTPError
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def send(self, action: str, request: Mapping[str, Any]) -> Reply:
        """See `Link.send`. The request id is the one that was sent: CTyun's answers have none."""
        body = json.dumps(dict(request), ensure_ascii=False).encode("utf-8", "surrogatepass")
        request_id = str(uuid.uuid4())
        headers, client = self._signed(body, request_id), self._opened()
        response = None
        # What httpx raises holds the request. RuntimeError: another thread has closed the client.
        with suppress(self._failed, OSError, RuntimeError):
            response = client.post(f"{_PATH}{action}", content=body, headers=headers)
        if response is None:
            raise remote.unreachable(self._access, "could not be reached")
        try:
            envelope = json.loads(response.content)
        except (ValueError, RecursionError):
            envelope = None
        if not isinstance(envelope, dict):
            if not response.is_client_error:
                raise remote.unreachable(self._access, "gave no answer of a KMS")
            envelope = {}
        return Reply(envelope, request_id, response.status_code)

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _opened(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                endpoint, most = self._access.endpoint, remote.AT_ONCE
                tls = endpoint.scheme == "https"
                self._client = httpx.Client(
                    base_url=str(endpoint),
                    # Without TLS there is nothing to verify, and certificates take a while to load.
                    verify=tls,
                    trust_env=tls,  # no proxy has what is for this machine alone
                    timeout=remote.SECONDS,
                    limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
                )
            return self._client

    def _signed(self, body: bytes, request_id: str) -> dict[str, str]:
        access, date = self._access, signing.eop_date(self._clock.now())
        signed = ((signing.REQUEST_ID, request_id.encode()), (signing.EOP_DATE, date.encode()))
        text = signing.string_to_sign(signed, b"", body)
        signature = signing.eop_signature(access.secret_key.expose(), access.secret_id, date, text)
        names = tuple(name for name, _ in signed)
        return {
            "Content-Type": "application/json",
            "regionId": access.region,
            "ctyun-eop-request-id": request_id,
            "Eop-date": date,
            "Eop-Authorization": signing.Authorization(access.secret_id, names, signature).text(),
        }
