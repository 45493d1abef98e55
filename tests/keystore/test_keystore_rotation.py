"""Rotation: one version for each date that came due, made when the key is next used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystore_labs import key_of, rows

from kmslab import Lab, ManualClock, crypto
from kmslab.crypto import Aead, generate_rsa_2048
from kmslab.errors import KmsError, LabError
from kmslab.keystore import rotation
from kmslab.keystore.sealing import Subkeys
from kmslab.keystore.units import KeyRow
from kmslab.model import KeyOrigin, KeySpec, KeyState

DAY = timedelta(days=1)


@pytest.fixture
def key_id(lab: Lab) -> str:
    """A key that rotates every 30 days."""
    kms = lab.tencent()
    key = kms.create_key("orders")
    kms.enable_key_rotation(key.key_id, rotate_days=30)
    return key.key_id


def test_nothing_is_due_before_its_date(lab: Lab, manual_clock: ManualClock, key_id: str) -> None:
    manual_clock.advance(30 * DAY - timedelta(microseconds=1))
    assert len(key_of(lab, key_id).versions) == 1
    manual_clock.advance(timedelta(microseconds=1))
    assert len(key_of(lab, key_id).versions) == 2


@pytest.mark.parametrize("late", [0, 1, 29])
@pytest.mark.parametrize("missed", [1, 2, 7])
def test_each_missed_period_has_its_version(
    lab: Lab, manual_clock: ManualClock, key_id: str, missed: int, late: int
) -> None:
    start = manual_clock.now()
    old = lab.tencent().encrypt(key_id, b"plain")
    manual_clock.advance(DAY * (30 * missed + late))
    new = lab.tencent().encrypt(key_id, b"plain")
    key = key_of(lab, key_id)
    first, *made = key.versions
    assert first.due_at is None
    assert [v.due_at for v in made] == [start + 30 * DAY * n for n in range(1, missed + 1)]
    assert {v.made_at for v in made} == {manual_clock.now()}
    assert [v.number for v in key.versions] == list(range(1, missed + 2))
    assert key.primary == made[-1]
    assert key.next_rotation_at == start + 30 * DAY * (missed + 1)
    assert key.last_rotated_at == start + 30 * DAY * missed
    assert lab.tencent().decrypt(old) == lab.tencent().decrypt(new) == b"plain"
    assert lab.tencent().re_encrypt(old).re_encrypted
    assert not lab.tencent().re_encrypt(new).re_encrypted
    automatic = [e for e in lab.audit.entries() if e.action == "AutomaticRotation"]
    assert [e.version_id for e in automatic] == [v.version_id for v in made]
    assert {e.who for e in automatic} == {"clock"}


def test_it_happens_once_in_two_labs(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    with Lab.open(lab_path, clock=manual_clock) as other:
        manual_clock.advance(60 * DAY)
        assert key_of(other, key_id).versions == key_of(lab, key_id).versions
        assert len(key_of(lab, key_id).versions) == 3


def test_it_happens_when_the_lab_is_opened(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, key_id: str
) -> None:
    lab.close()
    manual_clock.advance(60 * DAY)
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert len(key_of(opened, key_id).versions) == 3


def test_dates_that_pass_while_a_key_is_disabled_are_skipped(
    lab: Lab, manual_clock: ManualClock, key_id: str
) -> None:
    start = manual_clock.now()
    lab.tencent().disable_key(key_id)
    manual_clock.advance(100 * DAY)
    assert len(key_of(lab, key_id).versions) == 1
    lab.tencent().enable_key(key_id)
    key = key_of(lab, key_id)
    assert len(key.versions) == 1
    assert key.next_rotation_at == start + 120 * DAY
    manual_clock.set(start + 120 * DAY)
    assert [v.due_at for v in key_of(lab, key_id).versions] == [None, start + 120 * DAY]


@pytest.mark.parametrize("days", [7, 30, 365])
def test_another_interval_begins_now(
    lab: Lab, manual_clock: ManualClock, key_id: str, days: int
) -> None:
    manual_clock.advance(10 * DAY)
    lab.tencent().enable_key_rotation(key_id, rotate_days=days)
    assert key_of(lab, key_id).next_rotation_at == manual_clock.now() + days * DAY
    manual_clock.advance(days * DAY)
    assert len(key_of(lab, key_id).versions) == 2


def test_rotation_that_is_off_does_not_happen(
    lab: Lab, manual_clock: ManualClock, key_id: str
) -> None:
    lab.tencent().disable_key_rotation(key_id)
    manual_clock.advance(1000 * DAY)
    assert len(key_of(lab, key_id).versions) == 1
    assert key_of(lab, key_id).next_rotation_at is None


def test_rotating_by_hand_puts_the_date_off(
    lab: Lab, manual_clock: ManualClock, key_id: str
) -> None:
    manual_clock.advance(20 * DAY)
    lab.rotate(key_id)
    assert key_of(lab, key_id).next_rotation_at == manual_clock.now() + 30 * DAY
    assert [v.due_at for v in key_of(lab, key_id).versions] == [None, None]


@pytest.mark.parametrize("spec", list(KeySpec))
def test_every_version_has_material_of_its_own(
    memory_lab: Lab, spec: KeySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crypto, "generate_rsa_2048", generate_rsa_2048)
    kms = memory_lab.ctyun()
    key = kms.create_key(spec=spec)
    for _ in range(2):
        if spec.symmetric:
            memory_lab.rotate(key.key_id)
        else:
            kms.create_key_version(key.key_id)
    unit = memory_lab._keystore.unit(key.key_id)
    materials = {memory_lab._keystore.material(h).expose() for h in unit.handles.values()}
    assert len(materials) == len({h.row.sealed for h in unit.handles.values()}) == 3
    assert (unit.primary is not None) == spec.symmetric


def test_imported_material_does_not_rotate(memory_lab: Lab) -> None:
    key = memory_lab.tencent().create_key("mine", origin=KeyOrigin.EXTERNAL)
    with pytest.raises(KmsError):
        memory_lab.rotate(key.key_id)
    assert len(key_of(memory_lab, key.key_id).versions) == 1


class Forgetful:
    """A cipher that seals well and opens to something else."""

    def __init__(self, inner: Aead) -> None:
        self._inner = inner

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes | None) -> bytes:
        return self._inner.encrypt(nonce, data, aad)

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes | None) -> bytes:
        return self._inner.decrypt(nonce, data, aad)[:-1] + b"?"


def break_cipher(patch: pytest.MonkeyPatch) -> None:
    real = crypto.aead
    patch.setattr(crypto, "aead", lambda spec, key: Forgetful(real(spec, key)))


def break_pair(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crypto, "oaep_decrypt", lambda *args: b"?")


def break_seal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Subkeys, "seal", lambda self, *args: bytes(60))


@pytest.mark.parametrize(
    ("broken", "refused"),
    [
        (break_cipher, ["rotate", "create"]),
        (break_pair, ["version"]),
        (break_seal, ["rotate", "version", "create"]),
    ],
)
def test_a_version_that_fails_its_test_never_becomes_one(
    lab: Lab,
    lab_path: Path,
    manual_clock: ManualClock,
    key_id: str,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
    refused: list[str],
) -> None:
    kms = lab.ctyun()
    pair = kms.create_key(spec=KeySpec.RSA_2048).key_id
    blob = lab.tencent().encrypt(key_id, b"plain")
    lab._keystore.flush()
    before = [lab.keys(), *(rows(lab_path, table) for table in ("versions", "keys"))]
    asks: dict[str, Callable[[], object]] = {
        "rotate": lambda: lab.rotate(key_id),
        "version": lambda: kms.create_key_version(pair),
        "create": lambda: kms.create_key(alias="new"),
    }
    with monkeypatch.context() as patch:
        broken(patch)
        for name in refused:
            with pytest.raises(LabError):
                asks[name]()
    assert [lab.keys(), *(rows(lab_path, table) for table in ("versions", "keys"))] == before
    assert lab.tencent().decrypt(blob) == b"plain"
    lab.close()
    with Lab.open(lab_path, clock=manual_clock) as opened:
        assert opened.tencent().decrypt(blob) == b"plain"
        assert opened.audit.verify().intact


def row(next_rotation_at: int | None, days: int | None) -> KeyRow:
    return KeyRow(
        key_id="k",
        provider="tencent",
        region="r",
        spec=KeySpec.AES_256,
        origin=KeyOrigin.KMS,
        state=KeyState.ENABLED,
        alias="",
        description="",
        created_at=0,
        rotation_days=days,
        next_rotation_at=next_rotation_at,
    )


@given(st.integers(0, 10**16), st.integers(7, 365), st.integers(0, 400 * rotation.DAY))
def test_due_dates_and_the_next_one_make_one_calendar(first: int, days: int, passed: int) -> None:
    now = first - 30 * rotation.DAY + passed
    due = rotation.due_dates(row(first, days), now)
    after = rotation.next_after(row(first, days), now)
    calendar = [first + n * days * rotation.DAY for n in range(len(due) + 1)]
    assert [*due, after] == calendar
    assert all(date <= now for date in due)
    assert after is not None
    assert after > now


@given(st.integers(0, 10**16))
def test_a_key_that_does_not_rotate_has_no_dates(now: int) -> None:
    for nothing in (row(None, None), row(5, None), row(None, 7)):
        assert rotation.due_dates(nothing, now) == []
        assert rotation.next_after(nothing, now) is None
