"""Looking on while a campaign is at work, and asking it to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from kmslab.errors import CampaignInterrupted


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass is. `total` is None where it is not known.

    Told after each chunk, and within one that a rate holds back; `counts` are those of whole ones.
    """

    doing: str
    rows: int
    total: int | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Watch:
    """Who looks on: told of progress, and asked whether to stop.

    `waiting` is told, by whichever thread it is, what is waited for, and "" when that is over;
    `said` what somebody may want to know before all begins. `pause` is called between two steps of
    a chunk: who looks on may have something to do first.
    """

    progress: Callable[[Progress], None] = lambda progress: None
    stop: Callable[[], bool] = lambda: False
    waiting: Callable[[str], None] = lambda text: None
    said: Callable[[str], None] = lambda text: None
    pause: Callable[[], None] = lambda: None

    def told(self, progress: Progress, *, campaign_id: str = "") -> None:
        """Tell of a pass that changes nothing; CampaignInterrupted where it is to stop."""
        self.progress(progress)
        if self.stop():
            raise CampaignInterrupted(
                f"stopped while {progress.doing}; nothing was changed", campaign_id=campaign_id
            )


QUIET: Final = Watch()
