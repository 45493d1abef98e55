"""A source becomes a table, and whatever goes wrong on the way is told and not thrown."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from kmslab import Lab
from kmslab.analysis import Classifier, Outcome
from kmslab.demo import RECORDS, SEED, sample_path
from kmslab.errors import InternalError, SourceError
from kmslab.model import Key
from kmslab.records import read_csv
from kmslab.records.source import CHUNK_ROWS
from kmslab.records.spec import SourceSpec
from kmslab.tui.loading import Ended, Grown, Job, judge_again, read
from kmslab.tui.table import Table

SAMPLE = SourceSpec(str(sample_path(RECORDS)))
LAST = CHUNK_ROWS + 100
"""So many of the sample's records, from its end, are of every kind."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab that the sample data are of."""
    with Lab.create(tmp_path_factory.mktemp("demo") / "lab") as lab:
        lab.seed(sample_path(SEED))
        yield lab


class Heard:
    """What was told of a reading, as the event loop would take it."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.tables: list[Table] = []
        self.grown: list[Grown] = []
        self._stop_at = stop_at

    def tell(self, grown: Grown) -> None:
        if not self.tables or self.tables[-1] is not grown.table:
            self.tables.append(grown.table)
        self.grown.append(grown)
        for block in grown.blocks:
            grown.table.append(block)
        assert len(grown.table) == grown.rows

    def stop(self) -> bool:
        return self._stop_at is not None and sum(len(g.blocks) for g in self.grown) >= self._stop_at

    def read(self, job: Job) -> Ended:
        return read(job, self.tell, self.stop)

    @property
    def table(self) -> Table:
        return self.tables[-1]


class Failing:
    """Providers of which one does not answer."""

    def __init__(self, lab: Lab, failing: str) -> None:
        self._lab, self._failing = lab, failing
        self.asked = 0

    def providers(self) -> tuple[str, ...]:
        return self._lab.providers()

    def keys(self) -> list[Key]:
        """Those of every provider: fails, since one of them does."""
        return [key for name in self.providers() for key in self.kms(name).list_keys()]

    def kms(self, provider: str) -> Any:
        return self if provider == self._failing else self._lab.kms(provider)

    def version_of(self, header: object) -> Any:
        self.asked += 1
        raise InternalError("the line is down")

    describe_key = version_of

    def list_keys(self) -> Any:
        raise InternalError("the line is down")


def write(path: Path, rows: list[dict[str, str]]) -> SourceSpec:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return SourceSpec(str(path))


def sample_rows(count: int | None = None) -> list[dict[str, str]]:
    with sample_path(RECORDS).open(encoding="utf-8", newline="") as file:
        return list(islice(csv.DictReader(file), count))


def test_every_record_is_there_with_owner_time_and_verdict(demo: Lab) -> None:
    heard = Heard()
    ended = heard.read(Job(SAMPLE, demo, demo.keys))
    records = list(read_csv(SAMPLE.location))
    verdicts = Classifier(demo).classify_many(records)
    table = heard.table
    assert (ended.rows, ended.error, ended.stopped, ended.notes) == (len(records), None, False, ())
    assert [table.record(at) for at in range(len(table))] == records
    assert [table.verdict(at) for at in range(len(table))] == verdicts
    assert {key.key_id for key in demo.keys()} == set(table.keys)
    assert all(len(block) <= CHUNK_ROWS for block in table.blocks)


def test_a_directory_is_read_part_by_part(demo: Lab, tmp_path: Path) -> None:
    rows = sample_rows(5)
    for name, some in (("a.csv", rows[:2]), ("b.csv", rows[2:])):
        write(tmp_path / name, some)
    heard = Heard()
    ended = heard.read(Job(SourceSpec(str(tmp_path)), demo, demo.keys))
    assert ended.rows == 5
    ids = [heard.table.record(at).record_id for at in range(5)]
    assert ids == [row["record_id"] for row in rows]
    assert len(heard.table.blocks) == 2


def test_a_source_without_records_is_an_empty_table(demo: Lab, tmp_path: Path) -> None:
    spec = SourceSpec(str(tmp_path / "none.csv"), provider="ctyun")
    Path(spec.location).write_text("record_id,ciphertext_blob\n")
    heard = Heard()
    ended = heard.read(Job(spec, demo, demo.keys))
    assert (ended.rows, ended.error, len(heard.table)) == (0, None, 0)


def test_a_malformed_time_costs_the_times_and_no_record(demo: Lab, tmp_path: Path) -> None:
    rows = sample_rows(CHUNK_ROWS + 200)
    rows[-1]["created_at"] = "yesterday"
    heard = Heard()
    ended = heard.read(Job(write(tmp_path / "r.csv", rows), demo, demo.keys))
    assert (ended.rows, ended.error) == (len(rows), None)
    (note,) = ended.notes
    assert "owners and ages are not shown" in note
    assert f"row {CHUNK_ROWS + 200}" in note
    assert "'yesterday'" in note
    assert len(heard.tables) == 2  # what came before the fault is not shown twice
    assert len(heard.table) == len(rows)
    assert heard.table.record(0).created_at is None


def test_a_source_that_is_not_there_is_an_error_and_no_table(demo: Lab, tmp_path: Path) -> None:
    heard = Heard()
    ended = heard.read(Job(SourceSpec(str(tmp_path / "gone.csv")), demo, demo.keys))
    assert isinstance(ended.error, SourceError)
    assert (ended.rows, heard.grown) == (0, [])


def test_what_was_read_before_a_fault_stays(demo: Lab, tmp_path: Path) -> None:
    spec = write(tmp_path / "r.csv", sample_rows(CHUNK_ROWS))
    with Path(spec.location).open("a") as file:
        file.write("one,cell,too,few\n")
    heard = Heard()
    ended = heard.read(Job(spec, demo, demo.keys))
    assert isinstance(ended.error, SourceError)
    assert ended.rows == len(heard.table) == CHUNK_ROWS


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_progress_is_told_at_once_and_then_not_too_often(
    seconds: float, demo: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmslab.tui.loading.TOLD_EVERY", seconds)
    heard = Heard()
    ended = heard.read(Job(SAMPLE, demo, demo.keys))
    blocks = [len(grown.blocks) for grown in heard.grown if grown.blocks]
    assert sum(blocks) == len(heard.table.blocks) >= 2
    assert blocks == ([1] * len(blocks) if seconds == 0 else [1, sum(blocks) - 1])
    assert heard.grown[-1].rows == ended.rows


def test_reading_stops_when_asked(demo: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmslab.tui.loading.TOLD_EVERY", 0.0)
    heard = Heard(stop_at=1)
    ended = heard.read(Job(SAMPLE, demo, demo.keys))
    assert (ended.stopped, ended.error, ended.rows) == (True, None, CHUNK_ROWS)


@pytest.mark.parametrize("failing", ["tencent", "ctyun"])
def test_a_provider_that_fails_is_told_of_per_record_and_not_asked_for_each(
    failing: str, demo: Lab, tmp_path: Path
) -> None:
    providers = Failing(demo, failing)
    heard = Heard()
    spec = write(tmp_path / "r.csv", sample_rows()[-LAST:])
    ended = heard.read(Job(spec, providers, providers.keys))
    assert ended.error is None
    assert any(
        f"{failing} does not answer (F5 asks again): the line is down" in note
        for note in ended.notes
    )
    assert any("shown by their ids: the line is down" in note for note in ended.notes)
    assert providers.asked == 2  # for a block, then to see which provider it was
    whole, table = Classifier(demo), heard.table
    assert len(table.blocks) == 2
    for at in range(len(table)):
        record, verdict = table.record(at), table.verdict(at)
        right = whole.classify(record)
        if record.provider != failing:
            assert verdict == right
        elif right.outcome is not Outcome.INVALID:
            assert verdict.outcome is Outcome.BLOCKED
            assert verdict.reason == "no answer: the line is down"
            assert verdict.key_id == right.key_id


def test_an_error_that_nobody_thought_of_is_told_too(demo: Lab) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    ended = Heard().read(Job(SAMPLE, demo, broken))
    assert isinstance(ended.error, ZeroDivisionError)


# -- judging again


def test_records_are_judged_again_when_a_key_has_changed(tmp_path: Path) -> None:
    with Lab.create(tmp_path / "lab") as lab:
        kms = lab.tencent()
        key_id = kms.create_key(alias="orders").key_id
        rows = [
            {
                "record_id": f"r-{n}",
                "provider": "tencent",
                "ciphertext_blob": kms.encrypt(key_id, b"x"),
            }
            for n in range(3)
        ]
        job = Job(write(tmp_path / "r.csv", rows), lab, lab.keys)
        heard = Heard()
        heard.read(job)
        lab.rotate(key_id)
        Path(job.spec.location).unlink()  # nothing is read for it
        later = judge_again(heard.table, job, lambda: False)
    assert isinstance(later, Table)
    assert [heard.table.verdict(at).outcome for at in range(3)] == [Outcome.CURRENT] * 3
    assert [later.verdict(at).outcome for at in range(3)] == [Outcome.STALE] * 3
    assert [kind.verdict.outcome for kind in later.counts] == [Outcome.STALE]
    assert [later.record(at) for at in range(3)] == [heard.table.record(at) for at in range(3)]
    assert [len(key.versions) for key in later.keys.values()] == [2]


@pytest.fixture
def sample(demo: Lab) -> Table:
    heard = Heard()
    heard.read(Job(SAMPLE, demo, demo.keys))
    return heard.table


def test_judging_again_stops_when_asked(sample: Table, demo: Lab) -> None:
    job = Job(SAMPLE, demo, demo.keys)
    assert isinstance(judge_again(sample, job, lambda: False), Table)
    ended = judge_again(sample, job, lambda: True)
    assert isinstance(ended, Ended)
    assert (ended.stopped, ended.error) == (True, None)


def test_judging_again_raises_nothing(sample: Table, demo: Lab) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    ended = judge_again(sample, Job(SAMPLE, demo, broken), lambda: False)
    assert isinstance(ended, Ended)
    assert isinstance(ended.error, ZeroDivisionError)


def test_a_table_can_be_looked_at_while_a_thread_packs_more_of_it(demo: Lab) -> None:
    heard, over = Heard(), Event()

    def work() -> None:
        read(Job(SAMPLE, demo, demo.keys), heard.grown.append, lambda: False)
        over.set()

    thread = Thread(target=work)
    thread.start()
    seen: list[Callable[[], object]] = []
    while not over.is_set() or seen != heard.grown:
        for grown in heard.grown[len(seen) :]:
            for block in grown.blocks:
                grown.table.append(block)
                assert sum(grown.table.counts.values()) == len(grown.table)
            seen.append(grown)  # type: ignore[arg-type]
    thread.join()
    assert len(heard.grown[-1].table) == heard.grown[-1].rows
