"""Exit codes are an API, and so is where things are said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run

from kmslab.errors import (
    LabBusy,
    LabError,
    LabUncertain,
    LabUnreachable,
    TamperedLab,
    Throttled,
)
from kmslab.lab import Lab
from kmslab.providers.tencent.service import TencentKms

REFUSED = [
    ("key", "show", "nothing"),
    ("key", "disable", "nothing"),
    ("key", "schedule-deletion", "orders"),
    ("key", "schedule-deletion", "pay", "--days", "3"),
    ("key", "cancel-deletion", "orders"),
    ("key", "rotation", "orders", "--days", "3"),
    ("key", "archive", "pay"),
    ("key", "alias", "orders", "no good"),
    ("key", "create", "--provider", "tencent"),
    ("key", "create", "--provider", "tencent", "--alias", "orders"),
    ("key", "create", "--provider", "ctyun", "--external"),
    ("key", "create", "--provider", "ctyun", "--rotation-days", "3"),
    ("key", "create", "--provider", "tencent", "--alias", "a", "--rotation-days", "3"),
    ("key", "public-key", "orders"),
    ("key", "import-material", "orders", "-"),
    ("key", "import-material", "pay", "-"),
    ("encrypt", "nothing"),
    ("encrypt", "orders"),
    ("encrypt", "pay", "--context", '{"app":"orders"}'),
    ("decrypt", "nothing"),
    ("decrypt", "nothing", "--provider", "tencent"),
    ("decrypt", "a21z", "--key", "pay"),
    ("decrypt", "a21z", "--key", "pay", "--algorithm", "RSAES_OAEP_SHA_256"),
    ("decrypt", "a21z", "--key", "orders", "--algorithm", "RSAES_OAEP_SHA_256"),
    ("re-encrypt", "nothing"),
    ("re-encrypt", "nothing", "--provider", "ctyun", "--to", "pay"),
    ("re-encrypt", "nothing", "--provider", "ctyun"),
    ("re-encrypt", "nothing", "--provider", "tencent", "--to", "nothing"),
    ("data-key", "orders", "--bytes", "1025"),
    ("call", "tencent", "ReEncrypt"),
    ("call", "ctyun", "reEncrypt"),
    ("call", "tencent", "NoSuchAction"),
    ("credential", "create", "ci", "--right", "Decrypt:nothing"),
]

USAGE = [
    (),
    ("nothing",),
    ("key",),
    ("key", "nothing"),
    ("key", "create"),
    ("key", "create", "--provider", "nothing"),
    ("key", "list", "--nothing"),
    ("key", "show"),
    ("key", "show", "orders", "--lab", "nowhere"),
    ("key", "show", "orders", "--root-key", "nowhere"),
    ("key", "show", "orders", "--root-key", "nowhere", "--passphrase"),
    ("key", "show", "orders", "--passphrase"),
    ("key", "show", "orders", "--expect-generation", "1000"),
    ("key", "list", "--audit", "nothing"),
    ("key", "rotation", "orders"),
    ("key", "rotation", "orders", "--off", "--days", "90"),
    ("key", "import-material", "orders", "nowhere"),
    ("key", "import-material", "orders", "-", "--valid-to", "tomorrow"),
    ("lab", "init", "lab"),
    ("lab", "set", "balance"),
    ("lab", "set", "nothing=1"),
    ("lab", "set", "balance=much"),
    ("lab", "seed", "nowhere"),
    ("lab", "fault"),
    ("lab", "fault", "ReEncrypt"),
    ("lab", "fault", "ReEncrypt", "NoSuchCode"),
    ("lab", "fault", "ReEncrypt", "InternalError", "--count", "0"),
    ("lab", "fault", "--list", "--clear"),
    ("lab", "export", "bundle"),
    ("lab", "import", "nowhere"),
    ("encrypt", "orders", "--in", "nowhere"),
    ("encrypt", "orders", "--in", "."),
    ("encrypt", "orders", "--context", "{"),
    ("encrypt", "orders", "--context", '{"a":1}'),
    ("decrypt", "-"),
    ("decrypt", "nothing", "--context", "[]"),
    ("re-encrypt", "-"),
    ("re-encrypt", "nothing", "--keep-context", "--destination-context", "{}"),
    ("data-key", "orders", "--out", "file", "--without-plaintext"),
    ("inspect", "-"),
    ("call", "nothing", "ReEncrypt"),
    ("call", "tencent", "ReEncrypt", "{"),
    ("call", "tencent", "ReEncrypt", "[]"),
    ("call", "tencent", "ReEncrypt", "[" * 100_000),
    ("call", "tencent", "ReEncrypt", "9" * 5000),
    ("call", "tencent", "ReEncrypt", "-"),
    ("call", "tencent", "ReEncrypt", "--credential", "nobody"),
    ("call", "ctyun", "reEncrypt", "--language", "en-US"),
    ("audit", "show", "--last", "0"),
    ("credential", "create", "no good"),
    ("credential", "create", "ci", "--right", "no good"),
    ("credential", "revoke", "nobody"),
    ("census", "nowhere.csv"),
    ("census", "."),
    ("census", "records.csv", "--context-template", "{"),
]


@pytest.mark.parametrize("args", REFUSED, ids=" ".join)
def test_what_is_refused_exits_with_1(run: Run, args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 1
    if args[0] != "call":
        assert result.stdout == ""
        assert result.stderr.count("refused: ") == 1


@pytest.mark.parametrize("args", USAGE, ids=lambda args: " ".join(args)[:60])
def test_wrong_usage_and_configuration_exit_with_2(run: Run, args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("args", [("info",), ("fault", "--list")], ids=" ".join)
def test_a_command_without_a_lab_says_how_to_name_one(bare_run: Run, args: tuple[str, ...]) -> None:
    result = bare_run("lab", *args)
    assert result.exit_code == 2
    assert "--lab" in result.stderr
    assert "KMSLAB_LAB" in result.stderr


def test_what_may_pass_exits_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("lab", "fault", "Encrypt", "InternalError")
    result = run("encrypt", "orders", stdin=b"secret")
    assert result.exit_code == 3
    assert result.stderr.startswith("refused, try again: InternalError: ")
    assert run("encrypt", "orders", stdin=b"secret").exit_code == 0

    def throttled(*_: object, **__: object) -> str:
        raise Throttled("too many calls")

    monkeypatch.setattr(TencentKms, "encrypt", throttled)
    result = run("encrypt", "orders", stdin=b"secret")
    assert result.exit_code == 3
    assert "RequestLimitExceeded" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(LabBusy, 3), (LabUnreachable, 3), (LabUncertain, 2), (TamperedLab, 2)]
)
def test_a_lab_that_may_answer_later_exits_with_3(
    run: Run, error: type[LabError], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may have been made is not to be tried again unseen."""

    def fails(*_: object, **__: object) -> str:
        raise error("./lab: this is why")

    monkeypatch.setattr(TencentKms, "encrypt", fails)
    result = run("encrypt", "orders", stdin=b"secret")
    assert (result.exit_code, result.stderr) == (code, "error: ./lab: this is why\n")


def test_a_retryable_error_in_an_envelope_exits_with_1(run: Run) -> None:
    run("lab", "fault", "ListKeys", "InternalError")
    result = run("call", "tencent", "ListKeys")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["Response"]["Error"]["Code"] == "InternalError"
    assert len(result.stderr.splitlines()) == 1


def test_an_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Lab, "keys", interrupted)
    result = run("key", "list")
    assert result.exit_code == 130
    assert result.output == ""


def test_an_unexpected_error_shows_nothing_of_its_values(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        secret = b"canary"
        raise ValueError(secret)

    monkeypatch.setattr(Lab, "keys", broken)
    result = run("key", "list")
    assert result.exit_code == 70
    assert "canary" not in result.output
    assert len(result.stderr.splitlines()) == 1
    assert "ValueError" in result.stderr
    assert "KMSLAB_TRACEBACK=1" in result.stderr

    result = run("key", "list", KMSLAB_TRACEBACK="1")
    assert result.exit_code == 70
    assert "Traceback" in result.stderr
    assert "in broken" in result.stderr
    assert "secret = " not in result.stderr

    result = run("key", "list", "--json")
    assert json.loads(result.stderr)["error"]["code"] == "ValueError"


def test_a_refusal_has_the_code_the_request_and_an_explanation(run: Run) -> None:
    blob = run("encrypt", "orders", "--context", '{"app":"orders"}', stdin=b"secret").stdout.strip()
    result = run("decrypt", blob)
    first, second = result.stderr.splitlines()
    assert first.startswith("refused: InvalidParameterValue.InvalidCiphertext: ")
    assert "(request " in first
    assert "needs a context" in second

    result = run("re-encrypt", blob, "--source-context", '{"app":"other"}', "--json")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, result.stdout) == (1, "")
    assert error["code"] == "InvalidParameterValue.InvalidCiphertext"
    assert len(error["request_id"]) == 36
    assert "the context is wrong" in error["explanation"]


@pytest.mark.parametrize("key", ["orders", "pay"])
def test_a_refusal_that_says_why_has_no_explanation(run: Run, key: str) -> None:
    blob = run("encrypt", key, stdin=b"secret").stdout.strip()
    run("key", "disable", key)
    for args in (["decrypt", blob], ["re-encrypt", blob, "--to", key]):
        result = run(*args)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert json.loads(run(*args, "--json").stderr)["error"]["explanation"] is None


def test_a_tencent_key_without_an_alias_is_told_of_the_option(run: Run) -> None:
    assert "--alias" in run("key", "create", "--provider", "tencent").stderr


def test_an_error_in_json_leaves_stdout_empty(run: Run) -> None:
    result = run("key", "show", "nothing", "--json")
    assert result.stdout == ""
    assert json.loads(result.stderr)["error"]["code"] == "KeyNotFound"
    result = run("key", "list", "--json", "--lab", "nowhere")
    error = json.loads(result.stderr)["error"]
    assert list(error) == ["code", "message", "request_id", "explanation", "campaign"]
    assert error["code"] == "LabNotFound"
    assert [error[name] for name in ("request_id", "explanation", "campaign")] == [None] * 3


def test_a_lab_that_others_can_read_is_refused(run: Run, lab_path: Path) -> None:
    lab_path.chmod(0o755)
    result = run("key", "list")
    assert result.exit_code == 2
    assert "chmod" in result.stderr


def test_what_an_error_quotes_cannot_control_the_terminal(run: Run) -> None:
    result = run("key", "show", "\x1b[31mred")
    assert "\x1b" not in result.stderr
    assert "\\x1b[31mred" in result.stderr
