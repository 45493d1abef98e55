"""Workers of a Dask cluster, on this machine or on others.

What goes through the scheduler is orders and their endings as text: where things are, counts and
names; never key material, a password, a blob or a context. But who controls the scheduler can run
any code on the workers, and on the machine that runs the campaign. So one that is not on this
machine is spoken to over TLS, unless it is said by name that it need not be.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final
from urllib.parse import urlsplit

from distributed import Client
from distributed.security import Security

from kmslab.campaign.cluster_crew import ClusterCrew, KeptWorker
from kmslab.campaign.reopening import Reopening
from kmslab.errors import CampaignError

CONNECT_SECONDS: Final = 10.0
"""How long a scheduler, and its first worker, is waited for."""


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

    def enough(self, tasks: int) -> Scheduler:
        """All that the cluster has: nobody starts them for a campaign."""
        return self

    @contextmanager
    def ready(self) -> Iterator[ClusterCrew]:
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
        with _quiet(), client, Cluster(client, insecure=self.insecure).ready() as crew:
            yield crew

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

    def enough(self, tasks: int) -> Cluster:
        """All that the cluster has: nobody starts them for a campaign."""
        return self

    @contextmanager
    def ready(self) -> Iterator[ClusterCrew]:
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
            client.register_plugin(KeptWorker(), name=name)
        except Exception as error:
            raise CampaignError(
                f"kmslab is not to be used on all workers: {type(error).__name__}: {error}; "
                "install the same version everywhere"
            ) from error
        try:
            crew = ClusterCrew.of(client, name)
            for address in crew.threads:
                check_address(address, insecure=self.insecure, what="worker")
            yield crew
        finally:
            if client.status == "running":  # where the scheduler has gone, so has it
                client.unregister_worker_plugin(name)

    @property
    def _address(self) -> str:
        scheduler: Any = self.client.scheduler
        return str(scheduler.address)


def check_address(address: str, *, insecure: bool, what: str = "scheduler") -> None:
    """CampaignError for a scheduler, or worker, of another machine that is not spoken to over TLS.

    >>> check_address("tcp://127.0.0.1:8786", insecure=False)
    >>> check_address("tls://dask.example:8786", insecure=False)
    """
    if insecure or address.startswith("tls://") or _is_near(address):
        return
    raise CampaignError(
        f"the {what} {address} is on another machine, and who controls it, or the network "
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
