"""Undo a campaign: give every record that nobody has touched since its old blob back.

By the same swap, in the same passes, as the campaign itself; and only where the old blob still
opens to what the new one holds. Killed anywhere, it is taken up by running it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kmslab.campaign.entries import before, stored
from kmslab.campaign.journal import Entry, Journal, Step, spans
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.run import Ground
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.errors import CampaignInterrupted, CampaignState
from kmslab.model import Record
from kmslab.providers.transfer import same_plaintext_many
from kmslab.records.source import Chunk, Edit, Part, Source
from kmslab.records.spec import SourceSpec

TOUCHED: Final = "changed by somebody else since"
UNPROVEN: Final = "the old blob does not open to what the new one holds"
GONE: Final = "not there any more"

_UNDOABLE: Final = frozenset({"running", "finished", "undoing", "undone"})


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What an undo would do: so many records get their old blob back, and the others do not.

    `touched` and `gone` name some of those that were changed or removed since; `already` have
    their old blob.
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
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        _refuse(campaign_id, facts["state"], facts["options"]["output"])
        source = ground.open_source(SourceSpec.from_dict(facts["spec"]))
        rows = restorable = already = touched_count = 0
        touched: list[str] = []
        for part in source.parts:
            number = journal.part_names().get(part.name)
            for chunk in part.read() if number is not None else ():
                for record, entry in stored(journal, number or 0, chunk):
                    if record.ciphertext_blob == entry.change.new_blob:
                        restorable += 1
                    elif record.ciphertext_blob == entry.change.old_blob:
                        already += 1
                    else:
                        touched_count += 1
                        touched += [record.record_id] if len(touched) < listed else []
                rows += len(chunk.records)
                watch.told(Progress("looking", rows, None, {"to restore": restorable}))
        applied = journal.count(Step.APPLIED)
        gone = applied - restorable - already - touched_count
        return UndoPlan(
            campaign_id,
            source.name,
            restorable,
            already,
            tuple(touched),
            touched_count,
            max(0, gone),
        )


def undo(ground: Ground, campaign_id: str, *, watch: Watch = QUIET) -> Report:
    """Give every record that nobody has touched since its old values back; the report names others.

    Run again, it tries once more what was left. CampaignState where there is nothing to undo: the
    campaign has not begun, was aborted or closed. CampaignInterrupted where `watch` says stop; run
    it again to go on.
    """
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        facts = journal.facts()
        _refuse(campaign_id, facts["state"], facts["options"]["output"])
        source = ground.open_source(SourceSpec.from_dict(facts["spec"]))
        with ground.state.lock(source.name):
            if facts["state"] == "running":
                _settle(journal, source)
            journal.note(state="undoing")
            journal.forget_lost(Step.UNDONE)
            _Undo(ground, journal, watch).over_all_parts(source)
            journal.note(state="undone", undone_at=ground.clock.now().isoformat())
        return read_report(journal)


def _refuse(campaign_id: str, state: str, output: str | None) -> None:
    if output is not None:
        raise CampaignState(
            f"campaign {campaign_id} wrote a copy to {output} and left its source as it was; "
            "there is nothing to undo"
        )
    if state not in _UNDOABLE:
        raise CampaignState(f"campaign {campaign_id} is {state}; there is nothing to undo")


def _settle(journal: Journal, source: Source) -> None:
    """Find out what an interrupted campaign has stored: what holds its new blob."""
    for part in source.parts:
        number = journal.part(part.name)
        for chunk in part.read():
            found = journal.find(number, [record.record_id for record in chunk.records])
            numbers = [
                entry.number
                for record in chunk.records
                for entry in found.get(record.record_id, ())
                if entry.change.new_blob == record.ciphertext_blob
            ]
            if numbers:
                known = journal.standing(Step.APPLIED, min(numbers), max(numbers))
                journal.done(Step.APPLIED, spans([n for n in numbers if n not in known]))


class _Undo:
    """One undo over all parts of a source."""

    def __init__(self, ground: Ground, journal: Journal, watch: Watch) -> None:
        self._ground = ground
        self._journal = journal
        self._watch = watch
        self._rows = 0
        self._counts = {"restored": 0, "left": 0}

    def over_all_parts(self, source: Source) -> None:
        names = self._journal.part_names()
        for part in source.parts:
            if part.name in names:
                self._over(part, names[part.name])
        there = {part.name for part in source.parts}
        for name, number in names.items():
            if name not in there:
                self._lose_rest(number)

    def _over(self, part: Part, number: int) -> None:
        stored: list[int] = []
        with part.edit() as edit:
            for chunk in edit:
                restored = self._chunk(number, chunk, edit)
                if edit.immediate:
                    self._journal.done(Step.UNDONE, spans(restored))
                else:
                    stored += restored
                self._tell(len(chunk.records))
            edit.finish()
        self._journal.done(Step.UNDONE, spans(stored))
        self._lose_rest(number)

    def _chunk(self, number: int, chunk: Chunk, edit: Edit) -> list[int]:
        """Swap what can be swapped back; the entries whose records have their old blob now."""
        entries = stored(self._journal, number, chunk)
        back: list[tuple[Record, Entry]] = []
        restored: list[int] = []
        for record, entry in entries:
            if record.ciphertext_blob == entry.change.new_blob:
                back.append((record, entry))
            elif record.ciphertext_blob == entry.change.old_blob:
                restored.append(entry.number)
            else:
                self._leave([entry.number], TOUCHED)
        proven = self._proven(back)
        lost = set(edit.write([entry.change.undone() for entry in proven]))
        self._leave([entry.number for entry in proven if entry.change.place in lost], TOUCHED)
        restored += [entry.number for entry in proven if entry.change.place not in lost]
        known = set()
        if restored:
            known = self._journal.standing(Step.UNDONE, min(restored), max(restored))
        self._counts["restored"] += len(restored)
        return [each for each in restored if each not in known]

    def _proven(self, back: Sequence[tuple[Record, Entry]]) -> list[Entry]:
        """The entries whose old blob opens to what the new one holds; the others are left."""
        if not back:
            return []
        old = [before(record, entry.change) for record, entry in back]
        new = [record for record, _ in back]
        same = same_plaintext_many(self._ground.providers, old, new)
        self._leave(
            [e.number for (_, e), is_same in zip(back, same, strict=True) if not is_same], UNPROVEN
        )
        return [entry for (_, entry), is_same in zip(back, same, strict=True) if is_same]

    def _leave(self, numbers: Sequence[int], reason: str) -> None:
        if numbers:
            self._journal.lose(Step.UNDONE, numbers, reason)
            self._counts["left"] += len(numbers)

    def _lose_rest(self, number: int) -> None:
        """Entries that were stored, and whose records are not there any more."""
        self._leave(self._journal.applied_but_not_undone(number), GONE)

    def _tell(self, rows: int) -> None:
        self._rows += rows
        self._watch.progress(Progress("undoing", self._rows, None, dict(self._counts)))
        if self._watch.stop():
            campaign_id = self._journal.campaign_id
            raise CampaignInterrupted(
                f"the undo of campaign {campaign_id} stopped after {self._rows:,} records",
                campaign_id=campaign_id,
            )
