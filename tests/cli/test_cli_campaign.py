"""kmslab campaign: plan, run, resume, verify, undo, close, report, list."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from campaign_data import Row, World, read_rows, write_csv, write_jsonl, write_parquet, write_table
from command_line import Run, at_terminal

from kmslab.campaign.retrying import Patience
from kmslab.campaign.watching import Progress
from kmslab.cli import campaign_options, progress
from kmslab.cli.failures import Refused
from kmslab.errors import CampaignInterrupted, SourceError
from kmslab.lab import Lab
from kmslab.records.spec import SourceSpec

# Of the forty records of `world`.
OUTCOMES = {"stale": 20, "current": 12, "blocked": 4, "foreign": 2, "invalid": 2}
RESULTS = {"re_encrypted": 18, "unchanged": 20, "failed": 2, "lost": 0}
SOURCE = Path("secrets.csv")


def good(world: World) -> list[Row]:
    """The records without those that a KMS refuses."""
    return [row for number, row in enumerate(world.rows) if number % 20 != 17]


@pytest.fixture
def good_source(world: World) -> SourceSpec:
    """`good.csv`, with records of which none fails."""
    return write_csv(Path("good"), good(world))


def found(run: Run, *args: str, code: int = 0) -> Any:
    result = run("campaign", *args, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def campaign(run: Run, source: str = "good.csv", *more: str) -> str:
    return str(found(run, "run", source, "--yes", *more)["campaign"])


def words(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def refused(run: Run, *args: str, code: int = 1) -> str:
    result = run("campaign", *args)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    return result.stderr


# plan


def test_a_plan_as_json(bare_run: Run, world: World) -> None:
    before = SOURCE.read_bytes()
    plan = found(bare_run, "plan", "secrets.csv")
    assert {name: n for name, n in plan["outcomes"].items() if n} == OUTCOMES
    assert plan["total"] == 40 == sum(row["records"] for row in plan["census"])
    names = ["provider", "key_id", "key_version_id", "version_number", "is_primary", "records"]
    assert list(plan["census"][0]) == names
    assert plan["forecast"]["providers"]["tencent"]["rate"] == 100
    assert plan["rights"] == {"tencent": ["ReEncrypt"], "ctyun": ["reEncrypt"]}
    assert plan["unverified"] is True
    assert SOURCE.read_bytes() == before
    assert not (world.path / "state" / "campaigns").exists()


def test_a_plan_as_tables(bare_run: Run, world: World) -> None:
    result = bare_run("campaign", "plan", "secrets.csv", "--rate", "2")
    lines = words(result.stdout)
    assert result.exit_code == 0
    assert lines[0] == ["Plan", "for", str(SOURCE.absolute())]
    assert ["stale", "20"] in lines
    assert ["blocked", "key", "disabled", "2", "rec-0000008,", "rec-0000028"] in lines
    assert ["total", "40"] in lines
    assert ["tencent", "orders", "1", "no", "14"] in lines
    assert ["ctyun", "6", "2", "3", "s", "reEncrypt"] in lines
    assert "does not change a data key" in result.stdout


def test_a_deep_plan_opens_the_blobs(bare_run: Run, world: World) -> None:
    plan = found(bare_run, "plan", "secrets.csv", "--deep")
    assert plan["unverified"] is False
    assert plan["outcomes"]["invalid"] == 4
    assert plan["outcomes"]["stale"] == 18


@pytest.mark.parametrize(
    ("options", "outcome", "records"),
    [
        (["--to", "archive"], "blocked", 6 + 2),  # contexts would be lost, keys are disabled
        (["--to", "archive", "--drop-context"], "move", 32),
        (["--to", "nothing"], None, 0),
        (["--max-length", "10"], "blocked", 24),
        (["--context", '{"app":"new"}'], "move", 8),
        (["--drop-context"], "move", 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_where_records_go(
    bare_run: Run, world: World, options: list[str], outcome: str | None, records: int
) -> None:
    if outcome is None:
        assert "KeyNotFound" in refused(bare_run, "plan", "secrets.csv", *options)
        return
    plan = found(bare_run, "plan", "secrets.csv", *options)
    assert plan["outcomes"][outcome] == records
    assert sum(plan["outcomes"].values()) == 40


def test_a_plan_of_other_columns(bare_run: Run, world: World) -> None:
    lines = [
        f"{row['record_id']},{row['ciphertext_blob']},{row['encryption_context'] and '订单'}"
        for row in world.rows
        if row["provider"] == "tencent"
    ]
    Path("other.csv").write_text("\n".join(["id,secret,app", *lines]), encoding="utf-8")
    columns = ["--id-column", "id", "--blob-column", "secret", "--provider", "tencent"]
    template = ["--context-template", '{"app":"{app}"}']
    plan = found(bare_run, "plan", "other.csv", *columns, *template, "--deep")
    assert plan["total"] == len(lines)
    assert plan["outcomes"]["current"] == 2


def test_a_saved_plan_is_carried_out(bare_run: Run, world: World, good_source: SourceSpec) -> None:
    result = bare_run("campaign", "plan", "good.csv", "--verify", "sample:3", "--save", "the.plan")
    assert result.exit_code == 0
    assert "campaign run --plan the.plan" in result.stderr
    assert stat.S_IMODE(Path("the.plan").stat().st_mode) == 0o600
    again = bare_run("campaign", "plan", "good.csv", "--save", "the.plan")
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert found(bare_run, "run", "--plan", "the.plan")["total"] == 38  # the plan again
    report = found(bare_run, "run", "--plan", "the.plan", "--yes")
    assert report["results"]["re_encrypted"] == 18
    told = refused(bare_run, "run", "--plan", "the.plan", "--yes")
    assert "PlanOutdated" in told
    assert "good.csv was changed" in told


def test_a_plan_is_refused_once_a_key_was_rotated(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    bare_run("campaign", "plan", "good.csv", "--save", "the.plan")
    bare_run("key", "rotate", "orders")
    assert "was rotated after the plan" in refused(bare_run, "run", "--plan", "the.plan")
    assert "was rotated after the plan" in refused(bare_run, "run", "--plan", "the.plan", "--yes")
    assert found(bare_run, "list") == []


@pytest.mark.parametrize(
    "args",
    [
        ("plan",),
        ("plan", "nowhere.csv"),
        ("plan", "secrets.csv", "--table", "secrets", "--blob-column", "nothing"),
        ("plan", "sqlite:///nowhere.db", "--table", "secrets"),
        ("plan", "secrets.csv", "--context", "{"),
        ("plan", "secrets.csv", "--context", "{}"),
        ("plan", "secrets.csv", "--context", "{}", "--drop-context"),
        ("plan", "secrets.csv", "--rate", "0"),
        ("plan", "secrets.csv", "--rate", "nan"),
        ("plan", "secrets.csv", "--verify", "sample:0"),
        ("plan", "secrets.csv", "--max-length", "0"),
        ("run",),
        ("run", "secrets.csv", "--plan", "the.plan"),
        ("run", "--plan", "nowhere.plan"),
        ("run", "--plan", "secrets.csv"),
        ("run", "--plan", "no.plan"),
        ("run", "--plan", "empty.plan"),
        ("run", "--plan", "empty.plan", "--to", "archive"),
        ("resume", "20260101"),
        ("verify", "../lab"),
        ("undo", "nothing"),
        ("close", "nothing"),
        ("report", "nothing"),
        ("report", "nothing", "--format", "pdf"),
    ],
    ids=" ".join,
)
def test_wrong_usage(bare_run: Run, world: World, args: tuple[str, ...]) -> None:
    Path("no.plan").write_text("[]")
    Path("empty.plan").write_text("{}")
    result = bare_run("campaign", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr


def test_no_lab_and_no_state(bare_run: Run) -> None:
    assert "no lab is named" in refused(bare_run, "list", code=2)
    assert "there is no lab at" in refused(bare_run, "list", "--lab", "nowhere", code=2)


# run


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_run_without_yes_is_a_plan(bare_run: Run, world: World, more: tuple[str, ...]) -> None:
    before = SOURCE.read_bytes()
    result = bare_run("campaign", "run", "secrets.csv", *more)
    assert result.exit_code == 0
    if more:
        assert json.loads(result.stdout)["outcomes"]["stale"] == 20
    else:
        assert "Plan for" in result.stdout
        assert "nothing was changed; --yes does it" in result.stderr
    assert SOURCE.read_bytes() == before
    assert found(bare_run, "list") == []


def test_a_run_as_json(bare_run: Run, world: World) -> None:
    report = found(bare_run, "run", "secrets.csv", "--yes", code=1)
    assert report["total"] == 40
    assert {name: n for name, n in report["outcomes"].items() if n} == OUTCOMES
    assert report["results"] == RESULTS
    assert sum(report["results"].values()) == report["total"]
    before, after = report["census_before"], report["census_after"]
    assert sum(r["records"] for r in before) == sum(r["records"] for r in after) == 40
    (old,) = [r for r in after if r["key_id"] == world.keys.orders and r["version_number"] == 1]
    assert old["records"] == 2
    again = found(bare_run, "run", "secrets.csv", "--yes", code=1)
    assert again["results"] == {"re_encrypted": 0, "unchanged": 38, "failed": 2, "lost": 0}
    assert [each["campaign"] for each in found(bare_run, "list")] == [
        report["campaign"],
        again["campaign"],
    ]


def test_a_run_as_tables(bare_run: Run, world: World) -> None:
    result = bare_run("campaign", "run", "secrets.csv", "--yes")
    lines = words(result.stdout)
    assert result.exit_code == 1
    assert ["re-encrypted", "18"] in lines
    assert ["ctyun", "billing", "2", "yes", "2", "8"] in lines
    assert ["InvalidParameterValue.InvalidCiphertext", "2", "rec-0000017"] in lines
    assert "4 records were not sent, since they are blocked" in result.stderr
    assert "kmslab campaign undo 2" in result.stderr
    assert "\x1b" not in result.output


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet, write_table])
def test_a_run_over_every_kind_of_source(bare_run: Run, world: World, write: Any) -> None:
    spec = write(Path("good").absolute(), good(world))
    table = ["--table", spec.table] if spec.table else []
    report = found(bare_run, "run", spec.location, *table, "--yes")
    assert report["results"] == {"re_encrypted": 18, "unchanged": 20, "failed": 0, "lost": 0}
    old, new = good(world), read_rows(spec)
    changed = [a["record_id"] for a, b in zip(old, new, strict=True) if a != b]
    assert len(changed) == 18
    (row,) = found(bare_run, "list")
    assert row["state"] == "finished"


def test_a_copy_is_written_and_the_source_left(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    before = Path("good.csv").read_bytes()
    campaign_id = campaign(bare_run, "good.csv", "--output", "new.csv")
    assert Path("good.csv").read_bytes() == before != Path("new.csv").read_bytes()
    assert found(bare_run, "verify", campaign_id)["proven"] == 18
    assert "nothing to undo" in refused(bare_run, "undo", campaign_id, "--yes")
    told = refused(bare_run, "run", "good.csv", "--yes", "--output", "new.csv", code=2)
    assert "new.csv" in told


def test_all_or_nothing(bare_run: Run, world: World) -> None:
    before = SOURCE.read_bytes()
    result = bare_run("campaign", "run", "secrets.csv", "--yes", "--atomic", "--json")
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert json.loads(result.stdout)["results"]["re_encrypted"] == 0
    assert SOURCE.read_bytes() == before
    assert [each["state"] for each in found(bare_run, "list")] == ["aborted"]


def test_records_go_to_the_other_provider(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    report = found(bare_run, "run", "good.csv", "--yes", "--to", "archive", "--drop-context")
    assert report["results"]["re_encrypted"] == 30
    moved = [row for row in read_rows(good_source) if row["key_id"] == world.keys.archive]
    assert {row["provider"] for row in moved} == {"ctyun"}


def test_a_campaign_that_cannot_be_planned_is_not_in_the_way(bare_run: Run, world: World) -> None:
    Path("bare.csv").write_text("record_id,ciphertext_blob\n1,x\n")
    args = ["run", "bare.csv", "--provider", "ctyun", "--yes"]
    told = refused(bare_run, *args, "--context", '{"a":"b"}', code=2)
    assert "no context column" in told
    assert found(bare_run, *args)["total"] == 1


def test_a_provider_that_does_not_answer_for_long(
    bare_run: Run, world: World, good_source: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmslab.campaign.sending.Patience", lambda: Patience(attempts=1))
    bare_run("lab", "fault", "ReEncrypt", "InternalError", "--count", "1")
    result = bare_run("campaign", "run", "good.csv", "--yes")
    assert result.exit_code == 3
    assert "refused, try again: CampaignInterrupted: campaign 2" in result.stderr
    (one,) = found(bare_run, "list")
    assert f"to go on: kmslab campaign resume {one['campaign']}" in result.stderr
    assert "is not finished" in refused(bare_run, "run", "good.csv", "--yes")
    assert "undo it first" in refused(bare_run, "close", one["campaign"])
    report = found(bare_run, "resume", one["campaign"])
    assert report["results"]["re_encrypted"] == 18


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_error_on_the_way_says_how_to_go_on(
    bare_run: Run,
    world: World,
    good_source: SourceSpec,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SourceError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("kmslab.campaign.run.Pass.finish", full)
        told = refused(bare_run, "run", "good.csv", "--yes", *more, code=2)
    (one,) = found(bare_run, "list")
    hint = f"to go on, once that is mended: kmslab campaign resume {one['campaign']}"
    if more:
        assert json.loads(told)["error"]["message"] == "the disk is full"
    else:
        assert hint in told
    assert found(bare_run, "resume", one["campaign"])["results"]["re_encrypted"] == 18


def test_state_may_be_elsewhere(bare_run: Run, world: World, good_source: SourceSpec) -> None:
    campaign_id = campaign(bare_run, "good.csv", "--state", "elsewhere")
    assert found(bare_run, "list") == []
    assert len(found(bare_run, "list", "--state", "elsewhere")) == 1
    result = bare_run("campaign", "report", campaign_id, KMSLAB_STATE="elsewhere", KMSLAB_LAB="")
    assert result.exit_code == 0


# resume, verify, undo, close


def test_the_rest_of_a_campaigns_life(
    bare_run: Run, world: World, good_source: SourceSpec, tmp_path: Path
) -> None:
    before = Path("good.csv").read_bytes()
    campaign_id = campaign(bare_run)
    start = campaign_id[:9]
    result = bare_run("campaign", "resume", start)
    assert result.exit_code == 0
    assert "was finished already" in result.stderr
    proof = found(bare_run, "verify", start)
    assert (proof["changed"], proof["proven"]) == (18, 18)
    assert ["proven", "18"] in words(bare_run("campaign", "verify", start).stdout)
    would = found(bare_run, "undo", start)
    assert would["restorable"] == 18
    shown = bare_run("campaign", "undo", start)
    assert ["get", "their", "old", "blob", "back", "18"] in words(shown.stdout)
    assert "--yes does it" in shown.stderr
    assert Path("good.csv").read_bytes() != before
    assert found(bare_run, "undo", start, "--yes")["undone"] == 18
    assert Path("good.csv").read_bytes() == before
    assert "is undone" in refused(bare_run, "verify", start)
    assert "holds no blob any more" in refused(bare_run, "close", start, code=0)
    assert "there is nothing to undo" in refused(bare_run, "undo", start, "--yes")
    assert [each["state"] for each in found(bare_run, "list")] == ["closed"]
    assert ["closed", "38", "18", "0", "0"] in [
        line[1:6] for line in words(bare_run("campaign", "list").stdout)
    ]


def test_an_undo_leaves_what_somebody_has_changed(
    bare_run: Run, world: World, good_source: SourceSpec, lab: Lab
) -> None:
    campaign_id = campaign(bare_run)
    rows = read_rows(good_source)
    with Lab.open(world.path) as opened:
        rows[0]["ciphertext_blob"] = opened.tencent().encrypt(world.keys.orders, b"new")
    write_csv(Path("good"), rows)
    would = found(bare_run, "undo", campaign_id)
    assert (would["touched"], would["restorable"]) == (["rec-0000000"], 17)
    result = bare_run("campaign", "undo", campaign_id, "--yes")
    assert result.exit_code == 1
    assert ["left", "as", "they", "are", "1"] in words(result.stdout)
    assert "rec-0000000" in result.stdout
    assert read_rows(good_source)[0] == rows[0]


def test_what_does_not_open_is_not_proven(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    campaign_id = campaign(bare_run)
    bare_run("key", "disable", "billing")
    result = bare_run("campaign", "verify", campaign_id)
    assert result.exit_code == 1
    assert ["not", "proven", "6"] in words(result.stdout)
    assert "rec-0000001" in result.stderr


def test_a_restored_backup_is_not_proven(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    before = Path("good.csv").read_bytes()
    campaign_id = campaign(bare_run)
    Path("good.csv").write_bytes(before)
    proof = found(bare_run, "verify", campaign_id, code=1)
    assert (proof["changed"], proof["proven"], proof["reverted"]) == (18, 0, 18)
    result = bare_run("campaign", "verify", campaign_id)
    assert ["hold", "their", "old", "blob", "18"] in words(result.stdout)
    assert "0 of 18 records are proven" in result.stderr


def test_without_the_new_key_an_undo_is_by_name(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    before = Path("good.csv").read_bytes()
    campaign_id = campaign(bare_run, "good.csv", "--to", "sessions")
    bare_run("key", "disable", "sessions")
    left = found(bare_run, "undo", campaign_id, "--yes", code=1)
    assert left["undo_left"] > 0
    assert "left" in refused(bare_run, "close", campaign_id)
    done = bare_run("campaign", "undo", campaign_id, "--yes", "--unproven")
    assert ["of", "these", "without", "proof", str(left["undo_left"])] in words(done.stdout)
    assert done.exit_code == 0
    assert Path("good.csv").read_bytes() == before
    assert "is closed" in refused(bare_run, "close", campaign_id, code=0)


def test_one_that_cannot_be_read_does_not_hide_the_others(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    campaign_id = campaign(bare_run)
    (world.path / "state" / "campaigns" / "20250101-000000-0000.db").touch(mode=0o600)
    broken, whole = found(bare_run, "list")
    assert (broken["state"], broken["results"]) == ("unreadable", None)
    assert "a journal of format 0" in broken["error"]
    assert (whole["campaign"], whole["error"]) == (campaign_id, None)
    shown = bare_run("campaign", "list")
    assert shown.exit_code == 0
    assert "20250101-000000-0000: " in shown.stderr
    assert ["20250101-000000-0000", "unreadable"] in [line[:2] for line in words(shown.stdout)]


def test_an_id_may_be_cut_while_it_is_unique(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    first, second = campaign(bare_run), campaign(bare_run)
    told = refused(bare_run, "report", first[:4], code=2)
    assert "there are 2 campaigns" in told
    assert found(bare_run, "report", second)["campaign"] == second


# report, list


@pytest.mark.parametrize("form", ["json", "md", "html"])
def test_a_report_shows_names_as_they_are(bare_run: Run, world: World, form: str) -> None:
    names = ["<script>alert(1)</script>", "[red]x[/]"]
    rows = [{**row} for row in world.rows]
    rows[17]["record_id"], rows[37]["record_id"] = names
    write_csv(Path("strange"), rows)
    result = bare_run("campaign", "run", "strange.csv", "--yes")
    assert all(name in bare_run("campaign", "report", "2", "--json").stdout for name in names)
    assert result.exit_code == 1
    text = bare_run("campaign", "report", "2", "--format", form).stdout
    assert "[red]x[/]" in text
    assert (names[0] if form == "json" else "&lt;script&gt;") in text
    args = ["campaign", "report", "2", "--format", form, "--output", "report"]
    result = bare_run(*args)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "the report is in report" in result.stderr
    assert stat.S_IMODE(Path("report").stat().st_mode) == 0o600
    assert len(Path("report").read_text("utf-8")) >= len(text)
    assert bare_run(*args).exit_code == 2


def test_an_empty_list(bare_run: Run, world: World) -> None:
    assert "no campaigns" in refused(bare_run, "list", code=0)
    assert found(bare_run, "list") == []


# Terminals and signals


@pytest.mark.parametrize(("typed", "code"), [(b"", 1), (b"y", 0)])
def test_a_run_asks_at_a_terminal(
    bare_run: Run, world: World, good_source: SourceSpec, typed: bytes, code: int
) -> None:
    before = Path("good.csv").read_bytes()
    exit_code, screen = at_terminal(["campaign", "run", "good.csv"], [typed])
    assert exit_code == code, screen
    told = " ".join(screen.split())
    assert "This will re-encrypt 18 records (" in told
    assert "open each new blob and compare" in told
    assert "go on? [y/N]: " in screen
    changed = Path("good.csv").read_bytes() != before
    assert changed is (code == 0)
    assert ("nothing was changed" in screen) is (code == 1)


def test_an_undo_asks_at_a_terminal(
    bare_run: Run, world: World, good_source: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Path("good.csv").read_bytes()
    campaign_id = campaign(bare_run)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    code, screen = at_terminal(["campaign", "undo", campaign_id], [b"y"])
    assert code == 0, screen
    assert Path("good.csv").read_bytes() == before
    assert "undoing" in screen  # the bar


@pytest.mark.parametrize(
    ("records", "typed", "agreed"),
    [
        (1000, "y\n", True),
        (1000, "YES\n", True),
        (1000, "1000\n", False),
        (1000, "", False),
        (1001, "y\n", False),
        (1001, "1001\n", True),
        (1001, "1,001\n", True),
    ],
)
def test_above_a_thousand_the_number_is_typed(
    monkeypatch: pytest.MonkeyPatch, records: int, typed: str, agreed: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert campaign_options.agreed(records) is agreed


def test_ctrl_c_stops_and_resume_goes_on(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    args = ["campaign", "run", "good.csv", "--yes", "--rate", "16"]
    with subprocess.Popen(
        [sys.executable, "-m", "kmslab", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        journals = world.path / "state" / "campaigns"
        until = time.monotonic() + 30
        while not list(journals.glob("*.db-wal")) and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, ""), told
    assert progress.STOPPING in told
    assert "interrupted: " in told
    (one,) = found(bare_run, "list")
    assert one["state"] in ("planning", "running")
    assert told.splitlines()[-1] == f"to go on: kmslab campaign resume {one['campaign']}"
    report = found(bare_run, "resume", one["campaign"])
    assert report["results"]["re_encrypted"] == 18
    assert sum(report["calls"].values()) == report["forecast"]["calls"]


def test_a_second_ctrl_c_stops_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted_twice() -> None:
        with progress.watching("resume {id}") as watch:
            assert not watch.stop()
            os.kill(os.getpid(), signal.SIGINT)
            assert watch.stop()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    stopping, told, _ = capfd.readouterr().err.splitlines()
    assert (stopping, told) == (progress.STOPPING, "stopped at once; to go on: resume ID")
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_how_to_go_on_is_told_where_there_is_something_to_go_on_with() -> None:
    for campaign_id, hint in (("", None), ("c1", "to go on: resume c1")):
        with pytest.raises(Refused) as caught, progress.watching("resume {id}"):
            raise CampaignInterrupted("stopped", campaign_id=campaign_id)
        assert caught.value.failure.explanation == hint
        assert caught.value.failure.exit_code == 130


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
    ],
)
def test_where_bars_are_shown(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], shown: bool
) -> None:
    assert not progress.shows_bars(environment)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert progress.shows_bars(environment) is shown


def test_a_bar_shows_rows_rate_and_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "shows_bars", lambda: True)
    for name, value in {"COLUMNS": "80", "TERM": "xterm", "TTY_COMPATIBLE": "1"}.items():
        monkeypatch.setenv(name, value)
    with progress.watching("") as watch:
        for rows in (1_000, 2_000):
            watch.progress(Progress("planning", rows, None, {"stale": rows, "move": 0}))
        watch.progress(Progress("re-encrypting", 1_500, 3_000, {"re_encrypted": 1_234}))
    told = capsys.readouterr()
    assert told.out == ""
    assert "1,500/3,000" in told.err
    assert "re_encrypted 1,234" in told.err
    assert "move" not in told.err
