"""The plan of what an interrupted campaign has left to do, judged with the keys as they are now.

Resuming judges anew too: where a key was rotated since, more records are re-encrypted than the
plan said that was agreed to. Whoever resumes should see that before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from kmslab.campaign.entries import Matching
from kmslab.campaign.journal import Journal
from kmslab.campaign.plan import Options, Plan, target_from_dict
from kmslab.campaign.planning import check_current, make_plan
from kmslab.campaign.run import Ground, refuse_other_remotes
from kmslab.campaign.shards import settle_if_free
from kmslab.campaign.standing import RESUMABLE
from kmslab.campaign.tasks import TaskList
from kmslab.campaign.watching import QUIET, Watch
from kmslab.errors import CampaignState
from kmslab.records.source import Chunk, Edit, Part, Source
from kmslab.records.spec import SourceSpec


def plan_rest(ground: Ground, campaign_id: str, *, watch: Watch = QUIET) -> Plan:
    """Read what is left of a campaign's source once, and say what resuming would do with it.

    Nothing is changed. Records that the campaign is done with are not counted, and neither are
    those that somebody else has changed since. CampaignState where it cannot be resumed, or was
    run on other remotes; CampaignInterrupted where `watch` says stop.
    """
    settle_if_free(ground.state, campaign_id)
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        refuse_other_remotes(ground, campaign_id, facts)
        if facts["state"] not in RESUMABLE:
            raise CampaignState(
                f"campaign {campaign_id} is {facts['state']}; nothing is to be continued"
            )
        return make_plan(
            _rest(ground, journal),
            SourceSpec.from_dict(facts["spec"]),
            ground.providers,
            target_from_dict(facts["target"]),
            clock=ground.clock,
            options=Options.from_dict(facts["options"]),
            watch=watch,
        )


def check_rest(ground: Ground, campaign_id: str, plan: Plan) -> None:
    """PlanOutdated where keys or source are not what they were when `plan_rest` made the plan."""
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        check_current(plan, _rest(ground, journal), ground.providers)


def _rest(ground: Ground, journal: Journal) -> Source:
    source = ground.open_source(SourceSpec.from_dict(journal.facts()["spec"]))
    finished, begun = journal.finished_parts(), journal.part_names()
    tasks = TaskList(journal.database)
    divided = {task.part for task in tasks.all()}
    parts: list[Part] = []
    for part in source.parts:
        if part.name in finished:
            continue
        rest = [part]
        if part.name in divided:  # what a worker has finished with is not gone over again
            rest = [task.within(part) for task in tasks.unfinished() if task.part == part.name]
        if part.name in begun:
            parts += [_RestOfPart(each, journal, begun[part.name]) for each in rest]
        else:
            parts += rest
    return _RestOfSource(source.name, source.fields, tuple(parts), source.blob_capacity)


@dataclass(frozen=True, slots=True)
class _RestOfSource:
    """A source without the parts, and the tasks, that are finished."""

    name: str
    fields: frozenset[str]
    parts: Sequence[Part]
    blob_capacity: int | None


@dataclass(frozen=True, slots=True)
class _RestOfPart:
    """A part without the records that a campaign is done with; `number` is its own in the journal.

    What the journal has a new blob for, and the part not yet, is still to be stored.
    """

    part: Part
    journal: Journal
    number: int

    @property
    def name(self) -> str:
        return self.part.name

    def fingerprint(self) -> str:
        return self.part.fingerprint()

    def read(self) -> Iterator[Chunk]:
        matching = Matching(self.journal, self.number)
        for chunk in self.part.read():
            done = {
                match.row
                for match in matching.of(chunk)
                if match.applied or match.record.ciphertext_blob != match.entry.change.old_blob
            }
            if not done:
                yield chunk
                continue
            rows = [row for row in range(len(chunk.records)) if row not in done]
            records, places = chunk.records, chunk.places
            yield replace(
                chunk,
                records=[records[row] for row in rows],
                places=[places[row] for row in rows],
            )

    def edit(
        self, *, output: Path | None = None, atomic: bool = False
    ) -> AbstractContextManager[Edit]:
        return self.part.edit(output=output, atomic=atomic)
