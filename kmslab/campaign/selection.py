"""Some of a source's records: those that were marked, or those on one key or version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

from kmslab.analysis.classify import Verdict
from kmslab.campaign.large import Ids, collected, in_order
from kmslab.campaign.long_json import Rest, no_rest
from kmslab.model import Record

Given = Callable[[Set[str]], object]
"""What is written for record ids: a list of them, `large.listed`, since they may be very many, or
how many they are."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records a campaign is about; the others are left as they are, and not counted.

    `record_ids` names them one by one; `key_id` and `key_version_id` are what their blobs name
    (unverified), `provider` is what they say themselves. What is None takes every record; all that
    are given must hold.

    >>> from kmslab.analysis import Outcome
    >>> some = Selection(record_ids=frozenset({"order-1"}))
    >>> some.takes(Record("order-1", "ctyun", "a"), Verdict(Outcome.STALE))
    True
    """

    record_ids: Set[str] | None = None
    key_id: str | None = None
    key_version_id: str | None = None
    provider: str | None = None

    def takes(self, record: Record, verdict: Verdict) -> bool:
        """Whether a record is one of them; the verdict says what its blob names."""
        return (
            (self.record_ids is None or record.record_id in self.record_ids)
            and self.key_id in (None, verdict.key_id)
            and self.key_version_id in (None, verdict.key_version_id)
            and self.provider in (None, record.provider)
        )

    def rows(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> list[int]:
        """Which of some records are of the selection."""
        pairs = enumerate(zip(records, verdicts, strict=True))
        return [row for row, (record, verdict) in pairs if self.takes(record, verdict)]

    def make_ready(self, rest: Rest = no_rest) -> None:
        """Somebody asks `takes` soon, for which a million ids are made ready in a second."""
        if isinstance(self.record_ids, Ids):
            self.record_ids.unpack(rest)

    def put_away(self, rest: Rest = no_rest) -> None:
        """Nobody asks `takes` just now: a million ids take less room, and time, then."""
        if isinstance(self.record_ids, Ids):
            self.record_ids.pack(rest)

    def as_dict(self, ids: Given = in_order) -> dict[str, Any]:
        """The selection as JSON takes it. `ids` says what becomes of the record ids.

        >>> EVERYTHING.as_dict()["record_ids"], Selection({"b", "a"}).as_dict()["record_ids"]
        (None, ['a', 'b'])
        """
        return {
            "record_ids": None if self.record_ids is None else ids(self.record_ids),
            "key_id": self.key_id,
            "key_version_id": self.key_version_id,
            "provider": self.provider,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Selection:
        """The selection that `as_dict` gave; one that was kept without a provider names none.

        >>> Selection.from_dict(EVERYTHING.as_dict()) == EVERYTHING
        True
        >>> kept = {"record_ids": None, "key_id": None, "key_version_id": None}
        >>> Selection.from_dict(kept) == EVERYTHING
        True
        """
        ids = values["record_ids"]
        return cls(
            None if ids is None else collected(ids),
            values["key_id"],
            values["key_version_id"],
            values.get("provider"),
        )


EVERYTHING: Final = Selection()
"""Every record of the source."""
