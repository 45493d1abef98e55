"""Run a campaign, and take up one that was interrupted.

Chunk by chunk: judge, re-encrypt, verify, write the changes into the journal, then into the source.
Wherever a campaign is killed, the journal has the new blob of every record that may have it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from kmslab.analysis.census import Census, alike
from kmslab.analysis.classify import STAY, Classifier, Outcome, Target
from kmslab.analysis.forecast import usual_verify
from kmslab.campaign.evidence import Evidence
from kmslab.campaign.journal import Journal, Step
from kmslab.campaign.judging import Judging
from kmslab.campaign.outputs import check_options, output_path
from kmslab.campaign.passes import (
    FAILED,
    GONE,
    LOST,
    RE_ENCRYPTED,
    UNCHANGED,
    Pass,
    Tools,
)
from kmslab.campaign.plan import NEVER_SENT, Options, Plan, target_as_dict, target_from_dict
from kmslab.campaign.planning import check_current, make_plan
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.sending import Sender, Verify
from kmslab.campaign.state import State
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.campaign.wording import counted
from kmslab.clock import Clock
from kmslab.errors import (
    CampaignInterrupted,
    CampaignState,
    JournalExists,
    KmslabError,
    Retryable,
    SourceError,
    Unauthenticated,
)
from kmslab.providers.base import Providers, own_rates
from kmslab.records.opening import open_source
from kmslab.records.source import Part, Source, alone
from kmslab.records.spec import SourceSpec

UNFINISHED: Final = frozenset({"planning", "running", "undoing"})
"""The states in which a campaign still wants something of its source."""

_COUNTS: Final = (RE_ENCRYPTED, UNCHANGED, FAILED, LOST)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a campaign stands on: whom to ask, where to remember, what time it is.

    `remotes` names the profiles that `providers` are of; none for a lab.
    """

    providers: Providers
    state: State
    clock: Clock
    jitter: Callable[[], float] = random.random
    open_source: Callable[[SourceSpec], Source] = open_source
    remotes: tuple[str, ...] = ()


def run(
    ground: Ground,
    spec: SourceSpec,
    target: Target = STAY,
    *,
    options: Options | None = None,
    plan: Plan | None = None,
    watch: Watch = QUIET,
) -> Report:
    """Re-encrypt what a source holds, after a plan that is made now or was made before.

    A plan brings its own source, target and options. CampaignError where the options do not fit the
    source, before anything is begun; CampaignState where another campaign on the source is
    not finished; PlanOutdated where keys or source are not what they were. CampaignInterrupted,
    with what is done kept, where `watch` says stop or a provider does not answer for long:
    `resume` goes on.
    """
    if plan is not None:
        spec, target, options = plan.spec, plan.target, plan.options
    source = ground.open_source(spec)
    options = options or Options(verify=str(usual_verify(ground.providers)))
    options = replace(options, rates=options.rates or own_rates(ground.providers))
    check_options(options, source)
    with ground.state.lock(source.name), alone(source):
        refuse_second(ground.state, source.name)
        if plan is not None:
            check_current(plan, source, ground.providers)
        facts = {
            "state": "planning",
            "source": source.name,
            "spec": spec.as_dict(),
            "target": target_as_dict(target),
            "options": options.as_dict(),
            "started_at": ground.clock.now().isoformat(),
            "remotes": list(ground.remotes),
            "plan": None if plan is None else plan.as_dict(),
        }
        with _new_journal(ground, facts) as journal:
            return _go_on(ground, journal, source, watch)


def _new_journal(ground: Ground, facts: Mapping[str, Any]) -> Journal:
    while True:
        path = ground.state.journal_path(ground.state.new_id(ground.clock))
        with suppress(JournalExists):  # another process has drawn the same id
            return Journal.create(path, facts)


def resume(
    ground: Ground,
    campaign_id: str,
    *,
    check: Callable[[], None] | None = None,
    watch: Watch = QUIET,
) -> Report:
    """Take up a campaign where it was interrupted; of a finished one, give the report.

    One that was interrupted while planning plans again. `check` is called once nobody else is at
    work on the source, and before anything is done: what it raises ends it there, as
    `check_rest` does for a plan that somebody has agreed to.
    """
    path = ground.state.journal_path(campaign_id)
    with Journal.open(path) as journal:
        facts = journal.facts()
    with ground.state.lock(facts["source"]), Journal.open(path) as journal:
        facts = journal.facts()  # as they are once nobody else is at work on it
        refuse_other_remotes(ground, campaign_id, facts)
        if facts["state"] == "undoing":
            raise CampaignState(
                f"campaign {campaign_id} is being undone; campaign undo {campaign_id} goes on"
            )
        if facts["state"] not in UNFINISHED:
            return read_report(journal)
        if check is not None:
            check()
        source = ground.open_source(SourceSpec.from_dict(facts["spec"]))
        with alone(source):
            return _go_on(ground, journal, source, watch)


def refuse_other_remotes(ground: Ground, campaign_id: str, facts: Mapping[str, Any]) -> None:
    """CampaignState where a campaign was run on others than who would be asked now."""
    before = tuple(facts.get("remotes", ()))
    if before != ground.remotes:
        where = f"on the remote {', '.join(before)}" if before else "on a lab"
        raise CampaignState(f"campaign {campaign_id} was run {where}: name the same again")


def refuse_second(state: State, source: str, *, but: str = "") -> None:
    """CampaignState where a campaign on the source, other than `but`, is not finished."""
    for path in state.journals():
        if path.stem == but:
            continue
        with Journal.open(path) as journal:
            facts = journal.facts()
        if facts["source"] == source and facts["state"] in UNFINISHED:
            raise CampaignState(
                f"campaign {path.stem} on {source} is not finished: resume it, undo it, "
                "or close it with --abandon"
            )


def _go_on(ground: Ground, journal: Journal, source: Source, watch: Watch) -> Report:
    facts = journal.facts()
    if facts["plan"] is None:
        plan = _planned(ground, journal, source, facts, watch)
        journal.note(plan=plan.as_dict())
    else:
        plan = Plan.from_dict(facts["plan"])
    journal.note(state="running")
    if plan.options.atomic and any(plan.outcomes[outcome] for outcome in NEVER_SENT):
        _abort(ground, journal)
        return read_report(journal)
    run = _Run(ground, journal, source, plan, watch)
    try:
        run.over_all_parts()
    except Retryable as error:  # a key could not be looked at
        journal.note(calls=run.calls())
        raise CampaignInterrupted(
            f"campaign {journal.campaign_id} stopped, since a provider does not answer: {error}",
            campaign_id=journal.campaign_id,
            error=error,
        ) from None
    except SourceError:
        if run.sent_nothing:
            _abort(ground, journal)  # so that it does not stand in the way of the next
        raise
    return read_report(journal)


def _planned(
    ground: Ground, journal: Journal, source: Source, facts: Mapping[str, Any], watch: Watch
) -> Plan:
    """The plan of a campaign that has none yet. One that cannot be planned ends here: nothing was
    changed, so it does not stand in the way of the next."""
    try:
        return make_plan(
            source,
            SourceSpec.from_dict(facts["spec"]),
            ground.providers,
            target_from_dict(facts["target"]),
            clock=ground.clock,
            options=Options.from_dict(facts["options"]),
            watch=watch,
        )
    except CampaignInterrupted as error:
        raise CampaignInterrupted(str(error), campaign_id=journal.campaign_id) from None
    except KmslabError:
        _abort(ground, journal)
        raise


def _abort(ground: Ground, journal: Journal) -> None:
    journal.note(state="aborted", finished_at=ground.clock.now().isoformat())


class _Run:
    """One run, or the rest of one, over all parts of a source."""

    def __init__(
        self, ground: Ground, journal: Journal, source: Source, plan: Plan, watch: Watch
    ) -> None:
        self._ground = ground
        self._journal = journal
        self._source = source
        self._plan = plan
        self._watch = watch
        self._before = 0  # rows of the parts that are behind
        self._told = 0  # rows that progress was told of
        self._calls_before: dict[str, int] = journal.facts().get("calls", {})
        self._kept_out: Counter[str] = Counter(journal.facts().get("kept_out", {}))
        verify = Verify.parse(plan.options.verify)
        sender = Sender(
            ground.providers,
            plan.target,
            verify=verify,
            rates=plan.options.rates,
            clock=ground.clock,
            jitter=ground.jitter,
            stop=watch.stop,
            waiting=watch.waiting,
            told=self._tell_more,
        )
        self._tools = Tools(
            journal=journal,
            judging=Judging(ground.providers, plan.target, sender, ground.clock),
            sender=sender,
            providers=ground.providers,
            target=plan.target,
            selection=plan.options.selection,
            fields=source.fields,
            counts=Counter(dict.fromkeys(_COUNTS, 0)),
            trusting=bool(own_rates(ground.providers)) and verify == Verify.ANSWER,
        )

    @property
    def sent_nothing(self) -> bool:
        """Whether nothing was asked of a provider, in this run or one before."""
        return not any(self.calls().values())

    def over_all_parts(self) -> None:
        """All parts that are not finished, then the census of what is there."""
        finished = self._journal.finished_parts()
        for part in self._source.parts:
            if part.name not in finished and not self._over(part):
                _abort(self._ground, self._journal)
                return
        self._lose_parts_that_went()
        self._journal.note(calls=self.calls())
        after = self._after()
        self._journal.note(
            state="finished",
            finished_at=self._ground.clock.now().isoformat(),
            after=after,
        )

    def calls(self) -> dict[str, int]:
        """The calls so far, with those of runs that were interrupted before."""
        return dict(Counter(self._calls_before) + Counter(self._tools.sender.calls))

    def _over(self, part: Part) -> bool:
        """One pass over a part; False where an atomic campaign has to leave it as it is."""
        options = self._plan.options
        pass_ = Pass(self._tools, self._journal.part(part.name))
        output = output_path(options, self._source, part)
        if output is not None:
            self._place(output)
        with part.edit(output=output, atomic=options.atomic) as edit:
            for chunk in edit:
                pass_.take(chunk, edit)
                self._tell(pass_)
                self._stop_here(pass_)
                if options.atomic and self._spoilt(pass_):
                    return False
            if options.atomic and pass_.missing():
                return False
            edit.finish()
        pass_.finish()
        self._before += pass_.rows
        self._kept_out.update({o.value: n for o, n in pass_.kept_out.items()})
        self._journal.note(kept_out=dict(self._kept_out))
        return True

    def _place(self, output: Path) -> None:
        """Make way for a copy: one that an earlier run placed, and was killed then, is ours."""
        if self._journal.facts().get("placing") == str(output):
            output.unlink(missing_ok=True)
        self._journal.note(placing=str(output))

    def _spoilt(self, pass_: Pass) -> bool:
        """Whether a record was not re-encrypted that should have been."""
        counts = self._tools.counts
        return bool(counts[FAILED] or counts[LOST] or pass_.kept_out)

    def _tell(self, pass_: Pass) -> None:
        self._told = self._before + pass_.rows
        self._tell_more(0)

    def _tell_more(self, records: int) -> None:
        """Tell of a chunk that is held back by a rate, before it is stored."""
        self._told += records
        counts = dict(self._tools.counts)
        self._watch.progress(Progress("re-encrypting", self._told, self._plan.total, counts))

    def _stop_here(self, pass_: Pass) -> None:
        if pass_.stalled is None and not pass_.unsent and not self._watch.stop():
            return
        self._journal.note(calls=self.calls())
        campaign_id = self._journal.campaign_id
        rows = counted(self._before + pass_.rows, "record")
        done = f"campaign {campaign_id} stopped after {rows}"
        if pass_.stalled is not None:
            refused = isinstance(pass_.stalled, Unauthenticated)
            why = "refuses the credential" if refused else "does not answer"
            raise CampaignInterrupted(
                f"{done}, since a provider {why}: {pass_.stalled}",
                campaign_id=campaign_id,
                error=pass_.stalled,
            )
        raise CampaignInterrupted(done, campaign_id=campaign_id)

    def _lose_parts_that_went(self) -> None:
        """Files that were there when the campaign began, and are not any more."""
        there = {part.name for part in self._source.parts}
        for name, number in self._journal.part_names().items():
            if name not in there:
                rest = self._journal.open_entries(number, Step.APPLIED)
                self._journal.lose(Step.APPLIED, rest, GONE)

    def _after(self) -> dict[str, Any]:
        """What is in the source now, read anew: outcomes and census."""
        ground, plan, source = self._ground, self._plan, self._source
        if plan.options.output is not None:
            source = ground.open_source(replace(plan.spec, location=plan.options.output))
        classifier, census = Classifier(ground.providers, plan.target), Census()
        evidence = Evidence(self._journal, ground.providers)
        rows, outcomes = 0, Counter[str]()
        for part in source.parts:
            for chunk in part.read():
                verdicts = evidence.weigh(chunk.records, classifier.classify_many(chunk.records))
                for provider, verdict, count in alike(chunk.records, verdicts):
                    outcomes[verdict.outcome.value] += count
                    census.add_many(provider, verdict, count)
                rows += len(chunk.records)
                counted = Progress("counting", rows, plan.total, dict(self._tools.counts))
                self._watch.progress(counted)
                self._stop_counting()
        return {
            "outcomes": {outcome.value: outcomes[outcome.value] for outcome in Outcome},
            "census": [asdict(row) for row in census.rows()],
        }

    def _stop_counting(self) -> None:
        if self._watch.stop():
            raise CampaignInterrupted(
                f"campaign {self._journal.campaign_id} stopped while counting; all is stored",
                campaign_id=self._journal.campaign_id,
            )
