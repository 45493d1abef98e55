"""A small lab with records of every kind, and the explorer on it."""

from __future__ import annotations

import asyncio
import csv
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from textual.notifications import Notification, Notifications
from textual.pilot import Pilot
from tui_rest import drained

from kmslab import Lab, ManualClock
from kmslab.campaign.run import Ground
from kmslab.campaign.state import State
from kmslab.records.spec import SourceSpec
from kmslab.tui.app import Explorer
from kmslab.tui.grid import Grid
from kmslab.tui.screens.layout import FilterLine
from kmslab.tui.screens.records import Records
from kmslab.tui.session import Session
from kmslab.tui.tree import Everything

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
CANARY = "the canary sings at dawn"
"""What stands in every plaintext here, and on no screen but the preview that was revealed."""

MARKUP = "[red]x[/]"
STALE, CURRENT, FROZEN = 12, 4, 3
RECORDS = STALE + CURRENT + FROZEN + 1

COLUMNS = ("record_id", "provider", "ciphertext_blob", "encryption_context", "created_at", "owner")


@dataclass(frozen=True)
class World:
    """A folder with a lab, closed, and `records.csv`."""

    path: Path

    def copy(self, to: Path) -> World:
        """One of a test's own."""
        return World(Path(shutil.copytree(self.path, to)))

    @property
    def csv(self) -> Path:
        """The records."""
        return self.path / "records.csv"

    def lab(self) -> Lab:
        """The lab, open."""
        return Lab.open(self.path / "lab", clock=ManualClock(NOW))

    def session(self, lab: Lab, **options: Any) -> Session:
        """What the explorer is opened on."""
        ground = Ground(lab, State.of(self.path / "lab", None), ManualClock(NOW))
        values = {"spec": SourceSpec(str(self.csv)), "source": "records.csv"} | options
        return Session(lab, ground, "lab", options=("--lab", "lab"), **values)

    def blobs(self) -> dict[str, str]:
        """The blobs, read by something that is not kmslab."""
        with self.csv.open(encoding="utf-8", newline="") as file:
            return {row["record_id"]: row["ciphertext_blob"] for row in csv.DictReader(file)}


def make_world(path: Path) -> World:
    """Keys orders and bills (of CTyun), both rotated, and frozen, disabled; records on all."""
    clock = ManualClock(START)
    rows: list[dict[str, str]] = []
    with Lab.create(path / "lab", clock=clock) as lab:
        tencent, ctyun = lab.tencent(), lab.ctyun()
        orders = tencent.create_key("orders", description=MARKUP).key_id
        frozen = tencent.create_key("frozen").key_id
        bills = ctyun.create_key(alias="bills", description="账单密钥").key_id

        def add(key_id: str, count: int, context: str = "") -> None:
            for _ in range(count):
                at = START + timedelta(days=len(rows))
                name = f"{MARKUP}-{len(rows):02}" if len(rows) == 1 else f"rec-{len(rows):02}"
                data = f"{CANARY} {len(rows)}".encode()
                blob = (
                    ctyun.encrypt(bills, data)
                    if key_id == bills
                    else tencent.encrypt(key_id, data, context=context or None)
                )
                provider = "ctyun" if key_id == bills else "tencent"
                owner = ("[bold]o[/]", "欧阳建国", "billing")[len(rows) % 3]
                values = (name, provider, blob, context, f"{at:%FT%TZ}", owner)
                rows.append(dict(zip(COLUMNS, values, strict=True)))

        add(orders, 6)
        add(orders, 2, '{"app":"订单"}')
        add(bills, STALE - 8)
        lab.rotate(orders)
        lab.rotate(bills)
        add(orders, CURRENT)
        add(frozen, FROZEN)
        tencent.disable_key(frozen)
    cut = ("rec-cut", "tencent", rows[0]["ciphertext_blob"][:-9], "", "", "")
    rows.append(dict(zip(COLUMNS, cut, strict=True)))
    with (path / "records.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return World(path)


Scene = Callable[[Explorer, "Pilot[None]"], Awaitable[None]]


class Kept(Notifications):
    """Messages as ever, and the texts of all of them: each goes soon, or for the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def add(self, notification: Notification) -> Kept:
        self.texts.append(notification.message)
        super().add(notification)
        return self


class Stage:
    """Plays scenes on explorers, and holds that nothing was unforeseen."""

    def __init__(self, log_folder: Path) -> None:
        self.log_folder = log_folder

    def play(
        self,
        session: Session,
        scene: Scene,
        size: tuple[int, int] = (100, 24),
        *,
        notifications: bool = False,
    ) -> None:
        """Play a scene on a session, once everything has been read."""

        async def run() -> None:
            app = Explorer(session, self.log_folder)
            app._notifications = Kept()
            async with app.run_test(size=size, notifications=notifications) as pilot:
                await settled(pilot)
                await scene(app, pilot)
            unforeseen = [file.read_text("utf-8") for file in self.log_folder.glob("*")]
            assert not unforeseen, "\n".join(unforeseen)

        asyncio.run(run())


def in_turn(*scenes: Scene) -> Scene:
    """Scenes that leave nothing behind but records and keys, one after the other."""

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        for each in scenes:
            await each(app, pilot)
            while not isinstance(app.screen, Records):
                await pilot.press("escape")
                await pilot.pause(0.02)
            forget(app)
            app.records.query_one(FilterLine).value = ""
            app.records.place = Everything
            app.records.action_pane("records")
            await settled(pilot)
            grid(app).action_clear_marks()
            grid(app).action_first()

    return scene


async def until(pilot: Pilot[None], condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so, and what was told with it has been heard."""
    end = monotonic() + seconds
    while not condition():
        assert pilot.app._exception is None, "the explorer has ended"
        assert monotonic() < end, "it did not come to be so"
        await asyncio.sleep(0.01)
    await drained()


async def settled(pilot: Pilot[None]) -> None:
    """Wait until nothing is read, arranged or at work any more."""
    app: Explorer = pilot.app  # type: ignore[assignment]

    def quiet() -> bool:
        records = app.records
        return (
            records.is_mounted
            and not records.reader.busy
            and records.grid.wanted == records.grid.view.wanted
            and app.job is None
            and app.screen not in app.begun
        )

    await pilot.pause()
    await until(pilot, quiet)
    await pilot.pause()


def grid(app: Explorer) -> Grid:
    """The records."""
    return app.records.grid


def status(app: Explorer) -> str:
    """The status line."""
    return str(app.records.query_one("#status").render())


async def typed(pilot: Pilot[None], text: str) -> None:
    """Write a filter."""
    await pilot.press("slash")
    app: Explorer = pilot.app  # type: ignore[assignment]
    app.records.query_one(FilterLine).value = text
    await settled(pilot)


async def come(pilot: Pilot[None], kind: type[Any]) -> Any:
    """Wait for a screen or dialog, and give it."""
    await until(pilot, lambda: isinstance(pilot.app.screen, kind))
    await pilot.pause()
    return pilot.app.screen


async def back(pilot: Pilot[None]) -> None:
    """Wait for the records screen."""
    await come(pilot, Records)


def told(app: Explorer) -> list[str]:
    """The messages that came in this scene, also those that have gone."""
    kept = app._notifications
    assert isinstance(kept, Kept)
    return kept.texts


def forget(app: Explorer) -> None:
    """Only what is told from now on counts."""
    told(app).clear()
    app.clear_notifications()


async def hears(pilot: Pilot[None], text: str) -> str:
    """Wait for a message that holds a text, which may have come by now, and give it."""
    app: Explorer = pilot.app  # type: ignore[assignment]
    await until(pilot, lambda: any(text in said for said in told(app)))
    return next(said for said in told(app) if text in said)


def world_of(app: Explorer) -> World:
    """The folder that the explorer's lab is in."""
    assert app.session.spec is not None
    return World(Path(app.session.spec.location).parent)
