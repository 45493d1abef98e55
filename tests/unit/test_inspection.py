"""`inspect`, `inspect_many` and `read_headers`: what a blob says of itself, and what is no blob."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmslab.encoding import b64
from kmslab.inspection import MAX_CHARACTERS, inspect, inspect_many, read_headers
from kmslab.model import BlobFormat, KeySpec
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

KEY = "23e80852-1e38-11e9-b129-5cb9019b4b01"
VERSIONS = ["49ec76d7-cc4c-400e-9f19-f9001587ae0f", "5cb9019b-1e38-11e9-b129-23e808524b01"]
PUBLIC = Path(__file__).parents[1] / "golden" / "formats" / "public.json"
SPEC, MATERIAL = KeySpec.AES_256, bytes(32)


def tencent_blob(size: int = 6, version: int = 0, context: str = "") -> str:
    cipher = tencent.VersionCipher(KEY, VERSIONS[version], SPEC, MATERIAL)
    return cipher.seal(bytes(size), context, bytes(16))


def ctyun_blob(size: int = 6, version: int = 0) -> str:
    cipher = ctyun.VersionCipher(KEY, VERSIONS[version], SPEC, MATERIAL)
    return cipher.seal(bytes(size), bytes(12))


@pytest.fixture(scope="module")
def public() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(PUBLIC.read_text("utf-8"))
    return rows


def test_the_public_samples_of_both_clouds(public: list[dict[str, Any]]) -> None:
    for row in public:
        found = inspect(row["blob"]).as_dict()
        parts = found.pop("parts")
        assert found == row["inspection"]
        assert bool(parts) is (found["provider"] is not None)


def test_columns_say_the_same_of_the_public_samples(public: list[dict[str, Any]]) -> None:
    texts = [row["blob"] for row in public]
    strict, quick = inspect_many(texts), read_headers(texts)
    assert len(strict) == len(quick) == len(texts)
    for row, text in enumerate(texts):
        found = inspect(text)
        assert strict.provider[row] == quick.provider[row] == found.provider
        assert strict.format[row] is quick.format[row] is found.format
        assert strict.key_id[row] == quick.key_id[row] == found.key_id
        assert strict.key_version_id[row] == quick.key_version_id[row] == found.key_version_id
        assert quick.fingerprint[row] == found.fingerprint
        assert quick.has_context[row] == found.has_context
        assert strict.error[row] == (None if found.provider else found.notes[0])


@pytest.mark.parametrize("size", [0, 6, 16, 32])
def test_lab_blobs(size: int) -> None:
    least = size // 16 * 16
    for text, provider, plaintext in (
        (tencent_blob(size), "tencent", (least, least + 15)),
        (ctyun_blob(size), "ctyun", (size, size)),
    ):
        found = inspect(text)
        assert (found.provider, found.format) == (provider, BlobFormat.LAB)
        assert (found.key_id, found.key_version_id) == (KEY, VERSIONS[0])
        assert (found.characters, found.plaintext_bytes) == (len(text), plaintext)
        assert "not proven" in found.notes[0]
        assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_public_key_ciphertext_names_nothing() -> None:
    found = inspect(b64(b"\x9a" * 256))
    assert (found.provider, found.format) == ("ctyun", BlobFormat.PUBLIC_KEY)
    assert found.key_id is None
    assert "must be given" in found.notes[0]


NO_BLOBS = {
    "empty": ("", "empty"),
    "blanks": (" \n", "empty"),
    "a word": ("orders", "not base64"),
    "Chinese": ("订单", "not base64"),
    "lone surrogate": ("\ud800", "not base64"),
    "white space around a blob": (tencent_blob() + "\n", "white space around"),
    "white space around a word": (" orders", "not base64"),
    "a Tencent blob with a wrong CRC": (
        tencent_blob()[:130] + "////" + tencent_blob()[134:],
        "Tencent's shape, but the CRC at the end of s3 is wrong (at character 118)",
    ),
    "two segments": ("a-k-b", '2 segments joined by "-k-": Tencent\'s shape has three'),
    "four segments": (tencent_blob() + "-k-", "4 segments joined"),
    "a Tencent blob, cut": (tencent_blob()[:140], "Tencent's shape, but"),
    "its first segment": (tencent_blob()[:88], "begins as a lab's Tencent blob"),
    "a CTyun blob, cut": (
        ctyun_blob()[:150],
        "CTyun's shape, but the blob is not canonical base64",
    ),
    "its header": (ctyun_blob()[:144], "CTyun's shape, but a lab's body of 4 bytes is cut"),
    "another vendor's": (
        b64(KEY.encode() + bytes(44)),
        "a UUID at the start: another vendor's layout",
    ),
    "48 bytes": (b64(b"\x8a" * 48), "48 bytes without header, whole blocks of 16: layout unknown"),
    "50 bytes": (b64(b"\x8a" * 50), "50 bytes without header: layout unknown"),
    "too long": ("A" * (MAX_CHARACTERS + 4), "more than any blob has"),
    "very long": ("-k-" * 10_000_000, "more than any blob has"),
}


@pytest.mark.parametrize(("text", "note"), NO_BLOBS.values(), ids=NO_BLOBS.keys())
def test_what_is_no_blob_gets_its_reason(text: str, note: str) -> None:
    found = inspect(text)
    assert (found.provider, found.format, found.parts) == (None, BlobFormat.UNKNOWN, ())
    assert note in found.notes[0]
    assert inspect_many([text]).error == [found.notes[0]]


@settings(max_examples=settings.default.max_examples * 3)
@given(text=st.text(max_size=400), data=st.binary(max_size=300))
def test_no_text_raises(text: str, data: bytes) -> None:
    for any_text in (text, b64(data), tencent_blob()[:91] + text, ctyun_blob()[:144] + text):
        found = inspect(any_text)
        assert (found.provider is None) is (found.format is BlobFormat.UNKNOWN)
        assert found.notes
        assert inspect_many([any_text]).format == [found.format]
        read_headers([any_text])


@settings(max_examples=settings.default.max_examples * 2)
@given(data=st.data())
def test_a_known_head_does_not_make_the_look_at_the_rest_less_strict(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([tencent_blob(32), ctyun_blob(32), ctyun_blob(31)]))
    place = data.draw(st.integers(0, len(good) - 1))
    letter = data.draw(st.sampled_from("ABCgw019+/=-_ \né"))
    changed = good[:place] + letter + good[place + 1 :]
    columns = inspect_many([good, changed])
    found = inspect(changed)
    assert columns.error == [None, None if found.provider else found.notes[0]]
    assert columns.key_version_id[1] == found.key_version_id


def test_columns_keep_rows_apart() -> None:
    texts = [tencent_blob(), ctyun_blob(), None, "x", tencent_blob(9, 1), ctyun_blob(9, 1), 1.5]
    for columns in (inspect_many(texts), read_headers(texts)):
        assert columns.provider == ["tencent", "ctyun", None, None, "tencent", "ctyun", None]
        one, two = VERSIONS
        assert columns.key_version_id == [one, one, None, None, two, two, None]
    assert inspect_many(texts).error[2] == "not a text"
    assert len(inspect_many([])) == len(read_headers([])) == 0


def test_the_quick_look_reads_the_head_alone() -> None:
    texts = [tencent_blob()[:100], ctyun_blob()[:150], tencent_blob() + "?"]
    assert read_headers(texts).key_version_id == [VERSIONS[0]] * 3
    assert inspect_many(texts).key_version_id == [None] * 3


def test_a_cloud_context_is_told_row_by_row(public: list[dict[str, Any]]) -> None:
    with_context = public[0]["blob"]
    without = with_context.replace(with_context[91:115], tencent.NO_CONTEXT)
    columns = read_headers([with_context, without, with_context])
    assert columns.has_context == [True, False, True]
    assert len(set(columns.fingerprint)) == 1
