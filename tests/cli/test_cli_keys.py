"""kmslab key and kmslab lab, as they are used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import Run

from kmslab.errors import LabError, LabUncertain, LabUnreachable
from kmslab.keys import Names
from kmslab.lab import Lab
from kmslab.model import Key, KeyState
from kmslab.providers.tencent.service import TencentKms


def every_key(lab: Lab) -> tuple[Key, ...]:
    return lab.keys()


def test_create_prints_the_id_and_nothing_else(run: Run, lab: Lab) -> None:
    result = run("key", "create", "--provider", "ctyun", "--alias", "db", "--spec", "SM4")
    assert result.exit_code == 0
    key = lab.key(result.stdout.strip())
    assert (key.alias, key.provider, key.spec.value) == ("db", "ctyun", "SM4")
    assert "created key" in result.stderr


@pytest.mark.parametrize("provider", ["tencent", "ctyun"])
def test_create_takes_every_property(run: Run, provider: str) -> None:
    args = ["--provider", provider, "--alias", "db", "--description", "订单", "--region", "there"]
    result = run("key", "create", *args, "--rotation-days", "90", "--json")
    key = json.loads(result.stdout)
    assert result.stderr == ""
    assert (key["alias"], key["description"], key["region"]) == ("db", "订单", "there")
    assert key["rotation_days"] == 90
    assert key["state"] == "enabled"
    assert key["versions"][0]["version_id"] == key["primary_version_id"]


def test_a_key_whose_rotation_was_refused_is_told_of(run: Run, lab: Lab) -> None:
    result = run("key", "create", "--provider", "tencent", "--alias", "db", "--rotation-days", "3")
    assert result.exit_code == 1
    assert f"created key {lab.key('db').key_id}" in result.stderr


@pytest.mark.parametrize(("error", "but"), [(LabUnreachable, "but"), (LabUncertain, "perhaps")])
def test_a_key_whose_rotation_could_not_be_stored_is_told_of(
    run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch, error: type[LabError], but: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error("./lab: this is why")

    monkeypatch.setattr(TencentKms, "enable_key_rotation", fails)
    result = run("key", "create", "--provider", "tencent", "--alias", "db", "--rotation-days", "9")
    created, why = result.stderr.splitlines()
    assert created.startswith(f"created key {lab.key('db').key_id}")
    assert created.endswith(f", {but} without automatic rotation")
    assert why == "error: ./lab: this is why"


def test_list_shows_each_key(run: Run, lab: Lab) -> None:
    header, *rows = run("key", "list").stdout.splitlines()
    assert header.split() == ["KEY", "ALIAS", "PROVIDER", "SPEC", "STATE"]
    assert [row.split()[1] for row in rows] == ["orders", "pay"]
    assert [row.split()[0] for row in rows] == [key.key_id for key in every_key(lab)]
    assert len(run("key", "list", "--provider", "ctyun").stdout.splitlines()) == 2


def test_a_description_forges_no_row(run: Run) -> None:
    words = "first\nstate  deleted"
    run("key", "create", "--provider", "ctyun", "--alias", "db", "--description", words)
    shown = run("key", "show", "db").stdout
    assert r"first\nstate  deleted" in shown
    assert sum(line.startswith("state ") for line in shown.splitlines()) == 1
    assert json.loads(run("key", "show", "db", "--json").stdout)["description"] == words


def test_an_empty_list_is_said_on_stderr(bare_run: Run) -> None:
    bare_run("lab", "init", "empty")
    result = bare_run("key", "list", "--lab", "empty")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no keys" in result.stderr
    assert bare_run("key", "list", "--lab", "empty", "--json").stdout == "[]\n"


def test_show_and_versions(run: Run, lab: Lab) -> None:
    key = lab.key("orders")
    shown = run("key", "show", "orders").stdout
    assert key.key_id in shown
    assert "rotation        off" in shown
    found = json.loads(run("key", "versions", key.key_id, "--json").stdout)
    assert [version["version_id"] for version in found] == [key.primary_version_id]
    assert "MATERIAL" not in run("key", "versions", "orders").stdout


def test_rotate_prints_the_new_version(run: Run, lab: Lab) -> None:
    result = run("key", "rotate", "orders")
    assert result.stdout.strip() == lab.key("orders").primary_version_id
    assert "version 2" in result.stderr
    assert len(json.loads(run("key", "rotate", "orders", "--json").stdout)["versions"]) == 3


@pytest.mark.parametrize(
    ("args", "state"),
    [
        (("disable", "orders"), KeyState.DISABLED),
        (("enable", "orders"), KeyState.ENABLED),
        (("archive", "orders"), KeyState.ARCHIVED),
        (("archive", "orders", "--cancel"), KeyState.ENABLED),
        (("schedule-deletion", "orders", "--days", "7"), KeyState.PENDING_DELETION),
        (("cancel-deletion", "orders"), KeyState.DISABLED),
        (("schedule-deletion", "pay"), KeyState.PENDING_DELETION),
        (("cancel-deletion", "pay"), KeyState.ENABLED),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_states(run: Run, lab: Lab, args: tuple[str, ...], state: KeyState) -> None:
    # Each from the state that it needs.
    before = {"enable": "disable", "archive": "archive", "schedule-deletion": "disable"}
    if args[0] in before and (args[0] != "archive" or "--cancel" in args):
        run("key", before[args[0]], args[1])
    if args[0] == "cancel-deletion":
        run("key", "disable", args[1])
        run("key", "schedule-deletion", args[1])
    result = run("key", *args)
    assert (result.exit_code, result.stdout) == (0, "")
    assert state.value in result.stderr
    assert lab.key(args[1]).state is state


@pytest.mark.parametrize("key", ["orders", "pay"])
def test_rotation_and_alias(run: Run, lab: Lab, key: str) -> None:
    assert "every 90 days" in run("key", "rotation", key, "--days", "90").stderr
    assert lab.key(key).rotation_days == 90
    assert (
        json.loads(run("key", "rotation", key, "--off", "--json").stdout)["rotation_days"] is None
    )
    run("key", "alias", key, "other")
    assert lab.key("other").rotation_days is None


def test_import_material(run: Run, lab: Lab, tmp_path: Path) -> None:
    run("key", "create", "--provider", "tencent", "--alias", "own", "--external")
    assert "none" in run("key", "versions", "own").stdout
    material = tmp_path / "material"
    material.write_bytes(bytes(32))
    until = "2100-01-01T00:00:00Z"
    result = run("key", "import-material", "own", str(material), "--valid-to", until)
    assert result.exit_code == 0
    key = lab.key("own")
    assert key.state is KeyState.ENABLED
    assert key.material_expires_at is not None
    assert key.material_expires_at.year == 2100
    assert run("key", "import-material", "own", "-", stdin=bytes(32)).exit_code == 0
    for wrong in (b"short", bytes(500)):
        result = run("key", "import-material", "own", "-", stdin=wrong)
        assert result.exit_code == 1
        assert "DecryptMaterialError" in result.stderr
    assert run("key", "import-material", "own", "-", stdin=bytes(31) + b"1").exit_code == 1


@pytest.mark.parametrize("provider", ["tencent", "ctyun"])
def test_public_key(run: Run, lab: Lab, provider: str) -> None:
    run("key", "create", "--provider", provider, "--alias", "pair", "--spec", "RSA_2048")
    pem = run("key", "public-key", "pair").stdout
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert pem.endswith("-----END PUBLIC KEY-----\n")
    found = json.loads(run("key", "public-key", "pair", "--json").stdout)
    assert found["pem"] == pem
    version = lab.key("pair").versions[0].version_id
    assert found["key_version_id"] == version
    result = run("key", "public-key", "pair", "--version", version)
    assert result.exit_code == (0 if provider == "ctyun" else 1)


def test_a_lab_is_made_shown_and_set(bare_run: Run, tmp_path: Path) -> None:
    result = bare_run("lab", "init", "new")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "KMSLAB_LAB" in result.stderr
    assert (tmp_path / "new" / "root.key").stat().st_mode & 0o777 == 0o600
    info = json.loads(bare_run("lab", "info", "--lab", "new", "--json").stdout)
    assert info["settings"] == {"balance": 100, "cmk_uuid": "destination"}
    assert info["unsafe"] is False
    result = bare_run("lab", "set", "cmk_uuid=source", "--lab", "new", "--json")
    assert json.loads(result.stdout)["cmk_uuid"] == "source"
    shown = bare_run("lab", "info", "--lab", "new").stdout
    assert "setting cmk_uuid  source" in shown
    assert "generation" in shown


def test_options_of_the_lab_may_stand_before_the_command(bare_run: Run, tmp_path: Path) -> None:
    key = str(tmp_path / "elsewhere.key")
    assert bare_run("--root-key", key, "lab", "init", "new").exit_code == 0
    assert bare_run("--lab", "new", "--root-key", key, "--json", "key", "list").stdout == "[]\n"
    assert bare_run("--lab", "new", "key", "list", KMSLAB_ROOT_KEY=key).exit_code == 0
    assert bare_run("--lab", "new", "key", "list").exit_code == 2


def test_the_command_line_goes_before_the_environment(bare_run: Run) -> None:
    bare_run("lab", "init", "one")
    bare_run("lab", "init", "two")
    for args, name in (
        (["lab", "info", "--lab", "two"], "two"),
        (["--lab", "two", "lab", "info"], "two"),
        (["lab", "info"], "one"),
    ):
        info = json.loads(bare_run(*args, "--json", KMSLAB_LAB="one").stdout)
        assert Path(info["path"]).name == name


def test_a_lab_under_a_passphrase(bare_run: Run, tmp_path: Path) -> None:
    secret = {"KMSLAB_PASSPHRASE": "correct horse"}
    assert "under a passphrase" in bare_run("lab", "init", "new", **secret).stderr
    assert not (tmp_path / "new" / "root.key").exists()
    for args in ((), ("--passphrase",)):
        assert bare_run("key", "list", "--lab", "new", *args, **secret).exit_code == 0
    result = bare_run("lab", "rekey", "--lab", "new", KMSLAB_NEW_PASSPHRASE="staple", **secret)
    assert result.exit_code == 0
    assert bare_run("key", "list", "--lab", "new", **secret).exit_code == 2
    result = bare_run("key", "list", "--lab", "new", KMSLAB_PASSPHRASE="staple")
    assert result.exit_code == 0
    assert bare_run("key", "list", "--lab", "new").exit_code == 2


def test_rekey_of_a_root_key(run: Run, lab_path: Path) -> None:
    before = (lab_path / "root.key").read_text()
    assert run("lab", "rekey").exit_code == 0
    assert (lab_path / "root.key").read_text() != before
    assert run("key", "list").exit_code == 0


def test_a_bundle_goes_from_lab_to_lab(run: Run, lab: Lab, tmp_path: Path) -> None:
    blob = run("encrypt", "orders", stdin=b"secret").stdout.strip()
    secret = {"KMSLAB_BUNDLE_PASSPHRASE": "correct horse"}
    result = run("lab", "export", "bundle", "--json", **secret)
    assert json.loads(result.stdout) == {"file": "bundle", "keys": 2}
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o600
    assert run("lab", "export", "bundle", **secret).exit_code == 2
    run("lab", "init", "other")
    wrong = {"KMSLAB_BUNDLE_PASSPHRASE": "wrong"}
    assert run("lab", "import", "bundle", "--lab", "other", **wrong).exit_code == 2
    result = run("lab", "import", "bundle", "--lab", "other", **secret)
    assert set(result.stdout.split()) == {key.key_id for key in every_key(lab)}
    again = json.loads(run("lab", "import", "bundle", "--lab", "other", "--json", **secret).stdout)
    assert (len(again["imported"]), len(again["kept"]), again["refused"]) == (0, 2, [])
    assert run("decrypt", blob, "--lab", "other").stdout == "secret"


def test_a_seed_marks_the_lab_unsafe(run: Run, tmp_path: Path) -> None:
    key_id = "23e80852-1e38-11e9-b129-5cb9019b4b01"
    (tmp_path / "keys.yaml").write_text(
        f"""format: kmslab-seed-1
keys:
  - provider: tencent
    key_id: {key_id}
    created_at: 2024-01-01T00:00:00Z
    versions:
      - version_id: 6f1e3c1e-1111-4111-8111-000000000001
        made_at: 2024-01-01T00:00:00Z
        material: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
"""
    )
    result = run("lab", "seed", "keys.yaml")
    assert result.stdout == f"{key_id}\n"
    assert result.stderr == "1 key added; the lab is marked unsafe\n"
    assert json.loads(run("lab", "seed", "keys.yaml", "--json").stdout) == {"added": []}
    assert "unsafe            yes" in run("lab", "info").stdout


def test_faults(run: Run) -> None:
    result = run("lab", "fault", "ReEncrypt", "LimitExceeded", "--count", "3")
    assert "3 calls will fail" in result.stderr
    _, row = run("lab", "fault", "--list").stdout.splitlines()
    assert row.split() == ["ReEncrypt", "LimitExceeded", "3"]
    assert json.loads(run("lab", "fault", "--list", "--json").stdout) == [
        {"action": "ReEncrypt", "code": "LimitExceeded", "count": 3}
    ]
    assert "0 calls" in run("lab", "fault", "--clear").stderr
    assert run("lab", "fault", "--list").stdout == ""


def test_deleted_keys_are_left_out_aloud(
    run: Run, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [replace(key, state=KeyState.DELETED) for key in every_key(lab)]
    monkeypatch.setattr(Lab, "keys", lambda _: tuple(keys))
    result = run("key", "list", "--json")
    assert result.stdout == "[]\n"
    assert "2 deleted keys are not listed" in result.stderr
    assert len(json.loads(run("key", "list", "--all", "--json").stdout)) == 2


def test_a_deleted_key_has_its_alias_where_no_other_has_it(lab: Lab) -> None:
    one, two = every_key(lab)
    gone = replace(one, key_id="gone", state=KeyState.DELETED)

    def names(*keys: Key) -> list[str | None]:
        named = Names.of(SimpleNamespace(keys=lambda: keys))  # type: ignore[arg-type]
        return [named(key.key_id) for key in keys]

    assert names(two, gone) == ["pay", "orders"]
    assert names(one, gone) == ["orders", "gone"]
    other = replace(gone, key_id="other")
    assert names(gone, other) == ["gone", "other"]


def test_an_older_lab_is_refused(run: Run) -> None:
    generation = json.loads(run("lab", "info", "--json").stdout)["generation"]
    assert run("key", "list", "--expect-generation", str(generation)).exit_code == 0
    result = run("key", "list", "--expect-generation", str(generation + 1))
    assert result.exit_code == 2
    assert "was expected" in result.stderr
