"""The workers of a Dask cluster at work: orders go to them as tasks of Dask's, and their endings
come back as text.

Of what kmslab has, this module and `cluster` alone load Dask: the extra `dask`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Final

from distributed import Client, Future, WorkerPlugin, as_completed, get_worker

from kmslab.campaign.crew import Told, this_machine
from kmslab.campaign.orders import Ending
from kmslab.campaign.working import Worker
from kmslab.errors import CampaignInterrupted

_LOOK_SECONDS: Final = 0.02
_TOLD_SECONDS: Final = 0.2
_STOP_SECONDS: Final = 10.0
_RETRIES: Final = 2
_ANSWER_SECONDS: Final = 60.0
_RESULT_SECONDS: Final = 5.0
_AT_ONCE: Final = 2
"""The orders that a thread has: the one that it is at, and the next."""
_MEMBERS_SECONDS: Final = 0.5
_BACK_SECONDS: Final = 15.0
"""How long is waited where all workers have gone: a nanny starts one anew."""
_GONE: Final = "the scheduler has gone, or has dropped what was to be done"
_ALL_LEFT: Final = (
    "all workers that were there at the beginning have gone, and those that came later were not "
    "looked at"
)
_ENDS: Final = "the worker that was at it has ended, again and again"


class KeptWorker(WorkerPlugin):
    """What a worker has of kmslab while it is in a crew: a `Worker`, which keeps a lab open."""

    def setup(self, worker: Any) -> None:
        """The worker begins."""
        self.worker = Worker()

    def teardown(self, worker: Any) -> None:
        """The worker is not needed any more."""
        self.worker.close()


@dataclass(frozen=True, slots=True)
class ClusterCrew:
    """The workers that a cluster had when they were taken on, at work; `plugin` is the name of what
    they work on, and `threads` how many orders each carries out at once, by its address.

    A worker that comes later takes no part, since nobody knows what it sees. One that is started
    anew by its nanny is the same one, at another address.
    """

    client: Client
    plugin: str
    threads: Mapping[str, int]
    _members: _Members
    _said: queue.SimpleQueue[Mapping[str, Any]] = field(default_factory=queue.SimpleQueue)

    @classmethod
    def of(cls, client: Client, plugin: str) -> ClusterCrew:
        """Those that are there now."""
        threads: Mapping[str, int] = client.nthreads()
        members = _Members(client)
        there = members.take_on(threads)
        return cls(client, plugin, {at: threads[at] for at in there}, members)

    @property
    def size(self) -> int:
        """How many orders are carried out at once: the threads of all workers."""
        return max(1, sum(self.threads.values()))

    @property
    def processes(self) -> int:
        """How many open the lab, or remotes: the workers, with whatever threads."""
        return max(1, len(self.threads))

    @property
    def one_machine(self) -> bool:
        """Whether all workers are on this machine, by whatever address."""
        return self._members.machines == {this_machine()}

    def everyone(self, order: str) -> Iterator[tuple[str, str]]:
        """Have each worker carry out an order."""
        asked = {address: self._submit("check", "", order, [address]) for address in self.threads}
        for address, future in asked.items():
            with suppress(CancelledError, OSError, TimeoutError):
                future.exception(timeout=_ANSWER_SECONDS)
            try:
                yield f"worker {address}", _ending_of(future, _ANSWER_SECONDS)[0]
            except TimeoutError:
                yield f"worker {address}", _refused(f"no answer in {_ANSWER_SECONDS:g} s")

    def do(
        self, orders: Sequence[tuple[str, str]], told: Told, stop: Callable[[], bool]
    ) -> Generator[tuple[str, str]]:
        """Have the orders carried out, each by one worker.

        One whose worker ends before it is carried out by another. Those under way are left where
        they do not end soon after `stop`.
        """
        if not orders:
            return
        left, until, gone_at = deque(orders), None, None
        way = _Way(self.client)
        self.client.subscribe_topic(self.plugin, self._hear)
        try:
            while left or way.under:
                if until is None and stop():
                    until = time.monotonic() + _STOP_SECONDS
                if until is not None:
                    left.clear()
                    if not way.under or time.monotonic() > until:
                        return
                running = self.client.status == "running"
                members = self._members.now() if running else []
                left.extendleft(way.stranded(members) if members else [])
                while left and members and len(way.under) < _AT_ONCE * self.size:
                    name, order = left.popleft()
                    if way.tries[name] > _RETRIES:
                        yield name, _refused(_ENDS)
                        continue
                    way.add(name, order, self._submit(name, name, order, members), members)
                gone_at = None if members else gone_at or time.monotonic()
                if gone_at is not None and (
                    time.monotonic() > gone_at + _BACK_SECONDS or not (running or way.under)
                ):
                    names = [*(name for name, _, _ in way.under.values()), *(n for n, _ in left)]
                    yield names[0], _refused(_ALL_LEFT if running else _GONE)
                    return
                batch = way.ended()
                while not self._said.empty():
                    said = dict(self._said.get())
                    if (name := said.pop("name")) in way.names:  # else all of it was told
                        told(name, said)
                for future in batch:
                    name, order, may = way.under.pop(future)
                    try:
                        ending, how_far = _ending_of(future, _RESULT_SECONDS)
                    except TimeoutError:  # its worker has ended, and the answer with it
                        way.tries[name] += 1
                        if way.tries[name] <= _RETRIES:
                            way.add(name, order, future, may)
                            continue
                        ending, how_far = _refused(_ENDS), None
                    if how_far:
                        told(name, how_far)
                    yield name, ending
                if not batch:
                    time.sleep(_LOOK_SECONDS)
        finally:
            if self.client.status == "running":
                self.client.unsubscribe_topic(self.plugin)
                self.client.cancel(list(way.under))

    def _submit(self, key: str, name: str, order: str, members: Sequence[str]) -> Future[Any]:
        return self.client.submit(
            _do,
            order,
            name,
            self.plugin,
            workers=list(members),
            allow_other_workers=False,
            key=f"kmslab-{key}-{token_hex(4)}",  # an answer to an earlier run is none to this one
            pure=False,
            retries=_RETRIES,
        )

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._said.put(event[1])


class _Members:
    """Which workers of a cluster were taken on, wherever their nannies start them anew, and the
    `machines` of all that were asked."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._taken_on: frozenset[str] = frozenset()
        self._names: dict[str, str] = {}
        self._asked: set[str] = set()
        self.machines: set[str] = set()
        self._there: list[str] = []
        self._looked = 0.0

    def take_on(self, addresses: Iterable[str]) -> Sequence[str]:
        """Take on the workers at these addresses; those that are still there."""
        there = self._ask(addresses)
        self._taken_on = frozenset(self._names.values())
        return there

    def now(self) -> Sequence[str]:
        """Where those that were taken on are, as it was known a moment ago.

        Who is new is asked meanwhile, and is among them once it has answered.
        """
        if time.monotonic() > self._looked + _MEMBERS_SECONDS:
            with suppress(OSError, TimeoutError):  # the scheduler has gone, which shows elsewhere
                there = self._client.nthreads()
                for address in there.keys() - self._names.keys() - self._asked:
                    self._asked.add(address)
                    threading.Thread(target=self._ask_one, args=(address,), daemon=True).start()
                self._there = [each for each in there if self._names.get(each) in self._taken_on]
            self._looked = time.monotonic()
        return self._there

    def _ask_one(self, address: str) -> None:
        with suppress(Exception):  # whatever it is, one that is still there is asked again
            self._ask([address])
        self._asked.discard(address)

    def _ask(self, addresses: Iterable[str]) -> Sequence[str]:
        found = self._client.run(_where, workers=list(addresses), on_error="ignore")
        for address, (name, machine) in found.items():
            self._names[address] = name
            self.machines.add(machine)
        return list(found)


def _where(dask_worker: Any) -> tuple[str, str]:
    """What a worker is called, however often its nanny starts it anew, and its machine."""
    return str(dask_worker.nanny or dask_worker.address), this_machine()


class _Way:
    """The orders that are `under` way, by their futures: name, order, and who may carry it out.

    `tries` says how often each was given to workers who are not there any more.
    """

    def __init__(self, client: Client) -> None:
        self.under: dict[Future[Any], tuple[str, str, Sequence[str]]] = {}
        self.tries: Counter[str] = Counter()
        self._client = client
        self._ending = as_completed(loop=client.loop)

    def add(self, name: str, order: str, future: Future[Any], members: Sequence[str]) -> None:
        """An order is under way."""
        self.under[future] = name, order, members
        self._ending.add(future)

    @property
    def names(self) -> set[str]:
        """The names of those under way."""
        return {name for name, _, _ in self.under.values()}

    def ended(self) -> list[Future[Any]]:
        """Those that have ended since."""
        return [each for each in self._ending.next_batch(block=False) if each in self.under]

    def stranded(self, there: Collection[str]) -> list[tuple[str, str]]:
        """The orders none of whose workers is there any more; they are not under way then."""
        lost = [
            future
            for future, (_, _, members) in self.under.items()
            if not future.done() and not set(members).intersection(there)
        ]
        if lost:
            self._client.cancel(lost)
        orders = [self.under.pop(future)[:2] for future in lost]
        self.tries.update(name for name, _ in orders)
        return orders


def _do(order: str, name: str, plugin: str) -> tuple[str, Mapping[str, Any] | None]:
    """What a worker does for one order, in its own process: the ending, and how far it got."""
    here = get_worker()
    told, last = [0.0], dict[str, Any]()

    def heard(how_far: Mapping[str, Any]) -> None:
        if "waiting" not in how_far:
            last.update(how_far)
            if time.monotonic() < told[0] + _TOLD_SECONDS:
                return
            told[0] = time.monotonic()
        if name:
            here.log_event(plugin, {"name": name, **how_far})

    found: Any = here.plugins[plugin]
    return str(found.worker.do(order, heard, lambda: False)), last or None


def _ending_of(future: Future[Any], seconds: float) -> tuple[str, Mapping[str, Any] | None]:
    """What was answered, and how far it got; TimeoutError where that is not there any more, or not
    yet."""
    try:
        match future.status:
            case "cancelled":
                return _refused(_GONE), None
            case "error":
                return _failed(future.exception(timeout=seconds)), None
            case _:
                ending, how_far = future.result(timeout=seconds)
                return str(ending), how_far
    except TimeoutError:
        raise
    except (CancelledError, OSError) as error:
        return _refused(f"{_GONE} ({type(error).__name__})"), None


def _failed(error: BaseException | None) -> str:
    # What a worker raises is Dask's own: an order raises nothing.
    return _refused(f"{type(error).__name__}: {error}")


def _refused(why: str) -> str:
    return Ending(refused=CampaignInterrupted(why)).as_text()
