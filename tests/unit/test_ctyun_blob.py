"""The CTyun ciphertext format: the cloud's header, the lab's body, one opaque refusal."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import pickle
import re
import string
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
from kmslab.providers.ctyun.blob import (
    FORMAT_ID,
    HEAD_CHARS,
    IV_BYTES,
    VersionCipher,
    blob_length,
    cloud_blob_length,
    parse,
    read_header,
    tail_fits,
)

KEY = "241ede22-6261-4617-9caf-10d89990516c"
VERSION = "49ec76d7-cc4c-400e-9f19-f9001587ae0f"
OTHER = "5cb9019b-1e38-11e9-b129-23e808524b01"
MATERIAL = bytes(range(32))
IV = bytes(range(100, 112))
CIPHER = VersionCipher(KEY, VERSION, KeySpec.AES_256, MATERIAL)
GOLDEN = Path(__file__).parents[1] / "golden" / "formats"
# The user guide's sample: the 11 bytes "Hello world", under the key and version above.
CLOUD = (
    "MDA2NE1qUXhaV1JsTWpJdE5qSTJNUzAwTmpFM0xUbGpZV1l0TVRCa09EazVPVEExTVRaakpqUTVaV00zTm1RM0xXTmpO"
    "R010TkRBd1pTMDVaakU1TFdZNU1EQXhOVGczWVdVd1pnPT3oCYiGAy7mNTLitIlJaQ92"
)
LETTERS = string.ascii_letters + string.digits + "+/=-_ \n\t\0é"


def opened(text: str) -> bytes | None:
    """The plaintext, or None where it is refused."""
    try:
        return CIPHER.open(text)
    except InvalidCiphertext as error:
        refusal = error
    assert str(refusal) == "the ciphertext does not open"
    assert refusal.__suppress_context__
    return None


def header(field: str | bytes, length: bytes = b"0064") -> bytes:
    """The header around a field before its base64."""
    data = field if isinstance(field, bytes) else field.encode()
    return length + b64(data).encode()


def blob(field: str | bytes = f"{KEY}&{VERSION}", body: bytes = bytes(16)) -> str:
    return b64(header(field) + body)


# By the book: docs/formats.md, with nothing of kmslab's but `pack` and SM4-GCM.


def hkdf(material: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869, SHA-256, no salt, at most one block."""
    extracted = hmac.digest(bytes(32), material, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:size]


def book_open(row: dict[str, Any]) -> tuple[bytes, bytes]:
    """The plaintext and the IV of a golden blob."""
    data = unb64(row["blob"])
    assert data[:104] == header(f"{row['key_id']}&{row['key_version_id']}")
    assert data[104:108] == b"KML1"
    material = bytes.fromhex(row["material"])
    names = pack(FORMAT_ID, row["key_id"], row["key_version_id"], row["spec"])
    data_key = hkdf(material, b"data key" + names, len(material))
    cipher = AESGCM(data_key) if row["spec"] == "AES_256" else aead(KeySpec.SM4, data_key)
    return cipher.decrypt(data[108:120], data[120:], b"kmslab/ctyun/1" + data[:104]), data[108:120]


@pytest.fixture(scope="module")
def golden() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((GOLDEN / "ctyun-1.json").read_text("utf-8"))
    return rows


def test_golden_blobs_are_written_and_opened_as_ever(golden: list[dict[str, Any]]) -> None:
    for row in golden:
        material, spec = bytes.fromhex(row["material"]), KeySpec(row["spec"])
        cipher = VersionCipher(row["key_id"], row["key_version_id"], spec, material)
        plaintext, iv = bytes.fromhex(row["plaintext"]), bytes.fromhex(row["iv"])
        assert cipher.seal(plaintext, iv) == row["blob"]
        assert cipher.open(row["blob"]) == plaintext
        assert parse(row["blob"]).key_version_id == row["key_version_id"]


def test_golden_blobs_are_as_the_document_says(golden: list[dict[str, Any]]) -> None:
    for row in golden:
        plaintext, iv = book_open(row)
        assert (plaintext.hex(), iv.hex()) == (row["plaintext"], row["iv"])


@pytest.mark.parametrize("spec", [KeySpec.AES_256, KeySpec.SM4])
def test_what_was_sealed_opens(spec: KeySpec) -> None:
    cipher = VersionCipher(KEY, VERSION, spec, MATERIAL[: spec.material_bytes])
    for size in (0, 1, 2, 3, 15, 16, 17, 32, 4096, 6144):
        data = bytes(i % 251 for i in range(size))
        text = cipher.seal(data, IV)
        assert text[:HEAD_CHARS] == cipher.head
        assert cipher.open(text) == data
        assert parse(text).plaintext_bytes() == (size, size)


def test_the_lengths_hold_for_every_plaintext() -> None:
    for size in range(4097):
        assert blob_length(size) == 4 * -(-(136 + size) // 3)
        assert cloud_blob_length(size) == 4 * -(-(104 + 16 * (size // 16 + 1)) // 3)
        assert 20 <= blob_length(size) - cloud_blob_length(size) <= 44
    for size in (*range(100), 4095, 4096):
        assert len(CIPHER.seal(bytes(size), IV)) == blob_length(size)
    assert cloud_blob_length(len("Hello world")) == len(CLOUD)


def test_the_parts_of_a_blob_cover_every_byte_once() -> None:
    for text in (CIPHER.seal(b"secret", IV), CLOUD, b64(bytes(256))):
        found = parse(text)
        parts = [part for part in found.parts() if part.segment == "blob"]
        assert [part.offset for part in parts][1:] == [p.offset + p.length for p in parts][:-1]
        assert parts[0].offset == 0
        assert parts[-1].offset + parts[-1].length == len(found.data)
    values = {part.name: part.value for part in parse(CLOUD).parts()}
    assert values["length field"] == "0064"
    assert values["key id"] == KEY
    assert values["version id"] == VERSION
    assert values["body"] == "e8098886032ee63532e2b48949690f76"


def test_a_cloud_blob_names_its_key_and_version() -> None:
    found = parse(CLOUD)
    assert found.serialise() == CLOUD
    assert (found.format, found.key_id, found.key_version_id) == (BlobFormat.CLOUD, KEY, VERSION)
    assert found.plaintext_bytes() == (0, 15)
    assert opened(CLOUD) is None


def test_256_bytes_without_header_are_public_key_ciphertext() -> None:
    text = b64(b"\x9a" * 256)
    found = parse(text)
    assert (found.format, found.key_id, found.serialise()) == (BlobFormat.PUBLIC_KEY, None, text)
    assert found.plaintext_bytes() == (0, 214)
    assert read_header(text) == found.header()
    for size in (255, 257, 384, 512):
        with pytest.raises(FormatError, match="no header"):
            parse(b64(b"\x9a" * size))
        assert read_header(b64(b"\x9a" * size)) is None


def test_a_header_blob_of_256_bytes_is_no_public_key_ciphertext() -> None:
    text = CIPHER.seal(bytes(120), IV)
    assert len(unb64(text)) == 256
    assert parse(text).format is BlobFormat.LAB
    with pytest.raises(FormatError, match="not a lower-case UUID"):
        parse(blob(f"{KEY}&{VERSION.upper()}", bytes(152)))


GOOD = CIPHER.seal(b"0123456789abcdef", IV)  # 152 bytes: ends in "="
REFUSED = {
    "empty": ("", "no header"),
    "line break at the end": (GOOD + "\n", "not canonical base64"),
    "blank in front": (" " + GOOD, "not canonical base64"),
    "line break inside": (GOOD[:76] + "\n" + GOOD[76:], "not canonical base64"),
    "no padding": (GOOD.rstrip("="), "not canonical base64"),
    "too much padding": (GOOD + "=", "not canonical base64"),
    "trailing bits": (CLOUD[:-1] + "3" + "A===", "not canonical base64"),
    "URL-safe letters": ("_" + GOOD[1:], "not canonical base64"),
    "not ASCII": ("é" + GOOD[1:], "not canonical base64"),
    "lone surrogate": ("\ud800" + GOOD[1:], "not canonical base64"),
    "a Tencent blob": (b64(bytes(64)) + "-k-" + b64(bytes(16)), "not canonical base64"),
    "length in decimal": (b64(header(f"{KEY}&{VERSION}", b"0100") + bytes(16)), "no header"),
    "cut in the header": (b64(unb64(GOOD)[:90]), "the header is cut after 90 bytes"),
    "no body": (blob(body=b""), "whole blocks of 16 bytes, not 0"),
    "a cloud's body of half a block": (blob(body=bytes(24)), "not 24 bytes"),
    "a lab's body that is cut": (blob(body=b"KML1" + bytes(12)), "a lab's body of 16 bytes is cut"),
    "a lab's body without tag": (blob(body=b"KML1" + bytes(27)), "a lab's body of 31 bytes"),
    "no ampersand": (blob(f"{KEY}+{VERSION}"), 'does not hold a key id, "&" and a version id'),
    "two ampersands": (blob(f"{KEY}&{VERSION[:-1]}&"), "does not hold"),
    "not ASCII inside": (blob(f"{KEY}&{VERSION[:-2]}é"), "does not hold"),
    "key id in upper case": (blob(f"{KEY.upper()}&{VERSION}"), "key id is not a lower-case UUID"),
    "version id of other shape": (blob(f"{KEY}&{VERSION[:-9]}-00000000"), "version id is not"),
    "key id with braces": (blob("{" + KEY.replace("-", "") + "}--&" + VERSION), "key id is not"),
    "trailing bits in the header": (
        b64(header(f"{KEY}&{VERSION}")[:-3] + b"h==" + bytes(16)),
        "the header's field is not canonical base64",
    ),
    "blank in the header": (
        b64(header(f"{KEY}&{VERSION}")[:-1] + b" " + bytes(16)),
        "the header's field is not canonical base64",
    ),
    "the ReEncrypt page's request sample": (
        "ODZhOWVmZDktM2QxNi00ODk0LWJkNGYtMWZjNDNmM2YyYWJmS7FmDBBQ0BkKsQrtRnidtPwirmDcS0ZuJCU41x",
        "not canonical base64",
    ),
    "the ReEncrypt page's response sample": (
        "itIb4kN84JKrbv8P5ZTZJyn3cbu0SLvblB5/csedLEchgF5ijFx9nEc5Y0DpzWba",
        "no header",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(FormatError, match=re.escape(reason)):
        parse(text)
    assert opened(text) is None
    if text.startswith(CIPHER.head):
        assert not tail_fits(text)


def test_a_format_error_says_where() -> None:
    with pytest.raises(FormatError) as error:
        parse(GOOD[:150] + "!" + GOOD[151:])
    assert error.value.offset == 150
    with pytest.raises(FormatError) as error:
        parse(blob(body=bytes(24)))
    assert error.value.offset == 138  # where byte 104 begins


@settings(max_examples=settings.default.max_examples * 4)
@given(data=st.data(), size=st.integers(0, 50))
def test_one_encoding(data: st.DataObject, size: int) -> None:
    """Whatever character is changed, put in or left out: refused, or another blob altogether."""
    text = CIPHER.seal(bytes(size), IV)
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
    for size in (1, 2, 3):
        text = CIPHER.seal(bytes(size), IV)
        for place in range(len(text) - 4, len(text)):
            for letter in LETTERS:
                changed = text[:place] + letter + text[place + 1 :]
                assert (opened(changed) is not None) is (changed == text)


@settings(max_examples=settings.default.max_examples * 4)
@given(data=st.data(), size=st.integers(0, 40))
def test_one_flipped_bit_is_refused(data: st.DataObject, size: int) -> None:
    flipped = bytearray(unb64(CIPHER.seal(bytes(size), IV)))
    bit = data.draw(st.integers(0, 8 * len(flipped) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    assert opened(b64(bytes(flipped))) is None


def test_every_truncation_is_refused() -> None:
    text = CIPHER.seal(bytes(32), IV)
    assert not any(opened(text[:end]) is not None for end in range(len(text)))


@settings(max_examples=settings.default.max_examples * 2)
@given(text=st.text(max_size=300))
def test_no_text_makes_anything_but_a_refusal(text: str) -> None:
    for changed in (text, CIPHER.head + text):
        assert opened(changed) is None
        with pytest.raises(FormatError):
            parse(changed)
        read_header(changed)


def test_another_key_version_spec_or_material_opens_nothing() -> None:
    text = CIPHER.seal(b"secret", IV)
    others = [
        VersionCipher(OTHER, VERSION, KeySpec.AES_256, MATERIAL),
        VersionCipher(KEY, OTHER, KeySpec.AES_256, MATERIAL),
        VersionCipher(KEY, VERSION, KeySpec.SM4, MATERIAL[:16]),
        VersionCipher(KEY, VERSION, KeySpec.AES_256, MATERIAL[::-1]),
    ]
    assert len({CIPHER.head, *(cipher.head for cipher in others[:2])}) == 3
    for cipher in others:
        with pytest.raises(InvalidCiphertext):
            cipher.open(text)
        with pytest.raises(InvalidCiphertext):  # even under its own head
            cipher.open(cipher.head + text[HEAD_CHARS:])


@pytest.mark.parametrize("text", ["", "x" * 200, GOOD[:100], "é" * 200, b64(bytes(200))])
def test_a_head_that_is_none_is_not_read(text: str) -> None:
    assert read_header(text) is None


def test_the_head_is_read_whatever_follows() -> None:
    for text in (GOOD, GOOD[:HEAD_CHARS], GOOD[:-9] + "corrupted"):
        found = read_header(text)
        assert found is not None
        assert (found.key_id, found.key_version_id) == (KEY, VERSION)
        assert found.format is BlobFormat.LAB
    assert read_header(CLOUD) == parse(CLOUD).header()


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
    assert repr(CIPHER) == f"VersionCipher(ctyun, key {KEY}, version {VERSION})"
    assert not hasattr(CIPHER, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="VersionCipher"):
            attempt(CIPHER)
    assert IV_BYTES == 12
