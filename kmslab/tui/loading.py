"""Reading a source into a table, and judging it: what a thread does while the grid is at work.

Other threads wait for this one whenever it runs: after each block it gives way, and it tells of its
progress every 50 ms at most.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from kmslab.errors import KmslabError, SourceError
from kmslab.model import Key
from kmslab.providers.base import Providers
from kmslab.records.opening import open_source
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec
from kmslab.tui.judging import Judge
from kmslab.tui.stopping import Stop, Stopped
from kmslab.tui.table import Block, Shared, Table, kinds_of, pack

TOLD_EVERY: Final = 0.05
"""Seconds between two tellings of progress."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to read, and who is asked about it.

    `keys` gives every key there is, deleted ones too where they are known. `password` is that of a
    database URL. `placed` records tell their region and account.
    """

    spec: SourceSpec
    providers: Providers
    keys: Callable[[], Iterable[Key]]
    password: str | None = None
    placed: bool = False

    def open(self, *, described: bool) -> Source:
        """The source; `described` with owners and times."""
        return open_source(
            self.spec,
            password=self.password,
            described=described,
            placed=self.placed,
        )


@dataclass(frozen=True, slots=True)
class Grown:
    """Blocks that are to be appended to a table: a new one where reading began anew.

    `rows` is how many there are with these.
    """

    table: Table
    blocks: tuple[Block, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How reading or judging ended.

    `error` is what ended it before its time, and the table has what was read until then; an error
    that is no KmslabError is a fault of the program. `stopped` says that it was asked to. `notes`
    are sentences for whoever looks at the table.
    """

    rows: int
    seconds: float
    notes: tuple[str, ...] = ()
    error: Exception | None = None
    stopped: bool = False


Tell = Callable[[Grown], None]


def read(job: Job, tell: Tell, stop: Stop) -> Ended:
    """Read and judge a source, and tell of its blocks as they come; raises nothing.

    Where owners and times cannot be read (one that is malformed is enough), the source is read
    anew without them, and a note says so.
    """
    begun = time.perf_counter()
    pace = _Pace(tell)
    notes: list[str] = []
    error: Exception | None = None
    try:
        try:
            _read(job, pace, notes, stop, described=True)
        except SourceError as fault:
            _read(job, pace, notes, stop, described=False)
            notes.append(f"owners and ages are not shown: {fault}")
    except Exception as fault:  # what ends a thread must reach the screen, whatever it is
        error = fault
    pace.tell_rest()
    seconds = time.perf_counter() - begun
    return Ended(pace.rows, seconds, tuple(notes), error, stopped=stop())


def judge_again(table: Table, job: Job, stop: Stop) -> Table | Ended:
    """The same records judged as keys are now, nothing read again; raises nothing.

    An `Ended` in place of a table says why there is none.
    """
    begun = time.perf_counter()
    try:
        return _judged(table, job, stop)
    except Stopped:
        return Ended(0, time.perf_counter() - begun, stopped=True)
    except Exception as fault:  # as in `read`
        return Ended(0, time.perf_counter() - begun, error=fault)


class _Pace:
    """Tells of blocks, not too often."""

    def __init__(self, tell: Tell) -> None:
        self.rows = 0
        self._tell = tell
        self._table = Table()
        self._blocks: list[Block] = []
        self._told_at = 0.0

    def begin(self, table: Table) -> None:
        """The blocks that come are of this table; those before are of no use any more."""
        self._table, self._blocks, self.rows = table, [], 0
        self._tell(Grown(table, (), 0))

    def add(self, block: Block) -> None:
        """A block that has come."""
        self._blocks.append(block)
        self.rows += len(block)
        if time.monotonic() - self._told_at >= TOLD_EVERY:
            self.tell_rest()

    def tell_rest(self) -> None:
        """Tell of what has not been told yet."""
        if self._blocks:
            self._tell(Grown(self._table, tuple(self._blocks), self.rows))
            self._blocks = []
            self._told_at = time.monotonic()


def _read(job: Job, pace: _Pace, notes: list[str], stop: Stop, *, described: bool) -> None:
    source = job.open(described=described)
    judge, keys = Judge(job.providers), _keys(job, notes)
    table = Table(Shared(), keys)
    pace.begin(table)
    for block in _blocks(source, judge, table.shared, stop):
        pace.add(block)
        time.sleep(0)  # whoever waits for this thread goes first
        if stop():
            break
    for name, error in judge.failures.items():
        notes.append(f"{name} does not answer (F5 asks again): {error}")


def _blocks(source: Source, judge: Judge, shared: Shared, stop: Stop) -> Iterator[Block]:
    """The blocks as they come. `stop` is asked after each step, since it may rest there."""
    for part in source.parts:
        for chunk in part.read():
            if stop():
                return
            if chunk.records:
                verdicts = judge.verdicts(chunk.records)
                if stop():
                    return
                yield pack(chunk.records, verdicts, shared)


def _judged(table: Table, job: Job, stop: Stop) -> Table:
    judge = Judge(job.providers)
    shared = Shared(owners=table.shared.owners, named=table.shared.named)
    found = Table(shared, _keys(job, []))
    for block in table.blocks:
        records = block.records(table.shared)
        kinds = kinds_of(records.column("provider"), judge.verdicts(records), shared)
        found.append(replace(block, kinds=kinds, counts=Counter(kinds)))
        time.sleep(0)
        if stop():
            raise Stopped
    return found


def _keys(job: Job, notes: list[str]) -> dict[str, Key]:
    try:
        return {key.key_id: key for key in job.keys()}
    except KmslabError as error:
        notes.append(f"keys are shown by their ids: {error}")
        return {}
