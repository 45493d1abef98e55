"""Make the plan of a campaign: one pass over its source, which changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from kmslab.analysis.classify import Drop, Outcome, Target
from kmslab.analysis.forecast import (
    DOCUMENTED_RATE,
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
    KeyMark,
    Options,
    Plan,
)
from kmslab.campaign.sending import Verify
from kmslab.campaign.tally import Tally
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.campaign.wording import counted, not_looked_at
from kmslab.clock import Clock
from kmslab.context import context_text
from kmslab.errors import (
    CampaignError,
    InvalidKeyId,
    KeyNotFound,
    PlanOutdated,
    SourceChanged,
    Unauthorized,
    UnknownAction,
    Unsupported,
)
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.base import Keep, Providers, own_rates
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec

Reading = Callable[[Target, Options, Tally], Mapping[str, str]]
"""Has a tally count every record of a source; the fingerprints of its parts."""


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
    reading: Reading | None = None,
) -> Plan:
    """Read a source once, and say what would become of each record. Nothing is changed.

    Only the records of the options' selection are counted. `reading` is who reads, in place of this
    process alone.

    From heads alone; `deep` authenticates every blob that can be opened, and what does not open
    is `invalid`. CampaignError where the target could not be stored in the source; SourceChanged
    where a file was edited while it was read.
    """
    options = options or Options(verify=str(usual_verify(providers)))
    target = fitting(source, target)
    tally = Tally(providers, target, options.selection)
    if reading is None:
        options.selection.make_ready(watch.stop)
        fingerprints = _read(source, tally, watch, deep=deep)
    else:
        fingerprints = reading(target, options, tally)
    _refuse_lost_provider(source, target, tally)
    verify, own = Verify.parse(options.verify), comparing(providers)
    return Plan(
        spec=spec,
        source=source.name,
        target=target,
        options=options,
        made_at=clock.now(),
        total=sum(tally.outcomes.values()),
        outcomes={outcome: tally.outcomes[outcome] for outcome in Outcome},
        reasons=tally.listed_reasons(),
        census=tuple(tally.census.rows()),
        forecast=_forecast(tally, verify, options, own, own_rates(providers)),
        rights=rights_needed(tally.flows, verify, comparing=own),
        unverified=not deep,
        fingerprints=fingerprints,
        keys=_marks(providers, tally.keys | _destination(target, providers)),
        notes=_notes(target, tally, own=own, deep=deep, contexts=_has_contexts(source, spec)),
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


def _read(source: Source, tally: Tally, watch: Watch, *, deep: bool) -> Mapping[str, str]:
    before = _fingerprints(source)
    rows = 0
    for part in source.parts:
        for chunk in part.read():
            tally.take(chunk.records, deep=deep)
            rows += len(chunk.records)
            watch.told(Progress("planning", rows, None, tally.counts))
    if before != _fingerprints(source):
        raise changed_meanwhile(source.name)
    return before


def changed_meanwhile(name: str) -> SourceChanged:
    """What is to be raised where a file was edited while it was read."""
    return SourceChanged(f"{name} was changed while it was read; plan again")


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


def _refuse_lost_provider(source: Source, target: Target, tally: Tally) -> None:
    moved = target.provider is not None and tally.providers_seen - {target.provider}
    if moved and tally.outcomes[Outcome.MOVE] and "provider" not in source.fields:
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
    tally: Tally,
    verify: Verify,
    options: Options,
    own: Collection[str],
    kept: Mapping[str, float],
) -> Forecast:
    calls = calls_by_provider(tally.flows, verify, comparing=own)
    rates = {**dict.fromkeys(calls, DOCUMENTED_RATE), **kept, **options.rates}
    return forecast(calls, {name: rates[name] for name in calls})


def _has_contexts(source: Source, spec: SourceSpec) -> bool:
    return "context" in source.fields or spec.context_template is not None


def _notes(
    target: Target, tally: Tally, *, own: Collection[str], deep: bool, contexts: bool
) -> tuple[str, ...]:
    notes = [DATA_KEYS]
    if CTYUN in own and any(destination == CTYUN for _, destination in tally.flows):
        notes.append(CTYUN_LENGTH)
    if not contexts and any(origin == TENCENT for origin, _ in tally.flows):
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
    if count := tally.outcomes[Outcome.MAY_CHANGE]:
        notes.append(
            f"{counted(count, 'record is', 'records are')} on a version that the cloud does not "
            "tell: each is sent, and the cloud's answer says whether there was something to do."
        )
    if tally.inferred:
        notes.append(INFERRED)
    notes += [f"{not_looked_at(provider)}." for provider in tally.refused]
    if not deep:
        notes.append("Told from the heads of the blobs, unverified; --deep authenticates each.")
    return tuple(notes)
