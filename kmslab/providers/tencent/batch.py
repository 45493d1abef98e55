"""`re_encrypt_many` and its halves, over columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kmslab.context import Context
from kmslab.errors import KmsError
from kmslab.keystore.units import Handle
from kmslab.model import Record
from kmslab.providers import batch
from kmslab.providers.base import Opened, ReEncrypted, Sealed, column
from kmslab.providers.batch import Chunk
from kmslab.providers.local import Route
from kmslab.providers.tencent import rules
from kmslab.providers.tencent.blob import HEAD_CHARS, IV_BYTES
from kmslab.providers.tencent.blobs import Blobs
from kmslab.secret import Plaintext


def re_encrypt(
    blobs: Blobs,
    texts: Sequence[str],
    *,
    destination_key_ids: Sequence[str | None] | str | None,
    source_contexts: Sequence[Context] | Context,
    destination_contexts: Sequence[Context] | Context,
    verify: bool,
) -> ReEncrypted:
    """See `TencentKms.re_encrypt_many`."""
    texts = list(texts)
    rows = len(texts)
    key_ids: Sequence[str | None] = column(destination_key_ids, rows, "destination_key_ids")
    before = _Contexts(blobs, source_contexts, rows, "source_contexts", "SourceEncryptionContext")
    after = _Contexts(
        blobs, destination_contexts, rows, "destination_contexts", "DestinationEncryptionContext"
    )

    def work(chunk: Chunk) -> None:
        part = _Part(blobs, texts, key_ids, before.texts(chunk), after.texts(chunk), chunk.first)
        good = chunk.good_rows(texts)
        blobs_here = batch.picked(texts, good)
        heads = [text[:HEAD_CHARS] for text in blobs_here]
        lengths = list(map(len, blobs_here))
        for group in batch.groups(good, heads, lengths, batch.picked(key_ids, good)):
            batch.move(chunk, texts, group, part, verify=verify)

    return batch.re_encrypt(blobs.session, "ReEncrypt", texts, work, verify=verify)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one chunk; the contexts are counted from its `first` row."""

    blobs: Blobs
    texts: Sequence[str]
    key_ids: Sequence[str | None]
    olds: list[str]
    news: list[str]
    first: int

    def route(self, row: int) -> Route:
        return self.blobs.route(self.texts[row], self.key_ids[row] or None)

    # The padding stays on: it is the same in the new blob.

    def open_many(self, route: Route, rows: Sequence[int]) -> Sequence[bytes | None]:
        texts, olds = batch.picked(self.texts, rows), self._of(self.olds, rows)
        found: Sequence[bytes | None] = route.source.cipher.open_padded_many(texts, olds)
        return found

    def open(self, route: Route, row: int) -> bytes:
        cipher = route.source.cipher
        padded: bytes = cipher.open_padded(self.texts[row], self.olds[row - self.first])
        return padded

    def changing(self, route: Route, rows: Sequence[int]) -> Sequence[int]:
        everything = range(len(rows))
        if route.source is not route.destination:
            return everything
        olds, news = self._of(self.olds, rows), self._of(self.news, rows)
        if olds == news:
            return ()
        return [at for at in everything if olds[at] != news[at]]

    def count(self, route: Route, encryptions: int) -> None:
        self.blobs.session.counters.take(route.destination.row.version_id, encryptions)

    def seal_many(
        self, route: Route, rows: Sequence[int], plaintexts: Sequence[bytes]
    ) -> list[str]:
        ivs = self.blobs.session.keystore.entropy(IV_BYTES * len(rows))
        news = self._of(self.news, rows)
        sealed: list[str] = route.destination.cipher.seal_padded_many(plaintexts, news, ivs)
        return sealed

    def reopen_many(
        self, route: Route, rows: Sequence[int], sealed: Sequence[str]
    ) -> Sequence[bytes | None]:
        news = self._of(self.news, rows)
        found: Sequence[bytes | None] = route.destination.cipher.open_padded_many(sealed, news)
        return found

    def _of(self, contexts: list[str], rows: Sequence[int]) -> Sequence[str]:
        if isinstance(rows, range):
            return contexts[rows.start - self.first : rows.stop - self.first]
        return [contexts[row - self.first] for row in rows]


def decrypt(blobs: Blobs, records: Sequence[Record]) -> Opened:
    """See `TencentKms.decrypt_records`."""
    given = [record.context for record in records]
    contexts = _Contexts(blobs, given, len(records), "contexts", "EncryptionContext")
    texts = [record.ciphertext_blob for record in records]
    plaintexts: list[Plaintext | None] = [None] * len(records)

    def work(chunk: Chunk) -> None:
        routes: dict[str, Route] = {}
        for row in chunk.good_rows(texts):
            try:
                text, context = records[row].ciphertext_blob, contexts.text(row)
                route = routes.get(text[:HEAD_CHARS])
                if route is None:
                    source = blobs.source(text, "Decrypt")
                    route = routes[text[:HEAD_CHARS]] = Route(source, source)
                if chunk.gate is not None:
                    chunk.gate()
                plaintexts[row] = Plaintext(route.source.cipher.open(text, context))
                chunk.routes[row] = route
            except KmsError as error:
                chunk.errors[row] = error

    return batch.decrypt(blobs.session, "Decrypt", plaintexts, work)


def encrypt(
    blobs: Blobs,
    plaintexts: Sequence[bytes | None],
    key_id: str,
    contexts: Sequence[Context] | Context,
) -> Sealed:
    """See `TencentKms.encrypt_many`."""
    rows = len(plaintexts)
    wanted = _Contexts(blobs, contexts, rows, "contexts", "EncryptionContext")

    def work(chunk: Chunk) -> None:
        route: Route | None = None
        for row in range(chunk.first, chunk.last):
            plaintext = plaintexts[row]
            if plaintext is None:
                continue
            try:
                context = wanted.text(row)
                rules.check_plaintext(plaintext)
                if route is None:
                    destination = _destination(blobs, key_id)
                    route = Route(destination, destination)
                if chunk.gate is not None:
                    chunk.gate()
                blobs.session.counters.take(route.destination.row.version_id)
                cipher = route.destination.cipher
                chunk.blobs[row] = cipher.seal(plaintext, context, blobs.iv())
                chunk.routes[row] = route
            except KmsError as error:
                chunk.errors[row] = error

    return batch.encrypt(blobs.session, "Encrypt", rows, work)


def _destination(blobs: Blobs, key_id: str) -> Handle:
    unit = blobs.session.find(key_id, "KeyId")
    blobs.session.authorise("Encrypt", unit)
    return blobs.destination(unit)


class _Contexts:
    """A column of contexts as texts, each distinct one checked once."""

    __slots__ = ("_blobs", "_parameter", "_values")

    def __init__(
        self,
        blobs: Blobs,
        values: Sequence[Context] | Context,
        rows: int,
        name: str,
        parameter: str,
    ) -> None:
        self._blobs = blobs
        self._values: Sequence[Context] = column(values, rows, name)
        self._parameter = parameter

    def texts(self, chunk: Chunk) -> list[str]:
        """The texts of the rows of a chunk. A row whose context is none gets the error."""
        values = self._values[chunk.first : chunk.last]
        if values.count(values[0]) == len(values):
            values = values[:1]
        texts = []
        for row, value in enumerate(values, chunk.first):
            try:
                texts.append(self._blobs.context(value, self._parameter))
            except KmsError as error:
                texts.append("")
                for failed in range(row, chunk.last) if len(values) == 1 else (row,):
                    chunk.fail(failed, error)
        return texts * (chunk.last - chunk.first) if len(values) == 1 else texts

    def text(self, row: int) -> str:
        """The text of a row; InvalidRequest, naming the parameter, where it is none."""
        return self._blobs.context(self._values[row], self._parameter)
