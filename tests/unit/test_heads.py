"""Heads seen before: they are believed of whole blobs only, and only so many are kept."""

from __future__ import annotations

import pytest
from fake_kms import FakeKms, FakeProviders, make_key, uuid, version_id

from kmslab.analysis import heads as heads_module
from kmslab.analysis.heads import Heads, Standing
from kmslab.inspection import MAX_CHARACTERS, inspect, inspect_many
from kmslab.model import CTYUN, TENCENT, KeySpec, Record
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

MOST = 64
FORGED = 500


def blob(provider: str, key: int, version: str, material: int = 0, size: int = 6) -> str:
    names = (uuid(key), version, KeySpec.AES_256, material.to_bytes(32, "big"))
    if provider == TENCENT:
        return tencent.VersionCipher(*names).seal(bytes(size), "", bytes(16))
    return ctyun.VersionCipher(*names).seal(bytes(size), bytes(12))


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
def test_a_blob_that_is_too_long_is_refused_behind_a_known_head(provider: str) -> None:
    short = blob(provider, 1, version_id(1, 1))
    long = blob(provider, 1, version_id(1, 1), size=MAX_CHARACTERS)
    reason = inspect(long).notes[0]
    assert reason == f"{len(long)} characters are more than any blob has"
    assert inspect_many([long]).error == [reason]
    found = inspect_many([short, long, short])
    assert found.error == [None, reason, None]
    assert found.provider == [provider, None, provider]


@pytest.mark.parametrize("provider", [TENCENT, CTYUN])
@pytest.mark.parametrize("forged", ["key", "version", "check value"])
def test_forged_heads_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, provider: str, forged: str
) -> None:
    monkeypatch.setattr(heads_module, "_MAX_HEADS", MOST)
    key = make_key(1, provider)
    heads = Heads(FakeProviders(FakeKms(provider, [key])))
    good = Record("1", provider, blob(provider, 1, key.versions[0].version_id))
    assert heads.read(good).standing is Standing.KNOWN
    most = 0
    for number in range(2, FORGED):
        text = {
            "key": lambda n: blob(provider, n, version_id(1, 1)),
            "version": lambda n: blob(provider, 1, uuid(n)),
            "check value": lambda n: blob(provider, 1, version_id(1, 1), material=n),
        }[forged](number)
        heads.read(Record("1", provider, text))
        most = max(most, *(len(c) for c in (heads._by_name, heads._by_text, heads._keys)))
    assert most <= MOST
    assert heads.read(good).standing is Standing.KNOWN
