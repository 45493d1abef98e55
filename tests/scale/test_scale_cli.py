"""What the command line says of workers."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from scale_crews import Here, Killed
from scale_sources import SOURCES
from typer.testing import CliRunner

from kmslab.campaign.ground import Ground
from kmslab.campaign.journal import Journal
from kmslab.campaign.run import run
from kmslab.cli.app import app
from kmslab.cli.worker_options import WorkerOptions

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


def test_the_lab_does_not_matter_where_remotes_are_asked(tmp_path: Path) -> None:
    where = ["--remote", "nowhere", "--state", str(tmp_path / "state")]
    result = CliRunner().invoke(
        app,
        ["campaign", "run", "orders.csv", "--workers", "2", *where],
        env={"KMSLAB_LAB": "postgresql://kms:geheim@127.0.0.1:1/kmslab"},
    )
    assert result.exit_code == 2
    assert "password" not in result.stderr


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


def test_dask_is_quiet_while_its_workers_are_at_it_and_not_after(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = logging.getLogger("distributed.quiet")
    monkeypatch.setattr(handled, "handlers", [caplog.handler])
    monkeypatch.setattr(logging.getLogger("distributed"), "propagate", True)

    def told() -> list[str]:
        caplog.clear()
        handled.warning("handled")
        logging.getLogger("asyncio").error("on the way up")
        return caplog.messages

    before = told()
    assert {*before} == {"handled", "on the way up"}
    with WorkerOptions(scheduler="tcp://127.0.0.1:8786").quiet():
        assert told() == []
    assert told() == before
    with WorkerOptions(workers=2).quiet():
        assert told() == before


def test_a_list_counts_what_workers_left_of_whom_nobody_hears_any_more(
    world: World, ground: Ground, tmp_path: Path, small_ranges: None
) -> None:
    """As after kill -9 of the command, and as a report does; a shard that is damaged hides none."""
    spec = SOURCES["table"](tmp_path / "records", world.rows)
    ran: list[str] = []

    def last(order: dict[str, Any], how_far: Mapping[str, Any]) -> None:
        if order["kind"] == "run":
            ran.append(order["task"]["part"])
            if len(ran) == 7:
                raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmslab.campaign.shards.Shards.take", lambda *_: None)
        with pytest.raises(Killed):
            run(ground, spec, workers=Here(chunks=last))
    first, *_ = sorted(ground.state.shards_path(ground.state.journals()[0].stem).glob("*.db"))
    first.write_bytes(b"no shard")

    def told(*command: str) -> Any:
        result = CliRunner().invoke(
            app, ["campaign", *command, "--state", str(ground.state.path), "--json"]
        )
        assert result.exit_code == 0, result.output
        assert f"{first}: what a worker wrote" in result.stderr
        return json.loads(result.stdout)

    (listed,) = told("list")
    report = told("report", listed["campaign"])
    assert listed["results"] == report["results"]
    with Journal.open(ground.state.journals()[0]) as journal:
        assert 0 < listed["results"]["re_encrypted"] <= journal.count_intended()
