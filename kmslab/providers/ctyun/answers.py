"""What an answer of CTyun says of a key, as `wire.py` writes it in a lab."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from kmslab.errors import Unsupported
from kmslab.model import CTYUN, Key, KeyOrigin, KeySpec, KeyState, KeyVersion
from kmslab.providers.fields import Fields

_SPECS: Final[Mapping[str, KeySpec]] = {
    "AES_256": KeySpec.AES_256,
    "Ctyun_SM4": KeySpec.SM4,
    "RSA_2048": KeySpec.RSA_2048,
}
_STATES: Final[Mapping[str, KeyState]] = {
    "Enabled": KeyState.ENABLED,
    "Disabled": KeyState.DISABLED,
    "PendingDeletion": KeyState.PENDING_DELETION,
    "PendingImport": KeyState.PENDING_IMPORT,
}
_DAYS: Final = re.compile(r"([1-9][0-9]{0,4})d")


def key_of(told: Fields, region: str, versions: tuple[KeyVersion, ...]) -> Key:
    """A key, of what is told of it; Unsupported for a kind of key that kmslab does not know."""
    spec, state = spec_of(told), _STATES.get(told.text("keyState"))
    if spec is None:
        raise Unsupported("kmslab knows no keys of this spec")
    if state is None:
        raise told.bad("keyState")
    return Key(
        key_id=told.text("cmkUuid"),
        provider=CTYUN,
        region=region,
        spec=spec,
        origin=KeyOrigin.KMS,
        state=state,
        alias=told.text_or_none("aliasName") or "",
        description=told.text_or_none("description") or "",
        created_at=_needed(told, "creationDate"),
        versions=versions,
        primary_version_id=told.text_or_none("primaryKeyVersion"),
        rotation_days=_rotation_days(told),
        next_rotation_at=_moment(told, "nextRotationDate"),
        last_rotated_at=_moment(told, "lastRotationDate"),
        deletion_at=_moment(told, "deleteDate"),
    )


def spec_of(told: Fields) -> KeySpec | None:
    """The spec of a key, None where kmslab knows none such."""
    return _SPECS.get(told.text("keySpec"))


def _rotation_days(told: Fields) -> int | None:
    found = _DAYS.fullmatch(told.text_or_none("rotationInterval") or "")
    return int(found[1]) if found else None


def _moment(told: Fields, name: str) -> datetime | None:
    text = told.text_or_none(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise told.bad(name) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _needed(told: Fields, name: str) -> datetime:
    moment = _moment(told, name)
    if moment is None:
        raise told.bad(name)
    return moment


def versions_of(parts: Sequence[Fields]) -> tuple[KeyVersion, ...]:
    """The versions of a list, oldest first; those of one second as they were told."""
    made = [(_needed(part, "creationDate"), part.text("keyVersionId")) for part in parts]
    made.sort(key=lambda each: each[0])
    return tuple(KeyVersion(which, number, at) for number, (at, which) in enumerate(made, 1))
