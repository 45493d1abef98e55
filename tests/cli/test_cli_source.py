"""kmslab source: add, list, forget, hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World, write_table
from command_line import Run


def listed(run: Run) -> Any:
    return json.loads(run("source", "list", "--json").stdout)


def test_sources_come_and_go(bare_run: Run, world: World, tmp_path: Path) -> None:
    assert "no sources" in bare_run("source", "list").stderr
    result = bare_run("source", "add", "orders", "secrets.csv", "--provider", "tencent")
    assert (result.exit_code, result.stdout) == (0, "")
    spec = write_table(tmp_path / "shop", world.rows)
    added = bare_run("source", "add", "shop", "sqlite:///shop.db", "--table", "secrets", "--json")
    assert json.loads(added.stdout)["name"] == "shop"
    orders, shop = listed(bare_run)["sources"]
    assert orders["spec"]["location"] == str(tmp_path / "secrets.csv")
    assert orders["spec"]["provider"] == "tencent"
    assert (shop["spec"]["location"], shop["spec"]["table"]) == (spec.location, "secrets")
    shown = bare_run("source", "list").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["SOURCE", "orders", "shop"]
    assert "nobody looks there" in bare_run("source", "forget", "orders").stderr
    assert json.loads(bare_run("source", "forget", "shop", "--json").stdout) == {
        "forgotten": "shop"
    }
    assert listed(bare_run) == {"sources": [], "holds": []}


def test_holds_come_and_go(bare_run: Run, world: World) -> None:
    result = bare_run("source", "hold", "tapes", "--reason", "until 2026-12")
    assert "tapes holds every key" in result.stderr
    made = bare_run("source", "hold", "copy", "--reason", "replica", "--key", "orders", "--json")
    assert json.loads(made.stdout)["key_id"] == world.keys.orders
    holds = listed(bare_run)["holds"]
    assert [(h["name"], h["reason"], h["key_id"]) for h in holds] == [
        ("tapes", "until 2026-12", None),
        ("copy", "replica", world.keys.orders),
    ]
    assert "tapes" in bare_run("source", "list").stdout
    assert "holds no longer" in bare_run("source", "hold", "tapes", "--release").stderr
    released = bare_run("source", "hold", "copy", "--release", "--json")
    assert json.loads(released.stdout) == {"released": "copy"}
    assert listed(bare_run)["holds"] == []


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("add", "orders", "nowhere.csv"), 2, "nowhere.csv"),
        (("add", "orders", "secrets.csv", "--blob-column", "nothing"), 2, "'nothing'"),
        (("add", "taken", "secrets.csv", "--provider", "ctyun"), 2, "registered already"),
        (("forget", "nothing"), 2, "no source 'nothing'"),
        (("hold", "tapes"), 2, "--reason"),
        (("hold", "tapes", "--reason", " "), 2, "say what it stands for"),
        (("hold", "tapes", "--release"), 2, "no hold 'tapes'"),
        (("hold", "tapes", "--release", "--reason", "x"), 2, "--release alone"),
        (("hold", "tapes", "--release", "--key", "orders"), 2, "--release alone"),
        (("hold", "tapes", "--reason", "x", "--key", "nothing"), 1, "KeyNotFound"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_refusals(bare_run: Run, world: World, args: tuple[str, ...], code: int, told: str) -> None:
    bare_run("source", "add", "taken", "secrets.csv")
    result = bare_run("source", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr
    assert [each["name"] for each in listed(bare_run)["sources"]] == ["taken"]


def test_no_lab_is_needed_where_the_state_is_elsewhere(bare_run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("record_id,provider,ciphertext_blob\n")
    assert bare_run("source", "add", "a", "a.csv", "--state", "folder").exit_code == 0
    found = bare_run("source", "list", "--json", KMSLAB_STATE="folder")
    assert [each["name"] for each in json.loads(found.stdout)["sources"]] == ["a"]


def test_a_password_is_not_remembered(bare_run: Run, world: World, tmp_path: Path) -> None:
    write_table(tmp_path / "shop", world.rows)
    url = f"sqlite:///{tmp_path}/shop.db?password=hidden"
    bare_run("source", "add", "shop", url, "--table", "secrets")
    assert "hidden" not in bare_run("source", "list", "--json").output
    for path in (world.path / "state").rglob("*.json"):
        assert "hidden" not in path.read_text()
