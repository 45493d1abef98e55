"""What changes while a call is under way: look-ups, material, and the states of several keys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from provider_clouds import Cloud, external_key

from kmslab import Key
from kmslab.errors import KeyDisabled, KmsError
from kmslab.model import KeyState
from kmslab.providers.ctyun.blobs import Blobs as CtyunBlobs
from kmslab.providers.local import Operation, Session
from kmslab.providers.tencent.blobs import Blobs as TencentBlobs


@contextmanager
def paused_after(
    patch: pytest.MonkeyPatch, owner: type, name: str, call: Callable[[], object]
) -> Iterator[None]:
    """`call` runs in a thread that stands still behind `owner.name` while the block runs."""
    there, go_on = threading.Event(), threading.Event()
    original = getattr(owner, name)
    ended: list[str] = []

    def pausing(*args: Any, **options: Any) -> Any:
        found = original(*args, **options)
        if threading.current_thread() is thread:
            there.set()
            assert go_on.wait(60)
        return found

    def run() -> None:
        try:
            call()
        except KmsError as error:
            ended.append(type(error).__name__)
        else:
            ended.append("ok")

    thread = threading.Thread(target=run)
    with patch.context() as patched:
        patched.setattr(owner, name, pausing)
        thread.start()
        try:
            assert there.wait(60)
            yield
        finally:
            go_on.set()
            thread.join(60)
    # It began before the change, so both are right; nothing else is.
    assert ended in (["ok"], ["KeyDisabled"])


def test_a_source_found_before_a_change_is_not_believed_after_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = cloud.create(), cloud.create()
    blob, plain = (cloud.kms.encrypt(k.key_id, b"secret") for k in (key, other))
    kms = cloud.open()
    owner, name = (TencentBlobs, "_check_source") if cloud.tencent else (CtyunBlobs, "_check")
    with paused_after(monkeypatch, owner, name, lambda: kms.decrypt(blob)):
        cloud.kms.disable_key(key.key_id)
        assert kms.decrypt(plain) == b"secret"  # looks the change up
    for _ in range(2):
        with pytest.raises(KeyDisabled):
            kms.decrypt(blob)
    cloud.kms.enable_key(key.key_id)
    assert kms.decrypt(blob) == b"secret"


@pytest.mark.parametrize("disabled", ["source", "destination"])
def test_a_route_found_before_a_change_is_not_believed_after_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, disabled: str
) -> None:
    source, destination, other = (cloud.create() for _ in range(3))
    blob, plain = (cloud.kms.encrypt(k.key_id, b"secret") for k in (source, other))
    for _ in range(4):  # reserves more than one: to reserve is a change too
        for key in (destination, other):
            cloud.kms.encrypt(key.key_id, b"secret")
    kms = cloud.open()

    def move(text: str, to: Key) -> str:
        return cloud.re_encrypt(text, to.key_id, kms=kms).ciphertext_blob

    key = source if disabled == "source" else destination
    owner = TencentBlobs if cloud.tencent else CtyunBlobs
    with paused_after(monkeypatch, owner, "destination", lambda: move(blob, destination)):
        cloud.kms.disable_key(key.key_id)
        move(plain, other)  # looks the change up
    for _ in range(2):
        with pytest.raises(KeyDisabled):
            move(blob, destination)
    error = cloud.re_encrypt_many([blob], destination.key_id, kms=kms).error[0]
    assert isinstance(error, KeyDisabled)


class Calls:
    """Each call that seals or opens under `key`, and what it gives."""

    def __init__(self, cloud: Cloud, key: Key) -> None:
        kms = cloud.kms
        other = cloud.create()
        blob = kms.encrypt(other.key_id, b"secret")
        own = kms.encrypt(key.key_id, b"secret")
        limited = cloud.open(rate_limit=True)  # its rows pass a gate before they are opened
        to = key.key_id
        self.by_name: dict[str, Callable[[], Any]] = {
            "encrypt": lambda: kms.encrypt(to, b"secret"),
            "decrypt": lambda: kms.decrypt(own),
            "re-encrypt to it": lambda: cloud.re_encrypt(blob, to),
            "re-encrypt from it": lambda: cloud.re_encrypt(own, other.key_id),
            "batch to it": lambda: cloud.re_encrypt_many([blob], to, verify=True),
            "batch from it": lambda: cloud.re_encrypt_many([own], other.key_id, kms=limited),
        }


CALLS = ("encrypt", "decrypt", "re-encrypt to it", "re-encrypt from it")
BATCHES = ("batch to it", "batch from it")


def meanwhile(
    cloud: Cloud, patch: pytest.MonkeyPatch, call: Callable[[], Any], act: Callable[[], None]
) -> Any:
    """What a call gives while `act` happens once, behind its look-up and before it seals."""
    waiting = [act]

    def happen() -> None:
        if waiting:
            waiting.pop()()

    admit, entropy = Session.admit, cloud.lab._keystore.entropy

    def admitted(session: Session, action: str) -> None:
        happen()
        admit(session, action)

    def drawn(size: int) -> bytes:
        happen()
        return entropy(size)

    cloud.kms._session.request_id()  # request ids are drawn from the same source, many at a time
    with patch.context() as patched:
        patched.setattr(Session, "admit", admitted)
        patched.setattr(cloud.lab._keystore, "entropy", drawn)
        found = call()
    assert not waiting
    return found


def is_whole(found: Any) -> bool:
    """Whether a call did what it was asked, or a row was refused for what became of its key."""
    error = getattr(found, "error", [None])
    return error == [None] or all(isinstance(each, KmsError) for each in error)


@pytest.mark.parametrize("name", [*CALLS, *BATCHES])
def test_material_purged_under_a_call(
    tencent: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    key = external_key(tencent)
    call = Calls(tencent, key).by_name[name]

    def purge() -> None:
        tencent.kms.delete_imported_key_material(key.key_id)

    assert is_whole(meanwhile(tencent, monkeypatch, call, purge))
    assert tencent.kms.describe_key(key.key_id).state is KeyState.PENDING_IMPORT
    with pytest.raises(KmsError):
        tencent.kms.encrypt(key.key_id, b"secret")


@pytest.mark.parametrize("name", [*CALLS, *BATCHES])
def test_a_key_deleted_under_a_call(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    key = cloud.create()
    call = Calls(cloud, key).by_name[name]

    def delete() -> None:
        cloud.schedule_deletion(key.key_id)
        cloud.clock.advance(timedelta(days=40))
        assert cloud.lab.key(key.key_id).state is KeyState.DELETED

    assert is_whole(meanwhile(cloud, monkeypatch, call, delete))
    with pytest.raises(KmsError):
        cloud.kms.encrypt(key.key_id, b"secret")


@pytest.mark.parametrize("action", ["EnableKeys", "DisableKeys"])
def test_several_keys_change_state_together_or_not_at_all(
    tencent: Cloud, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    kms = tencent.kms
    keys = [tencent.create().key_id for _ in range(3)]
    enabling = action == "EnableKeys"
    if enabling:
        kms.disable_keys(keys)
    before = KeyState.DISABLED if enabling else KeyState.ENABLED
    waiting = [tencent.schedule_deletion]
    act = Operation.act

    def interrupted(op: Operation) -> Any:
        if op.action == action and waiting:
            waiting.pop()(keys[1])
        return act(op)

    with monkeypatch.context() as patched:
        patched.setattr(Operation, "act", interrupted)
        with pytest.raises(KmsError):
            (kms.enable_keys if enabling else kms.disable_keys)(keys)
    states = [kms.describe_key(key).state for key in keys]
    assert states[0] is states[2] is before
    assert states[1] is KeyState.PENDING_DELETION
    last = [row for row in tencent.lab.audit.entries() if row.action == action]
    assert "ok" not in [row.outcome for row in last]
    assert len(last) == 1


def test_several_keys_are_one_change(tencent: Cloud) -> None:
    keys = [tencent.create().key_id for _ in range(3)]
    for change, action in (
        (tencent.kms.disable_keys, "DisableKeys"),
        (tencent.kms.enable_keys, "EnableKeys"),
    ):
        before = tencent.lab.info().generation
        change(keys)
        assert tencent.lab.info().generation == before + 1
        rows = [row for row in tencent.lab.audit.entries() if row.action == action]
        assert [row.key_id for row in rows] == keys
        assert len({row.request_id for row in rows}) == 1
