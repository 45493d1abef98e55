"""What is asked of the columns of a DataFrame, and what is said where they are something else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_scalar

from kmslab.clock import SystemClock
from kmslab.errors import FormatError, FrameError
from kmslab.records.columns import parse_time

TIME: Final = pd.DatetimeTZDtype("us", "UTC")
"""The dtype of every column of times."""

DAY: Final = pd.Timedelta(days=1)

_INSPECT: Final = "df.kms.inspect(lab) adds it"
ADDED: Final = (
    "provider",
    "format",
    "key_id",
    "key_known_by",
    "claimed_key_id",
    "key_version_id",
    "version_number",
    "version_known_by",
    "is_primary",
    "stale",
    "sendable",
    "has_context",
    "context_known_by",
    "version_made_at",
    "primary_until",
    "age_days",
    "stale_days",
    "error",
)
"""What an inspection adds to a frame."""

_ALSO_CALLED: Final = {
    "ciphertext_blob": ("blob", "ciphertext", "cipher_text", "encrypted", "data_key"),
    "created_at": ("created", "create_time", "creation_time", "made_at", "timestamp", "date"),
    "owner": ("team", "service", "app", "application", "tenant"),
}
"""What columns of others often are called, where the names are not alike."""

VERSION: Final = ("provider", "key_id", "key_version_id", "version_number")
"""What key versions are told apart by."""


def check_columns(frame: pd.DataFrame, needed: Iterable[str] = (), *, source: str = "") -> None:
    """FrameError where a needed column is not there, or any column is there twice. `source` says
    what has the columns, where that is neither the records nor an inspection.

    >>> check_columns(pd.DataFrame({"ciphertext_blobs": []}), ["ciphertext_blob"])
    Traceback (most recent call last):
    ...
    kmslab.errors.FrameError: no column 'ciphertext_blob'; found: 'ciphertext_blobs'. If \
'ciphertext_blobs' is meant: df.rename(columns={'ciphertext_blobs': 'ciphertext_blob'})
    """
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"a DataFrame is needed, not {type(frame).__name__}")
    if frame.columns.nlevels > 1:
        raise FrameError(
            f"the columns have {frame.columns.nlevels} levels, and one is needed: "
            "df.columns = ['_'.join(map(str, each)) for each in df.columns], then rename"
        )
    names = list(frame.columns)
    if not frame.columns.is_unique:
        double = str(next(name for name in names if names.count(name) > 1))
        raise FrameError(f"column {double!r} is there twice; drop or rename one", column=double)
    for name in needed:
        if name not in names:
            hint = source or _found(name, names)
            raise FrameError(f"no column {name!r}; {hint}", column=name)


def _found(name: str, names: Sequence[Any]) -> str:
    shown = ", ".join(repr(each)[:62] for each in names[:30]) or "no column at all"
    if len(names) > 30:
        shown += f" and {len(names) - 30:,} more"
    if name in ADDED:
        return f"{_INSPECT}. Found: {shown}"
    close = meant(name, names)
    if close is None:
        return f"found: {shown}. Rename the one that holds it with df.rename(columns=...)"
    rename = f"df.rename(columns={{{close!r}: {name!r}}})"
    return f"found: {shown}. If {close!r} is meant: {rename}"


def meant(name: str, names: Sequence[Any]) -> str | None:
    """Which of these names may be meant by another, if any.

    >>> meant("ciphertext_blob", ["id", "ciphertextBlob"]), meant("owner", [0, "team"])
    ('ciphertextBlob', 'team')
    """
    texts = [each for each in names if isinstance(each, str)]
    others = (each for each in texts if each.lower() in _ALSO_CALLED.get(name, ()))
    return next(iter(get_close_matches(name, texts, n=1)), None) or next(others, None)


def strings(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column of texts, as dtype string or str; NA where a cell is empty.

    FrameError, which names the row (counted from 0), where a cell is no text.
    """
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("string")
    if isinstance(column.dtype, pd.StringDtype):
        return column.mask(column == "")
    if pd.api.types.is_object_dtype(column.dtype):
        for row, cell in enumerate(column):
            if not isinstance(cell, str) and not _missing(cell):
                raise FrameError(
                    f"column {name!r}, row {row}: {type(cell).__name__}, and a text is needed",
                    column=name,
                )
    elif not (pd.api.types.is_string_dtype(column.dtype) or column.isna().all()):
        raise FrameError(
            f"column {name!r} holds {column.dtype}, and texts are needed: "
            f"df[{name!r}].astype('string'), if that is what they are",
            column=name,
        )
    column = column.astype("string")
    return column.mask(column == "")


def flags(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column of what is true, false or missing, as dtype boolean.

    FrameError where a cell is something else: the text "False" would count as true.
    """
    column = frame[name]
    if not pd.api.types.is_bool_dtype(column.dtype):
        odd = next(
            (cell for cell in column.dropna() if not isinstance(cell, bool | np.bool_)), None
        )
        if odd is not None:
            raise FrameError(
                f"column {name!r} holds {type(odd).__name__}, and True, False or NA is needed: "
                f"df[{name!r}].map({{'True': True, 'False': False}}), if it holds those words",
                column=name,
            )
    return column.astype("boolean")


def check_known(inventory: pd.DataFrame) -> None:
    """FrameError for an inventory that was made without providers: nothing would seem stale."""
    if len(inventory) and "sendable" in inventory.columns and inventory["sendable"].isna().all():
        raise FrameError(
            "this inventory was made without a lab, so nobody knows what is stale: "
            "df.kms.inspect(lab), with the lab or remotes that have the keys",
            column="stale",
        )


def check_dated(inventory: pd.DataFrame) -> None:
    """FrameError where no record has an age, and there is no column that would tell it."""
    if "created_at" not in inventory.columns and inventory["age_days"].isna().all():
        check_columns(inventory, ["created_at"] if len(inventory) else [])


def numbered(texts: pd.Series[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """The number of each text among the distinct ones, -1 where it is missing; and those.

    >>> numbered(pd.Series(["b", None, "a", "b"]))
    (array([ 0, -1,  1,  0]), ['b', 'a'])
    """
    codes, values = pd.factorize(texts)
    return codes.astype(np.int64), [str(value) for value in values]


def column_numbered(frame: pd.DataFrame, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """`numbered` of a column of texts that may not be there. FrameError where a cell is no text."""
    if name not in frame.columns:
        return np.full(len(frame), -1), []
    return numbered(strings(frame, name))


def blobs(frame: pd.DataFrame, name: str = "ciphertext_blob") -> pd.Series[Any]:
    """The column of blobs, in which some cells may be no texts.

    FrameError where it is of a kind that holds no texts at all.
    """
    column = frame[name]
    kind = column.dtype
    if isinstance(kind, pd.StringDtype) or pd.api.types.is_object_dtype(kind):
        return column
    return strings(frame, name)


def times(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """A column of times in UTC: those without a zone are read as UTC, texts as in any source.

    FrameError, which names the row (counted from 0), where a cell is no time.
    """
    column = frame[name]
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _utc(column)
    if pd.api.types.is_datetime64_dtype(column.dtype):
        return _utc(column.dt.tz_localize("UTC"))
    if column.isna().all():
        return pd.Series(pd.NaT, index=column.index, dtype=TIME, name=name)
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise FrameError(
            f"column {name!r} holds {column.dtype}, and times are needed: if it holds Unix "
            f"seconds, pd.to_datetime(df[{name!r}], unit='s', utc=True)",
            column=name,
        )
    moments = [
        None if cell == "" or _missing(cell) else _time(cell, name, row)
        for row, cell in enumerate(column.tolist())
    ]
    return pd.Series(moments, index=column.index, dtype=TIME, name=name)


def _utc(column: Any) -> pd.Series[Any]:
    found: pd.Series[Any] = column.astype(TIME)
    return found


def _missing(cell: Any) -> bool:
    return bool(is_scalar(cell) and pd.isna(cell))


def _time(cell: object, name: str, row: int) -> datetime:
    if isinstance(cell, datetime):
        return cell.replace(tzinfo=UTC) if cell.tzinfo is None else cell.astimezone(UTC)
    try:
        return parse_time(str(cell))
    except FormatError as error:
        raise FrameError(
            f"column {name!r}, row {row}: {error}; of other texts pd.to_datetime(df[{name!r}], "
            "format=..., utc=True) makes times",
            column=name,
        ) from None


def made_at(frame: pd.DataFrame) -> pd.Series[Any]:
    """When each blob was made, as far as is told: at `re_encrypted_at`, else at `created_at`."""
    made = pd.Series(pd.NaT, index=frame.index, dtype=TIME)
    for name in ("created_at", "re_encrypted_at"):
        if name in frame.columns:
            found = times(frame, name)
            made = found.where(found.notna(), made)
    return made


def moment(now: datetime | None) -> pd.Timestamp:
    """The time that ages are counted to: a time with a zone, or the system's for None.

    FrameError for one without a zone, and for what is no datetime.
    """
    if now is None:
        now = SystemClock().now()
    if not isinstance(now, datetime):
        raise FrameError(f"now is {now!r}, and a datetime with a time zone is needed")
    if now.tzinfo is None:
        raise FrameError(f"now is {now}, without a time zone; give it one, for example UTC")
    return pd.Timestamp(now).tz_convert("UTC")


def days(later: Any, earlier: Any) -> Any:
    """The days from one time to another, as floats; NaN where one is not known."""
    return (later - earlier) / DAY


def taken(values: Sequence[Any], codes: NDArray[np.int64], dtype: Any) -> Any:
    """The values that numbers name, as an array of `dtype`; missing where a number is -1.

    >>> taken(["a", "b"], np.array([1, -1, 0]), "string").tolist()
    ['b', <NA>, 'a']
    """
    return pd.Series(list(values), dtype=dtype).array.take(codes, allow_fill=True)


def category(values: Sequence[str], codes: NDArray[np.int64]) -> pd.Categorical:
    """The values that numbers name, as a category; missing where a number is -1."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(list(values), dtype="str"))
