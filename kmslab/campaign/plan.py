"""The plan of a campaign: what would become of each record, before anything is done.

One Plan serves the command line, the terminal and notebooks. It can be saved; it is refused later
where keys or source are not what they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from kmslab.analysis.census import Census, CensusRow, alike
from kmslab.analysis.classify import DROP, Classifier, Drop, Outcome, Target, Verdict
from kmslab.analysis.forecast import (
    DOCUMENTED_RATE,
    Flow,
    Forecast,
    ProviderForecast,
    calls_by_provider,
    comparing,
    forecast,
    rights_needed,
)
from kmslab.campaign.sending import Distinct, Verify
from kmslab.campaign.watching import QUIET as QUIET
from kmslab.campaign.watching import Progress as Progress
from kmslab.campaign.watching import Watch as Watch
from kmslab.clock import Clock
from kmslab.context import context_text
from kmslab.errors import (
    CampaignError,
    DecryptFailed,
    InvalidCiphertext,
    InvalidKeyId,
    KeyNotFound,
    KmsError,
    PlanOutdated,
    Retryable,
    SourceChanged,
)
from kmslab.model import CTYUN, Record
from kmslab.providers.base import KEEP, Keep, Providers
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec

FORMAT: Final = 1
"""The format of saved plans."""

DATA_KEYS: Final = (
    "Re-encryption does not change a data key: whoever has unwrapped one before still has it."
)

CTYUN_LENGTH: Final = (
    "A lab's CTyun blob is 20 to 44 characters longer than the cloud's (inferred): size a column "
    "by what is to be stored in it."
)

_OPENABLE: Final = frozenset({Outcome.STALE, Outcome.MOVE, Outcome.CURRENT, Outcome.MAY_CHANGE})


@dataclass(frozen=True, slots=True)
class Options:
    """How a campaign is run.

    `rates` are in calls a second, by provider; one that is not named is not held back. `verify` is
    a text of `Verify`. `atomic` writes nothing unless every record succeeds. With `output` the
    changed copy is written there, and the source is left as it is.
    """

    verify: str = "decrypt"
    rates: Mapping[str, float] = field(default_factory=dict)
    atomic: bool = False
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """So many records have this outcome for this reason; "" where it needs none."""

    outcome: Outcome
    reason: str
    records: int


@dataclass(frozen=True, slots=True)
class KeyMark:
    """How a key stood when the plan was made; state None where it was not there."""

    provider: str
    key_id: str
    state: str | None
    primary_version_id: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign would do. The outcomes sum to `total`.

    `rights` are the calls that a credential must be allowed, by provider. `unverified` says that
    only heads were read; with `deep` every blob was authenticated. `fingerprints` are those of the
    source's parts, `keys` those that its blobs name and the destination. `notes` are sentences for
    whoever decides.
    """

    spec: SourceSpec
    source: str
    target: Target
    options: Options
    made_at: datetime
    total: int
    outcomes: Mapping[Outcome, int]
    reasons: tuple[Reason, ...]
    census: tuple[CensusRow, ...]
    forecast: Forecast
    rights: Mapping[str, Sequence[str]]
    unverified: bool
    fingerprints: Mapping[str, str]
    keys: tuple[KeyMark, ...]
    notes: tuple[str, ...]

    @property
    def to_send(self) -> int:
        """The records for which a call would be made, or another's answer taken."""
        return sum(records for outcome, records in self.outcomes.items() if outcome.sent)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON takes it (design, Annex B); `from_dict` reads it."""
        return {
            "format": FORMAT,
            "spec": self.spec.as_dict(),
            "source": self.source,
            "target": target_as_dict(self.target),
            "options": asdict(self.options),
            "made_at": self.made_at.isoformat(),
            "total": self.total,
            "outcomes": {outcome.value: records for outcome, records in self.outcomes.items()},
            "reasons": [asdict(reason) for reason in self.reasons],
            "census": [asdict(row) for row in self.census],
            "forecast": self.forecast.as_dict(),
            "rights": {provider: list(calls) for provider, calls in self.rights.items()},
            "unverified": self.unverified,
            "fingerprints": dict(self.fingerprints),
            "keys": [asdict(mark) for mark in self.keys],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """A plan that was saved; CampaignError where this is none, or of a later format."""
        if values.get("format") != FORMAT:
            raise CampaignError(
                f"a plan of format {values.get('format')!r}; this kmslab reads {FORMAT}"
            )
        try:
            return _from_dict(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CampaignError(f"this is not a saved plan: {error!r}") from None


def make_plan(
    source: Source,
    spec: SourceSpec,
    providers: Providers,
    target: Target,
    *,
    clock: Clock,
    options: Options | None = None,
    deep: bool = False,
    watch: Watch = QUIET,
) -> Plan:
    """Read a source once, and say what would become of each record. Nothing is changed.

    From heads alone; `deep` authenticates every blob that can be opened, and what does not open
    is `invalid`. CampaignError where the target could not be stored in the source; SourceChanged
    where a file was edited while it was read.
    """
    options = options or Options()
    target = _fitting(source, target)
    before = _fingerprints(source)
    judge = _Judge(providers, target)
    for rows, records in _chunks(source):
        judge.take(records, deep=deep)
        watch.told(
            Progress("planning", rows, None, {o.value: n for o, n in judge.outcomes.items()})
        )
    if before != _fingerprints(source):
        raise SourceChanged(f"{source.name} was changed while it was read; plan again")
    _refuse_lost_provider(source, target, judge)
    verify, own = Verify.parse(options.verify), comparing(providers)
    return Plan(
        spec=spec,
        source=source.name,
        target=target,
        options=options,
        made_at=clock.now(),
        total=sum(judge.outcomes.values()),
        outcomes={outcome: judge.outcomes[outcome] for outcome in Outcome},
        reasons=judge.listed_reasons(),
        census=tuple(judge.census.rows()),
        forecast=_forecast(judge, verify, options, own),
        rights=rights_needed(judge.flows, verify, comparing=own),
        unverified=not deep,
        fingerprints=before,
        keys=_marks(providers, judge.keys | _destination(target, providers)),
        notes=_notes(target, judge, deep=deep),
    )


def check_current(plan: Plan, source: Source, providers: Providers) -> None:
    """PlanOutdated where keys or source are not what they were when the plan was made."""
    for mark in plan.keys:
        now = _mark(providers, mark.provider, mark.key_id)
        if now.state != mark.state:
            raise PlanOutdated(
                f"key {mark.key_id} was {mark.state or 'missing'} when the plan was made, "
                f"and is {now.state or 'missing'} now; plan again"
            )
        if now.primary_version_id != mark.primary_version_id:
            raise PlanOutdated(f"key {mark.key_id} was rotated after the plan was made; plan again")
    now_there = _fingerprints(source)
    for name in sorted(plan.fingerprints.keys() | now_there.keys()):
        if plan.fingerprints.get(name) != now_there.get(name):
            raise PlanOutdated(f"{name} was changed after the plan was made; plan again")


class _Judge:
    """The verdicts on all records, counted."""

    def __init__(self, providers: Providers, target: Target) -> None:
        self.census = Census()
        self.outcomes: Counter[Outcome] = Counter()
        self.flows: Counter[Flow] = Counter()
        self.keys: set[tuple[str, str]] = set()
        self.providers_seen: set[str] = set()
        self._reasons: Counter[tuple[Outcome, str]] = Counter()
        self._providers = providers
        self._classifier = Classifier(providers, target)
        self._distinct = Distinct()

    def take(self, records: Sequence[Record], *, deep: bool) -> None:
        """Judge and count records."""
        classify = self._classifier.classify
        verdicts = [classify(record) for record in records]
        if deep:
            verdicts = authenticated(self._providers, records, verdicts)
        for provider, verdict, count in alike(records, verdicts):
            self.census.add_many(provider, verdict, count)
            self.outcomes[verdict.outcome] += count
            self._reasons[verdict.outcome, verdict.reason] += count
            self.providers_seen.add(provider)
            if verdict.key_id is not None:
                self.keys.add((provider, verdict.key_id))
        for record, verdict in zip(records, verdicts, strict=True):
            if verdict.outcome.sent and self._distinct.is_new(record, verdict):
                self.flows[record.provider, verdict.destination_provider or record.provider] += 1

    def listed_reasons(self) -> tuple[Reason, ...]:
        """The reasons, by outcome, the most frequent first."""
        return tuple(
            Reason(outcome, reason, records)
            for outcome in Outcome
            for (of, reason), records in self._reasons.most_common()
            if of is outcome
        )


def authenticated(
    providers: Providers, records: Sequence[Record], verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """Verdicts after opening every blob that can be opened.

    What does not open is `invalid`; what the Kms refuses for another reason (a key disabled
    meanwhile, a missing right) is `blocked`. Retryable errors of a Kms come through: a blob that
    could not be asked for is not judged.
    """
    found = list(verdicts)
    for provider in providers.providers():
        rows = [
            row
            for row, record in enumerate(records)
            if record.provider == provider and verdicts[row].outcome in _OPENABLE
        ]
        opened = providers.kms(provider).decrypt_records([records[row] for row in rows])
        for row, error in zip(rows, opened.error, strict=True):
            found[row] = _proven(verdicts[row], error)
    return found


def _proven(verdict: Verdict, error: KmsError | None) -> Verdict:
    match error:
        case None:
            return replace(verdict, unverified=False)
        case Retryable():
            raise error
        case InvalidCiphertext() | DecryptFailed():
            return replace(
                verdict, outcome=Outcome.INVALID, reason="does not open", unverified=False
            )
        case _:
            return replace(verdict, outcome=Outcome.BLOCKED, reason=str(error))


def _chunks(source: Source) -> Iterator[tuple[int, Sequence[Record]]]:
    """The records of all parts, with how many there were so far."""
    rows = 0
    for part in source.parts:
        for chunk in part.read():
            rows += len(chunk.records)
            yield rows, chunk.records


def _fingerprints(source: Source) -> dict[str, str]:
    return {part.name: part.fingerprint() for part in source.parts}


def _fitting(source: Source, target: Target) -> Target:
    """The target with what the source can hold; CampaignError where it cannot hold the target."""
    if not isinstance(target.context, Keep) and "context" not in source.fields:
        raise CampaignError(
            f"{source.name} has no context column, so another context could not be stored in it"
        )
    capacity = [n for n in (target.max_length, source.blob_capacity) if n is not None]
    return replace(target, max_length=min(capacity, default=None))


def _refuse_lost_provider(source: Source, target: Target, judge: _Judge) -> None:
    moved = target.provider is not None and judge.providers_seen - {target.provider}
    if moved and judge.outcomes[Outcome.MOVE] and "provider" not in source.fields:
        raise CampaignError(
            f"{source.name} has no provider column: after a campaign to {target.provider} nothing "
            "would tell the moved records from those that failed; add one, then plan again"
        )


def _destination(target: Target, providers: Providers) -> set[tuple[str, str]]:
    if target.key_id is None:
        return set()
    names = providers.providers() if target.provider is None else (target.provider,)
    return {(name, target.key_id) for name in names}


def _marks(providers: Providers, keys: set[tuple[str, str]]) -> tuple[KeyMark, ...]:
    return tuple(_mark(providers, provider, key_id) for provider, key_id in sorted(keys))


def _mark(providers: Providers, provider: str, key_id: str) -> KeyMark:
    if provider not in providers.providers():
        return KeyMark(provider, key_id, None, None)
    try:
        key = providers.kms(provider).describe_key(key_id)
    except (KeyNotFound, InvalidKeyId):
        return KeyMark(provider, key_id, None, None)
    return KeyMark(provider, key_id, key.state.value, key.primary_version_id)


def _forecast(judge: _Judge, verify: Verify, options: Options, own: Collection[str]) -> Forecast:
    calls = calls_by_provider(judge.flows, verify, comparing=own)
    rates = {provider: options.rates.get(provider, DOCUMENTED_RATE) for provider in calls}
    return forecast(calls, rates)


def _notes(target: Target, judge: _Judge, *, deep: bool) -> tuple[str, ...]:
    notes = [DATA_KEYS]
    if any(destination == CTYUN for _, destination in judge.flows):
        notes.append(CTYUN_LENGTH)
    if isinstance(target.context, Keep):
        notes.append("Each record keeps its encryption context.")
    elif isinstance(target.context, Drop) or not context_text(target.context):
        notes.append("Encryption contexts are dropped: the new blobs have none.")
    else:
        notes.append("Each new blob has the encryption context that was named.")
    if not deep:
        notes.append("Told from the heads of the blobs, unverified; --deep authenticates each.")
    return tuple(notes)


# Plans and targets as JSON takes them


def target_as_dict(target: Target) -> dict[str, Any]:
    """A target as JSON takes it: `context` is {"keep": true}, {"drop": true} or {"text": ...}."""
    match target.context:
        case Keep():
            context: dict[str, Any] = {"keep": True}
        case Drop():
            context = {"drop": True}
        case text:
            context = {"text": context_text(text)}
    return {
        "key_id": target.key_id,
        "provider": target.provider,
        "context": context,
        "max_length": target.max_length,
    }


def target_from_dict(values: Mapping[str, Any]) -> Target:
    """The target that `target_as_dict` gave.

    >>> target_from_dict(target_as_dict(Target(context=DROP))) == Target(context=DROP)
    True
    """
    named = values["context"]
    context = KEEP if "keep" in named else DROP if "drop" in named else named["text"]
    return Target(
        key_id=values["key_id"],
        provider=values["provider"],
        context=context,
        max_length=values["max_length"],
    )


def _from_dict(values: Mapping[str, Any]) -> Plan:
    return Plan(
        spec=SourceSpec.from_dict(values["spec"]),
        source=values["source"],
        target=target_from_dict(values["target"]),
        options=Options(**values["options"]),
        made_at=datetime.fromisoformat(values["made_at"]),
        total=values["total"],
        outcomes={Outcome(name): records for name, records in values["outcomes"].items()},
        reasons=tuple(
            Reason(Outcome(each["outcome"]), each["reason"], each["records"])
            for each in values["reasons"]
        ),
        census=tuple(CensusRow(**row) for row in values["census"]),
        forecast=Forecast(
            tuple(
                ProviderForecast(name, each["calls"], each["rate"], each["seconds"])
                for name, each in values["forecast"]["providers"].items()
            )
        ),
        rights=values["rights"],
        unverified=values["unverified"],
        fingerprints=values["fingerprints"],
        keys=tuple(KeyMark(**mark) for mark in values["keys"]),
        notes=tuple(values["notes"]),
    )
