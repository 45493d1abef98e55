"""The filter language of the records grid: `key:orders ver:<3 age:>90d out:stale !word`.

Terms stand side by side and must all hold; `!` turns one round; quotes keep spaces together, and a
quote inside them is written twice. Case does not matter. What a term means for a record is in
`kmslab.tui.matching`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kmslab.errors import FilterError as FilterError
from kmslab.model import CTYUN, TENCENT
from kmslab.tui.ages import UNITS, seconds_of
from kmslab.tui.states import NAMES, named

COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}

PROVIDERS: Final = (TENCENT, CTYUN)

_TERM: Final = re.compile(r'(?:[^\s"]|"(?:[^"]|"")*"?)+')
_FIELD: Final = re.compile(r"([A-Za-z_]+):")
_QUOTED: Final = re.compile(r'"((?:[^"]|"")*)"')
_PLAIN: Final = re.compile(r'[^\s"!:]+(?:[^\s"])*')
_VERSION_NUMBER: Final = re.compile(r"[0-9]{1,6}")
_VERSION_ID: Final = re.compile(r"[0-9a-f][0-9a-f-]*")


class Part(StrEnum):
    """What a text is looked for in."""

    ANY = ""
    """The record's id, owner, context and word of its state; the id, alias and description of its
    key."""
    ID = "id"
    KEY = "key"
    """The id, alias and description of the key that the blob names."""
    OWNER = "owner"
    CONTEXT = "context"
    REASON = "reason"
    """Why a record has its outcome."""


@dataclass(frozen=True, slots=True)
class Has:
    """A part of the record has this text in it; the text is folded, and not empty."""

    part: Part
    text: str


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider's name begins so."""

    start: str


@dataclass(frozen=True, slots=True)
class Is:
    """The outcome's name, or the word that the grid has for it, begins so.

    Commas part several, of which one is enough.
    """

    start: str


@dataclass(frozen=True, slots=True)
class Marked:
    """The record is marked, at the moment when the rows are arranged."""


@dataclass(frozen=True, slots=True)
class Version:
    """The number of the key's version, 1 for the oldest; what is not known is never of it."""

    comparison: str
    number: int


@dataclass(frozen=True, slots=True)
class VersionId:
    """The id of the key's version begins so."""

    start: str


@dataclass(frozen=True, slots=True)
class Age:
    """The time since the record's created_at; what has none is never of it."""

    comparison: str
    seconds: int


@dataclass(frozen=True, slots=True)
class At:
    """The record is of just this provider, and its blob names just this key and version.

    What is None may be anything, and a key id of "" is that of blobs which name none. Nobody types
    it: the tree asks for it.
    """

    provider: str
    key_id: str | None = None
    version_id: str | None = None


Test = Has | Provider | Is | Marked | Version | VersionId | Age | At


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that is asked of records."""

    test: Test
    negated: bool = False

    def __str__(self) -> str:
        return ("!" if self.negated else "") + _written(self.test)


@dataclass(frozen=True, slots=True)
class Query:
    """Terms that must all hold; none, and every record is shown.

    >>> str(Query.parse('OUT:stale  !"Li Lei" age:>12w'))
    'out:stale !"li lei" age:>84d'
    """

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Query:
        """The query of a text.

        FilterError for a text that is none: it says what is allowed at its `offset`.

        >>> Query.parse("prov:aws")
        Traceback (most recent call last):
        ...
        kmslab.errors.FilterError: at 6, prov: 'aws' is none of tencent, ctyun
        """
        return cls(tuple(_terms(text)))

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))


EVERY: Final = Query()
"""Every record."""


def _terms(text: str) -> Iterator[Term]:
    for found in _TERM.finditer(text):
        word, at = found[0], found.start()
        negated = word.startswith("!")
        if negated:
            word, at = word[1:], at + 1
        if not word:
            raise _refusal("after ! comes what is not wanted, as in !word or !out:stale", at)
        yield Term(_test(word, at), negated)


def _test(word: str, at: int) -> Test:
    if field := _FIELD.match(word):
        name = field[1].lower()
        read = _READ.get(name)
        if read is None:
            fields = ", ".join(f"{name}:" for name in _READ)
            raise _refusal(
                f"{field[1]!r} is no field; fields are {fields}; a text is put in quotes", at
            )
        at += field.end()
        value = _unquoted(word[field.end() :], at)
        if not value:
            raise _refusal(f"{name}: wants {_WANTED[name]}", at)
        return read(value, at)
    text = _unquoted(word, at).casefold()
    if not text:
        raise _refusal("an empty text is in every record; put something into the quotes", at)
    return Has(Part.ANY, text)


def _unquoted(word: str, at: int) -> str:
    """What a word says, without its quotes."""
    pieces, end = [], 0
    for quoted in _QUOTED.finditer(word):
        pieces += [word[end : quoted.start()], quoted[1].replace('""', '"')]
        end = quoted.end()
    if '"' in word[end:]:
        raise _refusal("a quote that is never closed", at + word.index('"', end))
    return "".join([*pieces, word[end:]])


def _has(part: Part) -> Callable[[str, int], Test]:
    return lambda value, at: Has(part, value.casefold())


def _provider(value: str, at: int) -> Test:
    return Provider(_beginning("prov", value, PROVIDERS, at))


def _outcome(value: str, at: int) -> Test:
    starts = [named(start) for start in value.split(",")]
    for start in starts:
        if not start or not any(name.startswith(start) for name in NAMES):
            raise _refusal(f"out: {start!r} is not {_WANTED['out']}", at)
    return Is(",".join(starts))


def _is(value: str, at: int) -> Test:
    if value.lower() != "marked":
        raise _refusal(f"is: {value!r} is not {_WANTED['is']}", at)
    return Marked()


def _beginning(field: str, value: str, names: tuple[str, ...], at: int) -> str:
    """A text that one of some names begins with: what is being typed is right all the while."""
    start = value.lower()
    if not any(name.startswith(start) for name in names):
        raise _refusal(f"{field}: {value!r} is none of {', '.join(names)}", at)
    return start


def _version(value: str, at: int) -> Test:
    comparison, number = _compared(value)
    if _VERSION_NUMBER.fullmatch(number):
        return Version(comparison or "=", int(number))
    start = number.lower()
    if comparison in ("", "=") and _VERSION_ID.fullmatch(start):
        return VersionId(start)
    raise _refusal(f"ver: {value!r} is not {_WANTED['ver']}", at)


def _age(value: str, at: int) -> Test:
    comparison, age = _compared(value)
    seconds = seconds_of(age)
    if seconds is None or comparison in ("", "="):
        raise _refusal(f"age: {value!r} is not {_WANTED['age']}", at)
    return Age(comparison, seconds)


def _compared(value: str) -> tuple[str, str]:
    """A comparison, "" for none, and what is after it."""
    comparison = next((sign for sign in COMPARISONS if value.startswith(sign)), "")
    return comparison, value[len(comparison) :]


_READ: Final[Mapping[str, Callable[[str, int], Test]]] = {
    "key": _has(Part.KEY),
    "ver": _version,
    "prov": _provider,
    "age": _age,
    "owner": _has(Part.OWNER),
    "out": _outcome,
    "is": _is,
    "id": _has(Part.ID),
    "context": _has(Part.CONTEXT),
    "reason": _has(Part.REASON),
}

_WANTED: Final[Mapping[str, str]] = {
    "key": "a part of a key's id, alias or description",
    "ver": "a version's number, as in ver:2 or ver:<3, or how its id begins",
    "prov": " or ".join(PROVIDERS),
    "age": f"< or > and a time, as in age:>90d; times end in {', '.join(UNITS)}",
    "owner": "a part of the owner",
    "out": "a word of the column STATE, or several parted by commas, as in out:stale,no_key",
    "is": "marked, as in is:marked",
    "id": "a part of the record's id",
    "context": "a part of the encryption context",
    "reason": "a part of the reason",
}

FIELDS: Final[Mapping[str, str]] = _WANTED
"""The fields, with what each wants after its colon."""


def _refusal(message: str, offset: int) -> FilterError:
    """People count from 1."""
    return FilterError(f"at {offset + 1}, {message}", offset=offset)


def _written(test: Test) -> str:
    match test:
        case Has(Part.ANY, text):
            return text if _PLAIN.fullmatch(text) and not _FIELD.match(text) else _quoted(text)
        case Has(part, text):
            return f"{part}:{text if _PLAIN.fullmatch(text) else _quoted(text)}"
        case Provider(start):
            return f"prov:{start}"
        case Is(start):
            return f"out:{start}"
        case Marked():
            return "is:marked"
        case Version(comparison, number):
            return f"ver:{'' if comparison == '=' else comparison}{number}"
        case VersionId(start):
            return f"ver:{start}"
        case Age(comparison, seconds):
            unit = next(u for u in ("d", "h", "m", "s") if seconds % UNITS[u] == 0)
            return f"age:{comparison}{seconds // UNITS[unit]}{unit}"
        case At(provider, key_id, version_id):
            parts = (("prov", provider), ("key", key_id), ("ver", version_id))
            return " ".join(f"{name}:{_quoted(text)}" for name, text in parts if text is not None)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
