"""Requests to Tencent Cloud through the official SDK."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from functools import partial
from http.client import HTTPException
from typing import Any

from kmslab.model import TENCENT
from kmslab.providers import remote
from kmslab.providers.remote import Access, Endpoint, Reply


class SdkLink:
    """Requests through the official SDK, signed with TC3-HMAC-SHA256, each thread on a connection
    of its own. ProfileError where the SDK is not installed."""

    def __init__(self, access: Access) -> None:
        try:
            from tencentcloud.kms.v20190118 import kms_client  # noqa: F401
        except ModuleNotFoundError as error:
            raise remote.missing_extra(error, TENCENT) from None
        # It would write requests and answers whole wherever all debug messages are kept.
        logging.getLogger("tencentcloud_sdk_common").setLevel(logging.WARNING)
        self._access = access
        self._threads = threading.local()

    def send(self, action: str, request: Mapping[str, Any]) -> Reply:
        """See `Link.send`. A refusal comes back as the envelope that it was."""
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import (
            TencentCloudSDKException,
        )

        json.dumps(dict(request))  # so that a TypeError in the client is about the answer
        client = self._client()
        try:
            envelope = client.call_json(action, dict(request))
            code = None
        except TencentCloudSDKException as refusal:
            code, request_id = str(refusal.code), str(refusal.requestId or "")
            message = str(refusal.message)
        except (OSError, HTTPException):
            code, request_id = "ClientNetworkError", ""
        except (ValueError, LookupError, TypeError, RecursionError):
            # It takes any JSON for an envelope, and looks into it.
            code, request_id = "ServerNetworkError", ""
        # Out of the handlers: what the SDK raises holds the request, and would come along.
        if code is None and isinstance(envelope, dict):
            return Reply(envelope, _request_id(envelope))
        if code == "ClientNetworkError":
            raise remote.unreachable(self._access, "could not be reached")
        if code is None or code == "ServerNetworkError":
            raise remote.unreachable(self._access, "gave no answer of a KMS")
        failed = {"Code": code, "Message": message}
        return Reply({"Response": {"Error": failed, "RequestId": request_id}}, request_id)

    def close(self) -> None:
        """The SDK lets go of a connection when its thread ends."""
        self._threads = threading.local()

    def _client(self) -> Any:
        mine = self._threads  # another thread may put others in its place
        if not hasattr(mine, "client"):
            mine.client = _client_for(self._access)
        return mine.client


def _client_for(access: Access) -> Any:
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile
    from tencentcloud.kms.v20190118.kms_client import KmsClient

    endpoint, token = access.endpoint, access.token
    place = HttpProfile(
        protocol=endpoint.scheme, endpoint=endpoint.host, reqTimeout=int(remote.SECONDS)
    )
    who = Credential(
        access.secret_id,
        access.secret_key.expose().decode("utf-8"),
        None if token is None else token.expose().decode("utf-8"),
    )
    profile = ClientProfile(httpProfile=place, signMethod="TC3-HMAC-SHA256", language="en-US")
    client = KmsClient(who, access.region, profile)
    _keep_at_home(client.request.conn, endpoint)
    return client


def _keep_at_home(connection: Any, endpoint: Endpoint) -> None:
    """Let no answer send a request elsewhere, and no proxy have one that is for this machine."""
    session = connection._session
    session.request = partial(session.request, allow_redirects=False)
    if endpoint.scheme == "http":
        connection.proxy, session.trust_env = None, False


def _request_id(envelope: object) -> str:
    response = envelope.get("Response") if isinstance(envelope, Mapping) else None
    found = response.get("RequestId") if isinstance(response, Mapping) else None
    return found if isinstance(found, str) else ""
