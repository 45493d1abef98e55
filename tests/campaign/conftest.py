"""A lab with records of every kind, made once; each test has copies of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from campaign_data import CHUNK, RECORDS, WRITERS, World, make_keys, make_rows
from campaign_victim import CHUNKING

from kmslab import Lab, ManualClock
from kmslab.campaign.run import Ground
from kmslab.campaign.state import State
from kmslab.records.spec import SourceSpec

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], World]:
    """A world with so many records, made once."""
    made: dict[int, World] = {}

    def world(count: int) -> World:
        if count not in made:
            path = tmp_path_factory.mktemp("world") / "lab"
            with Lab.create(path, clock=ManualClock(START)) as lab:
                keys = make_keys(lab)
                made[count] = World(path, keys, make_rows(lab, keys, count))
        return made[count]

    return world


@pytest.fixture(autouse=True)
def a_busy_source_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmslab.campaign.state.LOCK_SECONDS", 0)


@pytest.fixture
def records() -> int:
    """How many records the world of a test has; where more are needed, this is overridden."""
    return RECORDS


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk of a source has no more than `CHUNK` records."""
    for module in CHUNKING:
        monkeypatch.setattr(f"{module}.CHUNK_ROWS", CHUNK)


@pytest.fixture
def world(worlds: Callable[[int], World], records: int, tmp_path: Path) -> World:
    """A world whose lab is the test's own."""
    found = worlds(records)
    shutil.copytree(found.path, tmp_path / "lab")
    return World(tmp_path / "lab", found.keys, found.rows)


@pytest.fixture
def lab(world: World) -> Iterator[Lab]:  # in place of the empty one
    with Lab.open(world.path, clock=ManualClock(START)) as opened:
        yield opened


@pytest.fixture
def ground(lab: Lab, tmp_path: Path) -> Ground:
    return Ground(lab, State.of(None, str(tmp_path / "state")), ManualClock(START))


@pytest.fixture(params=sorted(WRITERS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spec(kind: str, world: World, tmp_path: Path) -> SourceSpec:
    """All records of the world, in a source of each kind."""
    return WRITERS[kind](tmp_path / "records", world.rows)
