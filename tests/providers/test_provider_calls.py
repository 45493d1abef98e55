"""`call()`: the providers' own requests in, their own envelopes out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_clouds import (
    BOTH,
    CONTEXT,
    CTYUN_CLOUD,
    PAIRS,
    SHA_1,
    SHA_256,
    START,
    TENCENT_SEED_OUTPUT,
    UNKNOWN_ID,
    Cloud,
    b64,
    code,
    data,
    is_json,
    response,
    short,
    unb64,
)
from provider_requests import ctyun_requests, tencent_requests

from kmslab import Lab, ManualClock
from kmslab.model import CTYUN, TENCENT, KeyOrigin
from kmslab.providers.ctyun.wire import CALLS
from kmslab.providers.parameters import Kind
from kmslab.providers.tencent.wire import ACTIONS, UNSUPPORTED

KINDS = {
    "i": Kind.INTEGER,
    "b": Kind.BOOLEAN,
    "l": Kind.STRINGS,
    "o": Kind.OBJECT,
    "ol": Kind.OBJECTS,
    "": Kind.STRING,
}
METADATA = (
    "KeyId Alias CreateTime Description KeyState KeyUsage Type CreatorUin CreatorUinString "
    "KeyRotationEnabled Owner NextRotateTime DeletionDate Origin ValidTo ResourceId HsmClusterId "
    "RotateDays LastRotateTime"
)
# Request and response fields as documented (seed 000; reference/tencent.md section 1): a name,
# * where it is required, and after the colon its type where that is not a text.
TENCENT_FIELDS: dict[str, tuple[str, str]] = {
    "CreateKey": (
        "Alias* Description KeyUsage Type:i Tags:ol HsmClusterId",
        "KeyId Alias CreateTime Description KeyState KeyUsage TagCode TagMsg HsmClusterId",
    ),
    "DescribeKey": ("KeyId* MemberAccount:o", "KeyMetadata"),
    "DescribeKeys": ("KeyIds*:l MemberAccount:o", "KeyMetadatas"),
    "ListKeys": ("Offset:i Limit:i Role:i HsmClusterId", "Keys TotalCount"),
    "ListKeyDetail": (
        "Offset:i Limit:i Role:i OrderType:i KeyState:i SearchKeyAlias Origin KeyUsage "
        "TagFilters:ol HsmClusterId MemberAccounts:ol",
        "TotalCount KeyMetadatas",
    ),
    "EnableKey": ("KeyId* MemberAccount:o", ""),
    "EnableKeys": ("KeyIds*:l MemberAccount:o", ""),
    "DisableKey": ("KeyId* MemberAccount:o", ""),
    "DisableKeys": ("KeyIds*:l MemberAccount:o", ""),
    "UpdateAlias": ("Alias* KeyId* MemberAccount:o", ""),
    "UpdateKeyDescription": ("Description* KeyId* MemberAccount:o", ""),
    "ScheduleKeyDeletion": (
        "KeyId* PendingWindowInDays*:i MemberAccount:o",
        "DeletionDate KeyId",
    ),
    "CancelKeyDeletion": ("KeyId* MemberAccount:o", "KeyId"),
    "ArchiveKey": ("KeyId* MemberAccount:o", ""),
    "CancelKeyArchive": ("KeyId* MemberAccount:o", ""),
    "EnableKeyRotation": ("KeyId* RotateDays:i MemberAccount:o", ""),
    "DisableKeyRotation": ("KeyId* MemberAccount:o", ""),
    "GetKeyRotationStatus": ("KeyId* MemberAccount:o", "KeyRotationEnabled"),
    "RotateKey": ("KeyId* MemberAccount:o", "TaskId"),
    "Encrypt": ("KeyId* Plaintext* EncryptionContext", "CiphertextBlob KeyId"),
    "Decrypt": (
        "CiphertextBlob* EncryptionContext EncryptionPublicKey EncryptionAlgorithm",
        "KeyId Plaintext",
    ),
    "GenerateDataKey": (
        "KeyId* KeySpec NumberOfBytes:i EncryptionContext EncryptionPublicKey "
        "EncryptionAlgorithm IsHostedByKms:i DataKeyName Description HsmClusterId Tags:ol",
        "KeyId Plaintext CiphertextBlob DataKeyId TagCode TagMsg",
    ),
    "ReEncrypt": (
        "CiphertextBlob* DestinationKeyId SourceEncryptionContext DestinationEncryptionContext",
        "CiphertextBlob KeyId SourceKeyId ReEncrypted",
    ),
    "GenerateRandom": ("NumberOfBytes*:i", "Plaintext"),
    "GetPublicKey": ("KeyId*", "KeyId PublicKey PublicKeyPem"),
    "AsymmetricRsaDecrypt": ("KeyId* Ciphertext* Algorithm*", "KeyId Plaintext"),
    "GetParametersForImport": (
        "KeyId* WrappingAlgorithm* WrappingKeySpec*",
        "KeyId ImportToken PublicKey ParametersValidTo",
    ),
    "ImportKeyMaterial": ("EncryptedKeyMaterial* ImportToken* KeyId* ValidTo:i", ""),
    "DeleteImportedKeyMaterial": ("KeyId*", ""),
    "BindCloudResource": ("KeyId* ProductId* ResourceId*", ""),
    "UnbindCloudResource": ("KeyId* ProductId* ResourceId*", ""),
    "GetServiceStatus": (
        "",
        "ServiceEnabled InvalidType UserLevel ProExpireTime ProRenewFlag ProResourceId "
        "ExclusiveVSMEnabled ExclusiveHSMEnabled SubscriptionInfo CmkUserCount CmkLimit "
        "IsAllowedDataKeyHosted IsAllowedSync",
    ),
    "GetRegions": ("", "Regions"),
    "ListAlgorithms": (
        "",
        "SymmetricAlgorithms AsymmetricAlgorithms AsymmetricSignVerifyAlgorithms",
    ),
}
CTYUN_KEY = (
    "cmkUuid keySpec keyState aliasName description creationDate primaryKeyVersion "
    "enableAutomaticRotation rotationInterval lastRotationDate nextRotationDate deleteDate"
)
CTYUN_PAGE = "totalCount pageNumber pageSize"
# reEncrypt and encrypt are documented (seed 004, reference/ctyun-guide.md 2); the others are the
# lab's own, after the names in the user guide (design annex A).
CTYUN_FIELDS: dict[str, tuple[str, str]] = {
    "reEncrypt": (
        "ciphertextBlob* destinationKeyId* sourceEncryptionAlgorithm sourceKeyId "
        "sourceKeyVersionId",
        "ciphertextBlob cmkUuid keyVersionId",
    ),
    "createKey": (
        "keySpec aliasName description enableAutomaticRotation:b rotationInterval",
        f"{CTYUN_KEY} keyVersionId",
    ),
    "describeKey": ("cmkUuid*", CTYUN_KEY),
    "listKeys": ("pageNumber:i pageSize:i", f"keys {CTYUN_PAGE}"),
    "encrypt": ("cmkUuid* plaintext*", "ciphertextBlob cmkUuid keyVersionId"),
    "decrypt": ("ciphertextBlob*", "plaintext cmkUuid keyVersionId"),
    "generateDataKey": (
        "cmkUuid* keySpec numberOfBytes:i",
        "ciphertextBlob plaintext cmkUuid keyVersionId",
    ),
    "generateDataKeyWithoutPlaintext": (
        "cmkUuid* keySpec numberOfBytes:i",
        "ciphertextBlob cmkUuid keyVersionId",
    ),
    "generateAndExportDataKey": (
        "cmkUuid* keySpec numberOfBytes:i publicKeyBlob* wrappingKeySpec* wrappingAlgorithm*",
        "ciphertextBlob exportedDataKey cmkUuid keyVersionId",
    ),
    "getPublicKey": ("cmkUuid* keyVersionId*", "publicKey cmkUuid keyVersionId"),
    "asymmetricEncrypt": (
        "cmkUuid* keyVersionId* algorithm* plaintext*",
        "ciphertextBlob cmkUuid keyVersionId",
    ),
    "asymmetricDecrypt": (
        "cmkUuid* keyVersionId* algorithm* ciphertextBlob*",
        "plaintext cmkUuid keyVersionId",
    ),
    "createKeyVersion": ("cmkUuid*", "keyVersionId"),
    "listKeyVersions": ("cmkUuid* pageNumber:i pageSize:i", f"keyVersions {CTYUN_PAGE}"),
    "updateRotationPolicy": (
        "cmkUuid* enableAutomaticRotation*:b rotationInterval",
        "",
    ),
    "enableKey": ("cmkUuid*", ""),
    "disableKey": ("cmkUuid*", ""),
    "scheduleKeyDeletion": ("cmkUuid* pendingWindowInDays:i", ""),
    "cancelKeyDeletion": ("cmkUuid*", ""),
    "updateAlias": ("cmkUuid* aliasName*", ""),
    "updateKeyDescription": ("cmkUuid* description*", ""),
}
FIELDS = {TENCENT: TENCENT_FIELDS, CTYUN: CTYUN_FIELDS}
CALLS_OF: Mapping[str, Mapping[str, Any]] = {TENCENT: ACTIONS, CTYUN: CALLS}
EVERY_CALL = [(provider, call) for provider in BOTH for call in FIELDS[provider]]


def documented(provider: str, call: str) -> dict[str, tuple[Kind, bool]]:
    found = {}
    for field in FIELDS[provider][call][0].split():
        name, _, kind = field.partition(":")
        found[name.rstrip("*")] = (KINDS[kind], name.endswith("*"))
    return found


@pytest.mark.parametrize("provider", BOTH)
def test_every_call_takes_the_documented_fields(provider: str) -> None:
    taken = {
        name: {p.name: (p.kind, p.required) for p in call.parameters}
        for name, call in CALLS_OF[provider].items()
    }
    assert taken == {name: documented(provider, name) for name in FIELDS[provider]}


def test_every_action_of_tencent_is_known() -> None:
    """69 actions in the current SDK (reference/tencent.md section 1)."""
    assert not UNSUPPORTED & set(ACTIONS)
    assert len(UNSUPPORTED | set(ACTIONS)) == 69


# A request of each call that succeeds


def requests(cloud: Cloud) -> dict[str, dict[str, Any]]:
    return tencent_requests(cloud) if cloud.tencent else ctyun_requests(cloud)


Ready = tuple[Cloud, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ready]]:
    """A provider and good requests to it, for tests whose requests are refused."""
    with Lab.in_memory(clock=ManualClock(START)) as lab:

        @cache
        def make(provider: str) -> Ready:
            cloud = Cloud(lab, ManualClock(START), provider, tmp_path_factory.mktemp("ready"))
            return cloud, requests(cloud)

        yield make


def test_every_call_answers_with_the_documented_fields(cloud: Cloud) -> None:
    for call, request in requests(cloud).items():
        before = dict(request)
        envelope = cloud.kms.call(call, request)
        assert request == before
        assert is_json(envelope)
        fields = FIELDS[cloud.provider][call][1].split()
        if cloud.tencent:
            assert set(envelope) == {"Response"}
            assert set(response(envelope)) == {*fields, "RequestId"}, call
            assert str(uuid.UUID(envelope["Response"]["RequestId"]))
        else:
            assert set(envelope) == {"code", "errorCode", "msg", "data"}
            assert (envelope["code"], envelope["errorCode"]) == ("200", None)
            assert envelope["msg"].endswith("成功")
            assert set(data(envelope)) == set(fields), call
            assert (envelope["data"] is None) is (not fields)


def test_metadata_has_the_documented_fields(tencent: Cloud) -> None:
    key = tencent.create()
    found = response(tencent.kms.call("DescribeKey", {"KeyId": key.key_id}))["KeyMetadata"]
    assert set(found) == set(METADATA.split())
    created = int(START.timestamp())
    assert found == {
        "KeyId": key.key_id,
        "Alias": "key-1",
        "CreateTime": created,
        "Description": "",
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "Type": 2,
        "CreatorUin": 0,
        "CreatorUinString": "0",
        "KeyRotationEnabled": False,
        "Owner": "user",
        "NextRotateTime": created + 31_536_000,
        "DeletionDate": 0,
        "Origin": "TENCENT_KMS",
        "ValidTo": 0,
        "ResourceId": f"creatorUin/0/{key.key_id}",
        "HsmClusterId": "",
        "RotateDays": 0,
        "LastRotateTime": 0,
    }


def test_what_a_call_answers_is_what_it_did(cloud: Cloud) -> None:
    """The values behind the names, where another value would go unnoticed."""
    key = cloud.create()
    if cloud.tencent:
        sent = {"KeyId": key.key_id, "Plaintext": b64(b"secret")}
        made = response(cloud.kms.call("Encrypt", sent))
        assert made["KeyId"] == key.key_id
        opened = response(cloud.kms.call("Decrypt", {"CiphertextBlob": made["CiphertextBlob"]}))
        assert (opened["KeyId"], unb64(opened["Plaintext"])) == (key.key_id, b"secret")
        data_key = response(
            cloud.kms.call("GenerateDataKey", {"KeyId": key.key_id, "KeySpec": "AES_256"})
        )
        assert cloud.kms.decrypt(data_key["CiphertextBlob"]) == unb64(data_key["Plaintext"])
        assert len(unb64(data_key["Plaintext"])) == 32
        random = response(cloud.kms.call("GenerateRandom", {"NumberOfBytes": 9}))
        assert len(unb64(random["Plaintext"])) == 9
    else:
        sent = {"cmkUuid": key.key_id, "plaintext": b64(b"secret")}
        made = data(cloud.kms.call("encrypt", sent))
        opened = data(cloud.kms.call("decrypt", {"ciphertextBlob": made["ciphertextBlob"]}))
        assert unb64(opened.pop("plaintext")) == b"secret"
        assert opened == {"cmkUuid": key.key_id, "keyVersionId": key.primary_version_id}
        data_key = data(cloud.kms.call("generateDataKey", {"cmkUuid": key.key_id}))
        assert cloud.kms.decrypt(data_key["ciphertextBlob"]) == unb64(data_key["plaintext"])


# Parameters that are not as they should be


@pytest.mark.parametrize("provider", BOTH)
def test_wrong_parameters_have_their_codes(
    make_cloud: Callable[[str], Cloud], provider: str
) -> None:
    """Of every call: each required field missing or null, each field ill-typed, one too many."""
    cloud = make_cloud(provider)
    wrong = {
        Kind.STRING: (1, True, 1.5, [], {}),
        Kind.INTEGER: ("7", True, 1.5, [], {}),
        Kind.BOOLEAN: ("true", 1, 0, [], {}),
        Kind.STRINGS: ("a", [1], {}, 1),
        Kind.OBJECT: ("a", [], 1, True),
        Kind.OBJECTS: ("a", ["a"], {}, 1),
    }
    unknown, ill_typed = (
        ("UnknownParameter", "InvalidParameter")
        if cloud.tencent
        else ("LAB.InvalidParameter", "LAB.InvalidParameter")
    )
    for call, request in requests(cloud).items():
        for name, (kind, required) in documented(provider, call).items():
            for value in wrong[kind]:
                assert code(cloud.kms.call(call, {**request, name: value})) == ill_typed
            if required:
                for short_of in (
                    {k: v for k, v in request.items() if k != name},
                    {**request, name: None},
                ):
                    found = code(cloud.kms.call(call, short_of))
                    if cloud.tencent:
                        assert found == "MissingParameter"
                    else:
                        assert found.startswith("KMS.01")
                        if kind is Kind.STRING:
                            empty = {**request, name: ""}
                            assert code(cloud.kms.call(call, empty)) == found
        misplaced = "ciphertextBlob" if cloud.tencent else "CiphertextBlob"
        for name in ("Nonsense", misplaced, "", "订单"):
            assert code(cloud.kms.call(call, {**request, name: "x"})) == unknown
            assert code(cloud.kms.call(call, {**request, name: None})) == unknown


def test_null_counts_as_not_given(cloud: Cloud) -> None:
    for call, request in requests(cloud).items():
        optional = {
            name: None
            for name, (_, required) in documented(cloud.provider, call).items()
            if not required and name not in request
        }
        assert short(cloud.kms.call(call, {**request, **optional})) == "ok", call


@pytest.mark.parametrize("request_", [None, [], "{}", 1, True, [["KeyId", "a"]]])
def test_a_request_is_an_object(cloud: Cloud, request_: Any) -> None:
    for call in FIELDS[cloud.provider]:
        assert short(cloud.kms.call(call, request_)) == "InvalidParameter"


def test_action_version_and_region_are_taken_and_checked(tencent: Cloud) -> None:
    blob = tencent.kms.encrypt(tencent.create().key_id, b"secret")
    request = {"CiphertextBlob": blob}
    common = {"Action": "ReEncrypt", "Version": "2019-01-18", "Region": "ap-guangzhou"}
    assert response(tencent.kms.call("ReEncrypt", {**request, **common}))
    assert response(tencent.kms.call("ReEncrypt", {**request, **dict.fromkeys(common)}))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"Action": "Encrypt"}, "InvalidParameter"),
        ({"Action": 1}, "InvalidParameter"),
        ({"Version": "2017-03-12"}, "NoSuchVersion"),
        ({"Version": []}, "NoSuchVersion"),
        ({"Region": "ap-beijing"}, "UnsupportedRegion"),
        ({"Region": ""}, "UnsupportedRegion"),
    ]
    for fields, expected in wrong:
        assert code(tencent.kms.call("ReEncrypt", {**request, **common, **fields})) == expected
    there = tencent.open(region="ap-beijing")
    key = tencent.create(kms=there)
    assert response(there.call("DescribeKey", {"KeyId": key.key_id, "Region": "ap-beijing"}))


def test_common_parameters_are_tencents_only(ctyun: Cloud) -> None:
    for name in ("Action", "Version", "Region", "regionId"):
        answer = ctyun.kms.call("listKeys", {name: "x"})
        assert code(answer) == "LAB.InvalidParameter"


def test_member_account_is_where_it_is_documented_only(tencent: Cloud) -> None:
    key = tencent.create()
    member = {"MemberAccount": {"MemberAppId": 1, "MemberUin": 2}}
    assert response(tencent.kms.call("DescribeKey", {"KeyId": key.key_id, **member}))
    request = {"KeyId": key.key_id, "Plaintext": "YQ==", **member}
    assert code(tencent.kms.call("Encrypt", request)) == "UnknownParameter"


# Actions that are not there


def test_what_the_lab_does_not_offer_is_said(tencent: Cloud) -> None:
    for action in sorted(UNSUPPORTED):
        for request in ({}, {"Nonsense": 1}):
            assert code(tencent.kms.call(action, request)) == "UnsupportedOperation"


def test_what_nobody_has_is_an_invalid_action(cloud: Cloud) -> None:
    for action in ("", "Nonsense", "reencrypt", "REENCRYPT", "订单", "ReEncrypt ", "__class__"):
        expected = "InvalidAction" if cloud.tencent else "LAB.UnknownAction"
        assert code(cloud.kms.call(action, {})) == expected
    other = "reEncrypt" if cloud.tencent else "ReEncrypt"
    assert code(cloud.kms.call(other, {})) in ("InvalidAction", "LAB.UnknownAction")


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("CreateKey", {"Alias": "a", "KeyUsage": "ASYMMETRIC_DECRYPT_SM2"}),
        ("CreateKey", {"Alias": "a", "KeyUsage": "ASYMMETRIC_SIGN_VERIFY_ECC"}),
        ("CreateKey", {"Alias": "a", "Tags": [{"TagKey": "k", "TagValue": "v"}]}),
        ("CreateKey", {"Alias": "a", "HsmClusterId": "cls"}),
        ("CreateKey", {"Alias": "a", "Type": 2, "KeyUsage": "ASYMMETRIC_DECRYPT_RSA_2048"}),
        ("ListKeys", {"Role": 1}),
        ("ListKeys", {"HsmClusterId": "cls"}),
        ("ListKeyDetail", {"Role": 1}),
        ("ListKeyDetail", {"TagFilters": [{"TagKey": "k"}]}),
        ("ListKeyDetail", {"MemberAccounts": [{"MemberUin": 1}]}),
        ("Decrypt", {"CiphertextBlob": "x", "EncryptionPublicKey": "pem"}),
        ("GenerateDataKey", {"KeyId": "x", "KeySpec": "AES_256", "IsHostedByKms": 1}),
        ("GenerateDataKey", {"KeyId": "x", "KeySpec": "AES_256", "EncryptionAlgorithm": "SM2"}),
        ("AsymmetricRsaDecrypt", {"KeyId": "x", "Ciphertext": "", "Algorithm": "RSAES_PKCS1_V1_5"}),
    ],
)
def test_known_and_not_offered(tencent: Cloud, call: str, fields: dict[str, Any]) -> None:
    assert code(tencent.kms.call(call, fields)) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("createKey", {"keySpec": "Ctyun_SM2"}),
        (
            "createKey",
            {"keySpec": "RSA_2048", "enableAutomaticRotation": True, "rotationInterval": "7d"},
        ),
        ("generateAndExportDataKey", {"wrappingKeySpec": "EC_SM2"}),
        ("asymmetricDecrypt", {"algorithm": "RSAES_PKCS1_V1_5"}),
    ],
)
def test_known_and_not_offered_at_ctyun(
    ready: Callable[[str], Ready], call: str, fields: dict[str, Any]
) -> None:
    cloud, requests_ = ready(CTYUN)
    assert code(cloud.kms.call(call, {**requests_[call], **fields})) == "LAB.Unsupported"


@pytest.mark.parametrize(
    ("call", "fields", "expected"),
    [
        ("CreateKey", {"Alias": "-a"}, "InvalidAlias"),
        ("CreateKey", {"Alias": "kms-a"}, "InvalidAlias"),
        ("CreateKey", {"Alias": "a" * 61}, "InvalidAlias"),
        ("CreateKey", {"Alias": ""}, "InvalidAlias"),
        ("CreateKey", {"Alias": "订单"}, "InvalidAlias"),
        ("CreateKey", {"Alias": "a\n"}, "InvalidAlias"),
        ("CreateKey", {"KeyUsage": "NONSENSE"}, "InvalidKeyUsage"),
        ("CreateKey", {"Type": 3}, "InvalidParameter"),
        ("CreateKey", {"Description": "订" * 342}, "InvalidParameter"),
        ("CreateKey", {"Description": "\ud800"}, "InvalidParameter"),
        ("UpdateKeyDescription", {"Description": "x" * 1025}, "InvalidParameter"),
        ("UpdateKeyDescription", {"Description": "\udfff"}, "InvalidParameter"),
        ("EnableKeyRotation", {"RotateDays": 6}, "InvalidParameter"),
        ("EnableKeyRotation", {"RotateDays": 366}, "InvalidParameter"),
        ("ScheduleKeyDeletion", {"PendingWindowInDays": 6}, "InvalidPendingWindowInDays"),
        ("ScheduleKeyDeletion", {"PendingWindowInDays": 31}, "InvalidPendingWindowInDays"),
        ("GenerateRandom", {"NumberOfBytes": 0}, "InvalidParameter"),
        ("GenerateRandom", {"NumberOfBytes": 1025}, "InvalidParameter"),
        ("GenerateDataKey", {"KeySpec": "AES_192"}, "InvalidParameter"),
        ("GenerateDataKey", {"KeySpec": None}, "InvalidParameter"),
        ("GenerateDataKey", {"NumberOfBytes": 0}, "InvalidParameter"),
        ("GenerateDataKey", {"NumberOfBytes": 1025}, "InvalidParameter"),
        ("Encrypt", {"Plaintext": ""}, "InvalidPlaintext"),
        ("Encrypt", {"Plaintext": "secret"}, "InvalidPlaintext"),
        ("Encrypt", {"Plaintext": b64(bytes(4097))}, "InvalidPlaintext"),
        ("AsymmetricRsaDecrypt", {"Algorithm": "RSA"}, "InvalidParameter"),
        ("AsymmetricRsaDecrypt", {"Ciphertext": "!"}, "InvalidParameter"),
        ("AsymmetricRsaDecrypt", {"Algorithm": SHA_256}, "DecryptError"),
        ("AsymmetricRsaDecrypt", {"Ciphertext": "YQ=="}, "DecryptError"),
        ("GetParametersForImport", {"WrappingKeySpec": "RSA_4096"}, "InvalidParameter"),
        ("ImportKeyMaterial", {"ValidTo": -1}, "InvalidParameter"),
        ("ImportKeyMaterial", {"ValidTo": 2_147_483_201}, "InvalidParameter"),
        ("ImportKeyMaterial", {"ValidTo": 1}, "InvalidParameter"),
    ],
)
def test_values_out_of_bounds_at_tencent(
    ready: Callable[[str], Ready], call: str, fields: dict[str, Any], expected: str
) -> None:
    cloud, requests_ = ready(TENCENT)
    assert short(cloud.kms.call(call, {**requests_[call], **fields})) == expected


@pytest.mark.parametrize(
    ("call", "fields", "expected"),
    [
        ("createKey", {"keySpec": "AES_128"}, "InvalidParameter"),
        ("createKey", {"aliasName": "a b"}, "InvalidParameter"),
        ("createKey", {"aliasName": UNKNOWN_ID}, "InvalidParameter"),
        ("createKey", {"aliasName": "a" * 256}, "InvalidParameter"),
        ("createKey", {"description": "x" * 8193}, "InvalidParameter"),
        ("createKey", {"description": "\ud800"}, "InvalidParameter"),
        ("createKey", {"rotationInterval": "6d"}, "InvalidParameter"),
        ("createKey", {"rotationInterval": "731d"}, "InvalidParameter"),
        ("createKey", {"rotationInterval": "90"}, "InvalidParameter"),
        ("createKey", {"rotationInterval": "25h"}, "InvalidParameter"),
        ("createKey", {"rotationInterval": "168h"}, "ok"),
        ("createKey", {"rotationInterval": "730d"}, "ok"),
        ("createKey", {"rotationInterval": None}, "0118"),
        ("updateRotationPolicy", {"enableAutomaticRotation": True}, "0118"),
        ("encrypt", {"plaintext": "secret"}, "InvalidParameter"),
        ("encrypt", {"plaintext": b64(bytes(6144))}, "InvalidParameter"),
        ("encrypt", {"plaintext": b64(bytes(6143))}, "ok"),
        ("generateDataKey", {"keySpec": "AES_192"}, "InvalidParameter"),
        ("generateDataKey", {"numberOfBytes": 0}, "InvalidParameter"),
        ("generateDataKey", {"numberOfBytes": 1025}, "InvalidParameter"),
        ("generateAndExportDataKey", {"wrappingKeySpec": "RSA_4096"}, "InvalidParameter"),
        ("generateAndExportDataKey", {"publicKeyBlob": "YQ=="}, "InvalidParameter"),
        ("generateAndExportDataKey", {"wrappingAlgorithm": "RSA"}, "InvalidParameter"),
        ("asymmetricEncrypt", {"plaintext": b64(bytes(214))}, "ok"),
        ("asymmetricEncrypt", {"plaintext": b64(bytes(215))}, "InvalidParameter"),
        ("asymmetricDecrypt", {"ciphertextBlob": "YQ=="}, "DecryptFailed"),
        ("asymmetricDecrypt", {"ciphertextBlob": "!"}, "InvalidParameter"),
        ("asymmetricDecrypt", {"algorithm": SHA_256}, "DecryptFailed"),
        ("asymmetricDecrypt", {"keyVersionId": UNKNOWN_ID}, "KeyNotFound"),
        ("scheduleKeyDeletion", {"pendingWindowInDays": 6}, "InvalidParameter"),
        ("scheduleKeyDeletion", {"pendingWindowInDays": 31}, "InvalidParameter"),
        ("updateAlias", {"aliasName": "a b"}, "InvalidParameter"),
    ],
)
def test_values_out_of_bounds_at_ctyun(
    ready: Callable[[str], Ready], call: str, fields: dict[str, Any], expected: str
) -> None:
    cloud, requests_ = ready(CTYUN)
    if call == "createKey" and expected == "ok":
        fields = {**fields, "aliasName": None}
    assert short(cloud.kms.call(call, {**requests_[call], **fields})) == expected


# Calls on many keys, and pages


def test_calls_on_many_keys_are_all_or_nothing(tencent: Cloud) -> None:
    keys = [tencent.create().key_id for _ in range(4)]
    kms = tencent.kms
    assert response(kms.call("DisableKeys", {"KeyIds": keys[:3]}))
    states = response(kms.call("DescribeKeys", {"KeyIds": keys}))["KeyMetadatas"]
    assert [s["KeyState"] for s in states] == ["Disabled"] * 3 + ["Enabled"]
    assert [s["KeyId"] for s in states] == keys
    kms.archive_key(keys[3])
    bad = {
        "CmkStateNotSupport": keys,
        "CmkNotFound": [*keys[:3], UNKNOWN_ID],
        "InvalidKeyId": [*keys[:3], "orders"],
        "DuplicatedKeyId": [keys[0], keys[0]],
        "InvalidParameter": [],
    }
    for expected, ids in bad.items():
        assert short(kms.call("EnableKeys", {"KeyIds": ids})) == expected
        assert {kms.describe_key(k).state for k in keys[:3]} == {"disabled"}
    assert response(kms.call("EnableKeys", {"KeyIds": keys[:3]}))
    many = [str(uuid.UUID(int=n)) for n in range(101)]
    assert short(kms.call("DescribeKeys", {"KeyIds": many})) == "InvalidParameter"
    assert short(kms.call("DescribeKeys", {"KeyIds": many[:100]})) == "CmkNotFound"


def test_calls_on_many_keys_have_rights_and_faults_of_their_own(tencent: Cloud) -> None:
    keys = [tencent.create().key_id for _ in range(2)]
    tencent.lab.credentials.create("ops", rights=[f"DisableKeys:{keys[0]}", "ListKeyDetail"])
    ops = tencent.open(credential="ops")
    assert code(ops.call("DisableKeys", {"KeyIds": keys})) == "UnauthorizedOperation"
    assert tencent.kms.describe_key(keys[0]).state == "enabled"
    assert response(ops.call("DisableKeys", {"KeyIds": keys[:1]}))
    assert response(ops.call("ListKeyDetail", {}))
    for denied in ("ListKeys", "EnableKeys", "DescribeKeys"):
        request = {} if denied == "ListKeys" else {"KeyIds": keys[:1]}
        assert code(ops.call(denied, request)) == "UnauthorizedOperation"
    for action in ("EnableKeys", "DescribeKeys", "ListKeyDetail"):
        tencent.lab.faults.add(action, "InternalError")
        request = {} if action == "ListKeyDetail" else {"KeyIds": keys}
        assert code(tencent.kms.call(action, request)) == "InternalError"
        assert short(tencent.kms.call(action, request)) == "ok"


def test_tencents_pages(tencent: Cloud) -> None:
    ids = [tencent.create().key_id]
    for _ in range(11):
        tencent.clock.advance(timedelta(seconds=1))
        ids.append(tencent.create().key_id)

    def page(**fields: Any) -> list[str]:
        answer = response(tencent.kms.call("ListKeys", fields))
        assert answer["TotalCount"] == 12
        return [key["KeyId"] for key in answer["Keys"]]

    assert page() == ids[:10]
    assert page(Offset=10) == ids[10:]
    assert page(Offset=3, Limit=2) == ids[3:5]
    assert page(Limit=200) == ids
    assert page(Offset=10**20) == []
    for bad in ({"Offset": -1}, {"Limit": 0}, {"Limit": 201}, {"Limit": -1}, {"Role": 2}):
        for call in ("ListKeys", "ListKeyDetail"):
            assert code(tencent.kms.call(call, bad)) == "InvalidParameter"


def test_key_details_are_filtered_and_ordered(tencent: Cloud) -> None:
    oldest = tencent.create(alias="orders-1").key_id
    tencent.clock.advance(timedelta(seconds=1))
    newest = tencent.create(alias="orders-2").key_id
    tencent.kms.disable_key(newest)
    pair = tencent.pair().key_id
    waits = tencent.kms.create_key("waits", origin=KeyOrigin.EXTERNAL).key_id
    doomed = tencent.create(alias="doomed").key_id
    tencent.schedule_deletion(doomed)
    archived = tencent.create(alias="archived").key_id
    tencent.kms.archive_key(archived)

    def found(**fields: Any) -> list[str]:
        answer = response(tencent.kms.call("ListKeyDetail", {"Limit": 200, **fields}))
        assert answer["TotalCount"] == len(answer["KeyMetadatas"])
        return [key["KeyId"] for key in answer["KeyMetadatas"]]

    assert set(found()) == {oldest, newest, waits, doomed, archived}
    assert set(found(KeyUsage="ALL")) == {oldest, newest, waits, doomed, archived, pair}
    assert found(KeyUsage="ASYMMETRIC_DECRYPT_RSA_2048") == [pair]
    assert found(KeyState=1) == [oldest]
    assert found(KeyState=2) == [newest]
    assert found(KeyState=3) == [doomed]
    assert found(KeyState=4) == [waits] == found(Origin="EXTERNAL")
    assert found(KeyState=5) == [archived]
    assert found(SearchKeyAlias="orders") == [newest, oldest]
    assert found(SearchKeyAlias="orders", OrderType=0) == [newest, oldest]
    assert found(SearchKeyAlias="orders", OrderType=1) == [oldest, newest]
    assert found(SearchKeyAlias=newest[19:]) == [newest]
    listed = response(tencent.kms.call("ListKeys", {"Limit": 200}))["Keys"]
    assert {key["KeyId"] for key in listed} == {oldest, newest, waits, pair}


@pytest.mark.parametrize("keys", [0, 1])
@pytest.mark.parametrize(
    "bad", [{"KeyState": 6}, {"KeyState": -1}, {"Origin": "all"}, {"OrderType": 2}]
)
def test_bad_filters_are_refused_however_many_keys_there_are(
    tencent: Cloud, keys: int, bad: dict[str, Any]
) -> None:
    for _ in range(keys):
        tencent.create()
    assert code(tencent.kms.call("ListKeyDetail", bad)) == "InvalidParameter"


def test_ctyuns_pages(ctyun: Cloud) -> None:
    ids = []
    for _ in range(12):
        ids.append(ctyun.create().key_id)
        ctyun.clock.advance(timedelta(seconds=1))

    def page(**fields: Any) -> list[str]:
        answer = data(ctyun.kms.call("listKeys", fields))
        assert answer["totalCount"] == 12
        return [key["cmkUuid"] for key in answer["keys"]]

    assert page() == ids[:10]
    assert page(pageNumber=2) == ids[10:]
    assert page(pageNumber=3, pageSize=5) == ids[10:]
    assert page(pageSize=100) == ids
    assert page(pageNumber=10**20) == []
    for bad in ({"pageNumber": 0}, {"pageSize": 0}, {"pageSize": 101}, {"pageNumber": -1}):
        assert code(ctyun.kms.call("listKeys", bad)) == "LAB.InvalidParameter"
        request = {"cmkUuid": ids[0], **bad}
        assert code(ctyun.kms.call("listKeyVersions", request)) == "LAB.InvalidParameter"


def test_versions_are_listed_at_ctyun(ctyun: Cloud) -> None:
    pair = ctyun.pair(2)
    answer = data(ctyun.kms.call("listKeyVersions", {"cmkUuid": pair.key_id}))
    assert answer["keyVersions"] == [
        {"keyVersionId": version.version_id, "creationDate": f"2024-0{n}-01T00:00:00Z"}
        for n, version in enumerate(pair.versions, 1)
    ]
    described = data(ctyun.kms.call("describeKey", {"cmkUuid": pair.key_id}))
    assert described["primaryKeyVersion"] is None


def test_asymmetric_answers_name_the_key_behind_an_alias(ctyun: Cloud) -> None:
    pair = ctyun.pair()
    ctyun.kms.update_alias(pair.key_id, "wrapping")
    version = pair.versions[0].version_id
    request = {"cmkUuid": "wrapping", "keyVersionId": version, "algorithm": SHA_1}
    sealed = data(ctyun.kms.call("asymmetricEncrypt", {**request, "plaintext": "YQ=="}))
    opened = data(
        ctyun.kms.call("asymmetricDecrypt", {**request, "ciphertextBlob": sealed["ciphertextBlob"]})
    )
    assert sealed["cmkUuid"] == opened["cmkUuid"] == pair.key_id
    assert opened["plaintext"] == "YQ=="


# Nothing but an envelope comes out


class Fuzz:
    """A lab with something to hit, and values that hit it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        found = requests(cloud)
        self.requests = found
        texts = {v for request in found.values() for v in request.values() if isinstance(v, str)}
        names = {
            name for call in FIELDS[cloud.provider] for name in documented(cloud.provider, call)
        }
        texts |= {"", "{}", CONTEXT, "\ud800", "\0", "orders", UNKNOWN_ID, "a" * 2000, PAIRS[0]}
        texts |= {CTYUN_CLOUD, TENCENT_SEED_OUTPUT, "7d", "9" * 20 + "d", "AES_256", "订单"}
        numbers = st.sampled_from([0, 1, -1, 7, 30, 100, 2**31, 2**63, -(2**63), 10**30])
        scalars = (
            st.sampled_from(sorted(texts, key=repr))
            | st.text(max_size=8)
            | numbers
            | st.integers()
            | st.booleans()
            | st.none()
            | st.floats()
        )
        json = st.recursive(
            scalars,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=5,
        )
        keys = st.sampled_from(sorted(names)) | st.text(max_size=4)
        self.free = st.dictionaries(keys, json, max_size=5) | json
        self.json = json

    def near(self, call: str) -> st.SearchStrategy[dict[str, Any]]:
        """A request that succeeds, with some fields replaced."""
        names = sorted(documented(self.cloud.provider, call)) or ["x"]
        changes = st.dictionaries(st.sampled_from(names), self.json, max_size=3)
        return changes.map(lambda changed: {**self.requests[call], **changed})


@pytest.fixture(scope="module", params=BOTH)
def fuzz(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    clock = ManualClock(START)
    with Lab.in_memory(clock=clock) as lab:
        yield Fuzz(Cloud(lab, clock, request.param, tmp_path_factory.mktemp("fuzz")))


@settings(max_examples=settings.default.max_examples * 4)
@given(choice=st.data())
def test_whatever_is_sent_an_envelope_comes_back(fuzz: Fuzz, choice: st.DataObject) -> None:
    cloud = fuzz.cloud
    call = choice.draw(st.sampled_from(sorted(FIELDS[cloud.provider])))
    request = choice.draw(fuzz.free | fuzz.near(call))
    if call in ("createKey", "CreateKey", "createKeyVersion") and "RSA_2048" in str(request):
        request = {}  # making pairs is slow
    envelope = cloud.kms.call(call, request)
    found = code(envelope)
    if cloud.tencent:
        assert set(envelope) == {"Response"}
        assert uuid.UUID(envelope["Response"]["RequestId"])
        assert set(envelope["Response"].get("Error", {})) in (set(), {"Code", "Message"})
    else:
        assert set(envelope) == {"code", "errorCode", "msg", "data"}
        assert envelope["code"] in ("200", "400", "401", "404")
        assert (envelope["code"] == "200") is (not found)
    assert found not in ("InternalError", "LAB.InternalError")


@given(action=st.text())
def test_whatever_is_called_an_envelope_comes_back(fuzz: Fuzz, action: str) -> None:
    assert code(fuzz.cloud.kms.call(action, {}))
