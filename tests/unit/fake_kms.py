"""The half of a Kms that tells of keys and versions, which is all that analysis asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kmslab.errors import KeyNotFound
from kmslab.model import (
    CTYUN,
    TENCENT,
    BlobFormat,
    Key,
    KeyOrigin,
    KeySpec,
    KeyState,
    KeyVersion,
    UnverifiedHeader,
)
from kmslab.providers.base import UNKNOWN, Capabilities, Unknown
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.tencent import blob as tencent

START = datetime(2024, 1, 1, tzinfo=UTC)


def uuid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def make_key(
    number: int,
    provider: str = TENCENT,
    *,
    versions: int = 1,
    spec: KeySpec = KeySpec.AES_256,
    state: KeyState = KeyState.ENABLED,
) -> Key:
    """A key whose version `n` has the id `version_id(number, n)`; the last one is primary."""
    made = tuple(
        KeyVersion(version_id(number, n), n, START + timedelta(days=30 * n))
        for n in range(1, versions + 1)
    )
    return Key(
        key_id=uuid(number),
        provider=provider,
        region="here",
        spec=spec,
        origin=KeyOrigin.KMS,
        state=state,
        alias=f"key-{number}",
        description="",
        created_at=START,
        versions=made,
        primary_version_id=made[-1].version_id if spec.symmetric else None,
    )


def version_id(key: int, version: int) -> str:
    return uuid(key * 1000 + version)


def without_material(key: Key, version: int) -> Key:
    """The key with one version whose material is gone."""
    return replace(
        key,
        versions=tuple(replace(each, has_material=each.number != version) for each in key.versions),
    )


def tencent_blob(
    key: int, version: int = 1, plaintext: bytes = b"secret", context: str = "", iv: int = 0
) -> str:
    cipher = tencent.VersionCipher(uuid(key), version_id(key, version), KeySpec.AES_256, bytes(32))
    return cipher.seal(plaintext, context, iv.to_bytes(16, "big"))


def ctyun_blob(key: int, version: int = 1, plaintext: bytes = b"secret", iv: int = 0) -> str:
    cipher = ctyun.VersionCipher(uuid(key), version_id(key, version), KeySpec.AES_256, bytes(32))
    return cipher.seal(plaintext, iv.to_bytes(12, "big"))


class FakeKms:
    """Answers what analysis asks, and counts it in `asked`. It has no material, and opens nothing.

    With `tells=False` it is a remote that knows its keys and does not tell versions; otherwise it
    is a lab, which knows no version of a cloud's own blob.
    """

    def __init__(self, provider: str, keys: Iterable[Key], *, tells: bool = True) -> None:
        self.provider = provider
        self.region = "here"
        self.keys = {key.key_id: key for key in keys}
        self.tells = tells
        self.asked: Counter[str] = Counter()
        self.capabilities = Capabilities(
            versions=tells,
            contexts=provider == TENCENT,
            public_key_source=provider == CTYUN,
            authenticate=tells,
        )

    def describe_key(self, key_id: str) -> Key:
        self.asked["describe_key"] += 1
        if key_id not in self.keys:
            raise KeyNotFound("no such key")
        return self.keys[key_id]

    def list_keys(self) -> tuple[Key, ...]:
        return tuple(self.keys.values())

    def versions(self, key_id: str) -> tuple[KeyVersion, ...] | Unknown:
        self.asked["versions"] += 1
        return self.describe_key(key_id).versions if self.tells else UNKNOWN

    def version_of(self, header: UnverifiedHeader) -> KeyVersion | Unknown:
        self.asked["version_of"] += 1
        if not self.tells:
            return UNKNOWN
        if header.format is BlobFormat.LAB:
            for version in self.describe_key(header.key_id or "").versions:
                if version.version_id == header.key_version_id:
                    return version
        raise KeyNotFound("no such version")


class FakeProviders:
    """Some Kms, by their providers' names."""

    def __init__(self, *kms: FakeKms) -> None:
        self._kms = {each.provider: each for each in kms}

    def providers(self) -> tuple[str, ...]:
        return tuple(self._kms)

    def kms(self, provider: str) -> FakeKms:
        return self._kms[provider]


def lab(*keys: Key) -> FakeProviders:
    """Both local providers, with these keys."""
    return FakeProviders(
        FakeKms(TENCENT, [key for key in keys if key.provider == TENCENT]),
        FakeKms(CTYUN, [key for key in keys if key.provider == CTYUN]),
    )


def remote(*keys: Key) -> FakeProviders:
    """Both clouds, with these keys."""
    return FakeProviders(
        FakeKms(TENCENT, [key for key in keys if key.provider == TENCENT], tells=False),
        FakeKms(CTYUN, [key for key in keys if key.provider == CTYUN], tells=False),
    )
