"""A million record ids, looked up, sorted, collected, written and read in small steps.

One call of C for all of them takes up to half a second, and every other thread waits meanwhile:
the terminal could answer no key.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from itertools import chain, islice, pairwise
from json.decoder import JSONArray  # type: ignore[attr-defined]
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final

STEP: Final = 4_096
"""How many are dealt with at once: a millisecond or two."""

LONG: Final = 1_000_000
"""So many letters of JSON are read at once, in some 10 ms."""

_WINDOW: Final = 65_536  # letters of a long array that are read at once, in a millisecond
_BETWEEN: Final = re.compile(r'",\s*"')  # two texts
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

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._texts: tuple[str, ...] | None = None
        self._shards: dict[int, str] | None = None
        self._shards, self._count = _sharded(ids)

    @classmethod
    def packed(cls, ids: Collection[str]) -> Ids:
        """Those of a list. One that is in order, with none twice, is not looked through now."""
        if any(one >= other for one, other in pairwise(ids)):
            return cls(ids)
        found = cls()
        found._texts, found._shards, found._count = _texts(ids), None, len(ids)
        return found

    @property
    def is_packed(self) -> bool:
        """Whether they are there in order."""
        return self._texts is not None

    def pack(self) -> None:
        """Nobody looks for one just now; whoever does so later waits for a second."""
        if self._texts is None:
            self._texts = _texts(in_order(self))
        self._shards = None

    def __contains__(self, record_id: object) -> bool:
        shards = self._shards
        if shards is None:
            shards, _ = _sharded(self)
            self._shards = shards
        return isinstance(record_id, str) and f"{_END}{_told(record_id)}{_END}" in shards.get(
            hash(record_id) % _SHARDS, ""
        )

    def __iter__(self) -> Iterator[str]:
        shards = self._shards  # before the texts: a thread that packs makes them first
        if self._texts is not None:
            return chain.from_iterable(map(json.loads, self._texts))
        texts = (shards or {}).values()
        return (_meant(each) for text in texts for each in text[1:-1].split(_END))

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"Ids({self._count:,})"


def _sharded(ids: Iterable[str]) -> tuple[dict[int, str], int]:
    """Ids by their hash, each once, and how many there are."""
    lists: defaultdict[int, list[str]] = defaultdict(list)
    for each in ids:
        lists[hash(each) % _SHARDS].append(_told(each))
    shards, count = {}, 0
    while lists:
        shard, some = lists.popitem()
        once = dict.fromkeys(some)
        shards[shard] = f"{_END}{_END.join(once)}{_END}"
        count += len(once)
    return shards, count


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


def _texts(ids: Iterable[str]) -> tuple[str, ...]:
    left = iter(ids)
    return tuple(json.dumps(some) for some in iter(lambda: list(islice(left, STEP)), []))


def in_order(ids: Collection[str]) -> list[str]:
    """Ids sorted.

    >>> in_order({"b", "c", "a"})
    ['a', 'b', 'c']
    """
    if isinstance(ids, Ids) and ids.is_packed:
        return list(ids)
    some = islice((each for each in ids), None, None, STEP // 64)
    edges = sorted(some)[64::64]  # those between runs of some STEP
    runs: list[list[str]] = [[] for _ in range(len(edges) + 1)]
    for each in ids:
        runs[bisect_right(edges, each)].append(each)
    found: list[str] = []
    for run in runs:
        run.sort()
        found += run
    return found


def collected(ids: Collection[str]) -> Set[str]:
    """Ids as a set.

    >>> sorted(collected(["b", "a", "b"]))
    ['a', 'b']
    """
    return frozenset(ids) if len(ids) < STEP else Ids.packed(ids)


def written(value: Any, *, indent: int | None = None) -> Iterator[str]:
    """A value as JSON, piece by piece: together what `json.dumps` gives.

    >>> "".join(written({"ids": ["a", "订"]}))
    '{"ids": ["a", "订"]}'
    """
    pieces = json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value)
    while some := list(islice(pieces, STEP)):
        yield "".join(some)


def let_go(value: Mapping[str, Any]) -> None:
    """Empty the lists of very many in a value that nobody else has: where a million texts go at
    once, every other thread waits.

    >>> value = {"ids": ["a"] * 10_000, "few": ["a"]}
    >>> let_go(value)
    >>> value
    {'ids': [], 'few': ['a']}
    """
    for each in value.values():
        if isinstance(each, dict):
            let_go(each)
        elif isinstance(each, list) and len(each) > STEP:
            while each:
                del each[-STEP:]


def read(text: str) -> Any:
    """What `json.loads` gives.

    >>> read('{"ids": ["a"]}')
    {'ids': ['a']}
    """
    if len(text) < LONG:
        return json.loads(text)
    decoder = json.JSONDecoder()
    decoder.parse_array = _array  # type: ignore[attr-defined]
    decoder.scan_once = py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder.decode(text)


def _array(text_and_start: tuple[str, int], scan_once: Any) -> tuple[list[Any], int]:
    """An array and where it ends: window by window as long as it holds texts, then one by one.

    A window that does not end between two of them has something left open, and cannot be read.
    """
    text, start = text_and_start
    found: list[Any] = []
    while between := _BETWEEN.search(text, start + _WINDOW):
        try:
            found += json.loads(f"[{text[start : between.start() + 1]}]")
        except ValueError:
            break
        start = between.end() - 1
    rest, end = JSONArray((text, start), scan_once)
    return found + rest if found else rest, end
