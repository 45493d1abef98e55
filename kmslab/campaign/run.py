"""Run a campaign, and take up one that was interrupted.

Chunk by chunk: judge, re-encrypt, verify, write the changes into the journal, then into the source.
Wherever a campaign is killed, the journal has the new blob of every record that may have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, Final

from kmslab.analysis.classify import STAY, Target
from kmslab.analysis.forecast import usual_verify
from kmslab.campaign.counting import count_alone
from kmslab.campaign.crew import Workers
from kmslab.campaign.going_over import go_over, make_way, tools_for
from kmslab.campaign.ground import Ground as Ground
from kmslab.campaign.journal import Journal, Step
from kmslab.campaign.large import listed
from kmslab.campaign.outputs import check_options, check_writable, output_path
from kmslab.campaign.passes import GONE, Pass
from kmslab.campaign.plan import NEVER_SENT, Options, Plan, target_as_dict, target_from_dict
from kmslab.campaign.planning import check_current, make_plan
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.shards import Shards
from kmslab.campaign.sharing import CheckedCrew, Sharing
from kmslab.campaign.state import State, content_errors
from kmslab.campaign.tasks import TaskList, check_one_task
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.campaign.wording import counted, stopped
from kmslab.errors import (
    CampaignInterrupted,
    CampaignState,
    JournalExists,
    KmslabError,
    LabError,
    Retryable,
    SourceError,
)
from kmslab.providers.base import own_rates
from kmslab.records.source import Part, Source, alone
from kmslab.records.spec import SourceSpec

UNFINISHED: Final = frozenset({"planning", "running", "undoing"})
"""The states in which a campaign still wants something of its source."""


def run(
    ground: Ground,
    spec: SourceSpec,
    target: Target = STAY,
    *,
    options: Options | None = None,
    plan: Plan | None = None,
    workers: Workers | None = None,
    watch: Watch = QUIET,
) -> Report:
    """Re-encrypt what a source holds, after a plan that is made now or was made before.

    With `workers` several do it at once, each file, or range of a table's ids, by one of them:
    `kmslab.campaign.pool.Pool`, or `Cluster` and `Scheduler` of `kmslab.campaign.cluster`. They
    open the lab by themselves.

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
    if options.output is None:
        check_writable(source)
    if workers is not None and options.atomic:
        check_one_task(source)
    with ground.state.lock(source.name), alone(source), ExitStack() as stack:
        refuse_second(ground.state, source.name)
        if plan is not None:
            check_current(plan, source, ground.providers)
        crew = _gathered(stack, workers, ground, spec, source, None, watch)
        facts = {
            "state": "planning",
            "source": source.name,
            "spec": spec.as_dict(),
            "target": target_as_dict(target),
            "options": options.as_dict(listed),
            "started_at": ground.clock.now().isoformat(),
            "remotes": list(ground.remotes),
            "plan": None if plan is None else plan.as_dict(listed),
        }
        with _new_journal(ground, facts) as journal:
            return _go_on(ground, journal, source, watch, crew)


def _gathered(
    stack: ExitStack,
    workers: Workers | None,
    ground: Ground,
    spec: SourceSpec,
    source: Source,
    journal: Journal | None,
    watch: Watch,
) -> CheckedCrew | None:
    if workers is None:
        return None
    return stack.enter_context(CheckedCrew.of(workers, ground, spec, source, journal, watch))


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
    workers: Workers | None = None,
    watch: Watch = QUIET,
) -> Report:
    """Take up a campaign where it was interrupted; of a finished one, give the report.

    It may have other `workers` than before, or none. What was begun in one process of a file or
    table is ended in one.

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
        spec = SourceSpec.from_dict(facts["spec"])
        source = ground.open_source(spec)
        with alone(source), ExitStack() as stack:
            crew = _gathered(stack, workers, ground, spec, source, journal, watch)
            return _go_on(ground, journal, source, watch, crew)


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
        with content_errors(path), Journal.open(path) as journal:
            facts = journal.facts()
            unfinished = facts["source"] == source and facts["state"] in UNFINISHED
        if unfinished:
            raise CampaignState(
                f"campaign {path.stem} on {source} is not finished: resume it, undo it, "
                "or close it with --abandon"
            )


def _go_on(
    ground: Ground, journal: Journal, source: Source, watch: Watch, crew: CheckedCrew | None
) -> Report:
    if crew is None and TaskList(journal.database).there():
        crew = CheckedCrew.of_this_process(ground, source, journal)
    sharing = None if crew is None else Sharing(ground, journal, source, crew, watch)
    if sharing is None:
        Shards.of(ground.state, journal.campaign_id).remove(journal)  # of workers that only planned
    facts = journal.facts()
    kept = facts["plan"]
    if kept is None:
        plan = _planned(ground, journal, source, facts, watch, sharing)
        if sharing is not None:
            sharing.keep_tasks()
        journal.note(plan=plan.as_dict(listed))
    else:
        plan = Plan.from_dict(kept)
    journal.note(state="running")
    if plan.options.atomic and any(plan.outcomes[outcome] for outcome in NEVER_SENT):
        _abort(ground, journal)
        return read_report(journal)
    run = _Run(ground, journal, source, plan, watch, sharing)
    try:
        run.over_all_parts()
    except Retryable as error:  # a key could not be looked at
        raise CampaignInterrupted(
            f"campaign {journal.campaign_id} stopped, since a provider does not answer: {error}",
            campaign_id=journal.campaign_id,
            error=error,
        ) from None
    except LabError as error:
        raise CampaignInterrupted(
            f"campaign {journal.campaign_id} stopped, since the lab cannot be used: {error}",
            campaign_id=journal.campaign_id,
            error=error,
        ) from None
    except SourceError:
        if run.done_nothing:
            _abort(ground, journal)  # so that it does not stand in the way of the next
        raise
    return read_report(journal)


def _planned(
    ground: Ground,
    journal: Journal,
    source: Source,
    facts: Mapping[str, Any],
    watch: Watch,
    sharing: Sharing | None,
) -> Plan:
    """The plan of a campaign that has none yet. One that cannot be planned ends here: nothing was
    changed, so it does not stand in the way of the next."""
    spec = SourceSpec.from_dict(facts["spec"])
    try:
        return make_plan(
            source,
            spec,
            ground.providers,
            target_from_dict(facts["target"]),
            clock=ground.clock,
            options=Options.from_dict(facts["options"]),
            watch=watch,
            reading=None if sharing is None else sharing.reading(spec),
        )
    except CampaignInterrupted as error:
        raise CampaignInterrupted(
            str(error), campaign_id=journal.campaign_id, error=error.error
        ) from None
    except KmslabError:
        _abort(ground, journal)
        raise


def _abort(ground: Ground, journal: Journal) -> None:
    Shards.of(ground.state, journal.campaign_id).remove(journal)
    journal.note(state="aborted", finished_at=ground.clock.now().isoformat())


class _Run:
    """One run, or the rest of one, over all parts of a source."""

    def __init__(
        self,
        ground: Ground,
        journal: Journal,
        source: Source,
        plan: Plan,
        watch: Watch,
        sharing: Sharing | None,
    ) -> None:
        self._sharing = sharing
        self._ground = ground
        self._journal = journal
        self._source = source
        self._plan = plan
        self._watch = watch
        self._before = 0  # rows of the parts that are behind
        self._told = 0  # rows that progress was told of
        self._kept_out: Counter[str] = Counter(journal.facts().get("kept_out", {}))
        self._tools = tools_for(
            ground, journal, plan.target, plan.options, source.fields, watch, self._tell_more
        )

    @property
    def done_nothing(self) -> bool:
        """Whether nothing was asked of a provider, and nothing intended, in this run or one before.

        A run that was killed has not told of what was under way; what it may have stored is
        intended.
        """
        asked = any(self._journal.facts().get("calls", {}).values())
        if asked or self._journal.has_entries():
            return False
        return self._sharing is None or self._sharing.settled()

    def over_all_parts(self) -> None:
        """All parts that are not finished, then the census of what is there."""
        for part in self._own_parts():
            if not self._over(part):
                _abort(self._ground, self._journal)
                return
        if self._sharing is not None and not self._sharing.over_all_parts(self._plan):
            _abort(self._ground, self._journal)
            return
        self._lose_parts_that_went()
        self._journal.note()
        if self._sharing is None:
            after = count_alone(
                self._ground, self._journal, self._plan, self._source, self._counted
            )
        else:
            after = self._sharing.after(self._plan)
            self._sharing.end()
        self._journal.note(
            state="finished",
            finished_at=self._ground.clock.now().isoformat(),
            after=after,
        )

    def _own_parts(self) -> list[Part]:
        """The parts that this process goes over by itself: those that are not finished, or, where
        there are workers, that it has begun."""
        finished = self._journal.finished_parts()
        rest = [part for part in self._source.parts if part.name not in finished]
        if self._sharing is None:
            return rest
        tasks = {task.part for task in TaskList(self._journal.database).all()}
        begun = self._journal.part_names().keys() - tasks
        return [part for part in rest if part.name in begun]

    def _over(self, part: Part) -> bool:
        """One pass over a part; False where an atomic campaign has to leave it as it is."""
        options = self._plan.options
        pass_ = Pass(self._tools, self._journal.part(part.name))
        output = output_path(options, self._source, part)
        make_way(self._journal, output)
        options.selection.make_ready(self._watch.stop)

        def taken() -> None:
            self._tell(pass_)
            self._stop_here(pass_)

        if not go_over(
            pass_,
            part,
            tools=self._tools,
            output=output,
            atomic=options.atomic,
            taken=taken,
        ):
            return False
        self._before += pass_.rows
        self._kept_out.update({o.value: n for o, n in pass_.kept_out.items()})
        self._journal.note(kept_out=dict(self._kept_out))
        return True

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
        rows = counted(self._before + pass_.rows, "record")
        raise stopped(self._journal.campaign_id, f"after {rows}", pass_.stalled)

    def _lose_parts_that_went(self) -> None:
        """Files that were there when the campaign began, and are not any more."""
        there = {part.name for part in self._source.parts}
        for name, number in self._journal.part_names().items():
            if name not in there:
                rest = self._journal.open_entries(number, Step.APPLIED)
                self._journal.lose(Step.APPLIED, rest, GONE)

    def _counted(self, rows: int) -> None:
        counts = dict(self._tools.counts)
        self._watch.progress(Progress("counting", rows, self._plan.total, counts))
        if self._watch.stop():
            raise stopped(self._journal.campaign_id, "while counting; all is stored", None)
