"""Workers as processes of this machine, each started anew: nothing is inherited but the
environment, and nothing but lines of JSON goes in and out.

A worker ends by itself after its chunk when whoever started it is not there any more.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Final

from kmslab.campaign.crew import Told
from kmslab.campaign.orders import Ending
from kmslab.campaign.reopening import Reopening
from kmslab.campaign.working import Worker
from kmslab.errors import CampaignError, CampaignInterrupted

# What it is to import from stands in no argument, which everybody on the machine can read.
_PROGRAM: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.stdin.buffer.raw.readline()); "
    "from kmslab.campaign.pool import serve; serve()"
)
_AT_ONCE: Final = 2
"""The orders that a worker has: the one that it is at, and the next."""
_LOOK_SECONDS: Final = 0.1
_END_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Pool:
    """So many workers on this machine."""

    size: int

    def check(self, reopening: Reopening) -> None:
        """CampaignError where they could not open what the campaign stands on."""
        if self.size < 1:
            raise CampaignError(f"a campaign has 1 worker or more, not {self.size}")
        reopening.check_inherited()

    def enough(self, tasks: int) -> Pool:
        """One for each task at most: another one would have nothing to do."""
        return Pool(min(self.size, max(1, tasks)))

    @contextmanager
    def ready(self) -> Iterator[PoolCrew]:
        """The workers, from the moment they are started until they are ended."""
        processes = [_Process() for _ in range(self.size)]
        try:
            yield PoolCrew(processes)
        except KeyboardInterrupt:
            for process in processes:
                process.kill()
            raise
        finally:
            for process in processes:
                process.let_go()
            for process in processes:
                process.end()


class PoolCrew:
    """The workers of a pool, at work."""

    def __init__(self, processes: Sequence[_Process]) -> None:
        self._processes = processes

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._processes)

    @property
    def processes(self) -> int:
        """Each is one."""
        return self.size

    @property
    def one_machine(self) -> bool:
        """They are on this machine."""
        return True

    def everyone(self, order: str) -> Iterator[tuple[str, str]]:
        """Have each worker carry out an order."""
        for process in self._processes:
            process.send("everyone", order)
        for process, _, said in self._heard(lambda: False):
            if "ending" in said:
                yield process.name, said["ending"]

    def do(
        self, orders: Sequence[tuple[str, str]], told: Told, stop: Callable[[], bool]
    ) -> Generator[tuple[str, str]]:
        """Have the orders carried out, each by one worker."""
        left = deque(orders)
        there = [process for process in self._processes if process.at_work]
        if left and not there:
            refused = CampaignInterrupted("all workers have ended")
            yield left[0][0], Ending(refused=refused).as_text()
            return
        for _ in range(_AT_ONCE):
            for process in there:
                if left:
                    process.send(*left.popleft())
        for process, name, said in self._heard(stop):
            if "ending" not in said:
                told(name, said)
                continue
            if left and process.there and not stop():
                process.send(*left.popleft())
            yield name, said["ending"]

    def _heard(self, stop: Callable[[], bool]) -> Iterator[tuple[_Process, str, Mapping[str, Any]]]:
        """What the workers say, until each has done all that it was given, or has ended."""
        with selectors.DefaultSelector() as selector:
            for process in self._processes:
                if not process.at_work and not process.orders:
                    continue
                selector.register(process.output, selectors.EVENT_READ, process)
            while any(process.orders for process in self._processes):
                if stop():
                    for process in self._processes:
                        process.stop()
                for key, _ in selector.select(_LOOK_SECONDS):
                    process = key.data
                    said = process.read()
                    if not said:
                        selector.unregister(process.output)
                        said = process.gone()
                    for each in said:
                        yield process, each["name"], each


class _Process:
    """One worker's process: `orders` are the names of those that it has not carried out, and it is
    `there` until it was seen to have ended."""

    def __init__(self) -> None:
        flags = [f"-W{each}" for each in sys.warnoptions]
        program = [sys.executable, "-P", *flags, "-c", _PROGRAM]
        self._process = subprocess.Popen(  # noqa: S603
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.orders: deque[str] = deque()
        self.there = True
        self._stopping = False
        self._rest = b""
        self._say(sys.path)

    @property
    def name(self) -> str:
        """What it is called."""
        return f"worker {self._process.pid}"

    @property
    def at_work(self) -> bool:
        """Whether it has not ended, seen or unseen."""
        return self.there and self._process.poll() is None

    @property
    def output(self) -> int:
        """What tells when there is something to read."""
        return int(self._stream(self._process.stdout).fileno())

    def send(self, name: str, order: str) -> None:
        """Give it an order."""
        self.orders.append(name)
        self._say({"name": name, "order": order})

    def stop(self) -> None:
        """Ask it to end after its chunk, and to begin nothing more."""
        if not self._stopping:
            self._stopping = True
            self._say({"stop": True})

    def read(self) -> list[Mapping[str, Any]]:
        """What it has said; nothing where it has ended."""
        said: list[Mapping[str, Any]] = []
        while not said:
            data = os.read(self.output, 1 << 16)
            if not data:
                return []
            *lines, self._rest = (self._rest + data).split(b"\n")
            said = [json.loads(line) for line in lines]
        for each in said:
            if "ending" in each:
                self.orders.remove(each["name"])
        return said

    def gone(self) -> list[Mapping[str, Any]]:
        """What is to be said for one that has ended before it had done all that it was given."""
        self.there = False
        code = self._process.wait()
        how = f"was ended by {signal_name(-code)}" if code < 0 else f"ended with {code}"
        orders, self.orders = self.orders, deque()
        refused = CampaignInterrupted(f"{self.name} {how}")
        return [
            {"name": name, "ending": Ending(refused=refused if first else None).as_text()}
            for name, first in zip(orders, chain([True], repeat(False)), strict=False)
        ]

    def let_go(self) -> None:
        """Have it end once it has nothing to do, or after its chunk."""
        self._stream(self._process.stdin).close()

    def end(self) -> None:
        """Wait until it has ended."""
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self._stream(self._process.stdout).close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _say(self, value: object) -> None:
        with suppress(BrokenPipeError):  # it has ended, which shows where it is read
            self._stream(self._process.stdin).write(json.dumps(value).encode("utf-8") + b"\n")

    @staticmethod
    def _stream(stream: Any) -> Any:
        return stream


def signal_name(number: int) -> str:
    """What a signal is called; real-time ones have no name.

    >>> signal_name(9), signal_name(40)
    ('SIGKILL', 'signal 40')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def serve() -> None:
    """What the process of a worker does: it reads orders from stdin, and says on stdout how they
    go, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who gives the orders
    out = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    orders: queue.SimpleQueue[Mapping[str, str] | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def listen() -> None:
        # Not sys.stdin, which Python cannot close at its end while it is read here.
        with open(0, "rb", closefd=False) as stdin:
            for line in stdin:
                said = json.loads(line)
                if "stop" in said:
                    stopped.set()
                else:
                    orders.put(said)
        stopped.set()
        orders.put(None)

    def say(**values: object) -> None:
        data = json.dumps(values).encode("utf-8") + b"\n"
        while data:
            data = data[os.write(out, data) :]

    threading.Thread(target=listen, daemon=True).start()
    worker = Worker()
    try:
        while (said := orders.get()) is not None:
            name = said["name"]

            def heard(how_far: Mapping[str, Any], name: str = name) -> None:
                say(name=name, **how_far)

            say(name=name, ending=worker.do(said["order"], heard, stopped.is_set))
    except BrokenPipeError:
        pass  # nobody is there any more
    finally:
        worker.close()
