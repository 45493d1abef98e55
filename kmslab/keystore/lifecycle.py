"""What happens to keys: made, rotated, imported, expired, deleted.

Each function is one durable, audited change. What may happen in which state is the provider's
rule: it comes in as `edit`, which looks at the newest state and raises a KmsError to refuse.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from kmslab import crypto
from kmslab.errors import (
    AliasInUse,
    FormatError,
    KeyNotFound,
    LabError,
    MaterialMismatch,
    RotationUnsupported,
)
from kmslab.keystore import rotation
from kmslab.keystore.audit import AuditEntry
from kmslab.keystore.changes import Change
from kmslab.keystore.sealing import material_check, same_mac
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import KeyRow, Unit, VersionRow, check_unit
from kmslab.model import KeyOrigin, KeySpec, KeyState, OaepAlgorithm
from kmslab.secret import Entropy, Secret

_ERASE_AGAIN_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what, for the audit log."""

    who: str
    provider: str
    action: str
    request_id: str | None = None

    def entry(self, now: int, key_id: str | None = None, version: str | None = None) -> AuditEntry:
        """The audit row of this act at `now`, in microseconds since 1970."""
        return AuditEntry(
            now,
            self.who,
            self.provider,
            self.action,
            key_id,
            version,
            request_id=self.request_id,
            last_request_id=self.request_id,
        )


def now_of(keystore: Keystore) -> int:
    """The keystore's time in whole microseconds since 1970."""
    return int(keystore.clock.time() * 1_000_000)


def random_id(entropy: Entropy) -> str:
    """A fresh version-4 UUID."""
    return str(uuid.UUID(bytes=entropy(16), version=4))


def create(keystore: Keystore, act: Act, row: KeyRow) -> Unit:
    """Make a key, with its first version; AliasInUse where the region has the alias already."""
    now = now_of(keystore)
    with keystore.change(act.entry(now, row.key_id)) as change:
        if row.origin is KeyOrigin.EXTERNAL:
            version = _version(keystore, row, 1, now, due_at=None, material=None)
        else:
            version = make_version(keystore, row, 1, now)
        add(keystore, change, _with_primary(row, version), (version,))
    return keystore.unit(row.key_id)


def add(keystore: Keystore, change: Change, row: KeyRow, versions: tuple[VersionRow, ...]) -> None:
    """Put a key that is new to the lab into a change.

    AliasInUse where the region has the alias already; FormatError where the rows are no key, or
    the lab has the key or one of its version ids already.
    """
    check_unit(row, versions)
    others = [*change.units.values()]
    taken = {version.version_id for _, theirs in others for version in theirs}
    if row.key_id in keystore.units or row.key_id in change.units:
        raise FormatError(f"key_id: there is a key {row.key_id} already")
    for version in versions:
        if version.version_id in taken or version.version_id in keystore.handles:
            raise FormatError(f"version_id: {version.version_id} is a version of another key")
    _check_alias(row, [*(unit.row for unit in keystore.units.values()), *(r for r, _ in others)])
    change.put(row, versions)


def edit(keystore: Keystore, act: Act, key_id: str, edit: Callable[[KeyRow, int], KeyRow]) -> Unit:
    """Change a key's row to what `edit(row, now)` makes of it."""
    return edit_all(keystore, act, [key_id], edit)[0]


def edit_all(
    keystore: Keystore,
    act: Act,
    key_ids: Sequence[str],
    edit: Callable[[KeyRow, int], KeyRow],
) -> list[Unit]:
    """Change the rows of several keys in one change: all of them, or none."""
    now = now_of(keystore)
    with keystore.change(*(act.entry(now, key_id) for key_id in key_ids)) as change:
        for key_id in key_ids:
            unit = keystore.unit(key_id)
            row = edit(unit.row, now)
            if row.alias != unit.row.alias:
                _check_alias(row, [unit.row for unit in keystore.units.values()])
            change.put(row, unit.versions)
    return [keystore.unit(key_id) for key_id in key_ids]


def rotate(
    keystore: Keystore,
    act: Act,
    key_id: str,
    check: Callable[[KeyRow, int], KeyRow] = lambda row, now: row,
) -> Unit:
    """Make a new version now; of a symmetric key it becomes the primary one.

    RotationUnsupported for a key with imported material, KeyNotFound for one that is deleted or
    whose deletion is overdue.
    """
    now = now_of(keystore)
    with keystore.change() as change:
        unit = keystore.unit(key_id)
        if unit.row.state is KeyState.DELETED or is_overdue(unit.row, now):
            raise KeyNotFound(f"no key {key_id}")
        row = check(unit.row, now)
        if row.origin is KeyOrigin.EXTERNAL:
            raise RotationUnsupported(f"key {key_id} does not rotate")
        version = make_version(keystore, row, len(unit.versions) + 1, now)
        row = replace(_with_primary(row, version), last_rotated_at=now)
        if row.rotation_days is not None:
            row = replace(row, next_rotation_at=now + row.rotation_days * rotation.DAY)
        change.put(row, (*unit.versions, version))
        change.entries.append(act.entry(now, key_id, version.version_id))
    return keystore.unit(key_id)


def import_material(
    keystore: Keystore,
    act: Act,
    key_id: str,
    material: Secret,
    check: Callable[[KeyRow, int], KeyRow],
) -> Unit:
    """Give an external key its material; MaterialMismatch where it had other material before."""
    now = now_of(keystore)
    with keystore.change(act.entry(now, key_id)) as change:
        unit = keystore.unit(key_id)
        row = check(unit.row, now)
        fingerprint = material_check(material, key_id)
        if row.material_check is not None and not same_mac(row.material_check, fingerprint):
            raise MaterialMismatch("the key had other material before; import the same again")
        sealed = _sealed(keystore, row, unit.versions[0].version_id, material)
        change.put(
            replace(row, material_check=fingerprint),
            (replace(unit.versions[0], sealed=sealed),),
        )
    return keystore.unit(key_id)


def delete_material(
    keystore: Keystore, act: Act, key_id: str, check: Callable[[KeyRow, int], KeyRow]
) -> Unit:
    """Take an external key's material away, out of every file of the lab."""
    now = now_of(keystore)
    with keystore.change(act.entry(now, key_id)) as change:
        unit = keystore.unit(key_id)
        change.put(check(unit.row, now), _without_material(unit.versions))
    if not keystore.erase_deleted_bytes():
        raise LabError(
            f"the material of key {key_id} is gone from the lab, and another process still holds "
            "a file with its sealed bytes; delete it again to have the file rewritten"
        )
    return keystore.unit(key_id)


def settle(keystore: Keystore) -> float:
    """Do what the clock owes. Gives the time, in seconds since 1970, before which it need not be
    asked again (minus infinity where nothing was left over)."""
    now = now_of(keystore)
    due = [unit.row.key_id for unit in keystore.units.values() if unit.next_event * 1e6 <= now]
    if not due:
        return -math.inf
    erase = False
    with keystore.change() as change:
        for key_id in due:
            unit = keystore.unit(key_id)
            if is_overdue(unit.row, now):
                erase = True
                _settle_deletion(change, unit, now)
            else:
                erase = erase or _past(unit.row.material_expires_at, now)
                row, versions = _settle_expiry(change, unit, now)
                _settle_rotation(keystore, change, row, versions, now)
    if not erase:
        return -math.inf
    if not _erased(keystore):
        return now / 1e6 + _ERASE_AGAIN_AFTER
    with keystore.change() as change:
        for key_id in due:
            unit = keystore.unit(key_id)
            # Another process may have been quicker.
            if unit.has_material:
                continue
            row = unit.row
            if _past(row.material_expires_at, now):
                row = replace(row, material_expires_at=None)
                change.entries.append(_clock_act(row, "MaterialExpired").entry(now, key_id))
            if is_overdue(row, now):
                row = replace(row, state=KeyState.DELETED)
                change.entries.append(_clock_act(row, "Deleted").entry(now, key_id))
            if row is not unit.row:
                change.put(row, unit.versions)
    return -math.inf


def is_overdue(row: KeyRow, now: int) -> bool:
    """Whether the key's deletion is due and not yet done: nobody may use it any more."""
    return row.state is KeyState.PENDING_DELETION and _past(row.deletion_at, now)


def _erased(keystore: Keystore) -> bool:
    # A deletion that cannot be done now (another process reads, the disk is full) is no reason to
    # refuse the calls on other keys. It stays pending, and is tried again.
    try:
        return keystore.erase_deleted_bytes()
    except LabError:
        return False


def _check_alias(row: KeyRow, others: Iterable[KeyRow]) -> None:
    if not row.alias:
        return
    for other in others:
        if (
            (other.provider, other.region, other.alias) == (row.provider, row.region, row.alias)
            and other.key_id != row.key_id
            and other.state is not KeyState.DELETED
        ):
            raise AliasInUse(f"key {other.key_id} has the alias {row.alias}", parameter="alias")


def make_version(
    keystore: Keystore, row: KeyRow, number: int, now: int, due_at: int | None = None
) -> VersionRow:
    """A version with fresh material: sealed, opened again and tried before anyone relies on it."""
    if row.spec is KeySpec.RSA_2048:
        material = Secret(crypto.generate_rsa_2048())
    else:
        material = Secret(keystore.entropy(row.spec.material_bytes))
    return _version(keystore, row, number, now, due_at, material)


def version_from(
    keystore: Keystore, row: KeyRow, number: int, made_at: int, version_id: str, material: Secret
) -> VersionRow:
    """A version with given material, as `make_version`."""
    sealed = _sealed(keystore, row, version_id, material)
    public = _public(row.spec, material)
    return VersionRow(row.key_id, version_id, number, made_at, None, sealed, public, 0)


def _version(
    keystore: Keystore,
    row: KeyRow,
    number: int,
    now: int,
    due_at: int | None,
    material: Secret | None,
) -> VersionRow:
    version_id = random_id(keystore.entropy)
    sealed = public = None
    if material is not None:
        sealed = _sealed(keystore, row, version_id, material)
        public = _public(row.spec, material)
    return VersionRow(row.key_id, version_id, number, now, due_at, sealed, public, 0)


def _sealed(keystore: Keystore, row: KeyRow, version_id: str, material: Secret) -> bytes:
    if row.spec.symmetric and len(material) != row.spec.material_bytes:
        raise FormatError(f"material of {row.spec} has {row.spec.material_bytes} bytes")
    binding = (row.key_id, version_id, row.spec)
    sealed = keystore.subkeys.seal("material", material, *binding)
    opened = keystore.subkeys.open("material", sealed, *binding)
    if opened != material or not _works(row.spec, opened):
        raise LabError(f"new material for key {row.key_id} failed its test; nothing was changed")
    return sealed


def _works(spec: KeySpec, material: Secret) -> bool:
    trial = b"kmslab trial"
    if spec is KeySpec.RSA_2048:
        pair = crypto.load_rsa_private(material.expose())
        algorithm = OaepAlgorithm.SHA_256
        sealed = crypto.oaep_encrypt(pair.public_key(), algorithm, trial)
        return crypto.oaep_decrypt(pair, algorithm, sealed) == trial
    # Under a key of its own, since material itself encrypts nothing.
    trial_key = crypto.hkdf(material.expose(), b"kmslab/1 trial", spec.material_bytes)
    cipher = crypto.aead(spec, trial_key)
    return cipher.decrypt(bytes(12), cipher.encrypt(bytes(12), trial, b""), b"") == trial


def _public(spec: KeySpec, material: Secret) -> bytes | None:
    if spec is not KeySpec.RSA_2048:
        return None
    return crypto.rsa_public_der(crypto.load_sealed_rsa_private(material.expose()))


def _with_primary(row: KeyRow, version: VersionRow) -> KeyRow:
    return replace(row, primary_version_id=version.version_id) if row.spec.symmetric else row


def _without_material(versions: tuple[VersionRow, ...]) -> tuple[VersionRow, ...]:
    return tuple(replace(version, sealed=None) for version in versions)


def _past(moment: int | None, now: int) -> bool:
    return moment is not None and moment <= now


def _clock_act(row: KeyRow, action: str) -> Act:
    return Act("clock", row.provider, action)


def _settle_deletion(change: Change, unit: Unit, now: int) -> None:
    if unit.has_material:
        row = replace(unit.row, material_expires_at=None)  # nothing is left to expire
        change.put(row, _without_material(unit.versions))
        change.entries.append(_clock_act(unit.row, "DeletionBegun").entry(now, unit.row.key_id))


def _settle_expiry(change: Change, unit: Unit, now: int) -> tuple[KeyRow, tuple[VersionRow, ...]]:
    """Take expired material away. The date stays until no file holds it any more: until then it is
    erased again and again."""
    row = unit.row
    if not _past(row.material_expires_at, now) or not unit.has_material:
        return row, unit.versions
    state = row.state
    if state in (KeyState.ENABLED, KeyState.DISABLED, KeyState.ARCHIVED):
        state = KeyState.PENDING_IMPORT
    row = replace(row, state=state)
    versions = _without_material(unit.versions)
    change.put(row, versions)
    change.entries.append(_clock_act(row, "ExpiryBegun").entry(now, row.key_id))
    return row, versions


def _settle_rotation(
    keystore: Keystore, change: Change, row: KeyRow, versions: tuple[VersionRow, ...], now: int
) -> None:
    if row.state is not KeyState.ENABLED:
        return
    for due_at in rotation.due_dates(row, now):
        version = make_version(keystore, row, len(versions) + 1, now, due_at)
        versions = (*versions, version)
        row = replace(
            _with_primary(row, version),
            last_rotated_at=due_at,
            next_rotation_at=due_at + (row.rotation_days or 0) * rotation.DAY,
        )
        change.put(row, versions)
        act = _clock_act(row, "AutomaticRotation")
        change.entries.append(act.entry(now, row.key_id, version.version_id))
