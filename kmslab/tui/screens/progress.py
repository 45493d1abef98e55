"""A pass over a source while it is at work: how far, how fast, how long still. Esc stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import ProgressBar, Static

from kmslab.campaign.retrying import Patience
from kmslab.campaign.watching import Watch
from kmslab.errors import KmslabError
from kmslab.tui.chrome import KeyLine
from kmslab.tui.finishing import finish
from kmslab.tui.host import Host, host_of, in_worker
from kmslab.tui.jobs import Job
from kmslab.tui.modal import Modal
from kmslab.tui.texts import duration, visible

T = TypeVar("T")

SLOW: Final = 5.0
"""The seconds after which it is told that nothing new came."""

LOOKS: Final = 0.1
"""How often, in seconds, the screen looks how far the pass is."""


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """How a pass ended: what it gave, or why it did not."""

    value: T | None = None
    error: KmslabError | None = None


class AtWork(Modal[Ended[Any]]):
    """Runs a pass in a thread, and shows it until it has ended.

    Leaving is not possible before: Esc asks it to stop, which it does after the chunk. So does the
    end of the app, whatever ends it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "stop", "Stop after this chunk", key_display="Esc"),
        Binding("q,ctrl+q", "app.quit", "Quit"),
    ]
    DEFAULT_CSS = """
    AtWork { align: center middle; }
    AtWork > Vertical {
        width: 76; max-width: 96%; height: auto; border: round $primary;
        padding: 0 1; background: $surface;
    }
    AtWork .title { text-style: bold; }
    AtWork ProgressBar { margin: 1 0; width: 1fr; }
    AtWork ProgressBar Bar { width: 1fr; }
    """

    def __init__(self, title: str, job: Job, work: Callable[[Watch], Any]) -> None:
        super().__init__()
        self._title = title
        self._job = job
        self._work = work

    def compose(self) -> ComposeResult:
        """Title, bar, figures."""
        with Vertical():
            yield Static(self._title, classes="title", markup=False)
            yield ProgressBar(show_eta=False)
            yield Static("", id="figures", markup=False)
            yield Static("Esc stops after this chunk", id="hint", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Begin."""
        app = host_of(self)
        app.job = self._job
        self._show()
        self.set_interval(LOOKS, self._show)
        self.call_after_refresh(in_worker, self, self._run)  # which would hold the screen up

    async def _run(self) -> None:
        app = host_of(self)
        try:
            ended = await app.away(partial(self._ended, app))
        except asyncio.CancelledError:
            self._job.stop()  # the app ends; its thread would go on to the end of the source
            raise
        except Exception as error:
            ended = Ended()
            app.unforeseen(error)
        finally:
            app.job = None
        await finish(self, ended)

    def _ended(self, app: Host) -> Ended[Any]:
        """Do the work. Why it could not be done is kept, and not all that it held by then."""
        try:
            return Ended(self._work(self._job.watch))
        except KmslabError as error:
            held: BaseException | None = error
            while held is not None:
                held = held.with_traceback(None).__context__
            return Ended(error=error)
        finally:
            if self._job.campaign:
                app.source_changed()

    def _show(self) -> None:
        latest = self._job.latest
        if latest is not None:
            self.query_one(ProgressBar).update(total=latest.total, progress=latest.rows)
        self.query_one("#figures", Static).update(figures(self._job))

    def action_stop(self) -> None:
        """Ask it to stop."""
        self._job.stop()
        self.query_one("#hint", Static).update("stopping after this chunk")


def figures(job: Job) -> Text:
    """Rows, rate, what is left, and the counts so far."""
    latest = job.latest
    waiting = job.waiting()
    slow = ""
    if waiting >= SLOW:
        why = visible(job.waits_for) or "a call that fails is made again"
        slow = f"nothing new for {duration(waiting)}; {why}, for "
        slow += f"{duration(Patience().seconds)} at the most: then it stops, and can be continued"
    if latest is None:
        return Text(slow or "beginning")
    of = "" if latest.total is None else f" of {latest.total:,}"
    text = Text(f"{latest.doing}: {latest.rows:,}{of} records")
    if rate := job.rate():
        text.append(f", {rate:,.0f} a second")
    left = job.left()
    if left is not None:
        text.append(f", {duration(left)} left")
    counts = "  ".join(
        f"{visible(name.replace('_', '-'))} {count:,}"
        for name, count in latest.counts.items()
        if count
    )
    text.append(f"\n{slow or counts}")
    return text
