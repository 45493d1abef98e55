"""Is a key, or one version of it, still needed? Every source and every journal is asked.

A version or key may be disabled or deleted only when nothing is left on it. What is left is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from kmslab.analysis.classify import Classifier, Outcome, Verdict
from kmslab.campaign.entries import before
from kmslab.campaign.journal import Journal
from kmslab.campaign.planning import authenticated
from kmslab.campaign.run import UNFINISHED, Ground
from kmslab.campaign.sources import Hold, RegisteredSource
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.errors import SourceError
from kmslab.model import CTYUN, TENCENT, Key, Record

_NAMED: Final = 10
_NAMES_NO_KEY: Final = frozenset(
    {Outcome.INVALID, Outcome.FOREIGN, Outcome.MAY_CHANGE, Outcome.NEEDS_PUBLIC_KEY_INFO}
)


class Kind(StrEnum):
    """What stands in the way of a retirement."""

    RECORDS = "records"
    """Records on the key or version."""
    UNREADABLE = "unreadable"
    """Records of which it is not known what they are on."""
    JOURNAL = "journal"
    """A campaign that is not closed: its journal holds blobs on the key or version."""
    UNFINISHED = "unfinished"
    """A campaign that is not finished, whatever it is on."""
    HOLD = "hold"
    """Something that cannot be scanned."""
    UNSCANNED = "unscanned"
    """A source that cannot be read, or that there is none."""


@dataclass(frozen=True, slots=True)
class Left:
    """One thing that stands in the way: where it is, how much, and some of it by name."""

    kind: Kind
    where: str
    records: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retirement:
    """What was looked at, and what is left on a key, or on one version of it."""

    provider: str
    key_id: str
    key_version_id: str | None
    sources: tuple[str, ...]
    records: int
    left: tuple[Left, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.left


def survey(
    ground: Ground,
    key: Key,
    *,
    key_version_id: str | None = None,
    sources: Sequence[RegisteredSource],
    holds: Sequence[Hold],
    accept_unreadable: bool = False,
    watch: Watch = QUIET,
) -> Retirement:
    """Read every source anew, opening each blob, and every journal; say what is left.

    Without a version, every version of the key counts. Records of which nobody can tell what they
    are on stand in the way too, since a wrongly named column looks just like that;
    `accept_unreadable` lets them be. CampaignInterrupted where `watch` says stop.
    """
    search = _Search(ground, key, key_version_id, watch)
    left: list[Left] = []
    if not sources:
        left.append(Left(Kind.UNSCANNED, "no source is registered, so nothing was looked at"))
    for registered in sources:
        left += search.in_source(registered)
    left += search.in_journals()
    left += [
        Left(Kind.HOLD, f"{hold.name}: {hold.reason}") for hold in holds if hold.covers(key.key_id)
    ]
    return Retirement(
        key.provider,
        key.key_id,
        key_version_id,
        tuple(registered.name for registered in sources),
        search.records,
        tuple(e for e in left if not (accept_unreadable and e.kind is Kind.UNREADABLE)),
    )


class _Search:
    def __init__(self, ground: Ground, key: Key, key_version_id: str | None, watch: Watch) -> None:
        self.records = 0
        self._ground = ground
        self._key = key
        self._version = key_version_id
        self._watch = watch
        self._classifier = Classifier(ground.providers)

    def in_source(self, registered: RegisteredSource) -> Iterator[Left]:
        """What a registered source has on the key."""
        on, unreadable = _Found(), _Found()
        try:
            source = self._ground.open_source(registered.spec)
            for part in source.parts:
                for chunk in part.read():
                    for record, verdict in self._verdicts(chunk.records):
                        if self._is_on(verdict, record):
                            on.take(record.record_id)
                        elif self._may_be_on(verdict, record):
                            unreadable.take(record.record_id)
                    self._watch.told(
                        Progress(
                            f"reading {registered.name}", self.records, None, {"left": on.count}
                        )
                    )
        except SourceError as error:
            yield Left(Kind.UNSCANNED, f"{registered.name}: {error}")
            return
        if on.count:
            yield Left(Kind.RECORDS, registered.name, on.count, tuple(on.names))
        if unreadable.count:
            yield Left(Kind.UNREADABLE, registered.name, unreadable.count, tuple(unreadable.names))

    def in_journals(self) -> Iterator[Left]:
        """What the journals of campaigns that are not closed hold on the key."""
        for path in self._ground.state.journals():
            with Journal.open(path) as journal:
                state = journal.facts()["state"]
                if state == "closed":
                    continue
                found = _Found()
                for entry in journal.entries():
                    record = before(
                        Record(entry.change.record_id, self._key.provider, ""), entry.change
                    )
                    verdict = self._classifier.classify(record)
                    if self._is_on(verdict, record):
                        found.take(record.record_id)
            if found.count:
                yield Left(Kind.JOURNAL, path.stem, found.count, tuple(found.names))
            elif state in UNFINISHED:
                yield Left(Kind.UNFINISHED, path.stem)

    def _verdicts(self, records: Sequence[Record]) -> Iterator[tuple[Record, Verdict]]:
        self.records += len(records)
        verdicts = [self._classifier.classify(record) for record in records]
        yield from zip(
            records, authenticated(self._ground.providers, records, verdicts), strict=True
        )

    def _is_on(self, verdict: Verdict, record: Record) -> bool:
        return (
            record.provider == self._key.provider
            and verdict.key_id == self._key.key_id
            and self._version in (None, verdict.key_version_id)
        )

    def _may_be_on(self, verdict: Verdict, record: Record) -> bool:
        """Whether nobody can tell that a record is not on the key."""
        if record.provider in (TENCENT, CTYUN) and record.provider != self._key.provider:
            return False
        return verdict.key_id is None and verdict.outcome in _NAMES_NO_KEY


class _Found:
    """Records, counted, and some of them by name."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []

    def take(self, record_id: str) -> None:
        self.count += 1
        if len(self.names) < _NAMED:
            self.names.append(record_id)
