"""`re_encrypt_many` and its halves, over columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kmslab.context import Context
from kmslab.errors import InvalidRequest, KmsError, MissingParameter
from kmslab.keystore.units import Handle
from kmslab.model import OaepAlgorithm, Record
from kmslab.providers import batch
from kmslab.providers.base import Opened, ReEncrypted, Sealed, column
from kmslab.providers.batch import Chunk
from kmslab.providers.ctyun import rules
from kmslab.providers.ctyun.blob import HEAD_CHARS, IV_BYTES
from kmslab.providers.ctyun.blobs import NO_SOURCE, Blobs, PublicKeySource
from kmslab.providers.local import Route
from kmslab.secret import Plaintext

Texts = Sequence[str | None] | str | None


def re_encrypt(
    blobs: Blobs,
    texts: Sequence[str],
    *,
    destination_key_ids: Texts,
    source_key_ids: Texts,
    source_key_version_ids: Texts,
    source_algorithms: Sequence[OaepAlgorithm | str | None] | OaepAlgorithm | str | None,
    verify: bool,
) -> ReEncrypted:
    """See `CtyunKms.re_encrypt_many`."""
    texts = list(texts)
    rows = len(texts)
    key_ids: Sequence[str | None] = column(destination_key_ids, rows, "destination_key_ids")
    sources = _sources(rows, source_key_ids, source_key_version_ids, source_algorithms)

    part = _Part(blobs, texts, key_ids, sources)

    def work(chunk: Chunk) -> None:
        rows = chunk.good_rows(texts)
        blobs_here = batch.picked(texts, rows)
        heads = [text[:HEAD_CHARS] for text in blobs_here]
        # Where the padding signs begin tells the bytes of texts of one length.
        ends = [(len(text), text.find("=", -2)) for text in blobs_here]
        wanted = (batch.picked(key_ids, rows), batch.picked(sources, rows))
        for group in batch.groups(rows, heads, ends, *wanted):
            batch.move(chunk, texts, group, part, verify=verify)

    return batch.re_encrypt(blobs.session, "reEncrypt", texts, work, verify=verify)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of a batch."""

    blobs: Blobs
    texts: Sequence[str]
    key_ids: Sequence[str | None]
    sources: Sequence[PublicKeySource]

    def route(self, row: int) -> Route:
        key_id = _destination(self.key_ids[row])
        _, route = self.blobs.route(self.texts[row], key_id, self.sources[row])
        self.blobs.check_balance()
        return route

    def open_many(self, route: Route, rows: Sequence[int]) -> list[bytes | None]:
        if not route.source.unit.row.spec.symmetric:
            return [None] * len(rows)
        found: list[bytes | None] = route.source.cipher.open_many(batch.picked(self.texts, rows))
        return found

    def open(self, route: Route, row: int) -> bytes:
        text = self.texts[row]
        return self.blobs.open(self.blobs.source(text, "reEncrypt", self.sources[row]), text)

    def changing(self, route: Route, rows: Sequence[int]) -> Sequence[int]:
        return range(len(rows))

    def count(self, route: Route, encryptions: int) -> None:
        self.blobs.session.counters.take(route.destination.row.version_id, encryptions)

    def seal_many(
        self, route: Route, rows: Sequence[int], plaintexts: Sequence[bytes]
    ) -> list[str]:
        ivs = self.blobs.session.keystore.entropy(IV_BYTES * len(rows))
        if len({len(plaintext) for plaintext in plaintexts}) > 1:
            # Public-key ciphertexts of one length hold plaintexts of many.
            return self._seal_each(route, plaintexts, ivs)
        sealed: list[str] = route.destination.cipher.seal_many(plaintexts, ivs)
        return sealed

    def reopen_many(
        self, route: Route, rows: Sequence[int], sealed: Sequence[str]
    ) -> list[bytes | None]:
        return [route.destination.cipher.open(text) for text in sealed]

    def _seal_each(self, route: Route, plaintexts: Sequence[bytes], ivs: bytes) -> list[str]:
        seal = route.destination.cipher.seal
        starts = range(0, len(ivs), IV_BYTES)
        return [
            seal(plaintext, ivs[at : at + IV_BYTES])
            for plaintext, at in zip(plaintexts, starts, strict=True)
        ]


def decrypt(blobs: Blobs, records: Sequence[Record]) -> Opened:
    """See `CtyunKms.decrypt_records`."""
    texts = [record.ciphertext_blob for record in records]
    plaintexts: list[Plaintext | None] = [None] * len(records)

    def work(chunk: Chunk) -> None:
        for row in chunk.good_rows(texts):
            record = records[row]
            try:
                source = blobs.source(record.ciphertext_blob, "decrypt", source_of(record))
                blobs.check_balance()
                if chunk.gate is not None:
                    chunk.gate()
                plaintexts[row] = Plaintext(blobs.open(source, record.ciphertext_blob))
                chunk.routes[row] = Route(source.handle, source.handle)
            except KmsError as error:
                chunk.errors[row] = error

    return batch.decrypt(blobs.session, "decrypt", plaintexts, work)


def encrypt(
    blobs: Blobs,
    plaintexts: Sequence[bytes | None],
    key_id: str,
    contexts: Sequence[Context] | Context,
) -> Sealed:
    """See `CtyunKms.encrypt_many`."""
    rows = len(plaintexts)
    wanted: Sequence[Context] = column(contexts, rows, "contexts")

    def work(chunk: Chunk) -> None:
        route: Route | None = None
        for row in range(chunk.first, chunk.last):
            plaintext = plaintexts[row]
            if plaintext is None:
                continue
            try:
                if wanted[row]:
                    raise InvalidRequest(
                        "CTyun has no encryption contexts; the context would be lost"
                    )
                rules.check_plaintext(plaintext)
                if route is None:
                    destination = _key_to_encrypt(blobs, key_id)
                    route = Route(destination, destination)
                blobs.check_balance()
                if chunk.gate is not None:
                    chunk.gate()
                blobs.session.counters.take(route.destination.row.version_id)
                chunk.blobs[row] = route.destination.cipher.seal(plaintext, blobs.iv())
                chunk.routes[row] = route
            except KmsError as error:
                chunk.errors[row] = error

    return batch.encrypt(blobs.session, "encrypt", rows, work)


def _key_to_encrypt(blobs: Blobs, key_id: str) -> Handle:
    unit = blobs.session.find(key_id, "cmkUuid")
    blobs.session.authorise("encrypt", unit)
    return blobs.destination(unit, "cmkUuid")


SOURCE_FIELDS: Final = ("source_key_id", "source_key_version_id", "source_encryption_algorithm")
"""The fields of a record that say it."""


def source_of(record: Record) -> PublicKeySource:
    """What a record says of its public-key ciphertext's key."""
    return PublicKeySource.of(
        record.source_key_id, record.source_key_version_id, record.source_encryption_algorithm
    )


def _sources(
    rows: int,
    key_ids: Texts,
    version_ids: Texts,
    algorithms: Sequence[OaepAlgorithm | str | None] | OaepAlgorithm | str | None,
) -> Sequence[PublicKeySource]:
    if key_ids is None and version_ids is None and algorithms is None:
        return [NO_SOURCE] * rows
    keys: Sequence[str | None] = column(key_ids, rows, "source_key_ids")
    versions: Sequence[str | None] = column(version_ids, rows, "source_key_version_ids")
    names: Sequence[str | None] = column(algorithms, rows, "source_algorithms")
    return [PublicKeySource.of(*row) for row in zip(keys, versions, names, strict=True)]


def _destination(key_id: str | None) -> str:
    if not key_id:
        raise MissingParameter("destinationKeyId is needed", parameter="destinationKeyId")
    return key_id
