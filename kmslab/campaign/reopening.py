"""How another process opens the same lab, or connects to the same remotes, by itself.

No key material and no password travels: a worker has its own way to the root key, which is the file
that is named here where it sees it, or else what its own environment and places say.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.ground import Ground
from kmslab.campaign.state import State
from kmslab.database_url import is_url
from kmslab.errors import CampaignError
from kmslab.lab import Lab
from kmslab.leases import Leases
from kmslab.rate import OWN_WINDOWS, Windows
from kmslab.remotes import Remotes, connect

LEAVE_OUT: Final = (
    "leave it out of the URL, and set PGPASSWORD or write ~/.pgpass here and where the workers are"
)

_FROM_TEXT: Final = "KMSLAB_PASSPHRASE"
_FROM_FILE: Final = "KMSLAB_ROOT_KEY"


@dataclass(frozen=True, slots=True)
class Reopening:
    """Where a lab is and where its root key may be, or which profiles remotes are of.

    `passphrase` says that the lab is under one. `remotes` gives each profile its rate, in calls a
    second. `leases` is where workers share rates; None where each has a part of them for itself.
    """

    lab: str | None = None
    lab_id: str | None = None
    root_key: str | None = None
    passphrase: bool = False
    remotes: Mapping[str, float] = field(default_factory=dict)
    leases: str | None = None

    @classmethod
    def of(cls, ground: Ground) -> Reopening:
        """That of a ground. CampaignError where nobody else could open what it has."""
        match ground.providers:
            case Lab() as lab:
                if lab.location is None:
                    raise CampaignError(
                        "a lab in memory is this process's alone, so that no worker can open it; "
                        "make one on disk with Lab.create, or go on without workers"
                    )
                if lab.secret_url:
                    raise CampaignError(
                        f"workers open the lab {lab.location} by themselves, and are told no "
                        f"password: {LEAVE_OUT}"
                    )
                return cls(
                    lab=lab.location
                    if is_url(lab.location)
                    else str(Path(lab.location).absolute()),
                    lab_id=lab.info().lab_id,
                    root_key=None if lab.root_key is None else str(lab.root_key.absolute()),
                    passphrase=lab.root_key is None,
                )
            case Remotes() as remotes if remotes.profiles:
                return cls(remotes=dict(remotes.profiles))
            case _:
                raise CampaignError(
                    "workers can open a lab on disk, or remotes that profiles describe "
                    "(Remotes.of_profiles); go on without workers"
                )

    def shared(self, state: State, *, workers: int, one_machine: bool) -> Reopening:
        """The same for one of so many workers, who keep the rates together.

        They do by leases in the lab's database, or in the state folder on one machine, whose clock
        those are by. Without either each has an equal share.
        """
        if self.lab is not None and is_url(self.lab):
            return replace(self, leases=self.lab)
        if one_machine:
            return replace(self, leases=str(state.path.absolute()))
        return replace(self, remotes=self.share(self.remotes, workers))

    def share(self, rates: Mapping[str, float], workers: int) -> Mapping[str, float]:
        """Of rates what one of so many workers keeps by itself: all where they share them."""
        parts = workers if self.leases is None else 1
        return {name: rate / parts for name, rate in rates.items()}

    def windows(self, campaign: str = "") -> Windows:
        """Where a worker keeps rates: those of a campaign's own, or those of remotes, whoever calls
        them."""
        return OWN_WINDOWS if self.leases is None else Leases(self.leases, campaign)

    def check_inherited(self, environment: Mapping[str, str] = os.environ) -> None:
        """CampaignError where a process that has this environment could not open the lab."""
        if self.passphrase and not environment.get(_FROM_TEXT):
            raise CampaignError(
                "the lab is under a passphrase that was typed here, and workers open the lab by "
                f"themselves: set {_FROM_TEXT}, or go on without workers"
            )

    def open(self, environment: Mapping[str, str] = os.environ) -> Lab | Remotes:
        """Open it here, with this process's own means. CampaignError where it is another lab."""
        if self.lab is None:
            windows = self.windows()
            return Remotes(
                [connect(profile=name, rate=r, windows=windows) for name, r in self.remotes.items()]
            )
        lab = Lab.open(self.lab, **self._protection(environment))
        if lab.info().lab_id != self.lab_id:
            lab.close()
            raise CampaignError(f"{self.lab} is another lab there")
        return lab

    def _protection(self, environment: Mapping[str, str]) -> dict[str, Any]:
        if self.passphrase:
            return {"passphrase": environment.get(_FROM_TEXT) or None}
        if self.root_key is not None and Path(self.root_key).is_file():
            return {"root_key": self.root_key}
        return {"root_key": environment.get(_FROM_FILE) or None}

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON takes it."""
        return {
            "lab": self.lab,
            "lab_id": self.lab_id,
            "root_key": self.root_key,
            "passphrase": self.passphrase,
            "remotes": dict(self.remotes),
            "leases": self.leases,
        }
