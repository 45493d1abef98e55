"""The parts of a server: the window, the log, the metrics, TLS, rate limits."""

from __future__ import annotations

import io
import json
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from wire_server import serving

from kmslab import Lab, ManualClock
from kmslab.errors import RequestReplayed, SettingError, SignatureExpired, Throttled
from kmslab.server import logs
from kmslab.server.logs import JsonLog
from kmslab.server.metrics import BUCKETS, Metrics
from kmslab.server.running import Place, listen, url_of
from kmslab.server.window import WINDOW, Window


@pytest.mark.parametrize("skew", [-WINDOW, 0.0, WINDOW])
def test_the_window_is_five_minutes_either_way(manual_clock: ManualClock, skew: float) -> None:
    window, now = Window(manual_clock), manual_clock.time()
    window.check(now + skew)
    window.check(0.0, now + skew)
    with pytest.raises(SignatureExpired):
        window.check(now + skew + (1 if skew >= 0 else -1) * (WINDOW + 1))


@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_what_is_used_up_stays_so_as_long_as_it_could_be_sent(
    manual_clock: ManualClock, skew: int
) -> None:
    """A request of a time 5 minutes ahead could be made again for 10 minutes."""
    window = Window(manual_clock)
    moment = manual_clock.time() + skew
    window.use_up("caller", "id", moment)
    for second in range(skew + 300):
        with pytest.raises(RequestReplayed):
            window.use_up("caller", "id", moment)
        window.use_up("caller", f"id-{second}", manual_clock.time())
        window.use_up("another caller", f"id-{second}", manual_clock.time())
        manual_clock.advance(timedelta(seconds=1))
    window.check(moment)
    with pytest.raises(RequestReplayed):
        window.use_up("caller", "id", moment)


def test_an_id_is_used_once_inside_the_window_whatever_its_time(manual_clock: ManualClock) -> None:
    window, now = Window(manual_clock), manual_clock.time()
    window.use_up("caller", "id", now)
    for moment in (now - 200, now + 200):
        with pytest.raises(RequestReplayed):
            window.use_up("caller", "id", moment)


HOURS = 8 * 3600.0


def test_a_time_with_a_later_reading_is_remembered_until_that_has_passed(
    manual_clock: ManualClock,
) -> None:
    """An Eop-date in Beijing is the same as one in UTC 8 hours later."""
    window, now = Window(manual_clock), manual_clock.time()
    window.use_up("caller", "id", now, now + HOURS)
    for wait in (0.0, HOURS - WINDOW, 2 * WINDOW):
        manual_clock.advance(timedelta(seconds=wait))
        with pytest.raises(RequestReplayed):
            window.use_up("caller", "id", now, now + HOURS)
        # Whoever else sends the time in UTC is not held up by that.
        window.use_up("caller", f"other-{wait}", manual_clock.time() - HOURS, manual_clock.time())


def test_what_is_remembered_is_forgotten_and_bounded(manual_clock: ManualClock) -> None:
    """One caller's requests use up nothing of another's."""
    window, now = Window(manual_clock, most=10), manual_clock.time()
    for number in range(10):
        window.use_up("caller", str(number), now)
    with pytest.raises(Throttled) as refused:
        window.use_up("caller", "10", now)
    window.use_up("another caller", "10", now)
    manual_clock.advance(timedelta(seconds=refused.value.retry_after - 1))
    with pytest.raises(Throttled):
        window.use_up("caller", "10", now)
    manual_clock.advance(timedelta(seconds=1))
    for number in range(10):
        window.use_up("caller", str(number), manual_clock.time())
    manual_clock.advance(timedelta(days=1))
    window.use_up("another caller", "10", manual_clock.time())
    assert list(window._callers) == ["another caller"]


def test_a_caller_with_too_many_requests_is_held_to_the_first_reading(
    manual_clock: ManualClock,
) -> None:
    """What cannot be told from a request that was made is refused until it has expired."""
    window, now = Window(manual_clock, most=10), manual_clock.time()
    for number in range(6):
        window.use_up("caller", str(number), now, now + HOURS)
    manual_clock.advance(timedelta(seconds=HOURS))
    for number in range(6):
        with pytest.raises(RequestReplayed):
            window.use_up("caller", str(number), now, now + HOURS)
    with pytest.raises(RequestReplayed):
        window.use_up("caller", "new", now, now + HOURS)
    window.use_up("caller", "new", now + HOURS, now + 2 * HOURS)
    window.use_up("another caller", "new", now, now + HOURS)
    manual_clock.advance(timedelta(seconds=2 * WINDOW))
    window.use_up("caller", "later", now + 2 * WINDOW, now + HOURS + 2 * WINDOW)


def test_an_id_is_taken_by_one_thread_alone(manual_clock: ManualClock) -> None:
    window, taken = Window(manual_clock), []

    def take() -> None:
        for number in range(500):
            try:
                window.use_up("caller", str(number), manual_clock.time())
            except RequestReplayed:
                continue
            taken.append(number)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(500))


# Logs and metrics


def test_a_log_line_is_json_with_its_time(manual_clock: ManualClock) -> None:
    text = io.StringIO()
    log = JsonLog(text, manual_clock)
    log("started", port=8400, empty="", none=None)
    log.request(code="OK", status=0)
    log.close()
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    assert lines == [
        {"time": "2026-01-01T00:00:00.000Z", "event": "started", "port": 8400},
        {"time": "2026-01-01T00:00:00.000Z", "event": "request", "code": "OK", "status": 0},
    ]


def test_a_quiet_log_tells_what_is_wrong_with_the_lab(manual_clock: ManualClock) -> None:
    text = io.StringIO()
    log = JsonLog(text, manual_clock, quiet=True)
    log.request(code="OK")
    log.request(code="InternalError", problem="TamperedLab in state.py, line 1")
    log.close()
    assert [json.loads(line)["code"] for line in text.getvalue().splitlines()] == ["InternalError"]


class Stuck(io.StringIO):
    """A stream that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def write(self, text: str) -> int:
        self.goes_on.wait(20)
        return super().write(text)


def test_a_log_that_nobody_reads_holds_nothing_up(
    manual_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "MOST_WAITING", 50)
    monkeypatch.setattr(logs, "CLOSE_SECONDS", 0.05)
    stream = Stuck()
    log = JsonLog(stream, manual_clock)
    for number in range(2000):
        log.request(number=number)
    assert log.dropped >= 900
    log.close()
    stream.goes_on.set()
    log.close()
    log._thread.join(20)
    assert not log._thread.is_alive()


def test_metrics_add_up() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.002, 0.002, 99.0):
        metrics.note("tencent", "ReEncrypt", "OK", seconds)
    metrics.note("ctyun", "", "LAB.Unauthenticated", 0.01)
    lines = metrics.text(3).splitlines()
    assert 'kmslab_requests_total{provider="tencent",action="ReEncrypt",code="OK"} 4' in lines
    assert 'kmslab_request_seconds_bucket{provider="tencent",le="0.0005"} 1' in lines
    assert 'kmslab_request_seconds_bucket{provider="tencent",le="0.0025"} 3' in lines
    assert 'kmslab_request_seconds_bucket{provider="tencent",le="+Inf"} 4' in lines
    assert 'kmslab_request_seconds_count{provider="tencent"} 4' in lines
    assert "kmslab_log_lines_dropped_total 3" in lines
    assert len([line for line in lines if "_bucket{" in line]) == 2 * (len(BUCKETS) + 1)


# TLS


def private_key(passphrase: bytes) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """A private key, and its PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(passphrase) if passphrase else None
    return key, key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        sealed or serialization.NoEncryption(),
    )


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates, their keys, and what is neither."""
    folder = tmp_path_factory.mktemp("pems")
    name, now = x509.Name([]), datetime(2026, 1, 1)
    for stem, passphrase in (("own", b""), ("sealed", b"passphrase"), ("other", b"")):
        key, pem = private_key(passphrase)
        made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now)
        (folder / f"{stem}.key").write_bytes(pem)
        (folder / f"{stem}.pem").write_bytes(
            made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
    (folder / "text").write_text("no certificate")
    return folder


def test_a_certificate_with_its_key_is_listened_with(pems: Path) -> None:
    place = Place(certificate=pems / "own.pem", private_key=pems / "own.key")
    with listen(place) as listener:
        assert url_of(place, listener).startswith("https://")


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("missing", "own.key", r"--tls-cert \S+/missing: No such file"),
        ("own.pem", "missing", r"--tls-key \S+/missing: No such file"),
        (".", "own.key", r"--tls-cert \S+: Is a directory"),
        ("text", "own.key", r"--tls-cert \S+/text, --tls-key \S+/own.key: not a certificate"),
        ("own.pem", "text", r"its own private key, both as PEM"),
        ("own.pem", "other.key", r"its own private key, both as PEM"),
        ("sealed.pem", "sealed.key", r"the key without a passphrase"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_told_of(
    pems: Path, certificate: str, key: str, said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        listen(Place(certificate=pems / certificate, private_key=pems / key))


# Rate limits


def test_calls_beyond_the_limit_are_throttled(manual_clock: ManualClock) -> None:
    """100 a second of ReEncrypt for each region and credential (seed 000)."""
    with Lab.in_memory(clock=manual_clock) as lab:
        key = lab.tencent().create_key("orders")
        blob = lab.tencent().encrypt(key.key_id, b"x")
        body = json.dumps({"CiphertextBlob": blob}).encode()
        with serving(lab, rate_limit=True) as wire:
            request = wire.tc3(action="ReEncrypt", body=body)
            codes = [wire.send_tc3(request).code for _ in range(101)]
            assert codes == [""] * 100 + ["RequestLimitExceeded"]
            other = wire.tc3(action="Decrypt", body=body)
            assert wire.send_tc3(other).code == ""
            manual_clock.advance(timedelta(seconds=0.025))
            codes = [wire.send_tc3(request).code for _ in range(3)]
            assert codes == ["", "", "RequestLimitExceeded"]


def test_an_error_of_the_lab_is_an_internal_error(lab: Lab) -> None:
    """A lab that cannot be used is told of in the log by its kind, and by /healthz."""
    with serving(lab) as wire:
        lab.close()
        reply = wire.send_tc3()
        assert (reply.status, reply.code) == (200, "InternalError")
        reply = wire.send_eop()
        assert (reply.status, reply.code) == (500, "LAB.InternalError")
        reply = wire.send("GET", "/healthz", {})
        assert reply.status == 503
        assert reply.json["problem"].startswith("LabClosed")
    problems = [json.loads(line)["problem"] for line in wire.log.getvalue().splitlines()]
    assert [problem.partition(" ")[0] for problem in problems] == ["LabClosed"] * 2
