"""Who carries out the orders of a campaign: a crew of workers, here or elsewhere."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from kmslab.campaign.reopening import Reopening
from kmslab.campaign.working import Worker

Told = Callable[[str, Mapping[str, Any]], object]
"""Told how far an order is, by its name."""


_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def this_machine() -> str:
    """What tells this machine from all others, until it is started anew: containers of one machine
    have one clock and one cache of files."""
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:
        return platform.node()


class Crew(Protocol):
    """Some workers, ready to work."""

    @property
    def size(self) -> int:
        """How many orders are carried out at once."""
        ...

    @property
    def processes(self) -> int:
        """How many of them open the lab, or remotes, by themselves; their threads share it."""
        ...

    @property
    def one_machine(self) -> bool:
        """Whether all of them are on this machine."""
        ...

    def everyone(self, order: str) -> Iterator[tuple[str, str]]:
        """Have each worker carry out an order; what each is called, and its ending."""
        ...

    def do(
        self, orders: Sequence[tuple[str, str]], told: Told, stop: Callable[[], bool]
    ) -> Generator[tuple[str, str]]:
        """Have orders carried out, each by one worker; their endings by name, as they come.

        Once `stop` says so none is begun any more, those under way are asked to end after their
        chunk, and this ends when they have. One whose worker has ended before it is given to
        another, or refused with CampaignInterrupted.
        """
        ...


class Workers(Protocol):
    """A crew to be: how many, and where."""

    def check(self, reopening: Reopening) -> None:
        """CampaignError where they could not open what the campaign stands on."""
        ...

    def enough(self, tasks: int) -> Workers:
        """The same, or fewer where they are started for the campaign and there are fewer tasks."""
        ...

    def ready(self) -> AbstractContextManager[Crew]:
        """The crew, at work until this ends."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """A crew of this process alone."""

    worker: Worker
    size: int = 1
    processes: int = 1
    one_machine: bool = True

    def everyone(self, order: str) -> Iterator[tuple[str, str]]:
        """Have this process carry out an order."""
        yield "this process", self.worker.do(order, lambda _: None, lambda: False)

    def do(
        self, orders: Sequence[tuple[str, str]], told: Told, stop: Callable[[], bool]
    ) -> Generator[tuple[str, str]]:
        """Carry out the orders one by one."""
        for name, order in orders:
            if stop():
                return
            yield name, self.worker.do(order, _named(told, name), stop)


def _named(told: Told, name: str) -> Callable[[Mapping[str, Any]], object]:
    return lambda how_far: told(name, how_far)
