"""Plans over frames, and new frames with new blobs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from frame_data import CONTEXT, START, World, cloud_blob

import kmslab.frames as frames
from kmslab import Lab, same_plaintext_many
from kmslab.analysis import DROP, Drop, Outcome, rotation
from kmslab.analysis.frame_columns import TIME
from kmslab.campaign.plan import Plan
from kmslab.campaign.planning import make_plan
from kmslab.campaign.sending import Sender
from kmslab.clock import ManualClock
from kmslab.context import Context
from kmslab.demo import DEMO_TIME, make_lab, sample_path
from kmslab.errors import (
    CampaignError,
    FrameError,
    KeyNotFound,
    PlanOutdated,
    SourceChanged,
    SourceError,
)
from kmslab.frames import reading
from kmslab.model import Record
from kmslab.records.opening import open_source
from kmslab.records.source import Source
from kmslab.records.spec import SourceSpec


def records_of(frame: pd.DataFrame) -> list[Record]:
    context = frame.get("encryption_context", pd.Series(None, frame.index, dtype="object"))
    return [
        Record("", provider, blob, context=None if pd.isna(text) else text)
        for provider, blob, text in zip(
            frame["provider"], frame["ciphertext_blob"], context, strict=True
        )
    ]


def asked_of(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What is sent from now on."""
    asked: list[object] = []

    def send(self: Sender, *columns: object) -> list[None]:
        asked.append(columns)
        return []

    monkeypatch.setattr(Sender, "send", send)
    return asked


def test_a_frame_has_the_plan_of_its_file(tmp_path) -> None:
    """The same outcomes, reasons, census, calls and rights for the whole of the sample data."""
    path = sample_path("records.csv")
    with make_lab(tmp_path / "lab") as lab:
        clock = ManualClock(DEMO_TIME)
        plan = frames.read(path).kms.plan(lab, clock=clock)
        spec = SourceSpec(str(path))
        of_file = make_plan(open_source(spec), spec, lab, plan.target, clock=clock)
        deep = frames.read(path).kms.plan(lab, clock=clock, deep=True)
        inventory = frames.read(path).kms.inspect(lab, now=DEMO_TIME)
    for name in ("total", "outcomes", "reasons", "census", "forecast", "rights", "keys"):
        assert getattr(plan, name) == getattr(of_file, name), name
    calls = rotation.forecast(inventory, rates=[1]).groupby("provider", observed=True)["left"].max()
    assert calls.to_dict() == {each.provider: each.calls for each in plan.forecast.providers}
    assert [n.replace("plan(lab, deep=True)", "--deep") for n in plan.notes] == [*of_file.notes]
    assert plan.unverified
    assert not deep.unverified
    assert deep.outcomes[Outcome.INVALID] > plan.outcomes[Outcome.INVALID]


def test_a_plan_shows_itself(shared_world: World) -> None:
    frame = shared_world.frame().assign(record_id="<script>", ciphertext_blob="no blob")
    plan = frame.kms.plan(shared_world.lab)
    assert repr(plan) == "Plan(DataFrame: 14 records: 14 invalid)"
    html = plan._repr_html_()
    assert "<li>Told from the heads of the blobs, unverified; plan(lab, deep=True)" in html
    assert "<p>14 records, 0 to send</p>" in html
    html = shared_world.frame().kms.plan(shared_world.lab, rates={"ctyun": 2})._repr_html_()
    assert ": 6 calls to tencent at 100 a second, 6 calls to ctyun at 2 a second, 3 s" in html
    html = plan._repr_html_()
    assert "<style" not in html
    assert "<td>7</td>" in html
    assert isinstance(Plan.from_dict(plan.as_dict()), Plan)


def test_a_plan_is_outdated_when_another_frame_is_meant(world: World) -> None:
    from kmslab.campaign.planning import check_current
    from kmslab.frames.columns import FrameRecords
    from kmslab.frames.planning import frame_source

    frame = world.frame()
    plan = frame.kms.plan(world.lab)
    for changed, fits in ((frame, True), (frame.iloc[1:], False)):
        source = frame_source(FrameRecords(changed))
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


@pytest.mark.parametrize(
    "before",
    [START, START.replace(tzinfo=None), "2026-01-01T08:00:00+08:00", "1767225600", None],
    ids=["aware", "naive", "text", "seconds", "none"],
)
def test_times_of_re_encryption_are_read_as_any_times(world: World, before: object) -> None:
    frame = world.frame().iloc[-4:].assign(re_encrypted_at=before)
    moved = frame.kms.re_encrypt(world.lab, clock=world.clock)
    assert str(moved["re_encrypted_at"].dtype) == "datetime64[us, UTC]"
    then = pd.NaT if before is None else pd.Timestamp(START)
    assert moved["re_encrypted_at"].tolist() == [world.clock.now()] * 2 + [then] * 2


def test_a_time_that_is_none_is_refused_before_anything_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(monkeypatch)
    with pytest.raises(FrameError, match="'yesterday' is neither an ISO 8601 time"):
        world.frame().assign(re_encrypted_at="yesterday").kms.re_encrypt(world.lab)
    assert not asked


def test_of_an_inventory_nothing_outdated_is_left(world: World) -> None:
    inventory = world.frame().kms.inspect(world.lab)
    moved = inventory.kms.re_encrypt(world.lab)
    assert "stale" not in moved
    assert "key_version_id" not in moved
    assert moved["key_id"].isna().all()  # the records named none
    assert moved["provider"].dtype == "category"


def test_a_frame_that_was_not_inspected_keeps_columns_of_such_names(world: World) -> None:
    frame = world.frame().assign(error="mine", format="json", stale="no")
    moved = frame.kms.re_encrypt(world.lab)
    pd.testing.assert_frame_equal(
        moved[["error", "format", "stale"]], frame[["error", "format", "stale"]]
    )


def test_everything_about_a_record_moves_with_its_blob(world: World) -> None:
    to = world.lab.tencent().create_key("vault").key_id
    frame = world.frame().assign(key_id="what the record said").iloc[:4]
    moved = frame.kms.re_encrypt(world.lab, to=to, provider="tencent", context={"app": "vault"})
    assert moved["result"].tolist() == ["re_encrypted"] * 4
    assert moved["provider"].tolist() == ["tencent"] * 4
    assert moved["key_id"].tolist() == [to] * 4
    assert moved["encryption_context"].tolist() == ['{"app":"vault"}'] * 4
    assert same_plaintext_many(world.lab, records_of(frame), records_of(moved)) == [True] * 4


@pytest.mark.parametrize("context", [{"app": "vault"}, DROP])
def test_a_context_that_cannot_be_stored_is_refused_before_anything_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch, context: Context | Drop
) -> None:
    asked = asked_of(monkeypatch)
    frame = world.frame()[["ciphertext_blob"]]
    for ask in (frame.kms.plan, frame.kms.re_encrypt):
        with pytest.raises(CampaignError, match="DataFrame has no context column"):
            ask(world.lab, context=context)
    assert not asked


def test_a_rate_of_nobody_is_refused(shared_world: World) -> None:
    frame = shared_world.frame()
    for ask in (frame.kms.plan, frame.kms.re_encrypt):
        with pytest.raises(ValueError, match="'tencnet', which is none of tencent, ctyun"):
            ask(shared_world.lab, rates={"ctyun": 5, "tencnet": 5})


def test_records_cross_over_without_a_column_that_says_so(world: World) -> None:
    """A plan and its frame agree: whose a blob is can be told from the blob."""
    to = world.lab.tencent().create_key("vault").key_id
    frame = world.frame()[["ciphertext_blob", "encryption_context"]].iloc[1::2]
    plan = frame.kms.plan(world.lab, to=to, provider="tencent")
    moved = frame.kms.re_encrypt(world.lab, to=to, provider="tencent")
    assert plan.to_send == (moved["result"] == "re_encrypted").sum() == 7
    assert (moved.kms.inspect(world.lab)["key_id"] == to).all()


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


@pytest.mark.parametrize("kind", ["object", "string", "large_string[pyarrow]", "category"])
def test_what_is_not_re_encrypted_stays_as_it_was(world: World, kind: str) -> None:
    """Cells that are no texts, empty ones of each kind, and the dtypes."""
    frame = world.frame().iloc[:6].astype({"ciphertext_blob": "object", "provider": kind})
    frame["ciphertext_blob"] = [b"bytes", 7, "cut", *frame["ciphertext_blob"].iloc[3:]]
    frame["provider"] = frame["provider"].mask([True, False, False, True, False, False])
    frame["key_id"] = pd.Series(["", None, "said", "", None, "said"], frame.index, dtype=kind)
    frame["encryption_context"] = frame["encryption_context"].fillna("")
    moved = frame.kms.re_encrypt(world.lab)
    assert moved["result"].tolist() == ["left"] * 3 + ["re_encrypted"] * 3
    columns = ["provider", "encryption_context", "key_id", "note", "created_at"]
    pd.testing.assert_frame_equal(moved[columns], frame[columns])
    assert moved["ciphertext_blob"].tolist()[:3] == [b"bytes", 7, "cut"]

    to = world.lab.tencent().create_key("vault").key_id
    moved = frame.kms.re_encrypt(world.lab, to=to, provider="tencent")
    assert moved[["provider", "key_id"]].dtypes.astype(str).tolist() == [
        str(dtype) for dtype in frame[["provider", "key_id"]].dtypes
    ]
    assert moved["key_id"].tolist()[3:] == [to] * 3
    assert moved["provider"].tolist()[3:] == ["tencent"] * 3
    pd.testing.assert_frame_equal(
        moved[columns].iloc[:3], frame[columns].iloc[:3], check_categorical=False
    )


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


def test_a_missing_column_of_contexts_is_said(shared_world: World) -> None:
    """In the note of a plan and in the reason of each failure: a lab's blob does not tell."""
    lab, frame = shared_world.lab, shared_world.frame()
    named = frame.rename(columns={"encryption_context": "Context"})
    *_, lacking, _, hint = named.kms.plan(lab).notes
    assert lacking.startswith("There is no column with encryption contexts")
    assert "df.rename(columns={'Context': 'encryption_context'})" in hint
    moved = named.kms.re_encrypt(lab)
    assert set(moved["reason"][moved["result"] == "failed"]) == {
        "InvalidParameterValue.InvalidCiphertext: the ciphertext does not open "
        "(there is no column 'encryption_context'; is it 'Context'?)"
    }
    assert "keeps its encryption context" in " ".join(frame.kms.plan(lab).notes)
    ctyun = named[named["provider"] == "ctyun"].kms.plan(lab)
    assert not any("no column" in note for note in ctyun.notes)


@pytest.mark.parametrize(
    ("context", "hint"),
    [('{"app": "orders"}', "every character counts"), ("", "the record has no encryption_context")],
)
def test_a_context_that_does_not_open_its_blob_is_said(
    shared_world: World, context: str, hint: str
) -> None:
    frame = shared_world.frame().iloc[:1].assign(encryption_context=context)
    assert hint in frame.kms.re_encrypt(shared_world.lab)["reason"].iloc[0]


def test_a_key_is_named_by_id_or_alias(shared_world: World) -> None:
    lab, frame = shared_world.lab, shared_world.frame()
    by_alias = frame.kms.plan(lab, to="orders", provider="tencent")
    by_id = frame.kms.plan(lab, to=shared_world.tencent.key_id, provider="tencent")
    assert by_alias.outcomes == by_id.outcomes
    assert by_alias.target == by_id.target
    for ask in (frame.kms.plan, frame.kms.re_encrypt):
        with pytest.raises(KeyNotFound, match="no key with the id or alias order"):
            ask(lab, to="order")
        with pytest.raises(KeyNotFound, match="no key"):
            ask(lab, to="orders", provider="ctyun")
        with pytest.raises(ValueError, match=r"no Key: to=key\.key_id"):
            ask(lab, to=shared_world.tencent)


def test_an_alias_of_two_keys_is_none() -> None:
    with Lab.in_memory() as lab:
        lab.tencent().create_key("orders")
        lab.ctyun().create_key(alias="orders")
        frame = pd.DataFrame({"ciphertext_blob": ["cut"]})
        with pytest.raises(KeyNotFound, match="the alias orders is not unique"):
            frame.kms.plan(lab, to="orders")
        assert frame.kms.plan(lab, to="orders", provider="ctyun").total == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_when_a_record_was_re_encrypted_is_kept_through_a_file(
    shared_world: World, tmp_path: Path, suffix: str
) -> None:
    when = [START, pd.NaT, START]
    frame = shared_world.frame().iloc[:3].assign(re_encrypted_at=pd.Series(when, dtype=TIME).array)
    path = tmp_path / f"moved.{suffix}"
    if suffix == "csv":
        frame.to_csv(path, index=False)
    elif suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True, date_format="iso")
    read = frames.read(path)
    assert str(read["re_encrypted_at"].dtype) == "datetime64[us, UTC]"
    assert read["re_encrypted_at"].tolist() == when
    now = START + timedelta(days=100)
    for each in (frame, read):
        assert each.kms.inspect(now=now)["age_days"].iloc[[0, 2]].tolist() == [100, 100]


def test_a_column_of_re_encryptions_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "moved.csv"
    path.write_text("record_id,provider,ciphertext_blob,re_encrypted_at\n1,ctyun,a,yesterday\n")
    with pytest.raises(SourceError, match=r"row 1 .*: re_encrypted_at: 'yesterday' is neither"):
        frames.read(path)
    path.write_text("record_id,provider,ciphertext_blob\n1,ctyun,a\n")
    assert "re_encrypted_at" not in frames.read(path).columns


def test_a_file_that_changes_between_two_readings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "moved.csv"
    path.write_text("record_id,provider,ciphertext_blob,re_encrypted_at\n1,ctyun,a,\n")
    opened = reading._opened

    def changing(spec: SourceSpec, password: str | None) -> Source:
        if spec.columns.created_at == "re_encrypted_at":
            path.write_text(path.read_text().replace("ctyun,a", "ctyun,b"))
        return opened(spec, password)

    monkeypatch.setattr(reading, "_opened", changing)
    with pytest.raises(SourceChanged, match="read it again"):
        frames.read(path)
