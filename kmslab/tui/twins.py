"""Records that have the id of a marked one, and no mark: a campaign, which selects by id, takes
them too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from itertools import chain, compress
from typing import Final

from kmslab.campaign.large import Ids
from kmslab.campaign.long_json import Rest, no_rest
from kmslab.tui.masks import Mask, turned
from kmslab.tui.table import Table

FEW: Final = 65_536
"""So many ids fit a set that is let go of in a few milliseconds, while every thread waits."""


def count_twins(table: Table, marks: Mask, rest: Rest = no_rest) -> int:
    """How many records there are with the id of a marked one that are not marked themselves.

    A thread may count. Where few are marked, or few are not, it takes a tenth of the time.
    """
    marked = marks.count(1)
    others = len(table) - marked
    if not marked or not others:
        return 0
    if marked <= FEW:
        few = set(chain.from_iterable(each_ids(table, marks, rest)))
        return count_others(table, marks, few, rest)
    if others <= FEW:
        times = Counter(chain.from_iterable(_each_others(table, marks, rest)))
        twins = {each for some in each_ids(table, marks, rest) for each in times.keys() & some}
        return sum(times[each] for each in twins)
    many = Ids(chain.from_iterable(each_ids(table, marks, rest)), rest)
    return count_others(table, marks, many, rest)


def count_others(table: Table, marks: Mask, ids: Set[str], rest: Rest = no_rest) -> int:
    """How many records that are not marked have one of these ids."""
    return sum(sum(map(ids.__contains__, some)) for some in _each_others(table, marks, rest))


def each_ids(table: Table, marks: Mask, rest: Rest) -> Iterator[Iterator[str]]:
    """The ids of the records that a mask has a 1 for, block by block."""
    start = 0
    for block in table.blocks:
        mask = marks[start : start + len(block)]
        if 1 in mask:
            yield compress(block.ids.all(), mask)
            rest()
        start += len(block)


def _each_others(table: Table, marks: Mask, rest: Rest) -> Iterator[Iterator[str]]:
    """The ids of those for which it has none: also those that came when the mask was made."""
    start = 0
    for block in table.blocks:
        mask = bytes(marks[start : start + len(block)]).ljust(len(block), b"\0")
        if 0 in mask:
            yield compress(block.ids.all(), turned(mask))
            rest()
        start += len(block)
