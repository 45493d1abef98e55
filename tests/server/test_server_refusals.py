"""Requests made by hand: whatever is wrong with one has its code, and never a 5xx."""

from __future__ import annotations

import errno
import json
import socket
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import pytest
from wire_server import REGION, Reply, Wire, serving

from kmslab import Lab, ManualClock
from kmslab.providers.ctyun import signing as eop
from kmslab.providers.tencent import signing as tc3
from kmslab.server import exchange
from kmslab.server.ctyun import MOST_BODY
from kmslab.server.tencent import MOST_QUERY, MOST_TC3_BODY, MOST_V1_BODY

SIGNATURE, EXPIRED = "AuthFailure.SignatureFailure", "AuthFailure.SignatureExpire"
AUTHORIZATION = "AuthFailure.InvalidAuthorization"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def ok(reply: Reply) -> None:
    assert (reply.status, reply.code) == (200, "")


def answered(reply: Reply) -> str:
    """The code of a refusal that Tencent's client can read: status 200, an exact type."""
    assert (reply.status, reply.content_type) == (200, "application/json")
    assert reply.json["Response"]["Error"]["Message"]
    return reply.code


def ctyun_answered(reply: Reply) -> tuple[int, str]:
    assert reply.content_type == "application/json"
    assert reply.json["code"] == str(reply.status)
    assert reply.json["data"] is None
    return reply.status, reply.code


def logged(wire: Wire) -> list[dict[str, Any]]:
    """The log of a server that has stopped."""
    return [json.loads(line) for line in wire.log.getvalue().splitlines()]


# Tencent Cloud, TC3


def test_a_request_made_by_hand_is_answered(wire: Wire) -> None:
    ok(wire.send_tc3())
    ok(wire.send_tc3(wire.tc3(content_type="application/json; charset=utf-8")))


@pytest.mark.parametrize(
    "signed",
    [("content-type", "host", "x-tc-action"), ("content-type", "host", "x-tc-timestamp")],
)
def test_what_is_signed_is_what_signed_headers_says(wire: Wire, signed: tuple[str, ...]) -> None:
    ok(wire.send_tc3(wire.tc3(signed_headers=signed)))
    # The documents' own example has the values in lower case.
    ok(wire.send_tc3(wire.tc3(signed_headers=signed, lower=True)))
    more = wire.tc3(signed_headers=(*signed, "x-tc-region"))
    assert answered(wire.send_tc3(more, x_tc_region="ap-beijing")) == SIGNATURE


@pytest.mark.parametrize("signed", [("host",), ("content-type",), ("content-type", "host", "host")])
def test_a_signature_must_cover_content_type_and_host(wire: Wire, signed: tuple[str, ...]) -> None:
    assert answered(wire.send_tc3(wire.tc3(signed_headers=signed))) == AUTHORIZATION


def test_an_unsigned_payload_is_taken_by_name(wire: Wire) -> None:
    request = wire.tc3(payload=b"UNSIGNED-PAYLOAD")
    ok(wire.send_tc3(request, x_tc_content_sha256="UNSIGNED-PAYLOAD"))
    assert answered(wire.send_tc3(request)) == SIGNATURE
    signed = wire.send_tc3(wire.tc3(), x_tc_content_sha256="UNSIGNED-PAYLOAD")
    assert answered(signed) == SIGNATURE


@pytest.mark.parametrize(
    "changed",
    [
        {"Host": "kms.tencentcloudapi.com"},
        {"Content_Type": "text/plain"},
        {"X_TC_Timestamp": str(int(time.time()) - 60)},
    ],
)
def test_what_is_signed_cannot_be_changed(wire: Wire, changed: dict[str, str]) -> None:
    assert answered(wire.send_tc3(**changed)) == SIGNATURE


def test_a_tampered_signature_or_body_fails(wire: Wire) -> None:
    headers = wire.tc3().headers()
    said = headers["Authorization"]
    for other in (said[:-1] + ("0" if said[-1] != "0" else "1"), said.replace("host", "hosu")):
        reply = wire.send_tc3(Authorization=other)
        assert answered(reply) in (SIGNATURE, AUTHORIZATION)
    body = b'{"Limit": 10}'
    headers = wire.tc3(body=body).headers()
    for sent in (body[:-1], body + b" ", body.replace(b"10", b"20"), b"", b"{}"):
        assert answered(wire.send("POST", "/", headers, sent)) == SIGNATURE


@pytest.mark.parametrize("skew", [-299, -290, 290, 299])
def test_five_minutes_of_skew_are_allowed(wire: Wire, skew: int) -> None:
    ok(wire.send_tc3(wire.tc3(timestamp=int(time.time()) + skew)))


@pytest.mark.parametrize("skew", [-86_400, -302, 302, 86_400, 10**11])
def test_more_skew_is_a_signature_that_expired(wire: Wire, skew: int) -> None:
    timestamp = int(time.time()) + skew
    assert answered(wire.send_tc3(wire.tc3(timestamp=timestamp))) == EXPIRED


def test_a_date_other_than_the_timestamps_fails(wire: Wire) -> None:
    said = wire.tc3().headers()["Authorization"]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert answered(wire.send_tc3(Authorization=said.replace(today, "2020-01-01"))) == SIGNATURE


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"Authorization": None}, AUTHORIZATION),
        ({"Authorization": "SKIP"}, AUTHORIZATION),
        ({"Authorization": "Basic YTpi"}, AUTHORIZATION),
        ({"X_TC_Timestamp": None}, "MissingParameter"),
        ({"X_TC_Timestamp": "now"}, "InvalidParameter"),
        ({"X_TC_Timestamp": "1e9"}, "InvalidParameter"),
        ({"X_TC_Timestamp": "9" * 21}, "InvalidParameter"),
        ({"X_TC_Action": None}, "MissingParameter"),
        ({"X_TC_Action": ""}, "MissingParameter"),
        ({"X_TC_Action": "Nonsense"}, "InvalidAction"),
        ({"X_TC_Action": "listKeys"}, "InvalidAction"),
        ({"X_TC_Action": "\xe8\xae\xa2"}, "InvalidAction"),
        ({"X_TC_Version": None}, "MissingParameter"),
        ({"X_TC_Version": "2020-01-01"}, "NoSuchVersion"),
        ({"X_TC_Region": None}, "MissingParameter"),
        ({"X_TC_Region": "ap-beijing"}, "UnsupportedRegion"),
        ({"X_TC_Token": "sts"}, "AuthFailure.TokenFailure"),
    ],
)
def test_what_the_headers_lack_has_its_code(
    wire: Wire, changed: dict[str, str | None], code: str
) -> None:
    assert answered(wire.send_tc3(**changed)) == code


def test_a_header_that_is_there_twice_counts_as_not_there(wire: Wire) -> None:
    request = wire.tc3()
    headers = {**request.headers(), "x-tc-action": "Decrypt"}
    assert answered(wire.send("POST", "/", headers, request.body)) == "MissingParameter"


def test_another_service_is_refused(wire: Wire) -> None:
    said = wire.tc3().headers()["Authorization"]
    assert answered(wire.send_tc3(Authorization=said.replace("/kms/", "/cvm/"))) == AUTHORIZATION


BODIES = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b'{"Limit": 1}}',
    b'{"Limit": NaN}',
    b'{"Limit": 1e999}',
    b'{"Limit": 1, "Limit": 2}',
    b'{"Limit": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"Limit": "\xff"}',
    b'{"Limit": "10"}',
    b'{"Limit": true}',
    b'{"Limit": {}}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_that_is_no_good_is_an_invalid_parameter(wire: Wire, body: bytes) -> None:
    assert answered(wire.send_tc3(wire.tc3(body=body))) == "InvalidParameter"


def test_half_a_surrogate_pair_breaks_nothing(wire: Wire) -> None:
    for action in ("DescribeKey", "UpdateAlias", "UpdateKeyDescription", "Encrypt", "ReEncrypt"):
        for name in ("KeyId", "Alias", "Description", "Plaintext", "CiphertextBlob", "\\udc00"):
            body = f'{{"KeyId": "x", "{name}": "\\ud800"}}'.encode().replace(b'"KeyId": "x", ', b"")
            assert answered(wire.send_tc3(wire.tc3(action=action, body=body)))


def test_parameters_are_where_they_belong(wire: Wire) -> None:
    query = wire.tc3(query=b"Limit=10")
    assert answered(wire.send_tc3(query)) == "UnknownParameter"
    body = wire.tc3(method="GET", body=b"{}")
    assert answered(wire.send_tc3(body)) == "InvalidParameter"
    other = wire.tc3(content_type="multipart/form-data; boundary=x")
    assert answered(wire.send_tc3(other)) == "InvalidParameter"
    ok(wire.send_tc3(wire.tc3(body=f'{{"Region": "{REGION}", "Action": "ListKeys"}}'.encode())))


GETS = [
    (b"Limit=10&Offset=0", ""),
    (b"Limit=ten", "InvalidParameter"),
    (b"Limit=10&Limit=20", "InvalidParameter"),
    (b"Limit", "InvalidParameter"),
    (b"Limit=%zz", "InvalidParameter"),
    (b"Limit=%ff", "InvalidParameter"),
    (b"Limit.0=10", "UnknownParameter"),
    (b"Nonsense=1", "UnknownParameter"),
    (b"&".join(b"a%d=1" % n for n in range(3000)), "InvalidParameter"),
]


@pytest.mark.parametrize(("query", "code"), GETS, ids=range(len(GETS)))
def test_a_query_is_read_strictly(wire: Wire, query: bytes, code: str) -> None:
    reply = wire.send_tc3(wire.tc3(method="GET", body=b"", query=query))
    assert (reply.status, reply.code) == (200, code)


LISTS = [
    (b"KeyIds.0=x&KeyIds.2=y", "InvalidParameter"),
    (b"KeyIds.1=x", "InvalidParameter"),
    (b"KeyIds.00=x", "InvalidParameter"),
    (b"KeyIds.a=x", "InvalidParameter"),
    (b"KeyIds.0.a=x", "InvalidParameter"),
    (b"KeyIds=x", "InvalidParameter"),
    (b"KeyIds=x&KeyIds.0=x", "InvalidParameter"),
    (b"KeyIds.0=x&KeyIds=", "InvalidParameter"),
    (b"KeyIds.0=x", "InvalidParameterValue.InvalidKeyId"),
    (b"KeyIds.0=x&KeyIds.1=x", "InvalidParameterValue.DuplicatedKeyId"),
]


@pytest.mark.parametrize(("query", "code"), LISTS, ids=range(len(LISTS)))
def test_a_list_is_numbered_from_0_on(wire: Wire, query: bytes, code: str) -> None:
    request = wire.tc3(method="GET", body=b"", query=query, action="DescribeKeys")
    assert answered(wire.send_tc3(request)) == code


# Sizes and methods


def test_a_request_has_its_greatest_size(wire: Wire) -> None:
    too_large = "RequestSizeLimitExceeded"
    fits = wire.tc3(body=b'{"Limit": 10}'.ljust(MOST_TC3_BODY))
    ok(wire.send_tc3(fits))
    assert answered(wire.send_tc3(wire.tc3(body=bytes(MOST_TC3_BODY + 1)))) == too_large
    form = b"a=" + b"b" * MOST_V1_BODY
    assert answered(wire.send("POST", "/", FORM, form)) == too_large
    query = b"a=" + b"b" * MOST_QUERY
    assert answered(wire.send_tc3(wire.tc3(method="GET", body=b"", query=query))) == too_large
    reply = wire.send_eop(wire.eop(body=bytes(MOST_BODY + 1)))
    assert ctyun_answered(reply) == (400, "LAB.RequestTooLarge")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_get_and_post_are_taken(wire: Wire, method: str) -> None:
    assert answered(wire.send(method, "/", wire.tc3().headers())) == "UnsupportedProtocol"
    reply = wire.send(method, "/v1/cmkManage/listKeys", wire.eop().headers())
    assert ctyun_answered(reply) == (404, "LAB.UnknownAction")


def test_other_paths_are_not_there(wire: Wire) -> None:
    for path in ("/sub", "/v1/", "/v1/cmkManage", "/docs", "//"):
        assert wire.send("POST", path, wire.tc3().headers(), b"{}").status == 404


# Version 1


def v1(wire: Wire, **fields: Any) -> Reply:
    return wire.send("GET", f"/?{wire.v1(**fields).decode()}", {})


def test_a_request_of_version_1_is_answered(wire: Wire) -> None:
    ok(v1(wire))
    ok(v1(wire, sign="HmacSHA256"))
    ok(v1(wire, SignatureMethod=None))  # HmacSHA1
    ok(wire.send("POST", "/", FORM, wire.v1("POST", Limit="10")))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"SecretId": None}, "MissingParameter"),
        ({"Timestamp": None}, "MissingParameter"),
        ({"Nonce": None}, "MissingParameter"),
        ({"Action": ""}, "MissingParameter"),
        ({"Region": None}, "MissingParameter"),
        ({"Version": None}, "MissingParameter"),
        ({"Version": "2017-03-12"}, "NoSuchVersion"),
        ({"Region": "ap-beijing"}, "UnsupportedRegion"),
        ({"Action": "Nonsense"}, "InvalidAction"),
        ({"Nonce": "-1"}, "InvalidParameter"),
        ({"Timestamp": "soon"}, "InvalidParameter"),
        ({"Timestamp": "1700000000"}, EXPIRED),
        ({"SecretId": "KLIDnobody"}, "AuthFailure.SecretIdNotFound"),
        ({"SignatureMethod": "HmacMD5"}, "InvalidParameter"),
        ({"Token": "sts"}, "AuthFailure.TokenFailure"),
        ({"Nonsense": "1"}, "UnknownParameter"),
        ({"Limit": "many"}, "InvalidParameter"),
    ],
)
def test_what_a_request_of_version_1_lacks_has_its_code(
    wire: Wire, fields: dict[str, Any], code: str
) -> None:
    assert answered(v1(wire, **fields)) == code


def test_a_request_of_version_1_cannot_be_changed(wire: Wire) -> None:
    query = wire.v1(Limit="10").decode()
    for other in (query.replace("Limit=10", "Limit=11"), f"{query}&Offset=0"):
        assert answered(wire.send("GET", f"/?{other}", {})) == SIGNATURE
    assert answered(wire.send("GET", f"/?{query}", {"Host": "localhost"})) == SIGNATURE
    assert answered(wire.send("POST", "/", FORM, query.encode())) == SIGNATURE
    unsigned = urlencode({"Action": "ListKeys"})
    assert answered(wire.send("GET", f"/?{unsigned}", {})) == AUTHORIZATION
    assert answered(wire.send("POST", "/", {"Content-Type": "text/plain"}, b"a")) == AUTHORIZATION


@pytest.mark.parametrize(
    "value",
    ["b&DestinationKeyId=k", "b&Nonce=1", "b&KeyIds.0=k", "b&Tags_0.TagKey=k", "&&x=1&Limit=&"],
)
def test_no_value_of_version_1_may_look_like_a_parameter(wire: Wire, value: str) -> None:
    """Both requests have one signature: version 1 signs its values as they are."""
    assert answered(v1(wire, Action="Decrypt", CiphertextBlob=value)) == "InvalidParameter"


@pytest.mark.parametrize("value", ["a&b", "a&b=c", "Limit=1", "a=&limit=1", "&Limits=1", "&=&"])
def test_a_value_of_version_1_may_have_signs_in_it(wire: Wire, value: str) -> None:
    key = wire.lab.tencent().create_key(f"v1-{uuid4().hex}")
    ok(v1(wire, Action="UpdateKeyDescription", KeyId=key.key_id, Description=value))


def test_no_host_of_version_1_may_look_like_parameters(wire: Wire) -> None:
    """`Action=/?Action=ListKeys` of one host is `Action=ListKeys` of another."""
    host = f"{wire.host}/?Action="
    pairs = [pair for pair in parse_qsl(wire.v1().decode()) if pair[0] != "Signature"]
    text = tc3.v1_string("GET", host.encode(), pairs)
    signed = urlencode([*pairs, ("Signature", tc3.v1_signature(wire.secret_key.encode(), text))])
    assert answered(wire.send("GET", f"/?{signed}", {"Host": host})) == "InvalidParameter"


def test_a_nonce_is_used_once(wire: Wire) -> None:
    query = wire.v1().decode()
    ok(wire.send("GET", f"/?{query}", {}))
    assert answered(wire.send("GET", f"/?{query}", {})) == EXPIRED


def test_a_request_that_failed_its_signature_uses_nothing_up(wire: Wire) -> None:
    query = wire.v1(Nonce="4711").decode()
    assert answered(wire.send("GET", f"/?{query}&Offset=0", {})) == SIGNATURE
    ok(wire.send("GET", f"/?{query}", {}))


# CTyun


def test_an_eop_request_made_by_hand_is_answered(wire: Wire) -> None:
    ok(wire.send_eop())
    more = (eop.REQUEST_ID, eop.EOP_DATE, "regionid")
    ok(wire.send_eop(wire.eop(signed_headers=more)))
    reply = wire.send_eop(wire.eop(signed_headers=more), regionid="other")
    assert ctyun_answered(reply) == (401, "LAB.SignatureMismatch")


def test_request_date_stands_in_for_the_eop_date(wire: Wire) -> None:
    """As in the one sample that is documented (seed 004)."""
    ok(wire.send_eop(wire.eop(date_header="requestDate")))


@pytest.mark.parametrize("minutes", [0, 8 * 60, -4.9, 4.9, 8 * 60 - 4.9])
def test_the_date_is_in_beijing_or_in_utc(wire: Wire, minutes: float) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    ok(wire.send_eop(wire.eop(date=f"{moment:%Y%m%dT%H%M%SZ}")))


@pytest.mark.parametrize("minutes", [-5.1, 5.1, 60, 8 * 60 + 5.1, -8 * 60])
def test_another_time_has_expired(wire: Wire, minutes: float) -> None:
    moment = datetime.now(UTC) + timedelta(minutes=minutes)
    reply = wire.send_eop(wire.eop(date=f"{moment:%Y%m%dT%H%M%SZ}"))
    assert ctyun_answered(reply) == (401, "LAB.SignatureExpired")


def test_a_request_id_is_used_once(wire: Wire) -> None:
    request = wire.eop(request_id="89bf1559-a96e-4bc9-98fc-394d169a42e4")
    tampered = wire.send_eop(request, eop_date=eop.eop_date(datetime.now(UTC) - timedelta(0, 9)))
    assert ctyun_answered(tampered) == (401, "LAB.SignatureMismatch")
    ok(wire.send_eop(request))
    assert ctyun_answered(wire.send_eop(request)) == (401, "LAB.RequestReplayed")


def test_a_request_made_in_beijing_cannot_be_made_again_in_utc(manual_clock: ManualClock) -> None:
    """Eight hours later its Eop-date is right anew."""
    with Lab.in_memory(clock=manual_clock) as lab, serving(lab, clock=manual_clock) as wire:
        request = wire.eop(date=eop.eop_date(manual_clock.now()), request_id="made-once")
        ok(wire.send_eop(request))
        replayed, expired = (401, "LAB.RequestReplayed"), (401, "LAB.SignatureExpired")
        for hours, refusal in ((0, replayed), (1, expired), (7, replayed)):
            manual_clock.advance(timedelta(hours=hours))
            assert ctyun_answered(wire.send_eop(request)) == refusal
        ok(wire.send_eop(replace(request, request_id="another")))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Eop_Authorization": None}, (401, "LAB.Unauthenticated")),
        ({"Eop_Authorization": "x"}, (401, "LAB.Unauthenticated")),
        ({"Eop_Date": None}, (401, "LAB.Unauthenticated")),
        ({"Eop_Date": "yesterday"}, (401, "LAB.Unauthenticated")),
        ({"Eop_Date": "00010101T000000Z"}, (401, "LAB.SignatureExpired")),
        ({"ctyun_eop_request_id": None}, (401, "LAB.Unauthenticated")),
        ({"ctyun_eop_request_id": "x" * 129}, (401, "LAB.Unauthenticated")),
        ({"ctyun_eop_request_id": "other"}, (401, "LAB.SignatureMismatch")),
        ({"regionId": None}, (400, "KMS.0115")),
        ({"regionId": "ap-guangzhou"}, (400, "LAB.InvalidParameter")),
        ({"Content_Type": "text/plain"}, (400, "LAB.InvalidParameter")),
    ],
)
def test_what_an_eop_request_lacks_has_its_code(
    wire: Wire, changed: dict[str, str | None], expected: tuple[int, str]
) -> None:
    assert ctyun_answered(wire.send_eop(**changed)) == expected


def test_an_eop_signature_is_over_the_raw_body(wire: Wire) -> None:
    request = wire.eop(body=b'{ "pageSize":10 }')
    ok(wire.send_eop(request))
    headers = request.headers()
    for body in (b'{"pageSize": 10}', b'{ "pageSize":10 ', b""):
        reply = wire.send("POST", "/v1/cmkManage/listKeys", headers, body)
        assert ctyun_answered(reply) == (401, "LAB.SignatureMismatch")


def test_an_eop_signature_must_cover_request_id_and_date(wire: Wire) -> None:
    for signed in ((eop.REQUEST_ID,), (eop.EOP_DATE,)):
        reply = wire.send_eop(wire.eop(signed_headers=signed))
        assert ctyun_answered(reply) == (401, "LAB.Unauthenticated")
    other = wire.eop(access_key="KLIDnobody")
    assert ctyun_answered(wire.send_eop(other)) == (401, "LAB.UnknownCredential")


def test_a_query_may_be_signed_as_sent_or_encoded(wire: Wire) -> None:
    """The call has none, so it is refused; but for that, not for its signature."""
    for query in (b"a=1&b=2", b"b=x%20y&a=1", b"b=x+y&a=1"):
        reply = wire.send_eop(wire.eop(query=query))
        assert ctyun_answered(reply) == (400, "LAB.InvalidParameter")


def test_an_empty_eop_body_is_no_parameters(wire: Wire) -> None:
    ok(wire.send_eop(wire.eop(body=b"")))
    reply = wire.send_eop(wire.eop(call="reEncrypt", body=b""))
    assert ctyun_answered(reply) == (400, "KMS.0108")


@pytest.mark.parametrize("body", [b for b in BODIES if b], ids=range(len(BODIES) - 1))
def test_an_eop_body_that_is_no_good_is_400(wire: Wire, body: bytes) -> None:
    reply = wire.send_eop(wire.eop(body=body.replace(b"Limit", b"pageSize")))
    assert ctyun_answered(reply) == (400, "LAB.InvalidParameter")


def test_a_right_that_is_missing_is_401(wire: Wire) -> None:
    made = wire.lab.credentials.create("reader", rights=["listKeys"])
    who = {
        "access_key": made.credential.secret_id,
        "secret_key": made.secret_key.expose(),
    }
    ok(wire.send_eop(wire.eop(**who)))
    reply = wire.send_eop(wire.eop(**who, call="createKey"))
    assert ctyun_answered(reply) == (401, "LAB.Unauthorized")


def test_a_region_with_a_key_in_it_is_there(wire: Wire) -> None:
    assert answered(wire.send_tc3(wire.tc3(region="ap-shanghai"))) == "UnsupportedRegion"
    wire.lab.tencent(region="ap-shanghai").create_key("far")
    reply = wire.send_tc3(wire.tc3(region="ap-shanghai"))
    assert reply.json["Response"]["TotalCount"] == 1
    refused = wire.send_eop(wire.eop(region="ap-shanghai"))
    assert ctyun_answered(refused) == (400, "LAB.InvalidParameter")


# Below HTTP


def talk(wire: Wire, data: bytes, *, hang_up: bool = True) -> bytes:
    """What the server says to bytes, until it ends the connection."""
    with socket.create_connection(("127.0.0.1", wire.port), timeout=60) as connection:
        connection.sendall(data)
        if hang_up:
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    raise
                raise ConnectionResetError from None  # what no ConnectionError stands for
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


BEGUN = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}"


def test_a_body_that_ends_early_is_not_answered(wire: Wire) -> None:
    assert talk(wire, BEGUN) == b""
    ok(wire.send_tc3())


def test_a_body_that_does_not_come_is_no_error_of_the_server(
    memory_lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange, "BODY_SECONDS", 0.05)
    with serving(memory_lab) as wire:
        said = talk(wire, BEGUN, hang_up=False)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in said
    assert not caplog.records
    (line,) = logged(wire)
    assert (line["status"], line["code"]) == (408, "SenderSlow")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /\xff\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 400_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 700_000,
    ],
    ids=range(9),
)
def test_what_is_no_http_ends_the_connection_alone(wire: Wire, data: bytes) -> None:
    try:
        said = talk(wire, data)
    except ConnectionError:
        said = b""
    assert not said.startswith(b"HTTP/1.1 5")
    ok(wire.send_tc3())


def test_a_chunked_body_is_put_together(wire: Wire) -> None:
    request = wire.tc3(body=b'{"Limit": 10}')
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers().items())
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in request.body)
    head += "Transfer-Encoding: chunked\r\nConnection: close\r\n"
    data = f"POST / HTTP/1.1\r\n{head}\r\n".encode() + chunks + b"0\r\n\r\n"
    said = talk(wire, data, hang_up=False)
    assert b"TotalCount" in said


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "fields after the body": (b"2\r\n{}\r\n0\r\n", b"a: " + b"b" * 1000 + b"\r\n"),
    "one field after the body": (b"2\r\n{}\r\n0\r\na: ", b"b" * 1000),
    "what is said of a chunk": (b"2;", b"a" * 1000),
}


@pytest.mark.parametrize(("begun", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_is_no_body_ends_the_connection_when_it_is_too_long(
    wire: Wire, begun: bytes, more: bytes
) -> None:
    sent, said = 0, b""
    address = ("127.0.0.1", wire.port)
    with suppress(ConnectionError), socket.create_connection(address, timeout=60) as connection:
        connection.sendall(CHUNKED + begun)
        while sent < 16 * 1024 * 1024:
            connection.sendall(more * 64)
            sent += len(more) * 64
        said = connection.recv(65536)
    # The sockets themselves may hold some.
    assert sent < 16 * 1024 * 1024, said
    ok(wire.send_tc3())


def test_fields_after_a_body_are_no_headers(wire: Wire) -> None:
    request = wire.tc3(body=b'{"Limit": 10}')
    names = {name: value for name, value in request.headers().items() if name != "X-TC-Action"}
    head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    head += "Transfer-Encoding: chunked\r\nConnection: close\r\n"
    data = f"POST / HTTP/1.1\r\n{head}\r\nd\r\n".encode() + request.body
    said = talk(wire, data + b"\r\n0\r\nX-TC-Action: ListKeys\r\n\r\n", hang_up=False)
    assert b"MissingParameter" in said


# What is told of requests


def test_nothing_of_a_request_is_in_log_or_metrics(wire: Wire) -> None:
    canary = "canary-7f3a"
    wire.send("GET", f"/?Action={canary}&Signature={canary}", {"X-TC-Action": canary})
    wire.send("POST", f"/v1/cmkManage/{canary}?{canary}", {"regionId": canary}, canary.encode())
    wire.send_tc3(wire.tc3(action=canary, body=f'{{"{canary}": "{canary}"}}'.encode()))
    wire.send_tc3(wire.tc3(action="CreateKey", body=f'{{"Alias": "{canary}!"}}'.encode()))
    wire.send_eop(wire.eop(call=canary))
    metrics = wire.send("GET", "/metrics", {})
    assert metrics.status == 200
    assert b'kmslab_requests_total{provider="tencent",action="CreateKey"' in metrics.body
    lines = [json.loads(line) for line in wire.log.getvalue().splitlines()]
    assert {line["event"] for line in lines} == {"request"}
    told = wire.log.getvalue() + metrics.body.decode()
    assert canary not in told
    assert wire.secret_key not in told


def test_a_log_line_has_the_request_id(memory_lab: Lab) -> None:
    """Tencent's answers hold it; CTyun's do not, so that the sender knows it alone."""
    sent = [str(uuid4()) for _ in range(2)]
    with serving(memory_lab) as wire:
        wire.send_eop(wire.eop(request_id=sent[0]))
        wire.send_eop(wire.eop(request_id=sent[1]), eop_authorization=None)
        wire.send_eop(wire.eop(request_id="sk-secret"))
        answer = wire.send_tc3().json["Response"]["RequestId"]
    lines = logged(wire)
    assert [line.get("request_id") for line in lines] == [*sent, None, answer]


def test_a_refused_signature_names_whose_it_would_be(memory_lab: Lab) -> None:
    made = memory_lab.credentials.create("gone")
    memory_lab.credentials.revoke("gone")
    gone = {"secret_id": made.credential.secret_id, "secret_key": made.secret_key.expose()}
    with serving(memory_lab) as wire:
        for changed in (gone, {"secret_key": b"another"}, {"secret_id": "KLIDcanary"}):
            wire.send_tc3(wire.tc3(**changed))
            wire.send_eop(
                wire.eop(**{k.replace("secret_id", "access_key"): v for k, v in changed.items()})
            )
        names = {each.secret_id: each.name for each in memory_lab.credentials.list()}
        good = names[wire.secret_id]
    assert [line.get("caller") for line in logged(wire)] == ["gone"] * 2 + [good] * 2 + [None] * 2
    assert "canary" not in wire.log.getvalue()


def test_the_server_says_how_it_is(wire: Wire) -> None:
    reply = wire.send("GET", "/healthz", {})
    assert (reply.status, reply.json) == (200, {"status": "ok"})
