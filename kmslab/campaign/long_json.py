"""A million texts, as some hundred texts of JSON, and JSON with them in it, piece by piece.

One call of C for all of them takes up to half a second, and every other thread waits meanwhile. So
it does for 20 ms where a collection of garbage comes upon a list of a million, and for 50 where
memory is given to one text of as many. The terminal could answer no key.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import eq, lt
from typing import Any, Final

STEP: Final = 4_096
"""How many are dealt with at once: a millisecond or two."""


class Texts(Collection[str]):
    """Very many texts, some thousand of them as one of JSON. `written` takes them as a list.

    `ascending` says that each is greater than the one before it.

    >>> texts = Texts.of(["a", "b"])
    >>> list(texts), len(texts), texts.ascending, texts == ["a", "b"]
    (['a', 'b'], 2, True, True)
    """

    __slots__ = ("_count", "_last", "_pieces", "ascending")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._count = 0
        self._last: str | None = None
        self.ascending = True

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """These texts, in their order."""
        found, left = cls(), iter(texts)
        while some := list(islice(left, STEP)):
            found._add(some, json.dumps(some))
        return found

    @classmethod
    def in_pieces(cls, pieces: Iterable[str]) -> Texts:
        """Those whose `pieces` these are. ValueError where one is no array of JSON."""
        found = cls()
        for piece in pieces:
            found._add(json.loads(piece), piece)
        return found

    def _add(self, some: list[str], piece: str) -> None:
        if self.ascending:
            rises = self._last is None or self._last < some[0]
            self.ascending = rises and all(map(lt, some, islice(some, 1, None)))
        self._pieces.append(piece)
        self._count += len(some)
        self._last = some[-1]

    @property
    def pieces(self) -> Sequence[str]:
        """Arrays of JSON, of STEP texts or fewer."""
        return self._pieces

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(json.loads, self._pieces))

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: object) -> bool:
        return any(each == text for each in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Texts, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({self._count:,})"


def written(value: Any, *, indent: int | None = None) -> Iterator[str]:
    """A value as JSON, piece by piece: together what `json.dumps` gives.

    >>> "".join(written({"ids": Texts.of(["a", "订"])}))
    '{"ids": ["a", "订"]}'
    """
    pieces = json.JSONEncoder(ensure_ascii=False, indent=indent, default=_Listed).iterencode(value)
    while some := list(islice(pieces, STEP)):
        yield "".join(some)


class _Listed(list[str]):
    """Texts for json's encoder, which goes through any kind of list, and through nothing else."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, Texts):
            raise TypeError(f"a {type(value).__name__} is nothing that JSON has")
        super().__init__()
        self._texts = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)
