"""A disk that is full, read-only or damaged costs the call that meets it, and nothing else."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from keystore_labs import Servant, key_of, python
from lab_stores import copy, files

from kmslab import Lab, ManualClock
from kmslab.errors import LabError, SchemaMismatch, TamperedLab
from kmslab.keystore.schema import SCHEMA_VERSION
from kmslab.model import Key

pytestmark = pytest.mark.sqlite("files, logs and folders")

PASSPHRASE = "correct horse"
NOBODY = 65534
HEADER = 100  # bytes in which SQLite keeps how the file is written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed lab with two keys, one of which has been used."""
    with Lab.create(tmp_path / "lab") as lab:
        key_id = lab.tencent().create_key("orders").key_id
        lab.tencent().encrypt(key_id, b"plain")
        lab.ctyun().create_key()
    return tmp_path / "lab"


# Full


class SmallDisk:
    """A folder on a disk of its own, which fills up when told to."""

    says = "the disk is full; nothing was changed"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, room: int = 0) -> None:
        free = os.statvfs(self.folder)
        self._ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - room))

    def free(self) -> None:
        self._ballast.unlink()


class SmallFiles:
    """A folder in which files, when told to, grow no more: for whoever may mount no disk."""

    says = "the database cannot be used: disk I/O error"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, room: int = 0) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


Disk = SmallDisk | SmallFiles


@pytest.fixture(params=["small disk", "small files"])
def disk(
    request: pytest.FixtureRequest, tmp_path: Path, require: Callable[[str], str]
) -> Iterator[Disk]:
    """A disk that fills up; small files stand in for a small disk where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False
    if request.param == "small disk" and os.geteuid() == 0:
        mount = [require("mount"), "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    found: Disk = SmallDisk(folder) if mounted else SmallFiles(folder)
    try:
        yield found
    finally:
        if mounted:
            # Lazily: a test that failed may have left a lab open.
            subprocess.run([require("umount"), "--lazy", str(folder)], check=True)
        else:
            found.free()


@dataclass
class Used:
    """A lab that has been used, and what it has acknowledged."""

    lab: Lab
    disk: Disk
    keys: tuple[Key, ...] = ()
    blobs: list[str] = field(default_factory=list)

    @property
    def key_id(self) -> str:
        return self.keys[0].key_id

    def has_all_of_it(self, lab: Lab) -> bool:
        """Whether a lab has the keys as they were, and opens every blob."""
        opened = [lab.tencent().decrypt(blob) for blob in self.blobs]
        assert opened == [b"plain"] * len(self.blobs)
        assert [key_of(lab, key.key_id).versions for key in self.keys] == [
            key.versions for key in self.keys
        ]
        return lab.keys() == self.keys


@pytest.fixture
def used(disk: Disk, manual_clock: ManualClock) -> Iterator[Used]:
    with Lab.create(disk.folder / "lab", clock=manual_clock) as lab:
        found = Used(lab, disk)
        for alias in ("orders", "users"):
            key_id = lab.tencent().create_key(alias).key_id
            found.blobs.append(lab.tencent().encrypt(key_id, b"plain"))
            lab.rotate(key_id)
            found.blobs.append(lab.tencent().encrypt(key_id, b"plain"))
        lab.audit.verify()
        found.keys = lab.keys()
        yield found


CHANGES: dict[str, Callable[[Lab, str], object]] = {
    "create": lambda lab, _: lab.tencent().create_key("new"),
    "rotate": lambda lab, key_id: lab.rotate(key_id),
    "setting": lambda lab, _: lab.settings.set("balance", 1),
    "credential": lambda lab, _: lab.credentials.create("someone"),
    "count": lambda lab, key_id: [lab.tencent().encrypt(key_id, b"plain") for _ in range(9)],
    "disable": lambda lab, key_id: lab.tencent().disable_key(key_id),
}


def test_a_full_disk_refuses_changes_and_loses_nothing(
    used: Used, manual_clock: ManualClock
) -> None:
    lab, disk, key_id = used.lab, used.disk, used.key_id
    disk.fill()
    try:
        for name, change in CHANGES.items():
            with pytest.raises(LabError) as caught:
                change(lab, key_id)
            assert str(caught.value) == f"{disk.folder / 'lab'}: {disk.says}", name
        assert used.has_all_of_it(lab)  # what is there can be read, and opened with
        with Lab.open(disk.folder / "lab", clock=manual_clock) as other:
            assert other.keys() == used.keys
    finally:
        disk.free()
    assert used.has_all_of_it(lab)
    for change in CHANGES.values():
        change(lab, key_id)
    assert lab.audit.verify().intact
    lab.close()
    with Lab.open(disk.folder / "lab", clock=manual_clock) as again:
        again.tencent().enable_key(key_id)
        assert [again.tencent().decrypt(blob) for blob in used.blobs] == [b"plain"] * 4
        assert sorted(key.alias for key in again.keys()) == ["new", "orders", "users"]
        assert again.settings.all()["balance"] == 1


def test_a_disk_that_fills_up_slowly_keeps_what_was_acknowledged(
    disk: Disk, manual_clock: ManualClock
) -> None:
    """The write that finds no room is any one of them, wherever it is in a transaction."""
    lab = Lab.create(disk.folder / "lab", clock=manual_clock)
    lab.tencent().list_keys()
    disk.fill(room=400_000)
    made: dict[str, list[str]] = {}

    def fill_up() -> None:
        for number in range(1000):
            key_id = lab.tencent().create_key(f"key-{number}").key_id
            made[key_id] = [lab.tencent().encrypt(key_id, b"plain")]
            lab.rotate(key_id)
            made[key_id].append(lab.tencent().encrypt(key_id, b"plain"))

    try:
        with pytest.raises(LabError, match=disk.says):
            fill_up()
        with suppress(LabError):  # there may be room for the little that is left to say
            lab.close()
    finally:
        disk.free()
    assert len(made) >= 3
    with Lab.open(disk.folder / "lab", clock=manual_clock) as again:
        assert made.keys() <= {key.key_id for key in again.keys()}
        for blob in (blob for blobs in made.values() for blob in blobs):
            assert again.tencent().decrypt(blob) == b"plain"
        for key_id, blobs in made.items():
            counted = [version.encryptions for version in key_of(again, key_id).versions]
            assert sum(counted) >= len(blobs)
        assert again.audit.verify().intact


def test_a_close_that_finds_no_room_says_so_and_lets_go(
    used: Used, manual_clock: ManualClock
) -> None:
    used.lab.tencent().encrypt(used.key_id, b"plain")
    used.disk.fill()
    try:
        with pytest.raises(LabError, match=used.disk.says):
            used.lab.close()
    finally:
        used.disk.free()
    with Lab.open(used.disk.folder / "lab", clock=manual_clock) as again:
        counted = [v.encryptions for v in key_of(again, used.key_id).versions]
        assert counted[0] >= 1
        assert counted[1] >= 2
        check = again.audit.verify()
        assert (check.intact, check.open_ends) == (True, 1)


def test_a_full_disk_gives_no_half_of_anything_else(used: Used, manual_clock: ManualClock) -> None:
    """No lab, no bundle and no root key begins that cannot be finished."""
    lab, disk = used.lab, used.disk
    disk.fill()
    try:
        before = set(disk.folder.iterdir())
        with pytest.raises(LabError):
            lab.export_bundle(disk.folder / "bundle", PASSPHRASE)
        with pytest.raises(LabError):
            Lab.create(disk.folder / "other")
        with pytest.raises(LabError):
            lab.rekey()
        assert set(disk.folder.iterdir()) == before
        assert used.has_all_of_it(lab)
    finally:
        disk.free()
    assert used.has_all_of_it(lab)
    lab.close()
    with Lab.open(disk.folder / "lab", clock=manual_clock) as again:
        assert again.keys() == used.keys
        again.rekey()
        assert sorted(p.name for p in (disk.folder / "lab").glob("root.key*")) == ["root.key"]
        assert again.export_bundle(disk.folder / "bundle", PASSPHRASE) == 2


# Read-only

# Permissions do not bind root, so root becomes somebody else first; what is imported late is
# imported before that.
READ_ONLY = """
import json, os, sys
from pathlib import Path
from kmslab import Lab
from kmslab.errors import KmslabError

folder, nobody = Path(sys.argv[1]), int(sys.argv[2])
names, refused = sys.argv[3].split(","), {}
with Lab.create(folder / "lab") as lab:
    key_id = lab.tencent().create_key("orders").key_id
    blob = lab.tencent().encrypt(key_id, b"plain")
    assert lab.tencent().decrypt(blob) == b"plain"
    lab.rekey()
if os.geteuid() == 0:
    for place in (folder, folder / "lab", *(folder / "lab").iterdir()):
        os.chown(place, nobody, nobody)
    os.setgroups([])
    os.setgid(nobody)
    os.setuid(nobody)

def attempt(name, call):
    try:
        call()
        refused[name] = None
    except KmslabError as error:
        refused[name] = [type(error).__name__, str(error)]

def change_modes(directory, file):
    for name in names:
        for place in ([folder / name] if name != "lab.*" else (folder / "lab").glob("lab.*")):
            place.chmod(directory if place.is_dir() else file)

def use():
    with Lab.open(folder / "lab") as lab:
        attempt("change", lambda: lab.tencent().create_key("new"))
        attempt("rekey", lab.rekey)

change_modes(0o500, 0o400)
attempt("open", use)
attempt("create", lambda: Lab.create(folder / "other").close())
change_modes(0o700, 0o600)
with Lab.open(folder / "lab") as lab:
    assert lab.tencent().decrypt(blob) == b"plain"
    aliases = [key.alias for key in lab.keys()]
    assert aliases == ["orders", *(["new"] if refused.get("change", 1) is None else [])], aliases
    assert lab.tencent().create_key("after").alias == "after"
    assert lab.audit.verify().intact
print(json.dumps(refused))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that somebody else may be given: those of pytest are in one that is root's."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def outcomes(folder: Path, *names: str) -> dict[str, list[str] | None]:
    """What a lab says while these files are read-only; it is whole again afterwards."""
    done = python(READ_ONLY, folder, NOBODY, ",".join(names))
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str] | None] = json.loads(done.stdout)
    return found


def test_a_read_only_folder(open_folder: Path) -> None:
    found = outcomes(open_folder, "lab")
    assert found["open"] is not None
    kind, message = found["open"]
    assert kind == "LabError"
    assert message.startswith(f"{open_folder / 'lab'}: the database cannot be used: ")


def test_a_read_only_database_can_be_looked_at(open_folder: Path) -> None:
    found = outcomes(open_folder, "lab.*")
    assert found["open"] is not None or found["change"] is not None
    for refused in filter(None, found.values()):
        assert refused[0] == "LabError"
        assert "read" in refused[1] or "Permission denied" in refused[1]


def test_no_lab_is_made_in_a_read_only_folder(open_folder: Path) -> None:
    found = outcomes(open_folder, ".")
    assert found == {
        "change": None,
        "rekey": None,
        "open": None,
        "create": [
            "LabError",
            f"no lab can be made at {open_folder / 'other'}: Permission denied",
        ],
    }


# Damaged


def test_a_database_cut_at_any_length_is_refused(path: Path, tmp_path: Path) -> None:
    data = (path / "lab.db").read_bytes()
    with Lab.open(path) as lab:
        keys = lab.keys()
    assert not (path / "lab.db-wal").exists()
    for number, length in enumerate([*range(0, len(data), 1024), 1, 99, 101, len(data) - 1]):
        cut = copy(path, tmp_path / str(number))
        (cut / "lab.db").write_bytes(data[:length])
        with pytest.raises(TamperedLab):
            verify(cut, keys)
        if length >= HEADER:  # of less SQLite makes an empty database
            assert (cut / "lab.db").read_bytes()[HEADER:] == data[HEADER:length]
    verify(path, keys)


def verify(path: Path, keys: tuple[Key, ...]) -> None:
    """Open a lab and verify its audit log, whose end is all that opening does not read."""
    with Lab.open(path) as lab:
        assert lab.keys() == keys
        assert lab.audit.verify().intact


def test_a_log_cut_at_any_length_is_an_older_lab(path: Path, tmp_path: Path) -> None:
    """What a write-ahead log has lost was there and is gone; what is left is whole.

    Only whoever remembers the generation can tell.
    """
    killed = tmp_path / "killed"
    with Servant(path) as servant:
        key_id = servant.ask("create", "new")
        servant.ask("rotate_many", key_id, "3")
        shutil.copytree(path, killed)
    killed.chmod(0o700)
    log = (killed / "lab.db-wal").read_bytes()
    (killed / "lab.db-shm").unlink()
    versions, generations = [], []
    frames = range(32, len(log) + 1, 24 + 4096)
    for number, end in enumerate(frames[::2]):
        length = end - number % 2 * 7  # at the end of a frame, or a little before it
        cut = copy(killed, tmp_path / str(number))
        (cut / "lab.db-wal").write_bytes(log[:length])
        with Lab.open(cut) as lab:
            found = [key for key in lab.keys() if key.key_id == key_id]
            versions.append(len(found[0].versions) if found else 0)
            generations.append(lab.info().generation)
            assert lab.audit.verify().intact
    assert versions == sorted(versions)
    assert generations == sorted(generations)
    assert set(versions) == {0, 1, 2, 3, 4}


def gzip(file: Path) -> None:
    import gzip

    file.write_bytes(gzip.compress(file.read_bytes()))


def another_database(*statements: str) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        file.unlink()
        with closing(sqlite3.connect(file)) as connection, connection:
            for statement in statements:
                connection.execute(statement)
        file.chmod(0o600)

    return make


NO_LABS: dict[str, Callable[[Path], object]] = {
    "text": lambda file: file.write_text("format: kmslab-seed-1\nkeys: []\n"),
    "compressed": gzip,
    "a database of nothing": another_database("PRAGMA user_version = 1"),
    "a database of something else": another_database("CREATE TABLE birds (name TEXT)"),
    "a lab of something else": another_database("CREATE TABLE lab (name TEXT)"),
    "its root key": lambda file: file.write_bytes((file.parent / "root.key").read_bytes()),
}


@pytest.mark.parametrize("spoil", NO_LABS.values(), ids=NO_LABS)
def test_what_is_no_lab_is_refused_and_left_alone(
    path: Path, spoil: Callable[[Path], object]
) -> None:
    spoil(path / "lab.db")
    before = (path / "lab.db").read_bytes()
    with pytest.raises(TamperedLab, match=str(path)):
        Lab.open(path)
    assert (path / "lab.db").read_bytes()[HEADER:] == before[HEADER:]


# From a newer kmslab


def migrated(lab: Lab, to: int) -> None:
    """Have the lab say, under its own MAC, that a newer kmslab has migrated it."""
    with lab._keystore.change() as change:
        change.lab = replace(change.lab, schema_version=to)


def test_a_newer_lab_is_refused_and_not_written_to(path: Path) -> None:
    with Lab.open(path) as lab:
        migrated(lab, SCHEMA_VERSION + 1)
    before = files(path)
    with pytest.raises(SchemaMismatch) as caught:
        Lab.open(path)
    assert f"the lab has schema version {SCHEMA_VERSION + 1}" in str(caught.value)
    assert f"this kmslab writes {SCHEMA_VERSION}" in str(caught.value)
    after = files(path)
    assert after["lab.db"] == before["lab.db"]
    assert after["root.key"] == before["root.key"]


def test_an_open_lab_stops_when_it_is_migrated(path: Path) -> None:
    with Lab.open(path) as lab, Lab.open(path) as newer:
        key_id = lab.keys()[0].key_id
        migrated(newer, SCHEMA_VERSION + 1)
        for call in (lab.keys, lambda: lab.rotate(key_id), lambda: lab.tencent().list_keys()):
            with pytest.raises(SchemaMismatch, match=f"version {SCHEMA_VERSION + 1}"):
                call()
