"""Several workers do what one process does: the same plan, journal, census and undo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from campaign_data import World
from scale_crews import Here
from scale_sources import Write, contents

from kmslab import Lab
from kmslab.campaign.ground import Ground
from kmslab.campaign.proof import verify
from kmslab.campaign.run import run
from kmslab.campaign.undo import undo

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
