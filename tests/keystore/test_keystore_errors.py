"""What the database and the disk say becomes an error of the lab, and stops nothing for ever."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from keystore_labs import key_of, python

from kmslab import Lab, ManualClock
from kmslab.errors import KeyNotFound, LabBusy, LabError, RootKeyError, TamperedLab
from kmslab.keystore.sqlite import lab_error


@pytest.fixture
def small_disk(tmp_path: Path, require: Callable[[str], str]) -> Iterator[Path]:
    """A disk of two megabytes of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = [require("mount"), "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, room: int = 0) -> Path:
    """Leave `room` bytes free."""
    free = os.statvfs(place)
    filler = place / "filler"
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - room))
    return filler


@pytest.mark.sqlite("a disk of its own")
def test_a_full_disk_delays_a_deletion_and_stops_nobody(
    small_disk: Path, manual_clock: ManualClock
) -> None:
    """There is room for a change, and none to rewrite the database without the material."""
    with Lab.create(small_disk / "lab", clock=manual_clock) as lab:
        kms = lab.ctyun()
        kept, gone = kms.create_key().key_id, kms.create_key().key_id
        for _ in range(40):
            kms.create_key()
        kms.schedule_key_deletion(gone, 7)
        lab._keystore.erase_deleted_bytes()
        filler = fill(small_disk, room=(small_disk / "lab" / "lab.db").stat().st_size)
        manual_clock.advance(timedelta(days=7))
        assert kms.encrypt(kept, b"plain")
        assert key_of(lab, gone).state == "pending-deletion"
        with pytest.raises(KeyNotFound):
            kms.encrypt(gone, b"plain")
        filler.unlink()
        manual_clock.advance(timedelta(seconds=2))
        assert key_of(lab, gone).state == "deleted"


OPEN_AND_CHANGE = """
import sys
from kmslab import Lab
from kmslab.errors import LabError
try:
    Lab.open(sys.argv[1]).settings.set("balance", 1)
except LabError:
    print("refused")
"""


@pytest.mark.sqlite("a disk of its own")
def test_a_full_disk_kills_nobody(small_disk: Path) -> None:
    """A mapped file whose bytes find no room would."""
    Lab.create(small_disk / "lab").close()
    (small_disk / "lab" / "lab.bell").unlink()
    fill(small_disk)
    done = python(OPEN_AND_CHANGE, small_disk / "lab")
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr


def test_a_root_key_on_a_disk_that_is_read_only(small_disk: Path, tmp_path: Path) -> None:
    path, key = tmp_path / "lab", small_disk / "root.key"
    lab = Lab.create(path, root_key=key)
    made = lab.tencent().create_key("orders").key_id
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(RootKeyError, match="cannot be written"):
        lab.rekey()
    lab.rotate(made)
    lab.close()
    with Lab.open(path, root_key=key) as opened:
        assert len(key_of(opened, made).versions) == 2


@pytest.mark.sqlite("its lock; PostgreSQL has a test of its own")
def test_a_lab_that_is_held_is_busy(lab: Lab, lab_path: Path) -> None:
    key = lab.tencent().create_key("orders").key_id
    raw = lab._keystore.database._engine.raw_connection()
    raw.cursor().execute("PRAGMA busy_timeout = 50")
    raw.close()
    with closing(sqlite3.connect(lab_path / "lab.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LabBusy, match="try again"):
            lab.rotate(key)
        assert len(lab.keys()) == 1  # reading goes on
        holder.execute("ROLLBACK")
    assert len(lab.rotate(key).versions) == 2


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_BUSY, LabBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, LabBusy),
        (sqlite3.SQLITE_LOCKED, LabBusy),
        (sqlite3.SQLITE_FULL, LabError),
        (sqlite3.SQLITE_IOERR, LabError),
        (sqlite3.SQLITE_IOERR_FSYNC, LabError),
        (sqlite3.SQLITE_READONLY, LabError),
        (sqlite3.SQLITE_READONLY_DBMOVED, LabError),
        (sqlite3.SQLITE_CANTOPEN, LabError),
        (sqlite3.SQLITE_NOMEM, LabError),
        (sqlite3.SQLITE_PERM, LabError),
        (sqlite3.SQLITE_CORRUPT, TamperedLab),
        (sqlite3.SQLITE_CORRUPT_INDEX, TamperedLab),
        (sqlite3.SQLITE_NOTADB, TamperedLab),
        (sqlite3.SQLITE_ERROR, TamperedLab),
        (sqlite3.SQLITE_SCHEMA, TamperedLab),
        (sqlite3.SQLITE_CONSTRAINT, TamperedLab),
        (None, TamperedLab),
    ],
)
def test_each_code_of_sqlite_has_its_error(code: int | None, kind: type[LabError]) -> None:
    error = sqlite3.OperationalError("said")
    if code is not None:
        error.sqlite_errorcode = code
    found = lab_error("here", error)
    assert type(found) is kind
    assert str(found).startswith("here: ")
