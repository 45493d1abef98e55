"""Sessions: what a credential may ask, the rate limit that sessions share, what they audit."""

from __future__ import annotations

from typing import Any

import pytest
from provider_clouds import Cloud

from kmslab.errors import InvalidPlaintext, KeyDisabled, Throttled, Unauthorized
from kmslab.keystore.audit import AuditEntry
from kmslab.providers.ctyun import blob as ctyun_blob
from kmslab.providers.local import DOCUMENTED_RATE
from kmslab.providers.tencent import blob as tencent_blob


def header(cloud: Cloud, blob: str) -> Any:
    return (tencent_blob if cloud.tencent else ctyun_blob).read_header(blob)


def audited(cloud: Cloud, action: str) -> list[AuditEntry]:
    return [row for row in cloud.lab.audit.entries() if row.action == action]


def test_what_a_blob_names_is_not_told_without_rights(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    read = cloud.action("listKeyVersions")
    for name, rights in (
        ("nobody", []),
        ("user", [cloud.action("encrypt"), cloud.action("decrypt")]),
        ("other", [f"{read}:{other.key_id}"]),
    ):
        cloud.lab.credentials.create(name, rights=rights)
        kms = cloud.open(credential=name)
        with pytest.raises(Unauthorized):
            kms.version_of(header(cloud, blob))
        with pytest.raises(Unauthorized):
            kms.explain(blob)
    cloud.lab.credentials.create("reader", rights=[f"{read}:{key.key_id}"])
    kms = cloud.open(credential="reader")
    assert kms.version_of(header(cloud, blob)) == cloud.kms.describe_key(key.key_id).versions[0]
    with pytest.raises(Unauthorized):
        kms.explain(blob)
    assert cloud.kms.explain(blob).startswith("It opens with")


def test_two_sessions_of_one_caller_share_a_rate(cloud: Cloud) -> None:
    key = cloud.create().key_id
    for name in ("one", "two"):
        cloud.lab.credentials.create(name)
    first, second = (cloud.open(credential="one", rate_limit=True) for _ in range(2))
    for number in range(DOCUMENTED_RATE):
        (first, second)[number % 2].encrypt(key, b"secret")
    for kms in (first, second, cloud.open(credential="one", rate_limit=True)):
        with pytest.raises(Throttled):
            kms.encrypt(key, b"secret")
    # Each caller has a limit of its own, and one that did not ask for it has none.
    for options in ({"credential": "two", "rate_limit": True}, {"rate_limit": True}, {}):
        assert cloud.open(**options).encrypt(key, b"secret")
    # Another call and another region are counted apart.
    blob = cloud.kms.encrypt(key, b"secret")
    assert first.decrypt(blob) == b"secret"
    elsewhere = cloud.open(region="elsewhere", credential="one", rate_limit=True)
    assert elsewhere.encrypt(cloud.create(kms=elsewhere).key_id, b"secret")


def test_the_owners_sessions_share_a_rate(cloud: Cloud) -> None:
    key = cloud.create().key_id
    first, second = (cloud.open(rate_limit=True) for _ in range(2))
    for _ in range(DOCUMENTED_RATE):
        first.encrypt(key, b"secret")
    with pytest.raises(Throttled):
        second.encrypt(key, b"secret")


def test_a_wrong_type_is_audited(cloud: Cloud) -> None:
    key = cloud.create().key_id
    with pytest.raises(InvalidPlaintext):
        cloud.kms.encrypt(key, "text")
    rows = audited(cloud, cloud.action("encrypt"))
    assert [row.count for row in rows] == [1]
    assert rows[0].outcome != "ok"
    assert rows[0].request_id


def test_a_call_that_breaks_is_audited(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    key = cloud.create().key_id
    kms = cloud.kms
    kms.encrypt(key, b"secret")

    def broken(size: int) -> bytes:
        raise TypeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(cloud.lab._keystore, "entropy", broken)
        with pytest.raises(TypeError, match="broken"):
            kms.encrypt(key, b"secret")
    rows = audited(cloud, cloud.action("encrypt"))
    assert [(row.key_id, row.outcome) for row in rows] == [(key, "ok"), (key, "InternalError")]
    assert rows[0].request_id != rows[1].request_id


def test_a_refused_rotation_is_audited(cloud: Cloud) -> None:
    key = cloud.create().key_id
    cloud.lab.rotate(key)
    cloud.kms.disable_key(key)
    with pytest.raises(KeyDisabled) as caught:
        cloud.lab.rotate(key)
    done, refused = audited(cloud, "RotateNow")
    assert (done.outcome, done.key_id, done.provider) == ("ok", key, cloud.provider)
    assert (refused.key_id, refused.provider) == (key, cloud.provider)
    assert refused.outcome != "ok"
    assert caught.value.request_id
    assert refused.request_id == caught.value.request_id != done.request_id
    assert done.request_id
