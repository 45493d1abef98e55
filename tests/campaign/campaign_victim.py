"""A process that runs campaigns in children of its own, so that a test can kill them.

Started once, since starting Python takes longer than a campaign. It reads lines of JSON: the source
and the state folder; a child runs the campaign, and its pid is answered, then its exit status.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

from kmslab import Lab, ManualClock
from kmslab.campaign.run import Ground, run
from kmslab.campaign.state import State
from kmslab.campaign.undo import undo
from kmslab.records.opening import open_source
from kmslab.records.spec import SourceSpec

warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads


def campaign(lab_path: str, job: dict[str, str]) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    with Lab.open(lab_path, clock=clock) as lab:
        ground = Ground(lab, State.of(None, job["state"]), clock)
        if "undo" in job:
            undo(ground, job["undo"])
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
