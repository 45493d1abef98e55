"""BindCloudResource and UnbindCloudResource: keys that a cloud product's resource uses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from provider_clouds import (
    START,
    UNKNOWN_ID,
    Cloud,
    external_key,
    import_material,
    response,
    short,
)

from kmslab import Lab, ManualClock
from kmslab.errors import BindingNotFound, InvalidRequest, KeyInUse, KeyStateUnsupported
from kmslab.model import KeyState
from kmslab.providers.local import Session

DISK = {"ProductId": "cbs", "ResourceId": "disk-1"}
MATERIAL = bytes(range(32))


def bind(cloud: Cloud, key_id: str, **changes: str) -> str:
    return short(cloud.kms.call("BindCloudResource", {"KeyId": key_id, **DISK, **changes}))


def unbind(cloud: Cloud, key_id: str, **changes: str) -> str:
    return short(cloud.kms.call("UnbindCloudResource", {"KeyId": key_id, **DISK, **changes}))


def metadata(cloud: Cloud, key_id: str) -> dict[str, Any]:
    answer = response(cloud.kms.call("DescribeKey", {"KeyId": key_id}))
    return dict(answer["KeyMetadata"])


# What is refused on a bound key, and what the same call answers on the key unbound again.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DisableKey": ({}, "ok"),
    "DisableKeys": ({}, "ok"),
    "ScheduleKeyDeletion": ({"PendingWindowInDays": 7}, "CmkShouldBeDisabled"),
    "ArchiveKey": ({}, "ok"),
    "DeleteImportedKeyMaterial": ({}, "ok"),
}


@pytest.mark.parametrize("call", REFUSED)
def test_a_bound_key_stays_in_use(tencent: Cloud, call: str) -> None:
    key, other = external_key(tencent).key_id, tencent.create().key_id
    more, otherwise = REFUSED[call]
    named = {"KeyIds": [other, key]} if call == "DisableKeys" else {"KeyId": key}
    assert bind(tencent, key) == "ok"
    assert short(tencent.kms.call(call, {**named, **more})) == "CmkUsedByCloudProduct"
    assert tencent.kms.last_refusal == (
        f"key {key} is bound to 'cbs' 'disk-1'; take that away first, with UnbindCloudResource"
    )
    for each in (key, other):
        assert metadata(tencent, each)["KeyState"] == "Enabled"
    blob = tencent.kms.encrypt(key, b"secret")
    assert tencent.kms.decrypt(blob) == b"secret"
    assert unbind(tencent, key) == "ok"
    assert short(tencent.kms.call(call, {**named, **more})) == otherwise


def test_what_a_bound_key_may_do(tencent: Cloud) -> None:
    key = tencent.create().key_id
    bind(tencent, key)
    tencent.kms.enable_key_rotation(key)
    for call in ("EnableKey", "RotateKey", "DisableKeyRotation", "DescribeKey"):
        assert short(tencent.kms.call(call, {"KeyId": key})) == "ok", call
    assert len(tencent.lab.rotate(key).versions) == 3


def test_a_binding_is_made_once(tencent: Cloud) -> None:
    key = tencent.create().key_id
    assert [bind(tencent, key), bind(tencent, key)] == ["ok", "ok"]
    assert unbind(tencent, key) == "ok"
    assert unbind(tencent, key) == "CloudResourceBindingNotFound"
    assert short(tencent.kms.call("DisableKey", {"KeyId": key})) == "ok"


def test_two_products_may_use_one_key(tencent: Cloud) -> None:
    """Each binding is of one key, one product and one resource, and is taken away by itself."""
    key, other = tencent.create().key_id, tencent.create().key_id
    bindings = [{}, {"ResourceId": "disk-2"}, {"ProductId": "cos"}]
    for changes in bindings:
        assert bind(tencent, key, **changes) == "ok"
    assert unbind(tencent, key, ProductId="cos", ResourceId="disk-2").endswith("BindingNotFound")
    assert unbind(tencent, other) == "CloudResourceBindingNotFound"
    for left, changes in enumerate(reversed(bindings)):
        with pytest.raises(KeyInUse, match=f" and {2 - left} more;" if left < 2 else "disk-1';"):
            tencent.kms.disable_key(key)
        assert unbind(tencent, key, **changes) == "ok"
    assert tencent.kms.disable_key(key).state is KeyState.DISABLED


def test_binding_a_key_cancels_its_expiry(tencent: Cloud) -> None:
    """An expiry that a later import sets counts, until the key is bound again."""
    until = START + timedelta(days=2)
    key = external_key(tencent, MATERIAL, valid_to=until).key_id
    blob = tencent.kms.encrypt(key, b"secret")
    assert metadata(tencent, key)["ValidTo"] == until.timestamp()
    assert tencent.kms.bind_cloud_resource(key, "cbs", "disk-1").material_expires_at is None
    assert metadata(tencent, key)["ValidTo"] == 0
    import_material(tencent, key, MATERIAL, valid_to=until)
    bind(tencent, key)
    tencent.clock.advance(timedelta(days=3))
    assert tencent.kms.decrypt(blob) == b"secret"
    import_material(tencent, key, MATERIAL, valid_to=START + timedelta(days=4))
    tencent.clock.advance(timedelta(days=2))
    assert metadata(tencent, key)["KeyState"] == "PendingImport"


def test_only_an_enabled_key_is_bound(tencent: Cloud) -> None:
    """One in any state is unbound: no state is in the way of what a product no longer uses."""
    for state in ("disable_key", "archive_key"):
        key = tencent.create().key_id
        getattr(tencent.kms, state)(key)
        assert bind(tencent, key) == "CmkStateNotSupport"
        assert unbind(tencent, key) == "CloudResourceBindingNotFound"
    key = external_key(tencent).key_id
    bind(tencent, key)
    import_material(tencent, key, MATERIAL, valid_to=START + timedelta(days=1))
    tencent.clock.advance(timedelta(days=2))
    with pytest.raises(KeyStateUnsupported):
        tencent.kms.bind_cloud_resource(key, "cbs", "disk-2")
    assert unbind(tencent, key) == "ok"


def test_a_binding_does_not_outlive_its_key(tencent: Cloud) -> None:
    """A bound key is not deleted, and what is taken away leaves nothing in the lab."""
    key = external_key(tencent).key_id
    bind(tencent, key)
    import_material(tencent, key, MATERIAL, valid_to=START + timedelta(days=1))
    tencent.clock.advance(timedelta(days=2))
    doomed = {"KeyId": key, "PendingWindowInDays": 7}
    assert metadata(tencent, key)["KeyState"] == "PendingImport"
    assert short(tencent.kms.call("ScheduleKeyDeletion", doomed)) == "CmkUsedByCloudProduct"
    unbind(tencent, key)
    assert tencent.lab._keystore.settings["bindings"] == {}
    assert short(tencent.kms.call("ScheduleKeyDeletion", doomed)) == "ok"
    tencent.clock.advance(timedelta(days=9))
    assert unbind(tencent, key) == bind(tencent, key) == "CmkNotFound"


def test_a_product_and_a_resource_are_any_text(tencent: Cloud) -> None:
    key = tencent.create().key_id
    for text in ("a", "a" * 256, "qcs::cos:ap-guangzhou:uid/1:桶/🔑", '"\\\x00'):
        for name in DISK:
            assert bind(tencent, key, **{name: text}) == "ok"
            assert unbind(tencent, key, **{name: text}) == "ok"
    for text in ("", "a" * 257, "\ud800"):
        for name in DISK:
            # Parameters come before the key.
            assert bind(tencent, UNKNOWN_ID, **{name: text}) == "InvalidParameter"
            assert unbind(tencent, UNKNOWN_ID, **{name: text}) == "InvalidParameter"
    with pytest.raises(InvalidRequest) as caught:
        tencent.kms.bind_cloud_resource(key, "cbs", "")
    assert caught.value.parameter == "ResourceId"


def test_binding_needs_its_right(tencent: Cloud) -> None:
    key, other = tencent.create().key_id, tencent.create().key_id
    tencent.lab.credentials.create("binder", rights=[f"BindCloudResource:{key}"])
    kms = tencent.open(credential="binder")
    codes = [
        short(kms.call(f"{call}CloudResource", {"KeyId": key_id, **DISK}))
        for call, key_id in (("Bind", key), ("Bind", other), ("Unbind", key))
    ]
    assert codes == ["ok", "UnauthorizedOperation", "UnauthorizedOperation"]
    assert short(tencent.kms.call("DisableKey", {"KeyId": other})) == "ok"


def test_bindings_are_audited(tencent: Cloud) -> None:
    key = tencent.create().key_id
    bind(tencent, key)
    bind(tencent, key)
    unbind(tencent, key)
    unbind(tencent, key)
    rows = [row for row in tencent.lab.audit.entries() if row.action.endswith("CloudResource")]
    assert [(row.action, row.key_id, row.outcome, row.count) for row in rows] == [
        ("BindCloudResource", key, "ok", 1),
        ("BindCloudResource", key, "ok", 1),
        ("UnbindCloudResource", key, "ok", 1),
        ("UnbindCloudResource", key, "ResourceUnavailable.CloudResourceBindingNotFound", 1),
    ]
    assert all(row.request_id for row in rows)
    assert tencent.lab.audit.verify().broken_at is None


def test_a_binding_is_the_labs_and_every_process_sees_it(tmp_path: Path) -> None:
    clock = ManualClock(START)
    Lab.create(tmp_path / "lab", clock=clock).close()
    with Lab.open(tmp_path / "lab", clock=clock) as one:
        key = one.tencent().create_key("orders").key_id
        with Lab.open(tmp_path / "lab", clock=clock) as two:
            one.tencent().bind_cloud_resource(key, "cbs", "disk-1")
            with pytest.raises(KeyInUse):
                two.tencent().disable_key(key)
    with Lab.open(tmp_path / "lab", clock=clock) as again:
        with pytest.raises(KeyInUse):
            again.tencent().disable_key(key)
        again.tencent().unbind_cloud_resource(key, "cbs", "disk-1")
        assert again.tencent().disable_key(key).state is KeyState.DISABLED


def test_a_key_bound_meanwhile_is_not_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process binds the key after it was found and before it is changed."""
    Lab.create(tmp_path / "lab").close()
    with Lab.open(tmp_path / "lab") as one, Lab.open(tmp_path / "lab") as two:
        kms = one.tencent()
        key = kms.create_key("orders").key_id
        admit = Session.admit

        def bound_first(session: Session, action: str) -> None:
            admit(session, action)
            if action == "DisableKey":
                two.tencent().bind_cloud_resource(key, "cbs", "disk-1")

        monkeypatch.setattr(Session, "admit", bound_first)
        with pytest.raises(KeyInUse):
            kms.disable_key(key)
        assert kms.describe_key(key).state is KeyState.ENABLED
        with pytest.raises(BindingNotFound):
            kms.unbind_cloud_resource(key, "cos", "disk-1")
