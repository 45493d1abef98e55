"""Which records a filter lets through, block by block.

A block answers each term with a mask: a byte for each of its records, 1 where the term holds. What
records share (kind, owner) is asked of each value once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kmslab.model import Key
from kmslab.tui.filtering import (
    COMPARISONS,
    Age,
    At,
    Has,
    Is,
    Marked,
    Part,
    Provider,
    Query,
    Term,
    Version,
    VersionId,
)
from kmslab.tui.masks import Mask, both, either, turned
from kmslab.tui.packed import Distinct
from kmslab.tui.states import names_of, state_word
from kmslab.tui.table import NEVER, Block, Kind, Numbers, Table, microseconds_of


class Matcher:
    """A query as it is asked of the blocks of one table, at one time: that is what ages are by.

    Marks are not the table's: whoever has them sees to what is asked of them (`by_marks`).
    It remembers what it was told of kinds and owners, so it is for one thread at a time.
    """

    __slots__ = ("_masks",)

    def __init__(self, query: Query, table: Table, now: datetime) -> None:
        # What is told of kinds and owners costs least: it may spare the looking into texts.
        terms = sorted(
            (term for term in query.terms if not isinstance(term.test, Marked)),
            key=lambda term: isinstance(term.test, Has),
        )
        self._masks = [_mask_of(term, table, now) for term in terms]

    def mask(self, block: Block) -> bytes:
        """Which records of a block every term holds for."""
        found = bytes([1]) * len(block)
        for mask in self._masks:
            found = both(found, mask(block))
            if 1 not in found:
                break
        return found


def by_marks(query: Query, shown: bytes, marks: Mask) -> bytes:
    """Of the rows that a mask means those for which holds what a query asks of marks."""
    for term in query.terms:
        if isinstance(term.test, Marked):
            shown = both(shown, turned(marks) if term.negated else marks)
    return shown


_MaskOf = Callable[[Block], bytes]


def _mask_of(term: Term, table: Table, now: datetime) -> _MaskOf:
    mask = _test_mask(term, table, now)
    return (lambda block: turned(mask(block))) if term.negated else mask


def _test_mask(term: Term, table: Table, now: datetime) -> _MaskOf:
    match term.test:
        case Marked():
            raise TypeError("marks are not the table's")
        case Has(part, text):
            return _has(part, text, table)
        case Provider(start):
            return _of_kinds(table, lambda kind: kind.provider.startswith(start))
        case Is(start):
            starts = tuple(start.split(","))
            return _of_kinds(
                table,
                lambda kind: any(name.startswith(starts) for name in names_of(kind.verdict)),
            )
        case VersionId(start):
            return _of_kinds(
                table, lambda kind: (kind.verdict.key_version_id or "").startswith(start)
            )
        case Version(comparison, number):
            holds = COMPARISONS[comparison]

            def is_version(kind: Kind) -> bool:
                known = kind.verdict.version_number
                return known is not None and holds(known, number)

            return _of_kinds(table, is_version)
        case At(provider, key_id, version_id):
            return _of_kinds(
                table,
                lambda kind: (
                    kind.provider == provider
                    and key_id in (None, kind.verdict.key_id or "")
                    and version_id in (None, kind.verdict.key_version_id)
                ),
            )
        case Age(comparison, seconds):
            return _age(comparison, microseconds_of(now) - seconds * 1_000_000)


def _of_kinds(table: Table, holds: Callable[[Kind], bool]) -> _MaskOf:
    told = _Told(table.shared.kinds, holds)
    return lambda block: told.mask(block.kinds, block.counts)


def _age(comparison: str, then: int) -> _MaskOf:
    """What is older was created earlier."""
    match comparison:
        case ">":
            return lambda block: bytes([NEVER < at < then for at in block.created])
        case ">=":
            return lambda block: bytes([NEVER < at <= then for at in block.created])
        case "<":
            return lambda block: bytes([at > then for at in block.created])
        case _:
            return lambda block: bytes([at >= then for at in block.created])


def _has(part: Part, text: str, table: Table) -> _MaskOf:
    keys = table.keys
    masks: list[_MaskOf] = []
    if part is Part.ANY:
        masks.append(_of_kinds(table, lambda kind: text in state_word(kind.verdict)))
    if part in (Part.ANY, Part.KEY):
        masks.append(_of_kinds(table, lambda kind: text in _of_key(kind, keys)))
    if part is Part.REASON:
        masks.append(_of_kinds(table, lambda kind: text in kind.verdict.reason.casefold()))
    if part in (Part.ANY, Part.OWNER):
        told = _Told(table.shared.owners, lambda owner: text in (owner or "").casefold())
        masks.append(lambda block: told.mask(block.owners))
    if part in (Part.ANY, Part.ID):
        masks.append(lambda block: block.ids.having(text))
    if part in (Part.ANY, Part.CONTEXT):
        masks.append(lambda block: block.contexts.having(text))
    if len(masks) == 1:
        return masks[0]

    def any_of(block: Block) -> bytes:
        found = masks[0](block)
        for mask in masks[1:]:
            if 0 not in found:
                break
            found = either(found, mask(block))
        return found

    return any_of


def _of_key(kind: Kind, keys: Mapping[str, Key]) -> str:
    """What a key is called, folded; a part that goes over the ends of its names is none."""
    key_id = kind.verdict.key_id
    key = keys.get(key_id or "")
    names = (key_id or "",) if key is None else (key.key_id, key.alias, key.description)
    return "\n".join(names).casefold()


class _Told:
    """What holds for values that records share, each asked once."""

    __slots__ = ("_answers", "_holds", "_values")

    def __init__(self, values: Distinct[Any], holds: Callable[[Any], bool]) -> None:
        self._values = values
        self._holds = holds
        self._answers = bytearray()

    def mask(self, numbers: Numbers, there: Mapping[int, int] | None = None) -> bytes:
        """For each number whether it holds for its value. `there` has the numbers once each."""
        answers = self._answers
        if len(answers) < len(self._values):
            values = self._values.values[len(answers) :]
            answers.extend(map(self._holds, values))
        if there is not None:
            told = set(map(answers.__getitem__, there))
            if len(told) == 1:
                return bytes(told) * len(numbers)
        if isinstance(numbers, bytes):
            return numbers.translate(answers[:256].ljust(256))
        return bytes(map(answers.__getitem__, numbers))
