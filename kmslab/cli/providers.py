"""Which of the two KMSs a command speaks to, and in which region."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kmslab.cli.failures import REFUSED, Failure, Refused
from kmslab.keys import kms_in

if TYPE_CHECKING:
    from kmslab.inspection import Inspection
    from kmslab.keys import LabKms
    from kmslab.lab import Lab
    from kmslab.model import Key


def kms_for(
    lab: Lab, blob: str, provider: str | None, region: str | None, key: Key | None = None
) -> LabKms:
    """The local KMS that a blob, or `key`, seems to be of.

    That the blob names this provider and key is not proven, and need not be: another KMS refuses
    it.
    """
    from kmslab.inspection import inspect

    if key is not None:
        return kms_in(lab, key.provider, region or key.region)
    found = inspect(blob)
    named = provider or found.provider
    if named is None:
        raise Refused(
            Failure(
                REFUSED,
                "InvalidCiphertext",
                "this is no blob of either provider",
                explanation="; ".join(found.notes),
            )
        )
    return kms_in(lab, named, region or _region_of(lab, found))


def explanation(kms: LabKms, blob: str, context: str | None = None) -> str:
    """Why a blob does or does not open, for the owner of the lab."""
    from kmslab.providers.tencent.service import TencentKms

    return kms.explain(blob, context) if isinstance(kms, TencentKms) else kms.explain(blob)


def pair_explanation(ciphertext: str) -> str:
    """Why what was given with a pair does not open, as far as anybody can tell."""
    from kmslab.inspection import inspect
    from kmslab.model import BlobFormat

    match inspect(ciphertext).format:
        case BlobFormat.PUBLIC_KEY:
            return (
                "The key, its version, the algorithm or the ciphertext is wrong. Hash and MGF1 hash"
                " must be the same."
            )
        case BlobFormat.UNKNOWN:
            return "It is no public-key ciphertext, which is 256 bytes in base64."
        case _:
            return "It is no public-key ciphertext: it is a blob that names its key itself."


def _region_of(lab: Lab, found: Inspection) -> str | None:
    keys = lab.keys()
    for key in keys:
        if key.key_id == found.key_id and key.provider == found.provider:
            return key.region
    return None


def version_of(key: Key, named: str) -> str:
    """The id of the version of a key that is named by its id or number; SettingError without it."""
    from kmslab.errors import SettingError

    for version in key.versions:
        if named in (version.version_id, str(version.number)):
            return version.version_id
    raise SettingError(
        f"key {key.alias or key.key_id} has no version {named}; `kmslab key versions` shows them"
    )
