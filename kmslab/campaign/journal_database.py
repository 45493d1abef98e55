"""The database of a journal: one connection, and one transaction that grows until its commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Self

from kmslab.campaign.journal_schema import FORMAT, connect
from kmslab.disk import refusal
from kmslab.errors import CampaignNotFound, StateError

_HELD_BACK_PAGES: Final = 2_048
"""How much a transaction may change before it keeps readers out until it is committed: 32 MB."""


class JournalDatabase:
    """An open journal as a database. StateError, from everything here, where it cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, shard: bool = False) -> Self:
        """A journal that is there. CampaignNotFound, or StateError where it cannot be read.

        It may be on a file system that several machines share, where no write-ahead log works. So
        whoever reads waits while something is committed, and the other way round. A `shard` has one
        writer, and no reader beside it.
        """
        if not path.is_file():
            raise CampaignNotFound(f"no campaign {path.stem} in {path.parent}")
        try:
            connection = connect(path)
            found = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise StateError(f"{path}: this journal cannot be read: {refusal(error)}") from error
        if found != FORMAT:
            connection.close()
            raise StateError(f"{path}: a journal of format {found}; this kmslab reads {FORMAT}")
        database = cls(path, connection)
        if shard:
            database.run("PRAGMA locking_mode = EXCLUSIVE")
        database.run("PRAGMA journal_mode = TRUNCATE")
        database.run(f"PRAGMA cache_spill = {_HELD_BACK_PAGES}")
        return database

    def close(self) -> None:
        """Let go of the file. What was told so far is kept. Closing twice is closing once."""
        if not self._closed:
            self._closed = True
            with closing(self._connection):
                self.commit()
                if self._connection.total_changes:
                    self.run("PRAGMA journal_mode = DELETE")  # or an empty file stays beside it

    def begin(self) -> None:
        """Have a transaction open."""
        if not self._connection.in_transaction:
            self.run("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Have everything on the disk."""
        if self._connection.in_transaction:
            self.run("COMMIT")

    def roll_back(self) -> None:
        """Forget what was told since the last commit."""
        if self._connection.in_transaction:
            self.run("ROLLBACK")

    def run(self, sql: str, *values: Any) -> None:
        """Run one statement."""
        try:
            self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def many(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run one statement for each of some rows."""
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def query(self, sql: str, *values: Any) -> list[Any]:
        """All rows that a statement gives."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> StateError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return StateError(
                f"{self.path}: another program has this journal open and does not let go of it: "
                "end it (another kmslab, a database browser, a backup), and try again"
            )
        return StateError(f"{self.path}: the journal cannot be used: {refusal(error)}")
