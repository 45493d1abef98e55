"""kmslab campaign: plan, run, resume, verify, undo, close, report, list."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from campaign_data import Row, World, read_rows, write_csv, write_jsonl, write_parquet, write_table
from command_line import Run, Warm

import kmslab.campaign.run
from kmslab.campaign.journal import Failure, Journal, Step
from kmslab.campaign.retrying import Patience
from kmslab.campaign.state import State
from kmslab.campaign.watching import Progress
from kmslab.cli import campaign_options, progress
from kmslab.cli.failures import Refused
from kmslab.errors import CampaignInterrupted, LabUncertain, LabUnreachable, SourceError
from kmslab.keystore.store import Keystore
from kmslab.lab import Lab
from kmslab.providers import batch
from kmslab.records.source import Change
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
    names.append("inferred")
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


@pytest.mark.parametrize(
    ("options", "outcomes", "said"),
    [
        (["--only-ids", "ids"], {"stale": 2, "blocked": 1}, "named by id (4); 1 id has no such"),
        (["--key", "orders"], {"stale": 14, "current": 4}, "on key {orders} (orders)"),
        (["--key", "orders", "--key-version", "1"], {"stale": 14}, "(orders), on version 1"),
        (
            ["--only-provider", "tencent", "--only-ids", "ids"],
            {"stale": 1, "blocked": 1},
            ", of tencent",
        ),
        (["--key", "frozen", "--only-ids", "ids"], {"blocked": 1}, "on key {disabled} (frozen)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_plan_of_some_records(
    bare_run: Run, world: World, options: list[str], outcomes: dict[str, int], said: str
) -> None:
    Path("ids").write_bytes(b"\xef\xbb\xbfrec-0000000\r\n\r\nrec-0000001\nrec-0000008\nnone")
    plan = found(bare_run, "plan", "secrets.csv", *options)
    assert {name: n for name, n in plan["outcomes"].items() if n} == outcomes
    assert plan["total"] == sum(outcomes.values())
    assert sum(row["records"] for row in plan["census"]) == 40
    said = said.format(orders=world.keys.orders, disabled=world.keys.disabled)
    assert said in bare_run("campaign", "plan", "secrets.csv", *options).stdout
    bare_run("campaign", "plan", "secrets.csv", *options, "--save", "some.plan")
    assert found(bare_run, "run", "--plan", "some.plan")["outcomes"] == plan["outcomes"]


def test_a_run_over_some_records(bare_run: Run, world: World) -> None:
    with Lab.open(world.path) as opened:
        version = opened.key(world.keys.billing).versions[0].version_id
    report = found(bare_run, "run", "secrets.csv", "--yes", "--key-version", version)
    assert report["results"] == {"re_encrypted": 6, "unchanged": 0, "failed": 0, "lost": 0}
    assert report["selection"] == {
        "record_ids": None,
        "key_id": None,
        "key_version_id": version,
        "provider": None,
    }
    told = bare_run("campaign", "report", report["campaign"]).stdout
    assert "| records | only those on version 1 |" in told
    ids = "rec-0000000\nrec-0000003\n"
    some = bare_run("campaign", "run", "secrets.csv", "--yes", "--only-ids", "-", stdin=ids)
    assert "Records: only those named by id (2). The census counts all." in some.stdout
    assert ["re-encrypted", "2"] in words(some.stdout)
    assert [each["total"] for each in found(bare_run, "list")] == [6, 2]


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
        ("plan", "secrets.csv", "--only-ids", "nowhere"),
        ("plan", "secrets.csv", "--only-ids", "no.ids"),
        ("plan", "secrets.csv", "--key-version", "1"),
        ("plan", "secrets.csv", "--key", "orders", "--key-version", "9"),
        ("run", "--plan", "empty.plan", "--key", "orders"),
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
    Path("no.ids").write_text("\n\n")
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


def test_a_run_that_the_lab_stops_says_how_to_go_on_though_the_lab_cannot_be_left(
    bare_run: Run, good_source: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise LabUncertain("a change may have been made or not")

    def unreachable(keystore: Keystore) -> None:
        close(keystore)
        raise LabUnreachable("the database does not answer; try again")

    close = Keystore.close
    with monkeypatch.context() as patch:
        patch.setattr(batch, "_run", lost)
        patch.setattr(Keystore, "close", unreachable)
        told = refused(bare_run, "run", "good.csv", "--yes", code=3).splitlines()
    (row,) = found(bare_run, "list")
    assert told[-3].endswith("since the lab cannot be used: a change may have been made or not")
    assert told[-2].startswith(f"to go on: kmslab campaign resume {row['campaign']}")
    assert told[-1].startswith("leaving the lab failed too: the database does not answer")
    assert found(bare_run, "resume", row["campaign"])["results"]["re_encrypted"] == 18


def test_a_run_as_tables(bare_run: Run, world: World) -> None:
    result = bare_run("campaign", "run", "secrets.csv", "--yes")
    lines = words(result.stdout)
    assert result.exit_code == 1
    assert ["re-encrypted", "18"] in lines
    assert ["ctyun", "billing", "2", "yes", "2", "8"] in lines
    failed = ["tencent", "InvalidParameterValue.InvalidCiphertext", "2"]
    assert [*failed, "rec-0000017,", "rec-0000037"] in lines
    assert "18 records were re-encrypted; 2 failed, 0 were lost" in result.stderr
    assert "4 records were not sent: blocked, something stands in the way" in result.stderr
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
    assert "nothing was stored" in result.stderr
    assert "8 cannot be sent (2 foreign, 4 blocked, 2 invalid)" in result.stderr
    assert "20 records were to be re-encrypted" in result.stderr
    assert json.loads(result.stdout)["results"]["re_encrypted"] == 0
    again = bare_run("campaign", "run", "secrets.csv", "--yes", "--atomic")
    assert words(again.stdout)[-2:] == [["not", "stored", "40"], ["total", "40"]]
    assert SOURCE.read_bytes() == before
    assert {each["state"] for each in found(bare_run, "list")} == {"aborted"}


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
    theirs = State.of(world.path, None).journal_path("99990101-000000-0000")

    def full(*_: object, **__: object) -> None:
        # Somebody else begins a campaign meanwhile.
        facts = {"state": "running", "source": "x", "spec": SourceSpec("x").as_dict()}
        Journal.create(theirs, facts).close()
        raise SourceError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("kmslab.campaign.run.Pass.finish", full)
        told = refused(bare_run, "run", "good.csv", "--yes", *more, code=2)
    theirs.unlink()
    (one,) = found(bare_run, "list")
    hint = f"to go on, once that is mended: kmslab campaign resume {one['campaign']}"
    if more:
        error = json.loads(told)["error"]
        assert error["message"] == "the disk is full"
        assert (error["campaign"], error["explanation"]) == (one["campaign"], hint)
    else:
        assert told == f"error: the disk is full\n{hint}\n"
    assert found(bare_run, "resume", one["campaign"])["results"]["re_encrypted"] == 18


def test_a_hint_works_as_it_stands(
    bare_run: Run, world: World, good_source: SourceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kmslab.campaign.sending.Patience", lambda: Patience(attempts=1))
    bare_run("lab", "fault", "ReEncrypt", "InternalError", "--count", "1")
    given = ["--lab", str(world.path), "--state", "some where"]
    monkeypatch.delenv("KMSLAB_LAB")
    stopped = bare_run("campaign", "run", "good.csv", "--yes", *given)
    assert stopped.exit_code == 3, stopped.output
    error, hint = stopped.stderr.splitlines()
    assert error.startswith("refused, try again: ")
    finished = bare_run(*shlex.split(hint.removeprefix("to go on: kmslab ")))
    assert finished.exit_code == 0
    taken_back = finished.stderr.splitlines()[-1].removeprefix("to take it back: kmslab ")
    assert bare_run(*shlex.split(taken_back), "--yes").exit_code == 0
    saved = bare_run("campaign", "plan", "good.csv", "--save", "a plan", *given)
    carried_out = saved.stderr.partition("to carry it out: kmslab ")[2]
    assert bare_run(*shlex.split(carried_out)).exit_code == 0


@pytest.mark.parametrize("at_work", [True, False])
def test_a_source_that_is_busy_says_with_which_campaign(
    bare_run: Run,
    world: World,
    good_source: SourceSpec,
    monkeypatch: pytest.MonkeyPatch,
    at_work: bool,
) -> None:
    monkeypatch.setattr("kmslab.campaign.state.LOCK_SECONDS", 0)
    state = State.of(world.path, None)
    source = str(Path("good.csv").absolute())
    theirs = "20260101-000000-0000"
    facts = {"state": "running", "source": source, "plan": None}
    if at_work:
        Journal.create(state.journal_path(theirs), facts).close()
    with state.lock(source):
        error = json.loads(refused(bare_run, "run", "good.csv", "--yes", "--json"))["error"]
    assert error["code"] == "SourceBusy"
    assert error["campaign"] == (theirs if at_work else None)
    assert (f"campaign resume {theirs}" in str(error["explanation"])) is at_work


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


@pytest.mark.parametrize("facts", [{}, {"source": 5}, {"source": ["x"]}])
def test_one_that_is_none_of_ours_and_has_shards_does_not_hide_the_others(
    bare_run: Run, world: World, good_source: SourceSpec, facts: dict[str, Any]
) -> None:
    campaign_id = campaign(bare_run)
    theirs = State.of(world.path, None).journal_path("20250101-000000-0000")
    Journal.create(theirs, {"state": "running", **facts}).close()
    theirs.with_suffix(".shards").mkdir(mode=0o700)
    shown = bare_run("campaign", "list", "--json")
    assert shown.exit_code == 0, shown.output
    foreign, whole = json.loads(shown.stdout)
    assert (foreign["state"], whole["campaign"]) == ("unreadable", campaign_id)
    warning = f"{theirs.stem} is counted without what workers have left: {theirs}: this is not what"
    assert f"warning: {warning} kmslab writes there" in shown.stderr


@pytest.mark.parametrize("data", [b"", None])
def test_one_that_is_none_of_ours_does_not_hide_how_to_go_on(
    bare_run: Run,
    world: World,
    good_source: SourceSpec,
    monkeypatch: pytest.MonkeyPatch,
    data: bytes | None,
) -> None:
    theirs = State.of(world.path, None).journal_path("99990101-000000-0000")

    def full(*_: object, **__: object) -> None:
        # It is found there meanwhile.
        if data is None:
            Journal.create(theirs, {}).close()
        else:
            theirs.write_bytes(data)
        raise SourceError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("kmslab.campaign.run.Pass.finish", full)
        told = refused(bare_run, "run", "good.csv", "--yes", code=2)
    ours, *_ = State.of(world.path, None).journals()
    hint = f"to go on, once that is mended: kmslab campaign resume {ours.stem}"
    assert told == f"error: the disk is full\n{hint}\n"


def test_an_id_may_be_cut_while_it_is_unique(
    bare_run: Run, world: World, good_source: SourceSpec
) -> None:
    first, second = campaign(bare_run), campaign(bare_run)
    told = refused(bare_run, "report", first[:4], code=2)
    assert "there are 2 campaigns whose id begins" in told
    assert "there is no campaign whose id begins" in refused(bare_run, "report", "1", code=2)
    assert found(bare_run, "report", second)["campaign"] == second


# report, list


def pending_journal(state: State, campaign_state: str) -> str:
    """The journal of a campaign over one file of a million records, on its way."""
    campaign_id = "20260101-000000-0000"
    facts = {
        "state": campaign_state,
        "source": "/data/orders.csv",
        "started_at": "2026-01-01T00:00:00+00:00",
        "plan": None,
    }
    with Journal.create(state.journal_path(campaign_id), facts) as journal:
        part = journal.part("/data/orders.csv")
        changes = [Change(place, f"order-{place}", "old", "new") for place in range(1, 1_201)]
        journal.intend(part, changes, ["ctyun"] * 1_200)
        failures = [
            (place, Failure(f"order-{place}", "ctyun", code, f"{message} {place}", f"r-{place}"))
            for place in range(2_001, 3_502)
            for code, message in [("KMS_1", "odd") if place % 2 else ("KMS_2", "even")]
        ]
        journal.fail(part, failures)
        journal.lose(Step.APPLIED, [1], "changed")
    return campaign_id


def test_what_waits_for_the_end_of_a_file_is_shown(bare_run: Run, world: World) -> None:
    campaign_id = pending_journal(State.of(world.path, None), "running")
    result = bare_run("campaign", "list")
    assert words(result.stdout)[1][:4] == [campaign_id, "running", "-", "0"]
    more = "1,199 more are in the journal, stored when the file is finished"
    assert result.stderr == f"{campaign_id}: {more}\n"
    assert found(bare_run, "list")[0]["pending"] == 1_199
    told = bare_run("campaign", "report", campaign_id).stdout
    assert "1,199 more are in the journal, and stored when the file is finished." in told


def test_every_failure_can_be_had(bare_run: Run, world: World) -> None:
    campaign_id = pending_journal(State.of(world.path, None), "running")
    report = found(bare_run, "report", campaign_id)
    assert len(report["failures"]) == 1_000
    kinds = [(each["code"], each["records"], each["message"]) for each in report["failure_groups"]]
    assert kinds == [("KMS_1", 751, "odd 2001"), ("KMS_2", 750, "even 2002")]
    assert report["failure_groups"][0]["examples"][:2] == ["order-2001", "order-2003"]
    result = bare_run("campaign", "report", campaign_id, "--failures", "all.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "1,502 records in all.jsonl: 1,501 failed, 1 lost" in result.stderr
    assert stat.S_IMODE(Path("all.jsonl").stat().st_mode) == 0o600
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert [line["record_id"] for line in lines] == [
        *(f"order-{place}" for place in range(2_001, 3_502)),
        "order-1",
    ]
    assert lines[0] == {
        "result": "failed",
        "record_id": "order-2001",
        "provider": "ctyun",
        "code": "KMS_1",
        "message": "odd 2001",
        "request_id": "r-2001",
    }
    assert lines[-1] == {"result": "lost", "record_id": "order-1", "reason": "changed"}
    for more in (("--failures", "all.jsonl"), ("--failures", "b", "--json")):
        assert bare_run("campaign", "report", campaign_id, *more).exit_code == 2


@pytest.mark.parametrize("change", ["gone", "new"])
def test_what_is_shown_sums_where_rows_come_and_go(
    bare_run: Run,
    world: World,
    good_source: SourceSpec,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    rows = good(world)
    spec = write_table(Path("good").absolute(), rows)
    real = kmslab.campaign.run.make_plan

    def planned(*args: Any, **options: Any) -> Any:
        plan = real(*args, **options)
        more = [{**rows[0], "record_id": f"late-{n}"} for n in range(2)]
        Path("good.db").unlink()
        write_table(Path("good").absolute(), rows[1:] if change == "gone" else [*rows, *more])
        return plan

    monkeypatch.setattr("kmslab.campaign.run.make_plan", planned)
    run = bare_run("campaign", "run", spec.location, "--table", "secrets", "--yes")
    (one,) = found(bare_run, "list")
    report = found(bare_run, "report", one["campaign"])
    moved = (report["gone"], report["new"], sum(report["results"].values()) - report["total"])
    if change == "gone":
        assert moved == (1, 0, -1)
        assert ["not", "there", "any", "more", "1"] in words(run.stdout)
        assert ["total", "38"] in words(run.stdout)
        assert "1 record of the plan was not there any more." in run.stderr
    else:
        assert moved == (0, 2, 2)
        assert ["total", "40"] in words(run.stdout)
        assert "2 records came after the plan, which had 38." in run.stderr


def test_a_report_tells_what_was_never_sent(bare_run: Run, world: World) -> None:
    report = found(bare_run, "run", "secrets.csv", "--yes", code=1)
    assert report["never_sent"] == {"foreign": 2, "blocked": 4, "invalid": 2}
    told = bare_run("campaign", "report", report["campaign"]).stdout
    assert "## Never sent" in told
    assert "| blocked | something stands in the way | 4 |" in told


def test_a_report_names_keys_by_id_and_alias(bare_run: Run, world: World) -> None:
    plan = bare_run("campaign", "plan", "secrets.csv", "--to", "archive").stdout
    assert f"Destination: key {world.keys.archive} (archive) of ctyun." in plan
    report = found(bare_run, "run", "secrets.csv", "--yes", "--to", "archive", code=1)
    told = bare_run("campaign", "report", report["campaign"]).stdout
    assert f"`{world.keys.orders}` orders" in told
    assert f"key {world.keys.archive} (archive) of ctyun" in told
    page = bare_run("campaign", "report", report["campaign"], "--format", "html").stdout
    assert f"<code>{world.keys.orders}</code> orders" in page


def test_only_what_has_changed_is_on_the_screen(bare_run: Run, world: World) -> None:
    with Lab.open(world.path) as opened:
        kms, rows = opened.tencent(), []
        for number in range(15):
            blob = kms.encrypt(world.keys.sessions, b"x")
            rows.append({"record_id": f"s-{number}", "provider": "tencent"})
            rows[-1]["ciphertext_blob"] = blob
            opened.rotate(world.keys.sessions)
        idle = kms.encrypt(kms.create_key(alias="idle").key_id, b"x")
        rows.append({"record_id": "idle", "provider": "tencent", "ciphertext_blob": idle})
    lines = [",".join(row.values()) for row in rows]
    Path("many.csv").write_text("\n".join(["record_id,provider,ciphertext_blob", *lines]))
    plan = bare_run("campaign", "plan", "many.csv")
    assert "and 6 rows more with 6 records; --json has all" in plan.stdout
    run = bare_run("campaign", "run", "many.csv", "--yes")
    census = [line for line in words(run.stdout) if line[:1] == ["tencent"]]
    assert len(census) == 10
    assert ["tencent", "sessions", "16", "yes", "0", "15"] in census
    assert "and 6 rows more with 6 records before and 0 after, 1 row unchanged" in run.stdout


def test_a_context_that_is_an_object_names_its_row(bare_run: Run, world: World) -> None:
    good = {"record_id": "1", "provider": "tencent", "ciphertext_blob": "x"}
    rows = [good, {**good, "record_id": "2", "encryption_context": {"app": "orders"}}]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    told = refused(bare_run, "plan", "rows.jsonl", code=2)
    assert "rows.jsonl, row 2" in told
    assert 'as the text of a string: "{\\"app\\":\\"orders\\"}"' in told


def test_a_folder_without_sources_says_what_it_is(bare_run: Run, world: World) -> None:
    folder = Path("folder")
    folder.mkdir()
    (folder / "link").symlink_to("nowhere")
    (folder / "notes.txt").touch()
    told = refused(bare_run, "plan", "folder", code=2)
    assert "folder: none of its 2 files is of a known format" in told


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
    warm: Warm, world: World, good_source: SourceSpec, typed: bytes, code: int
) -> None:
    before = Path("good.csv").read_bytes()
    exit_code, screen = warm.at_terminal(["campaign", "run", "good.csv"], [typed])
    assert exit_code == code, screen
    told = " ".join(screen.split())
    assert "This will re-encrypt 18 records (" in told
    assert "38 records: 18 stale, 12 current, 2 foreign, 4 blocked, 2 invalid. This" in told
    assert "open each new blob and compare" in told
    assert "go on? [y/N]: " in screen
    changed = Path("good.csv").read_bytes() != before
    assert changed is (code == 0)
    assert ("nothing was changed" in screen) is (code == 1)


def test_an_undo_asks_at_a_terminal(
    warm: Warm,
    bare_run: Run,
    world: World,
    good_source: SourceSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = Path("good.csv").read_bytes()
    campaign_id = campaign(bare_run)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    code, screen = warm.at_terminal(["campaign", "undo", campaign_id], [b"y"])
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
    warm: Warm, bare_run: Run, world: World, good_source: SourceSpec, tmp_path: Path
) -> None:
    args = ["campaign", "run", "good.csv", "--yes", "--rate", "16"]
    with (tmp_path / "out").open("w+") as out, (tmp_path / "told").open("w+") as said:
        command = warm.start(args, None, out.fileno(), said.fileno())
        journals = world.path / "state" / "campaigns"
        until = time.monotonic() + 30
        while not list(journals.glob("*.db-journal")) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(command.pid, signal.SIGINT)
        code = command.wait()
        out.seek(0)
        said.seek(0)
        told = said.read()
        assert (code, out.read()) == (130, ""), told
    assert progress.STOPPING in told
    assert "interrupted: " in told
    (one,) = found(bare_run, "list")
    assert one["state"] in ("planning", "running")
    assert told.splitlines()[-1] == f"to go on: kmslab campaign resume {one['campaign']}"
    report = found(bare_run, "resume", one["campaign"])
    assert report["results"]["re_encrypted"] == 18
    assert sum(report["calls"].values()) == report["forecast"]["calls"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Also where the suite is a background job of a shell, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
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


def test_a_source_without_records_is_said_to_have_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("record_id,provider,ciphertext_blob\n", "ascii")
    done = run("campaign", "run", str(path), "--yes")
    assert done.stdout.endswith("before and after\nThere are no records.\n")
