"""Writing a change: units, credentials, audit rows and the lab row, each under its MAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Update, bindparam, delete, insert, select, update

from kmslab.errors import TamperedLab
from kmslab.keystore import state
from kmslab.keystore.audit import ENTRY_FIELDS, entry_mac, entry_values, first_broken, stored_entry
from kmslab.keystore.changes import Change
from kmslab.keystore.schema import (
    audit_table,
    credentials_table,
    keys_table,
    lab_table,
    versions_table,
)
from kmslab.keystore.sealing import Subkeys
from kmslab.keystore.state import CredentialRow, LabRow, Mark
from kmslab.keystore.units import (
    KeyRow,
    Unit,
    VersionRow,
    key_columns,
    unit_mac,
    version_columns,
)

# What is executed often is made once: SQLAlchemy takes longer to make it than SQLite to run it.
_UPDATE_LAB: Final = update(lab_table)
_INSERT_AUDIT: Final = insert(audit_table)
_INSERT_KEY: Final = insert(keys_table)
_UPDATE_KEY: Final = (
    update(keys_table)
    .where(keys_table.c.key_id == bindparam("of_key"))
    .where(keys_table.c.mac == bindparam("of_mac"))
)
_INSERT_VERSION: Final = insert(versions_table)
_UPDATE_VERSION: Final = (
    update(versions_table)
    .where(versions_table.c.key_id == bindparam("of_key"))
    .where(versions_table.c.version_id == bindparam("of_version"))
)


def write(
    change: Change,
    lab: LabRow,
    credentials: tuple[CredentialRow, ...],
    units: Mapping[str, Unit],
    marks: Mapping[str, Mark],
) -> None:
    """Write `change` over the state it was made from. What was written stands in `change`.

    TamperedLab where that state is not there.
    """
    same = change.lab == lab and change.credentials == credentials
    if same and not change.entries and not change.units:
        return
    if change.units:
        _write_units(change, units, marks)
    if change.credentials != credentials:
        _write_credentials(change)
    _append_audit(change)
    change.lab = replace(change.lab, generation=change.lab.generation + 1)
    columns = {**state.lab_columns(change.lab), "mac": state.lab_mac(change.subkeys, change.lab)}
    _update_one(change.connection, _UPDATE_LAB, columns)


def write_first(change: Change) -> None:
    """Write the lab row of a lab that is being made."""
    columns = {**state.lab_columns(change.lab), "mac": state.lab_mac(change.subkeys, change.lab)}
    change.connection.execute(insert(lab_table), {"id": state.LAB_ROW, **columns})


def _update_one(connection: Connection, statement: Update, columns: Mapping[str, Any]) -> None:
    # A row that is not there, or not as it was read, is never written over in part.
    if connection.execute(statement, columns).rowcount != 1:
        raise TamperedLab(state.OTHER_HISTORY)


def _write_units(change: Change, units: Mapping[str, Unit], marks: Mapping[str, Mark]) -> None:
    generations = {key_id: unit.row.generation for key_id, unit in units.items()}
    for key_id, (row, versions) in list(change.units.items()):
        old = units.get(key_id)
        row = replace(row, generation=row.generation + 1)
        _write_unit(change, row, versions, old, marks)
        change.units[key_id] = (row, versions)
        generations[key_id] = row.generation
    change.lab = replace(change.lab, keys_digest=state.keys_digest(generations))


def _write_unit(
    change: Change,
    row: KeyRow,
    versions: tuple[VersionRow, ...],
    old: Unit | None,
    marks: Mapping[str, Mark],
) -> None:
    connection = change.connection
    mac = unit_mac(change.subkeys, row, versions)
    columns = {**key_columns(row), "mac": mac}
    if old is None:
        connection.execute(_INSERT_KEY, columns)
    else:
        of = {"of_key": row.key_id, "of_mac": marks[row.key_id][1]}
        _update_one(connection, _UPDATE_KEY, {**of, **columns})
    change.marks[row.key_id] = (row.generation, mac)
    before = {v.version_id: v for v in old.versions} if old else {}
    made = [version_columns(v) for v in versions if v.version_id not in before]
    if made:
        connection.execute(_INSERT_VERSION, made)
    for version in versions:
        if version.version_id in before and before[version.version_id] is not version:
            of = {"of_key": row.key_id, "of_version": version.version_id}
            _update_one(connection, _UPDATE_VERSION, {**of, **version_columns(version)})


def _write_credentials(change: Change) -> None:
    change.connection.execute(delete(credentials_table))
    rows = sorted(change.credentials, key=lambda row: row.secret_id)
    if rows:
        change.connection.execute(
            insert(credentials_table), [state.credential_columns(row) for row in rows]
        )
    change.credentials = tuple(rows)
    change.lab = replace(change.lab, credentials_digest=state.credentials_digest(rows))


def _append_audit(change: Change) -> None:
    rows, seq, head = [], change.lab.audit_seq, change.lab.audit_head
    for entry in change.entries:
        seq += 1
        head = entry_mac(change.subkeys, head, seq, entry)
        values = dict(zip(ENTRY_FIELDS, entry_values(entry), strict=True))
        rows.append({"seq": seq, **values, "mac": head})
    if rows:
        change.connection.execute(_INSERT_AUDIT, rows)
    change.lab = replace(change.lab, audit_seq=seq, audit_head=head)


def rekey(change: Change, new: Subkeys, kdf: str | None, units: Mapping[str, Unit]) -> None:
    """Reseal and re-authenticate everything under the subkeys of another root key.

    TamperedLab where the audit log is not intact: a rekey must not bless it.
    """
    old = change.subkeys
    for unit in units.values():
        spec = unit.row.spec
        change.put(unit.row, tuple(_resealed(v, old, new, spec) for v in unit.versions))
    change.credentials = tuple(_resealed_credential(c, old, new) for c in change.credentials)
    head = _rechain(change, old, new)
    change.subkeys = new
    change.lab = replace(change.lab, root_id=new.root_id, kdf=kdf, audit_head=head)


def _resealed(version: VersionRow, old: Subkeys, new: Subkeys, spec: str) -> VersionRow:
    if version.sealed is None:
        return version
    binding = (version.key_id, version.version_id, spec)
    material = old.open("material", version.sealed, *binding)
    return replace(version, sealed=new.seal("material", material, *binding))


def _resealed_credential(row: CredentialRow, old: Subkeys, new: Subkeys) -> CredentialRow:
    secret = old.open("credentials", row.sealed, row.secret_id)
    return replace(row, sealed=new.seal("credentials", secret, row.secret_id))


def _rechain(change: Change, old: Subkeys, new: Subkeys) -> bytes:
    query = select(audit_table).order_by(audit_table.c.seq)
    try:
        rows = [stored_entry(row) for row in change.connection.execute(query).mappings()]
    except ValueError as error:
        raise TamperedLab(f"the audit log is broken, {error}; the lab stays as it is") from None
    _, broken = first_broken(old, rows, change.lab.audit_seq, change.lab.audit_head)
    if broken is not None:
        raise TamperedLab(f"the audit log is broken at row {broken}; the lab stays as it is")
    head, macs = b"", []
    for seq, entry, _ in rows:
        head = entry_mac(new, head, seq, entry)
        macs.append({"row": seq, "new_mac": head})
    if macs:
        statement = update(audit_table).where(audit_table.c.seq == bindparam("row"))
        change.connection.execute(statement.values(mac=bindparam("new_mac")), macs)
    return head
