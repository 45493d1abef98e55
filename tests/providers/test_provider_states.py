"""Every state of a key × every operation × what is answered."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from provider_clouds import (
    MOST_OAEP_BYTES,
    SHA_256,
    Cloud,
    b64,
    external_key,
    short,
)

from kmslab import Key
from kmslab.crypto import load_rsa_public, oaep_encrypt
from kmslab.model import CTYUN, TENCENT, KeyState, OaepAlgorithm

ENABLED, DISABLED, ARCHIVED = KeyState.ENABLED, KeyState.DISABLED, KeyState.ARCHIVED
IMPORT, DELETION, DELETED = (
    KeyState.PENDING_IMPORT,
    KeyState.PENDING_DELETION,
    KeyState.DELETED,
)

# What is answered, as the last part of its code. A column is a state: "import" and "deletion" are
# PENDING_IMPORT and PENDING_DELETION.
TENCENT_CODES = {
    "DI": "CmkDisabled",
    "AR": "CmkArchived",
    "NF": "CmkNotFound",
    "IC": "InvalidCiphertext",
    "ST": "CmkStateNotSupport",
    "SD": "CmkShouldBeDisabled",
    "NP": "CmkNotPendingDelete",
    "XR": "ExternalCmkCanNotRotate",
    "NR": "RotateNotSupported",
    "BN": "CloudResourceBindingNotFound",
    "IU": "InvalidKeyUsage",
}
CTYUN_CODES = {
    "KU": "KeyUnavailable",
    "NF": "KeyNotFound",
    "IC": "InvalidCiphertext",
    "IP": "InvalidParameter",
    "US": "Unsupported",
}


def table(text: str, codes: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Call → what it answers in each state."""
    head, *lines = text.strip().splitlines()
    states = len(head.split())
    found = {}
    for line in lines:
        call, *answers = line.strip().rsplit(maxsplit=states)
        found[call] = tuple(codes.get(answer, answer) for answer in answers)
    return found


TENCENT_STATES = (ENABLED, DISABLED, ARCHIVED, IMPORT, DELETION, DELETED)
# A key in PENDING_IMPORT is an external one; the others are the KMS's own.
TENCENT_TABLE = table(
    """
                           enabled     disabled    archived    import      deletion    deleted
    Encrypt                ok          DI          AR          DI          DI          NF
    GenerateDataKey        ok          DI          AR          DI          DI          NF
    Decrypt                ok          DI          ok          DI          DI          IC
    ReEncrypt from         ok          DI          ok          DI          DI          IC
    ReEncrypt to           ok          DI          DI          DI          DI          NF
    ReEncrypt within       ok          DI          DI          DI          DI          IC
    DescribeKey            ok          ok          ok          ok          ok          NF
    DescribeKeys           ok          ok          ok          ok          ok          NF
    EnableKey              ok          ok          ST          ST          ST          NF
    EnableKeys             ok          ok          ST          ST          ST          NF
    DisableKey             ok          ok          ST          ST          ST          NF
    DisableKeys            ok          ok          ST          ST          ST          NF
    ScheduleKeyDeletion    SD          ok          SD          ok          ST          NF
    CancelKeyDeletion      NP          NP          NP          NP          ok          NF
    ArchiveKey             ok          ok          ST          ST          ST          NF
    CancelKeyArchive       ST          ST          ok          ST          ST          NF
    UpdateAlias            ok          ok          ok          ok          ST          NF
    UpdateKeyDescription   ok          ok          ok          ok          ST          NF
    EnableKeyRotation      ok          ST          ST          XR          ST          NF
    DisableKeyRotation     ok          ok          ok          ok          ok          NF
    GetKeyRotationStatus   ok          ok          ok          ok          ok          NF
    RotateKey              ok          ST          ST          NR          ST          NF
    BindCloudResource      ok          ST          ST          ST          ST          NF
    UnbindCloudResource    BN          BN          BN          BN          BN          NF
    """,
    TENCENT_CODES,
)
# Of an external key.
EXTERNAL_TABLE = table(
    """
                                enabled     disabled    archived    import      deletion    deleted
    Encrypt                     ok          DI          AR          DI          DI          NF
    GetParametersForImport      ok          ok          ok          ok          ok          NF
    ImportKeyMaterial           ok          ST          ST          ok          ST          NF
    DeleteImportedKeyMaterial   ok          ok          ST          ok          ST          NF
    """,
    TENCENT_CODES,
)
PAIR_STATES = (ENABLED, DISABLED, ARCHIVED, DELETION, DELETED)
PAIR_TABLE = table(
    """
                           enabled     disabled    archived    deletion    deleted
    GetPublicKey           ok          ST          ST          ST          NF
    AsymmetricRsaDecrypt   ok          ST          ST          ST          NF
    EnableKeyRotation      NR          NR          NR          NR          NF
    RotateKey              NR          NR          NR          NR          NF
    Encrypt                IU          IU          IU          IU          NF
    """,
    TENCENT_CODES,
)
CTYUN_STATES = (ENABLED, DISABLED, DELETION, DELETED)
CTYUN_TABLE = table(
    """
                                      enabled     disabled    deletion    deleted
    encrypt                           ok          KU          KU          NF
    generateDataKey                   ok          KU          KU          NF
    generateDataKeyWithoutPlaintext   ok          KU          KU          NF
    generateAndExportDataKey          ok          KU          KU          NF
    decrypt                           ok          KU          KU          IC
    reEncrypt from                    ok          KU          KU          IC
    reEncrypt to                      ok          KU          KU          NF
    reEncrypt within                  ok          KU          KU          IC
    describeKey                       ok          ok          ok          NF
    listKeyVersions                   ok          ok          ok          NF
    enableKey                         ok          ok          KU          NF
    disableKey                        ok          ok          KU          NF
    scheduleKeyDeletion               ok          ok          KU          NF
    cancelKeyDeletion                 KU          KU          ok          NF
    updateAlias                       ok          ok          KU          NF
    updateKeyDescription              ok          ok          KU          NF
    updateRotationPolicy              ok          KU          KU          NF
    createKeyVersion                  IP          IP          IP          NF
    getPublicKey                      IP          IP          IP          NF
    """,
    CTYUN_CODES,
)
CTYUN_PAIR_TABLE = table(
    """
                           enabled     disabled    deletion    deleted
    createKeyVersion       ok          KU          KU          NF
    getPublicKey           ok          KU          KU          NF
    asymmetricEncrypt      ok          KU          KU          NF
    asymmetricDecrypt      ok          KU          KU          NF
    reEncrypt from         ok          KU          KU          NF
    reEncrypt to           IP          IP          IP          NF
    updateRotationPolicy   US          US          US          NF
    encrypt                IP          IP          IP          NF
    """,
    CTYUN_CODES,
)


def brought(cloud: Cloud, key: Key, state: KeyState) -> None:
    """Bring an enabled key into a state."""
    kms = cloud.kms
    match state:
        case KeyState.DISABLED:
            kms.disable_key(key.key_id)
        case KeyState.ARCHIVED:
            kms.archive_key(key.key_id)
        case KeyState.PENDING_IMPORT:
            kms.delete_imported_key_material(key.key_id)
        case KeyState.PENDING_DELETION:
            cloud.schedule_deletion(key.key_id)
        case KeyState.DELETED:
            cloud.schedule_deletion(key.key_id)
            cloud.clock.advance(timedelta(days=9))


def tencent_request(call: str, key: Key, blobs: Mapping[str, str]) -> dict[str, Any]:
    action, _, how = call.partition(" ")
    match action, how:
        case "ReEncrypt", "to":
            return {"CiphertextBlob": blobs["other"], "DestinationKeyId": key.key_id}
        case "ReEncrypt", "from":
            return {"CiphertextBlob": blobs["own"], "DestinationKeyId": blobs["other key"]}
        case (("ReEncrypt" | "Decrypt"), _):
            return {"CiphertextBlob": blobs["own"]}
        case (("EnableKeys" | "DisableKeys" | "DescribeKeys"), _):
            return {"KeyIds": [key.key_id]}
    binding = {"ProductId": "cbs", "ResourceId": "disk-1"}
    more: dict[str, dict[str, Any]] = {
        "BindCloudResource": binding,
        "UnbindCloudResource": binding,
        "Encrypt": {"Plaintext": b64(b"secret")},
        "GenerateDataKey": {"NumberOfBytes": 8},
        "ScheduleKeyDeletion": {"PendingWindowInDays": 7},
        "UpdateAlias": {"Alias": f"renamed-{key.key_id}"},
        "UpdateKeyDescription": {"Description": "described"},
        "GetParametersForImport": {"WrappingAlgorithm": SHA_256, "WrappingKeySpec": "RSA_2048"},
        "AsymmetricRsaDecrypt": {"Algorithm": SHA_256, "Ciphertext": blobs.get("wrapped")},
        "ImportKeyMaterial": {
            "EncryptedKeyMaterial": blobs.get("material"),
            "ImportToken": blobs.get("token"),
        },
    }
    return {"KeyId": key.key_id, **more.get(action, {})}


def ctyun_request(call: str, key: Key, blobs: Mapping[str, str]) -> dict[str, Any]:
    action, _, how = call.partition(" ")
    version = key.versions[0].version_id
    match action, how:
        case "reEncrypt", "to":
            return {"ciphertextBlob": blobs["other"], "destinationKeyId": key.key_id}
        case "reEncrypt", _:
            to = key.key_id if how == "within" else blobs["other key"]
            request = {"ciphertextBlob": blobs["own"], "destinationKeyId": to}
            if not key.spec.symmetric:
                request |= {
                    "sourceKeyId": key.key_id,
                    "sourceKeyVersionId": version,
                    "sourceEncryptionAlgorithm": SHA_256,
                }
            return request
        case "decrypt", _:
            return {"ciphertextBlob": blobs["own"]}
    more: dict[str, dict[str, Any]] = {
        "encrypt": {"plaintext": b64(b"secret")},
        "generateAndExportDataKey": {
            "publicKeyBlob": blobs["public key"],
            "wrappingKeySpec": "RSA_2048",
            "wrappingAlgorithm": SHA_256,
        },
        "updateAlias": {"aliasName": f"renamed-{key.key_id}"},
        "updateKeyDescription": {"description": "described"},
        "updateRotationPolicy": {"enableAutomaticRotation": False},
        "getPublicKey": {"keyVersionId": version},
        "asymmetricEncrypt": {
            "keyVersionId": version,
            "algorithm": SHA_256,
            "plaintext": b64(b"secret"),
        },
        "asymmetricDecrypt": {
            "keyVersionId": version,
            "algorithm": SHA_256,
            "ciphertextBlob": blobs["own"],
        },
    }
    return {"cmkUuid": key.key_id, **more.get(action, {})}


def wrapped(cloud: Cloud, key: Key) -> str:
    public = load_rsa_public(cloud.public_key(key).der)
    return base64.b64encode(oaep_encrypt(public, OaepAlgorithm.SHA_256, b"secret")).decode()


def rows(table: Mapping[str, tuple[str, ...]]) -> Any:
    return pytest.mark.parametrize(("call", "expected"), table.items(), ids=list(table))


# One lab for all states of a row. A deletion moves the clock, and so comes last.


@rows(TENCENT_TABLE)
def test_tencent_states(tencent: Cloud, call: str, expected: tuple[str, ...]) -> None:
    other = tencent.create()
    found = []
    for state in TENCENT_STATES:
        key = external_key(tencent) if state is IMPORT else tencent.create()
        blobs = {
            "own": tencent.kms.encrypt(key.key_id, b"secret"),
            "other": tencent.kms.encrypt(other.key_id, b"secret"),
            "other key": other.key_id,
        }
        if call == "RotateKey" and state is not IMPORT:
            tencent.kms.enable_key_rotation(key.key_id)
        brought(tencent, key, state)
        request = tencent_request(call, key, blobs)
        found.append(short(tencent.kms.call(call.partition(" ")[0], request)))
    assert tuple(found) == expected


@rows(EXTERNAL_TABLE)
def test_tencent_external_states(tencent: Cloud, call: str, expected: tuple[str, ...]) -> None:
    found = []
    for state in TENCENT_STATES:
        key = external_key(tencent)
        given = tencent.kms.get_parameters_for_import(key.key_id)
        public = load_rsa_public(given.public_key_der)
        material = oaep_encrypt(public, OaepAlgorithm.SHA_256, bytes(range(32)))
        blobs = {"token": given.import_token, "material": b64(material)}
        brought(tencent, key, state)
        found.append(short(tencent.kms.call(call, tencent_request(call, key, blobs))))
    assert tuple(found) == expected


@rows(PAIR_TABLE)
def test_tencent_pair_states(tencent: Cloud, call: str, expected: tuple[str, ...]) -> None:
    found = []
    for state in PAIR_STATES:
        key = tencent.pair()
        blobs = {"wrapped": wrapped(tencent, key)}
        brought(tencent, key, state)
        found.append(short(tencent.kms.call(call, tencent_request(call, key, blobs))))
    assert tuple(found) == expected


def ctyun_states(cloud: Cloud, call: str, make: Callable[[], Key]) -> tuple[str, ...]:
    other, pair = cloud.create(), cloud.pair()
    found = []
    for state in CTYUN_STATES:
        key = make()
        symmetric = key.spec.symmetric
        blobs = {
            "own": cloud.kms.encrypt(key.key_id, b"secret") if symmetric else wrapped(cloud, key),
            "other": cloud.kms.encrypt(other.key_id, b"secret"),
            "other key": other.key_id,
            "public key": b64(cloud.public_key(pair).der),
        }
        brought(cloud, key, state)
        request = ctyun_request(call, key, blobs)
        found.append(short(cloud.kms.call(call.partition(" ")[0], request)))
    return tuple(found)


@rows(CTYUN_TABLE)
def test_ctyun_states(ctyun: Cloud, call: str, expected: tuple[str, ...]) -> None:
    assert ctyun_states(ctyun, call, ctyun.create) == expected


@rows(CTYUN_PAIR_TABLE)
def test_ctyun_pair_states(ctyun: Cloud, call: str, expected: tuple[str, ...]) -> None:
    assert ctyun_states(ctyun, call, ctyun.pair) == expected


def test_the_tables_are_whole() -> None:
    """Every call on a key that exists has its row; those without a key have no state."""
    from kmslab.providers.ctyun.wire import CALLS
    from kmslab.providers.tencent.wire import ACTIONS

    keyless = {"CreateKey", "ListKeys", "ListKeyDetail", "GenerateRandom"}
    keyless |= {"GetServiceStatus", "GetRegions", "ListAlgorithms"}
    tables: tuple[Mapping[str, object], ...] = (TENCENT_TABLE, EXTERNAL_TABLE, PAIR_TABLE)
    assert {call.partition(" ")[0] for t in tables for call in t} == set(ACTIONS) - keyless
    tables = (CTYUN_TABLE, CTYUN_PAIR_TABLE)
    assert {call.partition(" ")[0] for t in tables for call in t} == set(CALLS) - {
        "createKey",
        "listKeys",
    }


Step = tuple[str, dict[str, Any]]
TENCENT_WALKS: list[tuple[list[Step], str]] = [
    ([("DisableKey", {})], "Disabled"),
    ([("DisableKey", {}), ("EnableKey", {})], "Enabled"),
    ([("ArchiveKey", {})], "Archived"),
    ([("ArchiveKey", {}), ("CancelKeyArchive", {})], "Enabled"),
    ([("DisableKey", {}), ("ArchiveKey", {}), ("CancelKeyArchive", {})], "Enabled"),
    ([("DisableKey", {}), ("ScheduleKeyDeletion", {"PendingWindowInDays": 7})], "PendingDelete"),
    (
        [
            ("DisableKey", {}),
            ("ScheduleKeyDeletion", {"PendingWindowInDays": 30}),
            ("CancelKeyDeletion", {}),
        ],
        "Disabled",
    ),
]
CTYUN_WALKS: list[tuple[list[Step], str]] = [
    ([("disableKey", {})], "Disabled"),
    ([("disableKey", {}), ("enableKey", {})], "Enabled"),
    ([("scheduleKeyDeletion", {})], "PendingDeletion"),
    ([("scheduleKeyDeletion", {"pendingWindowInDays": 7}), ("cancelKeyDeletion", {})], "Enabled"),
    ([("disableKey", {}), ("scheduleKeyDeletion", {}), ("cancelKeyDeletion", {})], "Enabled"),
]


@pytest.mark.parametrize(
    ("provider", "steps", "state"),
    [(TENCENT, *walk) for walk in TENCENT_WALKS] + [(CTYUN, *walk) for walk in CTYUN_WALKS],
)
def test_state_changes(
    make_cloud: Callable[[str], Cloud], provider: str, steps: list[Step], state: str
) -> None:
    cloud = make_cloud(provider)
    key, name = cloud.create(), "KeyId" if provider == TENCENT else "cmkUuid"
    for action, more in steps:
        assert short(cloud.kms.call(action, {name: key.key_id, **more})) == "ok"
    if cloud.tencent:
        answer = cloud.kms.call("DescribeKey", {"KeyId": key.key_id})
        assert answer["Response"]["KeyMetadata"]["KeyState"] == state
    else:
        answer = cloud.kms.call("describeKey", {"cmkUuid": key.key_id})
        assert answer["data"]["keyState"] == state


def test_the_oaep_limits_are_those_of_rfc_8017() -> None:
    assert MOST_OAEP_BYTES == {"RSAES_OAEP_SHA_1": 256 - 2 - 40, "RSAES_OAEP_SHA_256": 256 - 2 - 64}
