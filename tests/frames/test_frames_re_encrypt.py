"""Plans over frames, and new frames with new blobs."""

from __future__ import annotations

import pandas as pd
import pytest
from frame_data import CONTEXT, World, cloud_blob

import kmslab.frames as frames
from kmslab import same_plaintext_many
from kmslab.analysis import Outcome
from kmslab.campaign.plan import Plan
from kmslab.campaign.planning import make_plan
from kmslab.clock import ManualClock
from kmslab.demo import DEMO_TIME, make_lab, sample_path
from kmslab.errors import PlanOutdated
from kmslab.model import Record
from kmslab.records.opening import open_source
from kmslab.records.spec import SourceSpec


def records_of(frame: pd.DataFrame) -> list[Record]:
    context = frame.get("encryption_context", pd.Series(None, frame.index, dtype="object"))
    return [
        Record("", provider, blob, context=None if pd.isna(text) else text)
        for provider, blob, text in zip(
            frame["provider"], frame["ciphertext_blob"], context, strict=True
        )
    ]


def test_a_frame_has_the_plan_of_its_file(tmp_path) -> None:
    """The same outcomes, reasons, census, calls and rights for the whole of the sample data."""
    path = sample_path("records.csv")
    with make_lab(tmp_path / "lab") as lab:
        clock = ManualClock(DEMO_TIME)
        plan = frames.read(path).kms.plan(lab, clock=clock)
        spec = SourceSpec(str(path))
        of_file = make_plan(open_source(spec), spec, lab, plan.target, clock=clock)
        deep = frames.read(path).kms.plan(lab, clock=clock, deep=True)
    for name in ("total", "outcomes", "reasons", "census", "forecast", "rights", "keys", "notes"):
        assert getattr(plan, name) == getattr(of_file, name), name
    assert plan.unverified
    assert not deep.unverified
    assert deep.outcomes[Outcome.INVALID] > plan.outcomes[Outcome.INVALID]


def test_a_plan_shows_itself(shared_world: World) -> None:
    frame = shared_world.frame().assign(record_id="<script>", ciphertext_blob="no blob")
    plan = frame.kms.plan(shared_world.lab)
    assert repr(plan) == "Plan(DataFrame: 14 records: 14 invalid)"
    html = plan._repr_html_()
    assert "<style" not in html
    assert "<td>7</td>" in html
    assert "14 records, 0 to send" in html
    assert isinstance(Plan.from_dict(plan.as_dict()), Plan)


def test_a_plan_is_outdated_when_another_frame_is_meant(world: World) -> None:
    from kmslab.campaign.planning import check_current
    from kmslab.frames.columns import FrameRecords
    from kmslab.frames.planning import FramePart, FrameSource

    frame = world.frame()
    plan = frame.kms.plan(world.lab)
    for changed, fits in ((frame, True), (frame.iloc[1:], False)):
        records = FrameRecords(changed)
        source = FrameSource("DataFrame", records.fields, (FramePart(records),))
        if fits:
            check_current(plan, source, world.lab)
        else:
            with pytest.raises(PlanOutdated, match="was changed"):
                check_current(plan, source, world.lab)


def test_stale_records_get_new_blobs_of_the_same_plaintext(world: World) -> None:
    frame = world.frame()
    moved = frame.kms.re_encrypt(world.lab, clock=world.clock)
    assert moved["result"].tolist() == ["re_encrypted"] * 12 + ["left"] * 2
    assert moved["outcome"].tolist() == ["stale"] * 12 + ["current"] * 2
    assert same_plaintext_many(world.lab, records_of(frame), records_of(moved)) == [True] * 14
    assert not moved.kms.inspect(world.lab)["stale"].any()
    assert moved["re_encrypted_at"].notna().tolist() == [True] * 12 + [False] * 2
    assert (moved["re_encrypted_at"].dropna() == world.clock.now()).all()
    assert list(moved.index) == list(frame.index)
    assert moved["note"].equals(frame["note"])
    assert moved["created_at"].equals(frame["created_at"])


def test_a_second_time_nothing_is_left_to_do(world: World) -> None:
    once = world.frame().kms.re_encrypt(world.lab, clock=world.clock)
    twice = once.kms.re_encrypt(world.lab, clock=world.clock)
    assert twice["result"].tolist() == ["left"] * 14
    assert twice["ciphertext_blob"].equals(once["ciphertext_blob"])
    assert twice["re_encrypted_at"].equals(once["re_encrypted_at"])


def test_of_an_inventory_nothing_outdated_is_left(world: World) -> None:
    inventory = world.frame().kms.inspect(world.lab)
    moved = inventory.kms.re_encrypt(world.lab)
    assert "stale" not in moved
    assert "key_version_id" not in moved
    assert moved["key_id"].isna().all()  # the records named none
    assert moved["provider"].dtype == "category"


def test_everything_about_a_record_moves_with_its_blob(world: World) -> None:
    to = world.lab.tencent().create_key("vault").key_id
    frame = world.frame().assign(key_id="what the record said").iloc[:4]
    moved = frame.kms.re_encrypt(world.lab, to=to, provider="tencent", context={"app": "vault"})
    assert moved["result"].tolist() == ["re_encrypted"] * 4
    assert moved["provider"].tolist() == ["tencent"] * 4
    assert moved["key_id"].tolist() == [to] * 4
    assert moved["encryption_context"].tolist() == ['{"app":"vault"}'] * 4
    assert same_plaintext_many(world.lab, records_of(frame), records_of(moved)) == [True] * 4


def test_one_bad_record_costs_only_itself(world: World) -> None:
    frame = world.frame().reset_index(drop=True)
    frame.loc[0, "ciphertext_blob"] = "no blob"
    frame.loc[2, "encryption_context"] = '{"app":"other"}'
    frame.loc[4, "ciphertext_blob"] = cloud_blob(1)
    moved = frame.kms.re_encrypt(world.lab)
    assert moved["result"].tolist()[:6] == [
        "left",
        "re_encrypted",
        "failed",
        "re_encrypted",
        "left",
        "re_encrypted",
    ]
    assert moved["outcome"].tolist()[:5] == ["invalid", "stale", "stale", "stale", "foreign"]
    assert "not three segments" in moved["reason"].iloc[0]
    assert moved["reason"].iloc[2].startswith("InvalidParameterValue.InvalidCiphertext")
    for row in (0, 2, 4):
        assert moved["ciphertext_blob"].iloc[row] == frame["ciphertext_blob"].iloc[row]


def test_only_the_blobs_are_needed(world: World) -> None:
    """Without ids, providers or anything else: both providers are told by their blobs."""
    frame = world.frame()[["ciphertext_blob"]]
    ctyun = [blob for blob in frame["ciphertext_blob"] if "-k-" not in blob]
    moved = pd.DataFrame({"ciphertext_blob": ctyun}).kms.re_encrypt(world.lab)
    assert moved["result"].value_counts()["re_encrypted"] == 6
    assert list(moved.columns) == [
        "ciphertext_blob",
        "re_encrypted_at",
        "outcome",
        "result",
        "reason",
    ]


def test_frames_of_more_than_one_chunk(world: World) -> None:
    blob, other = world.rows[0]["ciphertext_blob"], world.rows[-2]["ciphertext_blob"]
    rows = [blob] * 1500 + [other] + [blob] * 700
    frame = pd.DataFrame({"ciphertext_blob": rows, "encryption_context": CONTEXT})
    moved = frame.kms.re_encrypt(world.lab)
    counts = moved["result"].value_counts()
    assert (counts["re_encrypted"], counts["left"]) == (2200, 1)
    assert moved["result"].iloc[1500] == "left"


def test_frames_of_every_source(tmp_path, world: World) -> None:
    """What a frame is read from, and what it is read as."""
    csv = tmp_path / "records.csv"
    world.frame().to_csv(csv, index=False)
    frame = frames.read(csv)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "record_id": "string",
        "provider": "category",
        "ciphertext_blob": "string",
        "encryption_context": "string",
        "created_at": "datetime64[us, UTC]",
        "owner": "category",
    }
    parquet = tmp_path / "records.parquet"
    world.frame().reset_index(drop=True).to_parquet(parquet)
    pd.testing.assert_frame_equal(frames.read(parquet), frame)
    import sqlalchemy

    url = f"sqlite:///{tmp_path / 'records.db'}"
    engine = sqlalchemy.create_engine(url)
    world.frame().assign(created_at=frame["created_at"].astype(str).tolist()).to_sql(
        "records", engine, index=False
    )
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE UNIQUE INDEX ids ON records (record_id)"))
    engine.dispose()
    table = frames.read(url, table="records").set_index("record_id").loc[frame["record_id"]]
    pd.testing.assert_frame_equal(
        table.reset_index(), frame, check_index_type=False, check_categorical=False
    )
