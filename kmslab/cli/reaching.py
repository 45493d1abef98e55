"""How a command reaches remote clouds in place of a lab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.output import narrate

if TYPE_CHECKING:
    from kmslab.cli.opening import Opening
    from kmslab.keys import Names
    from kmslab.lab import Lab
    from kmslab.model import Key
    from kmslab.remotes import Remotes


@dataclass(frozen=True, slots=True)
class Reaching:
    """The option that says which remotes, if any."""

    remote: Annotated[
        list[str] | None,
        typer.Option(
            "--remote",
            metavar="PROFILE",
            help="On the cloud of this profile, in place of a lab. Again for another provider, "
            "region or account.",
        ),
    ] = None

    @property
    def names(self) -> tuple[str, ...]:
        """The profiles; none where a lab is meant."""
        return tuple(self.remote or ())

    def open(self, opening: Opening, *, rate: float | None = None) -> Lab | Remotes:
        """The remotes that are named, else the lab. `rate` goes before that of each profile.

        ProfileError says what is wrong with a profile, SettingError that a lab is named too.
        """
        from kmslab.errors import SettingError

        if not self.names:
            return opening()
        if opening.lab or opening.root_key or opening.passphrase:
            raise SettingError("a lab or --remote, not both")
        from kmslab.remotes import Remotes

        return Remotes.of_profiles(self.names, rate=rate)


def names_of(keyring: Lab | Remotes) -> Names:
    """What keys are called. A credential for a campaign may have no right to list them."""
    from kmslab.errors import Unauthorized, UnknownAction
    from kmslab.keys import Names
    from kmslab.model import TENCENT

    try:
        return Names.of(keyring)
    except (Unauthorized, UnknownAction):
        pass
    keys: list[Key] = []
    for provider in keyring.providers():
        try:
            keys += keyring.kms(provider).list_keys()
        except (Unauthorized, UnknownAction) as error:
            call = "ListKeyDetail" if provider == TENCENT else "listKeys"
            why = "the cloud does not know" if isinstance(error, UnknownAction) else "no right to"
            narrate(f"{provider}: keys are shown by their ids: {why} {call}")
    return Names.among(keys)
