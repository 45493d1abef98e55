"""A scheduled deletion really happens, and is said to have happened only then."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from keystore_labs import Servant, key_of, rows
from keystore_victim import cheap
from lab_stores import copy, files, reader

from kmslab import Lab, ManualClock
from kmslab.errors import KeyNotFound, KeyPendingDeletion, KmsError
from kmslab.model import KeyOrigin, KeySpec, KeyState, OaepAlgorithm

WEEK = timedelta(days=7)
PASSPHRASE = "correct horse"


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmslab.keystore.bundle.Argon2Parameters", cheap)


@pytest.fixture
def key_id(lab: Lab) -> str:
    """A key with three versions, which has been used."""
    kms = lab.ctyun()
    key = kms.create_key(alias="orders")
    for _ in range(2):
        kms.encrypt(key.key_id, b"plain")
        lab.rotate(key.key_id)
    return key.key_id


def sealed(path: Path, key_id: str) -> list[bytes]:
    """The sealed material of a key as it stands in the database."""
    found = [row["sealed"] for row in rows(path, "versions", f"key_id = '{key_id}'")]
    return [value for value in found if value is not None]


def held(path: Path, material: list[bytes]) -> list[str]:
    """The files of the lab that hold any of these bytes, or a good part of them."""
    parts = [value[at : at + 16] for value in material for at in range(0, len(value) - 15, 8)]
    return [name for name, data in files(path).items() if any(part in data for part in parts)]


def calls(lab: Lab, key_id: str, blob: str) -> dict[str, Callable[[], object]]:
    kms = lab.ctyun()
    return {
        "encrypt": lambda: kms.encrypt(key_id, b"plain"),
        "decrypt": lambda: kms.decrypt(blob),
        "data key": lambda: kms.generate_data_key(key_id, number_of_bytes=32),
        "re-encrypt": lambda: kms.re_encrypt(blob, destination_key_id=key_id),
        "describe": lambda: kms.describe_key(key_id),
        "cancel": lambda: kms.cancel_key_deletion(key_id),
        "rotate": lambda: lab.rotate(key_id),
        "alias": lambda: kms.update_alias(key_id, "other"),
    }


def test_material_stays_until_the_date(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    material = sealed(lab_path, key_id)
    assert len(material) == 3
    assert held(lab_path, material)
    lab.ctyun().schedule_key_deletion(key_id, 7)
    due = key_of(lab, key_id).deletion_at
    assert due is not None
    manual_clock.set(due - timedelta(microseconds=1))
    lab.ctyun().cancel_key_deletion(key_id)
    assert lab.ctyun().encrypt(key_id, b"plain")
    assert sealed(lab_path, key_id) == material


def test_the_next_call_deletes(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    blob = lab.ctyun().encrypt(key_id, b"plain")
    material = sealed(lab_path, key_id)
    lab.ctyun().schedule_key_deletion(key_id, 7)
    due = key_of(lab, key_id).deletion_at
    assert due is not None
    manual_clock.set(due)
    for name, call in calls(lab, key_id, blob).items():
        with pytest.raises(KmsError) as refused:
            call()
        assert not isinstance(refused.value, KeyPendingDeletion), name
    key = key_of(lab, key_id)
    assert key.state is KeyState.DELETED
    assert not any(version.has_material for version in key.versions)
    assert held(lab_path, material) == []
    assert key_id not in [key.key_id for key in lab.ctyun().list_keys()]
    actions = [entry.action for entry in lab.audit.entries() if entry.key_id == key_id]
    assert actions.index("DeletionBegun") < actions.index("Deleted")


@pytest.mark.parametrize("spec", [KeySpec.AES_256, KeySpec.SM4, KeySpec.RSA_2048])
def test_nothing_of_it_is_in_any_file(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, spec: KeySpec
) -> None:
    """Whatever the material has been through: rekeyed, moved by other rows, checkpointed."""
    kms = lab.ctyun()
    key = kms.create_key(spec=spec)
    material = sealed(lab_path, key.key_id)
    lab.rekey()
    material += sealed(lab_path, key.key_id)
    for number in range(20):
        kms.create_key(alias=f"other{number}")
    for _ in range(2):
        lab.rotate(key.key_id)
        material += sealed(lab_path, key.key_id)
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        opened.rotate(key.key_id)
        material += sealed(lab_path, key.key_id)
        opened.ctyun().schedule_key_deletion(key.key_id, 7)
    assert held(lab_path, material)
    manual_clock.advance(WEEK)
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert key_of(opened, key.key_id).state is KeyState.DELETED
        assert held(lab_path, material) == []
    assert held(lab_path, material) == []


def test_others_keep_their_material(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    other = lab.ctyun().create_key(alias="other").key_id
    blob = lab.ctyun().encrypt(other, b"plain")
    lab.ctyun().schedule_key_deletion(key_id, 7)
    manual_clock.advance(WEEK)
    lab.keys()
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert opened.ctyun().decrypt(blob) == b"plain"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who does not go is waited for a moment only."""
    monkeypatch.setattr("kmslab.keystore.sqlite.ERASE_SECONDS", 0.02)


@pytest.mark.usefixtures("impatient")
def test_it_is_not_done_while_a_file_holds_it(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    """A reader keeps the old state alive: refused all the same, done when the reader is gone."""
    kms = lab.ctyun()
    other = kms.create_key(alias="other").key_id
    blob = kms.encrypt(key_id, b"plain")
    material = sealed(lab_path, key_id)
    kms.schedule_key_deletion(key_id, 7)
    with reader(lab_path):
        manual_clock.advance(WEEK)
        for name, call in calls(lab, key_id, blob).items():
            with pytest.raises(KmsError) as refused:
                call()
            assert not isinstance(refused.value, KeyPendingDeletion), name
        assert held(lab_path, material)
        assert key_of(lab, key_id).state is KeyState.PENDING_DELETION
        assert "Deleted" not in [entry.action for entry in lab.audit.entries()]
        for _ in range(3):  # others do not suffer
            assert kms.decrypt(kms.encrypt(other, b"plain")) == b"plain"
            manual_clock.advance(timedelta(seconds=2))
    manual_clock.advance(timedelta(seconds=2))
    assert key_of(lab, key_id).state is KeyState.DELETED
    assert held(lab_path, material) == []
    actions = [entry.action for entry in lab.audit.entries() if entry.key_id == key_id]
    assert actions.count("DeletionBegun") == actions.count("Deleted") == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.sqlite("the write-ahead log")
def test_a_reader_does_not_make_the_log_grow(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    lab.ctyun().schedule_key_deletion(key_id, 7)
    with reader(lab_path):
        manual_clock.advance(WEEK)
        lab.keys()
        before = (lab_path / "lab.db-wal").stat().st_size
        for _ in range(3):
            manual_clock.advance(timedelta(seconds=2))
            lab.keys()
        assert (lab_path / "lab.db-wal").stat().st_size <= before


def test_a_deletion_that_was_killed_is_finished(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    """Killed after the material was taken away and before that was reported."""
    material = sealed(lab_path, key_id)
    lab.ctyun().schedule_key_deletion(key_id, 7)
    lab._keystore.erase_deleted_bytes = lambda: False  # type: ignore[method-assign]
    manual_clock.advance(WEEK)
    lab.keys()
    assert sealed(lab_path, key_id) == []
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert key_of(opened, key_id).state is KeyState.DELETED
    assert held(lab_path, material) == []


def test_two_labs_that_are_open_report_one_deletion(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    material = sealed(lab_path, key_id)
    lab.ctyun().schedule_key_deletion(key_id, 7)
    with Lab.open(lab_path, clock=manual_clock) as other:
        manual_clock.advance(WEEK)
        assert key_of(other, key_id).state is KeyState.DELETED
        assert key_of(lab, key_id).state is KeyState.DELETED
        assert held(lab_path, material) == []
        actions = [entry.action for entry in lab.audit.entries()]
    assert (actions.count("DeletionBegun"), actions.count("Deleted")) == (1, 1)


def test_another_process_at_work_is_no_obstacle(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    material = sealed(lab_path, key_id)
    lab.ctyun().schedule_key_deletion(key_id, 7)
    with Servant(lab_path) as servant:
        other = servant.ask("create", "other")
        servant.ask("encrypt", other, "3")
        manual_clock.advance(WEEK)
        assert key_of(lab, key_id).state is KeyState.DELETED
        assert held(lab_path, material) == []
        assert servant.ask("state", key_id) == "deleted"


def test_a_bundle_does_not_bring_it_back(
    lab: Lab, lab_path: Path, tmp_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    blob = lab.ctyun().encrypt(key_id, b"plain")
    lab.export_bundle(tmp_path / "before", PASSPHRASE)
    lab.ctyun().schedule_key_deletion(key_id, 7)
    lab.export_bundle(tmp_path / "pending", PASSPHRASE)
    manual_clock.advance(WEEK)
    for name in ("before", "pending"):
        done = lab.import_bundle(tmp_path / name, PASSPHRASE)
        assert (done.imported, done.kept, done.refused) == ((), (), (key_id,))
    assert key_of(lab, key_id).state is KeyState.DELETED
    with pytest.raises(KmsError):
        lab.ctyun().decrypt(blob)
    with Lab.in_memory(clock=manual_clock) as other:
        done = other.import_bundle(tmp_path / "pending", PASSPHRASE)
        assert done.refused == (key_id,)  # overdue, and never here
        assert other.keys() == ()


def test_a_bundle_of_a_pending_key_keeps_its_date(
    lab: Lab, tmp_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    lab.ctyun().schedule_key_deletion(key_id, 7)
    lab.export_bundle(tmp_path / "pending", PASSPHRASE)
    with Lab.create(tmp_path / "other", clock=manual_clock) as other:
        assert other.import_bundle(tmp_path / "pending", PASSPHRASE).imported == (key_id,)
        assert key_of(other, key_id).deletion_at == key_of(lab, key_id).deletion_at
        manual_clock.advance(WEEK)
        assert key_of(other, key_id).state is KeyState.DELETED


def test_an_overdue_key_is_in_no_bundle(
    lab: Lab, tmp_path: Path, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    lab.ctyun().schedule_key_deletion(key_id, 7)
    manual_clock.advance(WEEK)
    assert lab.export_bundle(tmp_path / "bundle", PASSPHRASE) == 0


def test_an_alias_is_free_again(lab: Lab, manual_clock: ManualClock, key_id: str) -> None:
    kms = lab.ctyun()
    kms.schedule_key_deletion(key_id, 7)
    with pytest.raises(KmsError):
        kms.create_key(alias="orders")
    manual_clock.advance(WEEK)
    assert kms.create_key(alias="orders").key_id != key_id


def test_a_deleted_key_is_remembered_for_ever(
    lab: Lab, lab_path: Path, tmp_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    lab.ctyun().schedule_key_deletion(key_id, 7)
    manual_clock.advance(WEEK)
    lab.keys()
    lab.close()
    with Lab.open(copy(lab_path, tmp_path / "copy"), clock=manual_clock) as opened:
        assert key_of(opened, key_id).state is KeyState.DELETED
        opened.rekey()
        assert key_of(opened, key_id).state is KeyState.DELETED
        with pytest.raises(KmsError):
            opened.rotate(key_id)


def test_an_overdue_key_does_not_rotate(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    lab.ctyun().schedule_key_deletion(key_id, 7)
    with reader(lab_path):
        manual_clock.advance(WEEK)
        with pytest.raises(KeyNotFound):
            lab.rotate(key_id)
    assert sealed(lab_path, key_id) == []


def test_expired_material_is_in_no_file(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    kms = lab.tencent()
    key = kms.create_key("mine", origin=KeyOrigin.EXTERNAL)
    given = kms.get_parameters_for_import(key.key_id, wrapping_algorithm=OaepAlgorithm.SHA_256)
    public = serialization.load_der_public_key(given.public_key_der)
    assert isinstance(public, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = b64encode(public.encrypt(bytes(range(32)), oaep)).decode()
    for attempt in ("expires", "deleted"):
        valid_to = manual_clock.now() + WEEK if attempt == "expires" else None
        kms.import_key_material(key.key_id, wrapped, given.import_token, valid_to=valid_to)
        material = sealed(lab_path, key.key_id)
        assert held(lab_path, material)
        if attempt == "expires":
            manual_clock.advance(WEEK)
            given = kms.get_parameters_for_import(
                key.key_id, wrapping_algorithm=OaepAlgorithm.SHA_256
            )
            public = serialization.load_der_public_key(given.public_key_der)
            assert isinstance(public, rsa.RSAPublicKey)
            wrapped = b64encode(public.encrypt(bytes(range(32)), oaep)).decode()
        else:
            kms.delete_imported_key_material(key.key_id)
        assert key_of(lab, key.key_id).state is KeyState.PENDING_IMPORT
        assert held(lab_path, material) == []


def expiring(lab: Lab, manual_clock: ManualClock, days: int) -> str:
    """A key whose imported material is valid for so many days."""
    kms = lab.tencent()
    key_id = kms.create_key("mine", origin=KeyOrigin.EXTERNAL).key_id
    given = kms.get_parameters_for_import(key_id, wrapping_algorithm=OaepAlgorithm.SHA_256)
    pair = serialization.load_der_public_key(given.public_key_der)
    assert isinstance(pair, rsa.RSAPublicKey)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = b64encode(pair.encrypt(bytes(range(32)), oaep)).decode()
    end = manual_clock.now() + timedelta(days)
    kms.import_key_material(key_id, wrapped, given.import_token, valid_to=end)
    return key_id


def test_expired_material_is_erased_once_nobody_holds_it(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    """A reader keeps the old state alive: the key is of no use at once, and the rest follows."""
    key_id = expiring(lab, manual_clock, 7)
    material = sealed(lab_path, key_id)
    with reader(lab_path):
        manual_clock.advance(WEEK)
        found = key_of(lab, key_id)
        assert (found.state, found.versions[0].has_material) == (KeyState.PENDING_IMPORT, False)
        assert held(lab_path, material)
        assert "MaterialExpired" not in [entry.action for entry in lab.audit.entries()]
    manual_clock.advance(timedelta(seconds=2))
    assert key_of(lab, key_id).material_expires_at is None
    assert held(lab_path, material) == []
    actions = [entry.action for entry in lab.audit.entries() if entry.key_id == key_id]
    assert actions.count("ExpiryBegun") == actions.count("MaterialExpired") == 1


def clock_acts(lab: Lab, key_id: str) -> list[str]:
    entries = lab.audit.entries()
    return [e.action for e in entries if e.key_id == key_id and e.who == "clock"]


def test_a_deletion_that_falls_due_while_expired_material_is_erased(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    """What has begun is said to be done: both."""
    key_id = expiring(lab, manual_clock, 7)
    with reader(lab_path):
        manual_clock.advance(WEEK)
        lab.tencent().schedule_key_deletion(key_id, 7)
        manual_clock.advance(timedelta(days=9))
        assert key_of(lab, key_id).state is KeyState.PENDING_DELETION
    manual_clock.advance(timedelta(seconds=2))
    key = key_of(lab, key_id)
    assert (key.state, key.material_expires_at) == (KeyState.DELETED, None)
    assert clock_acts(lab, key_id) == ["ExpiryBegun", "MaterialExpired", "Deleted"]


@pytest.mark.parametrize("days", [8, 30], ids=["before", "after"])
def test_material_that_is_deleted_with_its_key_does_not_expire(
    lab: Lab, manual_clock: ManualClock, days: int
) -> None:
    """Nobody looks in between: the deletion is the first to be done."""
    key_id = expiring(lab, manual_clock, days)
    lab.tencent().disable_key(key_id)
    lab.tencent().schedule_key_deletion(key_id, 7)
    manual_clock.advance(timedelta(days=9))
    key = key_of(lab, key_id)
    assert (key.state, key.material_expires_at) == (KeyState.DELETED, None)
    assert clock_acts(lab, key_id) == ["DeletionBegun", "Deleted"]


def test_a_rekey_says_whether_what_it_replaced_is_gone(
    lab: Lab, lab_path: Path, key_id: str
) -> None:
    material = sealed(lab_path, key_id)
    with reader(lab_path):
        assert lab.rekey() is False
        assert held(lab_path, material)
    assert lab.rekey() is True
    assert held(lab_path, material) == []
