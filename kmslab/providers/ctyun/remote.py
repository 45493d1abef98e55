"""The remote CTyun KMS: HTTPS requests with the EOP signature.

The requests are those of `wire.py`, which answers them in a lab. Of these calls only reEncrypt has
a public page; where a cloud does not know one of the others, what it would tell is not known here.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from kmslab.clock import Clock
from kmslab.columns import column_of
from kmslab.context import Context, context_text
from kmslab.encoding import b64
from kmslab.errors import (
    InvalidRequest,
    KeyNotFound,
    Unauthorized,
    UnknownAction,
)
from kmslab.model import (
    CTYUN,
    DataKey,
    Key,
    KeyVersion,
    OaepAlgorithm,
    Record,
    ReEncryptResult,
    UnverifiedHeader,
)
from kmslab.providers import remote
from kmslab.providers.base import (
    KEEP,
    UNKNOWN,
    Capabilities,
    Keep,
    Opened,
    ReEncrypted,
    Sealed,
    Unknown,
    column,
)
from kmslab.providers.ctyun import codes, rules
from kmslab.providers.ctyun.answers import key_of, spec_of, versions_of
from kmslab.providers.ctyun.blob import read_header
from kmslab.providers.fields import Fields, all_pages, given
from kmslab.providers.remote import Access, Line, Link, OpenedRow, Reply, SealedRow
from kmslab.rate import OWN_WINDOWS, Windows
from kmslab.secret import Plaintext

CAPABILITIES: Final = Capabilities(
    versions=True,
    contexts=False,
    public_key_source=True,
    authenticate=False,
    missing={
        "contexts": "CTyun has no encryption contexts",
        "authenticate": "a cloud opens a blob only by decrypt, which gives its plaintext",
    },
)

_PAGE: Final = 100


class CtyunRemote:
    """The CTyun KMS of an account in one region. `kmslab.connect` makes it.

    Blobs and ids are text, plaintexts bytes. Every method raises a KmsError to refuse, Unreachable
    where no answer came. Calls are made no faster than `rate`. Threads may share it.
    """

    def __init__(
        self, access: Access, link: Link, clock: Clock, windows: Windows = OWN_WINDOWS
    ) -> None:
        self._access = access
        self._line = Line(link, access, clock, _fields, windows)

    def __repr__(self) -> str:
        return f"CtyunRemote({self.region}, {self._access.endpoint})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the calls that are under way, and let go of threads and connections. Calls that
        wait for their turn are Unreachable. It can be used again."""
        self._line.close()

    @property
    def provider(self) -> str:
        """`ctyun`."""
        return CTYUN

    @property
    def region(self) -> str:
        """The region that the keys are in."""
        return self._access.region

    @property
    def account(self) -> str | None:
        """What the user calls the account, None where it has no name."""
        return self._access.account

    @property
    def rate(self) -> float:
        """The most calls a second."""
        return self._access.rate

    @property
    def capabilities(self) -> Capabilities:
        """What this Kms can do."""
        return replace(CAPABILITIES, rate=self._access.rate)

    # Keys

    def describe_key(self, key_id: str) -> Key:
        """The key with its versions, as far as they are told; KeyNotFound where there is none of
        this id or alias, Unsupported for a kind of key that kmslab does not know, UnknownAction
        where the cloud has no such call."""
        return self._with_versions(self._line.look("describeKey", {"cmkUuid": key_id}))

    def list_keys(self) -> tuple[Key, ...]:
        """Every key of the region that is not deleted, oldest first; of kinds that kmslab knows."""
        parts = [part for part in self._pages("listKeys", {}, "keys") if spec_of(part) is not None]
        found = self._line.each(parts, self._with_versions)
        keys = [key for key in found if isinstance(key, Key)]
        for error in found:
            if not isinstance(error, Key):
                raise error
        return tuple(sorted(keys, key=lambda key: (key.created_at, key.key_id)))

    def versions(self, key_id: str) -> tuple[KeyVersion, ...] | Unknown:
        """The versions of a key, oldest first; UNKNOWN where the cloud does not tell them."""
        try:
            parts = self._pages("listKeyVersions", {"cmkUuid": key_id}, "keyVersions")
        except (UnknownAction, Unauthorized):
            return UNKNOWN
        return versions_of(parts)

    def version_of(self, header: UnverifiedHeader) -> KeyVersion | Unknown:
        """The version that a header names; KeyNotFound where the key has none of this id."""
        if header.key_id is None or header.key_version_id is None:
            return UNKNOWN
        versions = self.versions(header.key_id)
        if isinstance(versions, Unknown):
            return UNKNOWN
        for version in versions:
            if version.version_id == header.key_version_id:
                return version
        raise KeyNotFound(f"key {header.key_id} has no version {header.key_version_id}")

    def key_marks(self) -> Hashable | Unknown:
        """UNKNOWN: only calls would tell."""
        return UNKNOWN

    # Data

    def encrypt(self, key: str, plaintext: bytes) -> str:
        """Encrypt less than 6 KB under a key's primary version; the blob."""
        return self._seal(key, plaintext, None).ciphertext_blob

    def decrypt(self, blob: str) -> Plaintext:
        """Decrypt a blob; it names its key itself."""
        return self._open(Record("", CTYUN, blob)).plaintext

    def generate_data_key(
        self, key: str, *, key_spec: str | None = None, number_of_bytes: int | None = None
    ) -> DataKey:
        """A fresh data key in the clear and as a blob: 1 to 1,024 bytes, or of `key_spec` AES_256
        (the default) or AES_128."""
        length = rules.data_key_bytes(key_spec, number_of_bytes)
        request = given(cmkUuid=key, keySpec=key_spec, numberOfBytes=number_of_bytes)
        answer = self._line.ask("generateDataKey", request)
        return DataKey(
            answer.text("ciphertextBlob"),
            Plaintext(answer.data("plaintext", length)),
            answer.text("cmkUuid"),
            answer.text_or_none("keyVersionId"),
            answer.request_id,
        )

    def re_encrypt(
        self,
        blob: str,
        *,
        destination_key_id: str,
        source_key_id: str | None = None,
        source_key_version_id: str | None = None,
        source_algorithm: OaepAlgorithm | str | None = None,
    ) -> ReEncryptResult:
        """Re-encrypt a blob to the primary version of a symmetric key: always a fresh blob.

        Public-key ciphertext needs all three of the source's. Which key the answer names is not
        documented, so the ids are those that the two blobs name; BadAnswer where it names others.
        """
        rules.check_destination(destination_key_id)
        answer = self._line.ask(
            "reEncrypt",
            given(
                ciphertextBlob=blob,
                destinationKeyId=destination_key_id,
                sourceKeyId=source_key_id,
                sourceKeyVersionId=source_key_version_id,
                sourceEncryptionAlgorithm=source_algorithm and str(source_algorithm),
            ),
        )
        source = source_key_id, source_key_version_id
        if not source_algorithm:
            source = _named(blob)
        fresh = answer.text("ciphertextBlob")
        key_id, version_id = _named(fresh)
        if fresh == blob or key_id not in (None, destination_key_id):
            raise answer.bad("ciphertextBlob")
        if answer.text("cmkUuid") not in (destination_key_id, source[0]):
            raise answer.bad("cmkUuid")
        told = answer.text_or_none("keyVersionId")
        if None not in (told, version_id) and told not in (version_id, source[1]):
            raise answer.bad("keyVersionId")
        return ReEncryptResult(
            ciphertext_blob=fresh,
            re_encrypted=True,
            key_id=destination_key_id,
            key_version_id=version_id,
            source_key_id=source[0],
            source_key_version_id=source[1],
            request_id=answer.request_id,
        )

    def re_encrypt_many(
        self,
        blobs: Sequence[str],
        *,
        destination_key_ids: Sequence[str | None] | str,
        source_key_ids: Sequence[str | None] | str | None = None,
        source_key_version_ids: Sequence[str | None] | str | None = None,
        source_algorithms: Sequence[OaepAlgorithm | str | None] | OaepAlgorithm | str | None = None,
        verify: bool = False,
    ) -> ReEncrypted:
        """`re_encrypt` for columns: one value for all rows or a list with one per row.

        A call for each row, several at once; one bad row costs only itself. `verify` decrypts
        both blobs and compares. ValueError where the lengths of the columns differ.
        """
        rows = len(blobs)
        keys: Sequence[str | None] = column(destination_key_ids, rows, "destination_key_ids")
        sources: Sequence[str | None] = column(source_key_ids, rows, "source_key_ids")
        versions: Sequence[str | None]
        versions = column(source_key_version_ids, rows, "source_key_version_ids")
        algorithms: Sequence[OaepAlgorithm | str | None]
        algorithms = column(source_algorithms, rows, "source_algorithms")

        def move(row: int) -> ReEncryptResult:
            return self.re_encrypt(
                blobs[row],
                destination_key_id=keys[row] or "",
                source_key_id=sources[row],
                source_key_version_id=versions[row],
                source_algorithm=algorithms[row],
            )

        done = remote.re_encrypted(self._line.each(range(rows), move))
        if not verify:
            return done
        old = [
            Record(
                str(row),
                CTYUN,
                blob,
                source_key_id=sources[row],
                source_key_version_id=versions[row],
                source_encryption_algorithm=algorithms[row],
            )
            for row, blob in enumerate(blobs)
        ]
        return remote.proven(self, old, [None] * rows, done)

    def re_encrypt_records(
        self,
        records: Sequence[Record],
        *,
        destination_key_id: str | None = None,
        destination_context: Context | Keep = KEEP,
        verify: bool = False,
    ) -> ReEncrypted:
        """Re-encrypt records, each to its own key where no destination is given.

        ValueError for a destination context: CTyun has none.
        """
        if not isinstance(destination_context, Keep) and context_text(destination_context):
            raise ValueError("CTyun has no encryption contexts")
        blobs = column_of(records, "ciphertext_blob")
        own = [destination_key_id or _named(blob)[0] for blob in blobs]
        return self.re_encrypt_many(
            blobs,
            destination_key_ids=own,
            source_key_ids=list(column_of(records, "source_key_id")),
            source_key_version_ids=list(column_of(records, "source_key_version_id")),
            source_algorithms=list(column_of(records, "source_encryption_algorithm")),
            verify=verify,
        )

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """Decrypt records, public-key ciphertext with the source that the record names."""
        return remote.opened(self._line.each(records, self._open))

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """Encrypt each plaintext under one key; a row of None stays None.

        A row with a context is refused: CTyun would lose it.
        """
        return remote.sealed_many(
            self._line, plaintexts, contexts, lambda *row: self._seal(key_id, *row)
        )

    def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The provider's own request in, its own response envelope out, a refusal too.

        Unreachable where there is none.
        """
        return self._line.send(action, request).envelope

    def _seal(self, key: str, plaintext: bytes, context: Context) -> SealedRow:
        if context:
            raise InvalidRequest("CTyun has no encryption contexts; the context would be lost")
        rules.check_plaintext(plaintext)
        answer = self._line.ask("encrypt", {"cmkUuid": key, "plaintext": b64(plaintext)})
        return SealedRow(
            answer.text("ciphertextBlob"),
            answer.text_or_none("cmkUuid"),
            answer.text_or_none("keyVersionId"),
        )

    def _open(self, record: Record) -> OpenedRow:
        request = {"ciphertextBlob": record.ciphertext_blob}
        action, algorithm = "decrypt", record.source_encryption_algorithm
        if algorithm:
            action = "asymmetricDecrypt"
            request |= {
                "cmkUuid": record.source_key_id or "",
                "keyVersionId": record.source_key_version_id or "",
                "algorithm": algorithm,
            }
        answer = self._line.ask(action, request)
        plaintext = Plaintext(answer.data("plaintext"))
        return OpenedRow(
            plaintext, answer.text_or_none("cmkUuid"), answer.text_or_none("keyVersionId")
        )

    def _with_versions(self, told: Fields) -> Key:
        versions = self.versions(told.text("cmkUuid"))
        return key_of(told, self.region, () if isinstance(versions, Unknown) else versions)

    def _pages(self, action: str, request: Mapping[str, Any], name: str) -> list[Fields]:
        """What all pages of a list hold."""

        def ask(_: int, pages: int) -> Fields:
            return self._line.look(action, {**request, "pageNumber": pages + 1, "pageSize": _PAGE})

        return all_pages(ask, name, "totalCount")


def _fields(reply: Reply) -> Fields:
    """The fields of an answer; the error that it is, where it is one.

    The guide's envelope is understood as well as the documented one: `code` is a text or a
    number, what was asked for is in `data` or in `result`.
    """
    whole = Fields(CTYUN, reply.envelope, reply.request_id)
    told = str(reply.envelope.get("code", ""))
    good = told in ("200", "0")
    if reply.status == 200 and good:
        name = "data" if whole.has("data") or not whole.has("result") else "result"
        return whole.part(name)
    code = reply.envelope.get("errorCode") or reply.envelope.get("statusCode")
    says = told.isascii() and told.isdigit() and len(told) == 3 and not good
    status = int(told) if says else reply.status
    raise codes.error_answered(code if isinstance(code, str) else "", status, reply.request_id)


def _named(blob: str) -> tuple[str | None, str | None]:
    """The key and the version that a blob names; nothing where it names none."""
    header = read_header(blob)
    return (None, None) if header is None else (header.key_id, header.key_version_id)
