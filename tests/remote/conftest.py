"""A served lab for the tests of a module, and remotes that call it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote_world import Server, served

from kmslab import Lab, connect
from kmslab.lab import REGIONS
from kmslab.model import CTYUN, TENCENT
from kmslab.remotes import Remote

# What the official client leaves to the collector.
CLIENTS = ["ignore:unclosed:ResourceWarning"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for line in CLIENTS:
                item.add_marker(pytest.mark.filterwarnings(line))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credential and no profile of whoever runs the tests gets in."""
    for name in list(os.environ):
        mine = name in ("KMSLAB_REQUIRE_ALL", "KMSLAB_SOAK")
        if name.startswith(("KMSLAB_", "TENCENTCLOUD_", "CTYUN_")) and not mine:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KMSLAB_PROFILES", str(tmp_path / "profiles.toml"))


@pytest.fixture(scope="module")
def served_lab() -> Iterator[Lab]:
    with Lab.in_memory() as lab:
        yield lab


@pytest.fixture(scope="module")
def server(served_lab: Lab) -> Iterator[Server]:
    """The lab, served without a limit on calls."""
    with served(served_lab) as found:
        yield found


@pytest.fixture
def signed_in(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, its credential in the environment."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture(params=[TENCENT, CTYUN])
def remote(request: pytest.FixtureRequest, signed_in: Server) -> Iterator[Remote]:
    """Each of the two remotes, through a real socket."""
    name = request.param
    with connect(name, region=REGIONS[name], endpoint=signed_in.url, rate=1e6) as found:
        yield found
