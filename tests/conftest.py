"""What every test may use: labs, a clock that stands still, and tools of the system.

`KMSLAB_SOAK=1` makes the counts long. `KMSLAB_REQUIRE_ALL=1` makes a missing tool a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cache
from itertools import cycle
from pathlib import Path

import lab_stores
import pytest
from command_line import Warm, warmed
from compiled_once import TablesAlike, engines_alike
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import HealthCheck, settings
from postgres_server import Server, programs, running

from kmslab import Lab, ManualClock, crypto
from kmslab.crypto import load_rsa_private, rsa_private_der

START = datetime(2026, 1, 1, tzinfo=UTC)
SOAK = os.environ.get("KMSLAB_SOAK") == "1"
PAIRS = sorted((Path(__file__).parents[1] / "sample_data" / "inputs").glob("unsafe-rsa-*.pem"))
PACKAGES = {"openssl": "openssl", "gcc": "gcc", "mount": "mount"}

# No deadline: the machine may be busy, and a time says nothing of what is right.
quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("small", max_examples=25, deadline=None, suppress_health_check=quiet)
settings.register_profile("soak", max_examples=2000, deadline=None, suppress_health_check=quiet)
settings.load_profile("soak" if SOAK else "small")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="Where the labs of the tests are.",
    )
    parser.addoption(
        "--update-golden", action="store_true", help="Write what the screens show as golden texts."
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other store by its nature."""
    other = {"sqlite": "postgresql", "postgresql": "sqlite"}[config.getoption("--store")]
    left_out = [item for item in items if item.get_closest_marker(other)]
    items[:] = [item for item in items if not item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether the counts are to be long."""
    return SOAK


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """Gives the path of a tool of the system; without it the test skips, naming its package."""

    def path_of(tool: str) -> str:
        found = shutil.which(tool)
        if found is not None:
            return found
        missing = f"{tool} is not here; install the package {PACKAGES.get(tool, tool)}"
        if os.environ.get("KMSLAB_REQUIRE_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)

    return path_of


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server; without its programs the test skips, naming their package."""
    binaries = programs()
    if binaries is None:
        missing = "PostgreSQL is not here; install the package postgresql"
        if os.environ.get("KMSLAB_REQUIRE_ALL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    with running(binaries) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session", autouse=True)
def labs_in_their_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """All labs of the run are where `--store` says, and share what is compiled for the first."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("kmslab.keystore.sqlite.create_engine", engines_alike())
        patch.setattr("kmslab.keystore.opening.metadata", TablesAlike())
        if request.config.getoption("--store") == "postgresql":
            server: Server = request.getfixturevalue("postgres")
            patch.setenv(lab_stores.VARIABLE, stack.enter_context(server.database()))
            lab_stores.use(patch)
        yield


@pytest.fixture(scope="session")
def pairs() -> Iterator[bytes]:
    """Two RSA pairs by turns, in DER."""
    return cycle([rsa_private_der(load_rsa_private(pem.read_bytes())) for pem in PAIRS])


@pytest.fixture(scope="session")
def load_once() -> Callable[[bytes], RSAPrivateKey]:
    """`load_rsa_private` that looks at each pair once."""
    return cache(load_rsa_private)


@pytest.fixture(scope="module")
def pairs_made_once(
    pairs: Iterator[bytes], load_once: Callable[[bytes], RSAPrivateKey]
) -> Iterator[None]:
    """Every new pair is one of two that were made once, and each is checked once.

    The one takes a tenth of a second, the other half as long.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crypto, "generate_rsa_2048", lambda: next(pairs))
        patch.setattr(crypto, "load_rsa_private", load_once)
        yield


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that moves only when told to."""
    return ManualClock(START)


@pytest.fixture
def lab_path(tmp_path: Path) -> Path:
    """Where `lab` is."""
    return tmp_path / "lab"


@pytest.fixture(scope="session")
def new_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab that was made and closed, to be copied."""
    path = tmp_path_factory.mktemp("new") / "lab"
    Lab.create(path, clock=ManualClock(START)).close()
    return path


@pytest.fixture
def lab(lab_path: Path, new_lab: Path, manual_clock: ManualClock) -> Iterator[Lab]:
    """A lab on disk, on the manual clock."""
    lab_stores.copy(new_lab, lab_path)
    with Lab.open(lab_path, clock=manual_clock) as opened:
        yield opened


@pytest.fixture
def memory_lab(manual_clock: ManualClock) -> Iterator[Lab]:
    """A lab in memory, on the manual clock."""
    with Lab.in_memory(clock=manual_clock) as made:
        yield made


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs the command line in processes of its own."""
    with warmed(tmp_path_factory.mktemp("warm") / "socket") as found:
        yield found
