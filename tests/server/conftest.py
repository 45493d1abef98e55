"""One served lab for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from provider_clouds import Cloud
from wire_server import Wire, serving

from kmslab import Lab, ManualClock
from kmslab.model import CTYUN, TENCENT

# What the official clients themselves are warned of by later Pythons.
CLIENTS = [
    "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning",
    "ignore:unclosed:ResourceWarning",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, marks = Path(__file__).parent, [pytest.mark.filterwarnings(line) for line in CLIENTS]
    for item in items:
        if item.path.parent == here:
            for mark in marks:
                item.add_marker(mark)


@pytest.fixture(scope="session", autouse=True)
def no_proxies() -> Iterator[None]:
    """The clients would ask a proxy for loopback too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        yield


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """A lab in memory, served without a limit on calls."""
    with Lab.in_memory() as lab, serving(lab) as served:
        yield served


@pytest.fixture(scope="module")
def clouds(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cloud]:
    """Both providers of the served lab, beside the wire."""
    found = {}
    for provider in (TENCENT, CTYUN):
        folder = tmp_path_factory.mktemp(provider)
        clock = ManualClock(wire.lab._keystore.clock.now())
        found[provider] = Cloud(wire.lab, clock, provider, folder)
    return found
