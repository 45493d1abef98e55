"""Sources that several workers share, and a lab that each of them opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign_data import World, make_keys, make_rows
from campaign_victim import CHUNKING
from scale_sources import RANGE_ROWS, RECORDS, SOURCES, Write

from kmslab import Lab
from kmslab.campaign.ground import Ground
from kmslab.campaign.state import State
from kmslab.clock import SystemClock


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A lab on the system's clock, as workers have it, and its records."""
    path = tmp_path_factory.mktemp("world") / "lab"
    with Lab.create(path) as lab:
        keys = make_keys(lab)
        return World(path, keys, make_rows(lab, keys, RECORDS))


@pytest.fixture
def world(made_world: World, tmp_path: Path) -> World:
    """A world whose lab is the test's own."""
    shutil.copytree(made_world.path, tmp_path / "lab")
    return World(tmp_path / "lab", made_world.keys, made_world.rows)


@pytest.fixture
def lab(world: World) -> Iterator[Lab]:
    with Lab.open(world.path) as opened:
        yield opened


@pytest.fixture
def ground(lab: Lab, tmp_path: Path) -> Ground:
    return Ground(lab, State.of(None, str(tmp_path / "state")), SystemClock())


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is divided into several tasks, of several chunks each."""
    monkeypatch.setattr("kmslab.campaign.tasks.RANGE_ROWS", RANGE_ROWS)
    for module in CHUNKING:
        monkeypatch.setattr(f"{module}.CHUNK_ROWS", RANGE_ROWS // 3)


@pytest.fixture(params=sorted(SOURCES))
def write(request: pytest.FixtureRequest) -> Write:
    """Writes records as a source of each kind."""
    return SOURCES[request.param]
