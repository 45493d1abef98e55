"""The local CTyun KMS: its operations, by their own names.

Rules of reEncrypt: seed 004. The others have no public API page: names and limits are those of
the user guide (reference/ctyun-guide.md), and what it does not say is the lab's own
(docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from kmslab import crypto
from kmslab.columns import column_of
from kmslab.context import Context, context_text
from kmslab.encoding import b64
from kmslab.errors import KeyNotFound
from kmslab.keystore import lifecycle
from kmslab.keystore.units import Handle, KeyRow, Unit
from kmslab.model import (
    CTYUN,
    BlobFormat,
    DataKey,
    Key,
    KeyOrigin,
    KeySpec,
    KeyState,
    KeyVersion,
    OaepAlgorithm,
    PublicKey,
    Record,
    ReEncryptResult,
    UnverifiedHeader,
    re_encrypt_result,
)
from kmslab.providers.base import KEEP, Capabilities, Keep, Opened, ReEncrypted, Sealed
from kmslab.providers.ctyun import batch, rules
from kmslab.providers.ctyun.blob import HEAD_CHARS, read_header
from kmslab.providers.ctyun.blobs import Blobs, PublicKeySource
from kmslab.providers.local import Operation, Session, check_usable, oaep_algorithm, pair_of
from kmslab.secret import Plaintext

DEFAULT_REGION = "60a39fca876e11ea91cf0242ac110002"

CAPABILITIES = Capabilities(
    versions=True,
    contexts=False,
    public_key_source=True,
    authenticate=True,
    missing={"contexts": "the calls of CTyun have no encryption context"},
)


# What answers a request as the cloud takes it: `wire.answer`.
Answer = Callable[["CtyunKms", Session, str, Mapping[str, Any]], dict[str, Any]]


class CtyunKms:
    """The CTyun KMS of one lab, region and caller. `Lab.ctyun` makes it.

    Blobs and ids are text, plaintexts bytes. Every method raises a KmsError to refuse. A key is
    named by its id or its alias; `re_encrypt` and the calls over columns take ids alone.
    """

    def __init__(self, session: Session, answer: Answer) -> None:
        self._session = session
        self._answer = answer
        self._blobs = Blobs(session)

    def __repr__(self) -> str:
        return f"CtyunKms({self.region})"

    @property
    def provider(self) -> str:
        """`ctyun`."""
        return CTYUN

    @property
    def region(self) -> str:
        """The region that the keys are in."""
        return self._session.region

    @property
    def capabilities(self) -> Capabilities:
        """What this Kms can do."""
        return CAPABILITIES

    # Keys

    def create_key(
        self,
        *,
        spec: KeySpec = KeySpec.AES_256,
        alias: str = "",
        description: str = "",
        rotation_days: int | None = None,
    ) -> Key:
        """Make a key, rotated automatically every `rotation_days` where that is given."""
        with Operation(self._session, "createKey") as op:
            if alias:
                rules.check_alias(alias)
            rules.check_description(description)
            now = int(op.time * 1_000_000)
            row = KeyRow(
                key_id=lifecycle.random_id(self._session.keystore.entropy),
                provider=CTYUN,
                region=self.region,
                spec=spec,
                origin=KeyOrigin.KMS,
                state=KeyState.ENABLED,
                alias=alias,
                description=description,
                created_at=now,
            )
            if rotation_days is not None:
                row = rules.rotation_policy(rotation_days)(row, now)
            self._session.authorise(op.action)
            return lifecycle.create(self._session.keystore, op.act(), row).key()

    def describe_key(self, key_id: str) -> Key:
        """The key with its versions."""
        with Operation(self._session, "describeKey") as op:
            unit = self._find(op, key_id)
            op.admit()
            return unit.key()

    def list_keys(self) -> tuple[Key, ...]:
        """Every key of the region, oldest first, those that wait for deletion too."""
        with Operation(self._session, "listKeys") as op:
            self._session.authorise(op.action)
            op.admit()
            return tuple(unit.key() for unit in self._session.units())

    def list_key_versions(self, key_id: str) -> tuple[KeyVersion, ...]:
        """A key's versions, oldest first."""
        with Operation(self._session, "listKeyVersions") as op:
            unit = self._find(op, key_id)
            op.admit()
            return unit.key().versions

    def versions(self, key_id: str) -> tuple[KeyVersion, ...]:
        """The same as `list_key_versions`, and no call that a rate limit counts."""
        with Operation(self._session, "listKeyVersions") as op:
            return self._find(op, key_id).key().versions

    def version_of(self, header: UnverifiedHeader) -> KeyVersion:
        """The version that a lab blob names; KeyNotFound for any other blob."""
        self._session.keystore.begin()
        handle = None
        if header.format is BlobFormat.LAB:
            handle = self._session.handle(header.key_version_id or "")
        if handle is None or handle.row.key_id != header.key_id:
            raise KeyNotFound("the blob names no key and version of this lab and region")
        self._session.authorise("listKeyVersions", handle.unit)
        return handle.unit.key().versions[handle.row.number - 1]

    def update_alias(self, key_id: str, alias: str) -> Key:
        """Give a key another alias."""
        with Operation(self._session, "updateAlias") as op:
            return self._edit(op, key_id, rules.rename(alias))

    def update_key_description(self, key_id: str, description: str) -> Key:
        """Give a key another description."""
        with Operation(self._session, "updateKeyDescription") as op:
            return self._edit(op, key_id, rules.describe(description))

    def enable_key(self, key_id: str) -> Key:
        """Enable a disabled key. Rotations that fell due while it was disabled are skipped."""
        with Operation(self._session, "enableKey") as op:
            return self._edit(op, key_id, rules.enable)

    def disable_key(self, key_id: str) -> Key:
        """Disable an enabled key: it neither encrypts nor decrypts."""
        with Operation(self._session, "disableKey") as op:
            return self._edit(op, key_id, rules.disable)

    def schedule_key_deletion(self, key_id: str, pending_window_in_days: int = 30) -> Key:
        """Have a key deleted in 7 to 30 days. Until then it cannot be used."""
        with Operation(self._session, "scheduleKeyDeletion") as op:
            return self._edit(op, key_id, rules.schedule_deletion(pending_window_in_days))

    def cancel_key_deletion(self, key_id: str) -> Key:
        """Cancel a scheduled deletion; the key can be used again."""
        with Operation(self._session, "cancelKeyDeletion") as op:
            return self._edit(op, key_id, rules.cancel_deletion)

    def update_rotation_policy(self, key_id: str, *, rotation_days: int | None) -> Key:
        """Rotate a symmetric key automatically every 7 to 730 days, or (None) not at all."""
        with Operation(self._session, "updateRotationPolicy") as op:
            return self._edit(op, key_id, rules.rotation_policy(rotation_days))

    def create_key_version(self, key_id: str) -> KeyVersion:
        """Make another version of a pair: a new pair under the same key."""
        with Operation(self._session, "createKeyVersion") as op:
            found = self._find(op, key_id).row.key_id
            keystore = self._session.keystore
            unit = lifecycle.rotate(keystore, op.act(), found, rules.new_version)
            return unit.key().versions[-1]

    # Data

    def encrypt(self, key: str, plaintext: bytes) -> str:
        """Encrypt less than 6 KB under a key's primary version; the blob."""
        with Operation(self._session, "encrypt") as op:
            return self._encrypt(op, key, plaintext)[0]

    def decrypt(self, blob: str) -> Plaintext:
        """Decrypt a blob; it names its key itself."""
        with Operation(self._session, "decrypt") as op:
            source = self._blobs.source(blob, op.action)
            op.on(source.handle)
            self._blobs.check_balance()
            op.admit()
            return Plaintext(self._blobs.open(source, blob))

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

        Public-key ciphertext needs all three of the source's. For a symmetric blob the source's
        ids, where given, must be those that it names.
        """
        with Operation(self._session, "reEncrypt") as op:
            rules.check_destination(destination_key_id)
            given = PublicKeySource.of(source_key_id, source_key_version_id, source_algorithm)
            source, route = self._blobs.route(blob, destination_key_id, given)
            op.ids = route.ids
            self._blobs.check_balance()
            op.admit()
            # Counted first, and opened within the call that seals: no error has the plaintext.
            self._session.counters.take(route.destination.row.version_id)
            seal, iv = route.destination.cipher.seal, self._blobs.iv()
            fresh = seal(self._blobs.open(source, blob), iv)
            return re_encrypt_result(fresh, route.ids, op.request_id, re_encrypted=True)

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

        One bad row costs only itself. `verify` opens each new blob and compares. ValueError where
        the lengths of the columns differ.
        """
        return batch.re_encrypt(
            self._blobs,
            blobs,
            destination_key_ids=destination_key_ids,
            source_key_ids=source_key_ids,
            source_key_version_ids=source_key_version_ids,
            source_algorithms=source_algorithms,
            verify=verify,
        )

    def key_marks(self) -> Hashable:
        """What is another when a key of the region has changed its state or primary version."""
        return self._session.key_marks()

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
        # Many records begin alike, and the beginning is all that names a key.
        blobs = column_of(records, "ciphertext_blob")
        heads = [blob[:HEAD_CHARS] for blob in blobs]
        named = {head: self._blobs.key_named(head) for head in set(heads)}
        own = [named[head] for head in heads]
        sources = [column_of(records, name) for name in batch.SOURCE_FIELDS]
        key_ids, version_ids, algorithms = (c if any(c) else None for c in sources)
        return self.re_encrypt_many(
            blobs,
            destination_key_ids=own if destination_key_id is None else destination_key_id,
            source_key_ids=key_ids,
            source_key_version_ids=version_ids,
            source_algorithms=algorithms,
            verify=verify,
        )

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """Decrypt records, public-key ciphertext with the source that the record names."""
        return batch.decrypt(self._blobs, records)

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
        return batch.encrypt(self._blobs, plaintexts, key_id, contexts)

    def generate_data_key(
        self, key: str, *, key_spec: str | None = None, number_of_bytes: int | None = None
    ) -> DataKey:
        """A fresh data key in the clear and as a blob: 1 to 1,024 bytes, or of `key_spec` AES_256
        (the default) or AES_128."""
        with Operation(self._session, "generateDataKey") as op:
            return self._data_key(op, key, key_spec, number_of_bytes)[0]

    def generate_data_key_without_plaintext(
        self, key: str, *, key_spec: str | None = None, number_of_bytes: int | None = None
    ) -> DataKey:
        """A fresh data key as a blob only."""
        with Operation(self._session, "generateDataKeyWithoutPlaintext") as op:
            made, _ = self._data_key(op, key, key_spec, number_of_bytes)
            return _without_plaintext(made, None)

    def generate_and_export_data_key(
        self,
        key: str,
        *,
        public_key: bytes,
        wrapping_algorithm: OaepAlgorithm | str = OaepAlgorithm.SHA_256,
        key_spec: str | None = None,
        number_of_bytes: int | None = None,
    ) -> DataKey:
        """A fresh data key as a blob, and wrapped for an RSA-2048 public key (DER) of the caller.

        What is wrapped are the raw bytes of the data key (lab's choice).
        """
        with Operation(self._session, "generateAndExportDataKey") as op:
            oaep = oaep_algorithm(wrapping_algorithm, "wrappingAlgorithm")
            rules.check_public_key(public_key)
            rules.check_wrapped(rules.data_key_bytes(key_spec, number_of_bytes), oaep)
            made, plaintext = self._data_key(op, key, key_spec, number_of_bytes)
            return _without_plaintext(made, b64(_wrapped(public_key, oaep, plaintext)))

    # Pairs

    def get_public_key(self, key_id: str, key_version_id: str) -> PublicKey:
        """The public key of a pair's version."""
        with Operation(self._session, "getPublicKey") as op:
            handle = self._pair(op, key_id, key_version_id)
            op.admit()
            der = handle.row.public_key or b""
            return PublicKey(handle.row.key_id, key_version_id, crypto.public_pem(der), der)

    def asymmetric_encrypt(
        self,
        key_id: str,
        key_version_id: str,
        algorithm: OaepAlgorithm | str,
        plaintext: bytes,
    ) -> str:
        """Encrypt with a pair's public key: at most 214 bytes with SHA-1, 190 with SHA-256."""
        with Operation(self._session, "asymmetricEncrypt") as op:
            oaep = oaep_algorithm(algorithm, "algorithm")
            rules.check_oaep_plaintext(plaintext, oaep)
            handle = self._pair(op, key_id, key_version_id)
            self._admit(op)
            return b64(_wrapped(handle.row.public_key or b"", oaep, plaintext))

    def asymmetric_decrypt(
        self,
        key_id: str,
        key_version_id: str,
        algorithm: OaepAlgorithm | str,
        ciphertext: str,
    ) -> Plaintext:
        """Decrypt RSA-OAEP ciphertext (base64) with a pair's version."""
        with Operation(self._session, "asymmetricDecrypt") as op:
            oaep = oaep_algorithm(algorithm, "algorithm")
            data = rules.base64(ciphertext, "ciphertextBlob")
            handle = self._pair(op, key_id, key_version_id)
            self._admit(op)
            pair = pair_of(self._session, handle)
            return Plaintext(crypto.oaep_decrypt(pair, oaep, data))

    # Requests as the cloud takes them

    def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The documented body in, the documented envelope out: code, errorCode, msg, data."""
        return self._answer(self, self._session, action, request)

    @property
    def answers_with_source(self) -> bool:
        """Whether reEncrypt's answer names the source key: the lab's setting `cmk_uuid`."""
        return bool(self._session.keystore.settings["cmk_uuid"] == "source")

    def key_id_of(self, name: str) -> str:
        """The id of the key with this id or alias, as an answer gives it."""
        return self._blobs.key_called(name)

    def named_in(self, blob: str) -> dict[str, str | None]:
        """The key and version that a blob names, as an answer gives them."""
        header = read_header(blob)
        return {
            "cmkUuid": header.key_id if header else None,
            "keyVersionId": header.key_version_id if header else None,
        }

    @property
    def last_refusal(self) -> str:
        """Why the last `call()` of this thread was refused, for the owner of the lab; "" for none.

        An envelope says no more than the cloud's. Unauthorized for others than the owner.
        """
        self._session.require_owner("last_refusal")
        return self._session.latest.refusal

    def explain(self, blob: str) -> str:
        """Why a blob does or does not open, for the owner of the lab: Unauthorized for others."""
        self._session.keystore.begin()
        self._session.require_owner("explain")
        return self._blobs.explain(blob)

    def _edit(self, op: Operation, key_id: str, edit: rules.Edit) -> Key:
        found = self._find(op, key_id).row.key_id
        return lifecycle.edit(self._session.keystore, op.act(), found, edit).key()

    def _find(self, op: Operation, key: str) -> Unit:
        return op.find(self._blobs.key_called(key), "cmkUuid")

    def _pair(self, op: Operation, key_id: str, version_id: str) -> Handle:
        handle = rules.version(self._find(op, key_id), version_id, "cmkUuid")
        op.on(handle)
        check_usable(handle.unit)
        return handle

    def _admit(self, op: Operation) -> None:
        self._blobs.check_balance()
        op.admit()

    def _encrypt(self, op: Operation, key: str, plaintext: bytes) -> tuple[str, Handle]:
        rules.check_plaintext(plaintext)
        destination = self._blobs.destination(self._find(op, key), "cmkUuid")
        op.on(destination)
        self._admit(op)
        self._session.counters.take(destination.row.version_id)
        return destination.cipher.seal(plaintext, self._blobs.iv()), destination

    def _data_key(
        self, op: Operation, key: str, key_spec: str | None, number_of_bytes: int | None
    ) -> tuple[DataKey, Plaintext]:
        size = rules.data_key_bytes(key_spec, number_of_bytes)
        plaintext = Plaintext(self._session.keystore.entropy(size))
        blob, handle = self._encrypt(op, key, plaintext)
        made = DataKey(blob, plaintext, handle.row.key_id, handle.row.version_id, op.request_id)
        return made, plaintext


def _without_plaintext(made: DataKey, exported: str | None) -> DataKey:
    return DataKey(
        made.ciphertext_blob, None, made.key_id, made.key_version_id, made.request_id, exported
    )


def _wrapped(public_key: bytes, oaep: OaepAlgorithm, plaintext: bytes) -> bytes:
    return crypto.oaep_encrypt(crypto.load_rsa_public(public_key), oaep, plaintext)
