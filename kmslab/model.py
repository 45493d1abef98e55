"""The values that everything else speaks of: keys, versions, headers, records, results.

All are frozen and slotted. Times are aware datetimes in UTC. Ids are lower-case UUIDs as text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from kmslab.secret import Plaintext

TENCENT = "tencent"
CTYUN = "ctyun"


class KeySpec(StrEnum):
    """What a key's material is.

    >>> KeySpec.AES_256.symmetric, KeySpec.SM4.material_bytes, KeySpec.RSA_2048.symmetric
    (True, 16, False)
    """

    AES_256 = "AES_256"
    SM4 = "SM4"
    RSA_2048 = "RSA_2048"

    @property
    def symmetric(self) -> bool:
        """Whether the material is one secret key, and no pair."""
        return self is not KeySpec.RSA_2048

    @property
    def material_bytes(self) -> int:
        """The length of symmetric material in bytes; 0 for a pair."""
        return {KeySpec.AES_256: 32, KeySpec.SM4: 16, KeySpec.RSA_2048: 0}[self]


class KeyState(StrEnum):
    """What a key may be used for. `DELETED` keys are remembered, and have no material."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    ARCHIVED = "archived"
    PENDING_IMPORT = "pending-import"
    PENDING_DELETION = "pending-deletion"
    DELETED = "deleted"


class KeyOrigin(StrEnum):
    """Who made a key's material."""

    KMS = "kms"
    EXTERNAL = "external"


class OaepAlgorithm(StrEnum):
    """The RSA-OAEP variants of both clouds: hash and MGF1 hash equal, empty label."""

    SHA_1 = "RSAES_OAEP_SHA_1"
    SHA_256 = "RSAES_OAEP_SHA_256"


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One piece of key material.

    `number` counts from 1. `due_at` is when a rotation policy asked for it, None where a person
    did. `encryptions` is at least the number of ciphertexts made under it, never less.
    """

    version_id: str
    number: int
    made_at: datetime
    due_at: datetime | None = None
    encryptions: int = 0
    has_material: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """A key (CMK, 用户主密钥) with its versions, oldest first.

    A symmetric key has one primary version, which encrypts; a pair has none
    (`primary_version_id` is None). `rotation_days` is None while automatic rotation is off.
    """

    key_id: str
    provider: str
    region: str
    spec: KeySpec
    origin: KeyOrigin
    state: KeyState
    alias: str
    description: str
    created_at: datetime
    versions: tuple[KeyVersion, ...] = field(repr=False)
    primary_version_id: str | None
    rotation_days: int | None = None
    next_rotation_at: datetime | None = None
    last_rotated_at: datetime | None = None
    deletion_at: datetime | None = None
    material_expires_at: datetime | None = None

    @property
    def primary(self) -> KeyVersion | None:
        """The primary version; None for a pair and for a key without material."""
        for version in reversed(self.versions):
            if version.version_id == self.primary_version_id:
                return version
        return None


class BlobFormat(StrEnum):
    """Who made a blob, as far as its shape tells."""

    LAB = "lab"
    CLOUD = "cloud"
    PUBLIC_KEY = "public-key"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class UnverifiedHeader:
    """What a blob says of itself. Nothing here is proven until the blob has been opened.

    `fingerprint` is the 64-byte first segment of a Tencent cloud blob in hex: equal ones mean the
    same key (inferred, reference/tencent.md section 5), different ones prove nothing.
    """

    provider: str
    format: BlobFormat
    key_id: str | None = None
    key_version_id: str | None = None
    fingerprint: str | None = None
    has_context: bool | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A stored blob with what is known of it. `row` counts from 1, the header row apart.

    `context` is the exact text of the context column, or None where there is none. `region` and
    `account` say which remote it is for, where there are several.
    """

    record_id: str
    provider: str
    ciphertext_blob: str
    row: int = 0
    context: str | None = None
    key_id: str | None = None
    created_at: datetime | None = None
    owner: str | None = None
    source_key_id: str | None = None
    source_key_version_id: str | None = None
    source_encryption_algorithm: str | None = None
    region: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: in the clear (None where it was not asked for) and as a blob.

    The version is None where a cloud does not tell.
    """

    ciphertext_blob: str
    plaintext: Plaintext | None
    key_id: str
    key_version_id: str | None
    request_id: str
    exported: str | None = None


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a pair, as PEM text and DER bytes (SubjectPublicKeyInfo)."""

    key_id: str
    key_version_id: str
    pem: str
    der: bytes


@dataclass(frozen=True, slots=True)
class ReEncryptResult:
    """The answer to one re_encrypt: the blob, and all four ids without doubt.

    A version, and CTyun's source key, is None where a cloud does not tell; a lab tells all.
    """

    ciphertext_blob: str
    re_encrypted: bool
    key_id: str
    key_version_id: str | None
    source_key_id: str | None
    source_key_version_id: str | None
    request_id: str


_Draft: Any = make_dataclass("_Draft", [f.name for f in fields(ReEncryptResult)], slots=True)


def re_encrypt_result(
    blob: str, ids: tuple[str, str, str, str], request_id: str, *, re_encrypted: bool
) -> ReEncryptResult:
    """The answer of these values, `ids` in the order of its fields; for whoever makes many.

    A frozen dataclass sets its fields the long way, which takes longer than a decryption. A draft
    has the same slots, and is frozen once they are filled.

    >>> re_encrypt_result("blob", ("a", "b", "c", "d"), "e", re_encrypted=True).source_key_id
    'c'
    """
    key_id, version_id, source_key_id, source_version_id = ids
    made = _Draft(
        blob, re_encrypted, key_id, version_id, source_key_id, source_version_id, request_id
    )
    made.__class__ = ReEncryptResult
    result: ReEncryptResult = made
    return result


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a blob, for whoever looks at its bytes.

    `offset` and `length` count bytes of the decoded `segment`. `value` is text where the bytes
    are ASCII letters, and hex elsewhere.
    """

    segment: str
    name: str
    offset: int
    length: int
    value: str
    meaning: str
