"""Every record gets the one outcome that the rules say."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from fake_kms import (
    FakeKms,
    FakeProviders,
    ctyun_blob,
    lab,
    make_key,
    remote,
    tencent_blob,
    uuid,
    version_id,
    without_material,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from kmslab.analysis import DROP, Classifier, Outcome, Target, Verdict, classify
from kmslab.errors import ContextError, Throttled
from kmslab.model import CTYUN, TENCENT, KeySpec, KeyState, Record
from kmslab.providers.base import KEEP
from kmslab.providers.ctyun.blob import blob_length
from kmslab.providers.tencent.blob import blob_length as tencent_length

# Blobs of the clouds' own documentation.
CLOUD_WITH_CONTEXT = (
    "g2F8eQk44QrTbfj09TL17AZyFPgs8BTtZe2j27Wuw1YzTBCxnd0T/gwFQSasmtzxZi6mmvD7DCjCE+LxJmdhXQ==-k-"
    "zJshb0kBH7C2J5I3XXbbEg==-k-o1O+7H9HFAzWbCkftO2ZtPKewS3diSB4zGKOJhMn7LcKRhYr"
)
CLOUD_WITHOUT_CONTEXT = (
    "KoFmB5Ro70M6wfNJe1xlzriwwyn4Ypj6cjXNUbhbEE7+cAtl4ym/EIj3aAzK0Sa6GKgPzyor+zC7bUhRyB5eeQ==-k-"
    "fKVP3WIlGpg8m9LMW4jEkQ==-k-yMhT0yaoSueIApZePMxwBZ0y6EjfaKdxvvPhk9LT1ldmhb+Z"
)
CLOUD_CTYUN = (
    "MDA2NE1qUXhaV1JsTWpJdE5qSTJNUzAwTmpFM0xUbGpZV1l0TVRCa09EazVPVEExTVRaakpqUTVaV00zTm1RM0xXTmpO"
    "R010TkRBd1pTMDVaakU1TFdZNU1EQXhOVGczWVdVd1pnPT3oCYiGAy7mNTLitIlJaQ92"
)
CLOUD_CTYUN_KEY = "241ede22-6261-4617-9caf-10d89990516c"

# Keys of the table: 1 and 2 are Tencent's, 11 to 13 CTyun's; 13 is a pair.
ORDERS = make_key(1, versions=3)
OTHER = make_key(2)
C_ORDERS = make_key(11, CTYUN, versions=2)
C_OTHER = make_key(12, CTYUN)
PAIR = make_key(13, CTYUN, versions=2, spec=KeySpec.RSA_2048)
KEYS = (ORDERS, OTHER, C_ORDERS, C_OTHER, PAIR)

CONTEXT = '{"tenant": "租户"}'
PUBLIC_KEY_BLOB = base64.b64encode(b"\x80" + bytes(255)).decode()


def tencent(blob: str, **known: Any) -> Record:
    return Record("order-1", TENCENT, blob, **known)


def ctyun(blob: str, **known: Any) -> Record:
    return Record("order-1", CTYUN, blob, **known)


def public_key(**changed: Any) -> Record:
    complete = {
        "source_key_id": uuid(13),
        "source_key_version_id": version_id(13, 1),
        "source_encryption_algorithm": "RSAES_OAEP_SHA_256",
    }
    return ctyun(PUBLIC_KEY_BLOB, **{**complete, **changed})


CUT = ctyun_blob(11, plaintext=b"")[:-4]
TO_OTHER = Target(key_id=uuid(2))
TO_C_OTHER = Target(key_id=uuid(12))

LAB_CASES: dict[str, tuple[Record, Target, Outcome, str]] = {
    # the version decides
    "old version": (tencent(tencent_blob(1, 2)), Target(), Outcome.STALE, ""),
    "primary": (tencent(tencent_blob(1, 3)), Target(), Outcome.CURRENT, ""),
    "ctyun old": (ctyun(ctyun_blob(11, 1)), Target(), Outcome.STALE, ""),
    "ctyun primary": (ctyun(ctyun_blob(11, 2)), Target(), Outcome.CURRENT, ""),
    "no such key": (tencent(tencent_blob(9)), Target(), Outcome.BLOCKED, "key missing"),
    "no such version": (
        tencent(tencent_blob(1, 9)),
        Target(),
        Outcome.BLOCKED,
        "key version missing",
    ),
    # blobs and records that are not well-formed
    "other cloud's name": (
        Record("1", "aws", tencent_blob(1)),
        Target(),
        Outcome.INVALID,
        "provider 'aws' is neither tencent nor ctyun",
    ),
    "no blob": (tencent(""), Target(), Outcome.INVALID, "there is no blob"),
    "cut": (ctyun(CUT), Target(), Outcome.INVALID, "a lab's body of 31 bytes is cut"),
    "blob of the other": (
        ctyun(tencent_blob(1)),
        Target(),
        Outcome.INVALID,
        "the blob is not canonical base64",
    ),
    "bad context": (
        tencent(tencent_blob(1), context="tenant=7"),
        Target(),
        Outcome.INVALID,
        "the encryption context is not JSON",
    ),
    "bad context, no matter": (
        ctyun(ctyun_blob(11, 2), context="[]"),
        Target(),
        Outcome.INVALID,
        "the encryption context is not a JSON object",
    ),
    # a cloud's own
    "cloud's": (tencent(CLOUD_WITHOUT_CONTEXT), Target(), Outcome.FOREIGN, ""),
    "cloud's, with context": (tencent(CLOUD_WITH_CONTEXT), Target(), Outcome.FOREIGN, ""),
    "ctyun's": (ctyun(CLOUD_CTYUN), Target(), Outcome.FOREIGN, ""),
    # to another key
    "stale, moves": (tencent(tencent_blob(1, 1)), TO_OTHER, Outcome.MOVE, ""),
    "current, moves": (tencent(tencent_blob(1, 3)), TO_OTHER, Outcome.MOVE, ""),
    "there already": (tencent(tencent_blob(2)), TO_OTHER, Outcome.CURRENT, ""),
    "there, stale": (
        tencent(tencent_blob(1, 1)),
        Target(key_id=uuid(1)),
        Outcome.STALE,
        "",
    ),
    "key of the other provider": (
        tencent(tencent_blob(1)),
        TO_C_OTHER,
        Outcome.BLOCKED,
        "destination at another provider",
    ),
    "no such destination": (
        tencent(tencent_blob(1)),
        Target(key_id=uuid(9)),
        Outcome.BLOCKED,
        "destination missing",
    ),
    "pair as destination": (
        ctyun(ctyun_blob(11)),
        Target(key_id=uuid(13)),
        Outcome.BLOCKED,
        "destination not symmetric",
    ),
    # contexts
    "keeps its context": (
        tencent(tencent_blob(1, 1), context=CONTEXT),
        Target(context=KEEP),
        Outcome.STALE,
        "",
    ),
    "same context": (
        tencent(tencent_blob(1, 3), context=CONTEXT),
        Target(context=CONTEXT),
        Outcome.CURRENT,
        "",
    ),
    "other spelling": (
        tencent(tencent_blob(1, 3), context=CONTEXT),
        Target(context={"tenant": "租户"}),
        Outcome.MOVE,
        "",
    ),
    "new context": (tencent(tencent_blob(1, 3)), Target(context=CONTEXT), Outcome.MOVE, ""),
    "new context, stale": (tencent(tencent_blob(1)), Target(context=CONTEXT), Outcome.STALE, ""),
    "lost": (
        tencent(tencent_blob(1, 3), context=CONTEXT),
        Target(context=None),
        Outcome.BLOCKED,
        "context would be lost",
    ),
    "lost, by an empty object": (
        tencent(tencent_blob(1, 1), context=CONTEXT),
        Target(key_id=uuid(2), context="{}"),
        Outcome.BLOCKED,
        "context would be lost",
    ),
    "nothing to lose": (
        tencent(tencent_blob(1, 3), context="{}"),
        Target(context=None),
        Outcome.CURRENT,
        "",
    ),
    "dropped by name": (
        tencent(tencent_blob(1, 3), context=CONTEXT),
        Target(context=DROP),
        Outcome.MOVE,
        "",
    ),
    "nothing to drop": (tencent(tencent_blob(1, 3)), Target(context=DROP), Outcome.CURRENT, ""),
    "ctyun has none": (
        ctyun(ctyun_blob(11, 1), context=CONTEXT),
        Target(context=None),
        Outcome.STALE,
        "",
    ),
    "ctyun takes none": (
        ctyun(ctyun_blob(11, 1)),
        Target(context=CONTEXT),
        Outcome.BLOCKED,
        "provider has no contexts",
    ),
    # public-key ciphertext
    "complete": (public_key(), TO_C_OTHER, Outcome.MOVE, ""),
    "stays nowhere": (public_key(), Target(), Outcome.BLOCKED, "no symmetric destination"),
    "incomplete": (
        public_key(source_key_id=None, source_encryption_algorithm=None),
        TO_C_OTHER,
        Outcome.NEEDS_PUBLIC_KEY_INFO,
        "no source_key_id, source_encryption_algorithm",
    ),
    "unknown algorithm": (
        public_key(source_encryption_algorithm="SM2PKE"),
        TO_C_OTHER,
        Outcome.INVALID,
        "source_encryption_algorithm is none that is known",
    ),
    "no such pair": (
        public_key(source_key_id=uuid(9)),
        TO_C_OTHER,
        Outcome.BLOCKED,
        "key missing",
    ),
    "no such pair version": (
        public_key(source_key_version_id=uuid(9)),
        TO_C_OTHER,
        Outcome.BLOCKED,
        "key version missing",
    ),
    "not of a pair": (
        public_key(source_key_id=uuid(11), source_key_version_id=version_id(11, 1)),
        TO_C_OTHER,
        Outcome.INVALID,
        "the key is not of this kind",
    ),
    "to a pair": (
        public_key(),
        Target(key_id=uuid(13)),
        Outcome.BLOCKED,
        "destination not symmetric",
    ),
    "to tencent": (
        public_key(),
        TO_OTHER,
        Outcome.BLOCKED,
        "destination at another provider",
    ),
    # source columns of a symmetric blob
    "agree": (
        ctyun(
            ctyun_blob(11, 1),
            source_key_id=uuid(11),
            source_key_version_id=version_id(11, 1),
        ),
        Target(),
        Outcome.STALE,
        "",
    ),
    "algorithm": (
        ctyun(ctyun_blob(11, 1), source_encryption_algorithm="RSAES_OAEP_SHA_1"),
        Target(),
        Outcome.INVALID,
        "source_encryption_algorithm is for public-key ciphertext",
    ),
    "other key": (
        ctyun(ctyun_blob(11, 1), source_key_id=uuid(12)),
        Target(),
        Outcome.INVALID,
        "source_key_id is not the blob's",
    ),
    "other version": (
        ctyun(ctyun_blob(11, 1), source_key_version_id=version_id(11, 2)),
        Target(),
        Outcome.INVALID,
        "source_key_version_id is not the blob's",
    ),
    "mean nothing at tencent": (
        tencent(tencent_blob(1, 1), source_key_id=uuid(2)),
        Target(),
        Outcome.STALE,
        "",
    ),
    "symmetric blob of a pair": (
        ctyun(ctyun_blob(13, 1)),
        TO_C_OTHER,
        Outcome.INVALID,
        "the key is not of this kind",
    ),
}


@pytest.mark.parametrize(
    ("record", "target", "outcome", "reason"), LAB_CASES.values(), ids=LAB_CASES.keys()
)
def test_on_a_lab(record: Record, target: Target, outcome: Outcome, reason: str) -> None:
    verdict = classify(record, lab(*KEYS), target)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


REMOTE_CASES: dict[str, tuple[Record, Target, Outcome, str]] = {
    "key unknown": (tencent(CLOUD_WITHOUT_CONTEXT), Target(), Outcome.MAY_CHANGE, ""),
    "key unknown, moves": (tencent(CLOUD_WITHOUT_CONTEXT), TO_OTHER, Outcome.MAY_CHANGE, ""),
    "context missing": (tencent(CLOUD_WITH_CONTEXT), Target(), Outcome.NEEDS_CONTEXT, ""),
    "context there": (
        tencent(CLOUD_WITH_CONTEXT, context=CONTEXT),
        Target(),
        Outcome.MAY_CHANGE,
        "",
    ),
    "context replaced": (
        tencent(CLOUD_WITH_CONTEXT, context=CONTEXT),
        Target(context='{"a":"b"}'),
        Outcome.MOVE,
        "",
    ),
    "context lost": (
        tencent(CLOUD_WITH_CONTEXT, context=CONTEXT),
        Target(context=""),
        Outcome.BLOCKED,
        "context would be lost",
    ),
    "bad destination": (
        tencent(CLOUD_WITHOUT_CONTEXT),
        Target(key_id=uuid(9)),
        Outcome.BLOCKED,
        "destination missing",
    ),
    "key readable": (ctyun(CLOUD_CTYUN), Target(), Outcome.MAY_CHANGE, ""),
    "key readable, moves": (ctyun(CLOUD_CTYUN), TO_C_OTHER, Outcome.MOVE, ""),
    "public key": (public_key(), TO_C_OTHER, Outcome.MOVE, ""),
}


@pytest.mark.parametrize(
    ("record", "target", "outcome", "reason"), REMOTE_CASES.values(), ids=REMOTE_CASES.keys()
)
def test_on_a_remote(record: Record, target: Target, outcome: Outcome, reason: str) -> None:
    cloud_key = replace(make_key(11, CTYUN), key_id=CLOUD_CTYUN_KEY, primary_version_id=None)
    verdict = classify(record, remote(*KEYS, cloud_key), target)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_cloud_blob_of_a_key_that_the_remote_does_not_have_is_foreign() -> None:
    assert classify(ctyun(CLOUD_CTYUN), remote(*KEYS)).outcome is Outcome.FOREIGN


ACROSS_T = Target(key_id=uuid(2), provider=TENCENT)
ACROSS_C = Target(key_id=uuid(12), provider=CTYUN)

CROSSING_CASES: dict[str, tuple[Record, Target, Outcome, str]] = {
    "stale": (tencent(tencent_blob(1, 1)), ACROSS_C, Outcome.MOVE, ""),
    "current": (tencent(tencent_blob(1, 3)), ACROSS_C, Outcome.MOVE, ""),
    "there, moves": (ctyun(ctyun_blob(11)), ACROSS_C, Outcome.MOVE, ""),
    "there already": (ctyun(ctyun_blob(12)), ACROSS_C, Outcome.CURRENT, ""),
    "back": (ctyun(ctyun_blob(11, 2)), ACROSS_T, Outcome.MOVE, ""),
    "public key": (public_key(), ACROSS_T, Outcome.MOVE, ""),
    "public key, with a context": (public_key(context=CONTEXT), ACROSS_T, Outcome.MOVE, ""),
    # the source is looked at first
    "cut": (ctyun(CUT), ACROSS_T, Outcome.INVALID, "a lab's body of 31 bytes is cut"),
    "no such version": (
        tencent(tencent_blob(1, 9)),
        ACROSS_C,
        Outcome.BLOCKED,
        "key version missing",
    ),
    "cloud's": (tencent(CLOUD_WITHOUT_CONTEXT), ACROSS_C, Outcome.FOREIGN, ""),
    "ctyun's": (ctyun(CLOUD_CTYUN), ACROSS_T, Outcome.FOREIGN, ""),
    "incomplete": (
        public_key(source_key_version_id=None),
        ACROSS_T,
        Outcome.NEEDS_PUBLIC_KEY_INFO,
        "no source_key_version_id",
    ),
    "source columns": (
        ctyun(ctyun_blob(11), source_key_id=uuid(12)),
        ACROSS_T,
        Outcome.INVALID,
        "source_key_id is not the blob's",
    ),
    # then the destination
    "missing": (
        tencent(tencent_blob(1)),
        Target(key_id=uuid(9), provider=CTYUN),
        Outcome.BLOCKED,
        "destination missing",
    ),
    "named at the wrong one": (
        tencent(tencent_blob(1)),
        Target(key_id=uuid(2), provider=CTYUN),
        Outcome.BLOCKED,
        "destination at another provider",
    ),
    "not symmetric": (
        tencent(tencent_blob(1)),
        Target(key_id=uuid(13), provider=CTYUN),
        Outcome.BLOCKED,
        "destination not symmetric",
    ),
    "its own key, said to be elsewhere": (
        tencent(tencent_blob(1)),
        Target(key_id=uuid(1), provider=CTYUN),
        Outcome.BLOCKED,
        "destination at another provider",
    ),
    # then the context
    "would be lost": (
        tencent(tencent_blob(1), context=CONTEXT),
        ACROSS_C,
        Outcome.BLOCKED,
        "context would be lost",
    ),
    "not lost by None": (
        tencent(tencent_blob(1), context=CONTEXT),
        replace(ACROSS_C, context=None),
        Outcome.BLOCKED,
        "context would be lost",
    ),
    "dropped by name": (
        tencent(tencent_blob(1), context=CONTEXT),
        replace(ACROSS_C, context=DROP),
        Outcome.MOVE,
        "",
    ),
    "nothing to lose": (tencent(tencent_blob(1), context="{}"), ACROSS_C, Outcome.MOVE, ""),
    "nothing to lose, None": (
        tencent(tencent_blob(1)),
        replace(ACROSS_C, context=None),
        Outcome.MOVE,
        "",
    ),
    "ctyun takes none": (
        tencent(tencent_blob(1)),
        replace(ACROSS_C, context=CONTEXT),
        Outcome.BLOCKED,
        "provider has no contexts",
    ),
    "taken along": (ctyun(ctyun_blob(11), context=CONTEXT), ACROSS_T, Outcome.MOVE, ""),
    "tencent takes one": (
        ctyun(ctyun_blob(11)),
        replace(ACROSS_T, context=CONTEXT),
        Outcome.MOVE,
        "",
    ),
    "a context column of ctyun's": (
        ctyun(ctyun_blob(11), context=CONTEXT),
        replace(ACROSS_T, context=""),
        Outcome.BLOCKED,
        "context would be lost",
    ),
    "dropped on the way": (
        ctyun(ctyun_blob(11), context=CONTEXT),
        replace(ACROSS_T, context=DROP),
        Outcome.MOVE,
        "",
    ),
}


@pytest.mark.parametrize(
    ("record", "target", "outcome", "reason"), CROSSING_CASES.values(), ids=CROSSING_CASES.keys()
)
def test_to_the_other_provider(
    record: Record, target: Target, outcome: Outcome, reason: str
) -> None:
    verdict = classify(record, lab(*KEYS), target)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    sent = (target.key_id, target.provider) if outcome.sent else (None, None)
    assert (verdict.destination_key_id, verdict.destination_provider) == sent


@pytest.mark.parametrize("case", LAB_CASES)
def test_a_named_provider_changes_nothing_for_its_own_records(case: str) -> None:
    record, target, _, _ = LAB_CASES[case]
    if target.key_id is None or record.provider not in (TENCENT, CTYUN):
        return
    named = replace(target, provider=record.provider)
    assert classify(record, lab(*KEYS), named) == classify(record, lab(*KEYS), target)


def test_what_a_remote_does_not_tell_does_not_hold_up_what_crosses() -> None:
    cloud_key = replace(make_key(11, CTYUN), key_id=CLOUD_CTYUN_KEY, primary_version_id=None)
    for record, target in (
        (tencent(CLOUD_WITHOUT_CONTEXT), ACROSS_C),
        (ctyun(CLOUD_CTYUN), ACROSS_T),
    ):
        assert classify(record, remote(*KEYS, cloud_key), target).outcome is Outcome.MOVE


@pytest.mark.parametrize("state", [KeyState.ARCHIVED, KeyState.DISABLED])
def test_the_state_of_what_crosses_and_of_where_to(state: KeyState) -> None:
    providers = lab(replace(ORDERS, state=state), C_OTHER)
    decrypts = state is KeyState.ARCHIVED
    found = classify(tencent(tencent_blob(1)), providers, ACROSS_C)
    assert found.reason == ("" if decrypts else f"key {state}")
    providers = lab(ORDERS, replace(C_OTHER, state=state))
    found = classify(tencent(tencent_blob(1)), providers, ACROSS_C)
    assert (found.outcome, found.reason) == (Outcome.BLOCKED, f"destination {state}")


def test_a_destination_without_a_kms_blocks() -> None:
    providers = FakeProviders(FakeKms(TENCENT, KEYS))
    verdict = classify(tencent(tencent_blob(1)), providers, ACROSS_C)
    assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, "no Kms of the destination")


@pytest.mark.parametrize(
    ("target", "match"),
    [({"provider": CTYUN}, "give key_id"), ({"provider": "aws", "key_id": uuid(1)}, "'aws'")],
)
def test_the_provider_of_a_target(target: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Target(**target)


# What a key's state means for a blob on an old version, on the primary one, and to another key.
STATES = [
    (KeyState.ENABLED, (Outcome.STALE, ""), (Outcome.CURRENT, ""), (Outcome.MOVE, "")),
    (
        KeyState.ARCHIVED,
        (Outcome.BLOCKED, "key archived"),
        (Outcome.CURRENT, ""),
        (Outcome.MOVE, ""),
    ),
    *(
        (state, *[(Outcome.BLOCKED, f"key {state}")] * 3)
        for state in (
            KeyState.DISABLED,
            KeyState.PENDING_DELETION,
            KeyState.PENDING_IMPORT,
            KeyState.DELETED,
        )
    ),
]


@pytest.mark.parametrize(("state", "old", "primary", "moved"), STATES)
def test_the_state_of_the_source_key(
    state: KeyState,
    old: tuple[Outcome, str],
    primary: tuple[Outcome, str],
    moved: tuple[Outcome, str],
) -> None:
    providers = lab(make_key(1, versions=2, state=state), OTHER)
    cases = [(1, Target(), old), (2, Target(), primary), (2, TO_OTHER, moved)]
    for version, target, expected in cases:
        verdict = classify(tencent(tencent_blob(1, version)), providers, target)
        assert (verdict.outcome, verdict.reason) == expected


def test_an_archived_key_does_not_encrypt_under_another_context_either() -> None:
    providers = lab(make_key(1, state=KeyState.ARCHIVED))
    verdict = classify(tencent(tencent_blob(1)), providers, Target(context=CONTEXT))
    assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, "key archived")


@pytest.mark.parametrize("state", [state for state in KeyState if state is not KeyState.ENABLED])
def test_the_state_of_the_destination(state: KeyState) -> None:
    providers = lab(ORDERS, make_key(2, state=state))
    verdict = classify(tencent(tencent_blob(1)), providers, TO_OTHER)
    assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, f"destination {state}")


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.PENDING_DELETION])
def test_the_state_of_a_pair(state: KeyState) -> None:
    providers = lab(replace(PAIR, state=state), C_OTHER)
    verdict = classify(public_key(), providers, TO_C_OTHER)
    assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, f"key {state}")


def test_a_version_without_material_opens_nothing() -> None:
    verdict = classify(tencent(tencent_blob(1, 2)), lab(without_material(ORDERS, 2)))
    assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, "key version without material")


def test_a_provider_without_a_kms_blocks() -> None:
    providers = FakeProviders(FakeKms(TENCENT, KEYS))
    verdict = classify(ctyun(ctyun_blob(11)), providers)
    assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, "no Kms of this provider")


class TestLength:
    def test_a_symmetric_blob_keeps_its_length(self) -> None:
        blob = ctyun_blob(11, 1, b"x" * 100)
        exact, short = Target(max_length=len(blob)), Target(max_length=len(blob) - 1)
        assert classify(ctyun(blob), lab(*KEYS), exact).outcome is Outcome.STALE
        verdict = classify(ctyun(blob), lab(*KEYS), short)
        assert (verdict.outcome, verdict.reason) == (Outcome.BLOCKED, "too long")

    def test_a_current_blob_may_be_as_long_as_it_is(self) -> None:
        verdict = classify(tencent(tencent_blob(1, 3)), lab(*KEYS), Target(max_length=1))
        assert verdict.outcome is Outcome.CURRENT

    @pytest.mark.parametrize(
        ("algorithm", "most"), [("RSAES_OAEP_SHA_1", 214), ("RSAES_OAEP_SHA_256", 190)]
    )
    def test_public_key_ciphertext_counts_as_long_as_it_can_be(
        self, algorithm: str, most: int
    ) -> None:
        record = public_key(source_encryption_algorithm=algorithm)
        fits = replace(TO_C_OTHER, max_length=blob_length(most))
        assert classify(record, lab(*KEYS), fits).outcome is Outcome.MOVE
        short = replace(TO_C_OTHER, max_length=blob_length(most) - 1)
        assert classify(record, lab(*KEYS), short).reason == "too long"


class TestLengthElsewhere:
    @staticmethod
    def fits(record: Record, target: Target, length: int) -> bool:
        """Whether a new blob of `length` characters is the longest one thought possible."""
        found = [
            classify(record, lab(*KEYS), replace(target, max_length=length - less)).reason
            for less in (0, 1)
        ]
        return found == ["", "too long"]

    @pytest.mark.parametrize("size", [1, 15, 16, 17, 300])
    def test_from_ctyun_it_is_exact(self, size: int) -> None:
        record = ctyun(ctyun_blob(11, plaintext=b"x" * size))
        assert self.fits(record, ACROSS_T, tencent_length(size))

    @pytest.mark.parametrize(("size", "most"), [(1, 15), (15, 15), (16, 31), (300, 303)])
    def test_from_tencent_the_longest_plaintext_counts(self, size: int, most: int) -> None:
        record = tencent(tencent_blob(1, plaintext=b"x" * size))
        assert self.fits(record, ACROSS_C, blob_length(most))

    def test_of_public_key_ciphertext_too(self) -> None:
        assert self.fits(public_key(), ACROSS_T, tencent_length(190))

    def test_of_a_cloud_blob_too(self) -> None:
        cloud_key = replace(make_key(11, CTYUN), key_id=CLOUD_CTYUN_KEY)
        providers = remote(*KEYS, cloud_key)
        for record, target, length in (
            (tencent(CLOUD_WITHOUT_CONTEXT), ACROSS_C, blob_length(15)),
            (ctyun(CLOUD_CTYUN), ACROSS_T, tencent_length(15)),
        ):
            fits, short = (replace(target, max_length=length - less) for less in (0, 1))
            assert classify(record, providers, fits).outcome is Outcome.MOVE
            assert classify(record, providers, short).reason == "too long"

    def test_a_plaintext_that_the_other_does_not_take(self) -> None:
        for size, reason in ((4096, ""), (4097, "too long for the destination")):
            record = ctyun(ctyun_blob(11, plaintext=bytes(size)))
            assert classify(record, lab(*KEYS), ACROSS_T).reason == reason
            assert classify(record, lab(*KEYS), ACROSS_C).outcome is Outcome.MOVE

    def test_blobs_of_many_lengths_in_one_classifier(self) -> None:
        classifier = Classifier(lab(*KEYS), replace(ACROSS_T, max_length=tencent_length(40)))
        for size in (1, 40, 47, 48, 40, 1, 300):
            verdict = classifier.classify(ctyun(ctyun_blob(11, plaintext=bytes(size))))
            assert verdict.reason == ("" if size < 48 else "too long")


class TestVerdict:
    def test_it_names_version_and_destination(self) -> None:
        verdict = classify(tencent(tencent_blob(1, 2)), lab(*KEYS))
        assert verdict == Verdict(
            Outcome.STALE,
            "",
            uuid(1),
            version_id(1, 2),
            2,
            False,
            uuid(1),
            TENCENT,
            unverified=True,
        )
        moved = classify(tencent(tencent_blob(1, 3)), lab(*KEYS), TO_OTHER)
        assert (moved.is_primary, moved.destination_key_id) == (True, uuid(2))

    def test_it_has_no_destination_where_no_blob_is_made(self) -> None:
        verdict = classify(tencent(tencent_blob(1, 3)), lab(*KEYS), Target(key_id=uuid(1)))
        assert verdict.destination_key_id is None

    def test_a_pair_has_no_primary(self) -> None:
        verdict = classify(public_key(), lab(*KEYS), TO_C_OTHER)
        assert (verdict.key_id, verdict.version_number, verdict.is_primary) == (uuid(13), 1, None)

    def test_a_bad_context_does_not_hide_the_version(self) -> None:
        verdict = classify(tencent(tencent_blob(1, 2), context="x"), lab(*KEYS))
        assert (verdict.outcome, verdict.key_id, verdict.version_number) == (
            Outcome.INVALID,
            uuid(1),
            2,
        )

    def test_a_missing_key_is_still_named(self) -> None:
        verdict = classify(tencent(tencent_blob(9, 1)), lab(*KEYS))
        assert (verdict.key_id, verdict.version_number, verdict.is_primary) == (
            uuid(9),
            None,
            None,
        )


class TestClassifier:
    def test_it_asks_once_for_each_version(self) -> None:
        kms = FakeKms(TENCENT, KEYS)
        classifier = Classifier(FakeProviders(kms))
        for number in range(100):
            for version in (1, 2, 3):
                record = tencent(tencent_blob(1, version, iv=number), context=f'{{"n":"{number}"}}')
                assert classifier.classify(record).version_number == version
        assert kms.asked == {"describe_key": 1 + 3, "version_of": 3}  # the fake's own look-ups

    def test_it_parses_every_blob_of_a_known_version(self) -> None:
        classifier = Classifier(lab(*KEYS))
        for blob, record in ((tencent_blob(1), tencent), (ctyun_blob(11, plaintext=b""), ctyun)):
            assert classifier.classify(record(blob)).outcome is Outcome.STALE
            for bad in (blob[:-4], blob[:-1], blob + "A", blob + "\n", blob + "é", blob[:144]):
                assert classifier.classify(record(bad)).outcome is Outcome.INVALID

    def test_a_known_head_is_not_believed_of_another_provider(self) -> None:
        classifier = Classifier(lab(*KEYS))
        assert classifier.classify(tencent(tencent_blob(1))).outcome is Outcome.STALE
        assert classifier.classify(ctyun(tencent_blob(1))).outcome is Outcome.INVALID

    def test_the_target_context_must_be_one(self) -> None:
        with pytest.raises(ContextError):
            Classifier(lab(), Target(context="tenant=7"))

    def test_what_the_kms_raises_comes_through(self) -> None:
        class Busy(FakeKms):
            def describe_key(self, key_id: str) -> Any:
                raise Throttled("later", retry_after=1.0)

        with pytest.raises(Throttled):
            classify(tencent(tencent_blob(1)), FakeProviders(Busy(TENCENT, KEYS)))

    @settings(deadline=None)
    @given(
        st.sampled_from([TENCENT, CTYUN, "aws", ""]),
        st.one_of(
            st.text(max_size=400),
            st.binary(max_size=300).map(lambda data: base64.b64encode(data).decode()),
            st.sampled_from([tencent_blob(1), ctyun_blob(11), CLOUD_CTYUN, PUBLIC_KEY_BLOB]),
        ),
        st.none() | st.text(max_size=20) | st.just(CONTEXT),
        st.none() | st.text(max_size=40) | st.just(uuid(13)),
    )
    def test_whatever_it_is_given_it_judges(
        self, provider: str, blob: str, context: str | None, source: str | None
    ) -> None:
        record = Record("1", provider, blob, context=context, source_key_id=source)
        verdict = classify(record, lab(*KEYS), TO_C_OTHER)
        assert verdict.outcome in Outcome
        assert verdict.reason or verdict.outcome not in (Outcome.INVALID, Outcome.BLOCKED)

    @given(
        st.lists(
            st.lists(
                st.builds(
                    Record,
                    st.just("1"),
                    st.sampled_from([TENCENT] * 6 + [CTYUN] * 2 + ["aws"]),
                    st.sampled_from(
                        [
                            *(
                                tencent_blob(1, version, iv=iv)
                                for version in (1, 3)
                                for iv in (7, 8)
                            ),
                            tencent_blob(1, plaintext=b"a plaintext of two blocks"),
                            tencent_blob(2),
                            tencent_blob(1)[:-4],
                            tencent_blob(1)[:-1] + "!",
                            tencent_blob(1)[:91],
                            *(ctyun_blob(11, version) for version in (1, 2)),
                            ctyun_blob(11)[:-4],
                            ctyun_blob(11)[:144],
                            CLOUD_WITH_CONTEXT,
                            CLOUD_CTYUN,
                            PUBLIC_KEY_BLOB,
                            "",
                        ]
                    ),
                    context=st.sampled_from([None] * 4 + ["", CONTEXT, "no JSON"]),
                    source_key_id=st.sampled_from([None] * 9 + [uuid(1)]),
                ),
                max_size=8,
            ),
            max_size=5,
        ),
        st.sampled_from([Target(), TO_C_OTHER, Target(max_length=180)]),
    )
    def test_many_at_once_are_judged_as_one_by_one(
        self, chunks: list[list[Record]], target: Target
    ) -> None:
        """Also where some of them are of one provider, and alike."""
        many = Classifier(lab(*KEYS), target)
        for chunk in [*chunks, *([r for r in c if r.provider == TENCENT] for c in chunks)]:
            one = Classifier(lab(*KEYS), target)
            assert many.classify_many(chunk) == [one.classify(record) for record in chunk]
