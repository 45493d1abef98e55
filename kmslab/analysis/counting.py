"""The census of a DataFrame of records: how many are on which key version."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kmslab.analysis.frame_columns import VERSION, blobs, check_columns, column_numbered
from kmslab.analysis.given import check_providers
from kmslab.analysis.heads import Heads
from kmslab.analysis.many_heads import NOTHING, many_heads
from kmslab.model import CTYUN, TENCENT, BlobFormat, UnverifiedHeader
from kmslab.providers.base import Providers

_ROW: Final = (*VERSION, "is_primary")
"""What the rows of a census are told apart by."""

_DTYPES: Final[dict[str, Any]] = {
    "provider": "category",
    "key_id": "string",
    "key_version_id": "string",
    "version_number": "Int64",
    "is_primary": "boolean",
    "records": "int64",
}

_ORDER: Final = ["provider", "key_id", "version_number", "key_version_id"]


def census(frame: pd.DataFrame, providers: Providers | None = None) -> pd.DataFrame:
    """How many records are on which key version: the columns of `kmslab census` but for
    `inferred`, NA for unknown. What of an inventory is inferred, its `version_known_by` says.

    Of an inventory its columns are counted. Of any other frame with a column `ciphertext_blob`
    only the heads of the blobs are read, whatever follows them: many times faster than an
    inventory, and what is cut behind its head is counted with the others. Version numbers and
    primaries are those that `providers` know.

    >>> census(pd.DataFrame({"ciphertext_blob": ["cut", None]}))["records"].tolist()
    [2]
    """
    if "version_known_by" in frame.columns:
        return count_inventory(frame)
    check_columns(frame, ["ciphertext_blob"])
    heads = many_heads(blobs(frame), strict=False)
    claims, names = column_numbered(frame, "provider")
    counts = np.bincount(
        heads.codes * (len(names) + 1) + claims + 1,
        minlength=len(heads.headers) * (len(names) + 1),
    ).reshape(len(heads.headers), len(names) + 1)
    if providers is not None:
        check_providers(providers)
    asked = None if providers is None else Heads(providers)
    rows: list[tuple[Any, ...]] = []
    for head, claim in zip(*np.nonzero(counts), strict=True):
        said = names[claim - 1] if claim else None
        version = _version(heads.headers[head], said, asked)
        if version is None:  # of a pair: what the record says of each
            alike = (heads.codes == head) & (claims == claim - 1)
            rows += _pairs(frame, alike, asked)
        else:
            rows.append((*version, int(counts[head, claim])))
    merged: Counter[tuple[Any, ...]] = Counter()
    for *named, records in rows:
        merged[tuple(named)] += records
    counted = [(*each, records) for each, records in merged.items()]
    return _frame(pd.DataFrame(counted, columns=[*_ROW, "records"]))


_Version = tuple[str | None, str | None, str | None, int | None, bool | None]


def _version(header: UnverifiedHeader, claim: str | None, asked: Heads | None) -> _Version | None:
    """What a head names, in a record that says its provider; None where the record names it."""
    if header is NOTHING or claim not in (None, header.provider):
        return claim if claim in (TENCENT, CTYUN) else None, None, None, None, None
    if header.format is BlobFormat.PUBLIC_KEY:
        return None
    head = None if asked is None else asked.named(header)
    number = None if head is None or head.version is None else head.version.number
    primary = None if head is None else head.is_primary
    return header.provider, header.key_id, header.key_version_id, number, primary


def _pairs(frame: pd.DataFrame, rows: NDArray[np.bool_], asked: Heads | None) -> list[Any]:
    """The rows of a census for public-key ciphertext."""
    names = ("source_key_id", "source_key_version_id")
    said = frame.filter(items=names)[rows]
    (keys, key_ids), (versions, version_ids) = (column_numbered(said, name) for name in names)
    found: list[Any] = []
    pairs = Counter(zip(keys.tolist(), versions.tolist(), strict=True))
    for (key, version), records in pairs.items():
        key_id = None if key < 0 else key_ids[key]
        version_id = None if version < 0 else version_ids[version]
        header = UnverifiedHeader(CTYUN, BlobFormat.PUBLIC_KEY, key_id, version_id)
        head = None if asked is None else asked.named(header)
        number = None if head is None or head.version is None else head.version.number
        found.append((CTYUN, header.key_id, header.key_version_id, number, None, records))
    return found


def count_inventory(frame: pd.DataFrame) -> pd.DataFrame:
    """The census of an inventory."""
    check_columns(frame, _ROW)
    known = frame["provider"].where(frame["provider"].isin((TENCENT, CTYUN)))
    by = frame[list(_ROW)].assign(provider=known)
    sizes = by.groupby(list(_ROW), dropna=False, observed=True, sort=False).size()
    return _frame(sizes.rename("records").reset_index())


def _frame(rows: pd.DataFrame) -> pd.DataFrame:
    typed = rows.astype({**_DTYPES, "provider": "string"})
    typed = typed.sort_values(_ORDER, kind="stable", na_position="last", ignore_index=True)
    return typed.astype({"provider": "category"})
