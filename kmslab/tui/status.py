"""The lines that say how much is shown, and where one is. They never round and never guess."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from kmslab.keys import Names
from kmslab.tui.filtering import At
from kmslab.tui.grid import Grid
from kmslab.tui.session import Session
from kmslab.tui.texts import records, visible
from kmslab.tui.tree import PROVIDER_NAMES, Place
from kmslab.tui.view import View


def marked_text(view: View, twins: int) -> str:
    """How many records are marked, hidden ones too, and how many others have their ids."""
    hidden = view.hidden_marks
    terms = view.wanted.query.terms
    tree = any(isinstance(term.test, At) for term in terms)
    typed = any(not isinstance(term.test, At) for term in terms)
    by = " and ".join(["the filter"] * typed + ["the line of the tree"] * tree)
    note = f" ({hidden:,} hidden by {by})" if hidden else ""
    return f"{view.marked:,} marked{note}{twins_text(twins)}"


def twins_text(twins: int) -> str:
    """That others have the id of a record that is meant: what selects by id takes them too."""
    if not twins:
        return ""
    return f", and {twins:,} {'other' if twins == 1 else 'others'} with the same id"


def counts_text(view: View, twins: int) -> str:
    """How many records are shown, and how many are marked: see `marked_text`."""
    shown = (
        f"{records(view.total)}"
        if view.shown == view.total
        else f"showing {view.shown:,} of {view.total:,}"
    )
    return f"{shown}, {marked_text(view, twins)}" if view.marked else shown


def status_text(
    grid: Grid,
    twins: int,
    read: int | None,
    error: str,
    silent: Iterable[str] = (),
    *,
    unfinished: bool = False,
) -> Text:
    """The status line; `read` is how many were read so far while a source is read.

    `silent` are the providers that do not answer, `unfinished` says that a
    campaign on the source is not finished.
    """
    parts = [counts_text(grid.view, twins)]
    if error:
        return Text(f"! {visible(error)}   {parts[0]}")
    if read is not None:
        parts.append(f"reading: {read:,} so far")
    sort = grid.wanted.sort
    if sort is not None:
        parts.append(f"by {sort.by.value}{', reversed' if sort.reverse else ''}")
    if grid.wanted != grid.view.wanted:
        parts.append("arranging")
    parts += [f"! {visible(name)} does not answer (F5 asks again)" for name in silent]
    parts += ["! a campaign here is not finished (J)"] if unfinished else []
    return Text("   ".join(parts))


def crumbs(session: Session, place: Place, names: Names, view: View) -> list[str]:
    """Where one is: the source, what the tree has chosen, how much is shown of it."""
    steps = [session.source or "no source"]
    if place.provider is not None:
        steps.append(PROVIDER_NAMES.get(place.provider, place.provider))
    if place.key_id is not None:
        steps.append(names(place.key_id) or place.key_id or "key not known")
    if place.version is not None:
        steps.append(f"v{place.version.number}")
    return [*steps, records(view.shown)]
