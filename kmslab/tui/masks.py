"""Masks: for each of many rows a byte, 1 where it is meant and 0 where it is not."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress, islice
from typing import Final, overload

Mask = bytes | bytearray

_TURNED: Final = bytes([1, 0]) + bytes(254)
_STEP: Final = 1_024


def both(one: Mask, other: Mask) -> bytes:
    """Where two masks of one length have both a 1: as numbers, since those have a quick `&`."""
    met = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return met.to_bytes(len(one), "little")


def either(one: Mask, other: Mask) -> bytes:
    """Where one of two masks of one length has a 1.

    >>> either(b"\\1\\0\\0", b"\\1\\1\\0"), both(b"\\1\\0\\0", b"\\1\\1\\0")
    (b'\\x01\\x01\\x00', b'\\x01\\x00\\x00')
    """
    joined = int.from_bytes(one, "little") | int.from_bytes(other, "little")
    return joined.to_bytes(len(one), "little")


def turned(mask: Mask) -> bytes:
    """A mask the other way round.

    >>> turned(b"\\1\\0")
    b'\\x00\\x01'
    """
    return bytes(mask.translate(_TURNED))


class Meant(Sequence[int]):
    """The rows that a mask means, in their order, each looked for when it is asked for.

    To list a million takes longer than to filter them. The mask must stay as it is.

    >>> rows = Meant(b"\\0\\1\\1\\0\\1")
    >>> len(rows), rows[1], rows[1:], rows.index(4)
    (3, 2, [2, 4], 2)
    """

    __slots__ = ("_before", "_mask")

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        counts = (mask.count(1, at, at + _STEP) for at in range(0, len(mask), _STEP))
        self._before = list(accumulate(counts, initial=0))

    def __len__(self) -> int:
        return self._before[-1]

    def _from(self, at: int) -> Iterator[int]:
        """The rows from one on, by its place among them."""
        step = bisect_right(self._before, at) - 1
        start = step * _STEP
        rows = compress(range(start, len(self._mask)), memoryview(self._mask)[start:])
        return islice(rows, at - self._before[step], None)

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> list[int]: ...
    def __getitem__(self, at: int | slice) -> int | list[int]:
        if isinstance(at, slice):
            places = range(len(self))[at]
            if places.step != 1:
                return [self[place] for place in places]
            return list(islice(self._from(places.start), len(places)))
        return next(self._from(range(len(self))[at]))

    def __iter__(self) -> Iterator[int]:
        return compress(range(len(self._mask)), self._mask)

    def index(self, row: int, start: int = 0, stop: int | None = None) -> int:
        """The place of a row among them; ValueError where it is not meant."""
        if not 0 <= row < len(self._mask) or not self._mask[row]:
            raise ValueError(f"row {row} is not meant")
        step = row // _STEP
        return self._before[step] + self._mask.count(1, step * _STEP, row)
