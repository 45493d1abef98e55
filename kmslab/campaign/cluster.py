"""Workers of a Dask cluster, on this machine or on others.

What goes through the scheduler is orders and their endings as text: where things are, counts and
names; never key material, a password, a blob or a context. But who controls the scheduler can run
any code on the workers, and on the machine that runs the campaign. So one that is not on this
machine is spoken to over TLS, unless it is said by name that it need not be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from distributed import Client
from distributed.security import Security

from kmslab.campaign.cluster_crew import ClusterCrew, KeptWorker
from kmslab.campaign.reopening import Reopening
from kmslab.campaign.scheduler_address import (
    CA,
    CERT,
    KEY,
    check_address,
    check_certificates,
    try_connecting,
    uses_tls,
)
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
        self.check_settings()

    def check_settings(self) -> None:
        """CampaignError where address and files are not what they are to be; nobody is asked."""
        check_address(self.address, insecure=self.insecure)
        if uses_tls(self.address):
            check_certificates(self.address, self._files(self._security()))
        elif any(each is not None for each in (self.ca, self.cert, self.key)):
            raise CampaignError(
                f"certificates are given, and {self.address} is not spoken to over TLS: name it as "
                "tls://HOST:PORT"
            )

    def enough(self, tasks: int) -> Scheduler:
        """All that the cluster has: nobody starts them for a campaign."""
        return self

    @contextmanager
    def ready(self) -> Iterator[ClusterCrew]:
        """Its workers, until this ends. CampaignError where it does not answer, or has none."""
        security, context = self._security(), None
        if security is not None:
            context = security.get_connection_args("client")["ssl_context"]
        try_connecting(self.address, context, self._files(security), CONNECT_SECONDS)
        try:
            client = Client(
                self.address,
                security=security,
                timeout=CONNECT_SECONDS,
                set_as_default=False,
            )
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise CampaignError(
                f"the scheduler at {self.address} cannot be reached: {error}"
            ) from error
        with client, Cluster(client, insecure=self.insecure).ready() as crew:
            yield crew

    def _security(self) -> Security | None:
        if not uses_tls(self.address):
            return None
        given = {
            "tls_ca_file": self.ca,
            "tls_client_cert": self.cert,
            "tls_client_key": self.key,
        }
        files = {name: value for name, value in given.items() if value is not None}
        return Security(**files, require_encryption=True)

    @staticmethod
    def _files(security: Security | None) -> Mapping[str, str | None]:
        """What is used for TLS, whoever has named it, by the options that do."""
        return {
            CA: getattr(security, "tls_ca_file", None),
            CERT: getattr(security, "tls_client_cert", None),
            KEY: getattr(security, "tls_client_key", None),
        }


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
