"""A seed file makes the keys that it says, or says what is wrong with it."""

from __future__ import annotations

import warnings
from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from keystore_labs import key_of

from kmslab import Lab, ManualClock
from kmslab.errors import (
    AliasInUse,
    EncryptionCountWarning,
    EncryptionLimitReached,
    KeyUnavailable,
    SeedError,
)
from kmslab.model import CTYUN, TENCENT, KeyOrigin, KeySpec, KeyState, OaepAlgorithm

KEY_ID = "23e80852-1e38-11e9-b129-5cb9019b4b01"
OTHER_KEY_ID = "23e80852-1e38-11e9-b129-5cb9019b4b02"
VERSION_IDS = [f"6f1e3c1e-1111-4111-8111-{number:012}" for number in range(9)]
PASSPHRASE = "correct horse"
AES_MATERIAL = b64encode(bytes(range(32))).decode()
SM4_MATERIAL = b64encode(bytes(range(16))).decode()
START = datetime(2026, 1, 1, tzinfo=UTC)

Item = dict[str, Any]
Seed = Callable[..., Path]


@pytest.fixture
def seed(tmp_path: Path) -> Seed:
    """Writes a seed file with these keys."""

    def write(*keys: object) -> Path:
        path = tmp_path / "seed.yaml"
        path.write_text(yaml.safe_dump({"format": "kmslab-seed-1", "keys": list(keys)}))
        return path

    return write


@pytest.fixture(scope="module")
def pair() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem(private: rsa.RSAPrivateKey) -> str:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def version(number: int = 0, **fields: object) -> Item:
    made_at = f"2024-0{number + 1}-01T00:00:00Z"
    found = {"version_id": VERSION_IDS[number], "made_at": made_at, "material": AES_MATERIAL}
    return {**found, **fields}


def key(*versions: object, **fields: object) -> Item:
    found = {"provider": TENCENT, "key_id": KEY_ID, "created_at": "2024-01-01T00:00:00Z"}
    return {**found, "versions": list(versions) or [version()], **fields}


# What it makes


def test_the_least_that_a_key_needs(lab: Lab, seed: Seed) -> None:
    assert lab.seed(seed(key())) == (KEY_ID,)
    made = key_of(lab, KEY_ID)
    assert (made.provider, made.region, made.spec) == (TENCENT, "ap-guangzhou", KeySpec.AES_256)
    assert (made.state, made.origin) == (KeyState.ENABLED, KeyOrigin.KMS)
    assert (made.alias, made.description, made.rotation_days) == ("", "", None)
    assert made.created_at == made.versions[0].made_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert made.primary_version_id == made.versions[0].version_id == VERSION_IDS[0]


def test_all_that_a_key_may_say(lab: Lab, seed: Seed) -> None:
    lab.seed(
        seed(
            key(
                version(0),
                version(1, due_at="2024-01-31T00:00:00+08:00", encryptions=7),
                provider=CTYUN,
                region="elsewhere",
                alias="订单",
                description="keys of orders",
                spec="AES_256",
                state="disabled",
                rotation_days=30,
                next_rotation_at=datetime(2024, 2, 29, tzinfo=UTC),
                last_rotated_at="2024-01-31",
            )
        )
    )
    made = key_of(lab, KEY_ID)
    assert (made.region, made.alias, made.state) == ("elsewhere", "订单", KeyState.DISABLED)
    assert made.next_rotation_at == datetime(2024, 2, 29, tzinfo=UTC)
    assert made.last_rotated_at == datetime(2024, 1, 31, tzinfo=UTC)
    first, second = made.versions
    assert (first.number, first.due_at, first.encryptions) == (1, None, 0)
    assert (second.number, second.encryptions) == (2, 7)
    assert second.due_at == datetime(2024, 1, 30, 16, tzinfo=UTC)
    assert made.primary == second


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
@pytest.mark.parametrize(("spec", "material"), [("AES_256", AES_MATERIAL), ("SM4", SM4_MATERIAL)])
def test_the_same_file_makes_the_same_keys(
    lab: Lab, memory_lab: Lab, seed: Seed, provider: str, spec: str, material: str
) -> None:
    """A blob that one lab made opens in another, under the past version that it names."""
    versions = [version(number, material=material) for number in range(2)]
    path = seed(key(*versions, provider=provider, spec=spec))
    for one in (lab, memory_lab):
        one.seed(path)
    blob = lab.kms(provider).encrypt(KEY_ID, b"plain")
    memory_lab.rotate(KEY_ID)
    assert memory_lab.kms(provider).decrypt(blob) == b"plain"
    assert [v.has_material for v in key_of(memory_lab, KEY_ID).versions] == [True] * 3


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
def test_a_pair(lab: Lab, seed: Seed, pair: rsa.RSAPrivateKey, provider: str) -> None:
    lab.seed(seed(key(version(material=pem(pair)), provider=provider, spec="RSA_2048")))
    assert key_of(lab, KEY_ID).primary_version_id is None
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    sealed = b64encode(pair.public_key().encrypt(b"plain", oaep)).decode()
    if provider == TENCENT:
        opened = lab.tencent().asymmetric_rsa_decrypt(KEY_ID, sealed, OaepAlgorithm.SHA_256)
    else:
        named = (KEY_ID, VERSION_IDS[0], OaepAlgorithm.SHA_256)
        opened = lab.ctyun().asymmetric_decrypt(*named, sealed)
    assert opened == b"plain"


@pytest.mark.parametrize("state", [s for s in KeyState if s is not KeyState.PENDING_IMPORT])
def test_a_key_in_each_state(lab: Lab, seed: Seed, state: KeyState) -> None:
    dates = {"deletion_at": "2026-02-01"} if state is KeyState.PENDING_DELETION else {}
    lab.seed(seed(key(state=str(state), **dates)))
    made = key_of(lab, KEY_ID)
    assert made.state is state
    assert made.versions[0].has_material is (state is not KeyState.DELETED)
    if state is KeyState.ENABLED:
        assert lab.tencent().encrypt(KEY_ID, b"plain")
    elif state is not KeyState.DELETED:
        with pytest.raises(KeyUnavailable):
            lab.tencent().encrypt(KEY_ID, b"plain")


@pytest.mark.parametrize(
    ("provider", "state"),
    [("tencent", "pending-import"), ("ctyun", "pending-import"), ("ctyun", "archived")],
)
def test_a_state_that_such_a_key_never_has(lab: Lab, seed: Seed, provider: str, state: str) -> None:
    with pytest.raises(SeedError, match="state: "):
        lab.seed(seed(key(provider=provider, state=state)))
    assert lab.keys() == ()


def test_a_deleted_key_needs_no_material(lab: Lab, seed: Seed) -> None:
    bare = {name: value for name, value in version().items() if name != "material"}
    lab.seed(seed(key(bare, state="deleted"), key(version(1), key_id=OTHER_KEY_ID)))
    assert key_of(lab, KEY_ID).state is KeyState.DELETED
    assert key_of(lab, OTHER_KEY_ID).state is KeyState.ENABLED


def test_what_has_fallen_due_happens_at_once(lab: Lab, seed: Seed) -> None:
    """Rotations and deletions whose dates are past are the clock's, as in any lab."""
    lab.seed(
        seed(
            key(rotation_days=10, next_rotation_at="2025-12-10"),
            key(
                version(1),
                key_id=OTHER_KEY_ID,
                state="pending-deletion",
                deletion_at="2025-12-31T23:59:59Z",
            ),
        )
    )
    due = [found.due_at for found in key_of(lab, KEY_ID).versions]
    assert due == [None, *(datetime(2025, 12, day, tzinfo=UTC) for day in (10, 20, 30))]
    assert key_of(lab, OTHER_KEY_ID).state is KeyState.DELETED


# The encryptions that were made elsewhere


def test_encryptions_that_were_made_elsewhere_count(
    lab: Lab, lab_path: Path, seed: Seed, manual_clock: ManualClock
) -> None:
    lab.seed(seed(key(version(encryptions=1000))))
    for _ in range(3):
        lab.tencent().encrypt(KEY_ID, b"plain")
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as again:
        assert key_of(again, KEY_ID).versions[0].encryptions == 1003


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
def test_a_version_that_is_used_up_encrypts_no_more(
    memory_lab: Lab, seed: Seed, provider: str
) -> None:
    memory_lab.seed(seed(key(version(encryptions=2**32 - 1), provider=provider)))
    kms = memory_lab.kms(provider)
    blob = kms.encrypt(KEY_ID, b"plain")
    with pytest.raises(EncryptionLimitReached):
        kms.encrypt(KEY_ID, b"plain")
    assert kms.decrypt(blob) == b"plain"
    memory_lab.rotate(KEY_ID)
    kms.encrypt(KEY_ID, b"plain")


def test_a_version_that_is_half_used_up_warns_once(memory_lab: Lab, seed: Seed) -> None:
    memory_lab.seed(seed(key(version(encryptions=2**31 - 1))))
    with pytest.warns(EncryptionCountWarning, match="rotate the key"):
        memory_lab.tencent().encrypt(KEY_ID, b"plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(9):
            memory_lab.tencent().encrypt(KEY_ID, b"plain")


# The mark


def test_a_seeded_lab_is_unsafe_for_ever(
    lab: Lab, lab_path: Path, seed: Seed, manual_clock: ManualClock
) -> None:
    assert not lab.info().unsafe
    lab.seed(seed(key()))
    assert lab.info().unsafe
    lab.rekey()
    assert lab.info().unsafe
    lab.tencent().disable_key(KEY_ID)
    lab.tencent().schedule_key_deletion(KEY_ID, 7)
    manual_clock.advance(timedelta(days=8))
    assert key_of(lab, KEY_ID).state is KeyState.DELETED
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as again:
        assert again.info().unsafe


def test_and_so_is_a_lab_that_took_in_its_bundle(
    lab: Lab, memory_lab: Lab, seed: Seed, tmp_path: Path
) -> None:
    memory_lab.seed(seed(key()))
    memory_lab.tencent().create_key("fresh")
    memory_lab.export_bundle(tmp_path / "bundle", PASSPHRASE)
    lab.import_bundle(tmp_path / "bundle", PASSPHRASE)
    assert lab.info().unsafe
    lab.rekey()
    assert lab.info().unsafe


def test_a_seed_of_nothing_marks_too(lab: Lab, seed: Seed) -> None:
    assert lab.seed(seed()) == ()
    assert lab.info().unsafe


# What is here already


def test_keys_that_are_here_stay_as_they_are(lab: Lab, seed: Seed) -> None:
    lab.seed(seed(key(alias="orders")))
    lab.rotate(KEY_ID)
    lab.tencent().update_alias(KEY_ID, "mine")
    lab.tencent().disable_key(KEY_ID)
    before = key_of(lab, KEY_ID)
    again = seed(key(alias="orders"), key(version(1), key_id=OTHER_KEY_ID, alias="orders"))
    assert lab.seed(again) == (OTHER_KEY_ID,)
    assert key_of(lab, KEY_ID) == before
    assert lab.seed(again) == ()


def test_a_deleted_key_is_not_brought_back(lab: Lab, seed: Seed, manual_clock: ManualClock) -> None:
    path = seed(key())
    lab.seed(path)
    lab.tencent().disable_key(KEY_ID)
    lab.tencent().schedule_key_deletion(KEY_ID, 7)
    manual_clock.advance(timedelta(days=8))
    assert lab.seed(path) == ()
    assert key_of(lab, KEY_ID).state is KeyState.DELETED
    assert not key_of(lab, KEY_ID).versions[0].has_material


def test_an_alias_that_is_taken_refuses_the_whole_file(lab: Lab, seed: Seed) -> None:
    mine = lab.tencent().create_key("orders").key_id
    first = key(version(1), key_id=OTHER_KEY_ID, alias="users")
    with pytest.raises(AliasInUse, match=mine):
        lab.seed(seed(first, key(alias="orders")))
    assert [found.key_id for found in lab.keys()] == [mine]
    assert not lab.info().unsafe


# What is wrong with it

DROP = object()


def changed(key_fields: Item, version_fields: Item) -> Item:
    item = deepcopy(key(version()))
    for found, fields in ((item, key_fields), (item["versions"][0], version_fields)):
        found.update(fields)
        for name in [name for name, value in found.items() if value is DROP]:
            del found[name]
    return item


# What a key says; what its version says; how the message goes on after the key.
WRONG_KEYS: list[tuple[Item, Item, str]] = [
    ({"provider": DROP}, {}, "provider is missing"),
    ({"provider": "aws"}, {}, "provider: there is no provider aws"),
    ({"provider": 7}, {}, "provider: 7 is not a text"),
    ({"key_id": KEY_ID.upper()}, {}, "key_id "),
    ({"key_id": "orders"}, {}, "key_id "),
    ({"region": 7}, {}, "region: 7 is not a text"),
    ({"alias": ["orders"]}, {}, r"alias: \['orders'\] is not a text"),
    ({"description": 1.5}, {}, "description: 1.5 is not a text"),
    ({"description": "\ud800"}, {}, r"description: '.ud800' is not a text"),
    ({"spec": "AES_128"}, {}, "spec: 'AES_128' is not a valid KeySpec"),
    ({"spec": "aes_256"}, {}, "spec: "),
    ({"state": "lost"}, {}, "state: 'lost' is not a valid KeyState"),
    ({"state": "pending-deletion"}, {}, "deletion_at is missing"),
    ({"created_at": DROP}, {}, "created_at is missing"),
    ({"created_at": "yesterday"}, {}, "created_at: "),
    ({"created_at": 2024}, {}, "created_at: 2024 is not a time"),
    ({"created_at": START.date()}, {}, "created_at: .* is not a time"),
    ({"deletion_at": "2024-13-01"}, {}, "deletion_at: "),
    ({"next_rotation_at": True}, {}, "next_rotation_at: True is not a time"),
    ({"last_rotated_at": []}, {}, r"last_rotated_at: \[\] is not a time"),
    ({"rotation_days": 0}, {}, "rotation_days: 0 is not a number of days"),
    ({"rotation_days": 36_501}, {}, "rotation_days: 36501 is not a number of days"),
    ({"rotation_days": True}, {}, "rotation_days: True is not a number of days"),
    ({"rotation_days": "30"}, {}, "rotation_days: '30' is not a number of days"),
    ({"rotation_days": 30.0}, {}, "rotation_days: 30.0 is not a number of days"),
    ({"owner": "me"}, {}, "there is no field owner"),
    ({"versions": DROP}, {}, "versions is missing"),
    ({"versions": {}}, {}, "versions: it is not a list"),
    ({"versions": []}, {}, "versions: a key has at least one"),
    ({"versions": [7]}, {}, r"versions\[1\]: it is not a mapping"),
    ({"versions": [version(), version()]}, {}, "versions: .* each with an id of its own"),
    ({"versions": [version(0), version(1, made_at=7)]}, {}, r"versions\[2\]: made_at: 7 is not"),
    ({}, {"version_id": DROP}, r"versions\[1\]: version_id is missing"),
    ({}, {"version_id": "1"}, r"versions\[1\]: version_id "),
    ({}, {"made_at": DROP}, r"versions\[1\]: made_at is missing"),
    ({}, {"made_at": "soon"}, r"versions\[1\]: made_at: "),
    ({}, {"due_at": "soon"}, r"versions\[1\]: due_at: "),
    ({}, {"encryptions": -1}, r"versions\[1\]: encryptions: it is a number from 0 to 2\^32"),
    ({}, {"encryptions": 2**32 + 1}, r"versions\[1\]: encryptions: it is a number"),
    ({}, {"encryptions": True}, r"versions\[1\]: encryptions: it is a number"),
    ({}, {"encryptions": "7"}, r"versions\[1\]: encryptions: it is a number"),
    ({}, {"number": 1}, r"versions\[1\]: there is no field number"),
    ({}, {"material": DROP}, r"versions\[1\]: material is missing"),
    ({}, {"material": 7}, r"versions\[1\]: material: it is not a text"),
    ({}, {"material": ""}, r"versions\[1\]: material: material of AES_256 has 32 bytes"),
    ({}, {"material": SM4_MATERIAL}, r"versions\[1\]: material: material of AES_256 has 32 bytes"),
    ({"spec": "SM4"}, {}, r"versions\[1\]: material: material of SM4 has 16 bytes"),
    ({}, {"material": AES_MATERIAL[:-1]}, r"versions\[1\]: material: .* base64"),
    ({}, {"material": AES_MATERIAL + "\n"}, r"versions\[1\]: material: .* base64"),
    ({}, {"material": "é" * 44}, r"versions\[1\]: material: .* base64"),
    ({"spec": "RSA_2048"}, {}, r"versions\[1\]: material: not an unencrypted private key"),
]


@pytest.mark.parametrize(("key_fields", "version_fields", "message"), WRONG_KEYS)
def test_what_is_wrong_is_named_with_its_key(
    memory_lab: Lab, seed: Seed, key_fields: Item, version_fields: Item, message: str
) -> None:
    wrong = changed(key_fields, version_fields)
    good = key(version(5), key_id=OTHER_KEY_ID)
    path = seed(good, wrong)
    before = memory_lab.info()
    with pytest.raises(SeedError, match=message) as caught:
        memory_lab.seed(path)
    assert str(caught.value).startswith(f"{path}: key 2 ({wrong['key_id']}): ")
    for version_ in wrong.get("versions", []):
        material = str(version_.get("material", "")) if isinstance(version_, dict) else ""
        assert len(material) < 2 or material not in str(caught.value)
    assert memory_lab.info() == before
    assert memory_lab.keys() == ()


@pytest.mark.parametrize("item", [7, None, "key", [], {"provider": TENCENT}, key(key_id=7)])
def test_a_key_without_an_id_is_named_by_its_number(
    memory_lab: Lab, seed: Seed, item: object
) -> None:
    path = seed(key(), item)
    with pytest.raises(SeedError) as caught:
        memory_lab.seed(path)
    assert str(caught.value).startswith(f"{path}: key 2: ")
    assert memory_lab.keys() == ()


def test_a_pair_of_another_size(memory_lab: Lab, seed: Seed) -> None:
    small = rsa.generate_private_key(65537, 1024)
    with pytest.raises(SeedError, match=r"material: not an RSA key of 2048 bits"):
        memory_lab.seed(seed(key(version(material=pem(small)), spec="RSA_2048")))


def test_two_keys_of_one_id(memory_lab: Lab, seed: Seed) -> None:
    with pytest.raises(SeedError, match=rf"key 2 \({KEY_ID}\): key_id: there is a key"):
        memory_lab.seed(seed(key(), key(version(1))))
    assert memory_lab.keys() == ()


def test_two_keys_with_one_version(memory_lab: Lab, seed: Seed) -> None:
    with pytest.raises(SeedError, match=rf"key 2 \({OTHER_KEY_ID}\): version_id: {VERSION_IDS[0]}"):
        memory_lab.seed(seed(key(), key(key_id=OTHER_KEY_ID)))
    memory_lab.seed(seed(key()))
    with pytest.raises(SeedError, match=rf"key 1 \({OTHER_KEY_ID}\): version_id: {VERSION_IDS[0]}"):
        memory_lab.seed(seed(key(key_id=OTHER_KEY_ID)))


WRONG_FILES = [
    ("", "not a seed file"),
    ("7", "not a seed file"),
    ("keys: []", "no line `format: kmslab-seed-1`"),
    ("format: kmslab-seed-2\nkeys: []", "no line `format: kmslab-seed-1`"),
    ("format: kmslab-seed-1", "a list `keys`"),
    ("format: kmslab-seed-1\nkeys: {}", "a list `keys`"),
    ("format: kmslab-seed-1\nkeys: []\nkey: []", "nothing else"),
    ("format: [", "is not YAML"),
    ("format: !!python/object:os.system x", "is not YAML"),
    ("format: kmslab-seed-1\nkeys: &keys [*keys]", "is not YAML"),
    ("[" * 1000, "is not YAML"),
    ('format: kmslab-seed-1\nkeys: [{"material": "\\ud800"}]', "is not YAML"),
    ("\x00", "is not YAML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG_FILES)
def test_a_file_that_is_no_seed_file(
    memory_lab: Lab, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "seed.yaml"
    path.write_text(text)
    with pytest.raises(SeedError, match=message) as caught:
        memory_lab.seed(path)
    assert str(caught.value).startswith(str(path))
    assert not memory_lab.info().unsafe


def test_a_file_that_is_no_text(memory_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "seed.yaml").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(SeedError, match="is not YAML"):
        memory_lab.seed(tmp_path / "seed.yaml")


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_file_that_cannot_be_read(memory_lab: Lab, tmp_path: Path, name: str) -> None:
    with pytest.raises(SeedError, match="cannot be read: "):
        memory_lab.seed(tmp_path / name)
