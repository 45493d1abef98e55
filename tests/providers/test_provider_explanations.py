"""`explain()`: what the owner of the lab is told, which the API does not say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from provider_clouds import (
    BOTH,
    CONTEXT,
    CTYUN_CLOUD,
    CTYUN_CLOUD_KEY,
    CTYUN_CLOUD_VERSION,
    CTYUN_SEED_INPUT,
    CTYUN_SEED_OUTPUT,
    TENCENT_SEED_INPUT,
    TENCENT_SEED_OUTPUT,
    UNKNOWN_ID,
    Cloud,
    b64,
    external_key,
    flipped,
    repaired,
    seed_file,
    seed_key,
)

from kmslab import KmsError

SECRET = b"a secret of the owner's"
SECRETS = (SECRET.decode(), SECRET.hex(), b64(SECRET))


def test_what_is_no_blob(cloud: Cloud) -> None:
    assert "Tencent Cloud" in cloud.lab.tencent().explain(TENCENT_SEED_INPUT)
    assert "three segments" in cloud.lab.tencent().explain(TENCENT_SEED_INPUT)
    assert "no blob of CTyun" in cloud.lab.ctyun().explain(CTYUN_SEED_INPUT)
    assert "48 bytes" in cloud.lab.explain(CTYUN_SEED_OUTPUT)
    assert "another vendor" in cloud.lab.explain(CTYUN_SEED_INPUT)
    assert cloud.lab.explain("") == "empty"


def test_a_clouds_own_blob(cloud: Cloud) -> None:
    assert "The cloud made it" in cloud.lab.explain(TENCENT_SEED_OUTPUT)
    told = cloud.lab.explain(CTYUN_CLOUD)
    assert "The cloud made it" in told
    assert CTYUN_CLOUD_KEY in told
    assert CTYUN_CLOUD_VERSION in told


def test_public_key_ciphertext(ctyun: Cloud) -> None:
    told = ctyun.lab.explain(b64(bytes(256)))
    assert "names no key" in told
    assert "algorithm" in told


def test_a_blob_that_opens(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, SECRET)
    cloud.lab.rotate(key.key_id)
    assert f"opens with key {key.key_id} version 1" in cloud.lab.explain(blob)
    cloud.kms.disable_key(key.key_id)
    assert "disabled" in cloud.lab.explain(blob)
    assert f"with key {key.key_id} version 1" in cloud.lab.explain(blob)


def test_an_archived_key_opens_its_blobs(tencent: Cloud) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, SECRET)
    tencent.kms.archive_key(key.key_id)
    assert "It opens with" in tencent.lab.explain(blob)


def test_a_key_that_is_not_here(
    make_cloud: Callable[[str], Cloud],
) -> None:
    for provider in BOTH:
        here, there = make_cloud(provider), make_cloud(provider)
        key = there.create()
        told = here.lab.explain(there.kms.encrypt(key.key_id, SECRET))
        assert key.key_id in told
        assert key.versions[0].version_id in told
        assert f"does not have in {here.kms.region}" in told


def test_material_that_is_gone(tencent: Cloud) -> None:
    key = external_key(tencent)
    blob = tencent.kms.encrypt(key.key_id, SECRET)
    tencent.kms.delete_imported_key_material(key.key_id)
    assert f"material of key {key.key_id} version 1 is gone" in tencent.lab.explain(blob)


def test_another_labs_material(make_cloud: Callable[[str], Cloud]) -> None:
    for provider in BOTH:
        labs = [make_cloud(provider) for _ in range(2)]
        for number, cloud in enumerate(labs):
            item = seed_key(provider, UNKNOWN_ID, [b64(bytes([number]) * 32)])
            cloud.lab.seed(seed_file(cloud._folder / "seed.yaml", item))
        told = labs[0].lab.explain(labs[1].kms.encrypt(UNKNOWN_ID, SECRET))
        assert "made in another lab" in told
        assert UNKNOWN_ID in told


def test_a_wrong_context(tencent: Cloud) -> None:
    key = tencent.create()
    lab = tencent.lab
    blob = tencent.kms.encrypt(key.key_id, SECRET, context=CONTEXT)
    plain = tencent.kms.encrypt(key.key_id, SECRET)
    assert "It opens with" in lab.explain(blob, CONTEXT)
    assert "It opens with" in lab.explain(blob, {"app": "订单"})
    assert "needs a context" in lab.explain(blob)
    assert "the context is wrong" in lab.explain(blob, {"app": "发票"})
    assert "whose material is right" in lab.explain(blob, {"app": "发票"})
    assert "another spelling of the same context" in lab.explain(blob, '{ "app": "订单" }')
    assert "without a context" in lab.explain(plain, CONTEXT)
    assert "not JSON" in lab.explain(plain, "orders")
    for context in (None, {"app": "发票"}):
        assert key.key_id in lab.explain(blob, context)


def test_an_altered_blob(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, SECRET)
    last = list(flipped(blob))[-40]
    told = cloud.lab.explain(repaired(last) if cloud.tencent else last)
    assert "altered" in told
    assert key.key_id in told


def test_nothing_secret_is_ever_told(cloud: Cloud) -> None:
    """Whatever happened to the blob, neither plaintext nor material is in the answer."""
    key = cloud.create()
    options = {"context": CONTEXT} if cloud.tencent else {}
    blob = cloud.kms.encrypt(key.key_id, SECRET, **options)
    spoiled = [blob, *list(flipped(blob))[::7]]
    if cloud.tencent:
        spoiled += [repaired(text) for text in spoiled]
    told = {cloud.lab.explain(text, context) for text in spoiled for context in (None, CONTEXT)}
    cloud.kms.disable_key(key.key_id)
    told |= {cloud.lab.explain(blob)}
    cloud.kms.enable_key(key.key_id)
    cloud.schedule_deletion(key.key_id)
    told |= {cloud.lab.explain(blob)}
    cloud.clock.advance(timedelta(days=40))
    told |= {cloud.lab.explain(blob)}
    assert len(told) > 4
    for text in told:
        assert not any(secret in text for secret in SECRETS)
    with pytest.raises(KmsError) as caught:
        cloud.kms.decrypt(blob)
    assert not any(secret in repr(caught.value) for secret in SECRETS)
