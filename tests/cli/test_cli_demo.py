"""kmslab demo shows what the library's demo reports."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Run


def test_demo_shows_before_and_after(bare_run: Run, tmp_path: Path) -> None:
    result = bare_run("demo")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    stale = next(line for line in lines if line[:1] == ["stale"])
    assert int(stale[1]) > 1000 > int(stale[2])
    assert ["PROVIDER", "KEY", "VERSION", "PRIMARY", "BEFORE", "AFTER"] in lines
    census = [line for line in lines if line[:1] in (["tencent"], ["ctyun"]) and len(line) == 6]
    assert sum(int(line[4]) for line in census) == sum(int(line[5]) for line in census)
    assert list(tmp_path.iterdir()) == []


def test_demo_in_json_of_a_lab_that_is_kept(bare_run: Run, tmp_path: Path) -> None:
    result = bare_run("demo", "demo-lab", "--json")
    found = json.loads(result.stdout)
    total = found["total"]
    assert total > 1000
    for outcomes in (found["outcomes"], found["outcomes_after"]):
        assert sum(outcomes.values()) == total
    for census in (found["census_before"], found["census_after"]):
        assert sum(row["records"] for row in census) == total
    assert found["results"]["failed"] == len(found["failures"])
    assert found["results"]["verified"] == found["results"]["re_encrypted"]
    assert Path(found["lab"]).absolute() == tmp_path / "demo-lab"
    assert "kmslab key list --lab demo-lab" in result.stderr
    assert "orders-data" in bare_run("key", "list", "--lab", "demo-lab").stdout
    result = bare_run("demo", "demo-lab")
    assert result.exit_code == 2
    assert "there already" in result.stderr
