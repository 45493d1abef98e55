"""Where the tables of tests are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from record_tables import PostgresBase


@pytest.fixture(scope="session")
def quick_folder() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of durable commits take no time there."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server_base(request: pytest.FixtureRequest) -> Iterator[PostgresBase]:
    server = request.getfixturevalue("postgres")
    with (
        server.database() as url,
        # Nothing is prepared: tables of one name come and go.
        closing(psycopg.connect(url, autocommit=True, prepare_threshold=None)) as connection,
    ):
        yield PostgresBase(url, connection)


@pytest.fixture
def server(server_base: PostgresBase) -> PostgresBase:
    """A PostgreSQL database, empty again."""
    server_base.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return server_base
