"""Strips that do not hold themselves are what Textual's are."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from kmslab.tui.strips import not_held_by_themselves

SEGMENTS = st.lists(
    st.tuples(st.text("ab订 ", max_size=4), st.sampled_from([None, Style(bold=True)])).map(
        lambda text_and_style: Segment(*text_and_style)
    )
)
LENGTHS = st.integers(0, 12)


@given(SEGMENTS, st.lists(LENGTHS).map(lambda some: sorted(set(some))), LENGTHS, LENGTHS)
def test_they_give_what_textuals_own_give(
    segments: list[Segment], cuts: list[int], start: int, end: int
) -> None:
    def found() -> list[Any]:
        strip = Strip(segments)
        fitted = strip.adjust_cell_length(end)
        return [strip.divide(cuts), fitted, strip.crop_extend(start, end, None), strip]

    own = found()
    with not_held_by_themselves():
        assert found() == own
    assert found() == own


@pytest.mark.parametrize(
    "use",
    [
        lambda strip: strip.divide([3]),
        lambda strip: strip.adjust_cell_length(3),
        lambda strip: strip.crop_extend(0, 3, None),
        lambda strip: strip.crop(0, 3),
        lambda strip: strip.extend_cell_length(3),
    ],
)
def test_they_are_gone_with_whoever_had_them(use: Callable[[Strip], object]) -> None:
    class Known(Strip):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        with not_held_by_themselves():
            strip = Known([Segment("abc")])
            gone = weakref.ref(strip)
            use(strip)
            del strip
            assert gone() is None
    finally:
        gc.enable()
