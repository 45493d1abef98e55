"""Between the columns of a DataFrame and the fields of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.frame_columns import ADDED, blobs, check_columns, strings
from kmslab.analysis.many_heads import many_heads
from kmslab.columns import Records
from kmslab.records.columns import DEFAULT_COLUMNS

COLUMN_OF: Final[Mapping[str, str]] = {
    field: column for field, column in asdict(DEFAULT_COLUMNS).items() if field != "created_at"
}
"""The column of each field of a `Record` that holds texts."""

_READ: Final = (
    "provider",
    "ciphertext_blob",
    "context",
    "key_id",
    "source_key_id",
    "source_key_version_id",
    "source_encryption_algorithm",
)
_PLACE: Final = ("region", "account")


class FrameRecords:
    """The records of a frame, and their fields column by column; None for what is empty.

    A frame without `record_id` names records by its index, one without `provider` has the one that
    each blob is of. `placed` ones have a region and an account, which matters among remotes alone.
    FrameError where a column is missing or holds something else.
    """

    def __init__(self, frame: pd.DataFrame, *, placed: bool = False) -> None:
        check_columns(frame, ["ciphertext_blob"])
        self._rows = len(frame)
        self.fields = frozenset(f for f, column in COLUMN_OF.items() if column in frame.columns)
        self.fields -= set(_PLACE)  # no change is about them
        self.columns: dict[str, list[Any]] = {field: self._read(frame, field) for field in _READ}
        nowhere = [None] * self._rows
        for field in _PLACE:
            self.columns[field] = self._read(frame, field) if placed else nowhere
        self.ids = (
            _cells(strings(frame, "record_id"))
            if "record_id" in frame.columns
            else [str(label) for label in frame.index]
        )
        if None in self.columns["provider"]:
            self.columns["provider"] = self._providers(frame)

    def _read(self, frame: pd.DataFrame, field: str) -> list[Any]:
        name = COLUMN_OF[field]
        if name not in frame.columns:
            return [None] * self._rows
        if field == "ciphertext_blob":
            return [cell if isinstance(cell, str) else None for cell in blobs(frame, name)]
        return _cells(strings(frame, name))

    def _providers(self, frame: pd.DataFrame) -> list[Any]:
        heads = many_heads(blobs(frame), strict=False)
        named = [header.provider for header in heads.headers]
        said = self.columns["provider"]
        return [name or named[code] for name, code in zip(said, heads.codes.tolist(), strict=True)]

    def __len__(self) -> int:
        return self._rows

    def records(self, start: int, stop: int) -> Records:
        """The records of some rows, which are counted from 0; the first record has row 1."""
        nothing = [None] * (stop - start)
        part = {field: column[start:stop] for field, column in self.columns.items()}
        return Records(
            [record_id or "" for record_id in self.ids[start:stop]],
            [provider or "" for provider in part["provider"]],
            [blob or "" for blob in part["ciphertext_blob"]],
            range(start + 1, stop + 1),
            part["context"],
            part["key_id"],
            nothing,
            nothing,
            part["source_key_id"],
            part["source_key_version_id"],
            part["source_encryption_algorithm"],
            part["region"],
            part["account"],
        )


def likely_contexts(frame: pd.DataFrame) -> str | None:
    """The column that may hold the encryption contexts, where none is called so.

    >>> likely_contexts(pd.DataFrame(columns=["id", "Context"]))
    'Context'
    """
    if COLUMN_OF["context"] in frame.columns:
        return None
    names = [n for n in frame.columns if isinstance(n, str) and n not in ADDED]
    likely = (n for n in names if "context" in n.lower() or n.lower() in ("ctx", "aad"))
    return next(likely, None)


def _cells(column: pd.Series[Any]) -> list[str | None]:
    """The cells of a column of texts, None for those that are empty."""
    cells: list[Any] = column.tolist()
    for row in np.flatnonzero((column.isna() | (column == "")).to_numpy(dtype=bool)):
        cells[row] = None
    return cells


def put_back(frame: pd.DataFrame, new: Mapping[str, Mapping[int, Any]]) -> pd.DataFrame:
    """A new frame with new cells, given by field and row (counted from 0). All other cells are as
    they were, whatever they hold, and so are the dtypes."""
    return frame.assign(
        **{
            COLUMN_OF[field]: _changed(frame[COLUMN_OF[field]], cells)
            for field, cells in new.items()
            if cells
        }
    )


def _changed(column: pd.Series[Any], cells: Mapping[int, Any]) -> pd.Series[Any]:
    values = column.to_numpy(dtype=object, copy=True)
    values[np.fromiter(cells, np.int64, len(cells))] = np.array(list(cells.values()), dtype=object)
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        new = [cell for cell in dict.fromkeys(cells.values()) if cell is not None]
        dtype = column.cat.add_categories([c for c in new if c not in dtype.categories]).dtype
    elif not pd.api.types.is_string_dtype(dtype):
        dtype = "object"  # it was empty: another kind of column holds no texts
    found: pd.Series[Any] = pd.Series(values, column.index, dtype, column.name)
    return found
