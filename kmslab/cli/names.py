"""What keys are called in tables: by an alias where that is enough, else by their id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmslab.lab import Lab


class Names:
    """The names of keys. `aliases` are those of each key id; one that two keys have names neither.

    >>> names = Names({"5cd15c00": "orders", "9f1a2e7b": "", "098a921c": "orders"})
    >>> names("5cd15c00"), names(None)
    ('5cd15c00', None)
    """

    def __init__(self, aliases: Mapping[str, str]) -> None:
        times = Counter(aliases.values())
        self._aliases = {
            key: alias for key, alias in aliases.items() if alias and times[alias] == 1
        }

    @classmethod
    def of(cls, lab: Lab) -> Names:
        """The names of a lab's keys. That of a deleted key is its alias where no other has it.

        What they answer of the other keys can be given to a command as KEY.
        """
        there: dict[str, str] = {}
        deleted: dict[str, str] = {}
        for key in lab.keys():
            (deleted if key.state.value == "deleted" else there)[key.key_id] = key.alias
        taken = set(there.values())
        free = {key_id: alias for key_id, alias in deleted.items() if alias not in taken}
        return cls({**there, **free})

    def __call__(self, key_id: str | None) -> str | None:
        """The name of a key; an id that is not known stays an id."""
        return None if key_id is None else self._aliases.get(key_id, key_id)
