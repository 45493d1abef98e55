"""A lab: a keystore with its settings, and the two local KMSs over it."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kmslab.clock import Clock, SystemClock
from kmslab.context import Context
from kmslab.ending import after
from kmslab.errors import (
    CredentialError,
    ExternalCannotRotate,
    KeyNotFound,
    RotationUnsupported,
    SettingError,
)
from kmslab.inspection import inspect
from kmslab.keystore import bundle, credentials, lifecycle, opening, seed
from kmslab.keystore.audit import AuditCheck, AuditEntry, AuditMode
from kmslab.keystore.bundle import BundleImport
from kmslab.keystore.counting import Counters
from kmslab.keystore.credentials import Credential, NewCredential
from kmslab.keystore.root import Passphrase, RootKeyFile, RootSource
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import KeyRow, moment
from kmslab.model import CTYUN, TENCENT, Key, KeyOrigin, KeyState
from kmslab.providers.base import Kms
from kmslab.providers.ctyun import codes as ctyun_codes
from kmslab.providers.ctyun import wire as ctyun_wire
from kmslab.providers.ctyun.service import DEFAULT_REGION as CTYUN_REGION
from kmslab.providers.ctyun.service import CtyunKms
from kmslab.providers.local import Grounds, Operation, RequestIds, Session, unusable
from kmslab.providers.tencent import codes as tencent_codes
from kmslab.providers.tencent import rules as tencent_rules
from kmslab.providers.tencent import wire as tencent_wire
from kmslab.providers.tencent.service import DEFAULT_REGION as TENCENT_REGION
from kmslab.providers.tencent.service import TencentKms
from kmslab.secret import Entropy, Secret, system_entropy

# Of Tencent's: what the cloud does not show, and the lab does.
_LAB_ACTIONS = ("ListKeyVersions",)
REGIONS = {TENCENT: TENCENT_REGION, CTYUN: CTYUN_REGION}


@dataclass(frozen=True, slots=True)
class LabInfo:
    """What `lab info` prints. `path` is the lab's directory, or its URL without the password.

    `generation` and `audit_head` tell an older copy from outside.
    """

    path: str | None
    lab_id: str
    created_at: datetime
    schema_version: int
    unsafe: bool
    root: str
    generation: int
    audit_rows: int
    audit_head: str
    keys: dict[str, int]
    settings: dict[str, Any]


class Lab:
    """A local KMS for both clouds. Make one with `create`, `open` or `in_memory`.

    >>> with Lab.in_memory() as lab:
    ...     kms = lab.tencent()
    ...     key = kms.create_key(alias="orders")
    ...     blob = kms.encrypt(key.key_id, b"secret", context={"app": "orders"})
    ...     kms.decrypt(blob, context={"app": "orders"})
    Plaintext(6 bytes)
    """

    def __init__(self, keystore: Keystore, source: RootSource | None, who: str) -> None:
        self._keystore = keystore
        self._source = source
        self._who = who
        self._grounds = Grounds(keystore, Counters(keystore), RequestIds(keystore), who)
        self._kms: dict[str, Kms] = {}
        self.settings = Settings(keystore, self._act)
        self.faults = Faults(keystore, self._act)
        self.credentials = Credentials(keystore, self._act)
        self.audit = Audit(keystore)
        keystore.settle_with(lambda: lifecycle.settle(keystore))

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        root_key: str | Path | None = None,
        passphrase: str | None = None,
        clock: Clock | None = None,
        audit: AuditMode = AuditMode.GROUPED,
    ) -> Lab:
        """Make a lab in a new directory, or in a PostgreSQL database by its URL, and open it.

        The root key is a new file `root.key` in the directory, a new file at `root_key`, or made
        from `passphrase`; a lab in a database needs one of the latter. LabExists where something is
        at `path` already. LabUncertain where a database did not say whether it has made the lab.
        """
        source = _source(root_key, passphrase)
        surroundings = opening.Surroundings(clock or SystemClock(), audit)
        opening.create(path, source, surroundings)
        return cls.open(path, root_key=root_key, passphrase=passphrase, clock=clock, audit=audit)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        root_key: str | Path | None = None,
        passphrase: str | None = None,
        clock: Clock | None = None,
        audit: AuditMode = AuditMode.GROUPED,
        expect_generation: int | None = None,
    ) -> Lab:
        """Open the lab in a directory or at a database's URL, checking every row of it.

        LabNotFound, LabUnreachable, RootKeyError, TamperedLab, LabPermissions, SchemaMismatch say
        what is wrong; LabRolledBack where the lab is below `expect_generation`.
        """
        source = opening.root_source(path, _source(root_key, passphrase))
        surroundings = opening.Surroundings(clock or SystemClock(), audit)
        keystore = opening.open_lab(path, source, surroundings, expect_generation)
        return cls(keystore, source, _user())

    @classmethod
    def in_memory(cls, *, clock: Clock | None = None, entropy: Entropy = system_entropy) -> Lab:
        """A lab that leaves nothing behind. Only here may randomness be given."""
        surroundings = opening.Surroundings(clock or SystemClock(), entropy=entropy)
        return cls(opening.in_memory(surroundings), None, _user())

    def tencent(
        self,
        *,
        region: str = TENCENT_REGION,
        credential: str | None = None,
        rate_limit: bool = False,
    ) -> TencentKms:
        """The local Tencent Cloud KMS of a region, as the lab's owner or as a credential."""
        session = self._session(TENCENT, region, credential, rate_limit=rate_limit)
        return TencentKms(session, tencent_wire.answer)

    def ctyun(
        self,
        *,
        region: str = CTYUN_REGION,
        credential: str | None = None,
        rate_limit: bool = False,
    ) -> CtyunKms:
        """The local CTyun KMS of a region, as the lab's owner or as a credential."""
        session = self._session(CTYUN, region, credential, rate_limit=rate_limit)
        return CtyunKms(session, ctyun_wire.answer)

    def providers(self) -> tuple[str, ...]:
        """The names of both providers."""
        return (TENCENT, CTYUN)

    def kms(self, provider: str) -> Kms:
        """The Kms of a provider in its first region; KeyError for another name."""
        if provider not in self._kms:
            make: dict[str, Callable[[], Kms]] = {TENCENT: self.tencent, CTYUN: self.ctyun}
            self._kms[provider] = make[provider]()
        return self._kms[provider]

    def keys(self) -> tuple[Key, ...]:
        """Every key of every provider and region, oldest first, deleted ones too."""
        self._keystore.begin()
        units = sorted(
            self._keystore.units.values(), key=lambda u: (u.row.created_at, u.row.key_id)
        )
        return tuple(unit.key() for unit in units)

    def key(self, name: str) -> Key:
        """The key of this id, or of this alias where only one key has it; else KeyNotFound."""
        keys = self.keys()
        found = [k for k in keys if k.key_id == name]
        found = found or [k for k in keys if k.alias == name and k.state is not KeyState.DELETED]
        if len(found) > 1:
            places = ", ".join(f"{k.key_id} ({k.provider} {k.region})" for k in found)
            raise KeyNotFound(f"the alias {name} is not unique: {places}; use the key id")
        if not found:
            raise KeyNotFound(f"the lab has no key with the id or alias {name}")
        return found[0]

    def rotate(self, key_id: str) -> Key:
        """Make a new version of an enabled key now, whatever the cloud's rules on when.

        The lab's own. ExternalCannotRotate for imported material, RotationUnsupported for a pair
        of Tencent Cloud, which has one version only; a KeyUnavailable where it is not enabled.
        """
        self._keystore.begin()
        row = self._keystore.unit(key_id).row
        with Operation(self._session(row.provider, row.region), "RotateNow") as op:
            op.find(key_id)
            return lifecycle.rotate(self._keystore, op.act(), key_id, _may_rotate).key()

    def explain(self, blob: str, context: Context = None) -> str:
        """Why a blob does or does not open, for the owner of the lab, in a sentence or two.

        Says more than the API may: which key or version is missing, that the key is right and so
        the context is wrong or the blob altered, that no context or another spelling of the same
        pairs would open it. Never key or plaintext bytes.
        """
        found = inspect(blob)
        region = self._region_of(found.key_id) or REGIONS.get(found.provider or "", "")
        if found.provider == TENCENT:
            return self.tencent(region=region).explain(blob, context)
        if found.provider == CTYUN:
            return self.ctyun(region=region).explain(blob)
        return "; ".join(found.notes) or "not a blob of either provider"

    @property
    def location(self) -> str | None:
        """What `Lab.open` finds the lab by in another process: its directory, or its URL without
        the password; None in memory.

        >>> with Lab.in_memory() as lab:
        ...     lab.location is None
        True
        """
        return self._keystore.database.location

    @property
    def secret_url(self) -> bool:
        """Whether it was opened by a URL with a password: another process has to find that by
        itself."""
        return self._keystore.database.secret_url

    @property
    def root_key(self) -> Path | None:
        """The file that the root key is in; None under a passphrase and in memory."""
        return self._source.path if isinstance(self._source, RootKeyFile) else None

    @property
    def clock(self) -> Clock:
        """What the lab takes the time from: versions and rotations are dated by it."""
        return self._keystore.clock

    def epoch(self) -> int:
        """A number that grows whenever anything in the lab has changed, whoever changed it.

        Cheap to ask often: whoever shows the lab looks again where it is another one.

        >>> with Lab.in_memory() as lab:
        ...     before = lab.epoch()
        ...     key = lab.ctyun().create_key(alias="orders")
        ...     lab.epoch() > before
        True
        """
        self._keystore.begin()
        return self._keystore.epoch

    def info(self) -> LabInfo:
        """The lab's identity, state and settings, and the end of its audit log, as they are now."""
        self._keystore.begin()
        self._keystore.flush()
        self._keystore.refresh()  # no bell rings for what others have only audited
        lab = self._keystore.lab
        states = [unit.row.state for unit in self._keystore.units.values()]
        return LabInfo(
            path=self.location,
            lab_id=lab.lab_id,
            created_at=moment(lab.created_at),
            schema_version=lab.schema_version,
            unsafe=lab.unsafe,
            root=self._root_place(),
            generation=lab.generation,
            audit_rows=lab.audit_seq,
            audit_head=lab.audit_head.hex(),
            keys={state.value: states.count(state) for state in KeyState if state in states},
            settings=self.settings.all(),
        )

    def rekey(self, *, new_passphrase: str | None = None) -> bool:
        """Give the lab another root key: a fresh file in the old one's place, or, for a lab under
        a passphrase, another passphrase. Killed at any step, the lab opens.

        False where somebody who reads the database still holds what was sealed under the old one:
        it opens with that, until another rekey has rewritten it."""
        if self._source is None:
            raise SettingError("a lab in memory has no root key to change")
        self._keystore.begin()
        new = None if new_passphrase is None else Passphrase.of(new_passphrase)
        return opening.rekey(self._keystore, self._source, new, self._act("Rekey"))

    def export_bundle(self, path: str | Path, passphrase: str) -> int:
        """Write every key, with its material, to a new file under a passphrase of its own.

        Gives the number of keys.
        """
        self._keystore.begin()
        act = self._act("ExportBundle")
        return bundle.export(self._keystore, act, Path(path), Passphrase.of(passphrase))

    def import_bundle(self, path: str | Path, passphrase: str) -> BundleImport:
        """Add the keys of a bundle. Keys that are here stay; deleted ones are not brought back."""
        self._keystore.begin()
        act = self._act("ImportBundle")
        return bundle.take_in(self._keystore, act, Path(path), Passphrase.of(passphrase))

    def seed(self, path: str | Path) -> tuple[str, ...]:
        """Add the keys of a seed file and mark the lab unsafe for ever; the ids added."""
        self._keystore.begin()
        return seed.plant(self._keystore, self._act("Seed"), Path(path), REGIONS)

    def close(self) -> None:
        """Make everything durable and let go of the lab. Closing twice is no error."""
        self._keystore.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with after(error, "leaving the lab"):
            self.close()

    def __repr__(self) -> str:
        return f"Lab({self._keystore.where!r})"

    def _act(self, action: str, provider: str = "") -> lifecycle.Act:
        return lifecycle.Act(self._who, provider, action)

    def _session(
        self,
        provider: str,
        region: str,
        credential: str | None = None,
        *,
        rate_limit: bool = False,
    ) -> Session:
        codes = tencent_codes if provider == TENCENT else ctyun_codes
        return self._grounds.session(
            provider,
            region,
            code_of=codes.code_of,
            error_for=codes.error_for,
            credential=credential,
            rate_limit=rate_limit,
            rates=tencent_rules.RATES if provider == TENCENT else {},
        )

    def _region_of(self, key_id: str | None) -> str | None:
        unit = self._keystore.units.get(key_id or "")
        return None if unit is None else unit.row.region

    def _root_place(self) -> str:
        if isinstance(self._source, RootKeyFile):
            return str(self._source.path)
        return "in memory" if self._source is None else "passphrase"


ActFor = Callable[[str], lifecycle.Act]


class Settings:
    """A lab's settings.

    `balance` is CTyun's account balance, `cmk_uuid` which key CTyun's reEncrypt answers name
    (`destination` or `source`).
    """

    def __init__(self, keystore: Keystore, act_for: ActFor) -> None:
        self._keystore = keystore
        self._act_for = act_for

    def all(self) -> dict[str, Any]:
        """Every setting and its value."""
        self._keystore.begin()
        settings = self._keystore.settings
        return {name: settings[name] for name in ("balance", "cmk_uuid")}

    def set(self, name: str, value: Any) -> None:
        """Change a setting; SettingError for a name or value that is none."""
        if name == "balance":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise SettingError("balance is a number")
            if value != value or value in (float("inf"), float("-inf")):
                raise SettingError("balance is a finite number")
        elif name == "cmk_uuid":
            if value not in ("destination", "source"):
                raise SettingError("cmk_uuid is destination or source")
        else:
            raise SettingError(f"there is no setting {name}; there are balance and cmk_uuid")
        self._keystore.begin()
        entry = self._act_for(f"Set {name}").entry(lifecycle.now_of(self._keystore))
        with self._keystore.change(entry) as change:
            change.setting(name, value)


class Faults:
    """Errors that the local KMSs answer with on demand, for testing one's own code.

    They are kept in the lab, so that a server on it meets them too.
    """

    def __init__(self, keystore: Keystore, act_for: ActFor) -> None:
        self._keystore = keystore
        self._act_for = act_for

    def add(self, action: str, code: str, *, count: int = 1) -> None:
        """Have the next `count` calls of `action` answered with the provider's `code`.

        `action` is the provider's own name of the call, `ReEncrypt` or `reEncrypt`. SettingError
        for a call or a code that the provider does not have.
        """
        if action in tencent_wire.ACTIONS:
            error_for = tencent_codes.error_for
        elif action in ctyun_wire.CALLS:
            error_for = ctyun_codes.error_for
        else:
            raise SettingError(f"neither provider has a call {action}")
        if count < 1:
            raise SettingError("a fault happens at least once")
        try:
            error_for(code)
        except KeyError:
            raise SettingError(f"{action} has no error code {code}") from None
        fault = {"action": action, "code": code, "count": count}
        self._write(f"AddFault {action}", lambda faults: [*faults, fault])

    def all(self) -> list[dict[str, Any]]:
        """The faults still to come: action, code, count."""
        self._keystore.begin()
        return list(self._keystore.settings["faults"])

    def clear(self) -> None:
        """Forget every fault."""
        self._write("ClearFaults", lambda faults: [])

    def _write(self, action: str, change_to: Callable[[list[Any]], list[Any]]) -> None:
        self._keystore.begin()
        entry = self._act_for(action).entry(lifecycle.now_of(self._keystore))
        with self._keystore.change(entry) as change:
            change.setting("faults", change_to(self._keystore.settings["faults"]))


class Credentials:
    """Who may call this lab. Enforced by `lab.tencent(credential=…)` and by a server."""

    def __init__(self, keystore: Keystore, act_for: ActFor) -> None:
        self._keystore = keystore
        self._act_for = act_for

    def create(self, name: str, *, rights: Sequence[str] | None = None) -> NewCredential:
        """Make a credential. `rights` are `ACTION` or `ACTION:KEY-ID`; None allows everything.

        CredentialError for a name or right that cannot be, and for an action that neither has.
        """
        self._keystore.begin()
        for right in rights or ():
            _check_action(right.partition(":")[0])
        return credentials.create(self._keystore, self._act_for("CreateCredential"), name, rights)

    def revoke(self, name: str) -> Credential:
        """End a credential, by its name or secret id."""
        self._keystore.begin()
        return credentials.revoke(self._keystore, self._act_for("RevokeCredential"), name)

    def secret_key(self, secret_id: str) -> Secret:
        """The secret key of a credential in force, for checking a signature.

        CredentialError where none in force has this secret id.
        """
        self._keystore.begin()
        return credentials.secret_key(self._keystore, secret_id)

    def list(self) -> tuple[Credential, ...]:
        """Every credential, oldest first, revoked ones too."""
        self._keystore.begin()
        return credentials.listed(self._keystore)


class Audit:
    """The lab's audit log."""

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore

    def entries(self, last: int | None = None) -> list[AuditEntry]:
        """The log, oldest first; only the `last` rows where that is given."""
        self._keystore.begin()
        return self._keystore.audit_rows(last)

    def verify(self) -> AuditCheck:
        """Check that the log is whole and just as it was written."""
        self._keystore.begin()
        return self._keystore.verify_audit()


def _check_action(action: str) -> None:
    if action != "*" and action not in (*tencent_wire.ACTIONS, *ctyun_wire.CALLS, *_LAB_ACTIONS):
        raise CredentialError(f"neither provider has a call {action}")


def _may_rotate(row: KeyRow, _now: int) -> KeyRow:
    if row.state is not KeyState.ENABLED:
        raise unusable(row)
    if row.origin is KeyOrigin.EXTERNAL:
        raise ExternalCannotRotate(f"key {row.key_id} has imported material, which does not rotate")
    if row.provider == TENCENT and not row.spec.symmetric:
        raise RotationUnsupported(f"key {row.key_id} is a pair, which does not rotate")
    return row


def _source(root_key: str | Path | None, passphrase: str | None) -> RootSource | None:
    if root_key is not None and passphrase is not None:
        raise SettingError("a lab is under a root key file or a passphrase, not both")
    if passphrase is not None:
        return Passphrase.of(passphrase)
    return None if root_key is None else RootKeyFile(Path(root_key).absolute())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
