"""A DataFrame as a source, so that a frame has the same Plan as a file or a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pandas as pd

from kmslab.analysis.classify import Target
from kmslab.campaign.plan import Options, Plan
from kmslab.campaign.planning import make_plan
from kmslab.clock import Clock, SystemClock
from kmslab.errors import SourceError
from kmslab.frames.columns import FrameRecords
from kmslab.providers.base import Providers, placed
from kmslab.records.source import CHUNK_ROWS, Chunk, Edit, Part
from kmslab.records.spec import SourceSpec

NAME = "DataFrame"
"""What a plan calls a frame: it has no name of its own."""


class FramePart:
    """The rows of a frame, to be read: a frame is never changed, so it cannot be edited."""

    def __init__(self, records: FrameRecords) -> None:
        self._records = records
        self._digest = ""

    @property
    def name(self) -> str:
        """See `Part.name`."""
        return NAME

    def fingerprint(self) -> str:
        """The digest of all that was read of the frame, which nothing changes any more."""
        if not self._digest:
            digest = sha256()
            for column in (self._records.ids, *self._records.columns.values()):
                digest.update(repr(column).encode("utf-8", "surrogatepass"))
            self._digest = digest.hexdigest()
        return self._digest

    def read(self) -> Iterator[Chunk]:
        """See `Part.read`."""
        for start in range(0, len(self._records), CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, len(self._records))
            yield Chunk(self._records.records(start, stop), range(start + 1, stop + 1))

    def edit(
        self, *, output: Path | None = None, atomic: bool = False
    ) -> AbstractContextManager[Edit]:
        """SourceError: `df.kms.re_encrypt` makes a new frame."""
        raise SourceError(
            "a DataFrame is not changed in place: df.kms.re_encrypt(lab) gives a new one",
            source=NAME,
        )


@dataclass(frozen=True, slots=True)
class FrameSource:
    """A frame as a source: see `Source`."""

    name: str
    fields: frozenset[str]
    parts: Sequence[Part]
    blob_capacity: int | None = None


def check_rates(providers: Providers, rates: Mapping[str, float]) -> None:
    """ValueError for a rate of nobody who is there: it would hold nothing back."""
    there = providers.providers()
    for name in rates:
        if name not in there:
            raise ValueError(f"a rate for {name[:40]!r}, which is none of {', '.join(there)}")


def frame_source(records: FrameRecords) -> FrameSource:
    """The source that the records of a frame are. A blob tells its provider, and what became of
    each record stands beside it, so it has a field for the provider even where no column does."""
    return FrameSource(NAME, records.fields | {"provider"}, (FramePart(records),))


def plan_frame(
    frame: pd.DataFrame,
    providers: Providers,
    target: Target,
    *,
    options: Options,
    deep: bool = False,
    clock: Clock | None = None,
) -> Plan:
    """What a campaign over a frame would do: see `make_plan`."""
    check_rates(providers, options.rates)
    return make_plan(
        frame_source(FrameRecords(frame, placed=placed(providers))),
        SourceSpec(NAME),
        providers,
        target,
        clock=clock or SystemClock(),
        options=options,
        deep=deep,
    )
