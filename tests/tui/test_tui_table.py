"""Tables keep records as they are; views order, filter and mark them, and lose none."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tui_tables import (
    KEYS,
    NOW,
    ORDERS,
    Rows,
    any_times,
    records,
    row,
    rows,
    table_of,
    texts,
    verdicts,
)

from kmslab import ManualClock
from kmslab.analysis import Outcome, Verdict
from kmslab.errors import FilterError
from kmslab.model import Record
from kmslab.tui import twins
from kmslab.tui.ages import age_text, seconds_of
from kmslab.tui.filtering import EVERY, Query
from kmslab.tui.masks import Meant
from kmslab.tui.packed import Packed, Texts
from kmslab.tui.sorting import STACK, By, Sort
from kmslab.tui.stopping import Stopped
from kmslab.tui.table import Table, pack
from kmslab.tui.view import View, Wanted, arrange, carried

CLOCK = ManualClock(NOW)
FILTERS = ["", "a", "!a", "out:stale", "ver:<3 !b", "owner:a", "age:>10d", "key:orders"]
wanted = st.builds(
    Wanted,
    st.sampled_from(FILTERS).map(Query.parse),
    st.none() | st.builds(Sort, st.sampled_from(By), st.booleans()),
)


def view_of(some: Rows) -> View:
    return View(table_of(some), CLOCK)


# -- tables


def of_one_width(width: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.text(min_size=width, max_size=width), min_size=1, max_size=8)


@given(
    st.lists(st.text() | texts, min_size=1, max_size=8) | st.integers(0, 3).flatmap(of_one_width)
)
def test_packed_texts_are_the_texts(some: list[str]) -> None:
    for packed in (Packed.of(some), Texts.of(some)):
        assert packed.all() == some
        assert [packed[at] for at in range(len(some))] == some
        for outside in (-1, len(some)):
            with pytest.raises(IndexError):
                packed[outside]


@given(st.lists(st.text() | texts, min_size=1, max_size=8), st.text(min_size=1, max_size=3) | texts)
def test_packed_texts_know_where_a_part_is_whatever_its_case(some: list[str], part: str) -> None:
    folded = part.casefold()
    assert Texts.of(some).having(folded) == bytes(folded in text.casefold() for text in some)


@given(st.lists(st.sampled_from([0, 1]), max_size=30), st.integers(-30, 30), st.integers(-30, 30))
def test_the_rows_of_a_mask_are_as_a_list_of_them(some: list[int], start: int, stop: int) -> None:
    for mask in (bytes(some), bytes(some) * 300):
        rows, listed = Meant(mask), [at for at, on in enumerate(mask) if on]
        assert list(rows) == listed
        assert len(rows) == len(listed)
        assert rows[start:stop] == listed[start:stop]
        assert rows[start:stop:2] == listed[start:stop:2]
        places = range(0, len(listed), 1 + len(listed) // 10)
        assert [rows[at] for at in places] == [listed[at] for at in places]
        assert [rows.index(listed[at]) for at in places] == list(places)
        assert listed == [] or rows[-1] == listed[-1]
        for outside in (-1, len(mask), *(at for at, on in enumerate(mask[:3]) if not on)):
            with pytest.raises(ValueError, match="is not meant"):
                rows.index(outside)
        with pytest.raises(IndexError):
            rows[len(listed)]


def test_texts_that_hold_every_usual_separator() -> None:
    some = ["\0\x1f\x1e\x1d\x1c", "\ue000", "a"]
    assert Texts.of(some).all() == some
    assert Texts.of(some).having("a") == b"\0\0\1"


@given(st.lists(st.tuples(records(any_times), verdicts), max_size=12), st.integers(1, 5))
def test_a_table_gives_back_each_record_and_verdict_and_counts_them(some: Rows, size: int) -> None:
    table = table_of(some, size)
    assert len(table) == len(some)
    assert [(table.record(at), table.verdict(at)) for at in range(len(table))] == some
    assert [table.record(at).record_id for at in range(len(table))] == [
        r.record_id for r, _ in some
    ]
    assert [each for block in table.blocks for each in block.records(table.shared)] == [
        record for record, _ in some
    ]
    counts = {(kind.provider, kind.verdict): count for kind, count in table.counts.items()}
    assert counts == Counter((record.provider, verdict) for record, verdict in some)


def test_a_table_knows_the_part_and_has_no_other_rows() -> None:
    table = table_of(row("order-1"))
    for outside in (-1, 1):
        with pytest.raises(IndexError):
            table.record(outside)


# -- orders

COMPARED: dict[By, Callable[[Any, Any], Any]] = {
    By.STATE: lambda record, verdict: (list(Outcome).index(verdict.outcome), verdict.reason),
    By.ID: lambda record, verdict: record.record_id or None,
    By.PROVIDER: lambda record, verdict: record.provider or None,
    By.KEY: lambda record, verdict: (
        KEYS[verdict.key_id].alias.casefold() if verdict.key_id in KEYS else verdict.key_id
    ),
    By.VERSION: lambda record, verdict: verdict.version_number,
    By.AGE: lambda record, verdict: record.created_at and NOW - record.created_at,
    By.OWNER: lambda record, verdict: (record.owner or "").casefold() or None,
    By.CONTEXT: lambda record, verdict: record.context,
    By.REASON: lambda record, verdict: verdict.reason or None,
}


def in_order(some: Rows, sort: Sort) -> list[int]:
    known = [at for at, pair in enumerate(some) if COMPARED[sort.by](*pair) is not None]
    known.sort(key=lambda at: COMPARED[sort.by](*some[at]), reverse=sort.reverse)
    return known + [at for at in range(len(some)) if at not in known]


@given(rows)
def test_orders_are_stable_and_what_is_not_known_comes_last(some: Rows) -> None:
    for by, reverse in product(By, (False, True)):
        view = view_of(some)
        view.sort(Sort(by, reverse))
        assert list(view.rows) == in_order(some, Sort(by, reverse)), (by, reverse)


@pytest.mark.parametrize(("different", "reverse"), [(3, False), (400, True), (10**9, False)])
def test_more_rows_than_are_sorted_at_once(different: int, reverse: bool) -> None:
    random = Random(different)
    ids = [str(random.randrange(different)) for _ in range(2 * STACK)]
    some = [(Record(each, "ctyun", "a"), Verdict(Outcome.STALE)) for each in ids]
    table = table_of(some, 1_000)
    found = arrange(table, Wanted(EVERY, Sort(By.ID, reverse)), NOW, None, lambda: False)
    assert list(found.rows) == sorted(range(len(ids)), key=ids.__getitem__, reverse=reverse)


# -- what is shown


@given(rows, wanted)
def test_what_is_shown_is_what_passes_in_the_order_that_is_wanted(some: Rows, want: Wanted) -> None:
    view = view_of(some)
    view.show(view.arrange(Wanted(want.query)))
    passing = list(view.rows)
    assert passing == sorted(passing)
    view.show(view.arrange(want))
    order = in_order(some, want.sort) if want.sort else range(len(some))
    assert list(view.rows) == [at for at in order if at in passing]
    assert view.wanted == want
    assert (view.shown, view.total) == (len(passing), len(some))
    for at in range(len(some)):
        position = view.position_of(at)
        assert (position is None) == (at not in passing)
        assert position is None or view.rows[position] == at


@given(rows, rows, wanted)
def test_records_that_come_later_are_shown_where_they_pass(
    some: Rows, more: Rows, want: Wanted
) -> None:
    view = view_of(some)
    view.show(view.arrange(want))
    before = list(view.rows)
    view.mark_shown()
    for record, verdict in more:
        view.table.append(pack([record], [verdict], view.table.shared))
        view.grow()
    assert list(view.rows[: len(before)]) == before
    assert sorted(view.rows) == sorted(view_of([*some, *more]).arrange(Wanted(want.query)).rows)
    assert (view.marked, view.hidden_marks) == (len(before), 0)
    view.show(view.arrange(want))
    fresh = view_of([*some, *more])
    assert list(view.rows) == list(fresh.arrange(want).rows)


def test_records_that_come_while_a_thread_arranges_are_not_lost() -> None:
    view = view_of(row("order-1"))
    arrangement = view.arrange(Wanted(Query.parse("order")))
    view.table.append(pack(*zip(*row("order-2"), strict=True), view.table.shared))  # type: ignore[arg-type]
    assert view.show(arrangement)
    assert [view.table.record(at).record_id for at in view.rows] == ["order-1", "order-2"]


def test_an_arrangement_of_another_table_is_not_shown() -> None:
    view, other = view_of(row("order-1")), view_of(row("order-2"))
    assert not view.show(other.arrange(Wanted(Query.parse("nothing"))))
    assert view.shown == 1


def test_a_filter_that_is_none_leaves_the_view_as_it_is() -> None:
    view = view_of(row("order-1"))
    with pytest.raises(FilterError):
        view.filter("out:old")
    assert view.shown == 1


@pytest.mark.parametrize("by", [None, *By])
@pytest.mark.parametrize("text", ["", "order"])
def test_whoever_arranges_can_be_stopped(by: By | None, text: str) -> None:
    view = view_of(row("order-1"))
    sort = None if by is None else Sort(by)
    with pytest.raises(Stopped):
        view.arrange(Wanted(Query.parse(text), sort), lambda: True)
    assert gc.isenabled()


def test_an_order_that_is_known_is_not_looked_for_again() -> None:
    view = view_of([*row("b"), *row("a")])
    view.sort(Sort(By.ID))
    order = view.arrange(Wanted(Query.parse("a"), Sort(By.ID))).order
    assert order is view.arrange(Wanted(EVERY, Sort(By.ID))).order
    assert order is not view.arrange(Wanted(EVERY, Sort(By.ID, reverse=True))).order


# -- marks

Change = Callable[[View], object]
changes = st.one_of(
    st.integers(0, 20).map(lambda n: ("toggle", n)),
    st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda two: ("range", two)),
    st.just(("shown", None)),
    st.just(("clear", None)),
    wanted.map(lambda want: ("want", want)),
)


@given(rows.filter(bool), st.lists(changes, max_size=12))
def test_marks_survive_filters_and_orders(some: Rows, steps: list[tuple[str, Any]]) -> None:
    view, marked = view_of(some), set[int]()
    for what, value in steps:
        match what:
            case "toggle":
                at = value % len(some)
                view.toggle(at)
                marked ^= {at}
            case "range":
                first, last = sorted(value)
                view.mark_range(*value)
                marked |= set(view.rows[first : last + 1])
            case "shown":
                view.mark_shown()
                marked |= set(view.rows)
            case "clear":
                view.clear_marks()
                marked = set()
            case _:
                view.show(view.arrange(value))
        assert set(view.marked_rows()) == marked
        assert {at for at in range(len(some)) if view.is_marked(at)} == marked
        assert view.marked == len(marked)
        assert view.hidden_marks == len(marked - set(view.rows))
        assert view.marked_ids() == {some[at][0].record_id for at in marked}


def test_records_with_one_id_are_marked_one_by_one_and_taken_together() -> None:
    view = view_of([*row("a"), *row("b"), *row("a"), *row("a")])
    view.mark([2])
    assert list(view.marked_rows()) == [2]
    assert view.marked_ids() == {"a"}
    assert view.twins()() == 2
    view.mark([1])
    assert view.twins()() == 2
    count = view.twins()
    view.mark([0, 3])
    assert (view.twins()(), count()) == (0, 2)


@pytest.mark.parametrize("few", [0, 2, twins.FEW])
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), min_size=1, max_size=12))
def test_those_with_the_id_of_a_marked_one_are_counted(
    few: int, some: list[tuple[str, bool]]
) -> None:
    table = table_of([each for record_id, _ in some for each in row(record_id)], 3)
    for known in (len(some), len(some) // 2):  # others may have come since
        marks = bytes(mark for _, mark in some[:known])
        marked = {record_id for record_id, mark in some[:known] if mark}
        others = some[known:] + [each for each in some[:known] if not each[1]]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(twins, "FEW", few)
            assert twins.count_twins(table, marks) == sum(each in marked for each, _ in others)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.data())
def test_marks_go_over_to_another_table_by_id_and_order(ids: list[str], data: Any) -> None:
    mask = bytes(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    others = data.draw(st.permutations([*ids, "d", "a"]))
    old, new = (table_of([p for n in names for p in row(n)]) for names in (ids, others))

    def named(names: list[str]) -> list[tuple[str, int]]:
        return [(name, names[:at].count(name)) for at, name in enumerate(names)]

    marked = {name for name, on in zip(named(ids), mask, strict=True) if on}
    assert list(carried(mask, old, new)) == [name in marked for name in named(others)]
    assert carried(mask, old, old) == mask


def test_a_view_over_another_table_is_as_the_one_before() -> None:
    view = view_of([*row("a"), *row("b", Outcome.CURRENT), *row("c")])
    view.mark([0, 2])
    later = table_of([*row("new"), *row("c"), *row("b"), *row("a", Outcome.CURRENT)])
    want = Wanted(Query.parse("out:stale"), Sort(By.ID))
    over, at = view.over(later, want, 2)
    assert over.wanted == want
    assert [later.record(each).record_id for each in over.rows] == ["b", "c", "new"]
    assert over.marked_ids() == {"a", "c"}
    assert over.hidden_marks == 1
    assert at == 1
    assert view.over(later, want, None)[1] is None
    assert view.over(table_of(row("new")), want, 0)[1] is None


# -- what is told of times


@given(st.integers(0, 2_000 * 31_536_000))
def test_an_age_is_at_most_five_letters_and_never_more_than_it_is(seconds: int) -> None:
    text = age_text(seconds)
    told = seconds_of(text)
    assert len(text) <= 5
    assert told is not None
    assert told <= seconds < 1.5 * told + 60


def test_keys_are_named_as_elsewhere() -> None:
    table = Table(keys=KEYS)
    assert table.names(ORDERS) == "orders"
    assert table.names("23e80852") == "23e80852"
    assert timedelta(days=1).total_seconds() == seconds_of("1d")
