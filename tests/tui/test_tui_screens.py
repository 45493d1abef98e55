"""Every screen, as text, on the demo lab at its own time: tests/golden/tui holds what it shows.

`pytest tests/tui --update-golden` writes them anew; read the difference before it is committed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from textual.pilot import Pilot
from tui_golden import GOLDEN, Golden, screen_text
from tui_world import Stage, back, come, settled, typed, until

from kmslab import Lab, ManualClock
from kmslab.campaign.watching import Progress
from kmslab.demo import DEMO_TIME
from kmslab.tui.app import Explorer
from kmslab.tui.chrome import KeyLine
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.decrypt import Preview
from kmslab.tui.dialogs.form import Choose, Form
from kmslab.tui.jobs import Job
from kmslab.tui.responsive import Turns
from kmslab.tui.rows import Rows
from kmslab.tui.screens import records
from kmslab.tui.screens.activity import ActivityScreen
from kmslab.tui.screens.audit import AuditLog
from kmslab.tui.screens.help import Help
from kmslab.tui.screens.inspect import InspectScreen
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.key import KeyScreen
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.progress import AtWork
from kmslab.tui.screens.records import Records
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.screens.sources import SourcesScreen
from kmslab.tui.session import Session, demo_in, make_demo


@pytest.fixture(scope="module")
def first_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("demo")
    make_demo(place).close()
    return place


@pytest.fixture
def demo(first_demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """The demo lab, the test's own, at which nobody else looks."""
    monkeypatch.setattr(records, "LOOK_SECONDS", 3600.0)
    place = Path(shutil.copytree(first_demo, tmp_path / "demo"))
    with Lab.open(place / "lab", clock=ManualClock(DEMO_TIME)) as lab:
        session = demo_in(place, lab)
        session.options = ("--lab", "lab")
        yield session


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """Golden texts."""
    found = Golden(update=request.config.getoption("--update-golden"))
    yield found
    assert not found.wrong, "\n".join(found.wrong)


async def planned(pilot: Pilot[None]) -> None:
    """The plan of what is marked, made."""
    await pilot.press("r")
    screen = await come(pilot, PlanScreen)
    await until(pilot, lambda: screen.plan is not None)
    await pilot.pause()


async def quiet(app: Explorer, pilot: Pilot[None]) -> None:
    """No message is over the screen, and nothing is read behind it."""
    await settled(pilot)
    app.clear_notifications()
    await pilot.pause()


def test_the_screens_of_a_campaign(demo: Session, stage: Stage, golden: Golden) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        golden.take(app, "records")
        await typed(pilot, "key:orders-data ver:<3")
        golden.take(app, "filtered")
        await pilot.press("enter", "a", "escape")
        await settled(pilot)
        golden.take(app, "marked")
        await planned(pilot)
        golden.take(app, "plan")
        await pilot.press("d")
        await come(pilot, Choose)
        golden.take(app, "destination")
        await pilot.press("escape", "enter")
        await come(pilot, Confirm)
        await pilot.press("y")
        await come(pilot, ResultScreen)
        await quiet(app, pilot)
        golden.take(app, "result")
        await pilot.press("u")
        await come(pilot, Confirm)
        await quiet(app, pilot)
        golden.take(app, "undo")
        await pilot.press("escape")
        await come(pilot, ResultScreen)
        await pilot.press("escape")
        await back(pilot)
        await settled(pilot)
        await pilot.press("L")
        await come(pilot, ActivityScreen)
        golden.take(app, "activity")

    stage.play(demo, scene, size=(120, 34))


def test_the_screens_of_keys_and_logs(demo: Session, stage: Stage, golden: Golden) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        await typed(pilot, "id:rec-00009")
        await pilot.press("enter", "K")
        await come(pilot, KeyScreen)
        golden.take(app, "key")
        await pilot.press("R")
        await come(pilot, Confirm)
        golden.take(app, "rotate")
        await pilot.press("escape")
        await come(pilot, KeyScreen)
        await pilot.press("escape")
        await back(pilot)
        await pilot.press("n")
        await come(pilot, Form)
        golden.take(app, "create")
        await pilot.press("escape")
        await back(pilot)
        await pilot.press("i")
        await come(pilot, InspectScreen)
        golden.take(app, "inspect")
        await pilot.press("escape", "d")
        await come(pilot, Preview)
        golden.take(app, "preview")
        await pilot.press("escape", "O")
        await come(pilot, SourcesScreen)
        text = screen_text(app)
        assert "sample" in text
        await pilot.press("escape", "question_mark")
        await come(pilot, Help)
        golden.take(app, "help")
        await pilot.press("escape", "J")
        await come(pilot, Journals)
        await until(pilot, lambda: "no campaigns" in screen_text(app))
        golden.take(app, "no-journals")
        await pilot.press("escape", "H")
        await come(pilot, AuditLog)
        await until(pilot, lambda: "newest" in screen_text(app))
        assert "RotateNow" in screen_text(app)
        table = app.screen.query_one(Rows)
        for letter, row in (("G", table.row_count - 1), ("g", 0)):
            await pilot.press(letter)
            assert table.cursor_row == row
        await pilot.press("v")
        await until(pilot, lambda: "whole: " in screen_text(app))
        everything = table.row_count
        await pilot.press("slash", *"rotate !ctyun")
        await until(pilot, lambda: f" of the newest {everything:,} rows" in screen_text(app))
        found = [" ".join(map(str, table.get_row_at(at))) for at in range(table.row_count)]
        assert found
        assert all("RotateNow" in row and "ctyun" not in row for row in found)
        await pilot.press("enter", "escape")
        await until(pilot, lambda: table.row_count == everything)
        assert isinstance(app.screen, AuditLog), "out of the filter first"

    stage.play(demo, scene, size=(120, 34))


def test_progress(
    demo: Session, stage: Stage, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "rate", lambda self: 1_250.0)
    monkeypatch.setattr(Job, "waiting", lambda self: 0.0)
    job, end = Job("the campaign", Turns()), Event()
    job.latest = Progress("re-encrypting", 2_000, 3_259, {"re_encrypted": 1_990, "failed": 10})

    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        app.push_screen(AtWork("Re-encrypting", job, lambda watch: end.wait(60)))
        await until(pilot, lambda: "1,250 a second" in screen_text(app))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Job, "waiting", lambda self: 7.0)
            await until(pilot, lambda: "nothing new for 7 s" in screen_text(app))
            job.watch.waiting("waiting for ctyun, to try again: KMS_500: the line is down")
            await until(pilot, lambda: "waiting for ctyun, to try again: KMS" in screen_text(app))
            job.watch.waiting("")
        await until(pilot, lambda: "failed 10" in screen_text(app))
        await pilot.press("escape")
        await pilot.pause()
        golden.take(app, "progress")
        assert job.stopping
        end.set()
        await back(pilot)

    stage.play(demo, scene, size=(120, 34))


PANES = ("tree", "records", "detail")


def test_one_pane_at_a_time(demo: Session, stage: Stage, golden: Golden) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        golden.take(app, "narrow-records")
        await pilot.press("enter")
        await pilot.pause()
        golden.take(app, "narrow-detail")
        await pilot.press("escape", "escape")
        await pilot.pause()
        golden.take(app, "narrow-tree")
        await pilot.press("down", "down", "down", "enter")
        await settled(pilot)
        assert "sample ▸ Tencent ▸ legacy-app ▸ 130 records" in screen_text(app)
        for size in ((40, 10), (120, 34), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await pilot.press("t")
        await pilot.pause()
        for key, pane in (("3", "detail"), ("1", "tree"), ("2", "records")):
            await pilot.resize_terminal(120, 34)
            await pilot.pause()
            await pilot.press(key)
            await pilot.resize_terminal(80, 24)
            await pilot.pause()
            shown = {at for at in PANES if app.screen.query_one(f"#{at}").region}
            assert shown == {pane}, "the one that was chosen where there was room for all"

    stage.play(demo, scene, size=(80, 24))


def test_the_line_of_keys_is_made_anew_where_they_are_others(
    session: Session, stage: Stage
) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        line = app.screen.query_one(KeyLine)

        def able() -> dict[str, bool]:
            return {label.key: label.enabled for label in line.labels}

        assert able()["R"]
        await pilot.press("3", "2")
        await pilot.pause()
        assert "space" in able(), "marking is the records' own"
        shown = line.labels
        await pilot.press("j")
        app.screen.refresh_bindings()
        await pilot.pause()
        assert line.labels is shown
        await pilot.press("f10")
        await until(pilot, lambda: not able()["R"])
        await pilot.press("1")
        await until(pilot, lambda: "space" not in able())

    stage.play(session, scene)


def test_the_mouse_presses_the_keys_of_the_line(session: Session, stage: Stage) -> None:
    async def scene(app: Explorer, pilot: Pilot[None]) -> None:
        line = app.screen.query_one(KeyLine)

        async def click(does: str) -> None:
            await pilot.click(KeyLine, offset=(line.render().plain.index(does), 0))
            await pilot.pause()

        await click("Journals")
        assert isinstance(app.screen, Journals)
        await pilot.press("escape", "f10")
        await until(pilot, lambda: not next(e for e in line.labels if e.key == "R").enabled)
        await click("Rotate")
        assert isinstance(app.screen, Records)
        await pilot.click(KeyLine, offset=(len(line.render().plain) + 1, 0))
        assert isinstance(app.screen, Records)

    stage.play(session, scene, size=(140, 45))


def test_no_golden_text_is_left_over() -> None:
    """Each is of a screen that a test looks at."""
    source = Path(__file__).read_text(encoding="utf-8")
    for path in GOLDEN.glob("*.txt"):
        assert f'"{path.stem}"' in source, path.name
