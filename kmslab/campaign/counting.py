"""Counting what is in a source now: the outcomes and the census after a campaign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from kmslab.analysis.census import Census, CensusRow, alike
from kmslab.analysis.classify import Classifier, Outcome, Target
from kmslab.campaign.evidence import Evidence
from kmslab.campaign.ground import Ground
from kmslab.campaign.journal import Journal
from kmslab.campaign.plan import Plan
from kmslab.providers.base import Providers
from kmslab.records.source import Part, Source


class Counting:
    """A count being taken, part by part. `rows` is how many records there were so far."""

    def __init__(
        self, providers: Providers, target: Target, evidence: Evidence | None = None
    ) -> None:
        self.rows = 0
        self._outcomes: Counter[str] = Counter()
        self._census = Census()
        self._classifier = Classifier(providers, target)
        self._evidence = evidence

    def over(self, part: Part, told: Callable[[], object]) -> None:
        """Count the records of a part; `told` is called after each chunk."""
        for chunk in part.read():
            verdicts = self._classifier.classify_many(chunk.records)
            if self._evidence is not None:
                verdicts = self._evidence.weigh(chunk.records, verdicts)
            for provider, verdict, count in alike(chunk.records, verdicts):
                self._outcomes[verdict.outcome.value] += count
                self._census.add_many(provider, verdict, count)
            self.rows += len(chunk.records)
            told()

    def add(self, found: Mapping[str, Any]) -> None:
        """Count what another one has counted, as `as_dict` gave it."""
        self._outcomes.update(found["outcomes"])
        self._census.add_rows(CensusRow(**row) for row in found["census"])

    def as_dict(self) -> dict[str, Any]:
        """The count as JSON takes it, and as a journal keeps it."""
        return {
            "outcomes": {outcome.value: self._outcomes[outcome.value] for outcome in Outcome},
            "census": [asdict(row) for row in self._census.rows()],
        }


def source_after(ground: Ground, plan: Plan, source: Source) -> Source:
    """What a campaign has changed: its source, or the copy that it has written."""
    if plan.options.output is None:
        return source
    return ground.open_source(replace(plan.spec, location=plan.options.output))


def count_alone(
    ground: Ground, journal: Journal, plan: Plan, source: Source, told: Callable[[int], object]
) -> dict[str, Any]:
    """What is in a source now, read anew by this process: outcomes and census. `told` gets the
    records so far."""
    counting = Counting(ground.providers, plan.target, Evidence(journal, ground.providers))
    for part in source_after(ground, plan, source).parts:
        counting.over(part, lambda: told(counting.rows))
    return counting.as_dict()
