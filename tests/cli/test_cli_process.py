"""The command line as a process: what it imports, pipes, terminals, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from command_line import Warm

from kmslab.lab import Lab

HEAVY = {"pandas", "textual", "sqlalchemy", "cryptography", "rich", "numpy", "pyarrow", "yaml"}

KMSLAB = [sys.executable, "-m", "kmslab"]
CHEAP = """
from functools import partial
from kmslab.keystore import root
root.Argon2Parameters = partial(root.Argon2Parameters, iterations=1, lanes=1, memory_kib=8)
"""


def test_the_command_line_and_its_help_import_nothing_heavy() -> None:
    code = (
        "import sys, kmslab.cli.app\n"
        "print(*sys.modules, file=sys.stderr)\n"
        "for args in ([], ['key'], ['campaign', 'run']):\n"
        "    sys.argv = ['kmslab', *args, '-h']\n"
        "    try: kmslab.cli.main()\n"
        "    except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.count(b"Usage: kmslab") == 3
    at_first, at_last = (
        {name.partition(".")[0] for name in line.split()}
        for line in result.stderr.decode().splitlines()
    )
    # Typer needs pydantic for the value of an option, and not before.
    assert not at_first & (HEAVY | {"pydantic"})
    assert not at_last & HEAVY


@pytest.mark.scale
def test_a_day_in_pipes(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bytes go in and out, Python is started anew, with nothing loaded beforehand."""
    monkeypatch.setenv("KMSLAB_LAB", "lab")
    assert warm.run("lab", "init", "lab").stdout == b""
    key = warm.run("key", "create", "--provider", "tencent", "--alias", "orders").stdout.decode()
    run = partial(subprocess.run, capture_output=True, start_new_session=True, timeout=60)
    blob = run([*KMSLAB, "encrypt", key.strip()], input=b"\x00\xff\n").stdout
    assert run([*KMSLAB, "decrypt", "-"], input=blob).stdout == b"\x00\xff\n"
    result = warm.run("decrypt", "-", stdin=blob[:-2])
    assert (result.returncode, result.stdout) == (1, b"")


def test_a_reader_that_goes_away_is_no_error(warm: Warm) -> None:
    read, write = os.pipe()
    os.close(read)
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(b"nothing\n" * 20_000)
        given.seek(0)
        command = warm.start(["inspect", "-", "--json"], given.fileno(), write, said.fileno())
        os.close(write)
        assert command.wait() == 141
        said.seek(0)
        assert said.read() == b""


def test_a_full_disk_is_told_in_one_line(warm: Warm) -> None:
    with open("/dev/full", "wb") as full, tempfile.TemporaryFile() as said:  # noqa: PTH123
        assert warm.start(["inspect", "nothing"], None, full.fileno(), said.fileno()).wait() == 2
        said.seek(0)
        assert said.read().decode().splitlines() == ["error: No space left on device"]


@pytest.mark.parametrize("closed", range(3))
def test_a_stream_may_be_closed(warm: Warm, closed: int) -> None:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(b"x\n")
        given.seek(0)
        streams = [given.fileno(), said.fileno(), said.fileno()]
        streams[closed] = None
        code = warm.start(["inspect", "-"], *streams).wait()
        said.seek(0)
        assert code == (2 if closed == 0 else 0)
        assert b"Traceback" not in said.read()


def test_ctrl_c_exits_with_130(warm: Warm) -> None:
    given, typed = os.pipe()
    read, write = os.pipe()
    command = warm.start(["inspect", "-", "--json"], given, write, write)
    os.close(given)
    os.close(write)
    # Its first answer shows that it is at work.
    os.write(typed, b"nothing\n" * 2000)
    with open(read, "rb") as answers:  # noqa: PTH123
        answers.readline()
        os.kill(command.pid, signal.SIGINT)
        answers.read()
    assert command.wait() == 130
    os.close(typed)


def test_passphrases_are_typed_unseen(warm: Warm, tmp_path: Path) -> None:
    run = partial(warm.at_terminal, before=CHEAP)
    secret = b"correct horse"
    code, screen = run(["lab", "init", "lab", "--passphrase"], [secret, secret])
    assert code == 0
    assert screen.count("Passphrase of the lab") == 2
    assert "correct" not in screen
    code, _ = run(["key", "list", "--lab", "lab", "--passphrase"], [secret])
    assert code == 0
    code, screen = run(["key", "list", "--lab", "lab", "--passphrase"], [b"wrong"])
    assert code == 2
    assert "wrong" not in screen
    code, screen = run(["lab", "init", "two", "--passphrase"], [secret, b"other"])
    assert code == 2
    assert not (tmp_path / "two").exists()


def test_a_terminal_is_told_what_is_waited_for(warm: Warm, lab: Lab, lab_path: Path) -> None:
    args = ["encrypt", "orders", "--lab", str(lab_path)]
    code, screen = warm.at_terminal(
        args, [b"secret\x04\x04"], prompt=b"Ctrl-D (twice within a line)\r\n"
    )
    assert code == 0
    assert "reading the plaintext from the terminal; end with Ctrl-D" in screen
    blob = screen.split()[-1].removeprefix("secret")
    assert bytes(lab.tencent().decrypt(blob)) == b"secret"


@pytest.mark.parametrize(("plaintext", "warned"), [(b"\x00\x01", True), ("订单".encode(), False)])
def test_a_terminal_is_warned_of_bytes(
    warm: Warm, lab: Lab, lab_path: Path, plaintext: bytes, warned: bool
) -> None:
    blob = lab.ctyun().encrypt("pay", plaintext)
    code, screen = warm.at_terminal(["decrypt", blob, "--lab", str(lab_path)], [])
    assert code == 0
    assert ("warning: " in screen) is warned
