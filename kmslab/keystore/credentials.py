"""Credentials: who may call what on which key. The secret key is kept sealed.

A right is `ACTION` or `ACTION:KEY`, where ACTION is the provider's own name of a call or `*` and
KEY a key id. A credential without a list of rights may do everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from kmslab.encoding import is_uuid
from kmslab.errors import CredentialError
from kmslab.keystore.lifecycle import Act, now_of
from kmslab.keystore.state import CredentialRow
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import moment
from kmslab.secret import Entropy, Secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_RIGHT = re.compile(r"(\*|[A-Za-z]{1,64})(?::(.+))?")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential without its secret key. `rights` is None where it may do everything."""

    secret_id: str
    name: str
    rights: tuple[str, ...] | None
    created_at: datetime
    revoked_at: datetime | None = None

    def allows(self, action: str, key_id: str | None) -> bool:
        """Whether the credential may make this call on this key."""
        if self.revoked_at is not None:
            return False
        if self.rights is None:
            return True
        for right in self.rights:
            name, _, key = right.partition(":")
            if name in ("*", action) and key in ("", key_id):
                return True
        return False


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that was just made, with the secret key, which is shown this once."""

    credential: Credential
    secret_key: Secret = field(repr=False)


def create(keystore: Keystore, act: Act, name: str, rights: Sequence[str] | None) -> NewCredential:
    """Make a credential; CredentialError for a name or right that cannot be."""
    if not _NAME.fullmatch(name):
        raise CredentialError(
            f"a credential's name is 1 to 64 letters, digits, '.', '_' or '-': {name!r} is not"
        )
    for right in rights or ():
        check_right(right)
    secret_key = Secret(_letters(keystore.entropy, 32).encode("ascii"))
    secret_id = "KLID" + _letters(keystore.entropy, 32)
    now = now_of(keystore)
    with keystore.change(act.entry(now)) as change:
        if any(row.name == name and row.revoked_at is None for row in change.credentials):
            raise CredentialError(f"there is a credential {name} already; revoke it first")
        row = CredentialRow(
            secret_id=secret_id,
            name=name,
            sealed=change.subkeys.seal("credentials", secret_key, secret_id),
            rights=json.dumps(None if rights is None else list(rights)),
            created_at=now,
            revoked_at=None,
        )
        change.credentials = (*change.credentials, row)
    return NewCredential(_credential(row), secret_key)


def revoke(keystore: Keystore, act: Act, name: str) -> Credential:
    """End a credential; CredentialError where none of this name or secret id is in force."""
    now = now_of(keystore)
    with keystore.change(act.entry(now)) as change:
        row = _in_force(change.credentials, name)
        revoked = replace(row, revoked_at=now)
        change.credentials = tuple(revoked if r is row else r for r in change.credentials)
    return _credential(revoked)


def listed(keystore: Keystore) -> tuple[Credential, ...]:
    """Every credential, oldest first, revoked ones too."""
    found = sorted(keystore.credentials, key=lambda row: row.created_at)
    return tuple(_credential(row) for row in found)


def find(keystore: Keystore, name: str) -> Credential:
    """The credential of this name or secret id that is in force."""
    return _credential(_in_force(keystore.credentials, name))


def secret_key(keystore: Keystore, secret_id: str) -> Secret:
    """The secret key of a credential in force, by its secret id, for checking a signature."""
    with keystore.steady():
        rows = [row for row in keystore.credentials if row.secret_id == secret_id]
        row = _in_force(rows, secret_id)
        return keystore.subkeys.open("credentials", row.sealed, row.secret_id)


def check_right(right: str) -> None:
    """CredentialError unless `right` is ACTION or ACTION:KEY."""
    found = _RIGHT.fullmatch(right)
    if found is None or (found[2] is not None and not is_uuid(found[2])):
        raise CredentialError(f"a right is ACTION or ACTION:KEY-ID: {right!r} is not")


def _in_force(rows: Sequence[CredentialRow], name: str) -> CredentialRow:
    for row in rows:
        if name in (row.name, row.secret_id) and row.revoked_at is None:
            return row
    raise CredentialError(f"there is no credential {name} in force; see `kmslab credential list`")


def _credential(row: CredentialRow) -> Credential:
    rights = json.loads(row.rights)
    return Credential(
        secret_id=row.secret_id,
        name=row.name,
        rights=None if rights is None else tuple(rights),
        created_at=moment(row.created_at),
        revoked_at=moment(row.revoked_at),
    )


def _letters(entropy: Entropy, count: int) -> str:
    # Bytes from 248 up are passed over, so that each of the 62 letters is equally likely.
    found = ""
    while len(found) < count:
        found += "".join(_LETTERS[b % 62] for b in entropy(count) if b < 248)
    return found[:count]
