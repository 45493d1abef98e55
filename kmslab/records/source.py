"""What a source of records is to the rest of kmslab: read in chunks, changed in one pass.

A source has parts: the files of a directory, or the one table. Each part is read and changed on its
own. Two disciplines stand behind one protocol: a file is written anew beside the old one and takes
its place when the pass is finished; a table is changed chunk by chunk, row by row only where it
still holds what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, overload, runtime_checkable

from kmslab.many import many_of
from kmslab.model import Record

CHUNK_ROWS: Final = 2_000
"""The most records in a chunk: what is asked, journalled and written at once (lab's choice).

Each chunk costs a campaign as much as a hundred records. A lab that is asked for all of one looks
on the way what others have changed: every LOOK_AGAIN_ROWS of `kmslab.providers.batch`.
"""

Place = int | str
"""Where in a part a record is: the row of a file (from 1), the unique id in a table, as stored."""

MOVED_FIELDS: Final = (
    "provider",
    "key_id",
    "context",
    "source_key_id",
    "source_key_version_id",
    "source_encryption_algorithm",
)
"""The fields of a `Record` that move with its blob, where the source has a column for them."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The records of a part behind the place `after`, up to that of `until` and with it.

    None at either end is the part's own, so that `KeyRange()` is all of it.
    """

    after: Place | None = None
    until: Place | None = None


ALL_ROWS: Final = KeyRange()


class Absent(Enum):
    """The type of ABSENT. It is false, as None and an empty text are: all three hold nothing."""

    ABSENT = "absent"

    def __bool__(self) -> Literal[False]:
        return False


ABSENT: Final = Absent.ABSENT
"""In place of a value: the row of a JSONL file that has no such member."""

Value: TypeAlias = str | Absent | None
"""What a source holds in a cell: text, which may be empty; None for null or NULL; or ABSENT.

Where a format cannot tell two of these apart, they are one: a cell of CSV is always text.
"""

Nothing: TypeAlias = Literal[""] | Absent
"""What a cell that is None in a `Record` can hold and None does not say."""


@dataclass(frozen=True, slots=True)
class Change:
    """New values for one record; they are stored together or not at all.

    `others` gives, for fields of MOVED_FIELDS that change and have a column, the value before and
    after. A change is made only where everything in it still has its value of before; all that
    holds nothing is alike for that. What it stores is exactly the value of after.
    """

    place: Place
    record_id: str
    old_blob: str
    new_blob: str
    others: Mapping[str, tuple[Value, Value]] = field(default_factory=dict)

    def undone(self) -> Change:
        """The change that takes this one back."""
        others = {name: (new, old) for name, (old, new) in self.others.items()}
        return Change(self.place, self.record_id, self.new_blob, self.old_blob, others)


_changes: Final = many_of(Change)


class BlobChanges(Sequence[Change]):
    """Changes of nothing but blobs, column by column. A `Change` is made only for who asks for one.

    >>> changes = BlobChanges([1, 2], ["a", "b"], ["old a", "old b"], ["new a", "new b"])
    >>> changes[1].new_blob, BlobChanges.of(list(changes)).places
    ('new b', [1, 2])
    """

    __slots__ = ("new_blobs", "old_blobs", "places", "record_ids")

    def __init__(
        self,
        places: Sequence[Place],
        record_ids: Sequence[str],
        old_blobs: Sequence[str],
        new_blobs: Sequence[str],
    ) -> None:
        self.places = places
        self.record_ids = record_ids
        self.old_blobs = old_blobs
        self.new_blobs = new_blobs

    @classmethod
    def of(cls, changes: Sequence[Change]) -> BlobChanges | None:
        """The same changes column by column; None where one is of something else too."""
        if isinstance(changes, BlobChanges):
            return changes
        if any(change.others for change in changes):
            return None
        return cls(
            [change.place for change in changes],
            [change.record_id for change in changes],
            [change.old_blob for change in changes],
            [change.new_blob for change in changes],
        )

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Change]:
        columns = (self.places, self.record_ids, self.old_blobs, self.new_blobs)
        return iter(_changes(*columns, repeat({})))

    @overload
    def __getitem__(self, at: int) -> Change: ...
    @overload
    def __getitem__(self, at: slice) -> BlobChanges: ...
    def __getitem__(self, at: int | slice) -> Change | BlobChanges:
        columns: Any = (self.places, self.record_ids, self.old_blobs, self.new_blobs)
        if isinstance(at, slice):
            return BlobChanges(*(column[at] for column in columns))
        return Change(*(column[at] for column in columns))


def _all_none(_: Record) -> Mapping[str, Nothing]:
    return {}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records of one part in the source's order, about CHUNK_ROWS, and the place of each.

    A record has None for whatever holds nothing. Of one in this chunk `nothing` tells which of
    MOVED_FIELDS hold an empty text or are ABSENT; those that it does not name are what the record
    says. It is for a chunk of an `Edit` that is not written yet, and costs nothing until asked.
    """

    records: Sequence[Record]
    places: Sequence[Place]
    nothing: Callable[[Record], Mapping[str, Nothing]] = _all_none


class Edit(Protocol):
    """One pass over a part that may change its records.

    Take a chunk, `write` what changes in it (once for every chunk, also with nothing to change),
    take the next; `finish` when there is none left.
    """

    @property
    def immediate(self) -> bool:
        """Whether a change is stored when `write` returns, and not only when `finish` does."""
        ...

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks of the part, once."""
        ...

    def write(self, changes: Sequence[Change]) -> Sequence[Place]:
        """Change records of the chunk that was taken last.

        The places of the changes whose row does not hold what the change says it held: they are
        left as they are. SourceError for a place that is not in the chunk (a row of a table that
        is not there any more is lost), for a field without a column, and for a value that cannot
        be written.
        """
        ...

    def finish(self) -> None:
        """Store everything. Where nothing was changed, the part is left as it was.

        SourceChanged where a file is not the one that was read any more: it is left as it is then.
        """
        ...


class Part(Protocol):
    """One file or table of a source."""

    @property
    def name(self) -> str:
        """What to call it: the path of a file, the table of a database."""
        ...

    def fingerprint(self) -> str:
        """What is other when the part is another one.

        Of a file the digest of its bytes; of a table its columns, since its rows live.
        """
        ...

    def read(self) -> Iterator[Chunk]:
        """All its records."""
        ...

    def edit(
        self, *, output: Path | None = None, atomic: bool = False
    ) -> AbstractContextManager[Edit]:
        """A pass that may change it; leaving it without `finish` stores nothing that is not yet.

        With `output` the changed part is written there, and this one is left as it is. `atomic`
        stores nothing before `finish`. SourceBusy while another edit of it is open.
        """
        ...


@runtime_checkable
class Divisible(Protocol):
    """A part that several can go over at once, each over a range of its own: a table.

    A file is none, since it takes its place as a whole.
    """

    def key_ranges(self, rows: int) -> Sequence[KeyRange]:
        """Ranges of so many records each, of the last perhaps fewer, in order: together the part.

        Records that are added later are in one of them too.
        """
        ...

    def within(self, key_range: KeyRange) -> Part:
        """The part of the same name that has the records of a range alone."""
        ...


@runtime_checkable
class Lockable(Protocol):
    """A source that campaigns on several machines may reach: a table of a database server."""

    def lock(self, *, but_readers: bool = False) -> AbstractContextManager[None]:
        """Be the only campaign at work on it, on whatever machine; SourceBusy where another is.

        With `but_readers` it is only to be read, as others may who say so too. Applications are
        not kept from it. It ends with this process, however that ends.
        """
        ...


@runtime_checkable
class Guarded(Protocol):
    """A source that can tell beforehand whether it is going to take new blobs: a table."""

    def check_writable(self) -> None:
        """SourceError where it does not: a right is missing, or it is read only."""
        ...


@runtime_checkable
class Recognisable(Protocol):
    """A source of which another process can tell that it is the very same one: a table."""

    def marked(self) -> AbstractContextManager[str]:
        """Have it carry a mark as long as this lasts, which others find by what this gives."""
        ...

    def carries(self, mark: str) -> bool:
        """Whether it carries a mark: another of the same name and shape does not."""
        ...


def alone(source: Source, *, but_readers: bool = False) -> AbstractContextManager[None]:
    """Be the only campaign at work on a source, where several machines may reach it: see
    `Lockable.lock`."""
    return source.lock(but_readers=but_readers) if isinstance(source, Lockable) else nullcontext()


class Source(Protocol):
    """Records, wherever they live."""

    @property
    def name(self) -> str:
        """What tells it from all others: an absolute path, or a URL (no password) and a table."""
        ...

    @property
    def fields(self) -> frozenset[str]:
        """The fields of a `Record` that have a column here."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """Its parts in a fixed order."""
        ...

    @property
    def blob_capacity(self) -> int | None:
        """The greatest length of a blob that it can hold, in characters; None for any."""
        ...
