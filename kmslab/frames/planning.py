"""A DataFrame as a source, so that a frame has the same Plan as a file or a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from kmslab.analysis.classify import Target
from kmslab.campaign.plan import Options, Plan
from kmslab.campaign.planning import make_plan
from kmslab.clock import Clock, SystemClock
from kmslab.encoding import is_uuid
from kmslab.errors import KeyNotFound, SourceError
from kmslab.frames.columns import FrameRecords, likely_contexts
from kmslab.model import TENCENT
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


def named_key(providers: Providers, name: str | None, provider: str | None) -> str | None:
    """The id of the key that is meant by an id or by an alias that one key alone has.

    KeyNotFound for an alias that no key has, or several have; ValueError for what is no name.
    """
    if name is None:
        return None
    if not isinstance(name, str):
        raise ValueError(
            f"`to` is the id or the alias of a key, and no {type(name).__name__}: to=key.key_id"
        )
    if is_uuid(name):
        return name
    asked = [each for each in providers.providers() if provider in (None, each)]
    found = [k for each in asked for k in providers.kms(each).list_keys() if k.alias == name]
    if len(found) > 1:
        places = ", ".join(f"{key.key_id} ({key.provider} {key.region})" for key in found)
        raise KeyNotFound(f"the alias {name} is not unique: {places}; use the key id")
    if not found:
        raise KeyNotFound(f"there is no key with the id or alias {name[:60]}")
    return found[0].key_id


def check_rates(providers: Providers, rates: Mapping[str, float]) -> None:
    """ValueError for a rate of nobody who is there: it would hold nothing back."""
    if not isinstance(rates, Mapping):
        raise ValueError(
            f"rates are in calls a second by provider, {{'tencent': 50}}; not {rates!r}"
        )
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
    """What a campaign over a frame would do: see `make_plan`. The notes speak to Python."""
    plan = make_plan(
        frame_source(FrameRecords(frame, placed=placed(providers))),
        SourceSpec(NAME),
        providers,
        target,
        clock=clock or SystemClock(),
        options=options,
        deep=deep,
    )
    notes = [note.replace("--deep", "plan(lab, deep=True)") for note in plan.notes]
    return replace(plan, notes=(*notes, *_misnamed(frame, plan)))


def _misnamed(frame: pd.DataFrame, plan: Plan) -> Iterator[str]:
    """Which column may hold the contexts, where there are none for records to be sent."""
    sent = any(each.provider == TENCENT for each in plan.forecast.providers)
    if sent and (likely := likely_contexts(frame)):
        rename = f"df.rename(columns={{{likely!r}: 'encryption_context'}})"
        yield f"If the column {likely!r} holds their contexts: {rename}."
