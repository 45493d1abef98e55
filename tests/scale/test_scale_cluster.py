"""Workers of a Dask cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from campaign_data import World
from distributed import Client, LocalCluster, get_worker
from distributed.security import Security
from keystore_labs import leaks
from scale_sources import SOURCES, contents

from kmslab import Lab
from kmslab.campaign import cluster_crew
from kmslab.campaign.cluster import Cluster, Scheduler
from kmslab.campaign.ground import Ground
from kmslab.campaign.run import resume, run
from kmslab.campaign.scheduler_address import CA, CERT, KEY, check_address, try_connecting
from kmslab.campaign.watching import Watch
from kmslab.campaign.working import Worker
from kmslab.errors import CampaignError, CampaignInterrupted
from kmslab.records.spec import SourceSpec

pytestmark = pytest.mark.scale


def two_workers(*, processes: bool, security: Security | None = None) -> LocalCluster:
    """A scheduler with two workers, which speak with each other over TCP."""
    return LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=processes,
        protocol="tls://" if security else "tcp://",
        security=security,
        host="127.0.0.1",
        dashboard_address=":0",
    )


@pytest.fixture
def cluster(soak: bool) -> Iterator[LocalCluster]:
    """Two workers: processes of their own in long runs, else threads."""
    with two_workers(processes=soak) as made:
        yield made


@pytest.fixture
def spec(world: World, tmp_path: Path) -> SourceSpec:
    return SOURCES["csv"](tmp_path / "records", world.rows)


class Between:
    """Passes on what goes between a client and a scheduler, and remembers it."""

    def __init__(self, to: str) -> None:
        host, _, port = to.removeprefix("tcp://").rpartition(":")
        self._to = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard = bytearray()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._to)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                self.heard += data
                other.sendall(data)
        for end in (one, other):
            end.close()


def test_a_cluster_does_it_and_the_scheduler_sees_nothing_secret(
    cluster: LocalCluster, spec: SourceSpec, ground: Ground, lab: Lab, world: World
) -> None:
    before = contents(lab, spec)
    root = b64decode((world.path / "root.key").read_text("ascii").split()[-1])
    told: dict[str, int] = {}

    def progress(found: Any) -> None:
        told[found.doing] = found.rows

    with closing(Between(cluster.scheduler_address)) as between:
        report = run(ground, spec, workers=Scheduler(between.address), watch=Watch(progress))
    rows = len(world.rows)
    assert told == {"planning": rows, "re-encrypting": rows, "counting": rows}
    assert report.state == "finished"
    assert report.results.re_encrypted > 0
    assert contents(lab, spec) == before
    heard = bytes(between.heard)
    assert report.campaign.encode() in heard
    assert not [found for secret in (root, b"secret 00000") for found in leaks(secret, heard)]
    assert not [r for r in world.rows if (r["ciphertext_blob"] or "").encode()[-60:] in heard]


@pytest.mark.parametrize("first_go", [False, True])
def test_a_worker_that_comes_later_takes_no_part(
    first_go: bool, spec: SourceSpec, ground: Ground, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has looked at what it sees, and a rate is shared by those of the beginning."""
    before = contents(lab, spec)
    worked: set[str] = set()
    do = Worker.do
    monkeypatch.setattr("kmslab.campaign.cluster_crew._BACK_SECONDS", 0.1)

    def noted(worker: Worker, *args: Any) -> str:
        worked.add(get_worker().address)
        return do(worker, *args)

    def progress(found: Any) -> None:
        if found.doing == "planning" and len(cluster.workers) == 2:
            cluster.scale(4)
            client.wait_for_workers(4)
        if found.doing == "re-encrypting" and first_go:
            client.retire_workers([each for each in first if each in client.nthreads()])

    monkeypatch.setattr(Worker, "do", noted)
    with two_workers(processes=False) as cluster, Client(cluster, set_as_default=False) as client:
        first = set(client.nthreads())
        if first_go:
            with pytest.raises(CampaignInterrupted, match="were there at the beginning have gone"):
                run(ground, spec, workers=Cluster(client), watch=Watch(progress))
        else:
            run(ground, spec, workers=Cluster(client), watch=Watch(progress))
        assert len(cluster.workers) == 4
    assert worked == first
    monkeypatch.undo()
    report = resume(ground, ground.state.journals()[0].stem)
    assert (report.state, report.results.lost) == ("finished", 0)
    assert contents(lab, spec) == before


class NotAllAnswer:
    """Stands for a client: the workers `there`, by what they are called, some of whom hang."""

    def __init__(self) -> None:
        self.there = {"tcp://first": "one"}
        self.end = threading.Event()
        self.asked: list[str] = []
        self.stalled: list[str] = []

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.there, 1)

    def run(self, _: object, *, workers: list[str], on_error: str) -> dict[str, tuple[str, str]]:
        self.asked += workers
        hanging = [each for each in workers if self.there[each] == "hanging"]
        if hanging and not self.end.wait(2):
            self.stalled += hanging
        return {each: (self.there[each], "machine") for each in workers}


def test_a_worker_that_comes_later_and_hangs_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_crew, "_MEMBERS_SECONDS", 0)
    client: Any = NotAllAnswer()
    members = cluster_crew._Members(client)
    assert members.take_on(client.there) == ["tcp://first"]
    client.there = {"tcp://later": "hanging", "tcp://anew": "one"}
    until = time.monotonic() + 10
    while members.now() != ["tcp://anew"] and time.monotonic() < until:
        time.sleep(0.001)
    assert members.now() == ["tcp://anew"]
    assert not client.stalled
    assert sorted(client.asked) == ["tcp://anew", "tcp://first", "tcp://later"]
    client.end.set()


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_killed_is_replaced(
    workers: int, spec: SourceSpec, ground: Ground, lab: Lab
) -> None:
    """By the others, and by whom its nanny starts in its place."""
    before = contents(lab, spec)
    killed: list[int] = []

    def progress(found: Any) -> None:
        if found.doing == "re-encrypting" and not killed:
            with Client(cluster, set_as_default=False) as client:
                killed.extend(list(client.run(os.getpid).values())[:1])
            os.kill(killed[0], signal.SIGKILL)

    with (
        two_workers(processes=True) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.scale(workers)
        while len(client.nthreads()) > workers:
            time.sleep(0.1)
        report = run(ground, spec, workers=Cluster(client), watch=Watch(progress))
    assert killed
    assert report.state == "finished"
    assert (report.pending, report.results.lost) == (0, 0)
    assert contents(lab, spec) == before


def test_a_scheduler_that_ends_interrupts(spec: SourceSpec, ground: Ground, lab: Lab) -> None:
    before = contents(lab, spec)
    ended: list[bool] = []
    cluster = two_workers(processes=False)

    def progress(found: Any) -> None:
        if found.doing == "re-encrypting" and not ended:
            ended.append(True)
            cluster.close()

    with Client(cluster, set_as_default=False) as client:
        workers = Cluster(client)
        with pytest.raises(CampaignInterrupted, match="the scheduler has gone") as interrupted:
            run(ground, spec, workers=workers, watch=Watch(progress))
    report = resume(ground, interrupted.value.campaign_id)
    assert report.state == "finished"
    assert (report.pending, report.results.lost) == (0, 0)
    assert contents(lab, spec) == before


@pytest.mark.soak
def test_a_scheduler_that_is_killed_interrupts(spec: SourceSpec, ground: Ground, lab: Lab) -> None:
    before = contents(lab, spec)
    with closing(Scheduling()) as scheduling:

        def progress(found: Any) -> None:
            if found.doing == "re-encrypting":
                scheduling.kill()

        workers = Scheduler(scheduling.address)
        with pytest.raises(CampaignInterrupted, match="the scheduler has gone") as interrupted:
            run(ground, spec, workers=workers, watch=Watch(progress))
        report = resume(ground, interrupted.value.campaign_id)
    assert report.state == "finished"
    assert (report.pending, report.results.lost) == (0, 0)
    assert contents(lab, spec) == before


def test_the_command_line_says_nothing_but_its_own_lines(
    spec: SourceSpec, world: World, ground: Ground
) -> None:
    """Where the scheduler is killed, of which its library would have much to say."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    where = ["--lab", str(world.path), "--state", str(ground.state.path)]
    with closing(Scheduling()) as scheduling:
        until = time.monotonic() + 20
        with Client(scheduling.address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=20)
        options = ["--scheduler", scheduling.address, "--yes", *where]
        command = [sys.executable, "-m", "kmslab", "campaign", "run", spec.location, *options]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            while not list(ground.state.path.glob("campaigns/*.shards/permit")):
                assert time.monotonic() < until
                time.sleep(0.01)
            scheduling.kill()
            said, complained = running.communicate(timeout=60)
    assert (running.returncode, said) == (130, "")
    first, second = complained.splitlines()
    assert first.startswith("interrupted: the scheduler has gone")
    assert second.startswith("to go on: kmslab campaign resume")


class Scheduling:
    """A scheduler and a worker as they are started on a machine: processes of their own."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        programs = (
            ["scheduler", "--host", self.address, "--no-dashboard"],
            ["worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny"],
        )
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + name, *options],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for name, *options in programs
        ]

    def kill(self) -> None:
        self._processes[0].kill()

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


@dataclass(frozen=True)
class Party:
    """Somebody with an own authority, a certificate by it, and the key: as Dask has them, and as
    files."""

    security: Security
    ca: str
    cert: str
    key: str

    @classmethod
    def made(cls, folder: Path) -> Party:
        security = Security.temporary()
        folder.mkdir()
        files = []
        for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
            files.append(str(folder / f"{name}.pem"))
            Path(files[-1]).write_text(getattr(security, name), "ascii")
        return cls(security, *files)


@pytest.fixture(scope="module")
def we(tmp_path_factory: pytest.TempPathFactory) -> Party:
    return Party.made(tmp_path_factory.mktemp("tls") / "we")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Party:
    return Party.made(tmp_path_factory.mktemp("tls") / "others")


def test_it_is_spoken_to_over_tls(
    spec: SourceSpec, ground: Ground, we: Party, others: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two_workers(processes=False, security=we.security) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        for workers, said in (
            (Scheduler(address, others.ca, we.cert, we.key), f"{others.ca} .*does not vouch for"),
            (Scheduler(address, we.ca, others.cert, others.key), f"our certificate {others.cert}"),
        ):
            with pytest.raises(CampaignError, match=said):
                run(ground, spec, workers=workers)
        with monkeypatch.context() as patch:
            patch.setattr("kmslab.campaign.cluster.CONNECT_SECONDS", 0.3)
            with pytest.raises(CampaignError, match=r"is it spoken to over TLS \(tls://\)"):
                run(ground, spec, workers=Scheduler(address.replace("tls://", "tcp://")))
        assert not ground.state.journals()
        workers = Scheduler(address, we.ca, we.cert, we.key)
        assert run(ground, spec, workers=workers).state == "finished"


@pytest.mark.parametrize(
    ("says", "said"),
    [(b"a scheduler speaks first", r"does not speak TLS .*tcp://"), (b"", r"does not answer$")],
)
def test_what_is_no_scheduler_over_tls_is_said_to_be_none(
    says: bytes, said: str, we: Party
) -> None:
    files = {CA: we.ca, CERT: we.cert, KEY: we.key}
    context = we.security.get_connection_args("client")["ssl_context"]

    def serve() -> None:
        with suppress(OSError), server.accept()[0] as line:
            line.sendall(says)
            while line.recv(1 << 16):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(CampaignError, match=said):
            try_connecting(address, context, files, 5 if says else 0.1)
        thread.join()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give --scheduler-ca FILE"),
        ({"ca": "we"}, "give --scheduler-cert FILE"),
        ({"ca": "nowhere"}, r"nix \(--scheduler-ca\) cannot be read"),
        (
            {"ca": "nowhere", "cert": "we", "key": "we"},
            r"nix \(--scheduler-ca\) cannot be read",
        ),
        ({"ca": "we", "cert": "nowhere", "key": "we"}, r"nix \(--scheduler-cert\) cannot be read"),
        ({"ca": "we", "cert": "we", "key": "nowhere"}, r"nix \(--scheduler-key\) cannot be read"),
        (
            {"ca": "text", "cert": "we", "key": "we"},
            r"\(--scheduler-ca\) holds no certificate",
        ),
        ({"ca": "we", "cert": "text", "key": "we"}, "are no certificate and key in PEM"),
        ({"ca": "we", "cert": "we", "key": "others"}, "is not the key of"),
        ({"ca": "we", "cert": "we"}, "give --scheduler-key FILE"),
    ],
)
def test_certificates_that_are_not_what_they_are_to_be(
    given: dict[str, str], said: str, we: Party, others: Party, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no PEM", "ascii")
    places = {"we": we, "others": others}
    files = {
        name: getattr(places[whose], name)
        if whose in places
        else str(tmp_path / {"nowhere": "nix", "text": "text"}[whose])
        for name, whose in given.items()
    }
    with pytest.raises(CampaignError, match=said):
        Scheduler("tls://127.0.0.1:8786", **files).check_settings()


def test_certificates_are_for_tls(we: Party) -> None:
    with pytest.raises(CampaignError, match="is not spoken to over TLS: name it as tls://"):
        Scheduler("tcp://127.0.0.1:8786", we.ca, we.cert, we.key).check_settings()


@pytest.mark.parametrize(
    "address",
    [
        "foo",
        "",
        "tcp://foo",
        "tls://:8786",
        "http://127.0.0.1:80",
        "tcp://h:x",
        "8786",
        "tcp://[::1:8786",
        "tls://[bad]:1",
        "tcp://a..b:8786",
        f"tcp://{'x' * 64}:8786",
        "tcp://localhost:0",
        "tcp://localhost:65536",
        "inproc://[bad",
    ],
)
def test_what_is_no_address_is_said_to_be_none(address: str) -> None:
    with pytest.raises(CampaignError, match="is no address of a Dask scheduler: it looks like"):
        Scheduler(address, insecure=True).check_settings()


@pytest.mark.parametrize(
    "address",
    ["tcp://192.0.2.7:8786", "dask.example:8786", "tcp://0.0.0.0:8786", "ws://dask.example:80"],
)
def test_plain_tcp_is_for_this_machine(address: str) -> None:
    with pytest.raises(CampaignError, match="--insecure-scheduler"):
        check_address(address, insecure=False)
    check_address(address, insecure=True)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786", "tls://dask.example:8786"]
)
def test_tls_is_for_others(address: str) -> None:
    check_address(address, insecure=False)


def test_workers_on_another_machine_are_spoken_to_over_tls(
    spec: SourceSpec, ground: Ground
) -> None:
    """Though their scheduler is beside us, as it is where it was started here."""
    client = SimpleNamespace(
        scheduler=SimpleNamespace(address="tcp://127.0.0.1:8786"),
        status="running",
        wait_for_workers=lambda n, timeout: None,
        register_plugin=lambda plugin, name: None,
        unregister_worker_plugin=lambda name: None,
        nthreads=lambda: {"tcp://127.0.0.1:1": 3, "tcp://192.0.2.2:1": 1},
        run=lambda function, workers, on_error: dict.fromkeys(workers, ("it", "elsewhere")),
    )
    with pytest.raises(CampaignError, match=r"the worker tcp://192\.0\.2\.2:1 .*--insecure-sched"):
        run(ground, spec, workers=Cluster(client))
    assert not ground.state.journals()
    with Cluster(client, insecure=True).ready() as crew:
        # Threads of one worker share its remotes, and so one part of their rate.
        assert (crew.size, crew.processes, crew.one_machine) == (4, 2, False)


def test_one_that_is_being_started_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = free.getsockname()

    def start() -> None:
        time.sleep(0.2)
        with socket.create_server(place) as server, server.accept()[0] as line:
            line.sendall(b"a scheduler speaks first")

    thread = threading.Thread(target=start)
    thread.start()
    try_connecting(f"tcp://127.0.0.1:{place[1]}", None, {}, 10)
    thread.join()


def test_a_scheduler_that_is_not_there_is_refused(spec: SourceSpec, ground: Ground) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmslab.campaign.cluster.CONNECT_SECONDS", 0.2)
        with pytest.raises(CampaignError, match="cannot be reached"):
            run(ground, spec, workers=Scheduler(address))
    assert not ground.state.journals()
