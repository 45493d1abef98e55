"""What an inventory tells of rotation: how old, how stale, whose, what may go, how long it takes.

Every function takes an inventory (`df.kms.inspect(lab)`) and gives a new DataFrame. All rests on
the heads of blobs, and on `re_encrypted_at`, else `created_at`, being the time at which each blob
was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.forecast import DOCUMENTED_RATE
from kmslab.analysis.frame_columns import (
    TIME,
    VERSION,
    blobs,
    check_columns,
    check_dated,
    check_known,
    days,
    flags,
    made_at,
    moment,
    times,
)
from kmslab.analysis.given import is_number, is_several, is_whole
from kmslab.analysis.heads import FORMATS
from kmslab.analysis.many_heads import many_heads
from kmslab.analysis.to_send import to_send
from kmslab.errors import FrameError

KEY: Final = ["provider", "key_id"]

_VERSIONS: Final = "frames.versions(lab) has it"
_IDS: Final = [*KEY, "key_version_id"]
_Id = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of records and keys, in days; None asks nothing.

    A record is *overdue* when its version stopped being primary more than `re_encrypt_within_days`
    ago, *too old* when its blob was made more than `max_age_days` ago. A key is due for rotation
    when its primary version is older than `rotate_days`. ValueError for days below 0.

    >>> Policy(rotate_days=90, re_encrypt_within_days=30).max_age_days is None
    True
    """

    rotate_days: float | None = None
    re_encrypt_within_days: float | None = None
    max_age_days: float | None = None

    def __post_init__(self) -> None:
        for name in ("rotate_days", "re_encrypt_within_days", "max_age_days"):
            value = getattr(self, name)
            if value is not None and not (is_number(value) and value >= 0):
                raise ValueError(f"{name} is a number of days from 0, or None; not {value!r}")


def census_over_time(
    inventory: pd.DataFrame, *, freq: str = "MS", now: datetime | None = None
) -> pd.DataFrame:
    """How many of the records that there are now were there at the end of each period, by version.

    `freq` is a pandas frequency ("MS" is the first of each month); the last row of each version is
    at `now`. `stale` says whether the version had stopped being primary by then, NA where it is not
    known which one is. A record counts from when its blob was made, as far as the frame tells, and
    not before its version was; one without a time is in no row. What was deleted since, and the
    blobs that re-encryption has replaced, are not in the frame, and so not in here.
    """
    needed = [*VERSION, "created_at", "version_made_at", "primary_until", "stale"]
    check_columns(inventory, needed)
    end, begun = moment(now), _begun(inventory)
    there = begun <= end
    if not there.any():
        return _no_times()
    ticks = _ticks(begun[there].min(), end, freq)
    at = np.searchsorted(ticks.asi8, begun[there].astype("int64").to_numpy(), "left")
    by = [*VERSION, "primary_until", "known"]
    columns = inventory[by[:-1]].assign(known=flags(inventory, "stale").notna())
    grouped = columns[there].groupby(by, dropna=False, observed=True)
    counts = np.zeros((grouped.ngroups, len(ticks)), np.int64)
    np.add.at(counts, (grouped.ngroup().to_numpy(), at), 1)
    versions = grouped.size().reset_index()[by]
    long = versions.loc[versions.index.repeat(len(ticks))].reset_index(drop=True)
    long.insert(0, "at", pd.Series(np.tile(ticks, len(versions)), dtype=TIME))
    long["records"] = np.cumsum(counts, axis=1).ravel()
    long["stale"] = (long["primary_until"] <= long["at"]).astype("boolean").where(long["known"])
    long = long[long["records"] > 0].reset_index(drop=True)
    return long.drop(columns=["primary_until", "known"])


def _begun(inventory: pd.DataFrame) -> pd.Series[Any]:
    """From when on each blob can have been there."""
    made, version = made_at(inventory), times(inventory, "version_made_at")
    return made.where(~(version > made), version)


def _ticks(first: pd.Timestamp, end: pd.Timestamp, freq: str) -> pd.DatetimeIndex:
    """The ends of the periods from `first` on, and `end`."""
    try:
        whole = pd.date_range(first.normalize(), end, freq=freq).as_unit("us")
    except (ValueError, TypeError, ZeroDivisionError):
        raise ValueError(
            f"freq is a pandas frequency above 0, such as 'MS', 'QS' or '7D'; not {freq!r}"
        ) from None
    return pd.DatetimeIndex([*whole[(whole < end) & (whole >= first)], end]).as_unit("us")


def _no_times() -> pd.DataFrame:
    columns: dict[str, Any] = {
        "at": TIME,
        "provider": "category",
        "key_id": "string",
        "key_version_id": "string",
        "version_number": "Int64",
        "records": "int64",
        "stale": "boolean",
    }
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in columns.items()})


def ages(inventory: pd.DataFrame, *, by: str | Sequence[str] = "provider") -> pd.DataFrame:
    """How old the blobs are, in days since each was made, for each group of records.

    `by` is a column, or several. `undated` records do not say when their blob was made, and are in
    none of the other figures but `records`. FrameError where all are, for want of a column
    `created_at`.
    """
    names = [by] if isinstance(by, str) else list(by)
    check_columns(inventory, [*names, "age_days"])
    check_dated(inventory)
    grouped = inventory.groupby(names, dropna=False, observed=True)["age_days"]
    found = pd.DataFrame({"records": grouped.size(), "undated": grouped.size() - grouped.count()})
    for share, name in ((0.5, "median_days"), (0.9, "p90_days"), (0.99, "p99_days")):
        found[name] = grouped.quantile(share)
    found["oldest_days"] = grouped.max()
    return found.reset_index()


def version_ages(inventory: pd.DataFrame) -> pd.DataFrame:
    """For each key version that records are on: since when it is not primary, and how long that is;
    the versions of a key by their numbers.

    `stale_days` is 0 for a primary version, NaN where that is not known.
    """
    check_columns(
        inventory, [*VERSION, "version_made_at", "primary_until", "stale_days", "age_days"]
    )
    grouped = _by_version(inventory)
    return (
        pd.DataFrame(
            {
                "records": grouped.size(),
                "made_at": grouped["version_made_at"].max(),
                "primary_until": grouped["primary_until"].max(),
                "stale_days": grouped["stale_days"].max(),
                "oldest_days": grouped["age_days"].max(),
            }
        )
        .reset_index()
        .sort_values(["provider", "key_id", "version_number"], kind="stable", ignore_index=True)
    )


def blast_radius(inventory: pd.DataFrame) -> pd.DataFrame:
    """What would be exposed if the material of a version leaked, the most records first.

    `owners` counts different ones, where there is a column `owner`. `record_days` adds up the days
    since the version stopped being primary over its records: the time in which they could have
    been re-encrypted and were not; 0 for a primary version.
    """
    check_columns(inventory, [*VERSION, "stale_days", "primary_until"])
    named = inventory[inventory["key_id"].notna()]
    grouped = _by_version(named)
    found = pd.DataFrame({"records": grouped.size()})
    if "owner" in inventory.columns:
        found["owners"] = grouped["owner"].nunique()
    found["primary_until"] = grouped["primary_until"].max()
    found["stale_days"] = grouped["stale_days"].max()
    found["record_days"] = found["records"] * found["stale_days"]
    found = found.reset_index()
    return found.sort_values("records", ascending=False, kind="stable", ignore_index=True)


def exposure(inventory: pd.DataFrame) -> pd.DataFrame:
    """Whose records are stale, on which key, since when: the most record-days first.

    `unknown` records are those of which it is not known whether they are stale. `record_days` adds
    up the days since the versions of the stale ones stopped being primary. Needs a column `owner`.
    """
    check_columns(inventory, [*KEY, "owner", "stale", "stale_days"])
    known = flags(inventory, "stale")
    stale = known.fillna(value=False).astype(bool)
    columns = inventory[[*KEY, "owner"]].assign(
        stale=stale,
        unknown=known.isna(),
        stale_days=inventory["stale_days"].where(stale),
    )
    grouped = columns.groupby(["owner", *KEY], dropna=False, observed=True)
    found = pd.DataFrame(
        {
            "records": grouped.size(),
            "stale": grouped["stale"].sum(),
            "unknown": grouped["unknown"].sum(),
            "oldest_stale_days": grouped["stale_days"].max(),
            "record_days": grouped["stale_days"].sum(),
        }
    ).reset_index()
    return found.sort_values("record_days", ascending=False, kind="stable", ignore_index=True)


def compliance(
    inventory: pd.DataFrame,
    policy: Policy,
    versions: pd.DataFrame | None = None,
    *,
    now: datetime | None = None,
) -> pd.DataFrame:
    """How each key's records stand against a policy.

    `overdue` and `too_old` are as in `Policy`; a record may be both. `unknown` ones lack what the
    policy asks of, and count neither as compliant nor as violations: `compliant` is the share of
    the others that are in order, NaN where there are none. `worst_days` is how long the worst
    record has been stale. With `versions` (`frames.versions(lab)`) `rotation_due` says whether the
    key's primary version is older than the policy allows, NA where no primary version is known. It
    does so at `now`: without it, at the time that the ages of the inventory were counted to.
    """
    check_columns(inventory, [*KEY, "stale_days", "age_days"])
    overdue, unknown_stale = _beyond(inventory["stale_days"], policy.re_encrypt_within_days)
    too_old, unknown_age = _beyond(inventory["age_days"], policy.max_age_days)
    bad = overdue | too_old
    columns = inventory[KEY].assign(
        overdue=overdue,
        too_old=too_old,
        unknown=(unknown_stale | unknown_age) & ~bad,
        bad=bad,
        stale_days=inventory["stale_days"],
    )
    grouped = columns.groupby(KEY, dropna=False, observed=True)
    sums = grouped[["overdue", "too_old", "unknown", "bad"]].sum()
    found = pd.DataFrame({"records": grouped.size()}).join(sums)
    told = found["records"] - found["unknown"]
    found["compliant"] = (told - found["bad"]).div(told.where(told > 0)).astype("float64")
    found["worst_days"] = grouped["stale_days"].max()
    found = found.drop(columns="bad").reset_index()
    if versions is not None and policy.rotate_days is not None:
        found["rotation_due"] = _rotation_due(
            found, versions, policy.rotate_days, _counted_to(inventory) if now is None else now
        )
    return found


def _beyond(values: pd.Series[Any], limit: float | None) -> tuple[Any, Any]:
    """Which days are above a limit, and which are not known though there is one."""
    if limit is None:
        nothing = pd.Series(data=False, index=values.index)
        return nothing, nothing
    return values > limit, values.isna()


def _counted_to(inventory: pd.DataFrame) -> datetime:
    """The time that the ages of an inventory were counted to, told from a record that has one."""
    made, age = made_at(inventory), inventory["age_days"]
    dated = (made.notna() & age.notna()).to_numpy()
    if not dated.any():
        raise FrameError(
            "no record says when its blob was made, so rotation_due needs now=", column="created_at"
        )
    first = int(dated.argmax())
    then: datetime = made.iloc[first].to_pydatetime() + timedelta(days=float(age.iloc[first]))
    return then


def _rotation_due(
    found: pd.DataFrame, versions: pd.DataFrame, rotate_days: float, now: datetime
) -> Any:
    check_columns(versions, [*KEY, "is_primary", "made_at"], source=_VERSIONS)
    primary = versions[flags(versions, "is_primary").fillna(value=False)]
    old = days(moment(now), times(primary, "made_at")) > rotate_days
    due = dict(zip(_cells(primary, KEY), old.tolist(), strict=True))
    return pd.array([due.get(key) for key in _cells(found, KEY)], dtype="boolean")


def retirable(inventory: pd.DataFrame, versions: pd.DataFrame) -> pd.DataFrame:
    """The versions that are not primary, and how many records of the inventory are on each.

    `retirable` ones have none. `maybe` counts the records that may be on it, and while there are
    any, the version is not retirable:

    * those on its key whose version is not known, or not in `versions`;
    * those of its provider whose key is not known;
    * those with an `error`, of its provider. Where the record names no provider, or another one
      than the head of its blob, it may be on any version.

    Only this frame was looked at: `kmslab retire` asks every registered source and journal before
    it lets a key go.
    """
    check_columns(inventory, [*VERSION, "error", "ciphertext_blob"])
    check_columns(versions, [*VERSION, "is_primary", "primary_until"], source=_VERSIONS)
    known = set(_cells(versions.dropna(subset=_IDS), _IDS))
    there: Counter[_Id] = Counter()
    readable = inventory[inventory["error"].isna()].groupby(_IDS, dropna=False, observed=True)
    sizes = readable.size().rename("records").reset_index()
    for each, records in zip(_cells(sizes, _IDS), sizes["records"].tolist(), strict=True):
        provider, key_id, _ = each
        there[each if each in known else (provider, key_id, None)] += records
    there += _unreadable(inventory[inventory["error"].notna()])
    old = versions[~flags(versions, "is_primary").fillna(value=True)]
    found = old[[*VERSION, "primary_until"]].reset_index(drop=True)
    rows = _cells(found, _IDS)
    doubts = [{(p, k, None), (p, None, None), (None, None, None)} for p, k, _ in rows]
    found["records"] = np.array([there[each] if each in known else 0 for each in rows], np.int64)
    found["maybe"] = np.array([sum(there[doubt] for doubt in each) for each in doubts], np.int64)
    found["retirable"] = (found["records"] == 0) & (found["maybe"] == 0)
    return found


def _cells(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str | None, ...]]:
    """Some columns of ids, row by row; None for what is not known."""
    columns = [[None if pd.isna(c) else str(c) for c in rows[name].tolist()] for name in names]
    return list(zip(*columns, strict=True))


def _unreadable(rows: pd.DataFrame) -> Counter[_Id]:
    """How many records with an error may be on any version of a provider, or of all."""
    heads = many_heads(blobs(rows), strict=False)
    found: Counter[_Id] = Counter()
    for (said,), code in zip(_cells(rows, ["provider"]), heads.codes.tolist(), strict=True):
        sure = said in FORMATS and heads.headers[code].provider in ("", said)
        found[said if sure else None, None, None] += 1
    return found


def forecast(
    inventory: pd.DataFrame,
    *,
    rates: Sequence[float] = (DOCUMENTED_RATE / 2, DOCUMENTED_RATE),
    points: int = 50,
) -> pd.DataFrame:
    """How long it takes to re-encrypt what is stale, as curves: for each rate and provider, how
    many records are `left` after so many `hours`, at `points` times up to the end.

    `rates` are in calls a second, for each provider by itself. What a campaign that leaves each
    record on its own key would not send is not in here: what is blocked (a key that is not enabled,
    say), a cloud's own blob in a lab, what lacks its context. Equal pairs of blob and context are
    sent once. A record of which it is not known whether it is stale is not in here. FrameError for
    an inventory that was made without providers; ValueError for a rate that is not above 0, and
    fewer than 2 points.
    """
    check_columns(inventory, ["provider", "stale", "sendable", "ciphertext_blob"])
    check_known(inventory)
    _check_rates(rates)
    if not (is_whole(points) and points >= 2):
        raise ValueError(f"points is a whole number from 2, not {points!r}")
    names = ["provider", "ciphertext_blob", "encryption_context"]
    stale = to_send(inventory)
    pairs = stale[[name for name in names if name in stale]].drop_duplicates()
    calls = pairs.groupby("provider", observed=True).size()
    curves = [
        pd.DataFrame(
            {
                "provider": str(provider),
                "rate": float(rate),
                "hours": np.linspace(0, count / rate / 3600, points),
                "left": np.linspace(count, 0, points),
            }
        )
        for provider, count in calls.items()
        for rate in rates
    ]
    if not curves:
        curves = [pd.DataFrame({"provider": [], "rate": [], "hours": [], "left": []}, dtype=float)]
    return pd.concat(curves, ignore_index=True).astype({"provider": "category"})


def _check_rates(rates: Sequence[float]) -> None:
    if not is_several(rates):
        raise ValueError(f"rates are several, in calls a second: [50, 100]; not {rates!r}")
    for rate in rates:
        if not (is_number(rate) and rate > 0):
            raise ValueError(f"a rate is more than 0 calls a second, not {rate!r}")


def _by_version(inventory: pd.DataFrame) -> Any:
    return inventory.groupby(list(VERSION), dropna=False, observed=True)
