"""What a blob says of itself, without a lab, a key or a network.

`inspect` explains one blob byte by byte; `inspect_many` looks strictly at columns of them;
`read_headers` only at their heads, for millions of rows. Nothing that these tell is proven: that
takes the key.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from kmslab.encoding import unb64
from kmslab.errors import FormatError
from kmslab.model import CTYUN, TENCENT, BlobFormat, Part, UnverifiedHeader
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

__all__ = [
    "HeaderColumns",
    "Inspection",
    "InspectionColumns",
    "inspect",
    "inspect_many",
    "read_headers",
]

MAX_CHARACTERS = 65_536
"""A longer text is no blob: the longest that either cloud takes has about 8,400 characters."""

_MAX_HEADS = 65_536
_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_CTYUN_START = "MDA2N"
_NOTHING = UnverifiedHeader("", BlobFormat.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one text is, as far as its bytes tell.

    `provider` is None and `format` UNKNOWN where it is no blob of either; `notes` then say why.
    `plaintext_bytes` are the fewest and the most bytes that the plaintext can have, equal where
    the format tells it exactly. `fingerprint` and `has_context` are as in `UnverifiedHeader`.
    """

    provider: str | None
    format: BlobFormat
    characters: int
    key_id: str | None = None
    key_version_id: str | None = None
    fingerprint: str | None = None
    has_context: bool | None = None
    plaintext_bytes: tuple[int, int] | None = None
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON takes it."""
        size = self.plaintext_bytes
        return {
            **asdict(self),
            "format": self.format.value,
            "plaintext_bytes": None if size is None else {"min": size[0], "max": size[1]},
            "parts": [asdict(part) for part in self.parts],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class InspectionColumns:
    """What `inspect_many` gives, row for row. `error` is None where the whole text is a blob."""

    provider: list[str | None]
    format: list[BlobFormat]
    key_id: list[str | None]
    key_version_id: list[str | None]
    error: list[str | None]

    def __len__(self) -> int:
        return len(self.error)


@dataclass(frozen=True, slots=True)
class HeaderColumns:
    """What `read_headers` gives, row for row: read from the heads alone, and not verified."""

    provider: list[str | None]
    format: list[BlobFormat]
    key_id: list[str | None]
    key_version_id: list[str | None]
    fingerprint: list[str | None]
    has_context: list[bool | None]

    def __len__(self) -> int:
        return len(self.provider)


def inspect(blob: str) -> Inspection:
    """Explain a blob: its provider, who made it, key and version, every field, and what to know.

    No text raises: what is no blob gets the format UNKNOWN and the reason as a note.

    >>> sample = (
    ...     "MDA2NE1qUXhaV1JsTWpJdE5qSTJNUzAwTmpFM0xUbGpZV1l0TVRCa09EazVPVEExTVRaakpqUTVaV00zTm1R"
    ...     "M0xXTmpOR010TkRBd1pTMDVaakU1TFdZNU1EQXhOVGczWVdVd1pnPT3oCYiGAy7mNTLitIlJaQ92"
    ... )
    >>> found = inspect(sample)
    >>> found.provider, found.format.value, found.key_version_id, found.plaintext_bytes
    ('ctyun', 'cloud', '49ec76d7-cc4c-400e-9f19-f9001587ae0f', (0, 15))
    >>> inspect("orders").notes
    ('not base64, and not three segments joined by "-k-"',)
    """
    try:
        parsed = _parse(blob)
    except FormatError as error:
        notes = _reasons(blob, error)
        return Inspection(None, BlobFormat.UNKNOWN, len(blob), notes=notes)
    header = parsed.header()
    return Inspection(
        provider=header.provider,
        format=header.format,
        characters=len(blob),
        key_id=header.key_id,
        key_version_id=header.key_version_id,
        fingerprint=header.fingerprint,
        has_context=header.has_context,
        plaintext_bytes=parsed.plaintext_bytes(),
        parts=parsed.parts(),
        notes=_notes(header),
    )


def inspect_many(blobs: Iterable[object]) -> InspectionColumns:
    """Look strictly at a column of blobs: the whole encoding of each is checked, CRC included.

    A row that is no text (None, NaN) has an error like any other that is no blob.

    >>> inspect_many(["orders", None]).error
    ['not base64, and not three segments joined by "-k-"', 'not a text']
    """
    heads: dict[str, UnverifiedHeader] = {}
    headers: list[UnverifiedHeader] = []
    errors: list[str | None] = []
    for text in blobs:
        header, error = _strictly(text, heads)
        headers.append(header)
        errors.append(error)
    return InspectionColumns(
        provider=[header.provider or None for header in headers],
        format=[header.format for header in headers],
        key_id=[header.key_id for header in headers],
        key_version_id=[header.key_version_id for header in headers],
        error=errors,
    )


def read_headers(blobs: Iterable[object]) -> HeaderColumns:
    """Read the heads of a column of blobs, whatever follows them.

    For counting millions of rows by key and version. A row that does not look like a blob has
    the provider None and the format UNKNOWN.

    >>> read_headers(["orders"]).format[0].value
    'unknown'
    """
    heads: dict[str, UnverifiedHeader] = {}
    headers: list[UnverifiedHeader] = []
    for text in blobs:
        header = None
        if isinstance(text, str):
            header = heads.get(text[:91] if text[88:91] == "-k-" else text[:144])
        headers.append(header or _read(text, heads))
    return HeaderColumns(
        provider=[header.provider or None for header in headers],
        format=[header.format for header in headers],
        key_id=[header.key_id for header in headers],
        key_version_id=[header.key_version_id for header in headers],
        fingerprint=[header.fingerprint for header in headers],
        has_context=[header.has_context for header in headers],
    )


def _parse(text: str) -> tencent.TencentBlob | ctyun.CtyunBlob:
    """Parse as the one provider that it can be of: only Tencent's blobs hold a "-"."""
    if len(text) > MAX_CHARACTERS:
        raise FormatError(f"{len(text)} characters are more than any blob has")
    return tencent.parse(text) if tencent.SEPARATOR in text else ctyun.parse(text)


def _strictly(
    text: object, heads: dict[str, UnverifiedHeader]
) -> tuple[UnverifiedHeader, str | None]:
    """The header of a row, and what is wrong with it. `heads` are those of lab blobs seen."""
    if not isinstance(text, str):
        return _NOTHING, "not a text"
    if len(text) > MAX_CHARACTERS:
        return _NOTHING, f"{len(text)} characters are more than any blob has"
    if text[88:91] == "-k-":
        header = heads.get(text[:91])
        if header is not None and tencent.tail_fits(text):
            return header, None
    else:
        header = heads.get(text[:144])
        if header is not None and ctyun.tail_fits(text):
            return header, None
    try:
        header = _parse(text).header()
    except FormatError as error:
        return _NOTHING, _reasons(text, error)[0]
    _remember(text, header, heads)
    return header, None


def _read(text: object, heads: dict[str, UnverifiedHeader]) -> UnverifiedHeader:
    if not isinstance(text, str):
        return _NOTHING
    header = tencent.read_header(text) or ctyun.read_header(text) or _NOTHING
    _remember(text, header, heads)
    return header


def _remember(text: str, header: UnverifiedHeader, heads: dict[str, UnverifiedHeader]) -> None:
    """Keep the head of a lab blob: it is the same in every blob of the version."""
    if header.format is BlobFormat.LAB:
        if len(heads) >= _MAX_HEADS:
            heads.clear()
        size = tencent.HEAD_CHARS if header.provider == TENCENT else ctyun.HEAD_CHARS
        heads[text[:size]] = header


def _notes(header: UnverifiedHeader) -> tuple[str, ...]:
    match header.provider, header.format:
        case _, BlobFormat.LAB:
            return ("made by a lab: key and version are not proven until the blob is opened",)
        case _, BlobFormat.PUBLIC_KEY:
            return (
                "256 bytes, as RSA-OAEP under an RSA_2048 key gives: no key, version or algorithm"
                " is named, so they must be given",
                "public-key ciphertext of the other cloud looks the same",
            )
        case provider, _ if provider == CTYUN:
            return (
                "made by the cloud: key and version stand in its header (inferred from one sample)",
                "the body is padded blocks without IV or tag (inferred from one sample)",
            )
    context = "some context" if header.has_context else "no context"
    return (
        "made by the cloud: key and version cannot be read; an equal fingerprint means the same"
        " key, another one proves nothing (inferred)",
        f"the second segment says: {context} (inferred)",
    )


def _reasons(text: str, error: FormatError) -> tuple[str, ...]:
    """Why a text is no blob, the most fitting reason first."""
    where = "" if error.offset is None else f" (at character {error.offset})"
    if not text:
        return ("empty",)
    if len(text) > MAX_CHARACTERS:
        return (str(error),)
    if text != text.strip():
        return _reasons_to_strip(text.strip())
    if segments := text.count(tencent.SEPARATOR):
        if segments != 2:
            return (f'{segments + 1} segments joined by "-k-": Tencent\'s shape has three',)
        return (f"three segments are Tencent's shape, but {error}{where}",)
    if text.startswith(_CTYUN_START):
        return (f'"0064" at the start is CTyun\'s shape, but {error}{where}',)
    return _foreign(text)


def _reasons_to_strip(text: str) -> tuple[str, ...]:
    try:
        _parse(text)
    except FormatError as error:
        return _reasons(text, error) if text else ("empty",)
    return ("a blob with white space around it: without it, it is one",)


def _foreign(text: str) -> tuple[str, ...]:
    """What a text may be that has neither provider's marks."""
    try:
        data = unb64(text)
        cut = ""
    except FormatError:
        data = _leniently(text)
        cut = "; cut or altered: not canonical base64"
    if _UUID.match(data):
        return (f"a UUID at the start: another vendor's layout, not these clouds'{cut}",)
    if data.startswith(tencent.MAGIC):
        return ("it begins as a lab's Tencent blob does, and is cut",)
    if cut:
        return ('not base64, and not three segments joined by "-k-"',)
    blocks = ", whole blocks of 16" if len(data) % 16 == 0 else ""
    return (f"{len(data)} bytes without header{blocks}: layout unknown",)


def _leniently(text: str) -> bytes:
    """The bytes of the first letters, whatever comes after them; none where they are no base64."""
    try:
        return a2b_base64(text[:48], strict_mode=True)
    except ValueError:
        return b""
