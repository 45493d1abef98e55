"""kmslab simulate: no lab, no source, only the model."""

from __future__ import annotations

import json

import pytest
from command_line import Run

from kmslab.analysis.simulate import Arrivals, Campaign, sweep

ARGS = ("simulate", "--per-day", "1000", "--initial", "5e5", "--years", "2")


def test_json_is_the_sweep(bare_run: Run) -> None:
    result = bare_run(*ARGS, "--rotate-days", "30,90", "--rate", "0,0.1", "--hours", "8", "--json")
    assert result.exit_code == 0, result.stderr
    expected = sweep(
        [30, 90], [0, 0.1], Arrivals(1000, 500_000), Campaign(hours=8), years=2
    ).to_dict("records")
    assert json.loads(result.stdout) == expected


def test_a_table_and_an_answer(bare_run: Run) -> None:
    result = bare_run(*ARGS, "--rotate-days", "90", "--rate", "0,50", "--younger-than", "100")
    assert result.exit_code == 0, result.stderr
    header, none, fast = result.stdout.splitlines()
    assert header.split("  ")[0] == "ROTATE EVERY"
    assert none.endswith("no")
    assert fast.endswith("yes")
    assert "1 of 2 keep 99 % of the records younger than 100 days" in result.stderr
    assert "rotating every 90 days, re-encrypting at 50 calls/s" in result.stderr


def test_no_policy_is_enough(bare_run: Run) -> None:
    result = bare_run(*ARGS, "--younger-than", "2")
    assert result.exit_code == 0
    assert "None of these keeps 99 % of the records younger than 2 days." in result.stderr


def test_no_records_have_no_age(bare_run: Run) -> None:
    result = bare_run("simulate", "--per-day", "0", "--rotate-days", "30", "--rate", "1", "--json")
    (row,) = json.loads(result.stdout)
    assert (row["records"], row["age_p99_days"], row["stale_share"]) == (0, None, None)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--rotate-days", "0", "whole days from 1"),
        ("--rotate-days", "90,x", "whole days from 1"),
        ("--rate", "-1", "calls a second from 0"),
        ("--rate", "inf", "calls a second from 0"),
        ("--deleted", "1", "deleted is a share"),
        ("--years", "0", "years are more than 0"),
        ("--hours", "25", "less than or equal to 24"),
    ],
)
def test_what_cannot_be_played_is_usage(bare_run: Run, option: str, value: str, said: str) -> None:
    result = bare_run(*ARGS[:3], option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
