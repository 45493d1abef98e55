"""Somebody at a terminal is told what is waited for."""

from __future__ import annotations

import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from kmslab import ManualClock
from kmslab.cli import waiting
from kmslab.cli.waiting import telling_waits


def locked(path: Path) -> sqlite3.Connection:
    """A database that another connection has locked, until it is closed."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("BEGIN EXCLUSIVE")
    return database


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)


@pytest.mark.parametrize("url", ["sqlite:///{path}", "sqlite://"])
def test_a_locked_database_is_told_of(
    tmp_path: Path, terminal: None, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(waiting, "AFTER_SECONDS", 0.2)
    path, said = tmp_path / "shop.db", list[str]()
    engine = create_engine(url.format(path=path), creator=lambda: sqlite3.connect(path, timeout=60))
    other = locked(path)

    def say(text: str) -> None:
        said.append(text)
        other.close()

    with telling_waits(say), engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        monkeypatch.setattr(waiting, "AFTER_SECONDS", 60.0)
        connection.exec_driver_sql("SELECT 1")
    engine.dispose()
    name = str(path) if "{path}" in url else "the database of the source"
    assert said == [f"waiting for {name}: another program may have it locked", ""]


def test_what_answers_or_refuses_at_once_is_not_told_of(
    tmp_path: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.01)
    path, said = tmp_path / "shop.db", list[str]()
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, timeout=0))
    other = locked(path)
    with telling_waits(said.append), engine.connect() as connection:
        with pytest.raises(OperationalError):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        clock.sleep(60)
        time.sleep(0.1)  # somebody looks, and finds nothing that takes so long
        other.close()
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        clock.sleep(60)
        time.sleep(0.1)
    engine.dispose()
    assert said == []


def test_where_there_is_no_terminal_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "AFTER_SECONDS", 0.0)
    path, said = tmp_path / "shop.db", list[str]()
    monkeypatch.setattr(waiting, "_LOOK_SECONDS", 0.01)
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, timeout=60))
    release = threading.Timer(0.1, locked(path).close)
    release.start()
    with telling_waits(said.append), engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    release.join()
    engine.dispose()
    assert said == []
