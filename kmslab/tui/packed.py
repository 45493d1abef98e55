"""Values of many records in little memory: texts end to end, and values that repeat by number."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeVar

V = TypeVar("V", bound=Hashable)

_SEPARATORS: Final = "\0\x1f\x1e\x1d\x1c"


@dataclass(frozen=True, slots=True)
class Packed:
    """Texts of one block of records, as one text: a million small ones would take much more.

    >>> owners = Packed.of(["Ada", "欧阳", ""])
    >>> owners[1], owners.all()
    ('欧阳', ['Ada', '欧阳', ''])
    """

    joined: str
    separator: str
    count: int
    width: int | None
    """How many letters each text has, where all have as many: their places are known then. Blobs of
    one key are so, most ids, and contexts where there are none."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Packed:
        """At least one text."""
        separator, joined = _joined(texts)
        widths = set(map(len, texts))
        return cls(joined, separator, len(texts), widths.pop() if len(widths) == 1 else None)

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < self.count:
            raise IndexError(row)
        if self.width is None:
            return self.joined.split(self.separator, row + 1)[row]
        start = row * (self.width + 1)
        return self.joined[start : start + self.width]

    def all(self) -> list[str]:
        """Every text."""
        return self.joined.split(self.separator)

    @property
    def nbytes(self) -> int:
        """The bytes of memory that they take."""
        return sys.getsizeof(self.joined)


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of one block of records, which can be looked into whatever their case.

    >>> Texts.of(["Ada", "欧阳", ""]).having("ada")
    b'\\x01\\x00\\x00'
    """

    _plain: Packed
    _folded: Packed  # most often the very same

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """At least one text."""
        plain = Packed.of(texts)
        folded = plain.joined.casefold()
        same = folded == plain.joined
        return cls(plain, plain if same else replace(plain, joined=folded, width=None))

    def __getitem__(self, row: int) -> str:
        return self._plain[row]

    def all(self) -> list[str]:
        """Every text."""
        return self._plain.all()

    @property
    def nbytes(self) -> int:
        """The bytes of memory that they take."""
        return self._plain.nbytes + (0 if self._folded is self._plain else self._folded.nbytes)

    def having(self, folded: str) -> bytes:
        """For each text 1 where it has a part, whatever the case, and 0 elsewhere."""
        if folded not in self._folded.joined:
            return bytes(self._folded.count)
        return bytes([folded in text for text in self._folded.all()])


def _joined(texts: Sequence[str]) -> tuple[str, str]:
    """Texts end to end, and what is between them: a letter that none of them has."""
    gaps = len(texts) - 1
    for separator in _SEPARATORS:
        joined = separator.join(texts)
        if joined.count(separator) == gaps:
            return separator, joined
    there = set("".join(texts))
    # Beyond the controls and letters; none of these has a case, and there is always one left.
    separator = next(c for c in map(chr, range(0xE000, 0x110000)) if c not in there)
    return separator, separator.join(texts)


@dataclass(frozen=True, slots=True)
class Distinct(Generic[V]):
    """Values, each once, by number. Values are only added, so that others may read meanwhile.

    >>> owners = Distinct()
    >>> owners.numbers(["Ada", None, "Ada"]), owners[1]
    ([0, 1, 0], None)
    """

    values: list[V] = field(default_factory=list)
    _numbers: dict[V, int] = field(default_factory=dict)

    def __getitem__(self, number: int) -> V:
        return self.values[number]

    def __len__(self) -> int:
        return len(self.values)

    def number(self, value: V) -> int:
        """The number of a value, which is added where it is new."""
        found = self._numbers.get(value)
        if found is None:
            # First the value, then its number: a number is never seen without its value.
            self.values.append(value)
            found = self._numbers[value] = len(self.values) - 1
        return found

    def numbers(self, values: Iterable[V]) -> list[int]:
        """The number of each value."""
        return list(map(self.number, values))
