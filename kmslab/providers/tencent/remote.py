"""The remote Tencent Cloud KMS, API 2019-01-18, through the official SDK.

The requests are those of `wire.py`, which answers them in a lab. The cloud shows no key versions,
so they are UNKNOWN here, whatever a blob names.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from kmslab.clock import Clock
from kmslab.columns import column_of
from kmslab.context import Context
from kmslab.encoding import b64
from kmslab.errors import KmsError
from kmslab.model import (
    TENCENT,
    DataKey,
    Key,
    KeyVersion,
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
from kmslab.providers.fields import Fields, all_pages, given
from kmslab.providers.remote import Access, Line, Link, OpenedRow, Reply, SealedRow
from kmslab.providers.tencent import codes, rules
from kmslab.providers.tencent.answers import key_of, spec_of
from kmslab.providers.tencent.blob import read_header
from kmslab.rate import OWN_WINDOWS, Windows
from kmslab.secret import Plaintext

CAPABILITIES: Final = Capabilities(
    versions=False,
    contexts=True,
    public_key_source=False,
    authenticate=False,
    missing={
        "versions": "the API of Tencent Cloud shows no key versions",
        "public_key_source": "ReEncrypt of Tencent Cloud takes symmetric ciphertext only",
        "authenticate": "a cloud opens a blob only by Decrypt, which gives its plaintext",
    },
)

_PAGE: Final = 200


class TencentRemote:
    """The Tencent Cloud KMS of an account in one region. `kmslab.connect` makes it.

    Blobs and ids are text, plaintexts bytes. Every method raises a KmsError to refuse, Unreachable
    where no answer came. Calls are made no faster than `rate`. Threads may share it.
    """

    def __init__(
        self, access: Access, link: Link, clock: Clock, windows: Windows = OWN_WINDOWS
    ) -> None:
        self._access = access
        self._line = Line(link, access, clock, _fields, windows)

    def __repr__(self) -> str:
        return f"TencentRemote({self.region}, {self._access.endpoint})"

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
        """`tencent`."""
        return TENCENT

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
        """The key; KeyNotFound where there is none of this id, Unsupported for a kind of key that
        kmslab does not know."""
        metadata = self._line.look("DescribeKey", {"KeyId": key_id}).part("KeyMetadata")
        return key_of(metadata, self.region)

    def list_keys(self) -> tuple[Key, ...]:
        """Every key of the region that is not deleted, oldest first; of kinds that kmslab knows."""

        def ask(offset: int, _: int) -> Fields:
            page = {"Offset": offset, "Limit": _PAGE, "OrderType": 1, "KeyUsage": "ALL"}
            return self._line.look("ListKeyDetail", page)

        parts = all_pages(ask, "KeyMetadatas", "TotalCount")
        return tuple(key_of(part, self.region) for part in parts if spec_of(part) is not None)

    def versions(self, _key_id: str) -> tuple[KeyVersion, ...] | Unknown:
        """UNKNOWN: the API shows no versions."""
        return UNKNOWN

    def version_of(self, _header: UnverifiedHeader) -> KeyVersion | Unknown:
        """UNKNOWN: the API shows no versions."""
        return UNKNOWN

    def key_marks(self) -> Hashable | Unknown:
        """UNKNOWN: only calls would tell."""
        return UNKNOWN

    # Data

    def encrypt(self, key_id: str, plaintext: bytes, *, context: Context = None) -> str:
        """Encrypt 1 to 4,096 bytes under a key's primary version; the blob."""
        return self._seal(key_id, plaintext, context).ciphertext_blob

    def decrypt(self, blob: str, *, context: Context = None) -> Plaintext:
        """Decrypt a blob under the context that it was encrypted with."""
        return self._open(blob, context).plaintext

    def generate_data_key(
        self,
        key_id: str,
        *,
        key_spec: str | None = None,
        number_of_bytes: int | None = None,
        context: Context = None,
    ) -> DataKey:
        """A fresh data key of `number_of_bytes` (1 to 1,024), or of `key_spec` AES_128 or AES_256,
        in the clear and as a blob."""
        length = rules.data_key_bytes(key_spec, number_of_bytes)
        text = rules.context(context, "EncryptionContext")
        answer = self._line.ask(
            "GenerateDataKey",
            given(
                KeyId=key_id,
                KeySpec=key_spec,
                NumberOfBytes=number_of_bytes,
                EncryptionContext=text,
            ),
        )
        blob = answer.text("CiphertextBlob")
        plaintext = Plaintext(answer.data("Plaintext", length))
        return DataKey(blob, plaintext, answer.text("KeyId"), _version(blob), answer.request_id)

    def re_encrypt(
        self,
        blob: str,
        *,
        destination_key_id: str | None = None,
        source_context: Context = None,
        destination_context: Context = None,
    ) -> ReEncryptResult:
        """Re-encrypt a blob to a key's primary version, by default to its own key's.

        Where there is nothing to do, the cloud gives the same text back, with `re_encrypted`
        False. An omitted destination context drops the blob's.
        """
        before = rules.context(source_context, "SourceEncryptionContext")
        after = rules.context(destination_context, "DestinationEncryptionContext")
        answer = self._line.ask(
            "ReEncrypt",
            given(
                CiphertextBlob=blob,
                DestinationKeyId=destination_key_id,
                SourceEncryptionContext=before,
                DestinationEncryptionContext=after,
            ),
        )
        fresh = answer.text("CiphertextBlob")
        return ReEncryptResult(
            ciphertext_blob=fresh,
            re_encrypted=answer.flag("ReEncrypted"),
            key_id=answer.text("KeyId"),
            key_version_id=_version(fresh),
            source_key_id=answer.text("SourceKeyId"),
            source_key_version_id=_version(blob),
            request_id=answer.request_id,
        )

    def re_encrypt_many(
        self,
        blobs: Sequence[str],
        *,
        destination_key_ids: Sequence[str | None] | str | None = None,
        source_contexts: Sequence[Context] | Context = None,
        destination_contexts: Sequence[Context] | Context = None,
        verify: bool = False,
    ) -> ReEncrypted:
        """`re_encrypt` for columns: one value for all rows or a list with one per row.

        A call for each row, several at once; one bad row costs only itself. `verify` decrypts
        both blobs and compares. ValueError where the lengths of the columns differ.
        """
        rows = len(blobs)
        keys: Sequence[str | None] = column(destination_key_ids, rows, "destination_key_ids")
        before: Sequence[Context] = column(source_contexts, rows, "source_contexts")
        after: Sequence[Context] = column(destination_contexts, rows, "destination_contexts")

        def move(row: int) -> ReEncryptResult:
            return self.re_encrypt(
                blobs[row],
                destination_key_id=keys[row],
                source_context=before[row],
                destination_context=after[row],
            )

        done = remote.re_encrypted(self._line.each(range(rows), move))
        if not verify:
            return done
        old = [
            Record(str(row), TENCENT, blob, context=_text(before[row]))
            for row, blob in enumerate(blobs)
        ]
        return remote.proven(self, old, [_text(each) for each in after], done)

    def re_encrypt_records(
        self,
        records: Sequence[Record],
        *,
        destination_key_id: str | None = None,
        destination_context: Context | Keep = KEEP,
        verify: bool = False,
    ) -> ReEncrypted:
        """Re-encrypt records, each under its own context, which is kept unless another is given."""
        contexts = list(column_of(records, "context"))
        kept = isinstance(destination_context, Keep)
        return self.re_encrypt_many(
            column_of(records, "ciphertext_blob"),
            destination_key_ids=destination_key_id,
            source_contexts=contexts,
            destination_contexts=contexts if kept else destination_context,  # type: ignore[arg-type]
            verify=verify,
        )

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """Decrypt records, each under its own context."""
        return remote.opened(
            self._line.each(records, lambda each: self._open(each.ciphertext_blob, each.context))
        )

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """Encrypt each plaintext under one key; a row of None stays None."""
        return remote.sealed_many(
            self._line, plaintexts, contexts, lambda *row: self._seal(key_id, *row)
        )

    def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The provider's own request in, its own response envelope out, a refusal too.

        Unreachable where there is none.
        """
        return self._line.send(action, request).envelope

    def _seal(self, key_id: str, plaintext: bytes, context: Context) -> SealedRow:
        rules.check_plaintext(plaintext)
        text = rules.context(context, "EncryptionContext")
        request = given(KeyId=key_id, Plaintext=b64(plaintext), EncryptionContext=text)
        answer = self._line.ask("Encrypt", request)
        blob = answer.text("CiphertextBlob")
        return SealedRow(blob, answer.text("KeyId"), _version(blob))

    def _open(self, blob: str, context: Context) -> OpenedRow:
        text = rules.context(context, "EncryptionContext")
        answer = self._line.ask("Decrypt", given(CiphertextBlob=blob, EncryptionContext=text))
        plaintext = Plaintext(answer.data("Plaintext"))
        return OpenedRow(plaintext, answer.text("KeyId"), _version(blob))


def _fields(reply: Reply) -> Fields:
    """The fields of an answer; the error that it is, where it is one."""
    found = Fields(TENCENT, reply.envelope, reply.request_id).part("Response")
    if found.has("Error"):
        raise codes.error_answered(found.part("Error").text("Code"), reply.request_id)
    return found


def _text(context: Context) -> str | None:
    """A context as a record has it; one that is none makes its own row fail."""
    try:
        return rules.context(context, "EncryptionContext") or None
    except KmsError:
        return None


def _version(blob: str) -> str | None:
    """The version that a blob names: a lab's does, a cloud's does not."""
    header = read_header(blob)
    return None if header is None else header.key_version_id
