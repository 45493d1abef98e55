"""Calls and seconds of a campaign."""

from __future__ import annotations

import json

import pytest
from fake_kms import lab, remote

from kmslab.analysis import (
    Outcome,
    Verify,
    calls_by_action,
    calls_by_provider,
    calls_needed,
    comparing,
    forecast,
    rights_needed,
)
from kmslab.keystore.credentials import check_right
from kmslab.model import CTYUN, TENCENT


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


HERE, OVER, BACK = (TENCENT, TENCENT), (TENCENT, CTYUN), (CTYUN, TENCENT)
SAMPLE = Verify.parse("sample:4")

CALLS: list[tuple[tuple[str, str], Verify, dict[str, dict[str, int]]]] = [
    (HERE, Verify.ANSWER, {TENCENT: {"ReEncrypt": 10}}),
    (HERE, Verify.DECRYPT, {TENCENT: {"ReEncrypt": 10, "Decrypt": 20}}),
    (HERE, SAMPLE, {TENCENT: {"ReEncrypt": 10, "Decrypt": 6}}),
    ((CTYUN, CTYUN), Verify.DECRYPT, {CTYUN: {"reEncrypt": 10, "decrypt": 20}}),
    (OVER, Verify.ANSWER, {TENCENT: {"Decrypt": 10}, CTYUN: {"encrypt": 10}}),
    (OVER, Verify.DECRYPT, {TENCENT: {"Decrypt": 10}, CTYUN: {"encrypt": 10, "decrypt": 10}}),
    (BACK, SAMPLE, {CTYUN: {"decrypt": 10}, TENCENT: {"Encrypt": 10, "Decrypt": 3}}),
]


@pytest.mark.parametrize(("flow", "verify", "calls"), CALLS)
def test_the_calls_and_rights_of_every_way(
    flow: tuple[str, str], verify: Verify, calls: dict[str, dict[str, int]]
) -> None:
    assert calls_by_action({flow: 10}, verify) == calls
    assert calls_by_provider({flow: 10}, verify) == {
        provider: sum(actions.values()) for provider, actions in calls.items()
    }
    rights = rights_needed([flow], verify)
    assert rights == {provider: tuple(sorted(actions)) for provider, actions in calls.items()}
    for names in rights.values():
        for name in names:
            check_right(name)


def test_the_ways_of_a_campaign_are_summed() -> None:
    flows = {HERE: 3, BACK: 2, (CTYUN, CTYUN): 0}
    assert calls_by_action(flows, Verify.DECRYPT) == {
        TENCENT: {"ReEncrypt": 3, "Decrypt": 8, "Encrypt": 2},
        CTYUN: {"decrypt": 2},
    }
    assert calls_by_action({}, Verify.DECRYPT) == rights_needed([], Verify.DECRYPT) == {}


def test_a_lab_compares_in_the_call_itself() -> None:
    assert comparing(lab()) == {TENCENT, CTYUN}
    assert comparing(remote()) == frozenset()
    inside = comparing(lab())
    assert calls_by_provider({HERE: 10}, Verify.DECRYPT, comparing=inside) == {TENCENT: 10}
    assert rights_needed([HERE], Verify.DECRYPT, comparing=inside) == {TENCENT: ("ReEncrypt",)}


class TestVerify:
    @pytest.mark.parametrize("text", ["answer", "decrypt", "sample:2", "sample:100"])
    def test_a_mode_is_a_text(self, text: str) -> None:
        assert str(Verify.parse(text)) == text

    def test_one_in_one_is_all(self) -> None:
        assert Verify.parse("sample:1") == Verify.DECRYPT

    @pytest.mark.parametrize(
        "text", ["", "Answer", "sample", "sample:", "sample:0", "sample:-1", "sample:1.5", "none"]
    )
    def test_another_text_is_none(self, text: str) -> None:
        with pytest.raises(ValueError, match="answer, decrypt, or sample:N"):
            Verify.parse(text)

    def test_it_is_not_negative(self) -> None:
        with pytest.raises(ValueError, match="one in -1"):
            Verify(-1)

    @pytest.mark.parametrize("verify", [Verify.ANSWER, Verify.DECRYPT, SAMPLE])
    def test_it_opens_as_many_as_it_says(self, verify: Verify) -> None:
        for blobs in range(20):
            assert sum(map(verify.opens, range(blobs))) == verify.opened(blobs)
