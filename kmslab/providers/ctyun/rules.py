"""What CTyun allows: limits of parameters, and which state each call needs.

Sources: reference/ctyun-guide.md sections 2, 5 and 7; where CTyun is silent, Alibaba Cloud's model
(reference/ctyun.md section 2) or the lab's choice, as docs/semantics.md says row by row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from kmslab.crypto import load_rsa_public
from kmslab.encoding import is_uuid, unb64
from kmslab.errors import (
    FormatError,
    InvalidAlias,
    InvalidKeyUsage,
    InvalidPendingWindow,
    InvalidPlaintext,
    InvalidRequest,
    KeyNotFound,
    KeyNotPendingDeletion,
    KeyStateUnsupported,
    MissingParameter,
    RotationUnsupported,
)
from kmslab.keystore import rotation
from kmslab.keystore.units import Handle, KeyRow, Unit
from kmslab.model import KeyState, OaepAlgorithm
from kmslab.providers.parameters import check_unicode

# "Less than 6 KB" (reference/ctyun-guide.md section 7).
PLAINTEXT_LIMIT = 6144
MOST_DATA_KEY_BYTES = 1024
DATA_KEY_BYTES = {"AES_128": 16, "AES_256": 32}
# What RSA-2048 encrypts at most (reference/ctyun.md section 4).
MOST_OAEP_BYTES = {OaepAlgorithm.SHA_1: 214, OaepAlgorithm.SHA_256: 190}
SHORTEST_ROTATION, LONGEST_ROTATION = 7, 730
_ALIAS = re.compile(r"[A-Za-z0-9_/-]{1,255}")

Edit = Callable[[KeyRow, int], KeyRow]


def check_alias(alias: str) -> None:
    """InvalidAlias unless there are 1 to 255 letters, digits, `_`, `-` and `/`, and no key id."""
    if not _ALIAS.fullmatch(alias) or is_uuid(alias):
        raise InvalidAlias(
            "an alias has 1 to 255 letters, digits, '_', '-' and '/', and is no key id",
            parameter="aliasName",
        )


def check_description(description: str) -> None:
    """InvalidRequest above 8,192 characters, and for what is no Unicode text."""
    if len(description) > 8192:
        raise InvalidRequest("a description has 8,192 characters at most", parameter="description")
    check_unicode(description, "description")


def check_rotation(days: int) -> None:
    """InvalidRequest outside 7 to 730 days."""
    if not SHORTEST_ROTATION <= days <= LONGEST_ROTATION:
        raise InvalidRequest(
            f"a rotation interval is {SHORTEST_ROTATION} to {LONGEST_ROTATION} days",
            parameter="rotationInterval",
        )


def check_plaintext(plaintext: bytes) -> None:
    """InvalidPlaintext unless there are 1 to 6,143 bytes."""
    if not isinstance(plaintext, (bytes, bytearray, memoryview)):
        raise InvalidPlaintext("a plaintext is bytes", parameter="plaintext")
    if not 1 <= len(plaintext) < PLAINTEXT_LIMIT:
        raise InvalidPlaintext(
            f"a plaintext has 1 to {PLAINTEXT_LIMIT - 1} bytes, this one {len(plaintext)}",
            parameter="plaintext",
        )


def check_destination(key_id: str | None) -> None:
    """MissingParameter where reEncrypt is told no destination."""
    if not key_id:
        raise MissingParameter("destinationKeyId is needed", parameter="destinationKeyId")


def data_key_bytes(key_spec: str | None, number_of_bytes: int | None) -> int:
    """The length of a data key: 1 to 1,024 bytes, or of AES_256 (the default) or AES_128."""
    if number_of_bytes is not None:
        if not 1 <= number_of_bytes <= MOST_DATA_KEY_BYTES:
            raise InvalidRequest("numberOfBytes is 1 to 1024", parameter="numberOfBytes")
        return number_of_bytes
    spec = key_spec or "AES_256"
    if spec not in DATA_KEY_BYTES:
        raise InvalidRequest("keySpec is AES_256 or AES_128", parameter="keySpec")
    return DATA_KEY_BYTES[spec]


def base64(text: str, parameter: str) -> bytes:
    """The bytes of a base64 parameter."""
    try:
        return unb64(text, parameter)
    except FormatError as error:
        raise InvalidRequest(str(error), parameter=parameter) from None


def check_public_key(der: bytes) -> None:
    """InvalidRequest unless the bytes are an RSA-2048 public key."""
    try:
        load_rsa_public(der)
    except FormatError as error:
        raise InvalidRequest(f"publicKeyBlob: {error}", parameter="publicKeyBlob") from None


def check_oaep_plaintext(plaintext: bytes, oaep: OaepAlgorithm) -> None:
    """InvalidPlaintext above what RSA-2048 can encrypt: 214 bytes with SHA-1, 190 with SHA-256."""
    if len(plaintext) > MOST_OAEP_BYTES[oaep]:
        raise InvalidPlaintext(
            f"{oaep} takes {MOST_OAEP_BYTES[oaep]} bytes at most, not {len(plaintext)}",
            parameter="plaintext",
        )


def check_wrapped(size: int, oaep: OaepAlgorithm) -> None:
    """InvalidRequest for a data key of more bytes than RSA-2048 can wrap."""
    if size > MOST_OAEP_BYTES[oaep]:
        raise InvalidRequest(
            f"{oaep} wraps {MOST_OAEP_BYTES[oaep]} bytes at most, not {size}",
            parameter="numberOfBytes",
        )


def symmetric(unit: Unit, parameter: str) -> None:
    """InvalidKeyUsage for a pair."""
    if not unit.row.spec.symmetric:
        raise InvalidKeyUsage(f"key {unit.row.key_id} is a pair", parameter=parameter)


def version(unit: Unit, version_id: str, parameter: str) -> Handle:
    """A pair's version; KeyNotFound where the key has none of this id."""
    if unit.row.spec.symmetric:
        raise InvalidKeyUsage(f"key {unit.row.key_id} is not a pair", parameter=parameter)
    handle = unit.handles.get(version_id)
    if handle is None:
        raise KeyNotFound(f"key {unit.row.key_id} has no version {version_id}")
    return handle


def require(row: KeyRow, *states: KeyState) -> None:
    """KeyStateUnsupported unless the key is in one of these states."""
    if row.state not in states:
        raise KeyStateUnsupported(f"key {row.key_id} is {row.state}", key_id=row.key_id)


def enable(row: KeyRow, now: int) -> KeyRow:
    """The row of a key that is enabled at `now`."""
    require(row, KeyState.ENABLED, KeyState.DISABLED)
    if row.state is KeyState.ENABLED:
        return row
    next_at = rotation.next_after(row, now)
    return replace(row, state=KeyState.ENABLED, next_rotation_at=next_at)


def disable(row: KeyRow, _now: int) -> KeyRow:
    """The row of a key that is disabled."""
    require(row, KeyState.ENABLED, KeyState.DISABLED)
    return replace(row, state=KeyState.DISABLED)


def schedule_deletion(days: int) -> Edit:
    """Deletion in 7 to 30 days, to the second."""
    if not 7 <= days <= 30:
        raise InvalidPendingWindow(
            "pendingWindowInDays is 7 to 30", parameter="pendingWindowInDays"
        )

    def edit(row: KeyRow, now: int) -> KeyRow:
        if row.state is KeyState.PENDING_DELETION:
            raise KeyStateUnsupported(f"key {row.key_id} is scheduled already", key_id=row.key_id)
        deletion_at = now + days * rotation.DAY
        return replace(row, state=KeyState.PENDING_DELETION, deletion_at=deletion_at)

    return edit


def cancel_deletion(row: KeyRow, now: int) -> KeyRow:
    """The row of a key whose deletion is cancelled: it can be used again."""
    if row.state is not KeyState.PENDING_DELETION:
        raise KeyNotPendingDeletion(
            f"key {row.key_id} is not scheduled for deletion", key_id=row.key_id
        )
    next_at = rotation.next_after(row, now)
    return replace(row, state=KeyState.ENABLED, deletion_at=None, next_rotation_at=next_at)


def rotation_policy(days: int | None) -> Edit:
    """Automatic rotation every `days`, or none."""
    if days is not None:
        check_rotation(days)

    def edit(row: KeyRow, now: int) -> KeyRow:
        if not row.spec.symmetric:
            raise RotationUnsupported(f"key {row.key_id} is a pair, which does not rotate")
        require(row, KeyState.ENABLED)
        next_at = None if days is None else now + days * rotation.DAY
        return replace(row, rotation_days=days, next_rotation_at=next_at)

    return edit


def new_version(row: KeyRow, _now: int) -> KeyRow:
    """The row of a pair that may get another version."""
    if row.spec.symmetric:
        raise InvalidKeyUsage(f"key {row.key_id} is not a pair", parameter="cmkUuid")
    require(row, KeyState.ENABLED)
    return row


def rename(alias: str) -> Edit:
    """Another alias."""
    check_alias(alias)

    def edit(row: KeyRow, _now: int) -> KeyRow:
        require(row, KeyState.ENABLED, KeyState.DISABLED)
        return replace(row, alias=alias)

    return edit


def describe(description: str) -> Edit:
    """Another description."""
    check_description(description)

    def edit(row: KeyRow, _now: int) -> KeyRow:
        require(row, KeyState.ENABLED, KeyState.DISABLED)
        return replace(row, description=description)

    return edit
