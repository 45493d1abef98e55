"""Neither plaintext nor key material is in a traceback that shows local variables."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from provider_clouds import PAIRS, Cloud, b64, seed_file, seed_key

from kmslab.crypto import load_rsa_public, oaep_encrypt
from kmslab.errors import EncryptionLimitReached, ImportTokenExpired, UnreadableMaterial
from kmslab.model import KeyOrigin, KeySpec, OaepAlgorithm
from kmslab.providers.ctyun.blob import VersionCipher as CtyunCipher
from kmslab.providers.tencent.blob import VersionCipher as TencentCipher

FULL = "00000000-0000-4000-8000-00000000ffff"
VERSION = "00000000-0000-4000-8000-00000001ffff"
CANARY = b"canary bytes, thirty-one of it!"


def raised(call: Callable[[], object], kind: type[BaseException]) -> BaseException:
    """The error of a call without the frames of the tests, which know the secrets."""
    with pytest.raises(kind) as caught:
        call()
    return caught.value


def shown(error: BaseException) -> str:
    """The traceback with the locals of every frame of kmslab and below, causes and all."""
    at = error.__traceback__
    while at is not None and "kmslab" not in at.tb_frame.f_globals.get("__name__", ""):
        at = at.tb_next
    assert at is not None
    found = traceback.TracebackException.from_exception(
        error.with_traceback(at), capture_locals=True
    )
    text = "".join(found.format())
    assert "self = " in text or "row = " in text or "spec = " in text  # locals are shown
    return text


def hidden(secret: bytes, text: str) -> bool:
    """Whether none of a secret's windows of 8 bytes is shown, as `repr` shows them, in hex or in
    base64."""
    windows = [secret[at : at + 8] for at in range(len(secret) - 7)]
    # Quotes are spelled as the bytes around them demand.
    plain = [repr(w)[2:-1] for w in windows if not set(w) & set(b"'\"\\")]
    assert plain
    return not any(each in text for each in [*plain, secret.hex(), b64(secret)[:-4]])


@pytest.fixture
def at_the_limit(cloud: Cloud, tmp_path: Path) -> str:
    """A blob of CANARY; FULL is a key that has made 2^32 ciphertexts."""
    item = seed_key(cloud.provider, FULL, [b64(bytes(32))])
    item["versions"][0]["encryptions"] = 2**32
    cloud.lab.seed(seed_file(tmp_path / "full.yaml", item))
    blob: str = cloud.kms.encrypt(cloud.create().key_id, CANARY)
    return blob


def test_a_re_encryption_at_the_limit(cloud: Cloud, at_the_limit: str) -> None:
    error = raised(lambda: cloud.re_encrypt(at_the_limit, FULL), EncryptionLimitReached)
    assert hidden(CANARY, shown(error))


def test_a_batch_at_the_limit(cloud: Cloud, at_the_limit: str) -> None:
    for verify in (False, True):
        done = cloud.re_encrypt_many([at_the_limit] * 3, FULL, verify=verify)
        for error in done.error:
            assert isinstance(error, EncryptionLimitReached)
            assert hidden(CANARY, shown(error))


def private_numbers() -> list[bytes]:
    """The secret numbers of the pairs that the tests' imports are wrapped with."""
    found = []
    for pem in PAIRS:
        numbers = load_pem_private_key(pem.encode(), None).private_numbers()  # type: ignore[union-attr]
        found += [n.to_bytes(128, "big") for n in (numbers.p, numbers.q)]  # type: ignore[union-attr]
        found.append(numbers.d.to_bytes(256, "big"))  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("case", ["token too old", "wrong length", "wrapped for another"])
def test_an_import_that_fails(tencent: Cloud, case: str) -> None:
    kms = tencent.kms
    key_id = kms.create_key("external", origin=KeyOrigin.EXTERNAL).key_id
    given = kms.get_parameters_for_import(key_id)
    public = load_rsa_public(given.public_key_der)
    size = 31 if case == "wrong length" else 32
    algorithm = OaepAlgorithm.SHA_1 if case == "wrapped for another" else OaepAlgorithm.SHA_256
    material = (CANARY + b"?")[:size]
    wrapped = b64(oaep_encrypt(public, algorithm, material))
    kind: type[Exception] = UnreadableMaterial
    if case == "token too old":
        tencent.clock.advance(timedelta(days=1, seconds=1))
        kind = ImportTokenExpired
    token = given.import_token
    text = shown(raised(lambda: kms.import_key_material(key_id, wrapped, token), kind))
    assert hidden(material, text)
    assert all(hidden(number, text) for number in private_numbers())


@pytest.mark.parametrize("cipher", [TencentCipher, CtyunCipher])
@pytest.mark.parametrize("spec", list(KeySpec))
def test_a_cipher_of_wrong_material(
    cipher: type[TencentCipher] | type[CtyunCipher], spec: KeySpec
) -> None:
    error = raised(lambda: cipher(FULL, VERSION, spec, CANARY), ValueError)
    assert "31 bytes" in str(error)
    assert hidden(CANARY, shown(error))
