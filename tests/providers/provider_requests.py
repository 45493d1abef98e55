"""A request of each call that succeeds, of both providers."""

from __future__ import annotations

from typing import Any

from provider_clouds import CONTEXT, SHA_1, SHA_256, Cloud, b64, external_key

from kmslab.crypto import load_rsa_public, oaep_encrypt
from kmslab.model import OaepAlgorithm


def tencent_requests(cloud: Cloud) -> dict[str, dict[str, Any]]:
    key, disabled, archived, doomed, bound = (cloud.create() for _ in range(5))
    pair, external = cloud.pair(), external_key(cloud)
    kms = cloud.kms
    kms.disable_key(disabled.key_id)
    kms.archive_key(archived.key_id)
    kms.enable_key_rotation(key.key_id)
    cloud.schedule_deletion(doomed.key_id)
    blob = kms.encrypt(key.key_id, b"secret", context=CONTEXT)
    wrapped = oaep_encrypt(
        load_rsa_public(kms.get_public_key(pair.key_id).der), OaepAlgorithm.SHA_1, b"secret"
    )
    given = kms.get_parameters_for_import(external.key_id)
    material = oaep_encrypt(
        load_rsa_public(given.public_key_der), OaepAlgorithm.SHA_256, bytes(range(32))
    )
    binding = {"KeyId": bound.key_id, "ProductId": "cbs", "ResourceId": "disk-1"}
    return {
        "CreateKey": {"Alias": "made", "Description": "订单", "KeyUsage": "", "Type": 1},
        "DescribeKey": {"KeyId": key.key_id, "MemberAccount": {"MemberUin": 1}},
        "DescribeKeys": {"KeyIds": [key.key_id, doomed.key_id]},
        "ListKeys": {},
        "ListKeyDetail": {"KeyState": 0, "Origin": "ALL", "KeyUsage": "ALL"},
        "EnableKey": {"KeyId": key.key_id},
        "EnableKeys": {"KeyIds": [key.key_id]},
        "DisableKey": {"KeyId": disabled.key_id},
        "DisableKeys": {"KeyIds": [disabled.key_id]},
        "UpdateAlias": {"Alias": "renamed", "KeyId": key.key_id},
        "UpdateKeyDescription": {"Description": "", "KeyId": key.key_id},
        "ScheduleKeyDeletion": {"KeyId": disabled.key_id, "PendingWindowInDays": 7},
        "CancelKeyDeletion": {"KeyId": doomed.key_id},
        "ArchiveKey": {"KeyId": cloud.create().key_id},
        "CancelKeyArchive": {"KeyId": archived.key_id},
        "EnableKeyRotation": {"KeyId": key.key_id, "RotateDays": 7},
        "DisableKeyRotation": {"KeyId": archived.key_id},
        "GetKeyRotationStatus": {"KeyId": key.key_id},
        "RotateKey": {"KeyId": key.key_id},
        "Encrypt": {"KeyId": key.key_id, "Plaintext": "YQ==", "EncryptionContext": CONTEXT},
        "Decrypt": {"CiphertextBlob": blob, "EncryptionContext": CONTEXT},
        "GenerateDataKey": {"KeyId": key.key_id, "KeySpec": "AES_128", "IsHostedByKms": 0},
        "ReEncrypt": {"CiphertextBlob": blob, "SourceEncryptionContext": CONTEXT},
        "GenerateRandom": {"NumberOfBytes": 1024},
        "GetPublicKey": {"KeyId": pair.key_id},
        "AsymmetricRsaDecrypt": {
            "KeyId": pair.key_id,
            "Ciphertext": b64(wrapped),
            "Algorithm": SHA_1,
        },
        "GetParametersForImport": {
            "KeyId": external.key_id,
            "WrappingAlgorithm": SHA_256,
            "WrappingKeySpec": "RSA_2048",
        },
        "ImportKeyMaterial": {
            "EncryptedKeyMaterial": b64(material),
            "ImportToken": given.import_token,
            "KeyId": external.key_id,
            "ValidTo": 0,
        },
        "DeleteImportedKeyMaterial": {"KeyId": external.key_id},
        "BindCloudResource": binding,
        "UnbindCloudResource": binding,
        "GetServiceStatus": {},
        "GetRegions": {},
        "ListAlgorithms": {},
    }


def ctyun_requests(cloud: Cloud) -> dict[str, dict[str, Any]]:
    key, disabled, doomed = (cloud.create() for _ in range(3))
    pair = cloud.pair()
    kms = cloud.kms
    kms.disable_key(disabled.key_id)
    cloud.schedule_deletion(doomed.key_id)
    blob = kms.encrypt(key.key_id, b"secret")
    on_pair = {
        "cmkUuid": pair.key_id,
        "keyVersionId": pair.versions[0].version_id,
        "algorithm": SHA_1,
    }
    wrapped = kms.asymmetric_encrypt(*on_pair.values(), b"secret")
    return {
        "reEncrypt": {"ciphertextBlob": blob, "destinationKeyId": key.key_id},
        "createKey": {
            "keySpec": "Ctyun_SM4",
            "aliasName": "alias/made",
            "description": "订单",
            "enableAutomaticRotation": True,
            "rotationInterval": "90d",
        },
        "describeKey": {"cmkUuid": key.key_id},
        "listKeys": {"pageNumber": 1, "pageSize": 100},
        "encrypt": {"cmkUuid": key.key_id, "plaintext": "SGVsbG8gd29ybGQ="},
        "decrypt": {"ciphertextBlob": blob},
        "generateDataKey": {"cmkUuid": key.key_id},
        "generateDataKeyWithoutPlaintext": {"cmkUuid": key.key_id, "numberOfBytes": 7},
        "generateAndExportDataKey": {
            "cmkUuid": key.key_id,
            "publicKeyBlob": b64(cloud.public_key(pair).der),
            "wrappingKeySpec": "RSA_2048",
            "wrappingAlgorithm": SHA_256,
        },
        "getPublicKey": {k: v for k, v in on_pair.items() if k != "algorithm"},
        "asymmetricEncrypt": {**on_pair, "plaintext": "YQ=="},
        "asymmetricDecrypt": {**on_pair, "ciphertextBlob": wrapped},
        "createKeyVersion": {"cmkUuid": pair.key_id},
        "listKeyVersions": {"cmkUuid": pair.key_id},
        "updateRotationPolicy": {"cmkUuid": key.key_id, "enableAutomaticRotation": False},
        "enableKey": {"cmkUuid": disabled.key_id},
        "disableKey": {"cmkUuid": disabled.key_id},
        "scheduleKeyDeletion": {"cmkUuid": disabled.key_id},
        "cancelKeyDeletion": {"cmkUuid": doomed.key_id},
        "updateAlias": {"cmkUuid": key.key_id, "aliasName": "renamed"},
        "updateKeyDescription": {"cmkUuid": key.key_id, "description": "described"},
    }
