"""A lab as one file under its own passphrase, to move it or to keep it.

`KMSLAB-BUNDLE-1 LF`, one line of JSON (Argon2id cost, salt, nonce), then AES-256-GCM of the
content with both lines as AAD. A key that a lab has deleted is never brought back by a bundle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kmslab.crypto import Argon2Parameters, InvalidTag, argon2id
from kmslab.encoding import b64, unb64
from kmslab.errors import BundleError, FormatError
from kmslab.keystore.changes import Change
from kmslab.keystore.lifecycle import Act, add, is_overdue, now_of, version_from
from kmslab.keystore.root import SALT_BYTES, Passphrase, sync_directory
from kmslab.keystore.rows import row_of
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import KeyRow, Unit, VersionRow, key_columns, version_columns
from kmslab.model import KeyState
from kmslab.secret import Secret

_MAGIC = b"KMSLAB-BUNDLE-1\n"
_CONTENT = 1
_NONCE = 12


@dataclass(frozen=True, slots=True)
class BundleImport:
    """What an import did with each key of the bundle, by key id.

    `kept` were here already and stay as they are; `refused` were deleted here, or are overdue for
    deletion, and are not brought back.
    """

    imported: tuple[str, ...]
    kept: tuple[str, ...]
    refused: tuple[str, ...]


def export(keystore: Keystore, act: Act, path: Path, passphrase: Passphrase) -> int:
    """Write a bundle of every key that is not deleted to a new file; how many keys it holds.

    It is audited before it is written, so that no bundle goes without its audit row.
    """
    keystore.settle()
    with keystore.steady():
        units = [u for u in keystore.units.values() if u.row.state is not KeyState.DELETED]
        data = _sealed(_content(keystore, units), passphrase)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            with keystore.change(act.entry(now_of(keystore))):
                pass
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BundleError(f"{path} cannot be written: {error.strerror}") from None
        raise
    return len(units)


def take_in(keystore: Keystore, act: Act, path: Path, passphrase: Passphrase) -> BundleImport:
    """Add the keys of a bundle to the lab, all of them or, on any error, none.

    The mark *unsafe* comes along with the keys.
    """
    content = _opened(path, passphrase)
    now = now_of(keystore)
    imported, kept, refused = [], [], []
    with keystore.change(act.entry(now), unhurried=True) as change:
        for row, versions in _keys(path, content):
            found = keystore.units.get(row.key_id)
            if _is_gone(found.row if found else row, now):
                refused.append(row.key_id)
            elif found is not None:
                kept.append(row.key_id)
            else:
                _add(keystore, change, path, row, versions)
                imported.append(row.key_id)
        if content.get("unsafe") is not False and imported:
            change.lab = replace(change.lab, unsafe=True)
    return BundleImport(tuple(imported), tuple(kept), tuple(refused))


def _is_gone(row: KeyRow, now: int) -> bool:
    return row.state is KeyState.DELETED or is_overdue(row, now)


# Material stands in a version's `sealed` while it is in a bundle, and nowhere in the clear but
# inside a Secret: what is in a local variable is in a traceback that shows them.


def _content(keystore: Keystore, units: Iterable[Unit]) -> Secret:
    keys = [_exported(keystore, unit) for unit in units]
    content = {"content": _CONTENT, "unsafe": keystore.lab.unsafe, "keys": keys}
    return Secret(json.dumps(content, default=_as_json).encode("utf-8"))


def _exported(keystore: Keystore, unit: Unit) -> dict[str, Any]:
    versions = [version_columns(version) for version in unit.versions]
    for columns in versions:
        if columns["sealed"] is not None:
            columns["sealed"] = keystore.material(unit.handles[columns["version_id"]])
    return {"key": key_columns(unit.row), "versions": versions}


def _keys(
    path: Path, content: Mapping[str, Any]
) -> Iterator[tuple[KeyRow, list[tuple[VersionRow, Secret | None]]]]:
    try:
        for item in content["keys"]:
            row = row_of(KeyRow, _exposed(item["key"]))
            versions = [
                (row_of(VersionRow, _exposed({**found, "sealed": None})), found["sealed"])
                for found in item["versions"]
            ]
            if any(not isinstance(m, Secret) for _, m in versions if m is not None):
                raise FormatError("material is no bytes")
            yield replace(row, generation=0), versions
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{path} holds what is no key") from None


def _add(
    keystore: Keystore,
    change: Change,
    path: Path,
    row: KeyRow,
    found: Sequence[tuple[VersionRow, Secret | None]],
) -> None:
    try:
        versions = []
        for version, material in found:
            if material is not None:
                made = version_from(
                    keystore, row, version.number, version.made_at, version.version_id, material
                )
                version = replace(version, sealed=made.sealed, public_key=made.public_key)
            versions.append(version)
        add(keystore, change, row, tuple(versions))
    except FormatError as error:
        raise BundleError(f"{path}: key {row.key_id}: {error}") from None


def _exposed(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.expose() if isinstance(value, Secret) else value
        for name, value in columns.items()
    }


def _as_json(value: object) -> dict[str, str]:
    if not isinstance(value, (bytes, Secret)):
        raise TypeError("neither bytes nor a Secret")
    data = value.expose() if isinstance(value, Secret) else value
    return {"base64": b64(data)}


def _from_json(found: dict[str, Any]) -> dict[str, Any] | Secret:
    text = found.get("base64")
    return Secret(unb64(text)) if isinstance(text, str) and len(found) == 1 else found


def _sealed(content: Secret, passphrase: Passphrase) -> bytes:
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(_NONCE)
    cost = Argon2Parameters()
    header = {"argon2id": cost.as_dict(), "salt": b64(salt), "nonce": b64(nonce)}
    head = _MAGIC + json.dumps(header, sort_keys=True).encode("ascii") + b"\n"
    cipher = AESGCM(argon2id(passphrase.text.expose(), salt, cost))
    return head + cipher.encrypt(nonce, content.expose(), head)


def _opened(path: Path, passphrase: Passphrase) -> dict[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from None
    try:
        magic, line, sealed = data.split(b"\n", 2)
        header = json.loads(line)
        cost = Argon2Parameters(**header["argon2id"])
        salt, nonce = unb64(header["salt"]), unb64(header["nonce"])
        if magic + b"\n" != _MAGIC or (len(salt), len(nonce)) != (SALT_BYTES, _NONCE):
            raise FormatError("no bundle")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"{path} is not a bundle that this kmslab can read") from None
    head = magic + b"\n" + line + b"\n"
    try:
        cipher = AESGCM(argon2id(passphrase.text.expose(), salt, cost))
        content = Secret(cipher.decrypt(nonce, sealed, head))
    except InvalidTag:
        raise BundleError(f"{path}: the passphrase is wrong, or the file was altered") from None
    try:
        found = json.loads(content.expose(), object_hook=_from_json)
    except (ValueError, RecursionError):
        raise BundleError(f"{path} holds what is no list of keys") from None
    if not isinstance(found, dict) or found.get("content") != _CONTENT:
        raise BundleError(f"{path} was made by a newer kmslab")
    return found
