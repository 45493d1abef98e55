"""Undo a campaign: give every record that nobody has touched since its old blob back.

By the same swap, in the same passes, as the campaign itself; and only where the old blob still
opens to what the new one holds, unless somebody says by name that the old one opening is enough.
Killed anywhere, it is taken up by running it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from kmslab.campaign.comparing import Found, compared
from kmslab.campaign.entries import Match, Matching, before
from kmslab.campaign.journal import Journal, Span, Step, spans
from kmslab.campaign.passes import GONE
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.run import Ground, refuse_other_remotes, refuse_second
from kmslab.campaign.shards import Shards, settle_if_free
from kmslab.campaign.standing import undo_refused
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.campaign.wording import counted
from kmslab.errors import CampaignInterrupted, CampaignState, ShardDamaged, Unauthenticated
from kmslab.records.source import Chunk, Edit, Part, Source, alone
from kmslab.records.spec import SourceSpec

TOUCHED: Final = "changed by somebody else since"
UNPROVEN: Final = "the old blob does not open to what the new one holds"
NEW_CLOSED: Final = "the new blob does not open, and the old one does: --unproven restores it"
NO_ANSWER: Final = "a provider did not answer: undo again"
FORBIDDEN: Final = "the right to decrypt it, or its old blob, is missing: grant it, and undo again"
FILE_GONE: Final = "its file is not there any more"

_UNSETTLED: Final = frozenset({"running", "aborted"})
"""The states in which a source may hold what the journal was not told of."""

_REASONS: Final = {
    Found.OTHER: UNPROVEN,
    Found.OLD_CLOSED: UNPROVEN,
    Found.NEW_CLOSED: NEW_CLOSED,
    Found.FORBIDDEN: FORBIDDEN,
    Found.NO_ANSWER: NO_ANSWER,
}


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What an undo would do: so many records get their old blob back, and the others do not.

    `restorable` ones hold the campaign's blob; they are opened only when the undo is done.
    `already` ones have their old blob. `touched` names some of those that were changed since;
    `gone_count` are not there any more, or in a file of another name.
    """

    campaign: str
    source: str
    restorable: int
    already: int
    touched: tuple[str, ...]
    touched_count: int
    gone_count: int


def plan_undo(
    ground: Ground, campaign_id: str, *, listed: int = 1_000, watch: Watch = QUIET
) -> UndoPlan:
    """Read the source once, and say what an undo would do. Nothing is changed.

    CampaignInterrupted where `watch` says stop.
    """
    with suppress(ShardDamaged):  # the undo does without it, and says so
        settle_if_free(ground.state, campaign_id)
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        refuse_other_remotes(ground, campaign_id, facts)
        _refuse(journal, facts)
        source = ground.open_source(SourceSpec.from_dict(facts["spec"]))
        looked = _Looked(stored=facts["state"] not in _UNSETTLED, listed=listed)
        numbers, rows = journal.part_names(), 0
        for part in source.parts:
            if part.name not in numbers:
                continue
            matching = Matching(journal, numbers[part.name], stored=looked.stored)
            for chunk in part.read():
                for match in matching.of(chunk):
                    looked.take(match)
                rows += len(chunk.records)
                watch.told(Progress("looking", rows, None, {"to restore": looked.restorable}))
        _refuse_unchanged(journal, facts["state"], journal.count(Step.APPLIED) + looked.restorable)
        return UndoPlan(
            campaign_id,
            source.name,
            looked.restorable,
            looked.already,
            tuple(looked.touched),
            looked.touched_count,
            journal.count(Step.APPLIED) - looked.applied,
        )


@dataclass(slots=True)
class _Looked:
    """What a look at the source has found so far.

    Of one that ended on the way, what has its new blob counts too, whatever the journal has been
    told; with `stored` there is nothing of this kind.
    """

    stored: bool
    listed: int
    restorable: int = 0
    already: int = 0
    touched: list[str] = field(default_factory=list)
    touched_count: int = 0
    applied: int = 0

    def take(self, match: Match) -> None:
        self.applied += match.applied
        blob, change = match.record.ciphertext_blob, match.entry.change
        if blob == change.new_blob:
            self.restorable += 1
        elif not match.applied:
            return
        elif blob == change.old_blob:
            self.already += 1
        else:
            self.touched_count += 1
            if len(self.touched) < self.listed:
                self.touched.append(match.record.record_id)


def undo(
    ground: Ground, campaign_id: str, *, unproven: bool = False, watch: Watch = QUIET
) -> Report:
    """Give every record that nobody has touched since its old values back; the report names others.

    With `unproven` a record gets its old blob back also where that one opens and the new one does
    not, so that the two cannot be compared: its key is disabled or gone. The report counts these
    apart.

    Run again, it tries once more what was left. CampaignState where there is nothing to undo (the
    campaign has not begun, has changed nothing, or is closed), and where another campaign on the
    source is not finished. ShardDamaged where what a worker wrote cannot be read, once all else is
    undone. CampaignInterrupted where `watch` says stop, and where a provider
    refuses the credential; run it again to go on.
    """
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        # Who the campaign is at work on never changes; what else is known of it may, until here.
        with ground.state.lock(journal.facts()["source"]):
            shards = Shards.of(ground.state, campaign_id)
            damaged = _settled(shards, journal)
            facts = journal.facts()
            refuse_other_remotes(ground, campaign_id, facts)
            _refuse(journal, facts)
            refuse_second(ground.state, facts["source"], but=campaign_id)
            source = ground.open_source(SourceSpec.from_dict(facts["spec"]))
            with alone(source):
                if facts["state"] in _UNSETTLED or shards.there():
                    _settle(journal, source)
                    _refuse_unchanged(journal, facts["state"], journal.count(Step.APPLIED))
                journal.note(state="undoing")
                if damaged is None:
                    shards.remove(journal)
                journal.forget_lost(Step.UNDONE)
                _Undo(ground, journal, unproven, watch).over_all_parts(source)
                if damaged is not None:
                    raise _not_all(journal, damaged)
                journal.note(state="undone", undone_at=ground.clock.now().isoformat())
        return read_report(journal)


def _refuse(journal: Journal, facts: Mapping[str, Any]) -> None:
    refused = undo_refused(
        facts["state"], output=facts["options"]["output"], intended=journal.count_intended()
    )
    if refused:
        raise CampaignState(f"campaign {journal.campaign_id} {refused}; there is nothing to undo")


def _refuse_unchanged(journal: Journal, state: str, stored: int) -> None:
    """CampaignState for one that was aborted, where what it intended is not in the source."""
    if state == "aborted" and not stored:
        raise CampaignState(
            f"campaign {journal.campaign_id} is aborted, and its source is as it was; "
            "there is nothing to undo"
        )


def _settled(shards: Shards, journal: Journal) -> ShardDamaged | None:
    """Have the journal know of what workers did; what cannot be read of that."""
    try:
        shards.settle(journal)
    except ShardDamaged as error:
        return error
    return None


def _not_all(journal: Journal, damaged: ShardDamaged) -> ShardDamaged:
    records = counted(journal.count(Step.UNDONE), "record has", "records have")
    return ShardDamaged(
        f"{records} the old blob again, and others of campaign {journal.campaign_id} may not: "
        f"{damaged}, and undo it again; campaign close --abandon does without it"
    )


def _settle(journal: Journal, source: Source) -> None:
    """Find out what a campaign that ended on the way has stored: what holds its new blob."""
    for part in source.parts:
        matching = Matching(journal, journal.part(part.name))
        for chunk in part.read():
            numbers = [
                match.entry.number
                for match in matching.of(chunk)
                if not match.applied and match.record.ciphertext_blob == match.entry.change.new_blob
            ]
            journal.done(Step.APPLIED, spans(numbers))


class _Undo:
    """One undo over all parts of a source."""

    def __init__(self, ground: Ground, journal: Journal, unproven: bool, watch: Watch) -> None:
        self._ground = ground
        self._journal = journal
        self._unproven = unproven
        self._watch = watch
        self._rows = 0
        self._counts = {"restored": 0, "left": 0}
        self._restored: list[tuple[Step, list[Span]]] = []  # and the journal was not told

    def over_all_parts(self, source: Source) -> None:
        names = self._journal.part_names()
        for part in source.parts:
            if part.name in names:
                self._over(part, names[part.name])
        there = {part.name for part in source.parts}
        for name, number in names.items():
            if name not in there:
                self._journal.lose_rest(number, FILE_GONE)

    def _over(self, part: Part, number: int) -> None:
        matching = Matching(self._journal, number, stored=True)
        with part.edit() as edit:
            for chunk in edit:
                self._chunk(matching, chunk, edit)
                if edit.immediate:
                    self._tell_journal()
                self._tell(len(chunk.records))
            edit.finish()
        self._tell_journal()
        self._journal.lose_rest(number, GONE)

    def _chunk(self, matching: Matching, chunk: Chunk, edit: Edit) -> None:
        """Swap back what can be, and leave the others."""
        back: list[Match] = []
        restored: list[int] = []
        touched: list[int] = []
        for match in matching.of(chunk):
            blob, entry = match.record.ciphertext_blob, match.entry
            if blob == entry.change.new_blob:
                back.append(match)
            elif blob == entry.change.old_blob:
                restored.append(entry.number)
            else:
                touched.append(entry.number)
        self._watch.pause()
        proven, unproven = self._judged(back)
        self._watch.pause()
        swapped = [*proven, *unproven]
        lost = set(edit.write([match.entry.change.undone() for match in swapped]))
        touched += [m.entry.number for m in swapped if m.entry.change.place in lost]
        restored += [m.entry.number for m in swapped if m.entry.change.place not in lost]
        self._watch.pause()
        # What was undone before and is another blob now is somebody else's business.
        self._leave(self._fresh(Step.UNDONE, touched), TOUCHED)
        self._counts["restored"] += len(restored)
        without = [m.entry.number for m in unproven if m.entry.change.place not in lost]
        self._restored += [
            (Step.UNDONE, spans(self._fresh(Step.UNDONE, restored))),
            (Step.UNPROVEN, spans(self._fresh(Step.UNPROVEN, without))),
        ]

    def _judged(self, back: Sequence[Match]) -> tuple[list[Match], list[Match]]:
        """Those to be swapped back: proven ones, and others that may be; the rest is left."""
        old = [before(match.record, match.entry.change) for match in back]
        try:
            found = compared(self._ground.providers, old, [match.record for match in back])
        except Unauthenticated as error:
            raise CampaignInterrupted(
                f"{self._stopped()}, since a provider refuses the credential: {error}",
                campaign_id=self._journal.campaign_id,
                error=error,
            ) from error
        swapped: dict[Found, list[Match]] = {Found.SAME: [], Found.NEW_CLOSED: []}
        left: dict[str, list[int]] = {}
        for match, each in zip(back, found, strict=True):
            if each is Found.SAME or (each is Found.NEW_CLOSED and self._unproven):
                swapped[each].append(match)
            else:
                left.setdefault(_REASONS[each], []).append(match.entry.number)
        for reason, numbers in left.items():
            self._leave(numbers, reason)
        return swapped[Found.SAME], swapped[Found.NEW_CLOSED]

    def _fresh(self, step: Step, numbers: Sequence[int]) -> list[int]:
        """The entries for which a step was not done before."""
        if not numbers:
            return []
        done = self._journal.standing(step, min(numbers), max(numbers))
        return [number for number in numbers if number not in done]

    def _leave(self, numbers: Sequence[int], reason: str) -> None:
        if numbers:
            self._journal.lose(Step.UNDONE, numbers, reason)
            self._journal.take_back(Step.UNPROVEN, numbers)
            self._counts["left"] += len(numbers)

    def _tell_journal(self) -> None:
        """What is in the source now."""
        for step, restored in self._restored:
            self._journal.done(step, restored)
        self._restored.clear()

    def _tell(self, rows: int) -> None:
        self._rows += rows
        self._watch.progress(Progress("undoing", self._rows, None, dict(self._counts)))
        if self._watch.stop():
            raise CampaignInterrupted(self._stopped(), campaign_id=self._journal.campaign_id)

    def _stopped(self) -> str:
        records = counted(self._rows, "record")
        return f"the undo of campaign {self._journal.campaign_id} stopped after {records}"
