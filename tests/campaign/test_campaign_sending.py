"""Each record has one answer, its own, whatever fails on the way; and every call is counted."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from campaign_kms import CloudKms, Clouds, Fault, at_calls, for_blobs
from hypothesis import given
from hypothesis import strategies as st

from kmslab import Lab, ManualClock, Record
from kmslab.analysis import (
    DROP,
    STAY,
    Classifier,
    Outcome,
    Target,
    Verdict,
    Verify,
    calls_by_action,
    comparing,
)
from kmslab.campaign.sending import Answer, Distinct, Patience, Sender
from kmslab.clock import SystemClock
from kmslab.errors import (
    BadAnswer,
    ContextError,
    InternalError,
    InvalidCiphertext,
    KeyDisabled,
    LabClosed,
    RotatedRecently,
    Throttled,
)
from kmslab.model import CTYUN, TENCENT, KeySpec, OaepAlgorithm
from kmslab.providers.base import KEEP, Opened, Providers, ReEncrypted

START = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = 16
CONTEXT = '{"app":"订单"}'
MODES = (Verify.ANSWER, Verify.DECRYPT, Verify.parse("sample:3"))


@dataclass(frozen=True, slots=True)
class Ground:
    """A lab with two keys of each provider, the first of which was rotated, and records on them."""

    lab: Lab
    clock: ManualClock
    orders: str
    other: str
    billing: str
    archive: str
    tencent: list[Record]
    ctyun: list[Record]
    contexts: list[Record]
    current: list[Record]
    public_key: list[Record]
    plaintexts: dict[str, bytes]

    def sender(self, providers: Providers, target: Target = STAY, **options: Any) -> Sender:
        settings: dict[str, Any] = {
            "verify": Verify.ANSWER,
            "rates": {},
            "clock": self.clock,
            "jitter": random.Random(7).random,
        }
        return Sender(providers, target, **{**settings, **options})

    def verdicts(
        self, records: Sequence[Record], target: Target = STAY, by: Providers | None = None
    ) -> list[Verdict]:
        classifier = Classifier(by or self.lab, target)
        return [classifier.classify(record) for record in records]

    def check(
        self,
        records: Sequence[Record],
        answers: Sequence[Answer | None],
        target: Target = STAY,
    ) -> None:
        """Each answer is a blob of the destination that opens to its record's own plaintext."""
        found: dict[str, list[tuple[Record, Answer, Record]]] = {}
        for record, answer in zip(records, answers, strict=True):
            assert answer is not None
            assert answer.error is None
            context = record.context if target.context is KEEP else None
            new = Record("new", answer.provider, answer.ciphertext_blob or "", context=context)
            found.setdefault(answer.provider, []).append((record, answer, new))
        for provider, rows in found.items():
            opened = self.lab.kms(provider).decrypt_records([new for _, _, new in rows])
            for row, (record, answer, _) in enumerate(rows):
                assert opened.error[row] is None
                assert opened.plaintext[row] == self.plaintexts[record.ciphertext_blob]
                assert (opened.key_id[row], opened.key_version_id[row]) == (
                    answer.key_id,
                    answer.key_version_id,
                )


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    clock = ManualClock(START)
    with Lab.in_memory(clock=clock) as lab:
        tencent, ctyun = lab.tencent(), lab.ctyun()
        orders = tencent.create_key("orders").key_id
        billing = ctyun.create_key(alias="billing").key_id
        pair = ctyun.create_key(alias="pair", spec=KeySpec.RSA_2048)
        plaintexts: dict[str, bytes] = {}

        def made(kms: Any, key_id: str, name: str, context: str | None = None) -> list[Record]:
            texts = [f"{name} {n:03}".encode() for n in range(COUNT)]
            known = {"contexts": context} if context else {}
            sealed = kms.encrypt_many(texts, key_id=key_id, **known)
            blobs = [blob or "" for blob in sealed.ciphertext_blob]
            plaintexts.update(zip(blobs, texts, strict=True))
            return [
                Record(f"{name}-{n}", kms.provider, blob, context=context)
                for n, blob in enumerate(blobs)
            ]

        old = made(tencent, orders, "t"), made(ctyun, billing, "c")
        contexts = made(tencent, orders, "x", CONTEXT)
        lab.rotate(orders)
        lab.rotate(billing)
        version = pair.versions[0].version_id
        sealed = ctyun.asymmetric_encrypt(
            pair.key_id, version, OaepAlgorithm.SHA_256, b"from outside"
        )
        plaintexts[sealed] = b"from outside"
        public_key = Record(
            "p",
            CTYUN,
            sealed,
            source_key_id=pair.key_id,
            source_key_version_id=version,
            source_encryption_algorithm=OaepAlgorithm.SHA_256.value,
        )
        yield Ground(
            lab,
            clock,
            orders,
            tencent.create_key("other").key_id,
            billing,
            ctyun.create_key(alias="archive").key_id,
            *old,
            contexts,
            made(tencent, orders, "n"),
            [public_key],
            plaintexts,
        )


FLOWS: dict[str, tuple[str, Callable[[Ground], Target]]] = {
    "tencent, stays": ("tencent", lambda g: Target()),
    "ctyun, stays": ("ctyun", lambda g: Target()),
    "context, stays": ("contexts", lambda g: Target()),
    "context, dropped": ("contexts", lambda g: Target(context=DROP)),
    "to another key": ("tencent", lambda g: Target(key_id=g.other)),
    "current, to another key": ("current", lambda g: Target(key_id=g.other)),
    "tencent to ctyun": ("tencent", lambda g: Target(key_id=g.archive, provider=CTYUN)),
    "context, to ctyun": (
        "contexts",
        lambda g: Target(key_id=g.archive, provider=CTYUN, context=DROP),
    ),
    "ctyun to tencent": ("ctyun", lambda g: Target(key_id=g.other, provider=TENCENT)),
    "public key": ("public_key", lambda g: Target(key_id=g.archive)),
    "public key, to tencent": (
        "public_key",
        lambda g: Target(key_id=g.other, provider=TENCENT),
    ),
}


@pytest.mark.parametrize("cloud", [False, True], ids=["lab", "cloud"])
@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(("kind", "target_of"), FLOWS.values(), ids=FLOWS.keys())
def test_every_way_that_a_record_can_go(
    ground: Ground,
    kind: str,
    target_of: Callable[[Ground], Target],
    mode: Verify,
    cloud: bool,
) -> None:
    """Also: the calls are those of the forecast, and of the server's own count."""
    records, target = getattr(ground, kind), target_of(ground)
    providers = Clouds(ground.lab, ground.clock, tells=not cloud)
    verdicts = ground.verdicts(records, target)
    sender = ground.sender(providers, target, verify=mode)
    answers = sender.send(records, verdicts)
    ground.check(records, answers, target)
    for row, (record, verdict, answer) in enumerate(zip(records, verdicts, answers, strict=True)):
        assert answer is not None
        assert answer.re_encrypted
        assert answer.provider == target.provider_for(record.provider)
        assert answer.key_id == verdict.destination_key_id
        assert (answer.source_key_id, answer.source_key_version_id) == (
            verdict.key_id,
            verdict.key_version_id,
        )
        assert answer.verified is (True if mode.opens(row) else None)
    flows = {(records[0].provider, target.provider_for(records[0].provider)): len(records)}
    expected = calls_by_action(flows, mode, comparing=comparing(providers))
    assert sender.calls_by_action == providers.calls == expected
    assert sender.calls["ctyun"] + sender.calls["tencent"] == sum(
        sum(actions.values()) for actions in expected.values()
    )


def test_what_is_not_sent_has_no_answer(ground: Ground) -> None:
    records = [
        ground.current[0],
        ground.tencent[0],
        Record("cut", TENCENT, "cut"),
        ground.ctyun[0],
        ground.public_key[0],
    ]
    clouds = Clouds(ground.lab, ground.clock)
    sender = ground.sender(clouds)
    answers = sender.send(records, ground.verdicts(records))
    assert [answer is None for answer in answers] == [True, False, True, False, True]
    ground.check([records[1], records[3]], [answers[1], answers[3]])
    assert sender.calls == {"tencent": 1, "ctyun": 1}
    assert sender.send([], []) == []


def test_a_cloud_decides_what_it_does_not_tell(ground: Ground) -> None:
    clouds = Clouds(ground.lab, ground.clock)
    records = [ground.current[0], ground.tencent[0]]
    verdicts = ground.verdicts(records, by=clouds)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.MAY_CHANGE] * 2
    answers = ground.sender(clouds, verify=Verify.DECRYPT).send(records, verdicts)
    assert [answer and answer.re_encrypted for answer in answers] == [False, True]
    assert answers[0] is not None
    assert answers[0].ciphertext_blob == records[0].ciphertext_blob
    ground.check(records[1:], answers[1:])
    # What did not change has nothing to be opened for.
    assert clouds.calls == {"tencent": {"ReEncrypt": 2, "Decrypt": 2}}


def test_the_target_context_must_be_one(ground: Ground) -> None:
    with pytest.raises(ContextError):
        ground.sender(ground.lab, Target(context="tenant=7"))


def test_two_providers_are_called_side_by_side(ground: Ground) -> None:
    """What one is waited for is not lost for the other, as a forecast says."""
    rate = COUNT / 2
    records = [*ground.tencent, *ground.ctyun]
    sender = ground.sender(ground.lab, rates={TENCENT: rate, CTYUN: rate})
    begun = ground.clock.time()
    answers = sender.send(records, ground.verdicts(records, Target()))
    ground.check(records, answers, Target())
    assert ground.clock.time() - begun < 1.5, "one after the other it takes twice as long"


@pytest.mark.parametrize("crosses", [False, True])
def test_several_batches_are_under_way_at_once(ground: Ground, crosses: bool) -> None:
    """Each call waits for two others, as long as a cloud that is far away."""
    together = threading.Barrier(3, timeout=60.0)

    class Far(CloudKms):
        def decrypt_records(self, records: Sequence[Record]) -> Opened:
            together.wait()
            return self.inner.decrypt_records(records)

        def re_encrypt_records(self, records: Sequence[Record], **options: Any) -> ReEncrypted:
            together.wait()
            return self.inner.re_encrypt_records(records, **options)

    clouds = Clouds(ground.lab, ground.clock)
    clouds.tencent = Far(ground.lab.tencent(), ground.clock)
    target = Target(key_id=ground.archive, provider=CTYUN) if crosses else Target()
    records = ground.tencent[:12]
    sender = ground.sender(clouds, target, rates={TENCENT: 19.0}, clock=SystemClock(), in_flight=3)
    answers = sender.send(records, ground.verdicts(records, target))
    ground.check(records, answers, target)
    assert sender.calls["tencent"] == 12


class TestEqualRecords:
    def test_they_are_sent_once(self, ground: Ground) -> None:
        clouds = Clouds(ground.lab, ground.clock)
        sender = ground.sender(clouds)
        one, other = ground.tencent[:2]
        again = replace(one, record_id="again", row=9)
        elsewhere = replace(ground.contexts[0], context=None)
        records = [one, other, again, elsewhere, ground.contexts[0]]
        verdicts = ground.verdicts(records)
        answers = sender.send(records, verdicts)
        assert answers[0] is answers[2]
        assert answers[3] is not None
        assert isinstance(answers[3].error, InvalidCiphertext)  # another context: another pair
        assert sender.send([again], verdicts[2:3]) == [answers[0]]
        assert sender.calls == {"tencent": 4, "ctyun": 0}

    def test_an_error_is_shared_too(self, ground: Ground) -> None:
        clouds = Clouds(ground.lab, ground.clock, fault=at_calls(lambda: KeyDisabled("off"), [1]))
        record = ground.tencent[0]
        answers = ground.sender(clouds).send([record] * 3, ground.verdicts([record] * 3))
        assert {id(answer) for answer in answers} == {id(answers[0])}
        assert answers[0] is not None
        assert answers[0].code == "ResourceUnavailable.CmkDisabled"
        assert clouds.calls == {"tencent": {"ReEncrypt": 1}}

    @given(
        st.lists(st.lists(st.integers(0, 30), max_size=25), max_size=8), st.sampled_from([2, 6, 40])
    )
    def test_planning_counts_what_is_sent(
        self, ground: Ground, chunks: list[list[int]], remembered: int
    ) -> None:
        """With the same memory of recent pairs, whatever the chunks are."""
        everything = [*ground.tencent, *ground.ctyun[:10], *ground.current[:5]]
        verdicts = ground.verdicts(everything)
        distinct = Distinct(remembered)
        clouds = Clouds(ground.lab, ground.clock)
        sender = ground.sender(clouds, remembered=remembered)
        counted: Counter[str] = Counter({TENCENT: 0, CTYUN: 0})
        for chunk in chunks:
            records, judged = [everything[n] for n in chunk], [verdicts[n] for n in chunk]
            for record, verdict in zip(records, judged, strict=True):
                counted[record.provider] += distinct.is_new(record, verdict)
            answers = sender.send(records, judged)
            sent = [row for row, verdict in enumerate(judged) if verdict.outcome.sent]
            ground.check([records[row] for row in sent], [answers[row] for row in sent])
        assert sender.calls == counted


class TestPatience:
    def test_only_what_failed_is_asked_again(self, ground: Ground) -> None:
        records = ground.tencent[:10]
        blobs = [record.ciphertext_blob for record in records]
        fault = for_blobs(lambda: Throttled("later", retry_after=3.0), blobs[2:4], times=2)
        clouds = Clouds(ground.lab, ground.clock, fault=fault)
        began = ground.clock.time()
        sender = ground.sender(clouds, jitter=lambda: 0.5)
        answers = sender.send(records, ground.verdicts(records))
        ground.check(records, answers)
        assert clouds.calls == {"tencent": {"ReEncrypt": 10 + 2 + 2}}
        assert clouds.tencent.batches == {"ReEncrypt": 3}
        # Twice what the provider said, and half of 0.5 s, then of 1 s.
        assert ground.clock.time() - began == pytest.approx(3 + 0.25 + 3 + 0.5, abs=1e-3)

    def test_what_outlasts_it_keeps_its_error(self, ground: Ground) -> None:
        records = ground.tencent[:10]
        fault = for_blobs(lambda: InternalError("no"), [records[4].ciphertext_blob])
        clouds = Clouds(ground.lab, ground.clock, fault=fault)
        began = ground.clock.time()
        sender = ground.sender(clouds, jitter=lambda: 1.0, patience=Patience(attempts=4))
        answers = sender.send(records, ground.verdicts(records))
        failed = answers.pop(4)
        assert failed is not None
        assert isinstance(failed.error, InternalError)
        assert (failed.code, failed.ciphertext_blob) == ("InternalError", None)
        ground.check(records[:4] + records[5:], answers)
        assert clouds.calls == {"tencent": {"ReEncrypt": 10 + 3}}
        assert ground.clock.time() - began == pytest.approx(0.5 + 1 + 2, abs=1e-3)

    def test_it_does_not_wait_longer_than_it_may(self, ground: Ground) -> None:
        fault = at_calls(lambda: Throttled("tomorrow", retry_after=86_400.0), range(100))
        clouds = Clouds(ground.lab, ground.clock, fault=fault)
        began = ground.clock.time()
        records = ground.tencent[:1]
        (answer,) = ground.sender(clouds).send(records, ground.verdicts(records))
        assert answer is not None
        assert isinstance(answer.error, Throttled)
        assert answer.code == "RequestLimitExceeded"
        assert ground.clock.time() == began

    @pytest.mark.parametrize("error", [KeyDisabled, RotatedRecently, InvalidCiphertext])
    def test_what_time_does_not_heal_is_not_asked_again(
        self, ground: Ground, error: type[Exception]
    ) -> None:
        clouds = Clouds(ground.lab, ground.clock, fault=at_calls(lambda: error("no"), [1]))
        records = ground.tencent[:2]
        answers = ground.sender(clouds).send(records, ground.verdicts(records))
        assert answers[0] is not None
        assert isinstance(answers[0].error, error)
        ground.check(records[1:], answers[1:])
        assert clouds.calls == {"tencent": {"ReEncrypt": 2}}

    @pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError, OSError])
    def test_a_network_that_fails_once(self, ground: Ground, error: type[Exception]) -> None:
        clouds = Clouds(ground.lab, ground.clock, fault=at_calls(error, [3]))
        records = ground.tencent[:5]
        answers = ground.sender(clouds).send(records, ground.verdicts(records))
        ground.check(records, answers)
        assert clouds.calls == {"tencent": {"ReEncrypt": 10}}

    def test_a_network_that_is_down(self, ground: Ground) -> None:
        """Every row says so; the provider is left alone after a while, the other one is not."""
        clouds = Clouds(ground.lab, ground.clock)
        clouds.tencent.fault = lambda *_: ConnectionRefusedError(111, "Connection refused")
        records = [*ground.tencent, *ground.ctyun]
        sender = ground.sender(clouds, rates={TENCENT: 10})
        answers = sender.send(records, ground.verdicts(records))
        for answer in answers[:COUNT]:
            assert answer is not None
            assert isinstance(answer.error, InternalError)
            assert str(answer.error) == "tencent could not be reached: Connection refused"
            assert answer.code == "InternalError"
        ground.check(ground.ctyun, answers[COUNT:])
        # Eight attempts of the first row, one each of the next two.
        assert sender.calls == {"tencent": 8 + 1 + 1, "ctyun": COUNT}

    def test_a_call_that_is_refused_whole(self, ground: Ground) -> None:
        class Shut(CloudKms):
            def re_encrypt_records(self, *_rows: Any, **_options: Any) -> ReEncrypted:
                raise KeyDisabled("all off")

        clouds = Clouds(ground.lab, ground.clock)
        clouds.tencent = Shut(ground.lab.tencent(), ground.clock)
        records = ground.tencent[:3]
        answers = ground.sender(clouds).send(records, ground.verdicts(records))
        assert [str(a.error) for a in answers if a is not None] == ["all off"] * 3

    def test_what_is_no_answer_comes_through(self, ground: Ground) -> None:
        clouds = Clouds(ground.lab, ground.clock)
        clouds.tencent.spoil = lambda _done: (_ for _ in ()).throw(LabClosed("closed"))
        records = ground.tencent[:1]
        with pytest.raises(LabClosed):
            ground.sender(clouds).send(records, ground.verdicts(records))

    def test_a_crossing_row_is_decrypted_once_however_often_it_is_encrypted(
        self, ground: Ground
    ) -> None:
        clouds = Clouds(ground.lab, ground.clock)
        clouds.ctyun.fault = at_calls(lambda: Throttled("later"), [1, 2, 3])
        target = Target(key_id=ground.archive, provider=CTYUN)
        records = ground.tencent[:3]
        sender = ground.sender(clouds, target)
        answers = sender.send(records, ground.verdicts(records, target))
        ground.check(records, answers, target)
        assert clouds.calls == {"tencent": {"Decrypt": 3}, "ctyun": {"encrypt": 6}}

    def test_what_could_not_be_opened_for_now_is_not_taken_for_another_plaintext(
        self, ground: Ground
    ) -> None:
        patience = Patience(attempts=2)
        for target in (Target(), Target(key_id=ground.archive, provider=CTYUN)):
            clouds = Clouds(ground.lab, ground.clock)
            clouds.kms(target.provider or TENCENT).fault = lambda _n, action, _b: (
                Throttled("busy") if action == "Decrypt" else None
            )
            records = ground.tencent[:1]
            sender = ground.sender(clouds, target, verify=Verify.DECRYPT, patience=patience)
            (answer,) = sender.send(records, ground.verdicts(records, target))
            assert answer is not None
            assert isinstance(answer.error, Throttled)


class TestStop:
    @pytest.mark.parametrize("rate", [100.0, 3000.0])
    @pytest.mark.parametrize("mode", [Verify.ANSWER, Verify.DECRYPT], ids=str)
    @pytest.mark.parametrize("crosses", [False, True])
    @pytest.mark.parametrize("looks", [0, 1, 2, 5, 21])
    def test_what_was_answered_is_kept_and_the_rest_can_be_sent_again(
        self, ground: Ground, rate: float, mode: Verify, crosses: bool, looks: int
    ) -> None:
        left = looks

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        target = Target(key_id=ground.archive, provider=CTYUN) if crosses else Target()
        clouds = Clouds(ground.lab, ground.clock)
        rates = {TENCENT: rate, CTYUN: rate}
        sender = ground.sender(clouds, target, verify=mode, rates=rates, stop=stop)
        records = ground.tencent
        verdicts = ground.verdicts(records, target)
        first = sender.send(records, verdicts)
        assert (None in first) is (left < 0)
        left = 1 << 30
        second = sender.send(records, verdicts)
        ground.check(records, second, target)
        for before, after in zip(first, second, strict=True):
            assert before is None or before is after

    def test_a_provider_that_is_away_does_not_hold_it_up(self, ground: Ground) -> None:
        clouds = Clouds(ground.lab, ground.clock, fault=lambda *_: TimeoutError())
        began = ground.clock.time()
        sender = ground.sender(
            clouds, jitter=lambda: 1.0, stop=lambda: ground.clock.time() > began + 2
        )
        answers = sender.send(ground.tencent, ground.verdicts(ground.tencent))
        assert answers == [None] * COUNT
        assert ground.clock.time() < began + 2.3


def changed(column: str, value: Any) -> Callable[[ReEncrypted], ReEncrypted]:
    """Spoils the second row of an answer."""

    def spoil(done: ReEncrypted) -> ReEncrypted:
        values = [*getattr(done, column)]
        values[1] = value(done) if callable(value) else value
        return replace(done, **{column: values})

    return spoil


CTYUN_BLOB = (
    "MDA2NE1qUXhaV1JsTWpJdE5qSTJNUzAwTmpFM0xUbGpZV1l0TVRCa09EazVPVEExTVRaakpqUTVaV00zTm1RM0xXTmpO"
    "R010TkRBd1pTMDVaakU1TFdZNU1EQXhOVGczWVdVd1pnPT3oCYiGAy7mNTLitIlJaQ92"
)
STRANGE = "00000000-0000-4000-8000-00000000dead"

BAD: dict[str, tuple[Callable[[ReEncrypted], ReEncrypted], str]] = {
    "no blob": (changed("ciphertext_blob", None), "without a blob"),
    "no text": (changed("ciphertext_blob", ""), "without a blob"),
    "cut": (changed("ciphertext_blob", lambda d: d.ciphertext_blob[1][:-4]), "no blob of its own"),
    "of the other provider": (changed("ciphertext_blob", CTYUN_BLOB), "no blob of its own"),
    "flag without change": (changed("re_encrypted", False), "the same, with another"),
    "another key": (changed("key_id", STRANGE), f"key {STRANGE}, not of"),
    "another version": (changed("key_version_id", STRANGE), "names version"),
    "another source": (changed("source_key_id", STRANGE), "another source key"),
    "another source version": (changed("source_key_version_id", STRANGE), "another source key"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_an_answer_that_contradicts_itself_is_an_error(
    ground: Ground, spoil: Callable[[ReEncrypted], ReEncrypted], message: str
) -> None:
    clouds = Clouds(ground.lab, ground.clock)
    clouds.tencent.spoil = spoil
    records = ground.tencent[:3]
    answers = ground.sender(clouds).send(records, ground.verdicts(records))
    ground.check([records[0], records[2]], [answers[0], answers[2]])
    assert answers[1] is not None
    assert isinstance(answers[1].error, BadAnswer)
    assert message in str(answers[1].error)
    assert (answers[1].ciphertext_blob, answers[1].code) == (None, "BadAnswer")


@pytest.mark.parametrize("mode", [Verify.ANSWER, Verify.DECRYPT], ids=str)
@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_it_is_one_behind_good_answers_too(
    ground: Ground, spoil: Callable[[ReEncrypted], ReEncrypted], message: str, mode: Verify
) -> None:
    clouds = Clouds(ground.lab, ground.clock)
    sender = ground.sender(clouds, verify=mode)
    records = ground.tencent[:8]
    verdicts = ground.verdicts(records)
    ground.check(records[:4], sender.send(records[:4], verdicts[:4]))
    clouds.tencent.spoil = spoil
    answers = sender.send(records[4:], verdicts[4:])
    ground.check([records[4], *records[6:]], [answers[0], *answers[2:]])
    assert answers[1] is not None
    assert isinstance(answers[1].error, BadAnswer)
    # What does not open is found out before what contradicts itself.
    assert message in str(answers[1].error) or mode is Verify.DECRYPT


class ByRow(Sender):
    """Looks at row after row: what the quick way is held against."""

    def _send_at_once(self, *_: object) -> None:
        return None


def seen(answer: Answer | None) -> object:
    """All of an answer but what is random in it."""
    if answer is None:
        return None
    blob = answer.ciphertext_blob
    return replace(answer, ciphertext_blob=blob and str(len(blob)), error=None), repr(answer.error)


@given(
    st.lists(st.lists(st.integers(0, 4 * COUNT), max_size=12), max_size=8),
    st.sets(st.integers(0, 60), max_size=6),
    st.sampled_from(MODES),
    st.sampled_from(["stay", "tencent", "ctyun"]),
    st.sampled_from([2, 6, 40]),
    st.sampled_from([None, 30]),
)
def test_the_quick_way_gives_what_the_way_by_rows_gives(
    ground: Ground,
    chunks: list[list[int]],
    wrong: set[int],
    mode: Verify,
    where: str,
    remembered: int,
    looks: int | None,
) -> None:
    everything = [
        *ground.tencent, *ground.ctyun, *ground.contexts, *ground.current, *ground.public_key,
    ]  # fmt: skip
    key_id = {"stay": None, "tencent": ground.other, "ctyun": ground.archive}[where]
    target = Target() if key_id is None else Target(key_id=key_id, provider=where)
    verdicts = ground.verdicts(everything, target)
    found = []
    for kind in (Sender, ByRow):
        asked = iter(range(1 << 30))
        clouds = Clouds(ground.lab, ground.clock, fault=at_calls(lambda: KeyDisabled("off"), wrong))
        sender = kind(
            clouds,
            target,
            verify=mode,
            rates={},
            clock=ground.clock,
            jitter=random.Random(7).random,
            remembered=remembered,
            stop=lambda asked=asked: looks is not None and next(asked) >= looks,
        )
        answers = [
            [seen(a) for a in sender.send([everything[n] for n in c], [verdicts[n] for n in c])]
            for c in chunks
        ]
        found.append((answers, clouds.calls, sender.calls_by_action))
    assert found[0] == found[1]


class TestBadBlobs:
    """A Kms whose answer is consistent, and still not for this record."""

    @staticmethod
    def answered(ground: Ground, blob: str, record: Record, target: Target = STAY) -> str:
        clouds = Clouds(ground.lab, ground.clock)
        nothing = {"key_id": [None], "key_version_id": [None]}
        clouds.tencent.spoil = lambda done: replace(done, ciphertext_blob=[blob], **nothing)
        (answer,) = ground.sender(clouds, target).send([record], ground.verdicts([record]))
        assert answer is not None
        return str(answer.error)

    def test_of_another_key(self, ground: Ground) -> None:
        blob = ground.lab.tencent().encrypt(ground.other, b"t 000")
        assert f"names key {ground.other}" in self.answered(ground, blob, ground.tencent[0])

    def test_on_the_old_version(self, ground: Ground) -> None:
        blob = ground.tencent[1].ciphertext_blob
        assert "on the old version" in self.answered(ground, blob, ground.tencent[0])

    def test_of_another_length(self, ground: Ground) -> None:
        blob = ground.lab.tencent().encrypt(ground.orders, b"a plaintext of two blocks")
        assert "another length" in self.answered(ground, blob, ground.tencent[0])

    def test_too_long_to_be_stored(self, ground: Ground) -> None:
        blob = ground.lab.tencent().encrypt(ground.orders, b"t 000")
        error = self.answered(ground, blob, ground.tencent[0], Target(max_length=20))
        assert f"a blob of {len(blob)} characters, longer than can be stored" in error

    def test_of_another_record(self, ground: Ground) -> None:
        """Two answers change places: nothing but opening them tells."""
        clouds = Clouds(ground.lab, ground.clock)
        clouds.tencent.spoil = lambda done: replace(
            done, ciphertext_blob=done.ciphertext_blob[::-1]
        )
        records = ground.tencent[:2]
        verdicts = ground.verdicts(records)
        for answer in ground.sender(clouds, verify=Verify.DECRYPT).send(records, verdicts):
            assert answer is not None
            assert isinstance(answer.error, BadAnswer)
            assert "does not open to what the old one held" in str(answer.error)
        unopened = ground.sender(clouds, verify=Verify.ANSWER).send(records, verdicts)
        assert all(answer and answer.re_encrypted for answer in unopened)


ERRORS: list[Callable[[], Exception]] = [
    lambda: Throttled("busy", retry_after=0.5),
    lambda: InternalError("broken"),
    lambda: KeyDisabled("off"),
    ConnectionResetError,
]


@given(
    st.lists(st.integers(0, 2 * COUNT - 1), min_size=1, max_size=60),
    st.dictionaries(st.integers(1, 150), st.sampled_from(range(len(ERRORS))), max_size=40),
    st.sampled_from(MODES),
    st.sampled_from([None, 400.0, 5000.0]),
    st.sampled_from(["stay", "tencent", "ctyun"]),
)
def test_whatever_fails_each_record_has_its_own_answer(
    ground: Ground,
    order: list[int],
    wrong: dict[int, int],
    mode: Verify,
    rate: float | None,
    where: str,
) -> None:
    fault: Fault = lambda number, _action, _blob: (  # noqa: E731
        ERRORS[wrong[number]]() if number in wrong else None
    )
    everything = [*ground.tencent, *ground.ctyun]
    records = [everything[n] for n in order]
    key_id = {"stay": None, "tencent": ground.other, "ctyun": ground.archive}[where]
    target = Target() if key_id is None else Target(key_id=key_id, provider=where)
    clouds = Clouds(ground.lab, ground.clock, fault=fault)
    verdicts = ground.verdicts(records, target)
    rates = {} if rate is None else {TENCENT: rate, CTYUN: rate}
    sender = ground.sender(clouds, target, verify=mode, rates=rates)
    answers = sender.send(records, verdicts)
    assert len(answers) == len(records)
    good = []
    for row, answer in enumerate(answers):
        assert answer is not None
        if answer.error is None:
            good.append(row)
        else:
            assert answer.ciphertext_blob is None
            assert isinstance(answer.error, KeyDisabled | Throttled | InternalError)
            assert answer.code
    ground.check([records[row] for row in good], [answers[row] for row in good], target)
    assert sender.calls_by_action == clouds.calls
