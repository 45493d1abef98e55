"""Write down how a campaign goes, for a chart of it."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from kmslab.analysis.frame_columns import TIME
from kmslab.campaign.watching import Progress, Watch
from kmslab.clock import Clock, SystemClock

_DTYPES: Final[dict[str, Any]] = {
    "at": TIME,
    "doing": "category",
    "rows": "int64",
    "total": "Int64",
    "left": "Int64",
}


class Recording:
    """Who looks on while a campaign is at work, and remembers: pass its `watch` to `run`.

    >>> from datetime import UTC, datetime
    >>> from kmslab.clock import ManualClock
    >>> recording = Recording(ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    >>> recording.watch.progress(Progress("re-encrypting", 20, 100, {}))
    >>> recording.frame()["left"].tolist()
    [80]
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seen: list[tuple[Any, ...]] = []
        self.watch = Watch(progress=self._note)

    def _note(self, progress: Progress) -> None:
        left = None if progress.total is None else progress.total - progress.rows
        self._seen.append((self._clock.now(), progress.doing, progress.rows, progress.total, left))

    def frame(self) -> pd.DataFrame:
        """What was seen: `at`, `doing`, `rows` gone over, `total` and `left` where known."""
        return pd.DataFrame(self._seen, columns=list(_DTYPES)).astype(_DTYPES)
