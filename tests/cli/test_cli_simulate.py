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


def test_a_policy_that_does_not_keep_up_is_not_enough(bare_run: Run) -> None:
    """At 25 calls/s the age that 99 % do not exceed is 376 days after 5 years, and grows."""
    backlog = ("simulate", "--per-day", "5e5", "--initial", "1e8", "--younger-than", "400")
    result = bare_run(*backlog, "--rotate-days", "30,365", "--rate", "25,50", "--json")
    rows = json.loads(result.stdout)
    assert [(row["age_p99_days"] < 400, row["keeps_up"], row["enough"]) for row in rows] == [
        (True, False, False),
        (True, False, False),
        (False, False, False),
        (True, True, True),
    ]
    result = bare_run(*backlog, "--rotate-days", "30,365", "--rate", "25,50")
    assert "1 of 4 keep 99 %" in result.stderr
    assert "rotating every 365 days, re-encrypting at 50 calls/s" in result.stderr
    assert "2 more would for now, but did not keep up." in result.stderr


def test_one_day_is_a_day(bare_run: Run) -> None:
    result = bare_run("simulate", "--per-day", "9", "--rotate-days", "1", "--rate", "1")
    _, row = result.stdout.splitlines()
    assert row.startswith("1 day ")


def test_no_records_have_no_age(bare_run: Run) -> None:
    result = bare_run("simulate", "--per-day", "0", "--rotate-days", "30", "--rate", "1", "--json")
    (row,) = json.loads(result.stdout)
    assert (row["records"], row["age_p99_days"], row["stale_share"]) == (0, None, None)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--rotate-days", "0", "whole days from 1"),
        ("--rotate-days", "90,x", "whole days from 1"),
        ("--rotate-days", "90,180,90", "each once: 90 is there twice"),
        ("--per-day", "1e400", "--per-day is a number from 0"),
        ("--younger-than", "-3", "a number of days above 0"),
        ("--younger-than", "nan", "a number of days above 0"),
        ("--delay", "90", "--delay is 90, and the key rotates every 90 days"),
        ("--rate", "-1", "calls a second from 0"),
        ("--rate", "inf", "calls a second from 0"),
        ("--deleted", "1", "deleted is a share"),
        ("--rate", "1e307", "rate is a number from 0 to 1e+09"),
        ("--growth", "1e3", "growth is a share"),
        ("--initial", "1e300", "more than 1e+15 records in 5 years"),
        ("--years", "0", "years are more than 0"),
        ("--years", "1", "an interval of 90 days takes 1.24 years or more"),
        ("--hours", "25", "less than or equal to 24"),
    ],
)
def test_what_cannot_be_played_is_usage(bare_run: Run, option: str, value: str, said: str) -> None:
    result = bare_run(*ARGS[:3], option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in " ".join(result.stderr.split())
