"""Records from files: one, all of a directory, or those that a glob names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from kmslab.errors import FormatError, SourceError
from kmslab.model import Record
from kmslab.records.columns import DEFAULT_COLUMNS, Columns, ContextTemplate
from kmslab.records.csv_file import CsvRows, csv_fields
from kmslab.records.finding import Found, find
from kmslab.records.jsonl import JsonRows, jsonl_names
from kmslab.records.layout import Reading
from kmslab.records.replacing import explained
from kmslab.records.source import Part
from kmslab.records.spec import SourceSpec
from kmslab.records.text import MAX_ROW_BYTES as MAX_ROW_BYTES
from kmslab.records.text import TextPart


def read_csv(
    path: str | os.PathLike[str],
    *,
    columns: Columns = DEFAULT_COLUMNS,
    provider: str | None = None,
    context_template: str | None = None,
) -> Iterator[Record]:
    """The records of a CSV file, one by one; the file is open only while they are being taken.

    The file is UTF-8, with or without a byte order mark, separated by commas, quoted by `"`; its
    first row names the columns. Blank lines are passed over. `provider` is the provider of every
    record, in place of the provider column, and `context_template` (see `ContextTemplate`) makes
    every context, in place of the context column. Empty cells of columns that need not be there
    are None. What a cell means is not judged here, but for created_at (see `parse_time`).

    ContextError, at once, for a template that is none; SourceError, when records are taken, for a
    file or row that cannot be read: it names the source, the row and what to do.

    A row may have 16 MiB. The standard library's limit on a field (131,072 characters) holds for
    the whole process; it is raised when a longer row turns up, and not otherwise.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("record_id,ciphertext_blob\\n订单-1,a21z\\n", encoding="utf-8")
    >>> for record in read_csv(path, provider="ctyun"):
    ...     print(record.row, record.record_id, record.provider, record.context)
    1 订单-1 ctyun None
    """
    template = None if context_template is None else ContextTemplate.parse(context_template)
    return _records(Path(path), Reading(columns, provider, template))


def _records(path: Path, reading: Reading) -> Iterator[Record]:
    with explained(path), path.open("rb") as file:
        for record, _ in CsvRows(file, str(path), reading):
            if record is not None:
                yield record


if TYPE_CHECKING:
    from kmslab.records.parquet import ParquetPart


@dataclass(frozen=True, slots=True)
class FileSource:
    """Records in files: see `Source`, and `open_files`, which makes one."""

    name: str
    fields: frozenset[str]
    parts: Sequence[Part]
    blob_capacity: int | None = None


def open_files(spec: SourceSpec) -> FileSource:
    """The source that a path or a glob names: a file, all files of a directory, those of a glob.

    The suffix tells the format. A directory is taken with all that is in it, in the order of the
    names; names that begin with `.` or `_` are passed over, and what else is there must be of one
    format. A glob is the shell's, with `**` for directories of any depth. Each file is a part.

    SourceError where there is nothing, or anything that cannot be read as a source.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("record_id,ciphertext_blob\\n1,a21z\\n")
    >>> source = open_files(SourceSpec(str(path), provider="ctyun"))
    >>> (
    ...     [
    ...         record.record_id
    ...         for part in source.parts
    ...         for chunk in part.read()
    ...         for record in chunk.records
    ...     ],
    ...     sorted(source.fields),
    ... )
    (['1'], ['ciphertext_blob', 'record_id'])
    """
    template = (
        None if spec.context_template is None else ContextTemplate.parse(spec.context_template)
    )
    reading = Reading(spec.columns, spec.provider, template)
    name, kind, files = find(spec.location)
    match kind:
        case "CSV":
            fields = _same_fields({file.path: csv_fields(file.path, reading) for file in files})
            parts: Sequence[Part] = [TextPart(file.path, CsvRows, reading) for file in files]
        case "Parquet":
            fields, parts = _parquet(files, reading)
        case _:
            fields = _jsonl_fields(name, files, reading)
            parts = [TextPart(file.path, JsonRows, reading) for file in files]
    return FileSource(name, fields, tuple(parts))


def _parquet(
    files: Sequence[Found], reading: Reading
) -> tuple[frozenset[str], Sequence[ParquetPart]]:
    from kmslab.records.parquet import ParquetPart  # pyarrow is not for those who read CSV

    parts = [ParquetPart(file.path, reading, file.partition) for file in files]
    return _same_fields({part.path: part.fields for part in parts}), parts


def _jsonl_fields(name: str, files: Sequence[Found], reading: Reading) -> frozenset[str]:
    """The fields of all parts together: a member can be put into any object that has none."""
    names = frozenset(chain.from_iterable(jsonl_names(file.path, reading) for file in files))
    if not names:
        return names  # no objects, or empty ones: there is nothing that a column could be missed in
    try:
        return frozenset(reading.layout(sorted(names)).at)
    except FormatError as error:
        raise SourceError(
            f"{name}: {error} (members of the first 1,000 objects of each file)", source=name
        ) from None


def _same_fields(of: Mapping[Path, frozenset[str]]) -> frozenset[str]:
    """The fields of every part. SourceError for one that has others than the first."""
    first, fields = next(iter(of.items()))
    for path, others in of.items():
        if others != fields:
            differing = ", ".join(sorted(others ^ fields))
            raise SourceError(
                f"{path}: columns differ from those of {first}: {differing}; take files with the"
                " same columns together",
                source=str(path),
            )
    return fields
