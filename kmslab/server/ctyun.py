"""The door for CTyun's clients: requests under `/v1/cmkManage/`, signed with EOP.

What is signed: reference/ctyun.md section 5. `reEncrypt` is documented (seed 004); the other calls
are the lab's own (docs/wire.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import parse_qsl

from kmslab.errors import (
    FormatError,
    KmsError,
    MissingParameter,
    RequestTooLarge,
    SignatureMismatch,
    Unauthenticated,
    UnknownAction,
    UnknownParameter,
)
from kmslab.model import CTYUN
from kmslab.providers.ctyun import codes, signing
from kmslab.providers.ctyun.wire import CALLS
from kmslab.server.answers import OK, Envelope, Known, encoded, envelope_of
from kmslab.server.bodies import read_json
from kmslab.server.callers import Callers
from kmslab.server.exchange import Answer, Headers, Request, check_json_type
from kmslab.server.window import Window

MOST_BODY: Final = 1024 * 1024
"""The longest body; CTyun documents no limit, so this is the lab's choice."""

# Calls that touch neither the disk nor a private key, as a rule.
_QUICK: Final = frozenset(
    {"reEncrypt", "encrypt", "decrypt", "generateDataKey", "generateDataKeyWithoutPlaintext"}
)
_QUICK_BYTES: Final = 64 * 1024
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class CtyunDoor:
    """Answers the requests of CTyun's clients."""

    provider = CTYUN

    def __init__(self, callers: Callers, window: Window) -> None:
        self._callers = callers
        self._window = window

    def most_bytes(self, _headers: Headers) -> int:
        """The longest body that a request may have."""
        return MOST_BODY

    def quick(self, request: Request) -> bool:
        """Whether `answer` is soon done, as far as can be told before it is asked."""
        return request.path in _QUICK and len(request.body or b"") <= _QUICK_BYTES

    def answer(self, request: Request) -> Answer:
        """The answer to a request, whatever it is."""
        known = Known(request_id=_told_id(request.headers))
        envelope = envelope_of(
            known,
            lambda: self._envelope(request, known),
            lambda error: self._refused(error, known),
        )
        return Answer(
            status=int(envelope["code"]),
            body=encoded(envelope),
            code=envelope["errorCode"] or OK,
            action=known.action,
            caller=known.caller,
            request_id=known.request_id,
            problem=known.problem,
        )

    def _refused(self, error: KmsError, known: Known) -> Envelope:
        if isinstance(error, Unauthenticated) and known.claimed:
            known.caller = self._callers.known(known.claimed)
        return _refusal(codes.code_of(error, known.action))

    def _envelope(self, request: Request, known: Known) -> Envelope:
        if request.path in CALLS:
            known.action = request.path
        if request.method != "POST":
            raise UnknownAction("a call is a POST")
        if request.body is None:
            raise RequestTooLarge(f"a body has {MOST_BODY} bytes at most")
        access_key = self._authenticate(request, request.body, known)
        if request.query:
            raise UnknownParameter("a call has no parameters in its query")
        region = request.headers.text("regionid")
        if not region:
            raise MissingParameter("the header regionId is needed", parameter="regionId")
        caller = self._callers.ctyun(access_key, region)
        known.caller = caller.name
        check_json_type(request.headers)
        # The official client leaves out a body that would be empty.
        body: Any = read_json(request.body) if request.body else {}
        return caller.kms.call(request.path, body)

    def _authenticate(self, request: Request, body: bytes, known: Known) -> str:
        headers = request.headers
        said = _authorization(headers.text("eop-authorization") or "")
        known.claimed = said.access_key
        request_id = headers.text(signing.REQUEST_ID) or ""
        if not _REQUEST_ID.fullmatch(request_id):
            raise Unauthenticated(f"the header {signing.REQUEST_ID} is needed, once")
        # The documented sample has no Eop-date, but this.
        date = headers.text(signing.EOP_DATE) or headers.text("requestdate") or ""
        times = _times(date)
        self._window.check(*times)
        secret_key = self._callers.secret_key(said.access_key)
        stand_in = {signing.EOP_DATE: date.encode("ascii")}
        covered = [
            (name, stand_in.get(name) or headers.raw(name) or b"") for name in said.signed_headers
        ]
        for query in _queries(request.query):
            text = signing.string_to_sign(covered, query, body)
            made = signing.eop_signature(secret_key, said.access_key, date, text)
            if compare_digest(made, said.signature):
                self._window.use_up(said.access_key, request_id, *times)
                return said.access_key
        raise SignatureMismatch("the signature is not that of the request")


def _told_id(headers: Headers) -> str:
    """The request id where it may be told in a log: what is no UUID may hold anything."""
    request_id = headers.text(signing.REQUEST_ID) or ""
    return request_id if _UUID.fullmatch(request_id) else ""


def _refusal(code: str) -> Envelope:
    status, message = codes.status_of(code), codes.message_of(code)
    return {"code": str(status), "errorCode": code, "msg": message, "data": None}


def _authorization(text: str) -> signing.Authorization:
    try:
        said = signing.Authorization.read(text)
    except FormatError as error:
        raise Unauthenticated(str(error)) from None
    names = said.signed_headers
    if not set(names) >= signing.COMPULSORY or len(set(names)) != len(names):
        raise Unauthenticated("the signature covers the request id and the date, each once")
    return said


def _times(date: str) -> list[float]:
    try:
        return [moment.timestamp() for moment in signing.moments_of(date)]
    except (FormatError, OverflowError) as error:
        raise Unauthenticated(f"Eop-date: {error}") from None


def _queries(raw: bytes) -> Iterator[bytes]:
    """What a client may have signed for a query: as it is sent, or sorted and encoded anew."""
    yield raw
    if raw:
        yield signing.canonical_query(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))
