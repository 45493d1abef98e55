"""Keeps the grid's table as source and keys are: reads in a thread, and swaps tables when it is
done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

from textual.message import Message

from kmslab.tui.grid import Grid
from kmslab.tui.host import host_of
from kmslab.tui.loading import Ended, Grown, Job, judge_again, read
from kmslab.tui.session import Session
from kmslab.tui.stopping import Stop
from kmslab.tui.table import Block, Table
from kmslab.tui.view import View

if TYPE_CHECKING:
    from textual.screen import Screen


@dataclass
class Came(Message):
    """Records came, in a reading that `left` ends."""

    grown: Grown
    left: Event


@dataclass
class ReadEnded(Message):
    """A reading has come to its end."""

    ended: Ended
    left: Event


class Reader:
    """Reads for one grid. Records that come first are shown at once; where there are some already,
    they stay until all of the new ones are there. Marks, filter and order stay."""

    def __init__(self, screen: Screen[None], grid: Grid, session: Session) -> None:
        self._screen = screen
        self._grid = grid
        self._session = session
        self._left: Event | None = None
        self._judging: Event | None = None
        self._swapping = asyncio.Lock()
        self._coming: Table | None = None
        self._live = False
        self.counted = False
        """Whether the table has all records of the source, as they were when it was read last."""
        self.rows = 0
        self.notes: tuple[str, ...] = ()
        self.error: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being read."""
        return self._left is not None

    def stop(self) -> None:
        """What is being read is not wanted any more."""
        if self._left is not None:
            self._left.set()
            self._left = None

    def leave(self) -> None:
        """Nothing that is at work is wanted any more."""
        self.stop()
        if self._judging is not None:
            self._judging.set()
        self.counted = False

    def job(self) -> Job | None:
        """What there is to read."""
        spec, keyring = self._session.spec, self._session.keyring
        if spec is None:
            return None
        password = self._session.password_of(spec)
        return Job(spec, keyring, keyring.keys, password, placed=self._session.remote)

    async def read(self) -> None:
        """Read the source in a thread."""
        self.stop()
        job = self.job()
        if job is None:
            return
        self._left = left = Event()
        self._coming, self.rows, self.error, self.notes = None, 0, None, ()
        self._live = self._grid.view.total == 0
        self.counted = self.counted and not self._live

        stop = self._gently(left)

        def work() -> None:
            ended = read(job, lambda grown: self._post(Came(grown, left)), stop)
            self._post(ReadEnded(ended, left))

        await asyncio.to_thread(work)

    def came(self, message: Came) -> bool:
        """Take records in; whether they are shown."""
        if message.left is not self._left:
            return False
        grown = message.grown
        if grown.table is not self._coming:
            self._coming = grown.table
            grid = self._grid
            self._live = self._live and not grid.view.total  # else it was begun anew on the way
            if self._live:
                grid.show_table(View(grown.table, grid.view.clock, grid.wanted))
        for block in grown.blocks:
            grown.table.append(block)
        self.rows = grown.rows
        if self._live:
            self._grid.grow()
        return self._live

    async def ended(self, message: ReadEnded) -> bool:
        """Show what has been read; whether this was the reading that is wanted."""
        if message.left is not self._left:
            return False
        self.notes, self.error = message.ended.notes, message.ended.error
        table = self._coming
        if table is not None and self._live:
            self._grid.arrange_again()
        elif table is not None and self.error is None:
            async with self._swapping:
                await self._grid.swap(table)
        if message.left is not self._left:
            return False
        self._left = None
        self.counted = self.counted or self.error is None
        return True

    async def judge(self) -> Exception | None:
        """Judge the records that are there by the keys as they are now; what went wrong."""
        job = self.job()
        if job is None or self.busy:
            return None
        table = self._grid.view.table
        self._judging = left = Event()
        found = await asyncio.to_thread(judge_again, table, job, self._gently(left))
        if isinstance(found, Ended):
            return found.error
        async with self._swapping:
            if self._grid.view.table is table and not left.is_set():
                await self._grid.swap(found)
        return None

    def _gently(self, left: Event) -> Stop:
        return host_of(self._screen).turns.gently(left.is_set)

    def _post(self, message: Message) -> None:
        self._screen.post_message(message)


def rows_of(blocks: Sequence[Block], record_ids: Set[str]) -> list[int]:
    """The rows of the records with these ids, in a table of these blocks."""
    found, start = [], 0
    if record_ids:
        for block in blocks:
            found += [
                start + at
                for at, record_id in enumerate(block.ids.all())
                if record_id in record_ids
            ]
            start += len(block)
    return found
