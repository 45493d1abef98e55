"""A lab on a clock that stands still, and one provider of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from provider_clouds import BOTH, START, Cloud

from kmslab import Lab, ManualClock
from kmslab.model import CTYUN, TENCENT


@pytest.fixture(scope="module", autouse=True)
def cheap_pairs(pairs_made_once: None) -> None:
    """No test here is about the making of pairs."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders, which are made when something is written there."""
    base = tmp_path_factory.mktemp("clouds")
    return (base / str(number) for number in count())


@pytest.fixture
def make_cloud(folders: Iterator[Path]) -> Iterator[Callable[[str], Cloud]]:
    """Makes a provider of a lab of its own."""
    labs: list[Lab] = []

    def make(provider: str) -> Cloud:
        clock = ManualClock(START)
        labs.append(Lab.in_memory(clock=clock))
        return Cloud(labs[-1], clock, provider, next(folders))

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture(params=BOTH)
def cloud(request: pytest.FixtureRequest, make_cloud: Callable[[str], Cloud]) -> Cloud:
    """Each of the two providers."""
    return make_cloud(request.param)


@pytest.fixture
def tencent(make_cloud: Callable[[str], Cloud]) -> Cloud:
    return make_cloud(TENCENT)


@pytest.fixture
def ctyun(make_cloud: Callable[[str], Cloud]) -> Cloud:
    return make_cloud(CTYUN)
