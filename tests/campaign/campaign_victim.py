"""A process that runs campaigns in children of its own, so that a test can kill them.

Started once, since starting Python takes longer than a campaign. It reads lines of JSON: the source
and the state folder; a child runs the campaign, and its pid is answered, then its exit status. Told
a step of STEPS, the child kills itself there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kmslab import Lab, ManualClock
from kmslab.campaign.closing import close
from kmslab.campaign.run import Ground, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.records.opening import open_source
from kmslab.records.spec import SourceSpec

warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads


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
        found = getattr(__import__(f"kmslab.{package}.{module}", fromlist=[kind]), kind)
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


def campaign(lab_path: str, job: dict[str, str]) -> None:
    if "step" in job:
        die_at(job["step"])
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    with Lab.open(lab_path, clock=clock) as lab:
        ground = Ground(lab, State.of(None, job["state"]), clock)
        if "undo" in job:
            undo(ground, job["undo"])
        elif "close" in job:
            close(ground, job["close"])
        else:
            run(ground, SourceSpec(job["location"], table=job["table"] or None))


def main() -> None:
    # What is loaded once here need not be loaded in each child.
    for module in ("pyarrow.parquet", "kmslab.records.sql", "kmslab.records.parquet"):
        __import__(module)
    open_source(SourceSpec(sys.argv[2]))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                campaign(sys.argv[1], json.loads(line))
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main()
