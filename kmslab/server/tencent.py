"""The door for Tencent Cloud's clients: requests on `/`, signed with TC3 or version 1.

What is signed, and how it is answered: reference/tencent.md section 6. Every answer has HTTP
status 200, since the official client looks into no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Final
from uuid import uuid4

from kmslab.errors import (
    FormatError,
    InvalidRequest,
    KmsError,
    MissingParameter,
    RequestTooLarge,
    SignatureMismatch,
    Unauthenticated,
    UnknownParameter,
    UnknownToken,
    UnknownVersion,
    UnsupportedProtocol,
)
from kmslab.model import TENCENT
from kmslab.providers.tencent import codes, signing
from kmslab.providers.tencent.wire import ACTIONS, UNSUPPORTED, VERSION
from kmslab.server.answers import OK, Envelope, Known, encoded, envelope_of
from kmslab.server.bodies import read_json, read_pairs, unflatten
from kmslab.server.callers import Callers
from kmslab.server.exchange import Answer, Headers, Request, check_json_type, needed
from kmslab.server.window import Window

# Limits of the transport (reference/tencent.md section 4).
MOST_QUERY: Final = 32 * 1024
MOST_TC3_BODY: Final = 10 * 1024 * 1024
MOST_V1_BODY: Final = 1024 * 1024

FORM: Final = "application/x-www-form-urlencoded"

# Calls that touch neither the disk nor a private key, as a rule.
_QUICK: Final = frozenset({"ReEncrypt", "Encrypt", "Decrypt", "GenerateDataKey", "GenerateRandom"})
_QUICK_BYTES: Final = 64 * 1024
_COMMON: Final = frozenset(
    {
        "Action",
        "Language",
        "Nonce",
        "Region",
        "RequestClient",
        "SecretId",
        "Signature",
        "SignatureMethod",
        "Timestamp",
        "Token",
        "Version",
    }
)
_KNOWN_NAMES: Final = _COMMON.union(
    parameter.name for action in ACTIONS.values() for parameter in action.parameters
)
_LIKE_A_NAME = re.compile(r"&([A-Za-z0-9]+)(?:[._][^&=]*)?=")
_LANGUAGES: Final = ("zh-CN", "en-US")  # of messages, the usual one first
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request whose signature is right."""

    secret_id: str
    action: str
    version: str
    region: str
    parameters: object


class TencentDoor:
    """Answers the requests of Tencent Cloud's clients."""

    provider = TENCENT

    def __init__(self, callers: Callers, window: Window) -> None:
        self._callers = callers
        self._window = window

    def most_bytes(self, headers: Headers) -> int:
        """The longest body that such a request may have."""
        return MOST_V1_BODY if headers.raw("authorization") is None else MOST_TC3_BODY

    def quick(self, request: Request) -> bool:
        """Whether `answer` is soon done, as far as can be told before it is asked."""
        named = request.headers.text("x-tc-action")
        return named in _QUICK and len(request.body or b"") <= _QUICK_BYTES

    def answer(self, request: Request) -> Answer:
        """The answer to a request, whatever it is."""
        known = Known(language=_LANGUAGES[0])
        envelope = envelope_of(
            known,
            lambda: self._envelope(request, known),
            lambda error: self._refused(error, known),
        )
        response = envelope["Response"]
        return Answer(
            status=200,
            body=encoded(envelope),
            code=response["Error"]["Code"] if "Error" in response else OK,
            action=known.action,
            caller=known.caller,
            request_id=response["RequestId"],
            problem=known.problem,
        )

    def _refused(self, error: KmsError, known: Known) -> Envelope:
        if isinstance(error, Unauthenticated) and known.claimed:
            known.caller = self._callers.known(known.claimed)
        return _refusal(codes.code_of(error, known.action), known)

    def _envelope(self, request: Request, known: Known) -> Envelope:
        _note_language(known, request.headers.text("x-tc-language"))
        if request.method not in ("GET", "POST"):
            raise UnsupportedProtocol("a request is a GET or a POST")
        if request.body is None or len(request.query) > MOST_QUERY:
            raise RequestTooLarge("the request is too large")
        signed = request.headers.raw("authorization") is not None
        call = self._tc3(request, known) if signed else self._v1(request, known)
        if call.version != VERSION:
            raise UnknownVersion(f"the version is {VERSION}", parameter="Version")
        caller = self._callers.tencent(call.secret_id, call.region)
        known.caller = caller.name
        if call.action in ACTIONS or call.action in UNSUPPORTED:
            known.action = call.action
        # Whatever it is, the parameters are looked at there.
        parameters: Any = call.parameters
        return caller.kms.call(call.action, parameters, language=known.language)

    # TC3-HMAC-SHA256

    def _tc3(self, request: Request, known: Known) -> _Call:
        headers = request.headers
        said = _authorization(needed(headers, "authorization", "Authorization"))
        known.claimed = said.secret_id
        timestamp = _timestamp(needed(headers, "x-tc-timestamp", "X-TC-Timestamp"))
        self._window.check(timestamp)
        self._check_tc3(request, said, timestamp)
        _check_token(headers.text("x-tc-token"))
        action = needed(headers, "x-tc-action", "X-TC-Action")
        return _Call(
            said.secret_id,
            action,
            needed(headers, "x-tc-version", "X-TC-Version"),
            needed(headers, "x-tc-region", "X-TC-Region"),
            _tc3_parameters(request, action),
        )

    def _check_tc3(self, request: Request, said: signing.Authorization, timestamp: int) -> None:
        secret_key = self._callers.secret_key(said.secret_id)
        if said.date != signing.date_of(timestamp):
            raise SignatureMismatch("the date of the signature is not that of X-TC-Timestamp")
        payload = request.body or b""
        if request.headers.raw("x-tc-content-sha256") == signing.UNSIGNED_PAYLOAD:
            payload = signing.UNSIGNED_PAYLOAD
        covered = [(name, request.headers.raw(name) or b"") for name in said.signed_headers]
        # The documents ask for lower-case values, the official client signs them as they are.
        for values in (covered, [(name, value.lower()) for name, value in covered]):
            canonical = signing.canonical_request(request.method, request.query, values, payload)
            text = signing.string_to_sign(timestamp, canonical)
            made = signing.tc3_signature(secret_key, said.date, text)
            if compare_digest(made, said.signature):
                return
        raise SignatureMismatch("the signature is not that of the request")

    # Version 1

    def _v1(self, request: Request, known: Known) -> _Call:
        pairs = _v1_pairs(request)
        _note_language(known, pairs.get("Language"))
        if "Signature" not in pairs:
            raise Unauthenticated("the request has no signature")
        for name in ("SecretId", "Timestamp", "Nonce", "Action", "Version", "Region"):
            if not pairs.get(name):
                raise MissingParameter(f"{name} is needed", parameter=name)
        known.claimed = pairs["SecretId"]
        self._check_v1(request, pairs)
        _check_token(pairs.get("Token"))
        action = pairs["Action"]
        business = {name: value for name, value in pairs.items() if name not in _COMMON}
        return _Call(
            pairs["SecretId"], action, pairs["Version"], pairs["Region"], _typed(action, business)
        )

    def _check_v1(self, request: Request, pairs: Mapping[str, str]) -> None:
        method = pairs.get("SignatureMethod") or "HmacSHA1"
        if method not in signing.V1_METHODS:
            raise InvalidRequest("SignatureMethod is HmacSHA1 or HmacSHA256")
        timestamp = _timestamp(pairs["Timestamp"])
        self._window.check(timestamp)
        if not _NUMBER.fullmatch(pairs["Nonce"]):
            raise InvalidRequest("Nonce is a positive number", parameter="Nonce")
        secret_key = self._callers.secret_key(pairs["SecretId"])
        signed = [(name, value) for name, value in pairs.items() if name != "Signature"]
        host = request.headers.raw("host") or b""
        _check_one_reading(host, signed)
        text = signing.v1_string(request.method, host, signed)
        made = signing.v1_signature(secret_key, text, method)
        if not compare_digest(made.encode(), pairs["Signature"].encode("utf-8", "surrogatepass")):
            raise SignatureMismatch("the signature is not that of the request")
        self._window.use_up(pairs["SecretId"], pairs["Nonce"], timestamp)


def _check_one_reading(host: bytes, pairs: Iterable[tuple[str, str]]) -> None:
    """InvalidRequest for what version 1 signs just as another request: it encodes no value, so
    that one with `&Limit=1` in it looks like two parameters, and a host with a slash like some."""
    if b"/" in host:
        raise InvalidRequest("a host has no slash", parameter="Host")
    for name, value in pairs:
        if "&" in value and not _KNOWN_NAMES.isdisjoint(_LIKE_A_NAME.findall(value)):
            raise InvalidRequest("a value looks like a further parameter", parameter=name)


def _refusal(code: str, known: Known) -> Envelope:
    error = {"Code": code, "Message": codes.message_of(code, known.language)}
    return {"Response": {"Error": error, "RequestId": str(uuid4())}}


def _note_language(known: Known, said: str | None) -> None:
    if said in _LANGUAGES:
        known.language = str(said)


def _authorization(text: str) -> signing.Authorization:
    try:
        said = signing.Authorization.read(text)
    except FormatError as error:
        raise Unauthenticated(str(error)) from None
    names = said.signed_headers
    if not set(names) >= signing.COMPULSORY or len(set(names)) != len(names):
        raise Unauthenticated("the signature covers content-type and host, each once")
    if said.service != signing.SERVICE:
        raise Unauthenticated(f"the signature is for the service {signing.SERVICE}")
    return said


def _timestamp(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest("a timestamp is in whole seconds", parameter="Timestamp")
    return int(text)


def _check_token(token: str | None) -> None:
    if token:
        raise UnknownToken("a lab has no temporary credentials")


def _tc3_parameters(request: Request, action: str) -> object:
    body = request.body or b""
    if request.method == "GET":
        if body:
            raise InvalidRequest("a GET has no body")
        return _typed(action, read_pairs(request.query))
    if request.query:
        raise UnknownParameter("a POST has its parameters in the body")
    check_json_type(request.headers)
    return read_json(body)


def _v1_pairs(request: Request) -> dict[str, str]:
    if request.method == "GET":
        if request.body:
            raise InvalidRequest("a GET has no body")
        return read_pairs(request.query)
    if request.query:
        raise UnknownParameter("a POST has its parameters in the body")
    if (request.headers.text("content-type") or "").partition(";")[0].strip().lower() != FORM:
        raise Unauthenticated("the request has no Authorization")
    return read_pairs(request.body or b"")


def _typed(action: str, pairs: Mapping[str, str]) -> dict[str, Any]:
    found = ACTIONS.get(action)
    return dict(pairs) if found is None else unflatten(pairs, found.parameters)
