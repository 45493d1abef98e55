"""Pairs and bundles that cost next to nothing; labs in PostgreSQL, whatever `--store` says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from keystore_kinds import CHEAP
from postgres_server import Server

from kmslab import Lab, ManualClock
from kmslab.crypto import Argon2Parameters
from kmslab.keystore import bundle


@pytest.fixture(scope="module", autouse=True)
def cheap_pairs(pairs_made_once: None) -> None:
    """No test here is about the making of pairs, unless it says so."""


@pytest.fixture(autouse=True)
def cheap_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles that a test makes cost next to nothing to open."""
    monkeypatch.setattr(bundle, "Argon2Parameters", partial(Argon2Parameters, **CHEAP))


@pytest.fixture(scope="module")
def shared(postgres: Server) -> Iterator[str]:
    """One database for the labs in PostgreSQL of a module."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    """Numbers for schemas and roles."""
    return count()


@pytest.fixture
def url(shared: str, numbers: Iterator[int]) -> str:
    """A place for a lab in PostgreSQL."""
    return f"{shared}?schema=lab_{next(numbers)}"


@pytest.fixture
def root_key(tmp_path: Path) -> Path:
    """A place for its root key."""
    return tmp_path / "root.key"


@pytest.fixture
def pg_lab(url: str, root_key: Path, manual_clock: ManualClock) -> Iterator[Lab]:
    """A lab in PostgreSQL, on the manual clock."""
    with Lab.create(url, root_key=root_key, clock=manual_clock) as lab:
        yield lab
