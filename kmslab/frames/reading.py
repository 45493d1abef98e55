"""From a source to a DataFrame of its records."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any, Final

import pandas as pd

from kmslab.analysis.frame_columns import TIME, meant
from kmslab.analysis.heads import FORMATS
from kmslab.columns import column_of
from kmslab.database_url import is_url
from kmslab.errors import SourceChanged, SourceError
from kmslab.inspection import inspect
from kmslab.model import Record
from kmslab.records.columns import DEFAULT_COLUMNS, Columns
from kmslab.records.opening import split_location
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec

_DTYPES: Final[dict[str, Any]] = {
    "record_id": "string",
    "provider": "category",
    "ciphertext_blob": "string",
    "context": "string",
    "key_id": "string",
    "created_at": TIME,
    "owner": "category",
    "source_key_id": "string",
    "source_key_version_id": "string",
    "source_encryption_algorithm": "category",
}
_COLUMN_OF: Final[dict[str, str]] = asdict(DEFAULT_COLUMNS)

RE_ENCRYPTED_AT: Final = "re_encrypted_at"
"""The column that `df.kms.re_encrypt` adds, which is none of a `Record`'s."""


def read(
    location: str | os.PathLike[str],
    *,
    table: str | None = None,
    columns: Columns = DEFAULT_COLUMNS,
    provider: str | None = None,
    context_template: str | None = None,
) -> pd.DataFrame:
    """The records of a source, under kmslab's own names of columns, each of its fitting dtype.

    A source is what a campaign takes: a CSV, JSONL or Parquet file, a directory, a glob, or with
    `table` a database URL. What is empty is NA. Columns that the source does not have are not in
    the frame, nor those that mean nothing to kmslab. A source with `re_encrypted_at` is read twice.
    SourceError where it cannot be read; ValueError for a provider that is none.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("record_id,ciphertext_blob\\n订单-1,a21z\\n", encoding="utf-8")
    >>> read(path, provider="ctyun").to_dict("records")
    [{'record_id': '订单-1', 'provider': 'ctyun', 'ciphertext_blob': 'a21z'}]
    """
    if provider is not None and provider not in FORMATS:
        raise ValueError(f"provider {provider[:40]!r} is neither tencent nor ctyun")
    place, password = split_location(os.fspath(location))
    spec = SourceSpec(place, table, columns, provider, context_template)
    with _speaking_python():
        source = _opened(spec, password)
        chunks = [chunk.records for part in source.parts for chunk in part.read()]
        again = _re_encrypted_at(spec, password, chunks)
    given = {"provider": provider, "context": context_template}
    named = source.fields | {field for field, value in given.items() if value is not None}
    read_columns = {
        _COLUMN_OF[field]: pd.Series(
            [cell or None for chunk in chunks for cell in column_of(chunk, field)], dtype=dtype
        )
        for field, dtype in _DTYPES.items()
        if field in named
    }
    return pd.DataFrame(read_columns | again)


def _opened(spec: SourceSpec, password: str | None) -> Source:
    """The source with all its columns, created_at and owner too."""
    if is_url(spec.location):
        from kmslab.records.sql import open_table

        return open_table(spec, password=password)
    from kmslab.records.files import open_files

    return open_files(spec)


def _re_encrypted_at(
    spec: SourceSpec, password: str | None, chunks: Sequence[Sequence[Record]]
) -> dict[str, pd.Series[Any]]:
    """The column of this name, if the source has it: it is read as `created_at` is, once more.

    SourceChanged where the second reading finds other records.
    """
    columns = replace(spec.columns, created_at=RE_ENCRYPTED_AT)
    try:
        source = _opened(replace(spec, columns=columns), password)
    except SourceError as error:
        if f"no column {RE_ENCRYPTED_AT!r}" in str(error):
            return {}
        raise
    try:
        found = [chunk.records for part in source.parts for chunk in part.read()]
    except SourceError as error:  # of a time that is none
        said = str(error).replace("created_at:", f"{RE_ENCRYPTED_AT}:")
        raise SourceError(said, source=error.source, row=error.row) from None
    for name in ("record_id", "ciphertext_blob"):
        first, second = (
            [c for chunk in read for c in column_of(chunk, name)] for read in (chunks, found)
        )
        if first != second:
            raise SourceChanged(
                f"{source.name} was changed while it was read; read it again", source=source.name
            )
    times = [cell for chunk in found for cell in column_of(chunk, "created_at")]
    return {RE_ENCRYPTED_AT: pd.Series(times, dtype=TIME)}


_QUOTED: Final = re.compile("'([^']*)'")
_OPTIONS: Final = {
    "--table": "table=",
    "--id-column": "columns=Columns(record_id=...)",
    "--provider": "provider=",
}


@contextmanager
def _speaking_python() -> Iterator[None]:
    """Errors of sources name what `read` takes, in place of the command line's options."""
    try:
        yield
    except SourceError as error:
        said = str(error)
        for option, argument in _OPTIONS.items():
            said = said.replace(option, argument)
        said += _meant(said)
        if said == str(error):
            raise
        raise type(error)(said, source=error.source, row=error.row) from None


def _meant(said: str) -> str:
    """Which column of the source may be meant by one that it does not have; "" where none is."""
    missing, _, found = said.partition("; found: ")
    _, there, name = missing.rpartition("no column ")
    fields = {column: field for field, column in _COLUMN_OF.items()}
    field, close = fields.get(name.strip("'")), meant(name.strip("'"), _QUOTED.findall(found))
    if not there or field is None or close is None:
        return ""
    return f". If {close!r} is meant: columns=Columns({field}={close!r})"


def from_records(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a frame, with a column for every field.

    >>> from_records([Record("1", "ctyun", "a21z")])["provider"].tolist()
    ['ctyun']
    """
    rows = list(records)
    return pd.DataFrame(
        {
            _COLUMN_OF[field]: pd.Series([getattr(row, field) for row in rows], dtype=dtype)
            for field, dtype in _DTYPES.items()
        }
    )


def parts(blob: str) -> pd.DataFrame:
    """A blob taken apart: a row for each field, with its bytes and what they mean.

    No text raises; one that is no blob has no fields, and `inspect(blob).notes` say why.

    >>> parts("orders").empty
    True
    """
    found = inspect(blob).as_dict()["parts"]
    columns = ["name", "segment", "offset", "length", "value", "meaning"]
    return pd.DataFrame(found, columns=columns).set_index("name")
