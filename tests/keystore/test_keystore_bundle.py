"""A bundle carries a lab's keys whole, or not at all."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from keystore_kinds import (
    CHEAP,
    MAGIC,
    NONCE,
    PLAIN,
    SALT,
    header,
    import_material,
    opened,
    opens_in,
    read_bundle,
    with_every_kind,
    write_bundle,
)
from keystore_labs import key_of, leaks
from lab_stores import files

from kmslab import Lab, ManualClock
from kmslab.crypto import Argon2Parameters
from kmslab.errors import AliasInUse, BundleError, MaterialMismatch, RootKeyError
from kmslab.keystore import bundle
from kmslab.model import CTYUN, TENCENT, KeyOrigin, KeySpec, KeyState

PASSPHRASE = "correct horse"
START = datetime(2026, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
MICROSECOND = timedelta(microseconds=1)


@dataclass
class Whole:
    """A lab with a key of every kind, and the bundles that it gave.

    `dear` is a file whose passphrase costs what it should, `path` one that costs next to nothing to
    open.
    """

    lab: Lab
    blobs: dict[str, list[str]]
    dear: Path
    path: Path
    exported: int


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("bundles")
    dear, path = folder / "dear", folder / "whole"
    with Lab.in_memory(clock=ManualClock(START)) as lab:
        blobs = with_every_kind(lab)
        exported = lab.export_bundle(dear, PASSPHRASE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bundle, "Argon2Parameters", partial(Argon2Parameters, **CHEAP))
            lab.export_bundle(path, PASSPHRASE)
        yield Whole(lab, blobs, dear, path, exported)


@pytest.fixture(scope="module")
def two_keys(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content of a bundle with two keys."""
    path = tmp_path_factory.mktemp("bundles") / "two"
    with Lab.in_memory(clock=ManualClock(START)) as lab, pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "Argon2Parameters", partial(Argon2Parameters, **CHEAP))
        lab.tencent().create_key("orders")
        lab.ctyun().create_key(spec=KeySpec.SM4)
        lab.export_bundle(path, PASSPHRASE)
    return json.dumps(read_bundle(path, PASSPHRASE))


@pytest.fixture
def content(two_keys: str) -> dict[str, Any]:
    """The same, to be changed."""
    found: dict[str, Any] = json.loads(two_keys)
    return found


@pytest.fixture
def small(tmp_path: Path, two_keys: str) -> Path:
    """A bundle with two keys, whose passphrase costs next to nothing to try."""
    return write_bundle(tmp_path / "small", PASSPHRASE, two_keys.encode())


def unchanged_by(lab: Lab, refused: Callable[[], object], error: type[Exception]) -> str:
    """The message with which the lab refuses something and stays as it was."""
    before = lab.info()
    with pytest.raises(error) as caught:
        refused()
    assert lab.info() == before
    return str(caught.value)


# The round trip


def test_every_kind_of_key_arrives_as_it_was(whole: Whole, lab: Lab) -> None:
    done = lab.import_bundle(whole.dear, PASSPHRASE)
    assert len(done.imported) == whole.exported == len(whole.lab.keys())
    assert (done.kept, done.refused) == ((), ())
    assert lab.keys() == whole.lab.keys()  # states, versions, dates, counts, everything
    kinds = {(key.provider, key.spec, key.state) for key in lab.keys()}
    symmetric = {KeySpec.AES_256, KeySpec.SM4}
    states = set(KeyState) - {KeyState.DELETED, KeyState.PENDING_IMPORT}
    assert kinds >= {(TENCENT, spec, state) for spec in symmetric for state in states}
    assert kinds >= {(CTYUN, spec, s) for spec in symmetric for s in states - {KeyState.ARCHIVED}}
    assert kinds >= {(p, KeySpec.RSA_2048, KeyState.ENABLED) for p in (TENCENT, CTYUN)}


def test_blobs_of_every_version_open_in_the_other_lab(
    whole: Whole, lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    lab.import_bundle(whole.path, PASSPHRASE)
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as other:
        for key_id, blobs in whole.blobs.items():
            key = key_of(other, key_id)
            found = opened(other, key, blobs)
            assert found == opened(whole.lab, key, blobs)
            assert (found == [PLAIN] * len(blobs)) is opens_in(key.state)


def test_keys_that_could_not_be_used_can_be_again(whole: Whole, lab: Lab) -> None:
    lab.import_bundle(whole.path, PASSPHRASE)
    for key in lab.keys():
        kms = lab.kms(key.provider)
        if key.state is KeyState.PENDING_DELETION:
            kms.cancel_key_deletion(key.key_id)
        if key_of(lab, key.key_id).state is KeyState.DISABLED:
            kms.enable_key(key.key_id)
        blobs = whole.blobs.get(key.key_id, [])
        assert opened(lab, key, blobs) == [PLAIN] * len(blobs)


def test_what_was_sealed_in_one_lab_is_sealed_anew(whole: Whole, lab: Lab, lab_path: Path) -> None:
    """A bundle holds material and no lab's seals; the lab holds seals and no material."""
    lab.import_bundle(whole.path, PASSPHRASE)
    lab.rekey()
    database = b"".join(files(lab_path).values())
    for item in read_bundle(whole.path, PASSPHRASE)["keys"]:
        for version in item["versions"]:
            if version["sealed"] is not None:
                text = version["sealed"]["base64"].encode()
                assert text not in database
                assert text not in whole.path.read_bytes()
    for key_id, blobs in whole.blobs.items():
        key = key_of(lab, key_id)
        if opens_in(key.state):
            assert opened(lab, key, blobs) == [PLAIN] * len(blobs)


def test_rotation_goes_on_by_the_same_calendar(
    memory_lab: Lab, tmp_path: Path, lab: Lab, manual_clock: ManualClock
) -> None:
    key_id = memory_lab.ctyun().create_key(rotation_days=30).key_id
    memory_lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    manual_clock.advance(timedelta(days=61))
    lab.import_bundle(tmp_path / "bundle", PASSPHRASE)
    due = [version.due_at for version in key_of(lab, key_id).versions]
    assert due == [None, START + timedelta(days=30), START + timedelta(days=60)]


def test_imported_material_stays_what_may_be_imported(
    memory_lab: Lab, tmp_path: Path, lab: Lab, manual_clock: ManualClock
) -> None:
    key_id = memory_lab.tencent().create_key("mine", origin=KeyOrigin.EXTERNAL).key_id
    import_material(memory_lab, key_id)
    memory_lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    lab.import_bundle(tmp_path / "bundle", PASSPHRASE)
    manual_clock.advance(timedelta(days=365))
    assert key_of(lab, key_id).state is KeyState.PENDING_IMPORT
    with pytest.raises(MaterialMismatch):
        import_material(lab, key_id, bytes(32), days=730)
    import_material(lab, key_id, days=730)
    assert key_of(lab, key_id).state is KeyState.ENABLED


def test_a_lab_without_keys_gives_an_empty_bundle(tmp_path: Path, lab: Lab) -> None:
    with Lab.in_memory() as empty:
        assert empty.export_bundle(tmp_path / "bundle", PASSPHRASE) == 0
    done = lab.import_bundle(tmp_path / "bundle", PASSPHRASE)
    assert (done.imported, done.kept, done.refused) == ((), (), ())


def test_both_ways_are_audited(whole: Whole, lab: Lab) -> None:
    lab.import_bundle(whole.path, PASSPHRASE)
    for one, action, times in ((whole.lab, "ExportBundle", 2), (lab, "ImportBundle", 1)):
        assert [e.action for e in one.audit.entries()].count(action) == times
        assert one.audit.verify().intact


# The file


def test_a_bundle_is_private_and_no_two_are_alike(lab: Lab, tmp_path: Path) -> None:
    lab.tencent().create_key("orders")
    for name in ("one", "two"):
        lab.export_bundle(tmp_path / name, PASSPHRASE)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    one, two = ((tmp_path / name).read_bytes() for name in ("one", "two"))
    assert one.splitlines()[1:] != two.splitlines()[1:]
    assert leaks(PASSPHRASE.encode(), one) == []


def test_a_passphrase_costs_what_rfc_9106_recommends(whole: Whole) -> None:
    line = json.loads(whole.dear.read_bytes().splitlines()[1])
    assert line["argon2id"] == {"iterations": 3, "lanes": 4, "memory_kib": 65536}


def test_nothing_is_written_over(lab: Lab, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (taken, tmp_path, tmp_path / "link", tmp_path / "no" / "folder"):
        message = unchanged_by(
            lab, lambda path=path: lab.export_bundle(path, PASSPHRASE), BundleError
        )
        assert f"{path} cannot be written: " in message
    assert taken.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_be_finished_leaves_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.os, "fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    assert not (tmp_path / "bundle").exists()


def test_an_empty_passphrase_is_none(lab: Lab, small: Path, tmp_path: Path) -> None:
    unchanged_by(lab, lambda: lab.export_bundle(tmp_path / "new", ""), RootKeyError)
    unchanged_by(lab, lambda: lab.import_bundle(small, ""), RootKeyError)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("passphrase", ["wrong", PASSPHRASE + " ", PASSPHRASE.upper(), "é"])
def test_another_passphrase_does_not_open_it(memory_lab: Lab, small: Path, passphrase: str) -> None:
    message = unchanged_by(
        memory_lab, lambda: memory_lab.import_bundle(small, passphrase), BundleError
    )
    assert message == f"{small}: the passphrase is wrong, or the file was altered"


def test_any_text_is_a_passphrase(lab: Lab, tmp_path: Path) -> None:
    lab.export_bundle(tmp_path / "bundle", "Ünï  密码\n")
    assert lab.import_bundle(tmp_path / "bundle", "Ünï  密码\n").imported == ()


def places(data: bytes) -> list[int]:
    """Every place in the header, some in what is sealed, and the last ones."""
    head = len(data) - len(data.split(b"\n", 2)[2])
    return sorted(
        {*range(head + 16), *range(head, len(data), 7), *range(len(data) - 17, len(data))}
    )


def test_each_byte_of_it_counts(memory_lab: Lab, small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    altered = tmp_path / "altered"
    before = memory_lab.info()
    for at in places(data):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        altered.write_bytes(flipped)
        with pytest.raises(BundleError):
            memory_lab.import_bundle(altered, PASSPHRASE)
    assert memory_lab.info() == before
    altered.write_bytes(data)
    assert len(memory_lab.import_bundle(altered, PASSPHRASE).imported) == 2


def test_part_of_it_is_nothing(memory_lab: Lab, small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    altered = tmp_path / "altered"
    before = memory_lab.info()
    for part in [*(data[:length] for length in places(data)), data + b"\n", data + data]:
        altered.write_bytes(part)
        with pytest.raises(BundleError):
            memory_lab.import_bundle(altered, PASSPHRASE)
    assert memory_lab.info() == before


@pytest.mark.parametrize("name", ["nowhere", "folder"])
def test_a_file_that_cannot_be_read(memory_lab: Lab, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    message = unchanged_by(
        memory_lab, lambda: memory_lab.import_bundle(path, PASSPHRASE), BundleError
    )
    assert f"{path} cannot be read: " in message


COSTS: list[object] = [
    {**CHEAP, "memory_kib": 1024 * 1024 + 1},
    {**CHEAP, "memory_kib": 2**32 - 1},
    {**CHEAP, "memory_kib": 7},
    {**CHEAP, "iterations": 17},
    {**CHEAP, "iterations": 10**9},
    {**CHEAP, "iterations": 0},
    {**CHEAP, "iterations": -1},
    {**CHEAP, "iterations": 1.0},
    {**CHEAP, "iterations": True},
    {**CHEAP, "iterations": "1"},
    {**CHEAP, "lanes": 17},
    {**CHEAP, "lanes": 0},
    {**CHEAP, "lanes": 16, "memory_kib": 127},
    {**CHEAP, "parallelism": 1},
    {"iterations": 1, "lanes": "", "memory_kib": []},
    [1, 1, 8],
    "argon2id",
]
LINES = [
    *(header(cost) for cost in COSTS),
    header(salt=b""),
    header(salt=SALT[:-1]),
    header(nonce=b""),
    header(nonce=NONCE + b"\0"),
    header().replace(b"==", b""),
    header().replace(b"salt", b"pepper"),
    header().replace(b'"AAECAwQF', b'" AAECAwQF'),
    b"",
    b"null",
    b"[]",
    b"7",
    b"\xff",
    b"[" * 100_000,
    b'{"argon2id": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_an_absurd_header_is_refused_before_any_work(
    memory_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    def work(*_: object) -> bytes:
        raise AssertionError("the passphrase was tried")

    path = write_bundle(tmp_path / "bundle", PASSPHRASE, b"{}", line)
    monkeypatch.setattr(bundle, "argon2id", work)
    message = unchanged_by(
        memory_lab, lambda: memory_lab.import_bundle(path, PASSPHRASE), BundleError
    )
    assert message == f"{path} is not a bundle that this kmslab can read"


@pytest.mark.parametrize("magic", [b"KMSLAB-BUNDLE-2", b"kmslab-bundle-1", b"", MAGIC + b"\r"])
def test_another_first_line_is_refused(memory_lab: Lab, small: Path, magic: bytes) -> None:
    small.write_bytes(small.read_bytes().replace(MAGIC, magic, 1))
    unchanged_by(memory_lab, lambda: memory_lab.import_bundle(small, PASSPHRASE), BundleError)


# What it holds


Edit = Callable[[dict[str, Any]], object]


def first_key(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["keys"][0]["key"]
    return found


def first_version(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["keys"][0]["versions"][0]
    return found


OTHER_ID = "6f1e3c1e-1111-4111-8111-000000000001"
MALFORMED: dict[str, Edit] = {
    "no keys": lambda c: c.pop("keys"),
    "keys that are none": lambda c: c.update(keys=7),
    "a key that is none": lambda c: c.update(keys=[7]),
    "a key without a row": lambda c: c["keys"][0].pop("key"),
    "a key without versions": lambda c: c["keys"][0].pop("versions"),
    "a key with no version": lambda c: c["keys"][0].update(versions=[]),
    "a key twice": lambda c: c["keys"].append(c["keys"][0]),
    "a column less": lambda c: first_key(c).pop("alias"),
    "an id that is none": lambda c: first_key(c).update(key_id="../x"),
    "a spec that is none": lambda c: first_key(c).update(spec="DES"),
    "a state that is none": lambda c: first_key(c).update(state="lost"),
    "a number for a text": lambda c: first_key(c).update(alias=7),
    "a text for a number": lambda c: first_key(c).update(created_at="today"),
    "half a letter": lambda c: first_key(c).update(description="\ud800"),
    "a time beyond all years": lambda c: first_key(c).update(created_at=2**62),
    "a number beyond all": lambda c: first_key(c).update(created_at=2**64),
    "a strange primary": lambda c: first_key(c).update(primary_version_id=OTHER_ID),
    "days below 1": lambda c: first_key(c).update(rotation_days=0),
    "pending without a date": lambda c: first_key(c).update(state="pending-deletion"),
    "a version of another key": lambda c: first_version(c).update(key_id=OTHER_ID),
    "a version out of order": lambda c: first_version(c).update(number=2),
    "a version id that is none": lambda c: first_version(c).update(version_id="1"),
    "a count below 0": lambda c: first_version(c).update(encryptions=-1),
    "a count beyond 2^32": lambda c: first_version(c).update(encryptions=2**32 + 1),
    "material that is a text": lambda c: first_version(c).update(sealed="AAAA"),
    "material of no base64": lambda c: first_version(c).update(sealed={"base64": "A"}),
    "material too short": lambda c: first_version(c).update(sealed={"base64": "AAAA"}),
    "a newer content": lambda c: c.update(content=2),
}


@pytest.mark.parametrize("edit", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_key_is_refused_whole(
    memory_lab: Lab, tmp_path: Path, edit: Edit, content: dict[str, Any]
) -> None:
    """Whoever knows the passphrase may write anything; the keys after it do not come alone."""
    edit(content)
    path = write_bundle(tmp_path / "forged", PASSPHRASE, json.dumps(content).encode())
    message = unchanged_by(
        memory_lab, lambda: memory_lab.import_bundle(path, PASSPHRASE), BundleError
    )
    assert message.startswith(str(path))
    assert memory_lab.keys() == ()


@pytest.mark.parametrize("content", [b"", b"7", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_content_that_is_none_is_refused(memory_lab: Lab, tmp_path: Path, content: bytes) -> None:
    path = write_bundle(tmp_path / "forged", PASSPHRASE, content)
    unchanged_by(memory_lab, lambda: memory_lab.import_bundle(path, PASSPHRASE), BundleError)


# What is here already


def test_keys_that_are_here_stay_as_they_are(memory_lab: Lab, tmp_path: Path, lab: Lab) -> None:
    memory_lab.tencent().create_key("orders")
    memory_lab.export_bundle(tmp_path / "first", PASSPHRASE)
    (key_id,) = lab.import_bundle(tmp_path / "first", PASSPHRASE).imported
    lab.rotate(key_id)
    lab.tencent().update_alias(key_id, "mine")
    blob = lab.tencent().encrypt(key_id, PLAIN)
    kept = key_of(lab, key_id)
    memory_lab.tencent().disable_key(key_id)
    memory_lab.tencent().create_key("new")
    memory_lab.export_bundle(tmp_path / "second", PASSPHRASE)
    done = lab.import_bundle(tmp_path / "second", PASSPHRASE)
    assert done.kept == (key_id,)
    assert [key_of(lab, new).alias for new in done.imported] == ["new"]
    assert key_of(lab, key_id) == kept
    assert lab.tencent().decrypt(blob) == PLAIN


def test_keys_that_were_deleted_here_stay_deleted(
    lab: Lab, tmp_path: Path, manual_clock: ManualClock
) -> None:
    gone = lab.ctyun().create_key(alias="gone").key_id
    stays = lab.ctyun().create_key(alias="stays").key_id
    blob = lab.ctyun().encrypt(gone, PLAIN)
    lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    lab.ctyun().schedule_key_deletion(gone, 7)
    manual_clock.advance(WEEK)
    done = lab.import_bundle(tmp_path / "bundle", PASSPHRASE)
    assert (done.imported, done.kept, done.refused) == ((), (stays,), (gone,))
    key = key_of(lab, gone)
    assert key.state is KeyState.DELETED
    assert not any(version.has_material for version in key.versions)
    assert opened(lab, key, [blob]) == ["InvalidCiphertext"]
    assert lab.export_bundle(tmp_path / "after", PASSPHRASE) == 1


def test_a_deleted_key_in_a_forged_bundle_is_refused(
    lab: Lab, tmp_path: Path, content: dict[str, Any]
) -> None:
    first_key(content)["state"] = "deleted"
    path = write_bundle(tmp_path / "forged", PASSPHRASE, json.dumps(content).encode())
    done = lab.import_bundle(path, PASSPHRASE)
    assert done.refused == (first_key(content)["key_id"],)
    assert len(done.imported) == 1


@pytest.mark.parametrize("late", [-MICROSECOND, timedelta(0), WEEK])
def test_an_overdue_key_is_refused(tmp_path: Path, lab: Lab, late: timedelta) -> None:
    clock = ManualClock(START)
    key_id = lab.ctyun().create_key().key_id
    stays = lab.ctyun().create_key().key_id
    lab.ctyun().schedule_key_deletion(key_id, 7)
    lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    clock.advance(WEEK + late)
    with Lab.create(tmp_path / "other", clock=clock) as other:
        done = other.import_bundle(tmp_path / "bundle", PASSPHRASE)
        overdue = late >= timedelta(0)
        assert done.refused == ((key_id,) if overdue else ())
        assert set(done.imported) == ({stays} if overdue else {stays, key_id})


def test_an_alias_that_is_taken_refuses_the_whole_bundle(
    memory_lab: Lab, tmp_path: Path, lab: Lab
) -> None:
    for alias in ("before", "orders", "after"):
        memory_lab.tencent().create_key(alias)
    memory_lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    mine = lab.tencent().create_key("orders").key_id
    message = unchanged_by(
        lab, lambda: lab.import_bundle(tmp_path / "bundle", PASSPHRASE), AliasInUse
    )
    assert mine in message
    assert [key.alias for key in lab.keys()] == ["orders"]
    lab.tencent().update_alias(mine, "mine")
    assert len(lab.import_bundle(tmp_path / "bundle", PASSPHRASE).imported) == 3


def test_an_alias_is_taken_in_its_own_region_and_provider_only(
    memory_lab: Lab, tmp_path: Path, lab: Lab, manual_clock: ManualClock
) -> None:
    memory_lab.tencent().create_key("orders")
    memory_lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    lab.ctyun().create_key(alias="orders")
    lab.tencent(region="ap-shanghai").create_key("orders")
    deleted = lab.tencent().create_key("orders").key_id
    lab.tencent().disable_key(deleted)
    lab.tencent().schedule_key_deletion(deleted, 7)
    manual_clock.advance(2 * WEEK)
    assert len(lab.import_bundle(tmp_path / "bundle", PASSPHRASE).imported) == 1


def test_a_version_of_another_key_refuses_the_whole_bundle(
    lab: Lab, tmp_path: Path, content: dict[str, Any]
) -> None:
    mine = lab.tencent().create_key("mine").versions[0].version_id
    theirs = content["keys"][-1]
    theirs["versions"][0]["version_id"] = mine
    theirs["key"]["primary_version_id"] = mine
    path = write_bundle(tmp_path / "forged", PASSPHRASE, json.dumps(content).encode())
    message = unchanged_by(lab, lambda: lab.import_bundle(path, PASSPHRASE), BundleError)
    assert "is a version of another key" in message
    assert theirs["key"]["key_id"] in message


# The mark


def test_the_mark_unsafe_travels_with_keys(
    lab: Lab, tmp_path: Path, content: dict[str, Any]
) -> None:
    assert content["unsafe"] is False
    content["unsafe"] = True
    path = write_bundle(tmp_path / "unsafe", PASSPHRASE, json.dumps(content).encode())
    lab.import_bundle(path, PASSPHRASE)
    assert lab.info().unsafe
    lab.export_bundle(tmp_path / "again", PASSPHRASE)
    assert read_bundle(tmp_path / "again", PASSPHRASE)["unsafe"] is True


@pytest.mark.parametrize("mark", [None, 0, "", "false"])
def test_whatever_does_not_say_safe_is_unsafe(
    lab: Lab, tmp_path: Path, mark: object, content: dict[str, Any]
) -> None:
    content = {**content, "unsafe": mark}
    path = write_bundle(tmp_path / "unsafe", PASSPHRASE, json.dumps(content).encode())
    lab.import_bundle(path, PASSPHRASE)
    assert lab.info().unsafe


def test_a_bundle_that_brings_no_key_brings_no_mark(
    lab: Lab, small: Path, tmp_path: Path, content: dict[str, Any]
) -> None:
    lab.import_bundle(small, PASSPHRASE)
    content = {**content, "unsafe": True}
    path = write_bundle(tmp_path / "unsafe", PASSPHRASE, json.dumps(content).encode())
    assert lab.import_bundle(path, PASSPHRASE).imported == ()
    assert not lab.info().unsafe


def test_a_safe_bundle_does_not_take_the_mark_away(lab: Lab, small: Path, tmp_path: Path) -> None:
    (tmp_path / "seed.yaml").write_text("format: kmslab-seed-1\nkeys: []\n")
    lab.seed(tmp_path / "seed.yaml")
    assert len(lab.import_bundle(small, PASSPHRASE).imported) == 2
    assert lab.info().unsafe
