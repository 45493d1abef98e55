"""Seed files: labs with fixed key ids, dated past versions and fixed material, in YAML.

A lab that a seed went into is marked *unsafe* for ever: its material is in a file.

    format: kmslab-seed-1
    keys:
      - provider: tencent            # or ctyun
        key_id: 23e80852-1e38-11e9-b129-5cb9019b4b01
        region: ap-guangzhou         # optional
        alias: orders                # optional, as are description, state, rotation_days,
        spec: AES_256                # next_rotation_at, deletion_at, last_rotated_at
        created_at: 2024-01-01T00:00:00Z
        versions:
          - version_id: 6f1e3c1e-1111-4111-8111-000000000001
            made_at: 2024-01-01T00:00:00Z
            material: <base64 of 32 bytes; 16 for SM4; for RSA_2048 a PEM text>

A version may also have `due_at` and `encryptions`, the number of ciphertexts that were made under
it elsewhere. The material of a deleted key is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kmslab import crypto
from kmslab.encoding import unb64, uuid_bytes
from kmslab.errors import FormatError, SeedError
from kmslab.keystore.counting import LIMIT
from kmslab.keystore.lifecycle import Act, add, now_of, version_from
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import KeyRow, VersionRow, microseconds
from kmslab.model import KeyOrigin, KeySpec, KeyState
from kmslab.secret import Secret

_FORMAT = "kmslab-seed-1"
Value = TypeVar("Value")
_KEY_FIELDS = {
    "provider",
    "key_id",
    "region",
    "alias",
    "description",
    "spec",
    "state",
    "created_at",
    "rotation_days",
    "next_rotation_at",
    "last_rotated_at",
    "deletion_at",
    "versions",
}
_VERSION_FIELDS = {"version_id", "made_at", "due_at", "encryptions", "material"}


def plant(keystore: Keystore, act: Act, path: Path, regions: Mapping[str, str]) -> tuple[str, ...]:
    """Add the keys of a seed file, all or none; the ids of those added.

    Keys that are here already are left as they are. `regions` gives each provider's default
    region. SeedError names the key and field that is wrong.
    """
    items = _read(path)
    added: list[str] = []
    with keystore.change(act.entry(now_of(keystore)), unhurried=True) as change:
        for number, item in enumerate(items, start=1):
            try:
                row, versions = _key(keystore, item, regions)
                if row.key_id not in keystore.units:
                    add(keystore, change, row, versions)
                    added.append(row.key_id)
            except FormatError as error:
                raise SeedError(f"{path}: {_named(number, item)}: {error}") from None
        change.lab = replace(change.lab, unsafe=True)
    return tuple(added)


def _named(number: int, item: Any) -> str:
    key_id = item.get("key_id") if isinstance(item, dict) else None
    return f"key {number} ({key_id})" if isinstance(key_id, str) else f"key {number}"


def _read(path: Path) -> list[Any]:
    try:
        content = _hidden(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SeedError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeError, RecursionError):
        raise SeedError(f"{path} is not YAML") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise SeedError(f"{path} is not a seed file: it has no line `format: {_FORMAT}`")
    keys = content.get("keys")
    if not isinstance(keys, list) or set(content) != {"format", "keys"}:
        raise SeedError(f"{path}: a seed file holds `format` and a list `keys`, nothing else")
    return keys


def _hidden(found: Any) -> Any:
    # What is in a local variable is in a traceback that shows them, so material is in none.
    if isinstance(found, list):
        return [_hidden(item) for item in found]
    if isinstance(found, dict):
        return {
            name: Secret(value.encode())
            if name == "material" and isinstance(value, str)
            else _hidden(value)
            for name, value in found.items()
        }
    return found


def _key(
    keystore: Keystore, item: Any, regions: Mapping[str, str]
) -> tuple[KeyRow, tuple[VersionRow, ...]]:
    _only(item, _KEY_FIELDS)
    provider = _field(item, "provider", _text)
    if provider not in regions:
        raise FormatError(f"provider: there is no provider {provider}")
    row = KeyRow(
        key_id=_field(item, "key_id", _text),
        provider=provider,
        region=_field(item, "region", _text, regions[provider]),
        spec=_field(item, "spec", KeySpec, KeySpec.AES_256),
        origin=KeyOrigin.KMS,
        state=_field(item, "state", KeyState, KeyState.ENABLED),
        alias=_field(item, "alias", _text, ""),
        description=_field(item, "description", _text, ""),
        created_at=_field(item, "created_at", _time),
        deletion_at=_field(item, "deletion_at", _time, None),
        rotation_days=_field(item, "rotation_days", _days, None),
        next_rotation_at=_field(item, "next_rotation_at", _time, None),
        last_rotated_at=_field(item, "last_rotated_at", _time, None),
    )
    uuid_bytes(row.key_id, "key_id")
    versions = []
    for number, found in enumerate(_field(item, "versions", _list), start=1):
        try:
            versions.append(_version(keystore, row, number, found))
        except FormatError as error:
            raise FormatError(f"versions[{number}]: {error}") from None
    if row.spec.symmetric and versions:
        row = replace(row, primary_version_id=versions[-1].version_id)
    return row, tuple(versions)


def _version(keystore: Keystore, row: KeyRow, number: int, item: Any) -> VersionRow:
    _only(item, _VERSION_FIELDS)
    version_id = _field(item, "version_id", _text)
    uuid_bytes(version_id, "version_id")
    version = VersionRow(
        key_id=row.key_id,
        version_id=version_id,
        number=number,
        made_at=_field(item, "made_at", _time),
        due_at=_field(item, "due_at", _time, None),
        sealed=None,
        public_key=None,
        encryptions=_field(item, "encryptions", _count, 0),
    )
    if row.state is KeyState.DELETED:
        return version
    material = _field(item, "material", lambda text: _material(row.spec, text))
    made = version_from(keystore, row, number, version.made_at, version_id, material)
    return replace(version, sealed=made.sealed, public_key=made.public_key)


def _only(item: Any, names: set[str]) -> None:
    if not isinstance(item, dict):
        raise FormatError("it is not a mapping")
    unknown = set(item) - names
    if unknown:
        raise FormatError(f"there is no field {min(map(str, unknown))}")


_REQUIRED = object()


def _field(
    item: Mapping[str, Any], name: str, read: Callable[[Any], Value], default: Any = _REQUIRED
) -> Value | Any:
    value = item.get(name)
    if value is None:
        if default is _REQUIRED:
            raise FormatError(f"{name} is missing")
        return default
    try:
        return read(value)
    except ValueError as error:
        raise FormatError(f"{name}: {error}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{value!r} is not a text")
    try:
        value.encode()  # as no database keeps half a letter
    except UnicodeEncodeError:
        raise FormatError(f"{value!r} is not a text") from None
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError("it is not a list")
    return value


def _days(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 36_500:
        raise FormatError(f"{value!r} is not a number of days")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LIMIT:
        raise FormatError("it is a number from 0 to 2^32")
    return value


def _time(value: Any) -> int:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(found, datetime):
        raise FormatError(f"{value!r} is not a time")
    return microseconds(found if found.tzinfo else found.replace(tzinfo=UTC))


def _material(spec: KeySpec, text: Any) -> Secret:
    if not isinstance(text, Secret):
        raise FormatError("it is not a text")
    if spec is KeySpec.RSA_2048:
        return Secret(crypto.rsa_private_der(crypto.load_rsa_private(text.expose())))
    material = Secret(unb64(text.expose().decode(), "the text"))
    if len(material) != spec.material_bytes:
        raise FormatError(f"material of {spec} has {spec.material_bytes} bytes")
    return material
