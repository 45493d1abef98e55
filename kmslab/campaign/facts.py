"""What a journal knows of its campaign as a whole: facts by name, each as JSON.

Facts are asked for often, and a million record ids are not: those that were selected have a table
of their own, some thousand in a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from kmslab.campaign.long_json import Texts
from kmslab.errors import StateError

TABLES: Final = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE selected (number INTEGER PRIMARY KEY, ids TEXT NOT NULL);
"""

FACTS: Final = "SELECT name, value FROM fact"
SELECTED: Final = "SELECT ids FROM selected ORDER BY number"

_PUT_FACT: Final = "INSERT OR REPLACE INTO fact VALUES (?, ?)"
_PUT_SELECTED: Final = "INSERT OR IGNORE INTO selected VALUES (?, ?)"
_COUNT, _ROWS = "selected", "in_rows"  # of the ids, in their place

Many = Callable[[str, Iterable[tuple[Any, ...]]], object]
"""Runs a statement for each of some rows, as `executemany` does."""


def put_facts(many: Many, facts: Mapping[str, Any]) -> None:
    """Set facts, in a transaction that is somebody else's.

    Texts among them are the ids that were selected, in order: the same in all facts, and always the
    same. ValueError where they are in no order, or others than in the fact before.
    """
    selected: list[Texts] = []

    def apart(value: object) -> dict[str, int]:
        if not isinstance(value, Texts):
            raise TypeError(f"a {type(value).__name__} is nothing that JSON has")
        if not value.ascending or (selected and value is not selected[0] != value):
            raise ValueError("a campaign has one selection, whose ids are in order")
        selected[:] = [value]
        return {_COUNT: len(value), _ROWS: len(value.pieces)}

    rows = [
        (name, json.dumps(value, ensure_ascii=False, default=apart))
        for name, value in facts.items()
    ]
    many(_PUT_FACT, rows)
    for texts in selected:
        many(_PUT_SELECTED, enumerate(texts.pieces))


class Facts(Mapping[str, Any]):
    """What is known of a campaign, each fact as JSON until it is asked for.

    `selected` gives the rows of SELECTED. Their ids are read anew each time that a fact is asked
    for which has them: kept, they would stay for as long as the campaign runs. StateError, which
    begins with `name`, where they are not all there.

    >>> facts = Facts({"state": '"running"', "calls": '{"ctyun": 3}'})
    >>> facts["calls"], facts.get("after"), sorted(facts)
    ({'ctyun': 3}, None, ['calls', 'state'])
    """

    def __init__(
        self,
        values: Mapping[str, str],
        selected: Callable[[], Iterable[tuple[str]]] = tuple,
        name: str = "the journal",
    ) -> None:
        self._values = values
        self._selected = selected
        self._name = name

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._values[name], object_hook=self._with_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _with_ids(self, found: dict[str, Any]) -> Any:
        if found.keys() != {_COUNT, _ROWS}:
            return found
        pieces = [piece for (piece,) in self._selected()]
        if len(pieces) != found[_ROWS]:
            rows = f"{found[_ROWS]} rows of selected ids"
            raise StateError(f"{self._name}: of {rows} {len(pieces)} are there; it was damaged")
        return Texts(pieces, found[_COUNT], ascending=True)
