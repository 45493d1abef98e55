"""A million record ids, sorted, collected, written and read in small steps.

One call of C for all of them takes up to half a second, and every other thread waits meanwhile:
the terminal could answer no key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from heapq import merge
from itertools import islice
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, Final

STEP: Final = 4_096
"""How many are dealt with at once: a millisecond or two."""

_LONG: Final = 1_000_000  # letters of JSON, read at once in some 10 ms


def in_order(ids: Collection[str]) -> list[str]:
    """Ids sorted.

    >>> in_order({"b", "c", "a"})
    ['a', 'b', 'c']
    """
    left = iter(ids)
    runs = iter(lambda: sorted(islice(left, STEP)), [])
    return list(merge(*runs))


def collected(ids: Iterable[str]) -> frozenset[str]:
    """Ids as a set.

    >>> sorted(collected(["b", "a", "b"]))
    ['a', 'b']
    """
    return frozenset(each for each in ids)  # a generator: other threads go on in between


def written(value: Any, *, indent: int | None = None) -> Iterator[str]:
    """A value as JSON, piece by piece: together what `json.dumps` gives.

    >>> "".join(written({"ids": ["a", "订"]}))
    '{"ids": ["a", "订"]}'
    """
    pieces = json.JSONEncoder(ensure_ascii=False, indent=indent).iterencode(value)
    while some := list(islice(pieces, STEP)):
        yield "".join(some)


def read(text: str) -> Any:
    """What `json.loads` gives.

    >>> read('{"ids": ["a"]}')
    {'ids': ['a']}
    """
    if len(text) < _LONG:
        return json.loads(text)
    decoder = json.JSONDecoder()
    decoder.scan_once = py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder.decode(text)
