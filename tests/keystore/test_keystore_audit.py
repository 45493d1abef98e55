"""The audit log says what was done, and shows what was done to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from keystore_labs import Servant, execute, replace_rows, rows
from lab_stores import REFUSED, copy

from kmslab import Lab, ManualClock
from kmslab.errors import AliasInUse, KmsError, TamperedLab
from kmslab.keystore.audit import AuditEntry, AuditMode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed lab with ten rows or more in its log."""
    path = tmp_path_factory.mktemp("made") / "lab"
    with Lab.create(path) as lab:
        kms = lab.tencent()
        key = kms.create_key("orders")
        for _ in range(4):
            lab.rotate(key.key_id)
            kms.encrypt(key.key_id, b"plain")
        lab.settings.set("balance", 5)
    assert len(rows(path, "audit")) >= 10
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return copy(made, tmp_path / "lab")


def verified(path: Path) -> int | None:
    with Lab.open(path) as lab:
        check = lab.audit.verify()
        assert check.intact == (check.broken_at is None)
        return check.broken_at


COLUMNS = {
    "at": 1,
    "who": "mallory",
    "provider": "aws",
    "action": "Decrypt",
    "key_id": "00000000-0000-4000-8000-000000000000",
    "version_id": None,
    "source_key_id": "x",
    "source_version_id": "x",
    "outcome": "Refused",
    "request_id": "x",
    "last_request_id": "x",
    "count": 2,
    "mac": bytes(32),
}
TYPES = [(name, value) for name in COLUMNS for value in (0.5, b"x", "7\0")]


def test_a_log_that_nobody_touched_is_intact(path: Path) -> None:
    assert verified(path) is None


@pytest.mark.parametrize(("column", "value"), [*COLUMNS.items(), *TYPES])
def test_an_edited_row_is_found(path: Path, column: str, value: object) -> None:
    try:
        execute(path, f'UPDATE audit SET "{column}" = ? WHERE seq = 4', value)
    except REFUSED:
        return  # the database itself does not have it
    assert verified(path) == 4


LOG: dict[str, tuple[tuple[str, ...], int]] = {
    "first deleted": (("DELETE FROM audit WHERE seq = 1",), 1),
    "one deleted": (("DELETE FROM audit WHERE seq = 4",), 4),
    "deleted and closed up": (
        ("DELETE FROM audit WHERE seq = 4", "UPDATE audit SET seq = seq - 1 WHERE seq > 4"),
        4,
    ),
    "last two deleted": (("DELETE FROM audit WHERE seq > (SELECT max(seq) - 2 FROM audit)",), -1),
    "every one deleted": (("DELETE FROM audit",), 1),
    "swapped": (
        (
            "UPDATE audit SET seq = -4 WHERE seq = 4",
            "UPDATE audit SET seq = 4 WHERE seq = 5",
            "UPDATE audit SET seq = 5 WHERE seq = -4",
        ),
        4,
    ),
    "inserted": (
        (
            "INSERT INTO audit SELECT 4.5, at, who, provider, action, key_id, version_id, "
            "source_key_id, source_version_id, outcome, request_id, last_request_id, count, mac "
            "FROM audit WHERE seq = 4",
        ),
        5,
    ),
    "inserted before the first": (
        (
            "INSERT INTO audit SELECT 0, at, who, provider, action, key_id, version_id, "
            "source_key_id, source_version_id, outcome, request_id, last_request_id, count, mac "
            "FROM audit WHERE seq = 1",
        ),
        1,
    ),
    "copied over another": (
        (
            "UPDATE audit SET (action, mac) = (SELECT action, mac FROM audit WHERE seq = 3) "
            "WHERE seq = 6",
        ),
        6,
    ),
}


@pytest.mark.parametrize(("statements", "broken"), LOG.values(), ids=LOG.keys())
def test_a_log_that_was_changed_is_found(
    path: Path, statements: tuple[str, ...], broken: int
) -> None:
    count = len(rows(path, "audit"))
    try:
        for statement in statements:
            execute(path, statement)
    except REFUSED:
        return
    with Lab.open(path) as lab:
        check = lab.audit.verify()
    assert not check.intact
    assert check.broken_at == (broken if broken > 0 else count - 1)


def test_a_log_that_goes_on_is_refused(path: Path) -> None:
    last = rows(path, "audit")[-1]
    replace_rows(path, "audit", [{**last, "seq": last["seq"] + 1}], "seq = -1")
    with pytest.raises(TamperedLab, match="audit row was added"):
        Lab.open(path)


def test_a_broken_log_is_not_blessed_by_a_rekey(path: Path) -> None:
    execute(path, "UPDATE audit SET who = 'mallory' WHERE seq = 4")
    with Lab.open(path) as lab, pytest.raises(TamperedLab, match="broken at row 4"):
        lab.rekey()
    assert verified(path) == 4


def test_a_killed_process_shows_an_open_end(path: Path) -> None:
    with Lab.open(path) as lab:
        key_id = lab.key("orders").key_id
    with Servant(path) as servant:
        servant.ask("encrypt", key_id, "3")
        with Lab.open(path) as lab:
            assert lab.audit.verify().open_ends == 1  # it is still at work
        servant.kill()
    with Lab.open(path) as lab:
        check = lab.audit.verify()
        assert (check.intact, check.open_ends) == (True, 1)
    with Servant(path) as servant:
        servant.ask("encrypt", key_id, "3")
    with Lab.open(path) as lab:
        assert lab.audit.verify().open_ends == 1  # the second one ended well


def entries(lab: Lab, action: str) -> list[AuditEntry]:
    return [entry for entry in lab.audit.entries() if entry.action == action]


def test_like_calls_share_a_row(lab: Lab) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders")
    blobs = [kms.encrypt(key.key_id, b"plain", context={"tenant": "canary"}) for _ in range(5)]
    for blob in blobs[:2]:
        kms.decrypt(blob, context={"tenant": "canary"})
        with pytest.raises(KmsError) as refused:
            kms.decrypt(blob)
    encrypted = entries(lab, "Encrypt")
    good, bad = entries(lab, "Decrypt")
    assert sum(entry.count for entry in encrypted) == 5
    for entry in (*encrypted, good):
        assert (entry.outcome, entry.key_id) == ("ok", key.key_id)
        assert entry.version_id == key.primary_version_id
    assert (good.count, bad.count) == (2, 2)
    assert good.request_id != good.last_request_id
    assert bad.outcome == "InvalidParameterValue.InvalidCiphertext"
    assert bad.last_request_id == refused.value.request_id
    assert all(str(blob) not in repr(lab.audit.entries()) for blob in blobs)
    assert "canary" not in repr(lab.audit.entries())


def test_the_last_rows(lab: Lab) -> None:
    lab.tencent().create_key("orders")
    lab.settings.set("balance", 1)
    assert [entry.action for entry in lab.audit.entries(last=1)] == ["Set balance"]
    assert lab.audit.entries(last=99) == lab.audit.entries()


CHANGES: dict[str, Callable[[Lab, str], object]] = {
    "CreateKey": lambda lab, key: lab.tencent().create_key("more"),
    "RotateNow": lambda lab, key: lab.rotate(key),
    "DisableKey": lambda lab, key: lab.tencent().disable_key(key),
    "UpdateAlias": lambda lab, key: lab.tencent().update_alias(key, "other"),
    "Set balance": lambda lab, key: lab.settings.set("balance", 7),
    "AddFault Encrypt": lambda lab, key: lab.faults.add("Encrypt", "InternalError"),
    "ClearFaults": lambda lab, key: lab.faults.clear(),
    "CreateCredential": lambda lab, key: lab.credentials.create("app"),
    "Rekey": lambda lab, key: lab.rekey(),
    "ReEncrypt": lambda lab, key: lab.tencent().re_encrypt_many([lab.tencent().encrypt(key, b"x")]),
}


@pytest.mark.parametrize(("action", "change"), CHANGES.items(), ids=CHANGES.keys())
def test_a_change_is_in_the_log_when_it_returns(
    lab: Lab, lab_path: Path, action: str, change: Callable[[Lab, str], object]
) -> None:
    key = lab.tencent().create_key("orders")
    change(lab, key.key_id)
    assert rows(lab_path, "audit")[-1]["action"] == action
    assert lab.audit.verify().intact


def test_a_refused_change_is_not_in_the_log_as_done(lab: Lab) -> None:
    kms = lab.tencent()
    kms.create_key("orders")
    before = lab.info().audit_rows
    with pytest.raises(AliasInUse):
        kms.create_key("orders")
    outcomes = [e.outcome for e in lab.audit.entries()[before:] if e.action == "CreateKey"]
    assert len(outcomes) == 1
    assert outcomes != ["ok"]


def test_sync_makes_each_call_durable(tmp_path: Path, manual_clock: ManualClock) -> None:
    path = tmp_path / "lab"
    with Lab.create(path, clock=manual_clock, audit=AuditMode.SYNC) as lab:
        kms = lab.tencent()
        key = kms.create_key("orders")
        for number in range(1, 4):
            kms.encrypt(key.key_id, b"plain")
            assert [r["action"] for r in rows(path, "audit")].count("Encrypt") == number


def test_grouped_calls_are_durable_within_a_second(lab: Lab, lab_path: Path) -> None:
    import time

    kms = lab.tencent()
    key = kms.create_key("orders")
    kms.encrypt(key.key_id, b"plain")
    until = time.monotonic() + 60
    while rows(lab_path, "audit")[-1]["action"] != "Encrypt" and time.monotonic() < until:
        time.sleep(0.02)
    assert rows(lab_path, "audit")[-1]["action"] == "Encrypt"


def test_a_refused_change_does_not_strand_the_calls_before_it(lab: Lab, lab_path: Path) -> None:
    """What a refused change has put back is flushed all the same."""
    import time

    kms = lab.tencent()
    key = kms.create_key("orders")
    kms.encrypt(key.key_id, b"plain")
    for _ in range(20):
        with pytest.raises(AliasInUse):
            kms.create_key("orders")
    kms.encrypt(key.key_id, b"plain")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if sum(r["count"] for r in rows(lab_path, "audit") if r["action"] == "Encrypt") == 2:
            return
        time.sleep(0.02)
    pytest.fail("the calls were not flushed")


def test_many_kinds_of_calls_are_flushed_early(lab: Lab, lab_path: Path) -> None:
    kms = lab.tencent()
    for number in range(300):
        with pytest.raises(KmsError):
            kms.encrypt(f"00000000-0000-4000-8000-{number:012d}", b"plain")
    lab.close()
    log = [row for row in rows(lab_path, "audit") if row["action"] == "Encrypt"]
    assert sum(row["count"] for row in log) == 300
