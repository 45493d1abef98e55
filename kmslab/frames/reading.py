"""From a source to a DataFrame of its records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from kmslab.analysis.frame_columns import TIME
from kmslab.columns import column_of
from kmslab.inspection import inspect
from kmslab.model import Record
from kmslab.records.columns import DEFAULT_COLUMNS, Columns
from kmslab.records.opening import is_url, split_location
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
    the frame, nor those that mean nothing to kmslab. SourceError where it cannot be read.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("record_id,ciphertext_blob\\n订单-1,a21z\\n", encoding="utf-8")
    >>> read(path, provider="ctyun").to_dict("records")
    [{'record_id': '订单-1', 'provider': 'ctyun', 'ciphertext_blob': 'a21z'}]
    """
    place, password = split_location(os.fspath(location))
    spec = SourceSpec(place, table, columns, provider, context_template)
    source = _opened(spec, password)
    chunks = [chunk.records for part in source.parts for chunk in part.read()]
    given = {"provider": provider, "context": context_template}
    named = source.fields | {field for field, value in given.items() if value is not None}
    return pd.DataFrame(
        {
            _COLUMN_OF[field]: pd.Series(
                [cell or None for chunk in chunks for cell in column_of(chunk, field)], dtype=dtype
            )
            for field, dtype in _DTYPES.items()
            if field in named
        }
    )


def _opened(spec: SourceSpec, password: str | None) -> Source:
    """The source with all its columns, created_at and owner too."""
    if is_url(spec.location):
        from kmslab.records.sql import open_table

        return open_table(spec, password=password)
    from kmslab.records.files import open_files

    return open_files(spec)


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
