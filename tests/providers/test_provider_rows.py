"""One bad row of a batch costs only itself, whatever is wrong with it; what was done is audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from provider_clouds import Cloud, b64, seed_file, seed_key

from kmslab import Record
from kmslab.errors import (
    EncryptionLimitReached,
    InvalidRequest,
    KmsError,
    LabBusy,
    LabUncertain,
    LabUnreachable,
)
from kmslab.model import KeySpec
from kmslab.providers.batch import LOOK_AGAIN_ROWS
from kmslab.providers.ctyun import blob as ctyun_blob
from kmslab.providers.tencent import blob as tencent_blob

FULL = "00000000-0000-4000-8000-00000000ffff"
MATERIAL = bytes(range(32))
NAN = float("nan")


def full_key(cloud: Cloud, folder: Path) -> str:
    """A blob of FULL, a key that has made 2^32 ciphertexts."""
    item = seed_key(cloud.provider, FULL, [b64(MATERIAL)])
    version = item["versions"][0]
    version["encryptions"] = 2**32
    cloud.lab.seed(seed_file(folder / "full.yaml", item))
    names = (FULL, version["version_id"], KeySpec.AES_256, MATERIAL)
    if cloud.tencent:
        return tencent_blob.VersionCipher(*names).seal(b"full", "", bytes(16))
    return ctyun_blob.VersionCipher(*names).seal(b"full", bytes(12))


def record(cloud: Cloud, blob: Any, context: Any = None) -> Record:
    return Record("1", cloud.provider, blob, context=context)


def kinds(errors: list[KmsError | None]) -> list[str | None]:
    return [None if error is None else type(error).__name__ for error in errors]


def test_a_destination_at_its_limit_costs_only_its_rows(cloud: Cloud, tmp_path: Path) -> None:
    of_full = full_key(cloud, tmp_path)
    key, other = cloud.create(), cloud.create()
    blob = cloud.kms.encrypt(key.key_id, b"secret")
    blobs = [blob, blob, of_full, blob, of_full]
    to = [other.key_id, FULL, FULL, other.key_id, other.key_id]
    done = cloud.re_encrypt_many(blobs, to, verify=True)
    # Tencent gives a blob of the primary version back: that makes no ciphertext.
    own = None if cloud.tencent else "EncryptionLimitReached"
    assert kinds(done.error) == [None, "EncryptionLimitReached", own, None, None]
    assert done.ciphertext_blob[2] == (of_full if cloud.tencent else None)
    assert [done.key_id[row] for row in (0, 3, 4)] == [other.key_id] * 3
    opened = [cloud.kms.decrypt(done.ciphertext_blob[row]) for row in (0, 3, 4)]
    assert opened == [b"secret", b"secret", b"full"]
    with pytest.raises(EncryptionLimitReached):
        cloud.re_encrypt(blob, FULL)


@pytest.mark.parametrize("call", ["re_encrypt", "decrypt", "encrypt"])
def test_rows_done_before_a_chunk_that_fails_are_audited(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    key = cloud.create().key_id
    blob = cloud.kms.encrypt(key, b"secret")
    cloud.lab.rotate(key)
    rows, kms = LOOK_AGAIN_ROWS + 1, cloud.kms
    keystore = cloud.lab._keystore
    begin, begun = keystore.begin, []

    def busy_later() -> float:
        begun.append(None)
        if len(begun) == 2:
            raise LabBusy("another process holds the lab")
        return begin()

    calls = {
        "re_encrypt": lambda: cloud.re_encrypt_many([blob] * rows, key),
        "decrypt": lambda: kms.decrypt_records([record(cloud, blob)] * rows),
        "encrypt": lambda: kms.encrypt_many([b"x"] * rows, key_id=key),
    }
    with monkeypatch.context() as patched:
        patched.setattr(keystore, "begin", busy_later)
        with pytest.raises(LabBusy):
            calls[call]()
    action = cloud.action({"re_encrypt": "reEncrypt"}.get(call, call))
    last = [row for row in cloud.lab.audit.entries() if row.action == action][-1]
    assert (last.key_id, last.outcome, last.count) == (key, "ok", LOOK_AGAIN_ROWS)
    assert last.request_id


def fails_to_log(*_: object, **__: object) -> None:
    raise LabUnreachable("the database does not answer; try again")


def test_a_chunk_that_may_have_changed_something_says_so_though_nothing_can_be_logged(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, keystore = cloud.create().key_id, cloud.lab._keystore
    begin, begun = keystore.begin, []

    def lost_later() -> float:
        begun.append(None)
        if len(begun) == 1:
            return begin()
        monkeypatch.setattr(keystore, "change", fails_to_log)
        raise LabUncertain("a rotation that was due may have been made or not")

    monkeypatch.setattr(keystore, "begin", lost_later)
    with pytest.raises(LabUncertain, match="made or not") as raised:
        cloud.kms.encrypt_many([b"x"] * (LOOK_AGAIN_ROWS + 1), key_id=key)
    (note,) = raised.value.__notes__
    assert note.startswith("logging the call failed too: the database does not answer")


def test_no_refusal_goes_out_that_cannot_be_logged(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cloud.create().key_id
    cloud.kms.disable_key(key)
    keystore = cloud.lab._keystore
    monkeypatch.setattr(keystore, "note", fails_to_log)
    with pytest.raises(LabUnreachable):
        cloud.kms.encrypt(key, b"x")


@pytest.mark.parametrize("odd", [NAN, ["a"], ("a",), 7, b"{}"], ids=repr)
def test_a_context_that_is_none_costs_only_its_row(tencent: Cloud, odd: Any) -> None:
    kms = tencent.kms
    key = tencent.create().key_id
    blob = kms.encrypt(key, b"secret")
    tencent.lab.rotate(key)
    column = [None, odd, ""]
    bad = [None, "InvalidRequest", None]
    for name in ("source_contexts", "destination_contexts"):
        done = kms.re_encrypt_many([blob] * 3, **{name: column})
        assert kinds(done.error) == bad
        assert done.ciphertext_blob[1] is None
        assert kms.decrypt(done.ciphertext_blob[2]) == b"secret"
    opened = kms.decrypt_records([record(tencent, blob, context) for context in column])
    assert kinds(opened.error) == bad
    assert opened.plaintext == [b"secret", None, b"secret"]
    sealed = kms.encrypt_many([b"secret"] * 3, key_id=key, contexts=column)
    assert kinds(sealed.error) == bad
    # Given for all rows, or the same in each of them.
    assert kinds(kms.re_encrypt_many([blob] * 2, source_contexts=[odd] * 2).error) == (
        ["InvalidRequest"] * 2
    )


@pytest.mark.parametrize("odd", [None, NAN, b"blob", 7], ids=repr)
def test_a_blob_that_is_no_text_costs_only_its_row(cloud: Cloud, odd: Any) -> None:
    key = cloud.create().key_id
    blob = cloud.kms.encrypt(key, b"secret")
    cloud.lab.rotate(key)
    moved = cloud.re_encrypt_many([blob, odd, blob], key)
    assert isinstance(moved.error[1], InvalidRequest)
    assert kinds(moved.error)[::2] == [None, None]
    opened = cloud.kms.decrypt_records([record(cloud, each) for each in (blob, odd, blob)])
    assert isinstance(opened.error[1], InvalidRequest)
    assert opened.plaintext == [b"secret", None, b"secret"]
    sealed = cloud.kms.encrypt_many([b"a", None, b"b"], key_id=key)
    assert sealed.error == [None] * 3
    assert [text is None for text in sealed.ciphertext_blob] == [False, True, False]
