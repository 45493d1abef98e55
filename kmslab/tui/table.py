"""Records column by column: what the grid shows. A record is only made for who asks for one.

A table is made of blocks, one for each chunk that was read. A block never changes, so that threads
may look at it; a table only grows, and only on the event loop. Where keys or records have changed,
a new table takes the place of the old one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from kmslab.analysis.classify import Verdict
from kmslab.columns import Records, column_of
from kmslab.keys import Names
from kmslab.model import Key, Record
from kmslab.tui.packed import Distinct, Packed, Texts

NEVER: Final = -(2**63)
"""What stands for a time that is not known."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kind:
    """What records have in common that are judged alike."""

    provider: str
    verdict: Verdict


Named = tuple[str | None, ...]
"""What a record says besides its blob: the fields of _NAMED."""

_NAMED: Final = (
    "key_id",
    "source_key_id",
    "source_key_version_id",
    "source_encryption_algorithm",
    "region",
    "account",
)


@dataclass(frozen=True, slots=True)
class Shared:
    """The values that many records share, by number."""

    kinds: Distinct[Kind] = field(default_factory=Distinct)
    owners: Distinct[str | None] = field(default_factory=Distinct)
    named: Distinct[Named] = field(default_factory=Distinct)


Numbers: TypeAlias = "bytes | array[int]"
"""Numbers of values that many records share."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some records, column by column; `kinds`, `owners` and `named` are numbers.

    They are bytes where all are small, as they mostly are, and that makes filtering quick.
    `created` is in microseconds since 1970-01-01 UTC, or NEVER. An empty context is none, as in a
    source. `counts` has the records of each kind.
    """

    rows: Sequence[int]
    ids: Texts
    blobs: Packed
    contexts: Texts
    kinds: Numbers
    owners: Numbers
    named: Numbers
    created: array[int]
    counts: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.kinds)

    def records(self, shared: Shared) -> Records:
        """The records."""
        named = list(zip(*(shared.named[number] for number in self.named), strict=True))
        return Records(
            self.ids.all(),
            [shared.kinds[number].provider for number in self.kinds],
            self.blobs.all(),
            self.rows,
            [context or None for context in self.contexts.all()],
            named[0],
            list(map(moment_of, self.created)),
            [shared.owners[number] for number in self.owners],
            *named[1:],
        )

    def record(self, at: int, shared: Shared) -> Record:
        """The record at a place of the block, from 0."""
        key_id, *source = shared.named[self.named[at]]
        return Record(
            self.ids[at],
            shared.kinds[self.kinds[at]].provider,
            self.blobs[at],
            self.rows[at],
            self.contexts[at] or None,
            key_id,
            moment_of(self.created[at]),
            shared.owners[self.owners[at]],
            *source,
        )


def pack(records: Sequence[Record], verdicts: Sequence[Verdict], shared: Shared) -> Block:
    """Records, at least one, with their verdicts as a block."""
    kinds = kinds_of(column_of(records, "provider"), verdicts, shared)
    named = zip(*(column_of(records, name) for name in _NAMED), strict=True)
    rows = column_of(records, "row")
    return Block(
        rows if isinstance(rows, range) else array("q", rows),
        Texts.of(column_of(records, "record_id")),
        Packed.of(column_of(records, "ciphertext_blob")),
        Texts.of([context or "" for context in column_of(records, "context")]),
        kinds,
        _numbers(shared.owners.numbers(column_of(records, "owner"))),
        _numbers(shared.named.numbers(named)),
        array("q", map(microseconds_of, column_of(records, "created_at"))),
        Counter(kinds),
    )


def kinds_of(providers: Sequence[str], verdicts: Sequence[Verdict], shared: Shared) -> Numbers:
    """The numbers of the kinds of records, given by their providers and verdicts.

    Verdicts are told apart by identity, which is much quicker than to look at what they say.
    """
    by_identity = dict(zip(map(id, verdicts), verdicts, strict=True))
    pairs = list(zip(providers, map(id, verdicts), strict=True))
    numbers = {
        (provider, identity): shared.kinds.number(Kind(provider, by_identity[identity]))
        for provider, identity in set(pairs)
    }
    return _numbers(list(map(numbers.__getitem__, pairs)))


def _numbers(numbers: Sequence[int]) -> Numbers:
    return bytes(numbers) if max(numbers) < 256 else array("I", numbers)


def microseconds_of(at: datetime | None) -> int:
    """A time as in a block's `created`; None is NEVER."""
    if at is None:
        return NEVER
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(microseconds: int) -> datetime | None:
    """The time of a block's `created`, None for NEVER."""
    return None if microseconds == NEVER else _EPOCH + timedelta(microseconds=microseconds)


class Table:
    """Records with their verdicts, in the order of their source; rows are counted from 0.

    `keys` are those that there are, by id: what they are called is shown and looked for.

    >>> from kmslab.analysis import Outcome
    >>> table = Table.of([Record("order-1", "ctyun", "a21z")], [Verdict(Outcome.STALE)])
    >>> len(table), table.record(0).record_id, table.verdict(0).outcome.value
    (1, 'order-1', 'stale')
    """

    __slots__ = ("_blocks", "_counts", "_ends", "keys", "names", "shared")

    def __init__(self, shared: Shared | None = None, keys: Mapping[str, Key] | None = None) -> None:
        self.shared = Shared() if shared is None else shared
        self.keys: Mapping[str, Key] = {} if keys is None else keys
        self.names = Names.among(self.keys.values())
        self._blocks: list[Block] = []
        self._ends: list[int] = []
        self._counts: Counter[int] = Counter()

    @classmethod
    def of(
        cls,
        records: Sequence[Record],
        verdicts: Sequence[Verdict],
        keys: Mapping[str, Key] | None = None,
    ) -> Table:
        """A table of a few records."""
        table = cls(keys=keys)
        if records:
            table.append(pack(records, verdicts, table.shared))
        return table

    def append(self, block: Block) -> None:
        """Add records, which were packed with this table's `shared`."""
        self._ends.append(len(self) + len(block))
        self._blocks.append(block)
        self._counts.update(block.counts)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks so far."""
        return tuple(self._blocks)

    @property
    def counts(self) -> dict[Kind, int]:
        """How many records there are of each kind."""
        return {self.shared.kinds[number]: count for number, count in self._counts.items()}

    def find(self, row: int) -> tuple[Block, int]:
        """The block of a row, and its place there. IndexError where there is no such row."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        at = bisect_right(self._ends, row)
        block = self._blocks[at]
        return block, row - self._ends[at] + len(block)

    def record(self, row: int) -> Record:
        """The record of a row."""
        block, at = self.find(row)
        return block.record(at, self.shared)

    def kind(self, row: int) -> Kind:
        """The provider and verdict of a row's record."""
        block, at = self.find(row)
        return self.shared.kinds[block.kinds[at]]

    def verdict(self, row: int) -> Verdict:
        """The verdict on a row's record."""
        return self.kind(row).verdict
