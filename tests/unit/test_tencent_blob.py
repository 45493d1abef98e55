"""The Tencent ciphertext format: one encoding, the cloud's lengths, one opaque refusal."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import pickle
import re
import string
from binascii import crc32
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from kmslab.crypto import aead
from kmslab.encoding import b64, pack, unb64
from kmslab.errors import FormatError, InvalidCiphertext
from kmslab.model import BlobFormat, KeySpec
from kmslab.providers.tencent.blob import (
    FORMAT_ID,
    HEAD_CHARS,
    IV_BYTES,
    NO_CONTEXT,
    TencentBlob,
    VersionCipher,
    blob_length,
    parse,
    read_header,
    tail_fits,
)

KEY = "23e80852-1e38-11e9-b129-5cb9019b4b01"
VERSION = "49ec76d7-cc4c-400e-9f19-f9001587ae0f"
OTHER = "5cb9019b-1e38-11e9-b129-23e808524b01"
MATERIAL = bytes(range(32))
IV = bytes(range(100, 116))
CONTEXT = '{"app":"orders"}'
CIPHER = VersionCipher(KEY, VERSION, KeySpec.AES_256, MATERIAL)
GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
# The official Encrypt sample: 5 bytes, a context of one pair.
CLOUD = (
    "GPJUsGlmPcSjHKIktXGyzn33yestz+7NteW36M6FuL8hPfJ1xVfdO6Akr8sF69x3yBXMwto4njumJMIsi9WKow=="
    "-k-XqqalxTyNKIC1rITRePFGQ==-k-GqsANzNxvjjXhKwJAOY85vxYYm/2RtsCXRq7Q1iWbCAoeAtZ"
)
LETTERS = string.ascii_letters + string.digits + "+/=-_ \n\t\0é"


def opened(text: str, context: str = CONTEXT) -> bytes | None:
    """The plaintext, or None where it is refused. In a batch, the same."""
    many = CIPHER.open_padded_many([text], [context]) if text.startswith(CIPHER.head) else [None]
    try:
        plaintext = CIPHER.open(text, context)
        assert many == [CIPHER.open_padded(text, context)]
        return plaintext
    except InvalidCiphertext as error:
        refusal = error
    assert many == [None]
    assert str(refusal) == "the ciphertext does not open"
    assert refusal.__suppress_context__
    return None


def with_crc(s1: bytes, s2: bytes, s3: bytes) -> str:
    """The text of three segments, the CRC at the end of s3 made right."""
    return TencentBlob(s1, s2, s3[:-4] + crc32(s3[:-4]).to_bytes(4, "little")).serialise()


# By the book: docs/formats.md, with nothing of kmslab's but `pack` and SM4-GCM.


def hkdf(material: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, SHA-256, no salt, at most one block."""
    extracted = hmac.digest(bytes(32), material, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:size]


def book_open(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """The padded plaintext and the IV of a golden blob."""
    first, second, third = row["blob"].split("-k-")
    s1, s2, s3 = unb64(first), unb64(second), unb64(third)
    material = bytes.fromhex(row["material"])
    names = pack(FORMAT_ID, row["key_id"], row["key_version_id"], row["spec"])
    check_key = hkdf(material, b"check key" + names, 32)
    named = b"KML1" + bytes.fromhex((row["key_id"] + row["key_version_id"]).replace("-", ""))
    assert s1 == named + hmac.digest(check_key, named, hashlib.sha256)[:28]
    data_key = hkdf(material, b"data key" + names, len(material))
    cipher = AESGCM(data_key) if row["spec"] == "AES_256" else aead(KeySpec.SM4, data_key)
    context = row["context"].encode()
    aad = b"kmslab/tencent/1" + s1 + len(context).to_bytes(4, "big") + context
    assert s3[-4:] == crc32(s3[:-4]).to_bytes(4, "little")
    return cipher.decrypt(s3[:16], s3[16:-4] + s2, aad), s3[:16]


@pytest.fixture(scope="module")
def golden() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((GOLDEN / "tencent-1.json").read_text("utf-8"))
    return rows


def test_golden_blobs_are_written_and_opened_as_ever(golden: list[dict[str, Any]]) -> None:
    for row in golden:
        material, spec = bytes.fromhex(row["material"]), KeySpec(row["spec"])
        cipher = VersionCipher(row["key_id"], row["key_version_id"], spec, material)
        plaintext, iv = bytes.fromhex(row["plaintext"]), bytes.fromhex(row["iv"])
        assert cipher.seal(plaintext, row["context"], iv) == row["blob"]
        assert cipher.open(row["blob"], row["context"]) == plaintext
        assert parse(row["blob"]).header().key_version_id == row["key_version_id"]


def test_golden_blobs_are_as_the_document_says(golden: list[dict[str, Any]]) -> None:
    for row in golden:
        padded, iv = book_open(row)
        plaintext = bytes.fromhex(row["plaintext"])
        pad = 16 - len(plaintext) % 16
        assert padded == plaintext + bytes([pad]) * pad
        assert iv.hex() == row["iv"]


@pytest.mark.parametrize("spec", [KeySpec.AES_256, KeySpec.SM4])
@pytest.mark.parametrize("context", ["", CONTEXT, '{"租户":"华东"}'])
def test_what_was_sealed_opens(spec: KeySpec, context: str) -> None:
    cipher = VersionCipher(KEY, VERSION, spec, MATERIAL[: spec.material_bytes])
    for size in (0, 1, 15, 16, 17, 32, 4096):
        data = bytes(i % 251 for i in range(size))
        text = cipher.seal(data, context, IV)
        assert text[:HEAD_CHARS] == cipher.head
        assert cipher.open(text, context) == data


def test_the_length_law_of_the_cloud_holds_for_every_length() -> None:
    for size in range(4097):
        assert blob_length(size) == 118 + 4 * -(-(20 + 16 * (size // 16 + 1)) // 3)
    for size in (*range(100), 4095, 4096):
        text = CIPHER.seal(bytes(size), "", IV)
        assert len(text) == blob_length(size)
        least, most = parse(text).plaintext_bytes()
        assert least <= size <= most == least + 15
    assert blob_length(4096) == 5630


def test_the_parts_of_a_lab_blob_cover_every_byte_once() -> None:
    blob = parse(CIPHER.seal(b"secret", CONTEXT, IV))
    for name, data in (("s1", blob.s1), ("s2", blob.s2), ("s3", blob.s3)):
        parts = [part for part in blob.parts() if part.segment == name]
        assert [part.offset for part in parts][1:] == [p.offset + p.length for p in parts][:-1]
        assert parts[0].offset == 0
        assert parts[-1].offset + parts[-1].length == len(data)
    values = {part.name: part.value for part in blob.parts()}
    assert values["magic"] == "KML1"
    assert values["key id"] == KEY
    assert values["version id"] == VERSION
    assert values["iv"] == IV.hex()


def test_a_cloud_blob_tells_its_fingerprint_and_whether_it_has_a_context() -> None:
    blob = parse(CLOUD)
    assert blob.serialise() == CLOUD
    assert blob.format is BlobFormat.CLOUD
    assert blob.plaintext_bytes() == (0, 15)
    header = blob.header()
    assert (header.key_id, header.key_version_id) == (None, None)
    assert header.fingerprint == blob.s1.hex()
    assert header.has_context is True
    bare = parse(with_crc(blob.s1, unb64(NO_CONTEXT), blob.s3)).header()
    assert bare.has_context is False
    assert bare.fingerprint == header.fingerprint
    assert [part.name for part in blob.parts()] == ["fingerprint", "context mark", "body", "crc"]


def test_a_lab_blob_does_not_tell_whether_it_has_a_context() -> None:
    assert parse(CIPHER.seal(b"", CONTEXT, IV)).header().has_context is None


GOOD = CIPHER.seal(b"0123456789abcdef", "", IV)  # s3 ends in "=="
FIRST, SECOND, THIRD = GOOD.split("-k-")
REFUSED = {
    "empty": ("", "three segments"),
    "one segment": (FIRST, "three segments"),
    "two segments": (f"{FIRST}-k-{SECOND}", "three segments"),
    "four segments": (f"{GOOD}-k-", "three segments"),
    "another separator": (GOOD.replace("-k-", "-K-"), "three segments"),
    "line break at the end": (GOOD + "\n", "s3 is not canonical"),
    "blank in front": (" " + GOOD, "s1 is not canonical"),
    "line break inside": (f"{FIRST[:40]}\n{FIRST[40:]}-k-{SECOND}-k-{THIRD}", "s1 is not"),
    "no padding": (GOOD.rstrip("="), "s3 is not canonical"),
    "too much padding": (GOOD + "=", "s3 is not canonical"),
    "trailing bits in s1": (f"{FIRST[:-3]}{chr(ord(FIRST[-3]) + 1)}==-k-{SECOND}-k-{THIRD}", "s1"),
    "URL-safe letters": (f"{FIRST}-k-{SECOND}-k-{'_' * 4}{THIRD[4:]}", "s3 is not canonical"),
    "not ASCII": (f"{FIRST}-k-{SECOND}-k-é{THIRD[1:]}", "s3 is not canonical"),
    "lone surrogate": (f"\ud800{GOOD[1:]}", "s1 is not canonical"),
    "empty s2": (f"{FIRST}-k--k-{THIRD}", "s2 has 0 bytes, not 16"),
    "s1 one byte short": (f"{b64(unb64(FIRST)[:-1])}-k-{SECOND}-k-{THIRD}", "s1 has 63 bytes"),
    "s2 one byte long": (f"{FIRST}-k-{b64(unb64(SECOND) + b'x')}-k-{THIRD}", "s2 has 17 bytes"),
    "empty s3": (f"{FIRST}-k-{SECOND}-k-", "s3 has 0 bytes"),
    "s3 without a block": (f"{FIRST}-k-{SECOND}-k-{b64(bytes(20))}", "s3 has 20 bytes"),
    "s3 of half a block": (f"{FIRST}-k-{SECOND}-k-{b64(bytes(44))}", "s3 has 44 bytes"),
    "wrong CRC": (f"{FIRST}-k-{SECOND}-k-{b64(unb64(THIRD)[:-1] + b'x')}", "the CRC at the end"),
    "big-endian CRC": (
        f"{FIRST}-k-{SECOND}-k-{b64(unb64(THIRD)[:-4] + unb64(THIRD)[:-5:-1])}",
        "the CRC at the end",
    ),
    "the ReEncrypt page's request sample": ("Ade234dasdeEWdGVzdCUyMHBsYWlJJlIHL", "three segments"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=re.escape(reason)):
        parse(text)
    assert opened(text, "") is None
    if text.startswith(CIPHER.head):
        assert not tail_fits(text)


def test_a_format_error_says_where() -> None:
    with pytest.raises(FormatError) as error:
        parse(f"{FIRST}-k-{SECOND}-k-{THIRD[:7]}!{THIRD[8:]}")
    assert error.value.offset == 118 + 7
    with pytest.raises(FormatError) as error:
        parse(f"{FIRST}-k-AAAA-k-{THIRD}")
    assert error.value.offset == 91


@settings(max_examples=settings.default.max_examples * 4)
@given(data=st.data(), size=st.integers(0, 50))
def test_one_encoding(data: st.DataObject, size: int) -> None:
    """Whatever character is changed, put in or left out: refused, or another blob altogether."""
    text = CIPHER.seal(bytes(size), CONTEXT, IV)
    place = data.draw(st.integers(0, len(text)))
    letter = data.draw(st.sampled_from(["", *LETTERS]))
    cut = data.draw(st.integers(0, 1))
    changed = text[:place] + letter + text[place + cut :]
    try:
        assert parse(changed).serialise() == changed
        fine = True
    except FormatError:
        fine = False
    if changed.startswith(CIPHER.head):
        assert tail_fits(changed) is fine
    assert opened(changed) == (bytes(size) if changed == text else None)


def test_every_change_of_the_last_group_is_refused() -> None:
    """Where lenient decoders see no difference: the letters before the padding, and the padding."""
    for size in (0, 16, 32):  # s3 ends in no padding, "==", "="
        text = CIPHER.seal(bytes(size), CONTEXT, IV)
        for start in (88 - 4, 115 - 4, len(text) - 4):
            for place in range(start, start + 4):
                for letter in LETTERS:
                    changed = text[:place] + letter + text[place + 1 :]
                    assert (opened(changed) is not None) is (changed == text)


@settings(max_examples=settings.default.max_examples * 4)
@given(data=st.data(), size=st.integers(0, 40))
def test_one_flipped_bit_is_refused(data: st.DataObject, size: int) -> None:
    """Any bit of any segment, with the CRC made right again."""
    blob = parse(CIPHER.seal(bytes(size), CONTEXT, IV))
    segments = [blob.s1, blob.s2, blob.s3[:-4]]
    which = data.draw(st.integers(0, 2))
    flipped = bytearray(segments[which])
    bit = data.draw(st.integers(0, 8 * len(flipped) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    segments[which] = bytes(flipped)
    text = with_crc(segments[0], segments[1], segments[2] + bytes(4))
    assert parse(text).serialise() == text
    assert opened(text) is None


def test_one_flipped_bit_of_the_crc_is_refused() -> None:
    blob = parse(CIPHER.seal(b"secret", CONTEXT, IV))
    for bit in range(32):
        crc = bytearray(blob.s3[-4:])
        crc[bit // 8] ^= 1 << bit % 8
        assert opened(TencentBlob(blob.s1, blob.s2, blob.s3[:-4] + crc).serialise()) is None


def test_every_truncation_is_refused() -> None:
    text = CIPHER.seal(bytes(32), CONTEXT, IV)
    for end in range(len(text)):
        assert opened(text[:end]) is None
        with pytest.raises(FormatError):
            parse(text[:end])


def test_a_tag_that_moved_into_s3_is_refused() -> None:
    """An s2 of no letters must not let a tag at the end of the ciphertext count."""
    blob = parse(CIPHER.seal(bytes(32), CONTEXT, IV))
    body = blob.s3[:-4] + blob.s2
    third = b64(body + crc32(body).to_bytes(4, "little"))
    for second in ("!" * 22 + "==", "!" * 21 + "A==", "!" * 24, ""):
        assert opened(f"{CIPHER.head}{second}-k-{third}") is None


@settings(max_examples=settings.default.max_examples * 2)
@given(text=st.text(max_size=300))
def test_no_text_makes_anything_but_a_refusal(text: str) -> None:
    for changed in (text, CIPHER.head + text, GOOD[:118] + text):
        assert opened(changed) is None
        with pytest.raises(FormatError):
            parse(changed)
        read_header(changed)


CONTEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=settings.default.max_examples * 2)
@given(one=CONTEXTS, other=CONTEXTS)
def test_another_context_does_not_open(one: str, other: str) -> None:
    text = CIPHER.seal(b"secret", one, IV)
    assert opened(text, other) == (b"secret" if one == other else None)


def test_more_contexts_than_are_kept_open_all_the_same() -> None:
    cipher = VersionCipher(KEY, VERSION, KeySpec.AES_256, MATERIAL)
    texts = [cipher.seal(b"x", f'{{"n":"{n}"}}', IV) for n in range(5000)]
    assert all(cipher.open(text, f'{{"n":"{n}"}}') == b"x" for n, text in enumerate(texts))


def test_another_key_version_spec_or_material_has_another_head_and_opens_nothing() -> None:
    text = CIPHER.seal(b"secret", "", IV)
    others = [
        VersionCipher(OTHER, VERSION, KeySpec.AES_256, MATERIAL),
        VersionCipher(KEY, OTHER, KeySpec.AES_256, MATERIAL),
        VersionCipher(KEY, VERSION, KeySpec.SM4, MATERIAL[:16]),
        VersionCipher(KEY, VERSION, KeySpec.AES_256, MATERIAL[::-1]),
    ]
    assert len({CIPHER.head, *(cipher.head for cipher in others)}) == 5
    for cipher in others:
        with pytest.raises(InvalidCiphertext):
            cipher.open(text, "")
        with pytest.raises(InvalidCiphertext):  # even under its own head
            cipher.open(cipher.head + text[HEAD_CHARS:], "")


def test_a_padding_that_pkcs7_does_not_know_is_refused_though_it_is_authentic() -> None:
    s1 = parse(CIPHER.seal(b"", "", IV)).s1
    names = pack(FORMAT_ID, KEY, VERSION, "AES_256")
    key = AESGCM(hkdf(MATERIAL, b"data key" + names, 32))
    aad = FORMAT_ID + s1 + bytes(4)
    for padded in (bytes(16), b"\x11" * 16, b"\x02" * 15 + b"\x03", b"\x20" * 32, b"\xff" * 16):
        sealed = key.encrypt(IV, padded, aad)
        assert opened(with_crc(s1, sealed[-16:], IV + sealed[:-16] + bytes(4)), "") is None
    sealed = key.encrypt(IV, b"\x02" * 16, aad)
    text = with_crc(s1, sealed[-16:], IV + sealed[:-16] + bytes(4))
    assert opened(text, "") == b"\x02" * 14


@pytest.mark.parametrize("text", ["", "x" * 200, "-k-" * 50, GOOD[:90], "é" * 88 + "-k-" + GOOD])
def test_a_head_that_is_none_is_not_read(text: str) -> None:
    assert read_header(text) is None


def test_the_head_is_read_whatever_follows() -> None:
    for text in (GOOD, GOOD[:HEAD_CHARS], GOOD[:-9] + "corrupted"):
        header = read_header(text)
        assert header is not None
        assert (header.key_id, header.key_version_id) == (KEY, VERSION)
        assert header.format is BlobFormat.LAB
    assert read_header(CLOUD) == parse(CLOUD).header()
    assert read_header(CLOUD.replace(CLOUD[91:115], NO_CONTEXT)) != parse(CLOUD).header()


@pytest.mark.parametrize(
    ("spec", "size"), [(KeySpec.AES_256, 16), (KeySpec.SM4, 32), (KeySpec.RSA_2048, 0)]
)
def test_material_of_another_length_is_refused(spec: KeySpec, size: int) -> None:
    with pytest.raises(ValueError, match="no material"):
        VersionCipher(KEY, VERSION, spec, bytes(size))


@pytest.mark.parametrize("odd", ["", KEY.upper(), "{" + KEY + "}", KEY.replace("-", "")])
def test_ids_have_one_spelling(odd: str) -> None:
    with pytest.raises(FormatError, match="key id"):
        VersionCipher(odd, VERSION, KeySpec.AES_256, MATERIAL)
    with pytest.raises(FormatError, match="key version id"):
        VersionCipher(KEY, odd, KeySpec.AES_256, MATERIAL)


def test_a_cipher_is_shown_by_its_ids_and_never_copied() -> None:
    assert repr(CIPHER) == f"VersionCipher(tencent, key {KEY}, version {VERSION})"
    assert not hasattr(CIPHER, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="VersionCipher"):
            attempt(CIPHER)
    assert IV_BYTES == 16
