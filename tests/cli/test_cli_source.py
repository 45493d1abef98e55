"""kmslab source: add, list, forget, hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from campaign_data import Row, World, write_csv, write_table
from command_line import Run

from kmslab.records import opening, sql
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec


def listed(run: Run) -> Any:
    return json.loads(run("source", "list", "--json").stdout)


def billing(world: World) -> list[Row]:
    """Records that can all be re-encrypted."""
    return [row for row in world.rows if row["key_id"] == world.keys.billing]


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


def test_a_password_is_used_and_not_remembered(
    bare_run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "shop", billing(world))
    given: list[str | None] = []

    def open_table(
        spec: SourceSpec, *, password: str | None = None, placed: bool = False
    ) -> Source:
        given.append(password)
        return sql.open_table(spec, password=password)

    monkeypatch.setattr(opening, "open_source", open_table)
    url, table = f"sqlite:///{tmp_path}/shop.db?Password=hunter2", ("--table", "secrets")
    for command in (
        ("source", "add", "shop"),
        ("census",),
        ("campaign", "plan"),
        ("campaign", "run", "--yes"),
    ):
        result = bare_run(*command, url, *table)
        assert result.exit_code == 0, result.output
        assert "the password in the URL is used now, and stored nowhere" in result.stderr
        assert "hunter2" not in result.output
    assert given == ["hunter2"] * 4
    assert listed(bare_run)["sources"][0]["spec"]["location"] == f"sqlite:///{tmp_path}/shop.db"
    files = [path for path in world.path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files if "campaigns" in path.parts)
    assert all(b"hunter2" not in path.read_bytes() for path in files)


def test_another_secret_in_a_url_is_refused(bare_run: Run, world: World) -> None:
    result = bare_run("campaign", "plan", "postgresql://h/d?authToken=hunter2", "--table", "t")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "the option 'authToken' of the URL may hold a secret" in result.stderr
    assert "hunter2" not in result.stderr


def test_the_state_folder_is_named(bare_run: Run, world: World, tmp_path: Path) -> None:
    own, other = world.path / "state", tmp_path / "other"
    commands = (
        ("hold", "tapes", "--reason", "x"),
        ("hold", "tapes", "--release"),
        ("add", "orders", "secrets.csv"),
        ("list",),
        ("forget", "orders"),
    )
    for args in commands:
        said = bare_run("source", *args).stderr
        assert args[0] == "add" or f"state folder: {own}\n" in said
        assert "not looked into" not in said
    for args in commands:
        said = bare_run("source", *args, KMSLAB_STATE=str(other)).stderr
        assert args[0] == "add" or f"state folder: {other}\n" in said
        assert args[0] == "add" or f"not looked into: {own}" in said


# A registered source by its name


def test_commands_take_a_registered_name(bare_run: Run, world: World, tmp_path: Path) -> None:
    write_table(tmp_path / "shop", billing(world))
    write_csv(tmp_path / "bills", billing(world))
    bare_run("source", "add", "shop", "sqlite:///shop.db", "--table", "secrets")
    bare_run("source", "add", "bills (生产)", "bills.csv")
    for name, place in (("shop", "shop.db"), ("bills (生产)", "bills.csv")):
        for command in (("census",), ("campaign", "plan"), ("campaign", "run", "--yes")):
            result = bare_run(*command, name)
            assert result.exit_code == 0, result.output
            assert f"{name} is the registered source" in result.stderr
            assert place in result.stderr
    elsewhere = bare_run("census", "shop", KMSLAB_STATE=str(tmp_path / "other"))
    assert elsewhere.exit_code == 2
    assert f"no source of that name is registered in {tmp_path / 'other'}" in elsewhere.stderr
    assert bare_run("census", "shop", "--state", str(world.path / "state")).exit_code == 0


def test_a_path_goes_before_a_name(bare_run: Run, world: World, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("record_id,provider,ciphertext_blob\n")
    bare_run("source", "add", "b.csv", "secrets.csv")
    result = bare_run("campaign", "plan", "b.csv", "--json")
    assert json.loads(result.stdout)["total"] == 0
    assert "b.csv is read as a path; the registered source of that name is" in result.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("nothing",), "nothing: there is no such file, and no source of that name is registered"),
        (("no*.csv",), "there is no such file"),
        (("x\0y",), "there is no such file"),
        (("orders", "--provider", "ctyun"), "read as it was registered; give no columns"),
    ],
)
def test_names_that_are_refused(
    bare_run: Run, world: World, args: tuple[str, ...], told: str
) -> None:
    bare_run("source", "add", "orders", "secrets.csv")
    result = bare_run("campaign", "plan", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr
