"""Running the command line in this process, with a lab of its own for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import Run
from typer.testing import CliRunner, Result

from kmslab.cli.app import app
from kmslab.lab import Lab


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests gets in."""
    for name in list(os.environ):
        if name.startswith("KMSLAB_") and name not in ("KMSLAB_REQUIRE_ALL", "KMSLAB_SOAK"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


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
