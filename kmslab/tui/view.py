"""What of a table is shown, in which order, and which of its records are marked."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import chain, compress
from typing import Final

from kmslab.campaign.large import Ids
from kmslab.campaign.long_json import Rest, no_rest
from kmslab.clock import Clock
from kmslab.tui.filtering import EVERY, Query
from kmslab.tui.masks import Mask, Meant, both, either
from kmslab.tui.matching import Matcher, by_marks
from kmslab.tui.sorting import Sort, ordered
from kmslab.tui.stopping import Stop, Stopped
from kmslab.tui.table import Table
from kmslab.tui.twins import count_others, count_twins, each_ids

_STEP = 65_536
_SHARDS = 256


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown, and in which order; None is the order of the source."""

    query: Query = EVERY
    sort: Sort | None = None


EVERYTHING: Final = Wanted()
"""Every record, in the order of the source."""


@dataclass(frozen=True, slots=True)
class Order:
    """All rows of a table's first blocks in order."""

    sort: Sort
    rows: array[int]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The rows of a table's first blocks as they are wanted.

    `shown` has a 1 for each of these rows that is shown, and 0 for the others.
    """

    table: Table
    wanted: Wanted
    blocks: int
    rows: Sequence[int]
    shown: bytes
    matcher: Matcher
    order: Order | None


def arrange(
    table: Table,
    wanted: Wanted,
    now: datetime,
    known: Order | None,
    stop: Stop,
    marks: Mask = b"",
) -> Arrangement:
    """Arrange a table; changes nothing, so that a thread can do it.

    `marks` are those of its first rows; others have none. `known` is an order that was found
    before. Stopped, soon, where `stop` says so.
    """
    blocks = table.blocks
    matcher = Matcher(wanted.query, table, now)
    masks = []
    for block in blocks:
        masks.append(matcher.mask(block))
        if stop():
            raise Stopped
    shown = b"".join(masks)
    marks = bytes(marks[: len(shown)]) + bytes(max(0, len(shown) - len(marks)))
    shown = by_marks(wanted.query, shown, marks)
    order = None
    if wanted.sort is not None:
        order = known
        if order is None or order.sort != wanted.sort or len(order.rows) != len(shown):
            order = Order(wanted.sort, ordered(table, blocks, wanted.sort, stop))
    rows = _shown(shown, wanted, order, stop)
    return Arrangement(table, wanted, len(blocks), rows, shown, matcher, order)


def _shown(shown: bytes, wanted: Wanted, order: Order | None, stop: Stop) -> Sequence[int]:
    """The rows that are shown, in their order."""
    if order is None:
        return Meant(shown) if wanted.query.terms else range(len(shown))
    if not wanted.query.terms:
        return order.rows
    found = array("I")
    for start in range(0, len(shown), _STEP):
        found.extend([row for row in order.rows[start : start + _STEP] if shown[row]])
        if stop():
            raise Stopped
    return found


def carried(marked: Mask, old: Table, new: Table) -> bytearray:
    """Which rows of a new table are marked, where these were of an old one.

    A record is known by its id, and where several have the same id by their order among them.
    """
    same = _same_at_first(old, new)
    found = bytearray(marked[:same]).ljust(len(new), b"\0")
    rest = bytes(same) + marked[same:]
    if same < len(new) and 1 in rest:
        ids = marked_ids(old, rest)
        names = Ids(name for row, name in _named(old, ids, same) if rest[row])
        for row, name in _named(new, ids, same):
            found[row] = name in names
    return found


def _same_at_first(old: Table, new: Table) -> int:
    """How many of the first rows have the same ids, one by one."""
    lefts, rights = ((block.ids.all() for block in table.blocks) for table in (old, new))
    left: list[str] = []
    right: list[str] = []
    same = 0
    while (left := left or next(lefts, [])) and (right := right or next(rights, [])):
        length = min(len(left), len(right))
        if left[:length] != right[:length]:
            pairs = zip(left, right, strict=False)
            return same + next(at for at, (one, other) in enumerate(pairs) if one != other)
        left, right, same = left[length:], right[length:], same + length
    return same


def marked_ids(table: Table, marked: Mask, rest: Rest = no_rest) -> Ids:
    """The ids of the records that a mask has a 1 for."""
    return Ids(chain.from_iterable(each_ids(table, marked, rest)), rest)


def _named(table: Table, ids: Collection[str], first: int) -> Iterator[tuple[int, str]]:
    """The rows of records with these ids, from one on, with how many rows from there to it have the
    id too, and the id."""
    times: list[dict[str, int]] = [{} for _ in range(_SHARDS)]  # of one, all would go at once
    start = 0
    for block in table.blocks:
        for at, record_id in enumerate(block.ids.all() if start + len(block) > first else ()):
            if start + at >= first and record_id in ids:
                counted = times[hash(record_id) % _SHARDS]
                before = counted.get(record_id, 0)
                counted[record_id] = before + 1
                yield start + at, f"{before} {record_id}"
        start += len(block)
    while times:
        times.pop()


class View:
    """The rows of a table that are shown, by position from 0, and the marks.

    Rows are marked one by one. A filter or an order leaves the marks as they are; another table
    takes them over by record id, and where several records have the same id by their order.

    All of this is done on the event loop, but for `arrange`, which may take a second.
    """

    __slots__ = ("_arrangement", "_both", "_marked", "_marks", "clock", "mark_changes", "table")

    def __init__(self, table: Table, clock: Clock, wanted: Wanted = EVERYTHING) -> None:
        self.clock = clock
        self.table = table
        self._marks = bytearray(len(table))
        self._both: int | None = None
        self._marked: int | None = None
        self.mark_changes = 0
        self._arrangement = arrange(table, wanted, clock.now(), None, lambda: False)

    @property
    def wanted(self) -> Wanted:
        """What is shown, and in which order."""
        return self._arrangement.wanted

    @property
    def rows(self) -> Sequence[int]:
        """The rows that are shown, in their order."""
        return self._arrangement.rows

    @property
    def shown(self) -> int:
        """How many rows are shown."""
        return len(self._arrangement.rows)

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self.table)

    # -- arranging

    def filter(self, text: str) -> None:
        """Show what a filter lets through. FilterError for a text that is none."""
        self.show(self.arrange(Wanted(Query.parse(text), self.wanted.sort)))

    def sort(self, sort: Sort | None) -> None:
        """Show the same rows in another order; None is that of the source."""
        self.show(self.arrange(Wanted(self.wanted.query, sort)))

    def arrange(self, wanted: Wanted, stop: Stop = lambda: False) -> Arrangement:
        """The rows as they are wanted, to be shown afterwards; a thread may do it."""
        arranged = self._arrangement
        known = arranged.order if arranged.table is self.table else None
        return arrange(self.table, wanted, self.clock.now(), known, stop, bytes(self._marks))

    def show(self, arrangement: Arrangement) -> bool:
        """Show rows as they were arranged; whether that was done: not so for another table."""
        if arrangement.table is not self.table:
            return False
        self._arrangement = arrangement
        self._both = None
        self.grow()
        return True

    def grow(self) -> None:
        """Show records that were added to the table since, those that the filter lets through.

        They come last, whatever the order is, until the rows are arranged again.
        """
        old = self._arrangement
        blocks = self.table.blocks[old.blocks :]
        if not blocks:
            return
        start = len(old.shown)
        more = b"".join(map(old.matcher.mask, blocks))
        shown = old.shown + by_marks(old.wanted.query, more, bytes(len(more)))
        self._marks.extend(bytes(len(shown) - len(self._marks)))
        self._both = None
        if old.order is None:
            rows = _shown(shown, old.wanted, None, lambda: False)
        else:
            rows = array("I", old.rows)
            rows.extend(compress(range(start, len(shown)), shown[start:]))
        self._arrangement = replace(old, blocks=old.blocks + len(blocks), rows=rows, shown=shown)

    def over(self, table: Table, wanted: Wanted, row: int | None) -> tuple[View, int | None]:
        """A view of another table with the same marks, and a row of this one in it, if it is there.

        A thread may make it. See `carried` for what is the same.
        """
        view = View(table, self.clock)
        view._marks = carried(bytes(self._marks), self.table, table)
        view.show(view.arrange(wanted))
        if row is None:
            return view, None
        one = bytearray(len(self.table))
        one[row] = 1
        found = carried(one, self.table, table).find(1)
        return view, None if found < 0 else found

    def position_of(self, row: int) -> int | None:
        """Where a row is shown, from 0; None where it is not."""
        shown = self._arrangement.shown
        return self.rows.index(row) if 0 <= row < len(shown) and shown[row] else None

    # -- marking

    @property
    def marked(self) -> int:
        """How many rows are marked."""
        if self._marked is None:
            self._marked = self._marks.count(1)
        return self._marked

    @property
    def hidden_marks(self) -> int:
        """How many rows are marked and not shown."""
        if self._both is None:
            self._both = both(self._marks, self._arrangement.shown).count(1)
        return self.marked - self._both

    def is_marked(self, row: int) -> bool:
        """Whether a row is marked."""
        return self._marks[row] == 1

    def mark(self, rows: Iterable[int], *, on: bool = True) -> None:
        """Mark rows, or take their marks away."""
        for row in rows:
            self._marks[row] = on
        self._changed()

    def toggle(self, row: int) -> None:
        """Mark a row, or take its mark away."""
        self.mark([row], on=not self.is_marked(row))

    def mark_range(self, first: int, last: int) -> None:
        """Mark what is shown from one position to another, either way round."""
        rows, shown = self.rows, self._arrangement.shown
        first, last = min(first, last), min(max(first, last), len(rows) - 1)
        if last - first + 1 == len(rows):
            self.mark_shown()
        elif self._arrangement.order is None and first <= last:
            part = slice(rows[first], rows[last] + 1)
            self._marks[part] = either(self._marks[part], shown[part])
            self._changed()
        else:
            self.mark(rows[first : last + 1])

    def mark_shown(self) -> None:
        """Mark every row that is shown."""
        self._marks = bytearray(either(self._marks, self._arrangement.shown))
        self._changed()

    def clear_marks(self) -> None:
        """Take every mark away, hidden ones too."""
        self._marks = bytearray(len(self.table))
        self._changed()

    def _changed(self) -> None:
        self._both = self._marked = None
        self.mark_changes += 1

    def marked_rows(self) -> Iterator[int]:
        """The rows that are marked now, in the order of the source; a thread may go over them."""
        marks = bytes(self._marks)
        return compress(range(len(marks)), marks)

    def marked_ids(self) -> Set[str]:
        """The ids of the marked records, as a campaign selects by them."""
        return marked_ids(self.table, bytes(self._marks))

    def asked_ids(self, rest: Rest = no_rest) -> Callable[[], tuple[Ids, int]]:
        """What gives the ids of the records that are marked now, and how many others have one of
        them; a thread may ask it later."""
        table, marks = self.table, bytes(self._marks)

        def asked() -> tuple[Ids, int]:
            ids = marked_ids(table, marks, rest)
            return ids, count_others(table, marks, ids, rest)

        return asked

    def twins(self, rest: Rest = no_rest) -> Callable[[], int]:
        """What counts the rows that have the id of a marked record, and are not marked themselves.

        A campaign selects by id, so it would take them too. A thread may count, whatever is marked
        meanwhile.
        """
        return partial(count_twins, self.table, bytes(self._marks), rest)
