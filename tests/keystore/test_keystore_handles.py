"""Two handles on one lab: faults added at once, a bell that is cut, a log that was changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from keystore_labs import Servant, execute

from kmslab import Lab, ManualClock
from kmslab.errors import SettingError, TamperedLab
from kmslab.keystore.bell import BELL_FILE


def interrupted(one: Lab, act: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Have `act` happen once within the next change of faults, before it is written."""
    act_for, waiting = one.faults._act_for, [act]

    def acting(action: str) -> Any:
        if waiting:
            waiting.pop()()
        return act_for(action)

    patch.setattr(one.faults, "_act_for", acting)


def test_faults_added_at_once_are_all_kept(
    lab: Lab, lab_path: Path, manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lab.open(lab_path, clock=manual_clock) as other:
        interrupted(lab, lambda: other.faults.add("reEncrypt", "LAB.InternalError"), monkeypatch)
        lab.faults.add("ReEncrypt", "InternalError", count=2)
        found = [(fault["action"], fault["count"]) for fault in lab.faults.all()]
        assert sorted(found) == [("ReEncrypt", 2), ("reEncrypt", 1)]
        assert other.faults.all() == lab.faults.all()
        # What is used up meanwhile does not come back.
        interrupted(other, lambda: lab.faults.clear(), monkeypatch)
        other.faults.add("Encrypt", "InternalError")
        assert [fault["action"] for fault in lab.faults.all()] == ["Encrypt"]


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("NoSuchCall", "InternalError"),
        ("reencrypt", "LAB.InternalError"),
        ("", "InternalError"),
        ("*", "x"),
    ],
)
def test_a_fault_of_no_call_is_refused(lab: Lab, action: str, code: str) -> None:
    with pytest.raises(SettingError, match="neither provider has a call"):
        lab.faults.add(action, code)
    assert lab.faults.all() == []


@pytest.mark.sqlite("the bell")
def test_a_bell_that_is_cut_ends_no_process_and_hides_nothing(lab_path: Path) -> None:
    with Lab.create(lab_path) as lab:
        key = lab.tencent().create_key("orders").key_id
    with Servant(lab_path) as one, Servant(lab_path) as two:
        versions = {one.ask("primary", key), two.ask("primary", key)}
        assert len(versions) == 1
        for number in range(4):
            os.truncate(lab_path / BELL_FILE, 0)
            changing, looking = (one, two) if number % 2 else (two, one)
            assert looking.ask("primary", key) in versions
            made = changing.ask("rotate", key)
            assert len(made) == 36
            assert made not in versions
            assert looking.ask("primary", key) == made
            versions.add(made)
        assert one.ask("audit") == two.ask("audit") == "True"


def test_each_handle_tells_the_end_of_the_log(
    lab: Lab, lab_path: Path, manual_clock: ManualClock
) -> None:
    kms = lab.tencent()
    blob = kms.encrypt(kms.create_key("orders").key_id, b"x")
    with Lab.open(lab_path, clock=manual_clock) as other:
        for _ in range(3):
            kms.re_encrypt_many([blob])
            rows = lab.info().audit_rows
            assert other.info().audit_rows >= rows


@pytest.mark.sqlite("the bell")
def test_the_bell_rings_for_changes_and_not_for_what_is_only_audited(
    lab: Lab, lab_path: Path
) -> None:
    def bell() -> bytes:
        return (lab_path / BELL_FILE).read_bytes()

    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    blobs = kms.encrypt_many([b"x"] * 3, key_id=key).ciphertext_blob
    rows = lab.info().audit_rows
    quiet = bell()
    assert kms.re_encrypt_many(blobs).re_encrypted == [False] * 3
    assert bell() == quiet
    assert lab.info().audit_rows > rows
    lab.rotate(key)
    assert bell() != quiet


@pytest.mark.sqlite("PostgreSQL keeps columns to their types")
@pytest.mark.parametrize(
    ("column", "value"), [("at", "noon"), ("at", 1.5), ("count", "many"), ("who", b"\xff")]
)
def test_a_log_that_no_lab_writes_is_not_shown(
    lab: Lab, lab_path: Path, column: str, value: object
) -> None:
    lab.tencent().create_key("orders")
    assert lab.audit.entries()
    seq = "(SELECT max(seq) FROM audit)"
    execute(lab_path, f'UPDATE audit SET "{column}" = ? WHERE seq = {seq}', value)
    with pytest.raises(TamperedLab, match="audit"):
        lab.audit.entries()
    assert not lab.audit.verify().intact
