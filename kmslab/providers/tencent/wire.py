"""Requests and answers as Tencent Cloud's API has them: action and parameters in, envelope out.

Parameters, limits and fields: seeds 000 and 001 for ReEncrypt, reference/tencent.md sections 1, 2
and 4 for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kmslab.encoding import b64
from kmslab.errors import (
    InvalidKeyUsage,
    InvalidPlaintext,
    InvalidRequest,
    KmsError,
    UnknownAction,
    UnknownRegion,
    UnknownVersion,
    Unsupported,
)
from kmslab.model import Key, KeyOrigin, KeySpec, KeyState
from kmslab.providers.local import Session
from kmslab.providers.parameters import Kind, Parameter, needed, optional, read
from kmslab.providers.tencent import codes, rules
from kmslab.providers.tencent.service import TencentKms

VERSION = "2019-01-18"
MOST_PAGE = 200
_YEAR = 31_536_000

_STATES = {
    KeyState.ENABLED: "Enabled",
    KeyState.DISABLED: "Disabled",
    KeyState.PENDING_DELETION: "PendingDelete",
    KeyState.PENDING_IMPORT: "PendingImport",
    KeyState.ARCHIVED: "Archived",
}
_STATE_FILTERS = (
    None,
    KeyState.ENABLED,
    KeyState.DISABLED,
    KeyState.PENDING_DELETION,
    KeyState.PENDING_IMPORT,
    KeyState.ARCHIVED,
)
_RSA_USAGE = "ASYMMETRIC_DECRYPT_RSA_2048"
_USAGES = {"ENCRYPT_DECRYPT": KeySpec.AES_256, _RSA_USAGE: KeySpec.RSA_2048}
_KNOWN_USAGES = frozenset(
    {
        "ASYMMETRIC_DECRYPT_SM2",
        "ASYMMETRIC_SIGN_VERIFY_SM2",
        "ASYMMETRIC_SIGN_VERIFY_RSA_2048",
        "ASYMMETRIC_SIGN_VERIFY_ECC",
        "ASYMMETRIC_SIGN_VERIFY_ECDSA384",
    }
)
_ORIGINS = {1: KeyOrigin.KMS, 2: KeyOrigin.EXTERNAL}

# Actions of the cloud that a lab does not offer (reference/tencent.md section 1).
UNSUPPORTED = frozenset(
    [
        "AsymmetricSm2Decrypt",
        "SignByAsymmetricKey",
        "VerifyByAsymmetricKey",
        "ImportDataKey",
        "DescribeDataKey",
        "DescribeDataKeys",
        "ListDataKeys",
        "ListDataKeyDetail",
        "EnableDataKey",
        "EnableDataKeys",
        "DisableDataKey",
        "DisableDataKeys",
        "UpdateDataKeyName",
        "UpdateDataKeyDescription",
        "ScheduleDataKeyDeletion",
        "CancelDataKeyDeletion",
        "GetDataKeyCiphertextBlob",
        "GetDataKeyPlaintext",
        "PostQuantumCryptoEncrypt",
        "PostQuantumCryptoDecrypt",
        "PostQuantumCryptoSign",
        "PostQuantumCryptoVerify",
        "CreateWhiteBoxKey",
        "DeleteWhiteBoxKey",
        "DescribeWhiteBoxKey",
        "DescribeWhiteBoxKeyDetails",
        "DescribeWhiteBoxDecryptKey",
        "DescribeWhiteBoxDeviceFingerprints",
        "DescribeWhiteBoxServiceStatus",
        "EnableWhiteBoxKey",
        "EnableWhiteBoxKeys",
        "DisableWhiteBoxKey",
        "DisableWhiteBoxKeys",
        "EncryptByWhiteBox",
        "OverwriteWhiteBoxDeviceFingerprints",
    ]
)

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Action:
    """A call: its parameters, and what answers it."""

    parameters: tuple[Parameter, ...]
    handle: Callable[[TencentKms, Fields], dict[str, Any]]


def answer(
    kms: TencentKms, session: Session, action: str, request: object, language: str
) -> dict[str, Any]:
    """The envelope that answers a request. `Action`, `Version` and `Region` may be in it."""
    session.latest.request_id = session.latest.refusal = ""
    try:
        found = _action(action)
        values = read(found.parameters, _without_common(request, action, session.region))
        fields = found.handle(kms, values)
    except KmsError as error:
        session.latest.refusal = str(error)
        code = codes.code_of(error, action)
        failed = {"Code": code, "Message": codes.message_of(code, language)}
        return {"Response": {"Error": failed, "RequestId": _request_id(session)}}
    fields["RequestId"] = _request_id(session)
    return {"Response": fields}


def _request_id(session: Session) -> str:
    # A request that was refused before it became a call has an id of its own.
    return session.latest.request_id or session.request_id()


def _action(action: str) -> Action:
    if action in UNSUPPORTED:
        raise Unsupported(f"a lab does not offer {action}")
    if action not in ACTIONS:
        raise UnknownAction(f"there is no action {action}", parameter="Action")
    return ACTIONS[action]


def _without_common(request: object, action: str, region: str) -> object:
    if not isinstance(request, Mapping):
        return request
    rest = dict(request)
    if rest.pop("Action", None) not in (None, action):
        raise InvalidRequest("Action is another than the one called", parameter="Action")
    if rest.pop("Version", None) not in (None, VERSION):
        raise UnknownVersion(f"Version is {VERSION}", parameter="Version")
    if rest.pop("Region", None) not in (None, region):
        raise UnknownRegion(f"this KMS is in {region}", parameter="Region")
    return rest


# Keys


def _metadata(key: Key) -> dict[str, Any]:
    rotates = key.rotation_days is not None
    created = _seconds(key.created_at)
    # With rotation off the cloud's samples carry the creation time and 365 days.
    next_rotation = _seconds(key.next_rotation_at) if rotates else created + _YEAR
    return {
        "KeyId": key.key_id,
        "Alias": key.alias,
        "CreateTime": created,
        "Description": key.description,
        "KeyState": _STATES[key.state],
        "KeyUsage": "ENCRYPT_DECRYPT" if key.spec.symmetric else _RSA_USAGE,
        "Type": 4 if key.spec is KeySpec.SM4 else 2,
        "CreatorUin": 0,
        "CreatorUinString": "0",
        "KeyRotationEnabled": rotates,
        "Owner": "user",
        "NextRotateTime": next_rotation,
        "DeletionDate": _seconds(key.deletion_at),
        "Origin": "EXTERNAL" if key.origin is KeyOrigin.EXTERNAL else "TENCENT_KMS",
        "ValidTo": _seconds(key.material_expires_at),
        "ResourceId": f"creatorUin/0/{key.key_id}",
        "HsmClusterId": "",
        "RotateDays": key.rotation_days or 0,
        "LastRotateTime": _seconds(key.last_rotated_at),
    }


def _seconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp())


def _create_key(kms: TencentKms, p: Fields) -> dict[str, Any]:
    usage = p["KeyUsage"] or "ENCRYPT_DECRYPT"
    if usage in _KNOWN_USAGES:
        raise Unsupported(f"a lab has no keys for {usage}")
    if usage not in _USAGES:
        raise InvalidKeyUsage(f"there is no KeyUsage {usage}", parameter="KeyUsage")
    kind = 1 if p["Type"] is None else p["Type"]
    if kind not in _ORIGINS:
        raise InvalidRequest("Type is 1 or 2", parameter="Type")
    _unsupported(p, "Tags", "HsmClusterId")
    key = kms.create_key(
        p["Alias"],
        description=p["Description"] or "",
        spec=_USAGES[usage],
        origin=_ORIGINS[kind],
    )
    made = _metadata(key)
    names = ("KeyId", "Alias", "CreateTime", "Description", "KeyState", "KeyUsage", "HsmClusterId")
    return {**{name: made[name] for name in names}, "TagCode": 0, "TagMsg": ""}


def _describe_keys(kms: TencentKms, p: Fields) -> dict[str, Any]:
    return {"KeyMetadatas": [_metadata(key) for key in kms.describe_keys(p["KeyIds"])]}


def _page(p: Fields, keys: Sequence[Key]) -> Sequence[Key]:
    offset = p["Offset"] or 0
    limit = 10 if p["Limit"] is None else p["Limit"]
    if offset < 0:
        raise InvalidRequest("Offset is 0 or more", parameter="Offset")
    if not 1 <= limit <= MOST_PAGE:
        raise InvalidRequest(f"Limit is 1 to {MOST_PAGE}", parameter="Limit")
    return keys[offset : offset + limit]


def _list_keys(kms: TencentKms, p: Fields) -> dict[str, Any]:
    _check_role(p)
    _unsupported(p, "HsmClusterId")
    listed = (KeyState.ENABLED, KeyState.DISABLED, KeyState.PENDING_IMPORT)
    keys = [key for key in kms.list_keys() if key.state in listed]
    return {"Keys": [{"KeyId": k.key_id} for k in _page(p, keys)], "TotalCount": len(keys)}


def _list_key_detail(kms: TencentKms, p: Fields) -> dict[str, Any]:
    _check_role(p)
    _unsupported(p, "HsmClusterId", "TagFilters", "MemberAccounts")
    _check_filters(p)
    keys = [key for key in kms.list_key_detail() if _wanted(key, p)]
    if not p["OrderType"]:
        keys.reverse()
    return {"TotalCount": len(keys), "KeyMetadatas": [_metadata(k) for k in _page(p, keys)]}


def _check_role(p: Fields) -> None:
    if p["Role"] not in (None, 0, 1):
        raise InvalidRequest("Role is 0 or 1", parameter="Role")
    if p["Role"]:
        raise Unsupported("a lab has no keys of cloud products")


def _unsupported(p: Fields, *names: str) -> None:
    for name in names:
        if p[name]:
            raise Unsupported(f"a lab has nothing for {name}")


def _check_filters(p: Fields) -> None:
    if not 0 <= (p["KeyState"] or 0) < len(_STATE_FILTERS):
        raise InvalidRequest("KeyState is 0 to 5", parameter="KeyState")
    if (p["Origin"] or "ALL") not in ("ALL", "TENCENT_KMS", "EXTERNAL"):
        raise InvalidRequest("Origin is TENCENT_KMS, EXTERNAL or ALL", parameter="Origin")
    if p["OrderType"] not in (None, 0, 1):
        raise InvalidRequest("OrderType is 0 or 1", parameter="OrderType")


def _wanted(key: Key, p: Fields) -> bool:
    found = _metadata(key)
    state, search = _STATE_FILTERS[p["KeyState"] or 0], p["SearchKeyAlias"] or ""
    origin = p["Origin"] or "ALL"
    return (
        (state is None or key.state is state)
        and origin in ("ALL", found["Origin"])
        and (p["KeyUsage"] or "ENCRYPT_DECRYPT") in ("ALL", found["KeyUsage"])
        and (search in key.alias or search in key.key_id)
    )


def _schedule_key_deletion(kms: TencentKms, p: Fields) -> dict[str, Any]:
    key = kms.schedule_key_deletion(p["KeyId"], p["PendingWindowInDays"])
    return {"DeletionDate": _seconds(key.deletion_at), "KeyId": key.key_id}


def _enable_key_rotation(kms: TencentKms, p: Fields) -> dict[str, Any]:
    kms.enable_key_rotation(
        p["KeyId"], rotate_days=365 if p["RotateDays"] is None else p["RotateDays"]
    )
    return {}


# Data


def _encrypt(kms: TencentKms, p: Fields) -> dict[str, Any]:
    blob = kms.encrypt(p["KeyId"], _plaintext(p["Plaintext"]), context=p["EncryptionContext"])
    return {"CiphertextBlob": blob, "KeyId": p["KeyId"]}


def _plaintext(text: str) -> bytes:
    try:
        return rules.base64(text, "Plaintext")
    except InvalidRequest as error:
        raise InvalidPlaintext(str(error), parameter="Plaintext") from None


def _decrypt(kms: TencentKms, p: Fields) -> dict[str, Any]:
    _unsupported(p, "EncryptionPublicKey", "EncryptionAlgorithm")
    plaintext = kms.decrypt(p["CiphertextBlob"], context=p["EncryptionContext"])
    return {"KeyId": kms.key_of(p["CiphertextBlob"]), "Plaintext": b64(plaintext)}


def _re_encrypt(kms: TencentKms, p: Fields) -> dict[str, Any]:
    result = kms.re_encrypt(
        p["CiphertextBlob"],
        destination_key_id=p["DestinationKeyId"],
        source_context=p["SourceEncryptionContext"],
        destination_context=p["DestinationEncryptionContext"],
    )
    return {
        "CiphertextBlob": result.ciphertext_blob,
        "KeyId": result.key_id,
        "SourceKeyId": result.source_key_id,
        "ReEncrypted": result.re_encrypted,
    }


def _generate_data_key(kms: TencentKms, p: Fields) -> dict[str, Any]:
    _unsupported(p, *_NOT_OF_A_LAB)
    made = kms.generate_data_key(
        p["KeyId"],
        key_spec=p["KeySpec"],
        number_of_bytes=p["NumberOfBytes"],
        context=p["EncryptionContext"],
    )
    return {
        "KeyId": made.key_id,
        "Plaintext": b64(made.plaintext or b""),
        "CiphertextBlob": made.ciphertext_blob,
        "DataKeyId": "",
        "TagCode": 0,
        "TagMsg": "",
    }


# Pairs and imported material


def _get_public_key(kms: TencentKms, p: Fields) -> dict[str, Any]:
    found = kms.get_public_key(p["KeyId"])
    return {"KeyId": found.key_id, "PublicKey": b64(found.der), "PublicKeyPem": found.pem}


def _asymmetric_rsa_decrypt(kms: TencentKms, p: Fields) -> dict[str, Any]:
    plaintext = kms.asymmetric_rsa_decrypt(p["KeyId"], p["Ciphertext"], p["Algorithm"])
    return {"KeyId": p["KeyId"], "Plaintext": b64(plaintext)}


def _get_parameters_for_import(kms: TencentKms, p: Fields) -> dict[str, Any]:
    found = kms.get_parameters_for_import(
        p["KeyId"],
        wrapping_algorithm=p["WrappingAlgorithm"],
        wrapping_key_spec=p["WrappingKeySpec"],
    )
    return {
        "KeyId": found.key_id,
        "ImportToken": found.import_token,
        "PublicKey": b64(found.public_key_der),
        "ParametersValidTo": _seconds(found.valid_to),
    }


def _import_key_material(kms: TencentKms, p: Fields) -> dict[str, Any]:
    valid_to = p["ValidTo"] or 0
    if not 0 <= valid_to <= 2_147_443_200:
        raise InvalidRequest("ValidTo is 0 to 2147443200", parameter="ValidTo")
    kms.import_key_material(
        p["KeyId"],
        p["EncryptedKeyMaterial"],
        p["ImportToken"],
        valid_to=datetime.fromtimestamp(valid_to, UTC) if valid_to else None,
    )
    return {}


# The service


def _get_service_status(kms: TencentKms, _p: Fields) -> dict[str, Any]:
    # What a lab has none of is 0, false or empty; it has room for as many keys as an integer holds.
    return {
        "ServiceEnabled": True,
        "InvalidType": 1,
        "UserLevel": 0,
        "ProExpireTime": 0,
        "ProRenewFlag": 0,
        "ProResourceId": "",
        "ExclusiveVSMEnabled": False,
        "ExclusiveHSMEnabled": False,
        "SubscriptionInfo": "",
        "CmkUserCount": kms.get_service_status(),
        "CmkLimit": 2**31 - 1,
        "IsAllowedDataKeyHosted": False,
        "IsAllowedSync": False,
    }


def _list_algorithms(kms: TencentKms, _p: Fields) -> dict[str, Any]:
    found = kms.list_algorithms()
    symmetric = [{"KeyUsage": "ENCRYPT_DECRYPT", "Algorithm": s} for s in found if s.symmetric]
    pairs = [{"KeyUsage": _RSA_USAGE, "Algorithm": s} for s in found if not s.symmetric]
    return {
        "SymmetricAlgorithms": symmetric,
        "AsymmetricAlgorithms": pairs,
        "AsymmetricSignVerifyAlgorithms": [],
    }


def _on_key(
    act: Callable[[TencentKms, str], object],
) -> Callable[[TencentKms, Fields], dict[str, Any]]:
    def handle(kms: TencentKms, p: Fields) -> dict[str, Any]:
        act(kms, p["KeyId"])
        return {}

    return handle


def _binding(p: Fields) -> tuple[str, str, str]:
    return p["KeyId"], p["ProductId"], p["ResourceId"]


_KEY = needed("KeyId")
_BINDING = needed("KeyId", "ProductId", "ResourceId")
# For administrators of several accounts; a lab has one, and looks no further at it.
_MEMBER = (Parameter("MemberAccount", Kind.OBJECT),)
_MANAGED_KEY = (*_KEY, *_MEMBER)
_CONTEXT = optional("EncryptionContext")
_PUBLIC = optional("EncryptionPublicKey", "EncryptionAlgorithm")
# Of GenerateDataKey: a lab neither hosts data keys nor gives them under a public key.
_NOT_OF_A_LAB = (
    "EncryptionPublicKey",
    "EncryptionAlgorithm",
    "IsHostedByKms",
    "DataKeyName",
    "HsmClusterId",
    "Tags",
)
_KEY_IDS = (Parameter("KeyIds", Kind.STRINGS, required=True), *_MEMBER)
_PAGING = tuple(Parameter(name, Kind.INTEGER) for name in ("Offset", "Limit", "Role"))

ACTIONS: Mapping[str, Action] = {
    "CreateKey": Action(
        (
            *needed("Alias"),
            *optional("Description", "KeyUsage", "HsmClusterId"),
            Parameter("Type", Kind.INTEGER),
            Parameter("Tags", Kind.OBJECTS),
        ),
        _create_key,
    ),
    "DescribeKey": Action(
        _MANAGED_KEY, lambda kms, p: {"KeyMetadata": _metadata(kms.describe_key(p["KeyId"]))}
    ),
    "DescribeKeys": Action(_KEY_IDS, _describe_keys),
    "ListKeys": Action((*_PAGING, *optional("HsmClusterId")), _list_keys),
    "ListKeyDetail": Action(
        (
            *_PAGING,
            *(Parameter(name, Kind.INTEGER) for name in ("OrderType", "KeyState")),
            *optional("SearchKeyAlias", "Origin", "KeyUsage", "HsmClusterId"),
            *(Parameter(name, Kind.OBJECTS) for name in ("TagFilters", "MemberAccounts")),
        ),
        _list_key_detail,
    ),
    "EnableKey": Action(_MANAGED_KEY, _on_key(lambda kms, key_id: kms.enable_key(key_id))),
    "EnableKeys": Action(_KEY_IDS, lambda kms, p: _nothing(kms.enable_keys(p["KeyIds"]))),
    "DisableKey": Action(_MANAGED_KEY, _on_key(lambda kms, key_id: kms.disable_key(key_id))),
    "DisableKeys": Action(_KEY_IDS, lambda kms, p: _nothing(kms.disable_keys(p["KeyIds"]))),
    "UpdateAlias": Action(
        (*needed("Alias", "KeyId"), *_MEMBER),
        lambda kms, p: _nothing(kms.update_alias(p["KeyId"], p["Alias"])),
    ),
    "UpdateKeyDescription": Action(
        (*needed("Description", "KeyId"), *_MEMBER),
        lambda kms, p: _nothing(kms.update_key_description(p["KeyId"], p["Description"])),
    ),
    "ScheduleKeyDeletion": Action(
        (*_MANAGED_KEY, Parameter("PendingWindowInDays", Kind.INTEGER, required=True)),
        _schedule_key_deletion,
    ),
    "CancelKeyDeletion": Action(
        _MANAGED_KEY, lambda kms, p: {"KeyId": kms.cancel_key_deletion(p["KeyId"]).key_id}
    ),
    "ArchiveKey": Action(_MANAGED_KEY, _on_key(lambda kms, key_id: kms.archive_key(key_id))),
    "CancelKeyArchive": Action(
        _MANAGED_KEY, _on_key(lambda kms, key_id: kms.cancel_key_archive(key_id))
    ),
    "EnableKeyRotation": Action(
        (*_MANAGED_KEY, Parameter("RotateDays", Kind.INTEGER)), _enable_key_rotation
    ),
    "DisableKeyRotation": Action(
        _MANAGED_KEY, _on_key(lambda kms, key_id: kms.disable_key_rotation(key_id))
    ),
    "GetKeyRotationStatus": Action(
        _MANAGED_KEY, lambda kms, p: {"KeyRotationEnabled": kms.get_key_rotation_status(p["KeyId"])}
    ),
    "RotateKey": Action(_MANAGED_KEY, lambda kms, p: {"TaskId": _task(kms.rotate_key(p["KeyId"]))}),
    "Encrypt": Action((*needed("KeyId", "Plaintext"), *_CONTEXT), _encrypt),
    "Decrypt": Action((*needed("CiphertextBlob"), *_CONTEXT, *_PUBLIC), _decrypt),
    "ReEncrypt": Action(
        (
            *needed("CiphertextBlob"),
            *optional(
                "DestinationKeyId", "SourceEncryptionContext", "DestinationEncryptionContext"
            ),
        ),
        _re_encrypt,
    ),
    "GenerateDataKey": Action(
        (
            *_KEY,
            *optional("KeySpec", "DataKeyName", "Description", "HsmClusterId"),
            *_CONTEXT,
            *_PUBLIC,
            *(Parameter(name, Kind.INTEGER) for name in ("NumberOfBytes", "IsHostedByKms")),
            Parameter("Tags", Kind.OBJECTS),
        ),
        _generate_data_key,
    ),
    "GenerateRandom": Action(
        (Parameter("NumberOfBytes", Kind.INTEGER, required=True),),
        lambda kms, p: {"Plaintext": b64(kms.generate_random(p["NumberOfBytes"]))},
    ),
    "GetServiceStatus": Action((), _get_service_status),
    "GetRegions": Action((), lambda kms, p: {"Regions": list(kms.get_regions())}),
    "ListAlgorithms": Action((), _list_algorithms),
    "GetPublicKey": Action(_KEY, _get_public_key),
    "AsymmetricRsaDecrypt": Action(
        needed("KeyId", "Ciphertext", "Algorithm"), _asymmetric_rsa_decrypt
    ),
    "GetParametersForImport": Action(
        needed("KeyId", "WrappingAlgorithm", "WrappingKeySpec"), _get_parameters_for_import
    ),
    "ImportKeyMaterial": Action(
        (
            *needed("EncryptedKeyMaterial", "ImportToken", "KeyId"),
            Parameter("ValidTo", Kind.INTEGER),
        ),
        _import_key_material,
    ),
    "DeleteImportedKeyMaterial": Action(
        _KEY, _on_key(lambda kms, key_id: kms.delete_imported_key_material(key_id))
    ),
    "BindCloudResource": Action(
        _BINDING, lambda kms, p: _nothing(kms.bind_cloud_resource(*_binding(p)))
    ),
    "UnbindCloudResource": Action(
        _BINDING, lambda kms, p: _nothing(kms.unbind_cloud_resource(*_binding(p)))
    ),
}


def _nothing(_done: object) -> dict[str, Any]:
    return {}


def _task(key: Key) -> str:
    # The cloud gives the id of a task that nothing asks for; the new version's id serves.
    return key.versions[-1].version_id
