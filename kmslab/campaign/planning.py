"""Make the plan of a campaign: one pass over its source, which changes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from kmslab.analysis.census import Census, alike
from kmslab.analysis.classify import Classifier, Drop, Outcome, Target, Verdict
from kmslab.analysis.forecast import (
    DOCUMENTED_RATE,
    Flow,
    Forecast,
    calls_by_provider,
    comparing,
    forecast,
    rights_needed,
    usual_verify,
)
from kmslab.campaign.plan import (
    CTYUN_LENGTH,
    DATA_KEYS,
    INFERRED,
    NEVER_SENT,
    KeyMark,
    Options,
    Plan,
    Reason,
)
from kmslab.campaign.selection import EVERYTHING, Selection
from kmslab.campaign.sending import Distinct, Verify
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.campaign.wording import counted, not_looked_at
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
    Unauthorized,
    UnknownAction,
    Unsupported,
)
from kmslab.model import CTYUN, TENCENT, Record
from kmslab.providers.base import Keep, Providers, own_rates
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec

EXAMPLES: Final = 10
"""The most records that are named for each reason."""

_OPENABLE: Final = frozenset(
    {Outcome.STALE, Outcome.MOVE, Outcome.CURRENT, Outcome.MAY_CHANGE, Outcome.BLOCKED}
)


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

    Only the records of the options' selection are counted.

    From heads alone; `deep` authenticates every blob that can be opened, and what does not open
    is `invalid`. CampaignError where the target could not be stored in the source; SourceChanged
    where a file was edited while it was read.
    """
    options = options or Options(verify=str(usual_verify(providers)))
    target = fitting(source, target)
    before = _fingerprints(source)
    judge = _Judge(providers, target, options.selection)
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
        forecast=_forecast(judge, verify, options, own, own_rates(providers)),
        rights=rights_needed(judge.flows, verify, comparing=own),
        unverified=not deep,
        fingerprints=before,
        keys=_marks(providers, judge.keys | _destination(target, providers)),
        notes=_notes(target, judge, own=own, deep=deep, contexts=_has_contexts(source, spec)),
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
    def refused(self) -> tuple[str, ...]:
        """The providers that gave the credential no right to look at a key."""
        return self._classifier.refused

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


def _chunks(source: Source) -> Iterator[tuple[int, Sequence[Record]]]:
    """The records of all parts, with how many there were so far."""
    rows = 0
    for part in source.parts:
        for chunk in part.read():
            rows += len(chunk.records)
            yield rows, chunk.records


def _fingerprints(source: Source) -> dict[str, str]:
    return {part.name: part.fingerprint() for part in source.parts}


def fitting(source: Source, target: Target) -> Target:
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
    except (KeyNotFound, InvalidKeyId, Unauthorized, UnknownAction, Unsupported):
        return KeyMark(provider, key_id, None, None)
    return KeyMark(provider, key_id, key.state.value, key.primary_version_id, key.alias)


def _forecast(
    judge: _Judge,
    verify: Verify,
    options: Options,
    own: Collection[str],
    kept: Mapping[str, float],
) -> Forecast:
    calls = calls_by_provider(judge.flows, verify, comparing=own)
    rates = {**dict.fromkeys(calls, DOCUMENTED_RATE), **kept, **options.rates}
    return forecast(calls, {name: rates[name] for name in calls})


def _has_contexts(source: Source, spec: SourceSpec) -> bool:
    return "context" in source.fields or spec.context_template is not None


def _notes(
    target: Target, judge: _Judge, *, own: Collection[str], deep: bool, contexts: bool
) -> tuple[str, ...]:
    notes = [DATA_KEYS]
    if CTYUN in own and any(destination == CTYUN for _, destination in judge.flows):
        notes.append(CTYUN_LENGTH)
    if not contexts and any(origin == TENCENT for origin, _ in judge.flows):
        notes.append(
            "There is no column with encryption contexts: a Tencent record is sent as one that has "
            "none, and fails where its blob was made under one."
        )
    elif isinstance(target.context, Keep):
        notes.append("Each record keeps its encryption context.")
    elif isinstance(target.context, Drop) or not context_text(target.context):
        notes.append("Encryption contexts are dropped: the new blobs have none.")
    else:
        notes.append("Each new blob has the encryption context that was named.")
    if count := judge.outcomes[Outcome.MAY_CHANGE]:
        notes.append(
            f"{counted(count, 'record is', 'records are')} on a version that the cloud does not "
            "tell: each is sent, and the cloud's answer says whether there was something to do."
        )
    if judge.inferred:
        notes.append(INFERRED)
    notes += [f"{not_looked_at(provider)}." for provider in judge.refused]
    if not deep:
        notes.append("Told from the heads of the blobs, unverified; --deep authenticates each.")
    return tuple(notes)
