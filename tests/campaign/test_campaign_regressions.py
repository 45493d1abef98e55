"""Running and resuming campaigns: what went wrong once."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_data import TWENTIES, World, read_rows, write_csv, write_jsonl, write_table
from campaign_sources import plaintexts

from kmslab import Lab
from kmslab.analysis.classify import Outcome, Target
from kmslab.campaign.closing import campaigns
from kmslab.campaign.plan import Options
from kmslab.campaign.planning import make_plan
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.selection import Selection
from kmslab.campaign.watching import Progress, Watch
from kmslab.errors import CampaignError, CampaignInterrupted, SourceBusy
from kmslab.records.opening import open_source
from kmslab.records.source import CHUNK_ROWS
from kmslab.records.spec import SourceSpec


def after_a_chunk() -> Watch:
    """Stops a campaign once its first chunk is behind."""
    chunks: list[Progress] = []
    return Watch(
        lambda told: chunks.append(told) if told.doing == "re-encrypting" else None,
        lambda: bool(chunks),
    )


def only(rows: list[dict[str, str | None]], kind: range) -> list[dict[str, str | None]]:
    return [row for at, row in enumerate(rows) if at % 20 in kind]


@pytest.fixture
def stale(world: World) -> list[dict[str, str | None]]:
    """More than a chunk of records that a campaign would change, all of one key, no contexts."""
    rows = [row for at, row in enumerate(world.rows) if at % 20 in (0, 5, 19)]
    return [
        row | {"record_id": f"{n}-{row['record_id']}"}
        for n in range(CHUNK_ROWS // len(rows) + 1)
        for row in rows
    ]


def test_a_journalled_blob_of_a_dead_key_is_not_written(
    ground: Ground, lab: Lab, stale: list[dict[str, str | None]], tmp_path: Path
) -> None:
    key = lab.tencent().create_key("new").key_id
    spec = write_csv(tmp_path / "records", stale)
    before = Path(spec.location).read_bytes()
    target = Target(key_id=key, provider="tencent")
    with pytest.raises(CampaignInterrupted) as stopped:
        run(ground, spec, target, watch=after_a_chunk())
    lab.tencent().disable_key(key)
    report = resume(ground, stopped.value.campaign_id)
    assert report.results.re_encrypted == 0
    assert report.results.lost == CHUNK_ROWS
    assert {lost.reason for lost in report.losses} == {
        "its new blob does not open to what the old one holds"
    }
    assert Path(spec.location).read_bytes() == before


class TestAtomic:
    def test_several_files_cannot_change_at_once(
        self, ground: Ground, world: World, tmp_path: Path
    ) -> None:
        folder = tmp_path / "parts"
        folder.mkdir()
        for n in range(2):
            write_csv(folder / f"p{n}", world.rows[n:20:2])
        with pytest.raises(CampaignError, match="has 2 files, which cannot change all at once"):
            run(ground, SourceSpec(str(folder)), options=Options(atomic=True))
        assert list(campaigns(ground.state)) == []

    def test_a_record_that_is_blocked_since_takes_all_back(
        self, ground: Ground, lab: Lab, world: World, tmp_path: Path
    ) -> None:
        rows = [row for at, row in enumerate(world.rows) if at % 20 in (0, 1, 5, 9, 16, 19)]
        rows = [row | {"record_id": f"{n}-{row['record_id']}"} for n in range(4) for row in rows]
        spec = write_csv(tmp_path / "records", rows)
        before = Path(spec.location).read_bytes()
        with pytest.raises(CampaignInterrupted) as stopped:
            run(ground, spec, options=Options(atomic=True), watch=after_a_chunk())
        lab.ctyun().disable_key(world.keys.billing)
        assert resume(ground, stopped.value.campaign_id).state == "aborted"
        assert Path(spec.location).read_bytes() == before

    def test_a_provider_that_does_not_answer_only_interrupts(
        self, ground: Ground, lab: Lab, stale: list[dict[str, str | None]], tmp_path: Path
    ) -> None:
        spec = write_csv(tmp_path / "records", stale)
        lab.faults.add("ReEncrypt", "InternalError", count=1_000_000)
        with pytest.raises(CampaignInterrupted, match="does not answer") as stopped:
            run(ground, spec, options=Options(atomic=True))
        lab.faults.clear()
        assert resume(ground, stopped.value.campaign_id).state == "finished"


class TestOutput:
    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("there.csv", "is there already"),
            ("copy", "ends in .csv"),
            ("copy.jsonl", "ends in .csv"),
        ],
    )
    def test_it_is_looked_at_before_anything_is_begun(
        self, ground: Ground, world: World, tmp_path: Path, output: str, message: str
    ) -> None:
        spec = write_csv(tmp_path / "records", world.rows[:20])
        (tmp_path / "there.csv").touch()
        with pytest.raises(CampaignError, match=message):
            run(ground, spec, options=Options(output=str(tmp_path / output)))
        assert list(campaigns(ground.state)) == []

    def test_a_table_has_none(self, ground: Ground, world: World, tmp_path: Path) -> None:
        spec = write_table(tmp_path / "records", world.rows[:20])
        with pytest.raises(CampaignError, match="of which no copy is made"):
            run(ground, spec, options=Options(output=str(tmp_path / "copy.db")))

    def test_it_is_not_among_the_files_of_the_source(
        self, ground: Ground, world: World, tmp_path: Path
    ) -> None:
        folder = tmp_path / "parts"
        folder.mkdir()
        write_jsonl(folder / "p", world.rows[:20])
        with pytest.raises(CampaignError, match="whose files it would join"):
            run(ground, SourceSpec(str(folder)), options=Options(output=str(folder / "out")))

    def test_of_a_folder_with_one_file_it_is_a_folder(
        self, ground: Ground, world: World, tmp_path: Path
    ) -> None:
        folder = tmp_path / "parts"
        (folder / "2026").mkdir(parents=True)
        write_jsonl(folder / "2026" / "p", world.rows[:20])
        report = run(ground, SourceSpec(str(folder)), options=Options(output=str(tmp_path / "out")))
        assert report.results.re_encrypted == 9
        assert (tmp_path / "out" / "2026" / "p.jsonl").is_file()

    def test_killed_when_the_copy_was_placed_it_goes_on(
        self, ground: Ground, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from kmslab.campaign.passes import Pass

        spec = write_csv(tmp_path / "records", world.rows[:40])
        copy = tmp_path / "copy.csv"

        def killed(_: Pass) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Pass, "finish", killed)
            with pytest.raises(KeyboardInterrupt):
                run(ground, spec, options=Options(output=str(copy)))
        assert copy.exists()
        (left,) = campaigns(ground.state)
        assert resume(ground, left.campaign).results.re_encrypted == 18


def test_what_was_refused_before_anything_was_sent_stands_in_nobodys_way(
    ground: Ground, world: World, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    spec = write_csv(folder / "p", world.rows[:20])
    (part,) = open_source(spec).parts
    with part.edit(), pytest.raises(SourceBusy):
        run(ground, SourceSpec(str(folder)))
    (left,) = campaigns(ground.state)
    assert left.state == "aborted"
    assert run(ground, spec).results.re_encrypted == 9


class TestSelection:
    def test_the_others_are_left_and_not_counted(
        self, ground: Ground, world: World, tmp_path: Path, lab: Lab
    ) -> None:
        spec = write_csv(tmp_path / "records", world.rows)
        before = read_rows(spec)
        marked = frozenset({"rec-0000000", "rec-0000001", "rec-0000002", "rec-0000008"})
        options = Options(selection=Selection(record_ids=marked))
        source = open_source(spec)
        plan = make_plan(source, spec, lab, Target(), clock=ground.clock, options=options)
        assert plan.total == 4
        assert {o: n for o, n in plan.outcomes.items() if n} == {
            Outcome.STALE: 2,
            Outcome.CURRENT: 1,
            Outcome.BLOCKED: 1,
        }
        assert sum(row.records for row in plan.census) == len(world.rows)
        report = run(ground, spec, plan=plan)
        assert (report.results.re_encrypted, report.results.unchanged) == (2, 2)
        after = read_rows(spec)
        changed = {a["record_id"] for a, b in zip(after, before, strict=True) if a != b}
        assert changed == {"rec-0000000", "rec-0000001"}
        assert plaintexts(lab, after) == plaintexts(lab, before)

    def test_one_version_of_one_key(
        self, ground: Ground, world: World, tmp_path: Path, lab: Lab
    ) -> None:
        spec = write_csv(tmp_path / "records", world.rows)
        old = lab.key(world.keys.billing).versions[0].version_id
        options = Options(selection=Selection(None, world.keys.billing, old))
        report = run(ground, spec, options=options)
        assert report.results.re_encrypted == 3 * TWENTIES
        assert report.results.unchanged == 0


def test_a_plan_brings_its_own_source(ground: Ground, world: World, tmp_path: Path) -> None:
    spec = write_csv(tmp_path / "records", world.rows[:20])
    other = write_csv(tmp_path / "other", world.rows[:20])
    plan = make_plan(open_source(spec), spec, ground.providers, Target(), clock=ground.clock)
    assert run(ground, other, plan=plan).source == str(tmp_path / "records.csv")
