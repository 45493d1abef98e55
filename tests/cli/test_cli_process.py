"""The command line as a process: what it imports, pipes, terminals, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import at_terminal

from kmslab.lab import Lab

HEAVY = {"pandas", "textual", "sqlalchemy", "cryptography", "rich", "numpy", "pyarrow", "yaml"}

KMSLAB = [sys.executable, "-m", "kmslab"]


def kmslab(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*KMSLAB, *args], input=stdin, capture_output=True, timeout=60, start_new_session=True
    )


@pytest.mark.parametrize("statement", ["import kmslab.cli", "import kmslab.cli.app"])
def test_the_command_line_imports_nothing_heavy(statement: str) -> None:
    code = f"{statement}; import sys, json; print(json.dumps(list(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    # Typer needs pydantic for the value of an option, and not before.
    assert not loaded & (HEAVY | {"pydantic"})


@pytest.mark.parametrize(
    "args", [["--help"], ["key", "--help"], ["campaign", "run", "-h"]], ids=" ".join
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys, atexit; from kmslab.cli import main\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['kmslab', *{args}]; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.startswith(b"Usage: kmslab")
    loaded = {name.split(".")[0] for name in result.stderr.decode().split()}
    assert not loaded & HEAVY


def test_a_day_in_pipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KMSLAB_LAB", "lab")
    assert kmslab("lab", "init", "lab").stdout == b""
    key = kmslab("key", "create", "--provider", "tencent", "--alias", "orders").stdout.decode()
    blob = kmslab("encrypt", key.strip(), stdin=b"\x00\xff\n").stdout
    assert kmslab("decrypt", "-", stdin=blob).stdout == b"\x00\xff\n"
    result = kmslab("decrypt", "-", stdin=blob[:-2])
    assert (result.returncode, result.stdout) == (1, b"")


def test_a_reader_that_goes_away_is_no_error() -> None:
    lines = b"nothing\n" * 20_000
    process = subprocess.Popen(
        [*KMSLAB, "inspect", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    with process:
        try:
            process.stdin.write(lines)
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_is_told_in_one_line() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = subprocess.run(
            [*KMSLAB, "inspect", "nothing"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode == 2
    assert result.stderr.decode().splitlines() == ["error: No space left on device"]


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_may_be_closed(closed: str) -> None:
    line = f'"{sys.executable}" -m kmslab inspect - {closed}'
    result = subprocess.run(["sh", "-c", line], input=b"x\n", capture_output=True, check=False)
    assert result.returncode == (2 if closed == "<&-" else 0)
    assert b"Traceback" not in result.stderr


def test_ctrl_c_exits_with_130() -> None:
    process = subprocess.Popen(
        [*KMSLAB, "inspect", "-", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # What a shell has started in the background ignores it, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        # Its first answer shows that it is at work.
        process.stdin.write(b"nothing\n" * 2000)
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 130


def test_passphrases_are_typed_unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = b"correct horse"
    code, screen = at_terminal(["lab", "init", "lab", "--passphrase"], [secret, secret])
    assert code == 0
    assert screen.count("Passphrase of the lab") == 2
    assert "correct" not in screen
    code, _ = at_terminal(["key", "list", "--lab", "lab", "--passphrase"], [secret])
    assert code == 0
    code, screen = at_terminal(["key", "list", "--lab", "lab", "--passphrase"], [b"wrong"])
    assert code == 2
    assert "wrong" not in screen
    code, screen = at_terminal(["lab", "init", "two", "--passphrase"], [secret, b"other"])
    assert code == 2
    assert not (tmp_path / "two").exists()


def test_a_terminal_is_told_what_is_waited_for(lab: Lab, lab_path: Path) -> None:
    args = ["encrypt", "orders", "--lab", str(lab_path)]
    code, screen = at_terminal(
        args, [b"secret\x04\x04"], prompt=b"Ctrl-D (twice within a line)\r\n"
    )
    assert code == 0
    assert "reading the plaintext from the terminal; end with Ctrl-D" in screen
    blob = screen.split()[-1].removeprefix("secret")
    assert bytes(lab.tencent().decrypt(blob)) == b"secret"


@pytest.mark.parametrize(("plaintext", "warned"), [(b"\x00\x01", True), ("订单".encode(), False)])
def test_a_terminal_is_warned_of_bytes(
    lab: Lab, lab_path: Path, plaintext: bytes, warned: bool
) -> None:
    blob = lab.ctyun().encrypt("pay", plaintext)
    code, screen = at_terminal(["decrypt", blob, "--lab", str(lab_path)], [])
    assert code == 0
    assert ("warning: " in screen) is warned
