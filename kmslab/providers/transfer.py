"""Across providers: decrypt with one KMS, encrypt with another, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kmslab.context import Context, context_text
from kmslab.crypto import bytes_eq
from kmslab.errors import (
    BadAnswer,
    ContextError,
    DecryptFailed,
    InvalidCiphertext,
    InvalidRequest,
    KmsError,
)
from kmslab.model import Record
from kmslab.providers.base import (
    KEEP,
    Capabilities,
    Keep,
    Opened,
    Providers,
    ReEncrypted,
    Sealed,
)

UNEQUAL = "the new blob does not open to what the old one held"


class Opener(Protocol):
    """What opens blobs: a Kms, or what stands before one."""

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """See `Kms.decrypt_records`."""
        ...


class Sealer(Opener, Protocol):
    """What makes blobs, and opens them again: a Kms, or what stands before one."""

    @property
    def provider(self) -> str:
        """See `Kms.provider`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """See `Kms.capabilities`."""
        ...

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """See `Kms.encrypt_many`."""
        ...


def transfer_many(
    source: Opener,
    destination: Sealer,
    records: Sequence[Record],
    *,
    destination_key_id: str,
    destination_context: Context | Keep = KEEP,
    verify: bool = False,
) -> ReEncrypted:
    """Move records from `source` to a key of `destination`, row for row.

    Each record keeps its context unless another is named; where `destination` has none, a record
    with a context is refused unless `destination_context` is None, which drops it by name.
    One bad row costs only itself. `verify` opens each new blob and compares; where one cannot be
    opened for another reason than itself (a limit, a right), the row has that reason.

    >>> from kmslab import Lab
    >>> with Lab.in_memory() as lab:
    ...     blob = lab.tencent().encrypt(lab.tencent().create_key("a").key_id, b"secret")
    ...     moved = transfer_many(
    ...         lab.tencent(),
    ...         lab.ctyun(),
    ...         [Record("1", "tencent", blob)],
    ...         destination_key_id=lab.ctyun().create_key().key_id,
    ...     )
    ...     lab.ctyun().decrypt(moved.ciphertext_blob[0])
    Plaintext(6 bytes)
    """
    contexts: list[Context] = [
        record.context if isinstance(destination_context, Keep) else destination_context
        for record in records
    ]
    opened = source.decrypt_records(records)
    lost = [_lost_context(destination, context) for context in contexts]
    plaintexts = [
        None if refusal else plaintext
        for plaintext, refusal in zip(opened.plaintext, lost, strict=True)
    ]
    sealed = destination.encrypt_many(
        plaintexts,
        key_id=destination_key_id,
        contexts=contexts if destination.capabilities.contexts else None,
    )
    errors = [
        refusal or before or after
        for refusal, before, after in zip(lost, opened.error, sealed.error, strict=True)
    ]
    verified: Sequence[bool | None] = [None] * len(records)
    if verify:
        verified = _verified(destination, records, contexts, opened, sealed, errors)
    return _columns(opened, sealed, verified, errors)


def unequal_many(
    source: Opener, destination: Opener, old: Sequence[Record], new: Sequence[Record]
) -> list[KmsError | None]:
    """Row for row, None where `new` opens at `destination` to what `old` opens to at `source`.

    BadAnswer where it does not; the error of the row where one of the two could not be opened
    for another reason. The comparison takes the same time whatever the bytes are.
    """
    before = source.decrypt_records(old)
    found = list(before.error)
    rows = [row for row, error in enumerate(found) if error is None]
    again = destination.decrypt_records([new[row] for row in rows])
    for at, row in enumerate(rows):
        found[row] = _unequal(before.plaintext[row], again.plaintext[at], again.error[at])
    return found


def same_plaintext_many(
    providers: Providers, old: Sequence[Record], new: Sequence[Record]
) -> list[bool | None]:
    """Whether old and new records, row for row, hold the same plaintext.

    None where one of the two does not open. ValueError where the lengths differ. The comparison
    takes the same time whatever the bytes are.
    """
    if len(old) != len(new):
        raise ValueError(f"{len(old)} old records and {len(new)} new ones")
    before, after = _plaintexts(providers, old), _plaintexts(providers, new)
    return [
        None if one is None or other is None else bytes_eq(one, other)
        for one, other in zip(before, after, strict=True)
    ]


def _lost_context(destination: Sealer, context: Context) -> KmsError | None:
    if destination.capabilities.contexts or not _is_context(context):
        return None
    return InvalidRequest(
        f"{destination.provider} has no encryption contexts, and the record's would be lost; "
        f"drop it by name"
    )


def _unequal(
    before: bytes | None, plaintext: bytes | None, error: KmsError | None
) -> KmsError | None:
    if error is not None and not isinstance(error, InvalidCiphertext | DecryptFailed):
        return error
    if plaintext is None or before is None or not bytes_eq(plaintext, before):
        return BadAnswer(UNEQUAL)
    return None


def _verified(
    destination: Sealer,
    records: Sequence[Record],
    contexts: Sequence[Context],
    opened: Opened,
    sealed: Sealed,
    errors: list[KmsError | None],
) -> list[bool | None]:
    rows = [row for row, error in enumerate(errors) if error is None]
    new = [
        Record(
            records[row].record_id,
            destination.provider,
            sealed.ciphertext_blob[row] or "",
            context=context_text(contexts[row]),
        )
        for row in rows
    ]
    again = destination.decrypt_records(new)
    verified: list[bool | None] = [None] * len(records)
    for at, row in enumerate(rows):
        errors[row] = _unequal(opened.plaintext[row], again.plaintext[at], again.error[at])
        verified[row] = True if errors[row] is None else None
    return verified


def _is_context(context: Context) -> bool:
    """Whether there is something to lose: `{}` is no context, a malformed one may be one."""
    try:
        return bool(context_text(context))
    except ContextError:
        return True


def _columns(
    opened: Opened,
    sealed: Sealed,
    verified: Sequence[bool | None],
    errors: list[KmsError | None],
) -> ReEncrypted:
    good = [error is None for error in errors]

    def kept(values: Sequence[str | None]) -> list[str | None]:
        return [value if ok else None for value, ok in zip(values, good, strict=True)]

    return ReEncrypted(
        ciphertext_blob=kept(sealed.ciphertext_blob),
        re_encrypted=[True if ok else None for ok in good],
        key_id=kept(sealed.key_id),
        key_version_id=kept(sealed.key_version_id),
        source_key_id=kept(opened.key_id),
        source_key_version_id=kept(opened.key_version_id),
        verified=[v if ok else None for v, ok in zip(verified, good, strict=True)],
        error=errors,
    )


def _plaintexts(providers: Providers, records: Sequence[Record]) -> list[bytes | None]:
    found: list[bytes | None] = [None] * len(records)
    for provider in providers.providers():
        rows = [row for row, record in enumerate(records) if record.provider == provider]
        opened = providers.kms(provider).decrypt_records([records[row] for row in rows])
        for row, plaintext in zip(rows, opened.plaintext, strict=True):
            found[row] = plaintext
    return found
