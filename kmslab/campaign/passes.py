"""One pass over one part of a source: what happens to a chunk of records, in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kmslab.analysis.classify import Outcome, Target, Verdict
from kmslab.campaign.changes import change, plain_changes
from kmslab.campaign.comparing import Found, compared
from kmslab.campaign.entries import Matching, after
from kmslab.campaign.evidence import shown_by
from kmslab.campaign.journal import Entry, Failure, Journal, Span, Step, spans
from kmslab.campaign.judging import Judging
from kmslab.campaign.plan import NEVER_SENT
from kmslab.campaign.selection import EVERYTHING, Selection
from kmslab.campaign.sending import Answer, Sender
from kmslab.columns import column_of
from kmslab.errors import KmsError, Retryable, Unauthenticated
from kmslab.model import Record
from kmslab.providers.base import Providers
from kmslab.records.source import Change, Chunk, Edit, Place

RE_ENCRYPTED: Final = "re_encrypted"
UNCHANGED: Final = "unchanged"
FAILED: Final = "failed"
LOST: Final = "lost"

CHANGED_MEANWHILE: Final = "changed by somebody else meanwhile"
GONE: Final = "not there any more"
UNPROVEN: Final = "its new blob does not open to what the old one holds"


@dataclass(frozen=True, slots=True)
class Tools:
    """What every pass of a campaign works with. `counts` grows with each chunk.

    `calling` has the journal know of the calls that were made, with what is intended next; `pause`
    is that of a `Watch`.
    `trusting` ones open nothing: a remote's blobs would come here as plaintext.
    """

    journal: Journal
    judging: Judging
    sender: Sender
    providers: Providers
    target: Target
    selection: Selection
    fields: frozenset[str]
    counts: Counter[str]
    calling: Callable[[], None]
    pause: Callable[[], None]
    trusting: bool = False


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be stored of one chunk: the changes, and their numbers in the journal."""

    changes: Sequence[Change]
    numbers: Sequence[int]


class Pass:
    """One pass over one part.

    `rows` and `unchanged` count its records, and `kept_out` those among them that could not be
    sent, by outcome. `unsent` counts those whose turn did not come, since somebody asked to stop;
    `stalled` is what a provider answered for too long, or to whoever asks as we do.
    """

    def __init__(self, tools: Tools, part: int) -> None:
        self.rows = 0
        self.unchanged = 0
        self.kept_out: Counter[Outcome] = Counter()
        self.unsent = 0
        self.stalled: KmsError | None = None
        self._tools = tools
        self._part = part
        self._journal = tools.journal
        self._resumes = tools.journal.has_entries(part)
        self._matching = Matching(tools.journal, part)
        self._stored: list[Span] = []
        self._journal.begin_part(part)

    def take(self, chunk: Chunk, edit: Edit) -> None:
        """Re-encrypt what is to be re-encrypted of a chunk, and store it.

        The journal is on the disk before the source is touched.
        """
        self._tools.judging.look_again()
        known = self._known(chunk) if self._resumes else {}
        taken_up = self._taken_up(chunk, known) if known else []
        fresh, providers = self._re_encrypt(chunk, known.keys())
        self._tools.pause()
        self._tools.calling()
        work = _Work(fresh, self._journal.intend(self._part, fresh, providers))
        if taken_up:
            work = _Work(
                [change for change, _ in taken_up] + [*work.changes],
                [number for _, number in taken_up] + [*work.numbers],
            )
        self._tools.pause()
        self._settle(edit, work, edit.write(work.changes))

    def missing(self) -> list[int]:
        """What was intended by an earlier run and was never met: lost, once the part is stored."""
        if not self._resumes:
            return []
        met = {n for first, last in self._stored for n in range(first, last + 1)}
        open_ones = self._journal.open_entries(self._part, Step.APPLIED)
        return [number for number in open_ones if number not in met]

    def finish(self) -> None:
        """The part is stored: what was intended before and never met is lost."""
        rest = self.missing()
        self._journal.done(Step.APPLIED, self._stored)
        self._journal.lose(Step.APPLIED, rest, GONE)
        self._tools.counts[LOST] += len(rest)
        self._journal.finish_part(self._part, self.rows, self.unchanged)

    def _settle(self, edit: Edit, work: _Work, lost: Sequence[Place]) -> None:
        stored = work.numbers
        if lost:
            gone = set(lost)
            numbered = list(zip(work.numbers, work.changes, strict=True))
            stored = [n for n, c in numbered if c.place not in gone]
            lose = [n for n, c in numbered if c.place in gone]
            self._journal.lose(Step.APPLIED, lose, CHANGED_MEANWHILE)
        if edit.immediate:
            self._journal.done(Step.APPLIED, spans(stored))
        else:
            self._stored += spans(stored)
        self._tools.counts[RE_ENCRYPTED] += len(stored)
        self._tools.counts[LOST] += len(lost)

    # What is in the journal already

    def _known(self, chunk: Chunk) -> dict[int, Entry | None]:
        """The rows that the journal knows: with the entry that is still to be stored, or None.

        What holds its new blob is done. What holds the old one gets the new one that the journal
        has. What holds another is somebody else's now, and lost.
        """
        known: dict[int, Entry | None] = {}
        done: list[int] = []
        for match in self._matching.of(chunk):
            entry, blob = match.entry, match.record.ciphertext_blob
            known[match.row] = None
            if match.applied:
                # Stored by an earlier run; whatever is there now is somebody else's business.
                self._tools.counts[RE_ENCRYPTED] += 1
            elif blob == entry.change.new_blob:
                done.append(entry.number)
                self._tools.counts[RE_ENCRYPTED] += 1
            elif blob == entry.change.old_blob:
                known[match.row] = entry
            else:
                self._journal.lose(Step.APPLIED, [entry.number], CHANGED_MEANWHILE)
                self._tools.counts[LOST] += 1
        self._journal.done(Step.APPLIED, spans(done))
        return known

    def _taken_up(self, chunk: Chunk, known: dict[int, Entry | None]) -> list[tuple[Change, int]]:
        """What an earlier run has in the journal and is to be stored, each with its number.

        Only what opens to what was there: the key of a new blob may have been disabled or deleted
        since, and the old one stays then. Where no plaintext is to come here, it is not opened.
        """
        pending = [(row, entry) for row, entry in known.items() if entry is not None]
        old = [chunk.records[row] for row, _ in pending]
        new = [after(record, e.change) for record, (_, e) in zip(old, pending, strict=True)]
        taken_up = []
        found = [Found.SAME] * len(pending)
        if not self._tools.trusting:
            try:
                found = compared(self._tools.providers, old, new)
            except Unauthenticated as error:
                self.stalled = error
                return []
        for (_, entry), each in zip(pending, found, strict=True):
            if each is Found.SAME:
                taken_up.append((entry.change, entry.number))
            elif each is Found.NO_ANSWER:
                self.stalled = Retryable("what the journal has could not be opened now")
            else:
                self._journal.lose(Step.APPLIED, [entry.number], UNPROVEN)
                self._tools.counts[LOST] += 1
        return taken_up

    # What is new

    def _re_encrypt(
        self, chunk: Chunk, known: Collection[int]
    ) -> tuple[Sequence[Change], Sequence[str]]:
        """The changes of the rows that the journal does not know, and the providers before."""
        records, places = chunk.records, chunk.places
        if known:
            rows = [row for row in range(len(records)) if row not in known]
            records, places = [records[row] for row in rows], [places[row] for row in rows]
        self.rows += len(known)
        verdicts = self._tools.judging.verdicts(records)
        if self._tools.selection != EVERYTHING:
            chosen = self._tools.selection.rows(records, verdicts)
            records, places = [records[row] for row in chosen], [places[row] for row in chosen]
            verdicts = [verdicts[row] for row in chosen]
        self.rows += len(records)
        answers = self._tools.sender.send(records, verdicts)
        made = plain_changes(records, places, answers, self._tools.target)
        if made is not None:
            return made, column_of(records, "provider")
        return self._sorted(replace(chunk, records=records, places=places), verdicts, answers)

    def _sorted(
        self,
        chunk: Chunk,
        verdicts: Sequence[Verdict],
        answers: Sequence[Answer | None],
    ) -> tuple[list[Change], list[str]]:
        """The changes that answers make; the others are counted, what was refused is noted."""
        target, fields, nothing = self._tools.target, self._tools.fields, chunk.nothing
        changes: list[Change] = []
        providers: list[str] = []
        failures: list[tuple[Place, Failure]] = []
        shown: list[tuple[bytes, str | None]] = []
        unchanged = 0
        rows = zip(chunk.records, chunk.places, verdicts, answers, strict=True)
        for record, place, verdict, answer in rows:
            if answer is None:
                self.unsent += verdict.outcome.sent
                unchanged += not verdict.outcome.sent
                if verdict.outcome in NEVER_SENT:
                    self.kept_out[verdict.outcome] += 1
                continue
            if found := shown_by(record, verdict, answer, target):
                shown.append((found.digest, found.key_id))
            if answer.error is not None:
                failures.append((place, self._failure(record, answer, answer.error)))
            elif made := change(record, place, answer, target, fields, nothing):
                changes.append(made)
                providers.append(record.provider)
            else:
                unchanged += 1
        self._journal.fail(self._part, failures)
        self._journal.show(shown, at=self._tools.judging.looked_at)
        self.unchanged += unchanged
        self._tools.counts[UNCHANGED] += unchanged
        self._tools.counts[FAILED] += len(failures)
        return changes, providers

    def _failure(self, record: Record, answer: Answer, error: KmsError) -> Failure:
        if isinstance(error, Retryable | Unauthenticated):
            self.stalled = error
        return Failure(record.record_id, record.provider, answer.code, str(error), error.request_id)
