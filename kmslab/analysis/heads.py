"""What the heads of blobs name, as the Kms knows it. Nothing is opened, so nothing is proven."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from kmslab.columns import column_of
from kmslab.errors import (
    FormatError,
    InvalidKeyId,
    KeyNotFound,
    Unauthorized,
    UnknownAction,
    Unsupported,
)
from kmslab.model import CTYUN, TENCENT, BlobFormat, Key, KeyVersion, Record, UnverifiedHeader
from kmslab.providers.base import UNKNOWN, Kms, Providers, Unknown
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

NO_BLOB: Final = "there is no blob"
"""What is wrong with an empty one."""

_MAX_HEADS: Final = 65_536


class Standing(StrEnum):
    """How the version that a blob names stands with the Kms."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    """The cloud does not tell."""
    MISSING = "missing"
    """The key, or its version, is none of this Kms."""
    UNNAMED = "unnamed"
    """Public-key ciphertext of which the record does not say the key and version."""
    NO_KMS = "no kms"
    """There is no Kms of this provider."""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """What a blob names, with the key and version that the Kms has for it.

    For public-key ciphertext, which names nothing, the ids are those that the record gives.
    Heads are told apart by identity: `Heads` gives the same one for the same name.
    """

    provider: str
    format: BlobFormat
    key_id: str | None
    key_version_id: str | None
    has_context: bool | None
    standing: Standing
    key: Key | None = None
    version: KeyVersion | None = None

    @property
    def is_primary(self) -> bool | None:
        """Whether the version is its key's primary one; None where that is not known, or a pair."""
        if self.key is None or self.version is None or self.key.primary_version_id is None:
            return None
        return self.version.version_id == self.key.primary_version_id

    @property
    def version_inferred(self) -> bool:
        """Whether nothing but the head says the version: see `is_inferred`."""
        told = self.standing is not Standing.UNKNOWN
        return self.key_version_id is not None and is_inferred(self.format, told=told)

    @property
    def key_inferred(self) -> bool:
        """Whether nothing but the head says the key: see `is_inferred`."""
        told = self.key is not None or self.standing in (Standing.MISSING, Standing.NO_KMS)
        return self.key_id is not None and is_inferred(self.format, told=told)


def is_inferred(form: BlobFormat, *, told: bool) -> bool:
    """Whether what a head names is inferred: in a cloud's own blob, of which one sample shows where
    ids stand; and in a lab's, where the Kms does not tell whether there is such a key or version.
    What a record says of public-key ciphertext is not.

    >>> is_inferred(BlobFormat.LAB, told=True), is_inferred(BlobFormat.LAB, told=False)
    (False, True)
    """
    return form is BlobFormat.CLOUD or (form is BlobFormat.LAB and not told)


class Parsed(Protocol):
    """A blob taken apart."""

    def header(self) -> UnverifiedHeader:
        """What it says of itself."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """What is asked of a provider's blob module."""

    parse: Callable[[str], Parsed]
    head_chars: int
    tail_fits: Callable[[str], bool]
    tails_fit: Callable[[Sequence[str]], bool]


FORMATS: Final[Mapping[str, Format]] = {
    TENCENT: Format(tencent.parse, tencent.HEAD_CHARS, tencent.tail_fits, tencent.tails_fit),
    CTYUN: Format(ctyun.parse, ctyun.HEAD_CHARS, ctyun.tail_fits, ctyun.tails_fit),
}
"""The blobs of each provider."""


SOURCE_COLUMNS: Final = ("source_key_id", "source_key_version_id", "source_encryption_algorithm")
PLACE_COLUMNS: Final = ("region", "account")

Like = tuple[str, str, int, str | None]
"""What a record on a lab blob is judged by: provider, head, length and context."""


def one_form(records: Sequence[Record]) -> Format | None:
    """The form of records that are all of one provider, and none of which names a source or where
    it is."""
    providers = column_of(records, "provider")
    form = FORMATS.get(providers[0]) if providers else None
    named = (set(column_of(records, name)) for name in SOURCE_COLUMNS + PLACE_COLUMNS)
    return form if len(set(providers)) == 1 and all(each == {None} for each in named) else None


def likes_of(form: Format, records: Sequence[Record], texts: Sequence[str]) -> Iterator[Like]:
    """What records on lab blobs are judged by."""
    size = form.head_chars
    return zip(
        column_of(records, "provider"),
        [text[:size] for text in texts],
        map(len, texts),
        column_of(records, "context"),
        strict=True,
    )


class Heads:
    """The heads of records' blobs, each asked of the Kms once.

    Keys are seen as they were when first asked for: take a new one to look again.
    """

    __slots__ = ("_by_name", "_by_text", "_keys", "_kms", "refused")

    def __init__(self, providers: Providers) -> None:
        self.refused: dict[str, None] = {}
        """The providers that gave the credential no right to look at a key that was asked for."""
        self._kms: dict[str, Kms] = {name: providers.kms(name) for name in providers.providers()}
        self._keys: dict[tuple[str, str], Key | Unknown | None] = {}
        self._by_name: dict[UnverifiedHeader, Head] = {}
        self._by_text: dict[str, Head] = {}

    def kms(self, provider: str) -> Kms | None:
        """The Kms of a provider, None where there is none."""
        return self._kms.get(provider)

    def read(self, record: Record) -> Head:
        """The head of a record's blob, which is parsed strictly.

        FormatError for a provider that is none and for a blob that is none of the provider's.
        """
        form = FORMATS.get(record.provider)
        if form is None:
            raise FormatError(f"provider {record.provider[:40]!r} is neither tencent nor ctyun")
        text = record.ciphertext_blob
        if not text:
            raise FormatError(NO_BLOB)
        start = text[: form.head_chars]
        known = self._by_text.get(start)
        if known is not None and known.provider == record.provider and form.tail_fits(text):
            return known
        header = form.parse(text).header()
        if header.format is BlobFormat.PUBLIC_KEY:
            header = replace(
                header, key_id=record.source_key_id, key_version_id=record.source_key_version_id
            )
        head = self.named(header)
        # Only a lab blob begins with nothing but what it names.
        if header.format is BlobFormat.LAB:
            if len(self._by_text) >= _MAX_HEADS:
                self._by_text.clear()
            self._by_text[start] = head
        return head

    def knows(self, start: str) -> bool:
        """Whether a blob that begins so is a lab's, and its beginning all that it names."""
        return start in self._by_text

    def key(self, provider: str, key_id: str) -> Key | Unknown | None:
        """A key of a provider; None where it, or its Kms, is not there; UNKNOWN where the cloud
        does not tell of keys, not to this credential, or kmslab knows none of this kind."""
        name = provider, key_id
        if name not in self._keys:
            kms = self._kms.get(provider)
            try:
                self._keys[name] = None if kms is None else kms.describe_key(key_id)
            except (KeyNotFound, InvalidKeyId):
                self._keys[name] = None
            except (Unauthorized, UnknownAction, Unsupported) as error:
                if isinstance(error, Unauthorized):
                    self.refused[provider] = None
                self._keys[name] = UNKNOWN
        return self._keys[name]

    def named(self, header: UnverifiedHeader) -> Head:
        """The head of a header that was read: what it names, as the Kms knows it."""
        head = self._by_name.get(header)
        if head is None:
            head = self._looked_up(header)
            # A source may name any number of ids that do not exist.
            if len(self._by_name) >= _MAX_HEADS:
                for cache in (self._by_name, self._by_text, self._keys):
                    cache.clear()
            self._by_name[header] = head
        return head

    def _looked_up(self, header: UnverifiedHeader) -> Head:
        key_id, version_id = header.key_id, header.key_version_id
        kms = self._kms.get(header.provider)
        key = None if key_id is None else self.key(header.provider, key_id)
        version = None
        if kms is None:
            standing = Standing.NO_KMS
        elif header.format is BlobFormat.PUBLIC_KEY and (key_id is None or version_id is None):
            standing = Standing.UNNAMED
        elif key_id is not None and key is None:
            standing = Standing.MISSING
        else:
            standing, version = _version(kms, header)
        known = key if isinstance(key, Key) else None
        return Head(
            header.provider,
            header.format,
            key_id,
            version_id,
            header.has_context,
            standing,
            known,
            version,
        )


def _version(kms: Kms, header: UnverifiedHeader) -> tuple[Standing, KeyVersion | None]:
    try:
        found = (
            _version_of_pair(kms, header)
            if header.format is BlobFormat.PUBLIC_KEY
            else kms.version_of(header)
        )
    except KeyNotFound:
        return Standing.MISSING, None
    if isinstance(found, Unknown):
        return Standing.UNKNOWN, None
    return Standing.KNOWN, found


def _version_of_pair(kms: Kms, header: UnverifiedHeader) -> KeyVersion | Unknown:
    versions = kms.versions(header.key_id or "")
    if isinstance(versions, Unknown):
        return UNKNOWN
    for version in versions:
        if version.version_id == header.key_version_id:
            return version
    raise KeyNotFound(f"no version {header.key_version_id} of key {header.key_id}")
