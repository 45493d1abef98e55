"""A lab on a clock that stands still, and one provider of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

import pytest
from provider_clouds import BOTH, PAIRS, START, Cloud

from kmslab import Lab, ManualClock, crypto
from kmslab.crypto import load_rsa_private, rsa_private_der
from kmslab.model import CTYUN, TENCENT


@pytest.fixture(scope="module", autouse=True)
def pairs_made_once() -> Iterator[None]:
    """Every new pair is one of two that were made once, and each is checked once.

    The one takes a tenth of a second, the other half as long.
    """
    made = cycle([rsa_private_der(load_rsa_private(pem.encode())) for pem in PAIRS])
    load = cache(load_rsa_private)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crypto, "generate_rsa_2048", lambda: next(made))
        patch.setattr(crypto, "load_rsa_private", load)
        yield


@pytest.fixture
def make_cloud(tmp_path: Path) -> Iterator[Callable[[str], Cloud]]:
    """Makes a provider of a lab of its own."""
    labs: list[Lab] = []

    def make(provider: str) -> Cloud:
        clock = ManualClock(START)
        labs.append(Lab.in_memory(clock=clock))
        folder = tmp_path / str(len(labs))
        folder.mkdir()
        return Cloud(labs[-1], clock, provider, folder)

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
