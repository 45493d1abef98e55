"""What the command line says of workers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from campaign_data import World
from scale_sources import SOURCES
from typer.testing import CliRunner

from kmslab.cli.app import app

pytestmark = pytest.mark.scale


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "2", "--scheduler", "127.0.0.1:8786"], "not both"),
        (["--workers", "0"], "greater than or equal to 1"),
        (["--scheduler-ca", "ca.pem"], "go with --scheduler"),
        (["--workers", "2", "--insecure-scheduler"], "go with --scheduler"),
        (["--scheduler", "tcp://192.0.2.7:8786"], "--insecure-scheduler"),
        (["--scheduler", "foo"], "'foo' is no address of a Dask scheduler"),
        (["--scheduler", "tls://127.0.0.1:8786"], "give --scheduler-ca FILE"),
        (["--workers", "2", "--atomic"], None),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], said: str | None, world: World, tmp_path: Path
) -> None:
    spec = SOURCES["csv"](tmp_path / "records", world.rows)
    where = ["--lab", str(world.path), "--state", str(tmp_path / "state")]
    command = ["campaign", "run", spec.location, "--yes", *where, *options]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert (said or "cannot change all at once") in " ".join(result.stderr.split())
    assert not list((tmp_path / "state").glob("campaigns/*"))


def test_atomic_is_for_one_task(world: World, tmp_path: Path, small_ranges: None) -> None:
    spec = SOURCES["table"](tmp_path / "records", world.rows)
    where = ["--lab", str(world.path), "--state", str(tmp_path / "state"), "--table", "secrets"]
    command = ["campaign", "run", spec.location, "--yes", *where, "--workers", "2", "--atomic"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "one transaction, which several cannot share" in result.stderr


@pytest.mark.parametrize("what", ["lab", "table"])
def test_no_worker_is_told_a_password(what: str, world: World, tmp_path: Path) -> None:
    secret = "postgresql://app:geheim@127.0.0.1:1/shop"
    campaign = ["campaign", "run", secret if what == "table" else "orders.csv", "--workers", "2"]
    lab = secret if what == "lab" else str(world.path)
    where = ["--lab", lab, "--state", str(tmp_path / "state")]
    result = CliRunner().invoke(app, [*campaign, *where])
    assert result.exit_code == 2
    assert f"workers open the {what} by themselves, and are told no password" in result.stderr
    assert "PGPASSWORD" in result.stderr
    assert "geheim" not in result.output


def test_a_missing_extra_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "kmslab.campaign.cluster", raising=False)
    where = ["--lab", str(world.path), "--state", str(tmp_path / "state")]
    command = ["campaign", "run", "orders.csv", "--scheduler", "127.0.0.1:8786", *where]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "kmslab[dask]" in result.stderr
