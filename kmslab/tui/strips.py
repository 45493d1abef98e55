"""Painted lines that go as soon as nobody has them.

A strip of Textual's remembers what it was divided and cropped to. Where that is the strip
itself, as it is for most, the strip holds itself: so half of all garbage that has to be looked for,
while everybody waits, are lines that were painted once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.style import Style
from textual.strip import Strip

_divide: Final = Strip.divide
_crop_extend: Final = Strip.crop_extend


@contextmanager
def not_held_by_themselves() -> Iterator[None]:
    """Have strips not remember themselves while what is inside runs, anywhere in the process.

    >>> with not_held_by_themselves():
    ...     Strip.blank(3).divide([3])
    [Strip([Segment('   ')], 3)]
    """
    methods = {"divide": _divided, "crop_extend": _cropped}
    before = {name: getattr(Strip, name) for name in methods}
    for name, method in methods.items():
        setattr(Strip, name, method)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(Strip, name, method)


def _divided(strip: Strip, cuts: Iterable[int]) -> Sequence[Strip]:
    cuts = [cut for cut in cuts if cut <= strip.cell_length]
    return [strip] if cuts == [strip.cell_length] else _divide(strip, cuts)


def _cropped(strip: Strip, start: int, end: int, style: Style | None) -> Strip:
    if start <= 0 and end == strip.cell_length:
        return strip
    return _crop_extend(strip, start, end, style)
