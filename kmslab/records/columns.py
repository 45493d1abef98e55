"""Which column holds what, and how the text of a cell is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest
from typing import Final

from kmslab.context import context_text
from kmslab.errors import ContextError, FormatError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNIX_SECONDS: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_JSON_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BRACES: Final = re.compile(r'\{\{|\}\}|\{([^{}"\\]+)\}|[{}]')


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a source's columns, field by field after `Record` (design, Annex B).

    A column that is not there is not needed unless a row needs it. One that was given another name
    than its default must be there (lab's choice: a misspelt name would read as "no context").
    `created_at`, `owner`, `region` and `account` may be None: not read at all.

    >>> Columns(context="ctx").context, Columns().context
    ('ctx', 'encryption_context')
    """

    record_id: str = "record_id"
    ciphertext_blob: str = "ciphertext_blob"
    provider: str = "provider"
    context: str = "encryption_context"
    key_id: str = "key_id"
    created_at: str | None = "created_at"
    owner: str | None = "owner"
    source_key_id: str = "source_key_id"
    source_key_version_id: str = "source_key_version_id"
    source_encryption_algorithm: str = "source_encryption_algorithm"
    region: str | None = "region"
    account: str | None = "account"


DEFAULT_COLUMNS: Final = Columns()


@dataclass(frozen=True, slots=True)
class ContextTemplate:
    """A context whose values hold columns: `{"tenant":"{tenant_id}"}`.

    The template is the exact text of a context: a JSON object of strings. In its values `{name}`
    stands for the cell of the column `name`, which is put in escaped as JSON asks, non-ASCII as it
    is, an empty cell as an empty text. Everything else, white space included, stays as it is. A
    brace that is meant as a brace inside a key or value is written twice; the braces of the object
    itself are not. These rules are the lab's choice.

    >>> template = ContextTemplate.parse('{"tenant":"{tenant_id}", "app":"{{orders}}"}')
    >>> template.columns
    ('tenant_id',)
    >>> print(template.fill(['租户 "7"']))
    {"tenant":"租户 \\"7\\"", "app":"{orders}"}
    """

    literals: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> ContextTemplate:
        """The template of a text; ContextError where it is none.

        >>> ContextTemplate.parse('{"tenant":"{tenant_id"}')
        Traceback (most recent call last):
        ...
        kmslab.errors.ContextError: context template: a lone brace in "{tenant_id"; write it twice
        """
        if not context_text(text):
            raise ContextError("the context template gives no context")
        literals, columns = [""], []
        for literal, column in _pieces(text):
            literals[-1] += literal
            if column:
                columns.append(column)
                literals.append("")
        return cls(tuple(literals), tuple(columns))

    def fill(self, cells: Iterable[str]) -> str:
        """The context text with `cells` in place of `columns`, in their order."""
        escaped = (json.dumps(cell, ensure_ascii=False)[1:-1] for cell in cells)
        return "".join(chain.from_iterable(zip_longest(self.literals, escaped, fillvalue="")))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """A template as pairs of literal text and the column that follows it ("" for none)."""
    end = 0
    # A context is a flat object of strings, so its strings are key, value, key, value ...
    for index, string in enumerate(_JSON_STRING.finditer(text)):
        yield text[end : string.start(1)], ""
        for literal, column in _string_pieces(string[1]):
            if column and index % 2 == 0:
                raise ContextError(
                    f"context template: {{{column}}} is in a key; only values can hold columns"
                )
            yield literal, column
        end = string.end(1)
    yield text[end:], ""


def _string_pieces(string: str) -> Iterator[tuple[str, str]]:
    end = 0
    for brace in _BRACES.finditer(string):
        if len(brace[0]) == 1:
            raise ContextError(f'context template: a lone brace in "{string}"; write it twice')
        column = brace[1] or ""
        yield string[end : brace.start()] + ("" if column else brace[0][0]), column
        end = brace.end()
    yield string[end:], ""


def parse_time(text: str) -> datetime:
    """The instant that a cell names, in UTC.

    ISO 8601 with an offset or `Z`; without one it is read as UTC; or seconds since 1970-01-01 UTC.
    Anything else is a FormatError, and so are eight digits, which could be either (lab's choice).

    >>> parse_time("2026-01-02T08:00:00+08:00") == parse_time("1767312000")
    True
    """
    try:
        if text[4:5] != "-" and _UNIX_SECONDS.fullmatch(text):
            if len(text) == 8 and text.isdigit():
                raise ValueError
            return _EPOCH + timedelta(seconds=float(text))
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FormatError(f"{text[:40]!r} is neither an ISO 8601 time nor Unix seconds") from None
