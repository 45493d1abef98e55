"""The ciphertext format over many blobs of one length: read and written at once.

The bytes of a blob are the same whether they are laid out here or one by one in `blob`; what is
saved are the slices and concatenations of each row. numpy is loaded on the first use.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

# Where the parts of a blob's text stand (docs/formats.md).
_S2, _S2_SIGNS, _S2_END, _S3 = 91, 113, 115, 118
_IV, _TAG, _CRC, _BLOCK = 16, 16, 4, 16
_SIGN, _ZERO = ord("="), ord("A")
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NO_LETTERS = 1 << 12
# Of more blobs at a time than this, each takes half as long again: what is made is too large then.
_AT_ONCE = 1_000
# The CRC-32 of any bytes followed by their own CRC-32 in little-endian.
_CRC_OF_CRC = 0x2144DF1C


def read(texts: Sequence[str]) -> tuple[list[bytes], list[bytes]] | None:
    """The IVs of blobs of one length, and ciphertext and tag of each.

    None where one is not spelled in the one way, or its CRC is wrong.
    """
    import numpy as np

    parts = _tails(texts)
    if parts is None:
        return None
    tags, thirds, size = parts
    sealed = np.concatenate((thirds[:, _IV : size - _CRC], tags[:, :_TAG]), axis=1)
    return _split(thirds[:, :_IV]), _split(sealed)


def fit(texts: Sequence[str]) -> bool:
    """Whether blobs of one length are spelled in the one way behind their heads, with good CRCs."""
    parts = (texts[at : at + _AT_ONCE] for at in range(0, len(texts), _AT_ONCE))
    return all(_tails(part) is not None for part in parts)


def _tails(texts: Sequence[str]) -> tuple[Bytes, Bytes, int] | None:
    """The second and third segments of blobs of one length, and the size of each third one."""
    import numpy as np

    chars = len(texts[0]) - _S3
    size = chars // 4 * 3 - texts[0].count("=", _S3)
    joined = "".join(texts)
    if size < _IV + _BLOCK + _CRC or size % _BLOCK != _CRC or not joined.isascii():
        return None
    letters = np.frombuffer(joined.encode("ascii"), np.uint8).reshape(len(texts), -1)
    if (letters[:, _S2_END:_S3] != np.frombuffer(b"-k-", np.uint8)).any():
        return None
    tags = _decoded(letters[:, _S2:_S2_END].copy(), _TAG)
    thirds = _decoded(letters[:, _S3:].copy(), size)
    if tags is None or thirds is None:
        return None
    if set(map(crc32, _split(thirds[:, :size]))) != {_CRC_OF_CRC}:
        return None
    return tags, thirds, size


def _decoded(letters: Bytes, size: int) -> Bytes | None:
    """Rows of base64 letters as rows of `size` bytes, filled up with zeros to a multiple of 3.

    A padding sign is read as the letter for zero bits: that what it adds is zero shows that the
    letter before it has no bits to spare.
    """
    import numpy as np

    fill = -size % 3
    if letters.shape[1] != (size + fill) // 3 * 4:
        return None
    if fill:
        if (letters[:, -fill:] != _SIGN).any():
            return None
        letters[:, -fill:] = _ZERO
    pairs = _bits_of_pairs().take(letters.view("<u2"))
    if (pairs == _NO_LETTERS).any():
        return None
    words = pairs[:, ::2].astype(np.uint32) << 12 | pairs[:, 1::2]
    rows = np.empty((len(letters), size + fill), np.uint8)
    for at in range(3):
        rows[:, at::3] = words >> (16 - 8 * at)
    return None if rows[:, size:].any() else rows


@cache
def _bits_of_pairs() -> NDArray[np.uint16]:
    """What two letters of base64 stand for, by the two as one little-endian number: 12 bits, or
    `_NO_LETTERS`. Looked up for many pairs at once, they take half as long as from binascii.

    A constant, made on first use because numpy is not loaded before.
    """
    import numpy as np

    bits = np.full(256, 64, np.uint16)
    bits[np.frombuffer(_LETTERS, np.uint8)] = np.arange(64)
    first, second = bits[np.newaxis, :], bits[:, np.newaxis]
    pairs = np.where(first | second < 64, first << 6 | second, np.uint16(_NO_LETTERS)).ravel()
    pairs.flags.writeable = False
    return pairs


def _split(rows: Bytes) -> list[bytes]:
    """Each row as bytes of its own."""
    found: list[bytes] = rows.view(f"V{rows.shape[1]}")[:, 0].tolist()
    return found


def well_padded(rows: Sequence[bytes]) -> Sequence[bytes | None]:
    """Plaintexts of one length as they are; None for one whose PKCS#7 padding is wrong."""
    width, size, joined = len(rows[0]), rows[0][-1], b"".join(rows)
    pads = bytes([size]) * len(rows)
    if 0 < size <= _BLOCK and all(joined[at::width] == pads for at in range(width - size, width)):
        return rows
    return [row if _well_padded(row) else None for row in rows]


def _well_padded(row: bytes) -> bool:
    size = row[-1]
    return 0 < size <= _BLOCK and row.endswith(bytes([size]) * size)


def split(data: bytes, size: int) -> list[bytes]:
    """Bytes that stand one after another, `size` of each.

    >>> split(b"kmslab", 3)
    [b'kms', b'lab']
    """
    import numpy as np

    return _split(np.frombuffer(data, np.uint8).reshape(-1, size))


def write(head: str, ivs: bytes, sealed: Sequence[bytes]) -> list[str]:
    """The blobs of many ciphertexts with their tags, which all have one length."""
    import numpy as np

    rows = np.frombuffer(b"".join(sealed), np.uint8).reshape(len(sealed), -1)
    body = np.concatenate(
        (np.frombuffer(ivs, np.uint8).reshape(len(sealed), _IV), rows[:, :-_TAG]), axis=1
    )
    crcs = np.fromiter(map(crc32, _split(body)), "<u4", len(sealed))
    crc = crcs.view(np.uint8).reshape(-1, _CRC)
    thirds = _encoded(np.concatenate((body, crc), axis=1))
    seconds = _encoded(rows[:, -_TAG:])
    letters = np.empty((len(sealed), _S3 + thirds.shape[1]), np.uint8)
    letters[:, :_S2] = np.frombuffer(head.encode("ascii"), np.uint8)
    letters[:, _S2:_S2_END] = seconds
    letters[:, _S2_END:_S3] = np.frombuffer(b"-k-", np.uint8)
    letters[:, _S3:] = thirds
    text, row = letters.tobytes().decode("ascii"), letters.shape[1]
    return [text[at : at + row] for at in range(0, len(text), row)]


def _encoded(rows: Bytes) -> Bytes:
    """Rows of bytes as rows of base64 letters."""
    import numpy as np

    size = rows.shape[1]
    fill = -size % 3
    filled = np.zeros((len(rows), size + fill), np.uint8)
    filled[:, :size] = rows
    letters = np.frombuffer(b2a_base64(filled.data, newline=False), np.uint8)
    letters = letters.reshape(len(rows), -1).copy()
    if fill:
        letters[:, -fill:] = _SIGN
    return letters
