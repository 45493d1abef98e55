"""A lab with a key of every kind, in every state, with blobs; and bundles made by hand."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from kmslab import Lab
from kmslab.errors import KmsError
from kmslab.model import Key, KeyOrigin, KeySpec, KeyState, OaepAlgorithm

PLAIN = b"plain"
OAEP = OaepAlgorithm.SHA_256
_PADDING = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
IMPORTED = bytes(range(32))


def with_every_kind(lab: Lab) -> dict[str, list[str]]:
    """Make keys of both providers, of all specs, with past versions, in all states but deleted.

    Gives the blobs that were made under each, oldest version first.
    """
    blobs: dict[str, list[str]] = {}
    tencent, ctyun = lab.tencent(), lab.ctyun()
    for spec in (KeySpec.AES_256, KeySpec.SM4):
        for state in ("enabled", "disabled", "archived", "pending-deletion"):
            key_id = tencent.create_key(f"{spec}-{state}", spec=spec, description="注释").key_id
            tencent.enable_key_rotation(key_id, rotate_days=90)
            blobs[key_id] = []
            for version in range(3):
                if version:
                    lab.rotate(key_id)
                blobs[key_id].append(tencent.encrypt(key_id, PLAIN, context={"app": "orders"}))
            if state == "archived":
                tencent.archive_key(key_id)
            elif state != "enabled":
                tencent.disable_key(key_id)
            if state == "pending-deletion":
                tencent.schedule_key_deletion(key_id, 7)
        for state in ("enabled", "disabled", "pending-deletion"):
            key_id = ctyun.create_key(alias=f"{spec}-{state}", spec=spec, rotation_days=30).key_id
            blobs[key_id] = [ctyun.encrypt(key_id, PLAIN)]
            lab.rotate(key_id)
            blobs[key_id].append(ctyun.encrypt(key_id, PLAIN))
            if state == "disabled":
                ctyun.disable_key(key_id)
            elif state == "pending-deletion":
                ctyun.schedule_key_deletion(key_id, 30)
    pair = tencent.create_key("pair", spec=KeySpec.RSA_2048).key_id
    public = serialization.load_pem_public_key(tencent.get_public_key(pair).pem.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    blobs[pair] = [b64encode(public.encrypt(PLAIN, _PADDING)).decode()]
    pair = ctyun.create_key(spec=KeySpec.RSA_2048).key_id
    ctyun.create_key_version(pair)
    blobs[pair] = [
        ctyun.asymmetric_encrypt(pair, version.version_id, OAEP, PLAIN)
        for version in ctyun.versions(pair)
    ]
    tencent.create_key("awaiting", origin=KeyOrigin.EXTERNAL)
    imported = tencent.create_key("imported", origin=KeyOrigin.EXTERNAL).key_id
    import_material(lab, imported)
    blobs[imported] = [tencent.encrypt(imported, PLAIN, context={"app": "orders"})]
    return blobs


def import_material(lab: Lab, key_id: str, material: bytes = IMPORTED, days: int = 365) -> None:
    """Give an external key its material, for so many days from when it was made."""
    kms = lab.tencent()
    given = kms.get_parameters_for_import(key_id, wrapping_algorithm=OAEP)
    public = serialization.load_der_public_key(given.public_key_der)
    assert isinstance(public, rsa.RSAPublicKey)
    wrapped = b64encode(public.encrypt(material, _PADDING)).decode()
    until = lab.key(key_id).created_at + timedelta(days=days)
    kms.import_key_material(key_id, wrapped, given.import_token, valid_to=until)


def opened(lab: Lab, key: Key, blobs: list[str]) -> list[bytes | str]:
    """What each blob of a key gives, or the name of the error; opened in its own way."""
    found: list[bytes | str] = []
    for blob, version in zip(blobs, key.versions, strict=False):
        try:
            found.append(bytes(_open(lab, key, blob, version.version_id)))
        except KmsError as error:
            found.append(type(error).__name__)
    return found


def _open(lab: Lab, key: Key, blob: str, version_id: str) -> bytes:
    tencent, ctyun = lab.tencent(), lab.ctyun()
    if key.provider == "tencent":
        if key.spec.symmetric:
            return tencent.decrypt(blob, context={"app": "orders"})
        return tencent.asymmetric_rsa_decrypt(key.key_id, blob, OAEP)
    if key.spec.symmetric:
        return ctyun.decrypt(blob)
    return ctyun.asymmetric_decrypt(key.key_id, version_id, OAEP, blob)


def opens_in(state: KeyState) -> bool:
    """Whether blobs of a key in this state open."""
    return state in (KeyState.ENABLED, KeyState.ARCHIVED)


# A bundle is `KMSLAB-BUNDLE-1 LF`, one line of JSON, and AES-256-GCM of the content. What follows
# is written from that sentence, with a cost that a test can pay a thousand times.

CHEAP = {"iterations": 1, "lanes": 1, "memory_kib": 8}
SALT = bytes(range(16))
NONCE = bytes(range(12))
MAGIC = b"KMSLAB-BUNDLE-1"


def header(cost: object = None, salt: bytes = SALT, nonce: bytes = NONCE) -> bytes:
    """The line of JSON."""
    found = {"argon2id": cost or CHEAP, "nonce": b64encode(nonce), "salt": b64encode(salt)}
    return json.dumps(found, default=bytes.decode).encode()


def write_bundle(path: Path, passphrase: str, content: bytes, line: bytes | None = None) -> Path:
    """A bundle with this content."""
    head = MAGIC + b"\n" + (header() if line is None else line) + b"\n"
    sealed = _cipher(passphrase, CHEAP, SALT).encrypt(NONCE, content, head)
    path.write_bytes(head + sealed)
    return path


def read_bundle(path: Path, passphrase: str) -> dict[str, Any]:
    """The content of a bundle."""
    magic, line, sealed = path.read_bytes().split(b"\n", 2)
    assert magic == MAGIC
    found = json.loads(line)
    assert found.keys() == {"argon2id", "salt", "nonce"}
    cipher = _cipher(passphrase, found["argon2id"], b64decode(found["salt"]))
    content = cipher.decrypt(b64decode(found["nonce"]), sealed, magic + b"\n" + line + b"\n")
    read: dict[str, Any] = json.loads(content)
    return read


def _cipher(passphrase: str, cost: dict[str, int], salt: bytes) -> AESGCM:
    made = Argon2id(
        salt=salt,
        length=32,
        iterations=cost["iterations"],
        lanes=cost["lanes"],
        memory_cost=cost["memory_kib"],
    )
    return AESGCM(made.derive(passphrase.encode()))
