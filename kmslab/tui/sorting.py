"""Putting a million rows in order, in a thread, without holding up the others for long.

`list.sort` lets no other thread run until it is finished, which takes a second for a million texts.
So the rows are dealt onto stacks that follow each other, and the stacks are sorted one by one.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kmslab.analysis.classify import Outcome
from kmslab.tui.packed import Distinct
from kmslab.tui.responsive import uncollected
from kmslab.tui.stopping import Stop, Stopped
from kmslab.tui.table import NEVER, Block, Kind, Table

STACK: Final = 2_048
"""About how many rows are sorted at once: some milliseconds."""

_UNBORN: Final = ~NEVER
_SAMPLES: Final = 16  # for each stack, so that none becomes much larger than another
_OUTCOMES: Final = {outcome: rank for rank, outcome in enumerate(Outcome)}


class By(StrEnum):
    """What rows can be in order of."""

    STATE = "state"
    ID = "id"
    PROVIDER = "provider"
    KEY = "key"
    VERSION = "version"
    AGE = "age"
    OWNER = "owner"
    CONTEXT = "context"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class Sort:
    """An order of rows. Rows that are alike stay in the order of the source, either way round.

    Texts are in order of their letters' code points; the youngest come first of ages. What is not
    known, or empty, comes last, either way round.
    """

    by: By
    reverse: bool = False


def ordered(table: Table, blocks: Sequence[Block], sort: Sort, stop: Stop) -> array[int]:
    """The rows of a table's first blocks in order. Stopped, soon, where `stop` says so."""
    columns, unknown = _columns(table, blocks, sort.by)
    values: Any = [] if isinstance(unknown, str) else array("q")
    with uncollected():
        for column in columns:
            values.extend(column)
            if stop():
                raise Stopped
        found = _dealt(values, unknown, reverse=sort.reverse, stop=stop)
        while values:  # to let a million go at once takes as long as to sort some of them
            del values[-STACK:]
    return found


_KIND_KEYS: Final[dict[By, Callable[[Kind, Table], Any]]] = {
    By.STATE: lambda kind, _: (_OUTCOMES[kind.verdict.outcome], kind.verdict.reason),
    By.PROVIDER: lambda kind, _: kind.provider or None,
    By.KEY: lambda kind, table: (table.names(kind.verdict.key_id) or "").casefold() or None,
    By.VERSION: lambda kind, _: kind.verdict.version_number,
    By.REASON: lambda kind, _: kind.verdict.reason or None,
}


def _columns(
    table: Table, blocks: Sequence[Block], by: By
) -> tuple[Iterator[Sequence[str] | Sequence[int]], str | int]:
    """What rows are compared by, block by block, and what stands for a value that is not known."""
    match by:
        case By.ID:
            return (block.ids.all() for block in blocks), ""
        case By.CONTEXT:
            return (block.contexts.all() for block in blocks), ""
        case By.AGE:
            return ([~at for at in block.created] for block in blocks), _UNBORN
        case By.OWNER:
            places = _places(table.shared.owners, lambda owner: (owner or "").casefold() or None)
            return ([places[number] for number in block.owners] for block in blocks), -1
        case _:
            key = _KIND_KEYS[by]
            places = _places(table.shared.kinds, lambda kind: key(kind, table))
            return ([places[number] for number in block.kinds] for block in blocks), -1


def _places(values: Distinct[Any], key: Callable[[Any], Any]) -> list[int]:
    """The place of each value among all of them; -1 for what is not known."""
    keys = list(map(key, list(values.values)))
    found = {known: at for at, known in enumerate(sorted({k for k in keys if k is not None}))}
    return [-1 if known is None else found[known] for known in keys]


def _dealt(values: Sequence[Any], unknown: str | int, *, reverse: bool, stop: Stop) -> array[int]:
    """The places of values in order.

    Some values are picked to part the others. There is a stack between each two of them, and one
    for each that they are equal to; that one need not be sorted, however large it is.
    """
    step = STACK // _SAMPLES if len(values) > STACK else 1
    sample = sorted(value for value in values[::step] if value != unknown)
    parting = sorted(set(sample[_SAMPLES - 1 :: _SAMPLES]))
    stacks = [array("I") for _ in range(2 * len(parting) + 1)]
    put = [stack.append for stack in stacks]
    last = array("I")
    parts = len(parting)
    for start in range(0, len(values), STACK):
        for row, value in enumerate(values[start : start + STACK], start):
            if value == unknown:
                last.append(row)
                continue
            at = bisect_left(parting, value)
            put[2 * at + 1 if at < parts and parting[at] == value else 2 * at](row)
        if stop():
            raise Stopped
    found = array("I")
    for at in range(len(stacks) - 1, -1, -1) if reverse else range(len(stacks)):
        stack: Iterable[int] = stacks[at]
        between = at % 2 == 0
        found.extend(sorted(stack, key=values.__getitem__, reverse=reverse) if between else stack)
        if stop():
            raise Stopped
    found.extend(last)
    return found
