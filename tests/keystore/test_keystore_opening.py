"""A lab opens with what it was made with, and with nothing else."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from keystore_labs import execute, python, rows
from keystore_victim import cheap
from lab_stores import REFUSED, copy, files

from kmslab import Lab
from kmslab.errors import (
    LabError,
    LabExists,
    LabNotFound,
    LabPermissions,
    LabRolledBack,
    RootKeyError,
    SchemaMismatch,
    SettingError,
    TamperedLab,
)

PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "lab"
    with Lab.create(path) as lab:
        lab.tencent().create_key("orders")
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A closed lab with one key."""
    return copy(made, tmp_path / "lab")


@pytest.fixture(scope="module")
def sealed_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed lab under a passphrase."""
    path = tmp_path_factory.mktemp("sealed") / "lab"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmslab.keystore.root.Argon2Parameters", cheap)
        with Lab.create(path, passphrase=PASSPHRASE) as lab:
            lab.tencent().create_key("orders")
    return path


def test_a_passphrase_costs_what_it_should(tmp_path: Path) -> None:
    Lab.create(tmp_path / "lab", passphrase=PASSPHRASE).close()
    cost = json.loads(rows(tmp_path / "lab", "lab")[0]["kdf"])["argon2id"]
    assert cost == {"iterations": 3, "lanes": 4, "memory_kib": 65536}
    Lab.open(tmp_path / "lab", passphrase=PASSPHRASE).close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.sqlite("permissions and kinds of files")
def test_a_lab_is_private_and_ignored_by_git(path: Path) -> None:
    with Lab.open(path) as lab:
        lab.rotate(lab.keys()[0].key_id)
        assert mode(path) == 0o700
        assert (path / ".gitignore").read_text() == "*\n"
        modes = {name: mode(path / name) for name in files(path) if name != ".gitignore"}
    assert set(modes) >= {"lab.db", "lab.db-wal", "lab.db-shm", "root.key"}
    assert set(modes.values()) == {0o600}


@pytest.mark.sqlite("permissions and kinds of files")
def test_a_lab_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Lab.create(tmp_path / "lab", root_key=tmp_path / "key").close()
    finally:
        os.umask(before)
    assert mode(tmp_path / "lab") == 0o700
    assert mode(tmp_path / "lab" / "lab.db") == mode(tmp_path / "key") == 0o600


def test_it_opens_with_its_root_key(path: Path) -> None:
    with Lab.open(path) as lab:
        assert [key.alias for key in lab.keys()] == ["orders"]


def test_it_opens_with_its_passphrase(sealed_path: Path) -> None:
    assert not (sealed_path / "root.key").exists()
    with Lab.open(sealed_path, passphrase=PASSPHRASE) as lab:
        assert [key.alias for key in lab.keys()] == ["orders"]
        assert lab.info().root == "passphrase"


def test_it_does_not_open_without_its_root_key(path: Path) -> None:
    (path / "root.key").unlink()
    with pytest.raises(RootKeyError, match=r"no root key at .*--root-key"):
        Lab.open(path)


def test_it_does_not_open_with_another_root_key(path: Path, tmp_path: Path) -> None:
    Lab.create(tmp_path / "other").close()
    with pytest.raises(RootKeyError, match="is not the root key of this lab"):
        Lab.open(path, root_key=tmp_path / "other" / "root.key")


def test_it_does_not_open_with_a_passphrase_instead(path: Path) -> None:
    with pytest.raises(RootKeyError, match="under a root key file"):
        Lab.open(path, passphrase=PASSPHRASE)


@pytest.mark.parametrize("passphrase", ["wrong", PASSPHRASE + " ", PASSPHRASE.upper()])
def test_it_does_not_open_with_another_passphrase(sealed_path: Path, passphrase: str) -> None:
    with pytest.raises(RootKeyError, match="passphrase is not this lab's"):
        Lab.open(sealed_path, passphrase=passphrase)


def test_it_does_not_open_with_a_root_key_instead(sealed_path: Path, path: Path) -> None:
    with pytest.raises(RootKeyError, match="under a passphrase"):
        Lab.open(sealed_path, root_key=path / "root.key")
    with pytest.raises(RootKeyError, match="under a passphrase"):
        Lab.open(sealed_path)


def test_one_way_in_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(SettingError):
        Lab.create(tmp_path / "lab", root_key=tmp_path / "key", passphrase="x")
    with pytest.raises(RootKeyError, match="empty"):
        Lab.create(tmp_path / "lab", passphrase="")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"kmslab-root-key-1 ",
        b"kmslab-root-key-1 " + b"A" * 42 + b"=\n",
        b"kmslab-root-key-1 AAAA\n",
        b"kmslab-root-key-2 " + b"A" * 43 + b"=\n",
        b"kmslab-root-key-1 " + b"A" * 42 + b"B=\n",
        b"\xff\xfe",
        b"A" * 5000,
    ],
)
def test_a_root_key_file_is_read_strictly(path: Path, text: bytes) -> None:
    (path / "root.key").write_bytes(text)
    with pytest.raises(RootKeyError, match="is not a root key of kmslab"):
        Lab.open(path)


def test_a_root_key_that_is_a_folder(path: Path) -> None:
    (path / "root.key").unlink()
    (path / "root.key").mkdir(mode=0o700)
    with pytest.raises(RootKeyError, match="cannot be read"):
        Lab.open(path)


@pytest.mark.sqlite("permissions and kinds of files")
@pytest.mark.parametrize("name", ["root.key", "lab.db", "."])
@pytest.mark.parametrize("wrong", [0o004, 0o040, 0o020, 0o002, 0o001])
def test_what_others_can_reach_is_refused(path: Path, name: str, wrong: int) -> None:
    (path / name).chmod(mode(path / name) | wrong)
    with pytest.raises(LabPermissions, match=r"chmod it to 0[67]00"):
        Lab.open(path)


@pytest.mark.sqlite("permissions and kinds of files")
@pytest.mark.parametrize("name", ["root.key", "lab.db", "."])
def test_a_link_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    file = (path / name).absolute()
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    with pytest.raises(LabPermissions, match="symbolic link"):
        Lab.open(path)


@pytest.mark.sqlite("permissions and kinds of files")
def test_somebody_elses_is_refused(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    for name in ("root.key", "lab.db", "."):
        os.chown(path / name, 12345, -1)
        with pytest.raises(LabPermissions, match="another user"):
            Lab.open(path)
        os.chown(path / name, 0, -1)
    Lab.open(path).close()


def test_no_lab(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    for name in ("nowhere", "empty"):
        with pytest.raises(LabNotFound, match="kmslab lab init"):
            Lab.open(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()
    assert not any((tmp_path / "empty").iterdir())


def test_nothing_is_made_over_something(path: Path, tmp_path: Path) -> None:
    before = files(path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name in ("lab", "file", "link"):
        with pytest.raises(LabExists):
            Lab.create(tmp_path / name)
    assert files(path) == before
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "lab", "link"]


@pytest.mark.sqlite("a directory of its own")
def test_an_empty_folder_becomes_a_lab(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir(mode=0o755)
    Lab.create(tmp_path / "lab").close()
    assert mode(tmp_path / "lab") == 0o700


def test_missing_folders_are_made(tmp_path: Path) -> None:
    Lab.create(tmp_path / "a" / "b" / "lab").close()
    Lab.open(tmp_path / "a" / "b" / "lab").close()


@pytest.mark.sqlite("a directory of its own")
def test_creation_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("SqliteDatabase", "_write_tables"):
        with monkeypatch.context() as patch:
            patch.setattr(f"kmslab.keystore.opening.{step}", fail)
            with pytest.raises(LabError, match="No space left"):
                Lab.create(tmp_path / "lab", root_key=tmp_path / "key")
        assert not any(tmp_path.iterdir())


@pytest.mark.sqlite("a directory of its own")
def test_a_file_in_the_way_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LabError, match="no lab can be made"):
        Lab.create(tmp_path / "file" / "lab")


def test_a_root_key_elsewhere(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "lab.key"
    key.parent.mkdir()
    Lab.create(tmp_path / "lab", root_key=key).close()
    assert not (tmp_path / "lab" / "root.key").exists()
    with pytest.raises(RootKeyError):
        Lab.open(tmp_path / "lab")
    with Lab.open(tmp_path / "lab", root_key=key) as lab:
        assert lab.info().root == str(key)


def test_a_root_key_belongs_to_one_lab(tmp_path: Path) -> None:
    key = tmp_path / "key"
    Lab.create(tmp_path / "one", root_key=key).close()
    kept = key.read_bytes()
    with pytest.raises(RootKeyError, match="belongs to one lab"):
        Lab.create(tmp_path / "two", root_key=key)
    assert key.read_bytes() == kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["key", "one"]


def test_a_root_key_where_it_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(RootKeyError, match="cannot be written"):
        Lab.create(tmp_path / "lab", root_key=tmp_path / "nowhere" / "key")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "shared", [pytest.param("path", marks=pytest.mark.sqlite("a directory")), "root_key"]
)
def test_of_labs_made_at_once_one_is_made(tmp_path: Path, shared: str) -> None:
    made: list[Path] = []
    refused: list[LabError] = []
    start = threading.Barrier(4)

    def make(number: int) -> None:
        path = tmp_path / ("lab" if shared == "path" else f"lab{number}")
        key = tmp_path / ("key" if shared == "root_key" else f"key{number}")
        start.wait()
        try:
            Lab.create(path, root_key=key).close()
        except (LabExists, RootKeyError) as error:
            refused.append(error)
        else:
            made.append(path)
            Lab.open(path, root_key=key).close()

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(refused) == 3
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a b", "实验室", "x=1&y=2", "a;b"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    with Lab.create(tmp_path / name) as lab:
        key = lab.tencent().create_key("orders")
    with Lab.open(tmp_path / name) as lab:
        assert lab.key("orders").key_id == key.key_id
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_process_may_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path)
    with Lab.create("lab") as lab:
        monkeypatch.chdir(tmp_path / "away")
        key = lab.tencent().create_key("orders")
        lab.rekey()
        lab.rotate(key.key_id)
    assert not any((tmp_path / "away").iterdir())
    Lab.open(tmp_path / "lab").close()


def test_a_copied_folder_is_an_open_lab(path: Path, tmp_path: Path) -> None:
    with Lab.open(copy(path, tmp_path / "copy")) as lab:
        assert len(lab.keys()) == 1


def test_an_older_copy_is_seen_from_outside(path: Path, tmp_path: Path) -> None:
    old = copy(path, tmp_path / "old")
    with Lab.open(path) as lab:
        lab.rotate(lab.keys()[0].key_id)
        reached = lab.info().generation
    Lab.open(path, expect_generation=reached).close()
    with pytest.raises(LabRolledBack, match=f"{reached} was expected"):
        Lab.open(old, expect_generation=reached)


def test_a_newer_schema_names_the_version(path: Path) -> None:
    execute(path, "UPDATE lab SET schema_version = 7")
    with pytest.raises(SchemaMismatch, match=r"schema version 7.*writes 1"):
        Lab.open(path)


def test_a_newer_schema_may_lack_todays_columns(path: Path) -> None:
    execute(path, "UPDATE lab SET schema_version = 7")
    execute(path, "ALTER TABLE lab DROP COLUMN kdf")
    with pytest.raises(SchemaMismatch):
        Lab.open(path)


def test_the_schema_version_is_authenticated(path: Path) -> None:
    execute(path, "UPDATE lab SET schema_version = 0")
    with pytest.raises(TamperedLab):
        Lab.open(path)


COSTS = [
    "not JSON",
    "[]",
    "{}",
    '{"argon2id": {"iterations": 3, "lanes": 4, "memory_kib": 4294967295}, "salt": "AAAA"}',
    '{"argon2id": {"iterations": 3.5, "lanes": 4, "memory_kib": 65536}, "salt": "SALT"}',
    '{"argon2id": {"iterations": true, "lanes": 4, "memory_kib": 65536}, "salt": "SALT"}',
    '{"argon2id": {"iterations": 9999999, "lanes": 4, "memory_kib": 65536}, "salt": "SALT"}',
    '{"argon2id": {"iterations": 3, "lanes": 4, "memory_kib": 65536}, "salt": ""}',
    '{"argon2id": {"iterations": 3, "lanes": 4, "memory_kib": 65536}, "salt": "AA=="}',
    '{"argon2id": {"iterations": 3, "lanes": 4}, "salt": 7}',
    "[" * 100_000,
]


@pytest.mark.parametrize("kdf", COSTS, ids=range(len(COSTS)))
def test_a_cost_that_somebody_changed_is_refused_and_not_paid(
    sealed_path: Path, tmp_path: Path, kdf: str
) -> None:
    path = copy(sealed_path, tmp_path / "lab")
    execute(path, "UPDATE lab SET kdf = ?", kdf.replace("SALT", "A" * 21 + "A=="))
    with pytest.raises((RootKeyError, TamperedLab)):
        Lab.open(path, passphrase=PASSPHRASE)


@pytest.mark.parametrize("root_id", ["../../x", "a/b", "", ".", "\0", "x" * 300, 7, b"\xff" * 16])
def test_a_root_id_is_no_path(path: Path, tmp_path: Path, root_id: object) -> None:
    try:
        execute(path, "UPDATE lab SET root_id = ?", root_id)
    except REFUSED:
        return  # the database itself does not have it
    with pytest.raises((TamperedLab, RootKeyError)):
        Lab.open(path)


def test_a_planted_root_key_takes_no_ones_place(path: Path, tmp_path: Path) -> None:
    """A lab row that names a planted key is refused before the real key is moved."""
    from kmslab.keystore.root import RootKeyFile, write_root_key
    from kmslab.keystore.sealing import Subkeys
    from kmslab.secret import Secret

    kept = (path / "root.key").read_bytes()
    with Lab.open(path) as lab:
        lab_id = lab.info().lab_id
    planted = Secret(bytes(32))
    root_id = Subkeys(planted, lab_id).root_id
    write_root_key(RootKeyFile(path / "root.key").next_path(root_id), planted)
    execute(path, "UPDATE lab SET root_id = ?", root_id)
    with pytest.raises(TamperedLab):
        Lab.open(path)
    assert (path / "root.key").read_bytes() == kept


@pytest.fixture
def spoil(path: Path) -> Callable[[Callable[[bytes], bytes]], None]:
    def change(how: Callable[[bytes], bytes]) -> None:
        file = path / "lab.db"
        file.write_bytes(how(file.read_bytes()))

    return change


@pytest.mark.sqlite("a file of its own")
@pytest.mark.parametrize(
    "how",
    [
        lambda data: b"",
        lambda data: b"no database at all" * 100,
        lambda data: data[:100],
        lambda data: data[: len(data) // 2],
        lambda data: data[:4096],
        lambda data: bytes(len(data)),
    ],
)
def test_what_is_no_database_is_no_lab(
    path: Path, spoil: Callable[[Callable[[bytes], bytes]], None], how: Callable[[bytes], bytes]
) -> None:
    spoil(how)
    with pytest.raises(TamperedLab):
        Lab.open(path)


@pytest.mark.sqlite("a file of its own")
def test_a_folder_for_a_database(path: Path) -> None:
    (path / "lab.db").unlink()
    (path / "lab.db").mkdir(mode=0o700)
    with pytest.raises(LabError, match="cannot be used"):
        Lab.open(path)


OPEN_AND_LEAVE = """
import sys
from kmslab import Lab
lab = Lab.open(sys.argv[1])
key = lab.keys()[0].key_id
kms = lab.tencent()
for _ in range(5):
    kms.encrypt(key, b"plain")
"""


def test_a_program_that_ends_without_closing_loses_nothing(path: Path) -> None:
    done = python(OPEN_AND_LEAVE, path)
    assert done.returncode == 0, done.stderr
    with Lab.open(path) as lab:
        check = lab.audit.verify()
        assert (check.intact, check.open_ends) == (True, 0)
        assert sum(e.count for e in lab.audit.entries() if e.action == "Encrypt") == 5
        assert lab.keys()[0].versions[0].encryptions == 5
