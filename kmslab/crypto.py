"""The cryptographic primitives that kmslab uses, all from `cryptography`.

Sources: AES-GCM NIST SP 800-38D, SM4-GCM RFC 8998, HKDF RFC 5869, Argon2id RFC 9106, RSAES-OAEP
RFC 8017 (hash and MGF1 hash equal, empty label, as reference/ctyun.md section 4).
"""

from __future__ import annotations

import threading
from dataclasses import asdict, astuple, dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import SM4
from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kmslab.errors import DecryptFailed, FormatError
from kmslab.model import KeySpec, OaepAlgorithm

__all__ = ["Aead", "Argon2Parameters", "InvalidTag", "bytes_eq"]

TAG_BYTES = 16


class Aead(Protocol):
    """Authenticated encryption with a 16-byte tag at the end; `decrypt` raises InvalidTag."""

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes | None, /) -> bytes:
        """Ciphertext and tag of `data`."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes | None, /) -> bytes:
        """The plaintext of ciphertext and tag; InvalidTag where they are not authentic."""
        ...


class Sm4Gcm:
    """SM4-GCM with the interface of `AESGCM`. No plaintext leaves before the tag is checked."""

    __slots__ = ("_algorithm",)

    def __init__(self, key: bytes) -> None:
        self._algorithm = SM4(key)

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes | None, /) -> bytes:
        """Ciphertext and tag of `data`."""
        encryptor = Cipher(self._algorithm, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(aad or b"")
        return encryptor.update(data) + encryptor.finalize() + encryptor.tag

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes | None, /) -> bytes:
        """The plaintext of ciphertext and tag; InvalidTag where they are not authentic."""
        if len(data) < TAG_BYTES:
            raise InvalidTag
        mode = modes.GCM(nonce, data[-TAG_BYTES:])
        decryptor = Cipher(self._algorithm, mode).decryptor()
        decryptor.authenticate_additional_data(aad or b"")
        plaintext = decryptor.update(data[:-TAG_BYTES])
        return plaintext + decryptor.finalize()


def aead(spec: KeySpec, key: bytes) -> Aead:
    """The cipher of a symmetric key spec: AES-256-GCM or SM4-GCM.

    >>> sealed = aead(KeySpec.SM4, bytes(16)).encrypt(bytes(12), b"kms", b"aad")
    >>> aead(KeySpec.SM4, bytes(16)).decrypt(bytes(12), sealed, b"aad")
    b'kms'
    """
    return Sm4Gcm(key) if spec is KeySpec.SM4 else AESGCM(key)


def hkdf(material: bytes, info: bytes, size: int = 32) -> bytes:
    """HKDF-SHA-256 without salt: `size` bytes bound to `info`.

    >>> len(hkdf(bytes(32), b"label"))
    32
    """
    return HKDF(hashes.SHA256(), length=size, salt=None, info=info).derive(material)


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """HMAC-SHA-256: 32 bytes."""
    mac = hmac.HMAC(key, hashes.SHA256())
    mac.update(data)
    return mac.finalize()


def sha256(*parts: bytes) -> bytes:
    """SHA-256 over the parts in a row: 32 bytes."""
    digest = hashes.Hash(hashes.SHA256())
    for part in parts:
        digest.update(part)
    return digest.finalize()


@dataclass(frozen=True, slots=True)
class Argon2Parameters:
    """The cost of an Argon2id derivation; the default is RFC 9106's second recommendation."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 * 1024

    def __post_init__(self) -> None:
        # Read from files before they are authenticated, so an absurd cost is refused.
        if any(type(value) is not int for value in astuple(self)):
            raise FormatError("Argon2id cost is in whole numbers")
        if not (1 <= self.iterations <= 16 and 1 <= self.lanes <= 16):
            raise FormatError("Argon2id cost is out of bounds")
        if not 8 * self.lanes <= self.memory_kib <= 1024 * 1024:
            raise FormatError("Argon2id memory is out of bounds")

    def as_dict(self) -> dict[str, int]:
        """The cost by name, as JSON takes it."""
        return asdict(self)


# OpenSSL (seen with 4.0.3) waits for ever where two threads derive with several lanes at once.
_one_at_a_time = threading.Lock()


def argon2id(passphrase: bytes, salt: bytes, cost: Argon2Parameters) -> bytes:
    """32 bytes from a passphrase, one derivation at a time."""
    derivation = Argon2id(
        salt=salt,
        length=32,
        iterations=cost.iterations,
        lanes=cost.lanes,
        memory_cost=cost.memory_kib,
    )
    with _one_at_a_time:
        return derivation.derive(passphrase)


def generate_rsa_2048() -> bytes:
    """A new RSA-2048 pair as PKCS#8 DER."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_rsa_private(pkcs8: bytes) -> rsa.RSAPrivateKey:
    """The pair in PKCS#8 DER, or in PEM; FormatError if it is anything but RSA-2048."""
    load = (
        serialization.load_pem_private_key
        if pkcs8.startswith(b"-----")
        else serialization.load_der_private_key
    )
    try:
        key: PrivateKeyTypes = load(pkcs8, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FormatError("not an unencrypted private key") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 2048:
        raise FormatError("not an RSA key of 2048 bits")
    return key


def load_sealed_rsa_private(der: bytes) -> rsa.RSAPrivateKey:
    """A pair that was found right before it was sealed, in PKCS#8 DER.

    What comes out of a seal is what went in. To prove its primes again would take 99 % of the time.
    """
    key = serialization.load_der_private_key(
        der, password=None, unsafe_skip_rsa_key_validation=True
    )
    if not isinstance(key, rsa.RSAPrivateKey):
        raise FormatError("not an RSA key")
    return key


def rsa_private_der(key: rsa.RSAPrivateKey) -> bytes:
    """The pair as PKCS#8 DER."""
    return key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def rsa_public_der(key: rsa.RSAPrivateKey) -> bytes:
    """The public half as SubjectPublicKeyInfo DER."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def public_pem(der: bytes) -> str:
    """SubjectPublicKeyInfo DER as PEM text."""
    return (
        load_rsa_public(der)
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii")
    )


def load_rsa_public(data: bytes) -> rsa.RSAPublicKey:
    """The RSA-2048 public key in SubjectPublicKeyInfo DER or PEM; FormatError otherwise."""
    load = (
        serialization.load_pem_public_key
        if data.startswith(b"-----")
        else serialization.load_der_public_key
    )
    try:
        key = load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise FormatError("not a public key") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != 2048:
        raise FormatError("not an RSA key of 2048 bits")
    return key


def _oaep(algorithm: OaepAlgorithm) -> padding.OAEP:
    hash_ = hashes.SHA1 if algorithm is OaepAlgorithm.SHA_1 else hashes.SHA256
    return padding.OAEP(mgf=padding.MGF1(hash_()), algorithm=hash_(), label=None)


def oaep_encrypt(public: rsa.RSAPublicKey, algorithm: OaepAlgorithm, data: bytes) -> bytes:
    """RSA-OAEP: 256 bytes. FormatError where `data` is too long (214 or 190 bytes at most)."""
    try:
        return public.encrypt(data, _oaep(algorithm))
    except ValueError:
        raise FormatError(f"{len(data)} bytes are too many for {algorithm}") from None


def oaep_decrypt(private: rsa.RSAPrivateKey, algorithm: OaepAlgorithm, data: bytes) -> bytes:
    """Open RSA-OAEP; DecryptFailed, the same for every cause, where it does not open."""
    try:
        return private.decrypt(data, _oaep(algorithm))
    except ValueError:
        raise DecryptFailed("the ciphertext does not open") from None
