"""A million record ids, looked up, sorted and collected in steps so small that nobody waits for one
of them (`long_json` says who would)."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from itertools import chain, islice
from typing import Final, TypeVar

from kmslab.campaign.long_json import STEP, Rest, Texts, no_rest

T = TypeVar("T")

_SHARDS: Final = 32_768
_END: Final = "\0"
_ESCAPE: Final = "\1"


class Ids(Set[str]):
    """Record ids. Those that nobody looks for are kept packed, in order, as texts of JSON.

    Looking for one takes a microsecond. But a set of a million is gone through by each collection
    of garbage, and let go of at once, and both hold up every other thread for 0.2 s. So the ids of
    a shard, some thirty of a million, are one text.

    >>> ids = Ids(["b", "a", "b"])
    >>> "a" in ids, len(ids), ids == {"a", "b"}
    (True, 2, True)
    >>> ids.pack()
    >>> list(ids), "b" in ids
    (['a', 'b'], True)
    """

    __slots__ = ("_count", "_shards", "_texts")

    def __init__(self, ids: Iterable[str] = (), rest: Rest = no_rest) -> None:
        self._texts: Texts | None = None
        self._shards: dict[int, str] | None = None
        self._shards, self._count = _sharded(ids, rest)

    @classmethod
    def packed(cls, ids: Collection[str]) -> Ids:
        """Those of a list. One that is in order, with none twice, is not looked through now."""
        texts = ids if isinstance(ids, Texts) else Texts.of(ids)
        if not texts.ascending:
            return cls(ids)
        found = cls()
        found._texts, found._shards, found._count = texts, None, len(texts)
        return found

    @property
    def are_in_order(self) -> bool:
        """Whether they are there in order, and need not be sorted."""
        return self._texts is not None

    def texts(self, rest: Rest = no_rest) -> Texts:
        """All of them, in order."""
        if self._texts is None:
            self._texts = Texts.of(_rising(self, rest), rest)
        return self._texts

    def pack(self, rest: Rest = no_rest) -> None:
        """Nobody looks for one just now; whoever does so later waits for a second."""
        self.texts(rest)
        self._shards = None

    def unpack(self, rest: Rest = no_rest) -> dict[int, str]:
        """Have them by their hashes, for those who look for one now."""
        shards = self._shards
        if shards is None:
            shards, _ = _sharded(self, rest)
            self._shards = shards
        return shards

    def __contains__(self, record_id: object) -> bool:
        shards = self._shards
        if shards is None:
            shards = self.unpack()
        return isinstance(record_id, str) and f"{_END}{_told(record_id)}{_END}" in shards.get(
            hash(record_id) % _SHARDS, ""
        )

    def __iter__(self) -> Iterator[str]:
        shards = self._shards  # before the texts: a thread that packs makes them first
        if self._texts is not None:
            return iter(self._texts)
        texts = (shards or {}).values()
        return (_meant(each) for text in texts for each in text[1:-1].split(_END))

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Callable[[Texts], Ids], tuple[Texts]]:
        return Ids.packed, (self.texts(),)  # another process has other hashes

    def __repr__(self) -> str:
        return f"Ids({self._count:,})"


def _sharded(ids: Iterable[str], rest: Rest) -> tuple[dict[int, str], int]:
    """Ids by their hash, each once, and how many there are."""
    lists: defaultdict[int, list[str]] = defaultdict(list)
    for some in _by_steps(ids, rest):
        for each in some:
            lists[hash(each) % _SHARDS].append(_told(each))
    shards, count = {}, 0
    for shard in chain.from_iterable(_by_steps(tuple(lists), rest)):
        once = dict.fromkeys(lists.pop(shard))
        shards[shard] = f"{_END}{_END.join(once)}{_END}"
        count += len(once)
    return shards, count


def _by_steps(values: Iterable[T], rest: Rest) -> Iterator[list[T]]:
    left = iter(values)
    while some := list(islice(left, STEP)):
        yield some
        rest()


def _told(record_id: str) -> str:
    """An id without what stands between two, and at the ends."""
    if _END not in record_id and _ESCAPE not in record_id:
        return record_id
    return record_id.replace(_ESCAPE, _ESCAPE + "e").replace(_END, _ESCAPE + "n")


def _meant(told: str) -> str:
    """The id that was told so."""
    if _ESCAPE not in told:
        return told
    return told.replace(_ESCAPE + "n", _END).replace(_ESCAPE + "e", _ESCAPE)


def in_order(ids: Collection[str]) -> list[str]:
    """Ids sorted.

    >>> in_order({"b", "c", "a"})
    ['a', 'b', 'c']
    """
    return list(ids if isinstance(ids, Ids) and ids.are_in_order else _rising(ids, no_rest))


def _rising(ids: Collection[str], rest: Rest) -> Iterator[str]:
    """Ids sorted, run by run; each is let go of then, and not all of a million at once."""
    some = [each for part in _by_steps(ids, rest) for each in part[:: STEP // 64]]
    edges = sorted(some)[64::64]  # those between runs of some STEP
    runs: list[list[str]] = [[] for _ in range(len(edges) + 1)]
    for some_ids in _by_steps(ids, rest):
        for each in some_ids:
            runs[bisect_right(edges, each)].append(each)
    for at, run in enumerate(runs):
        runs[at] = []
        run.sort()
        yield from run


def collected(ids: Collection[str]) -> Set[str]:
    """Ids as a set.

    >>> sorted(collected(["b", "a", "b"]))
    ['a', 'b']
    """
    return frozenset(ids) if len(ids) < STEP else Ids.packed(ids)


def listed(ids: Collection[str]) -> list[str] | Texts:
    """Ids in order, as a list only where they are few.

    >>> listed({"b", "a"})
    ['a', 'b']
    """
    if len(ids) < STEP:
        return in_order(ids)
    return ids.texts() if isinstance(ids, Ids) else Texts.of(_rising(ids, no_rest))
