"""Every code of both providers, seen by its cause or by a fault."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from provider_clouds import (
    SHA_1,
    SHA_256,
    UNKNOWN_ID,
    Cloud,
    b64,
    code,
    external_key,
)

from kmslab import KmsError
from kmslab.errors import InternalError, MissingParameter
from kmslab.model import CTYUN, TENCENT, KeyOrigin
from kmslab.providers.ctyun import codes as ctyun_codes
from kmslab.providers.tencent import codes as tencent_codes

Cause = Callable[[Cloud], dict[str, Any]]


def a_blob(cloud: Cloud) -> str:
    return str(cloud.kms.encrypt(cloud.create().key_id, b"secret"))


def changed(cloud: Cloud, change: str) -> str:
    """The id of a key in another state."""
    key = cloud.create()
    getattr(cloud.kms, change)(key.key_id)
    return key.key_id


# Tencent: code → what brings it about. None: by a fault only.


def unauthorised(cloud: Cloud) -> dict[str, Any]:
    cloud.lab.credentials.create("nobody", rights=[])
    kms = cloud.open(credential="nobody")
    return kms.call("ReEncrypt", {"CiphertextBlob": a_blob(cloud)})


def throttled(cloud: Cloud) -> dict[str, Any]:
    kms, request = cloud.open(rate_limit=True), {"CiphertextBlob": a_blob(cloud)}
    for _ in range(100):
        kms.call("ReEncrypt", request)
    return kms.call("ReEncrypt", request)


def rotated_twice(cloud: Cloud) -> dict[str, Any]:
    key = changed(cloud, "enable_key_rotation")
    cloud.kms.rotate_key(key)
    cloud.clock.advance(timedelta(hours=23, minutes=59))
    return cloud.kms.call("RotateKey", {"KeyId": key})


def imported(cloud: Cloud, wait: float = 0) -> dict[str, Any]:
    key = external_key(cloud)
    given = cloud.kms.get_parameters_for_import(key.key_id)
    cloud.clock.advance(timedelta(hours=wait))
    return cloud.kms.call(
        "ImportKeyMaterial",
        {
            "KeyId": key.key_id,
            "EncryptedKeyMaterial": b64(bytes(256)),
            "ImportToken": given.import_token,
        },
    )


def other_material(cloud: Cloud) -> dict[str, Any]:
    from kmslab.crypto import load_rsa_public, oaep_encrypt
    from kmslab.model import OaepAlgorithm

    key = external_key(cloud)
    given = cloud.kms.get_parameters_for_import(key.key_id)
    public = load_rsa_public(given.public_key_der)
    wrapped = b64(oaep_encrypt(public, OaepAlgorithm.SHA_256, b"x" * 32))
    fields = {"EncryptedKeyMaterial": wrapped, "ImportToken": given.import_token}
    return cloud.kms.call("ImportKeyMaterial", {"KeyId": key.key_id, **fields})


def at(call: str, **fields: Any) -> Cause:
    """A call whose fields are as given; a function among them makes its value."""

    def cause(cloud: Cloud) -> dict[str, Any]:
        made = {k: v(cloud) if callable(v) else v for k, v in fields.items()}
        return cloud.kms.call(call, made)

    return cause


def a_key(cloud: Cloud) -> str:
    return cloud.create().key_id


def a_bound_key(cloud: Cloud) -> str:
    return cloud.kms.bind_cloud_resource(a_key(cloud), "cbs", "disk-1").key_id


def a_pair(cloud: Cloud) -> str:
    return cloud.pair().key_id


def twice_the_alias(cloud: Cloud) -> dict[str, Any]:
    cloud.create(alias="orders")
    return cloud.kms.call("CreateKey", {"Alias": "orders"})


TENCENT_CAUSES: dict[str, Cause | None] = {
    # The seven of ReEncrypt (seeds 000 and 001).
    "InternalError": None,
    "InvalidParameter": at("ReEncrypt", CiphertextBlob=a_blob, SourceEncryptionContext="no JSON"),
    "InvalidParameterValue.InvalidCiphertext": at("ReEncrypt", CiphertextBlob="no blob"),
    "InvalidParameterValue.InvalidKeyId": at(
        "ReEncrypt", CiphertextBlob=a_blob, DestinationKeyId="orders"
    ),
    "ResourceUnavailable.CmkDisabled": at(
        "ReEncrypt", CiphertextBlob=a_blob, DestinationKeyId=lambda c: changed(c, "disable_key")
    ),
    "ResourceUnavailable.CmkNotFound": at(
        "ReEncrypt", CiphertextBlob=a_blob, DestinationKeyId=UNKNOWN_ID
    ),
    "UnauthorizedOperation": unauthorised,
    # Those of the other calls.
    "ResourceUnavailable.CmkArchived": at(
        "Encrypt", KeyId=lambda c: changed(c, "archive_key"), Plaintext="YQ=="
    ),
    "ResourceUnavailable.CmkStateNotSupport": at(
        "EnableKey", KeyId=lambda c: changed(c, "archive_key")
    ),
    "ResourceUnavailable.CmkShouldBeDisabled": at(
        "ScheduleKeyDeletion", KeyId=a_key, PendingWindowInDays=7
    ),
    "ResourceUnavailable.CmkNotPendingDelete": at("CancelKeyDeletion", KeyId=a_key),
    "FailedOperation.CmkUsedByCloudProduct": at("DisableKey", KeyId=a_bound_key),
    "ResourceUnavailable.CloudResourceBindingNotFound": at(
        "UnbindCloudResource", KeyId=a_bound_key, ProductId="cbs", ResourceId="disk-2"
    ),
    "ResourceUnavailable.TokenExpired": lambda c: imported(c, wait=24.001),
    "InvalidParameterValue.InvalidPlaintext": at("Encrypt", KeyId=a_key, Plaintext="secret"),
    "InvalidParameterValue.InvalidAlias": at("CreateKey", Alias="kms-orders"),
    "InvalidParameterValue.AliasAlreadyExists": twice_the_alias,
    "InvalidParameterValue.InvalidKeyUsage": at("GetPublicKey", KeyId=a_key),
    "InvalidParameterValue.DuplicatedKeyId": at("EnableKeys", KeyIds=[UNKNOWN_ID] * 2),
    "InvalidParameter.InvalidPendingWindowInDays": at(
        "ScheduleKeyDeletion", KeyId=a_key, PendingWindowInDays=31
    ),
    "InvalidParameter.DecryptMaterialError": imported,
    "InvalidParameterValue.MaterialNotMatch": other_material,
    "FailedOperation.DecryptError": at(
        "AsymmetricRsaDecrypt", KeyId=a_pair, Ciphertext=b64(bytes(256)), Algorithm=SHA_1
    ),
    "UnsupportedOperation.NotExternalCmk": at("DeleteImportedKeyMaterial", KeyId=a_key),
    "UnsupportedOperation.ExternalCmkCanNotRotate": at(
        "EnableKeyRotation", KeyId=lambda c: external_key(c).key_id
    ),
    "UnsupportedOperation.RotateNotSupported": at("RotateKey", KeyId=a_key),
    "UnsupportedOperation": at("SignByAsymmetricKey"),
    "LimitExceeded": None,
    "RequestLimitExceeded": throttled,
    "RequestLimitExceeded.RotateRateLimited": rotated_twice,
    "MissingParameter": at("ReEncrypt"),
    "UnknownParameter": at("ReEncrypt", CiphertextBlob="", Nonsense=1),
    "InvalidAction": at("Nonsense"),
    "NoSuchVersion": at("ReEncrypt", Version="2017-03-12"),
    "UnsupportedRegion": at("ReEncrypt", Region="ap-beijing"),
    # What a server says of a request before it is a call (tests/server).
    "RequestSizeLimitExceeded": None,
    "UnsupportedProtocol": None,
    "AuthFailure.InvalidAuthorization": None,
    "AuthFailure.SecretIdNotFound": None,
    "AuthFailure.TokenFailure": None,
    "AuthFailure.SignatureFailure": None,
    "AuthFailure.SignatureExpire": None,
}


def on_pair(cloud: Cloud, call: str, *left_out: str) -> dict[str, Any]:
    pair, key = cloud.pair(), cloud.create()
    version = pair.versions[0].version_id
    blob = cloud.kms.asymmetric_encrypt(pair.key_id, version, SHA_256, b"secret")
    fields = {
        "ciphertextBlob": blob,
        "destinationKeyId": key.key_id,
        "sourceKeyId": pair.key_id,
        "sourceKeyVersionId": version,
        "sourceEncryptionAlgorithm": SHA_256,
    }
    rest = {k: v for k, v in fields.items() if k not in left_out}
    return cloud.kms.call(call, rest)


def without_balance(cloud: Cloud) -> dict[str, Any]:
    key = cloud.create()
    cloud.lab.settings.set("balance", 0)
    return cloud.kms.call("encrypt", {"cmkUuid": key.key_id, "plaintext": "YQ=="})


def without_rights(cloud: Cloud) -> dict[str, Any]:
    cloud.lab.credentials.create("nobody", rights=[])
    return cloud.open(credential="nobody").call("listKeys", {})


def too_often(cloud: Cloud) -> dict[str, Any]:
    kms, request = cloud.open(rate_limit=True), {"ciphertextBlob": a_blob(cloud)}
    for _ in range(100):
        kms.call("decrypt", request)
    return kms.call("decrypt", request)


EXPORT = {"cmkUuid": a_key, "publicKeyBlob": "AA==", "wrappingKeySpec": "RSA_2048"}

# CTyun: code → HTTP status and cause.
CTYUN_CAUSES: dict[str, tuple[str, Cause | None]] = {
    "KMS.0101": ("400", at("updateKeyDescription", cmkUuid=a_key)),
    "KMS.0102": ("400", at("describeKey")),
    "KMS.0103": ("400", at("updateAlias", cmkUuid=a_key)),
    "KMS.0105": ("400", at("getPublicKey", cmkUuid=a_pair)),
    "KMS.0107": ("400", at("encrypt", cmkUuid=a_key)),
    "KMS.0108": ("400", at("reEncrypt", destinationKeyId=a_key)),
    "KMS.0110": ("400", lambda c: on_pair(c, "reEncrypt", "sourceKeyId")),
    "KMS.0111": ("400", lambda c: on_pair(c, "reEncrypt", "sourceKeyVersionId")),
    "KMS.0112": ("400", at("reEncrypt", ciphertextBlob=a_blob)),
    "KMS.0114": ("400", lambda c: on_pair(c, "reEncrypt", "sourceEncryptionAlgorithm")),
    "KMS.0115": ("400", None),  # the region is in a header, which a server looks at
    "KMS.0116": ("400", at("updateRotationPolicy", cmkUuid=a_key)),
    "KMS.0118": ("400", at("updateRotationPolicy", cmkUuid=a_key, enableAutomaticRotation=True)),
    "KMS.0121": ("400", at("generateAndExportDataKey", **{**EXPORT, "publicKeyBlob": ""})),
    "KMS.0122": ("400", None),  # 30 days are the default
    "KMS.0126": ("400", None),  # AES_256 is the default
    "LAB.InvalidParameter": ("400", at("listKeys", pageSize=0)),
    "LAB.InvalidCiphertext": ("400", at("decrypt", ciphertextBlob="no blob")),
    "LAB.DecryptFailed": (
        "400",
        at(
            "asymmetricDecrypt",
            cmkUuid=lambda c: c.pair().key_id,
            keyVersionId="00000000-0000-4000-0001-000000000001",
            algorithm=SHA_1,
            ciphertextBlob=b64(bytes(256)),
        ),
    ),
    "LAB.Unsupported": ("400", at("createKey", keySpec="Ctyun_SM2")),
    "LAB.LimitReached": ("400", None),
    "LAB.BalanceExhausted": ("400", without_balance),
    "LAB.Unauthorized": ("401", without_rights),
    "LAB.KeyNotFound": ("404", at("describeKey", cmkUuid=UNKNOWN_ID)),
    "LAB.UnknownAction": ("404", at("nonsense")),
    "LAB.KeyUnavailable": (
        "404",
        at("encrypt", cmkUuid=lambda c: changed(c, "disable_key"), plaintext="YQ=="),
    ),
    # What a server says of a request before it is a call (tests/server).
    "LAB.RequestTooLarge": ("400", None),
    "LAB.Unauthenticated": ("401", None),
    "LAB.UnknownCredential": ("401", None),
    "LAB.SignatureMismatch": ("401", None),
    "LAB.SignatureExpired": ("401", None),
    "LAB.RequestReplayed": ("401", None),
    "LAB.Throttled": ("500", too_often),
    "LAB.InternalError": ("500", None),
    "KMS.0514": ("500", None),  # the seed's own sample of a code; what it means is not known
}
STATUS_TEXTS = {
    "400": "参数缺失或错误",
    "401": "用户验证错误",
    "404": "操作目标不可用",
    "500": "系统内部错误",
}


def test_every_code_has_its_row() -> None:
    assert set(TENCENT_CAUSES) == {c.code for c in tencent_codes.CODES}
    assert set(CTYUN_CAUSES) == {c.code for c in ctyun_codes.CODES}


@pytest.mark.parametrize("wanted", [c for c, cause in TENCENT_CAUSES.items() if cause])
def test_tencent_code_by_cause(tencent: Cloud, wanted: str) -> None:
    cause = TENCENT_CAUSES[wanted]
    assert cause is not None
    assert code(cause(tencent)) == wanted


@pytest.mark.parametrize("wanted", [c for c, (_, cause) in CTYUN_CAUSES.items() if cause])
def test_ctyun_code_by_cause(ctyun: Cloud, wanted: str) -> None:
    status, cause = CTYUN_CAUSES[wanted]
    assert cause is not None
    answer = cause(ctyun)
    assert (answer["code"], answer["errorCode"], answer["data"]) == (status, wanted, None)
    assert answer["msg"] == ctyun_codes.message_of(wanted)


@pytest.mark.parametrize("wanted", TENCENT_CAUSES)
def test_tencent_code_by_fault(tencent: Cloud, wanted: str) -> None:
    tencent.lab.faults.add("ReEncrypt", wanted)
    answer = tencent.kms.call("ReEncrypt", {"CiphertextBlob": ""})
    assert code(answer) == wanted
    assert answer["Response"]["Error"]["Message"] == tencent_codes.message_of(wanted, "zh-CN")
    tencent.lab.faults.add("ReEncrypt", wanted)
    with pytest.raises(KmsError) as caught:
        tencent.kms.re_encrypt("")
    assert isinstance(caught.value, type(tencent_codes.error_for(wanted)))


@pytest.mark.parametrize("wanted", CTYUN_CAUSES)
def test_ctyun_code_by_fault(ctyun: Cloud, wanted: str) -> None:
    ctyun.lab.faults.add("reEncrypt", wanted)
    request = {"ciphertextBlob": "x", "destinationKeyId": "x"}
    answer = ctyun.kms.call("reEncrypt", request)
    assert (answer["code"], answer["errorCode"]) == (CTYUN_CAUSES[wanted][0], wanted)
    assert answer["data"] is None


@pytest.mark.parametrize("status", STATUS_TEXTS)
def test_ctyun_status_by_fault(ctyun: Cloud, status: str) -> None:
    """Each status of seed 004 with the text that it has there."""
    ctyun.lab.faults.add("reEncrypt", status)
    answer = ctyun.kms.call("reEncrypt", {"ciphertextBlob": "x", "destinationKeyId": "x"})
    assert (answer["code"], answer["msg"]) == (status, STATUS_TEXTS[status])


SEED_MESSAGES = {
    # code: (seed 000, seed 001)
    "InternalError": ("内部错误。", "Internal error."),
    "InvalidParameter": ("参数错误。", "Incorrect parameter."),
    "InvalidParameterValue.InvalidCiphertext": (
        "密文格式错误。",
        "The ciphertext is in incorrect format.",
    ),
    "InvalidParameterValue.InvalidKeyId": ("KeyId不合法。", "Invalid KeyId."),
    "ResourceUnavailable.CmkDisabled": ("CMK已被禁用。", "The CMK has been disabled."),
    "ResourceUnavailable.CmkNotFound": ("CMK不存在。", "The CMK does not exist."),
    "UnauthorizedOperation": ("未授权操作。", "Unauthorized operation."),
}


@pytest.mark.parametrize("wanted", SEED_MESSAGES)
def test_tencent_messages_are_the_documents(tencent: Cloud, wanted: str) -> None:
    for language, message in zip(("zh-CN", "en-US"), SEED_MESSAGES[wanted], strict=True):
        tencent.lab.faults.add("ReEncrypt", wanted)
        answer = tencent.kms.call("ReEncrypt", {"CiphertextBlob": ""}, language=language)
        assert answer["Response"]["Error"] == {"Code": wanted, "Message": message}


def test_an_answer_says_no_more_than_the_vendors(tencent: Cloud) -> None:
    """Messages are constants: no id, state or parameter is in them."""
    key = tencent.create()
    tencent.kms.disable_key(key.key_id)
    answer = tencent.kms.call("Encrypt", {"KeyId": key.key_id, "Plaintext": "YQ=="})
    assert key.key_id not in str(answer)
    assert set(answer["Response"]["Error"]) == {"Code", "Message"}


def test_every_error_has_a_code() -> None:
    """A new error that nobody mapped would be answered as an internal one."""
    from kmslab import errors

    plain = {errors.KmsError, errors.Retryable, errors.InternalError, errors.KeyUnavailable}
    found = [
        e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.KmsError)
    ]
    tencents = {errors.ImportTokenExpired, errors.KeyInUse, errors.BindingNotFound}
    for module, others in ((tencent_codes, {errors.BalanceExhausted}), (ctyun_codes, tencents)):
        for error in set(found) - plain - others:
            assert not module.code_of(error(""), "anything").endswith("InternalError"), error
    assert tencent_codes.code_of(InternalError(""), "Encrypt") == "InternalError"
    assert ctyun_codes.code_of(ctyun_codes.error_for("KMS.0514"), "encrypt") == "KMS.0514"
    assert ctyun_codes.code_of(MissingParameter(""), "encrypt") == "KMS.0101"


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
def test_a_code_and_its_error_stand_for_each_other(provider: str) -> None:
    module: Any = tencent_codes if provider == TENCENT else ctyun_codes
    for known in module.CODES:
        error = module.error_for(known.code)
        assert isinstance(error, known.error)
        assert module.code_of(error, "anything") == known.code
    with pytest.raises(KeyError):
        module.error_for("Nonsense")


def test_external_keys_have_their_origin(tencent: Cloud) -> None:
    assert external_key(tencent).origin is KeyOrigin.EXTERNAL
