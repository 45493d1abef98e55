"""CTyun's reEncrypt, rule by rule (seed 004)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from provider_clouds import (
    CTYUN_CLOUD,
    CTYUN_CLOUD_KEY,
    CTYUN_CLOUD_VERSION,
    CTYUN_SEED_INPUT,
    CTYUN_SEED_OUTPUT,
    MOST_OAEP_BYTES,
    SHA_1,
    SHA_256,
    SYMMETRIC,
    UNKNOWN_ID,
    Cloud,
    b64,
    code,
    data,
    openssl,
    openssl_encrypt,
    unb64,
)

from kmslab import InvalidCiphertext, Key, KeyNotFound, KeySpec, KmsError, inspect
from kmslab.errors import (
    BalanceExhausted,
    InvalidKeyId,
    InvalidKeyUsage,
    InvalidRequest,
    MissingParameter,
    Unsupported,
)
from kmslab.model import BlobFormat

DIGESTS = {SHA_1: "sha1", SHA_256: "sha256"}


def source(key: Key, algorithm: str = SHA_256, version: int = 0) -> dict[str, str]:
    """The three fields that public-key ciphertext needs."""
    return {
        "sourceKeyId": key.key_id,
        "sourceKeyVersionId": key.versions[version].version_id,
        "sourceEncryptionAlgorithm": algorithm,
    }


def re_encrypt(cloud: Cloud, blob: str, to: str, **fields: Any) -> dict[str, Any]:
    return cloud.kms.call("reEncrypt", {"ciphertextBlob": blob, "destinationKeyId": to, **fields})


def refused(answer: dict[str, Any], status: str, error_code: str) -> bool:
    return (answer["code"], answer["errorCode"], answer["data"]) == (status, error_code, None)


# Symmetric blobs


@pytest.mark.parametrize("old", SYMMETRIC)
@pytest.mark.parametrize("new", SYMMETRIC)
def test_a_symmetric_blob_moves(ctyun: Cloud, old: KeySpec, new: KeySpec) -> None:
    key, other = ctyun.create(old), ctyun.create(new)
    blob = ctyun.kms.encrypt(key.key_id, b"secret")
    answer = re_encrypt(ctyun, blob, other.key_id)
    assert {name: answer[name] for name in ("code", "errorCode", "msg")} == {
        "code": "200",
        "errorCode": None,
        "msg": "转加密成功",
    }
    assert set(answer) == {"code", "errorCode", "msg", "data"}
    assert set(answer["data"]) == {"cmkUuid", "keyVersionId", "ciphertextBlob"}
    assert ctyun.kms.decrypt(answer["data"]["ciphertextBlob"]) == b"secret"


def test_there_is_always_a_fresh_blob(ctyun: Cloud) -> None:
    """Nothing like Tencent's no-op: same key, not rotated, and still another blob."""
    key = ctyun.create()
    blob = ctyun.kms.encrypt(key.key_id, b"secret")
    made = {ctyun.re_encrypt(blob).ciphertext_blob for _ in range(20)}
    assert len(made | {blob}) == 21
    assert ctyun.re_encrypt(blob).re_encrypted is True
    many = ctyun.re_encrypt_many([blob] * 20, key.key_id)
    assert len({*many.ciphertext_blob, blob}) == 21
    assert many.re_encrypted == [True] * 20


@pytest.mark.parametrize(
    ("setting", "names"), [("destination", "other"), ("source", "key"), (None, "other")]
)
def test_the_answer_names_the_key_that_the_setting_says(
    ctyun: Cloud, setting: str | None, names: str
) -> None:
    keys = {"key": ctyun.create(), "other": ctyun.create()}
    blob = ctyun.kms.encrypt(keys["key"].key_id, b"secret")
    if setting:
        ctyun.lab.settings.set("cmk_uuid", setting)
    answer = data(re_encrypt(ctyun, blob, keys["other"].key_id))
    assert answer["cmkUuid"] == keys[names].key_id
    assert answer["keyVersionId"] == keys[names].primary_version_id
    result = ctyun.re_encrypt(blob, keys["other"].key_id)
    assert (result.source_key_id, result.key_id) == tuple(k.key_id for k in keys.values())


def test_the_sources_ids_may_be_given_and_must_agree(ctyun: Cloud) -> None:
    key, other = ctyun.create(), ctyun.create()
    blob = ctyun.kms.encrypt(key.key_id, b"secret")
    version = key.versions[0].version_id
    good: list[dict[str, Any]] = [
        {},
        {"sourceKeyId": key.key_id},
        {"sourceKeyVersionId": version},
        {"sourceKeyId": key.key_id, "sourceKeyVersionId": version},
        dict.fromkeys(("sourceKeyId", "sourceKeyVersionId", "sourceEncryptionAlgorithm")),
        dict.fromkeys(("sourceKeyId", "sourceKeyVersionId", "sourceEncryptionAlgorithm"), ""),
    ]
    for fields in good:
        assert data(re_encrypt(ctyun, blob, other.key_id, **fields))
    bad = [
        ({"sourceKeyId": other.key_id}, "sourceKeyId"),
        ({"sourceKeyVersionId": UNKNOWN_ID}, "sourceKeyVersionId"),
        ({"sourceKeyId": key.key_id, "sourceKeyVersionId": UNKNOWN_ID}, "sourceKeyVersionId"),
        ({"sourceEncryptionAlgorithm": SHA_256}, "sourceEncryptionAlgorithm"),
        (source(key), "sourceEncryptionAlgorithm"),
    ]
    for kms in (ctyun.kms, ctyun.open()):
        for fields, parameter in bad:
            request = {"ciphertextBlob": blob, "destinationKeyId": other.key_id, **fields}
            assert refused(kms.call("reEncrypt", request), "400", "LAB.InvalidParameter")
            with pytest.raises(InvalidRequest) as caught:
                kms.re_encrypt(
                    blob,
                    destination_key_id=other.key_id,
                    source_key_id=fields.get("sourceKeyId"),
                    source_key_version_id=fields.get("sourceKeyVersionId"),
                    source_algorithm=fields.get("sourceEncryptionAlgorithm"),
                )
            assert caught.value.parameter == parameter


# Public-key ciphertext


@pytest.mark.parametrize("algorithm", [SHA_1, SHA_256])
def test_public_key_ciphertext_of_openssl_moves(
    ctyun: Cloud, algorithm: str, tmp_path: Path
) -> None:
    """Made outside with the exported public key, for each size there can be at the edges."""
    pair, other = ctyun.pair(), ctyun.create()
    pem = ctyun.public_key(pair).pem
    for size in (1, 32, MOST_OAEP_BYTES[algorithm]):
        plaintext = bytes(range(size))
        blob = openssl_encrypt(pem, plaintext, tmp_path, digest=DIGESTS[algorithm])
        answer = data(re_encrypt(ctyun, blob, other.key_id, **source(pair, algorithm)))
        assert ctyun.kms.decrypt(answer["ciphertextBlob"]) == plaintext
        assert (answer["cmkUuid"], answer["keyVersionId"]) == (
            other.key_id,
            other.primary_version_id,
        )
        assert (
            ctyun.kms.asymmetric_decrypt(pair.key_id, pair.versions[0].version_id, algorithm, blob)
            == plaintext
        )


def test_what_the_lab_encrypts_openssl_decrypts(ctyun: Cloud, tmp_path: Path) -> None:
    from provider_clouds import PAIRS

    pair = ctyun.pair()
    private = tmp_path / "private.pem"
    private.write_text(PAIRS[0])
    for algorithm, digest in DIGESTS.items():
        version = pair.versions[0].version_id
        blob = ctyun.kms.asymmetric_encrypt(pair.key_id, version, algorithm, b"secret")
        found = openssl(
            "pkeyutl", "-decrypt", "-inkey", str(private),
            "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", f"rsa_oaep_md:{digest}",
            stdin=unb64(blob),
        )  # fmt: skip
        assert found == b"secret"


def test_the_hash_of_mgf1_must_be_the_same(ctyun: Cloud, tmp_path: Path) -> None:
    """What Java's default makes, MGF1 with SHA-1 under SHA-256, is refused."""
    pair, other = ctyun.pair(), ctyun.create()
    pem = ctyun.public_key(pair).pem
    for digest, mgf1 in (("sha256", "sha1"), ("sha1", "sha256")):
        blob = openssl_encrypt(pem, b"secret", tmp_path, digest=digest, mgf1=mgf1)
        for algorithm in (SHA_1, SHA_256):
            answer = re_encrypt(ctyun, blob, other.key_id, **source(pair, algorithm))
            assert refused(answer, "400", "LAB.InvalidCiphertext")


def test_the_other_algorithm_or_version_does_not_open(ctyun: Cloud) -> None:
    pair, third, other = ctyun.pair(2), ctyun.pair(), ctyun.create()
    versions = [version.version_id for version in pair.versions]
    blob = ctyun.kms.asymmetric_encrypt(pair.key_id, versions[1], SHA_1, b"secret")
    assert data(re_encrypt(ctyun, blob, other.key_id, **source(pair, SHA_1, 1)))
    for wrong in (source(pair, SHA_256, 1), source(pair, SHA_1, 0), source(third, SHA_1)):
        answer = re_encrypt(ctyun, blob, other.key_id, **wrong)
        assert refused(answer, "400", "LAB.InvalidCiphertext")


def test_every_source_field_of_public_key_ciphertext_is_needed(ctyun: Cloud) -> None:
    """Each has its own code; the first that is missing is named, in the order of the codes."""
    pair, other = ctyun.pair(), ctyun.create()
    version = pair.versions[0].version_id
    blob = ctyun.kms.asymmetric_encrypt(pair.key_id, version, SHA_256, b"secret")
    codes = {
        "sourceKeyId": "KMS.0110",
        "sourceKeyVersionId": "KMS.0111",
        "sourceEncryptionAlgorithm": "KMS.0114",
    }
    complete = source(pair)
    for left_out in codes:
        for empty in ({}, {left_out: None}, {left_out: ""}):
            fields = {**complete, **empty}
            if not empty:
                del fields[left_out]
            answer = re_encrypt(ctyun, blob, other.key_id, **fields)
            assert refused(answer, "400", codes[left_out])
    only = {
        "sourceKeyId": "KMS.0111",
        "sourceKeyVersionId": "KMS.0110",
        "sourceEncryptionAlgorithm": "KMS.0110",
    }
    for name, first in only.items():
        answer = re_encrypt(ctyun, blob, other.key_id, **{name: complete[name]})
        assert refused(answer, "400", first)
    assert refused(re_encrypt(ctyun, blob, other.key_id), "400", "LAB.InvalidCiphertext")


def test_what_is_required_is_required(ctyun: Cloud) -> None:
    key = ctyun.create()
    blob = ctyun.kms.encrypt(key.key_id, b"secret")
    full: dict[str, Any] = {"ciphertextBlob": blob, "destinationKeyId": key.key_id}
    for name, expected in (("ciphertextBlob", "KMS.0108"), ("destinationKeyId", "KMS.0112")):
        rest = {k: v for k, v in full.items() if k != name}
        for request in (rest, {**full, name: None}, {**full, name: ""}):
            assert refused(ctyun.kms.call("reEncrypt", request), "400", expected)
    assert refused(ctyun.kms.call("reEncrypt", {}), "400", "KMS.0108")


def test_a_source_that_is_not_there(ctyun: Cloud) -> None:
    pair, other = ctyun.pair(), ctyun.create()
    version = pair.versions[0].version_id
    blob = ctyun.kms.asymmetric_encrypt(pair.key_id, version, SHA_256, b"secret")
    wrong: list[tuple[dict[str, str], str, str, type[KmsError]]] = [
        ({"sourceKeyId": UNKNOWN_ID}, "404", "LAB.KeyNotFound", KeyNotFound),
        ({"sourceKeyId": "orders"}, "404", "LAB.KeyNotFound", InvalidKeyId),
        ({"sourceKeyVersionId": UNKNOWN_ID}, "404", "LAB.KeyNotFound", KeyNotFound),
        ({"sourceKeyId": other.key_id}, "400", "LAB.InvalidParameter", InvalidKeyUsage),
        ({"sourceEncryptionAlgorithm": "RSA"}, "400", "LAB.InvalidParameter", InvalidRequest),
        (
            {"sourceEncryptionAlgorithm": "RSAES_PKCS1_V1_5"},
            "400",
            "LAB.Unsupported",
            Unsupported,
        ),
        ({"sourceEncryptionAlgorithm": "SM2PKE"}, "400", "LAB.InvalidParameter", InvalidRequest),
    ]
    for fields, status, expected, error in wrong:
        given = {**source(pair), **fields}
        assert refused(re_encrypt(ctyun, blob, other.key_id, **given), status, expected)
        with pytest.raises(error):
            ctyun.kms.re_encrypt(
                blob,
                destination_key_id=other.key_id,
                source_key_id=given["sourceKeyId"],
                source_key_version_id=given["sourceKeyVersionId"],
                source_algorithm=given["sourceEncryptionAlgorithm"],
            )


def test_public_key_ciphertext_that_was_altered(ctyun: Cloud) -> None:
    pair, other = ctyun.pair(), ctyun.create()
    version = pair.versions[0].version_id
    raw = unb64(ctyun.kms.asymmetric_encrypt(pair.key_id, version, SHA_256, b"secret"))
    texts = [b64(raw[:-1]), b64(raw + b"\0"), b64(raw)[:-1], b64(bytes(256)), b64(b"\xff" * 256)]
    texts += [b64(raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :]) for n in range(0, 256, 17)]
    texts += [CTYUN_SEED_INPUT, CTYUN_SEED_OUTPUT, "订单"]
    for text in texts:
        answer = re_encrypt(ctyun, text, other.key_id, **source(pair))
        assert refused(answer, "400", "LAB.InvalidCiphertext")


# The destination


def test_the_destination_is_a_symmetric_key_that_is_there(ctyun: Cloud) -> None:
    key, pair = ctyun.create(), ctyun.pair()
    blob = ctyun.kms.encrypt(key.key_id, b"secret")
    assert refused(re_encrypt(ctyun, blob, pair.key_id), "400", "LAB.InvalidParameter")
    for missing in (UNKNOWN_ID, "orders", UNKNOWN_ID.upper(), "订单"):
        assert refused(re_encrypt(ctyun, blob, missing), "404", "LAB.KeyNotFound")
    with pytest.raises(TypeError):
        ctyun.kms.re_encrypt(blob)
    row = ctyun.kms.re_encrypt_many([blob], destination_key_ids=[None])
    assert isinstance(row.error[0], MissingParameter)
    assert row.error[0].parameter == "destinationKeyId"


# Balance


@pytest.mark.parametrize("balance", [0, -1, -0.01])
def test_without_balance_nothing_is_encrypted_or_decrypted(ctyun: Cloud, balance: float) -> None:
    key, pair = ctyun.create(), ctyun.pair()
    version = pair.versions[0].version_id
    blob = ctyun.kms.encrypt(key.key_id, b"secret")
    wrapped = ctyun.kms.asymmetric_encrypt(pair.key_id, version, SHA_256, b"secret")
    assert ctyun.lab.settings.all()["balance"] == 100
    ctyun.lab.settings.set("balance", balance)
    for call in (
        lambda: ctyun.re_encrypt(blob),
        lambda: ctyun.kms.decrypt(blob),
        lambda: ctyun.kms.encrypt(key.key_id, b"secret"),
        lambda: ctyun.kms.generate_data_key(key.key_id),
        lambda: ctyun.kms.asymmetric_encrypt(pair.key_id, version, SHA_256, b"secret"),
        lambda: ctyun.kms.asymmetric_decrypt(pair.key_id, version, SHA_256, wrapped),
    ):
        with pytest.raises(BalanceExhausted):
            call()
    many = ctyun.re_encrypt_many([blob] * 3, key.key_id)
    assert all(isinstance(error, BalanceExhausted) for error in many.error)
    answer = re_encrypt(ctyun, blob, key.key_id)
    assert refused(answer, "400", "LAB.BalanceExhausted")
    assert ctyun.kms.describe_key(key.key_id).key_id == key.key_id
    ctyun.lab.settings.set("balance", 0.01)
    assert ctyun.kms.decrypt(blob) == b"secret"


# The documents' own blobs


def test_the_clouds_own_blob_is_read_and_refused(ctyun: Cloud) -> None:
    key = ctyun.create()
    found = inspect(CTYUN_CLOUD)
    assert (found.provider, found.format) == ("ctyun", BlobFormat.CLOUD)
    assert (found.key_id, found.key_version_id) == (CTYUN_CLOUD_KEY, CTYUN_CLOUD_VERSION)
    assert refused(re_encrypt(ctyun, CTYUN_CLOUD, key.key_id), "400", "LAB.InvalidCiphertext")


def test_the_seeds_samples_are_told_apart_and_refused(ctyun: Cloud) -> None:
    key, pair = ctyun.create(), ctyun.pair()
    request, answer = inspect(CTYUN_SEED_INPUT), inspect(CTYUN_SEED_OUTPUT)
    assert "another vendor" in request.notes[0]
    assert "cut" in request.notes[0]
    assert "48 bytes without header" in answer.notes[0]
    assert (request.format, answer.format) == (BlobFormat.UNKNOWN, BlobFormat.UNKNOWN)
    for blob in (CTYUN_SEED_INPUT, CTYUN_SEED_OUTPUT):
        for fields in ({}, source(pair)):
            refusal = re_encrypt(ctyun, blob, key.key_id, **fields)
            assert refused(refusal, "400", "LAB.InvalidCiphertext")


def test_the_seeds_own_request_names_no_key_of_the_lab(ctyun: Cloud) -> None:
    """The sample body as it stands: its blob comes before its keys."""
    sample = {
        "ciphertextBlob": CTYUN_SEED_INPUT,
        "destinationKeyId": "db4e73de-def5-4702-9dbb-6387f05ae0d8",
        "sourceEncryptionAlgorithm": SHA_1,
        "sourceKeyId": "474e569e-8814-474a-948b-dbcf6d853eff",
        "sourceKeyVersionId": "db4e73de-def5-4702-9dbb-6387f05ae0d8",
    }
    assert refused(ctyun.kms.call("reEncrypt", sample), "400", "LAB.InvalidCiphertext")


# Data keys


@pytest.mark.parametrize("algorithm", [SHA_1, SHA_256])
@pytest.mark.parametrize("asked", [{}, {"keySpec": "AES_128"}, {"numberOfBytes": 100}])
def test_an_exported_data_key_is_the_one_in_the_blob(
    ctyun: Cloud, algorithm: str, asked: dict[str, Any]
) -> None:
    """And, under a pair's own public key, it is what reEncrypt takes."""
    key, pair, other = ctyun.create(), ctyun.pair(), ctyun.create()
    made = data(
        ctyun.kms.call(
            "generateAndExportDataKey",
            {
                "cmkUuid": key.key_id,
                "publicKeyBlob": b64(ctyun.public_key(pair).der),
                "wrappingKeySpec": "RSA_2048",
                "wrappingAlgorithm": algorithm,
                **asked,
            },
        )
    )
    assert set(made) == {"cmkUuid", "keyVersionId", "ciphertextBlob", "exportedDataKey"}
    data_key = ctyun.kms.decrypt(made["ciphertextBlob"])
    assert len(data_key) == asked.get("numberOfBytes", 16 if asked.get("keySpec") else 32)
    version = pair.versions[0].version_id
    exported = made["exportedDataKey"]
    assert ctyun.kms.asymmetric_decrypt(pair.key_id, version, algorithm, exported) == data_key
    answer = re_encrypt(ctyun, exported, other.key_id, **source(pair, algorithm))
    assert ctyun.kms.decrypt(data(answer)["ciphertextBlob"]) == data_key


def test_a_data_key_is_wrapped_for_rsa_alone(ctyun: Cloud, tmp_path: Path) -> None:
    key = ctyun.create()
    der = {}
    for name, curve in (("SM2", "SM2"), ("P-256", "prime256v1")):
        private = openssl("ecparam", "-name", curve, "-genkey", "-noout")
        der[name] = openssl("ec", "-pubout", "-outform", "DER", stdin=private)
    for blob in (*der.values(), b"", b"no key", bytes(294)):
        request = {
            "cmkUuid": key.key_id,
            "publicKeyBlob": b64(blob) or "AA==",
            "wrappingKeySpec": "RSA_2048",
            "wrappingAlgorithm": SHA_256,
        }
        answer = ctyun.kms.call("generateAndExportDataKey", request)
        assert refused(answer, "400", "LAB.InvalidParameter")


def test_a_data_key_too_long_to_wrap_is_not_made(ctyun: Cloud) -> None:
    key, pair = ctyun.create(), ctyun.pair()
    for algorithm, most in MOST_OAEP_BYTES.items():
        for size in (most, most + 1):
            request = {
                "cmkUuid": key.key_id,
                "publicKeyBlob": b64(ctyun.public_key(pair).der),
                "wrappingKeySpec": "RSA_2048",
                "wrappingAlgorithm": algorithm,
                "numberOfBytes": size,
            }
            answer = ctyun.kms.call("generateAndExportDataKey", request)
            assert code(answer) == ("" if size == most else "LAB.InvalidParameter")


def test_a_data_key_without_plaintext_shows_none(ctyun: Cloud) -> None:
    key = ctyun.create()
    made = data(ctyun.kms.call("generateDataKeyWithoutPlaintext", {"cmkUuid": key.key_id}))
    assert set(made) == {"cmkUuid", "keyVersionId", "ciphertextBlob"}
    assert len(ctyun.kms.decrypt(made["ciphertextBlob"])) == 32


def test_a_batch_takes_public_key_ciphertext_too(ctyun: Cloud) -> None:
    pair, key, other = ctyun.pair(2), ctyun.create(), ctyun.create()
    rows: list[tuple[str, str | None, str | None, str | None]] = [
        (ctyun.kms.encrypt(key.key_id, b"0"), None, None, None)
    ]
    for number, algorithm in enumerate((SHA_1, SHA_256, SHA_1), 1):
        version = pair.versions[number % 2].version_id
        blob = ctyun.kms.asymmetric_encrypt(pair.key_id, version, algorithm, str(number).encode())
        rows.append((blob, pair.key_id, version, algorithm))
    rows.append((rows[1][0], pair.key_id, None, SHA_1))
    blobs, keys, versions, algorithms = zip(*rows, strict=True)
    done = ctyun.kms.re_encrypt_many(
        list(blobs),
        destination_key_ids=other.key_id,
        source_key_ids=list(keys),
        source_key_version_ids=list(versions),
        source_algorithms=list(algorithms),
        verify=True,
    )
    opened = [blob and ctyun.kms.decrypt(blob) for blob in done.ciphertext_blob]
    assert opened == [b"0", b"1", b"2", b"3", None]
    assert isinstance(done.error[4], MissingParameter)
    assert done.error[4].parameter == "sourceKeyVersionId"
    assert done.source_key_version_id[1:4] == list(versions[1:4])
    assert done.verified == [True] * 4 + [None]


def test_an_invalid_ciphertext_is_one_error(ctyun: Cloud) -> None:
    key = ctyun.create()
    with pytest.raises(InvalidCiphertext) as caught:
        ctyun.kms.re_encrypt(CTYUN_CLOUD, destination_key_id=key.key_id)
    assert str(caught.value) == "the ciphertext does not open"
