"""Crews for tests: the same orders and endings as between processes, in one process."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kmslab.campaign.reopening import Reopening
from kmslab.campaign.working import Worker


class Killed(BaseException):
    """Stands for the end of a process: nothing that catches errors catches it."""


@dataclass
class Here:
    """Workers that are played by this process, one after the other.

    Each opens the lab by itself. `said` is every text that went to them or came back; `asked`,
    `before` and `after` may do harm around an order.
    """

    size: int = 2
    one_machine: bool = True
    said: list[str] = field(default_factory=list)
    asked: Callable[[dict[str, Any]], None] = lambda order: None
    before: Callable[[dict[str, Any]], None] = lambda order: None
    after: Callable[[dict[str, Any]], None] = lambda order: None
    chunks: Callable[[dict[str, Any], Mapping[str, Any]], None] = lambda order, how_far: None

    @property
    def processes(self) -> int:
        return self.size

    def check(self, reopening: Reopening) -> None:
        reopening.check_inherited()

    def enough(self, tasks: int) -> Here:
        return self

    @contextmanager
    def ready(self) -> Iterator[Here]:
        self.workers = [Worker() for _ in range(self.size)]
        try:
            yield self
        finally:
            for worker in self.workers:
                worker.close()

    def everyone(self, order: str) -> Iterator[tuple[str, str]]:
        for number, worker in enumerate(self.workers):
            changed = json.loads(order)
            self.asked(changed)
            self.said.append(order)
            ending = worker.do(json.dumps(changed), lambda _: None, lambda: False)
            self.said.append(ending)
            yield f"worker {number}", ending

    def do(
        self,
        orders: Sequence[tuple[str, str]],
        told: Callable[[str, Mapping[str, Any]], object],
        stop: Callable[[], bool],
    ) -> Generator[tuple[str, str]]:
        for number, (name, text) in enumerate(orders):
            if stop():
                return
            order = json.loads(text)
            self.before(order)

            def heard(
                how_far: Mapping[str, Any], name: str = name, order: dict[str, Any] = order
            ) -> None:
                told(name, how_far)
                self.chunks(order, how_far)

            self.said.append(text)
            ending = self.workers[number % self.size].do(text, heard, stop)
            self.said.append(ending)
            self.after(order)
            yield name, ending
