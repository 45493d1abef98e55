"""Rows of docs/semantics.md that have no test among those of their subject, and the page itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from provider_clouds import (
    BOTH,
    CONTEXT,
    CTYUN_CLOUD,
    ROOT,
    SHA_256,
    TENCENT_CLOUD_NO_CONTEXT,
    TENCENT_SEED_OUTPUT,
    UNKNOWN_ID,
    Cloud,
    code,
    data,
    external_key,
    response,
    short,
    unb64,
)

from kmslab import InvalidCiphertext, KeyNotFound, Record
from kmslab.analysis import DROP, Outcome, Target, classify, forecast
from kmslab.errors import (
    AliasInUse,
    ExternalCannotRotate,
    KeyDisabled,
    RotatedRecently,
    RotationUnsupported,
    Unsupported,
)
from kmslab.model import CTYUN, TENCENT, KeySpec, KeyState

DAY = timedelta(days=1)
BEIJING = timedelta(hours=8)


# ReEncrypt


def test_an_omitted_destination_context_drops_it(tencent: Cloud) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=CONTEXT)
    request = {"CiphertextBlob": blob, "SourceEncryptionContext": CONTEXT}
    answer = response(tencent.kms.call("ReEncrypt", request))
    assert answer["ReEncrypted"] is True
    assert tencent.kms.decrypt(answer["CiphertextBlob"]) == b"secret"
    with pytest.raises(InvalidCiphertext):
        tencent.kms.decrypt(answer["CiphertextBlob"], context=CONTEXT)


def test_a_missing_destination_is_kms_0112(ctyun: Cloud) -> None:
    blob = ctyun.kms.encrypt(ctyun.create().key_id, b"secret")
    answer = ctyun.kms.call("reEncrypt", {"ciphertextBlob": blob})
    assert (answer["code"], answer["errorCode"]) == ("400", "KMS.0112")
    assert answer["msg"] == "DestinationUuid cannot be empty"


def test_pkcs1_v1_5_is_not_offered(cloud: Cloud) -> None:
    pair = cloud.pair()
    name = "RSAES_PKCS1_V1_5"
    calls: list[Callable[[], Any]] = (
        [lambda: cloud.kms.asymmetric_rsa_decrypt(pair.key_id, "YQ==", name)]
        if cloud.tencent
        else [
            lambda: cloud.kms.asymmetric_encrypt(pair.key_id, UNKNOWN_ID, name, b"x"),
            lambda: cloud.kms.asymmetric_decrypt(pair.key_id, UNKNOWN_ID, name, "YQ=="),
        ]
    )
    for call in calls:
        with pytest.raises(Unsupported):
            call()


# Rotation


def rotating(cloud: Cloud, days: int) -> str:
    key = cloud.create()
    if cloud.tencent:
        cloud.kms.enable_key_rotation(key.key_id, rotate_days=days)
    else:
        cloud.kms.update_rotation_policy(key.key_id, rotation_days=days)
    return key.key_id


def test_missed_rotations_are_caught_up_one_by_one(cloud: Cloud) -> None:
    start = cloud.clock.now()
    key_id = rotating(cloud, 30)
    blob = cloud.kms.encrypt(key_id, b"secret")
    cloud.clock.advance(100 * DAY)
    found = cloud.kms.describe_key(key_id)
    assert [v.number for v in found.versions] == [1, 2, 3, 4]
    assert [v.due_at for v in found.versions] == [None, *(start + n * 30 * DAY for n in (1, 2, 3))]
    assert [v.made_at for v in found.versions] == [start, *([start + 100 * DAY] * 3)]
    assert found.primary_version_id == found.versions[-1].version_id
    assert found.next_rotation_at == start + 120 * DAY
    assert cloud.re_encrypt(blob).key_version_id == found.primary_version_id


def test_a_disabled_key_skips_its_rotations(cloud: Cloud) -> None:
    """And keeps its calendar."""
    start = cloud.clock.now()
    key_id = rotating(cloud, 30)
    cloud.kms.disable_key(key_id)
    cloud.clock.advance(100 * DAY)
    assert len(cloud.kms.describe_key(key_id).versions) == 1
    enabled = cloud.kms.enable_key(key_id)
    assert len(enabled.versions) == 1
    assert enabled.next_rotation_at == start + 120 * DAY
    cloud.clock.advance(20 * DAY)
    assert len(cloud.kms.describe_key(key_id).versions) == 2


def test_rotation_begins_when_it_is_switched_on(cloud: Cloud) -> None:
    key_id = rotating(cloud, 30)
    cloud.clock.advance(20 * DAY)
    if cloud.tencent:
        cloud.kms.disable_key_rotation(key_id)
        again = cloud.kms.enable_key_rotation(key_id, rotate_days=7)
    else:
        cloud.kms.update_rotation_policy(key_id, rotation_days=None)
        again = cloud.kms.update_rotation_policy(key_id, rotation_days=7)
    assert again.next_rotation_at == cloud.clock.now() + 7 * DAY
    assert len(again.versions) == 1


def test_a_rotation_by_hand_puts_the_next_off(cloud: Cloud) -> None:
    key_id = rotating(cloud, 30)
    cloud.clock.advance(20 * DAY)
    assert cloud.lab.rotate(key_id).next_rotation_at == cloud.clock.now() + 30 * DAY


def test_rotate_key_keeps_the_clouds_rules(tencent: Cloud) -> None:
    """Automatic rotation on, once in 24 hours; `lab.rotate` knows neither."""
    key_id = tencent.create().key_id
    with pytest.raises(RotationUnsupported):
        tencent.kms.rotate_key(key_id)
    tencent.kms.enable_key_rotation(key_id)
    assert len(tencent.kms.rotate_key(key_id).versions) == 2
    with pytest.raises(RotatedRecently) as caught:
        tencent.kms.rotate_key(key_id)
    assert caught.value.retry_after == 86_400
    tencent.lab.rotate(key_id)
    tencent.clock.advance(DAY)
    assert len(tencent.kms.rotate_key(key_id).versions) == 4


def test_the_labs_own_rotation_knows_no_calendar(cloud: Cloud) -> None:
    key = cloud.create()
    assert len(cloud.lab.rotate(key.key_id).versions) == 2
    assert len(cloud.lab.rotate(key.key_id).versions) == 3
    cloud.kms.disable_key(key.key_id)
    with pytest.raises(KeyDisabled):
        cloud.lab.rotate(key.key_id)
    pair = cloud.pair()
    if cloud.tencent:
        with pytest.raises(RotationUnsupported):
            cloud.lab.rotate(pair.key_id)
        with pytest.raises(ExternalCannotRotate):
            cloud.lab.rotate(external_key(cloud).key_id)
    else:
        assert len(cloud.lab.rotate(pair.key_id).versions) == 2


def test_a_pair_gets_versions_as_often_as_asked(ctyun: Cloud) -> None:
    pair = ctyun.pair()
    made = [ctyun.kms.create_key_version(pair.key_id) for _ in range(3)]
    assert [version.number for version in made] == [2, 3, 4]
    assert ctyun.kms.describe_key(pair.key_id).primary_version_id is None


# Deletion


def test_deletion_comes_at_the_end_of_a_beijing_day(tencent: Cloud) -> None:
    for hour in (0, 15, 16, 23):
        tencent.clock.set(datetime(2026, 3, 1 + hour, hour, 30, tzinfo=UTC))
        key = tencent.create()
        tencent.kms.disable_key(key.key_id)
        request = {"KeyId": key.key_id, "PendingWindowInDays": 7}
        answer = response(tencent.kms.call("ScheduleKeyDeletion", request))
        end = datetime.fromtimestamp(answer["DeletionDate"], UTC) + BEIJING
        assert (end.hour, end.minute, end.second) == (23, 59, 59)
        assert end.date() == (tencent.clock.now() + 7 * DAY + BEIJING).date()


def test_deletion_comes_to_the_second_at_ctyun(ctyun: Cloud) -> None:
    key, other = ctyun.create(), ctyun.create()
    assert ctyun.kms.schedule_key_deletion(key.key_id, 7).deletion_at == (
        ctyun.clock.now() + 7 * DAY
    )
    assert ctyun.kms.schedule_key_deletion(other.key_id).deletion_at == (
        ctyun.clock.now() + 30 * DAY
    )


def test_an_alias_is_free_again_after_deletion(cloud: Cloud) -> None:
    key = cloud.create(alias="orders")
    with pytest.raises(AliasInUse):
        cloud.create(alias="orders")
    other = cloud.create()
    with pytest.raises(AliasInUse):
        cloud.kms.update_alias(other.key_id, "orders")
    assert cloud.create(alias="orders", kms=cloud.open(region="ap-elsewhere"))
    cloud.schedule_deletion(key.key_id)
    with pytest.raises(AliasInUse):
        cloud.create(alias="orders")
    cloud.clock.advance(9 * DAY)
    assert cloud.create(alias="orders").alias == "orders"


# Ids, lists, keys


def test_a_tencent_key_id_tells_its_time(tencent: Cloud) -> None:
    for _ in range(3):
        tencent.clock.advance(timedelta(seconds=12345))
        found = uuid.UUID(tencent.create().key_id)
        assert found.version == 1
        made = (found.time - 0x01B21DD213814000) / 10_000_000
        assert int(made) == int(tencent.clock.time())
        assert found.node >> 40 & 1, "a random node has the multicast bit"


def test_other_ids_are_random(cloud: Cloud) -> None:
    key = cloud.create()
    assert uuid.UUID(key.versions[0].version_id).version == 4
    assert (uuid.UUID(key.key_id).version == 4) is not cloud.tencent


def test_list_keys_leaves_out_what_the_cloud_leaves_out(tencent: Cloud) -> None:
    kept, archived, doomed = (tencent.create().key_id for _ in range(3))
    tencent.kms.archive_key(archived)
    tencent.schedule_deletion(doomed)
    listed = response(tencent.kms.call("ListKeys", {}))
    assert [key["KeyId"] for key in listed["Keys"]] == [kept]
    assert len(tencent.kms.list_keys()) == 3


def test_a_public_key_is_proper_pem(cloud: Cloud) -> None:
    pair = cloud.pair()
    found = cloud.public_key(pair)
    loaded = serialization.load_pem_public_key(found.pem.encode())
    der = loaded.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert der == found.der
    if cloud.tencent:
        answer = response(cloud.kms.call("GetPublicKey", {"KeyId": pair.key_id}))
        assert unb64(answer["PublicKey"]) == der
        assert answer["PublicKeyPem"] == found.pem


def test_every_version_of_a_pair_decrypts(ctyun: Cloud) -> None:
    pair = ctyun.pair(2)
    for version in pair.versions:
        blob = ctyun.kms.asymmetric_encrypt(pair.key_id, version.version_id, SHA_256, b"secret")
        found = ctyun.kms.asymmetric_decrypt(pair.key_id, version.version_id, SHA_256, blob)
        assert found == b"secret"


def test_sm4_keys_tell_their_kind(cloud: Cloud) -> None:
    key, plain = cloud.create(KeySpec.SM4), cloud.create()
    if cloud.tencent:
        types = [
            response(cloud.kms.call("DescribeKey", {"KeyId": k.key_id}))["KeyMetadata"]["Type"]
            for k in (key, plain)
        ]
        assert types == [4, 2]
    else:
        specs = [
            data(cloud.kms.call("describeKey", {"cmkUuid": k.key_id}))["keySpec"]
            for k in (key, plain)
        ]
        assert specs == ["Ctyun_SM4", "AES_256"]


def test_numbers_as_text_are_refused(cloud: Cloud) -> None:
    key = cloud.create()
    if cloud.tencent:
        request = {"KeyId": key.key_id, "PendingWindowInDays": "7"}
        assert code(cloud.kms.call("ScheduleKeyDeletion", request)) == "InvalidParameter"
    else:
        request = {"cmkUuid": key.key_id, "pendingWindowInDays": "7"}
        assert code(cloud.kms.call("scheduleKeyDeletion", request)) == "LAB.InvalidParameter"


def test_no_rate_limit_unless_asked_for(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    for _ in range(150):
        cloud.kms.decrypt(blob)


def test_regions_of_a_new_lab(cloud: Cloud) -> None:
    regions = {TENCENT: "ap-guangzhou", CTYUN: "60a39fca876e11ea91cf0242ac110002"}
    assert cloud.kms.region == regions[cloud.provider]


def test_a_fault_is_answered_with_the_code_it_names(tencent: Cloud) -> None:
    """CmkArchived is none of ReEncrypt's codes; a fault may ask for it all the same."""
    tencent.lab.faults.add("ReEncrypt", "ResourceUnavailable.CmkArchived")
    assert short(tencent.kms.call("ReEncrypt", {"CiphertextBlob": ""})) == "CmkArchived"


# What a campaign would do


def verdict(cloud: Cloud, blob: str, target: Target | None = None, **known: Any) -> tuple[str, str]:
    record = Record("1", cloud.provider, blob, **known)
    found = classify(record, cloud.lab, target or Target())
    return found.outcome.value, found.reason


def test_a_context_alone_is_a_move(tencent: Cloud) -> None:
    """Where the version is stale as well, the record is stale."""
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=CONTEXT)
    assert verdict(tencent, blob, context=CONTEXT) == ("current", "")
    assert verdict(tencent, blob, Target(context={"a": "b"}), context=CONTEXT) == ("move", "")
    assert verdict(tencent, blob, Target(context=DROP), context=CONTEXT) == ("move", "")
    tencent.lab.rotate(key.key_id)
    assert verdict(tencent, blob, Target(context={"a": "b"}), context=CONTEXT) == ("stale", "")


def test_a_plan_loses_no_context_in_silence(tencent: Cloud) -> None:
    blob = tencent.kms.encrypt(tencent.create().key_id, b"secret", context=CONTEXT)
    for none in (None, "", "{}"):
        found = verdict(tencent, blob, Target(context=none), context=CONTEXT)
        assert found == ("blocked", "context would be lost")


def test_a_plan_compares_contexts_as_text(tencent: Cloud) -> None:
    blob = tencent.kms.encrypt(tencent.create().key_id, b"secret", context=CONTEXT)
    spelled = Target(context='{"app": "订单"}')
    assert verdict(tencent, blob, spelled, context=CONTEXT) == ("move", "")


def test_a_move_is_a_move_stale_or_not(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    target = Target(key_id=other.key_id)
    assert verdict(cloud, blob, target) == ("move", "")
    cloud.lab.rotate(key.key_id)
    assert verdict(cloud, blob, target) == ("move", "")
    assert verdict(cloud, blob) == ("stale", "")


def test_a_current_record_of_a_disabled_key_is_blocked(cloud: Cloud) -> None:
    key = cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    cloud.kms.disable_key(key.key_id)
    assert verdict(cloud, blob) == ("blocked", "key disabled")


def test_a_current_record_of_an_archived_key_is_current(tencent: Cloud) -> None:
    key = tencent.create()
    old = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.lab.rotate(key.key_id)
    new = tencent.kms.encrypt(key.key_id, b"secret")
    tencent.kms.archive_key(key.key_id)
    assert verdict(tencent, new) == ("current", "")
    assert verdict(tencent, old) == ("blocked", "key archived")


def test_a_record_that_contradicts_its_blob_is_invalid(ctyun: Cloud) -> None:
    blob = ctyun.kms.encrypt(ctyun.create().key_id, b"secret")
    assert verdict(ctyun, blob, source_key_id=UNKNOWN_ID)[0] == "invalid"
    assert verdict(ctyun, blob, source_encryption_algorithm=SHA_256)[0] == "invalid"


def test_a_context_means_nothing_at_ctyun(ctyun: Cloud) -> None:
    blob = ctyun.kms.encrypt(ctyun.create().key_id, b"secret")
    assert verdict(ctyun, blob, context=CONTEXT) == ("current", "")
    assert verdict(ctyun, blob, Target(context=CONTEXT), context=CONTEXT) == (
        "blocked",
        "provider has no contexts",
    )


def test_a_clouds_own_blob_is_foreign_to_a_lab(cloud: Cloud) -> None:
    blobs = [TENCENT_CLOUD_NO_CONTEXT, TENCENT_SEED_OUTPUT] if cloud.tencent else [CTYUN_CLOUD]
    for blob in blobs:
        assert verdict(cloud, blob) == ("foreign", "")


def test_a_forecast_counts_on_a_hundred_calls_a_second() -> None:
    for provider in BOTH:
        assert forecast({provider: 1000}).seconds == pytest.approx(10)


def test_every_outcome_that_a_lab_can_have() -> None:
    assert {outcome.value for outcome in Outcome} == {
        "stale", "move", "current", "may_change", "foreign", "blocked", "invalid",
        "needs_context", "needs_public_key_info",
    }  # fmt: skip


def test_a_key_of_a_deleted_state_is_gone(cloud: Cloud) -> None:
    key = cloud.create()
    cloud.schedule_deletion(key.key_id)
    cloud.clock.advance(9 * DAY)
    with pytest.raises(KeyNotFound):
        cloud.kms.cancel_key_deletion(key.key_id)
    assert cloud.lab.key(key.key_id).state is KeyState.DELETED


# The page


MARKS = {"documented", "inferred", "lab's choice"}
PAGE = ROOT / "docs" / "semantics.md"


def rows() -> Iterator[tuple[int, list[str]]]:
    """The rows of the tables of choices, with their lines; heads and rules apart."""
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0] != "what happens" and set(cells[0]) != {"-"}:
            yield number, cells


def names_of_tests() -> set[str]:
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^ *def (test_\w+)\(", path.read_text(), re.MULTILINE))
    return found


def test_every_choice_has_a_mark_its_evidence_and_a_test() -> None:
    known = names_of_tests()
    seen: dict[str, int] = {}
    found = list(rows())
    assert len(found) > 60
    for number, (what, mark, evidence, test) in found:
        where = f"line {number}"
        assert what, where
        assert mark.strip("*") in MARKS, f"{where}: {mark}"
        assert evidence, where
        names = re.findall(r"`(test_\w+)`", test)
        assert len(names) == 1, f"{where}: one test for each row, not {test}"
        assert names[0] in known, f"{where}: there is no {names[0]}"
        assert names[0] not in seen, f"{where}: {names[0]} is line {seen[names[0]]}'s"
        seen[names[0]] = number
