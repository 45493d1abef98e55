"""Sessions: what a credential may ask, the rate limit that sessions share, what they audit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from provider_clouds import Cloud, short
from provider_requests import ctyun_requests, tencent_requests

from kmslab.clock import Clock
from kmslab.errors import InvalidPlaintext, KeyDisabled, Throttled, Unauthorized
from kmslab.keystore.audit import AuditEntry
from kmslab.providers import local
from kmslab.providers.ctyun import blob as ctyun_blob
from kmslab.providers.ctyun.wire import CALLS
from kmslab.providers.local import DOCUMENTED_RATE
from kmslab.providers.tencent import blob as tencent_blob
from kmslab.providers.tencent.wire import ACTIONS


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
    blob = cloud.kms.encrypt(cloud.create().key_id, b"secret")
    for name in ("one", "two"):
        cloud.lab.credentials.create(name)
    first, second = (cloud.open(credential="one", rate_limit=True) for _ in range(2))
    for number in range(DOCUMENTED_RATE):
        cloud.re_encrypt(blob, kms=(first, second)[number % 2])
    for kms in (first, second, cloud.open(credential="one", rate_limit=True)):
        with pytest.raises(Throttled):
            cloud.re_encrypt(blob, kms=kms)
    # Each caller has a limit of its own, and one that did not ask for it has none.
    for options in ({"credential": "two", "rate_limit": True}, {"rate_limit": True}, {}):
        assert cloud.re_encrypt(blob, kms=cloud.open(**options))
    # Another call and another region are counted apart.
    assert first.decrypt(blob) == b"secret"
    elsewhere = cloud.open(region="elsewhere", credential="one", rate_limit=True)
    there = elsewhere.encrypt(cloud.create(kms=elsewhere).key_id, b"secret")
    assert cloud.re_encrypt(there, kms=elsewhere)


def test_the_owners_sessions_share_a_rate(cloud: Cloud) -> None:
    blob = cloud.kms.encrypt(cloud.create().key_id, b"secret")
    first, second = (cloud.open(rate_limit=True) for _ in range(2))
    for _ in range(DOCUMENTED_RATE):
        cloud.re_encrypt(blob, kms=first)
    with pytest.raises(Throttled):
        cloud.re_encrypt(blob, kms=second)


class Once:
    """In place of a token bucket: the first call passes, and no other."""

    def __init__(self, rate: float, *, clock: Clock) -> None:
        self._wait = 1 / rate
        self._taken = False

    def take(self) -> float:
        taken, self._taken = self._taken, True
        return self._wait if taken else 0.0


# Calls a second, as on the page of the API's categories (reference/tencent.md section 1). 100 of
# each other call.
TENCENT_RATES = {
    "Encrypt": 300,
    "Decrypt": 300,
    "GenerateDataKey": 300,
    "GenerateRandom": 300,
    "GetPublicKey": 300,
    "AsymmetricRsaDecrypt": 200,
    "RotateKey": 20,
}


def check_rates(
    cloud: Cloud,
    monkeypatch: pytest.MonkeyPatch,
    requests: Mapping[str, dict[str, Any]],
    rates: Mapping[str, int],
) -> None:
    """Each call is counted once, looking at keys too, and refused with its own limit."""
    monkeypatch.setattr(local, "TokenBucket", Once)
    kms = cloud.open(rate_limit=True)
    throttled = "RequestLimitExceeded" if cloud.tencent else "Throttled"
    for call, request in requests.items():
        assert short(kms.call(call, request)) == "ok", call
        assert short(kms.call(call, request)) == throttled, call
        rate = rates.get(call, 100)
        assert kms.last_refusal == f"{call} is limited to {rate} calls a second"


def test_every_call_has_its_documented_rate(
    tencent: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = tencent_requests(tencent)
    assert requests.keys() == ACTIONS.keys() >= TENCENT_RATES.keys()
    check_rates(tencent, monkeypatch, requests, TENCENT_RATES)


def test_every_call_has_one_rate_at_ctyun(ctyun: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = ctyun_requests(ctyun)
    assert requests.keys() == CALLS.keys()
    check_rates(ctyun, monkeypatch, requests, {})


def test_a_rate_of_its_own_is_kept(tencent: Cloud) -> None:
    kms = tencent.open(rate_limit=True)
    for _ in range(300):
        kms.generate_random(1)
    with pytest.raises(Throttled, match="GenerateRandom is limited to 300 ") as caught:
        kms.generate_random(1)
    assert caught.value.retry_after == pytest.approx(1 / 300, abs=1e-6)
    tencent.clock.advance(timedelta(seconds=caught.value.retry_after))
    kms.generate_random(1)
    with pytest.raises(Throttled):
        kms.generate_random(1)


def test_what_the_wire_does_not_offer_is_not_limited(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cloud.create().key_id
    blob = cloud.kms.encrypt(key, b"secret")
    monkeypatch.setattr(local, "TokenBucket", Once)
    kms = cloud.open(rate_limit=True)
    for _ in range(3):
        assert len(kms.versions(key)) == 1
        assert kms.version_of(header(cloud, blob)).number == 1
        assert kms.explain(blob).startswith("It opens")
        assert kms.key_marks()


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
