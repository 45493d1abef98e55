"""The journal of one campaign: what is intended, what is stored, what was refused.

A journal is an SQLite file of its own, 0600. A change is written here, and is on the disk, before
it is written to the source; so a campaign that was killed anywhere can be taken up again, and one
that is finished can be undone. It holds blobs, ids, and contexts where they change; never a key or
a plaintext.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kmslab.campaign.facts import FACTS, SELECTED, Facts, put_facts
from kmslab.campaign.journal_database import JournalDatabase
from kmslab.campaign.journal_entries import ENTRIES, entry_of, insertions
from kmslab.campaign.journal_entries import Entry as Entry
from kmslab.campaign.journal_schema import make
from kmslab.campaign.spans import Numbers
from kmslab.campaign.spans import Span as Span
from kmslab.campaign.spans import spans as spans
from kmslab.errors import StateError
from kmslab.records.source import Change, Place

UNUSED: Final = "unused"
"""The fact that tells how many numbers of entries stand for none: they were given back."""

_PAGE: Final = 1_000
_SHOWN: Final = "SELECT digest, key_id, at FROM shown WHERE digest IN"
_LOOKUP: Final = 500  # ids in one query; SQLite takes many more, old ones 999


class Step(StrEnum):
    """What has been done with an entry."""

    APPLIED = "applied"
    UNDONE = "undone"
    UNPROVEN = "unproven"
    """Undone, and nobody could see that the old blob holds what the new one held."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that was not re-encrypted: the provider's code, and the request that says so."""

    record_id: str
    provider: str
    code: str
    message: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A record that somebody else has changed, and that was left as it is."""

    record_id: str
    reason: str


class Journal:
    """An open journal. `campaign_id` is what it is called.

    >>> from kmslab.records.source import Change
    >>> path = getfixture("tmp_path") / "20260101-120000-0000.db"
    >>> with Journal.create(path, {"state": "running"}) as journal:
    ...     part = journal.part("orders.csv")
    ...     entries = journal.intend(part, [Change(1, "order-1", "old", "new")], ["ctyun"])
    ...     journal.done(Step.APPLIED, spans(entries))
    ...     journal.count(Step.APPLIED)
    1
    """

    def __init__(self, database: JournalDatabase) -> None:
        self.path = database.path
        self.database = database
        self._indexed = False
        self._begin, self._commit = database.begin, database.commit
        self._run, self._many, self._query = database.run, database.many, database.query

    @classmethod
    def create(cls, path: Path, facts: Mapping[str, Any], *, shard: bool = False) -> Self:
        """A new journal with these facts. It is there whole, or not at all.

        JournalExists where another campaign's is at this path: take another id.
        """
        make(path, facts)
        return cls.open(path, shard=shard)

    @classmethod
    def open(cls, path: Path, *, shard: bool = False) -> Self:
        """A journal that is there. CampaignNotFound, or StateError where it cannot be read.

        A `shard` is what one worker writes for one task: see `kmslab.campaign.shards`.
        """
        return cls(JournalDatabase.open(path, shard=shard))

    @property
    def campaign_id(self) -> str:
        """The id of the campaign."""
        return self.path.stem

    def close(self) -> None:
        """Let go of the file. What was told so far is kept. Closing twice is closing once."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Facts

    def facts(self) -> Mapping[str, Any]:
        """Everything that is known of the campaign as a whole, as it is now. Selected ids are only
        there while the journal is open."""
        return Facts(dict(self._query(FACTS)), partial(self._query, SELECTED), str(self.path))

    def note(self, **facts: Any) -> None:
        """Set facts; they are on the disk when this returns."""
        self._begin()
        try:
            put_facts(self._many, facts)
            self._commit()
        except StateError:
            self.database.roll_back()
            raise

    def add_calls(self, calls: Mapping[str, int]) -> None:
        """So many more calls were made, by provider; on the disk with what is told next."""
        self._begin()
        known = Facts(dict(self._query(f"{FACTS} WHERE name = 'calls'")))
        total = Counter(known.get("calls", {}))
        total.update(calls)
        put_facts(self._many, {"calls": dict(total)})

    # What is intended

    def part(self, name: str) -> int:
        """The number of a part of the source, by its name."""
        self._begin()
        self._run("INSERT OR IGNORE INTO part (name) VALUES (?)", name)
        return int(self._query("SELECT id FROM part WHERE name = ?", name)[0][0])

    def intend(self, part: int, changes: Sequence[Change], providers: Sequence[str]) -> range:
        """Write down changes before they are made; they are on the disk when this returns.

        `providers` are those that the records have before, one for each change.
        """
        self._begin()
        last = self._query("SELECT max(id) FROM entry")[0][0] or 0
        for insertion, values in insertions(part, changes, providers):
            self._run(insertion, *values)
        self._commit()
        return range(last + 1, last + 1 + len(changes))

    def find(self, part: int, record_ids: Sequence[str]) -> dict[str, list[Entry]]:
        """The entries of records of a part, by record id, in the order they were made."""
        if not self._indexed:
            # Made when it is first needed: a campaign that is never interrupted does without.
            self._begin()
            self._run("CREATE INDEX IF NOT EXISTS entry_record ON entry (part, record_id)")
            self._commit()
            self._indexed = True
        found: dict[str, list[Entry]] = {}
        for at in range(0, len(record_ids), _LOOKUP):
            ids = record_ids[at : at + _LOOKUP]
            rows = self._query(
                f"{ENTRIES} WHERE part = ? AND record_id IN ({','.join('?' * len(ids))})"
                " ORDER BY id",
                part,
                *ids,
            )
            for row in rows:
                found.setdefault(row[3], []).append(entry_of(row))
        return found

    def entries(self) -> Iterator[Entry]:
        """All entries, in the order they were made."""
        after = 0
        while rows := self._query(f"{ENTRIES} WHERE id > ? ORDER BY id LIMIT ?", after, _PAGE):
            yield from map(entry_of, rows)
            after = rows[-1][0]

    def has_entries(self, part: int | None = None) -> bool:
        """Whether anything was ever intended, for a part or for any."""
        if part is None:
            return bool(self._query("SELECT 1 FROM entry LIMIT 1"))
        return bool(self._query("SELECT 1 FROM entry WHERE part = ? LIMIT 1", part))

    # What has become of it

    def done(self, step: Step, spans: Sequence[Span]) -> None:
        """Entries that are stored in the source, and not lost any more if they were.

        On the disk with what is told next. Whoever is killed before finds the source as it is: the
        new values are there, and are known.
        """
        self._begin()
        self._many(
            "DELETE FROM lost WHERE step = ? AND entry BETWEEN ? AND ?",
            [(step.value, first, last) for first, last in spans],
        )
        self._many(
            "INSERT INTO span VALUES (?, ?, ?)",
            [(step.value, first, last) for first, last in spans],
        )

    def lose(self, step: Step, numbers: Sequence[int], reason: str) -> None:
        """Entries that are not stored, and why; where the step was done, it is not any more."""
        self.take_back(step, numbers)
        self._many(
            "INSERT OR REPLACE INTO lost VALUES (?, ?, ?)",
            ((number, step.value, reason) for number in numbers),
        )

    def lose_rest(self, part: int, reason: str) -> int:
        """The entries of a part that are stored, and that an undo has not met; how many."""
        self._begin()
        sql = (
            "INSERT INTO lost SELECT id, ?, ? FROM entry WHERE part = ?"
            " AND EXISTS (SELECT 1 FROM span WHERE step = ? AND id BETWEEN first AND last)"
            " AND NOT EXISTS (SELECT 1 FROM span WHERE step = ? AND id BETWEEN first AND last)"
            " AND id NOT IN (SELECT entry FROM lost WHERE step = ?)"
        )
        undone, applied = Step.UNDONE.value, Step.APPLIED.value
        self._run(sql, undone, reason, part, applied, undone, undone)
        return int(self._query("SELECT changes()")[0][0])

    def take_back(self, step: Step, numbers: Sequence[int]) -> None:
        """A step is not done any more for these entries, where it was."""
        if not numbers:
            return
        done = self.standing(step, min(numbers), max(numbers))
        self._begin()
        for first, last in spans([number for number in numbers if number in done]):
            for row, start, end in self._query(
                "SELECT rowid, first, last FROM span WHERE step = ? AND first <= ? AND last >= ?",
                step.value,
                last,
                first,
            ):
                self._run("DELETE FROM span WHERE rowid = ?", row)
                rest = [(start, min(first - 1, end)), (max(last + 1, start), end)]
                self._many(
                    "INSERT INTO span VALUES (?, ?, ?)",
                    [(step.value, *r) for r in rest if r[0] <= r[1]],
                )

    def forget_lost(self, step: Step) -> None:
        """Nothing is lost in a step any more: it is tried again."""
        self._begin()
        self._run("DELETE FROM lost WHERE step = ?", step.value)

    def standing(self, step: Step, first: int, last: int) -> Numbers:
        """The entries for which a step is done, at least all of those from `first` to `last`."""
        return Numbers(
            self._query(
                "SELECT first, last FROM span WHERE step = ? AND first <= ? AND last >= ?",
                step.value,
                last,
                first,
            )
        )

    def open_entries(self, part: int, step: Step) -> list[int]:
        """The entries of a part for which a step is neither done nor lost."""
        rows = self._query(
            "SELECT id FROM entry WHERE part = ? AND id NOT IN"
            " (SELECT entry FROM lost WHERE step = ?) AND NOT EXISTS"
            " (SELECT 1 FROM span WHERE step = ? AND id BETWEEN first AND last)"
            " ORDER BY id",
            part,
            step.value,
            step.value,
        )
        return [number for (number,) in rows]

    def fail(self, part: int, failures: Sequence[tuple[Place, Failure]]) -> None:
        """Records that were refused. On the disk with what is told next."""
        if not failures:
            return
        self._begin()
        self._many(
            "INSERT OR REPLACE INTO failure VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (part, place, f.record_id, f.provider, f.code, f.message, f.request_id)
                for place, f in failures
            ),
        )

    def show(self, shown: Sequence[tuple[bytes, str | None]], *, at: float) -> None:
        """Digests of blobs that an answer showed to be on the primary version of a key, each with
        the key's id, `at` seconds since 1970 or later. On the disk with what is told next."""
        if not shown:
            return
        self.begin_showing()
        rows = ((digest, key_id, at) for digest, key_id in shown)
        self._many("INSERT OR REPLACE INTO shown VALUES (?, ?, ?)", rows)

    def begin_showing(self) -> None:
        """Have the table of what was shown: made when it is first needed, which is only where a
        cloud hides its versions."""
        self._begin()
        self._run(
            "CREATE TABLE IF NOT EXISTS shown "
            "(digest BLOB PRIMARY KEY, key_id TEXT, at REAL NOT NULL) WITHOUT ROWID"
        )

    def has_shown(self) -> bool:
        """Whether anything was shown."""
        return bool(self._query("SELECT 1 FROM sqlite_master WHERE name = 'shown'"))

    def shown(self, digests: Sequence[bytes]) -> dict[bytes, tuple[str | None, float]]:
        """Those of these digests that were shown, each with the key's id and the time."""
        if not self.has_shown():
            return {}
        found: dict[bytes, tuple[str | None, float]] = {}
        for start in range(0, len(digests), _LOOKUP):
            some = digests[start : start + _LOOKUP]
            marks = ",".join("?" * len(some))
            for digest, key_id, at in self._query(f"{_SHOWN} ({marks})", *some):
                found[digest] = key_id, at
        return found

    def begin_part(self, part: int) -> None:
        """A part is being gone over, from its start: what failed before may not fail now."""
        self._begin()
        self._run("DELETE FROM failure WHERE part = ?", part)

    def finish_part(self, part: int, rows: int, unchanged: int) -> None:
        """A part is finished; it had so many records, of which so many were left as they are."""
        self._begin()
        self._run("UPDATE part SET rows = ?, unchanged = ? WHERE id = ?", rows, unchanged, part)
        self._commit()

    def finished_parts(self) -> frozenset[str]:
        """The names of the parts that are finished."""
        return frozenset(
            name for (name,) in self._query("SELECT name FROM part WHERE rows IS NOT NULL")
        )

    # Counts and lists

    def part_names(self) -> dict[str, int]:
        """The parts, by name."""
        return {name: int(number) for name, number in self._query("SELECT name, id FROM part")}

    def unchanged(self) -> int:
        """The records of all finished parts that were left as they are, and did not fail."""
        return int(self._query("SELECT total(unchanged) FROM part")[0][0])

    def count_intended(self) -> int:
        """The entries that were ever made."""
        unused = self.facts().get(UNUSED, {}).get("entries", 0)
        return int(self._query("SELECT max(id) FROM entry")[0][0] or 0) - int(unused)

    def count(self, step: Step) -> int:
        """The entries for which a step is done."""
        sums = self._query("SELECT total(last - first + 1) FROM span WHERE step = ?", step.value)
        return int(sums[0][0])

    def count_lost(self, step: Step) -> int:
        """The entries for which a step was lost."""
        return int(self._query("SELECT count(*) FROM lost WHERE step = ?", step.value)[0][0])

    def failure_codes(self) -> Counter[str]:
        """The failures, counted by code."""
        return Counter(dict(self._query("SELECT code, count(*) FROM failure GROUP BY code")))

    def failures(self, limit: int | None = None) -> list[Failure]:
        """The failures in the source's order, at most `limit` of them."""
        return list(islice(self.each_failure(), limit))

    def each_failure(self) -> Iterator[Failure]:
        """All failures in the source's order; however many, a page of them is in memory."""
        after: tuple[int, Place] = (0, 0)
        while rows := self._query(
            "SELECT record_id, provider, code, message, request_id, part, place FROM failure"
            " WHERE (part, place) > (?, ?) ORDER BY part, place LIMIT ?",
            *after,
            _PAGE,
        ):
            for row in rows:
                yield Failure(*row[:5])
            after = rows[-1][5:]

    def lost(self, step: Step, limit: int | None = None) -> list[Lost]:
        """The records that were lost in a step, at most `limit` of them."""
        return list(islice(self.each_lost(step), limit))

    def each_lost(self, step: Step) -> Iterator[Lost]:
        """All records that were lost in a step; however many, a page of them is in memory."""
        after = 0
        while rows := self._query(
            "SELECT record_id, reason, entry FROM lost JOIN entry ON id = entry"
            " WHERE step = ? AND entry > ? ORDER BY entry LIMIT ?",
            step.value,
            after,
            _PAGE,
        ):
            for row in rows:
                yield Lost(*row[:2])
            after = rows[-1][2]

    def erase(self, facts: Mapping[str, Any]) -> None:
        """Take every blob out of the tables and set facts, both or neither.

        Counts, ids and failures stay. The file may hold what was taken out until `scrub`.
        StateError where somebody else keeps reading it: nothing is taken out then.
        """
        self._begin()
        try:
            self._run("UPDATE entry SET old_blob = NULL, new_blob = NULL, others = NULL")
            self._run("DROP TABLE IF EXISTS shown")
            put_facts(self._many, facts)
            self._commit()
        except StateError:
            self.database.roll_back()
            raise

    def scrub(self) -> None:
        """Write the file anew, without what has been erased.

        StateError where somebody else keeps reading it.
        """
        self._commit()
        self._run("VACUUM")
