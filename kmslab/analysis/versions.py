"""Key versions as a DataFrame, and which one was primary when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

import pandas as pd

from kmslab.analysis.frame_columns import TIME, VERSION, check_columns
from kmslab.analysis.given import check_providers
from kmslab.model import Key, KeyVersion
from kmslab.providers.base import Kms, Providers, Unknown

DTYPES: Final[dict[str, Any]] = {
    "provider": "category",
    "key_id": "string",
    "alias": "string",
    "state": "category",
    "key_version_id": "string",
    "version_number": "Int64",
    "is_primary": "boolean",
    "made_at": TIME,
    "primary_until": TIME,
    "rotation_days": "Int64",
    "encryptions": "Int64",
}
"""The columns of `versions`."""


@dataclass(frozen=True, slots=True, eq=False)
class Period:
    """A version of a key, and the time in which it was primary. Told apart by identity.

    `version` is None where the cloud does not tell versions: then it is whatever was primary from
    `since` on. `until` is None for the one that is primary now, and for a pair's.
    """

    key: Key
    version: KeyVersion | None
    since: datetime
    until: datetime | None
    is_primary: bool | None

    @property
    def version_id(self) -> str | None:
        """The version's id, None where the cloud does not tell it."""
        return None if self.version is None else self.version.version_id

    @property
    def number(self) -> int | None:
        """The version's number, None where the cloud does not tell it."""
        return None if self.version is None else self.version.number


def periods(kms: Kms, key: Key) -> list[Period]:
    """The versions of a key, oldest first.

    Where the cloud does not tell them, its last rotation parts the current one from all before.
    None is primary before the one before it was: where a clock went back, or a seed says so, the
    later time counts.
    """
    versions = kms.versions(key.key_id)
    if isinstance(versions, Unknown):
        return _untold(key)
    if not key.spec.symmetric:
        return [Period(key, version, version.made_at, None, None) for version in versions]
    starts = list(accumulate((version.made_at for version in versions), max))
    return [
        Period(key, version, since, until, version.version_id == key.primary_version_id)
        for version, since, until in zip(versions, starts, [*starts[1:], None], strict=True)
    ]


def _untold(key: Key) -> list[Period]:
    rotated = key.last_rotated_at
    if not key.spec.symmetric:
        return []
    if rotated is None:
        return [Period(key, None, key.created_at, None, True)]
    return [
        Period(key, None, key.created_at, rotated, False),
        Period(key, None, rotated, None, True),
    ]


def versions(providers: Providers) -> pd.DataFrame:
    """Every version of every key that is not deleted, a row each.

    `primary_until` is when the next version took its place; NaT for the primary one, and for those
    of a pair, of which `is_primary` is NA. Where a cloud does not tell versions, id and number are
    NA, and there is one row for the time before the last rotation and one for the time after it.

    >>> from kmslab import Lab
    >>> with Lab.in_memory() as lab:
    ...     _ = lab.tencent().create_key("orders")
    ...     versions(lab)["version_number"].tolist()
    [1]
    """
    check_providers(providers)
    return _frame(list(_all_periods(providers)))


def with_alias(table: pd.DataFrame, versions: pd.DataFrame) -> pd.DataFrame:
    """A table of keys, such as a census or an exposure, with a column `alias`, by which charts call
    them; NA for a key that has none, or that `versions` (`frames.versions(lab)`) does not have.

    FrameError where there is no column `key_id`.

    >>> known = pd.DataFrame({"key_id": ["3f6c", "3f6c"], "alias": ["orders", "orders"]})
    >>> with_alias(pd.DataFrame({"key_id": ["3f6c", None]}), known)["alias"].tolist()
    ['orders', <NA>]
    """
    check_columns(table, ["key_id"])
    check_columns(versions, ["key_id", "alias"], source="frames.versions(lab) has it")
    by = [name for name in VERSION[:2] if name in table.columns and name in versions.columns]
    names = versions[[*by, "alias"]].astype("string").drop_duplicates(by)
    found = table[by].astype("string").merge(names, on=by, how="left")
    return table.assign(alias=found["alias"].array)


def _all_periods(providers: Providers) -> Iterator[Period]:
    for name in providers.providers():
        kms = providers.kms(name)
        for key in kms.list_keys():
            yield from periods(kms, key)


def _frame(found: Sequence[Period]) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {
        "provider": [each.key.provider for each in found],
        "key_id": [each.key.key_id for each in found],
        "alias": [each.key.alias or None for each in found],
        "state": [each.key.state.value for each in found],
        "key_version_id": [each.version_id for each in found],
        "version_number": [each.number for each in found],
        "is_primary": [each.is_primary for each in found],
        "made_at": [each.since for each in found],
        "primary_until": [each.until for each in found],
        "rotation_days": [each.key.rotation_days for each in found],
        "encryptions": [None if e.version is None else e.version.encryptions for e in found],
    }
    return pd.DataFrame(
        {name: pd.Series(values, dtype=DTYPES[name]) for name, values in columns.items()}
    )
