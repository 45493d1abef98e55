"""kmslab retire: nothing is disabled or deleted while anything is left on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World, write_csv
from command_line import Run


def looked(run: Run, *args: str, code: int = 1) -> Any:
    result = run("retire", *args, "--json")
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


def kinds(found: Any) -> list[str]:
    return [each["kind"] for each in found["left"]]


@pytest.fixture
def moved(bare_run: Run, world: World) -> str:
    """A registered source whose records have left `billing`; the campaign that moved them."""
    rows = [row for row in world.rows if row["key_id"] == world.keys.billing]
    write_csv(Path("billing"), rows)
    bare_run("source", "add", "billing", "billing.csv")
    report = bare_run("campaign", "run", "billing.csv", "--to", "archive", "--yes", "--json")
    assert report.exit_code == 0, report.stderr
    return str(json.loads(report.stdout)["campaign"])


def test_without_sources_nothing_is_known(bare_run: Run, world: World) -> None:
    found = looked(bare_run, "orders", "--disable")
    assert kinds(found) == ["unscanned"]
    assert (found["ready"], found["state"]) == (False, "enabled")
    result = bare_run("retire", "orders")
    assert result.exit_code == 1
    assert "no source is registered" in result.stdout


def test_what_is_left_is_named(bare_run: Run, world: World) -> None:
    bare_run("source", "add", "secrets", "secrets.csv")
    bare_run("source", "hold", "tapes", "--reason", "monthly")
    bare_run("campaign", "run", "secrets.csv", "--yes")
    found = looked(bare_run, "orders", "--key-version", "1", "--accept-unreadable")
    assert kinds(found) == ["records", "journal", "hold"]
    assert found["left"][0]["records"] == 2
    assert found["left"][0]["examples"] == ["rec-0000017", "rec-0000037"]
    assert found["sources"] == ["secrets"]
    result = bare_run("retire", "orders", "--disable")
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["records", "secrets", "18", "rec-0000000,", "rec-0000002,", "rec-0000003"] in lines
    assert "unreadable" in result.stdout
    assert "orders was left as it is" in result.stderr
    assert json.loads(bare_run("key", "show", "orders", "--json").stdout)["state"] == "enabled"


def test_disable_first_delete_later(bare_run: Run, world: World, moved: str) -> None:
    assert kinds(looked(bare_run, "billing", "--disable")) == ["journal"]
    bare_run("campaign", "close", moved)
    result = bare_run("retire", "billing", "--schedule-deletion", "7")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "disable first, delete later: key billing is enabled" in result.stderr
    result = bare_run("retire", "billing")
    assert result.exit_code == 0
    assert result.stdout == "nothing is left on billing\n"
    assert looked(bare_run, "billing", code=0)["state"] == "enabled"
    result = bare_run("retire", "billing", "--disable")
    assert result.exit_code == 0
    assert "billing is disabled" in result.stderr
    assert looked(bare_run, "billing", "--disable", code=0)["state"] == "disabled"
    # Somebody puts a record back: it is found, though its key cannot open it any more.
    write_csv(Path("late"), [row for row in world.rows if row["key_id"] == world.keys.billing])
    bare_run("source", "add", "late", "late.csv")
    assert kinds(looked(bare_run, "billing", "--schedule-deletion", "7")) == ["records"]
    bare_run("source", "forget", "late")
    result = bare_run("retire", "billing", "--schedule-deletion", "7")
    assert result.exit_code == 0
    assert "will be deleted on" in result.stderr
    shown = json.loads(bare_run("key", "show", "billing", "--json").stdout)
    assert shown["state"] == "pending-deletion"


@pytest.mark.parametrize("step", [("--schedule-deletion", "9"), ("--disable",)])
def test_what_already_is_is_said(
    bare_run: Run, world: World, moved: str, step: tuple[str, ...]
) -> None:
    bare_run("campaign", "close", moved)
    bare_run("retire", "billing", "--disable")
    first = bare_run("retire", "billing", "--schedule-deletion", "7")
    date = first.stderr.partition("will be deleted on ")[2].split(";")[0]
    lab = ["--lab", str(world.path)]
    again = bare_run("retire", "billing", *step, *lab)
    assert (again.exit_code, again.stdout) == (1, "")
    assert f"pending-deletion already: it will be deleted on {date}" in again.stderr
    command = again.stderr.partition("to end that: kmslab ")[2]
    assert command == f"key cancel-deletion billing --lab {world.path}\n"


def test_a_source_that_only_a_campaign_knows_is_named(
    bare_run: Run, world: World, moved: str, tmp_path: Path
) -> None:
    bare_run("campaign", "close", moved)
    write_csv(Path("good"), [row for row in world.rows if row["provider"] == "ctyun"][:2])
    for args in (("good.csv",), ("good.csv", "--output", "copy.csv", "--to", "archive")):
        assert bare_run("campaign", "run", *args, "--yes").exit_code == 0
    names = [str(tmp_path / "good.csv"), str(tmp_path / "copy.csv")]
    assert looked(bare_run, "sessions", code=0)["unregistered"] == names
    told = bare_run("retire", "sessions").stderr
    for name in names:
        assert f"not looked into, though a campaign was at work there: {name}\n" in told
    assert "kmslab source add NAME SOURCE" in told
    bare_run("source", "add", "all", "*.csv")
    Path("copy.csv").unlink()
    found = looked(bare_run, "sessions")
    assert (found["sources"], found["unregistered"]) == (["billing", "all"], [])


def test_a_hold_on_one_key_is_none_on_another(bare_run: Run, world: World, moved: str) -> None:
    bare_run("campaign", "close", moved)
    bare_run("source", "hold", "copy", "--reason", "replica", "--key", "orders")
    assert looked(bare_run, "billing", code=0)["ready"]
    assert kinds(looked(bare_run, "orders")) == ["hold"]


def test_a_source_that_cannot_be_read_stands_in_the_way(
    bare_run: Run, world: World, moved: str
) -> None:
    bare_run("campaign", "close", moved)
    Path("billing.csv").unlink()
    found = looked(bare_run, "billing")
    assert kinds(found) == ["unscanned"]
    assert "billing.csv" in found["left"][0]["where"]


def test_the_state_folder_of_the_lab_counts_too(
    bare_run: Run, world: World, tmp_path: Path
) -> None:
    bare_run("source", "add", "secrets", "secrets.csv")
    bare_run("source", "hold", "tapes", "--reason", "monthly")
    (tmp_path / "small.csv").write_text("record_id,provider,ciphertext_blob\n1,ctyun,x\n")
    bare_run("source", "add", "small", "small.csv", "--state", "other")
    found = looked(bare_run, "orders", "--accept-unreadable", "--state", "other")
    assert found["sources"] == ["small", "secrets"]
    assert found["states"] == [str(tmp_path / "other"), str(world.path / "state")]
    assert kinds(found) == ["records", "hold"]
    result = bare_run("retire", "orders", KMSLAB_STATE="other")
    for state in found["states"]:
        assert f"state folder: {state}\n" in result.stderr


def test_an_empty_source_is_accepted_by_name(
    bare_run: Run, world: World, moved: str, tmp_path: Path
) -> None:
    bare_run("campaign", "close", moved)
    (tmp_path / "empty.csv").write_text("record_id,provider,ciphertext_blob\n")
    bare_run("source", "add", "empty", "empty.csv")
    assert kinds(looked(bare_run, "billing", "--accept-unreadable")) == ["unscanned"]
    assert looked(bare_run, "billing", "--accept-empty", code=0)["ready"]


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("nothing",), 1, "KeyNotFound"),
        (("orders", "--key-version", "9"), 2, "no version 9"),
        (("orders", "--key-version", "1", "--disable"), 2, "one version of a key"),
        (("orders", "--key-version", "1", "--schedule-deletion", "7"), 2, "one version of a key"),
        (("orders", "--disable", "--schedule-deletion", "7"), 2, "disable first, delete later"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_refusals(bare_run: Run, world: World, args: tuple[str, ...], code: int, told: str) -> None:
    result = bare_run("retire", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr
