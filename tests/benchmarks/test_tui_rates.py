"""The explorer with a million records: the first paint, keys, filters and orders, and the memory.

What a person waits for is measured: from a key, as Textual gets it from the terminal, to the lines
that are painted after it. The event loop's lag is how much later than asked a sleep of 5 ms ends;
where something is at work beside the keys, it is judged as they are.
With all of the explorer around it, every press of a key is judged, by the longer of two: the time
until something was painted after it, and the longest that the event loop was held up meanwhile, by
whichever thread. After a key that does nothing nothing is painted; only the loop is judged then.
A key that opens another screen is answered by what is painted on that one, or by the first line
where it says what is waited for; how many were, and how long they waited, is told. The limits are
reported and do not fail the run, which a busy machine may slow at any moment; how much of the time
this process worked is told beside it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter, process_time
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from textual import events
from textual._compositor import CompositorUpdate
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.strip import Strip

from kmslab import Lab, ManualClock
from kmslab.analysis import Outcome, Verdict
from kmslab.campaign.run import Ground
from kmslab.campaign.state import State
from kmslab.columns import Records
from kmslab.records.spec import SourceSpec
from kmslab.tui import loop
from kmslab.tui.app import Explorer
from kmslab.tui.filtering import Query
from kmslab.tui.grid import Grid
from kmslab.tui.loading import Ended, Grown, Job, judge_again, read
from kmslab.tui.responsive import Turns, responsive
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.progress import AtWork
from kmslab.tui.session import Session
from kmslab.tui.sorting import By, Sort
from kmslab.tui.table import Table, pack
from kmslab.tui.view import View, Wanted

ROWS = 1_000_000
READ_ROWS = 60_000
BLOCK = 1_000
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
FIRST_PAINT, KEY, FILTER = 1.0, 0.1, 0.15
FILTERS = ["order", "12345", "out:stale", "key:orders ver:<3 age:>90d owner:team-7 !99", "!nowhere"]
KEYS = ["j", "pagedown", "G", "k", "space", "g", "v", "pagedown", "v", "A", "a", "A"]

Note = Callable[[str], None]


@pytest.fixture(scope="module")
def table() -> Table:
    """A million records on 40 versions of 10 keys, of 41 owners, in no order."""
    chance = random.Random(7)
    keys = [f"{n:08x}-9a8f-11ef-a291-f7d511820cf1" for n in range(10)]
    verdicts = [
        Verdict(Outcome.STALE if n < 4 else Outcome.CURRENT, "", key, f"{n:08x}-1e38", n, n == 4)
        for key in keys
        for n in range(1, 5)
    ]
    times = [NOW - timedelta(seconds=chance.randrange(6 * 10**7)) for _ in range(BLOCK)]
    owners = [f"team-{chance.randrange(41)}" for _ in range(BLOCK)]
    nothing = [None] * BLOCK
    blobs = ["".join(chance.choices("abcXYZ0123456789+/", k=200)) for _ in range(BLOCK)]
    made = Table()
    for start in range(0, ROWS, BLOCK):
        ids = [f"order-{chance.randrange(10**9):09d}" for _ in range(BLOCK)]
        chance.shuffle(times)
        records = Records(
            ids,
            ["tencent"] * BLOCK,
            blobs,
            range(start, start + BLOCK),
            nothing,
            nothing,
            times,
            owners,
            *[nothing] * 5,
        )
        made.append(pack(records, chance.choices(verdicts, k=BLOCK), made.shared))
    return made


class Timed(Grid, inherit_css=True):
    """A grid that knows when it was painted last."""

    painted = 0.0

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        self.painted = perf_counter()
        return strip


class One(App[None]):
    """A grid and nothing else."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.turns = Turns()
        self.grid = Timed(view, self.turns)

    def on_mount(self) -> None:
        self.turns.follow(asyncio.get_running_loop())

    def compose(self) -> ComposeResult:
        yield self.grid

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.001)

    async def press(self, key: str) -> float:
        """The seconds from a key to the paint after it."""
        character = {"space": " "}.get(key, key if len(key) == 1 else None)
        begun = perf_counter()
        self.turns.answer()
        self.post_message(events.Key(key, character))
        await self.until(lambda: self.grid.painted > begun)
        await asyncio.sleep(0.02)  # until all of it is painted
        return self.grid.painted - begun


@dataclass
class Lag:
    """How much later than asked sleeps end, in seconds."""

    found: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    """How much of it the process worked; the rest is somebody else's."""

    begun: tuple[float, float] = (0.0, 0.0)

    async def measure(self) -> None:
        while True:
            self.begun = perf_counter(), process_time()
            await asyncio.sleep(0.005)
            self.take()

    def take(self) -> None:
        """Of a sleep that has not ended, what it is late by now."""
        self.found.append(max(0.0, perf_counter() - self.begun[0] - 0.005))
        self.worked.append(min(self.found[-1], process_time() - self.begun[1]))

    @asynccontextmanager
    async def measured(self) -> Any:
        task = asyncio.create_task(self.measure())
        try:
            yield self
        finally:
            if self.begun[0]:
                self.take()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def press(self, key: str) -> Press:
        worst = max(range(len(self.found)), key=self.found.__getitem__)
        return Press(key, self.found[worst], self.worked[worst])

    def __str__(self) -> str:
        return f"lag {1000 * median(self.found):.0f} ms, worst {1000 * max(self.found):.0f} ms"


def line(name: str, found: list[float], limit: float, more: str = "", *lags: Lag) -> str:
    """The worst of some times and lags counts, and the times' median is told."""
    worst = max([*found, *(each for lag in lags for each in lag.found)])
    mark = "ok" if worst <= limit else "ABOVE"
    times = f"{1000 * median(found):6.0f} ms, worst {1000 * worst:4.0f}"
    return f"{name:44} {times}  at most {1000 * limit:4.0f}  {mark}  {more}"


def run(benchmark: BenchmarkFixture, view: View, steps: Callable[[One], Awaitable[None]]) -> None:
    async def whole() -> None:
        app = One(view)
        async with app.run_test(size=(140, 45)):
            await app.until(lambda: app.grid.painted > 0)
            await steps(app)

    with responsive():
        benchmark.pedantic(lambda: loop.run(whole()), rounds=1, iterations=1)


def test_first_paint(table: Table, benchmark: BenchmarkFixture, note: Note) -> None:
    """From the table that is there to lines on the screen."""
    view, found = View(Table(), ManualClock(NOW)), list[float]()

    async def steps(app: One) -> None:
        for _ in range(5):
            app.grid.show_table(view)
            await asyncio.sleep(0.05)
            begun = perf_counter()
            app.grid.show_table(View(table, view.clock))
            await app.until(lambda: app.grid.painted > begun)  # noqa: B023
            await asyncio.sleep(0.02)
            found.append(app.grid.painted - begun)

    run(benchmark, view, steps)
    note(line(f"first paint of {ROWS:,} records", found, FIRST_PAINT))


def test_keys(table: Table, benchmark: BenchmarkFixture, note: Note) -> None:
    found: list[float] = []

    async def steps(app: One) -> None:
        found.extend([await app.press(key) for key in KEYS * 2])

    run(benchmark, View(table, ManualClock(NOW)), steps)
    note(line("keys, nothing else at work", found, KEY))


@pytest.mark.parametrize("by", [By.ID, By.AGE, By.KEY])
def test_keys_while_a_million_records_are_put_in_order(
    by: By, table: Table, benchmark: BenchmarkFixture, note: Note
) -> None:
    found, lag, seconds = list[float](), Lag(), 0.0

    async def steps(app: One) -> None:
        nonlocal seconds
        async with lag.measured():
            begun = perf_counter()
            app.grid.ask_sort(Sort(by))
            while app.grid.view.wanted != app.grid.wanted:
                found.append(await app.press("j"))
            seconds = perf_counter() - begun

    run(benchmark, View(table, ManualClock(NOW)), steps)
    note(line(f"keys while all are sorted by {by}", found, KEY, f"{seconds:.1f} s; {lag}", lag))


def test_keys_while_filters_are_typed(
    table: Table, benchmark: BenchmarkFixture, note: Note
) -> None:
    found, lag, filters = list[float](), Lag(), 0

    async def steps(app: One) -> None:
        nonlocal filters
        async with lag.measured():
            for text in FILTERS:
                for end in range(1, len(text) + 1, 3):
                    with suppress(ValueError):
                        app.grid.ask_filter(text[:end])
                        filters += 1
                    found.append(await app.press("j"))

    run(benchmark, View(table, ManualClock(NOW)), steps)
    note(line("keys while filters are typed", found, KEY, f"{filters} filters; {lag}", lag))


@pytest.mark.parametrize("text", FILTERS)
def test_filters(text: str, table: Table, benchmark: BenchmarkFixture, note: Note) -> None:
    view = View(table, ManualClock(NOW))
    wanted = Wanted(Query.parse(text))
    arrangement = benchmark.pedantic(view.arrange, [wanted], rounds=7, iterations=1)
    found = list(benchmark.stats.stats.data)
    note(line(f"filter {text}"[:44], found, FILTER, f"{len(arrangement.rows):,} records"))


def test_keys_while_a_source_is_read_and_judged(
    tmp_path: Path, benchmark: BenchmarkFixture, note: Note
) -> None:
    """A CSV file, mostly Python at work, which is hardest on the keys."""
    found, lag, again, seconds = list[float](), Lag(), Lag(), 0.0
    with Lab.create(tmp_path / "lab") as lab:
        kms = lab.tencent()
        key_id = kms.create_key(alias="orders").key_id
        blobs = kms.encrypt_many([b"secret"] * 1_000, key_id=key_id).ciphertext_blob
        lines = (
            f"order-{n},tencent,{blobs[n % 1_000]},2026-01-01,team\n" for n in range(READ_ROWS)
        )
        path = tmp_path / "records.csv"
        path.write_text("record_id,provider,ciphertext_blob,created_at,owner\n" + "".join(lines))
        job, left = Job(SourceSpec(str(path)), lab, lab.keys), Event()

        async def steps(app: One) -> None:
            nonlocal seconds
            running = asyncio.get_running_loop()

            def take(grown: Grown) -> None:
                if app.grid.view.table is not grown.table:
                    app.grid.show_table(View(grown.table, app.grid.view.clock))
                for block in grown.blocks:
                    grown.table.append(block)
                app.grid.grow()

            def tell(grown: Grown) -> None:
                running.call_soon_threadsafe(take, grown)

            async def pressed(work: asyncio.Future[Any], over: Lag) -> Any:
                async with over.measured():
                    while not work.done():
                        found.append(await app.press("j"))
                return work.result()

            stop = app.turns.gently(left.is_set)
            reading = asyncio.ensure_future(asyncio.to_thread(read, job, tell, stop))
            ended = await pressed(reading, lag)
            assert ended == Ended(READ_ROWS, ended.seconds)
            seconds = ended.seconds
            judging = asyncio.to_thread(judge_again, app.grid.view.table, job, stop)
            await pressed(asyncio.ensure_future(judging), again)

        run(benchmark, View(Table(), ManualClock(NOW)), steps)
    rate = f"{READ_ROWS / seconds:,.0f} records/s; {lag}; judging again: {again}"
    note(line("keys while a source is read", found, KEY, rate, lag, again))


UNBOUND = "f12"  # does nothing on any screen


@dataclass(frozen=True, slots=True)
class Press:
    """What one press of a key took, in seconds, and how much of that the process worked."""

    key: str
    seconds: float
    worked: float
    waited: float = 0.0
    """After how long the screen was there, where it was told first that it is waited for."""


class Whole(Explorer):
    """The explorer, which paints as in a terminal, and knows when it did so last."""

    painted = 0.0
    painted_on: Screen[Any] | None = None
    painted_waits = False

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate):
            renderable.render_segments(self.console)
            self.painted, self.painted_on = perf_counter(), screen
            self.painted_waits = bool(self.waits_for)
        super()._display(screen, renderable)

    async def until(self, holds: Callable[[], bool]) -> None:
        end = perf_counter() + 20
        while not holds():
            assert perf_counter() < end, f"it did not come to be so on {self.screen}"
            await asyncio.sleep(0.001)

    async def press(self, key: str, screens: str, settle: float = 0.2) -> Press:
        """Press a key, and look on until one of these screens is there and for some time more."""
        before, lag = self.screen, Lag()
        moves = type(before).__name__ not in screens.split()
        if isinstance(before, AtWork) and key == "escape":
            moves = False  # it says that it stops, and leaves after the chunk
        begun, worked = perf_counter(), process_time()

        def answered() -> bool:
            meant = not moves or self.painted_on is not before or self.painted_waits
            return (self.painted > begun and meant) or key == UNBOUND

        async with lag.measured():
            self.post_message(events.Key(key, CHARACTERS.get(key, key if len(key) == 1 else None)))
            await self.until(answered)
            seen, worked = self.painted - begun, process_time() - worked
            waits = self.painted_waits
            await self.until(lambda: any(is_there(self, each) for each in screens.split()))
            waited = perf_counter() - begun if waits else 0.0
            await asyncio.sleep(settle)
        longest = max(Press(key, seen, min(seen, worked)), lag.press(key), key=lambda p: p.seconds)
        return replace(longest, waited=waited)


def is_there(app: Whole, name: str) -> bool:
    """Whether the screen of this name is in front and waits for nothing, all of it is there, and
    none of the records' ids is looked for any more."""
    screen = app.screen
    made = not isinstance(screen, PlanScreen) or screen.plan is not None
    free = screen not in app.begun and "twins" not in app.begun
    return type(screen).__name__ == name and made and free


def told(presses: list[Press]) -> str:
    """The worst press, by its name and its number among those of this key."""
    worst = max(presses, key=lambda press: press.seconds)
    number = [press for press in presses if press.key == worst.key].index(worst) + 1
    waited = [press.waited for press in presses if press.waited]
    more = f"; {len(waited)} told to wait, {1000 * max(waited):.0f} at most" if waited else ""
    return f"{worst.key} the {number}. time, worked {1000 * worst.worked:.0f}{more}"


def report(name: str, presses: list[Press], note: Note) -> None:
    note(line(name, [press.seconds for press in presses], KEY, told(presses)))


CHARACTERS = {"space": " ", "slash": "/", "colon": ":", "question_mark": "?"}
AT_RECORDS = [
    ("space: mark one more, or less", "space space"),
    ("A, a: no marks, all marks", "A a"),
    ("v, G, v: a range of all", "g v G v"),
    ("1, 2, 3, tab: panes", "1 2 3 tab 2"),
    ("/, a letter, esc: filter", "slash x escape"),
    ("s, S: sort by the state", "s S"),
    ("y: copy the blob", "y"),
    ("i: inspect", "i:InspectScreen y:InspectScreen escape"),
    ("Y: the whole blob", "Y:Whole escape"),
    ("o: write the blob", "o:Form escape"),
    ("d: decrypt, refused and explained", "d"),
    ("r: plan what is marked", "r:PlanScreen"),
    ("c: another plan", "c:PlanScreen c:PlanScreen"),
    ("d: destination of a plan", "d:Choose escape:PlanScreen"),
    ("o: ask where the plan is written", "o:Form escape:PlanScreen"),
    ("enter: go on, and leave", "enter:Confirm escape:PlanScreen escape"),
    ("x: export what is marked", "x:Choose"),
    ("enter: begin to export", "enter:AtWork"),
    ("esc: stop it", "escape"),
    ("u: undo, refused", "u"),
    ("J: journals", "J:Journals escape"),
    ("H: audit log", "H:AuditLog v:AuditLog f5:AuditLog escape"),
    ("O: sources", "O:SourcesScreen escape"),
    ("L: activity", "L:ActivityScreen escape"),
    ("?: help", "question_mark:Help escape"),
    ("palette", "colon:CommandPalette m:CommandPalette escape"),
    ("t: themes", "t t t t"),
    ("F10: read-only, writable", "f10 f10"),
]
AT_A_KEY = [
    ("tree: up, down, open, shut", "k j l h"),
    ("K: key screen", "K:KeyScreen escape"),
    ("n: create a key", "n:Form escape"),
    ("R: rotate", "R:Confirm escape"),
    ("e: disable", "e:Confirm escape"),
    ("D: delete", "D:Form escape"),
    ("P: rotation policy", "P:Form escape"),
    ("N: alias", "N:Form escape"),
]


def test_every_key_with_a_million_marks(
    table: Table, tmp_path: Path, benchmark: BenchmarkFixture, note: Note
) -> None:
    """The records on the screen are a million; the source that is planned has fewer. Every key is
    pressed in each of two rounds."""
    found: dict[str, list[Press]] = {}
    path = tmp_path / "records.csv"
    with Lab.create(tmp_path / "lab", clock=ManualClock(NOW)) as lab:
        kms = lab.ctyun()
        key_id = kms.create_key(alias="orders").key_id
        blobs = kms.encrypt_many([b"secret"] * BLOCK, key_id=key_id).ciphertext_blob
        ids = table.blocks[0].ids.all()
        lines = (f"{name},ctyun,{blob},\n" for name, blob in zip(ids, blobs, strict=True))
        columns = "record_id,provider,ciphertext_blob,encryption_context\n"
        path.write_text(columns + "".join(lines))
        lab.rotate(key_id)
        ground = Ground(lab, State.of(tmp_path / "lab", None), ManualClock(NOW))
        session = Session(lab, ground, "lab", spec=SourceSpec(str(path)), source="records.csv")

        async def steps(app: Whole, keys: list[tuple[str, str]]) -> None:
            for name, pressed in keys:
                for key in pressed.split():
                    one, _, screen = key.partition(":")
                    found.setdefault(name, []).append(await app.press(one, screen or "Records"))

        async def whole() -> None:
            app = Whole(session, tmp_path / "log")
            async with app.run_test(size=(140, 45), notifications=True):
                records = app.records
                await app.until(lambda: records.is_mounted and records.reader.counted)
                records.grid.show_table(View(table, ManualClock(NOW)))
                await app.press("a", "Records")
                for _ in range(2):
                    await steps(app, AT_RECORDS)
                assert records.grid.view.marked == ROWS
                for key in "1G":
                    await app.press(key, "Records")
                for _ in range(2):
                    await steps(app, AT_A_KEY)

        with responsive():
            benchmark.pedantic(lambda: loop.run(whole()), rounds=1, iterations=1)
    for name, presses in found.items():
        report(name, presses, note)
    assert not list((tmp_path / "log").glob("*"))


PLAN, WORK, DONE = "PlanScreen", "AtWork", "ResultScreen"
CAMPAIGN_ROWS = 50 * BLOCK
TYPED = [(f"{digit}", "Confirm", 0.05) for digit in str(CAMPAIGN_ROWS)]
AT_WORK = [(UNBOUND, f"{WORK} {DONE} Confirm", 0.1)] * 4
OF_A_CAMPAIGN = [
    ("r: plan a million ids", [("r", PLAN, 0.2)]),
    ("enter: ask", [("enter", "Confirm", 0.7)]),
    ("agree: type the count", TYPED),
    ("agree: begin", [("enter", WORK, 0.2)]),
    ("at work: any key", AT_WORK),
    ("at work: q, esc", [("q", "Confirm", 0.2), ("escape", WORK, 0.2)]),
    ("at work: esc, until it stops", [("escape", DONE, 0.2)]),
    ("result: ?", [("question_mark", "Help", 0.2), ("escape", DONE, 0.2)]),
    ("result: c, plan the rest", [("c", "Confirm", 0.7)]),
    ("continue", [*TYPED, ("enter", f"{WORK} {DONE}", 0.2)]),
    ("continue: any key", [*AT_WORK, (UNBOUND, DONE, 0.5)]),
    ("result: o, ask where", [("o", "Form", 0.2), ("escape", DONE, 0.2)]),
    ("result: u, look what can be undone", [("u", "Confirm", 0.7)]),
    ("undo", [*TYPED, ("enter", f"{WORK} {DONE}", 0.2)]),
    ("undo: any key", [*AT_WORK, (UNBOUND, DONE, 0.5)]),
    ("result: leave", [("escape", "Records", 1.0)]),
    ("J: journals", [("J", "Journals", 2.0), ("f5", "Journals", 2.0)]),
    ("journals: enter, esc", [("enter", DONE, 0.2), ("escape", "Journals", 2.0)]),
    ("journals: o, ask where", [("o", "Form", 0.2), ("escape", "Journals", 0.2)]),
    ("journals: C, close, y", [("C", "Confirm", 0.7), ("y", "Journals", 3.0)]),
    ("journals: leave", [("escape", "Records", 1.0)]),
]


def test_every_key_of_a_campaign_with_a_million_ids(
    table: Table, tmp_path: Path, benchmark: BenchmarkFixture, note: Note
) -> None:
    """A plan of a million ids over a source that has 50,000 of them: agreed to, stopped, continued,
    undone and closed, and all of it once more. What a campaign does with records it does chunk by
    chunk, however many."""
    found: dict[str, list[Press]] = {}
    path = tmp_path / "records.csv"
    with Lab.create(tmp_path / "lab", clock=ManualClock(NOW)) as lab:
        kms = lab.ctyun()
        key_id = kms.create_key(alias="orders").key_id
        with path.open("w") as file:
            file.write("record_id,provider,ciphertext_blob,encryption_context\n")
            for block in table.blocks[: CAMPAIGN_ROWS // BLOCK]:
                blobs = kms.encrypt_many([b"secret"] * BLOCK, key_id=key_id).ciphertext_blob
                rows = zip(block.ids.all(), blobs, strict=True)
                file.writelines(f"{name},ctyun,{blob},\n" for name, blob in rows)
        lab.rotate(key_id)
        ground = Ground(lab, State.of(tmp_path / "lab", None), ManualClock(NOW))
        session = Session(lab, ground, "lab", spec=SourceSpec(str(path)), source="records.csv")

        async def whole() -> None:
            app = Whole(session, tmp_path / "log")
            async with app.run_test(size=(140, 45), notifications=True):
                records = app.records
                await app.until(lambda: records.is_mounted and records.reader.counted)
                records.grid.show_table(View(table, ManualClock(NOW)))
                await app.press("a", "Records")
                for name, keys in OF_A_CAMPAIGN * 2:
                    for each in keys:
                        found.setdefault(name, []).append(await app.press(*each))

        with responsive():
            benchmark.pedantic(lambda: loop.run(whole()), rounds=1, iterations=1)
    for name, presses in found.items():
        report(f"campaign, {name}", presses, note)
    assert not list((tmp_path / "log").glob("*"))


def test_memory(table: Table, benchmark: BenchmarkFixture, note: Note) -> None:
    """What the texts and numbers of a million records hold."""

    def held() -> int:
        texts = sum(b.ids.nbytes + b.blobs.nbytes + b.contexts.nbytes for b in table.blocks)
        numbers = (n for b in table.blocks for n in (b.kinds, b.owners, b.named, b.created))
        return texts + sum(memoryview(column).nbytes for column in numbers)

    found = benchmark.pedantic(held, rounds=1, iterations=1) / 1e6
    benchmark.extra_info["mb"] = round(found)
    note(f"{'memory of a table':44} {found:6.0f} MB for {ROWS:,} records, blobs of 200")
