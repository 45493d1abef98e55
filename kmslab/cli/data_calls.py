"""What the two providers do each in their own way about data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmslab.keys import LabKms
    from kmslab.model import DataKey, Key, ReEncryptResult
    from kmslab.secret import Plaintext


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the blob that is re-encrypted, besides its text."""

    context: str | None
    key_id: str | None
    key_version_id: str | None
    algorithm: str | None


def check_context(context: str | None) -> None:
    """ContextError unless the text is an encryption context."""
    from kmslab.context import context_text

    context_text(context)


def destination_context(source: str | None, destination: str | None, keep: bool) -> str | None:
    """The context of the new blob, by the options that say so."""
    from kmslab.errors import SettingError

    if keep and destination is not None:
        raise SettingError("give --destination-context or --keep-context, not both")
    for context in (source, destination):
        check_context(context)
    return source if keep else destination


def encrypt(kms: LabKms, key_id: str, plaintext: bytes, context: str | None) -> str:
    """Encrypt under a symmetric key."""
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        _no_context(context)
        return kms.encrypt(key_id, plaintext)
    return kms.encrypt(key_id, plaintext, context=context)


def decrypt(kms: LabKms, blob: str, context: str | None) -> Plaintext:
    """Decrypt a blob that names its key."""
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        _no_context(context)
        return kms.decrypt(blob)
    return kms.decrypt(blob, context=context)


def decrypt_with_pair(
    kms: LabKms, pair: Key, version_id: str | None, algorithm: str | None, ciphertext: str
) -> Plaintext:
    """Decrypt public-key ciphertext."""
    from kmslab.errors import MissingParameter, Unsupported
    from kmslab.providers.ctyun.service import CtyunKms

    if algorithm is None:
        raise MissingParameter("public-key ciphertext needs --algorithm", parameter="algorithm")
    if isinstance(kms, CtyunKms):
        if version_id is None:
            raise MissingParameter(
                "public-key ciphertext needs --key-version", parameter="keyVersionId"
            )
        return kms.asymmetric_decrypt(pair.key_id, version_id, algorithm, ciphertext)
    if version_id is not None:
        raise Unsupported("a pair of Tencent Cloud has one version, which is not named")
    return kms.asymmetric_rsa_decrypt(pair.key_id, ciphertext, algorithm)


def data_key(
    kms: LabKms,
    key_id: str,
    spec: str,
    number_of_bytes: int | None,
    context: str | None,
    *,
    blob_only: bool,
) -> DataKey:
    """Make a data key."""
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        _no_context(context)
        make = kms.generate_data_key_without_plaintext if blob_only else kms.generate_data_key
        return make(key_id, key_spec=spec, number_of_bytes=number_of_bytes)
    return kms.generate_data_key(
        key_id, key_spec=spec, number_of_bytes=number_of_bytes, context=context
    )


def re_encrypt(
    kms: LabKms,
    blob: str,
    destination: Key | None,
    source: Source,
    destination_context: str | None,
) -> ReEncryptResult:
    """Re-encrypt a blob, to its own key where there is no destination."""
    from kmslab.errors import Unsupported
    from kmslab.providers.ctyun.service import CtyunKms

    if destination is not None and destination.provider != kms.provider:
        raise Unsupported(
            f"the blob is of {kms.provider} and the key {destination.key_id} of "
            f"{destination.provider}; `kmslab campaign run SOURCE --to KEY` moves records across"
        )
    if isinstance(kms, CtyunKms):
        _no_context(source.context or destination_context)
        return kms.re_encrypt(
            blob,
            destination_key_id=destination.key_id if destination else _own_key(blob),
            source_key_id=source.key_id,
            source_key_version_id=source.key_version_id,
            source_algorithm=source.algorithm,
        )
    if source.key_id or source.key_version_id or source.algorithm:
        raise Unsupported("ReEncrypt of Tencent Cloud takes no public-key ciphertext")
    return kms.re_encrypt(
        blob,
        destination_key_id=None if destination is None else destination.key_id,
        source_context=source.context,
        destination_context=destination_context,
    )


def _own_key(blob: str) -> str:
    """The key that a blob of CTyun's names; MissingParameter for one that names none."""
    from kmslab.errors import MissingParameter
    from kmslab.providers.ctyun.blob import read_header

    header = read_header(blob)
    if header is None or header.key_id is None:
        raise MissingParameter(
            "--to is needed: the ciphertext names no key of its own",
            parameter="destinationKeyId",
        )
    return header.key_id


def _no_context(context: str | None) -> None:
    from kmslab.context import context_text
    from kmslab.errors import Unsupported

    if context_text(context):
        raise Unsupported("CTyun has no encryption contexts")
