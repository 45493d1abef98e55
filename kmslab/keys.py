"""What every front end does with keys: what they are called, and what the two providers do each in
their own way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kmslab.errors import KmslabError, LabUncertain, MissingParameter, Unsupported

if TYPE_CHECKING:
    from kmslab.lab import Lab
    from kmslab.model import Key, KeySpec
    from kmslab.providers.ctyun.service import CtyunKms
    from kmslab.providers.tencent.service import TencentKms

    LabKms: TypeAlias = TencentKms | CtyunKms


class Keyring(Protocol):
    """What has keys: a lab, or remotes."""

    def keys(self) -> tuple[Key, ...]:
        """Every key, oldest first."""
        ...


class Names:
    """The names of keys: an alias where that is enough, else the id.

    `aliases` are those of each key id; one that two keys have names neither.

    >>> names = Names({"5cd15c00": "orders", "9f1a2e7b": "", "098a921c": "orders"})
    >>> names("5cd15c00"), names(None)
    ('5cd15c00', None)
    """

    def __init__(self, aliases: Mapping[str, str]) -> None:
        times = Counter(aliases.values())
        self._aliases = {
            key: alias for key, alias in aliases.items() if alias and times[alias] == 1
        }

    @classmethod
    def of(cls, keyring: Keyring) -> Names:
        """The names of the keys of a lab, or of remotes: see `among`."""
        return cls.among(keyring.keys())

    @classmethod
    def among(cls, keys: Iterable[Key]) -> Names:
        """The names of all keys there are. A deleted key's is its alias where no other has it.

        What they answer of the other keys can be given to a command as KEY.
        """
        there: dict[str, str] = {}
        deleted: dict[str, str] = {}
        for key in keys:
            (deleted if key.state.value == "deleted" else there)[key.key_id] = key.alias
        taken = set(there.values())
        free = {key_id: alias for key_id, alias in deleted.items() if alias not in taken}
        return cls({**there, **free})

    def __call__(self, key_id: str | None) -> str | None:
        """The name of a key; an id that is not known stays an id."""
        return None if key_id is None else self._aliases.get(key_id, key_id)


def key_name(key: Key) -> str:
    """A key as people are told of it."""
    return f"key {key.key_id} ({key.alias})" if key.alias else f"key {key.key_id}"


def kms_in(
    lab: Lab,
    provider: str,
    region: str | None = None,
    *,
    credential: str | None = None,
    rate_limit: bool = False,
) -> LabKms:
    """The local KMS of a provider, in its usual region where none is named."""
    make = lab.tencent if provider == "tencent" else lab.ctyun
    if region is None:
        return make(credential=credential, rate_limit=rate_limit)
    return make(region=region, credential=credential, rate_limit=rate_limit)


def kms_of(lab: Lab, key: Key) -> LabKms:
    """The local KMS that a key is in."""
    return kms_in(lab, key.provider, key.region)


def create_key(
    kms: LabKms,
    alias: str,
    *,
    description: str,
    spec: KeySpec,
    rotation_days: int | None = None,
    external: bool = False,
    tell: Callable[[str], None],
) -> Key:
    """Make a key at its provider.

    Tencent Cloud has no call that makes a key and rotates it automatically too: where the second
    of the two fails, `tell` is told that the key is there all the same.
    """
    from kmslab.model import KeyOrigin
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        if external:
            raise Unsupported("CTyun imports no key material")
        return kms.create_key(
            spec=spec, alias=alias, description=description, rotation_days=rotation_days
        )
    if not alias:
        raise MissingParameter("a key of Tencent's needs an alias (--alias)", parameter="Alias")
    origin = KeyOrigin.EXTERNAL if external else KeyOrigin.KMS
    key = kms.create_key(alias, description=description, spec=spec, origin=origin)
    if rotation_days is None:
        return key
    try:
        return kms.enable_key_rotation(key.key_id, rotate_days=rotation_days)
    except KmslabError as error:
        but = "perhaps" if isinstance(error, LabUncertain) else "but"
        tell(f"created {key_name(key)}, {but} without automatic rotation")
        raise


def set_rotation(kms: LabKms, key_id: str, days: int | None) -> Key:
    """Turn automatic rotation on, every so many days, or off."""
    from kmslab.providers.ctyun.service import CtyunKms

    if isinstance(kms, CtyunKms):
        return kms.update_rotation_policy(key_id, rotation_days=days)
    if days is None:
        return kms.disable_key_rotation(key_id)
    return kms.enable_key_rotation(key_id, rotate_days=days)
