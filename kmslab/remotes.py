"""Remote clouds: `connect` to one, and several of them as the `Providers` of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, TypeAlias, overload

from kmslab.clock import Clock, SystemClock
from kmslab.encoding import is_uuid
from kmslab.errors import KeyNotFound
from kmslab.model import TENCENT, Key
from kmslab.profiles import Profile, access_of, profile_path, read_profile
from kmslab.providers.base import Kms
from kmslab.providers.ctyun.remote import CtyunRemote
from kmslab.providers.routing import RoutedKms, find_key
from kmslab.providers.tencent.remote import TencentRemote
from kmslab.rate import OWN_WINDOWS, Windows

Remote: TypeAlias = TencentRemote | CtyunRemote


@overload
def connect(
    provider: Literal["tencent"],
    *,
    profile: str | None = ...,
    region: str | None = ...,
    endpoint: str | None = ...,
    account: str | None = ...,
    rate: float | None = ...,
    clock: Clock | None = ...,
    windows: Windows = ...,
) -> TencentRemote: ...
@overload
def connect(
    provider: Literal["ctyun"],
    *,
    profile: str | None = ...,
    region: str | None = ...,
    endpoint: str | None = ...,
    account: str | None = ...,
    rate: float | None = ...,
    clock: Clock | None = ...,
    windows: Windows = ...,
) -> CtyunRemote: ...
@overload
def connect(
    provider: str | None = ...,
    *,
    profile: str | None = ...,
    region: str | None = ...,
    endpoint: str | None = ...,
    account: str | None = ...,
    rate: float | None = ...,
    clock: Clock | None = ...,
    windows: Windows = ...,
) -> Remote: ...
def connect(
    provider: str | None = None,
    *,
    profile: str | None = None,
    region: str | None = None,
    endpoint: str | None = None,
    account: str | None = None,
    rate: float | None = None,
    clock: Clock | None = None,
    windows: Windows = OWN_WINDOWS,
) -> Remote:
    """The remote KMS of a cloud. Nothing is called before it is asked for something.

    `profile` names one of the profile file; what is given beside it goes before what it says.
    Credentials come from the profile, else from the environment: TENCENTCLOUD_SECRET_ID and
    TENCENTCLOUD_SECRET_KEY (TENCENTCLOUD_TOKEN with temporary ones), or CTYUN_AK and CTYUN_SK.
    `endpoint` is a host or a URL: Tencent Cloud's own unless it is given, and always needed for
    CTyun. `rate` is in calls a second, of all calls together: 50 unless it is given. Processes
    that call as the same caller keep it together where `windows` are the same
    `kmslab.leases.Leases`.

    ProfileError says what is missing, also where the extra `remote` is not installed.

    >>> connect("tencent", region="ap-guangzhou", rate=0)
    Traceback (most recent call last):
    ...
    kmslab.errors.ProfileError: ...
    """
    given = Profile(provider, region, endpoint, account, rate)
    said = Profile() if profile is None else read_profile(profile, profile_path())
    access = access_of(given.over(said))
    clock = clock or SystemClock()
    if access.provider == TENCENT:
        from kmslab.providers.tencent.link import SdkLink

        return TencentRemote(access, SdkLink(access), clock, windows)
    from kmslab.providers.ctyun.link import EopLink

    return CtyunRemote(access, EopLink(access, clock), clock, windows)


class Remotes:
    """Some remotes as the `Providers` that campaigns, analysis and frames take.

    Several of one provider are told apart by the region and account of each record: see
    `RoutedKms`; ProfileError where they have the same. Closing it closes them.
    """

    def __init__(self, remotes: Sequence[Remote]) -> None:
        self._remotes = tuple(remotes)
        self._profiles: Mapping[str, float] = {}
        names = dict.fromkeys(each.provider for each in self._remotes)
        self._kms: Mapping[str, RoutedKms] = {
            name: RoutedKms([each for each in self._remotes if each.provider == name])
            for name in names
        }

    @classmethod
    def of_profiles(
        cls, names: Sequence[str], *, rate: float | None = None, windows: Windows = OWN_WINDOWS
    ) -> Remotes:
        """The remotes of these profiles; `rate` goes before the rate of each, and is kept in
        `windows`: see `connect`."""
        made = cls([connect(profile=name, rate=rate, windows=windows) for name in names])
        rates = [each.capabilities.rate for each in made._remotes]
        made._profiles = {n: r for n, r in zip(names, rates, strict=True) if r is not None}
        return made

    @property
    def profiles(self) -> Mapping[str, float]:
        """The profiles that these are of, each with its rate in calls a second; none where they
        are not known."""
        return self._profiles

    def providers(self) -> tuple[str, ...]:
        """The names of the providers, in the order in which they were given."""
        return tuple(self._kms)

    def kms(self, provider: str) -> Kms:
        """The Kms of a provider; KeyError for a name that is not in `providers()`."""
        return self._kms[provider]

    def keys(self) -> tuple[Key, ...]:
        """Every key of all remotes that is not deleted, oldest first."""
        keys = [key for each in self._remotes for key in each.list_keys()]
        return tuple(sorted(keys, key=lambda key: (key.created_at, key.key_id)))

    def key(self, name: str) -> Key:
        """The key of this id, or of this alias where only one key has it; else KeyNotFound."""
        if is_uuid(name):
            return find_key(tuple(self._kms.values()), name)[0]
        found = [key for key in self.keys() if key.alias == name]
        if len(found) > 1:
            places = ", ".join(f"{key.key_id} ({key.provider} {key.region})" for key in found)
            raise KeyNotFound(f"the alias {name} is not unique: {places}; use the key id")
        if not found:
            raise KeyNotFound(f"the remote has no key with the alias {name}")
        return found[0]

    def epoch(self) -> int:
        """Always the same: that a key has changed is told by calls alone. See `Lab.epoch`."""
        return 0

    def close(self) -> None:
        """Close every remote."""
        for each in self._remotes:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Remotes({', '.join(map(repr, self._remotes))})"
