"""The ciphertext format over many blobs of one length: read and written at once.

The bytes of a blob are the same whether they are laid out here or one by one in `blob`; what is
saved are the slices and concatenations of each row. numpy is loaded on the first use.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
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
# The CRC-32 of any bytes followed by their own CRC-32 in little-endian.
_CRC_OF_CRC = 0x2144DF1C


@dataclass(frozen=True, slots=True)
class Tails:
    """What stands behind the heads of many blobs: the IVs, and ciphertext and tag of each, one
    after another, `sealed_bytes` for each; `sound` says for each whether its CRC is right."""

    ivs: bytes
    sealed: bytes
    sealed_bytes: int
    sound: list[bool]


def read(texts: Sequence[str]) -> Tails | None:
    """The tails of blobs of one length; None where one is not spelled in the one way."""
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
    body = size - _CRC
    raw, row = thirds.tobytes(), thirds.shape[1]
    return Tails(
        ivs=thirds[:, :_IV].tobytes(),
        sealed=np.concatenate((thirds[:, _IV:body], tags[:, :_TAG]), axis=1).tobytes(),
        sealed_bytes=body - _IV + _TAG,
        sound=[crc32(raw[at : at + size]) == _CRC_OF_CRC for at in range(0, len(raw), row)],
    )


def _decoded(letters: Bytes, size: int) -> Bytes | None:
    """Rows of base64 letters as rows of `size` bytes, filled up with zeros to a multiple of 3.

    A padding sign is read as the letter for zero bits: that what it adds is zero shows that the
    letter before it has no bits to spare.
    """
    import numpy as np

    fill = -size % 3
    if fill:
        if (letters[:, -fill:] != _SIGN).any():
            return None
        letters[:, -fill:] = _ZERO
    try:
        data = a2b_base64(letters.data, strict_mode=True)
    except ValueError:
        return None
    if len(data) != len(letters) * (size + fill):
        return None
    rows = np.frombuffer(data, np.uint8).reshape(len(letters), -1)
    return None if rows[:, size:].any() else rows


def unpadded(rows: Sequence[bytes]) -> list[bytes | None]:
    """Plaintexts without their PKCS#7 padding; None for a row that is empty or wrongly padded."""
    import numpy as np

    pad, joined = rows[0][-1:], b"".join(rows)
    size, width = pad[0] if pad else 0, len(rows[0])
    if 0 < size <= _BLOCK and len(joined) == width * len(rows):
        last = np.frombuffer(joined, np.uint8).reshape(len(rows), width)[:, -size:]
        if (last == size).all():
            return [joined[at : at + width - size] for at in range(0, len(joined), width)]
    return [_unpadded(row) for row in rows]


def _unpadded(padded: bytes) -> bytes | None:
    size = padded[-1] if padded else 0
    if 0 < size <= _BLOCK and padded.endswith(bytes([size]) * size):
        return padded[:-size]
    return None


def write(head: str, ivs: bytes, sealed: Sequence[bytes]) -> list[str]:
    """The blobs of many ciphertexts with their tags, which all have one length."""
    import numpy as np

    rows = np.frombuffer(b"".join(sealed), np.uint8).reshape(len(sealed), -1)
    body = np.concatenate(
        (np.frombuffer(ivs, np.uint8).reshape(len(sealed), _IV), rows[:, :-_TAG]), axis=1
    )
    raw, width = body.tobytes(), body.shape[1]
    crcs = [crc32(raw[at : at + width]) for at in range(0, len(raw), width)]
    crc = np.array(crcs, "<u4").view(np.uint8).reshape(-1, _CRC)
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
