"""docs/analysis.md has every column, and what it shows is what its example prints."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import kmslab.frames as frames
from kmslab.analysis import rotation
from kmslab.analysis.inventory import ADDED
from kmslab.demo import make_lab, sample_path

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text("utf-8")


def section(title: str) -> str:
    """The text below a heading, to the next one."""
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_column_of_an_inspection_is_told_with_its_dtype(tmp_path: Path) -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", section("What an inspection adds"), re.M))
    with make_lab(tmp_path / "lab") as lab:
        inventory = frames.read(sample_path("records.csv")).kms.inspect(lab)
    assert told == {name: str(inventory[name].dtype) for name in ADDED}


def test_every_answer_of_the_table_can_be_asked_for(tmp_path: Path) -> None:
    asked = re.findall(
        r"`((?:df|inventory|rotation|frames)\.[^`]*\))`", section("Questions and answers")
    )
    with make_lab(tmp_path / "lab") as lab:
        df = frames.read(sample_path("records.csv"))
        inventory, versions = df.kms.inspect(lab), frames.versions(lab)
        blob = df["ciphertext_blob"].iloc[0]
        known = {"df": df, "lab": lab, "inventory": inventory, "versions": versions, "blob": blob}
        known |= {"frames": frames, "rotation": rotation, "table": inventory.kms.census()}
        for question in asked:
            assert eval(question.replace("[...]", "[50]"), known) is not None
    assert len(asked) > 12


def test_what_the_example_is_said_to_print_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example, shown = (
        re.search(rf"```{kind}\n(.*?)```", PAGE, re.S)[1] for kind in ("python", "text")
    )
    with pd.option_context("display.width", 80, "display.max_columns", 0):
        exec(compile(example, "analysis.md", "exec"), {"__name__": "snippet"})
    printed = capsys.readouterr().out
    assert shown in printed
    assert " ...  " not in printed.split(shown)[1]  # no column is left out
