"""Profiles and credentials: where they come from, what is refused, and that none is shown."""

from __future__ import annotations

import builtins
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmslab import connect
from kmslab.errors import ProfileError
from kmslab.profiles import Profile, access_of, profile_path, read_profile
from kmslab.remotes import Remotes
from kmslab.secret import Secret

HIDDEN = "unmistakable-secret-of-a-profile"
PROD = f"""
[prod]
provider = "tencent"
region = "ap-guangzhou"
account = "100012345678"
rate = 20
secret_id = "AKIDexample"
secret_key = "{HIDDEN}"

[pay]
provider = "ctyun"
region = "60a39fca"
endpoint = "kms.ctyun.test"
"""
TENCENT = {"TENCENTCLOUD_SECRET_ID": "id", "TENCENTCLOUD_SECRET_KEY": HIDDEN}
CTYUN = {"CTYUN_AK": "id", "CTYUN_SK": HIDDEN}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A profile file as it should be."""
    path = tmp_path / "profiles.toml"
    path.touch(mode=0o600)
    path.write_text(PROD, encoding="utf-8")
    return path


def test_what_a_profile_says(path: Path) -> None:
    access = access_of(read_profile("prod", path), {})
    assert (access.provider, access.region, access.account, access.rate) == (
        "tencent",
        "ap-guangzhou",
        "100012345678",
        20.0,
    )
    assert (str(access.endpoint), access.secret_id) == (
        "https://kms.tencentcloudapi.com",
        "AKIDexample",
    )
    assert access.secret_key == Secret(HIDDEN.encode())
    assert HIDDEN not in repr(access) + repr(read_profile("prod", path))
    assert "AKIDexample" not in repr(access)


def test_what_is_given_goes_before_the_profile(path: Path) -> None:
    with connect(profile="prod", region="ap-beijing", rate=7) as kms:
        assert (kms.region, kms.rate, kms.account) == ("ap-beijing", 7.0, "100012345678")
    with pytest.raises(ProfileError, match="CTYUN_AK and CTYUN_SK"):
        connect(profile="pay")


def test_a_profile_without_a_credential_takes_the_environments(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (TENCENT | CTYUN).items():
        monkeypatch.setenv(name, value)
    with Remotes.of_profiles(["prod", "pay"], rate=3) as remotes:
        assert remotes.providers() == ("tencent", "ctyun")
        assert [remotes.kms(name).capabilities.rate for name in remotes.providers()] == [3.0, 3.0]
        assert HIDDEN not in repr(remotes)


@pytest.mark.parametrize(
    ("profile", "environment", "token", "region"),
    [
        (Profile("tencent", "here"), TENCENT, None, "here"),
        (Profile("tencent"), {**TENCENT, "TENCENTCLOUD_REGION": "r"}, None, "r"),
        (Profile("tencent", "r"), {**TENCENT, "TENCENTCLOUD_TOKEN": "t"}, "t", "r"),
        (Profile("tencent", "r"), {**TENCENT, "TENCENTCLOUD_SECURITY_TOKEN": "t"}, "t", "r"),
        (Profile("ctyun", endpoint="a.b"), {**CTYUN, "CTYUN_REGION_ID": "r"}, None, "r"),
        # A token of the environment belongs to the credential of the environment.
        (
            Profile("tencent", "r", secret_id="own", secret_key=Secret(b"own")),
            {**TENCENT, "TENCENTCLOUD_TOKEN": "t"},
            None,
            "r",
        ),
    ],
)
def test_the_variables_of_the_vendors_tools(
    profile: Profile, environment: Mapping[str, str], token: str | None, region: str
) -> None:
    access = access_of(profile, environment)
    assert access.region == region
    assert access.token == (None if token is None else Secret(token.encode()))
    assert access.secret_id == (profile.secret_id or "id")


@pytest.mark.parametrize(
    ("profile", "environment", "said"),
    [
        (Profile(), TENCENT, "which provider"),
        (Profile("aws"), TENCENT, "which provider"),
        (Profile("tencent", "r"), {}, "TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY"),
        (Profile("tencent", "r"), CTYUN, "no credential for tencent"),
        (Profile("tencent", "r", secret_id="id"), TENCENT, "both of them"),
        (Profile("tencent"), TENCENT, "TENCENTCLOUD_REGION"),
        (Profile("ctyun", "r"), CTYUN, "documents no host"),
        (Profile("tencent", "a b"), TENCENT, "the region holds white space"),
        (Profile("tencent", "r\n"), TENCENT, "the region holds white space"),
        (
            Profile("tencent", "r"),
            {**TENCENT, "TENCENTCLOUD_SECRET_ID": f"{HIDDEN}\n"},
            "the secret id holds",
        ),
        (Profile("tencent", "r"), {**TENCENT, "TENCENTCLOUD_TOKEN": f"密{HIDDEN}"}, "the token"),
        (Profile("tencent", "r", rate=0), TENCENT, "more than 0 calls a second"),
        (Profile("tencent", "r", rate=float("inf")), TENCENT, "more than 0 calls a second"),
        (Profile("tencent", "r", rate=10**400), TENCENT, "more than 0 calls a second, not inf"),
        (Profile("tencent", "r", token=Secret(HIDDEN.encode())), TENCENT, "a token belongs to"),
        (Profile("tencent", "r", endpoint="http://kms.test"), TENCENT, "give an https endpoint"),
        (Profile("tencent", "r", endpoint=f"https://u:{HIDDEN}@x"), TENCENT, "nothing more"),
    ],
)
def test_what_is_missing_or_wrong_is_said(
    profile: Profile, environment: Mapping[str, str], said: str
) -> None:
    with pytest.raises(ProfileError, match=said) as caught:
        access_of(profile, environment)
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[other]\n", r"has no profile prod; it has other"),
        ("x = 1\n", r"it has none"),
        (f'[prod]\nsecret_key = "{HIDDEN}"\nsecret = "x"\n', "there is no setting secret"),
        (f'[prod]\nsecret_key = ["{HIDDEN}"]\n', "secret_key is a text"),
        ('[prod]\nprovider = ""\n', "provider is a text"),
        ('[prod]\nrate = "20"\n', "rate is a number"),
        ("[prod]\nrate = true\n", "rate is a number"),
        (f'[prod\nsecret_key = "{HIDDEN}"\n', "is not TOML"),
        (f"[prod]\nrate = {'1' * 5_000}\n", "is not TOML"),
        (f"[prod]\nrate = {'[' * 100_000}\n", "is not TOML"),
    ],
)
def test_what_no_profile_file_may_hold(path: Path, text: str, said: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=said) as caught:
        read_profile("prod", path)
    assert HIDDEN not in str(caught.value)


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file_is_a_profile_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(ProfileError):
        read_profile("prod", path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(ProfileError, match="chmod 600"):
        read_profile("prod", path)


def test_what_is_no_file_of_ones_own(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        read_profile("prod", tmp_path / "nowhere.toml")
    with pytest.raises(ProfileError):
        read_profile("prod", tmp_path)
    os.mkfifo(tmp_path / "pipe", mode=0o600)
    with pytest.raises(ProfileError, match="not a file"):
        read_profile("prod", tmp_path / "pipe")
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ProfileError, match="too long"):
        read_profile("prod", path)


def test_where_the_file_is() -> None:
    assert profile_path({"KMSLAB_PROFILES": "/somewhere/p.toml"}) == Path("/somewhere/p.toml")
    assert profile_path({}).parts[-2:] == ("kmslab", "profiles.toml")


@pytest.mark.parametrize(("provider", "missing"), [("tencent", "tencentcloud"), ("ctyun", "httpx")])
def test_a_missing_extra_is_named(
    provider: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (TENCENT | CTYUN).items():
        monkeypatch.setenv(name, value)
    usual = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=missing)
        return usual(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ProfileError, match=rf"{missing} is not installed.*kmslab\[remote\]"):
        connect(provider, region="r", endpoint="kms.test")


def test_to_import_it_loads_no_client() -> None:
    """`import kmslab` is quick, and so is `connect` before it is called."""
    import subprocess
    import sys

    code = (
        "import sys; from kmslab import connect; assert callable(connect);"
        "import kmslab; assert callable(kmslab.connect);"
        "print(sorted({'httpx', 'tencentcloud', 'requests', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
