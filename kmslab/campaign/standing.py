"""What may still be done with a campaign, by how its journal stands.

One place for the rule, so that whoever offers an undo and whoever does it agree.
"""

from __future__ import annotations

from typing import Final

from kmslab.campaign.journal import Journal
from kmslab.campaign.report import Report
from kmslab.campaign.run import UNFINISHED
from kmslab.campaign.state import State

RESUMABLE: Final = UNFINISHED - {"undoing"}
"""The states that resuming goes on from; an undo goes on by undoing again."""

_SAID: Final = {
    "planning": "not planned",
    "running": "not finished",
    "undoing": "undo not finished",
}

_UNDOABLE: Final = frozenset({"running", "finished", "undoing", "undone"})


def undo_refused(state: str, *, output: str | None, intended: int) -> str:
    """Why a campaign cannot be undone, "" where it can; `intended` records have, or may have, their
    new blob.

    >>> undo_refused("closed", output=None, intended=3)
    'is closed'
    """
    if output is not None:
        return f"wrote a copy to {output} and left its source as it was"
    # An atomic one over several files may have stored some of them before it was aborted.
    if state not in _UNDOABLE and not (state == "aborted" and intended):
        return f"is {state}"
    return ""


def why_no_undo(report: Report) -> str:
    """Why there is nothing to undo, "" where something may be; of what to offer, not of what to do.

    An interrupted campaign may have stored what its journal was not told of, and stands in the way
    of the next one on its source until it is ended: an undo does that too.
    """
    output = None if report.plan is None else report.plan.options.output
    done = report.results.re_encrypted
    if refused := undo_refused(report.state, output=output, intended=done + report.pending):
        return f"it {refused}"
    if not done and not report.pending and report.state not in UNFINISHED:
        return "nothing was re-encrypted"
    if report.state == "undone" and not report.undo_left:
        return "it is undone already"
    return ""


def why_no_resume(report: Report) -> str:
    """Why a campaign cannot be resumed, "" where it can."""
    return "" if report.state in RESUMABLE else f"it is {report.state}"


def why_no_close(report: Report) -> str:
    """Why a campaign cannot be closed, "" where it can, if need be by abandoning it."""
    return "it is closed already" if report.state == "closed" else ""


def abandoned(report: Report) -> int | None:
    """How many records closing a campaign now gives up the old blobs of; None where it gives up
    nothing, so that it has not to be abandoned by name."""
    if report.state in UNFINISHED:
        return report.results.re_encrypted
    return report.undo_left or None


def said(state: str) -> str:
    """A campaign's state for people. A journal does not tell whether somebody is at work on it now,
    or has stopped.

    >>> said("running"), said("closed")
    ('not finished', 'closed')
    """
    return _SAID.get(state, state)


def unfinished_on(state: State, source: str) -> str:
    """The campaign on a source that is not finished, and so lets no other begin; "" for none."""
    for path in state.journals():
        with Journal.open(path) as journal:
            facts = journal.facts()
        if facts["source"] == source and facts["state"] in UNFINISHED:
            return path.stem
    return ""
