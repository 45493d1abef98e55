"""CTyun ciphertexts: `base64("0064", base64(key id "&" version id), body)`, read and written.

The header is the cloud's own, decoded from its one public sample (reference/ctyun-guide.md 4), so
key and version can be read from the cloud's blobs too. The body is the lab's choice: the cloud's
sample has room for neither IV nor tag.

======== ===== ==================================================================
offset   bytes content of a lab blob
======== ===== ==================================================================
0        4     `0064`, the length of the next field in hex
4        100   base64 of key id, `&`, version id
104      4     `KML1`; a body without it is a cloud's
108      12    IV
120      n     ciphertext of the plaintext of n bytes
120+n    16    GCM tag
======== ===== ==================================================================
"""

from __future__ import annotations

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, SupportsIndex

from kmslab.crypto import InvalidTag, aead, hkdf
from kmslab.encoding import b64, b64_rows, pack, unb64, unb64_rows, uuid_bytes
from kmslab.errors import FormatError, InvalidCiphertext
from kmslab.model import CTYUN, BlobFormat, KeySpec, Part, UnverifiedHeader

FORMAT_ID = b"kmslab/ctyun/1"
LENGTH_FIELD = b"0064"
MAGIC = b"KML1"
IV_BYTES = 12
TAG_BYTES = 16
BLOCK_BYTES = 16
HEADER_BYTES = 104
HEAD_BYTES = HEADER_BYTES + len(MAGIC)
PUBLIC_KEY_BYTES = 256
PUBLIC_KEY_CHARS = 344
REFUSED = "the ciphertext does not open"

HEAD_CHARS = 144
"""Characters that are the same in every lab blob of a key version: header and magic."""

_MAX_OAEP_BYTES = 214
# The letters that can stand last where the last group holds one byte, or two.
_LAST_OF_ONE = "AQgw"
_LAST_OF_TWO = "AEIMQUYcgkosw048"
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")


@dataclass(frozen=True, slots=True)
class CtyunBlob:
    """A blob taken apart: `format` says what `data`, its bytes, are. `parse` makes it.

    The key and version that it names are not proven until it is opened; public-key ciphertext
    names none.
    """

    format: BlobFormat
    key_id: str | None
    key_version_id: str | None
    data: bytes

    def serialise(self) -> str:
        """The text again, character for character what was parsed."""
        return b64(self.data)

    def header(self) -> UnverifiedHeader:
        """What the blob says of itself."""
        return UnverifiedHeader(CTYUN, self.format, self.key_id, self.key_version_id)

    def plaintext_bytes(self) -> tuple[int, int]:
        """The fewest and the most bytes that the plaintext can have.

        Exact for a lab blob; inferred for a cloud's (PKCS#7, reference/ctyun-guide.md 4); what
        RSA-OAEP with SHA-1 takes at most for public-key ciphertext.
        """
        if self.format is BlobFormat.PUBLIC_KEY:
            return 0, _MAX_OAEP_BYTES
        if self.format is BlobFormat.CLOUD:
            most = len(self.data) - HEADER_BYTES - 1
            return most - BLOCK_BYTES + 1, most
        exact = len(self.data) - HEAD_BYTES - IV_BYTES - TAG_BYTES
        return exact, exact

    def parts(self) -> tuple[Part, ...]:
        """Every field of the blob, in order."""
        if self.format is BlobFormat.PUBLIC_KEY:
            meaning = "RSA-OAEP ciphertext; names no key, version or algorithm"
            return (Part("blob", "ciphertext", 0, len(self.data), self.data.hex(), meaning),)
        head = _header_parts(self.data, self.key_id or "", self.key_version_id or "")
        if self.format is BlobFormat.LAB:
            return (*head, *_lab_body_parts(self.data))
        body = self.data[HEADER_BYTES:]
        meaning = "padded blocks without IV or tag (inferred from one sample)"
        return (*head, Part("blob", "body", HEADER_BYTES, len(body), body.hex(), meaning))


def parse(text: str) -> CtyunBlob:
    """Take a blob apart; nothing in it is proven by that.

    The text must be, in its one spelling, a lab's blob, a cloud's own, or 256 bytes of public-key
    ciphertext; anything else raises FormatError, whose `offset` counts the text's characters.
    The plaintext's length is not limited here.

    >>> lab = VersionCipher(
    ...     "241ede22-6261-4617-9caf-10d89990516c",
    ...     "49ec76d7-cc4c-400e-9f19-f9001587ae0f",
    ...     KeySpec.AES_256,
    ...     bytes(32),
    ... )
    >>> blob = parse(lab.seal(b"secret", iv=bytes(12)))
    >>> blob.format.value, blob.key_version_id, blob.plaintext_bytes()
    ('lab', '49ec76d7-cc4c-400e-9f19-f9001587ae0f', (6, 6))
    >>> parse("b3JkZXJz")
    Traceback (most recent call last):
    ...
    kmslab.errors.FormatError: no header: the bytes do not begin with "0064"
    """
    data = _decode(text)
    if not data.startswith(LENGTH_FIELD):
        if len(data) == PUBLIC_KEY_BYTES:
            return CtyunBlob(BlobFormat.PUBLIC_KEY, None, None, data)
        raise FormatError('no header: the bytes do not begin with "0064"', offset=0)
    key_id, version_id = _names(data[:HEADER_BYTES])
    return CtyunBlob(_body_format(data), key_id, version_id, data)


def _decode(text: str) -> bytes:
    try:
        return unb64(text, "the blob")
    except FormatError as error:
        odd = _NOT_BASE64.search(text)
        raise FormatError(str(error), offset=odd.start() if odd else len(text)) from None


def _names(header: bytes) -> tuple[str, str]:
    """The key id and version id in a header of 104 bytes; FormatError where they are not there."""
    if len(header) < HEADER_BYTES:
        raise FormatError(
            f"the header is cut after {len(header)} bytes", offset=_letters(len(header))
        )
    field = header[len(LENGTH_FIELD) :].decode("latin-1")
    try:
        names = unb64(field, "the header's field").decode("ascii")
        key_id, version_id = names.split("&")
        uuid_bytes(key_id, "the header's key id")
        uuid_bytes(version_id, "the header's version id")
    except FormatError as error:
        raise FormatError(str(error), offset=_letters(len(LENGTH_FIELD))) from None
    except ValueError:
        message = 'the header does not hold a key id, "&" and a version id'
        raise FormatError(message, offset=_letters(len(LENGTH_FIELD))) from None
    return key_id, version_id


def _letters(size: int) -> int:
    """Where in the text the byte after `size` bytes begins."""
    return size * 4 // 3


def _body_format(data: bytes) -> BlobFormat:
    size = len(data) - HEADER_BYTES
    if data.startswith(MAGIC, HEADER_BYTES):
        if size < len(MAGIC) + IV_BYTES + TAG_BYTES:
            raise FormatError(f"a lab's body of {size} bytes is cut", offset=_letters(HEADER_BYTES))
        return BlobFormat.LAB
    if size < BLOCK_BYTES or size % BLOCK_BYTES:
        message = f"a cloud's body has whole blocks of 16 bytes, not {size} bytes"
        raise FormatError(message, offset=_letters(HEADER_BYTES))
    return BlobFormat.CLOUD


def read_header(text: str) -> UnverifiedHeader | None:
    """What the head of a blob says, without a look at the rest; None where it is not CTyun's.

    For looks at millions of rows: a blob that is cut or altered behind the head is not noticed.

    >>> read_header("not a blob") is None
    True
    """
    try:
        data = unb64(text[:HEAD_CHARS])
        if data.startswith(LENGTH_FIELD):
            names = _names(data[:HEADER_BYTES])
            lab = data.startswith(MAGIC, HEADER_BYTES)
            return UnverifiedHeader(CTYUN, BlobFormat.LAB if lab else BlobFormat.CLOUD, *names)
    except FormatError:
        return None
    if len(text) == PUBLIC_KEY_CHARS and text.endswith("=="):
        return UnverifiedHeader(CTYUN, BlobFormat.PUBLIC_KEY)
    return None


def tail_fits(text: str) -> bool:
    """Whether everything behind the head of a lab blob is well-formed, as `parse` would find it.

    The head, `text[:HEAD_CHARS]`, is taken for known. The fast half of a strict look at many rows.

    >>> tail_fits("A" * 144 + "cut")
    False
    """
    try:
        return len(_read_body(text)) >= IV_BYTES + TAG_BYTES
    except ValueError:
        return False


def tails_fit(texts: Sequence[str]) -> bool:
    """Whether `tail_fits` of all; faster where they have one length."""
    if len(set(map(len, texts))) != 1 or len(texts[0]) <= HEAD_CHARS:
        return all(map(tail_fits, texts))
    bodies, size = _bodies(texts)
    return bodies is not None and size >= IV_BYTES + TAG_BYTES


def _bodies(texts: Sequence[str]) -> tuple[bytes | None, int]:
    """What stands behind the heads of texts of one length, as `unb64_rows` gives it, and the size
    of each."""
    chars = len(texts[0]) - HEAD_CHARS
    size = chars // 4 * 3 - texts[0].count("=", HEAD_CHARS)
    return unb64_rows("".join([text[HEAD_CHARS:] for text in texts]), len(texts), size), size


def _read_body(text: str) -> bytes:
    """What stands behind the head; ValueError unless it is spelled in the one way.

    Exact, and faster than to encode again: of n letters and padding signs, a lenient decoder
    that gives m bytes took just ceil(4m/3) for letters. Where as many signs are left as the
    encoding of m bytes has, all that remains to be seen is that they stand at the end, and that
    the letter before them has no bits to spare.
    """
    body = a2b_base64(text[HEAD_CHARS:])
    spare = 3 * (len(text) - HEAD_CHARS) - 4 * len(body)
    if (
        spare == 0
        or (spare == 4 and text[-1] == "=" and text[-2] in _LAST_OF_TWO)
        or (spare == 8 and text[-2:] == "==" and text[-3] in _LAST_OF_ONE)
    ):
        return body
    raise ValueError


def blob_length(plaintext_bytes: int) -> int:
    """The characters of a lab's blob of so many bytes.

    >>> blob_length(11), blob_length(32)
    (196, 224)
    """
    return 4 * ((HEAD_BYTES + IV_BYTES + plaintext_bytes + TAG_BYTES + 2) // 3)


def cloud_blob_length(plaintext_bytes: int) -> int:
    """The characters of a cloud's own blob of so many bytes.

    Inferred from one sample of 11 bytes, read as PKCS#7 (reference/ctyun-guide.md 4).

    >>> cloud_blob_length(11), cloud_blob_length(32)
    (160, 204)
    """
    body = BLOCK_BYTES * (plaintext_bytes // BLOCK_BYTES + 1)
    return 4 * ((HEADER_BYTES + body + 2) // 3)


class VersionCipher:
    """What one version of a key seals and opens with.

    The material is never used itself: the data key is derived from it with HKDF-SHA-256, bound
    to the format, both ids and the spec. `head` is the text that every blob of the version begins
    with; `text.startswith(head)` shows that a blob names this key and this version. An instance
    shows no key bytes and cannot be pickled.

    ValueError where the spec is not symmetric or the material is not as long as it says.
    """

    __slots__ = ("_aad", "_decrypt", "_encrypt", "head", "key_id", "version_id")

    def __init__(self, key_id: str, version_id: str, spec: KeySpec, material: bytes) -> None:
        self.key_id = key_id  # first: a traceback that shows locals shows this too
        self.version_id = version_id
        size = len(material)
        if not spec.symmetric or size != spec.material_bytes:
            del material  # out of reach of a traceback that shows locals
            raise ValueError(f"{size} bytes are no material of a symmetric {spec} key")
        uuid_bytes(key_id, "key id")
        uuid_bytes(version_id, "key version id")
        names = pack(FORMAT_ID, key_id, version_id, spec.value)
        cipher = aead(spec, hkdf(material, b"data key" + names, spec.material_bytes))
        header = LENGTH_FIELD + b64(f"{key_id}&{version_id}".encode()).encode()
        self.head = b64(header + MAGIC)
        self._encrypt = cipher.encrypt
        self._decrypt = cipher.decrypt
        self._aad = FORMAT_ID + header

    def seal(self, plaintext: bytes, iv: bytes) -> str:
        """The blob of `plaintext`, of any length.

        `iv` is 12 bytes that this version has never had before: random ones.
        """
        body = iv + self._encrypt(iv, plaintext, self._aad)
        return self.head + b2a_base64(body, newline=False).decode()

    def open(self, text: str) -> bytes:
        """The plaintext of a blob of this version.

        InvalidCiphertext, always with the same message, for everything else.
        """
        try:
            body = _read_body(text)
            if not text.startswith(self.head):
                raise InvalidTag
            return self._decrypt(body[:IV_BYTES], body[IV_BYTES:], self._aad)
        except (InvalidTag, ValueError):
            raise InvalidCiphertext(REFUSED) from None

    def seal_many(self, plaintexts: Sequence[bytes], ivs: bytes) -> list[str]:
        """`seal` for plaintexts of one length, with the IVs in a row; faster."""
        encrypt, aad, at, bodies = self._encrypt, self._aad, 0, []
        for plaintext in plaintexts:
            iv = ivs[at : at + IV_BYTES]
            at += IV_BYTES
            bodies.append(iv + encrypt(iv, plaintext, aad))
        head = self.head
        return [head + body for body in b64_rows(bodies, len(bodies[0]))]

    def open_many(self, texts: Sequence[str]) -> list[bytes | None]:
        """`open` for texts of one length that begin with `head`; faster.

        None where a text does not open, and for all of them where one is not well written: `open`
        says of each what it is.
        """
        bodies, size = _bodies(texts)
        if bodies is None or size < IV_BYTES + TAG_BYTES:
            return [None] * len(texts)
        decrypt, aad, stride = self._decrypt, self._aad, size + -size % 3
        opened: list[bytes | None] = []
        for at in range(0, stride * len(texts), stride):
            start = at + IV_BYTES
            try:
                opened.append(decrypt(bodies[at:start], bodies[start : at + size], aad))
            except InvalidTag:
                opened.append(None)
        return opened

    def __repr__(self) -> str:
        return f"VersionCipher({CTYUN}, key {self.key_id}, version {self.version_id})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a VersionCipher cannot be pickled or copied")


def _header_parts(data: bytes, key_id: str, version_id: str) -> tuple[Part, ...]:
    field = data[len(LENGTH_FIELD) : HEADER_BYTES].decode("ascii")
    return (
        Part("blob", "length field", 0, 4, "0064", "the next field has 0x64 = 100 bytes"),
        Part("blob", "header field", 4, 100, field, 'base64 of key id, "&" and version id'),
        Part("header field", "key id", 0, 36, key_id, "the key, not proven until opened"),
        Part("header field", "version id", 37, 36, version_id, "the version, likewise"),
    )


def _lab_body_parts(data: bytes) -> tuple[Part, ...]:
    start, end = HEAD_BYTES + IV_BYTES, len(data) - TAG_BYTES
    return (
        Part("blob", "magic", HEADER_BYTES, len(MAGIC), "KML1", "made by a lab"),
        Part(
            "blob",
            "iv",
            HEAD_BYTES,
            IV_BYTES,
            data[HEAD_BYTES:start].hex(),
            "random, new in every blob",
        ),
        Part(
            "blob",
            "ciphertext",
            start,
            end - start,
            data[start:end].hex(),
            "GCM of the plaintext, as long",
        ),
        Part("blob", "tag", end, TAG_BYTES, data[end:].hex(), "GCM tag over everything"),
    )
