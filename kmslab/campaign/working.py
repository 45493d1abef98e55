"""What a worker does: orders of a campaign, one after the other, on a lab that it opens itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.absorbing import FINISHED
from kmslab.campaign.checking import check
from kmslab.campaign.counting import Counting
from kmslab.campaign.going_over import CallCount, go_over, make_way, no_counts, tools_for
from kmslab.campaign.ground import Ground
from kmslab.campaign.journal import Journal
from kmslab.campaign.orders import Brief, Ending, Kind, Order, unforeseen
from kmslab.campaign.outputs import output_path
from kmslab.campaign.passes import Pass, Tools
from kmslab.campaign.planning import changed_meanwhile
from kmslab.campaign.shards import RunEnded, Shards
from kmslab.campaign.state import State
from kmslab.campaign.tally import Tally
from kmslab.campaign.tasks import Task
from kmslab.campaign.watching import Watch
from kmslab.clock import SystemClock
from kmslab.errors import (
    CampaignError,
    KmsError,
    KmslabError,
    LabError,
    Retryable,
    SourceError,
)
from kmslab.rate import Windows
from kmslab.records.opening import open_source
from kmslab.records.source import Part, Source

Heard = Callable[[Mapping[str, Any]], object]
"""Who hears how far an order is: `rows` and `counts` so far, or what is `waiting`."""

_LOOK_SECONDS: Final = 0.1
"""How often a worker looks whether its run has ended, in the middle of a chunk."""


class _Stopped(Exception):
    """The order is not to be carried on. `error` is what a provider answered, if it did."""

    def __init__(self, error: KmsError | None = None) -> None:
        super().__init__()
        self.error = error


class Worker:
    """Does orders. `ground` is what it stands on; without one it opens what its orders name.

    What it has opened it keeps until it is closed. Several threads may have it do orders at once.
    """

    def __init__(self, ground: Ground | None = None) -> None:
        self._own = ground
        self._lock = threading.RLock()
        self._grounds: dict[str, Ground] = {}
        self._runs: dict[tuple[str, bool], _OpenRun] = {}
        self._of_thread = threading.local()

    def close(self) -> None:
        """Close the labs that were opened."""
        with self._lock:
            opened, self._grounds = self._grounds, {}
            self._runs.clear()
        for ground in opened.values():
            with suppress(LabError):  # the ending of its orders has said so
                ground.providers.close()  # type: ignore[attr-defined]

    def do(self, text: str, heard: Heard, stop: Callable[[], bool]) -> str:
        """Carry out an order; its ending. Nothing is raised, whatever is wrong."""
        try:
            return self._ending(Order.from_text(text), heard, stop).as_text()
        except _Stopped as stopped:
            return Ending(error=stopped.error).as_text()
        except RunEnded:
            return Ending().as_text()
        except Retryable as error:
            return Ending(error=error).as_text()
        except KmslabError as error:
            return Ending(refused=error).as_text()
        except Exception as error:
            return Ending(refused=unforeseen(error)).as_text()

    def _ending(self, order: Order, heard: Heard, stop: Callable[[], bool]) -> Ending:
        if stop():
            raise _Stopped
        ground = self._ground(order)
        if order.kind is Kind.CHECK:
            return Ending(check(ground, order))
        if order.task is None:
            raise CampaignError("an order without a task")
        shards = Shards.of(ground.state, order.campaign)
        looking = _Looking(stop, shards, order.run)

        def waiting(text: str) -> None:
            heard({"waiting": text})

        watch = Watch(stop=looking, waiting=waiting)
        run = self._run(ground, shards, order)
        match order.kind:
            case Kind.PLAN:
                return Ending(run.planned(order.task, watch, heard))
            case Kind.RUN:
                with shards.working(order.task, order.run, looking):
                    if shards.taken(order.task):
                        return Ending({"spoilt": False})
                    own = self._tools_of_thread(run, order, watch, heard)
                    return Ending(run.run(order.task, shards, own, looking, heard))
            case _:
                return Ending(run.counted(order.task, watch, heard))

    def _ground(self, order: Order) -> Ground:
        if self._own is not None:
            return self._own
        name = f"{order.reopening} {order.state}"
        with self._lock:
            if name not in self._grounds:
                remotes = tuple(sorted(order.reopening.remotes))
                self._grounds[name] = Ground(
                    order.reopening.open(),
                    State.of(None, order.state),
                    SystemClock(),
                    open_source=partial(open_source, placed=bool(remotes)),
                    remotes=remotes,
                )
            return self._grounds[name]

    def _run(self, ground: Ground, shards: Shards, order: Order) -> _OpenRun:
        copies = order.kind is Kind.COUNT
        with self._lock:
            if (order.run, copies) not in self._runs:
                for name in [name for name in self._runs if name[0] != order.run]:
                    del self._runs[name]
                brief = Brief.from_dict(shards.brief(order.run))
                windows = order.reopening.windows(order.campaign)
                self._runs[order.run, copies] = _OpenRun(ground, brief, windows, copies=copies)
            return self._runs[order.run, copies]

    def _tools_of_thread(
        self, run: _OpenRun, order: Order, watch: Watch, heard: Heard
    ) -> _ThreadTools:
        """What this thread works with in a run: it remembers what it has asked for before."""
        kept: _ThreadTools | None = getattr(self._of_thread, "kept", None)
        if kept is None or kept.run != order.run:
            kept = self._of_thread.kept = _ThreadTools(order.run, run)
        kept.watch, kept.heard = watch, heard
        return kept


class _Looking:
    """Says whether an order is to be stopped; it looks into the folder only now and then."""

    def __init__(self, stop: Callable[[], bool], shards: Shards, run: str) -> None:
        self._stop = stop
        self._shards = shards
        self._run = run
        self._looked = time.monotonic()
        self._ended = False

    def __call__(self) -> bool:
        if not self._ended and time.monotonic() > self._looked + _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._ended = not self._shards.permitted(self._run)
        return self._ended or self._stop()


class _ThreadTools:
    """The tools of one thread in one run, whatever order it is at."""

    def __init__(self, run: str, over: _OpenRun) -> None:
        self.run = run
        self.watch = Watch()
        self.heard: Heard = lambda _: None
        self._over = over
        self._tools: Tools | None = None

    def tools(self, shard: Journal) -> Tools:
        """The tools for a task, whose journal is `shard`; its counts begin at nothing."""
        if self._tools is None:
            over = self._over
            watch = Watch(
                stop=lambda: self.watch.stop(), waiting=lambda text: self.watch.waiting(text)
            )
            self._tools = tools_for(
                over.ground,
                shard,
                over.brief.target,
                over.brief.options,
                over.source.fields,
                watch,
                lambda _: None,
                windows=over.windows,
            )
        calling = CallCount(shard, self._tools.sender)
        return replace(self._tools, journal=shard, counts=no_counts(), calling=calling)


class _OpenRun:
    """The source of a run, or the copy of it that the run writes, and how each order goes over
    it."""

    def __init__(self, ground: Ground, brief: Brief, windows: Windows, *, copies: bool) -> None:
        spec, output = brief.spec, brief.options.output
        if copies and output is not None:
            spec = replace(spec, location=output)
        self.ground = ground
        self.brief = brief
        self.windows = windows
        self.source: Source = ground.open_source(spec)
        self._parts = {part.name: part for part in self.source.parts}

    def planned(self, task: Task, watch: Watch, heard: Heard) -> Mapping[str, Any]:
        """What would become of a task's records."""
        brief, part = self.brief, self._part(task)
        tally = Tally(self.ground.providers, brief.target, brief.options.selection)
        before, rows = part.fingerprint(), 0
        for chunk in part.read():
            tally.take(chunk.records, deep=False)
            rows += len(chunk.records)
            heard({"rows": rows, "counts": tally.counts})
            if watch.stop():
                raise _Stopped
        if part.fingerprint() != before:
            raise changed_meanwhile(task.part)
        return {"tally": tally.as_dict(), "fingerprint": before}

    def run(
        self,
        task: Task,
        shards: Shards,
        own: _ThreadTools,
        stop: Callable[[], bool],
        heard: Heard,
    ) -> Mapping[str, Any]:
        """Re-encrypt a task's records; whether an atomic campaign has to leave them as they are."""
        part, path = self._part(task), shards.path(task)
        with _shard(path) as shard:
            facts = shard.facts()
            if facts["state"] == FINISHED:
                return {"spoilt": False}
            tools = own.tools(shard)
            pass_ = Pass(tools, shard.part(part.name))
            output = output_path(self.brief.options, self.source, self._parts[task.part])
            make_way(shard, output)

            def taken() -> None:
                heard({"rows": pass_.rows, "counts": dict(tools.counts)})
                if pass_.stalled is not None or pass_.unsent or stop():
                    raise _Stopped(pass_.stalled)

            done = go_over(
                pass_,
                part,
                tools=tools,
                output=output,
                atomic=self.brief.options.atomic,
                taken=taken,
            )
            kept_out = {outcome.value: n for outcome, n in pass_.kept_out.items()}
            shard.note(state=FINISHED if done else "running", kept_out=kept_out)
            return {"spoilt": not done}

    def counted(self, task: Task, watch: Watch, heard: Heard) -> Mapping[str, Any]:
        """The outcomes and the census of a task's records as they are now."""
        counting = Counting(self.ground.providers, self.brief.target)

        def told() -> None:
            heard({"rows": counting.rows, "counts": {}})
            if watch.stop():
                raise _Stopped

        counting.over(self._part(task), told)
        return counting.as_dict()

    def _part(self, task: Task) -> Part:
        if task.part not in self._parts:
            raise SourceError(f"{task.part} is not there any more", source=task.part)
        return task.within(self._parts[task.part])


def _shard(path: Path) -> Journal:
    if path.is_file():
        return Journal.open(path, shard=True)
    return Journal.create(path, {"state": "running", "calls": {}}, shard=True)
