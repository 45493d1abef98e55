"""Several workers do what one process does: the same plan, journal, census and undo."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from scale_crews import Here
from scale_sources import SOURCES, Write, all_rows, contents

from kmslab import Lab, __version__
from kmslab.campaign.checking import to_be_seen
from kmslab.campaign.ground import Ground
from kmslab.campaign.plan import Options
from kmslab.campaign.proof import verify
from kmslab.campaign.reopening import Reopening
from kmslab.campaign.run import run
from kmslab.campaign.sharing import refuse_sqlite
from kmslab.campaign.undo import undo
from kmslab.errors import CampaignError

OWN = ("campaign", "source", "started_at", "finished_at", "calls", "forecast")
"""What a report says of its own campaign; calls are more where equal records are in two tasks."""


def said(report: Any) -> dict[str, Any]:
    """What two reports of the same work have in common."""
    found = {name: value for name, value in report.as_dict().items() if name not in OWN}
    for each in [*found["failures"], *found["failure_groups"]]:
        each["request_id"] = ""
    return found


@pytest.mark.usefixtures("small_ranges")
def test_the_same_report_and_source(
    write: Write, world: World, ground: Ground, lab: Lab, tmp_path: Path
) -> None:
    alone, shared = write(tmp_path / "alone", world.rows), write(tmp_path / "shared", world.rows)
    before = contents(lab, shared)
    expected = run(ground, alone)
    report = run(ground, shared, workers=Here())
    assert said(report) == said(expected)
    assert contents(lab, shared) == before
    assert verify(ground, report.campaign).complete
    undone = undo(ground, report.campaign)
    assert (undone.undone, undone.undo_left) == (report.results.re_encrypted, 0)


def test_a_rate_is_for_all_workers_together(world: World, ground: Ground, tmp_path: Path) -> None:
    """Shared by leases in the state folder."""
    rate = 20.0
    spec = SOURCES["csv"](tmp_path / "files", world.rows)
    options = Options(rates={"tencent": rate, "ctyun": rate})
    crew = Here(3)
    begun = time.monotonic()
    report = run(ground, spec, options=options, workers=crew)
    took = time.monotonic() - begun
    (leases,) = {
        json.loads(text)["reopening"]["leases"] for text in crew.said if "reopening" in text
    }
    assert leases == str(ground.state.path)
    assert report.plan is not None
    assert report.plan.options.rates == options.rates
    assert not list(ground.state.path.glob("leases/*.calls"))
    assert took > (max(report.calls.values()) - rate) / rate


def test_without_a_clock_in_common_each_has_an_equal_part_of_a_rate(ground: Ground) -> None:
    remotes = Reopening(remotes={"prod": 600.0})
    shared = remotes.shared(ground.state, workers=3, one_machine=False)
    assert (shared.leases, shared.remotes) == (None, {"prod": 200.0})
    assert shared.share({"ctyun": 60.0}, 3) == {"ctyun": 20.0}


def test_sqlite_is_not_shared_by_several_machines(
    write: Write, world: World, ground: Ground, tmp_path: Path
) -> None:
    spec = write(tmp_path / "source", world.rows)
    crew = Here(one_machine=False)
    with pytest.raises(CampaignError, match=r"in SQLite, .* nothing was begun"):
        run(ground, spec, workers=crew)
    assert not crew.said
    assert not ground.state.journals()
    remotes = Reopening(remotes={"prod": 600.0})
    with pytest.raises(CampaignError) if spec.table else nullcontext():
        refuse_sqlite(remotes, spec)


def test_workers_of_another_version_are_refused(
    world: World, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SOURCES["csv"](tmp_path / "files", world.rows)
    monkeypatch.setattr("kmslab.campaign.sharing.own_version", lambda: "9.9.9")
    said = f"worker 0 cannot take part: kmslab {__version__} is installed there, .* kmslab 9.9.9"
    with pytest.raises(CampaignError, match=said):
        run(ground, spec, workers=Here())
    assert not ground.state.journals()


@pytest.mark.parametrize("what", ["state", "source", "lab"])
def test_who_sees_something_else_cannot_take_part(
    what: str, world: World, ground: Ground, lab: Lab, tmp_path: Path
) -> None:
    """As a worker on another machine does, where the same path leads elsewhere."""
    spec = SOURCES["csv"](tmp_path / "files", world.rows)
    rows = all_rows(spec)
    first = Path(spec.location) / "part-0.csv"

    def elsewhere(order: dict[str, Any]) -> None:
        if what == "state":
            order["seen"]["file"] = "seen-by-others"
        elif what == "source":
            order["spec"]["location"] = str(first)
        else:
            order["reopening"]["lab_id"] = "another"

    said = {
        "state": "the state folder .* is another one there",
        "source": "is not there what it is for the campaign",
        "lab": "is another lab there",
    }[what]
    with pytest.raises(CampaignError, match=f"worker 0 cannot take part: .*{said}"):
        run(ground, spec, workers=Here(asked=elsewhere))
    assert not ground.state.journals()
    assert all_rows(spec) == rows


def test_a_copy_of_the_source_is_another_one(
    write: Write, world: World, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker sees a copy under the same path, with the same bytes and times of writing."""
    spec = write(tmp_path / "source", world.rows)
    path = Path(spec.location.removeprefix("sqlite:///"))
    path = path if path.exists() else next(tmp_path.glob("source*"))

    def elsewhere(order: dict[str, Any]) -> None:
        path.rename(tmp_path / "original")
        (shutil.copytree if spec.table is None else shutil.copy2)(tmp_path / "original", path)

    monkeypatch.setattr("kmslab.campaign.checking._TICK_NS", 1_000_000)
    with pytest.raises(CampaignError, match="is not there what it is for the campaign"):
        run(ground, spec, workers=Here(asked=elsewhere))
    assert not ground.state.journals()


def test_what_is_to_be_seen_is_private_and_does_not_stay(
    world: World, ground: Ground, tmp_path: Path
) -> None:
    spec = SOURCES["csv"](tmp_path / "files", world.rows)
    left = ground.state.campaigns_path() / "seen-of-one-that-was-killed"
    left.touch()
    os.utime(left, (0, 0))
    modes: set[int] = set()

    def asked(order: dict[str, Any]) -> None:
        assert not left.exists()
        modes.update(path.stat().st_mode & 0o777 for path in left.parent.glob("seen-*"))
        with to_be_seen(ground.state, ground.open_source(spec)):  # by another campaign
            pass

    run(ground, spec, workers=Here(asked=asked))
    assert modes == {0o600}
    assert not list(left.parent.glob("seen-*"))
