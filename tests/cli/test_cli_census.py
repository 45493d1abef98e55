"""kmslab census, over every kind of source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from campaign_data import WRITERS, World, write_jsonl
from command_line import Run


def taken(run: Run, *args: str) -> Any:
    result = run("census", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_every_kind_of_source(bare_run: Run, world: World, kind: str) -> None:
    expected = taken(bare_run, "secrets.csv")
    spec = WRITERS[kind](Path("records").absolute(), world.rows)
    table = ["--table", spec.table] if spec.table else []
    rows = taken(bare_run, spec.location, *table)
    assert rows == expected
    names = ["provider", "key_id", "key_version_id", "version_number", "is_primary", "records"]
    names.append("inferred")
    assert all(list(row) == names for row in rows)
    assert sum(row["records"] for row in rows) == 40


def test_directories_and_globs(bare_run: Run, world: World, tmp_path: Path) -> None:
    for name in ("2025/a", "2025/b", "2026/a"):
        (tmp_path / "exports" / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(tmp_path / "exports" / name, world.rows)
    for source, files in (("exports", 3), ("exports/*/a.jsonl", 2)):
        assert sum(row["records"] for row in taken(bare_run, source)) == 40 * files


def test_a_deep_census_opens_the_blobs(bare_run: Run, world: World) -> None:
    assert taken(bare_run, "secrets.csv", "--deep") == taken(bare_run, "secrets.csv")
    result = bare_run("census", "secrets.csv", "--deep")
    # Two of each: a disabled key, a cloud's own, a cut one, one without its context.
    assert "8 of them were not opened, or do not open" in result.stderr
    bare_run("key", "disable", "billing")
    assert "16 of them" in bare_run("census", "secrets.csv", "--deep").stderr


def test_what_is_not_there(bare_run: Run, world: World) -> None:
    for args in (("nowhere.csv",), ("*.jsonl",), ("sqlite:///nowhere.db", "--table", "t")):
        result = bare_run("census", *args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Traceback" not in result.stderr
    assert not Path("nowhere.db").exists()
