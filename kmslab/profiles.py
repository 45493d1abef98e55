"""Profiles: the remotes that a user has described in a file, and where credentials come from.

A profile file is TOML, for its owner alone (mode 0600), with a table for each profile:

    [prod]
    provider = "tencent"
    region = "ap-guangzhou"
    rate = 50

What a profile may hold stands in docs/remote.md. Credentials that it does not hold come from the
environment, from the variables that the vendors' own tools read. They are never shown.
"""

from __future__ import annotations

import math
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from kmslab.errors import ProfileError
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.remote import USUAL_RATE, Access, Endpoint
from kmslab.secret import Secret

FILE_VARIABLE: Final = "KMSLAB_PROFILES"
"""Names another profile file."""

_MOST_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Profile:
    """What is said of a remote so far: None is not said. It shows no credential."""

    provider: str | None = None
    region: str | None = None
    endpoint: str | None = None
    account: str | None = None
    rate: float | None = None
    secret_id: str | None = field(default=None, repr=False)
    secret_key: Secret | None = field(default=None, repr=False)
    token: Secret | None = field(default=None, repr=False)

    def over(self, other: Profile) -> Profile:
        """What this one says, and for the rest the other one.

        >>> Profile(rate=10).over(Profile("ctyun", rate=50)).rate
        10
        """
        said = {
            each.name: getattr(other if getattr(self, each.name) is None else self, each.name)
            for each in fields(self)
        }
        return Profile(**said)


@dataclass(frozen=True, slots=True)
class _Variables:
    """The environment variables that a vendor's tools read, of each kind the first that is set."""

    secret_id: tuple[str, ...]
    secret_key: tuple[str, ...]
    token: tuple[str, ...]
    region: tuple[str, ...]


# Tencent's: its SDK and tccli, and for the token its Terraform provider too. CTyun's: its Go SDK,
# its command line and its Terraform provider.
_VARIABLES: Final[Mapping[str, _Variables]] = {
    TENCENT: _Variables(
        ("TENCENTCLOUD_SECRET_ID",),
        ("TENCENTCLOUD_SECRET_KEY",),
        ("TENCENTCLOUD_TOKEN", "TENCENTCLOUD_SECURITY_TOKEN"),
        ("TENCENTCLOUD_REGION",),
    ),
    CTYUN: _Variables(("CTYUN_AK",), ("CTYUN_SK",), (), ("CTYUN_REGION_ID",)),
}

_USUAL_ENDPOINTS: Final = {TENCENT: "kms.tencentcloudapi.com"}
"""CTyun's page names no host, so that one is always given."""


def profile_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The profile file: what KMSLAB_PROFILES names, else `profiles.toml` among the user's
    configuration of kmslab (`~/.config/kmslab` on Linux)."""
    if named := environment.get(FILE_VARIABLE):
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("kmslab", appauthor=False) / "profiles.toml"


def read_profile(name: str, path: Path) -> Profile:
    """The profile of this name in a file.

    ProfileError where it is not there, where others may read the file, and for what a profile
    cannot hold. No value of the file is in a message.
    """
    try:
        tables = tomllib.loads(_private_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path} is not TOML: {error}") from None
    except (ValueError, RecursionError):  # a number or a nesting that has no end
        raise ProfileError(f"{path} is not TOML that can be read") from None
    table = tables.get(name)
    if not isinstance(table, dict):
        known = ", ".join(sorted(each for each in tables if isinstance(tables[each], dict)))
        raise ProfileError(f"{path} has no profile {name}; it has {known or 'none'}")
    return _profile(table, f"profile {name} in {path}")


def access_of(profile: Profile, environment: Mapping[str, str] = os.environ) -> Access:
    """Whom to call, as whom, how often: what a profile leaves open comes from the environment.

    ProfileError says what is missing, and where it is looked for.
    """
    provider = profile.provider or ""
    if provider not in _VARIABLES:
        raise ProfileError("a remote is of tencent or of ctyun: say which provider")
    variables = _VARIABLES[provider]
    own = profile.secret_id is not None or profile.secret_key is not None
    secret_id, secret_key, token = profile.secret_id, profile.secret_key, profile.token
    if not own:
        secret_id = _from(environment, variables.secret_id)
        secret_key = _secret(_from(environment, variables.secret_key))
        token = _secret(_from(environment, variables.token))
    if profile.token is not None and not own:
        raise ProfileError("a token belongs to a credential: write secret_id and secret_key too")
    if not secret_id or not secret_key:
        names = f"{variables.secret_id[0]} and {variables.secret_key[0]}"
        raise ProfileError(
            f"no credential for {provider}: set {names}, or write secret_id and "
            "secret_key into the profile, both of them"
        )
    region = profile.region or _from(environment, variables.region)
    if not region:
        raise ProfileError(f"say which region: region, or {variables.region[0]}")
    endpoint = profile.endpoint or _USUAL_ENDPOINTS.get(provider)
    if not endpoint:
        raise ProfileError(f"say which endpoint: {provider} documents no host")
    _check_header(region, "the region")
    _check_header(secret_id, "the secret id")
    if token is not None:
        _check_header(token.expose().decode("utf-8"), "the token")
    return Access(
        provider=provider,
        region=region,
        endpoint=Endpoint.parse(endpoint),
        secret_id=secret_id,
        secret_key=secret_key,
        token=token,
        account=profile.account,
        rate=_rate(USUAL_RATE if profile.rate is None else profile.rate),
    )


def _private_text(path: Path) -> str:
    """The text of a file that nobody else may read."""
    try:
        # Without O_NONBLOCK a pipe would be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
                raise ProfileError(f"{path} is not a file of your own")
            if found.st_mode & 0o077:
                raise ProfileError(f"{path} can be read by others: chmod 600 {path}")
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ProfileError(f"{path}: no profiles can be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise ProfileError(f"{path} is too long for a profile file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ProfileError(f"{path} is not UTF-8") from None


def _profile(table: Mapping[str, Any], where: str) -> Profile:
    known = [each.name for each in fields(Profile)]
    for name, value in table.items():
        if name not in known:
            raise ProfileError(f"{where}: there is no setting {name}; there are {', '.join(known)}")
        kinds: tuple[type, ...] = (int, float) if name == "rate" else (str,)
        if isinstance(value, bool) or not isinstance(value, kinds) or value == "":
            raise ProfileError(f"{where}: {name} is a {'number' if name == 'rate' else 'text'}")
    hidden = {name: _secret(table.get(name)) for name in ("secret_key", "token")}
    return Profile(**{**table, **hidden})


def _from(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _secret(text: str | None) -> Secret | None:
    return None if not text else Secret(text.encode("utf-8"))


def _check_header(text: str, what: str) -> None:
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 8_192:
        raise ProfileError(f"{what} holds white space or something else that no header can hold")


def _rate(rate: float) -> float:
    try:
        found = float(rate)
    except OverflowError:  # a whole number of hundreds of digits
        found = math.inf
    if not (found > 0 and math.isfinite(found)):
        raise ProfileError(f"a rate is more than 0 calls a second, not {found:g}")
    return found
