"""Charts of what the analysis finds: each takes a DataFrame and gives matplotlib Axes.

They are made to be read in grey: what is stale is dark, what is current light, and where two greys
could be taken for each other they are hatched. `ax` draws into axes that are there already; without
it a new figure is made.

Names in Chinese need a font that has them, such as Noto Sans CJK (Debian: fonts-noto-cjk); without
one they are shown as escapes, and one warning says so. matplotlib is in the extra `notebooks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.frame_columns import check_columns, check_dated, moment
from kmslab.analysis.given import is_whole
from kmslab.charts.curves import burn_down as burn_down
from kmslab.charts.curves import forecast_curves as forecast_curves
from kmslab.charts.curves import simulation_curves as simulation_curves
from kmslab.charts.lengths import blob_lengths as blob_lengths
from kmslab.charts.naming import key_columns, key_names
from kmslab.charts.shared import CURRENT as CURRENT
from kmslab.charts.shared import FONTS as FONTS
from kmslab.charts.shared import STALE as STALE
from kmslab.charts.shared import UNKNOWN as UNKNOWN
from kmslab.charts.shared import (
    dates,
    drawing,
    legend,
    nothing,
    remark,
    room,
    short,
    short_numbers,
    two_lines,
    whole_numbers,
)
from kmslab.errors import FrameError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EDGE: Final = STALE
_HATCH: Final = "////"


def census_bars(census: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """A bar for each key version of `df.kms.census()`: its records, dark where it is not primary.

    >>> rows = {"provider": ["ctyun"], "key_id": ["3f6c"], "key_version_id": ["91aa"]}
    >>> rows |= {"version_number": [2], "is_primary": [True], "records": [12]}
    >>> census_bars(pd.DataFrame(rows)).get_xlabel()
    'records'
    """
    needed = ["key_id", "version_number", "is_primary", "records"]
    check_columns(census, needed, source="df.kms.census(lab) has it")
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
        legend(axes, least=1)
        if rows.empty:
            nothing(axes, "no records")
    return axes


def _standings(is_primary: pd.Series[Any]) -> Iterator[tuple[str, str, str, Any]]:
    known = is_primary.astype("boolean")
    yield "stale version", STALE, "", known.eq(other=False).fillna(value=False).to_numpy(bool)
    yield "primary version", CURRENT, "", known.fillna(value=False).to_numpy(bool)
    yield "not known", UNKNOWN, _HATCH, known.isna().to_numpy(bool)


def _version_names(rows: pd.DataFrame) -> list[str]:
    """What to call versions on an axis: by key and number, else the start of the version's id."""
    known, numbers = rows["key_id"].notna(), rows["version_number"].tolist()
    nobody = [None] * len(rows)
    ids = rows["key_version_id"].tolist() if "key_version_id" in rows.columns else nobody
    return [
        f"{key} {_version_name(number, version_id)}" if has_key else key
        for key, has_key, number, version_id in zip(
            key_names(rows), known, numbers, ids, strict=True
        )
    ]


def _version_name(number: Any, version_id: Any) -> str:
    if not pd.isna(number):
        return f"v{number}"
    return "v?" if pd.isna(version_id) else f"version {version_id[:8]}"


def age_histogram(inventory: pd.DataFrame, *, bins: int = 30, ax: Axes | None = None) -> Axes:
    """How old the blobs of an inventory are, in days; the stale ones dark, at the bottom.

    >>> frame = pd.DataFrame({"age_days": [1.0, 400.0], "stale": [False, True]})
    >>> age_histogram(frame).get_xlabel()
    'age of the blob (days)'
    """
    check_columns(inventory, ["age_days", "stale"])
    check_dated(inventory)
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
        legend(axes, least=1)
        if not parts:
            nothing(axes, "no records with a date" if undated else "no records")
    return axes


def version_timeline(
    versions: pd.DataFrame,
    census: pd.DataFrame | None = None,
    *,
    now: datetime | None = None,
    ax: Axes | None = None,
) -> Axes:
    """When each version was primary, a line for each key: `frames.versions(lab)`, or some of it.

    With a census the number of records on each version is written into it, where there is room;
    that of the primary version beside it, where there is none.
    """
    check_columns(
        versions,
        ["key_id", "key_version_id", "version_number", "made_at", "primary_until", "is_primary"],
        source="frames.versions(lab) has it",
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
            spellings = [f"v{number}"]
            if held is not None:
                spellings[:0] = [f"v{number}: {held[at]:,}", f"v{number}\n{held[at]:,}"]
            if not two_lines(axes, len(names)):
                spellings = [each for each in spellings if "\n" not in each]
            _period(axes, row, int(places.iloc[at]), end, whole, spellings)
        axes.set_yticks(list(names), list(names.values()))
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        if held is not None:
            axes.set_xlim(right=_naive(end) + 0.09 * whole)  # with room for what stands beside
        counts = "" if held is None else "; the numbers are records"
        axes.set_xlabel(f"time (UTC); a light version is primary now{counts}")
        if rows.empty:
            nothing(axes, "no versions")
        dates(axes)
    return axes


def _held(versions: pd.DataFrame, census: pd.DataFrame) -> list[int]:
    """How many records are on each version."""
    check_columns(census, ["key_version_id", "records"], source="df.kms.census(lab) has it")
    by = [*key_columns(versions, census), "key_version_id"]
    if "version_number" in census.columns and census["version_number"].notna().any():
        by.append("version_number")  # a blob that names the id without being on it has none
    counts = census[[*by, "records"]].astype(dict.fromkeys(by, "string"))
    sums = counts.groupby(by, as_index=False, dropna=False)["records"].sum()
    found = versions[by].astype("string").merge(sums, on=by, how="left")
    return [int(count) for count in found["records"].fillna(0)]


def _period(
    axes: Axes,
    row: Any,
    place: int,
    end: pd.Timestamp,
    whole: pd.Timedelta,
    spellings: Sequence[str],
) -> None:
    """A bar with the first of the spellings for which it has room, or with the first beside it,
    where it is the last bar of its row and the short one is all that fits."""
    until = end if pd.isna(row.primary_until) else row.primary_until
    start = _naive(row.made_at)
    width = _naive(until) - start
    color = CURRENT if row.is_primary else STALE
    axes.barh(place, width, left=start, height=0.66, color=color, edgecolor="white")
    share = width / whole
    fitting = [s for s in spellings if room(axes, share, max(map(len, s.split("\n"))))]
    if row.is_primary and len(fitting) < min(len(spellings), 2):
        axes.text(
            start + width,
            place,
            f" {spellings[0]}",
            ha="left",
            va="center",
            fontsize="x-small",
            color=_EDGE,
        )
    elif fitting:
        axes.text(
            start + width / 2,
            place,
            fitting[0],
            ha="center",
            va="center",
            fontsize="x-small",
            linespacing=1,
            color=_EDGE if row.is_primary else "white",
            clip_on=True,
        )


def _naive(at: pd.Timestamp) -> Any:
    """A time in UTC as matplotlib takes it."""
    return at.tz_convert("UTC").tz_localize(None)


_SHOWN: Final[dict[str, tuple[str, str, Any]]] = {
    "record_days": ("Record-days of stale records", "record-days", "sum"),
    "stale": ("Stale records", "records", "sum"),
    "records": ("Records, stale or not", "records", "sum"),
    "unknown": ("Records that may be stale", "records", "sum"),
    "oldest_stale_days": ("Longest time that a record is stale", "days", "max"),
}
"""What a map of each column is of: title, unit, and how several are one."""


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
    named by it. Keys of one name are told apart by their provider, or their id. ValueError for
    fewer than one line.
    """
    check_columns(
        exposure, ["owner", "key_id", values], source="df.kms.exposure() of an inventory has it"
    )
    if not pd.api.types.is_numeric_dtype(exposure[values].dtype):
        raise FrameError(
            f"column {values!r} holds {exposure[values].dtype}, and numbers are needed: one of "
            f"{', '.join(_SHOWN)}",
            column=values,
        )
    if not (is_whole(most) and most >= 1):
        raise ValueError(f"most is a whole number from 1, not {most!r}")
    plain = values.replace("_", " ")
    what, unit, joined = _SHOWN.get(values, (plain.capitalize(), plain, "sum"))
    named = exposure[exposure[values] > 0]
    table = pd.DataFrame()
    if len(named):
        by = named.groupby(key_columns(named), dropna=False, observed=True)
        owners = named["owner"].astype("string").fillna("no owner")
        table = named.assign(key=by.ngroup(), owner=owners).pivot_table(
            values, "owner", "key", aggfunc=joined, fill_value=0, observed=True
        )
        table = _most(_most(table, most, joined).T, most, joined).T
        names: dict[Any, str] = dict(zip(by.ngroup(), key_names(named), strict=True))
        table.columns = pd.Index([names.get(key, key) for key in table.columns])
    with drawing(ax, f"{what}, by owner and key", rows=len(table) + 3) as axes:
        if table.size:
            _heat(axes, table, unit)
        else:
            nothing(axes, _why_nothing(exposure, values))
        axes.set_xlabel("key")
        axes.set_ylabel("owner")
    return axes


def _why_nothing(exposure: pd.DataFrame, values: str) -> str:
    """Why a map of exposure is empty: nothing is stale, or nobody knows."""
    unknown = int(exposure["unknown"].sum()) if "unknown" in exposure.columns else 0
    if values not in ("record_days", "stale", "oldest_stale_days"):
        return "none"
    if not unknown:
        return "nothing is stale"
    records = "1 record is" if unknown == 1 else f"{unknown:,} records are"
    return f"nothing is known to be stale; {records} not known to be current either"


def _most(table: pd.DataFrame, most: int, joined: Any) -> pd.DataFrame:
    """The rows of a table with the most in them, the others as one row where they are several."""
    whole: pd.Series[Any] = table.agg(joined, axis=1)
    table = table.loc[whole.sort_values(ascending=False, kind="stable").index]
    if len(table) <= most + 1:
        return table
    rest = table.iloc[most:].agg(joined).rename(f"{len(table) - most} others")
    found: pd.DataFrame = pd.concat([table.iloc[:most], rest.to_frame().T])
    return found


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
