"""Tencent ciphertexts: `base64(s1) -k- base64(s2) -k- base64(s3)`, read, written, sealed, opened.

Lengths, separators and the CRC are the cloud's (reference/tencent.md 5: firm); what the segments
of a lab blob hold is the lab's choice, since no one outside the cloud knows what its own hold.

======= ================= ============================================================
segment bytes             content of a lab blob
======= ================= ============================================================
s1      64                `KML1`, key id 16, version id 16, check value 28
s2      16                GCM tag
s3      20+16*(n//16+1)   IV 16, ciphertext of the PKCS#7-padded plaintext of n bytes,
                          CRC-32 of the preceding bytes, little-endian
======= ================= ============================================================
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64, crc32
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NoReturn, SupportsIndex

from kmslab.crypto import InvalidTag, aead, hkdf, hmac_sha256
from kmslab.encoding import (
    b64,
    pack,
    unb64,
    uuid_bytes,
    uuid_text,
)
from kmslab.errors import FormatError, InvalidCiphertext
from kmslab.model import TENCENT, BlobFormat, KeySpec, Part, UnverifiedHeader
from kmslab.providers.tencent import rows

FORMAT_ID = b"kmslab/tencent/1"
MAGIC = b"KML1"
SEPARATOR = "-k-"
IV_BYTES = 16
TAG_BYTES = 16
BLOCK_BYTES = 16
CRC_BYTES = 4
HEAD_BYTES = 64
CHECK_BYTES = 28
REFUSED = "the ciphertext does not open"

HEAD_CHARS = 91
"""Characters that are the same in every blob of a key version: the first segment and `-k-`."""

NO_CONTEXT = "fKVP3WIlGpg8m9LMW4jEkQ=="
"""The cloud's second segment where there is no context (inferred, reference/tencent.md 5)."""

# Where the segments stand in the text. Only the third one's length varies.
_S1_END, _S2, _S2_LAST, _S2_END, _S3 = 88, 91, 112, 115, 118
# The letters that can stand last where the last group holds one byte, or two.
_LAST_OF_ONE = "AQgw"
_LAST_OF_TWO = "AEIMQUYcgkosw048"
_S2_ENDS = frozenset(letter + "==-k-" for letter in _LAST_OF_ONE)
# The CRC-32 of any bytes followed by their own CRC-32 in little-endian.
_CRC_OF_CRC = 0x2144DF1C
_MAX_CONTEXTS = 4096
# PKCS#7: the padding of n bytes, and the padding for a plaintext that leaves a rest of n.
_PADS = tuple(bytes([n]) * n for n in range(BLOCK_BYTES + 1))
_PADS_FOR_REST = _PADS[:0:-1]
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


@dataclass(frozen=True, slots=True)
class TencentBlob:
    """A blob taken apart: its three segments, decoded. `parse` makes it.

    The key and version that a lab blob names are not proven until it is opened.
    """

    s1: bytes
    s2: bytes
    s3: bytes

    @property
    def format(self) -> BlobFormat:
        """LAB or CLOUD."""
        return BlobFormat.LAB if self.s1.startswith(MAGIC) else BlobFormat.CLOUD

    def serialise(self) -> str:
        """The text again, character for character what was parsed."""
        return SEPARATOR.join((b64(self.s1), b64(self.s2), b64(self.s3)))

    def header(self) -> UnverifiedHeader:
        """What the blob says of itself. A cloud blob's context is told by s2 (inferred)."""
        return _header(self.s1, b64(self.s2))

    def plaintext_bytes(self) -> tuple[int, int]:
        """The fewest and the most bytes that the plaintext can have (reference/tencent.md 5)."""
        most = len(self.s3) - IV_BYTES - CRC_BYTES - 1
        return most - BLOCK_BYTES + 1, most

    def parts(self) -> tuple[Part, ...]:
        """Every field of the blob, in order."""
        if self.format is BlobFormat.LAB:
            return (*_lab_head_parts(self.s1), *_lab_tail_parts(self.s2, self.s3))
        return _cloud_parts(self.s1, self.s2, self.s3)


def parse(text: str) -> TencentBlob:
    """Take a blob apart; nothing in it is proven by that.

    The text must be a lab's blob or a cloud's own, in its one spelling, with the right CRC;
    anything else raises FormatError, whose `offset` counts the text's characters. The plaintext's
    length is not limited here.

    >>> lab = VersionCipher(
    ...     "23e80852-1e38-11e9-b129-5cb9019b4b01",
    ...     "5cb9019b-1e38-11e9-b129-23e808524b01",
    ...     KeySpec.AES_256,
    ...     bytes(32),
    ... )
    >>> blob = parse(lab.seal(b"secret", "", iv=bytes(16)))
    >>> blob.header().key_id, blob.plaintext_bytes()
    ('23e80852-1e38-11e9-b129-5cb9019b4b01', (0, 15))
    >>> parse("Ade234dasdeEWdGVzdCUyMHBsYWlJJlIHL")
    Traceback (most recent call last):
    ...
    kmslab.errors.FormatError: not three segments joined by "-k-"
    """
    segments = text.split(SEPARATOR, 3)
    if len(segments) != 3:
        raise FormatError('not three segments joined by "-k-"')
    first, second, third = segments
    start = len(first) + len(SEPARATOR)
    s1 = _segment(first, "s1", 0, HEAD_BYTES)
    s2 = _segment(second, "s2", start, TAG_BYTES)
    start += len(second) + len(SEPARATOR)
    s3 = _segment(third, "s3", start, None)
    if not _fits(len(s3)):
        raise FormatError(f"s3 has {len(s3)} bytes, not 20 and whole blocks of 16", offset=start)
    if crc32(s3) != _CRC_OF_CRC:
        raise FormatError("the CRC at the end of s3 is wrong", offset=start)
    return TencentBlob(s1, s2, s3)


def _segment(text: str, name: str, start: int, size: int | None) -> bytes:
    try:
        data = unb64(text, name)
    except FormatError as error:
        odd = _NOT_BASE64.search(text)
        raise FormatError(str(error), offset=start + (odd.start() if odd else len(text))) from None
    if size is not None and len(data) != size:
        raise FormatError(f"{name} has {len(data)} bytes, not {size}", offset=start)
    return data


def _fits(size: int) -> bool:
    """Whether a third segment can have `size` bytes: IV, one block or more, CRC."""
    return size >= 36 and size % BLOCK_BYTES == CRC_BYTES


def read_header(text: str) -> UnverifiedHeader | None:
    """What the head of a blob says, without a look at the rest; None where it is not Tencent's.

    For looks at millions of rows: a blob that is cut or altered behind the head is not noticed.

    >>> read_header("not a blob") is None
    True
    """
    if text[_S1_END:_S2] != SEPARATOR:
        return None
    try:
        s1 = unb64(text[:_S1_END])
    except FormatError:
        return None
    return _header(s1, text[_S2:_S2_END]) if len(s1) == HEAD_BYTES else None


def _header(s1: bytes, second: str) -> UnverifiedHeader:
    if s1.startswith(MAGIC):
        key_id, version_id = uuid_text(s1[4:20]), uuid_text(s1[20:36])
        return UnverifiedHeader(TENCENT, BlobFormat.LAB, key_id, version_id)
    return UnverifiedHeader(
        TENCENT, BlobFormat.CLOUD, fingerprint=s1.hex(), has_context=second != NO_CONTEXT
    )


def tail_fits(text: str) -> bool:
    """Whether everything behind the head is well-formed, as `parse` would find it.

    The head, `text[:HEAD_CHARS]`, is taken for known. The fast half of a strict look at many rows.

    >>> tail_fits("A" * 88 + "-k-cut")
    False
    """
    try:
        return _fits(len(_read_tail(text)[1]))
    except ValueError:
        return False


def tails_fit(texts: Sequence[str]) -> bool:
    """Whether `tail_fits` of all; faster where they have one length."""
    if len(set(map(len, texts))) != 1:
        return all(map(tail_fits, texts))
    return rows.fit(texts)


def _read_tail(text: str) -> tuple[bytes, bytes]:
    """s2 and s3 from behind the head; ValueError unless they are spelled in the one way.

    Exact, and faster than to encode again: of n letters and padding signs, a lenient decoder
    that gives m bytes took just ceil(4m/3) for letters. Where as many signs are left as the
    encoding of m bytes has, all that remains to be seen is that they stand at the end, and that
    the letter before them has no bits to spare.
    """
    s2 = a2b_base64(text[_S2:_S2_END])
    s3 = a2b_base64(text[_S3:])
    spare = 3 * (len(text) - _S3) - 4 * len(s3)
    if (
        text[_S2_LAST:_S3] in _S2_ENDS
        and len(s2) == TAG_BYTES
        and crc32(s3) == _CRC_OF_CRC
        and (
            spare == 0
            or (spare == 4 and text[-1] == "=" and text[-2] in _LAST_OF_TWO)
            or (spare == 8 and text[-2:] == "==" and text[-3] in _LAST_OF_ONE)
        )
    ):
        return s2, s3
    raise ValueError


def blob_length(plaintext_bytes: int) -> int:
    """The characters of a blob of so many bytes, a lab's or a cloud's (reference/tencent.md 5).

    >>> blob_length(5), blob_length(4096)
    (166, 5630)
    """
    s3 = IV_BYTES + BLOCK_BYTES * (plaintext_bytes // BLOCK_BYTES + 1) + CRC_BYTES
    return _S3 + 4 * ((s3 + 2) // 3)


class VersionCipher:
    """What one version of a key seals and opens with.

    The material is never used itself: the data key and the check key are derived from it with
    HKDF-SHA-256, bound to the format, both ids and the spec. `head` is the text that every blob
    of the version begins with; `text.startswith(head)` shows that a blob names this key, this
    version and this very material. An instance shows no key bytes and cannot be pickled.

    ValueError where the spec is not symmetric or the material is not as long as it says.
    """

    __slots__ = ("_aads", "_bound", "_decrypt", "_encrypt", "head", "key_id", "version_id")

    def __init__(self, key_id: str, version_id: str, spec: KeySpec, material: bytes) -> None:
        self.key_id = key_id  # first: a traceback that shows locals shows this too
        self.version_id = version_id
        size = len(material)
        if not spec.symmetric or size != spec.material_bytes:
            del material  # out of reach of a traceback that shows locals
            raise ValueError(f"{size} bytes are no material of a symmetric {spec} key")
        names = pack(FORMAT_ID, key_id, version_id, spec.value)
        named = MAGIC + uuid_bytes(key_id, "key id") + uuid_bytes(version_id, "key version id")
        check_key = hkdf(material, b"check key" + names)
        s1 = named + hmac_sha256(check_key, named)[:CHECK_BYTES]
        cipher = aead(spec, hkdf(material, b"data key" + names, spec.material_bytes))
        self.head = b64(s1) + SEPARATOR
        self._encrypt = cipher.encrypt
        self._decrypt = cipher.decrypt
        self._bound = FORMAT_ID + s1
        self._aads: dict[str, bytes] = {}

    def seal(self, plaintext: bytes, context: str, iv: bytes) -> str:
        """The blob of `plaintext`, of any length, under `context` ("" for none).

        `iv` is 16 bytes that this version has never had before: random ones.
        """
        padded = plaintext + _PADS_FOR_REST[len(plaintext) % BLOCK_BYTES]
        return self.seal_padded(padded, context, iv)

    def seal_padded(self, padded: bytes, context: str, iv: bytes) -> str:
        """`seal` for what `open_padded` gave, whose padding is the same in every blob."""
        aad = self._aads.get(context) or self._aad(context)
        sealed = self._encrypt(iv, padded, aad)
        s3 = iv + sealed[:-TAG_BYTES]
        s3 += crc32(s3).to_bytes(CRC_BYTES, "little")
        s2 = b2a_base64(sealed[-TAG_BYTES:], newline=False)
        return f"{self.head}{s2.decode()}-k-{b2a_base64(s3, newline=False).decode()}"

    def open(self, text: str, context: str) -> bytes:
        """The plaintext of a blob of this version that was sealed under the same `context`.

        InvalidCiphertext, always with the same message, for everything else.
        """
        padded = self.open_padded(text, context)
        return padded[: -padded[-1]]

    def open_padded(self, text: str, context: str) -> bytes:
        """`open` without taking the padding away: for what is sealed again, or only proven."""
        try:
            s2, s3 = _read_tail(text)
            if not text.startswith(self.head):
                raise InvalidTag
            aad = self._aads.get(context) or self._aad(context)
            padded = self._decrypt(s3[:IV_BYTES], s3[IV_BYTES:-CRC_BYTES] + s2, aad)
            pad = padded[-1]
            if padded[-pad:] != _PADS[pad] or len(padded) % BLOCK_BYTES:
                raise InvalidTag
        except (InvalidTag, ValueError, IndexError):
            raise InvalidCiphertext(REFUSED) from None
        return padded

    def seal_padded_many(
        self, padded: Sequence[bytes], contexts: Sequence[str], ivs: bytes
    ) -> list[str]:
        """`seal_padded` for plaintexts of one length, the IVs one after another; faster."""
        aads = self._aad_rows(contexts)
        sealed = list(map(self._encrypt, rows.split(ivs, IV_BYTES), padded, aads))
        return rows.write(self.head, ivs, sealed)

    def open_padded_many(
        self, texts: Sequence[str], contexts: Sequence[str]
    ) -> Sequence[bytes | None]:
        """`open_padded` for texts of one length that begin with `head`; faster.

        None where a text does not open, and for all of them where one is not well written:
        `open_padded` says of each what it is.
        """
        tails = rows.read(texts)
        if tails is None:
            return [None] * len(texts)
        aads = self._aad_rows(contexts)
        try:
            return rows.well_padded(list(map(self._decrypt, *tails, aads)))
        except InvalidTag:
            opened = map(self._opened, *tails, aads)
            return [rows.well_padded([padded])[0] if padded else None for padded in opened]

    def _opened(self, iv: bytes, sealed: bytes, aad: bytes) -> bytes | None:
        try:
            return self._decrypt(iv, sealed, aad)
        except InvalidTag:
            return None

    def _aad_rows(self, contexts: Sequence[str]) -> Iterable[bytes]:
        known, make = self._aads, self._aad
        first = contexts[0]
        if contexts.count(first) == len(contexts):
            return repeat(known.get(first) or make(first))
        return [known.get(context) or make(context) for context in contexts]

    def _aad(self, context: str) -> bytes:
        data = context.encode()
        aad = self._bound + len(data).to_bytes(4, "big") + data
        if len(self._aads) >= _MAX_CONTEXTS:
            self._aads.clear()
        self._aads[context] = aad
        return aad

    def __repr__(self) -> str:
        return f"VersionCipher({TENCENT}, key {self.key_id}, version {self.version_id})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a VersionCipher cannot be pickled or copied")


def _lab_head_parts(s1: bytes) -> tuple[Part, ...]:
    return (
        Part("s1", "magic", 0, 4, "KML1", "made by a lab"),
        Part("s1", "key id", 4, 16, uuid_text(s1[4:20]), "the key, not proven until opened"),
        Part("s1", "version id", 20, 16, uuid_text(s1[20:36]), "the version, likewise"),
        Part(
            "s1",
            "check value",
            36,
            CHECK_BYTES,
            s1[36:].hex(),
            "HMAC-SHA-256 over the 36 bytes before it, with the version's check key, cut",
        ),
    )


def _lab_tail_parts(s2: bytes, s3: bytes) -> tuple[Part, ...]:
    end = len(s3) - CRC_BYTES
    return (
        Part("s2", "tag", 0, TAG_BYTES, s2.hex(), "GCM tag over everything, the context too"),
        Part("s3", "iv", 0, IV_BYTES, s3[:IV_BYTES].hex(), "random, new in every blob"),
        Part(
            "s3",
            "ciphertext",
            IV_BYTES,
            end - IV_BYTES,
            s3[IV_BYTES:end].hex(),
            "GCM of the plaintext with PKCS#7 padding",
        ),
        _crc_part(s3),
    )


def _cloud_parts(s1: bytes, s2: bytes, s3: bytes) -> tuple[Part, ...]:
    end = len(s3) - CRC_BYTES
    context = "no context" if b64(s2) == NO_CONTEXT else "some context"
    return (
        Part("s1", "fingerprint", 0, len(s1), s1.hex(), "equal ones mean the same key (inferred)"),
        Part("s2", "context mark", 0, len(s2), s2.hex(), f"{context} (inferred)"),
        Part(
            "s3",
            "body",
            0,
            end,
            s3[:end].hex(),
            "IV of 16 bytes and PKCS#7-padded blocks (inferred from the length)",
        ),
        _crc_part(s3),
    )


def _crc_part(s3: bytes) -> Part:
    meaning = "CRC-32 of the bytes before it, little-endian"
    return Part("s3", "crc", len(s3) - CRC_BYTES, CRC_BYTES, s3[-CRC_BYTES:].hex(), meaning)
