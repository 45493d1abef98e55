"""Equal records are sent once: which of them have been, within a bounded memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, Generic, TypeVar

from kmslab.analysis import Verdict
from kmslab.columns import column_of
from kmslab.model import Record

V = TypeVar("V")

RECENT_PAIRS: Final = 16_384
"""The most pairs that are remembered; never fewer than the last half of it (lab's choice).

With their answers they take about 15 MB. An equal record that comes later than that is sent again.
"""


_BESIDE: Final = (
    "context",
    "provider",
    "source_key_id",
    "source_key_version_id",
    "source_encryption_algorithm",
    "region",
    "account",
)
_VALUES_BESIDE: Final = attrgetter(*_BESIDE)


class Pairs:
    """What makes two records equal for a provider: the blob, its context and source beside it, and
    where it is.

    Most records have the same beside their blobs as the first one that was asked for. They are
    told apart by their blobs alone, which makes no tuple for each.

    >>> pairs = Pairs()
    >>> pairs.of(Record("1", "ctyun", "blob")), pairs.of(Record("2", "ctyun", "blob", row=7))
    ('blob', 'blob')
    >>> pairs.of(Record("3", "tencent", "blob"))
    ('blob', (None, 'tencent', None, None, None, None, None))
    """

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual: tuple[str | None, ...] | None = None

    def of(self, record: Record) -> Hashable:
        """The pair of one record."""
        return self._pair(record.ciphertext_blob, _VALUES_BESIDE(record))

    def of_many(self, records: Sequence[Record]) -> list[Hashable]:
        """The pairs of records, in their order."""
        blobs = column_of(records, "ciphertext_blob")
        beside = [column_of(records, name) for name in _BESIDE]
        if blobs and all(column.count(column[0]) == len(blobs) for column in beside):
            values = tuple(column[0] for column in beside)
            if self._pair("", values) == "":
                return list(blobs)
        return list(map(self._pair, blobs, zip(*beside, strict=True)))

    def _pair(self, blob: str, values: tuple[str | None, ...]) -> Hashable:
        if self._usual is None:
            self._usual = values
        return blob if values == self._usual else (blob, values)


class Recent(Generic[V]):
    """The last values that were put, by key: no more than `most`, no fewer than half of them.

    A key that is asked for does not become younger, so that two memories that are given the same
    keys in the same order forget the same ones.

    >>> recent = Recent[str](4)
    >>> for key in "abcde":
    ...     recent.put(key, key.upper())
    >>> [recent.get(key) for key in "abcde"]
    [None, None, 'C', 'D', 'E']
    """

    # Two halves, of which the older is dropped whole: nothing is moved when one key is forgotten.
    __slots__ = ("_half", "_old", "_young")

    def __init__(self, most: int = RECENT_PAIRS) -> None:
        self._half = max(1, most // 2)
        self._young: dict[Hashable, V] = {}
        self._old: dict[Hashable, V] = {}

    def get(self, key: Hashable) -> V | None:
        """The value of a key, None where it is not remembered."""
        value = self._young.get(key)
        return self._old.get(key) if value is None else value

    def put(self, key: Hashable, value: V) -> None:
        """Remember the value of a key that is not remembered."""
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def change(self, key: Hashable, value: V) -> None:
        """Give a key that is remembered another value. It becomes no younger."""
        half = self._young if key in self._young else self._old
        half[key] = value

    def all_new(self, keys: Sequence[Hashable]) -> bool:
        """Whether all keys are different, and none is remembered."""
        distinct = set(keys)
        return len(distinct) == len(keys) and all(
            half.keys().isdisjoint(distinct) for half in (self._young, self._old)
        )

    def put_all(self, keys: Sequence[Hashable], values: Iterable[V]) -> None:
        """`put` for each, of keys that are `all_new`."""
        pairs = zip(keys, values, strict=True)
        left = len(keys)
        while left:
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            before = len(self._young)
            self._young.update(islice(pairs, self._half - before))
            left -= len(self._young) - before

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


class Distinct:
    """Counts ahead what a `Sender` will send: it remembers the same pairs for as long.

    >>> from kmslab.analysis import Outcome
    >>> distinct, stale = Distinct(), Verdict(Outcome.STALE)
    >>> [distinct.is_new(Record(str(n), "ctyun", blob), stale) for n, blob in enumerate("aba")]
    [True, True, False]
    >>> distinct.is_new(Record("4", "ctyun", "c"), Verdict(Outcome.CURRENT))
    False
    """

    __slots__ = ("_pairs", "_seen")

    def __init__(self, most: int = RECENT_PAIRS) -> None:
        self._pairs = Pairs()
        self._seen: Recent[bool] = Recent(most)

    def is_new(self, record: Record, verdict: Verdict) -> bool:
        """Whether a call will be made for this record, after all that were asked before."""
        if not verdict.outcome.sent:
            return False
        pair = self._pairs.of(record)
        if self._seen.get(pair):
            return False
        self._seen.put(pair, True)
        return True
