"""Numbers in a row, told by the first and the last of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

Span = tuple[int, int]
"""Entries in a row: the numbers of the first and the last."""


def spans(numbers: Sequence[int]) -> list[Span]:
    """Numbers as runs of neighbours, each as its first and last; each number counts once.

    >>> spans([4, 2, 3, 9, 3])
    [(2, 4), (9, 9)]
    """
    if isinstance(numbers, range):
        return [(numbers[0], numbers[-1])] if numbers else []
    found: list[Span] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


class Numbers:
    """The numbers of some spans, which take no more room than the spans do.

    >>> some = Numbers([(9, 9), (1, 1_000_000), (5, 7)])
    >>> 9 in some, 1_000_000 in some, 0 in some
    (True, True, False)
    """

    __slots__ = ("_first", "_last")

    def __init__(self, spans: Iterable[Span]) -> None:
        found = sorted(spans)
        self._first = [first for first, _ in found]
        self._last = list(accumulate((last for _, last in found), max))

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number)
        return at > 0 and number <= self._last[at - 1]
