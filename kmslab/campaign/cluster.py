"""Workers of a Dask cluster, on this machine or on others.

What goes through the scheduler is orders and outcomes as text: where things are, counts and names;
never key material, a password, a blob or a context. But who controls the scheduler can run any
code on the workers, and on the machine that runs the campaign. So one that is not on this machine
is spoken to over TLS, unless it is said by name that it need not be.

This is the only module that loads Dask: the extra `dask`.
"""

from __future__ import annotations

import ipaddress
import logging
import queue
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Final
from urllib.parse import urlsplit

from distributed import Client, Future, WorkerPlugin, as_completed, get_worker
from distributed.security import Security

from kmslab.campaign.crew import Told
from kmslab.campaign.orders import Outcome
from kmslab.campaign.reopening import Reopening
from kmslab.campaign.working import Worker
from kmslab.errors import CampaignError, CampaignInterrupted

CONNECT_SECONDS: Final = 10.0
"""How long a scheduler, and its first worker, is waited for."""

_LOOK_SECONDS: Final = 0.02
_TOLD_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 10.0
_RETRIES: Final = 2
_ANSWER_SECONDS: Final = 60.0
_GONE: Final = "the scheduler has gone, or has dropped what was to be done"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """The workers of the scheduler at an address.

    `ca`, `cert` and `key` are files for TLS; what is not given is as Dask is configured.
    `insecure` lets plain TCP be spoken with another machine.
    """

    address: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False

    def check(self, reopening: Reopening) -> None:
        """CampaignError where it is not to be spoken to. Workers have their own environment."""
        check_address(self.address, insecure=self.insecure)

    @contextmanager
    def ready(self) -> Iterator[Hired]:
        """Its workers, until this ends. CampaignError where it does not answer, or has none."""
        try:
            client = Client(
                self.address,
                security=self._security(),
                timeout=CONNECT_SECONDS,
                set_as_default=False,
            )
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise CampaignError(
                f"the scheduler at {self.address} cannot be reached: {error}"
            ) from error
        with _quiet(), client, Cluster(client, insecure=self.insecure).ready() as hired:
            yield hired

    def _security(self) -> Security | None:
        given = {
            "tls_ca_file": self.ca,
            "tls_client_cert": self.cert,
            "tls_client_key": self.key,
        }
        files = {name: value for name, value in given.items() if value is not None}
        if not files and not self.address.startswith("tls://"):
            return None
        return Security(**files, require_encryption=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have Dask say nothing of its own: what is wrong is raised."""
    loggers = [
        logger
        for name, logger in logging.root.manager.loggerDict.items()
        if name.split(".")[0] == "distributed" and isinstance(logger, logging.Logger)
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The workers that a `distributed.Client` is connected to."""

    client: Client
    insecure: bool = False

    def check(self, reopening: Reopening) -> None:
        """CampaignError where the scheduler is not to be spoken to."""
        check_address(self._address, insecure=self.insecure)

    @contextmanager
    def ready(self) -> Iterator[Hired]:
        """Its workers, until this ends; they close then what they have opened."""
        client = self.client
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise CampaignError(
                f"the scheduler at {self._address} has no workers: start one with "
                "`dask worker ADDRESS`"
            ) from None
        name = f"kmslab-{token_hex(8)}"
        try:
            client.register_plugin(Bench(), name=name)
        except Exception as error:
            raise CampaignError(
                f"kmslab is not to be used on all workers: {type(error).__name__}: {error}; "
                "install the same version everywhere"
            ) from error
        try:
            yield Hired(client, name)
        finally:
            if client.status == "running":  # where the scheduler has gone, so has it
                client.unregister_worker_plugin(name)

    @property
    def _address(self) -> str:
        scheduler: Any = self.client.scheduler
        return str(scheduler.address)


class Bench(WorkerPlugin):
    """What a worker has of kmslab while it is hired: a `Worker`, which keeps a lab open."""

    def setup(self, worker: Any) -> None:
        """The worker begins."""
        self.worker = Worker()

    def teardown(self, worker: Any) -> None:
        """The worker is not needed any more."""
        self.worker.close()


@dataclass(frozen=True, slots=True)
class Hired:
    """The workers of a cluster, at work; `bench` is the name of what they work on."""

    client: Client
    bench: str
    _said: queue.SimpleQueue[Mapping[str, Any]] = field(default_factory=queue.SimpleQueue)

    @property
    def size(self) -> int:
        """How many orders are carried out at once: the threads of all workers."""
        return max(1, sum(self._threads().values()))

    @property
    def one_machine(self) -> bool:
        """Whether all workers are reached without a network."""
        return all(_is_near(address) for address in self._threads())

    def _threads(self) -> Mapping[str, int]:
        found: Mapping[str, int] = self.client.nthreads()
        return found

    def everyone(self, order: str) -> Iterator[tuple[str, str]]:
        """Have each worker carry out an order."""
        asked = {
            address: self.client.submit(
                _do,
                order,
                "",
                self.bench,
                workers=[address],
                key=f"kmslab-check-{token_hex(8)}",
                pure=False,
            )
            for address in self._threads()
        }
        for address, future in asked.items():
            with suppress(CancelledError, OSError, TimeoutError):
                future.exception(timeout=_ANSWER_SECONDS)
            yield f"worker {address}", _outcome_of(future)

    def do(
        self, orders: Sequence[tuple[str, str]], told: Told, stop: Callable[[], bool]
    ) -> Generator[tuple[str, str]]:
        """Have the orders carried out, each by one worker.

        One whose worker ends before it is carried out by another.
        """
        if not orders:
            return
        once = token_hex(4)  # an answer to an earlier run is none to this one
        names: dict[Future[Any], str] = {
            self.client.submit(
                _do, order, name, self.bench, key=f"kmslab-{name}-{once}", pure=False,
                retries=_RETRIES,
            ): name
            for name, order in orders
        }  # fmt: skip
        self.client.subscribe_topic(self.bench, self._hear)
        try:
            for future in self._ended(names, told, stop):
                yield names[future], _outcome_of(future)
        finally:
            if self.client.status == "running":
                self.client.unsubscribe_topic(self.bench)
                self.client.cancel([f for f in names if not f.done()])

    def _ended(
        self, names: Mapping[Future[Any], str], told: Told, stop: Callable[[], bool]
    ) -> Iterator[Future[Any]]:
        """Futures as they end; those that do not soon after `stop` are left."""
        ending, until = as_completed(list(names), loop=self.client.loop), None
        left = set(names)
        while left:
            batch = list(ending.next_batch(block=False))
            while not self._said.empty():
                said = dict(self._said.get())
                told(said.pop("name"), said)
            left.difference_update(batch)
            yield from batch
            if until is None and stop():
                until = time.monotonic() + _STOP_SECONDS
            if until is not None and time.monotonic() > until:
                return
            if not batch:
                time.sleep(_LOOK_SECONDS)

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._said.put(event[1])


def check_address(address: str, *, insecure: bool) -> None:
    """CampaignError for a scheduler of another machine that is not spoken to over TLS.

    >>> check_address("tcp://127.0.0.1:8786", insecure=False)
    >>> check_address("tls://dask.example:8786", insecure=False)
    """
    if insecure or address.startswith("tls://") or _is_near(address):
        return
    raise CampaignError(
        f"the scheduler {address} is on another machine, and who controls it, or the network "
        "between, can run any code on the workers and here: use tls:// with certificates, or say "
        "that it may be, by name (--insecure-scheduler)"
    )


def _is_near(address: str) -> bool:
    """Whether what is at an address is on this machine, and spoken to without a network."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    host = parts.hostname or ""
    if parts.scheme == "inproc" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _do(order: str, name: str, bench: str) -> str:
    """What a worker does for one order, in its own process."""
    here = get_worker()
    told = [0.0]

    def heard(how_far: Mapping[str, Any]) -> None:
        if name and time.monotonic() > told[0] + _TOLD_SECONDS:
            told[0] = time.monotonic()
            here.log_event(bench, {"name": name, **how_far})

    found: Any = here.plugins[bench]
    return str(found.worker.do(order, heard, lambda: False))


def _outcome_of(future: Future[Any]) -> str:
    try:
        match future.status:
            case "cancelled":
                return _refused(_GONE)
            case "error":
                return _failed(future.exception(timeout=_ANSWER_SECONDS))
            case _:  # its worker may have ended since, and another one finds the answer again
                return str(future.result(timeout=_ANSWER_SECONDS))
    except TimeoutError:
        return _refused(f"no answer in {_ANSWER_SECONDS:g} s")
    except (CancelledError, OSError) as error:
        return _refused(f"{_GONE} ({type(error).__name__})")


def _failed(error: BaseException | None) -> str:
    # What a worker raises is Dask's own: an order raises nothing.
    return _refused(f"{type(error).__name__}: {error}")


def _refused(why: str) -> str:
    return Outcome(refused=CampaignInterrupted(why)).as_text()
