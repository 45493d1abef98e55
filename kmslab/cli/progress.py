"""Watching a campaign: a bar on a terminal, and Ctrl-C.

The first Ctrl-C ends the campaign after the chunk that is at work, the second one at once. Whatever
moment it is, the campaign can be taken up again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from kmslab.cli.failures import Refused, interrupted
from kmslab.cli.output import narrate
from kmslab.cli.waiting import telling_waits

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from kmslab.campaign.watching import Progress, Watch

STOPPING: Final = "stopping after this chunk; Ctrl-C again stops at once"
_DUMB: Final = frozenset({"", "dumb", "unknown"})


@contextmanager
def watching(goes_on: str) -> Iterator[Watch]:
    """A `Watch` for one pass after another, which shows how far they are.

    What was stopped on the way becomes a refusal that says how to go on: `goes_on`, in which {id}
    stands for the campaign.
    """
    from kmslab.campaign.watching import Watch
    from kmslab.errors import CampaignInterrupted

    display = _Display() if shows_bars() else None
    asked = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        if display is None:
            # Not by print, which the signal may have interrupted.
            os.write(2, f"{STOPPING}\n".encode())
        else:
            display.stopping = True

    def progress(found: Progress) -> None:
        if display is not None:
            display.show(found)

    def waiting(text: str) -> None:
        if display is not None and display.shown:
            display.waiting = text
        elif text:
            narrate(text)

    with _on_interrupt(stop), telling_waits(waiting):
        try:
            yield Watch(progress, asked.is_set, waiting, narrate)
        except CampaignInterrupted as error:
            hint = f"to go on: {goes_on.replace('{id}', error.campaign_id)}"
            raise Refused(interrupted(error, hint if error.campaign_id else None)) from error
        except KeyboardInterrupt:
            if goes_on:
                narrate(f"stopped at once; to go on: {goes_on.replace('{id}', 'ID')}")
                narrate("(`kmslab campaign list` shows the ID)")
            raise
        finally:
            if display is not None:
                display.close()


def shows_bars(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody looks at stderr, on a terminal that can move its cursor."""
    can_move = environment.get("TERM", "") not in _DUMB and not environment.get("CI")
    return sys.stderr.isatty() and can_move


@contextmanager
def _on_interrupt(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Display:
    """A bar with its counts below; both are gone when it is closed."""

    def __init__(self) -> None:
        self.stopping = False
        self.waiting = ""
        self._doing = ""
        self._counts: Mapping[str, int] = {}
        self._bar: Bar | None = None
        self._task: Any = None

    @property
    def shown(self) -> bool:
        """Whether there is a bar now."""
        return self._bar is not None

    def show(self, found: Progress) -> None:
        """Show how far a pass is; of another pass than before, in a bar of its own."""
        self._counts = found.counts
        if self._bar is None or found.doing != self._doing:
            self.close()
            self._doing = found.doing
            self._bar = _bar(self._below)
            self._task = self._bar.add_task(found.doing, total=found.total)
            self._bar.start()
        self._bar.update(self._task, completed=found.rows, total=found.total)

    def close(self) -> None:
        """Take it from the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _below(self) -> str:
        counts = "  ".join(f"{name} {count:,}" for name, count in self._counts.items() if count)
        lines = counts, self.waiting, STOPPING if self.stopping else ""
        return "\n".join(line for line in lines if line)


def _bar(below: Any) -> Bar:
    """A bar that shows the text of `below` under it, as it is when the screen is drawn."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f}/s", style="progress.percentage")

    class Rows(ProgressColumn):
        def render(self, task: Task) -> Text:
            of = "" if task.total is None else f"/{int(task.total):,}"
            return Text(f"{int(task.completed):,}{of}", style="progress.download")

    class Both(Progress):
        def get_renderables(self) -> Iterator[Any]:
            yield from super().get_renderables()
            yield Text(below())

    return Both(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        Rows(),
        Rate(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True, highlight=False, markup=False, emoji=False),
        transient=True,
        expand=True,
    )
