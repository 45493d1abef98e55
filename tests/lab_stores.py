"""Where the labs of tests are: in SQLite, or all of them in PostgreSQL.

Tests make labs in directories and in memory. With `--store postgresql` a lab in a directory keeps
its root key there, and everything else in a schema whose name hangs on the directory's; a lab in
memory has a schema too, which is emptied and taken again. Processes that tests start do the same:
KMSLAB_TEST_STORE is the URL of the database.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from compiled_once import engines_alike
from psycopg.rows import dict_row

from kmslab.database_url import parsed, with_driver
from kmslab.errors import LabError, LabExists
from kmslab.keystore import opening
from kmslab.keystore.postgres import PostgresDatabase
from kmslab.keystore.root import ROOT_FILE, RootKeyFile, RootSource
from kmslab.keystore.sealing import ROOT_BYTES, Subkeys
from kmslab.keystore.store import Keystore
from kmslab.secret import Secret

VARIABLE: Final = "KMSLAB_TEST_STORE"
TABLES: Final = ("lab", "keys", "versions", "credentials", "audit")
REFUSED: Final = (sqlite3.IntegrityError, psycopg.Error)
"""What a database does not keep at all."""


def store() -> str | None:
    """The URL of the database that labs are in; None for SQLite."""
    return os.environ.get(VARIABLE)


def schema_of(lab: Path) -> str:
    """The schema of the lab in a directory."""
    return "lab_" + hashlib.sha256(str(lab.absolute()).encode()).hexdigest()[:24]


def location(lab: Path) -> str:
    """What `Lab.location` is of the lab in a directory."""
    url = store()
    return str(lab) if url is None else f"{url}?schema={schema_of(lab)}"


def use(patch: pytest.MonkeyPatch) -> None:
    """Have labs where KMSLAB_TEST_STORE says."""
    url = store()
    if url is None:
        return
    target = with_driver(parsed(url), None)
    create = engines_alike(target, use_native_hstore=False)
    patch.setattr("kmslab.keystore.postgres.create_engine", create)
    real_create, real_open = opening.create, opening.open_lab

    def create_lab(
        place: str | Path, source: RootSource | None, surroundings: opening.Surroundings
    ) -> None:
        if opening.in_database(place):
            return real_create(place, source, surroundings)
        path = Path(place)
        if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
            raise LabExists(f"{path} is there already; choose another place or open it")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = source or RootKeyFile(path.absolute() / ROOT_FILE)
        try:
            return real_create(location(path), source, surroundings)
        except LabError:
            with suppress(OSError):  # another thread may have made it
                path.rmdir()
            raise

    def open_lab(place: str | Path, *arguments: Any) -> Keystore:
        return real_open(place if opening.in_database(place) else location(Path(place)), *arguments)

    patch.setattr(opening, "create", create_lab)
    patch.setattr(opening, "open_lab", open_lab)
    patch.setattr(opening, "in_memory", _Memory(url))


class _Memory:
    """Makes labs in schemas that are used again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._free: list[str] = []
        self._names = (f"memory_{os.getpid()}_{number}" for number in count())

    def __call__(self, surroundings: opening.Surroundings) -> Keystore:
        root = Secret(os.urandom(ROOT_BYTES))
        used = bool(self._free)
        schema = self._free.pop() if used else next(self._names)
        database = PostgresDatabase(f"{self._url}?schema={schema}")
        if used:
            with database.writing() as connection, pytest.MonkeyPatch.context() as patch:
                for table in TABLES:
                    connection.exec_driver_sql(f'DELETE FROM "{schema}".{table}')
                patch.setattr(opening, "metadata", _Made())
                opening._write_tables(connection, root, surroundings.clock)
        else:
            with database.making() as connection:
                opening._write_tables(connection, root, surroundings.clock)
        real = database.close

        def close() -> None:
            real()
            self._free.append(schema)

        database.close = close  # type: ignore[method-assign]
        return opening._keystore(database, lambda lab: Subkeys(root, lab.lab_id), surroundings)


class _Made:
    """The tables of a lab that has them already."""

    def create_all(self, _connection: object, *, checkfirst: bool) -> None:
        """There is nothing to make."""


@contextmanager
def database(lab: Path) -> Iterator[Any]:
    """The lab's database, opened by somebody who is not kmslab; what is done is committed.

    Its `execute` takes a statement with `?` for parameters, and x'00' for bytes.
    """
    url = store()
    if url is None:
        with closing(sqlite3.connect(lab / "lab.db", timeout=20)) as connection:
            connection.execute("PRAGMA secure_delete = OFF")
            connection.row_factory = sqlite3.Row
            with connection:
                yield connection
        return
    options = f"-c search_path={schema_of(lab)}"
    with closing(psycopg.connect(url, options=options, row_factory=dict_row)) as server, server:
        yield _Spoken(server)


class _Spoken:
    """A connection to PostgreSQL that is spoken to as SQLite is."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Any:
        """Run a statement."""
        statement = re.sub(r"\bx'([0-9a-f]*)'", r"'\\x\1'::bytea", statement)
        if parameters:
            statement = statement.replace("%", "%%").replace("?", "%s")
        return self._connection.execute(statement.encode(), parameters or None)


@contextmanager
def sql(url: str) -> Iterator[psycopg.Connection[Any]]:
    """The database of a lab at a URL, by somebody who is not kmslab."""
    plain, _, schema = url.partition("?schema=")
    options = f"-c search_path={schema or 'kmslab'}"
    with closing(psycopg.connect(plain, options=options, autocommit=True)) as connection:
        yield connection


@contextmanager
def reader(lab: Path) -> Iterator[None]:
    """Somebody who looks at the lab as it is now, all the time."""
    url = store()
    if url is None:
        with closing(sqlite3.connect(lab / "lab.db", isolation_level=None)) as connection:
            connection.execute("BEGIN")
            assert connection.execute("SELECT count(*) FROM keys").fetchone()
            yield
            connection.execute("ROLLBACK")
        return
    with closing(psycopg.connect(url)) as server:
        server.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        server.execute("SELECT 1 FROM pg_class")
        yield


def copy(lab: Path, to: Path) -> Path:
    """A copy of a lab that nobody has open."""
    shutil.copytree(lab, to)
    to.chmod(0o700)
    if store() is not None:
        old, new = schema_of(lab), schema_of(to)
        with database(to) as connection:
            connection.execute(f"CREATE SCHEMA {new}")
            for table in TABLES:
                connection.execute(f"CREATE TABLE {new}.{table} (LIKE {old}.{table} INCLUDING ALL)")
                connection.execute(f"INSERT INTO {new}.{table} SELECT * FROM {old}.{table}")
            for table in ("versions", "credentials"):
                connection.execute(f"ALTER TABLE {table} ALTER sealed SET STATISTICS 0")
    return to


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes; those of its lab's tables too."""
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    url = store()
    if url is not None:
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute("CHECKPOINT")
            (base,) = connection.execute("SHOW data_directory").fetchone() or ("",)
            relations = connection.execute(
                "SELECT pg_relation_filepath(oid) FROM pg_class WHERE relkind IN ('r', 'i', 't') "
                "AND (relnamespace = to_regnamespace(%s) OR relname LIKE 'pg_statistic%%')",
                (schema_of(folder),),
            ).fetchall()
        found |= {name: Path(base) / name for (name,) in relations if name}
    return {name: path.read_bytes() for name, path in found.items()}
