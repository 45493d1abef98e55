"""Re-encrypt the records of a DataFrame, into a new one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.classify import Outcome, Target, Verdict
from kmslab.analysis.frame_columns import TIME, category
from kmslab.analysis.inventory import ADDED, as_recorded
from kmslab.analysis.verify import Verify
from kmslab.campaign.changes import change, plain_changes
from kmslab.campaign.judging import Judging
from kmslab.campaign.sending import Answer, Sender
from kmslab.clock import Clock, SystemClock
from kmslab.frames.columns import COLUMN_OF, FrameRecords, put_back
from kmslab.model import Record
from kmslab.providers.base import Providers
from kmslab.records.source import CHUNK_ROWS

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
    records = FrameRecords(frame)
    sender = Sender(
        providers, target, verify=verify, rates=rates, clock=clock, jitter=random.random
    )
    judging = Judging(providers, target, sender, clock)
    made = _Made(records, target)
    for start in range(0, len(records), CHUNK_ROWS):
        judging.look_again()
        rows = records.records(start, min(start + CHUNK_ROWS, len(records)))
        verdicts = judging.verdicts(rows)
        made.take(start, rows, verdicts, sender.send(rows, verdicts))
    return made.frame(frame, clock)


class _Made:
    """The new columns in the making."""

    def __init__(self, records: FrameRecords, target: Target) -> None:
        self._fields = records.fields - {"record_id", "owner"}
        self._columns = {field: list(records.columns[field]) for field in self._fields}
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
            self._columns["ciphertext_blob"][start:stop] = plain.new_blobs
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
            self._reason[row] = f"{answer.code}: {answer.error}"
            return
        found = change(record, row, answer, self._target, self._fields)
        self._result[row] = _UNCHANGED if found is None else _RE_ENCRYPTED
        if found is not None:
            self._columns["ciphertext_blob"][row] = found.new_blob
            for field, (_, new) in found.others.items():
                self._columns[field][row] = new

    def frame(self, frame: pd.DataFrame, clock: Clock) -> pd.DataFrame:
        """The new frame; what an inspection said of the old blobs is not in it."""
        own = set(COLUMN_OF.values())
        kept = frame.drop(columns=[name for name in ADDED if name in frame and name not in own])
        new = put_back(kept, self._columns)
        when = np.where(self._result == _RE_ENCRYPTED, 0, -1)
        at: Any = pd.Series([clock.now()], dtype=TIME).array.take(when, allow_fill=True)
        if "re_encrypted_at" in frame.columns:
            before = frame["re_encrypted_at"].astype(TIME)
            at = pd.Series(at, index=frame.index).fillna(before)
        return new.assign(
            re_encrypted_at=at,
            outcome=category([outcome.value for outcome in _OUTCOMES], self._outcome),
            result=category(RESULTS, self._result),
            reason=pd.array(self._reason, dtype="string"),
        )
