"""What a campaign has done: read from its journal, for people and for machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from kmslab.analysis.census import CensusRow
from kmslab.analysis.classify import Outcome
from kmslab.campaign.journal import Failure, Journal, Lost, Step
from kmslab.campaign.plan import Plan

_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Results:
    """What became of the records: these four sum to the records that were gone over.

    `lost` ones were changed or removed by somebody else meanwhile, and were left as they are. One
    that was moved from one file to another while the campaign was interrupted is gone over in
    both: it is lost to the first file, and whatever it is in the second.
    """

    re_encrypted: int
    unchanged: int
    failed: int
    lost: int


@dataclass(frozen=True, slots=True)
class Report:
    """A campaign, as its journal tells it.

    `state` is planning, running, finished, aborted, undoing, undone, closing or closed. `plan` and
    the censuses are None until they are made. `failures` and `losses` list the first of them;
    `failure_codes` counts all. `undone` records got their old blob again, `undone_unproven` of
    them without a proof that it holds what the new one held. An undo left `undo_left` as they are,
    and `undo_lost` names the first of them. `undone` and `undo_left` are never more than what was
    re-encrypted.
    """

    campaign: str
    state: str
    source: str
    started_at: datetime
    finished_at: datetime | None
    plan: Plan | None
    results: Results
    failure_codes: Mapping[str, int]
    failures: tuple[Failure, ...]
    losses: tuple[Lost, ...]
    outcomes_after: Mapping[Outcome, int] | None
    census_after: tuple[CensusRow, ...] | None
    calls: Mapping[str, int]
    undone: int
    undo_left: int
    undo_lost: tuple[Lost, ...]
    undone_unproven: int = 0

    @property
    def untouched(self) -> int:
        """The records that the campaign did not write to.

        They are as they were, but for the lost ones: these are what somebody else has made of them.
        """
        return self.results.unchanged + self.results.failed + self.results.lost

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON takes it (design, Annex B)."""
        plan = self.plan
        after = self.census_after
        return {
            "campaign": self.campaign,
            "state": self.state,
            "source": self.source,
            "started_at": self.started_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "total": None if plan is None else plan.total,
            "outcomes": {} if plan is None else {o.value: n for o, n in plan.outcomes.items()},
            "results": asdict(self.results),
            "untouched": self.untouched,
            "failure_codes": dict(self.failure_codes),
            "failures": [asdict(failure) for failure in self.failures],
            "lost": [asdict(lost) for lost in self.losses],
            "census_before": [] if plan is None else [asdict(row) for row in plan.census],
            "census_after": [] if after is None else [asdict(row) for row in after],
            "outcomes_after": {o.value: n for o, n in (self.outcomes_after or {}).items()},
            "calls": dict(self.calls),
            "forecast": None if plan is None else plan.forecast.as_dict(),
            "notes": [] if plan is None else list(plan.notes),
            "undone": self.undone,
            "undone_unproven": self.undone_unproven,
            "undo_left": self.undo_left,
            "undo_lost": [asdict(lost) for lost in self.undo_lost],
        }


def read_report(journal: Journal, *, listed: int | None = _LISTED) -> Report:
    """The report of a campaign; `listed` is the most failures and losses that are named."""
    facts = journal.facts()
    after = facts.get("after")
    finished_at = facts.get("finished_at")
    unchanged = journal.unchanged()
    codes = journal.failure_codes()
    return Report(
        campaign=journal.campaign_id,
        state=facts["state"],
        source=facts["source"],
        started_at=datetime.fromisoformat(facts["started_at"]),
        finished_at=None if finished_at is None else datetime.fromisoformat(finished_at),
        plan=None if facts["plan"] is None else Plan.from_dict(facts["plan"]),
        results=Results(
            re_encrypted=journal.count(Step.APPLIED),
            unchanged=unchanged,
            failed=codes.total(),
            lost=journal.count_lost(Step.APPLIED),
        ),
        failure_codes=codes,
        failures=tuple(journal.failures(listed)),
        losses=tuple(journal.lost(Step.APPLIED, listed)),
        outcomes_after=after and {Outcome(name): n for name, n in after["outcomes"].items()},
        census_after=after and tuple(CensusRow(**row) for row in after["census"]),
        calls=facts.get("calls", {}),
        undone=journal.count(Step.UNDONE),
        undo_left=journal.count_lost(Step.UNDONE),
        undo_lost=tuple(journal.lost(Step.UNDONE, listed)),
        undone_unproven=journal.count(Step.UNPROVEN),
    )
