"""Charts over time: a campaign, forecasts, simulations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.frame_columns import check_columns
from kmslab.charts.shared import STALE, drawing, legend, nothing, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREYS: Final = ("#16222e", "#3d5266", "#66809a", "#8fa5b8")
_DASHES: Final[tuple[Any, ...]] = ("-", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 1.5, 1, 1.5)))
_MARKERS: Final = ("", "o", "s", "^")
_YEAR: Final = 365


def _style(number: int) -> dict[str, Any]:
    """How the line of this number is drawn; 16 differ, and neighbours in shade and dashes both.

    >>> len({str(_style(number)) for number in range(20)})
    16
    """
    turn, at = divmod(number, len(_GREYS))
    return {"color": _GREYS[at], "ls": _DASHES[(at + turn) % len(_DASHES)], "lw": 1.4}


def burn_down(progress: pd.DataFrame, *, rate: float | None = None, ax: Axes | None = None) -> Axes:
    """How many records a campaign had left as time went on: `frames.Recording.frame()`.

    With `rate`, in records a second, a thin line shows what it should have been. What a recording
    has of planning before and counting after is left out. ValueError for a rate that is none.
    """
    check_columns(progress, ["at", "left"], source="the frame() of a frames.Recording has it")
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
        if not len(seen):
            nothing(axes, "nothing was re-encrypted")
    return axes


def forecast_curves(curves: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How many records are left as time goes by, a line for each provider and rate:
    `rotation.forecast(inventory, rates=...)`."""
    needed = ["provider", "rate", "hours", "left"]
    check_columns(curves, needed, source="rotation.forecast(inventory) has it")
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
                marker=_MARKERS[providers.index(provider) % len(_MARKERS)],
                markersize=3.5,
                markevery=max(1, len(curve) // 7),
                label=f"{provider}, {rate:g} calls/s: {end:,.3g} {unit}",
                **_style(rates.index(rate)),
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"time since the start ({unit})")
        axes.set_ylabel("records left")
        whole_numbers(axes.yaxis)
        legend(axes, least=1)
        if not len(curves):
            nothing(axes, "nothing is to be sent")
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
    daily: pd.DataFrame | Mapping[str, pd.DataFrame],
    *,
    limit_days: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The age that 99 % of the records do not exceed, day by day: the `daily` of a simulation, or
    those of several by name, a line each. With `limit_days` a line shows what is asked for."""
    named = daily if isinstance(daily, Mapping) else {"": daily}
    for days in named.values():
        check_columns(days, ["day", "age_p99_days"], source="the daily of a simulation has it")
    last = max((days["day"].max() for days in named.values() if len(days)), default=0)
    unit, size = ("years", _YEAR) if last >= _YEAR else ("days", 1)
    ages = [age for d in named.values() if not pd.isna(age := d["age_p99_days"].max())]
    with drawing(ax, "Age that 99 % of the records do not exceed") as axes:
        for number, (name, days) in enumerate(named.items()):
            axes.plot(
                days["day"] / size,
                days["age_p99_days"],
                marker="o" if len(days) == 1 else "",
                clip_on=len(days) > 1,
                label=name,
                **_style(number),
            )
        if limit_days is not None:
            axes.axhline(limit_days, color="black", lw=0.8)
            axes.text(
                0, limit_days, f" limit: {limit_days:g} days", va="bottom", fontsize="x-small"
            )
        axes.set_ylim(0, 1.4 * max([limit_days or 0.0, *ages]) or 1)  # with room for the legend
        axes.set_xlim(0, last / size or 1)
        axes.set_xlabel(unit)
        axes.set_ylabel("age (days)")
        legend(axes, columns=2, least=1)
        if not ages:
            nothing(axes, "no records")
    return axes
