"""What a plan counts: the verdicts on the records of a source, one pass or several put together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from kmslab.analysis.census import Census, CensusRow, alike
from kmslab.analysis.classify import Classifier, Outcome, Target, Verdict
from kmslab.analysis.forecast import Flow
from kmslab.campaign.plan import NEVER_SENT, Reason
from kmslab.campaign.selection import EVERYTHING, Selection
from kmslab.campaign.sending import Distinct
from kmslab.errors import DecryptFailed, InvalidCiphertext, KmsError, Retryable
from kmslab.model import Record
from kmslab.providers.base import Providers

EXAMPLES: Final = 10
"""The most records that are named for each reason."""

_OPENABLE: Final = frozenset(
    {Outcome.STALE, Outcome.MOVE, Outcome.CURRENT, Outcome.MAY_CHANGE, Outcome.BLOCKED}
)


class Tally:
    """The verdicts on the records of a source, or of some parts of it, counted."""

    def __init__(self, providers: Providers, target: Target, selection: Selection) -> None:
        self.census = Census()
        self.outcomes: Counter[Outcome] = Counter()
        self.flows: Counter[Flow] = Counter()
        self.keys: set[tuple[str, str]] = set()
        self.providers_seen: set[str] = set()
        self.inferred = False
        self._reasons: Counter[tuple[Outcome, str]] = Counter()
        self._examples: defaultdict[tuple[Outcome, str], list[str]] = defaultdict(list)
        self._providers = providers
        self._selection = selection
        self._classifier = Classifier(providers, target)
        self._refused: dict[str, None] = {}
        self._distinct = Distinct()

    def take(self, records: Sequence[Record], *, deep: bool) -> None:
        """Judge records, and count those of the selection."""
        verdicts = self._classifier.classify_many(records)
        if deep:
            verdicts = authenticated(self._providers, records, verdicts)
        for provider, verdict, count in alike(records, verdicts):
            self.census.add_many(provider, verdict, count)
        if self._selection != EVERYTHING:
            rows = self._selection.rows(records, verdicts)
            records, verdicts = [records[row] for row in rows], [verdicts[row] for row in rows]
        for provider, verdict, count in alike(records, verdicts):
            self.outcomes[verdict.outcome] += count
            self._reasons[verdict.outcome, verdict.reason] += count
            self.providers_seen.add(provider)
            self.inferred |= verdict.version_inferred and verdict.outcome.sent
            if verdict.key_id is not None:
                self.keys.add((provider, verdict.key_id))
        for record, verdict in zip(records, verdicts, strict=True):
            if verdict.outcome in NEVER_SENT:
                self._name(record, verdict)
            elif verdict.outcome.sent and self._distinct.is_new(record, verdict):
                self.flows[record.provider, verdict.destination_provider or record.provider] += 1

    @property
    def counts(self) -> dict[str, int]:
        """The records so far, by the name of their outcome."""
        return {outcome.value: n for outcome, n in self.outcomes.items()}

    @property
    def refused(self) -> tuple[str, ...]:
        """The providers that gave the credential no right to look at a key."""
        return tuple(dict.fromkeys([*self._refused, *self._classifier.refused]))

    def _name(self, record: Record, verdict: Verdict) -> None:
        named = self._examples[verdict.outcome, verdict.reason]
        if len(named) < EXAMPLES:
            named.append(record.record_id)

    def listed_reasons(self) -> tuple[Reason, ...]:
        """The reasons, by outcome, the most frequent first."""
        return tuple(
            Reason(outcome, reason, records, tuple(self._examples.get((outcome, reason), ())))
            for outcome in Outcome
            for (of, reason), records in self._reasons.most_common()
            if of is outcome
        )

    def as_dict(self) -> dict[str, Any]:
        """What was counted, as JSON takes it: numbers, ids of keys and of some records."""
        return {
            "census": [asdict(row) for row in self.census.rows()],
            "outcomes": self.counts,
            "flows": [[*flow, calls] for flow, calls in self.flows.items()],
            "keys": sorted(self.keys),
            "providers": sorted(self.providers_seen),
            "inferred": self.inferred,
            "reasons": [
                [outcome.value, reason, n, self._examples.get((outcome, reason), [])]
                for (outcome, reason), n in self._reasons.items()
            ],
            "refused": list(self.refused),
        }

    def add(self, found: Mapping[str, Any]) -> None:
        """Count what another one has counted, of parts that come after those counted so far."""
        self.census.add_rows(CensusRow(**row) for row in found["census"])
        self.outcomes.update({Outcome(name): n for name, n in found["outcomes"].items()})
        for origin, destination, calls in found["flows"]:
            self.flows[origin, destination] += calls
        self.keys.update((provider, key_id) for provider, key_id in found["keys"])
        self.providers_seen.update(found["providers"])
        self.inferred |= found["inferred"]
        for name, reason, records, examples in found["reasons"]:
            case = Outcome(name), reason
            self._reasons[case] += records
            if examples:
                self._examples[case] = [*self._examples[case], *examples][:EXAMPLES]
        self._refused.update(dict.fromkeys(found["refused"]))


def authenticated(
    providers: Providers, records: Sequence[Record], verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """Verdicts after opening every blob that can be opened, blocked ones too.

    What does not open is `invalid`. What the Kms refuses for another reason (a key that is
    disabled, a missing right) is `blocked`, and stays unverified. Retryable errors of a Kms come
    through: a blob that could not be asked for is not judged.
    """
    found = list(verdicts)
    # Records that are judged alike have one verdict, and have one afterwards.
    proven: dict[tuple[int, str | None], Verdict] = {}
    for provider in providers.providers():
        rows = [
            row
            for row, record in enumerate(records)
            if record.provider == provider and verdicts[row].outcome in _OPENABLE
        ]
        opened = providers.kms(provider).decrypt_records([records[row] for row in rows])
        for row, error in zip(rows, opened.error, strict=True):
            case = id(verdicts[row]), None if error is None else f"{type(error).__name__} {error}"
            if case not in proven:
                proven[case] = _proven(verdicts[row], error)
            found[row] = proven[case]
    return found


def _proven(verdict: Verdict, error: KmsError | None) -> Verdict:
    match error:
        case None:
            return replace(verdict, unverified=False)
        case Retryable():
            raise error
        case _ if verdict.outcome is Outcome.BLOCKED and verdict.version_number is None:
            return verdict  # of a key or version that is not there, so it says nothing
        case InvalidCiphertext() | DecryptFailed():
            return replace(
                verdict, outcome=Outcome.INVALID, reason="does not open", unverified=False
            )
        case _ if verdict.outcome is Outcome.BLOCKED:
            return verdict
        case _:
            return replace(verdict, outcome=Outcome.BLOCKED, reason=str(error))
