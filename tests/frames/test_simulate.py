"""The model of rotation: against a lab that is played day by day, and against plain arithmetic."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmslab import Lab, ManualClock
from kmslab.analysis.simulate import Arrivals, Campaign, Simulation, simulate, sweep


def rate_of(per_day: int) -> float:
    return (per_day + 0.5) / 86_400


class Played:
    """The same policy over a real lab: every record is encrypted, rotated away, re-encrypted."""

    def __init__(self, rotate_days: int, arrivals: Arrivals, per_day: int, delay: int) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.lab = Lab.in_memory(clock=self.clock)
        self.kms = self.lab.tencent()
        self.key_id = self.kms.create_key("orders").key_id
        self.records: list[tuple[int, str]] = []  # the day of each blob, and the blob
        self.rotated = 0
        self._policy = rotate_days, arrivals, per_day, delay

    def step(self, day: int) -> dict[str, object]:
        rotate_days, arrivals, per_day, delay = self._policy
        if day and day % rotate_days == 0:
            self.lab.rotate(self.key_id)
            self.rotated = day
        for _ in range(round(arrivals.on(day))):
            self.records.append((day, self.kms.encrypt(self.key_id, b"x")))
        done = 0
        if day - self.rotated >= delay:
            done = self._re_encrypt(day, per_day)
        numbers = self.versions()
        primary = len(self.kms.versions(self.key_id))
        self.clock.advance(timedelta(days=1))
        ages = sorted(day - made for made, _ in self.records)
        return {
            "day": day,
            "version": primary,
            "records": len(self.records),
            "stale": sum(number != primary for number in numbers),
            "re_encrypted": done,
            "age_max_days": ages[-1],
            # The least age that 99 % do not exceed.
            "age_p99_days": ages[-(-99 * len(ages) // 100) - 1],
            "age_p50_days": ages[-(-len(ages) // 2) - 1],
        }

    def versions(self) -> list[int]:
        known = {v.version_id: v.number for v in self.kms.versions(self.key_id)}
        from kmslab import inspect

        return [known[inspect(blob).key_version_id] for _, blob in self.records]

    def _re_encrypt(self, day: int, per_day: int) -> int:
        """Oldest first; whether a record was stale is what the KMS answers."""
        done = 0
        for row, (_, blob) in sorted(enumerate(self.records), key=lambda each: each[1][0]):
            if done == per_day:
                break
            answer = self.kms.re_encrypt(blob)
            if answer.re_encrypted:
                done += 1
                self.records[row] = (day, answer.ciphertext_blob)
        return done


@pytest.mark.parametrize(
    ("rotate_days", "arrivals", "per_day", "delay"),
    [
        (7, Arrivals(per_day=3, initial=5), 4, 0),
        (5, Arrivals(per_day=2), 0, 0),
        (6, Arrivals(per_day=4), 3, 2),  # does not keep up
        (10, Arrivals(per_day=2, growth=8.0), 1000, 1),
    ],
)
def test_the_model_is_what_a_lab_does(
    rotate_days: int, arrivals: Arrivals, per_day: int, delay: int
) -> None:
    days = 24
    campaign = Campaign(rate=rate_of(per_day) if per_day else 0, delay_days=delay)
    assert campaign.per_day == per_day
    model = simulate(rotate_days, arrivals, campaign, years=days / 365)
    played = Played(rotate_days, arrivals, per_day, delay)
    with played.lab:
        for day in range(days):
            seen = played.step(day)
            row = model.daily.iloc[day]
            assert {name: row[name] for name in seen} == seen, day
        buckets = Counter(
            zip(played.versions(), (days - 1 - made for made, _ in played.records), strict=True)
        )
    # A blob that was re-encrypted is on the version of the day on which it was.
    found = {(row.version, row.age_days): row.records for row in model.buckets.itertuples()}
    assert found == buckets


def test_without_campaigns_records_only_grow_older() -> None:
    """100 a day, for a year: the oldest is 364 days old, and 99 % are 360 days old at most."""
    found = simulate(30, Arrivals(per_day=100), Campaign(rate=0), years=1)
    last = found.daily.iloc[-1]
    assert last["records"] == 36_500
    assert last["version"] == 13
    assert last["stale"] == 36_000  # all but those of the last 5 days
    assert last["age_max_days"] == 364
    assert last["age_p99_days"] == 361  # 362 of 365 days hold 99.2 %, 361 hold 98.9 %
    assert last["age_p50_days"] == 182
    assert last["stale_max_days"] == 334


def test_a_backlog_takes_as_long_as_its_share_of_the_rate() -> None:
    """A million records, one rotation, 100,000 a day: ten days, and everything is current."""
    campaign = Campaign(rate=rate_of(100_000))
    found = simulate(30, Arrivals(per_day=0, initial=1_000_000), campaign, years=50 / 365).daily
    assert found["stale"].iloc[29:41].tolist() == [0, *range(900_000, -1, -100_000), 0]
    assert found["re_encrypted"].sum() == 1_000_000


def test_a_fast_campaign_keeps_every_blob_younger_than_the_interval() -> None:
    row = sweep([45], [1000], Arrivals(per_day=50), years=3).iloc[0]
    assert row["age_max_days"] == 44
    assert row["stale_share"] == 0
    assert bool(row["keeps_up"])


@given(
    rotate_days=st.integers(1, 60),
    per_day=st.integers(0, 2000),
    initial=st.integers(0, 10_000),
    capacity=st.integers(0, 3000),
    delay=st.integers(0, 10),
    days=st.integers(1, 200),
)
def test_no_record_is_lost_or_made(
    rotate_days: int, per_day: int, initial: int, capacity: int, delay: int, days: int
) -> None:
    campaign = Campaign(rate=rate_of(capacity), delay_days=min(delay, rotate_days - 1))
    found = simulate(rotate_days, Arrivals(per_day, initial), campaign, years=days / 365)
    daily = found.daily
    assert len(daily) == days
    assert daily["records"].iloc[-1] == found.buckets["records"].sum() == initial + per_day * days
    assert (daily["re_encrypted"] <= capacity).all()
    assert (daily["stale"] <= daily["records"]).all()
    ages = daily[["age_p50_days", "age_p99_days", "age_max_days"]].fillna(0)
    assert (ages["age_p50_days"] <= ages["age_p99_days"]).all()
    assert (ages["age_p99_days"] <= ages["age_max_days"]).all()
    assert (found.buckets["records"] > 0).all()


def test_deleted_records_are_a_share_of_all() -> None:
    found = simulate(90, Arrivals(per_day=0, initial=1000, deleted=0.5), years=2).daily
    assert found["records"].iloc[[364, 729]].tolist() == pytest.approx([500, 250])


def test_more_rate_is_never_worse() -> None:
    found = sweep([90], [1, 5, 20, 100], Arrivals(per_day=300_000, initial=50_000_000))
    assert found["age_max_days"].is_monotonic_decreasing
    assert found["stale_share"].is_monotonic_decreasing


def test_a_result_shows_itself() -> None:
    found = simulate(90, Arrivals(per_day=1000), years=1)
    assert repr(found).startswith("Simulation(rotate every 90 days, 50 calls/s, 365 days: 365,000")
    assert "<style" not in found._repr_html_()
    assert "<td>365,000</td>" in found._repr_html_()
    nothing = simulate(90, Arrivals(per_day=0), years=1)
    assert "0 records" in repr(nothing)
    assert "<th>age_p99_days</th><td>-</td>" in nothing._repr_html_()
    assert isinstance(nothing, Simulation)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Arrivals(per_day=-1),
        lambda: Arrivals(per_day=float("inf")),
        lambda: Arrivals(per_day=1, deleted=1),
        lambda: Campaign(rate=-1),
        lambda: Campaign(hours=25),
        lambda: Campaign(rate=1e307),
        lambda: simulate(0, Arrivals(1)),
        lambda: simulate(90.0, Arrivals(1)),
        lambda: simulate(float("inf"), Arrivals(1)),
        lambda: simulate(10**30, Arrivals(1)),
        lambda: simulate(90, Arrivals(per_day=1e10, growth=999), years=100),
        lambda: simulate(90, Arrivals(per_day=1, initial=1e16)),
        lambda: sweep([], [1], Arrivals(1)),
        lambda: sweep(90, [1], Arrivals(1)),
        lambda: sweep([90], 1, Arrivals(1)),
        lambda: sweep([90], ["1"], Arrivals(1)),
        lambda: simulate("90", Arrivals(1)),
        lambda: simulate(90, 500_000),
        lambda: simulate(90, Arrivals(1), 50),
        lambda: simulate(90, Arrivals(1), years="5"),
        lambda: simulate(90, Arrivals(1), Campaign(delay_days=90)),
        lambda: Arrivals("5"),
        lambda: Campaign(delay_days=1.5),
        lambda: sweep([90], [1], Arrivals(1), years=1e308),
        lambda: simulate(90, Arrivals(1), years=0),
        lambda: simulate(90, Arrivals(1), years=float("nan")),
        lambda: simulate(90, Arrivals(1), years=0.001),
    ],
)
def test_what_makes_no_sense_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"number|share|day|years|Campaign"):
        make()


def test_simulations_are_compared_as_the_objects_that_they_are() -> None:
    one, other = (simulate(90, Arrivals(1), years=0.1) for _ in range(2))
    assert one == one
    assert one != other


@pytest.mark.parametrize(
    ("rotate_days", "days", "least"),
    [(30, 360, 390), (90, 360, 450), (270, 270, 540), (365, 365, 730), (500, 500, 1000)],
)
def test_what_is_judged_are_whole_intervals_after_the_first(
    rotate_days: int, days: int, least: int
) -> None:
    """1,000 records, each re-encrypted after each rotation: so many calls a year."""
    arrivals = Arrivals(per_day=0, initial=1000)
    for more in (0, 17, rotate_days - 1):
        found = simulate(rotate_days, arrivals, years=(least + more) / 365)
        assert len(found.settled) == days
        assert found.as_dict()["calls"] == round(1000 * 365 / rotate_days)
        assert found.as_dict()["keeps_up"]
    short = simulate(rotate_days, arrivals, years=(least - 1) / 365).as_dict()
    assert (short["calls"], short["busy"], short["keeps_up"]) == (None, None, None)
    with pytest.raises(ValueError, match=f"an interval of {rotate_days} days takes"):
        sweep([rotate_days], [1], arrivals, years=(least - 1) / 365)


def test_a_sweep_has_a_row_for_each_pair() -> None:
    found = sweep([30, 60], [0, 1], Arrivals(per_day=10), years=2)
    assert list(zip(found["rotate_days"], found["rate"], strict=True)) == [
        (30, 0.0),
        (30, 1.0),
        (60, 0.0),
        (60, 1.0),
    ]
    assert isinstance(found, pd.DataFrame)
