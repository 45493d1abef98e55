"""Re-encrypt the records of a DataFrame, into a new one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.classify import Outcome, Target, Verdict
from kmslab.analysis.frame_columns import TIME, category, times
from kmslab.analysis.inventory import as_recorded
from kmslab.analysis.verify import Verify
from kmslab.campaign.changes import change, plain_changes
from kmslab.campaign.judging import Judging
from kmslab.campaign.planning import fitting
from kmslab.campaign.sending import Answer, Sender
from kmslab.clock import Clock, SystemClock
from kmslab.errors import InvalidCiphertext
from kmslab.frames.columns import FrameRecords, likely_contexts, put_back
from kmslab.frames.planning import frame_source
from kmslab.model import TENCENT, Record
from kmslab.providers.base import Providers, placed
from kmslab.records.source import CHUNK_ROWS, Value

RESULTS: Final = ("re_encrypted", "unchanged", "failed", "left")
"""What became of a record; of one that is `left` the outcome says why it was not sent."""

_RE_ENCRYPTED, _UNCHANGED, _FAILED, _LEFT = range(4)
_OUTCOMES: Final = list(Outcome)


def re_encrypt_frame(
    frame: pd.DataFrame,
    providers: Providers,
    target: Target,
    *,
    verify: Verify,
    rates: Mapping[str, float],
    clock: Clock | None = None,
) -> pd.DataFrame:
    """A new frame with new blobs: see `KmsAccessor.re_encrypt`."""
    frame = as_recorded(frame)
    clock = clock or SystemClock()
    records = FrameRecords(frame, placed=placed(providers))
    before = _re_encrypted_at(frame)
    target = fitting(frame_source(records), target)
    sender = Sender(
        providers, target, verify=verify, rates=rates, clock=clock, jitter=random.random
    )
    judging = Judging(providers, target, sender, clock)
    made = _Made(records, target, likely_contexts(frame))
    for start in range(0, len(records), CHUNK_ROWS):
        judging.look_again()
        rows = records.records(start, min(start + CHUNK_ROWS, len(records)))
        verdicts = judging.verdicts(rows)
        made.take(start, rows, verdicts, sender.send(rows, verdicts))
    return made.frame(frame, before, clock)


def _re_encrypted_at(frame: pd.DataFrame) -> pd.Series[Any]:
    """When each record was re-encrypted before, as far as the frame tells."""
    if "re_encrypted_at" in frame.columns:
        return times(frame, "re_encrypted_at")
    return pd.Series(pd.NaT, index=frame.index, dtype=TIME)


class _Made:
    """The new columns in the making."""

    def __init__(self, records: FrameRecords, target: Target, likely: str | None) -> None:
        self._likely = likely
        self._fields = records.fields - {"record_id", "owner"}
        self._new: dict[str, dict[int, Value]] = {field: {} for field in self._fields}
        self._target = target
        self._result = np.full(len(records), _LEFT)
        self._outcome = np.zeros(len(records), np.int64)
        self._reason: list[str | None] = [None] * len(records)

    def take(
        self,
        start: int,
        records: Sequence[Record],
        verdicts: Sequence[Verdict],
        answers: Sequence[Answer | None],
    ) -> None:
        """The answers to a chunk that begins at row `start`."""
        stop = start + len(records)
        self._outcome[start:stop] = [_OUTCOMES.index(verdict.outcome) for verdict in verdicts]
        plain = plain_changes(records, range(start, stop), answers, self._target)
        if plain is not None:
            self._new["ciphertext_blob"].update(enumerate(plain.new_blobs, start))
            self._result[start:stop] = _RE_ENCRYPTED
            return
        for row, (record, verdict, answer) in enumerate(
            zip(records, verdicts, answers, strict=True), start
        ):
            if answer is None:
                self._reason[row] = verdict.reason or None
            else:
                self._take_one(row, record, answer)

    def _take_one(self, row: int, record: Record, answer: Answer) -> None:
        if answer.error is not None:
            self._result[row] = _FAILED
            self._reason[row] = f"{answer.code}: {answer.error}{self._context_hint(record, answer)}"
            return
        found = change(record, row, answer, self._target, self._fields)
        self._result[row] = _UNCHANGED if found is None else _RE_ENCRYPTED
        if found is not None:
            self._new["ciphertext_blob"][row] = found.new_blob
            for field, (_, new) in found.others.items():
                self._new[field][row] = new

    def _context_hint(self, record: Record, answer: Answer) -> str:
        """What of its context may be why a blob does not open; "" where that is not it."""
        if record.provider != TENCENT or not isinstance(answer.error, InvalidCiphertext):
            return ""
        if record.context:
            return " (under this encryption_context, of which every character counts)"
        if "context" in self._fields:
            return " (the record has no encryption_context)"
        likely = "" if self._likely is None else f"; is it {self._likely!r}?"
        return f" (there is no column 'encryption_context'{likely})"

    def frame(self, frame: pd.DataFrame, before: pd.Series[Any], clock: Clock) -> pd.DataFrame:
        """The new frame; what an inspection said of the old blobs is not in it."""
        return put_back(frame, self._new).assign(
            re_encrypted_at=before.mask(self._result == _RE_ENCRYPTED, pd.Timestamp(clock.now())),
            outcome=category([outcome.value for outcome in _OUTCOMES], self._outcome),
            result=category(RESULTS, self._result),
            reason=pd.array(self._reason, dtype="string"),
        )
