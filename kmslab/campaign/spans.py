"""Numbers in a row, told by the first and the last of them."""

from __future__ import annotations

from collections.abc import Sequence

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
