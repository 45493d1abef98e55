"""`kmslab serve`: ready, pointed at, and stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from command_line import Run
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kmslab.lab import Lab

ROOT = Path(__file__).parents[2]


@contextmanager
def running(*options: str, stderr: int | None = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`kmslab serve` on a free port, ended whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kmslab", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
    )
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        watchdog.cancel()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_lines_of_the_demo_run_as_they_are(stop: signal.Signals, code: int) -> None:
    with running("--demo", "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        tencent, ctyun = told["clients"].values()
        ctyun[-1] = f"answer = {ctyun[-1]}"
        names: dict[str, object] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "127.0.0.1")
            exec("\n".join([*tencent, *ctyun]), names)
            exec("keys = client.call_json('ListKeys', {})['Response']['TotalCount']", names)
        assert names["keys"]
        assert names["answer"].json()["data"]["totalCount"]  # type: ignore[attr-defined]
        process.send_signal(stop)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert out == ""
    assert "Traceback" not in err
    events = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [event["action"] for event in events] == ["listKeys", "ListKeys"]
    assert not Path(told["lab"]).exists()


def test_a_named_lab_is_served_and_left_whole(lab_path: Path) -> None:
    """The credential of the demo is gone with the server, and the audit log has its end."""
    with running("--demo", "--lab", str(lab_path), "--quiet") as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith(f"serving {lab_path} on http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
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


def test_tls_is_spoken_with_a_certificate(lab_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    options = ["--tls-cert", str(cert), "--tls-key", str(key), "--json"]
    with running("--lab", str(lab_path), *options) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(f"{url}/healthz", context=trusting, timeout=10) as answer:
            assert json.load(answer) == {"status": "ok"}
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_a_certificate_that_cannot_be_read_is_told_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for name in ("bad.pem", "missing.pem"):
        result = run("serve", "--port", "0", "--tls-cert", name, "--tls-key", name)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        assert result.stderr.startswith("error: ")
