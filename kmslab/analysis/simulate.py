"""Which rotation policy keeps records young? A model over the days, without any record in it.

What is kept is how many records there are whose blob was made on each day; the day tells the key
version. So a billion records over five years take no longer than ten of them.

The model: on every day, first the key rotates if its interval is over; then the day's new records
are encrypted under the primary version; then the campaign, from `delay_days` after each rotation
on, re-encrypts stale records, those with the oldest blobs first, as many as its rate allows; then
records are deleted, the same share of all. Ages are counted at the end of the day: a blob made on
that day is 0 days old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kmslab.analysis.forecast import DOCUMENTED_RATE
from kmslab.analysis.given import is_number, is_several, is_whole
from kmslab.showing import html_table

DAYS_IN_YEAR: Final = 365

LONGEST: Final = 100 * DAYS_IN_YEAR
"""The most days that are played, or that lie between two rotations."""

FASTEST: Final = 1e9
"""The most calls a second."""

MOST_RECORDS: Final = 1e15
"""The most records: as floats, so many are still counted exactly."""

_Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """The records that are made: `initial` ones on the first day, and `per_day` on every day.

    `growth` is the share by which a year has more than the year before, `deleted` the share of all
    records that is deleted within a year. ValueError for numbers that are none of this.

    >>> Arrivals(per_day=1000, growth=0.5).on(365)
    1500.0
    """

    per_day: float
    initial: float = 0
    growth: float = 0.0
    deleted: float = 0.0

    def __post_init__(self) -> None:
        _require(_from_0(self.per_day), "per_day is a number from 0")
        _require(_from_0(self.initial), "initial is a number from 0")
        _require(
            is_number(self.growth) and -1 < self.growth < 1000,
            "growth is a share above -1; 0.5 is half as many again",
        )
        _require(_from_0(self.deleted) and self.deleted < 1, "deleted is a share from 0 to below 1")

    def on(self, day: int) -> float:
        """The records made on a day, counted from 0; whole ones where nothing grows."""
        made = self.per_day
        if self.growth:
            made = round(self.per_day * (1 + self.growth) ** (day / DAYS_IN_YEAR))
        return float(made + (self.initial if day == 0 else 0))

    def at_most(self, years: float) -> float:
        """No fewer records than are made in so many years; infinite where they are too many."""
        growth: float = max(1.0, (1 + self.growth) ** years)
        return self.initial + self.per_day * growth * math.ceil(years * DAYS_IN_YEAR)


@dataclass(frozen=True, slots=True)
class Campaign:
    """What re-encrypts: `rate` calls a second during `hours` of a day, one call a record.

    It begins `delay_days` after each rotation and goes on as long as anything is stale. A rate of 0
    re-encrypts nothing. ValueError for numbers that are none of this.

    >>> Campaign(rate=100, hours=8).per_day
    2880000
    """

    rate: float = DOCUMENTED_RATE / 2
    hours: float = 24.0
    delay_days: int = 0

    def __post_init__(self) -> None:
        _require(
            _from_0(self.rate) and self.rate <= FASTEST, f"rate is a number from 0 to {FASTEST:.0e}"
        )
        _require(_from_0(self.hours) and self.hours <= 24, "hours of a day are from 0 to 24")
        _require(
            is_whole(self.delay_days) and self.delay_days >= 0,
            "delay_days is a whole number of days from 0",
        )

    @property
    def per_day(self) -> int:
        """The most records that it re-encrypts in a day."""
        return math.floor(self.rate * self.hours * 3600)


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What a policy comes to. `daily` has one row for each day, counted from 0:

    `version` (the primary one's number), `records`, `stale`, `re_encrypted` (on that day),
    `age_p50_days`, `age_p99_days` and `age_max_days` (of the blobs; NaN without records),
    `stale_max_days` (since the version of the most stale record stopped being primary).

    `buckets` are the records at the end: `version`, `age_days`, `records`.
    """

    rotate_days: int
    arrivals: Arrivals
    campaign: Campaign
    daily: pd.DataFrame
    buckets: pd.DataFrame

    @property
    def settled(self) -> pd.DataFrame:
        """The last days: as many whole intervals as a year has, but one at least, so that each
        day of an interval counts as much as any other. In those before, the first records show.
        All days, where fewer were played."""
        return self.daily.tail(_settled_days(self.rotate_days))

    def as_dict(self) -> dict[str, Any]:
        """The policy, and the worst of its `settled` days; `calls` are those of 365 such days.

        What a campaign comes to (`calls`, `busy`, `keeps_up`) is None where no whole interval was
        played before those days: in the first one nothing is stale.
        """
        last = self.settled
        played = len(self.daily) >= _least_days(self.rotate_days)
        calls = last["re_encrypted"].mean() * DAYS_IN_YEAR
        return {
            "rotate_days": self.rotate_days,
            "rate": float(self.campaign.rate),
            "records": float(last["records"].iloc[-1]),
            "age_p50_days": float(last["age_p50_days"].max()),
            "age_p99_days": float(last["age_p99_days"].max()),
            "age_max_days": float(last["age_max_days"].max()),
            "stale_share": float(
                (last["stale"] / last["records"].where(last["records"] > 0)).max()
            ),
            "stale_max_days": float(last["stale_max_days"].max()),
            "calls": float(round(calls)) if played else None,
            "busy": float((last["re_encrypted"] > 0).mean()) if played else None,
            "keeps_up": bool((last["stale"] == 0).any()) if played else None,
        }

    def __repr__(self) -> str:
        facts = self.as_dict()
        return (
            f"Simulation(rotate every {self.rotate_days} days, {self.campaign.rate:g} calls/s, "
            f"{len(self.daily)} days: {facts['records']:,.0f} records, in the last "
            f"{len(self.settled)} of which 99 % were never older than "
            f"{facts['age_p99_days']:g} days)"
        )

    def _repr_html_(self) -> str:
        return html_table(list(self.as_dict().items()))


def _settled_days(rotate_days: int) -> int:
    """The days of as many whole intervals as a year has, one at least."""
    return max(1, DAYS_IN_YEAR // rotate_days) * rotate_days


def _least_days(rotate_days: int) -> int:
    """The days after which there are settled ones, and an interval before them.

    >>> _least_days(90), _least_days(365), _least_days(730)
    (450, 730, 1460)
    """
    return _settled_days(rotate_days) + rotate_days


def simulate(
    rotate_days: int, arrivals: Arrivals, campaign: Campaign | None = None, years: float = 5
) -> Simulation:
    """Play a policy day by day.

    ValueError for an interval that is no number of days, for no days at all, for more records than
    can be counted exactly, and for a campaign whose delay is no shorter than the interval: it would
    never run.

    A billion records over five years, rotated each quarter, at half the documented rate:

    >>> found = simulate(90, Arrivals(per_day=548_000), Campaign(rate=50))
    >>> round(found.daily["records"].iloc[-1]), found.as_dict()["keeps_up"]
    (1000100000, False)
    """
    campaign = campaign or Campaign()
    _check_kinds(arrivals, campaign)
    _check_interval(rotate_days)
    _check_years(years)
    _require(
        campaign.rate == 0 or campaign.delay_days < rotate_days,
        f"delay_days is {campaign.delay_days}, and the key rotates every {rotate_days} days: the "
        "campaign would never run",
    )
    _require(
        arrivals.at_most(years) <= MOST_RECORDS,
        f"per_day, growth and initial make more than {MOST_RECORDS:.0e} records in {years:g} years",
    )
    state = _State(rotate_days, arrivals, campaign, round(years * DAYS_IN_YEAR))
    daily = pd.DataFrame([state.step(day) for day in range(state.days)], columns=_DAILY)
    return Simulation(rotate_days, arrivals, state.campaign, daily, state.buckets())


_DAILY: Final = (
    "day",
    "version",
    "records",
    "stale",
    "re_encrypted",
    "age_p50_days",
    "age_p99_days",
    "age_max_days",
    "stale_max_days",
)


class _State:
    """How many records have a blob of each day."""

    def __init__(self, rotate_days: int, arrivals: Arrivals, campaign: Campaign, days: int) -> None:
        _require(days >= 1, "years make at least one day")
        self.campaign = campaign
        self.days = days
        self._rotate_days = rotate_days
        self._arrivals = arrivals
        self._left = (1 - arrivals.deleted) ** (1 / DAYS_IN_YEAR)
        self._made: _Counts = np.zeros(days)
        self._oldest = 0  # no blob is of a day before it

    def step(self, day: int) -> tuple[float, ...]:
        """One day; its row of `daily`."""
        rotated = day - day % self._rotate_days  # the day of the last rotation, or the first day
        self._made[day] += self._arrivals.on(day)
        done = 0.0
        if day - rotated >= self.campaign.delay_days:
            done = self._re_encrypt(rotated, day)
        if self._arrivals.deleted:
            self._made[: day + 1] *= self._left
        while self._oldest < day and self._made[self._oldest] == 0:
            self._oldest += 1
        made = self._made[self._oldest : day + 1]
        older = np.cumsum(made)
        stale = float(older[rotated - self._oldest - 1]) if self._oldest < rotated else 0.0
        return (
            day,
            day // self._rotate_days + 1,
            float(older[-1]),
            stale,
            done,
            _age(older, 0.5),
            _age(older, 0.99),
            float(day - self._oldest) if older[-1] else math.nan,
            self._stale_days(day) if stale else 0.0,
        )

    def _re_encrypt(self, rotated: int, day: int) -> float:
        """Give stale records a blob of today, those of the oldest days first."""
        stale = self._made[self._oldest : rotated]
        if not len(stale):
            return 0.0
        before = np.cumsum(stale) - stale
        taken = np.clip(self.campaign.per_day - before, 0.0, stale)
        stale -= taken
        done = float(taken.sum())
        self._made[day] += done
        return done

    def _stale_days(self, day: int) -> float:
        """The days since the version of the oldest blob stopped being primary."""
        return float(day - (self._oldest // self._rotate_days + 1) * self._rotate_days)

    def buckets(self) -> pd.DataFrame:
        """The records by version and age, after the last day."""
        made = np.flatnonzero(self._made)
        return pd.DataFrame(
            {
                "version": made // self._rotate_days + 1,
                "age_days": self.days - 1 - made,
                "records": self._made[made],
            }
        )


def _age(older: _Counts, share: float) -> float:
    """The least age that so large a share of records does not exceed; `older` adds up the records
    from the oldest day to today."""
    total = older[-1]
    if not total:
        return math.nan
    # The records older than those of index i are older[i - 1]: at most (1 - share) of all may be.
    first = int(np.searchsorted(older, total * (1 - share) + 1e-9 * total, "right"))
    return float(len(older) - 1 - min(first, len(older) - 1))


def sweep(
    rotate_days: Sequence[int],
    rates: Sequence[float],
    arrivals: Arrivals,
    campaign: Campaign | None = None,
    years: float = 5,
) -> pd.DataFrame:
    """Each interval with each rate: a row each, the worst of its last year, in whole intervals.

    `age_p99_days` is the age that 99 % of the records never exceeded; `stale_share` the greatest
    share of stale ones; `calls` those of 365 days; `busy` the share of days with a campaign at
    work; `keeps_up` whether there was a day on which nothing was stale. See `Simulation.settled`.

    ValueError for fewer years than show that: an interval, and the whole ones after it that make a
    year (two years for an interval of a year, four for one of two).

    >>> found = sweep([90], [0, 50], Arrivals(per_day=1000), years=2)
    >>> found["age_p99_days"].tolist()
    [722.0, 89.0]
    """
    campaign = campaign or Campaign()
    _check_years(years)
    for name, several in (("rotate_days", rotate_days), ("rates", rates)):
        _require(
            is_several(several) and len(several) > 0,
            f"{name} are several numbers, such as [50, 100]; not {several!r}",
        )
    _check_kinds(arrivals, campaign)
    for days in rotate_days:
        _check_interval(days)
        least = math.ceil(100 * _least_days(days) / DAYS_IN_YEAR) / 100
        _require(
            round(years * DAYS_IN_YEAR) >= _least_days(days),
            f"an interval of {days} days takes {least:g} years or more to show what it comes to",
        )
    rows = [
        simulate(
            days, arrivals, Campaign(rate, campaign.hours, campaign.delay_days), years
        ).as_dict()
        for days in rotate_days
        for rate in rates
    ]
    return pd.DataFrame(rows)


def _check_kinds(arrivals: object, campaign: object) -> None:
    _require(isinstance(arrivals, Arrivals), f"arrivals are Arrivals(per_day=...), not {arrivals}")
    _require(isinstance(campaign, Campaign), f"campaign is Campaign(rate=...), not {campaign}")


def _check_interval(rotate_days: int) -> None:
    _require(
        is_whole(rotate_days) and 1 <= rotate_days <= LONGEST,
        f"rotate_days is a whole number of days from 1 to {LONGEST:,}, not {rotate_days!r}",
    )


def _check_years(years: float) -> None:
    _require(
        is_number(years) and 0 < years <= LONGEST / DAYS_IN_YEAR,
        "years are more than 0, and at most 100",
    )


def _from_0(value: float) -> bool:
    return is_number(value) and value >= 0


def _require(true: bool, said: str) -> None:
    if not true:
        raise ValueError(said)
