"""The lab row and the rows that hang on it: what is read, checked and written as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Integer, bindparam, func, select, type_coerce

from kmslab.encoding import pack
from kmslab.errors import SchemaMismatch, TamperedLab
from kmslab.keystore.audit import entry_mac, stored_entry
from kmslab.keystore.rows import row_of
from kmslab.keystore.schema import (
    SCHEMA_VERSION,
    audit_table,
    credentials_table,
    keys_table,
    lab_table,
    versions_table,
)
from kmslab.keystore.sealing import Subkeys, digest, same_mac
from kmslab.keystore.units import KeyRow, VersionRow, unit_mac

Row = TypeVar("Row")

Mark = tuple[int, bytes]
"""A key's generation and MAC: what tells two states of it apart."""

LAB_ROW = 1
OTHER_HISTORY: Final = (
    "the lab has another past than this process has seen: an older state was put back, as after a "
    "failover to a server that lacked the last changes; what was done since is lost. Nothing was "
    "changed; open the lab anew"
)

# Each statement is made once. A boolean is read as a number, since 2 is as true as 1.
_LAB: Final = select(
    *(column for column in lab_table.c if column.name != "unsafe"),
    type_coerce(lab_table.c.unsafe, Integer).label("unsafe"),
)
_LAB_LOCKED: Final = _LAB.with_for_update()
_SCHEMA: Final = select(lab_table.c.schema_version)
_KNOWN_HEAD: Final = (
    select(audit_table.c.mac).where(audit_table.c.seq == bindparam("known")).scalar_subquery()
)
_AUDIT_END: Final = select(func.max(audit_table.c.seq), _KNOWN_HEAD)
_AUDIT_UP_TO: Final = (
    select(audit_table).where(audit_table.c.seq <= bindparam("known")).order_by(audit_table.c.seq)
)
_CREDENTIALS: Final = select(credentials_table)
_MARKS: Final = select(keys_table.c.key_id, keys_table.c.generation, keys_table.c.mac)
_KEYS: Final = select(keys_table)
_VERSIONS: Final = select(versions_table).order_by(versions_table.c.key_id, versions_table.c.number)


@dataclass(frozen=True, slots=True)
class LabRow:
    """The one row of `lab` without its MAC."""

    lab_id: str
    schema_version: int
    created_at: int
    unsafe: bool
    root_id: str
    kdf: str | None
    settings: str
    generation: int
    keys_digest: bytes
    credentials_digest: bytes
    audit_seq: int = 0
    audit_head: bytes = b""


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A row of `credentials`; the secret key is sealed, `rights` is JSON."""

    secret_id: str
    name: str
    sealed: bytes
    rights: str
    created_at: int
    revoked_at: int | None


def only_audited(before: LabRow, after: LabRow) -> bool:
    """Whether a lab has new audit rows and is as it was otherwise: no other process need look."""
    new = after.generation, after.audit_seq, after.audit_head
    return replace(before, generation=new[0], audit_seq=new[1], audit_head=new[2]) == after


_lab_values = attrgetter(*(f.name for f in fields(LabRow)))
_credential_values = attrgetter(*(f.name for f in fields(CredentialRow)))


def keys_digest(generations: Mapping[str, int]) -> bytes:
    """The digest over the set of keys and their generations."""
    return digest(*(pack(key_id, generations[key_id]) for key_id in sorted(generations)))


def credentials_digest(rows: Iterable[CredentialRow]) -> bytes:
    """The digest over every credential."""
    return digest(*(pack(*_credential_values(row)) for row in rows))


def lab_mac(subkeys: Subkeys, row: LabRow) -> bytes:
    """The MAC over the lab row, and through its digests over keys, credentials and audit."""
    return subkeys.mac(pack("lab", *_lab_values(row)))


def lab_columns(row: LabRow) -> dict[str, Any]:
    """The columns of the lab row, as the table takes them."""
    return dict(zip((f.name for f in fields(LabRow)), _lab_values(row), strict=True))


def credential_columns(row: CredentialRow) -> dict[str, Any]:
    """The columns of a credential, as the table takes them."""
    names = (f.name for f in fields(CredentialRow))
    return dict(zip(names, _credential_values(row), strict=True))


def read_lab(connection: Connection) -> tuple[LabRow, object]:
    """The lab row and its MAC as they stand, not yet checked.

    Who may write has the row, and with it the lab, to itself from here on; SQLite has given it the
    whole database already.
    """
    reads = connection.get_execution_options().get("read_only", False)
    found = connection.execute(_LAB if reads else _LAB_LOCKED).mappings().all()
    if [columns["id"] for columns in found] != [LAB_ROW]:
        raise TamperedLab(f"the lab has {len(found)} lab rows, or another than it was made with")
    return _typed(LabRow, found[0]), found[0]["mac"]


def check_schema(connection: Connection) -> None:
    """SchemaMismatch where a newer kmslab has made or migrated the lab."""
    found = connection.execute(_SCHEMA).scalars().all()
    for version in found:
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise SchemaMismatch(
                f"the lab has schema version {version}, this kmslab writes {SCHEMA_VERSION}; "
                "open it with a newer kmslab"
            )


def check_audit_end(
    connection: Connection, row: LabRow, before: LabRow | None, subkeys: Subkeys | None
) -> None:
    """TamperedLab where the audit log goes on after the end that the lab row names, or is not the
    continuation of the log as it was `before`, under these subkeys."""
    known = 0 if before is None else before.audit_seq
    last, head = connection.execute(_AUDIT_END, {"known": known}).one()
    if last is not None and (not isinstance(last, int) or last > row.audit_seq):
        raise TamperedLab("the lab's own row was replayed, or an audit row was added")
    if not known or before is None or subkeys is None:
        return
    if before.root_id != row.root_id:
        # A rekey has given each row another MAC: what they were hangs on what the rows say.
        head = _head_under(connection, subkeys, known)
    if not same_mac(head, before.audit_head):
        raise TamperedLab(OTHER_HISTORY)


def has_head(connection: Connection, row: LabRow) -> bool:
    """Whether the audit log has the head of this lab row where it was, or would have been."""
    _, head = connection.execute(_AUDIT_END, {"known": row.audit_seq}).one()
    return same_mac(head, row.audit_head)


def _head_under(connection: Connection, subkeys: Subkeys, seq: int) -> bytes:
    head = b""
    # For this statement: as an option of the connection it would hold for those that follow.
    streamed = {"yield_per": 1000}
    with connection.execute(_AUDIT_UP_TO, {"known": seq}, execution_options=streamed) as rows:
        try:
            for number, entry, _ in map(stored_entry, rows.mappings()):
                head = entry_mac(subkeys, head, number, entry)
        except ValueError as error:
            raise TamperedLab(f"the audit log was changed: {error}") from None
    return head


def check_lab(subkeys: Subkeys, row: LabRow, mac: object) -> None:
    """TamperedLab unless the lab row is what the lab wrote."""
    if not same_mac(mac, lab_mac(subkeys, row)):
        raise TamperedLab("the lab's own row was changed by something else than kmslab")


def read_credentials(connection: Connection, row: LabRow) -> tuple[CredentialRow, ...]:
    """Every credential; TamperedLab where they are not what the lab row says."""
    rows = connection.execute(_CREDENTIALS).mappings()
    typed = (_typed(CredentialRow, columns) for columns in rows)
    # Not by the database, whose order of texts may be another one.
    found = tuple(sorted(typed, key=lambda credential: credential.secret_id))
    if not same_mac(credentials_digest(found), row.credentials_digest):
        raise TamperedLab("a credential was changed, added or deleted by something else")
    return found


def read_marks(connection: Connection, row: LabRow) -> dict[str, Mark]:
    """Every key's generation and MAC; TamperedLab where the set is not what the lab row says."""
    found = connection.execute(_MARKS)
    marks = {str(key_id): (generation, mac) for key_id, generation, mac in found}
    generations = {key_id: generation for key_id, (generation, _) in marks.items()}
    typed = all(isinstance(generation, int) for generation in generations.values())
    if not typed or not same_mac(keys_digest(generations), row.keys_digest):
        raise TamperedLab("a key was replayed, added or deleted by something else than kmslab")
    return marks


def read_units(
    connection: Connection, subkeys: Subkeys, key_ids: Iterable[str] | None
) -> list[tuple[KeyRow, tuple[VersionRow, ...]]]:
    """The keys of these ids (None: all) with their versions, each unit checked."""
    wanted = None if key_ids is None else list(key_ids)
    keys, versions = _KEYS, _VERSIONS
    if wanted is not None:
        keys = keys.where(keys_table.c.key_id.in_(wanted))
        versions = versions.where(versions_table.c.key_id.in_(wanted))
    by_key: dict[str, list[VersionRow]] = {}
    for columns in connection.execute(versions).mappings():
        version = _typed(VersionRow, columns)
        by_key.setdefault(version.key_id, []).append(version)
    units = []
    for columns in connection.execute(keys).mappings():
        key_id = columns["key_id"]
        mine = tuple(by_key.pop(key_id, ()))
        units.append((_checked_key(subkeys, columns, mine), mine))
    if by_key:
        raise TamperedLab(f"versions of no key: {', '.join(sorted(by_key))}")
    return units


def _checked_key(
    subkeys: Subkeys, columns: Mapping[Any, Any], versions: tuple[VersionRow, ...]
) -> KeyRow:
    row = _typed(KeyRow, columns)
    if not same_mac(columns["mac"], unit_mac(subkeys, row, versions)):
        raise TamperedLab(f"key {row.key_id} or one of its versions was changed by something else")
    return row


def _typed(kind: type[Row], columns: Mapping[Any, Any]) -> Row:
    try:
        return row_of(kind, columns)
    except ValueError as error:
        raise TamperedLab(f"a row was changed by something else than kmslab: {error}") from None
