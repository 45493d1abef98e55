"""What Tencent Cloud allows: limits of parameters, and which state each call needs.

Sources: reference/tencent.md sections 1, 2 and 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from kmslab.context import Context, context_text
from kmslab.encoding import unb64
from kmslab.errors import (
    ContextError,
    DuplicateKeyId,
    ExternalCannotRotate,
    FormatError,
    InvalidAlias,
    InvalidKeyUsage,
    InvalidPendingWindow,
    InvalidPlaintext,
    InvalidRequest,
    KeyNotDisabled,
    KeyStateUnsupported,
    NotExternal,
    RotatedRecently,
    RotationUnsupported,
)
from kmslab.keystore import rotation
from kmslab.keystore.units import Handle, KeyRow, Unit
from kmslab.model import KeyOrigin, KeyState
from kmslab.providers.parameters import check_unicode

MOST_KEY_IDS = 100
MOST_PLAINTEXT_BYTES = 4096
MOST_DATA_KEY_BYTES = 1024
DATA_KEY_BYTES = {"AES_128": 16, "AES_256": 32}
# Calls a second of the actions that have another limit than ReEncrypt's 100.
RATES: Mapping[str, int] = {
    "Encrypt": 300,
    "Decrypt": 300,
    "GenerateDataKey": 300,
    "GenerateRandom": 300,
    "GetPublicKey": 300,
    "AsymmetricRsaDecrypt": 200,
    "RotateKey": 20,
}
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_BEIJING = timezone(timedelta(hours=8))

Edit = Callable[[KeyRow, int], KeyRow]


def context(given: Context, parameter: str) -> str:
    """The text of a context parameter; InvalidRequest, naming it, where it is none."""
    try:
        return context_text(given)
    except ContextError as error:
        raise InvalidRequest(str(error), parameter=parameter) from None


def base64(text: str, parameter: str) -> bytes:
    """The bytes of a base64 parameter."""
    try:
        return unb64(text, parameter)
    except FormatError as error:
        raise InvalidRequest(str(error), parameter=parameter) from None


def check_alias(alias: str) -> None:
    """InvalidAlias unless the alias is one that the cloud takes."""
    if not _ALIAS.fullmatch(alias) or alias.startswith("kms-"):
        raise InvalidAlias(
            "an alias has 1 to 60 letters, digits, '_' and '-', begins with a letter or digit, "
            "and not with 'kms-'",
            parameter="Alias",
        )


def check_description(description: str) -> None:
    """InvalidRequest above 1,024 bytes, and for what is no Unicode text."""
    check_unicode(description, "Description")
    if len(description.encode()) > 1024:
        raise InvalidRequest("a description has 1,024 bytes at most", parameter="Description")


def check_key_ids(key_ids: Sequence[str]) -> None:
    """InvalidRequest unless there are 1 to 100 ids, DuplicateKeyId where one is there twice."""
    if not 1 <= len(key_ids) <= MOST_KEY_IDS:
        raise InvalidRequest(f"KeyIds holds 1 to {MOST_KEY_IDS} ids", parameter="KeyIds")
    if len(set(key_ids)) != len(key_ids):
        raise DuplicateKeyId("a key id is given twice", parameter="KeyIds")


def data_key_bytes(key_spec: str | None, number_of_bytes: int | None) -> int:
    """The length of a data key; the number wins over the spec."""
    if number_of_bytes is not None:
        if not 1 <= number_of_bytes <= MOST_DATA_KEY_BYTES:
            raise InvalidRequest("NumberOfBytes is 1 to 1024", parameter="NumberOfBytes")
        return number_of_bytes
    if key_spec not in DATA_KEY_BYTES:
        raise InvalidRequest("KeySpec is AES_128 or AES_256", parameter="KeySpec")
    return DATA_KEY_BYTES[key_spec]


def require(row: KeyRow, *states: KeyState) -> None:
    """KeyStateUnsupported unless the key is in one of these states."""
    if row.state not in states:
        raise KeyStateUnsupported(f"key {row.key_id} is {row.state}", key_id=row.key_id)


def alive(row: KeyRow) -> KeyRow:
    """The row, unless the key waits for deletion."""
    if row.state is KeyState.PENDING_DELETION:
        raise KeyStateUnsupported(f"key {row.key_id} waits for deletion", key_id=row.key_id)
    return row


def rename(alias: str) -> Edit:
    """Another alias."""
    check_alias(alias)
    return lambda row, _now: replace(alive(row), alias=alias)


def describe(description: str) -> Edit:
    """Another description."""
    check_description(description)
    return lambda row, _now: replace(alive(row), description=description)


def enable(row: KeyRow, now: int) -> KeyRow:
    """The row of a key that is enabled at `now`."""
    require(row, KeyState.ENABLED, KeyState.DISABLED)
    return row if row.state is KeyState.ENABLED else _enabled(row, now)


def disable(row: KeyRow, _now: int) -> KeyRow:
    """The row of a key that is disabled."""
    require(row, KeyState.ENABLED, KeyState.DISABLED)
    return replace(row, state=KeyState.DISABLED)


def archive(row: KeyRow, _now: int) -> KeyRow:
    """The row of a key that is archived."""
    require(row, KeyState.ENABLED, KeyState.DISABLED)
    return replace(row, state=KeyState.ARCHIVED)


def cancel_archive(row: KeyRow, now: int) -> KeyRow:
    """The row of a key that is archived no longer: it is enabled."""
    require(row, KeyState.ARCHIVED)
    return _enabled(row, now)


def _enabled(row: KeyRow, now: int) -> KeyRow:
    next_at = rotation.next_after(row, now)
    return replace(row, state=KeyState.ENABLED, next_rotation_at=next_at)


def schedule_deletion(days: int) -> Edit:
    """Deletion of a key that is not in use, at the end of the day in 7 to 30 days."""
    if not 7 <= days <= 30:
        raise InvalidPendingWindow(
            "PendingWindowInDays is 7 to 30", parameter="PendingWindowInDays"
        )

    def edit(row: KeyRow, now: int) -> KeyRow:
        if row.state is KeyState.PENDING_DELETION:
            raise KeyStateUnsupported(f"key {row.key_id} is scheduled already", key_id=row.key_id)
        if row.state not in (KeyState.DISABLED, KeyState.PENDING_IMPORT):
            raise KeyNotDisabled(f"disable key {row.key_id} first", key_id=row.key_id)
        end = end_of_beijing_day(now + days * rotation.DAY)
        return replace(row, state=KeyState.PENDING_DELETION, deletion_at=end)

    return edit


def rotate_every(days: int) -> Edit:
    """Automatic rotation every 7 to 365 days, the first time that long from now."""
    if not 7 <= days <= 365:
        raise InvalidRequest("RotateDays is 7 to 365", parameter="RotateDays")

    def edit(row: KeyRow, now: int) -> KeyRow:
        if row.origin is KeyOrigin.EXTERNAL:
            raise ExternalCannotRotate(f"key {row.key_id} has imported material")
        symmetric(row)
        require(row, KeyState.ENABLED)
        return replace(row, rotation_days=days, next_rotation_at=now + days * rotation.DAY)

    return edit


def stop_rotation(row: KeyRow, _now: int) -> KeyRow:
    """The row of a key that does not rotate automatically."""
    return replace(row, rotation_days=None, next_rotation_at=None)


def rotate_on_demand(row: KeyRow, now: int) -> KeyRow:
    """The row of a key that may be rotated now: automatic rotation on, once in 24 hours."""
    if row.origin is KeyOrigin.EXTERNAL or row.rotation_days is None:
        raise RotationUnsupported(
            f"key {row.key_id} has no automatic rotation, which RotateKey needs"
        )
    require(row, KeyState.ENABLED)
    last = row.rotated_on_demand_at
    if last is not None and now - last < rotation.DAY:
        wait = (last + rotation.DAY - now) / 1e6
        raise RotatedRecently("a key is rotated once in 24 hours", retry_after=wait)
    return replace(row, rotated_on_demand_at=now)


def delete_material(row: KeyRow, _now: int) -> KeyRow:
    """The row of a key whose imported material is taken away: it waits for it again."""
    external(row)
    require(row, KeyState.ENABLED, KeyState.DISABLED, KeyState.PENDING_IMPORT)
    return replace(row, state=KeyState.PENDING_IMPORT, material_expires_at=None)


def external(row: KeyRow) -> None:
    """NotExternal unless the material is imported."""
    if row.origin is not KeyOrigin.EXTERNAL:
        raise NotExternal(f"key {row.key_id} has no imported material")


def symmetric(row: KeyRow) -> None:
    """RotationUnsupported for a pair."""
    if not row.spec.symmetric:
        raise RotationUnsupported(f"key {row.key_id} is a pair, which does not rotate")


def pair(unit: Unit) -> Handle:
    """A pair's one version; InvalidKeyUsage for a symmetric key."""
    if unit.row.spec.symmetric:
        raise InvalidKeyUsage(f"key {unit.row.key_id} is not a pair", parameter="KeyId")
    return unit.handles[unit.versions[0].version_id]


def end_of_beijing_day(moment: int) -> int:
    """23:59:59 in Beijing on the day of a time, as in the one sample there is (inferred)."""
    day = datetime.fromtimestamp(moment / 1e6, UTC).astimezone(_BEIJING)
    end = day.replace(hour=23, minute=59, second=59, microsecond=0)
    return int(end.timestamp()) * 1_000_000


def check_plaintext(plaintext: bytes) -> None:
    """InvalidPlaintext unless there are 1 to 4,096 bytes."""
    if not isinstance(plaintext, (bytes, bytearray, memoryview)):
        raise InvalidPlaintext("a plaintext is bytes", parameter="Plaintext")
    if not 1 <= len(plaintext) <= MOST_PLAINTEXT_BYTES:
        raise InvalidPlaintext(
            f"a plaintext has 1 to {MOST_PLAINTEXT_BYTES} bytes, this one {len(plaintext)}",
            parameter="Plaintext",
        )
