"""Where the workers of a campaign write: a journal for each task, in a folder beside the journal.

The folder may be on a file system that several machines share. A worker writes only while it has
the lock of its task, and while the folder has the permit of the run that sent it: who takes the
permit away stops every worker after its chunk, and no order of an earlier run is ever begun.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kmslab.campaign.absorbing import absorb, give_back
from kmslab.campaign.journal import Journal
from kmslab.campaign.pacing import Stop, never
from kmslab.campaign.state import State, content_errors, state_errors, try_lock, write_private
from kmslab.campaign.tasks import Task, TaskList
from kmslab.disk import refusal
from kmslab.errors import ShardDamaged, SourceBusy, StateError
from kmslab.keystore.root import sync_directory
from kmslab.leases import Leases

BUSY_SECONDS: Final = 60.0
"""How long a task is waited for that a worker of an earlier run is still at work on."""

_PERMIT: Final = "permit"
_WAIT: Final = 0.05


class RunEnded(Exception):
    """The run that an order belongs to has ended: it is not to be begun."""


@dataclass(frozen=True, slots=True)
class Shards:
    """The folder of the shards of one campaign, and the `leases` by which its workers share rates
    where they do so in the state folder."""

    folder: Path
    leases: Leases

    @classmethod
    def of(cls, state: State, campaign_id: str) -> Shards:
        """The folder of a campaign, whether it is there or not."""
        leases = Leases(str(state.path.absolute()), campaign_id)
        return cls(state.shards_path(campaign_id), leases)

    def there(self) -> bool:
        """Whether the campaign has, or had, workers that are not settled with."""
        return self.folder.is_dir()

    def path(self, task: Task) -> Path:
        """Where the shard of a task is, or is to be."""
        return self.folder / f"{task.name}.db"

    # Who may write

    def permit(self, brief: Mapping[str, Any]) -> str:
        """Let workers begin, with what all of them are to know; the name of the run."""
        with state_errors(self.folder, "cannot be made"):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.folder.parent)  # what is written in it is to be found after a crash
        run = secrets.token_hex(8)
        write_private(self._brief(run), json.dumps(brief))
        write_private(self.folder / _PERMIT, run)
        return run

    def brief(self, run: str) -> dict[str, Any]:
        """What all workers of a run are to know. RunEnded where it has."""
        try:
            found: dict[str, Any] = json.loads(self._brief(run).read_text("utf-8"))
        except FileNotFoundError:
            raise RunEnded from None
        except OSError as error:
            raise StateError(f"{self._brief(run)} cannot be read: {refusal(error)}") from None
        return found

    def permitted(self, run: str) -> bool:
        """Whether a run has not ended."""
        try:
            return (self.folder / _PERMIT).read_text("ascii") == run
        except OSError:
            return False

    def revoke(self) -> None:
        """End the run: its workers stop after their chunk, and begin nothing more."""
        with state_errors(self.folder / _PERMIT, "cannot be removed"):
            (self.folder / _PERMIT).unlink(missing_ok=True)
            for brief in self.folder.glob("*.json"):
                brief.unlink(missing_ok=True)

    @contextmanager
    def working(self, task: Task, run: str, stop: Stop = never) -> Iterator[None]:
        """Be the only one at work on a task, in a run that has not ended.

        RunEnded where it has, SourceBusy where somebody else stays at work on it.
        """
        with self.alone(task, stop):
            if not self.permitted(run):
                raise RunEnded
            yield

    @contextmanager
    def alone(self, task: Task, stop: Stop = never, seconds: float | None = None) -> Iterator[None]:
        """Have nobody else at work on a task. SourceBusy where that takes too long."""
        until = time.monotonic() + (BUSY_SECONDS if seconds is None else seconds)
        while True:
            with try_lock(self._lock(task)) as ours:
                if ours:
                    yield
                    return
            if time.monotonic() > until or stop():
                raise SourceBusy(
                    f"a worker is still at work on task {task.name} of campaign "
                    f"{self.folder.stem} ({task.part}), maybe on another machine: wait until it "
                    "has ended, or end it",
                    source=task.part,
                )
            time.sleep(_WAIT)

    def taken(self, task: Task) -> bool:
        """Whether the journal has all of a task, for whoever is alone with it. One may be ordered
        again even then: a scheduler forgets answers with the worker that gave them."""
        with state_errors(self._lock(task), "cannot be read"):
            return bool(self._lock(task).stat().st_size)

    def _lock(self, task: Task) -> Path:
        return self.folder / f"{task.name}.lock"

    def _brief(self, run: str) -> Path:
        return self.folder / f"{run}.json"

    # What was written

    def take(self, journal: Journal, task: Task) -> None:
        """Take the shard of a task into the journal; it is removed once it is finished."""
        with self.alone(task):
            self._take(journal, task)

    def settle(self, journal: Journal, *, seconds: float | None = None) -> None:
        """End what is left of a run, and have the journal know of all that its workers did.

        For whoever has the lock of the source. SourceBusy where a worker does not end. ShardDamaged
        names the shards that cannot be read, once the journal knows of all others.
        """
        if not self.there():
            return
        self.revoke()
        damaged: list[str] = []
        for task in TaskList(journal.database).unknown():
            with self.alone(task, seconds=seconds):
                try:
                    self._take(journal, task)
                except ShardDamaged as error:
                    damaged.append(str(error))
        if damaged:
            raise ShardDamaged("; ".join(damaged))

    def unsettled(self, journal: Journal) -> bool:
        """Whether a worker has, or may have, written what the journal does not know of."""
        return any(self.path(task).is_file() for task in TaskList(journal.database).unknown())

    def reopen(self, journal: Journal) -> None:
        """Let the unfinished tasks go on, once they are settled: their shards have all again."""
        for task in TaskList(journal.database).copied():
            give_back(journal, task, self.path(task))

    def end(self, journal: Journal, *, seconds: float | None = None) -> None:
        """End what is left of a run, and wait until none of its workers writes any more.

        SourceBusy where one does not end.
        """
        self.revoke()
        for task in TaskList(journal.database).unfinished():
            if self._lock(task).is_file():
                # Who gets it after us is not permitted any more, and does nothing.
                with self.alone(task, seconds=seconds):
                    pass

    def remove(self, journal: Journal) -> None:
        """Remove the folder and the leases, when the journal has everything for good.

        SourceBusy where a worker does not end.
        """
        if not self.there():
            return
        self.end(journal)
        self.leases.forget(journal.facts()["options"]["rates"])
        with state_errors(self.folder, "cannot be removed"):
            shutil.rmtree(self.folder)

    def _take(self, journal: Journal, task: Task) -> None:
        path = self.path(task)
        if path.is_file() and absorb(journal, task, path):
            with state_errors(self._lock(task), "cannot be written"):
                self._lock(task).write_text("taken", "ascii")
            with state_errors(path, "cannot be removed"):
                path.unlink()


def settle_if_free(state: State, campaign_id: str, *, held: Collection[str] = frozenset()) -> None:
    """Have a journal know of all that workers did, unless somebody is at work on its source.

    `held` are the sources that the caller has the locks of. ShardDamaged as in `Shards.settle`,
    StateError for what is no journal of ours.
    """
    shards = Shards.of(state, campaign_id)
    if not shards.there():
        return
    path = state.journal_path(campaign_id)
    with content_errors(path), Journal.open(path) as journal, suppress(SourceBusy):
        source = journal.facts()["source"]
        with nullcontext() if source in held else state.lock(source, seconds=0):
            shards.settle(journal, seconds=0)
