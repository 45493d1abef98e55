"""Settings, faults and credentials, by the lab's own interface."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystore_labs import rows

from kmslab import Lab, ManualClock
from kmslab.errors import CredentialError, KmsError, SettingError, Unauthorized
from kmslab.keystore import credentials
from kmslab.keystore.credentials import Credential
from kmslab.model import KeySpec

OTHER_KEY = "00000000-0000-4000-8000-000000000000"


def test_a_new_lab_has_the_settings_of_the_design(lab: Lab) -> None:
    assert lab.settings.all() == {"balance": 100, "cmk_uuid": "destination"}
    assert lab.info().settings == lab.settings.all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("balance", 0), ("balance", -1.5), ("balance", 10**30), ("cmk_uuid", "source")],
)
def test_a_setting_is_kept(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, name: str, value: object
) -> None:
    lab.settings.set(name, value)
    assert lab.settings.all()[name] == value
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert opened.settings.all()[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("balance", "7"),
        ("balance", True),
        ("balance", None),
        ("balance", float("nan")),
        ("balance", float("inf")),
        ("balance", -float("inf")),
        ("cmk_uuid", "both"),
        ("cmk_uuid", None),
        ("faults", []),
        ("nonsense", 7),
        ("", 7),
    ],
)
def test_no_other_setting_is_taken(lab: Lab, name: str, value: object) -> None:
    before = lab.settings.all()
    with pytest.raises(SettingError):
        lab.settings.set(name, value)
    assert lab.settings.all() == before


# Faults


def test_a_fault_happens_as_often_as_asked(lab: Lab) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    lab.faults.add("Encrypt", "InternalError", count=2)
    assert lab.faults.all() == [{"action": "Encrypt", "code": "InternalError", "count": 2}]
    for left in (1, 0):
        with pytest.raises(KmsError):
            kms.encrypt(key, b"plain")
        assert sum(fault["count"] for fault in lab.faults.all()) == left
    assert lab.faults.all() == []
    assert kms.encrypt(key, b"plain")


def test_faults_are_met_in_order_and_by_their_action_alone(lab: Lab) -> None:
    kms = lab.ctyun()
    key = kms.create_key(alias="orders").key_id
    lab.faults.add("decrypt", "KMS.0107")
    lab.faults.add("encrypt", "KMS.0107")
    blob_refused = 0
    try:
        kms.encrypt(key, b"plain")
    except KmsError:
        blob_refused = 1
    assert blob_refused == 1
    blob = kms.encrypt(key, b"plain")
    with pytest.raises(KmsError):
        kms.decrypt(blob)
    assert kms.decrypt(blob) == b"plain"


def test_faults_outlive_the_lab_that_is_open(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    with Lab.open(lab_path, clock=manual_clock) as other:
        other.faults.add("Encrypt", "InternalError")
        with pytest.raises(KmsError):
            kms.encrypt(key, b"plain")
        assert other.faults.all() == []
        lab.faults.add("Encrypt", "InternalError", count=9)
        other.faults.clear()
    assert kms.encrypt(key, b"plain")


@pytest.mark.parametrize(
    ("action", "code", "count"),
    [
        ("Encrypt", "InternalError", 0),
        ("Encrypt", "InternalError", -1),
        ("Encrypt", "NoSuchCode", 1),
        ("encrypt", "InternalError", 1),
        ("Encrypt", "KMS.0107", 1),
    ],
)
def test_no_other_fault_is_taken(lab: Lab, action: str, code: str, count: int) -> None:
    with pytest.raises(SettingError):
        lab.faults.add(action, code, count=count)
    assert lab.faults.all() == []


# Credentials


def test_a_credential_shows_its_secret_once(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    made = lab.credentials.create("app", rights=["Encrypt"])
    secret = made.secret_key.expose()
    assert len(secret) == 32
    assert secret.isalnum()
    assert made.credential.secret_id.startswith("KLID")
    assert secret.decode() not in f"{made} {made!r} {made.credential!r} {lab.credentials.list()!r}"
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        (found,) = opened.credentials.list()
        assert found == made.credential
        kept = credentials.secret_key(opened._keystore, found.secret_id)
        assert kept.expose() == secret
        opened.rekey()
        assert credentials.secret_key(opened._keystore, found.secret_id).expose() == secret


def test_credentials_are_listed_oldest_first(lab: Lab, manual_clock: ManualClock) -> None:
    for name in ("b", "a", "c"):
        lab.credentials.create(name)
        manual_clock.advance(timedelta(seconds=1))
    lab.credentials.revoke("a")
    assert [c.name for c in lab.credentials.list()] == ["b", "a", "c"]
    assert [c.revoked_at is not None for c in lab.credentials.list()] == [False, True, False]
    again = lab.credentials.create("a").credential
    assert again.secret_id not in {c.secret_id for c in lab.credentials.list()[:3]}
    assert len(lab.credentials.list()) == 4


def test_a_credential_is_revoked_by_name_or_secret_id(lab: Lab) -> None:
    first, second = (lab.credentials.create(name).credential for name in ("a", "b"))
    lab.credentials.revoke("a")
    lab.credentials.revoke(second.secret_id)
    for name in ("a", "b", first.secret_id, "nobody"):
        with pytest.raises(CredentialError, match="no credential"):
            lab.credentials.revoke(name)
        with pytest.raises(CredentialError):
            lab.tencent(credential=name)
    with pytest.raises(CredentialError):
        credentials.secret_key(lab._keystore, first.secret_id)


@pytest.mark.parametrize("name", ["", "-x", ".", "a b", "a/b", "名", "x" * 65, "a\n"])
def test_names_that_are_none(lab: Lab, name: str) -> None:
    with pytest.raises(CredentialError):
        lab.credentials.create(name)


def test_a_name_is_in_force_once(lab: Lab) -> None:
    lab.credentials.create("app")
    with pytest.raises(CredentialError, match="revoke it first"):
        lab.credentials.create("app")


@pytest.mark.parametrize(
    "right", ["", "Encrypt:", ":x", "Encrypt:orders", "En crypt", "**", f"Encrypt:{OTHER_KEY}:x"]
)
def test_rights_that_are_none(lab: Lab, right: str) -> None:
    with pytest.raises(CredentialError, match=r"a right is ACTION|neither provider has a call"):
        lab.credentials.create("app", rights=["Decrypt", right])
    assert lab.credentials.list() == ()


Calls = dict[str, Callable[[], object]]


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        (None, {"Encrypt", "Decrypt", "Encrypt other", "DescribeKey", "CreateKey"}),
        ([], set()),
        (["*"], {"Encrypt", "Decrypt", "Encrypt other", "DescribeKey", "CreateKey"}),
        (["Encrypt"], {"Encrypt", "Encrypt other"}),
        (["Encrypt:KEY"], {"Encrypt"}),
        (["*:KEY"], {"Encrypt", "Decrypt", "DescribeKey"}),
        (["Decrypt", "DescribeKey:OTHER"], {"Decrypt"}),
        (["encrypt"], set()),
    ],
)
def test_rights_are_kept(lab: Lab, rights: list[str] | None, allowed: set[str]) -> None:
    owner = lab.tencent()
    key, other = (owner.create_key(alias).key_id for alias in ("orders", "other"))
    blob = owner.encrypt(key, b"plain")
    named = rights and [r.replace("KEY", key).replace("OTHER", other) for r in rights]
    lab.credentials.create("app", rights=named if rights is not None else None)
    kms = lab.tencent(credential="app")
    calls: Calls = {
        "Encrypt": lambda: kms.encrypt(key, b"plain"),
        "Encrypt other": lambda: kms.encrypt(other, b"plain"),
        "Decrypt": lambda: kms.decrypt(blob),
        "DescribeKey": lambda: kms.describe_key(key),
        "CreateKey": lambda: kms.create_key("more"),
    }
    for name, call in calls.items():
        if name in allowed:
            assert call()
        else:
            with pytest.raises(Unauthorized):
                call()
    who = {e.who for e in lab.audit.entries() if e.outcome.endswith("UnauthorizedOperation")}
    assert who <= {"app"}


def test_a_move_needs_rights_on_both_keys(lab: Lab) -> None:
    owner = lab.tencent()
    key, other = (owner.create_key(alias).key_id for alias in ("orders", "other"))
    blob = owner.encrypt(key, b"plain")
    for rights in ([f"ReEncrypt:{key}"], [f"ReEncrypt:{other}"], ["Encrypt", "Decrypt"]):
        lab.credentials.create("app", rights=rights)
        kms = lab.tencent(credential="app")
        with pytest.raises(Unauthorized):
            kms.re_encrypt(blob, destination_key_id=other)
        assert kms.re_encrypt_many([blob], destination_key_ids=other).error[0] is not None
        lab.credentials.revoke("app")
    lab.credentials.create("app", rights=[f"ReEncrypt:{key}", f"ReEncrypt:{other}"])
    assert lab.tencent(credential="app").re_encrypt(blob, destination_key_id=other).re_encrypted


def test_credentials_are_sealed(lab: Lab, lab_path: Path) -> None:
    secrets = [lab.credentials.create(f"app{n}").secret_key.expose() for n in range(3)]
    for row in rows(lab_path, "credentials"):
        assert all(secret not in row["sealed"] for secret in secrets)
    assert len(set(secrets)) == 3


@given(st.binary(min_size=32, max_size=4096))
def test_letters_are_drawn_evenly(data: bytes) -> None:
    drawn = iter(data * 400)
    letters = credentials._letters(lambda size: bytes(next(drawn) % 248 for _ in range(size)), 32)
    assert len(letters) == 32
    assert letters.isalnum()


@given(st.sampled_from(["Encrypt", "Decrypt"]), st.sampled_from([OTHER_KEY, None, ""]))
def test_a_revoked_credential_may_nothing(action: str, key_id: str | None) -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert Credential("id", "app", None, now).allows(action, key_id)
    assert not Credential("id", "app", None, now, now).allows(action, key_id)
    assert not Credential("id", "app", (), now).allows(action, key_id)


def test_a_pair_is_under_rights_too(lab: Lab) -> None:
    owner = lab.ctyun()
    pair = owner.create_key(spec=KeySpec.RSA_2048)
    lab.credentials.create("app", rights=["getPublicKey"])
    kms = lab.ctyun(credential="app")
    version = pair.versions[0].version_id
    assert kms.get_public_key(pair.key_id, version).pem
    with pytest.raises(Unauthorized):
        kms.asymmetric_encrypt(pair.key_id, version, "RSAES_OAEP_SHA_256", b"plain")
