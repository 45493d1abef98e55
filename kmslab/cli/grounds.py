"""What the commands for campaigns stand on: the lab, and the folder that remembers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.output import narrate

if TYPE_CHECKING:
    from kmslab.campaign.run import Ground
    from kmslab.campaign.state import State
    from kmslab.cli.opening import Opening
    from kmslab.lab import Lab
    from kmslab.records.source import Source
    from kmslab.records.spec import SourceSpec
    from kmslab.remotes import Remotes

StateFolder = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help="Where campaigns and sources are remembered; else KMSLAB_STATE, else in the lab.",
    ),
]


def state_of(opening: Opening, folder: str | None, remotes: Sequence[str] = ()) -> State:
    """The state folder; for remotes the user's own, unless one is named.

    LabNotFound where neither a folder nor a lab is named, StateError where none is and the lab is
    in a database.
    """
    from kmslab.campaign.state import State
    from kmslab.errors import LabNotFound, StateError

    named = folder or os.environ.get("KMSLAB_STATE")
    if named:
        return State.of(None, named)
    if remotes:
        from platformdirs import user_state_path

        return State.of(None, str(user_state_path("kmslab", appauthor=False)))
    if opening.path is None:
        raise LabNotFound(
            "no lab is named: give --lab PATH or set KMSLAB_LAB; or name a folder of its own with "
            "--state DIR or KMSLAB_STATE"
        )
    directory = opening.directory
    if directory is None:
        raise StateError(
            "a lab in a database has no folder for campaigns and sources: name one with "
            "--state DIR or KMSLAB_STATE"
        )
    if not directory.is_dir():
        raise LabNotFound(f"there is no lab at {directory}")
    return State.of(directory, None)


def hidden_state(opening: Opening, used: State) -> State | None:
    """The state folder in the lab, where it is there and another one is used in its place."""
    from kmslab.campaign.state import State

    directory = opening.directory
    if directory is None or not directory.is_dir():
        return None
    own = State.of(directory, None)
    if not own.path.is_dir() or own.path.resolve() == used.path.resolve():
        return None
    return own


def tell_state(opening: Opening, used: State) -> None:
    """Say which state folder is used, and which one is not."""
    narrate(f"state folder: {used.path}")
    hidden = hidden_state(opening, used)
    if hidden is not None:
        narrate(f"not looked into: {hidden.path}, the lab's own; `kmslab retire` looks into both")


def ground_of(
    lab: Lab | Remotes,
    state: State,
    open_source: Callable[[SourceSpec], Source] | None = None,
    remotes: Sequence[str] = (),
) -> Ground:
    """What a campaign with this lab, or on these remotes, stands on."""
    from kmslab.campaign.run import Ground
    from kmslab.clock import SystemClock

    if open_source is None:
        return Ground(lab, state, SystemClock())
    names = tuple(sorted(remotes))
    return Ground(lab, state, SystemClock(), open_source=open_source, remotes=names)
