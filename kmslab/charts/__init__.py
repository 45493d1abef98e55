"""Charts of what the analysis finds: each takes a DataFrame and gives matplotlib Axes.

They are made to be read in grey: what is stale is dark, what is current light, and where two greys
could be taken for each other they are hatched. `ax` draws into axes that are there already; without
it a new figure is made.

Names in Chinese need a font that has them, such as Noto Sans CJK (Debian: fonts-noto-cjk); without
one they are shown as escapes, and one warning says so. matplotlib is in the extra `notebooks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.frame_columns import check_columns, moment
from kmslab.charts.lengths import blob_lengths as blob_lengths
from kmslab.charts.naming import key_columns, key_names
from kmslab.charts.shared import FONTS as FONTS
from kmslab.charts.shared import (
    dates,
    drawing,
    legend,
    remark,
    room,
    short,
    short_numbers,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURRENT: Final = "#c9d6df"
STALE: Final = "#2f3e4e"
UNKNOWN: Final = "#ffffff"
_EDGE: Final = "#2f3e4e"
_HATCH: Final = "////"
_LINES: Final = ("-", "--", ":", "-.")
_GREYS: Final = ("#16222e", "#4d6478", "#8098aa", "#a9bccb")


def census_bars(census: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """A bar for each key version of `df.kms.census()`: its records, dark where it is not primary.

    >>> rows = {"provider": ["ctyun"], "key_id": ["3f6c"], "key_version_id": ["91aa"]}
    >>> rows |= {"version_number": [2], "is_primary": [True], "records": [12]}
    >>> census_bars(pd.DataFrame(rows)).get_xlabel()
    'records'
    """
    check_columns(census, ["key_id", "version_number", "is_primary", "records"])
    rows = census.reset_index(drop=True)
    with drawing(ax, "Records on each key version", rows=len(rows)) as axes:
        labels = _version_names(rows)
        places = np.arange(len(rows))
        for name, color, hatch, chosen in _standings(rows["is_primary"]):
            if chosen.any():
                axes.barh(
                    places[chosen],
                    rows["records"][chosen],
                    color=color,
                    edgecolor=_EDGE,
                    linewidth=0.6,
                    hatch=hatch,
                    label=name,
                )
        axes.set_yticks(places, labels)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("records")
        whole_numbers(axes.xaxis)
        legend(axes)
    return axes


def _standings(is_primary: pd.Series[Any]) -> Iterator[tuple[str, str, str, Any]]:
    known = is_primary.astype("boolean")
    yield "stale version", STALE, "", known.eq(other=False).fillna(value=False).to_numpy(bool)
    yield "primary version", CURRENT, "", known.fillna(value=False).to_numpy(bool)
    yield "not known", UNKNOWN, _HATCH, known.isna().to_numpy(bool)


def _version_names(rows: pd.DataFrame) -> list[str]:
    """What to call versions on an axis: by key and number."""
    known, numbers = rows["key_id"].notna(), rows["version_number"].tolist()
    return [
        f"{key} v{'?' if pd.isna(number) else number}" if has_key else key
        for key, has_key, number in zip(key_names(rows), known, numbers, strict=True)
    ]


def age_histogram(inventory: pd.DataFrame, *, bins: int = 30, ax: Axes | None = None) -> Axes:
    """How old the blobs of an inventory are, in days; the stale ones dark, at the bottom.

    >>> frame = pd.DataFrame({"age_days": [1.0, 400.0], "stale": [False, True]})
    >>> age_histogram(frame).get_xlabel()
    'age of the blob (days)'
    """
    check_columns(inventory, ["age_days", "stale"])
    dated = inventory[inventory["age_days"].notna()]
    stale = dated["stale"].astype("boolean")
    parts = [
        ("stale", STALE, "", dated["age_days"][stale.fillna(value=False)]),
        ("current", CURRENT, "", dated["age_days"][stale.eq(other=False).fillna(value=False)]),
        ("not known", UNKNOWN, _HATCH, dated["age_days"][stale.isna()]),
    ]
    parts = [part for part in parts if len(part[3])]
    with drawing(ax, "Age of the blobs") as axes:
        if parts:
            _, _, drawn = axes.hist(
                [ages.to_numpy() for *_, ages in parts],
                bins=bins,
                stacked=True,
                color=[color for _, color, _, _ in parts],
                edgecolor=_EDGE,
                linewidth=0.5,
                label=[name for name, *_ in parts],
            )
            containers: Any = [drawn] if len(parts) == 1 else drawn
            for (_, _, hatch, _), container in zip(parts, containers, strict=True):
                for patch in container:
                    patch.set_hatch(hatch)
        axes.set_xlabel("age of the blob (days)")
        axes.set_ylabel("records")
        whole_numbers(axes.yaxis)
        undated = len(inventory) - len(dated)
        if undated:
            remark(axes, f"{undated:,} without a date are not shown")
        legend(axes)
    return axes


def version_timeline(
    versions: pd.DataFrame,
    census: pd.DataFrame | None = None,
    *,
    now: datetime | None = None,
    ax: Axes | None = None,
) -> Axes:
    """When each version was primary, a line for each key: `frames.versions(lab)`, or some of it.

    With a census the number of records on each version is written into it, where there is room.
    """
    check_columns(
        versions,
        ["key_id", "key_version_id", "version_number", "made_at", "primary_until", "is_primary"],
    )
    end = moment(now)
    rows = versions[versions["is_primary"].notna()]
    places = rows.groupby(key_columns(rows), observed=True, sort=False).ngroup()
    names = dict(zip(places, key_names(rows), strict=True))
    held = None if census is None else _held(rows, census)
    first = rows["made_at"].min() if len(rows) else end
    end = max(
        end, first + pd.Timedelta(minutes=1)
    )  # of a lab that was just made there is a bar too
    whole = end - first
    with drawing(ax, "When each version was primary", rows=len(names)) as axes:
        row: Any
        for at, row in enumerate(rows.itertuples()):
            number = "?" if pd.isna(row.version_number) else row.version_number
            said = f"v{number}" if held is None else f"v{number}: {held[at]:,}"
            _period(axes, row, int(places.iloc[at]), end, whole, said)
        axes.set_yticks(list(names), list(names.values()))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("time (UTC); a light version is primary now")
        dates(axes)
    return axes


def _held(versions: pd.DataFrame, census: pd.DataFrame) -> list[int]:
    """How many records are on each version."""
    check_columns(census, ["key_version_id", "records"])
    by = [*key_columns(versions, census), "key_version_id"]
    counts = census[[*by, "records"]].astype(dict.fromkeys(by, "string"))
    sums = counts.groupby(by, as_index=False)["records"].sum()
    found = versions[by].astype("string").merge(sums, on=by, how="left")
    return [int(count) for count in found["records"].fillna(0)]


def _period(
    axes: Axes, row: Any, place: int, end: pd.Timestamp, whole: pd.Timedelta, said: str
) -> None:
    until = end if pd.isna(row.primary_until) else row.primary_until
    start = row.made_at.tz_convert("UTC").tz_localize(None)
    width = until.tz_convert("UTC").tz_localize(None) - start
    color = CURRENT if row.is_primary else STALE
    axes.barh(place, width, left=start, height=0.66, color=color, edgecolor="white")
    fitting = [text for text in (said, said.split(":")[0]) if room(axes, width / whole, len(text))]
    if not fitting:
        return
    axes.text(
        start + width / 2,
        place,
        fitting[0],
        ha="center",
        va="center",
        fontsize="x-small",
        color=_EDGE if row.is_primary else "white",
        clip_on=True,
    )


def burn_down(progress: pd.DataFrame, *, rate: float | None = None, ax: Axes | None = None) -> Axes:
    """How many records a campaign had left as time went on: `frames.Recording.frame()`.

    With `rate`, in records a second, a thin line shows what it should have been. What a recording
    has of planning before and counting after is left out. ValueError for a rate that is none.
    """
    check_columns(progress, ["at", "left"])
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise ValueError(f"a rate is more than 0 records a second, not {rate}")
    seen = progress[progress["left"].notna()]
    if "doing" in seen.columns:
        seen = seen[seen["doing"] == "re-encrypting"]
    with drawing(ax, "Records that a campaign had left") as axes:
        if len(seen):
            seconds = (seen["at"] - seen["at"].iloc[0]).dt.total_seconds().to_numpy()
            left = seen["left"].to_numpy(float)
            axes.step(seconds, left, where="post", color=STALE, label="left")
            if rate is not None:
                ends = np.array([0.0, left[0] / rate])
                axes.plot(ends, [left[0], 0], color=STALE, lw=0.8, ls="--", label="forecast")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("time since the start (s)")
        axes.set_ylabel("records left")
        whole_numbers(axes.yaxis)
        legend(axes)
    return axes


def exposure_map(
    exposure: pd.DataFrame,
    *,
    values: str = "record_days",
    most: int = 12,
    ax: Axes | None = None,
) -> Axes:
    """Owners against keys, darker where more is stale: `df.kms.exposure()`.

    `values` is the column that is shown. The `most` owners and keys with the most of it have a line
    each, all others one together; those without any have none. With a column `alias` keys are
    named by it. Keys of one name are told apart by their provider, or their id.
    """
    check_columns(exposure, ["owner", "key_id", values])
    named = exposure[exposure[values] > 0]
    table = pd.DataFrame()
    if len(named):
        by = named.groupby(key_columns(named), dropna=False, observed=True)
        owners = named["owner"].astype("string").fillna("no owner")
        table = named.assign(key=by.ngroup(), owner=owners).pivot_table(
            values, "owner", "key", aggfunc="sum", fill_value=0, observed=True
        )
        table = _most(_most(table, most).T, most).T
        names: dict[Any, str] = dict(zip(by.ngroup(), key_names(named), strict=True))
        table.columns = pd.Index([names.get(key, key) for key in table.columns])
    unit = {"record_days": "record-days"}.get(values, values.replace("_", " "))
    with drawing(ax, "Stale records by owner and key", rows=len(table) + 3) as axes:
        if table.size:
            _heat(axes, table, unit)
        axes.set_xlabel("key")
        axes.set_ylabel("owner")
    return axes


def _most(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """The rows of a table with the most in them, the others as one row."""
    table = table.loc[table.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    if len(table) <= most:
        return table
    rest = table.iloc[most - 1 :].sum().rename(f"{len(table) - most + 1} others")
    return pd.concat([table.iloc[: most - 1], rest.to_frame().T])


def _heat(axes: Axes, table: pd.DataFrame, unit: str) -> None:
    shown = table.to_numpy(float)
    image = axes.imshow(shown, cmap="Greys", aspect="auto", vmin=0, vmax=shown.max() or 1)
    axes.grid(visible=False)
    axes.set_xticks(range(table.shape[1]), [str(n) for n in table.columns], rotation=30, ha="right")
    axes.set_yticks(range(table.shape[0]), [str(n) for n in table.index])
    if not room(axes, 0.6 / shown.shape[1], 4):
        shown = np.zeros((0, 0))  # no room for numbers
    for row, column in np.ndindex(*shown.shape):
        dark = shown[row, column] > 0.5 * shown.max()
        if shown[row, column]:
            axes.text(
                column,
                row,
                short(float(shown[row, column])),
                ha="center",
                va="center",
                fontsize="x-small",
                color="white" if dark else "black",
            )
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(unit, size="small")
    bar.ax.tick_params(labelsize="x-small")
    bar.ax.yaxis.set_major_formatter(short_numbers())


def forecast_curves(curves: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How many records are left as time goes by, a line for each provider and rate:
    `rotation.forecast(inventory, rates=...)`."""
    check_columns(curves, ["provider", "rate", "hours", "left"])
    unit, size = _unit(curves["hours"].max() if len(curves) else 0.0)
    providers = list(dict.fromkeys(curves["provider"]))
    rates = sorted(set(curves["rate"]))
    with drawing(ax, "How long re-encryption takes") as axes:
        for name, curve in curves.groupby(["provider", "rate"], observed=True, sort=False):
            provider, rate = name
            end = curve["hours"].iloc[-1] * size
            axes.plot(
                curve["hours"] * size,
                curve["left"],
                color=_GREYS[rates.index(rate) % len(_GREYS)],
                ls=_LINES[providers.index(provider) % len(_LINES)],
                label=f"{provider}, {rate:g} calls/s: {end:,.3g} {unit}",
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"time since the start ({unit})")
        axes.set_ylabel("records left")
        whole_numbers(axes.yaxis)
        legend(axes)
    return axes


def _unit(hours: float) -> tuple[str, float]:
    """The unit in which a time is a number that can be read, and how many of it an hour has.

    >>> _unit(0.01), _unit(100)
    (('s', 3600.0), ('days', 0.041666666666666664))
    """
    for least, unit, size in ((72, "days", 1 / 24), (2, "h", 1.0), (0.05, "min", 60.0)):
        if hours >= least:
            return unit, size
    return "s", 3600.0


def simulation_curves(
    daily: Mapping[str, pd.DataFrame], *, limit_days: float | None = None, ax: Axes | None = None
) -> Axes:
    """The age that 99 % of the records do not exceed, day by day, a line for each simulation:
    their `daily` by name. With `limit_days` a line shows what is asked for."""
    with drawing(ax, "Age that 99 % of the records do not exceed") as axes:
        for number, (name, days) in enumerate(daily.items()):
            check_columns(days, ["day", "age_p99_days"])
            axes.plot(
                days["day"] / 365,
                days["age_p99_days"],
                color=_GREYS[number % len(_GREYS)],
                ls=_LINES[number % len(_LINES)],
                lw=1.2,
                label=name,
            )
        if limit_days is not None:
            axes.axhline(limit_days, color="black", lw=0.8)
            axes.text(
                0, limit_days, f" limit: {limit_days:g} days", va="bottom", fontsize="x-small"
            )
        ages = [days["age_p99_days"].max() for days in daily.values()]
        highest = max([limit_days or 0.0, *(age for age in ages if not pd.isna(age))])
        axes.set_ylim(0, 1.4 * highest or 1)  # with room for the legend
        axes.set_xlim(left=0)
        axes.set_xlabel("years")
        axes.set_ylabel("age (days)")
        legend(axes, columns=2)
    return axes


__all__ = [
    "FONTS",
    "age_histogram",
    "blob_lengths",
    "burn_down",
    "census_bars",
    "exposure_map",
    "forecast_curves",
    "simulation_curves",
    "version_timeline",
]
