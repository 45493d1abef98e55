"""What stands between a campaign and the Kms: which call for which record, how fast, how often.

Only blobs and ids come this far. A plaintext is seen by the providers, and between two of them by
`transfer_many` and what paces its calls; no answer holds one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat, zip_longest

from kmslab.analysis import Drop, Target, Verdict
from kmslab.analysis import Verify as Verify
from kmslab.analysis.census import by_identity
from kmslab.campaign.answers import Answer as Answer
from kmslab.campaign.answers import NewBlobs as NewBlobs
from kmslab.campaign.answers import Reader, refused
from kmslab.campaign.pacing import REMOTE_IN_FLIGHT, Pace, Stop, never
from kmslab.campaign.pairs import RECENT_PAIRS as RECENT_PAIRS
from kmslab.campaign.pairs import Distinct as Distinct
from kmslab.campaign.pairs import Pairs, Recent
from kmslab.campaign.retrying import Caller, NotSent
from kmslab.campaign.retrying import Patience as Patience
from kmslab.clock import Clock
from kmslab.columns import column_of
from kmslab.context import Context, context_text
from kmslab.model import Record
from kmslab.providers.base import Keep, Providers, ReEncrypted, own_rates
from kmslab.providers.transfer import transfer_many, unequal_many
from kmslab.rate import OWN_WINDOWS, Windows


class _Slot:
    """The place of one pair's answer, which all equal records share; None before there is one.

    `turn` is the `send` that it was last to be sent in.
    """

    __slots__ = ("answer", "turn")

    def __init__(self, turn: int, answer: Answer | None = None) -> None:
        self.answer = answer
        self.turn = turn


class _Sent:
    """A whole `send` whose records were all new; `answers` is None before there are any."""

    __slots__ = ("_pairs", "_rows", "answers", "turn")

    def __init__(self, turn: int, pairs: Sequence[Hashable]) -> None:
        self.answers: Sequence[Answer | None] | None = None
        self.turn = turn
        self._pairs = pairs
        self._rows: dict[Hashable, int] | None = None

    def slot(self, pair: Hashable) -> _Slot:
        """The place of a pair's answer."""
        if self._rows is None:
            self._rows = {pair: row for row, pair in enumerate(self._pairs)}
        row = self._rows[pair]
        return _Slot(self.turn, None if self.answers is None else self.answers[row])


_Row = tuple[Record, Verdict, _Slot]
_Place = _Slot | _Sent


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that go to one provider in one batch; `first` is the number of the first, counted over
    all that it was sent."""

    provider: str
    first: int
    rows: list[_Row]


class Sender:
    """Sends records to their providers, and has one answer for each.

    Records of the target's provider, and those that stay, are re-encrypted where they are; the
    others are decrypted there and encrypted here. Equal ones are sent once, as long as they are
    `remembered`. `rates` are in calls a second by provider: one that is not named has the rate
    that its Kms keeps by itself, and a lab is not held back. They are kept in `windows`, by the
    name of the provider: several senders share them where these are `Leases`. Without a number for
    `in_flight` a remote has several batches, and a lab one. What fails for a while is tried again
    with `patience`, waiting a random part (`jitter`, 0 to 1) of a growing time.

    `in_flight` batches of each provider are under way at once, in threads: a cloud that takes
    longer to answer than the rate leaves between two calls needs more than one.

    `stop` is asked before each batch and all the time while waiting. Once it says so nothing more
    is begun, and what has been answered is kept. What goes out in several batches, since a rate
    holds it back, is told of batch by batch: `told` gets the records of each. `waiting` gets
    what is waited for where a provider does not answer, and "" when it does again.

    ContextError where the target's context is none.
    """

    def __init__(
        self,
        providers: Providers,
        target: Target,
        *,
        verify: Verify,
        rates: Mapping[str, float],
        clock: Clock,
        jitter: Callable[[], float],
        patience: Patience | None = None,
        stop: Stop = never,
        waiting: Callable[[str], None] = lambda text: None,
        told: Callable[[int], object] = lambda records: None,
        remembered: int = RECENT_PAIRS,
        in_flight: int | None = None,
        windows: Windows = OWN_WINDOWS,
    ) -> None:
        self._target = target
        if not isinstance(target.context, Keep | Drop):
            self._target = replace(target, context=context_text(target.context))
        self._verify = verify
        self._stop = stop
        self._told = told
        usual = REMOTE_IN_FLIGHT if own_rates(providers) else 1
        self._in_flight = usual if in_flight is None else in_flight
        self._reader = Reader(self._target)
        self._remembered = remembered
        self._pairs = Pairs()
        self._recent: Recent[_Place] = Recent(remembered)
        self._turn = 0
        self._numbers: Counter[str] = Counter()
        self._callers = {
            name: Caller(
                providers.kms(name),
                Pace(
                    rates.get(name, providers.kms(name).capabilities.rate),
                    clock,
                    windows=windows,
                    name=name,
                ),
                patience=patience or Patience(),
                clock=clock,
                jitter=jitter,
                stop=stop,
                waiting=waiting,
            )
            for name in providers.providers()
        }

    @property
    def calls(self) -> Mapping[str, int]:
        """The calls made so far, by provider: one for each row and attempt."""
        return {name: sum(caller.calls.values()) for name, caller in self._callers.items()}

    @property
    def calls_by_action(self) -> Mapping[str, Mapping[str, int]]:
        """The calls made so far, by provider and action. Providers without calls are left out."""
        made = {name: caller.calls for name, caller in self._callers.items()}
        return {name: calls for name, calls in made.items() if calls}

    def forget(self) -> None:
        """Forget what was answered: a key has changed, and may answer otherwise now."""
        self._reader = Reader(self._target)
        self._recent = Recent(self._remembered)

    def send(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> Sequence[Answer | None]:
        """The answers, row for row.

        None for a record that is not to be sent (`Outcome.sent`), and for one that was not, or not
        to the end, since `stop` came: it may be sent again.
        """
        self._turn += 1
        answers = self._send_at_once(records, verdicts)
        return self._send_by_row(records, verdicts) if answers is None else answers

    def _send_at_once(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> Sequence[Answer | None] | None:
        """`send` for records of one provider that are all to be sent, and all new, in one batch.

        None, and nothing was done, where they are not.
        """
        if not records or not _all_sent(verdicts) or self._verify.every > 1:
            return None
        providers = column_of(records, "provider")
        provider = providers[0]
        if providers.count(provider) < len(records) or len(records) > self._most(provider):
            return None
        pairs = self._pairs.of_many(records)
        if not self._recent.all_new(pairs):
            return None
        sent = _Sent(self._turn, pairs)
        self._recent.put_all(pairs, repeat(sent, len(pairs)))
        self._numbers[provider] += len(records)
        if self._stop():
            return [None] * len(records)
        sent.answers = self._answers(provider, records, verdicts, opened=self._verify.opens(0))
        return sent.answers

    def _send_by_row(
        self, records: Sequence[Record], verdicts: Sequence[Verdict]
    ) -> list[Answer | None]:
        slots: list[_Slot | None] = [None] * len(records)
        batches: dict[str, list[_Row]] = {}
        for row, (record, verdict) in enumerate(zip(records, verdicts, strict=True)):
            if verdict.outcome.sent:
                slots[row] = self._slot(record, verdict, batches)
        self._send(batches)
        return [None if slot is None else slot.answer for slot in slots]

    def _slot(self, record: Record, verdict: Verdict, batches: dict[str, list[_Row]]) -> _Slot:
        """The place of a record's answer; the record joins a batch where it is to be asked for."""
        slot = self._known(self._pairs.of(record))
        if slot.turn != self._turn and slot.answer is None:
            slot.turn = self._turn
            batches.setdefault(record.provider, []).append((record, verdict, slot))
        return slot

    def _known(self, pair: Hashable) -> _Slot:
        """The place of a pair's answer; a new one, of no turn, where it is not remembered."""
        place = self._recent.get(pair)
        if isinstance(place, _Slot):
            return place
        if place is None:
            slot = _Slot(0)
            self._recent.put(pair, slot)
        else:
            slot = place.slot(pair)
            self._recent.change(pair, slot)
        return slot

    def _send(self, batches: Mapping[str, list[_Row]]) -> None:
        """Send what goes to each provider, as much at a time as its pace allows."""
        in_parts = [self._parts(provider, batch) for provider, batch in batches.items()]
        # By turns: while one provider is waited for, what the other allows is not lost.
        parts = [part for turn in zip_longest(*in_parts) for part in turn if part is not None]
        told = self._told if len(parts) > len(in_parts) else lambda records: None
        if self._in_flight == 1 or len(parts) == 1:
            for part in parts:
                told(self._send_part(part))
            return
        with ThreadPoolExecutor(self._in_flight * len(in_parts), "kmslab-send") as pool:
            for records in pool.map(self._send_part, parts):
                told(records)

    def _parts(self, provider: str, batch: list[_Row]) -> list[_Part]:
        most, first = self._most(provider), self._numbers[provider]
        self._numbers[provider] += len(batch)
        starts = range(0, len(batch), most)
        return [_Part(provider, first + at, batch[at : at + most]) for at in starts]

    def _send_part(self, part: _Part) -> int:
        # A part goes all the way, so that to stop wastes no more than what is under way.
        for opened in (True, False):
            rows = self._chosen(part, opened=opened)
            if rows and not self._stop():
                self._ask(part.provider, rows, opened=opened)
        return len(part.rows)

    def _chosen(self, part: _Part, *, opened: bool) -> list[_Row]:
        """The rows whose new blobs are opened, or those whose are not."""
        if self._verify.every <= 1:
            return part.rows if opened is self._verify.opens(0) else []
        return [r for n, r in enumerate(part.rows, part.first) if self._verify.opens(n) is opened]

    def _ask(self, provider: str, rows: list[_Row], *, opened: bool) -> None:
        records = [record for record, _, _ in rows]
        verdicts = [verdict for _, verdict, _ in rows]
        answers = self._answers(provider, records, verdicts, opened=opened)
        for (_, _, slot), answer in zip(rows, answers, strict=True):
            slot.answer = answer

    def _answers(
        self, provider: str, records: Sequence[Record], verdicts: Sequence[Verdict], *, opened: bool
    ) -> Sequence[Answer | None]:
        source, destination = self._way(provider)
        inside = source is not destination or source.capabilities.authenticate
        done = self._asked(records, source, destination, verify=opened and inside)
        read = self._reader.read_many(records, verdicts, done)
        if isinstance(read, NewBlobs):
            return read
        answers: list[Answer | None] = [
            None if isinstance(error, NotSent) else answer
            for error, answer in zip(done.error, read, strict=True)
        ]
        if opened and not inside:
            self._open(records, answers, source)
        return answers

    def _way(self, provider: str) -> tuple[Caller, Caller]:
        """Who is asked about records of a provider: where they are, and where they go."""
        return self._callers[provider], self._callers[self._target.provider_for(provider)]

    def _most(self, provider: str) -> int:
        return min(caller.most for caller in self._way(provider))

    def _asked(
        self, records: Sequence[Record], source: Caller, destination: Caller, *, verify: bool
    ) -> ReEncrypted:
        key_id, context = self._target.key_id, self._target.context
        after: Context | Keep = None if isinstance(context, Drop) else context
        if source is destination or key_id is None:
            return source.re_encrypt_records(
                records, destination_key_id=key_id, destination_context=after, verify=verify
            )
        return transfer_many(
            source,
            destination,
            records,
            destination_key_id=key_id,
            destination_context=after,
            verify=verify,
        )

    def _open(
        self, records: Sequence[Record], answers: list[Answer | None], caller: Caller
    ) -> None:
        """Open new blobs and compare, for a Kms that does not in the call itself."""
        rows = [row for row, a in enumerate(answers) if a is not None and a.re_encrypted]
        old = [records[row] for row in rows]
        new = [self._new(records[row], answers[row]) for row in rows]
        for row, error in zip(rows, unequal_many(caller, caller, old, new), strict=True):
            answer = answers[row]
            if answer is None or isinstance(error, NotSent):
                answers[row] = None
            elif error is None:
                answers[row] = replace(answer, verified=True)
            else:
                answers[row] = refused(caller.provider, error)

    def _new(self, record: Record, answer: Answer | None) -> Record:
        """The record that would be stored, as far as it takes to open it."""
        context = self._target.context
        if isinstance(context, Keep):
            text = record.context
        else:
            text = None if isinstance(context, Drop) else context_text(context)
        blob = "" if answer is None else answer.ciphertext_blob or ""
        return Record(record.record_id, record.provider, blob, context=text)


def _all_sent(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.outcome.sent for verdict in by_identity(verdicts).values())
