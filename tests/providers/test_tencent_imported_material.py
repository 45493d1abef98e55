"""Keys whose material their owner brings (Tencent; reference/tencent.md sections 1 and 2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
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
    import_material,
    openssl_encrypt,
    response,
    short,
    unb64,
)

from kmslab import InvalidCiphertext
from kmslab.errors import (
    ImportTokenExpired,
    InvalidRequest,
    KeyPendingImport,
    MaterialMismatch,
    NotExternal,
    UnreadableMaterial,
)
from kmslab.model import KeyOrigin, KeySpec, KeyState

MATERIAL = bytes(range(32))


def parameters(cloud: Cloud, key_id: str, algorithm: str = SHA_256) -> dict[str, Any]:
    return response(
        cloud.kms.call(
            "GetParametersForImport",
            {"KeyId": key_id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"},
        )
    )


def wrapped(given: dict[str, Any], material: bytes, folder: Path, digest: str = "sha256") -> str:
    """The material as openssl wraps it, the way the cloud's own guide does."""
    lines = given["PublicKey"]
    body = "\n".join(lines[n : n + 64] for n in range(0, len(lines), 64))
    pem = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"
    return openssl_encrypt(pem, material, folder, digest=digest)


def imports(cloud: Cloud, key_id: str, given: dict[str, Any], blob: str, **more: Any) -> str:
    request = {"KeyId": key_id, "EncryptedKeyMaterial": blob, "ImportToken": given["ImportToken"]}
    return short(cloud.kms.call("ImportKeyMaterial", {**request, **more}))


def waiting(cloud: Cloud, alias: str = "orders", **options: Any) -> str:
    """An external key without material."""
    key = cloud.kms.create_key(alias, origin=KeyOrigin.EXTERNAL, **options)
    assert key.state is KeyState.PENDING_IMPORT
    return str(key.key_id)


@pytest.mark.parametrize(("algorithm", "digest"), [(SHA_1, "sha1"), (SHA_256, "sha256")])
def test_material_wrapped_by_openssl_is_taken(
    tencent: Cloud, tmp_path: Path, algorithm: str, digest: str
) -> None:
    made = response(tencent.kms.call("CreateKey", {"Alias": "orders", "Type": 2}))
    assert made["KeyState"] == "PendingImport"
    key_id = made["KeyId"]
    given = parameters(tencent, key_id, algorithm)
    assert given["ParametersValidTo"] == int(tencent.clock.time()) + 86_400
    blob = wrapped(given, MATERIAL, tmp_path, digest)
    assert imports(tencent, key_id, given, blob) == "ok"
    found = response(tencent.kms.call("DescribeKey", {"KeyId": key_id}))["KeyMetadata"]
    assert (found["KeyState"], found["Origin"], found["ValidTo"]) == ("Enabled", "EXTERNAL", 0)
    assert tencent.kms.decrypt(tencent.kms.encrypt(key_id, b"secret")) == b"secret"


def test_it_is_the_material_that_counts(tencent: Cloud) -> None:
    """The same material under another key id is another key all the same."""
    first, second = external_key(tencent, MATERIAL), external_key(tencent, MATERIAL)
    blob = tencent.kms.encrypt(first.key_id, b"secret")
    assert tencent.kms.decrypt(blob) == b"secret"
    assert tencent.kms.encrypt(second.key_id, b"secret")[:88] != blob[:88]


def test_an_sm4_key_takes_sixteen_bytes(tencent: Cloud) -> None:
    key_id = waiting(tencent, spec=KeySpec.SM4)
    with pytest.raises(UnreadableMaterial):
        import_material(tencent, key_id, MATERIAL)
    import_material(tencent, key_id, MATERIAL[:16])
    assert tencent.kms.decrypt(tencent.kms.encrypt(key_id, b"secret")) == b"secret"


def test_without_material_nothing_works(tencent: Cloud) -> None:
    key_id = waiting(tencent)
    with pytest.raises(KeyPendingImport):
        tencent.kms.encrypt(key_id, b"secret")
    assert (
        short(tencent.kms.call("Encrypt", {"KeyId": key_id, "Plaintext": "YQ=="})) == "CmkDisabled"
    )


def test_material_expires_by_the_clock(tencent: Cloud) -> None:
    end = tencent.clock.now() + timedelta(days=30)
    key = external_key(tencent, MATERIAL, valid_to=end)
    assert key.material_expires_at == end
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.clock.set(end - timedelta(seconds=1))
    assert tencent.kms.decrypt(blob) == b"secret"
    tencent.clock.set(end)
    with pytest.raises(KeyPendingImport):
        tencent.kms.decrypt(blob)
    found = tencent.kms.describe_key(key.key_id)
    assert found.state is KeyState.PENDING_IMPORT
    assert found.material_expires_at is None
    assert not found.versions[0].has_material
    import_material(tencent, key.key_id, MATERIAL)
    assert tencent.kms.decrypt(blob) == b"secret"


@pytest.mark.parametrize("state", ["disabled", "archived"])
def test_material_expires_in_every_state(tencent: Cloud, state: str) -> None:
    end = tencent.clock.now() + timedelta(days=1)
    key = external_key(tencent, MATERIAL, valid_to=end)
    (tencent.kms.disable_key if state == "disabled" else tencent.kms.archive_key)(key.key_id)
    tencent.clock.set(end)
    assert tencent.kms.describe_key(key.key_id).state is KeyState.PENDING_IMPORT


def test_an_end_in_the_past_is_refused(tencent: Cloud, tmp_path: Path) -> None:
    key_id = waiting(tencent)
    given = parameters(tencent, key_id)
    blob = wrapped(given, MATERIAL, tmp_path)
    now = int(tencent.clock.time())
    for bad in (now, 1, -1, 2_147_483_201):
        assert imports(tencent, key_id, given, blob, ValidTo=bad) == "InvalidParameter"
    assert imports(tencent, key_id, given, blob, ValidTo=now + 1) == "ok"
    end = datetime.fromtimestamp(now + 1, UTC)
    assert tencent.kms.describe_key(key_id).material_expires_at == end


def test_material_that_is_deleted_comes_back_only_as_it_was(tencent: Cloud) -> None:
    key = external_key(tencent, MATERIAL)
    blob = tencent.kms.encrypt(key.key_id, b"secret")
    assert short(tencent.kms.call("DeleteImportedKeyMaterial", {"KeyId": key.key_id})) == "ok"
    with pytest.raises(KeyPendingImport):
        tencent.kms.decrypt(blob)
    assert not tencent.kms.describe_key(key.key_id).versions[0].has_material
    with pytest.raises(MaterialMismatch):
        import_material(tencent, key.key_id, bytes(32))
    import_material(tencent, key.key_id, MATERIAL)
    assert tencent.kms.decrypt(blob) == b"secret"
    import_material(tencent, key.key_id, MATERIAL)
    with pytest.raises(MaterialMismatch):
        import_material(tencent, key.key_id, bytes(32))


def test_a_token_is_valid_for_a_day(tencent: Cloud) -> None:
    key_id = waiting(tencent)
    given = tencent.kms.get_parameters_for_import(key_id)
    assert given.valid_to == tencent.clock.now() + timedelta(hours=24)
    tencent.clock.advance(timedelta(hours=24, seconds=1))
    with pytest.raises(ImportTokenExpired):
        tencent.kms.import_key_material(key_id, b64(bytes(256)), given.import_token)


def test_a_token_belongs_to_one_key_and_pair(tencent: Cloud, tmp_path: Path) -> None:
    key_id, other = waiting(tencent), waiting(tencent, "other")
    given, again = parameters(tencent, key_id), parameters(tencent, key_id)
    blob = wrapped(given, MATERIAL, tmp_path)
    token = unb64(given["ImportToken"])
    tokens = [
        parameters(tencent, other)["ImportToken"],
        b64(token[:-1]),
        b64(token[:-1] + bytes([token[-1] ^ 1])),
        "YQ==",
        "",
        "no base64",
    ]
    for bad in tokens:
        found = imports(tencent, key_id, {**given, "ImportToken": bad}, blob)
        assert found == "InvalidParameter"
    assert imports(tencent, key_id, again, blob) == "DecryptMaterialError"
    assert imports(tencent, key_id, given, blob) == "ok"


def test_material_that_cannot_be_read(tencent: Cloud, tmp_path: Path) -> None:
    key_id = waiting(tencent)
    given = parameters(tencent, key_id)
    bad = {
        "too short": wrapped(given, MATERIAL[:31], tmp_path),
        "too long": wrapped(given, MATERIAL + b"x", tmp_path),
        "another hash": wrapped(given, MATERIAL, tmp_path, "sha1"),
        "not wrapped": b64(MATERIAL),
        "no base64": "!",
        "empty": "",
    }
    for name, blob in bad.items():
        assert imports(tencent, key_id, given, blob) == "DecryptMaterialError", name
    assert tencent.kms.describe_key(key_id).state is KeyState.PENDING_IMPORT


def test_other_keys_take_no_material(tencent: Cloud) -> None:
    key = tencent.create()
    for call in (
        lambda: tencent.kms.get_parameters_for_import(key.key_id),
        lambda: tencent.kms.import_key_material(key.key_id, "", ""),
        lambda: tencent.kms.delete_imported_key_material(key.key_id),
    ):
        with pytest.raises(NotExternal):
            call()
    request = {"KeyId": UNKNOWN_ID, "WrappingAlgorithm": SHA_1, "WrappingKeySpec": "RSA_2048"}
    assert short(tencent.kms.call("GetParametersForImport", request)) == "CmkNotFound"
    request["WrappingAlgorithm"] = "RSAES_PKCS1_V1_5"
    assert code(tencent.kms.call("GetParametersForImport", request)) == "UnsupportedOperation"


def test_an_external_key_moves_like_any_other(tencent: Cloud) -> None:
    external, key = external_key(tencent), tencent.create()
    blob = tencent.kms.encrypt(external.key_id, b"secret")
    moved = tencent.kms.re_encrypt(blob, destination_key_id=key.key_id)
    assert tencent.kms.decrypt(moved.ciphertext_blob) == b"secret"
    assert tencent.kms.re_encrypt(blob).re_encrypted is False
    with pytest.raises(InvalidCiphertext):
        tencent.kms.re_encrypt(blob[:-1])


def test_a_cancelled_deletion_leaves_material_as_it_was(tencent: Cloud) -> None:
    with_material, without = external_key(tencent).key_id, waiting(tencent)
    tencent.schedule_deletion(with_material)
    tencent.kms.schedule_key_deletion(without, 7)
    assert tencent.kms.cancel_key_deletion(with_material).state is KeyState.DISABLED
    assert tencent.kms.cancel_key_deletion(without).state is KeyState.PENDING_IMPORT


def test_material_comes_through_a_real_pair(
    tencent: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the suite hands out pairs that were made once; here two are made."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    from kmslab import crypto

    def fresh() -> bytes:
        return crypto.rsa_private_der(rsa.generate_private_key(65537, 2048))

    monkeypatch.setattr(crypto, "generate_rsa_2048", fresh)
    key_id = waiting(tencent)
    first, second = (tencent.kms.get_parameters_for_import(key_id) for _ in range(2))
    assert first.public_key_der != second.public_key_der
    assert first.import_token != second.import_token
    import_material(tencent, key_id, MATERIAL)
    with pytest.raises(InvalidRequest):
        tencent.kms.import_key_material(key_id, "", "")
