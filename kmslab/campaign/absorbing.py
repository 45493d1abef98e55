"""What a worker has written into its shard, taken into the journal of the campaign.

A shard is a journal of one task. All of it comes over in one transaction, which also marks it as
taken; so whoever is killed in between, nothing is counted twice.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.facts import Facts, put_facts
from kmslab.campaign.journal import UNUSED, Journal
from kmslab.campaign.journal_schema import FORMAT, connect
from kmslab.campaign.tasks import Task, TaskList
from kmslab.errors import ShardDamaged, StateError

FINISHED: Final = "finished"
"""The state of a shard whose task is done; else it is as a journal's."""


_TAKE_ENTRIES: Final = (
    "INSERT INTO entry (id, part, place, record_id, old_blob, new_blob, others, provider)"
    " SELECT id + ?, ?, place, record_id, old_blob, new_blob, others, provider"
    " FROM shard.entry ORDER BY id"
)
_TAKE_SPANS: Final = "INSERT INTO span SELECT step, first + ?, last + ? FROM shard.span"
_TAKE_LOST: Final = "INSERT INTO lost SELECT entry + ?, step, reason FROM shard.lost"
_TAKE_FAILURES: Final = (
    "INSERT OR REPLACE INTO failure"
    " SELECT ?, place, record_id, provider, code, message, request_id FROM shard.failure"
)
_TAKE_SHOWN: Final = (
    "INSERT INTO shown SELECT * FROM shard.shown WHERE true ON CONFLICT DO UPDATE"
    " SET key_id = excluded.key_id, at = excluded.at WHERE excluded.at > at"
)
_TAKE_PART: Final = (
    "UPDATE part SET unchanged = coalesce(unchanged, 0)"
    " + (SELECT CAST(total(unchanged) AS INTEGER) FROM shard.part) WHERE id = ?"
)
_FINISH_PART: Final = (
    "UPDATE part SET rows = (SELECT CAST(total(rows) AS INTEGER) FROM task WHERE part = name)"
    " WHERE id = ?"
)


def absorb(journal: Journal, task: Task, shard: Path) -> bool:
    """Take what a shard has: for good where its task is finished, else as a copy of what there is
    so far; whether it is finished. Nobody may be at work on it. ShardDamaged where it cannot be
    read: the journal is as it was."""
    tasks = TaskList(journal.database)
    with _attached(journal, task, shard):
        run, query = journal.database.run, journal.database.query
        facts = _shard_facts(journal)
        finished = facts["state"] == FINISHED
        part = journal.part(task.part)
        before = int(query("SELECT max(id) FROM entry")[0][0] or 0)
        run(_TAKE_ENTRIES, before, part)
        run(_TAKE_SPANS, before, before)
        run(_TAKE_LOST, before)
        run(_TAKE_FAILURES, part)
        if query("SELECT 1 FROM shard.sqlite_master WHERE name = 'shown'"):
            journal.begin_showing()
            run(_TAKE_SHOWN)
        last = int(query("SELECT max(id) FROM entry")[0][0] or 0)
        rows = query("SELECT rows FROM shard.part")[0][0] if finished else None
        tasks.mark(task, before + 1, last, rows=rows)
        sums = {"calls": Counter[str](facts.get("calls", {}))}
        if finished:
            sums["kept_out"] = Counter(facts.get("kept_out", {}))
            run(_TAKE_PART, part)
            if task.part in tasks.finished_parts():
                run(_FINISH_PART, part)
        _add_to_facts(journal, sums)
    return bool(finished)


def give_back(journal: Journal, task: Task, shard: Path) -> None:
    """Forget the copy of what an unfinished task has done: it goes on, and its shard has it all.

    Of several tasks the one whose copy was made last comes first. StateError where the shard is
    not there any more.
    """
    if not shard.is_file():
        raise StateError(
            f"{shard} is not there any more, and a worker had not finished with it: put it back "
            f"from a backup, or undo campaign {journal.campaign_id}"
        )
    tasks = TaskList(journal.database)
    with _attached(journal, task, shard):
        run = journal.database.run
        first, last = tasks.entries(task)
        run("DELETE FROM entry WHERE id BETWEEN ? AND ?", first, last)
        run("DELETE FROM span WHERE first >= ? AND last <= ?", first, last)
        run("DELETE FROM lost WHERE entry BETWEEN ? AND ?", first, last)
        part = journal.part(task.part)
        run(
            "DELETE FROM failure WHERE part = ? AND place IN (SELECT place FROM shard.failure)",
            part,
        )
        tasks.reopen(task)
        facts = _shard_facts(journal)
        calls = {name: -n for name, n in facts.get("calls", {}).items()}
        between = journal.database.query("SELECT max(id) > ? FROM entry", last)[0][0]
        unused = last + 1 - first if between else 0
        _add_to_facts(journal, {"calls": Counter(calls), UNUSED: Counter({"entries": unused})})


@contextmanager
def _attached(journal: Journal, task: Task, shard: Path) -> Iterator[None]:
    """One transaction with a task's shard beside the journal. ShardDamaged where it is the shard
    that cannot be read."""
    try:
        with _one_transaction(journal, shard):
            yield
    except StateError as error:
        if damage := _damage(shard):
            raise ShardDamaged(
                f"{shard}: what a worker wrote for task {task.name} ({task.part}) cannot be read: "
                f"{damage}; put it back from a backup"
            ) from error
        raise


def _damage(shard: Path) -> str:
    """What is wrong with a shard's file, "" where nothing is."""
    try:
        with closing(connect(shard)) as database:
            found = database.execute("PRAGMA user_version").fetchone()[0]
            checked = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    if found != FORMAT:
        return f"it is of format {found}, and this kmslab reads {FORMAT}"
    return "" if checked == "ok" else checked


@contextmanager
def _one_transaction(journal: Journal, shard: Path) -> Iterator[None]:
    database = journal.database
    database.commit()
    database.run("ATTACH ? AS shard", str(shard))
    try:
        found = database.query("PRAGMA shard.user_version")[0][0]
        if found != FORMAT:
            raise StateError(f"{shard}: a shard of format {found}; this kmslab reads {FORMAT}")
        database.begin()
        try:
            yield
        except BaseException:
            database.roll_back()
            raise
        database.commit()
    finally:
        database.run("DETACH shard")


def _shard_facts(journal: Journal) -> Mapping[str, Any]:
    return Facts(dict(journal.database.query("SELECT name, value FROM shard.fact")))


def _add_to_facts(journal: Journal, sums: Mapping[str, Counter[str]]) -> None:
    facts = journal.facts()
    for name, counts in sums.items():
        total = Counter[str](facts.get(name, {}))
        total.update(counts)
        put_facts(journal.database.many, {name: dict(total)})
