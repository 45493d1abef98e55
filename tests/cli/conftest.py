"""Running the command line in this process, with a lab of its own for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache, partial
from itertools import cycle
from pathlib import Path

import pytest
from campaign_data import World, make_keys, make_rows, write_csv
from command_line import Run
from typer.main import get_command
from typer.testing import CliRunner, Result

from kmslab import crypto
from kmslab.cli.app import app
from kmslab.crypto import Argon2Parameters, load_rsa_private, rsa_private_der
from kmslab.keystore import bundle, root
from kmslab.lab import Lab

SAMPLE_INPUTS = Path(__file__).parents[2] / "sample_data" / "inputs"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests gets in."""
    for name in list(os.environ):
        if name.startswith("KMSLAB_") and name not in ("KMSLAB_REQUIRE_ALL", "KMSLAB_SOAK"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def commands_made_once() -> Iterator[None]:
    """The tree of commands is the same in every test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


@pytest.fixture(autouse=True)
def cheap_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase costs as little as can be, and a new pair is one of two that are there."""
    cost = partial(Argon2Parameters, iterations=1, lanes=1, memory_kib=8)
    for module in (bundle, root):
        monkeypatch.setattr(module, "Argon2Parameters", cost)
    made = cycle(_pairs())
    monkeypatch.setattr(crypto, "generate_rsa_2048", lambda: next(made))


@cache
def _pairs() -> list[bytes]:
    pems = (SAMPLE_INPUTS / f"unsafe-rsa-{number}.pem" for number in (1, 2))
    return [rsa_private_der(load_rsa_private(pem.read_bytes())) for pem in pems]


@pytest.fixture
def bare_run() -> Run:
    """Run the command line without a lab."""

    def run(*args: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin, env=environment, prog_name="kmslab")

    return run


@pytest.fixture(scope="session")
def first_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "lab"
    with Lab.create(path) as lab:
        lab.tencent().create_key("orders")
        lab.ctyun().create_key(alias="pay")
    return path


@pytest.fixture
def lab_path(first_lab: Path, tmp_path: Path) -> Path:
    """A lab with one key of each provider: `orders` of Tencent's, `pay` of CTyun's."""
    return Path(shutil.copytree(first_lab, tmp_path / "lab"))


@pytest.fixture
def run(bare_run: Run, lab_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line on the lab."""
    monkeypatch.setenv("KMSLAB_LAB", str(lab_path))
    return bare_run


@pytest.fixture
def lab(lab_path: Path) -> Iterator[Lab]:
    """The lab of the test, open beside the command line."""
    with Lab.open(lab_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def first_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("world") / "lab"
    with Lab.create(path) as lab:
        keys = make_keys(lab)
        return World(path, keys, make_rows(lab, keys, 40))


@pytest.fixture
def world(first_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A lab with records of every kind, which are in `secrets.csv`; the command line is on it."""
    path = Path(shutil.copytree(first_world.path, tmp_path / "world"))
    monkeypatch.setenv("KMSLAB_LAB", str(path))
    write_csv(tmp_path / "secrets", first_world.rows)
    return World(path, first_world.keys, first_world.rows)
