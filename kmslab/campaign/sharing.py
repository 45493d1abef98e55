"""A campaign that a crew of workers carries out: its tasks are handed out, and what each worker has
written is taken into the journal.

What a campaign is does not change by that: the same plan, the same journal in the end, the same
census.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from kmslab.analysis.classify import Target
from kmslab.campaign.checking import to_be_seen
from kmslab.campaign.counting import Counting, count_alone, source_after
from kmslab.campaign.crew import Alone, Crew, Workers
from kmslab.campaign.ground import Ground
from kmslab.campaign.journal import Journal
from kmslab.campaign.orders import Brief, Ending, Kind, Order, own_version
from kmslab.campaign.plan import Options, Plan
from kmslab.campaign.reopening import Reopening
from kmslab.campaign.shards import Shards
from kmslab.campaign.tally import Tally
from kmslab.campaign.tasks import Task, TaskList, divided
from kmslab.campaign.watching import Progress, Watch
from kmslab.campaign.wording import counted, stopped
from kmslab.campaign.working import Worker
from kmslab.database_url import is_url
from kmslab.errors import (
    CampaignError,
    CampaignInterrupted,
    KmsError,
    KmslabError,
    ShardDamaged,
    SourceBusy,
)
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec

_SQLITE: Final = "sqlite:"
_END_SECONDS: Final = 10.0
"""How long a run that ends waits for workers of whom it hears nothing any more."""


@dataclass(frozen=True, slots=True)
class CheckedCrew:
    """A crew that has been looked at, how its workers open what the campaign stands on, and the
    tasks that there are."""

    crew: Crew
    reopening: Reopening
    tasks: Sequence[Task]

    @classmethod
    def of_this_process(cls, ground: Ground, source: Source, journal: Journal) -> CheckedCrew:
        """This process alone, for a campaign that was begun with several."""
        return cls(Alone(Worker(ground)), Reopening(), _tasks_of(source, journal))

    @classmethod
    @contextmanager
    def of(
        cls,
        workers: Workers,
        ground: Ground,
        spec: SourceSpec,
        source: Source,
        journal: Journal | None,
        watch: Watch,
    ) -> Iterator[CheckedCrew]:
        """The crew of some workers, each of whom sees what the campaign sees; its `journal`, where
        there is one already.

        CampaignError names the first who does not, and says why: nothing has been begun then.
        """
        reopening = Reopening.of(ground)
        workers.check(reopening)
        tasks = _tasks_of(source, journal)
        # Finished ones too: the count goes over all of them, however little is left to change.
        enough = workers.enough(len(tasks))
        with enough.ready() as crew:
            if enough != workers:
                at_work = counted(crew.size, "worker is at work", "workers are at work")
                watch.said(f"{at_work}: the source is divided into {counted(len(tasks), 'task')}")
            if not crew.one_machine:
                refuse_sqlite(reopening, spec)
            shared = reopening.shared(
                ground.state, workers=crew.processes, one_machine=crew.one_machine
            )
            with to_be_seen(ground.state, source) as seen:
                order = Order(
                    Kind.CHECK,
                    own_version(),
                    shared,
                    str(ground.state.path.absolute()),
                    spec=spec,
                    seen=seen,
                )
                for name, ending in crew.everyone(order.as_text()):
                    found = Ending.from_text(ending)
                    if error := found.refused or found.error:
                        raise CampaignError(f"{name} cannot take part: {error}; nothing was begun")
            yield cls(crew, shared, tasks)


def _tasks_of(source: Source, journal: Journal | None) -> list[Task]:
    """The tasks of a campaign: those that its journal has, if there is one, and those of files that
    are new since."""
    if journal is None:
        return divided(source)
    known = TaskList(journal.database).all()
    but = {task.part for task in known} | journal.part_names().keys()
    return [*known, *divided(source, first=len(known) + 1, but=but)]


def refuse_sqlite(reopening: Reopening, spec: SourceSpec) -> None:
    """CampaignError for what several machines would share by SQLite, which loses data so."""
    if reopening.lab is not None and not is_url(reopening.lab):
        raise CampaignError(
            f"some of the workers are on other machines, and the lab {reopening.lab} is in SQLite, "
            "which cannot be shared over a network: have the lab in PostgreSQL (kmslab lab init "
            "postgresql://...), or all workers on this machine; nothing was begun"
        )
    if spec.table is not None and spec.location.startswith(_SQLITE):
        raise CampaignError(
            f"some of the workers are on other machines, and {spec.location} is in SQLite, which "
            "cannot be shared over a network: go on without workers, or with --workers; nothing "
            "was begun"
        )


class Sharing:
    """One run, or the rest of one, by a crew."""

    def __init__(
        self, ground: Ground, journal: Journal, source: Source, crew: CheckedCrew, watch: Watch
    ) -> None:
        self._ground = ground
        self._journal = journal
        self._source = source
        self._crew = crew
        self._watch = watch
        self._tasks = TaskList(journal.database)
        self._shards = Shards.of(ground.state, journal.campaign_id)
        self._planned: Sequence[Task] = []
        self._brief: Brief | None = None
        self._run = ""

    def settled(self) -> bool:
        """Whether the workers have ended, and the journal knows of all that they have done."""
        try:
            self._shards.end(self._journal, seconds=_END_SECONDS)
        except SourceBusy:
            return False
        return not self._shards.unsettled(self._journal)

    # Planning

    def reading(self, spec: SourceSpec) -> Callable[[Target, Options, Tally], Mapping[str, str]]:
        """Who reads the source for a plan."""

        def read(target: Target, options: Options, tally: Tally) -> Mapping[str, str]:
            self._planned = self._crew.tasks
            found: dict[int, Mapping[str, Any]] = {}
            fingerprints: dict[str, str] = {}
            self._begin(Brief(spec, target, options))
            progress = _HowFar(self._watch, "planning", None)
            try:
                for task, ending in self._done(Kind.PLAN, self._planned, progress):
                    if ending.found is None:
                        self._stop("while planning; nothing was changed", ending.error)
                    found[task.number] = ending.found["tally"]
                    fingerprints[task.part] = ending.found["fingerprint"]
            except BaseException:
                self._shards.revoke()
                raise
            for task in self._planned:  # in the order of the source
                tally.add(found[task.number])
            return {part.name: fingerprints[part.name] for part in self._source.parts}

        return read

    def keep_tasks(self) -> None:
        """Keep the tasks that the plan was made by; on the disk with what is told next."""
        self._tasks.add(self._planned)

    # Running

    def over_all_parts(self, plan: Plan) -> bool:
        """All tasks that are not finished; False where an atomic campaign has to leave its source
        as it is."""
        self._shards.settle(self._journal)
        self._divide()
        self._shards.reopen(self._journal)
        self._begin(Brief(plan.spec, plan.target, plan.options))
        progress = _HowFar(self._watch, "re-encrypting", plan.total)
        try:
            for task, ending in self._done(Kind.RUN, self._to_run(), progress):
                if ending.found is None:
                    rows = counted(progress.rows, "record")
                    self._stop(f"after {rows}", ending.error)
                if ending.found["spoilt"]:
                    self._shards.settle(self._journal)
                    return False
                self._shards.take(self._journal, task)
            for task in self._tasks.unknown():  # of files that are away, as far as they are done
                self._shards.take(self._journal, task)
        except BaseException as error:
            self._interrupted(error)
            raise
        return True

    def _divide(self) -> None:
        """Make the tasks that are not there yet: all, or those of files that are new."""
        known = {task.number for task in self._tasks.all()}
        if added := [task for task in self._crew.tasks if task.number not in known]:
            self._tasks.add(added)
        for task in self._tasks.all():
            self._journal.part(task.part)  # so that parts are in the source's order
        self._journal.note()

    def _to_run(self) -> Sequence[Task]:
        """The unfinished tasks of what is there. A file that is not may come back later."""
        there = {part.name for part in self._source.parts}
        return [task for task in self._tasks.unfinished() if task.part in there]

    def _interrupted(self, error: BaseException) -> None:
        """Have the journal know what was done, unless somebody wants to end at once."""
        self._shards.revoke()
        if not isinstance(error, KmslabError):
            return
        with suppress(SourceBusy, ShardDamaged):  # that is looked at when it is taken up
            self._shards.settle(self._journal, seconds=_END_SECONDS)

    def end(self) -> None:
        """The journal has everything: nothing is left of the workers."""
        self._shards.remove(self._journal)

    # Counting

    def after(self, plan: Plan) -> dict[str, Any]:
        """What is in the source now, read anew: outcomes and census."""
        progress = _HowFar(self._watch, "counting", plan.total)
        if self._journal.has_shown():
            # What answers have shown is in the journal, which no worker reads.
            return count_alone(
                self._ground,
                self._journal,
                plan,
                self._source,
                lambda rows: self._counted(progress, rows),
            )
        self._begin(Brief(plan.spec, plan.target, plan.options))
        counting = Counting(self._ground.providers, plan.target)
        for _, ending in self._done(Kind.COUNT, self._to_count(plan), progress):
            if ending.found is None:
                self._stop("while counting; all is stored", ending.error)
            counting.add(ending.found)
        return counting.as_dict()

    def _counted(self, progress: _HowFar, rows: int) -> None:
        progress("", {"rows": rows, "counts": {}})
        if self._watch.stop():
            self._stop("while counting; all is stored", None)

    def _to_count(self, plan: Plan) -> Sequence[Task]:
        """What there is now, divided as the tasks are."""
        source = source_after(self._ground, plan, self._source)
        ranges: dict[str, list[Task]] = {}
        for task in self._tasks.all():
            ranges.setdefault(task.part, []).append(task)
        whole = [ranges.get(part.name) or [Task(0, part.name)] for part in source.parts]
        return [
            replace(task, number=number)
            for number, task in enumerate((task for tasks in whole for task in tasks), 1)
        ]

    # Orders

    def _begin(self, brief: Brief) -> None:
        """Let the workers begin, unless they have begun with the same brief."""
        if brief != self._brief or not self._shards.permitted(self._run):
            rates = self._crew.reopening.share(brief.options.rates, self._crew.crew.size)
            self._run = self._shards.permit(brief.with_rates(rates).as_dict())
            self._brief = brief

    def _done(
        self, kind: Kind, tasks: Sequence[Task], progress: _HowFar
    ) -> Iterator[tuple[Task, Ending]]:
        """Have tasks carried out; what became of each that was begun, as it is known.

        What is wrong with one ends all, and is raised once they have ended. So does an ending
        that is none, which the last one is then.
        """
        named = {f"{self._journal.campaign_id}-{task.name}": task for task in tasks}
        orders = [(name, self._order(kind, task)) for name, task in named.items()]
        refused: KmslabError | None = None
        halted: list[tuple[Task, Ending]] = []
        ended: list[bool] = []

        def stop() -> bool:
            if not ended and (refused is not None or halted or self._watch.stop()):
                ended.append(True)
                self._shards.revoke()
            return bool(ended)

        with closing(self._crew.crew.do(orders, progress, stop)) as endings:
            for name, text in endings:
                task, ending = named[name], Ending.from_text(text)
                if isinstance(ending.refused, SourceBusy) and ended:
                    halted.append((task, Ending()))  # it waited for another, and was stopped
                elif ending.refused is not None:
                    refused = refused or _placed(ending.refused, task, self._journal.campaign_id)
                elif ending == Ending() and not ended and self._shards.permitted(self._run):
                    lost = CampaignInterrupted(
                        "a worker does not find the run in the state folder any more: is that "
                        "still there for all machines?"
                    )
                    refused = refused or _placed(lost, task, self._journal.campaign_id)
                elif ending.stopped:
                    halted.append((task, ending))
                else:
                    yield task, ending
        if refused is not None:
            raise refused
        if halted:
            yield max(halted, key=lambda each: each[1].error is not None)
        elif ended:
            yield tasks[0], Ending()

    def _order(self, kind: Kind, task: Task) -> str:
        return Order(
            kind,
            own_version(),
            self._crew.reopening,
            str(self._ground.state.path.absolute()),
            self._journal.campaign_id,
            self._run,
            task,
        ).as_text()

    def _stop(self, where: str, error: KmsError | None) -> NoReturn:
        raise stopped(self._journal.campaign_id, where, error)


class _HowFar:
    """Adds up how far the workers are."""

    def __init__(self, watch: Watch, doing: str, total: int | None) -> None:
        self._watch = watch
        self._doing = doing
        self._total = total
        self._counts: Counter[str] = Counter()
        self._each: dict[str, tuple[int, Mapping[str, int]]] = {}
        self.rows = 0
        """The records that were gone over."""

    def __call__(self, name: str, said: Mapping[str, Any]) -> None:
        if "waiting" in said:
            self._watch.waiting(said["waiting"])
            return
        before, counts_before = self._each.get(name, (0, {}))
        self._each[name] = said["rows"], said["counts"]
        self.rows += said["rows"] - before
        self._counts.update(said["counts"])
        self._counts.subtract(counts_before)
        self._watch.progress(Progress(self._doing, self.rows, self._total, dict(self._counts)))


def _placed(error: KmslabError, task: Task, campaign_id: str) -> KmslabError:
    """What is wrong with a task, as it is raised: with the task and the file, or table."""
    said = f"{error} (task {task.name} of campaign {campaign_id}: {task.part})"
    if isinstance(error, CampaignInterrupted):
        return CampaignInterrupted(said, campaign_id=campaign_id)
    placed = type(error)(said)
    if isinstance(error, KmsError) and isinstance(placed, KmsError):
        placed.request_id = error.request_id
    return placed
