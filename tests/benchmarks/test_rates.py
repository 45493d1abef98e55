"""The rates of re-encryption, of reading headers, and of key lookup."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmslab import Lab
from kmslab.inspection import inspect_many, read_headers

ROWS = 20_000
CONTEXT = '{"app":"orders"}'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab on disk, as it is used."""
    with Lab.create(tmp_path_factory.mktemp("bench") / "lab") as lab:
        yield lab


@pytest.fixture(scope="module")
def tencent(lab: Lab) -> tuple[list[str], str]:
    """Blobs on a version that has been rotated away, and their key."""
    kms = lab.tencent()
    key_id = kms.create_key("orders").key_id
    plaintexts = [os.urandom(32) for _ in range(ROWS)]
    blobs = kms.encrypt_many(plaintexts, key_id=key_id, contexts=CONTEXT).ciphertext_blob
    lab.rotate(key_id)
    return [str(blob) for blob in blobs], key_id


@pytest.fixture(scope="module")
def ctyun(lab: Lab) -> tuple[list[str], str]:
    kms = lab.ctyun()
    key_id = kms.create_key().key_id
    plaintexts = [os.urandom(32) for _ in range(ROWS)]
    blobs = kms.encrypt_many(plaintexts, key_id=key_id).ciphertext_blob
    lab.rotate(key_id)
    return [str(blob) for blob in blobs], key_id


def test_ctyun_re_encrypt_many(lab, ctyun, bare, ratio) -> None:
    blobs, key_id = ctyun
    kms = lab.ctyun()
    ratio(lambda: kms.re_encrypt_many(blobs, destination_key_ids=key_id), ROWS, bare.pair, 0.5)


def test_tencent_re_encrypt_many_one_context(lab, tencent, bare, ratio) -> None:
    blobs, _ = tencent
    kms = lab.tencent()
    ratio(
        lambda: kms.re_encrypt_many(blobs, source_contexts=CONTEXT, destination_contexts=CONTEXT),
        ROWS,
        bare.pair,
        0.3,
    )


def test_tencent_re_encrypt_many_1000_contexts(lab, bare, ratio) -> None:
    kms = lab.tencent()
    key_id = kms.create_key("tenants").key_id
    contexts = [f'{{"tenant":"{n % 1000:04}"}}' for n in range(ROWS)]
    sealed = kms.encrypt_many(
        [os.urandom(32) for _ in range(ROWS)], key_id=key_id, contexts=contexts
    )
    lab.rotate(key_id)
    ratio(
        lambda: kms.re_encrypt_many(
            sealed.ciphertext_blob, source_contexts=contexts, destination_contexts=contexts
        ),
        ROWS,
        bare.pair,
        0.2,
    )


def test_tencent_no_op(lab, tencent, bare, ratio) -> None:
    kms = lab.tencent()
    current = kms.re_encrypt_many(
        tencent[0], source_contexts=CONTEXT, destination_contexts=CONTEXT
    ).ciphertext_blob

    def no_op() -> None:
        done = kms.re_encrypt_many(current, source_contexts=CONTEXT, destination_contexts=CONTEXT)
        assert not any(done.re_encrypted)

    ratio(no_op, ROWS, bare.decrypt, 0.3)


def test_one_tencent_call(lab, tencent, bare, ratio) -> None:
    kms, blobs = lab.tencent(), tencent[0][:5000]

    def calls() -> None:
        for blob in blobs:
            kms.re_encrypt(blob, source_context=CONTEXT, destination_context=CONTEXT)

    ratio(calls, len(blobs), bare.pair, 0.15)


def test_one_ctyun_call(lab, ctyun, bare, ratio) -> None:
    kms, blobs, key_id = lab.ctyun(), ctyun[0][:5000], ctyun[1]

    def calls() -> None:
        for blob in blobs:
            kms.re_encrypt(blob, destination_key_id=key_id)

    ratio(calls, len(blobs), bare.pair, 0.15)


def test_read_headers(tencent, ctyun, rate) -> None:
    blobs = tencent[0] + ctyun[0]
    rate(lambda: read_headers(blobs), len(blobs), 1_000_000)


def test_strict_inspection(tencent, ctyun, rate) -> None:
    blobs = tencent[0] + ctyun[0]
    rate(lambda: inspect_many(blobs), len(blobs), 400_000)


def test_key_lookup_is_flat(lab: Lab, benchmark, note: Callable[[str], None]) -> None:
    """One decryption on a key of one version and on a key of 10,000."""
    kms = lab.tencent()
    few, many = kms.create_key("few").key_id, kms.create_key("many").key_id
    _grow(lab, many, 10_000)
    blobs = [kms.encrypt(key_id, b"x") for key_id in (few, many)]

    def times() -> list[float]:
        found = []
        for blob in blobs:
            begun = time.perf_counter()
            for _ in range(2000):
                kms.decrypt(blob)
            found.append(time.perf_counter() - begun)
        return found

    rounds = [benchmark.pedantic(times, rounds=1, iterations=1), *(times() for _ in range(9))]
    one, ten_thousand = (min(column) for column in zip(*rounds, strict=True))
    note(f"{'decrypt, 10,000 versions : 1 version':44} {ten_thousand / one:12.2f} x the time")


def _grow(lab: Lab, key_id: str, versions: int) -> None:
    from kmslab.keystore import lifecycle

    keystore = lab._keystore
    now = lifecycle.now_of(keystore)
    with keystore.change() as change:
        unit = keystore.unit(key_id)
        made = [
            lifecycle.make_version(keystore, unit.row, number, now)
            for number in range(2, versions + 1)
        ]
        change.put(unit.row, (*unit.versions, *made))


def test_opening_a_lab_of_1000_keys(tmp_path: Path, benchmark, note) -> None:
    with Lab.create(tmp_path / "lab") as lab:
        kms = lab.ctyun()
        for _ in range(1000):
            kms.create_key()

    def reopen() -> None:
        Lab.open(tmp_path / "lab").close()

    benchmark.pedantic(reopen, rounds=3, iterations=1)
    note(f"{'opening a lab of 1,000 keys':44} {benchmark.stats.stats.min * 1000:12.0f} ms")
