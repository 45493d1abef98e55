"""The root key's subkeys, and what they seal and authenticate.

One root key of 32 bytes, separate HKDF-SHA-256 subkeys for each purpose, bound to the lab's id.
Sealed is `nonce 12 ‖ AES-256-GCM(data) ‖ tag 16` with the purpose and the ids as AAD.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kmslab.crypto import InvalidTag, bytes_eq, hkdf, hmac_sha256, sha256
from kmslab.encoding import pack
from kmslab.errors import TamperedLab
from kmslab.secret import Secret

ROOT_BYTES = 32
_NONCE = 12


class Subkeys:
    """What a root key gives to one lab. Shows and pickles nothing.

    Nonces of sealed material come from the operating system in every lab.
    """

    __slots__ = ("_audit", "_auth", "_sealers", "lab_id", "root_id")

    def __init__(self, root: Secret, lab_id: str) -> None:
        def derive(purpose: str) -> bytes:
            return hkdf(root.expose(), pack("kmslab/1", lab_id, purpose))

        self.lab_id = lab_id
        self.root_id = derive("root id")[:16].hex()
        self._auth = derive("authentication")
        self._audit = derive("audit")
        self._sealers = {
            purpose: AESGCM(derive(purpose)) for purpose in ("material", "credentials", "tokens")
        }

    def __repr__(self) -> str:
        return f"Subkeys(lab {self.lab_id})"

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("subkeys cannot be pickled or copied")

    def seal(self, purpose: str, data: Secret, *binding: str) -> bytes:
        """Seal `data`, bound to its purpose and to the ids in `binding`."""
        nonce = os.urandom(_NONCE)
        aad = pack(purpose, self.lab_id, *binding)
        return nonce + self._sealers[purpose].encrypt(nonce, data.expose(), aad)

    def open(self, purpose: str, sealed: bytes, *binding: str) -> Secret:
        """Open what `seal` made; TamperedLab where it is not that, or not bound to these ids."""
        aad = pack(purpose, self.lab_id, *binding)
        try:
            data = self._sealers[purpose].decrypt(sealed[:_NONCE], sealed[_NONCE:], aad)
        except (InvalidTag, ValueError):
            raise TamperedLab(f"sealed {purpose} do not open for {' '.join(binding)}") from None
        return Secret(data)

    def mac(self, data: bytes) -> bytes:
        """The MAC over a unit or over the lab."""
        return hmac_sha256(self._auth, data)

    def chain(self, previous: bytes, entry: bytes) -> bytes:
        """The MAC of an audit entry, which binds it to the one before."""
        return hmac_sha256(self._audit, previous + entry)


def material_check(material: Secret, key_id: str) -> bytes:
    """A fingerprint by which the same material is known when it is imported again.

    It hangs on the material alone, so that it outlives the material and a rekey.
    """
    return hkdf(material.expose(), pack("kmslab/1 material check", key_id))


def same_mac(one: object, other: bytes) -> bool:
    """Compare two MACs in constant time; what is no bytes is the same as none."""
    return isinstance(one, bytes) and bytes_eq(one, other)


def digest(*parts: bytes) -> bytes:
    """SHA-256 over an injective encoding of `parts`."""
    return sha256(pack(*parts))
