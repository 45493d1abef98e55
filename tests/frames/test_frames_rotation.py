"""What an inventory tells of rotation, against what plain Python counts."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pandas as pd
import pytest
from frame_data import START, World, cloud_blob

import kmslab.frames as frames
from kmslab.analysis import census as plain_census
from kmslab.analysis import rotation
from kmslab.demo import DEMO_TIME, make_lab, sample_path
from kmslab.errors import FrameError
from kmslab.model import Key, UnverifiedHeader
from kmslab.providers.base import UNKNOWN, Unknown
from kmslab.records import read_csv


def rows_of(frame: pd.DataFrame, *names: str) -> list[tuple[object, ...]]:
    chosen = frame[list(names)] if names else frame
    return [
        tuple(None if pd.isna(cell) else cell for cell in row)
        for row in chosen.itertuples(index=False)
    ]


def test_the_census_is_that_of_the_command_line(tmp_path) -> None:
    """On the sample data, with everything in them that real life has."""
    path = sample_path("records.csv")
    with make_lab(tmp_path / "lab") as lab:
        expected = [
            (r.provider, r.key_id, r.key_version_id, r.version_number, r.is_primary, r.records)
            for r in plain_census(read_csv(path), lab)
        ]
        frame = frames.read(path)
        assert rows_of(frame.kms.inspect(lab, now=DEMO_TIME).kms.census()) == expected
        # From heads alone: only what is broken behind its head is counted with the others.
        quick = frame.kms.census(lab)
    assert quick["records"].sum() == len(frame)
    known = {row[:5] for row in expected if row[2] is not None}
    assert known <= {row[:5] for row in rows_of(quick)}
    more = quick["records"].sum() - quick["records"][quick["key_id"].isna()].sum()
    assert 0 < more - sum(row[5] for row in expected if row[1] is not None) < 15


def test_the_census_from_heads_is_that_of_an_inventory(shared_world: World) -> None:
    frame = shared_world.frame()
    inventory = frame.kms.inspect(shared_world.lab)
    pd.testing.assert_frame_equal(frame.kms.census(shared_world.lab), inventory.kms.census())
    nobody = frame.kms.census()
    assert nobody["version_number"].isna().all()
    assert nobody["records"].sum() == len(frame)


def test_public_key_ciphertext_is_counted_once(shared_world: World) -> None:
    """In the census from heads as in that of an inventory, whatever its record says."""
    claims = pd.DataFrame({"provider": ["ctyun", None, "tencent"]})
    ids = pd.DataFrame({"source_key_id": ["", "k", None], "source_key_version_id": [None, "", "v"]})
    for said in (claims, ids, claims.join(ids)):
        frame = said.assign(ciphertext_blob="A" * 342 + "==")
        quick = frame.kms.census(shared_world.lab)
        pd.testing.assert_frame_equal(quick, frame.kms.inspect(shared_world.lab).kms.census())
        assert quick["records"].sum() == 3
        assert "" not in set(quick["key_id"]) | set(quick["key_version_id"])


def test_stale_records_the_most_stale_first(shared_world: World) -> None:
    now = shared_world.clock.now()
    stale = shared_world.frame().kms.inspect(shared_world.lab, now=now).kms.stale()
    assert stale["stale_days"].tolist() == [60.0] * 4 + [30.0] * 4 + [0.0] * 4


def test_census_over_time(shared_world: World) -> None:
    """Versions 1 to 4 are primary from days 0, 30, 60, 90; 4 records each, and 2 on the last."""
    world = shared_world
    inventory = world.frame().kms.inspect(world.lab, now=world.clock.now())
    found = rotation.census_over_time(inventory, freq="10D", now=world.clock.now())
    at_end = found[found["at"] == world.clock.now()]
    assert sorted(at_end["records"]) == [1, 1, 2, 2, 2, 2, 2, 2]
    day_30 = found[found["at"] == START + timedelta(days=30)]
    assert rows_of(day_30.sort_values(["version_number", "key_id"]), "version_number", "stale") == [
        (1, True),
        (1, True),
        (2, False),
        (2, False),
    ]
    for moment, rows in found.groupby("at"):
        created = sum(row["created_at"] <= moment for row in world.rows)
        assert rows["records"].sum() == created


def test_a_record_counts_from_when_its_blob_was_made(world: World) -> None:
    """Re-encrypted on day 90, a record was on version 4 from then on, and on no other before."""
    now, end = world.clock.now(), world.clock.now() + timedelta(days=20)
    moved = world.frame().kms.re_encrypt(world.lab, clock=world.clock)
    # A file that a campaign was run over has no re_encrypted_at: its blobs name their version.
    for frame in (moved, moved.drop(columns="re_encrypted_at")):
        inventory = frame.kms.inspect(world.lab, now=end)
        found = rotation.census_over_time(inventory, freq="10D", now=end)
        assert (found["at"] >= now).all()
        assert set(found["records"]) == {7}
        assert not found["stale"].any()


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_times_of_any_unit_are_counted_alike(shared_world: World, unit: str) -> None:
    now = shared_world.clock.now()
    inventory = shared_world.frame().kms.inspect(shared_world.lab, now=now)
    expected = rotation.census_over_time(inventory, freq="30D", now=now)
    names = ("created_at", "version_made_at", "primary_until")
    other = inventory.astype(dict.fromkeys(names, f"datetime64[{unit}, UTC]"))
    pd.testing.assert_frame_equal(rotation.census_over_time(other, freq="30D", now=now), expected)


def test_a_version_that_is_not_known_was_neither_stale_nor_current(shared_world: World) -> None:
    now = shared_world.clock.now()
    found = rotation.census_over_time(shared_world.frame().kms.inspect(now=now), now=now)
    assert found["stale"].isna().all()
    # Of a cloud that does not tell versions, before and after its last rotation are known by time.
    frame = pd.DataFrame(
        {
            "ciphertext_blob": [cloud_blob(1, n) for n in range(3)],
            "key_id": shared_world.tencent.key_id,
            "created_at": [START, START + timedelta(days=89), START + timedelta(days=90)],
        }
    )
    cloud = _Untold(shared_world, "tencent")
    found = rotation.census_over_time(frame.kms.inspect(cloud, now=now), now=now)
    at_end = found[found["at"] == now]
    assert sorted(rows_of(at_end, "stale", "records")) == [(False, 1), (True, 2)]


def test_ages_and_versions(shared_world: World) -> None:
    world = shared_world
    inventory = world.frame().kms.inspect(world.lab, now=world.clock.now())
    ages = rotation.ages(inventory, by=["owner"])
    assert rows_of(ages, "owner", "records", "undated", "median_days", "oldest_days") == [
        ("billing", 6, 0, 50.0, 80.0),
        ("shop", 8, 0, 45.0, 90.0),
    ]
    pd.testing.assert_frame_equal(rotation.ages(inventory, by="owner"), ages)
    versions = rotation.version_ages(inventory)
    tencent = versions[versions["provider"] == "tencent"].sort_values("version_number")
    assert rows_of(tencent, "version_number", "records", "stale_days", "oldest_days") == [
        (1, 2, 60.0, 90.0),
        (2, 2, 30.0, 60.0),
        (3, 2, 0.0, 30.0),
        (4, 1, 0.0, 0.0),
    ]


def test_blast_radius_and_exposure_add_up(shared_world: World) -> None:
    world = shared_world
    inventory = world.frame().kms.inspect(world.lab, now=world.clock.now())
    radius = rotation.blast_radius(inventory)
    assert radius["records"].sum() == len(inventory)
    first = radius[(radius["version_number"] == 1) & (radius["provider"] == "ctyun")]
    assert rows_of(first, "records", "owners", "stale_days", "record_days") == [(2, 2, 60.0, 120.0)]
    exposure = inventory.kms.exposure()
    expected: Counter[tuple[str, str]] = Counter()
    for row, days in zip(world.rows, inventory["stale_days"], strict=True):
        expected[row["owner"], row["provider"]] += days
    assert {row[:2]: row[2] for row in rows_of(exposure, "owner", "provider", "record_days")} == (
        expected
    )
    assert exposure["record_days"].sum() == radius["record_days"].sum() == 360.0


def test_compliance(shared_world: World) -> None:
    world = shared_world
    inventory = world.frame().kms.inspect(world.lab, now=world.clock.now())
    versions = frames.versions(world.lab)
    policy = rotation.Policy(rotate_days=30, re_encrypt_within_days=30, max_age_days=60)
    found = rotation.compliance(inventory, policy, versions)
    names = ("provider", "records", "overdue", "too_old", "unknown", "worst_days", "rotation_due")
    # Overdue: the two records of version 1; older than 60 days: the same two (90 and 80).
    assert sorted(rows_of(found, *names)) == [
        ("ctyun", 7, 2, 2, 0, 60.0, False),
        ("tencent", 7, 2, 2, 0, 60.0, False),
    ]
    assert found["compliant"].tolist() == [pytest.approx(5 / 7)] * 2
    older = rotation.compliance(
        world.frame().kms.inspect(world.lab, now=world.clock.now() + timedelta(days=31)),
        policy,
        versions,
    )
    assert older["rotation_due"].tolist() == [True, True]
    # Without a lab nobody knows what is stale: only what is too old is a violation.
    nobody = world.frame().kms.inspect(now=world.clock.now())
    unknown = rotation.compliance(nobody, policy)
    assert rows_of(unknown, "unknown", "too_old", "overdue") == [(5, 2, 0)] * 2


def test_rotation_is_due_at_the_time_that_ages_are_counted_to(world: World) -> None:
    """The primary versions are 40 days old then, however the records came to be on them."""
    later = world.clock.now() + timedelta(days=40)
    moved = world.frame().kms.re_encrypt(world.lab, clock=world.clock)
    inventory = moved.kms.inspect(world.lab, now=later)
    versions = frames.versions(world.lab)
    due = rotation.Policy(rotate_days=39.99)
    not_due = rotation.Policy(rotate_days=40)
    for told in (versions, pd.concat([versions, versions])):
        assert rotation.compliance(inventory, due, told)["rotation_due"].tolist() == [True] * 2
        assert not rotation.compliance(inventory, not_due, told)["rotation_due"].any()
    nobody = rotation.compliance(inventory, due, versions.iloc[:0])
    assert nobody["rotation_due"].isna().all()
    # Another provider's key of the same id is another key.
    ids = {world.ctyun.key_id: world.tencent.key_id}
    one_id = versions.query("provider == 'ctyun'").replace({"key_id": ids})
    found = rotation.compliance(inventory, due, one_id)
    assert found["rotation_due"].isna().all()


def test_rotation_can_be_asked_of_at_any_time(shared_world: World) -> None:
    frame = shared_world.frame().drop(columns="created_at")
    inventory, versions = frame.kms.inspect(shared_world.lab), frames.versions(shared_world.lab)
    policy = rotation.Policy(rotate_days=30)
    for days, due in ((30, False), (31, True)):
        now = shared_world.clock.now() + timedelta(days=days)
        found = rotation.compliance(inventory, policy, versions, now=now)
        assert found["rotation_due"].tolist() == [due] * 2
    with pytest.raises(FrameError, match="rotation_due needs now="):
        rotation.compliance(inventory, policy, versions)


def test_what_is_not_known_is_no_violation_and_no_compliance() -> None:
    frame = pd.DataFrame({"ciphertext_blob": [cloud_blob(1)], "provider": ["tencent"]})
    found = rotation.compliance(frame.kms.inspect(), rotation.Policy(max_age_days=1))
    assert rows_of(found, "unknown", "too_old", "compliant") == [(1, 0, None)]


def test_retirable_versions(world: World) -> None:
    lab, frame = world.lab, world.frame()
    versions = frames.versions(lab)
    old = rotation.retirable(frame.kms.inspect(lab), versions)
    assert old["records"].tolist() == [2] * 6
    assert not old["retirable"].any()

    moved = frame.kms.re_encrypt(lab).kms.inspect(lab)
    assert rotation.retirable(moved, versions)["retirable"].all()

    # One blob of which nobody knows the key, and every version of its provider is in doubt.
    unnamed = pd.DataFrame({"ciphertext_blob": [cloud_blob(1)], "provider": ["tencent"]})
    doubt = rotation.retirable(pd.concat([moved, unnamed.kms.inspect(lab)]), versions)
    assert dict(zip(doubt["provider"], doubt["maybe"], strict=True)) == {"tencent": 1, "ctyun": 0}
    assert doubt[doubt["retirable"]]["provider"].unique().tolist() == ["ctyun"]


BOTH = {"tencent", "ctyun"}


@pytest.mark.parametrize(
    ("blob_of", "provider", "cell", "in_doubt"),
    [
        ("tencent", "tencent", lambda blob: blob[:-4], {"tencent"}),
        ("ctyun", "ctyun", lambda blob: blob[:-1], {"ctyun"}),
        ("tencent", None, lambda blob: blob[:-4], BOTH),  # cut: no provider is told
        ("tencent", "ctyun", lambda blob: blob, BOTH),  # one of the two is wrong
        ("tencent", "aws", lambda blob: blob, BOTH),
        ("tencent", "tencent", lambda blob: blob.encode(), {"tencent"}),
        ("tencent", None, lambda blob: blob.encode(), BOTH),
        ("ctyun", "ctyun", lambda _: None, {"ctyun"}),
    ],
)
def test_what_cannot_be_read_may_be_on_any_version(
    shared_world: World, blob_of: str, provider: str | None, cell, in_doubt: set[str]
) -> None:
    blob = cell(shared_world.rows[["tencent", "ctyun"].index(blob_of)]["ciphertext_blob"])
    frame = pd.DataFrame({"ciphertext_blob": [blob], "provider": [provider]})
    inventory = frame.kms.inspect(shared_world.lab)
    assert inventory["error"].notna().all()
    found = rotation.retirable(inventory, frames.versions(shared_world.lab))
    assert found["retirable"].equals(~found["provider"].isin(in_doubt))
    assert set(found["maybe"][~found["retirable"]]) == {1}
    assert set(found["records"]) == {0}


def test_records_that_contradict_each_other_may_be_on_any_version(shared_world: World) -> None:
    blobs = [cloud_blob(1, n) for n in range(3)]
    inventory = pd.DataFrame({"ciphertext_blob": blobs, "key_id": ["a", "b", None]}).kms.inspect()
    found = rotation.retirable(inventory, frames.versions(shared_world.lab))
    assert dict(zip(found["provider"], found["maybe"], strict=True)) == {"tencent": 3, "ctyun": 0}


class _Untold:
    """The keys of a lab at a cloud that does not tell versions."""

    def __init__(self, world: World, provider: str) -> None:
        self._provider = provider
        self._kms = world.lab.kms(provider)
        self._key = getattr(world, provider).key_id

    def providers(self) -> tuple[str, ...]:
        return (self._provider,)

    def kms(self, name: str) -> _Untold:
        return self

    def list_keys(self) -> list[Key]:
        return [self.describe_key(self._key)]

    def describe_key(self, key_id: str) -> Key:
        return self._kms.describe_key(key_id)

    def versions(self, key_id: str) -> Unknown:
        return UNKNOWN

    def version_of(self, header: UnverifiedHeader) -> Unknown:
        return UNKNOWN


def test_no_version_may_go_where_the_cloud_does_not_tell_them(shared_world: World) -> None:
    cloud = _Untold(shared_world, "ctyun")
    frame = shared_world.frame().query("provider == 'ctyun'")
    found = rotation.retirable(frame.kms.inspect(cloud), frames.versions(cloud))
    assert rows_of(found, "key_version_id", "records", "maybe", "retirable") == [
        (None, 0, 7, False)
    ]


def test_versions_of_one_id_are_told_apart_by_key_and_provider(shared_world: World) -> None:
    inventory = shared_world.frame().iloc[:1].kms.inspect(shared_world.lab)
    mine = frames.versions(shared_world.lab).query("provider == 'tencent'").iloc[:1]
    others = [mine.assign(key_id="another"), mine.assign(provider="ctyun")]
    found = rotation.retirable(inventory, pd.concat([mine, *others]))
    assert found["records"].tolist() == [1, 0, 0]
    assert found["retirable"].tolist() == [False, True, True]
    # A version that is not among them: what is on it may be on any of its key.
    other = mine.assign(key_version_id="another")
    assert rows_of(rotation.retirable(inventory, other), "records", "maybe") == [(0, 1)]


def test_forecast_counts_equal_pairs_once(shared_world: World) -> None:
    frame = pd.concat([shared_world.frame()] * 3)
    curves = rotation.forecast(frame.kms.inspect(shared_world.lab), rates=[2, 4], points=3)
    tencent = curves[(curves["provider"] == "tencent") & (curves["rate"] == 2)]
    assert tencent["left"].tolist() == [6.0, 3.0, 0.0]
    assert tencent["hours"].tolist() == [0.0, 1.5 / 3600, 3 / 3600]
    plan = frame.kms.plan(shared_world.lab, rates={"tencent": 2, "ctyun": 2})
    assert plan.forecast.seconds == 3.0
    with pytest.raises(ValueError, match="more than 0 calls"):
        rotation.forecast(frame.kms.inspect(shared_world.lab), rates=[0])


def test_forecast_counts_what_would_be_sent(world: World) -> None:
    """As the plan does: not what is on a disabled key, lacks its context or contradicts itself."""
    frame = world.frame()
    frame["source_key_id"] = pd.NA
    frame.iloc[1, frame.columns.get_loc("source_key_id")] = "another"  # CTyun's, and stale
    frame.iloc[0, frame.columns.get_loc("encryption_context")] = "{"  # Tencent's
    print_ = {"provider": "tencent", "created_at": START, "key_id": world.tencent.key_id}
    cloud = pd.DataFrame([{"ciphertext_blob": cloud_blob(1), **print_}])
    frame = pd.concat([frame, cloud], ignore_index=True)
    for calls in ({"tencent": 5, "ctyun": 5}, {"ctyun": 5}):
        inventory = frame.kms.inspect(world.lab)
        assert inventory["stale"].sum() == 13
        curves = rotation.forecast(inventory, rates=[1])
        left = curves.groupby("provider", observed=True)["left"].max().to_dict()
        planned = frame.kms.plan(world.lab).forecast.providers
        assert left == calls == {each.provider: each.calls for each in planned}
        world.lab.tencent().disable_key(world.tencent.key_id)


def test_of_an_inventory_without_a_lab_nobody_says_what_is_stale(shared_world: World) -> None:
    """Nothing would seem stale."""
    inventory = shared_world.frame().kms.inspect()
    for ask in (inventory.kms.stale, lambda: rotation.forecast(inventory)):
        with pytest.raises(FrameError, match="made without a lab"):
            ask()
    assert inventory.iloc[:0].kms.stale().empty
    errors = shared_world.frame().assign(ciphertext_blob="cut").kms.inspect(shared_world.lab)
    assert errors.kms.stale().empty


def test_versions_are_listed_by_number(shared_world: World) -> None:
    found = rotation.version_ages(shared_world.frame().kms.inspect(shared_world.lab))
    assert found["version_number"].tolist() == [1, 2, 3, 4] * 2


def test_empty_frames_have_empty_answers(shared_world: World) -> None:
    empty = shared_world.frame().iloc[:0]
    inventory = empty.kms.inspect(shared_world.lab)
    versions = frames.versions(shared_world.lab)
    answers = [
        empty.kms.census(),
        inventory.kms.census(),
        inventory.kms.stale(),
        inventory.kms.exposure(),
        rotation.ages(inventory),
        rotation.version_ages(inventory),
        rotation.blast_radius(inventory),
        rotation.census_over_time(inventory),
        rotation.compliance(inventory, rotation.Policy(max_age_days=1)),
        rotation.forecast(inventory),
        empty.kms.re_encrypt(shared_world.lab),
    ]
    assert [len(answer) for answer in answers] == [0] * len(answers)
    assert rotation.retirable(inventory, versions)["retirable"].all()
    assert empty.kms.plan(shared_world.lab).total == 0
