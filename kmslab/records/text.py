"""What CSV and JSONL have in common: lines of UTF-8, and a pass in which most bytes stay."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from kmslab.errors import SourceError
from kmslab.model import Record
from kmslab.records.layout import Reading
from kmslab.records.replacing import (
    BLOCK_BYTES,
    Replacement,
    explained,
    file_digest,
    fingerprint,
    replacing,
)
from kmslab.records.source import CHUNK_ROWS, Change, Chunk, Edit, Nothing, Place

MAX_ROW_BYTES: Final = 16 * 1024 * 1024
"""The longest row that is read; what bounds the memory of a reader (lab's choice)."""

USUAL_ROW: Final = 131_072
"""Above this a row is long: see `Lines`. The standard library's usual limit on a CSV field."""

_CHUNK_BYTES: Final = MAX_ROW_BYTES  # a chunk of long rows has fewer of them
_BOM: Final = b"\xef\xbb\xbf"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class Lines:
    """The lines of an open UTF-8 file as text; keeps the bytes of each row, knows where it is.

    `row` is the row being read, which the reader of rows counts; 0 is a header. `long` is called
    before a line is given that makes its row longer than USUAL_ROW.

    >>> from io import BytesIO
    >>> lines = Lines(BytesIO("订单\\r\\n".encode()), "orders.csv", row=0)
    >>> next(iter(lines)), lines.taken()
    ('订单\\r\\n', b'\\xe8\\xae\\xa2\\xe5\\x8d\\x95\\r\\n')
    """

    __slots__ = ("_file", "_line", "_long", "_raws", "_row_bytes", "_source", "mark", "row")

    def __init__(
        self, file: BinaryIO, source: str, row: int, long: Callable[[], object] | None = None
    ) -> None:
        self.row = row
        self.mark = b""
        """The byte order mark, which is given with no line."""
        self._file = file
        self._source = source
        self._long = long
        self._line = 0
        self._raws: list[bytes] = []
        self._row_bytes = 0

    def error(self, message: str) -> SourceError:
        """A SourceError that says where the reader is."""
        where = f"row {self.row} (line {self._line})" if self.row else "header"
        return SourceError(
            f"{self._source}, {where}: {message}", source=self._source, row=self.row or None
        )

    def taken(self) -> bytes:
        """The bytes of the lines that were given since it was asked last: those of one row."""
        raws = self._raws
        raw = raws[0] if len(raws) == 1 else b"".join(raws)
        raws.clear()
        self._row_bytes = 0
        return raw

    def __iter__(self) -> Iterator[str]:
        read, raws = self._file.readline, self._raws
        raw = read(MAX_ROW_BYTES + 1)
        if raw.startswith(_UTF_16):
            raise self.error("the file is UTF-16; save it as UTF-8")
        if raw.startswith(_BOM):
            self.mark, raw = _BOM, raw[len(_BOM) :]
        while raw:
            self._line += 1
            raws.append(raw)
            self._row_bytes += len(raw)
            if self._row_bytes > USUAL_ROW:
                self._check_length()
            if b"\0" in raw:
                raise self.error("a NUL byte; this is not text")
            try:
                yield raw.decode("utf-8")
            except UnicodeDecodeError:
                raise self.error("not UTF-8; save the file as UTF-8") from None
            raw = read(MAX_ROW_BYTES + 1)

    def _check_length(self) -> None:
        if self._row_bytes > MAX_ROW_BYTES:
            raise self.error(f"longer than {MAX_ROW_BYTES:,} bytes; is a quote not closed?")
        if self._long is not None:
            self._long()


class TextRows(Protocol):
    """The rows of an open file of text: CSV or JSONL."""

    def __iter__(self) -> Iterator[tuple[Record | None, bytes]]:
        """The records with their bytes, and None with bytes that belong to no record.

        All bytes together, in their order, are the file.
        """
        ...

    def changed(self, raw: bytes, change: Change) -> bytes | None:
        """The bytes of a record after a change; None where it does not hold what the change says.

        SourceError where what it says cannot be written.
        """
        ...

    def nothing(self, raw: bytes) -> Mapping[str, Nothing]:
        """What a record says of fields that hold nothing: see `Chunk.nothing`."""
        ...


class RowsOf(Protocol):
    """How a file of one format is read."""

    def __call__(self, file: BinaryIO, source: str, reading: Reading) -> TextRows:
        """The rows of a file that was just opened; errors name it as `source`."""
        ...


@dataclass(frozen=True, slots=True)
class TextPart:
    """A CSV or JSONL file: see `Part`."""

    path: Path
    rows_of: RowsOf
    reading: Reading

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self.path)

    def fingerprint(self) -> str:
        """The SHA-256 of its bytes."""
        return fingerprint(self.path)

    def read(self) -> Iterator[Chunk]:
        """All its records."""
        with explained(self.path), self.path.open("rb", BLOCK_BYTES) as file:
            records: list[Record] = []
            size = 0
            for record, raw in self.rows_of(file, self.name, self.reading):
                if record is not None:
                    records.append(record)
                    size += len(raw)
                    if len(records) == CHUNK_ROWS or size >= _CHUNK_BYTES:
                        yield Chunk(records, _rows(records))
                        records, size = [], 0
            if records:
                yield Chunk(records, _rows(records))

    @contextmanager
    def edit(self, *, output: Path | None = None, atomic: bool = False) -> Iterator[Edit]:
        """A pass that may change it. It is always atomic."""
        with replacing(self.path, output) as replacement:
            rows = self.rows_of(replacement.source, self.name, self.reading)
            yield _TextEdit(rows, replacement, self.name)


def _rows(records: Sequence[Record]) -> Sequence[Place]:
    return [record.row for record in records]


class _TextEdit:
    """A pass over a file of text: what is read is written again, most of it as it is."""

    __slots__ = ("_at", "_ended", "_name", "_pieces", "_read", "_replacement", "_rows", "_written")

    def __init__(self, rows: TextRows, replacement: Replacement, name: str) -> None:
        self._rows = rows
        self._replacement = replacement
        self._name = name
        self._pieces: list[bytes] = []  # what was read since the last write
        self._at: dict[Place, int] = {}  # where in them each record is
        self._read = hashlib.sha256()
        self._written = hashlib.sha256()
        self._ended = False

    @property
    def immediate(self) -> bool:
        return False

    def __iter__(self) -> Iterator[Chunk]:
        records: list[Record] = []
        size = 0
        with explained(self._replacement.path):
            for record, raw in self._rows:
                size += len(raw)
                self._pieces.append(raw)
                if record is not None:
                    self._at[record.row] = len(self._pieces) - 1
                    records.append(record)
                if len(records) == CHUNK_ROWS or size >= _CHUNK_BYTES:
                    if records:
                        yield Chunk(records, _rows(records), self._nothing)
                    self.write(())  # blank lines without end, or a chunk nobody wrote
                    records, size = [], 0
            if records:
                yield Chunk(records, _rows(records), self._nothing)
            self.write(())
        self._ended = True

    def write(self, changes: Sequence[Change]) -> Sequence[Place]:
        pieces = self._pieces
        before = after = b"".join(pieces)
        lost: list[Place] = []
        for change in changes:
            at = self._piece(change.place)
            changed = self._rows.changed(pieces[at], change)
            if changed is None:
                lost.append(change.place)
            else:
                pieces[at] = changed
        if changes:
            after = b"".join(pieces)
        self._read.update(before)
        self._written.update(after)
        self._replacement.write(after)
        pieces.clear()
        self._at.clear()
        return lost

    def _nothing(self, record: Record) -> Mapping[str, Nothing]:
        return self._rows.nothing(self._pieces[self._piece(record.row)])

    def _piece(self, place: Place) -> int:
        """Where a row is in what was read since the last write."""
        at = self._at.get(place)
        if at is None:
            raise SourceError(
                f"{self._name}: row {place} is not in the chunk that was taken last",
                source=self._name,
            )
        return at

    def finish(self) -> None:
        if not self._ended:
            raise SourceError(f"{self._name}: not all records were taken", source=self._name)
        self._replacement.finish(
            read=self._read.hexdigest(),
            changed=self._read.digest() != self._written.digest(),
            prove=self._prove,
        )

    def _prove(self, file: BinaryIO) -> None:
        if file_digest(file) != self._written.hexdigest():
            raise SourceError(
                f"{self._name}: what was written is not what the disk gives back; the file was"
                " left as it was. Check the disk",
                source=self._name,
            )
