"""`kmslab serve`: ready, pointed at, and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import IO

import pytest
from command_line import Command, Run, Warm
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kmslab.lab import Lab


@dataclass(frozen=True, slots=True)
class Server:
    """`kmslab serve` at work: the first line that it said, and where the rest is."""

    command: Command
    ready: str
    out: IO[str]
    said: IO[str]
    watchdog: threading.Timer

    def stop(self, how: signal.Signals) -> tuple[int, str, str]:
        """Stop it: its exit code, what else it said on stdout, and all of its stderr."""
        os.kill(self.command.pid, how)
        out, code = self.out.read(), self.command.wait()
        self.watchdog.cancel()
        self.said.seek(0)
        return code, out, self.said.read()


@pytest.fixture
def running(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    """`kmslab serve` on a free port, ended after a while whatever happens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as ends:

        def run(*options: str) -> Server:
            said = ends.enter_context(tempfile.TemporaryFile("w+"))
            read, write = os.pipe()
            out = ends.enter_context(open(read))  # noqa: PTH123
            args = ["serve", "--port", "0", *options]
            command = warm.start(args, None, write, said.fileno())
            os.close(write)
            watchdog = threading.Timer(120, os.kill, [command.pid, signal.SIGKILL])
            watchdog.start()
            ends.callback(watchdog.cancel)
            return Server(command, out.readline(), out, said, watchdog)

        yield run


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_lines_of_the_demo_run_as_they_are(
    running: Callable[..., Server],
    stop: signal.Signals,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = running("--demo", "--json")
    told = json.loads(server.ready)
    tencent, ctyun = told["clients"].values()
    names: dict[str, object] = {}
    exec("\n".join([*tencent, *ctyun]), names)
    exec("keys = client.call_json('ListKeys', {})['Response']['TotalCount']", names)
    assert names["keys"]
    assert "'totalCount': " in capsys.readouterr().out
    ended, out, err = server.stop(stop)
    assert (ended, out) == (code, "")
    assert "Traceback" not in err
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [event["action"] for event in events] == ["listKeys", "ListKeys"]
    assert not Path(told["lab"]).exists()


def test_a_named_lab_is_served_and_left_whole(
    running: Callable[..., Server], lab_path: Path
) -> None:
    """The credential of the demo is gone with the server, and the audit log has its end."""
    server = running("--demo", "--lab", str(lab_path), "--quiet")
    assert server.ready.startswith(f"serving {lab_path} on http://127.0.0.1:")
    assert server.stop(signal.SIGTERM)[::2] == (0, "")
    with Lab.open(lab_path) as lab:
        (credential,) = lab.credentials.list()
        assert credential.revoked_at is not None
        assert lab.audit.verify().broken_at is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "is not loopback"),
        (["--tls-cert", "cert.pem"], "TLS needs both"),
        (["--region", "ap-shanghai"], "--region is tencent:NAME or ctyun:NAME"),
        (["--host", "no such host"], "--host no such host"),
    ],
)
def test_what_cannot_be_served_is_refused(run: Run, options: list[str], said: str) -> None:
    result = run("serve", "--port", "0", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_port_that_is_taken_is_told_of(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in result.stderr


def test_a_missing_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("kmslab.server")]:
        monkeypatch.delitem(sys.modules, name)
    result = run("serve")
    assert result.exit_code == 2
    assert "kmslab[server]" in result.stderr


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kmslab test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_tls_is_spoken_with_a_certificate(
    running: Callable[..., Server], lab_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--json"]
    server = running("--lab", str(lab_path), *options)
    url = json.loads(server.ready)["url"]
    assert url.startswith("https://127.0.0.1:")
    trusting = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(f"{url}/healthz", context=trusting, timeout=60) as answer:
        assert json.load(answer) == {"status": "ok"}
    code, _, err = server.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in err


def test_a_certificate_that_cannot_be_read_is_told_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for name in ("bad.pem", "missing.pem"):
        result = run("serve", "--port", "0", "--tls-cert", name, "--tls-key", name)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert result.stderr.startswith("error: ")
