"""The journal: what it keeps, who may read it, and what a kill leaves."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmslab.campaign import journal_schema
from kmslab.campaign.journal import Entry, Failure, Journal, Step, spans
from kmslab.campaign.spans import Numbers
from kmslab.errors import CampaignNotFound, JournalExists, StateError
from kmslab.records.source import Change


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "20260101-120000-0000.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal.create(path, {"state": "running"}) as made:
        yield made


def intend(journal: Journal, part: int, changes: list[Change]) -> range:
    return journal.intend(part, changes, ["tencent"] * len(changes))


def changes(first: int, last: int) -> list[Change]:
    return [Change(n, f"订单-{n}", f"old-{n}", f"new-{n}") for n in range(first, last + 1)]


def test_it_is_its_owners_alone(journal: Journal, path: Path) -> None:
    intend(journal, journal.part("a"), changes(1, 3))
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_what_is_intended_is_found_again(journal: Journal) -> None:
    part, other = journal.part("a"), journal.part("b")
    moved = Change(7, "x", "old", "new", {"context": ("{}", None), "key_id": (None, "k")})
    assert list(intend(journal, part, [*changes(1, 2), moved])) == [1, 2, 3]
    assert list(journal.intend(other, changes(1, 2), ["ctyun", "tencent"])) == [4, 5]
    assert journal.find(part, ["x", "订单-1", "nobody"]) == {
        "订单-1": [Entry(1, part, changes(1, 1)[0], "tencent")],
        "x": [Entry(3, part, moved, "tencent")],
    }
    assert [entry.number for entry in journal.entries()] == [1, 2, 3, 4, 5]
    providers = [entry.provider for entry in journal.entries()]
    assert providers == ["tencent", "tencent", "tencent", "ctyun", "tencent"]


def test_places_of_a_table_keep_their_type(journal: Journal) -> None:
    part = journal.part("t")
    intend(journal, part, [Change(9, "9", "a", "b"), Change("9", "9", "c", "d")])
    assert [entry.change.place for entry in journal.find(part, ["9"])["9"]] == [9, "9"]


def test_nothing_intended_is_nothing(journal: Journal) -> None:
    assert list(intend(journal, journal.part("a"), [])) == []
    assert not journal.has_entries(1)


def test_steps_are_told_by_spans(journal: Journal) -> None:
    part = journal.part("a")
    intend(journal, part, changes(1, 10))
    journal.done(Step.APPLIED, [(1, 3), (6, 6)])
    journal.lose(Step.APPLIED, [4], "changed")
    standing = journal.standing(Step.APPLIED, 2, 9)
    assert [number for number in range(2, 10) if number in standing] == [2, 3, 6]
    assert not any(n in journal.standing(Step.UNDONE, 1, 10) for n in range(12))
    assert journal.open_entries(part, Step.APPLIED) == [5, 7, 8, 9, 10]
    assert (journal.count(Step.APPLIED), journal.count_lost(Step.APPLIED)) == (4, 1)
    assert [lost.record_id for lost in journal.lost(Step.APPLIED)] == ["订单-4"]


def test_an_entry_is_done_or_lost_and_never_both(journal: Journal) -> None:
    part = journal.part("a")
    intend(journal, part, changes(1, 9))
    journal.lose(Step.APPLIED, [2, 5], "changed")
    journal.lose(Step.UNDONE, [2], "changed")
    journal.done(Step.APPLIED, [(1, 4), (6, 9)])  # and the second is what it was again
    assert [lost.record_id for lost in journal.lost(Step.APPLIED)] == ["订单-5"]
    assert journal.count_lost(Step.UNDONE) == 1
    journal.lose(Step.APPLIED, [1, 3, 7, 9], "changed again")
    standing = journal.standing(Step.APPLIED, 1, 9)
    assert [number for number in range(1, 10) if number in standing] == [2, 4, 6, 8]
    assert (journal.count(Step.APPLIED), journal.count_lost(Step.APPLIED)) == (4, 5)


def test_what_an_undo_has_not_met_is_lost(journal: Journal) -> None:
    part, other = journal.part("a"), journal.part("b")
    intend(journal, part, changes(1, 6))
    intend(journal, other, changes(7, 8))
    journal.done(Step.APPLIED, [(1, 5), (7, 8)])
    journal.done(Step.UNDONE, [(1, 2)])
    journal.lose(Step.UNDONE, [3], "changed")
    assert journal.lose_rest(part, "gone") == 2
    assert journal.lose_rest(part, "gone") == 0
    lost = [(each.record_id, each.reason) for each in journal.lost(Step.UNDONE)]
    assert lost == [("订单-3", "changed"), ("订单-4", "gone"), ("订单-5", "gone")]


@given(st.lists(st.integers(1, 60)))
def test_spans_hold_just_these_numbers(numbers: list[int]) -> None:
    found = spans(numbers)
    assert [n for first, last in found for n in range(first, last + 1)] == sorted(set(numbers))
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))


def test_failures_are_of_the_last_pass(journal: Journal) -> None:
    part = journal.part("a")
    refused = Failure("r", "tencent", "InvalidParameterValue", "no", "req-1")
    journal.fail(part, [(2, refused), (3, refused)])
    assert journal.failure_codes() == {"InvalidParameterValue": 2}
    assert journal.failures(1) == [refused]
    journal.begin_part(part)
    assert journal.failures() == []


def test_parts_are_finished_one_by_one(journal: Journal) -> None:
    a, b = journal.part("a"), journal.part("b")
    assert journal.part("a") == a
    journal.finish_part(b, 10, 4)
    assert journal.finished_parts() == {"b"}
    assert journal.unchanged() == 4
    assert journal.part_names() == {"a": a, "b": b}


def test_erasing_takes_every_blob_out_of_the_file(journal: Journal, path: Path) -> None:
    part = journal.part("a")
    intend(journal, part, [Change(n, f"r{n}", "OLDBLOB" * 40, "NEWBLOB" * 40) for n in range(500)])
    journal.done(Step.APPLIED, [(1, 500)])
    journal.erase({"state": "closing"})
    assert journal.facts() == {"state": "closing"}
    journal.scrub()
    for file in path.parent.iterdir():
        data = file.read_bytes()
        assert b"OLDBLOB" not in data, file
        assert b"NEWBLOB" not in data, file
    assert journal.count(Step.APPLIED) == 500


def test_what_is_far_apart_is_told_in_little_room(journal: Journal) -> None:
    """As two tasks that meet in a chunk of the source, with all others between in the journal."""
    journal.done(Step.APPLIED, [(n, n + 999) for n in range(1, 3_000_000, 1_000)])
    tracemalloc.start()
    try:
        standing = journal.standing(Step.APPLIED, 1, 3_000_001)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1 in standing
    assert 3_000_000 in standing
    assert 3_000_001 not in standing
    assert most < 2_000_000


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9))))
def test_numbers_are_those_of_their_spans(some: list[tuple[int, int]]) -> None:
    found = Numbers((first, first + more) for first, more in some)
    meant = {n for first, more in some for n in range(first, first + more + 1)}
    assert {n for n in range(-1, 41) if n in found} == meant


def test_it_works_where_no_write_ahead_log_does(journal: Journal, path: Path) -> None:
    """It is as on a file system that several machines share, also where it was not before."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = WAL")
    with Journal.open(path) as opened:
        intend(opened, opened.part("a"), changes(1, 3))
        assert path.read_bytes()[18:20] == b"\1\1"  # both versions of the format: no such log
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_who_reads_and_who_writes_wait_for_each_other(journal: Journal, path: Path) -> None:
    part = journal.part("a")
    intend(journal, part, changes(1, 3))
    journal.done(Step.APPLIED, [(1, 3)])  # and more is on its way
    with Journal.open(path) as reader:
        assert (reader.count_intended(), reader.count(Step.APPLIED)) == (3, 0)
        with closing(sqlite3.connect(path, check_same_thread=False)) as slow:
            slow.execute("BEGIN")
            slow.execute("SELECT * FROM entry").fetchall()
            ending = threading.Timer(0.1, slow.rollback)
            ending.start()
            journal.note(state="finished")
            ending.join()
        assert reader.count(Step.APPLIED) == 3


def test_a_file_that_cannot_be_rewritten_is_not_said_to_be(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend(journal, journal.part("a"), changes(1, 3))
    journal.close()
    monkeypatch.setattr(journal_schema, "BUSY_SECONDS", 0.05)
    with Journal.open(path) as hurried, closing(sqlite3.connect(path)) as reader:
        for step in (lambda: hurried.erase({"state": "closing"}), hurried.scrub):
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM entry").fetchall()
            before = hurried.facts()["state"], [entry.change for entry in hurried.entries()]
            with pytest.raises(StateError, match="another program has this journal open"):
                step()
            assert (hurried.facts()["state"], [e.change for e in hurried.entries()]) == before
            reader.rollback()
            hurried.erase({})
        hurried.scrub()
        assert b"old-1" not in path.read_bytes()


def test_a_kill_loses_nothing_that_was_told(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from kmslab.campaign.journal import *;"
        "from kmslab.records.source import Change;"
        "j = Journal.create(Path(sys.argv[1]), {'state': 'running'});"
        "part = j.part('a'); j.intend(part, [Change(1, 'r', 'old', 'new')], ['ctyun']);"
        "j.done(Step.APPLIED, [(1, 1)]); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=False, timeout=30)
    assert done.returncode == -9
    with Journal.open(path) as journal:
        assert [entry.number for entry in journal.entries()] == [1]
        # The step was on its way: whoever resumes finds the new blob in the source.
        assert journal.count(Step.APPLIED) == 0


def test_it_is_there_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(StateError, match=r"cannot be made: .*No space left"):
        Journal.create(path, {})
    assert list(path.parent.iterdir()) == []


def test_no_journal_takes_the_place_of_another(journal: Journal, path: Path) -> None:
    with pytest.raises(JournalExists, match="another campaign has this id"):
        Journal.create(path, {"state": "planning"})
    assert journal.facts() == {"state": "running"}
    assert not [file for file in path.parent.iterdir() if file.suffix == ".new"]


def test_what_another_process_is_making_is_left(path: Path) -> None:
    theirs = path.with_suffix(".new")
    theirs.touch()
    Journal.create(path, {}).close()
    assert theirs.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no database, but a text that is long enough to be looked at", "cannot be read"),
        (b"", "a journal of format 0; this kmslab reads 2"),
    ],
)
def test_what_is_no_journal_is_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(StateError, match=message):
        Journal.open(path)


def test_a_later_format_is_refused(journal: Journal, path: Path) -> None:
    journal.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 3")
    with pytest.raises(StateError, match="a journal of format 3; this kmslab reads 2"):
        Journal.open(path)


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CampaignNotFound, match="no campaign 2026 in"):
        Journal.open(tmp_path / "2026.db")


def test_a_damaged_one_is_an_error_of_ours(journal: Journal, path: Path) -> None:
    intend(journal, journal.part("a"), changes(1, 2000))
    journal.close()
    size = os.path.getsize(path)  # noqa: PTH202
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xff" * (size // 2))
    with pytest.raises(StateError, match="cannot be used"), Journal.open(path) as damaged:
        list(damaged.entries())
