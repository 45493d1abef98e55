"""What a campaign has done: read from its journal, for people and for machines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Final

from kmslab.analysis.census import CensusRow
from kmslab.analysis.classify import Outcome
from kmslab.campaign.journal import Failure, Journal, Lost, Step
from kmslab.campaign.plan import NEVER_SENT, Plan
from kmslab.showing import html_table

_LISTED: Final = 1_000
_EXAMPLES: Final = 10

_PENDING: Final = frozenset({"planning", "running", "aborted"})
"""The states in which the journal may have what the source does not."""

# What may differ in two messages that say the same.
_VARYING: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|'[^']*'|\"[^\"]*\"|[0-9][0-9,.]*"
)


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

    @property
    def total(self) -> int:
        """The records that were gone over."""
        return self.re_encrypted + self.unchanged + self.failed + self.lost


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """So many failures of one kind: alike in provider, code and message.

    Messages are alike where only numbers, ids and quoted texts in them differ. `message` and
    `request_id` are those of the first, `examples` the first records.
    """

    provider: str
    code: str
    message: str
    request_id: str
    records: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """A campaign, as its journal tells it.

    `state` is planning, running, finished, aborted, undoing, undone, closing or closed. `plan` and
    the censuses are None until they are made. `failures` and `losses` list the first of them;
    `failure_codes` counts all. `undone` records got their old blob again, `undone_unproven` of
    them without a proof that it holds what the new one held. An undo left `undo_left` as they are,
    and `undo_lost` names the first of them. `undone` and `undo_left` are never more than what was
    re-encrypted.

    `pending` records have a new blob in the journal that is not stored in the source: it is when
    their file is finished, and never will be where the campaign was aborted. `kept_out` are the
    records that the run met and could not send, by outcome; None where that is not known.
    `failure_groups` counts all failures by kind, unless none were to be listed. `remotes` are the
    profiles that were asked; none for a lab.
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
    pending: int = 0
    kept_out: Mapping[Outcome, int] | None = None
    failure_groups: tuple[FailureGroup, ...] = ()
    remotes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        done = self.results
        return (
            f"Report({self.campaign} {self.state}: {done.re_encrypted:,} re-encrypted, "
            f"{done.unchanged:,} unchanged, {done.failed:,} failed, {done.lost:,} lost, "
            f"{self.undone:,} undone)"
        )

    def _repr_html_(self) -> str:
        facts = {"campaign": self.campaign, "state": self.state, **asdict(self.results)}
        return html_table([*facts.items(), ("undone", self.undone)])

    @property
    def gone_over(self) -> bool:
        """Whether every record that there was has been gone over."""
        return self.census_after is not None

    @property
    def gone(self) -> int:
        """How many records fewer there were than planned; 0 until all have been gone over."""
        return max(0, -self._more)

    @property
    def new(self) -> int:
        """How many records more there were than planned; 0 until all have been gone over."""
        return max(0, self._more)

    @property
    def _more(self) -> int:
        if self.plan is None or not self.gone_over:
            return 0
        return self.results.total - self.plan.total

    @property
    def never_sent(self) -> Mapping[Outcome, int]:
        """The records that should perhaps be re-encrypted and could not be sent, by outcome: those
        that the run met, or those of the plan where the run does not tell."""
        found = self.kept_out
        if found is None:
            planned = {} if self.plan is None else self.plan.outcomes
            found = {o: n for o, n in planned.items() if o in NEVER_SENT}
        return {outcome: found[outcome] for outcome in Outcome if found.get(outcome)}

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
            "remotes": list(self.remotes),
            "selection": None if plan is None else plan.options.selection.as_dict(len),
            "started_at": self.started_at.isoformat(),
            "finished_at": None if self.finished_at is None else self.finished_at.isoformat(),
            "total": None if plan is None else plan.total,
            "outcomes": {} if plan is None else {o.value: n for o, n in plan.outcomes.items()},
            "results": asdict(self.results),
            "pending": self.pending,
            "gone": self.gone,
            "new": self.new,
            "never_sent": {o.value: n for o, n in self.never_sent.items()},
            "untouched": self.untouched,
            "failure_codes": dict(self.failure_codes),
            "failure_groups": [asdict(group) for group in self.failure_groups],
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
    """The report of a campaign; `listed` is the most failures and losses that are named.

    None names them all.
    """
    facts = journal.facts()
    kept_out = facts.get("kept_out")
    applied, lost = journal.count(Step.APPLIED), journal.count_lost(Step.APPLIED)
    plan, after = facts["plan"], facts.get("after")
    finished_at = facts.get("finished_at")
    unchanged = journal.unchanged()
    codes = journal.failure_codes()
    return Report(
        campaign=journal.campaign_id,
        state=facts["state"],
        source=facts["source"],
        started_at=datetime.fromisoformat(facts["started_at"]),
        finished_at=None if finished_at is None else datetime.fromisoformat(finished_at),
        plan=None if plan is None else Plan.from_dict(plan),
        results=Results(
            re_encrypted=applied,
            unchanged=unchanged,
            failed=codes.total(),
            lost=lost,
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
        pending=journal.count_intended() - applied - lost if facts["state"] in _PENDING else 0,
        kept_out=None if after is None else _by_outcome(kept_out),
        failure_groups=() if listed == 0 else failure_groups(journal.each_failure()),
        remotes=tuple(facts.get("remotes", ())),
    )


def _by_outcome(counts: Mapping[str, int] | None) -> Mapping[Outcome, int] | None:
    return None if counts is None else {Outcome(name): n for name, n in counts.items()}


def failure_groups(failures: Iterable[Failure]) -> tuple[FailureGroup, ...]:
    """Failures by kind, the most frequent first.

    >>> some = [Failure(f"order-{n}", "ctyun", "E", f"key {n} is gone", "") for n in (1, 2)]
    >>> [(group.message, group.records, group.examples) for group in failure_groups(some)]
    [('key 1 is gone', 2, ('order-1', 'order-2'))]
    """
    counts = Counter[tuple[str, str, str]]()
    firsts: dict[tuple[str, str, str], list[Failure]] = {}
    shape_of = lru_cache(maxsize=1_000)(partial(_VARYING.sub, "…"))
    for failure in failures:
        kind = failure.provider, failure.code, shape_of(failure.message)
        counts[kind] += 1
        first = firsts.setdefault(kind, [])
        if len(first) < _EXAMPLES:
            first.append(failure)
    return tuple(
        FailureGroup(
            provider,
            code,
            firsts[provider, code, shape][0].message,
            firsts[provider, code, shape][0].request_id,
            records,
            tuple(failure.record_id for failure in firsts[provider, code, shape]),
        )
        for (provider, code, shape), records in counts.most_common()
    )
