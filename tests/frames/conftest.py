from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

sys.path.insert(0, str(Path(__file__).parent))
matplotlib.use("Agg")

from frame_data import World


@pytest.fixture(scope="session")
def shared_world() -> Iterator[World]:
    """A world for tests that only look."""
    world = World()
    yield world
    world.lab.close()


@pytest.fixture
def world() -> Iterator[World]:
    """A world for tests that change it."""
    made = World()
    yield made
    made.lab.close()
