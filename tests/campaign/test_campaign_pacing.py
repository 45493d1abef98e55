"""No more calls than the limit in any second, hardly fewer, and a forecast that is met."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from campaign_kms import CloudKms, Clouds, Gate, Rehearsed
from hypothesis import given
from hypothesis import strategies as st

from kmslab import Lab, ManualClock, Record
from kmslab.analysis import Classifier, Target, Verify, calls_by_provider, forecast
from kmslab.campaign.pacing import Pace, pause
from kmslab.campaign.pairs import Distinct
from kmslab.campaign.sending import Sender
from kmslab.model import TENCENT

START = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = st.integers(1, 300) | st.integers(300, 20_000) | st.floats(0.05, 400)


def most_in_a_second(times: list[float]) -> int:
    """The most calls in any second, where the last of them comes less than a second later."""
    most = first = 0
    for last, time in enumerate(times):
        while times[first] <= time - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


class TestPace:
    @given(LIMITS, st.data())
    def test_no_second_has_more_calls_than_the_limit(
        self, limit: float, data: st.DataObject
    ) -> None:
        clock = ManualClock(START)
        pace = Pace(limit, clock)
        times: list[float] = []
        seed = data.draw(st.integers(0, 2**32))
        draw = random.Random(seed)
        idle = data.draw(st.sampled_from([0.0, 0.1, 3.0])) / limit
        while len(times) < min(600, 4 * limit + 20):
            calls = draw.randint(1, pace.most)
            assert pace.wait(calls)
            times += [clock.time()] * calls
            clock.advance(timedelta(seconds=draw.random() * idle))
        assert most_in_a_second(times) <= -(-limit // 1)

    @given(LIMITS)
    def test_with_enough_to_do_99_percent_are_kept(self, limit: float) -> None:
        clock = ManualClock(START)
        pace = Pace(limit, clock)
        batches = 400
        for _ in range(batches):
            assert pace.wait(pace.most)
        spent = clock.time() - START.timestamp()
        assert batches * pace.most >= 0.99 * limit * spent
        # Of what is begun at once, all but the first second's was waited for.
        assert batches * pace.most <= limit * spent + max(1, limit)

    def test_a_second_of_rest_is_not_saved_up(self) -> None:
        clock = ManualClock(START)
        pace = Pace(100, clock)
        clock.advance(timedelta(hours=1))
        times = []
        for _ in range(300):
            assert pace.wait(1)
            times.append(clock.time())
        assert most_in_a_second(times) <= 100

    def test_without_a_limit_nothing_is_waited_for(self) -> None:
        clock = ManualClock(START)
        pace = Pace(None, clock)
        assert all(pace.wait(pace.most) for _ in range(100))
        assert clock.now() == START

    @pytest.mark.parametrize("limit", [0, -1])
    def test_a_limit_is_above_zero(self, limit: float) -> None:
        with pytest.raises(ValueError, match="more than 0"):
            Pace(limit, ManualClock(START))


class TestStop:
    def test_a_wait_ends_soon_after(self) -> None:
        clock = ManualClock(START)
        at = START + timedelta(seconds=7)
        assert not pause(clock, 3600.0, lambda: clock.now() >= at)
        assert at <= clock.now() <= at + timedelta(seconds=0.2)

    def test_a_slow_rate_does_not_hold_it_up(self) -> None:
        clock = ManualClock(START)
        pace = Pace(0.01, clock)
        assert pace.wait(1)
        at = START + timedelta(seconds=2)
        assert not pace.wait(1, lambda: clock.now() >= at)
        assert clock.now() <= at + timedelta(seconds=0.2)

    @given(st.floats(0, 20))
    def test_a_wait_is_as_long_as_it_should_be(self, seconds: float) -> None:
        clock = ManualClock(START)
        assert pause(clock, seconds)
        assert clock.time() - START.timestamp() == pytest.approx(seconds, abs=1e-3)


def test_a_run_meets_its_forecast_within_2_percent() -> None:
    clock = ManualClock(START)
    with Lab.in_memory(clock=clock) as lab:
        kms = lab.tencent()
        key_id = kms.create_key("orders").key_id
        count = 10_000
        blobs = kms.encrypt_many([b"secret"] * count, key_id=key_id).ciphertext_blob
        records = [Record(str(row), TENCENT, blob or "") for row, blob in enumerate(blobs)]
        lab.rotate(key_id)
        classifier = Classifier(lab)
        verdicts = [classifier.classify(record) for record in records]
        distinct = Distinct()
        pairs = sum(map(distinct.is_new, records, verdicts))
        calls = calls_by_provider({(TENCENT, TENCENT): pairs}, Verify.ANSWER)
        expected = forecast(calls, 100)

        clouds = Clouds(lab, clock)
        gate = Gate(clock, 100)
        clouds.tencent = CloudKms(Rehearsed(kms, records), clock, gate=gate, seconds=0.004)
        sender = Sender(
            clouds,
            Target(),
            verify=Verify.ANSWER,
            rates={TENCENT: 100},
            clock=clock,
            jitter=random.Random(1).random,
        )
        began = clock.time()
        for first in range(0, count, 1000):
            part = slice(first, first + 1000)
            answers = sender.send(records[part], verdicts[part])
            assert all(answer and answer.re_encrypted for answer in answers)
    assert clock.time() - began == pytest.approx(expected.seconds, rel=0.02)
    assert clock.time() - began <= expected.seconds / 0.99
    assert sender.calls["tencent"] == expected.calls == count
    assert (gate.throttled, gate.most) == (0, 100)


def test_waiting_for_a_provider_is_told_once_and_that_it_is_over() -> None:
    clock = ManualClock(START)
    said: list[str] = []
    with Lab.in_memory(clock=clock) as lab:
        key_id = lab.tencent().create_key("orders").key_id
        record = Record("r", TENCENT, lab.tencent().encrypt(key_id, b"secret"))
        lab.rotate(key_id)
        lab.faults.add("ReEncrypt", "InternalError", count=5)
        sender = Sender(
            lab,
            Target(),
            verify=Verify.ANSWER,
            rates={},
            clock=clock,
            jitter=lambda: 1.0,
            waiting=said.append,
        )
        [answer] = sender.send([record], [Classifier(lab).classify(record)])
    assert answer is not None
    assert answer.re_encrypted
    assert said[0].startswith("waiting for tencent, to try again: InternalError: ")
    assert said[1:] == [""]
