"""A million texts, as some hundred texts of JSON, and JSON with them in it, piece by piece.

One call of C for all of them takes up to half a second, and every other thread waits meanwhile. So
it does for 20 ms where a collection of garbage comes upon a list of a million, and for 50 where
memory is given to one text of as many. The terminal could answer no key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import eq, lt
from typing import Any, Final

STEP: Final = 4_096
"""How many are dealt with at once: a millisecond or two."""

Rest = Callable[[], object]
"""Is called after each step of something long, which may so rest while others are answered."""


def no_rest() -> None:
    """Nobody waits."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Texts(Collection[str]):
    """Very many texts, in arrays of JSON. `written` takes them as a list.

    `pieces` are the arrays, of STEP texts or fewer; `ascending` says that each text is greater than
    the one before it.

    >>> texts = Texts.of(["a", "b"])
    >>> list(texts), len(texts), texts.ascending, texts == ["a", "b"]
    (['a', 'b'], 2, True, True)
    """

    pieces: Sequence[str]
    count: int
    ascending: bool

    @classmethod
    def of(cls, texts: Iterable[str], rest: Rest = no_rest) -> Texts:
        """These texts, in their order."""
        pieces: list[str] = []
        count, last, ascending = 0, "", True
        left = iter(texts)
        while some := list(islice(left, STEP)):
            rises = not pieces or last < some[0]
            ascending = ascending and rises and all(map(lt, some, islice(some, 1, None)))
            pieces.append(json.dumps(some))
            count, last = count + len(some), some[-1]
            rest()
        return cls(pieces, count, ascending)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(json.loads, self.pieces))

    def __len__(self) -> int:
        return self.count

    def __contains__(self, text: object) -> bool:
        return any(each == text for each in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Texts, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({self.count:,})"


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
