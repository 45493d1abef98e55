"""What an answer of Tencent Cloud says of a key, as `wire.py` writes it in a lab."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from kmslab.errors import Unsupported
from kmslab.model import TENCENT, Key, KeyOrigin, KeySpec, KeyState
from kmslab.providers.fields import Fields

_SPECS: Final[Mapping[tuple[str, int], KeySpec]] = {
    ("ENCRYPT_DECRYPT", 2): KeySpec.AES_256,
    ("ENCRYPT_DECRYPT", 4): KeySpec.SM4,
    ("ASYMMETRIC_DECRYPT_RSA_2048", 2): KeySpec.RSA_2048,
    ("ASYMMETRIC_DECRYPT_RSA_2048", 4): KeySpec.RSA_2048,
}
_STATES: Final[Mapping[str, KeyState]] = {
    "Enabled": KeyState.ENABLED,
    "Disabled": KeyState.DISABLED,
    "PendingDelete": KeyState.PENDING_DELETION,
    "PendingImport": KeyState.PENDING_IMPORT,
    "Archived": KeyState.ARCHIVED,
}


def key_of(metadata: Fields, region: str) -> Key:
    """A key, of its metadata; Unsupported for a kind of key that kmslab does not know."""
    spec = spec_of(metadata)
    if spec is None:
        raise Unsupported("kmslab knows no keys of this usage")
    rotates = metadata.flag("KeyRotationEnabled")
    return Key(
        key_id=metadata.text("KeyId"),
        provider=TENCENT,
        region=region,
        spec=spec,
        origin=_origin(metadata),
        state=_state(metadata),
        alias=metadata.text_or_none("Alias") or "",
        description=metadata.text_or_none("Description") or "",
        created_at=_moment(metadata, "CreateTime") or datetime.fromtimestamp(0, UTC),
        versions=(),
        primary_version_id=None,
        rotation_days=(metadata.number("RotateDays") or 365) if rotates else None,
        next_rotation_at=_moment(metadata, "NextRotateTime") if rotates else None,
        last_rotated_at=_moment(metadata, "LastRotateTime"),
        deletion_at=_moment(metadata, "DeletionDate"),
        material_expires_at=_moment(metadata, "ValidTo"),
    )


def spec_of(metadata: Fields) -> KeySpec | None:
    """The spec of a key, None where kmslab knows none such."""
    return _SPECS.get((metadata.text("KeyUsage"), metadata.number("Type") or 2))


def _origin(metadata: Fields) -> KeyOrigin:
    external = metadata.text_or_none("Origin") == "EXTERNAL"
    return KeyOrigin.EXTERNAL if external else KeyOrigin.KMS


def _state(metadata: Fields) -> KeyState:
    state = _STATES.get(metadata.text("KeyState"))
    if state is None:
        raise metadata.bad("KeyState")
    return state


def _moment(metadata: Fields, name: str) -> datetime | None:
    seconds = metadata.number(name)
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        raise metadata.bad(name) from None
