"""Requests and answers as CTyun has them: call and JSON body in, envelope out.

reEncrypt is documented (seed 004). The other calls have no public page: design annex A is the
lab's own, after the names in the user guide, and docs/semantics.md says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kmslab.encoding import b64
from kmslab.errors import (
    InvalidPlaintext,
    InvalidRequest,
    KmsError,
    MissingParameter,
    UnknownAction,
    Unsupported,
)
from kmslab.model import DataKey, Key, KeySpec, KeyState, KeyVersion
from kmslab.providers.ctyun import codes, rules
from kmslab.providers.ctyun.service import CtyunKms
from kmslab.providers.local import Session
from kmslab.providers.parameters import Kind, Parameter, needed, optional, read

MOST_PAGE = 100
_INTERVAL = re.compile(r"([1-9][0-9]{0,9})([dhms])")
_UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

_SPECS = {"AES_256": KeySpec.AES_256, "Ctyun_SM4": KeySpec.SM4, "RSA_2048": KeySpec.RSA_2048}
_SPEC_NAMES = {spec: name for name, spec in _SPECS.items()}
_STATES = {
    KeyState.ENABLED: "Enabled",
    KeyState.DISABLED: "Disabled",
    KeyState.PENDING_DELETION: "PendingDeletion",
}

Fields = Mapping[str, Any]
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call: its message on success, its body, and what answers it."""

    message: str
    parameters: tuple[Parameter, ...]
    handle: Callable[[CtyunKms, Fields], dict[str, Any] | None]


def answer(kms: CtyunKms, session: Session, action: str, request: object) -> dict[str, Any]:
    """The envelope that answers a request; `data` is null where it is an error."""
    session.latest.refusal = ""
    try:
        if action not in CALLS:
            raise UnknownAction(f"there is no call {action}")
        call = CALLS[action]
        values = _read(call.parameters, request)
        data = call.handle(kms, values)
    except KmsError as error:
        session.latest.refusal = str(error)
        code = codes.code_of(error, action)
        status, message = codes.status_of(code), codes.message_of(code)
        return {"code": str(status), "errorCode": code, "msg": message, "data": None}
    return {"code": "200", "errorCode": None, "msg": call.message, "data": data}


def _read(parameters: tuple[Parameter, ...], request: object) -> dict[str, Any]:
    if isinstance(request, Mapping):
        # The error table says "cannot be empty" of each.
        required = {parameter.name for parameter in parameters if parameter.required}
        request = {
            name: None if name in required and value == "" else value
            for name, value in request.items()
        }
    return read(parameters, request)


def _re_encrypt(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    result = kms.re_encrypt(
        p["ciphertextBlob"],
        destination_key_id=p["destinationKeyId"],
        source_key_id=p["sourceKeyId"],
        source_key_version_id=p["sourceKeyVersionId"],
        source_algorithm=p["sourceEncryptionAlgorithm"],
    )
    named: tuple[str | None, str | None] = (result.key_id, result.key_version_id)
    if kms.answers_with_source:
        named = (result.source_key_id, result.source_key_version_id)
    return {
        "cmkUuid": named[0],
        "keyVersionId": named[1],
        "ciphertextBlob": result.ciphertext_blob,
    }


# Keys


def _key(key: Key) -> dict[str, Any]:
    return {
        "cmkUuid": key.key_id,
        "keySpec": _SPEC_NAMES[key.spec],
        "keyState": _STATES[key.state],
        "aliasName": key.alias,
        "description": key.description,
        "creationDate": _date(key.created_at),
        "primaryKeyVersion": key.primary_version_id,
        "enableAutomaticRotation": key.rotation_days is not None,
        "rotationInterval": f"{key.rotation_days}d" if key.rotation_days else None,
        "lastRotationDate": _date(key.last_rotated_at),
        "nextRotationDate": _date(key.next_rotation_at),
        "deleteDate": _date(key.deletion_at),
    }


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _create_key(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    spec = p["keySpec"] or "AES_256"
    if spec == "Ctyun_SM2":
        raise Unsupported("a lab has no SM2 keys")
    if spec not in _SPECS:
        raise InvalidRequest(f"keySpec is {', '.join(_SPECS)}", parameter="keySpec")
    key = kms.create_key(
        spec=_SPECS[spec],
        alias=p["aliasName"] or "",
        description=p["description"] or "",
        rotation_days=_rotation_days(p),
    )
    return {**_key(key), "keyVersionId": key.versions[0].version_id}


def _rotation_days(p: Fields) -> int | None:
    if not p["enableAutomaticRotation"]:
        return None
    interval = p["rotationInterval"]
    if not interval:
        raise MissingParameter("rotationInterval is needed", parameter="rotationInterval")
    found = _INTERVAL.fullmatch(interval)
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]] if found else 0
    if not seconds or seconds % 86_400:
        raise InvalidRequest(
            "rotationInterval is whole days, as 90d or 7776000s", parameter="rotationInterval"
        )
    return seconds // 86_400


def _update_rotation_policy(kms: CtyunKms, p: Fields) -> None:
    kms.update_rotation_policy(p["cmkUuid"], rotation_days=_rotation_days(p))


def _schedule_key_deletion(kms: CtyunKms, p: Fields) -> None:
    days = 30 if p["pendingWindowInDays"] is None else p["pendingWindowInDays"]
    kms.schedule_key_deletion(p["cmkUuid"], days)


def _page(p: Fields, items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    number = 1 if p["pageNumber"] is None else p["pageNumber"]
    size = 10 if p["pageSize"] is None else p["pageSize"]
    if number < 1:
        raise InvalidRequest("pageNumber is 1 or more", parameter="pageNumber")
    if not 1 <= size <= MOST_PAGE:
        raise InvalidRequest(f"pageSize is 1 to {MOST_PAGE}", parameter="pageSize")
    first = (number - 1) * size
    return {
        name: items[first : first + size],
        "totalCount": len(items),
        "pageNumber": number,
        "pageSize": size,
    }


def _version(version: KeyVersion) -> dict[str, Any]:
    return {"keyVersionId": version.version_id, "creationDate": _date(version.made_at)}


# Data


def _plaintext(text: str) -> bytes:
    try:
        return rules.base64(text, "plaintext")
    except InvalidRequest as error:
        raise InvalidPlaintext(str(error), parameter="plaintext") from None


def _encrypt(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    blob = kms.encrypt(p["cmkUuid"], _plaintext(p["plaintext"]))
    return {"ciphertextBlob": blob, **kms.named_in(blob)}


def _decrypt(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    plaintext = kms.decrypt(p["ciphertextBlob"])
    return {"plaintext": b64(plaintext), **kms.named_in(p["ciphertextBlob"])}


def _data_key(made: DataKey) -> dict[str, Any]:
    data = {
        "cmkUuid": made.key_id,
        "keyVersionId": made.key_version_id,
        "ciphertextBlob": made.ciphertext_blob,
    }
    if made.plaintext is not None:
        data["plaintext"] = b64(made.plaintext)
    if made.exported is not None:
        data["exportedDataKey"] = made.exported
    return data


def _generate_data_key(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    return _data_key(
        kms.generate_data_key(
            p["cmkUuid"], key_spec=p["keySpec"], number_of_bytes=p["numberOfBytes"]
        )
    )


def _generate_data_key_without_plaintext(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    return _data_key(
        kms.generate_data_key_without_plaintext(
            p["cmkUuid"], key_spec=p["keySpec"], number_of_bytes=p["numberOfBytes"]
        )
    )


def _generate_and_export_data_key(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    if p["wrappingKeySpec"] == "EC_SM2":
        raise Unsupported("a lab wraps nothing with SM2")
    if p["wrappingKeySpec"] != "RSA_2048":
        raise InvalidRequest("wrappingKeySpec is RSA_2048", parameter="wrappingKeySpec")
    return _data_key(
        kms.generate_and_export_data_key(
            p["cmkUuid"],
            public_key=rules.base64(p["publicKeyBlob"], "publicKeyBlob"),
            wrapping_algorithm=p["wrappingAlgorithm"],
            key_spec=p["keySpec"],
            number_of_bytes=p["numberOfBytes"],
        )
    )


# Pairs


def _get_public_key(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    found = kms.get_public_key(p["cmkUuid"], p["keyVersionId"])
    return {
        "cmkUuid": found.key_id,
        "keyVersionId": found.key_version_id,
        "publicKey": found.pem,
    }


def _asymmetric_encrypt(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    blob = kms.asymmetric_encrypt(
        p["cmkUuid"], p["keyVersionId"], p["algorithm"], _plaintext(p["plaintext"])
    )
    return {
        "cmkUuid": kms.key_id_of(p["cmkUuid"]),
        "keyVersionId": p["keyVersionId"],
        "ciphertextBlob": blob,
    }


def _asymmetric_decrypt(kms: CtyunKms, p: Fields) -> dict[str, Any]:
    plaintext = kms.asymmetric_decrypt(
        p["cmkUuid"], p["keyVersionId"], p["algorithm"], p["ciphertextBlob"]
    )
    return {
        "cmkUuid": kms.key_id_of(p["cmkUuid"]),
        "keyVersionId": p["keyVersionId"],
        "plaintext": b64(plaintext),
    }


def _on_key(
    act: Callable[[CtyunKms, str], object],
) -> Callable[[CtyunKms, Fields], dict[str, Any] | None]:
    def handle(kms: CtyunKms, p: Fields) -> dict[str, Any] | None:
        act(kms, p["cmkUuid"])
        return None

    return handle


def _update_alias(kms: CtyunKms, p: Fields) -> None:
    kms.update_alias(p["cmkUuid"], p["aliasName"])


def _update_key_description(kms: CtyunKms, p: Fields) -> None:
    kms.update_key_description(p["cmkUuid"], p["description"])


_KEY = needed("cmkUuid")
_PAGING = tuple(Parameter(name, Kind.INTEGER) for name in ("pageNumber", "pageSize"))
_DATA_KEY = (*_KEY, *optional("keySpec"), Parameter("numberOfBytes", Kind.INTEGER))
_ROTATION = optional("rotationInterval")

CALLS: Mapping[str, Call] = {
    "reEncrypt": Call(
        "转加密成功",
        (
            *needed("ciphertextBlob", "destinationKeyId"),
            *optional("sourceEncryptionAlgorithm", "sourceKeyId", "sourceKeyVersionId"),
        ),
        _re_encrypt,
    ),
    "createKey": Call(
        "创建密钥成功",
        (
            *optional("keySpec", "aliasName", "description"),
            *_ROTATION,
            Parameter("enableAutomaticRotation", Kind.BOOLEAN),
        ),
        _create_key,
    ),
    "describeKey": Call("查询密钥成功", _KEY, lambda kms, p: _key(kms.describe_key(p["cmkUuid"]))),
    "listKeys": Call(
        "查询密钥列表成功",
        _PAGING,
        lambda kms, p: _page(p, [_key(key) for key in kms.list_keys()], "keys"),
    ),
    "encrypt": Call("加密成功", needed("cmkUuid", "plaintext"), _encrypt),
    "decrypt": Call("解密成功", needed("ciphertextBlob"), _decrypt),
    "generateDataKey": Call("生成数据密钥成功", _DATA_KEY, _generate_data_key),
    "generateDataKeyWithoutPlaintext": Call(
        "生成数据密钥成功", _DATA_KEY, _generate_data_key_without_plaintext
    ),
    "generateAndExportDataKey": Call(
        "生成并导出数据密钥成功",
        (*_DATA_KEY, *needed("publicKeyBlob", "wrappingKeySpec", "wrappingAlgorithm")),
        _generate_and_export_data_key,
    ),
    "getPublicKey": Call("获取公钥成功", needed("cmkUuid", "keyVersionId"), _get_public_key),
    "asymmetricEncrypt": Call(
        "非对称加密成功",
        needed("cmkUuid", "keyVersionId", "algorithm", "plaintext"),
        _asymmetric_encrypt,
    ),
    "asymmetricDecrypt": Call(
        "非对称解密成功",
        needed("cmkUuid", "keyVersionId", "algorithm", "ciphertextBlob"),
        _asymmetric_decrypt,
    ),
    "createKeyVersion": Call(
        "创建密钥版本成功",
        _KEY,
        lambda kms, p: {"keyVersionId": kms.create_key_version(p["cmkUuid"]).version_id},
    ),
    "listKeyVersions": Call(
        "查询密钥版本成功",
        (*_KEY, *_PAGING),
        lambda kms, p: _page(
            p, [_version(v) for v in kms.list_key_versions(p["cmkUuid"])], "keyVersions"
        ),
    ),
    "updateRotationPolicy": Call(
        "更新轮转策略成功",
        (
            *_KEY,
            Parameter("enableAutomaticRotation", Kind.BOOLEAN, required=True),
            *_ROTATION,
        ),
        _update_rotation_policy,
    ),
    "enableKey": Call("启用密钥成功", _KEY, _on_key(lambda kms, key: kms.enable_key(key))),
    "disableKey": Call("禁用密钥成功", _KEY, _on_key(lambda kms, key: kms.disable_key(key))),
    "scheduleKeyDeletion": Call(
        "计划删除密钥成功",
        (*_KEY, Parameter("pendingWindowInDays", Kind.INTEGER)),
        _schedule_key_deletion,
    ),
    "cancelKeyDeletion": Call(
        "取消计划删除成功", _KEY, _on_key(lambda kms, key: kms.cancel_key_deletion(key))
    ),
    "updateAlias": Call("更新别名成功", needed("cmkUuid", "aliasName"), _update_alias),
    "updateKeyDescription": Call(
        "更新描述成功", needed("cmkUuid", "description"), _update_key_description
    ),
}
