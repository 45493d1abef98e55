"""A Parquet file written as another one was, and held against it.

What pyarrow tells of a file is kept: schema and metadata, row groups, per column the codec, the
dictionary or other encoding, statistics and Bloom filter, the page index, the versions of format
and pages, the sort order as far as no column in it may change. What it does not tell is the
writer's: `created_by`, the level of compression, the size of pages, their checksums.
"""

from __future__ import annotations

import hashlib
import inspect
from io import BytesIO
from itertools import product
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kmslab.errors import SourceError
from kmslab.records.replacing import Replacement, file_digest
from kmslab.records.source import CHUNK_ROWS

_ARROW_SCHEMA: Final = b"ARROW:schema"
_PAGE_V2: Final = b"\x15\x06"  # how the header of a data page of version 2 begins
_OTHER_ENCODINGS: Final = frozenset(
    {"DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT"}
)


def text_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of the text in a column, which a dictionary may hold; None if it is no text.

    >>> text_type(pa.dictionary(pa.int8(), pa.large_string()))
    DataType(large_string)
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return kind if any(is_text(kind) for is_text in texts) else None


class _Sink:
    """What pyarrow writes to: says what is wrong as we do, and is closed by somebody else."""

    __slots__ = ("_replacement", "_written", "closed", "wanted")

    def __init__(self, replacement: Replacement) -> None:
        self.wanted = True
        self.closed = False
        self._replacement = replacement
        self._written = 0

    def write(self, data: Any) -> int:
        size = len(data)
        if self.wanted:
            self._replacement.write(bytes(data))
        self._written += size
        return size

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing: `Replacement.finish` does it."""

    def close(self) -> None:
        self.closed = True


class GroupWriter:
    """Writes a Parquet file anew, row group by row group, with other values in some columns.

    `begin` a group with its table, give its `chunk`s, `end` it.
    """

    __slots__ = (
        "_changed",
        "_digests",
        "_name",
        "_offset",
        "_pieces",
        "_replacement",
        "_sink",
        "_source",
        "_table",
        "_writer",
    )

    def __init__(
        self, source: pq.ParquetFile, replacement: Replacement, name: str, movable: frozenset[str]
    ) -> None:
        self._source = source
        self._replacement = replacement
        self._name = name
        self._changed = False
        self._digests: list[dict[str, bytes]] = []  # of the changed columns of each row group
        self._table: pa.Table = None
        self._offset = 0
        self._pieces: dict[str, list[pa.Array]] = {}
        options = _options(source, replacement.source, movable)
        self._sink = _Sink(replacement)
        file = pa.PythonFile(self._sink, mode="w")
        self._writer = pq.ParquetWriter(file, source.schema_arrow, **options)

    def begin(self, table: pa.Table) -> None:
        """The next row group of the source: those of its columns that may change."""
        self._table, self._offset, self._pieces = table, 0, {}

    def chunk(self, count: int, new: dict[str, list[Any]]) -> None:
        """The next `count` rows of the group; `new` has all cells of the columns that change."""
        for name, cells in new.items():
            column = self._table.column(name)
            kind = text_type(column.type)
            if name not in self._pieces:
                self._pieces[name] = _chunks_as(column.slice(0, self._offset), kind)
            if not self._table.schema.field(name).nullable:
                cells = ["" if cell is None else cell for cell in cells]
            array = pa.array(cells, kind)
            self._pieces[name] += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
        for name in self._pieces.keys() - new.keys():
            column = self._table.column(name).slice(self._offset, count)
            self._pieces[name] += _chunks_as(column, text_type(column.type))
        self._offset += count

    def end(self) -> None:
        """The row group is complete: write it, unless nothing has changed as yet."""
        if self._pieces and not self._changed:
            self._changed = True
            for index in range(len(self._digests)):
                self._write(self._source.read_row_group(index, use_threads=False))
        digests = {}
        if self._changed:
            table = self._whole()
            for name, pieces in self._pieces.items():
                at = table.schema.get_field_index(name)
                kind = table.schema.types[at]
                column = pa.chunked_array(pieces, text_type(kind))
                digests[name] = _text_digest(column)
                table = table.set_column(at, table.schema.field(at), _of_type(column, kind))
            self._write(table)
        self._digests.append(digests)
        self._table, self._pieces = None, {}

    def _whole(self) -> pa.Table:
        """The row group with all its columns, of which those that were read are not read again."""
        read, names = self._table, self._source.schema_arrow.names
        rest = [name for name in names if name not in read.schema.names]
        other = self._source.read_row_group(len(self._digests), columns=rest, use_threads=False)
        tables = [other if name in rest else read for name in names]
        fields = [table.schema.field(name) for table, name in zip(tables, names, strict=True)]
        return pa.Table.from_arrays(
            [table.column(name) for table, name in zip(tables, names, strict=True)],
            schema=pa.schema(fields, self._source.schema_arrow.metadata),
        )

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def finish(self, digest: str) -> None:
        """Put the new file in the place of the source, whose SHA-256 was `digest`."""
        if self._changed:
            self._writer.close()
        elif self._replacement.elsewhere:
            _copy(self._replacement)

        def prove(raw: BinaryIO) -> None:
            if self._changed:
                self._prove(raw)
            elif file_digest(raw) != digest:
                raise self._not_kept("a copy")

        self._replacement.finish(read=digest, changed=self._changed, prove=prove)

    def close(self) -> None:
        """Let go of the new file, finished or not."""
        self._sink.wanted = False  # pyarrow writes a footer whenever it closes
        self._writer.close()

    def _prove(self, raw: BinaryIO) -> None:
        """Read the new file back, and hold each column against what it is to be."""
        raw.seek(0)
        with pq.ParquetFile(pa.PythonFile(raw, mode="r")) as new:
            if not new.schema_arrow.equals(self._source.schema_arrow, check_metadata=True):
                raise self._not_kept("its schema")
            if new.num_row_groups != self._source.num_row_groups:
                raise self._not_kept("its row groups")
            for index, digests in enumerate(self._digests):
                self._prove_group(index, digests, new)

    def _prove_group(self, index: int, digests: dict[str, bytes], new: pq.ParquetFile) -> None:
        ours = new.read_row_group(index, use_threads=False)
        rest = [name for name in ours.schema.names if name not in digests]
        theirs = self._source.read_row_group(index, columns=rest, use_threads=False)
        if ours.num_rows != self._source.metadata.row_group(index).num_rows:
            raise self._not_kept(f"row group {index}")
        for name, column in zip(ours.schema.names, ours.columns, strict=True):
            if name in digests:
                same = _text_digest(column) == digests[name]
            else:
                same = _equal(column, theirs.column(name))
            if not same:
                raise self._not_kept(f"column {name!r} of row group {index}")

    def _not_kept(self, what: str) -> SourceError:
        return SourceError(
            f"{self._name}: {what} reads back otherwise than it was meant; the file was left as it"
            " was. Write it anew with a current pyarrow, and try again",
            source=self._name,
        )


def _copy(replacement: Replacement) -> None:
    """Make the new file the same bytes as the old one."""
    replacement.file.seek(0)
    replacement.file.truncate()
    replacement.source.seek(0)
    while block := replacement.source.read(1024 * 1024):
        replacement.write(block)


def _chunks_as(column: pa.ChunkedArray, kind: pa.DataType) -> list[pa.Array]:
    chunks: list[pa.Array] = column.cast(kind).chunks
    return chunks


def _of_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Text as a column of its own type: with one dictionary, if with any."""
    if not pa.types.is_dictionary(kind):
        return column
    encoded = pa.concat_arrays(column.chunks).dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(kind.index_type), encoded.dictionary, ordered=kind.ordered
    )


def _text_digest(column: pa.ChunkedArray) -> bytes:
    """What is other for any other text in a cell; the same however the column lies in chunks."""
    lengths, letters = hashlib.sha256(), hashlib.sha256()
    for chunk in column.cast(text_type(column.type)).cast(pa.large_string()).chunks:
        sizes = pc.fill_null(pc.binary_length(chunk), -1)
        lengths.update(_slice(sizes.buffers()[1], sizes.offset * 8, len(sizes) * 8))
        there = chunk.drop_null()
        if len(there):
            ends = memoryview(there.buffers()[1]).cast("q")
            first, last = ends[there.offset], ends[there.offset + len(there)]
            letters.update(_slice(there.buffers()[2], first, last - first))
    return lengths.digest() + letters.digest()


def _slice(buffer: pa.Buffer | None, start: int, size: int) -> memoryview | bytes:
    return b"" if buffer is None else memoryview(buffer)[start : start + size]


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    if one.equals(other):
        return True
    # Not-a-number is equal to nothing, and has to be kept all the same.
    return len(one) == len(other) and all(
        repr(one.slice(start, CHUNK_ROWS).to_pylist())
        == repr(other.slice(start, CHUNK_ROWS).to_pylist())
        for start in range(0, len(one), CHUNK_ROWS)
    )


def _options(source: pq.ParquetFile, raw: BinaryIO, movable: frozenset[str]) -> dict[str, Any]:
    """How to write a file like `source`, as `pyarrow.parquet.ParquetWriter` takes it."""
    metadata = source.metadata
    options: dict[str, Any] = {"store_schema": _ARROW_SCHEMA in (metadata.metadata or {})}
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        columns = [group.column(index) for index in range(group.num_columns)]
        options |= _column_options(columns, metadata.num_rows)
        options |= {"data_page_version": "2.0" if _has_page_v2(columns, raw) else "1.0"}
        sorting = _kept_sorting(group, columns, movable)
        options |= {"sorting_columns": sorting} if sorting else {}
    return options | _schema_options(source)


def _column_options(columns: list[Any], rows: int) -> dict[str, Any]:
    codec = {column.path_in_schema: column.compression for column in columns}
    dictionary = [column.path_in_schema for column in columns if column.has_dictionary_page]
    other = {
        column.path_in_schema: next(iter(_OTHER_ENCODINGS.intersection(column.encodings)))
        for column in columns
        if not column.has_dictionary_page and _OTHER_ENCODINGS.intersection(column.encodings)
    }
    options = {
        "compression": {k: "NONE" if v == "UNCOMPRESSED" else v for k, v in codec.items()},
        "use_dictionary": dictionary,
        "write_statistics": [c.path_in_schema for c in columns if c.is_stats_set],
        "write_page_index": any(column.has_column_index for column in columns),
    }
    if other:
        options["column_encoding"] = other
    # Bloom filters came to pyarrow later than what else is used here.
    filtered = [c for c in columns if getattr(c, "bloom_filter_offset", None) is not None]
    if filtered and "bloom_filter_options" in inspect.signature(pq.ParquetWriter).parameters:
        options["bloom_filter_options"] = {
            c.path_in_schema: {"ndv": max(1, rows)} for c in filtered
        }
    return options


def _has_page_v2(columns: list[Any], raw: BinaryIO) -> bool:
    """Whether the pages are of version 2, which only the header of a page says."""
    if not columns:
        return False
    raw.seek(columns[0].data_page_offset)
    return raw.read(len(_PAGE_V2)) == _PAGE_V2


def _kept_sorting(group: Any, columns: list[Any], movable: frozenset[str]) -> list[Any]:
    """The sort order up to the first column that may change, after which it would be a lie."""
    kept = []
    for sorting in group.sorting_columns:
        if columns[sorting.column_index].path_in_schema in movable:
            break
        kept.append(sorting)
    return kept


def _schema_options(source: pq.ParquetFile) -> dict[str, Any]:
    """The options by which the schema comes out as it was, tried on files without rows.

    A file that another program wrote may have a schema that pyarrow has no options for; it gets
    the usual ones, and what is read back shows whether that keeps everything.
    """
    versions = dict.fromkeys([source.metadata.format_version, "2.6"])
    choices = [
        {
            "version": version,
            "use_compliant_nested_type": compliant,
            "store_decimal_as_integer": decimal,
            "use_deprecated_int96_timestamps": int96,
        }
        for int96, decimal, compliant, version in product(
            (False, True), (False, True), (True, False), versions
        )
    ]
    for options in choices:
        empty = BytesIO()
        try:
            pq.ParquetWriter(empty, source.schema_arrow, **options).close()
        except (pa.ArrowException, ValueError):
            continue  # a version that is none, or one that does not know a type
        with pq.ParquetFile(empty) as tried:
            if tried.schema.equals(source.schema):
                return options
    return {}
