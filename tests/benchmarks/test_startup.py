"""`kmslab --help` against a bare interpreter, in one run (design section 14)."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 15
BARE = [sys.executable, "-c", "pass"]
HELP = [sys.executable, "-m", "kmslab", "--help"]


def seconds(command: list[str]) -> float:
    started = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - started


def test_help_starts_within_its_budget(benchmark: BenchmarkFixture) -> None:
    """Best of several, by turns: at most 3 × `python -c pass` + 0.1 s."""
    bare: list[float] = []
    help_: list[float] = []

    benchmark.pedantic(
        lambda: help_.append(seconds(HELP)),
        setup=lambda: bare.append(seconds(BARE)),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    budget = 3 * min(bare) + 0.1
    benchmark.extra_info["bare_ms"] = round(min(bare) * 1000, 1)
    benchmark.extra_info["help_ms"] = round(min(help_) * 1000, 1)
    benchmark.extra_info["budget_ms"] = round(budget * 1000, 1)
    assert min(help_) <= budget
