"""What both local providers promise alike: one suite, run for each."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from provider_clouds import (
    BOTH,
    CTYUN_CLOUD,
    CTYUN_SEED_INPUT,
    CTYUN_SEED_OUTPUT,
    SYMMETRIC,
    TENCENT_CLOUD_NO_CONTEXT,
    TENCENT_SEED_INPUT,
    TENCENT_SEED_OUTPUT,
    UNKNOWN_ID,
    Cloud,
    b64,
    code,
    cut,
    data,
    flipped,
    repaired,
    response,
    seed_file,
    seed_key,
    short,
)

from kmslab import InvalidCiphertext, KeyNotFound, KeySpec, KmsError, Lab, Plaintext
from kmslab.errors import (
    InternalError,
    InvalidKeyId,
    InvalidKeyUsage,
    InvalidPlaintext,
    KeyDisabled,
    SettingError,
    Throttled,
    Unauthorized,
)
from kmslab.model import BlobFormat, UnverifiedHeader
from kmslab.providers.base import Kms
from kmslab.providers.ctyun import blob as ctyun_blob
from kmslab.providers.tencent import blob as tencent_blob

REFUSED = "the ciphertext does not open"
MOST_BYTES = {"tencent": 4096, "ctyun": 6143}
SIZES = (1, 2, 15, 16, 17, 31, 32, 33, 190, 214, 255, 256, 1024, 4095, 4096)
NOT_OPENABLE = {
    "empty": "",
    "no base64": "订单",
    "Tencent's sample request": TENCENT_SEED_INPUT,
    "Tencent's sample answer": TENCENT_SEED_OUTPUT,
    "a blob of Tencent Cloud": TENCENT_CLOUD_NO_CONTEXT,
    "CTyun's sample request": CTYUN_SEED_INPUT,
    "CTyun's sample answer": CTYUN_SEED_OUTPUT,
    "a blob of CTyun": CTYUN_CLOUD,
    "public-key ciphertext": b64(bytes(256)),
    "white space": " " + TENCENT_SEED_OUTPUT,
}


def opens(cloud: Cloud, blob: str, kms: Any = None) -> bool:
    """Whether decrypt and re_encrypt open a blob; both refuse opaquely, and in one way."""
    kms = kms or cloud.kms
    to = cloud.kms.list_keys()[-1].key_id
    outcomes = []
    for call in (lambda: kms.decrypt(blob), lambda: cloud.re_encrypt(blob, to, kms=kms)):
        refusal = None
        try:
            call()
        except InvalidCiphertext as error:
            refusal = error
        outcomes.append(refusal is None)
        if refusal is not None:
            assert str(refusal) == REFUSED
            assert uuid.UUID(refusal.request_id)
    assert outcomes[0] is outcomes[1]
    return outcomes[0]


@pytest.mark.parametrize("spec", SYMMETRIC)
def test_what_was_encrypted_is_decrypted(cloud: Cloud, spec: KeySpec) -> None:
    key = cloud.create(spec)
    for size in (*SIZES, MOST_BYTES[cloud.provider]):
        plaintext = bytes(n % 251 for n in range(size))
        found = cloud.kms.decrypt(cloud.kms.encrypt(key.key_id, plaintext))
        assert isinstance(found, Plaintext)
        assert found == plaintext


@pytest.mark.parametrize("spec", SYMMETRIC)
def test_a_blob_survives_rotations_and_moves(cloud: Cloud, spec: KeySpec) -> None:
    key, other = cloud.create(spec), cloud.create(KeySpec.AES_256)
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    rotated = cloud.lab.rotate(key.key_id)
    assert cloud.kms.decrypt(blob) == b"secret"

    fresh = cloud.re_encrypt(blob)
    assert fresh.re_encrypted is True
    assert (fresh.source_key_id, fresh.key_id) == (key.key_id, key.key_id)
    assert fresh.source_key_version_id == rotated.versions[0].version_id
    assert fresh.key_version_id == rotated.primary_version_id == rotated.versions[1].version_id

    moved = cloud.re_encrypt(fresh.ciphertext_blob, other.key_id)
    assert (moved.source_key_id, moved.key_id) == (key.key_id, other.key_id)
    assert moved.source_key_version_id == rotated.primary_version_id
    assert cloud.kms.decrypt(moved.ciphertext_blob) == b"secret"
    assert cloud.kms.decrypt(blob) == b"secret"


def test_a_rotation_reaches_new_blobs_only(cloud: Cloud) -> None:
    key = cloud.create()
    old = cloud.kms.encrypt(key.key_id, b"secret")
    rotated = cloud.lab.rotate(key.key_id)
    new = cloud.kms.encrypt(key.key_id, b"secret")
    read = tencent_blob.read_header if cloud.tencent else ctyun_blob.read_header
    headers = [read(old), read(new)]
    assert [h and h.key_version_id for h in headers] == [v.version_id for v in rotated.versions]
    assert [cloud.kms.version_of(h).number for h in headers] == [1, 2]


def test_two_blobs_of_one_plaintext_differ(cloud: Cloud) -> None:
    key = cloud.create()
    assert len({cloud.kms.encrypt(key.key_id, b"secret") for _ in range(100)}) == 100


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("spec", SYMMETRIC)
def test_lengths_follow_the_law(
    make_cloud: Callable[[str], Cloud], provider: str, spec: KeySpec, soak: bool
) -> None:
    """Tencent's blobs are as long as the cloud's to the byte, for every length there is.

    What a length comes to hangs on its blocks of 16 and of 3, so that 48 of them say it all.
    """
    cloud = make_cloud(provider)
    key, other = cloud.create(spec), cloud.create(spec)
    sizes = range(1, MOST_BYTES[provider] + 1)
    few = {*sizes[:50], *sizes[-50:], *sizes[::97]}
    for size in sizes if soak else sorted(few):
        blob = cloud.kms.encrypt(key.key_id, bytes(size))
        if cloud.tencent:
            s1, s2, s3 = blob.split("-k-")
            assert (len(s1), len(s2)) == (88, 24)
            assert len(s3) == 4 * -(-(20 + 16 * (size // 16 + 1)) // 3)
        else:
            assert len(blob) == 4 * -(-(136 + size) // 3)
        assert len(cloud.re_encrypt(blob, other.key_id).ciphertext_blob) == len(blob)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_plaintext_has_its_limits(cloud: Cloud, beyond: int) -> None:
    key = cloud.create()
    size = MOST_BYTES[cloud.provider] + 1 if beyond else 0
    with pytest.raises(InvalidPlaintext) as caught:
        cloud.kms.encrypt(key.key_id, bytes(size))
    assert caught.value.parameter.lower() == "plaintext"


# Keys that are not there


def names_for_no_key(cloud: Cloud) -> dict[str, tuple[str, type[KmsError]]]:
    elsewhere = cloud.create(kms=cloud.open(region="ap-elsewhere")).key_id
    other = cloud.lab.ctyun() if cloud.tencent else cloud.lab.tencent()
    foreign = other.create_key(alias="foreign").key_id
    return {
        "unknown": (UNKNOWN_ID, KeyNotFound),
        "of another region": (elsewhere, KeyNotFound),
        "of the other provider": (foreign, KeyNotFound),
        "no UUID": ("orders", InvalidKeyId),
        "upper case": (UNKNOWN_ID.upper(), InvalidKeyId),
        "without hyphens": (UNKNOWN_ID.replace("-", ""), InvalidKeyId),
        "with white space": (UNKNOWN_ID + " ", InvalidKeyId),
        "in braces": ("{" + UNKNOWN_ID + "}", InvalidKeyId),
    }


def test_a_key_that_is_not_there(cloud: Cloud) -> None:
    blob = cloud.kms.encrypt(cloud.create().key_id, b"secret")
    for name, (key_id, error) in names_for_no_key(cloud).items():
        for call in (
            cloud.kms.describe_key,
            cloud.kms.disable_key,
            cloud.kms.list_key_versions,
            lambda key_id: cloud.kms.encrypt(key_id, b"secret"),
            lambda key_id: cloud.re_encrypt(blob, key_id),
        ):
            with pytest.raises(error):
                call(key_id)
        row = cloud.re_encrypt_many([blob], [key_id])
        assert isinstance(row.error[0], error), name


def test_an_alias_names_a_key_at_ctyun_but_for_re_encrypt(cloud: Cloud) -> None:
    key = cloud.create(alias="orders")
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    if cloud.tencent:
        with pytest.raises(InvalidKeyId):
            cloud.kms.encrypt("orders", b"secret")
    else:
        assert cloud.kms.describe_key("orders").key_id == key.key_id
        assert cloud.kms.decrypt(cloud.kms.encrypt("orders", b"secret")) == b"secret"
        named = data(cloud.kms.call("encrypt", {"cmkUuid": "orders", "plaintext": "YQ=="}))
        assert named["cmkUuid"] == key.key_id
    with pytest.raises(InvalidKeyId):
        cloud.re_encrypt(blob, "orders")


def test_a_pair_encrypts_nothing_symmetrically(cloud: Cloud) -> None:
    pair, key = cloud.pair(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    for call in (
        lambda: cloud.kms.encrypt(pair.key_id, b"secret"),
        lambda: cloud.kms.generate_data_key(pair.key_id, key_spec="AES_256"),
        lambda: cloud.re_encrypt(blob, pair.key_id),
    ):
        with pytest.raises(InvalidKeyUsage):
            call()
    with pytest.raises(InvalidKeyUsage):
        cloud.public_key(key)


# Regions


def test_a_key_belongs_to_its_region(cloud: Cloud) -> None:
    there = cloud.open(region="ap-elsewhere")
    key = cloud.create(kms=there)
    blob = there.encrypt(key.key_id, b"secret")
    cloud.create()
    assert there.region == key.region == "ap-elsewhere"
    assert there.decrypt(blob) == b"secret"
    assert not opens(cloud, blob)
    assert key.key_id not in {k.key_id for k in cloud.kms.list_keys()}
    assert [k.key_id for k in there.list_keys()] == [key.key_id]


# Blobs that do not open


@pytest.mark.parametrize("seen", [False, True], ids=["fresh", "seen"])
def test_every_bit_of_a_blob_counts(cloud: Cloud, seen: bool) -> None:
    """Whatever is flipped, the answer is one error that says nothing."""
    blob = cloud.kms.encrypt(cloud.create().key_id, b"secret")
    cloud.create()
    assert opens(cloud, blob)
    kms = cloud.kms if seen else cloud.open()
    spoiled = list(flipped(blob))
    assert len(spoiled) == 8 * (116 if cloud.tencent else 142)
    for text in spoiled:
        assert not opens(cloud, text, kms)
        if cloud.tencent:
            changed = repaired(text)
            assert changed == blob or not opens(cloud, changed, kms)


@pytest.mark.parametrize("seen", [False, True], ids=["fresh", "seen"])
def test_a_cut_blob_does_not_open(cloud: Cloud, seen: bool) -> None:
    blob = cloud.kms.encrypt(cloud.create().key_id, b"a plaintext of more than one block")
    kms = cloud.kms if seen else cloud.open()
    for text in cut(blob):
        assert not opens(cloud, text, kms)


def test_another_spelling_of_a_blob_does_not_open(cloud: Cloud) -> None:
    blob = cloud.kms.encrypt(cloud.create().key_id, bytes(33))
    spellings = [blob + "\n", " " + blob, blob + "=", blob.rstrip("="), blob.lower(), blob * 2]
    spellings += [blob[:size] + "\n" + blob[size:] for size in (76, len(blob) - 5)]
    for text in spellings:
        assert text == blob or not opens(cloud, text)


@pytest.mark.parametrize("name", NOT_OPENABLE)
def test_what_is_no_blob_of_the_lab_does_not_open(cloud: Cloud, name: str) -> None:
    cloud.create()
    assert not opens(cloud, NOT_OPENABLE[name])


def test_a_blob_of_the_other_provider_does_not_open(cloud: Cloud) -> None:
    cloud.create()
    other = cloud.lab.ctyun() if cloud.tencent else cloud.lab.tencent()
    assert not opens(cloud, other.encrypt(other.create_key(alias="a").key_id, b"secret"))


def test_a_foreign_blob_of_the_same_ids_does_not_open(
    make_cloud: Callable[[str], Cloud], tmp_path: Path
) -> None:
    """Another lab with the same key and version ids, and other material."""
    for provider in BOTH:
        clouds = []
        for letter in b"ab":
            cloud = make_cloud(provider)
            item = seed_key(provider, UNKNOWN_ID, [b64(bytes([letter]) * 32)])
            cloud.lab.seed(seed_file(tmp_path / f"{provider}-{letter}.yaml", item))
            clouds.append(cloud)
        here, there = clouds
        blob = there.kms.encrypt(UNKNOWN_ID, b"secret")
        assert not opens(here, blob)
        own = here.kms.encrypt(UNKNOWN_ID, b"secret")
        ids = 48 if here.tencent else 144  # characters that hold nothing but the ids
        assert own[:ids] == blob[:ids]
        assert opens(here, own)
        if not here.tencent:
            assert not opens(here, own[:144] + blob[144:])


def test_a_version_is_known_by_a_lab_blob_alone(cloud: Cloud) -> None:
    """A cloud's own blob may name a key and version of the lab, and is still the cloud's."""
    key = cloud.create()
    names = (key.key_id, key.versions[0].version_id)
    lab = UnverifiedHeader(cloud.provider, BlobFormat.LAB, *names)
    assert cloud.kms.version_of(lab) == key.versions[0]
    for header in (
        UnverifiedHeader(cloud.provider, BlobFormat.CLOUD, *names),
        UnverifiedHeader(cloud.provider, BlobFormat.PUBLIC_KEY),
        UnverifiedHeader(cloud.provider, BlobFormat.LAB, names[0], UNKNOWN_ID),
        UnverifiedHeader(cloud.provider, BlobFormat.LAB, UNKNOWN_ID, names[1]),
    ):
        with pytest.raises(KeyNotFound):
            cloud.kms.version_of(header)


# Rights


def test_re_encrypt_needs_rights_on_both_keys(cloud: Cloud) -> None:
    source, destination, third = cloud.create(), cloud.create(), cloud.create()
    action = cloud.action("reEncrypt")
    rights = [f"{action}:{source.key_id}", f"{action}:{destination.key_id}"]
    cloud.lab.credentials.create("both", rights=rights)
    cloud.lab.credentials.create("source", rights=rights[:1])
    cloud.lab.credentials.create("destination", rights=rights[1:])
    blob = cloud.kms.encrypt(source.key_id, b"secret")

    def outcome(name: str, to: str) -> str:
        kms = cloud.open(credential=name)
        single = "ok"
        try:
            cloud.re_encrypt(blob, to, kms=kms)
        except Unauthorized:
            single = "refused"
        batch = cloud.re_encrypt_many([blob], [to], kms=kms)
        assert isinstance(batch.error[0], Unauthorized) is (single == "refused")
        return single

    assert outcome("both", destination.key_id) == "ok"
    assert outcome("both", third.key_id) == "refused"
    assert outcome("source", destination.key_id) == "refused"
    assert outcome("destination", destination.key_id) == "refused"
    assert outcome("source", source.key_id) == "ok"


def test_a_right_is_to_one_call(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    cloud.lab.credentials.create("reader", rights=[cloud.action("decrypt")])
    reader = cloud.open(credential="reader")
    assert reader.decrypt(blob) == b"secret"
    for call in (
        lambda: reader.encrypt(key.key_id, b"secret"),
        lambda: reader.describe_key(key.key_id),
        lambda: reader.disable_key(key.key_id),
        lambda: reader.generate_data_key(key.key_id, key_spec="AES_256"),
        lambda: reader.create_key(alias="mine"),
        lambda: reader.list_keys(),
        lambda: cloud.re_encrypt(blob, key.key_id, kms=reader),
    ):
        with pytest.raises(Unauthorized):
            call()
    cloud.lab.credentials.revoke("reader")
    with pytest.raises(Unauthorized):
        reader.decrypt(blob)


# Faults


def test_a_fault_happens_as_often_as_it_was_asked_for(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    internal = "InternalError" if cloud.tencent else "KMS.0514"
    action = cloud.action("reEncrypt")
    cloud.lab.faults.add(action, internal, count=2)
    assert cloud.kms.decrypt(blob) == b"secret"
    request = {cloud.action("ciphertextBlob"): blob, cloud.action("destinationKeyId"): key.key_id}
    with pytest.raises(InternalError) as caught:
        cloud.re_encrypt(blob)
    assert uuid.UUID(caught.value.request_id)
    assert code(cloud.kms.call(action, request)) == internal
    assert cloud.lab.faults.all() == []
    assert short(cloud.kms.call(action, request)) == "ok"
    assert cloud.kms.decrypt(cloud.re_encrypt(blob).ciphertext_blob) == b"secret"


def test_a_fault_costs_rows_of_a_batch(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blobs = [cloud.kms.encrypt(key.key_id, b"secret") for _ in range(5)]
    cloud.lab.faults.add(
        cloud.action("reEncrypt"), "InternalError" if cloud.tencent else "500", count=2
    )
    done = cloud.re_encrypt_many(blobs, other.key_id)
    assert [isinstance(error, InternalError) for error in done.error].count(True) == 2
    assert [blob is None for blob in done.ciphertext_blob].count(True) == 2
    assert cloud.re_encrypt_many(blobs, other.key_id).error == [None] * 5


def test_a_fault_is_cleared(cloud: Cloud) -> None:
    key = cloud.create()
    cloud.lab.faults.add(cloud.action("encrypt"), "InternalError" if cloud.tencent else "500")
    cloud.lab.faults.clear()
    assert cloud.kms.encrypt(key.key_id, b"secret")


def test_a_fault_needs_a_code_of_the_provider(cloud: Cloud) -> None:
    for bad in ("NoSuchCode", "KMS.0514" if cloud.tencent else "InternalError"):
        with pytest.raises(SettingError):
            cloud.lab.faults.add(cloud.action("encrypt"), bad)


# The rate limit


def test_the_documented_rate_is_kept_when_asked_for(cloud: Cloud) -> None:
    """100 calls a second of ReEncrypt, counted by the lab's clock (seed 000)."""
    kms = cloud.open(rate_limit=True)
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    for _ in range(100):
        cloud.re_encrypt(blob, key.key_id, kms=kms)
    with pytest.raises(Throttled) as caught:
        cloud.re_encrypt(blob, key.key_id, kms=kms)
    assert caught.value.retry_after == pytest.approx(0.01)
    assert kms.decrypt(blob) == b"secret"
    cloud.clock.advance(timedelta(milliseconds=11))
    cloud.re_encrypt(blob, key.key_id, kms=kms)
    with pytest.raises(Throttled):
        cloud.re_encrypt(blob, key.key_id, kms=kms)
    cloud.re_encrypt(blob, key.key_id)


def test_the_rate_limit_counts_rows(cloud: Cloud) -> None:
    kms = cloud.open(rate_limit=True)
    key, other = cloud.create(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    done = cloud.re_encrypt_many([blob] * 150, other.key_id, kms=kms)
    assert sum(error is None for error in done.error) == 100
    assert all(isinstance(error, Throttled) for error in done.error if error)


# Request ids


def test_every_answer_has_a_request_id_of_its_own(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    ids = [cloud.re_encrypt(blob).request_id for _ in range(50)]
    ids.append(cloud.kms.generate_data_key(key.key_id, key_spec="AES_256").request_id)
    for call in (
        lambda: cloud.kms.decrypt("no blob"),
        lambda: cloud.kms.describe_key(UNKNOWN_ID),
        lambda: cloud.kms.update_alias(key.key_id, "not an alias!"),
        lambda: cloud.kms.update_key_description(key.key_id, "x" * 10_000),
        lambda: cloud.kms.schedule_key_deletion(key.key_id, 6),
        lambda: cloud.kms.encrypt(key.key_id, b""),
        lambda: cloud.kms.create_key(alias="not an alias!"),
        lambda: (
            cloud.kms.enable_key_rotation(key.key_id, rotate_days=1)
            if cloud.tencent
            else cloud.kms.update_rotation_policy(key.key_id, rotation_days=1)
        ),
    ):
        with pytest.raises(KmsError) as caught:
            call()
        ids.append(caught.value.request_id)
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(i)) == i for i in ids)


def test_a_refused_call_is_audited_under_its_request_id(cloud: Cloud) -> None:
    key = cloud.create()
    with pytest.raises(KmsError) as caught:
        cloud.kms.update_alias(key.key_id, "not an alias!")
    last = cloud.lab.audit.entries(1)[0]
    assert last.request_id == caught.value.request_id
    assert last.action == cloud.action("updateAlias")
    assert last.outcome == (
        "InvalidParameterValue.InvalidAlias" if cloud.tencent else "LAB.InvalidParameter"
    )


def test_a_batch_has_one_request_id(cloud: Cloud) -> None:
    cloud.create()
    done = cloud.re_encrypt_many(["no blob", "another"], [UNKNOWN_ID] * 2)
    ids = {error.request_id for error in done.error if error}
    assert len(done.error) == 2
    assert len(ids) == 1
    assert uuid.UUID(ids.pop())


# Deletion


def test_a_deleted_key_is_gone_at_once(cloud: Cloud) -> None:
    key = cloud.create()
    cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    scheduled = cloud.schedule_deletion(key.key_id)
    assert scheduled.deletion_at is not None
    cloud.clock.set(scheduled.deletion_at - timedelta(seconds=1))
    assert cloud.kms.describe_key(key.key_id).deletion_at == scheduled.deletion_at
    cloud.clock.advance(timedelta(seconds=1))
    with pytest.raises(KeyNotFound):
        cloud.kms.describe_key(key.key_id)
    assert not opens(cloud, blob)
    assert not opens(cloud, blob, cloud.open())


def test_a_disabled_key_is_refused_and_comes_back(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    cloud.kms.disable_key(key.key_id)
    for call in (
        lambda: cloud.kms.decrypt(blob),
        lambda: cloud.kms.encrypt(key.key_id, b"x"),
        lambda: cloud.re_encrypt(blob),
    ):
        with pytest.raises(KeyDisabled) as caught:
            call()
        assert caught.value.key_id == key.key_id
    cloud.kms.enable_key(key.key_id)
    assert cloud.kms.decrypt(blob) == b"secret"


def test_a_lab_is_the_kms_protocol(cloud: Cloud) -> None:
    kms: Kms = cloud.lab.kms(cloud.provider)
    assert (kms.provider, kms.region) == (cloud.provider, cloud.kms.region)
    assert kms.capabilities.versions
    assert kms.capabilities.authenticate
    lacks = "public_key_source" if cloud.tencent else "contexts"
    assert getattr(kms.capabilities, lacks) is False
    assert kms.capabilities.missing[lacks]
    assert cloud.lab.providers() == ("tencent", "ctyun")
    with pytest.raises(KeyError):
        cloud.lab.kms("aws")


def test_data_keys_are_blobs_like_any_other(cloud: Cloud) -> None:
    key = cloud.create()
    wanted: list[tuple[dict[str, Any], int]] = [
        ({"key_spec": "AES_128"}, 16),
        ({"key_spec": "AES_256"}, 32),
        *(({"number_of_bytes": n, "key_spec": "AES_128"}, n) for n in (1, 33, 1024)),
    ]
    for asked, size in wanted:
        made = cloud.kms.generate_data_key(key.key_id, **asked)
        assert len(made.plaintext) == size
        assert cloud.kms.decrypt(made.ciphertext_blob) == made.plaintext
        moved = cloud.re_encrypt(made.ciphertext_blob)
        assert cloud.kms.decrypt(moved.ciphertext_blob) == made.plaintext
        assert "Plaintext(" in repr(made)
        assert repr(bytes(made.plaintext)) not in repr(made)


def test_encryptions_are_counted(cloud: Cloud) -> None:
    key = cloud.create()
    for _ in range(10):
        cloud.kms.encrypt(key.key_id, b"secret")
    assert cloud.kms.versions(key.key_id)[0].encryptions >= 10


def test_answers_are_in_the_providers_shape(cloud: Cloud) -> None:
    key = cloud.create()
    if cloud.tencent:
        found = response(cloud.kms.call("DescribeKey", {"KeyId": key.key_id}))
        assert found["KeyMetadata"]["KeyId"] == key.key_id
    else:
        assert data(cloud.kms.call("describeKey", {"cmkUuid": key.key_id}))["cmkUuid"] == key.key_id


def test_both_providers_live_in_one_lab(cloud: Cloud) -> None:
    lab: Lab = cloud.lab
    made = {lab.tencent().create_key("a").key_id, lab.ctyun().create_key().key_id}
    assert {key.key_id for key in lab.keys()} == made
