"""The demo does the main job on the sample data, and its figures agree with each other."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from kmslab import Lab, ManualClock
from kmslab.analysis import CensusRow, Outcome
from kmslab.demo import DEMO_TIME, ROTATED, DemoReport, make_lab, run
from kmslab.errors import LabExists
from kmslab.model import CTYUN, TENCENT
from kmslab.records import read_csv


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DemoReport:
    """What a demo in an empty directory has done."""
    empty = tmp_path_factory.mktemp("demo")
    done = run(empty)
    assert done.lab == empty
    return done


def on_old_versions(census: tuple[CensusRow, ...]) -> int:
    return sum(row.records for row in census if row.is_primary is False)


def test_every_record_has_one_outcome(report: DemoReport) -> None:
    records = list(read_csv(report.source))
    for state in (report.before, report.after):
        assert state.total == len(records)
        assert sum(state.outcomes.values()) == len(records)
        assert sum(row.records for row in state.census) == len(records)
        assert sum(reason.records for reason in state.reasons) == len(records)
        assert list(state.outcomes) == list(Outcome)


def test_the_figures(report: DemoReport) -> None:
    assert {outcome.value: count for outcome, count in report.before.outcomes.items()} == {
        "stale": 2292,
        "move": 48,
        "current": 523,
        "may_change": 0,
        "foreign": 9,
        "blocked": 359,
        "invalid": 26,
        "needs_context": 0,
        "needs_public_key_info": 2,
    }
    assert (report.results.re_encrypted, report.results.failed) == (2309, 31)


def test_what_was_sent_is_re_encrypted_or_named_as_failed(report: DemoReport) -> None:
    before, after, results = report.before.outcomes, report.after.outcomes, report.results
    sent = sum(count for outcome, count in before.items() if outcome.sent)
    assert results.re_encrypted + results.unchanged + results.failed == sent
    assert results.verified == results.re_encrypted
    assert len(report.failures) == results.failed
    assert after[Outcome.CURRENT] == before[Outcome.CURRENT] + results.re_encrypted
    assert sum(count for outcome, count in after.items() if outcome.sent) == results.failed


def test_nothing_else_changes(report: DemoReport) -> None:
    untouched = [o for o in Outcome if not o.sent and o is not Outcome.CURRENT]
    for outcome in untouched:
        assert report.before.outcomes[outcome] == report.after.outcomes[outcome]
    assert [r for r in report.before.reasons if r.outcome in untouched] == [
        r for r in report.after.reasons if r.outcome in untouched
    ]


def test_no_old_version_keeps_more_than_what_failed_or_is_blocked(report: DemoReport) -> None:
    moved = on_old_versions(report.before.census) - on_old_versions(report.after.census)
    public_key = report.before.outcomes[Outcome.MOVE] - report.after.outcomes[Outcome.MOVE]
    assert moved == report.results.re_encrypted - public_key


def test_failures_say_who_and_why(report: DemoReport) -> None:
    ids = {record.record_id for record in read_csv(report.source)}
    assert {failed.record_id for failed in report.failures} <= ids
    assert Counter((failed.provider, failed.code) for failed in report.failures) == {
        (TENCENT, "InvalidParameterValue.InvalidCiphertext"): 23,
        (CTYUN, "LAB.InvalidCiphertext"): 8,
    }
    assert all(failed.explanation for failed in report.failures)


def test_two_keys_of_each_provider_are_rotated(report: DemoReport) -> None:
    assert Counter(key.provider for key in report.rotated) == {TENCENT: 2, CTYUN: 2}
    assert [key.alias for key in report.rotated] == list(ROTATED)
    assert all(key.records > 0 for key in report.rotated)


def test_equal_records_are_sent_once(report: DemoReport) -> None:
    sent = sum(count for outcome, count in report.before.outcomes.items() if outcome.sent)
    assert 0 < report.forecast.calls < sent
    slowest = max(each.calls for each in report.forecast.providers)
    assert report.forecast.seconds == pytest.approx(slowest / 100)


def test_the_lab_is_kept_and_opens(report: DemoReport) -> None:
    assert report.kept
    with Lab.open(report.lab, clock=ManualClock(DEMO_TIME)) as lab:
        assert lab.info().unsafe
        assert lab.audit.verify().intact
        for rotated in report.rotated:
            key = lab.key(rotated.key_id)
            assert key.primary is not None
            assert key.primary.number == rotated.version_number
            assert key.primary.encryptions > 0


def test_a_second_demo_leaves_the_first_as_it_is(tmp_path: Path) -> None:
    with make_lab(tmp_path / "lab") as lab:
        generation = lab.info().generation
    with pytest.raises(LabExists, match="left as it is"):
        run(tmp_path / "lab")
    with Lab.open(tmp_path / "lab", clock=ManualClock(DEMO_TIME)) as lab:
        assert lab.info().generation == generation


def test_without_a_directory_nothing_is_left(
    report: DemoReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    again = run()
    assert not again.kept
    assert again.lab.is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []
    for one, other in ((report.before, again.before), (report.after, again.after)):
        assert (one.outcomes, one.reasons) == (other.outcomes, other.reasons)


def test_a_report_is_frozen_and_shows_no_blob(report: DemoReport) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.kept = False  # type: ignore[misc]
    blobs = [record.ciphertext_blob for record in read_csv(report.source)]
    text = repr(report)
    assert not any(blob in text for blob in blobs if len(blob) > 20)
