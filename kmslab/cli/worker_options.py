"""How many carry a campaign out, and where: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from kmslab.campaign.crew import Workers

_OF_DASK: Final = ("distributed", "tornado", "asyncio")


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The options that say how many do it, and where."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Have so many processes do it at once, each with files or ids of its own.",
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Have the workers of this Dask scheduler do it. Who controls it can run any code"
            " on them and here.",
        ),
    ] = None
    scheduler_ca: Annotated[
        str | None,
        typer.Option(
            "--scheduler-ca", metavar="FILE", help="For tls://: who signs its certificate."
        ),
    ] = None
    scheduler_cert: Annotated[
        str | None,
        typer.Option("--scheduler-cert", metavar="FILE", help="For tls://: our certificate."),
    ] = None
    scheduler_key: Annotated[
        str | None, typer.Option("--scheduler-key", metavar="FILE", help="For tls://: its key.")
    ] = None
    insecure_scheduler: Annotated[
        bool,
        typer.Option(
            "--insecure-scheduler",
            help="Speak plain tcp:// with a scheduler elsewhere all the same.",
        ),
    ] = False

    @property
    def again(self) -> str:
        """The options for another command, as it is typed."""
        said = {
            "--workers": self.workers,
            "--scheduler": self.scheduler,
            "--scheduler-ca": self.scheduler_ca,
            "--scheduler-cert": self.scheduler_cert,
            "--scheduler-key": self.scheduler_key,
        }
        options = [f" {name} {shlex.quote(str(value))}" for name, value in said.items() if value]
        return "".join(options) + (" --insecure-scheduler" if self.insecure_scheduler else "")

    def quiet(self) -> AbstractContextManager[None]:
        """While the workers are at it: what is wrong with a scheduler or a worker is said by us,
        once, and not by its library too."""
        return nullcontext() if self.scheduler is None else _silence()

    def workers_for(self, lab: str | None, source: str = "") -> Workers | None:
        """The workers; None where this process does it alone.

        SettingError for options that do not go together, and where the URL of the lab or of SOURCE
        holds a password, which no worker is told.
        """
        from kmslab.campaign.reopening import LEAVE_OUT
        from kmslab.database_url import is_url, password_of
        from kmslab.errors import SettingError

        if self.workers is not None and self.scheduler is not None:
            raise SettingError("--workers are of this machine, or --scheduler has some; not both")
        if self.scheduler is None:
            if self != WorkerOptions(workers=self.workers):
                raise SettingError("certificates and --insecure-scheduler go with --scheduler")
            if self.workers is None:
                return None
        for what, url in {"lab": lab or "", "table": source}.items():
            if is_url(url) and password_of(url) is not None:
                raise SettingError(
                    f"workers open the {what} by themselves, and are told no password: {LEAVE_OUT}"
                )
        if self.workers is not None:
            from kmslab.campaign.pool import Pool

            return Pool(self.workers)
        return self._scheduler(self.scheduler or "")

    def _scheduler(self, address: str) -> Workers:
        from kmslab.errors import SettingError

        try:
            from kmslab.campaign.cluster import Scheduler
        except ModuleNotFoundError as error:
            raise SettingError(
                f"--scheduler needs the extra dask: pip install 'kmslab[dask]' ({error})"
            ) from None
        found = Scheduler(
            address,
            self.scheduler_ca,
            self.scheduler_cert,
            self.scheduler_key,
            self.insecure_scheduler,
        )
        found.check_settings()
        return found


@contextmanager
def _silence() -> Iterator[None]:
    """Have Dask, and what is under it, log nothing meanwhile."""
    roots = [logging.getLogger(name) for name in _OF_DASK]  # what is made later hangs on these
    there = list(logging.root.manager.loggerDict.items())
    loggers = [
        each
        for name, each in there
        if name.split(".")[0] in _OF_DASK and isinstance(each, logging.Logger)
    ]
    before = [(each, each.handlers[:], each.propagate) for each in loggers]
    for each in loggers:
        each.handlers[:] = [logging.NullHandler()]
    for each in roots:
        each.propagate = False
    try:
        yield
    finally:
        for each, handlers, propagate in before:
            each.handlers[:] = handlers
            each.propagate = propagate
