"""The signatures, by the vectors of reference/tencent.md 7 and ctyun.md 5, and by the clients."""

from __future__ import annotations

import json

import pytest
from ctyun_python_sdk_core import sign_util
from ctyun_python_sdk_core.credential import Credential
from hypothesis import given
from hypothesis import strategies as st
from tencentcloud.common.sign import Sign

from kmslab.errors import FormatError
from kmslab.providers.ctyun import signing as eop
from kmslab.providers.tencent import signing as tc3

KEY = b"SECRETexample"
TIMESTAMP = 1795298580
HEADERS = (("content-type", b"application/json"), ("host", b"127.0.0.1:18081"))
BODY = (
    b'{"CiphertextBlob": "Ade234dasdeEWdGVzdCUyMHBsYWlJJlIHL", "DestinationKeyId": '
    b'"23e80852-1e38-11e9-b129-5cb9019b4b01", "DestinationEncryptionContext": '
    b'"{\\"k\\":\\"v v+/=\\"}"}'
)
AUTHORIZATION = (
    "TC3-HMAC-SHA256 Credential=AKIDexample/2026-11-21/kms/tc3_request, "
    "SignedHeaders=content-type;host, "
    "Signature=5fa1de2a2021e3f330063b9374babb488f1043dd401f4e62e0509df044fa3abb"
)


def test_tc3_gives_the_signature_that_the_client_sent() -> None:
    said = tc3.Authorization.read(AUTHORIZATION)
    canonical = tc3.canonical_request("POST", b"", HEADERS, BODY)
    text = tc3.string_to_sign(TIMESTAMP, canonical)
    assert tc3.tc3_signature(KEY, tc3.date_of(TIMESTAMP), text) == said.signature
    assert said.text() == AUTHORIZATION
    assert (said.secret_id, said.service) == ("AKIDexample", "kms")


def test_tc3_gives_the_signature_that_tccli_sent() -> None:
    headers = (HEADERS[0], ("host", b"http://127.0.0.1:18091"))
    canonical = tc3.canonical_request("POST", b"", headers, b'{"CiphertextBlob": "abc"}')
    text = tc3.string_to_sign(1795298608, canonical)
    expected = "ef65ad577410c862d4ebd1e9517a8c4a246df109891cc41d9e74a48c5c788059"
    assert tc3.tc3_signature(KEY, "2026-11-21", text) == expected


@given(st.binary(max_size=40), st.sampled_from(sorted(tc3.V1_METHODS)))
def test_version_1_gives_the_clients_signature(text: bytes, method: str) -> None:
    text = text.hex().encode()
    assert tc3.v1_signature(KEY, text, method) == Sign.sign(KEY.decode(), text.decode(), method)


def test_version_1_signs_values_as_they_are() -> None:
    pairs = [("Version", "2019-01-18"), ("Action", "Encrypt"), ("Plaintext", "v v+/=订")]
    text = tc3.v1_string("POST", b"localhost:1", [*pairs, ("Tags_0", "")])
    expected = "POSTlocalhost:1/?Action=Encrypt&Plaintext=v v+/=订&Tags.0=&Version=2019-01-18"
    assert text.decode() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SKIP",
        AUTHORIZATION + " ",
        AUTHORIZATION.replace("5fa1", "5FA1"),
        AUTHORIZATION.replace("5fa1", ""),
        AUTHORIZATION.replace("content-type;host", ""),
        AUTHORIZATION.replace("AKIDexample", ""),
        AUTHORIZATION.replace("TC3-HMAC-SHA256", "TC3-HMAC-SHA1"),
        AUTHORIZATION.replace("2026", "２０２６"),
    ],
)
def test_what_is_no_tc3_authorization_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        tc3.Authorization.read(text)


EOP_DATE = "20221101T154654Z"
REQUEST_ID = "89bf1559-a96e-4bc9-98fc-394d169a42e4"
EOP_BODY = b'{"ciphertextBlob": "QUJD", "destinationKeyId": "db4e73de-def5-4702-9dbb-6387f05ae0d8"}'
EOP_HEADERS = ((eop.REQUEST_ID, REQUEST_ID.encode()), (eop.EOP_DATE, EOP_DATE.encode()))


def test_eop_gives_the_vectors_signature() -> None:
    text = eop.string_to_sign(EOP_HEADERS, b"", EOP_BODY)
    expected = "k+Laum1Pqb5jwxS6llpy1Yl7nOMVECtMA+mq+GbHBFo="
    assert eop.eop_signature(b"SKtest", "AKtest", EOP_DATE, text) == expected


@given(
    query=st.dictionaries(st.text("abc", min_size=1), st.text(max_size=8), max_size=3),
    body=st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=2),
)
def test_eop_gives_the_clients_signature(query: dict[str, str], body: dict[str, str]) -> None:
    said = sign_util.sign(Credential("AKtest", "SKtest"), query, body, REQUEST_ID, EOP_DATE)
    sent = json.dumps(body).encode() if body else b""
    text = eop.string_to_sign(EOP_HEADERS, eop.canonical_query(query.items()), sent)
    signature = eop.eop_signature(b"SKtest", "AKtest", EOP_DATE, text)
    expected = eop.Authorization("AKtest", (eop.REQUEST_ID, eop.EOP_DATE), signature)
    assert said == expected.text()
    assert eop.Authorization.read(said) == expected


def test_the_seeds_authorization_is_read() -> None:
    said = eop.Authorization.read(
        "91ef73a6329545c294be1d5c763bdf7e Headers=ctyun-eop-request-id;eop-date "
        "Signature=2mc3zggaqLEGTSVy2H8lWsFEm+BNJf0CrcomDSOxPfc="
    )
    assert said.access_key == "91ef73a6329545c294be1d5c763bdf7e"
    assert set(said.signed_headers) == eop.COMPULSORY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ak",
        "ak Headers= Signature=k+Laum1Pqb5jwxS6llpy1Yl7nOMVECtMA+mq+GbHBFo=",
        "ak Headers=eop-date Signature=k+Laum1Pqb5jwxS6llpy1Yl7nOMVECtMA+mq+GbHBFo",
        " Headers=eop-date Signature=k+Laum1Pqb5jwxS6llpy1Yl7nOMVECtMA+mq+GbHBFo=",
        "ak Headers=eop-date Signature=k+Laum1Pqb5jwxS6llpy1Yl7nOMVECtMA+mq+GbHBFo=\n",
    ],
)
def test_what_is_no_eop_authorization_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        eop.Authorization.read(text)


@pytest.mark.parametrize("date", ["", "20221101T154654", "20221301T154654Z", "２0221101T154654Z"])
def test_what_is_no_eop_date_is_refused(date: str) -> None:
    with pytest.raises(FormatError):
        eop.moments_of(date)
