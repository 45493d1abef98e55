"""Somebody at a terminal is told what is waited for."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from kmslab.cli import waiting
from kmslab.cli.waiting import telling_waits


def locked(path: Path, seconds: float) -> threading.Timer:
    """A database that another connection has locked, for so long."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(seconds, database.close)
    release.start()
    return release


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)


@pytest.mark.parametrize("url", ["sqlite:///{path}", "sqlite://"])
def test_a_locked_database_is_told_of(
    tmp_path: Path, terminal: None, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(waiting, "AFTER_SECONDS", 0.2)
    path, said = tmp_path / "shop.db", list[str]()
    engine = create_engine(url.format(path=path), creator=lambda: sqlite3.connect(path, timeout=9))
    release = locked(path, 0.6)
    with telling_waits(said.append), engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("SELECT 1")
    release.join()
    engine.dispose()
    name = str(path) if "{path}" in url else "the database of the source"
    assert said == [f"waiting for {name}: another program may have it locked", ""]


def test_what_answers_or_refuses_at_once_is_not_told_of(
    tmp_path: Path, terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "AFTER_SECONDS", 0.1)
    path, said = tmp_path / "shop.db", list[str]()
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, timeout=0))
    release = locked(path, 0.4)
    with telling_waits(said.append), engine.connect() as connection:
        with pytest.raises(OperationalError):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        release.join()
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        threading.Event().wait(0.4)
    engine.dispose()
    assert said == []


def test_where_there_is_no_terminal_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "AFTER_SECONDS", 0.0)
    path, said = tmp_path / "shop.db", list[str]()
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(path, timeout=9))
    release = locked(path, 0.3)
    with telling_waits(said.append), engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    release.join()
    engine.dispose()
    assert said == []
