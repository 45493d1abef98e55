"""Commands on a lab in PostgreSQL; no password that is given to them is ever shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_server import Server
from typer.testing import CliRunner

from kmslab.cli.app import app
from kmslab.cli.hints import Hints
from kmslab.cli.opening import Opening
from kmslab.cli.reaching import Reaching
from kmslab.cli.source_options import SourceOptions
from kmslab.cli.tui import _words

LAB = "postgresql://kms:sesame@db.example/kmslab?schema=team_a"
SHOWN = "postgresql://kms@db.example/kmslab?schema=team_a"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Runs a command, and gives what it printed: stdout, then stderr."""
    monkeypatch.setenv("KMSLAB_ROOT_KEY", str(tmp_path / "root.key"))
    for name in ("KMSLAB_LAB", "KMSLAB_STATE"):
        monkeypatch.delenv(name, raising=False)

    def run(line: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, shlex.split(line))
        assert result.exit_code == code, result.output
        assert "sesame" not in result.output
        return result.stdout + result.stderr

    return run


@pytest.mark.scale
def test_a_lab_is_made_used_and_shown_by_its_url(
    run: Callable[..., str], postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = postgres_url.replace("kmslab@", "kmslab:sesame@")
    told = run(f"lab init {secret}")
    assert f"export KMSLAB_LAB={postgres_url}\n" in told
    monkeypatch.setenv("KMSLAB_LAB", secret)
    assert json.loads(run("lab info --json"))["path"] == postgres_url
    key = run("key create --provider ctyun --alias orders --json")
    assert json.loads(key)["alias"] == "orders"
    run("key rotate orders")
    run("lab rekey")
    assert "intact     yes" in run("audit verify")
    assert "already" in run(f"lab init {secret}", 2)


def test_campaigns_need_a_folder_of_their_own(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KMSLAB_LAB", LAB)
    assert "--state DIR or KMSLAB_STATE" in run("campaign list", 2)
    assert "--state DIR or KMSLAB_STATE" in run("source list", 2)
    run(f"campaign list --state {tmp_path / 'state'}")


def test_a_lab_that_is_not_there_shows_no_password(
    run: Callable[..., str], postgres: Server
) -> None:
    secret = postgres.url().replace("kmslab@", "kmslab:sesame@")
    assert f"kmslab lab init {postgres.url()}" in run(f"key list --lab {secret}", 2)
    assert "does not answer" in run("key list --lab postgresql://a:sesame@127.0.0.1:1/b", 3)


def test_commands_that_are_said_or_started_hold_no_password() -> None:
    opening = Opening(lab=LAB)
    assert Hints(opening)("campaign list") == f"kmslab campaign list --lab '{SHOWN}'"
    words = _words(opening, Reaching(), SourceOptions(), None, None)
    assert "--lab" not in words  # it goes there in the environment
    assert "--lab" in _words(Opening(lab=SHOWN), Reaching(), SourceOptions(), None, None)
