"""The tables of a journal, and the SQLite connection to one."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.facts import TABLES, put_facts
from kmslab.disk import refusal
from kmslab.errors import JournalExists, StateError
from kmslab.keystore.root import sync_directory

FORMAT: Final = 2
"""The format of the journals that this version writes; those of a later one are refused."""

# Few entries fit a usual page of 4,096 bytes: the more pages, the more they cost.
_PAGE_BYTES: Final = 16_384

BUSY_SECONDS: Final = 30.0
"""How long a journal waits for whoever else has it open."""

# Steps are kept as spans of entries, so that a step costs one row for a chunk and not one for each
# of its records.
_SCHEMA: Final = """
CREATE TABLE part (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, rows INTEGER, unchanged INTEGER);
CREATE TABLE entry (
  id INTEGER PRIMARY KEY, part INTEGER NOT NULL, place NOT NULL, record_id TEXT NOT NULL,
  old_blob TEXT, new_blob TEXT, others TEXT, provider TEXT NOT NULL);
CREATE TABLE span (step TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE INDEX span_last ON span (step, last);
CREATE TABLE lost (
  entry INTEGER NOT NULL, step TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (entry, step));
CREATE TABLE failure (
  part INTEGER NOT NULL, place NOT NULL, record_id TEXT NOT NULL, provider TEXT NOT NULL,
  code TEXT NOT NULL, message TEXT NOT NULL, request_id TEXT NOT NULL,
  PRIMARY KEY (part, place)) WITHOUT ROWID;
"""


def make(path: Path, facts: Mapping[str, Any]) -> None:
    """Make a journal with these facts: it is there whole, or not at all.

    JournalExists where there is one at this path; it is left as it is.
    """
    fresh = path.with_name(f".{path.stem}-{secrets.token_hex(8)}.new")
    try:
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with closing(connect(fresh)) as database:
                database.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                database.executescript(f"BEGIN; {TABLES} {_SCHEMA} PRAGMA user_version = {FORMAT};")
                put_facts(database.executemany, facts)
                database.execute("COMMIT")
            os.link(fresh, path)  # a rename would take the place of another campaign's journal
        finally:
            fresh.unlink()
        sync_directory(path.parent)
    except FileExistsError:
        raise JournalExists(f"{path}: another campaign has this id") from None
    except (OSError, sqlite3.Error) as error:
        raise StateError(f"{path}: the journal cannot be made: {refusal(error)}") from error


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a journal, which leaves no trace of what is deleted."""
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    database.execute("PRAGMA secure_delete = ON")
    database.execute("PRAGMA synchronous = FULL")
    return database
