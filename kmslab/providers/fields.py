"""Requests and answers of a cloud as fields: what is given, and what is not what it should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from kmslab.encoding import unb64
from kmslab.errors import BadAnswer, FormatError

_MOST_PAGES: Final = 1_000


def given(**parameters: Any) -> dict[str, Any]:
    """The parameters that are not empty.

    >>> given(KeyId="k", KeySpec=None)
    {'KeyId': 'k'}
    """
    return {name: value for name, value in parameters.items() if value not in (None, "")}


class Fields:
    """The fields of an answer. BadAnswer, naming the field, where one is not what it should be."""

    __slots__ = ("_provider", "_values", "request_id")

    def __init__(self, provider: str, values: object, request_id: str) -> None:
        self._provider = provider
        self._values = values if isinstance(values, Mapping) else {}
        self.request_id = request_id

    def has(self, name: str) -> bool:
        """Whether there is something."""
        return self._values.get(name) is not None

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self._of(name, str)
        if not value:
            raise self.bad(name)
        return str(value)

    def text_or_none(self, name: str) -> str | None:
        """A text; None where it is missing or empty."""
        return str(self._of(name, str)) if self._values.get(name) else None

    def flag(self, name: str) -> bool:
        """A truth value."""
        return bool(self._of(name, bool))

    def number(self, name: str) -> int:
        """A whole number; 0 where it is missing."""
        value = self._values.get(name)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.bad(name)
        return value

    def data(self, name: str, length: int | None = None) -> bytes:
        """The bytes of a base64 text, of this length; without one there may be none."""
        text = str(self._of(name, str))
        try:
            found = unb64(text)
        except FormatError:
            raise self.bad(name) from None
        if length not in (None, len(found)):
            raise self.bad(name)
        return found

    def part(self, name: str) -> Fields:
        """The fields of an object."""
        return Fields(self._provider, self._of(name, Mapping), self.request_id)

    def parts(self, name: str) -> list[Fields]:
        """The fields of each object of a list."""
        return [Fields(self._provider, value, self.request_id) for value in self._of(name, list)]

    def bad(self, name: str) -> BadAnswer:
        """What is said of a field that is not what it should be. Its value is not."""
        error = BadAnswer(f"{self._provider} answered without a good {name}")
        error.request_id = self.request_id
        return error

    def _of(self, name: str, kind: type) -> Any:
        value = self._values.get(name)
        if not isinstance(value, kind):
            raise self.bad(name)
        return value


def all_pages(ask: Callable[[int, int], Fields], parts: str, total: str) -> list[Fields]:
    """The `parts` of all pages of a list, where `ask` is given how many parts and how many pages
    were read before. A page may be shorter than was asked for: `total` says how many there are.

    BadAnswer where fewer come than that. Where there is no total, an empty page ends the list.
    """
    found: list[Fields] = []
    pages = 0
    while True:
        answer = ask(len(found), pages)
        page = answer.parts(parts)
        found += page
        pages += 1
        known = answer.has(total)
        if known and len(found) >= answer.number(total):
            return found
        if not page and not known:
            return found
        if not page or pages >= _MOST_PAGES:
            raise answer.bad(total)
