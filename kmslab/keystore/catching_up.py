"""What has changed in a lab since a process read it last: read, and checked as a whole.

The state that is there now must have gone on from the one that the process knows. One that was put
back from a backup, or another server's, has not, even where it has been changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from kmslab.errors import TamperedLab
from kmslab.keystore import state
from kmslab.keystore.sealing import Subkeys
from kmslab.keystore.state import CredentialRow, LabRow, Mark
from kmslab.keystore.units import KeyRow, VersionRow

UnitRows = tuple[KeyRow, tuple[VersionRow, ...]]

# More keys than these are not read by name: a statement takes so many parameters and no more.
_MOST_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Known:
    """What a process knows of one state of a lab, apart from the keys themselves."""

    lab: LabRow
    subkeys: Subkeys
    credentials: tuple[CredentialRow, ...]
    marks: dict[str, Mark]


def read_changes(
    connection: Connection, where: str, lab: LabRow, subkeys: Subkeys, before: Known | None
) -> tuple[Known, list[UnitRows]]:
    """What is known of the state whose checked row is `lab`, and the keys that are other than
    before. TamperedLab where they do not belong to it, or it has not gone on from `before`."""
    state.check_audit_end(
        connection,
        lab,
        None if before is None else before.lab,
        None if before is None else before.subkeys,
    )
    if before is None or lab.credentials_digest != before.lab.credentials_digest:
        credentials = state.read_credentials(connection, lab)
    else:
        credentials = before.credentials
    if before is not None and lab.keys_digest == before.lab.keys_digest:
        return Known(lab, subkeys, credentials, before.marks), []
    marks = state.read_marks(connection, lab)
    wanted = set(marks) if before is None else _changed(where, marks, before, lab)
    few = before is not None and len(wanted) <= _MOST_NAMED
    read = state.read_units(connection, subkeys, wanted if few else None)
    found = [unit for unit in read if unit[0].key_id in wanted]
    if {row.key_id: row.generation for row, _ in found} != {k: marks[k][0] for k in wanted}:
        raise TamperedLab("a key was replayed, added or deleted by something else")
    return Known(lab, subkeys, credentials, marks), found


def _changed(where: str, marks: Mapping[str, Mark], before: Known, lab: LabRow) -> set[str]:
    """The keys that are other than they were, and have gone on from there."""
    rekeyed = before.lab.root_id != lab.root_id
    for key_id, (generation, mac) in before.marks.items():
        now, now_mac = marks.get(key_id, (0, b""))
        if now < generation:
            raise TamperedLab(f"{where} went back to an older state while it was open")
        if now == generation and now_mac != mac and not rekeyed:
            raise TamperedLab(f"{where}: {state.OTHER_HISTORY}")
    return {key_id for key_id, mark in marks.items() if mark != before.marks.get(key_id)}
