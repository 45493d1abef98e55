"""A million record ids in small steps: what comes of it is what comes of all at once."""

from __future__ import annotations

import gc
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmslab.campaign.journal import Journal
from kmslab.campaign.large import Ids, collected, in_order, listed
from kmslab.campaign.long_json import STEP, Rest, Texts, written
from kmslab.campaign.selection import Selection
from kmslab.errors import StateError

TEXTS = st.text(alphabet='abne\0\1", []{}\\订\ud800') | st.just(", ") | st.just('", "')
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.lists(TEXTS) | st.dictionaries(TEXTS, inner),
)


@given(st.lists(TEXTS), st.booleans())
def test_ids_are_a_set_packed_or_not(names: list[str], packed: bool) -> None:
    ids, plain = Ids(names), frozenset(names)
    if packed:
        ids.pack()
        assert list(ids) == sorted(plain)
    assert ids == plain
    assert len(ids) == len(plain)
    assert in_order(ids) == sorted(plain)
    assert all(each in ids for each in names)
    assert "none of them" not in ids
    assert pickle.loads(pickle.dumps(ids)) == plain


@given(st.lists(TEXTS))
def test_packed_ids_are_those_of_the_list_in_order_or_not(names: list[str]) -> None:
    assert Ids.packed(names) == frozenset(names)
    assert Ids.packed(sorted(set(names))) == frozenset(names)
    assert Ids.packed(Texts.of(names)) == frozenset(names)
    assert collected(names) == frozenset(names)


@given(st.lists(TEXTS), st.lists(TEXTS))
def test_texts_are_the_list_that_they_were_made_of(one: list[str], other: list[str]) -> None:
    texts = Texts.of(one)
    assert list(texts) == one
    assert texts == one
    assert (texts == Texts.of(other)) == (one == other)
    assert (texts == other) == (one == other)
    assert texts.ascending == (sorted(set(one)) == one)
    assert Texts(texts.pieces, len(one), texts.ascending) == one
    assert "".join(written({"ids": texts})) == json.dumps({"ids": one}, ensure_ascii=False)


def test_texts_ascend_from_one_piece_to_the_next() -> None:
    names = [f"order-{n:05}" for n in range(2 * STEP)]
    assert Texts.of(names).ascending
    assert not Texts.of([*names[:STEP], names[0]]).ascending
    assert not Texts.of([*names[:STEP], names[STEP - 1]]).ascending, "the same twice"


def test_what_is_no_json_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a set is nothing that JSON has"):
        list(written({"ids": {"a"}}))
    with pytest.raises(TypeError, match="a set is nothing that JSON has"):
        Journal.create(tmp_path / "a.db", {"ids": {"a"}})


@given(VALUES, st.sampled_from([None, 1]))
def test_what_is_long_is_written_as_json_is(value: Any, indent: int | None) -> None:
    text = "".join(written(value, indent=indent))
    assert text == json.dumps(value, ensure_ascii=False, indent=indent)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there it sees every dict")
def test_the_garbage_collector_sees_none_of_many_ids() -> None:
    ids = Ids(f"order-{n}" for n in range(50_000))
    shards = ids._shards
    assert shards is not None
    assert not gc.is_tracked(shards)
    assert len(shards) < 40_000, "many are one text, which is let go of at once"
    assert "order-7" in ids


def test_many_selected_ids_are_put_away_and_found_again() -> None:
    names = [f"order-{n}" for n in range(10_000)]
    selection = Selection(record_ids=Ids(names))
    selection.put_away()
    for text in json.dumps(selection.as_dict()), "".join(written(selection.as_dict(listed))):
        kept = Selection.from_dict(json.loads(text))
        assert kept == selection
        assert kept.record_ids == frozenset(names)
    assert len(repr(selection)) < 200


@pytest.mark.parametrize("count", [0, 3, STEP - 1, STEP, 3 * STEP + 1])
@pytest.mark.parametrize("kind", [frozenset, Ids])
def test_a_journal_keeps_a_selection_apart_where_it_is_long(
    count: int, kind: type[frozenset[str] | Ids], tmp_path: Path
) -> None:
    selection = Selection(kind(f"订单-{n:06}" for n in range(count)))
    told = selection.as_dict(listed)
    with Journal.create(tmp_path / "a.db", {"options": {"selection": told}}) as journal:
        journal.note(plan={"options": {"selection": told}}, state="running")
    with Journal.open(tmp_path / "a.db") as journal:
        texts = dict(journal.database.query("SELECT name, value FROM fact"))
        rows = journal.database.query("SELECT ids FROM selected")
        for found in journal.facts()["options"], journal.facts()["plan"]["options"]:
            assert Selection.from_dict(found["selection"]) == selection
    assert len(rows) == (-(-count // STEP) if count >= STEP else 0)
    assert max(map(len, texts.values())) < 100_000
    assert isinstance(told["record_ids"], Texts if rows else list)


def test_selected_ids_that_are_lost_are_missed(tmp_path: Path) -> None:
    told = Selection(Ids(f"order-{n}" for n in range(2 * STEP))).as_dict(listed)
    with Journal.create(tmp_path / "a.db", {"selection": told, "state": "running"}) as journal:
        journal.database.run("DELETE FROM selected WHERE number = 1")
        facts = journal.facts()
        assert facts["state"] == "running"
        with pytest.raises(StateError, match=r"a\.db: of 2 rows of selected ids 1 are there"):
            facts["selection"]


def test_a_campaign_has_one_selection(tmp_path: Path) -> None:
    one, other = (listed(Ids(f"{name}-{n}" for n in range(STEP))) for name in ("a", "b"))
    with Journal.create(
        tmp_path / "a.db", {"one": one, "again": listed(frozenset(one))}
    ) as journal:
        assert journal.facts()["again"] == one
    for facts in {"one": one, "other": other}, {"one": Texts.of(["b", "a"])}:
        with pytest.raises(ValueError, match="one selection, whose ids are in order"):
            Journal.create(tmp_path / "b.db", facts)
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_facts_that_cannot_all_be_kept_are_not_kept(tmp_path: Path) -> None:
    with Journal.create(tmp_path / "a.db", {"state": "planning"}) as journal:
        journal.database.run("DROP TABLE selected")
        with pytest.raises(StateError, match="no such table"):
            journal.note(state="running", ids=listed(Ids(map(str, range(STEP)))))
    with Journal.open(tmp_path / "a.db") as journal:
        assert dict(journal.facts()) == {"state": "planning"}


NAMES = [f"order-{n:05}" for n in range(4 * STEP)]


@pytest.mark.parametrize(
    ("long", "least"),
    [
        (lambda rest: Ids(NAMES, rest), 4 + 3),
        (lambda rest: Ids(NAMES).texts(rest), 4 + 4 + 4),
        (lambda rest: Ids.packed(NAMES).unpack(rest), 4 + 3),
        (lambda rest: Selection(Ids(NAMES)).put_away(rest), 4 + 4 + 4),
        (lambda rest: Selection(Ids.packed(NAMES)).make_ready(rest), 4 + 3),
    ],
)
def test_what_takes_long_rests_after_each_step(long: Callable[[Rest], object], least: int) -> None:
    rests: list[None] = []
    long(lambda: rests.append(None))
    assert len(rests) >= least
    rests.clear()
    Selection(frozenset(NAMES)).make_ready(lambda: rests.append(None))
    assert not rests, "a set is ready"
