"""Key ids with a time in them, and imported key material."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from datetime import datetime

from kmslab import crypto
from kmslab.encoding import b64, unb64
from kmslab.errors import (
    DecryptFailed,
    FormatError,
    ImportTokenExpired,
    InvalidRequest,
    TamperedLab,
    UnreadableMaterial,
)
from kmslab.keystore.lifecycle import now_of
from kmslab.keystore.store import Keystore
from kmslab.keystore.units import KeyRow, moment
from kmslab.model import OaepAlgorithm
from kmslab.secret import Entropy, Secret

# Documented: token and key are valid for 24 hours (reference/tencent.md section 1).
TOKEN_SECONDS = 24 * 3600
_UUID_EPOCH = 0x01B21DD213814000
_TOKEN_HEAD = struct.Struct(">q?")


@dataclass(frozen=True, slots=True)
class ImportParameters:
    """What material is wrapped with and imported with, until `valid_to`."""

    key_id: str
    import_token: str
    public_key_pem: str
    public_key_der: bytes
    valid_to: datetime


def time_based_id(time: float, entropy: Entropy) -> str:
    """A version-1 UUID of a time, as Tencent Cloud's key ids are (reference/tencent.md 1).

    The node is random, as RFC 9562 allows, and says nothing of the machine.
    """
    ticks = int(time * 10_000_000) + _UUID_EPOCH
    random = int.from_bytes(entropy(8), "big")
    node = (random & 0xFFFFFFFFFFFF) | 1 << 40
    clock_seq = random >> 48
    return str(
        uuid.UUID(
            fields=(
                ticks & 0xFFFFFFFF,
                (ticks >> 32) & 0xFFFF,
                ((ticks >> 48) & 0x0FFF) | 0x1000,
                ((clock_seq >> 8) & 0x3F) | 0x80,
                clock_seq & 0xFF,
                node,
            )
        )
    )


def parameters(keystore: Keystore, key_id: str, oaep: OaepAlgorithm) -> ImportParameters:
    """A fresh pair for one import. The token is the pair's sealed private half."""
    private = Secret(crypto.generate_rsa_2048())
    until = now_of(keystore) // 1_000_000 + TOKEN_SECONDS
    head = _TOKEN_HEAD.pack(until, oaep is OaepAlgorithm.SHA_256)
    with keystore.steady():
        token = keystore.subkeys.seal("tokens", Secret(head + private.expose()), key_id)
    der = crypto.rsa_public_der(crypto.load_sealed_rsa_private(private.expose()))
    return ImportParameters(
        key_id, b64(token), crypto.public_pem(der), der, moment(until * 1_000_000)
    )


def unwrap(keystore: Keystore, row: KeyRow, wrapped: str, token: str) -> Secret:
    """The material in `wrapped`, which the pair of `token` opens."""
    try:
        with keystore.steady():
            opened = keystore.subkeys.open("tokens", unb64(token, "ImportToken"), row.key_id)
    except (FormatError, TamperedLab):
        raise InvalidRequest(
            "ImportToken is not one of this key", parameter="ImportToken"
        ) from None
    until, is_sha_256 = _TOKEN_HEAD.unpack_from(opened.expose())
    if now_of(keystore) // 1_000_000 > until:
        raise ImportTokenExpired("the import token is older than 24 hours; get new parameters")
    pair = crypto.load_sealed_rsa_private(opened.expose()[_TOKEN_HEAD.size :])
    oaep = OaepAlgorithm.SHA_256 if is_sha_256 else OaepAlgorithm.SHA_1
    try:
        found = Secret(crypto.oaep_decrypt(pair, oaep, unb64(wrapped, "EncryptedKeyMaterial")))
    except (FormatError, DecryptFailed):
        raise UnreadableMaterial(
            "EncryptedKeyMaterial does not open with the token's pair",
            parameter="EncryptedKeyMaterial",
        ) from None
    if len(found) != row.spec.material_bytes:
        raise UnreadableMaterial(
            f"material of a {row.spec} key has {row.spec.material_bytes} bytes",
            parameter="EncryptedKeyMaterial",
        )
    return found
