"""A million record ids in small steps: what comes of it is what comes of all at once."""

from __future__ import annotations

import gc
import json
import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmslab.campaign import large
from kmslab.campaign.large import Ids, collected, in_order, read, written
from kmslab.campaign.selection import Selection

TEXTS = st.text(alphabet='abne\0\1", []{}\\订\ud800') | st.just(", ") | st.just('", "')
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.lists(TEXTS) | st.dictionaries(TEXTS, inner),
)


@given(st.lists(TEXTS), st.booleans())
def test_ids_are_a_set_packed_or_not(listed: list[str], packed: bool) -> None:
    ids, plain = Ids(listed), frozenset(listed)
    if packed:
        ids.pack()
        assert list(ids) == sorted(plain)
    assert ids == plain
    assert len(ids) == len(plain)
    assert in_order(ids) == sorted(plain)
    assert all(each in ids for each in listed)
    assert "none of them" not in ids
    assert pickle.loads(pickle.dumps(ids)) == plain


@given(st.lists(TEXTS))
def test_packed_ids_are_those_of_the_list_in_order_or_not(listed: list[str]) -> None:
    assert Ids.packed(listed) == frozenset(listed)
    assert Ids.packed(sorted(set(listed))) == frozenset(listed)
    assert collected(listed) == frozenset(listed)


@given(VALUES, st.sampled_from([None, 1]))
def test_what_is_long_is_read_as_json_is(value: Any, indent: int | None) -> None:
    text = "".join(written(value, indent=indent))
    assert text == json.dumps(value, ensure_ascii=False, indent=indent)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large, "LONG", 0)
        patched.setattr(large, "_WINDOW", 3)
        assert read(text) == value


@pytest.mark.parametrize("text", ['["a", "b"', '["a", "b", ]', '["a", "b" "c"]', '["a", "b"]]'])
def test_what_is_no_json_is_refused_however_long(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LONG", 0)
    monkeypatch.setattr(large, "_WINDOW", 1)
    with pytest.raises(ValueError, match=r"line 1 column"):
        read(text)


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
    kept = Selection.from_dict(json.loads(json.dumps(selection.as_dict())))
    assert kept == selection
    assert kept.record_ids == frozenset(names)
    assert len(repr(selection)) < 200
