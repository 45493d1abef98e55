"""A key with its versions as one authenticated unit: rows, their MAC, and their form in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, overload

from kmslab.encoding import pack, uuid_bytes
from kmslab.errors import FormatError
from kmslab.keystore.sealing import Subkeys, digest
from kmslab.model import TENCENT, Key, KeyOrigin, KeySpec, KeyState, KeyVersion

_STATES_OF_TENCENT = (KeyState.ARCHIVED, KeyState.PENDING_IMPORT)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970, as the tables keep times."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@overload
def moment(microseconds: int) -> datetime: ...


@overload
def moment(microseconds: None) -> None: ...


def moment(microseconds: int | None) -> datetime | None:
    """The datetime of a time as the tables keep it."""
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A row of `versions`; `sealed` is None once the material is gone."""

    key_id: str
    version_id: str
    number: int
    made_at: int
    due_at: int | None
    sealed: bytes | None
    public_key: bytes | None
    encryptions: int


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A row of `keys` without its MAC."""

    key_id: str
    provider: str
    region: str
    spec: KeySpec
    origin: KeyOrigin
    state: KeyState
    alias: str
    description: str
    created_at: int
    deletion_at: int | None = None
    rotation_days: int | None = None
    next_rotation_at: int | None = None
    last_rotated_at: int | None = None
    rotated_on_demand_at: int | None = None
    material_expires_at: int | None = None
    material_check: bytes | None = None
    primary_version_id: str | None = None
    generation: int = 0


_key_values = attrgetter(*(f.name for f in fields(KeyRow)))
_version_values = attrgetter(*(f.name for f in fields(VersionRow)))


def key_columns(row: KeyRow) -> dict[str, Any]:
    """The columns of a key row, as the table takes them."""
    values = dict(zip((f.name for f in fields(KeyRow)), _key_values(row), strict=True))
    return {name: str(v) if isinstance(v, str) else v for name, v in values.items()}


def version_columns(row: VersionRow) -> dict[str, Any]:
    """The columns of a version row, as the table takes them."""
    return dict(zip((f.name for f in fields(VersionRow)), _version_values(row), strict=True))


def check_unit(row: KeyRow, versions: Sequence[VersionRow]) -> None:
    """FormatError, naming the field, unless these rows could be a key that a lab has made."""
    uuid_bytes(row.key_id, "key_id")
    for number, version in enumerate(versions, start=1):
        uuid_bytes(version.version_id, f"versions[{number}].version_id")
        if (version.key_id, version.number) != (row.key_id, number):
            raise FormatError(f"versions[{number}] is not version {number} of key {row.key_id}")
    ids = [version.version_id for version in versions]
    if not ids or len(set(ids)) < len(ids):
        raise FormatError("versions: a key has at least one, each with an id of its own")
    if row.primary_version_id is not None and row.primary_version_id not in ids:
        raise FormatError("primary_version_id is none of the versions")
    if row.rotation_days is not None and row.rotation_days < 1:
        raise FormatError("rotation_days is a number of days from 1 up")
    if (row.rotation_days is None) != (row.next_rotation_at is None):
        raise FormatError("rotation_days and next_rotation_at go together")
    if row.state in _STATES_OF_TENCENT and row.provider != TENCENT:
        raise FormatError(f"state: {row.provider} has no keys that are {row.state}")
    if row.state is KeyState.PENDING_IMPORT and row.origin is not KeyOrigin.EXTERNAL:
        raise FormatError(f"state: a key whose origin is {row.origin} is not {row.state}")
    if row.state is KeyState.PENDING_DELETION and row.deletion_at is None:
        raise FormatError("deletion_at is missing, and the key is pending deletion")
    if any(not 0 <= version.encryptions <= 2**32 for version in versions):
        raise FormatError("encryptions is a number from 0 to 2^32")
    try:
        _key(row, tuple(versions))
    except OverflowError:
        raise FormatError("a time is outside the years 1 to 9999") from None


def unit_mac(subkeys: Subkeys, row: KeyRow, versions: Iterable[VersionRow]) -> bytes:
    """The MAC over every column of a key and of each of its versions, and over their set."""
    rows = digest(*(pack(*_version_values(version)) for version in versions))
    return subkeys.mac(pack("unit", subkeys.lab_id, *_key_values(row), rows))


class Handle:
    """One version in memory. It outlives reloads: `unit` and `row` are replaced, never changed.

    `cipher` belongs to the provider, which makes it on first use; it is dropped with the material.
    """

    __slots__ = ("cipher", "row", "unit")

    def __init__(self, unit: Unit, row: VersionRow) -> None:
        self.unit = unit
        self.row = row
        self.cipher: Any = None

    @property
    def version_id(self) -> str:
        """The version's id."""
        return self.row.version_id

    def __repr__(self) -> str:
        return f"Handle({self.row.key_id} version {self.row.number})"


class Unit:
    """A key with its versions in memory: one verified state of it."""

    __slots__ = ("_key", "handles", "primary", "row", "versions")

    def __init__(self, row: KeyRow, versions: tuple[VersionRow, ...]) -> None:
        self.row = row
        self.versions = versions
        self.handles: dict[str, Handle] = {}
        self.primary: Handle | None = None
        self._key: Key | None = None

    def __repr__(self) -> str:
        return f"Unit({self.row.key_id})"

    def bind(self, known: dict[str, Handle]) -> None:
        """Take over the handles of an older state, and make those that are new.

        Other threads read handles meanwhile, so one points here only when all is in place.
        """
        for version in self.versions:
            handle = known.get(version.version_id)
            if handle is None or (version.sealed is None and handle.row.sealed is not None):
                # A call that is under way keeps the handle, and the cipher, that it began with.
                handle = Handle(self, version)
            self.handles[version.version_id] = handle
        primary_id = self.row.primary_version_id
        self.primary = self.handles.get(primary_id) if primary_id else None
        for version in self.versions:
            handle = self.handles[version.version_id]
            handle.unit, handle.row = self, version
        known.update(self.handles)

    @property
    def has_material(self) -> bool:
        """Whether any version still has its material."""
        return any(version.sealed is not None for version in self.versions)

    @property
    def next_event(self) -> float:
        """When the clock next changes this key, in seconds since 1970; infinity for never."""
        row = self.row
        times = [row.deletion_at if row.state is KeyState.PENDING_DELETION else None]
        if row.state is KeyState.ENABLED:
            times.append(row.next_rotation_at)
        if row.state is not KeyState.DELETED:
            times.append(row.material_expires_at)
        return min((t / 1e6 for t in times if t is not None), default=math.inf)

    def key(self) -> Key:
        """The key as users see it."""
        if self._key is None:
            self._key = _key(self.row, self.versions)
        return self._key


def _key(row: KeyRow, versions: tuple[VersionRow, ...]) -> Key:
    return Key(
        key_id=row.key_id,
        provider=row.provider,
        region=row.region,
        spec=row.spec,
        origin=row.origin,
        state=row.state,
        alias=row.alias,
        description=row.description,
        created_at=moment(row.created_at),
        versions=tuple(_version(version) for version in versions),
        primary_version_id=row.primary_version_id,
        rotation_days=row.rotation_days,
        next_rotation_at=moment(row.next_rotation_at),
        last_rotated_at=moment(row.last_rotated_at),
        deletion_at=moment(row.deletion_at),
        material_expires_at=moment(row.material_expires_at),
    )


def _version(row: VersionRow) -> KeyVersion:
    return KeyVersion(
        version_id=row.version_id,
        number=row.number,
        made_at=moment(row.made_at),
        due_at=moment(row.due_at),
        encryptions=row.encryptions,
        has_material=row.sealed is not None,
    )
