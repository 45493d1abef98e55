"""Rates beside the bare loops that they are measured against, in the same rounds.

The machines are shared and noisy, so that a rate by itself says little: every figure is a ratio to
a loop of bare `cryptography` calls that ran just before it, round by round, best of all rounds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pytest_benchmark.fixture import BenchmarkFixture

LOOPS = 20_000
ROUNDS = 12
_LINES: list[str] = []


@dataclass(frozen=True)
class Bare:
    """Bare loops of `LOOPS` calls with 32-byte plaintexts and 80 bytes of AAD."""

    pair: Callable[[], None]
    decrypt: Callable[[], None]


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> None:
    """What is measured compiles its own, as everywhere but in tests."""


@pytest.fixture(scope="session")
def bare() -> Bare:
    one, other = AESGCM(os.urandom(32)), AESGCM(os.urandom(32))
    nonce, aad = os.urandom(12), os.urandom(80)
    sealed = one.encrypt(nonce, os.urandom(32), aad)

    def pair() -> None:
        decrypt, encrypt, random = one.decrypt, other.encrypt, os.urandom
        for _ in range(LOOPS):
            encrypt(random(12), decrypt(nonce, sealed, aad), aad)

    def decrypt() -> None:
        decrypt = one.decrypt
        for _ in range(LOOPS):
            decrypt(nonce, sealed, aad)

    return Bare(pair, decrypt)


Ratio = Callable[..., float]


@pytest.fixture
def ratio(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Ratio:
    """Time a function that does `rows` rows against a bare loop, and note the ratio and its floor.

    The floor is reported and does not fail the run, which a busy machine may slow at any moment.
    """

    def measure(
        subject: Callable[[], object], rows: int, loop: Callable[[], None], floor: float
    ) -> float:
        loops: list[float] = []

        def bare_round() -> None:
            begun = time.perf_counter()
            loop()
            loops.append(time.perf_counter() - begun)

        subject()
        benchmark.pedantic(subject, setup=bare_round, rounds=ROUNDS, iterations=1)
        each = benchmark.stats.stats.min / rows
        found = min(loops) / LOOPS / each
        benchmark.extra_info.update(ratio=round(found, 3), floor=floor)
        mark = "ok" if found >= floor else "BELOW"
        _LINES.append(
            f"{request.node.name:44} {1 / each:>12,.0f} rows/s  {found:6.3f} x bare"
            f"  floor {floor:.2f}  {mark}"
        )
        return found

    return measure


@pytest.fixture
def rate(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> Callable[..., float]:
    """Time a function that does `rows` rows, and note rows a second and the floor."""

    def measure(subject: Callable[[], object], rows: int, floor: float) -> float:
        subject()
        benchmark.pedantic(subject, rounds=ROUNDS, iterations=1)
        found = rows / benchmark.stats.stats.min
        mark = "ok" if found >= floor else "BELOW"
        _LINES.append(
            f"{request.node.name:44} {found:>12,.0f} rows/s  {'':14}  floor {floor:,.0f}  {mark}"
        )
        return found

    return measure


@pytest.fixture
def note() -> Callable[[str], None]:
    """Add a line to the report."""
    return _LINES.append


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None] | None:
    terminalreporter.section("rates, beside the bare loops of the same rounds")
    for line in _LINES:
        terminalreporter.write_line(line)
    return None
