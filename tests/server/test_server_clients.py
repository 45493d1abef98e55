"""The unmodified official clients against a served lab, over a real socket."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from provider_clouds import Cloud, b64
from provider_requests import ctyun_requests, tencent_requests
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from test_provider_calls import CTYUN_FIELDS, TENCENT_FIELDS
from wire_server import Wire, typed

from kmslab.model import CTYUN, TENCENT
from kmslab.providers.ctyun.wire import CALLS
from kmslab.providers.tencent.wire import ACTIONS, UNSUPPORTED

SIGNING = [
    ("POST", "TC3-HMAC-SHA256"),
    ("GET", "TC3-HMAC-SHA256"),
    ("GET", "HmacSHA1"),
    ("POST", "HmacSHA1"),
    ("GET", "HmacSHA256"),
    ("POST", "HmacSHA256"),
]


def refused(client: Any, action: str, parameters: dict[str, Any]) -> str:
    """The code that the client raises."""
    with pytest.raises(TencentCloudSDKException) as caught:
        client.call_json(action, parameters)
    assert uuid.UUID(caught.value.requestId)
    assert caught.value.message
    return str(caught.value.code)


@pytest.mark.parametrize(("method", "sign"), [SIGNING[0], SIGNING[1], SIGNING[5]])
def test_tencents_client_makes_every_call(
    wire: Wire, clouds: dict[str, Cloud], method: str, sign: str
) -> None:
    client = wire.tencent(method=method, sign=sign)
    requests = tencent_requests(clouds[TENCENT])
    made = uuid.uuid4().hex
    requests["CreateKey"]["Alias"] = made
    requests["UpdateAlias"]["Alias"] = f"{made}-renamed"
    assert requests.keys() == ACTIONS.keys()
    for action, request in requests.items():
        answer = typed(client, action, request)
        assert uuid.UUID(answer.RequestId)
        for field in TENCENT_FIELDS[action][1].split():
            assert getattr(answer, field) is not None, (action, field)


@pytest.mark.parametrize(("method", "sign"), SIGNING)
def test_every_way_of_signing_carries_every_letter(
    wire: Wire, clouds: dict[str, Cloud], method: str, sign: str
) -> None:
    key, client = (
        clouds[TENCENT].create(),
        wire.tencent(method=method, sign=sign),
    )
    context = '{"k":"v v+/=&%25 订单 🔑"}'
    fields = {
        "KeyId": key.key_id,
        "Plaintext": b64(bytes(range(256))),
        "EncryptionContext": context,
    }
    blob = client.call_json("Encrypt", fields)["Response"]["CiphertextBlob"]
    wire.lab.rotate(key.key_id)
    moved = client.call_json(
        "ReEncrypt",
        {
            "CiphertextBlob": blob,
            "SourceEncryptionContext": context,
            "DestinationEncryptionContext": context,
            "DestinationKeyId": "",
        },
    )["Response"]
    assert moved["ReEncrypted"] is True
    assert moved["KeyId"] == moved["SourceKeyId"] == key.key_id
    opened = wire.lab.tencent().decrypt(moved["CiphertextBlob"], context=context)
    assert bytes(opened) == bytes(range(256))
    listed = client.call_json("DescribeKeys", {"KeyIds": [key.key_id]})["Response"]
    assert [found["KeyId"] for found in listed["KeyMetadatas"]] == [key.key_id]


@pytest.mark.parametrize(("method", "sign"), SIGNING)
def test_tencents_client_hears_what_was_wrong(wire: Wire, method: str, sign: str) -> None:
    client = wire.tencent(method=method, sign=sign)
    assert refused(client, "ReEncrypt", {"CiphertextBlob": "x"}).endswith("InvalidCiphertext")
    assert refused(client, "ReEncrypt", {}) == "MissingParameter"
    assert refused(client, "ListKeys", {"Nonsense": "x"}) == "UnknownParameter"
    assert refused(client, "ListKeys", {"Limit": 201}) == "InvalidParameter"
    assert refused(client, "Nonsense", {}) == "InvalidAction"
    assert refused(client, "SignByAsymmetricKey", {}) == "UnsupportedOperation"
    other = wire.tencent(method=method, sign=sign, key="x" * 32)
    assert refused(other, "ListKeys", {}) == "AuthFailure.SignatureFailure"
    other = wire.tencent(method=method, sign=sign, id="KLIDnobody")
    assert refused(other, "ListKeys", {}) == "AuthFailure.SecretIdNotFound"
    other = wire.tencent(method=method, sign=sign, region="ap-nowhere")
    assert refused(other, "ListKeys", {}) == "UnsupportedRegion"
    other = wire.tencent(method=method, sign=sign, token="sts")
    assert refused(other, "ListKeys", {}) == "AuthFailure.TokenFailure"


def test_what_a_lab_does_not_offer_is_said(wire: Wire) -> None:
    client = wire.tencent()
    for action in sorted(UNSUPPORTED):
        assert refused(client, action, {}) == "UnsupportedOperation"


def test_an_endpoint_with_a_scheme_is_taken_as_it_is(wire: Wire) -> None:
    """tccli and the client without `protocol` send and sign `Host: http://...`."""
    answer = wire.tencent(endpoint=f"http://127.0.0.1:{wire.port}").call_json("ListKeys", {})
    assert "TotalCount" in answer["Response"]


def test_messages_come_in_the_language_that_was_asked_for(wire: Wire) -> None:
    client = wire.tencent()
    for language, message in (("zh-CN", "CMK不存在。"), ("en-US", "The CMK does not exist.")):
        client.profile.language = language
        with pytest.raises(TencentCloudSDKException) as caught:
            client.call_json("DescribeKey", {"KeyId": str(uuid.UUID(int=1))})
        assert caught.value.message == message


def test_a_bound_key_is_told_of_over_the_wire(wire: Wire, clouds: dict[str, Cloud]) -> None:
    client, key = wire.tencent(), {"KeyId": clouds[TENCENT].create().key_id}
    binding = {**key, "ProductId": "cbs", "ResourceId": "disk-1"}
    for _ in range(2):
        client.call_json("BindCloudResource", binding)
    assert refused(client, "DisableKey", key) == "FailedOperation.CmkUsedByCloudProduct"
    client.call_json("UnbindCloudResource", binding)
    assert refused(client, "UnbindCloudResource", binding).endswith("BindingNotFound")
    client.call_json("DisableKey", key)
    assert refused(client, "BindCloudResource", binding).endswith("CmkStateNotSupport")


def test_a_missing_right_is_an_unauthorized_operation(wire: Wire, clouds: dict[str, Cloud]) -> None:
    made = wire.lab.credentials.create(f"few-{uuid.uuid4().hex}", rights=["ListKeys"])
    secret_key = made.secret_key.expose().decode()
    client = wire.tencent(id=made.credential.secret_id, key=secret_key)
    assert "TotalCount" in client.call_json("ListKeys", {})["Response"]
    key = clouds[TENCENT].create()
    assert refused(client, "DescribeKey", {"KeyId": key.key_id}) == "UnauthorizedOperation"


def test_a_revoked_credential_is_not_there_any_more(wire: Wire) -> None:
    made = wire.lab.credentials.create(f"gone-{uuid.uuid4().hex}")
    secret_key = made.secret_key.expose().decode()
    client = wire.tencent(id=made.credential.secret_id, key=secret_key)
    assert "TotalCount" in client.call_json("ListKeys", {})["Response"]
    wire.lab.credentials.revoke(made.credential.secret_id)
    assert refused(client, "ListKeys", {}) == "AuthFailure.SecretIdNotFound"
    named = wire.tencent(id=made.credential.name, key=secret_key)
    assert refused(named, "ListKeys", {}) == "AuthFailure.SecretIdNotFound"


def test_ctyuns_client_makes_every_call(wire: Wire, clouds: dict[str, Cloud]) -> None:
    requests = ctyun_requests(clouds[CTYUN])
    made = uuid.uuid4().hex
    requests["createKey"]["aliasName"] = f"alias/{made}"
    requests["updateAlias"]["aliasName"] = f"{made}-renamed"
    assert requests.keys() == CALLS.keys()
    for call, request in requests.items():
        answer = wire.ctyun(call, request)
        assert answer.status_code == 200, (call, answer.text)
        assert answer.headers["Content-Type"] == "application/json"
        envelope = answer.json()
        assert (envelope["code"], envelope["errorCode"]) == ("200", None)
        assert set(envelope["data"] or {}) == set(CTYUN_FIELDS[call][1].split()), call


def test_ctyuns_client_hears_what_was_wrong(wire: Wire) -> None:
    def refusal(call: str, body: dict[str, Any], **options: Any) -> tuple[int, str]:
        answer = wire.ctyun(call, body, **options)
        envelope = answer.json()
        assert envelope["code"] == str(answer.status_code)
        assert envelope["data"] is None
        return answer.status_code, envelope["errorCode"]

    nobody = {"cmkUuid": str(uuid.UUID(int=1))}
    assert refusal("describeKey", nobody) == (404, "LAB.KeyNotFound")
    assert refusal("reEncrypt", {"destinationKeyId": "x"}) == (400, "KMS.0108")
    assert refusal("nonsense", {"a": 1}) == (404, "LAB.UnknownAction")
    assert refusal("reEncrypt/", {"a": 1}) == (404, "LAB.UnknownAction")
    assert refusal("listKeys", {"pageSize": 0}) == (400, "LAB.InvalidParameter")
    assert refusal("listKeys", {}, key="x" * 32) == (401, "LAB.SignatureMismatch")
    assert refusal("listKeys", {}, headers={"regionId": None}) == (400, "KMS.0115")
    assert refusal("listKeys", {}, headers={"regionId": "x"}) == (400, "LAB.InvalidParameter")
    assert refusal("listKeys", {}, params={"a": "订"}) == (400, "LAB.InvalidParameter")


def test_null_counts_as_not_given_at_ctyun(wire: Wire, clouds: dict[str, Cloud]) -> None:
    key = clouds[CTYUN].create()
    blob = clouds[CTYUN].kms.encrypt(key.key_id, b"secret")
    fields = {"ciphertextBlob": blob, "destinationKeyId": key.key_id, "sourceKeyId": None}
    data = wire.ctyun("reEncrypt", fields).json()["data"]
    assert data["cmkUuid"] == key.key_id
    assert bytes(wire.lab.ctyun().decrypt(data["ciphertextBlob"])) == b"secret"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_ctyuns_client_sends_the_local_time(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    """The date is read as Beijing time, as documented, or as UTC."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert wire.ctyun("listKeys").status_code == 200
    finally:
        monkeypatch.undo()
        time.tzset()


def test_ctyuns_client_is_refused_where_its_local_time_is_another(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        answer = wire.ctyun("listKeys")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (answer.status_code, answer.json()["errorCode"]) == (401, "LAB.SignatureExpired")


def test_faults_of_the_lab_are_met_over_the_wire(wire: Wire) -> None:
    wire.lab.faults.add("ReEncrypt", "InternalError")
    wire.lab.faults.add("reEncrypt", "KMS.0514")
    blob = {"CiphertextBlob": "x"}
    assert refused(wire.tencent(), "ReEncrypt", blob) == "InternalError"
    body = {"ciphertextBlob": "x", "destinationKeyId": "x"}
    answer = wire.ctyun("reEncrypt", body)
    assert (answer.status_code, answer.json()["errorCode"]) == (500, "KMS.0514")
