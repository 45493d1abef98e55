"""The campaigns of a state folder: list them, and close those whose undo is not wanted any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.journal import Journal, Step
from kmslab.campaign.plan import without_context
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.run import Ground
from kmslab.campaign.shards import Shards
from kmslab.campaign.state import State, content_errors
from kmslab.campaign.wording import counted
from kmslab.errors import CampaignState, KmslabError, ShardDamaged

CLOSING: Final = "closing"
"""The state of a campaign whose blobs are out of the tables, and may still be in the file."""

_CLOSABLE: Final = frozenset({"finished", "aborted", "undone"})


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A campaign of which nothing can be said, since its journal cannot be read; why."""

    campaign: str
    error: str

    @property
    def state(self) -> str:
        """What stands in the place of the campaign's state."""
        return "unreadable"


def campaigns(state: State) -> Iterator[Report | Unreadable]:
    """Every campaign, oldest first, finished, closed and unreadable ones too."""
    for path in state.journals():
        yield _report(path)


def _report(path: Path) -> Report | Unreadable:
    try:
        with content_errors(path), Journal.open(path) as journal:
            return read_report(journal, listed=0)
    except KmslabError as error:
        return Unreadable(path.stem, str(error))


def close(ground: Ground, campaign_id: str, *, abandon: bool = False) -> Report:
    """Erase the blobs and contexts in a campaign's journal, which ends its undo.

    Counts, ids and failures stay. CampaignState for one that is not finished, and for one whose
    undo has left records, and ShardDamaged where what a worker wrote cannot be read, unless it is
    abandoned: its source stays as it is then. One that is closed stays closed. StateError where the
    journal cannot be rewritten just now: the campaign is `closing`, which nothing but closing it
    again ends.
    """
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        first = journal.facts()
        if first["state"] == "closed":
            return read_report(journal)
        with ground.state.lock(first["source"]):
            shards = Shards.of(ground.state, campaign_id)
            try:
                shards.settle(journal)
            except ShardDamaged:
                if not abandon:
                    raise
            facts = journal.facts()
            if facts["state"] not in (CLOSING, "closed"):
                if not abandon:
                    _refuse(journal, facts["state"])
                journal.erase({"state": CLOSING, **_without_contexts(facts)})
            shards.remove(journal)
            journal.scrub()
            journal.note(state="closed", closed_at=ground.clock.now().isoformat())
        return read_report(journal)


def _refuse(journal: Journal, state: str) -> None:
    campaign_id = journal.campaign_id
    if state not in _CLOSABLE:
        raise CampaignState(
            f"campaign {campaign_id} is {state}: resume or undo it first; "
            "--abandon leaves its source as it is now"
        )
    left = journal.count_lost(Step.UNDONE)
    if left:
        records = counted(left, "record, and its old blob", "records, and their old blobs")
        raise CampaignState(
            f"the undo of campaign {campaign_id} left {records} may be nowhere but in its journal: "
            "look at its report, and undo it again; --abandon erases the blobs all the same"
        )


def _without_contexts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that hold a context, without it."""
    plan = facts["plan"]
    return {
        "target": without_context(facts["target"]),
        "plan": plan and plan | {"target": without_context(plan["target"])},
    }
