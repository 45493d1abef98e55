"""Across providers: `transfer_many` and `same_plaintext_many`."""

from __future__ import annotations

from typing import Any

import pytest
from provider_clouds import CONTEXT, UNKNOWN_ID, Cloud

from kmslab import KeyNotFound, Record, same_plaintext_many, transfer_many
from kmslab.errors import (
    BalanceExhausted,
    InternalError,
    InvalidCiphertext,
    InvalidPlaintext,
    InvalidRequest,
)
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.base import KEEP


def tencent_records(cloud: Cloud, *contexts: str | None) -> list[Record]:
    kms = cloud.lab.tencent()
    key = kms.create_key(f"source-{len(kms.list_keys())}")
    return [
        Record(
            str(n), TENCENT, kms.encrypt(key.key_id, f"secret {n}".encode(), context=c), context=c
        )
        for n, c in enumerate(contexts)
    ]


def test_from_tencent_to_ctyun(cloud: Cloud) -> None:
    lab = cloud.lab
    records = [*tencent_records(cloud, None, "", "{}"), Record("9", TENCENT, "no blob")]
    key = lab.ctyun().create_key()
    done = transfer_many(
        lab.tencent(), lab.ctyun(), records, destination_key_id=key.key_id, verify=True
    )
    assert [blob and lab.ctyun().decrypt(blob) for blob in done.ciphertext_blob] == [
        b"secret 0", b"secret 1", b"secret 2", None,
    ]  # fmt: skip
    assert done.key_id == [key.key_id] * 3 + [None]
    assert done.key_version_id == [key.primary_version_id] * 3 + [None]
    assert done.re_encrypted == [True] * 3 + [None]
    assert done.verified == [True] * 3 + [None]
    assert None not in done.source_key_version_id[:3]
    assert done.source_key_id[3] is done.source_key_version_id[3] is None
    assert isinstance(done.error[3], InvalidCiphertext)


def test_from_ctyun_to_tencent(cloud: Cloud) -> None:
    lab = cloud.lab
    ctyun = lab.ctyun()
    source = ctyun.create_key()
    records = [Record("1", CTYUN, ctyun.encrypt(source.key_id, b"secret"))]
    key = lab.tencent().create_key("destination")
    for context, found in ((KEEP, None), ({"a": "b"}, '{"a":"b"}'), (None, None)):
        done = transfer_many(
            ctyun,
            lab.tencent(),
            records,
            destination_key_id=key.key_id,
            destination_context=context,
            verify=True,
        )
        assert done.verified == [True]
        assert done.source_key_id == [source.key_id]
        assert done.ciphertext_blob[0] is not None
        assert lab.tencent().decrypt(done.ciphertext_blob[0], context=found) == b"secret"


def test_a_context_is_kept(cloud: Cloud) -> None:
    lab = cloud.lab
    records = tencent_records(cloud, CONTEXT, None)
    there = lab.tencent(region="ap-beijing")
    key = there.create_key("destination")
    done = transfer_many(lab.tencent(), there, records, destination_key_id=key.key_id, verify=True)
    assert done.verified == [True, True]
    assert done.ciphertext_blob[0] is not None
    assert there.decrypt(done.ciphertext_blob[0], context=CONTEXT) == b"secret 0"


def test_a_context_is_lost_by_name_only(cloud: Cloud) -> None:
    lab = cloud.lab
    records = tencent_records(cloud, CONTEXT, None)
    key = lab.ctyun().create_key()

    def transfer(context: Any) -> list[type[Exception] | None]:
        done = transfer_many(
            lab.tencent(),
            lab.ctyun(),
            records,
            destination_key_id=key.key_id,
            destination_context=context,
            verify=True,
        )
        for blob, error in zip(done.ciphertext_blob, done.error, strict=True):
            assert (blob is None) is (error is not None)
        return [type(error) if error else None for error in done.error]

    assert transfer(KEEP) == [InvalidRequest, None]
    assert transfer({"a": "b"}) == [InvalidRequest, InvalidRequest]
    assert transfer(None) == [None, None]
    assert transfer("{}") == [None, None]
    assert lab.ctyun().versions(key.key_id)[0].encryptions < 20


def test_a_malformed_context_costs_its_row_only(cloud: Cloud) -> None:
    """CTyun does not look at a record's context; Tencent refuses it, and the batch goes on."""
    lab = cloud.lab
    ctyun = lab.ctyun()
    blob = ctyun.encrypt(ctyun.create_key().key_id, b"secret")
    records = [Record("1", CTYUN, blob, context="[]"), Record("2", CTYUN, blob)]
    key = lab.tencent().create_key("destination")
    done = transfer_many(ctyun, lab.tencent(), records, destination_key_id=key.key_id, verify=True)
    assert isinstance(done.error[0], InvalidRequest)
    assert done.verified == [None, True]
    bad = [Record("1", TENCENT, "no blob", context="no JSON")]
    back = transfer_many(
        lab.tencent(), ctyun, bad, destination_key_id=ctyun.create_key().key_id, verify=True
    )
    assert isinstance(back.error[0], InvalidRequest)


def test_what_the_destination_refuses(cloud: Cloud) -> None:
    lab = cloud.lab
    ctyun, tencent = lab.ctyun(), lab.tencent()
    source, key = ctyun.create_key(), tencent.create_key("destination")
    records = [
        Record(str(size), CTYUN, ctyun.encrypt(source.key_id, bytes(size))) for size in (4096, 4097)
    ]
    done = transfer_many(ctyun, tencent, records, destination_key_id=key.key_id)
    assert done.error[0] is None
    assert isinstance(done.error[1], InvalidPlaintext)
    done = transfer_many(ctyun, tencent, records[:1], destination_key_id=UNKNOWN_ID)
    assert isinstance(done.error[0], KeyNotFound)
    lab.settings.set("balance", 0)
    done = transfer_many(ctyun, tencent, records, destination_key_id=key.key_id)
    assert all(isinstance(error, BalanceExhausted) for error in done.error)


def test_verification_finds_a_blob_that_does_not_open(cloud: Cloud) -> None:
    """A destination that cannot open what it made (here: a fault) is reported row by row."""
    lab = cloud.lab
    records = tencent_records(cloud, None, None)
    key = lab.ctyun().create_key()
    lab.faults.add("decrypt", "500", count=1)
    done = transfer_many(
        lab.tencent(), lab.ctyun(), records, destination_key_id=key.key_id, verify=True
    )
    assert [isinstance(error, InternalError) for error in done.error] == [True, False]
    assert done.verified == [None, True]
    assert done.ciphertext_blob[0] is None


def test_nothing_to_transfer(cloud: Cloud) -> None:
    lab = cloud.lab
    done = transfer_many(lab.tencent(), lab.ctyun(), [], destination_key_id=UNKNOWN_ID, verify=True)
    assert len(done) == 0


def test_old_and_new_are_compared(cloud: Cloud) -> None:
    lab = cloud.lab
    old = tencent_records(cloud, None, CONTEXT, None, None)
    key = lab.ctyun().create_key()
    blobs = [lab.ctyun().encrypt(key.key_id, text) for text in (b"secret 0", b"secret 1", b"other")]
    new = [Record(str(n), CTYUN, blob) for n, blob in enumerate(blobs)]
    new.append(Record("3", CTYUN, "no blob"))
    assert same_plaintext_many(lab, old, new) == [True, True, False, None]
    assert same_plaintext_many(lab, old, old) == [True] * 4
    assert same_plaintext_many(lab, [], []) == []
    elsewhere = [Record("1", "aws", "blob")]
    assert same_plaintext_many(lab, elsewhere, elsewhere) == [None]
    with pytest.raises(ValueError, match="4 old records and 1 new"):
        same_plaintext_many(lab, old, new[:1])
