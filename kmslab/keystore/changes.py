"""A transaction on the lab in the making."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from kmslab.keystore.audit import AuditEntry
from kmslab.keystore.sealing import Subkeys
from kmslab.keystore.state import CredentialRow, LabRow, Mark
from kmslab.keystore.units import Handle, KeyRow, VersionRow


@dataclass(slots=True)
class Change:
    """What one transaction will write. Nothing is kept unless its block ends well."""

    connection: Connection
    subkeys: Subkeys
    lab: LabRow
    credentials: tuple[CredentialRow, ...]
    entries: list[AuditEntry] = field(default_factory=list)
    units: dict[str, tuple[KeyRow, tuple[VersionRow, ...]]] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)

    def put(self, row: KeyRow, versions: tuple[VersionRow, ...]) -> None:
        """Write this state of a key."""
        self.units[row.key_id] = (row, versions)

    def setting(self, name: str, value: Any) -> None:
        """Write a setting."""
        settings = json.loads(self.lab.settings)
        settings[name] = value
        self.lab = replace(self.lab, settings=json.dumps(settings, sort_keys=True))

    def count(self, handle: Handle, encryptions: int) -> None:
        """Add to the encryptions of a version."""
        unit = handle.unit
        row, versions = self.units.get(handle.row.key_id, (unit.row, unit.versions))
        counted = tuple(
            replace(v, encryptions=v.encryptions + encryptions)
            if v.version_id == handle.version_id
            else v
            for v in versions
        )
        self.put(row, counted)
