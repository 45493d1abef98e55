"""The local Tencent Cloud KMS, API 2019-01-18: its operations, by their own names.

Rules and limits: seeds 000 and 001 for ReEncrypt, reference/tencent.md sections 1 to 4 for the
rest. What no document says is a choice of the lab and stands in docs/semantics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from kmslab import crypto
from kmslab.columns import column_of
from kmslab.context import Context
from kmslab.errors import (
    InvalidRequest,
    KeyNotFound,
    KeyNotPendingDeletion,
    Unsupported,
)
from kmslab.keystore import lifecycle
from kmslab.keystore.units import Handle, KeyRow, Unit
from kmslab.model import (
    TENCENT,
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
from kmslab.providers.local import (
    Operation,
    Session,
    check_usable,
    oaep_algorithm,
    pair_of,
)
from kmslab.providers.tencent import batch, bindings, material, rules
from kmslab.providers.tencent.blob import read_header
from kmslab.providers.tencent.blobs import Blobs
from kmslab.providers.tencent.material import ImportParameters
from kmslab.secret import Plaintext

DEFAULT_REGION = "ap-guangzhou"

CAPABILITIES = Capabilities(
    versions=True,
    contexts=True,
    public_key_source=False,
    authenticate=True,
    missing={"public_key_source": "ReEncrypt of Tencent Cloud takes symmetric ciphertext only"},
)


# What answers a request as the cloud takes it: `wire.answer`.
Answer = Callable[["TencentKms", Session, str, Mapping[str, Any], str], dict[str, Any]]


class TencentKms:
    """The Tencent Cloud KMS of one lab, region and caller. `Lab.tencent` makes it.

    Blobs and ids are text, plaintexts bytes. Every method raises a KmsError to refuse.
    """

    def __init__(self, session: Session, answer: Answer) -> None:
        self._session = session
        self._answer = answer
        self._blobs = Blobs(session)

    def __repr__(self) -> str:
        return f"TencentKms({self.region})"

    @property
    def provider(self) -> str:
        """`tencent`."""
        return TENCENT

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
        alias: str,
        *,
        description: str = "",
        spec: KeySpec = KeySpec.AES_256,
        origin: KeyOrigin = KeyOrigin.KMS,
    ) -> Key:
        """Make a key. `spec` RSA_2048 makes a pair for decryption; an EXTERNAL key waits for its
        material to be imported. The alias has 1 to 60 letters, digits, `_` and `-`."""
        with Operation(self._session, "CreateKey") as op:
            rules.check_alias(alias)
            rules.check_description(description)
            external = origin is KeyOrigin.EXTERNAL
            if external and not spec.symmetric:
                raise Unsupported("material is imported for symmetric keys only")
            self._session.authorise(op.action)
            row = KeyRow(
                key_id=self._new_key_id(op),
                provider=TENCENT,
                region=self.region,
                spec=spec,
                origin=origin,
                state=KeyState.PENDING_IMPORT if external else KeyState.ENABLED,
                alias=alias,
                description=description,
                created_at=int(op.time * 1_000_000),
            )
            return lifecycle.create(self._session.keystore, op.act(), row).key()

    def describe_key(self, key_id: str) -> Key:
        """The key with its versions."""
        with Operation(self._session, "DescribeKey") as op:
            return self._looked_at(op, key_id).key()

    def describe_keys(self, key_ids: Sequence[str]) -> tuple[Key, ...]:
        """1 to 100 keys with their versions."""
        with Operation(self._session, "DescribeKeys") as op:
            units = self._find_all(op, key_ids)
            op.admit()
            return tuple(unit.key() for unit in units)

    def list_keys(self) -> tuple[Key, ...]:
        """Every key of the region, oldest first, those that wait for deletion too."""
        with Operation(self._session, "ListKeys") as op:
            return self._listed(op)

    def list_key_detail(self) -> tuple[Key, ...]:
        """The same as `list_keys`, under the right to ListKeyDetail."""
        with Operation(self._session, "ListKeyDetail") as op:
            return self._listed(op)

    def list_key_versions(self, key_id: str) -> tuple[KeyVersion, ...]:
        """A key's versions, oldest first. The lab's own: the cloud shows none."""
        with Operation(self._session, "ListKeyVersions") as op:
            return op.find(key_id).key().versions

    def versions(self, key_id: str) -> tuple[KeyVersion, ...]:
        """A key's versions, oldest first."""
        return self.list_key_versions(key_id)

    def version_of(self, header: UnverifiedHeader) -> KeyVersion:
        """The version that a lab blob names; KeyNotFound for any other blob."""
        self._session.keystore.begin()
        handle = None
        if header.format is BlobFormat.LAB:
            handle = self._session.handle(header.key_version_id or "")
        if handle is None or handle.row.key_id != header.key_id:
            raise KeyNotFound("the blob names no key and version of this lab and region")
        self._session.authorise("ListKeyVersions", handle.unit)
        return handle.unit.key().versions[handle.row.number - 1]

    def update_alias(self, key_id: str, alias: str) -> Key:
        """Give a key another alias."""
        with Operation(self._session, "UpdateAlias") as op:
            return self._edit(op, key_id, rules.rename(alias))

    def update_key_description(self, key_id: str, description: str) -> Key:
        """Give a key another description, of 1,024 bytes at most."""
        with Operation(self._session, "UpdateKeyDescription") as op:
            return self._edit(op, key_id, rules.describe(description))

    def enable_key(self, key_id: str) -> Key:
        """Enable a disabled key. Rotations that fell due while it was disabled are skipped."""
        with Operation(self._session, "EnableKey") as op:
            return self._edit(op, key_id, rules.enable)

    def enable_keys(self, key_ids: Sequence[str]) -> tuple[Key, ...]:
        """Enable 1 to 100 keys: all of them, or none where one is missing or in another state."""
        with Operation(self._session, "EnableKeys") as op:
            return self._edit_all(op, key_ids, rules.enable)

    def disable_key(self, key_id: str) -> Key:
        """Disable an enabled key: it neither encrypts nor decrypts."""
        with Operation(self._session, "DisableKey") as op:
            return self._edit(op, key_id, self._unless_bound(rules.disable))

    def disable_keys(self, key_ids: Sequence[str]) -> tuple[Key, ...]:
        """Disable 1 to 100 keys: all of them, or none where one is missing or in another state."""
        with Operation(self._session, "DisableKeys") as op:
            return self._edit_all(op, key_ids, self._unless_bound(rules.disable))

    def schedule_key_deletion(self, key_id: str, pending_window_in_days: int) -> Key:
        """Have a disabled key deleted in 7 to 30 days, at the end of that day in Beijing."""
        with Operation(self._session, "ScheduleKeyDeletion") as op:
            schedule = rules.schedule_deletion(pending_window_in_days)
            return self._edit(op, key_id, self._unless_bound(schedule))

    def cancel_key_deletion(self, key_id: str) -> Key:
        """Cancel a scheduled deletion; the key is disabled then."""

        def cancel(row: KeyRow, _now: int) -> KeyRow:
            if row.state is not KeyState.PENDING_DELETION:
                raise KeyNotPendingDeletion(
                    f"key {row.key_id} is not scheduled for deletion", key_id=row.key_id
                )
            waits = row.origin is KeyOrigin.EXTERNAL and not self._has_material(row.key_id)
            state = KeyState.PENDING_IMPORT if waits else KeyState.DISABLED
            return replace(row, state=state, deletion_at=None)

        with Operation(self._session, "CancelKeyDeletion") as op:
            return self._edit(op, key_id, cancel)

    def archive_key(self, key_id: str) -> Key:
        """Archive a key: it decrypts, and does not encrypt."""
        with Operation(self._session, "ArchiveKey") as op:
            return self._edit(op, key_id, self._unless_bound(rules.archive))

    def cancel_key_archive(self, key_id: str) -> Key:
        """Bring an archived key back: it is enabled then."""
        with Operation(self._session, "CancelKeyArchive") as op:
            return self._edit(op, key_id, rules.cancel_archive)

    # Rotation

    def enable_key_rotation(self, key_id: str, *, rotate_days: int = 365) -> Key:
        """Rotate a key automatically every 7 to 365 days, the first time that long from now."""
        with Operation(self._session, "EnableKeyRotation") as op:
            return self._edit(op, key_id, rules.rotate_every(rotate_days))

    def disable_key_rotation(self, key_id: str) -> Key:
        """Stop rotating a key automatically."""
        with Operation(self._session, "DisableKeyRotation") as op:
            return self._edit(op, key_id, rules.stop_rotation)

    def get_key_rotation_status(self, key_id: str) -> bool:
        """Whether a key rotates automatically."""
        with Operation(self._session, "GetKeyRotationStatus") as op:
            return self._looked_at(op, key_id).row.rotation_days is not None

    def rotate_key(self, key_id: str) -> Key:
        """Rotate a key now, by the cloud's rules: automatic rotation on, once in 24 hours."""
        with Operation(self._session, "RotateKey") as op:
            op.find(key_id)
            keystore = self._session.keystore
            return lifecycle.rotate(keystore, op.act(), key_id, rules.rotate_on_demand).key()

    # Data

    def encrypt(self, key_id: str, plaintext: bytes, *, context: Context = None) -> str:
        """Encrypt 1 to 4,096 bytes under a key's primary version; the blob."""
        with Operation(self._session, "Encrypt") as op:
            return self._encrypt(op, key_id, plaintext, context)[0]

    def decrypt(self, blob: str, *, context: Context = None) -> Plaintext:
        """Decrypt a blob under the context that it was encrypted with."""
        with Operation(self._session, "Decrypt") as op:
            return self._decrypt(op, blob, context)[0]

    def re_encrypt(
        self,
        blob: str,
        *,
        destination_key_id: str | None = None,
        source_context: Context = None,
        destination_context: Context = None,
    ) -> ReEncryptResult:
        """Re-encrypt a blob to a key's primary version, by default to its own key's.

        On the primary version already, same key and same context: the same text comes back, with
        `re_encrypted` False, once the blob has been authenticated. An omitted destination context
        drops the blob's.
        """
        with Operation(self._session, "ReEncrypt") as op:
            before = self._blobs.context(source_context, "SourceEncryptionContext")
            after = before
            if destination_context is not source_context:
                after = self._blobs.context(destination_context, "DestinationEncryptionContext")
            route = self._blobs.route(blob, destination_key_id or None)
            op.ids = route.ids
            op.admit()
            source, destination = route.source, route.destination
            changed = destination is not source or before != after
            if changed:
                # Counted first, and opened within the call that seals: no error has the plaintext.
                self._session.counters.take(destination.row.version_id)
                opened, iv = source.cipher.open_padded, self._blobs.iv()
                blob = destination.cipher.seal_padded(opened(blob, before), after, iv)
            else:
                source.cipher.open_padded(blob, before)
            return re_encrypt_result(blob, route.ids, op.request_id, re_encrypted=changed)

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

        One bad row costs only itself. `verify` opens each new blob and compares. ValueError where
        the lengths of the columns differ.
        """
        return batch.re_encrypt(
            self._blobs,
            blobs,
            destination_key_ids=destination_key_ids,
            source_contexts=source_contexts,
            destination_contexts=destination_contexts,
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
        """Re-encrypt records, each under its own context, which is kept unless another is given."""
        contexts = column_of(records, "context")
        kept = destination_context is KEEP
        return self.re_encrypt_many(
            column_of(records, "ciphertext_blob"),
            destination_key_ids=destination_key_id,
            source_contexts=contexts,
            destination_contexts=contexts if kept else destination_context,  # type: ignore[arg-type]
            verify=verify,
        )

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """Decrypt records, each under its own context."""
        return batch.decrypt(self._blobs, records)

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """Encrypt each plaintext under one key; a row of None stays None."""
        return batch.encrypt(self._blobs, plaintexts, key_id, contexts)

    def generate_data_key(
        self,
        key_id: str,
        *,
        key_spec: str | None = None,
        number_of_bytes: int | None = None,
        context: Context = None,
    ) -> DataKey:
        """A fresh data key of `number_of_bytes` (1 to 1,024), or of `key_spec` AES_128 or AES_256,
        in the clear and as a blob. Where both are given the number wins."""
        with Operation(self._session, "GenerateDataKey") as op:
            size = rules.data_key_bytes(key_spec, number_of_bytes)
            plaintext = Plaintext(self._session.keystore.entropy(size))
            blob, handle = self._encrypt(op, key_id, plaintext, context)
            return DataKey(blob, plaintext, handle.row.key_id, handle.row.version_id, op.request_id)

    def generate_random(self, number_of_bytes: int) -> Plaintext:
        """1 to 1,024 random bytes."""
        with Operation(self._session, "GenerateRandom") as op:
            size = rules.data_key_bytes(None, number_of_bytes)
            self._allow(op)
            return Plaintext(self._session.keystore.entropy(size))

    # Pairs

    def get_public_key(self, key_id: str) -> PublicKey:
        """The public key of an enabled pair."""
        with Operation(self._session, "GetPublicKey") as op:
            handle = rules.pair(op.find(key_id))
            op.on(handle)
            check_usable(handle.unit)
            op.admit()
            der = handle.row.public_key or b""
            return PublicKey(key_id, handle.row.version_id, crypto.public_pem(der), der)

    def asymmetric_rsa_decrypt(
        self, key_id: str, ciphertext: str, algorithm: OaepAlgorithm | str
    ) -> Plaintext:
        """Decrypt RSA-OAEP ciphertext (base64) with an enabled pair."""
        with Operation(self._session, "AsymmetricRsaDecrypt") as op:
            oaep = oaep_algorithm(algorithm, "Algorithm")
            data = rules.base64(ciphertext, "Ciphertext")
            handle = rules.pair(op.find(key_id))
            op.on(handle)
            check_usable(handle.unit)
            op.admit()
            pair = pair_of(self._session, handle)
            return Plaintext(crypto.oaep_decrypt(pair, oaep, data))

    # Imported material

    def get_parameters_for_import(
        self,
        key_id: str,
        *,
        wrapping_algorithm: OaepAlgorithm | str = OaepAlgorithm.SHA_256,
        wrapping_key_spec: str = "RSA_2048",
    ) -> ImportParameters:
        """A public key to wrap material with, and the token to import it with, for 24 hours."""
        with Operation(self._session, "GetParametersForImport") as op:
            oaep = oaep_algorithm(wrapping_algorithm, "WrappingAlgorithm")
            if wrapping_key_spec != "RSA_2048":
                raise InvalidRequest("WrappingKeySpec is RSA_2048", parameter="WrappingKeySpec")
            row = op.find(key_id).row
            rules.external(row)
            op.admit()
            return material.parameters(self._session.keystore, row.key_id, oaep)

    def import_key_material(
        self,
        key_id: str,
        encrypted_key_material: str,
        import_token: str,
        *,
        valid_to: datetime | None = None,
    ) -> Key:
        """Give an external key its wrapped material (base64). After `valid_to` it is gone again.

        The same material as before where the key had any.
        """
        with Operation(self._session, "ImportKeyMaterial") as op:
            found = op.find(key_id).row
            rules.external(found)
            keystore = self._session.keystore
            opened = material.unwrap(keystore, found, encrypted_key_material, import_token)
            expires = None if valid_to is None else int(valid_to.timestamp() * 1_000_000)

            def check(row: KeyRow, now: int) -> KeyRow:
                rules.require(row, KeyState.ENABLED, KeyState.PENDING_IMPORT)
                if expires is not None and expires <= now:
                    raise InvalidRequest("ValidTo is not in the future", parameter="ValidTo")
                return replace(row, state=KeyState.ENABLED, material_expires_at=expires)

            return lifecycle.import_material(keystore, op.act(), key_id, opened, check).key()

    def delete_imported_key_material(self, key_id: str) -> Key:
        """Take an external key's material away; the key waits for it again."""
        with Operation(self._session, "DeleteImportedKeyMaterial") as op:
            op.find(key_id)
            keystore, check = self._session.keystore, self._unless_bound(rules.delete_material)
            return lifecycle.delete_material(keystore, op.act(), key_id, check).key()

    # Resources of cloud products

    def bind_cloud_resource(self, key_id: str, product_id: str, resource_id: str) -> Key:
        """Note that a resource of a cloud product uses an enabled key; twice is once.

        The key's imported material does not expire then, and the key is neither disabled,
        archived nor scheduled for deletion (KeyInUse) until every binding is taken away.
        """
        with Operation(self._session, "BindCloudResource") as op:
            wanted = bindings.binding(product_id, resource_id)
            op.find(key_id)
            return bindings.bind(self._session.keystore, op.act(), key_id, wanted).key()

    def unbind_cloud_resource(self, key_id: str, product_id: str, resource_id: str) -> Key:
        """Note that the resource uses the key no longer; BindingNotFound where it did not."""
        with Operation(self._session, "UnbindCloudResource") as op:
            wanted = bindings.binding(product_id, resource_id)
            op.find(key_id)
            return bindings.unbind(self._session.keystore, op.act(), key_id, wanted).key()

    # The service

    def get_service_status(self) -> int:
        """The service is there as long as the lab is; the number of keys in the region."""
        with Operation(self._session, "GetServiceStatus") as op:
            return len(self._listed(op))

    def get_regions(self) -> tuple[str, ...]:
        """This region, and every other that the lab has keys of this provider in."""
        with Operation(self._session, "GetRegions") as op:
            self._allow(op)
            rows = (unit.row for unit in self._session.keystore.units.values())
            return tuple(sorted({self.region, *(r.region for r in rows if r.provider == TENCENT)}))

    def list_algorithms(self) -> tuple[KeySpec, ...]:
        """The specs that keys can have."""
        with Operation(self._session, "ListAlgorithms") as op:
            self._allow(op)
            return tuple(KeySpec)

    # Requests as the cloud takes them

    def call(
        self, action: str, request: Mapping[str, Any], *, language: str = "zh-CN"
    ) -> dict[str, Any]:
        """The documented request in, the documented envelope out: `{"Response": {...}}`."""
        return self._answer(self, self._session, action, request, language)

    def key_of(self, blob: str) -> str | None:
        """The key that a blob names, as an answer gives it."""
        header = read_header(blob)
        return header.key_id if header else None

    @property
    def last_refusal(self) -> str:
        """Why the last `call()` of this thread was refused, for the owner of the lab; "" for none.

        An envelope says no more than the cloud's. Unauthorized for others than the owner.
        """
        self._session.require_owner("last_refusal")
        return self._session.latest.refusal

    def explain(self, blob: str, context: Context = None) -> str:
        """Why a blob does or does not open, for the owner of the lab: Unauthorized for others."""
        self._session.keystore.begin()
        self._session.require_owner("explain")
        return self._blobs.explain(blob, context)

    def _edit(self, op: Operation, key_id: str, edit: rules.Edit) -> Key:
        op.find(key_id)
        return lifecycle.edit(self._session.keystore, op.act(), key_id, edit).key()

    def _unless_bound(self, edit: rules.Edit) -> rules.Edit:
        return bindings.unless_bound(self._session.keystore, edit)

    def _edit_all(self, op: Operation, key_ids: Sequence[str], edit: rules.Edit) -> tuple[Key, ...]:
        self._find_all(op, key_ids)
        units = lifecycle.edit_all(self._session.keystore, op.act(), key_ids, edit)
        return tuple(unit.key() for unit in units)

    def _find_all(self, op: Operation, key_ids: Sequence[str]) -> list[Unit]:
        rules.check_key_ids(key_ids)
        return [op.find(key_id, "KeyIds") for key_id in key_ids]

    def _looked_at(self, op: Operation, key_id: str) -> Unit:
        unit = op.find(key_id)
        op.admit()
        return unit

    def _allow(self, op: Operation) -> None:
        self._session.authorise(op.action)
        op.admit()

    def _listed(self, op: Operation) -> tuple[Key, ...]:
        self._allow(op)
        return tuple(unit.key() for unit in self._session.units())

    def _encrypt(
        self, op: Operation, key_id: str, plaintext: bytes, context: Context
    ) -> tuple[str, Handle]:
        text = self._blobs.context(context, "EncryptionContext")
        rules.check_plaintext(plaintext)
        destination = self._blobs.destination(op.find(key_id))
        op.on(destination)
        op.admit()
        self._session.counters.take(destination.row.version_id)
        return destination.cipher.seal(plaintext, text, self._blobs.iv()), destination

    def _decrypt(self, op: Operation, blob: str, context: Context) -> tuple[Plaintext, Handle]:
        text = self._blobs.context(context, "EncryptionContext")
        source = self._blobs.source(blob, op.action)
        op.on(source)
        op.admit()
        return Plaintext(source.cipher.open(blob, text)), source

    def _has_material(self, key_id: str) -> bool:
        return any(v.sealed for v in self._session.keystore.unit(key_id).versions)

    def _new_key_id(self, op: Operation) -> str:
        return material.time_based_id(op.time, self._session.keystore.entropy)
