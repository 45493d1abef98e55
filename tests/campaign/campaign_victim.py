"""What a campaign does that a test kills, in a process that the test started for it.

Told a step of STEPS, it kills itself there.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NoReturn

from campaign_data import CHUNK

from kmslab import Lab, ManualClock
from kmslab.campaign.closing import close
from kmslab.campaign.run import Ground, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.records.spec import SourceSpec

CHUNKING = [
    f"kmslab.records.{name}" for name in ("text", "parquet", "sql_rows", "sql_postgres_rows")
]
"""Where it is said how many records a chunk has."""

_EDITS = ("text._TextEdit", "parquet._ParquetEdit", "sql_edit.TableEdit")

STEPS: dict[str, tuple[tuple[str, ...], str, bool, int]] = {
    "nothing is intended yet": (("journal.Journal",), "intend", False, 1),
    "the first chunk is intended": (("journal.Journal",), "intend", True, 1),
    "the second chunk is intended": (("journal.Journal",), "intend", True, 2),
    "the second chunk is written": (_EDITS, "write", True, 2),
    "all is written": (_EDITS, "finish", False, 1),
    "the part is in its place": (_EDITS, "finish", True, 1),
    "the part is finished": (("journal.Journal",), "finish_part", True, 1),
    "the blobs are erased": (("journal.Journal",), "erase", True, 1),
    "the journal is rewritten": (("journal.Journal",), "scrub", True, 1),
}
"""Where a child can die: in the call of a method of one of these classes, before it or after it,
and in which call."""


def die_at(step: str) -> None:
    """Have this process killed at a step."""
    owners, name, after, number = STEPS[step]
    calls = iter(range(1, number + 1))
    for owner in owners:
        module, _, kind = owner.partition(".")
        package = "campaign" if module == "journal" else "records"
        found = getattr(import_module(f"kmslab.{package}.{module}"), kind)
        setattr(found, name, _dying(getattr(found, name), calls, number, after=after))


def _dying(
    method: Callable[..., Any], calls: Any, number: int, *, after: bool
) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        last = next(calls) == number
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return called


def campaign(job: dict[str, Any]) -> NoReturn:
    """Do a job in this process, and end it."""
    try:
        for module in CHUNKING:
            import_module(module).CHUNK_ROWS = CHUNK  # type: ignore[attr-defined]
        if "step" in job:
            die_at(job["step"])
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        with Lab.open(job["lab"], clock=clock) as lab:
            ground = Ground(lab, State.of(None, job["state"]), clock)
            if "undo" in job:
                undo(ground, job["undo"])
            elif "close" in job:
                close(ground, job["close"])
            else:
                run(ground, SourceSpec(job["location"], table=job["table"] or None))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
