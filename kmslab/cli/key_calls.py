"""What the two providers do each in their own way about keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from kmslab.keys import LabKms
    from kmslab.model import Key, PublicKey


def archive(kms: LabKms, key_id: str, *, cancel: bool) -> Key:
    """Archive a key, or bring it back."""
    from kmslab.errors import Unsupported
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        raise Unsupported("CTyun archives no keys")
    return kms.cancel_key_archive(key_id) if cancel else kms.archive_key(key_id)


def import_material(kms: LabKms, key_id: str, material: bytes, valid_to: datetime | None) -> Key:
    """Wrap the material for the key, and import it."""
    from kmslab.crypto import load_rsa_public, oaep_encrypt
    from kmslab.encoding import b64
    from kmslab.errors import FormatError, UnreadableMaterial, Unsupported
    from kmslab.model import OaepAlgorithm
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        raise Unsupported("CTyun imports no key material")
    parameters = kms.get_parameters_for_import(key_id)
    public = load_rsa_public(parameters.public_key_der)
    try:
        wrapped = oaep_encrypt(public, OaepAlgorithm.SHA_256, material)
    except FormatError:
        raise UnreadableMaterial(f"{len(material)} bytes are too many for key material") from None
    return kms.import_key_material(key_id, b64(wrapped), parameters.import_token, valid_to=valid_to)


def public_key(kms: LabKms, key: Key, version_id: str | None) -> PublicKey:
    """A pair's public key, of one version."""
    from kmslab.errors import Unsupported
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        return kms.get_public_key(key.key_id, version_id or key.versions[-1].version_id)
    if version_id is not None:
        raise Unsupported("a pair of Tencent Cloud has one version, which is not named")
    return kms.get_public_key(key.key_id)
