"""How many records are on what, from the counts that a table keeps while it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kmslab.analysis.classify import Outcome
from kmslab.tui.judging import NO_ANSWER
from kmslab.tui.table import Kind


@dataclass(slots=True)
class Tally:
    """Records by outcome; those that are `old` are not on the primary version of their key.

    Of `unanswered` ones nobody knows, since their provider does not answer.
    """

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    old: int = 0
    unanswered: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.outcomes.total()

    @property
    def share(self) -> float:
        """The share that is on old versions."""
        return self.old / self.total if self.total else 0.0

    def add(self, kind: Kind, count: int) -> None:
        """Count so many records that are alike."""
        self.outcomes[kind.verdict.outcome] += count
        if kind.verdict.is_primary is False:
            self.old += count
        elif kind.verdict.reason.startswith(NO_ANSWER):
            self.unanswered += count


Version = tuple[str, str | None, str | None]
"""Provider, key id and version id, as the blobs name them."""


@dataclass(slots=True)
class Tallies:
    """The records of a table by provider, by key and by version, as far as they are counted."""

    every: Tally = field(default_factory=Tally)
    providers: dict[str, Tally] = field(default_factory=dict)
    keys: dict[tuple[str, str | None], Tally] = field(default_factory=dict)
    versions: dict[Version, Tally] = field(default_factory=dict)
    missing: str = "not counted yet"
    """Why records may be missing from the counts; "" where all of them are counted."""

    @classmethod
    def of(cls, counts: Mapping[Kind, int], *, missing: str = "") -> Tallies:
        """Those of a table's counts."""
        found = cls(missing=missing)
        for kind, count in counts.items():
            found._add(kind, count)
        return found

    def key(self, provider: str, key_id: str | None) -> Tally:
        """The records on a key; those whose blobs name none where that is None."""
        return self.keys.get((provider, key_id)) or Tally()

    def version(self, provider: str, key_id: str, version_id: str | None) -> Tally:
        """The records on a version of a key."""
        return self.versions.get((provider, key_id, version_id)) or Tally()

    def _add(self, kind: Kind, count: int) -> None:
        key_id, version_id = kind.verdict.key_id, kind.verdict.key_version_id
        self.every.add(kind, count)
        self.providers.setdefault(kind.provider, Tally()).add(kind, count)
        self.keys.setdefault((kind.provider, key_id), Tally()).add(kind, count)
        self.versions.setdefault((kind.provider, key_id, version_id), Tally()).add(kind, count)
