"""`re_encrypt_many` and its halves: what `re_encrypt` does, row by row."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_clouds import (
    BOTH,
    CONTEXT,
    CTYUN_CLOUD,
    START,
    TENCENT_CLOUD_NO_CONTEXT,
    UNKNOWN_ID,
    Cloud,
    flipped,
)

from kmslab import KmsError, Lab, ManualClock, Record, ReEncryptResult
from kmslab.errors import (
    BadAnswer,
    InvalidCiphertext,
    InvalidRequest,
    KeyDisabled,
    MissingParameter,
    Retryable,
)
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.base import KEEP, ReEncrypted, Sealed
from kmslab.providers.batch import LOOK_AGAIN_ROWS

NO_CONTEXTS: list[Any] = [None, "", "{}", {}]
CONTEXTS: list[Any] = [*NO_CONTEXTS, CONTEXT, {"app": "订单"}, "[]", "no JSON", '{"a":1}']


class Pool:
    """Blobs and keys of every kind, to draw rows from."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        kms = cloud.kms
        key, other, off, gone = (cloud.create() for _ in range(4))
        options: dict[str, Any] = {"context": CONTEXT} if cloud.tencent else {}
        self.blobs = [kms.encrypt(key.key_id, b"old"), kms.encrypt(off.key_id, b"off")]
        cloud.lab.rotate(key.key_id)
        self.blobs += [
            kms.encrypt(key.key_id, b"new"),
            kms.encrypt(key.key_id, bytes(100)),
            kms.encrypt(other.key_id, b"with context", **options),
            kms.encrypt(gone.key_id, b"gone"),
        ]
        self.blobs += [self.blobs[0][:-4], self.blobs[2][:-8] + "AAAAAAA=", "", "订单"]
        self.blobs += [CTYUN_CLOUD, TENCENT_CLOUD_NO_CONTEXT]
        kms.disable_key(off.key_id)
        cloud.schedule_deletion(gone.key_id)
        self.keys: list[str | None] = [None, key.key_id, other.key_id, off.key_id]
        self.keys += [UNKNOWN_ID, "orders", ""]

    def single(self, row: dict[str, Any]) -> ReEncryptResult | KmsError:
        kms = self.cloud.kms
        try:
            if self.cloud.tencent:
                return kms.re_encrypt(
                    row["blob"],
                    destination_key_id=row["key"],
                    source_context=row["before"],
                    destination_context=row["after"],
                )
            return kms.re_encrypt(row["blob"], destination_key_id=row["key"])
        except KmsError as error:
            return error

    def many(self, rows: list[dict[str, Any]], *, verify: bool) -> ReEncrypted:
        columns = {name: [row[name] for row in rows] for name in ("blob", "key", "before", "after")}
        contexts: dict[str, Any] = {}
        if self.cloud.tencent:
            contexts = {
                "source_contexts": columns["before"],
                "destination_contexts": columns["after"],
            }
        return self.cloud.kms.re_encrypt_many(
            columns["blob"], destination_key_ids=columns["key"], verify=verify, **contexts
        )

    def opened(self, blob: str, context: Any) -> bytes:
        options = {"context": context} if self.cloud.tencent else {}
        return bytes(self.cloud.kms.decrypt(blob, **options))


def row_of(done: ReEncrypted, row: int) -> tuple[Any, ...]:
    return (
        done.re_encrypted[row],
        done.key_id[row],
        done.key_version_id[row],
        done.source_key_id[row],
        done.source_key_version_id[row],
    )


@pytest.mark.parametrize("provider", BOTH)
def test_a_batch_is_its_rows(make_cloud: Callable[[str], Cloud], provider: str) -> None:
    """Whatever the rows: the same ids, the same errors, the same plaintext as one by one."""
    pool = Pool(make_cloud(provider))

    @given(
        rows=st.lists(
            st.fixed_dictionaries(
                {
                    "blob": st.sampled_from(pool.blobs),
                    "key": st.sampled_from(pool.keys),
                    "before": st.sampled_from(CONTEXTS),
                    "after": st.sampled_from(CONTEXTS),
                }
            ),
            max_size=30,
        ),
        verify=st.booleans(),
    )
    def check(rows: list[dict[str, Any]], verify: bool) -> None:
        done = pool.many(rows, verify=verify)
        assert len(done) == len(rows)
        for number, row in enumerate(rows):
            one, error, blob = pool.single(row), done.error[number], done.ciphertext_blob[number]
            if isinstance(one, KmsError):
                assert type(error) is type(one), (row, error, one)
                assert error is not None
                assert getattr(error, "parameter", "") == getattr(one, "parameter", "")
                assert row_of(done, number) == (None,) * 5
                assert (blob, done.verified[number]) == (None, None)
                continue
            assert error is None
            assert blob is not None
            assert row_of(done, number) == (
                one.re_encrypted,
                one.key_id,
                one.key_version_id,
                one.source_key_id,
                one.source_key_version_id,
            )
            assert (blob == row["blob"]) is not one.re_encrypted
            assert done.verified[number] is (True if verify else None)
            assert pool.opened(blob, row["after"]) == pool.opened(one.ciphertext_blob, row["after"])

    check()


def test_one_value_stands_for_a_column(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blobs = [cloud.kms.encrypt(key.key_id, bytes([n])) for n in range(5)]
    done = cloud.re_encrypt_many(blobs, other.key_id)
    assert done.key_id == [other.key_id] * 5
    assert [cloud.kms.decrypt(blob) for blob in done.ciphertext_blob] == [
        bytes([n]) for n in range(5)
    ]
    assert done.verified == [None] * 5
    assert cloud.re_encrypt_many(tuple(blobs), (other.key_id,) * 5).error == [None] * 5


def test_a_batch_of_nothing(cloud: Cloud) -> None:
    key = cloud.create()
    done = cloud.re_encrypt_many([], key.key_id, verify=True)
    assert len(done) == 0
    assert done == ReEncrypted([], [], [], [], [], [], [], [])
    assert cloud.kms.decrypt_records([]).plaintext == []
    assert cloud.kms.encrypt_many([], key_id=key.key_id) == Sealed([], [], [], [])


@pytest.mark.parametrize("length", [0, 1, 3])
def test_columns_are_as_long_as_the_blobs(cloud: Cloud, length: int) -> None:
    key = cloud.create()
    blobs = [cloud.kms.encrypt(key.key_id, b"secret")] * 2
    columns: list[dict[str, Any]] = [{"destination_key_ids": [key.key_id] * length}]
    fixed: dict[str, Any] = {"destination_key_ids": key.key_id}
    if cloud.tencent:
        columns += [{name: [None] * length} for name in ("source_contexts", "destination_contexts")]
    else:
        columns += [
            {name: [None] * length}
            for name in ("source_key_ids", "source_key_version_ids", "source_algorithms")
        ]
    for column in columns:
        with pytest.raises(ValueError, match=next(iter(column))):
            cloud.kms.re_encrypt_many(blobs, **{**fixed, **column})
    with pytest.raises(ValueError, match="contexts"):
        cloud.kms.encrypt_many([b"a", b"b"], key_id=key.key_id, contexts=[None] * length)


def test_a_new_blob_that_opens_to_something_else_is_a_bad_answer(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = cloud.create(), cloud.create()
    blobs = [cloud.kms.encrypt(key.key_id, bytes([n])) for n in range(5)]
    same = iter([True, True, False, True, True])
    monkeypatch.setattr("kmslab.providers.batch.bytes_eq", lambda *_: next(same))
    done = cloud.re_encrypt_many(blobs, other.key_id, verify=True)
    assert [type(error) for error in done.error] == [type(None)] * 2 + [BadAnswer] + [
        type(None)
    ] * 2
    assert done.ciphertext_blob[2] is None
    assert not isinstance(done.error[2], Retryable)


def test_one_bad_row_costs_only_itself(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blobs = [
        cloud.kms.encrypt(key.key_id, bytes([n % 251])) for n in range(2 * LOOK_AGAIN_ROWS + 7)
    ]
    bad = [0, 1, 500, LOOK_AGAIN_ROWS - 1, LOOK_AGAIN_ROWS, 2 * LOOK_AGAIN_ROWS + 6]
    for n in bad:
        *_, blobs[n] = flipped(blobs[n])
    done = cloud.re_encrypt_many(blobs, other.key_id, verify=True)
    assert [n for n, error in enumerate(done.error) if error] == bad
    assert all(isinstance(done.error[n], InvalidCiphertext) for n in bad)
    for n, blob in enumerate(done.ciphertext_blob):
        assert (blob is None) is (n in bad)
        assert done.verified[n] is (None if n in bad else True)
        assert blob is None or cloud.kms.decrypt(blob) == bytes([n % 251])


def test_equal_rows_get_equal_treatment(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    done = cloud.re_encrypt_many([blob, blob, "bad", "bad", blob], other.key_id)
    assert [error is None for error in done.error] == [True, True, False, False, True]
    assert len({b for b in done.ciphertext_blob if b}) == 3
    assert all(cloud.kms.decrypt(b) == b"secret" for b in done.ciphertext_blob if b)


def test_tencents_no_op_gives_the_text_back_in_a_batch(tencent: Cloud) -> None:
    key = tencent.create()
    blobs = [tencent.kms.encrypt(key.key_id, bytes([n]), context=CONTEXT) for n in range(3)]
    done = tencent.kms.re_encrypt_many(
        blobs, source_contexts=CONTEXT, destination_contexts={"app": "订单"}
    )
    assert done.ciphertext_blob == blobs
    assert done.re_encrypted == [False] * 3
    assert done.key_version_id == done.source_key_version_id


def test_a_batch_is_counted_and_audited(cloud: Cloud) -> None:
    key, other = cloud.create(), cloud.create()
    blobs = [cloud.kms.encrypt(key.key_id, b"secret") for _ in range(30)] + ["bad"] * 4
    cloud.re_encrypt_many(blobs, other.key_id)
    assert cloud.kms.versions(other.key_id)[0].encryptions >= 30
    entries = [
        entry for entry in cloud.lab.audit.entries() if entry.action == cloud.action("reEncrypt")
    ]
    assert sorted(entry.count for entry in entries) == [4, 30]
    good = next(entry for entry in entries if entry.count == 30)
    assert (good.source_key_id, good.key_id, good.outcome) == (key.key_id, other.key_id, "ok")
    assert cloud.lab.audit.verify().broken_at is None


# What another handle does in the middle


class Interrupted(ManualClock):
    """A clock that does something when it is asked for the time the second time."""

    def __init__(self) -> None:
        super().__init__(START)
        self.act: Callable[[], object] | None = None
        self.asked = 0

    def time(self) -> float:
        self.asked += 1
        if self.act is not None and self.asked == 2:
            act, self.act = self.act, None
            act()
        return super().time()


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("change", ["rotate", "disable"])
def test_a_batch_sees_another_handles_change_at_the_next_chunk(
    tmp_path: Path, provider: str, change: str
) -> None:
    clock = Interrupted()
    with (
        Lab.create(tmp_path / "lab", clock=clock) as lab,
        Lab.open(tmp_path / "lab", clock=ManualClock(START)) as other,
    ):
        kms: Any = lab.kms(provider)
        key, target = kms.create_key(alias="a"), kms.create_key(alias="b")
        blob = kms.encrypt(key.key_id, b"secret")
        changed = key if change == "disable" else target
        clock.asked = 0
        clock.act = (
            (lambda: other.rotate(changed.key_id))
            if change == "rotate"
            else (lambda: other.kms(provider).disable_key(changed.key_id))
        )
        rows = 3 * LOOK_AGAIN_ROWS + 500
        done = kms.re_encrypt_many([blob] * rows, destination_key_ids=target.key_id)
        assert clock.act is None
        if change == "rotate":
            seen: list[Any] = list(done.key_version_id)
            now = kms.describe_key(target.key_id).primary_version_id
            assert (seen[0], seen[-1]) == (target.primary_version_id, now)
        else:
            seen = [type(error) for error in done.error]
            assert (seen[0], seen[-1]) == (type(None), KeyDisabled)
        turns = [n for n in range(1, rows) if seen[n] != seen[n - 1]]
        assert len(turns) == 1
        assert turns[0] % LOOK_AGAIN_ROWS == 0


def test_a_call_sees_another_handles_change_at_once(tmp_path: Path) -> None:
    clock = ManualClock(START)
    with (
        Lab.create(tmp_path / "lab", clock=clock) as lab,
        Lab.open(tmp_path / "lab", clock=clock) as other,
    ):
        kms, there = lab.tencent(), other.tencent()
        key = kms.create_key("orders")
        blob = kms.encrypt(key.key_id, b"secret")
        assert there.decrypt(blob) == b"secret"
        other.rotate(key.key_id)
        assert kms.re_encrypt(blob).re_encrypted is True
        there.disable_key(key.key_id)
        with pytest.raises(KeyDisabled):
            kms.decrypt(blob)
        end = there.schedule_key_deletion(key.key_id, 7).deletion_at
        assert end is not None
        clock.advance(end - clock.now() + timedelta(seconds=1))
        with pytest.raises(InvalidCiphertext):
            kms.decrypt(blob)


# Records


def record(cloud: Cloud, blob: str, **known: Any) -> Record:
    return Record("1", cloud.provider, blob, **known)


def test_records_are_re_encrypted_each_to_its_own_key(cloud: Cloud) -> None:
    keys = [cloud.create() for _ in range(3)]
    records = [record(cloud, cloud.kms.encrypt(key.key_id, b"secret")) for key in keys]
    for key in keys:
        cloud.lab.rotate(key.key_id)
    records.append(record(cloud, "no blob"))
    done = cloud.kms.re_encrypt_records(records, verify=True)
    assert done.key_id == [*(key.key_id for key in keys), None]
    assert done.re_encrypted == [True] * 3 + [None]
    assert done.verified == [True] * 3 + [None]
    moved = cloud.kms.re_encrypt_records(records, destination_key_id=keys[0].key_id)
    assert moved.key_id == [keys[0].key_id] * 3 + [None]


def test_records_keep_their_context_unless_told_otherwise(tencent: Cloud) -> None:
    key = tencent.create()
    blob = tencent.kms.encrypt(key.key_id, b"secret", context=CONTEXT)
    records = [record(tencent, blob, context=CONTEXT)]
    tencent.lab.rotate(key.key_id)
    wanted: list[tuple[Any, Any]] = [(KEEP, CONTEXT), (None, None), ({"a": "b"}, {"a": "b"})]
    for given_, found in wanted:
        done = tencent.kms.re_encrypt_records(records, destination_context=given_, verify=True)
        assert done.error == [None]
        assert tencent.kms.decrypt(done.ciphertext_blob[0], context=found) == b"secret"


def test_ctyun_records_have_no_context(ctyun: Cloud) -> None:
    key = ctyun.create()
    records = [record(ctyun, ctyun.kms.encrypt(key.key_id, b"secret"), context=CONTEXT)]
    for none in (KEEP, None, "", "{}", {}):
        done = ctyun.kms.re_encrypt_records(records, destination_context=none)
        assert done.error == [None]
    with pytest.raises(ValueError, match="context"):
        ctyun.kms.re_encrypt_records(records, destination_context=CONTEXT)


def test_public_key_records_need_a_destination(ctyun: Cloud) -> None:
    pair, key = ctyun.pair(), ctyun.create()
    version = pair.versions[0].version_id
    blob = ctyun.kms.asymmetric_encrypt(pair.key_id, version, "RSAES_OAEP_SHA_1", b"secret")
    named = record(
        ctyun,
        blob,
        source_key_id=pair.key_id,
        source_key_version_id=version,
        source_encryption_algorithm="RSAES_OAEP_SHA_1",
    )
    done = ctyun.kms.re_encrypt_records([named, record(ctyun, blob)], destination_key_id=key.key_id)
    assert ctyun.kms.decrypt(done.ciphertext_blob[0]) == b"secret"
    assert isinstance(done.error[1], InvalidCiphertext)
    done = ctyun.kms.re_encrypt_records([named])
    assert isinstance(done.error[0], MissingParameter)
    opened = ctyun.kms.decrypt_records([named, record(ctyun, blob)])
    assert opened.plaintext == [b"secret", None]
    assert opened.key_version_id == [version, None]


# Encrypting and decrypting columns


def test_columns_of_plaintexts_come_back(cloud: Cloud) -> None:
    key = cloud.create()
    plaintexts = [b"a", None, b"", bytes(5000) if cloud.tencent else bytes(7000), b"b"]
    sealed = cloud.kms.encrypt_many(plaintexts, key_id=key.key_id)
    assert [error is None for error in sealed.error] == [True, True, False, False, True]
    assert [blob is None for blob in sealed.ciphertext_blob] == [False, True, True, True, False]
    assert sealed.key_id == [key.key_id, None, None, None, key.key_id]
    blobs = [blob or "bad" for blob in sealed.ciphertext_blob]
    opened = cloud.kms.decrypt_records([record(cloud, blob) for blob in blobs])
    assert opened.plaintext == [b"a", None, None, None, b"b"]
    assert opened.key_id == sealed.key_id
    assert opened.key_version_id == sealed.key_version_id
    assert [isinstance(error, InvalidCiphertext) for error in opened.error] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert "Plaintext(" in repr(opened)
    assert repr(b"a") not in repr(opened)


def test_each_row_has_its_own_context(tencent: Cloud) -> None:
    key = tencent.create()
    contexts: list[Any] = [None, CONTEXT, {"a": "b"}, "no JSON"]
    sealed = tencent.kms.encrypt_many([b"x"] * 4, key_id=key.key_id, contexts=contexts)
    assert [error is None for error in sealed.error] == [True, True, True, False]
    texts = [None, CONTEXT, '{"a":"b"}', None]
    opened = tencent.kms.decrypt_records(
        [
            record(tencent, blob or "", context=text)
            for blob, text in zip(sealed.ciphertext_blob, texts, strict=True)
        ]
    )
    assert opened.plaintext == [b"x", b"x", b"x", None]


def test_ctyun_loses_no_context_in_silence(ctyun: Cloud) -> None:
    key = ctyun.create()
    sealed = ctyun.kms.encrypt_many([b"x"] * 2, key_id=key.key_id, contexts=[CONTEXT, None])
    assert isinstance(sealed.error[0], InvalidRequest)
    assert sealed.error[1] is None


@pytest.mark.parametrize("bad", [UNKNOWN_ID, "orders"])
def test_a_key_that_is_not_there_costs_every_row(cloud: Cloud, bad: str) -> None:
    sealed = cloud.kms.encrypt_many([b"a", None, b"b"], key_id=bad)
    assert [error is None for error in sealed.error] == [False, True, False]
    assert sealed.ciphertext_blob == [None] * 3


def test_the_providers_are_both_tested() -> None:
    assert BOTH == (TENCENT, CTYUN)
