"""The tasks of a campaign with several workers: one file each, or one range of a table's ids.

They are made once and kept in the journal, so that they are the same whenever it is resumed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kmslab.campaign.journal_database import JournalDatabase
from kmslab.errors import CampaignError
from kmslab.records.source import ALL_ROWS, Divisible, KeyRange, Part, Source

RANGE_ROWS: Final = 20_000
"""The records of a table that are one task (lab's choice): some tenths of a second."""

_OPEN: Final = "open"
_COPIED: Final = "copied"
_TAKEN: Final = "taken"

_TASKS: Final = "SELECT id, part, after, until FROM task"
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS task (id INTEGER PRIMARY KEY, part TEXT NOT NULL,"
    " after, until, state TEXT NOT NULL,"
    " first INTEGER, last INTEGER, rows INTEGER)"
)


@dataclass(frozen=True, slots=True)
class Task:
    """A part of a source, or a range of one, that one worker goes over. `name` tells it from the
    others of its campaign, for ever."""

    number: int
    part: str
    key_range: KeyRange = ALL_ROWS

    @property
    def name(self) -> str:
        """What it is called.

        >>> Task(7, "orders.csv").name
        '00007'
        """
        return f"{self.number:05}"

    def within(self, part: Part) -> Part:
        """What the task has of its part."""
        if isinstance(part, Divisible) and self.key_range != ALL_ROWS:
            return part.within(self.key_range)
        return part

    def as_dict(self) -> dict[str, Any]:
        """The task as JSON takes it."""
        return {
            "number": self.number,
            "part": self.part,
            "after": self.key_range.after,
            "until": self.key_range.until,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        """The task that `as_dict` gave.

        >>> some = Task(1, "orders", KeyRange(after=7))
        >>> Task.from_dict(some.as_dict()) == some
        True
        """
        return cls(values["number"], values["part"], KeyRange(values["after"], values["until"]))


def divided(source: Source, *, first: int = 1, but: Collection[str] = ()) -> list[Task]:
    """The tasks that a source is divided into, less those of some parts, in the source's order."""
    ranges = (
        (part.name, key_range)
        for part in source.parts
        if part.name not in but
        for key_range in _ranges(part)
    )
    return [Task(number, name, found) for number, (name, found) in enumerate(ranges, first)]


def _ranges(part: Part) -> Sequence[KeyRange]:
    return part.key_ranges(RANGE_ROWS) if isinstance(part, Divisible) else (ALL_ROWS,)


def check_one_task(source: Source) -> None:
    """CampaignError where an atomic campaign on a source would be the work of several."""
    if len(divided(source)) > 1:
        raise CampaignError(
            f"{source.name} is too large for one worker, and atomic is one transaction, which "
            "several cannot share: leave out the workers, or atomic"
        )


class TaskList:
    """The tasks in a journal, and what of theirs the journal has.

    A task is `open` while only its shard knows of it, `copied` where the journal has a copy of
    what it has done so far, and `taken` once it is finished and in the journal for good.
    """

    def __init__(self, database: JournalDatabase) -> None:
        self._database = database

    def there(self) -> bool:
        """Whether the campaign has tasks."""
        return bool(
            self._database.query("SELECT 1 FROM sqlite_master WHERE name = 'task'")
            and self._database.query("SELECT 1 FROM task LIMIT 1")
        )

    def add(self, tasks: Iterable[Task]) -> None:
        """Keep tasks; on the disk with what is told next."""
        self._database.begin()
        self._database.run(_SCHEMA)
        rows = ((t.number, t.part, t.key_range.after, t.key_range.until, _OPEN) for t in tasks)
        self._database.many(
            "INSERT INTO task (id, part, after, until, state) VALUES (?, ?, ?, ?, ?)", rows
        )

    def all(self) -> Sequence[Task]:
        """Every task, in the source's order."""
        return self._tasks(f"{_TASKS} ORDER BY id")

    def unfinished(self) -> Sequence[Task]:
        """The tasks that are not taken."""
        return self._tasks(f"{_TASKS} WHERE state != ? ORDER BY id", _TAKEN)

    def unknown(self) -> Sequence[Task]:
        """The tasks whose shards, if there are any, the journal has nothing of."""
        return self._tasks(f"{_TASKS} WHERE state = ? ORDER BY id", _OPEN)

    def copied(self) -> Sequence[Task]:
        """The unfinished tasks that the journal has a copy of, the last copy first."""
        return self._tasks(f"{_TASKS} WHERE state = ? ORDER BY first DESC", _COPIED)

    def finished_parts(self) -> frozenset[str]:
        """The parts all of whose tasks are taken."""
        rows = self._database.query(
            "SELECT part FROM task GROUP BY part HAVING min(state = ?)", _TAKEN
        )
        return frozenset(name for (name,) in rows)

    def entries(self, task: Task) -> tuple[int, int]:
        """The first and the last entry that the journal has of a task; nothing where last is less
        than first."""
        rows = self._database.query("SELECT first, last FROM task WHERE id = ?", task.number)
        first, last = rows[0]
        return (1, 0) if first is None else (int(first), int(last))

    def mark(self, task: Task, first: int, last: int, *, rows: int | None) -> None:
        """The journal has these entries of a task: for good, of so many records, or else a copy."""
        state = _COPIED if rows is None else _TAKEN
        self._set(task, state, first, last, rows)

    def reopen(self, task: Task) -> None:
        """The journal has nothing of a task any more."""
        self._set(task, _OPEN, None, None, None)

    def _set(self, task: Task, *values: str | int | None) -> None:
        self._database.run(
            "UPDATE task SET state = ?, first = ?, last = ?, rows = ? WHERE id = ?",
            *values,
            task.number,
        )

    def _tasks(self, query: str, *values: str) -> Sequence[Task]:
        if not self.there():
            return []
        return [
            Task(number, part, KeyRange(after, until))
            for number, part, after, until in self._database.query(query, *values)
        ]
