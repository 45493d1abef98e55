"""Encodings with exactly one spelling: base64, UUIDs, and rows that go under a MAC."""

from __future__ import annotations

import uuid
from binascii import Error as _Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence

from kmslab.errors import FormatError


def b64(data: bytes) -> str:
    """The base64 text of `data`, padded, without line breaks.

    >>> b64(b"kms")
    'a21z'
    """
    return b2a_base64(data, newline=False).decode("ascii")


def unb64(text: str, what: str = "base64 text") -> bytes:
    """The bytes of a base64 text, which must be spelled just as `b64` spells it.

    White space, missing padding, foreign letters and trailing bits that are not zero raise
    FormatError, which names `what`.

    >>> unb64("a21z")
    b'kms'
    >>> unb64("a21y=")
    Traceback (most recent call last):
    ...
    kmslab.errors.FormatError: base64 text is not canonical base64
    """
    try:
        data = a2b_base64(text, strict_mode=True)
    except (_Base64Error, ValueError):
        raise FormatError(f"{what} is not canonical base64") from None
    if b2a_base64(data, newline=False) != text.encode("ascii"):
        raise FormatError(f"{what} is not canonical base64")
    return data


def unb64_rows(letters: str, rows: int, size: int) -> bytes | None:
    r"""The bytes of many base64 texts of one length, one after another, `size` bytes each.

    Each row is followed by as many zero bytes as make its length a multiple of 3. None unless
    every text is spelled just as `b64` spells it; `unb64` says of one what is wrong.

    A padding sign is read as the letter for zero bits: that what it adds is zero shows that the
    letter before it has no bits to spare.

    >>> unb64_rows(b64(b"kmsl") + b64(b"abcd"), 2, 4)
    b'kmsl\x00\x00abcd\x00\x00'
    """
    fill = -size % 3
    row = size + fill
    width = row // 3 * 4
    if len(letters) != width * rows or letters.count("=") != fill * rows:
        return None
    if any(letters[at::width] != "=" * rows for at in range(width - fill, width)):
        return None
    try:
        data = a2b_base64(letters.replace("=", "A"), strict_mode=True)
    except ValueError:
        return None
    if any(any(data[at::row]) for at in range(size, row)):
        return None
    return data


def b64_rows(rows: Sequence[bytes], size: int) -> list[str]:
    """The base64 texts of many byte strings of `size` bytes each, encoded at once.

    >>> b64_rows([b"kmsl", b"abcd"], 4) == [b64(b"kmsl"), b64(b"abcd")]
    True
    """
    fill = -size % 3
    width, zeros, end = (size + fill) // 3 * 4, bytes(fill), "=" * fill
    letters = b2a_base64(zeros.join([*rows, b""]), newline=False).decode("ascii")
    return [letters[at : at + width - fill] + end for at in range(0, len(letters), width)]


def uuid_bytes(text: str, what: str = "id") -> bytes:
    """The 16 bytes of a UUID in its one spelling: lower case, 8-4-4-4-12.

    >>> uuid_bytes("23e80852-1e38-11e9-b129-5cb9019b4b01").hex()
    '23e808521e3811e9b1295cb9019b4b01'
    """
    try:
        value = uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        raise FormatError(f"{what} is not a lower-case UUID") from None
    if str(value) != text:
        raise FormatError(f"{what} is not a lower-case UUID")
    return value.bytes


def uuid_text(data: bytes) -> str:
    """The text of the UUID whose 16 bytes are `data`.

    >>> uuid_text(bytes(16))
    '00000000-0000-0000-0000-000000000000'
    """
    return str(uuid.UUID(bytes=data))


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its one spelling.

    >>> is_uuid("orders"), is_uuid("23e80852-1e38-11e9-b129-5cb9019b4b01")
    (False, True)
    """
    try:
        uuid_bytes(text)
    except FormatError:
        return False
    return True


def pack(*fields: str | bytes | int | bool | None) -> bytes:
    """One injective encoding of a row: no two different rows have the same bytes.

    Each field is its type, its length in 8 bytes, and its content.

    >>> pack("ab", "c") == pack("a", "bc")
    False
    """
    out = bytearray()
    for field in fields:
        match field:
            case None:
                tag, data = b"n", b""
            case bool():
                tag, data = b"t", b"1" if field else b"0"
            case int():
                tag, data = b"i", str(field).encode("ascii")
            case str():
                tag, data = b"s", field.encode("utf-8", "surrogatepass")
            case bytes():
                tag, data = b"b", field
            case _:
                raise TypeError(f"a {type(field).__name__} cannot be packed")
        out += tag + len(data).to_bytes(8, "big") + data
    return bytes(out)
