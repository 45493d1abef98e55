"""The heads of a column of blobs: each distinct one is parsed once, and rows name it by number.

Nothing is opened, so nothing is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.api.types import infer_dtype, is_object_dtype

from kmslab.encoding import unb64, unb64_rows
from kmslab.errors import FormatError
from kmslab.inspection import MAX_CHARACTERS, inspect_many, read_headers
from kmslab.model import CTYUN, TENCENT, BlobFormat, UnverifiedHeader
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

NOTHING: Final = UnverifiedHeader("", BlobFormat.UNKNOWN)
"""The header of what is no blob."""

_CHUNK: Final = 65_536  # rows that are read together, which bounds the memory of it
_BATCH: Final = 4_096  # rows whose tails are looked at together: one bad row costs so many looks

# The parts of a blob's text that make its head, and what in them tells the forms apart
# (docs/formats.md): the end of a CTyun header is "==" and the lab's magic.
_CTYUN_START: Final = b"MDA2N"
_CTYUN_HEAD: Final = 138
_CTYUN_LAB: Final = b"PT1LTUwx"
# Where in a CTyun text the letters that end the header begin, and how many of its bytes they hold.
_CLOUD_TAIL: Final = 136
_SHARED: Final = 2

_Ints = NDArray[np.int64]

_Fits = tuple[Callable[[str], bool], Callable[[Sequence[str]], bool]]


def _cloud_fits(text: str) -> bool:
    """`tail_fits` for a CTyun cloud's own blob, whose header is known but for its last letter."""
    try:
        data = unb64(text)
    except FormatError:
        return False
    size = len(data) - ctyun.HEADER_BYTES
    return (
        size >= ctyun.BLOCK_BYTES
        and size % ctyun.BLOCK_BYTES == 0
        and data.startswith(b"=", ctyun.HEADER_BYTES - 1)
        and not data.startswith(ctyun.MAGIC, ctyun.HEADER_BYTES)
    )


def _clouds_fit(texts: Sequence[str]) -> bool:
    """Whether `_cloud_fits` of all, of texts of one length: decoded at once."""
    size = (len(texts[0]) - _CLOUD_TAIL) // 4 * 3 - texts[0].count("=", _CLOUD_TAIL)
    body = size - _SHARED
    if body < ctyun.BLOCK_BYTES or body % ctyun.BLOCK_BYTES:
        return False
    rows = unb64_rows("".join([text[_CLOUD_TAIL:] for text in texts]), len(texts), size)
    if rows is None or ctyun.MAGIC in rows:
        return False
    return rows[_SHARED - 1 :: size + -size % 3] == b"=" * len(texts)


def _public_key_fits(text: str) -> bool:
    """`tail_fits` for public-key ciphertext, whose length and first letters are known."""
    return _public_keys_fit([text])


def _public_keys_fit(texts: Sequence[str]) -> bool:
    """Whether `_public_key_fits` of all: decoded at once."""
    size = ctyun.PUBLIC_KEY_BYTES - ctyun.HEAD_CHARS // 4 * 3
    return unb64_rows("".join([t[ctyun.HEAD_CHARS :] for t in texts]), len(texts), size) is not None


_TENCENT_FITS: Final[_Fits] = (tencent.tail_fits, tencent.tails_fit)
_FITS: Final[dict[tuple[str, BlobFormat], _Fits]] = {
    (TENCENT, BlobFormat.LAB): _TENCENT_FITS,
    (TENCENT, BlobFormat.CLOUD): _TENCENT_FITS,
    (CTYUN, BlobFormat.LAB): (ctyun.tail_fits, ctyun.tails_fit),
    (CTYUN, BlobFormat.CLOUD): (_cloud_fits, _clouds_fit),
    (CTYUN, BlobFormat.PUBLIC_KEY): (_public_key_fits, _public_keys_fit),
}
"""How the rest of a blob is looked at once its head is known."""


@dataclass(frozen=True, slots=True)
class ManyHeads:
    """The heads of many rows: row `n` has `headers[codes[n]]`.

    No two headers are equal; the first is NOTHING, which rows with an error have. `errors` are
    those of a strict reading, by row.
    """

    codes: _Ints
    headers: list[UnverifiedHeader]
    errors: dict[int, str] = field(default_factory=dict)


def many_heads(cells: Any, *, strict: bool) -> ManyHeads:
    """The heads of the cells of a pandas Series, or of any sequence.

    `strict` looks at all of each text, as `inspect_many` does; else only at the head, as
    `read_headers`, and of a CTyun cloud's blob not at the letters that share bytes with the body.

    >>> from kmslab.providers.tencent.blob import VersionCipher
    >>> from kmslab.model import KeySpec
    >>> names = "23e80852-1e38-11e9-b129-5cb9019b4b01", "5cb9019b-1e38-11e9-b129-23e808524b01"
    >>> blob = VersionCipher(*names, KeySpec.SM4, bytes(16)).seal(b"secret", "", bytes(16))
    >>> many_heads([blob, blob[:-4], None], strict=False).codes.tolist()
    [1, 1, 0]
    >>> many_heads([blob, blob[:-4], None], strict=True).errors[2]
    'not a text'
    """
    texts = _as_texts(cells)
    reader = _Reader()
    codes = np.zeros(len(texts), np.int64)
    errors: dict[int, str] = {}
    for start in range(0, len(texts), _CHUNK):
        chunk = texts.slice(start, _CHUNK)
        found = reader.read(chunk)
        if strict:
            for row, error in reader.check(chunk, found):
                errors[start + row] = error
        codes[start : start + len(chunk)] = found
    return ManyHeads(codes, reader.headers, errors)


def _as_texts(cells: Any) -> Any:
    """Cells as an Arrow array of texts; null where one is none."""
    # Of cells of several kinds Arrow makes one that is none of theirs, or nothing at all.
    objects = is_object_dtype(getattr(cells, "dtype", object))
    if objects and infer_dtype(cells, skipna=True) != "string":
        cells = list(map(_text, cells))
    try:
        array = pa.array(cells, from_pandas=True)
    except (pa.ArrowInvalid, UnicodeEncodeError):
        array = pa.array(list(map(_text, cells)), pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return pa.nulls(len(array), pa.large_string())
    return array.cast(pa.large_string())


def _text(cell: object) -> str | None:
    """A cell as a text that can be encoded, which one with a lone surrogate cannot."""
    if not isinstance(cell, str):
        return None
    return cell.encode("utf-8", "replace").decode()


class _Reader:
    """The distinct heads so far."""

    def __init__(self) -> None:
        self.headers = [NOTHING]
        self._codes: dict[UnverifiedHeader, int] = {NOTHING: 0}
        self._known: dict[tuple[bytes, bool], int] = {}

    def read(self, texts: Any) -> _Ints:
        """The numbers of the heads of texts, whatever stands behind the heads."""
        starts, numbers = _starts(texts)
        first = np.zeros(2 * len(starts), np.int64)
        first[numbers[::-1]] = np.arange(len(texts))[::-1]
        codes = np.full(2 * len(starts), -1, np.int64)
        for number in np.unique(numbers).tolist():
            start = starts[number // 2]
            if start is not None:
                codes[number] = self._code_of_start(start, bool(number % 2), texts, first[number])
        found = codes[numbers]
        odd = np.flatnonzero(found < 0)
        if len(odd):
            headers = _lenient(texts.take(pa.array(odd)).to_pylist())
            found[odd] = [self._code(header) for header in headers]
        return found

    def _code_of_start(self, start: bytes, mark: bool, texts: Any, row: int) -> int:
        """The number of the head that begins so; -1 where more than the beginning makes it."""
        code = self._known.get((start, mark))
        if code is None:
            header = next(_lenient([texts[int(row)].as_py()]))
            if header.format not in (BlobFormat.LAB, BlobFormat.CLOUD):
                return -1
            code = self._known[start, mark] = self._code(header)
        return code

    def _code(self, header: UnverifiedHeader) -> int:
        code = self._codes.setdefault(header, len(self.headers))
        if code == len(self.headers):
            self.headers.append(header)
        return code

    def check(self, texts: Any, codes: _Ints) -> Iterator[tuple[int, str]]:
        """The rows that are no blob, and why; in `codes` they become NOTHING."""
        rows = self._doubtful(texts, codes)
        found = inspect_many(texts.take(pa.array(rows, pa.int64())).to_pylist())
        for row, error in zip(rows, found.error, strict=True):
            if error is not None:
                codes[row] = 0
                yield row, error

    def _doubtful(self, texts: Any, codes: _Ints) -> list[int]:
        """The rows of which not all has been seen to be in order."""
        lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        named = list(_FITS)
        kinds = [(header.provider, header.format) for header in self.headers]
        forms = np.array([named.index(kind) if kind in _FITS else -1 for kind in kinds])[codes]
        forms[lengths > MAX_CHARACTERS] = -1
        doubtful: list[int] = np.flatnonzero(forms < 0).tolist()
        for form, fits in enumerate(_FITS.values()):
            rows = np.flatnonzero(forms == form)
            rows = rows[np.argsort(lengths[rows], kind="stable")]
            cuts = np.flatnonzero(np.diff(lengths[rows])) + 1
            for alike in np.split(rows, cuts):
                doubtful += _bad_tails(texts, alike, *fits)
        return sorted(doubtful)


def _starts(texts: Any) -> tuple[list[bytes | None], _Ints]:
    """The distinct beginnings of texts, and for each row twice the number of its beginning, one
    more where a second mark is set: a Tencent cloud's blob without a context, a CTyun lab's."""
    data = texts.cast(pa.large_binary())
    separated = pc.equal(pc.binary_slice(data, 88, 91), b"-k-")
    heads = pc.if_else(
        separated,
        pc.binary_slice(data, 0, tencent.HEAD_CHARS),
        # A shorter text may end within its header, and public-key ciphertext has none: those are
        # read by themselves.
        pc.if_else(
            pc.and_(
                pc.greater_equal(pc.binary_length(data), ctyun.HEAD_CHARS),
                pc.equal(pc.binary_slice(data, 0, len(_CTYUN_START)), _CTYUN_START),
            ),
            pc.binary_slice(data, 0, _CTYUN_HEAD),
            None,
        ),
    )
    no_context = pc.equal(pc.binary_slice(data, 91, 115), tencent.NO_CONTEXT.encode())
    lab = pc.equal(pc.binary_slice(data, 136, 144), _CTYUN_LAB)
    mark = pc.fill_null(pc.if_else(separated, no_context, lab), False)
    encoded = heads.dictionary_encode(null_encoding="encode")
    numbers = encoded.indices.to_numpy().astype(np.int64) * 2
    return encoded.dictionary.to_pylist(), numbers + mark.to_numpy(zero_copy_only=False)


def _bad_tails(
    texts: Any, rows: _Ints, fits: Callable[[str], bool], fit: Callable[[Sequence[str]], bool]
) -> list[int]:
    """The rows, of texts of one length, whose tails are not well-formed."""
    bad = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        found = texts.take(pa.array(batch)).to_pylist()
        if not fit(found):
            bad += [row for row, text in zip(batch.tolist(), found, strict=True) if not fits(text)]
    return bad


def _lenient(texts: Sequence[str | None]) -> Iterator[UnverifiedHeader]:
    read = read_headers(texts)
    columns = (read.provider, read.format, read.key_id, read.key_version_id)
    for provider, *rest in zip(*columns, read.fingerprint, read.has_context, strict=True):
        yield NOTHING if provider is None else UnverifiedHeader(provider, *rest)
