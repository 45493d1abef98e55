"""The pictures of the explorer; make.py writes them.

They are of the demo lab at its own time, so that they are the same in each run; and they name no
outside address, so that they show the same wherever they are looked at.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable
from html import escape, unescape
from itertools import groupby
from pathlib import Path
from threading import Event

from rich.cells import cell_len
from textual.pilot import Pilot

from kmslab.campaign.watching import Progress
from kmslab.tui.app import Explorer
from kmslab.tui.jobs import Job
from kmslab.tui.screens.key import KeyScreen
from kmslab.tui.screens.layout import FilterLine
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.progress import AtWork
from kmslab.tui.session import demo_in, make_demo

SIZE = (120, 34)
_FONTS = re.compile(r"@font-face\s*\{.*?\}\s*", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_TEXT = re.compile(r'<text ([^>]*?)x="([\d.]+)" ([^>]*?)textLength="[\d.]+"([^>]*)>([^<]*)</text>')
_CELL = 12.2  # the width of one, as Rich draws it


class SteadyJob(Job):
    """A job whose rate is the same in every picture."""

    def rate(self) -> float:
        """About what a lab on disk does."""
        return 1_250.0


def apart(found: re.Match[str]) -> str:
    """A text whose wide characters stand apart from the others.

    A browser spreads a text evenly to its length, which Rich counts in characters: what stands
    beside Chinese would move out of its column.
    """
    before, x, between, after, escaped = found.groups()
    text = unescape(escaped)
    if cell_len(text) == len(text):
        return found[0]
    at, pieces = float(x), []
    for _, run in groupby(text, lambda letter: cell_len(letter) > 1):
        letters = "".join(run)
        width = cell_len(letters) * _CELL
        shown = escape(letters).replace("\u00a0", "&#160;")
        pieces.append(
            f'<text {before}x="{at:.1f}" {between}textLength="{width:.1f}"{after}>{shown}</text>'
        )
        at += width
    return "".join(pieces)


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    """Wait until something is so, and has been drawn."""
    async with asyncio.timeout(20):
        while not condition():
            await pilot.pause(0.02)
    await pilot.pause()


async def take(app: Explorer, folder: Path) -> None:
    """Go through the screens, and write a picture of each."""

    def picture(name: str) -> None:
        text = _COMMENT.sub("", _FONTS.sub("", app.export_screenshot(title="kmslab tui")))
        (folder / f"{name}.svg").write_text(_TEXT.sub(apart, text), encoding="utf-8")

    async with app.run_test(size=SIZE) as pilot:
        grid = app.records.grid
        await until(pilot, lambda: grid.view.total and not app.records.reader.busy)
        await pilot.press("1", *["down"] * 5, "right", "2")
        app.records.query_one(FilterLine).value = "key:orders-data out:stale"
        await until(pilot, lambda: grid.view.shown < grid.view.total)
        await pilot.press("a")
        app.records.query_one(FilterLine).value = ""
        await until(pilot, lambda: grid.view.shown == grid.view.total)
        picture("records")
        await pilot.press("r")
        await until(pilot, lambda: isinstance(app.screen, PlanScreen) and app.screen.plan)
        picture("plan")
        await pilot.press("escape")
        job, end = SteadyJob("the campaign", app.turns), Event()
        job.latest = Progress("re-encrypting", 412, 657, {"re_encrypted": 400, "failed": 12})
        app.push_screen(AtWork("Re-encrypting", job, lambda watch: end.wait(20)))
        await until(pilot, lambda: isinstance(app.screen, AtWork))
        await until(pilot, lambda: "412 of 657" in str(app.screen.query_one("#figures").render()))
        picture("progress")
        end.set()
        await until(pilot, lambda: app.screen is app.records)
        await pilot.press("1", "g", "down", "down", "K")
        await until(pilot, lambda: isinstance(app.screen, KeyScreen))
        picture("key")


def main(folder: Path) -> None:
    """Write them all into a folder."""
    with tempfile.TemporaryDirectory() as place, make_demo(Path(place)) as lab:
        session = demo_in(Path(place), lab)
        session.options = ("--lab", "lab")
        asyncio.run(take(Explorer(session, Path(place) / "log"), folder))
