"""Is a key, or one version of it, still needed? Every source and every journal is asked.

A version or key may be disabled or deleted only when nothing is left on it. What is left is named,
and so is what may be on it for all that anybody can tell.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from pathlib import Path
from typing import Final

from kmslab.analysis.classify import Classifier, Outcome, Verdict
from kmslab.analysis.heads import FORMATS
from kmslab.campaign.entries import before
from kmslab.campaign.journal import Entry, Journal
from kmslab.campaign.run import UNFINISHED, Ground
from kmslab.campaign.shards import settle_if_free
from kmslab.campaign.sources import Hold, RegisteredSource, Sources
from kmslab.campaign.state import State, content_errors
from kmslab.campaign.tally import authenticated
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.errors import FormatError, SourceError
from kmslab.model import CTYUN, TENCENT, BlobFormat, Key, Record
from kmslab.records.source import Source, alone

_NAMED: Final = 10


class Kind(StrEnum):
    """What stands in the way of a retirement."""

    RECORDS = "records"
    """Records on the key or version."""
    UNREADABLE = "unreadable"
    """Records that may be on it: it is not known, or not proven, what they are on."""
    JOURNAL = "journal"
    """A campaign that is not closed: its journal holds blobs on the key or version."""
    UNFINISHED = "unfinished"
    """A campaign that is not finished, whatever it is on."""
    HOLD = "hold"
    """Something that cannot be scanned."""
    UNSCANNED = "unscanned"
    """A source that cannot be read or has no records, or that there is none; or that something was
    changed while it was looked at."""


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
    states: tuple[str, ...]
    """The state folders whose sources, holds and journals were looked at."""
    sources: tuple[str, ...]
    records: int
    left: tuple[Left, ...]
    unregistered: tuple[str, ...] = ()
    """Where campaigns were at work, and that is not registered, so that nobody looked there."""

    @property
    def ready(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.left


def survey(
    ground: Ground,
    key: Key,
    *,
    key_version_id: str | None = None,
    sources: Sequence[RegisteredSource] | None = None,
    holds: Sequence[Hold] | None = None,
    also: Sequence[State] = (),
    accept_unreadable: bool = False,
    accept_empty: bool = False,
    watch: Watch = QUIET,
) -> Retirement:
    """Read every source anew, opening each blob, and every journal; say what is left.

    Without a version, every version of the key counts. `sources` and `holds` are those that are
    registered, unless they are given. `also` are state folders beside the ground's own whose
    sources, holds and journals count too.

    Records that may be on the key stand in the way, since a wrongly named column looks just like
    that; `accept_unreadable` lets them be, and `accept_empty` sources without a record. No campaign
    can be at work on a source while it is read; one that is makes it unscanned, and so does
    whatever is changed in the state folders or of the key meanwhile. CampaignInterrupted where
    `watch` says stop.
    """
    states = (ground.state, *also)
    surroundings = _Surroundings.of(states, key)
    sources = surroundings.sources if sources is None else sources
    holds = surroundings.holds if holds is None else holds
    search = _Search(ground, key, key_version_id, watch)
    left: list[Left] = []
    if not sources:
        left.append(Left(Kind.UNSCANNED, "no source is registered, so nothing was looked at"))
    with ExitStack() as locks:
        opened = _locked(locks, ground, states, sources)
        for registered, source in opened:
            left += search.in_source(registered, source, accept_empty=accept_empty)
        locked = {each.name for _, each in opened if not isinstance(each, SourceError)}
        for state in states:
            for path in state.journals():
                settle_if_free(state, path.stem, held=locked)
        left += search.in_journals(states)
        known = {name for registered, each in opened for name in _names(registered, each)}
        left += surroundings.changed(_Surroundings.of(states, _seen_now(ground, key)))
    left += [
        Left(Kind.HOLD, f"{hold.name}: {hold.reason}") for hold in holds if hold.covers(key.key_id)
    ]
    return Retirement(
        key.provider,
        key.key_id,
        key_version_id,
        tuple(str(state.path) for state in states),
        tuple(registered.name for registered in sources),
        search.records,
        tuple(e for e in left if not (accept_unreadable and e.kind is Kind.UNREADABLE)),
        tuple(name for name in _worked_on(states) if name not in known and _may_be_there(name)),
    )


def _names(registered: RegisteredSource, opened: Source | SourceError) -> Iterator[str]:
    """What a registered source may be called in the journal of a campaign."""
    yield registered.spec.location
    if not isinstance(opened, SourceError):
        yield opened.name
        yield from (part.name for part in opened.parts)


def _worked_on(states: Sequence[State]) -> list[str]:
    """The sources of all campaigns, and the copies that they wrote, each once."""
    found: dict[str, None] = {}
    for path in (path for state in states for path in state.journals()):
        with Journal.open(path) as journal:
            facts = journal.facts()
        found[facts["source"]] = None
        if output := facts["options"]["output"]:
            found[output] = None
    return list(found)


def _may_be_there(name: str) -> bool:
    """Whether a source may still exist; of a table that is not known."""
    if "://" in name or glob.has_magic(name):
        return True
    return Path(name).exists()


def _seen_now(ground: Ground, key: Key) -> Key:
    return ground.providers.kms(key.provider).describe_key(key.key_id)


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a survey rests on beside the records, and what must be the same when it is over."""

    sources: tuple[RegisteredSource, ...]
    holds: tuple[Hold, ...]
    campaigns: tuple[tuple[str, str], ...]
    """Every journal, and the state of its campaign."""
    key: tuple[object, ...]

    @classmethod
    def of(cls, states: Sequence[State], key: Key) -> _Surroundings:
        """Those of some state folders, and of a key as it was seen."""
        registered = [Sources(state) for state in states]
        sources = [source for each in registered for source in each.all()]
        # One that is registered in two folders alike is read once.
        once = {source.spec: source for source in reversed(sources)}
        return cls(
            tuple(source for source in sources if once[source.spec] is source),
            tuple(hold for each in registered for hold in each.holds()),
            tuple(_campaigns(states)),
            (key.state, key.primary_version_id, *(v.version_id for v in key.versions)),
        )

    def changed(self, now: _Surroundings) -> Iterator[Left]:
        """What is not as it was."""
        compared = {
            "the registered sources": self.sources == now.sources,
            "the holds": self.holds == now.holds,
            "the campaigns": self.campaigns == now.campaigns,
            "the key": self.key == now.key,
        }
        if changed := [what for what, same in compared.items() if not same]:
            yield Left(
                Kind.UNSCANNED,
                f"changed while this looked, so look again: {', '.join(changed)}",
            )


def _campaigns(states: Sequence[State]) -> Iterator[tuple[str, str]]:
    for state in states:
        for path in state.journals():
            with content_errors(path), Journal.open(path) as journal:
                found = str(journal.facts()["state"])
            yield str(path), found


_Opened = tuple[RegisteredSource, Source | SourceError]


def _locked(
    locks: ExitStack, ground: Ground, states: Sequence[State], sources: Sequence[RegisteredSource]
) -> list[_Opened]:
    """The sources, opened and kept from all campaigns until `locks` ends; or why they are not."""
    opened: list[_Opened] = []
    for registered in sources:
        try:
            opened.append((registered, ground.open_source(registered.spec)))
        except SourceError as error:
            opened.append((registered, error))
    busy: dict[str, SourceError] = {}
    by_name = {each.name: each for _, each in opened if not isinstance(each, SourceError)}
    for name, source in sorted(by_name.items()):
        try:
            locks.enter_context(alone(source, but_readers=True))
            for state in states:
                # In a folder that is not there, no campaign can be at work.
                if state.path.is_dir():
                    locks.enter_context(state.lock(name))
        except SourceError as error:
            busy[name] = error
    return [
        (registered, each if isinstance(each, SourceError) else busy.get(each.name, each))
        for registered, each in opened
    ]


class _Standing(Enum):
    """How a record stands to what is to be retired."""

    ON = "on"
    MAY_BE_ON = "may be on"
    ELSEWHERE = "elsewhere"


class _Search:
    def __init__(self, ground: Ground, key: Key, key_version_id: str | None, watch: Watch) -> None:
        self.records = 0
        self._ground = ground
        self._key = key
        self._version = key_version_id
        self._watch = watch
        self._classifier = Classifier(ground.providers)

    def in_source(
        self, registered: RegisteredSource, opened: Source | SourceError, *, accept_empty: bool
    ) -> Iterator[Left]:
        """What a registered source has on the key."""
        found, records = _Found(), self.records
        try:
            if isinstance(opened, SourceError):
                raise opened
            for part in opened.parts:
                for chunk in part.read():
                    self._judge(chunk.records, found)
                    done = {"left": found.on.count}
                    self._watch.told(
                        Progress(f"reading {registered.name}", self.records, None, done)
                    )
        except SourceError as error:
            yield Left(Kind.UNSCANNED, f"{registered.name}: {error}")
            return
        if self.records == records and not accept_empty:
            why = "no records in it; a wrong column or a cut file looks like that"
            yield Left(Kind.UNSCANNED, f"{registered.name}: {why}")
        yield from found.left(Kind.RECORDS, registered.name)

    def in_journals(self, states: Sequence[State]) -> Iterator[Left]:
        """What the journals of campaigns that are not closed hold on the key."""
        for path in (path for state in states for path in state.journals()):
            with Journal.open(path) as journal:
                state = journal.facts()["state"]
                if state == "closed":
                    continue
                found = _Found()
                for entry in journal.entries():
                    if entry.change.old_blob:  # without one it is erased, and holds nothing
                        self._judge_entry(entry, found)
            yield from found.left(Kind.JOURNAL, path.stem)
            if state in UNFINISHED and not found.on.count:
                yield Left(Kind.UNFINISHED, path.stem)

    def _judge(self, records: Sequence[Record], found: _Found) -> None:
        self.records += len(records)
        read = [self._read_either_way(record) for record in records]
        records = [record for record, _ in read]
        verdicts = authenticated(self._ground.providers, records, [verdict for _, verdict in read])
        for record, verdict in zip(records, verdicts, strict=True):
            proven = not verdict.unverified and verdict.outcome is not Outcome.INVALID
            found.take(self._standing(record, verdict, proven=proven), record.record_id)

    def _judge_entry(self, entry: Entry, found: _Found) -> None:
        record = before(Record(entry.change.record_id, entry.provider, ""), entry.change)
        record, verdict = self._read_either_way(record)
        # The provider has opened what is in a journal: it has answered with the new blob.
        found.take(self._standing(record, verdict, proven=True), record.record_id)

    def _read_either_way(self, record: Record) -> tuple[Record, Verdict]:
        """A record that is no blob of its provider is taken for one of the other, if it is that."""
        verdict = self._classifier.classify(record)
        if _is_no_blob(verdict):
            for provider in (TENCENT, CTYUN):
                other = replace(record, provider=provider)
                judged = self._classifier.classify(other)
                if not _is_no_blob(judged):
                    return other, judged
        return record, verdict

    def _standing(self, record: Record, verdict: Verdict, *, proven: bool) -> _Standing:
        if _is_no_blob(verdict):
            return _Standing.MAY_BE_ON
        if record.provider != self._key.provider:
            return _Standing.ELSEWHERE
        if verdict.key_id is None:
            return _Standing.MAY_BE_ON
        if verdict.key_id != self._key.key_id:
            other_pair = not proven and not self._key.spec.symmetric and _is_public_key(record)
            return _Standing.MAY_BE_ON if other_pair else _Standing.ELSEWHERE
        if self._version in (None, verdict.key_version_id):
            return _Standing.ON
        other_version = not proven or verdict.key_version_id is None
        return _Standing.MAY_BE_ON if other_version else _Standing.ELSEWHERE


def _is_no_blob(verdict: Verdict) -> bool:
    """Whether a record is no blob of the provider that it says: it names nothing then."""
    return verdict.outcome is Outcome.INVALID and verdict.key_id is None


def _is_public_key(record: Record) -> bool:
    """Whether only the record's columns, and not its blob, name a key."""
    try:
        header = FORMATS[record.provider].parse(record.ciphertext_blob).header()
    except FormatError:
        return False
    return header.format is BlobFormat.PUBLIC_KEY


@dataclass(slots=True)
class _Counted:
    """Records, counted, and some of them by name."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def take(self, record_id: str) -> None:
        self.count += 1
        if len(self.names) < _NAMED:
            self.names.append(record_id)


@dataclass(slots=True)
class _Found:
    """What one source or journal has on the key, and what it may have on it."""

    on: _Counted = field(default_factory=_Counted)
    may_be_on: _Counted = field(default_factory=_Counted)

    def take(self, standing: _Standing, record_id: str) -> None:
        if standing is _Standing.ON:
            self.on.take(record_id)
        elif standing is _Standing.MAY_BE_ON:
            self.may_be_on.take(record_id)

    def left(self, kind: Kind, where: str) -> Iterator[Left]:
        for each, counted in ((kind, self.on), (Kind.UNREADABLE, self.may_be_on)):
            if counted.count:
                yield Left(each, where, counted.count, tuple(counted.names))
