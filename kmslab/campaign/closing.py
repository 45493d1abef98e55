"""The campaigns of a state folder: list them, and close those whose undo is not wanted any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kmslab.campaign.journal import Journal
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.run import Ground
from kmslab.campaign.state import State
from kmslab.errors import CampaignState

_CLOSABLE: Final = frozenset({"finished", "aborted", "undone"})


def campaigns(state: State) -> Iterator[Report]:
    """Every campaign, oldest first, finished and closed ones too."""
    for path in state.journals():
        with Journal.open(path) as journal:
            yield read_report(journal, listed=0)


def close(ground: Ground, campaign_id: str, *, abandon: bool = False) -> Report:
    """Erase the blobs in a campaign's journal, which ends its undo. Counts and ids stay.

    CampaignState for one that is not finished, unless it is abandoned: its source stays as it is
    then, some of its records re-encrypted and some not. One that is closed stays closed.
    """
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        if facts["state"] == "closed":
            return read_report(journal)
        if facts["state"] not in _CLOSABLE and not abandon:
            raise CampaignState(
                f"campaign {campaign_id} is {facts['state']}: resume or undo it first; "
                "--abandon leaves its source as it is now"
            )
        with ground.state.lock(facts["source"]):
            journal.erase()
            journal.note(state="closed", closed_at=ground.clock.now().isoformat())
        return read_report(journal)
