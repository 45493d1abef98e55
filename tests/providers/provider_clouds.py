"""Both providers behind one small face, public samples, and ways to spoil a blob."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from kmslab import Key, KeySpec, Lab, ManualClock, ReEncryptResult
from kmslab.model import CTYUN, TENCENT, KeyOrigin, PublicKey
from kmslab.providers.base import ReEncrypted
from kmslab.providers.ctyun.service import CtyunKms
from kmslab.providers.tencent.service import TencentKms

ROOT = Path(__file__).parents[2]
START = datetime(2026, 1, 1, 4, tzinfo=UTC)
CONTEXT = '{"app":"订单"}'
UNKNOWN_ID = "00000000-0000-4000-8000-00000000dead"
SYMMETRIC = (KeySpec.AES_256, KeySpec.SM4)
BOTH = (TENCENT, CTYUN)
SHA_1, SHA_256 = "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"
MOST_OAEP_BYTES = {SHA_1: 214, SHA_256: 190}

# The documents' own samples (seeds 000 and 004, reference/ctyun-guide.md 4, tencent.md 5).
TENCENT_SEED_INPUT = "Ade234dasdeEWdGVzdCUyMHBsYWlJJlIHL"
TENCENT_SEED_OUTPUT = (
    "g2F8eQk44QrTbfj09TL17AZyFPgs8BTtZe2j27Wuw1YzTBCxnd0T/gwFQSasmtzxZi6mmvD7DCjCE+LxJmdhXQ==-k-"
    "zJshb0kBH7C2J5I3XXbbEg==-k-o1O+7H9HFAzWbCkftO2ZtPKewS3diSB4zGKOJhMn7LcKRhYr"
)
TENCENT_CLOUD_NO_CONTEXT = (
    "KoFmB5Ro70M6wfNJe1xlzriwwyn4Ypj6cjXNUbhbEE7+cAtl4ym/EIj3aAzK0Sa6GKgPzyor+zC7bUhRyB5eeQ==-k-"
    "fKVP3WIlGpg8m9LMW4jEkQ==-k-yMhT0yaoSueIApZePMxwBZ0y6EjfaKdxvvPhk9LT1ldmhb+Z"
)
CTYUN_SEED_INPUT = (
    "ODZhOWVmZDktM2QxNi00ODk0LWJkNGYtMWZjNDNmM2YyYWJmS7FmDBBQ0BkKsQrtRnidtPwirmDcS0ZuJCU41x"
)
CTYUN_SEED_OUTPUT = "itIb4kN84JKrbv8P5ZTZJyn3cbu0SLvblB5/csedLEchgF5ijFx9nEc5Y0DpzWba"
CTYUN_CLOUD = (
    "MDA2NE1qUXhaV1JsTWpJdE5qSTJNUzAwTmpFM0xUbGpZV1l0TVRCa09EazVPVEExTVRaakpqUTVaV00zTm1RM0xXTmpO"
    "R010TkRBd1pTMDVaakU1TFdZNU1EQXhOVGczWVdVd1pnPT3oCYiGAy7mNTLitIlJaQ92"
)
CTYUN_CLOUD_KEY = "241ede22-6261-4617-9caf-10d89990516c"
CTYUN_CLOUD_VERSION = "49ec76d7-cc4c-400e-9f19-f9001587ae0f"

# Pairs made once; making one takes a fifth of a second.
PAIRS = tuple((ROOT / "sample_data" / "inputs" / f"unsafe-rsa-{n}.pem").read_text() for n in (1, 2))


class Cloud:
    """One provider of one lab. What both providers' calls share is called the same way."""

    def __init__(self, lab: Lab, clock: ManualClock, provider: str, folder: Path) -> None:
        self.lab = lab
        self.clock = clock
        self.provider = provider
        self.kms: Any = self.open()
        self._folder = folder
        self._made = 0

    @property
    def tencent(self) -> bool:
        return self.provider == TENCENT

    def open(self, **options: Any) -> Any:
        """Another handle on the provider: region=, credential=, rate_limit=."""
        return self.lab.tencent(**options) if self.tencent else self.lab.ctyun(**options)

    def action(self, name: str) -> str:
        """`reEncrypt` as the provider spells it."""
        return name[0].upper() + name[1:] if self.tencent else name

    def create(self, spec: KeySpec = KeySpec.AES_256, *, alias: str = "", kms: Any = None) -> Key:
        self._made += 1
        kms = kms or self.kms
        return kms.create_key(alias=alias or f"key-{self._made}", spec=spec)

    def pair(self, versions: int = 1, state: str = "enabled") -> Key:
        """A seeded RSA_2048 key of one version or two."""
        self._made += 1
        key_id = f"00000000-0000-4000-8000-{self._made:012d}"
        item = seed_key(self.provider, key_id, PAIRS[:versions], spec="RSA_2048", state=state)
        self.lab.seed(seed_file(self._folder / f"pair-{self._made}.yaml", item))
        return self.kms.describe_key(key_id)

    def public_key(self, key: Key, version: int = 0) -> PublicKey:
        if self.tencent:
            return self.kms.get_public_key(key.key_id)
        return self.kms.get_public_key(key.key_id, key.versions[version].version_id)

    def re_encrypt(self, blob: str, to: str | None = None, *, kms: Any = None) -> ReEncryptResult:
        """Without `to`: to the blob's own key."""
        kms = kms or self.kms
        if isinstance(kms, TencentKms):
            return kms.re_encrypt(blob, destination_key_id=to)
        assert isinstance(kms, CtyunKms)
        own = kms.named_in(blob)["cmkUuid"] or UNKNOWN_ID
        return kms.re_encrypt(blob, destination_key_id=own if to is None else to)

    def re_encrypt_many(
        self,
        blobs: Sequence[str],
        to: Sequence[str] | str,
        *,
        verify: bool = False,
        kms: Any = None,
    ) -> ReEncrypted:
        kms = kms or self.kms
        return kms.re_encrypt_many(blobs, destination_key_ids=to, verify=verify)

    def schedule_deletion(self, key_id: str, days: int = 7) -> Key:
        """Disabled first, as one of the two demands."""
        self.kms.disable_key(key_id)
        return self.kms.schedule_key_deletion(key_id, days)


def seed_key(
    provider: str, key_id: str, materials: Sequence[str], *, spec: str = "AES_256", **fields: Any
) -> dict[str, Any]:
    """A key of a seed file; version n of key ...i has the id ...i with n in the fourth group."""
    return {
        "provider": provider,
        "key_id": key_id,
        "spec": spec,
        "created_at": "2024-01-01T00:00:00Z",
        "versions": [
            {
                "version_id": f"{key_id[:19]}{number:04d}{key_id[23:]}",
                "made_at": f"2024-0{number}-01T00:00:00Z",
                "material": material,
            }
            for number, material in enumerate(materials, 1)
        ],
        **fields,
    }


def seed_file(path: Path, *keys: Mapping[str, Any]) -> Path:
    """A seed file; JSON is YAML, and written faster."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"format": "kmslab-seed-1", "keys": list(keys)}))
    return path


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# Envelopes


def code(envelope: Mapping[str, Any]) -> str:
    """The code of an envelope of either provider; "" for success."""
    if "Response" in envelope:
        return str(envelope["Response"].get("Error", {}).get("Code", ""))
    return str(envelope["errorCode"] or "")


def short(envelope: Mapping[str, Any]) -> str:
    """The last part of the code, "ok" for success."""
    return code(envelope).rpartition(".")[2] or "ok"


def response(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """What a Tencent call answered, which is no error."""
    assert "Error" not in envelope["Response"], envelope
    return dict(envelope["Response"])


def data(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """What a CTyun call answered, which is no error."""
    assert envelope["code"] == "200", envelope
    return dict(envelope["data"] or {})


def is_json(value: object) -> bool:
    return bool(json.loads(json.dumps(value)) == value)


# Spoiled blobs


def flipped(blob: str) -> Iterator[str]:
    """The blob with each single bit of its bytes changed, spelled canonically again."""
    segments = [unb64(segment) for segment in blob.split("-k-")]
    for number, segment in enumerate(segments):
        for bit in range(len(segment) * 8):
            changed = bytearray(segment)
            changed[bit // 8] ^= 1 << bit % 8
            yield "-k-".join(
                b64(bytes(changed) if n == number else s) for n, s in enumerate(segments)
            )


def repaired(blob: str) -> str:
    """A Tencent blob with its CRC made right."""
    s1, s2, s3 = blob.split("-k-")
    body = unb64(s3)[:-4]
    return "-k-".join((s1, s2, b64(body + zlib.crc32(body).to_bytes(4, "little"))))


def cut(blob: str) -> Iterator[str]:
    """The blob without its last characters, or its first, as many as there are."""
    for size in range(len(blob)):
        yield blob[:size]
        yield blob[size + 1 :]


# openssl


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    """What openssl writes; the test skips, naming the package, where there is none."""
    if which("openssl") is None:
        reason = "openssl is not here: install the package openssl"
        if os.environ.get("KMSLAB_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True)
    return done.stdout


def openssl_encrypt(
    pem: str, plaintext: bytes, folder: Path, *, digest: str = "sha256", mgf1: str | None = None
) -> str:
    """Public-key ciphertext made outside, in base64."""
    key = folder / "public.pem"
    key.write_text(pem)
    options = ["rsa_padding_mode:oaep", f"rsa_oaep_md:{digest}", f"rsa_mgf1_md:{mgf1 or digest}"]
    flags = [part for option in options for part in ("-pkeyopt", option)]
    return b64(
        openssl("pkeyutl", "-encrypt", "-pubin", "-inkey", str(key), *flags, stdin=plaintext)
    )


def external_key(cloud: Cloud, material: bytes = bytes(range(32)), **options: Any) -> Key:
    """An external Tencent key with its material."""
    cloud._made += 1
    key = cloud.kms.create_key(f"external-{cloud._made}", origin=KeyOrigin.EXTERNAL)
    import_material(cloud, key.key_id, material, **options)
    return cloud.kms.describe_key(key.key_id)


def import_material(cloud: Cloud, key_id: str, material: bytes, **options: Any) -> Key:
    from kmslab.crypto import load_rsa_public, oaep_encrypt
    from kmslab.model import OaepAlgorithm

    given = cloud.kms.get_parameters_for_import(key_id)
    public = load_rsa_public(given.public_key_der)
    wrapped = b64(oaep_encrypt(public, OaepAlgorithm.SHA_256, material))
    return cloud.kms.import_key_material(key_id, wrapped, given.import_token, **options)
