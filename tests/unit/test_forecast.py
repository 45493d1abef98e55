"""Calls and seconds of a campaign."""

from __future__ import annotations

import json

import pytest

from kmslab.analysis import Outcome, calls_needed, forecast


def test_providers_run_side_by_side() -> None:
    plan = forecast({"tencent": 1_000_000, "ctyun": 500})
    assert (plan.calls, plan.seconds) == (1_000_500, 10_000.0)
    assert [(each.provider, each.seconds) for each in plan.providers] == [
        ("tencent", 10_000.0),
        ("ctyun", 5.0),
    ]


def test_each_provider_may_have_its_own_rate() -> None:
    plan = forecast({"tencent": 1000, "ctyun": 1000}, rate={"tencent": 50})
    assert [(each.rate, each.seconds) for each in plan.providers] == [(50.0, 20.0), (100.0, 10.0)]


def test_nothing_to_call_takes_no_time() -> None:
    assert (forecast({}).calls, forecast({}).seconds) == (0, 0.0)
    assert forecast({"tencent": 0}).seconds == 0.0


def test_as_dict_is_json() -> None:
    plan = forecast({"tencent": 250})
    assert json.loads(json.dumps(plan.as_dict())) == {
        "calls": 250,
        "seconds": 2.5,
        "providers": {"tencent": {"calls": 250, "rate": 100.0, "seconds": 2.5}},
    }


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="tencent: a rate is more than 0"):
        forecast({"tencent": 1}, rate=rate)


def test_calls_are_not_below_zero() -> None:
    with pytest.raises(ValueError, match="tencent: -1 calls"):
        forecast({"tencent": -1})


def test_a_rate_of_a_provider_that_is_not_called_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="tencnet"):
        forecast({"tencent": 1}, rate={"tencnet": 50})


def test_only_what_is_sent_needs_calls() -> None:
    assert calls_needed(dict.fromkeys(Outcome, 10)) == 30
    assert calls_needed({}) == 0
