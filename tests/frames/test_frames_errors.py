"""Frames that are not what they should be get an error that says what is needed."""

from __future__ import annotations

import re
from datetime import datetime

import pandas as pd
import pytest
from frame_data import START, cloud_blob

import kmslab.frames as frames
from kmslab.analysis import rotation
from kmslab.errors import FrameError, KmslabError, SourceError

BLOB = cloud_blob(1)
EMPTY = pd.DataFrame({"ciphertext_blob": []}).astype("string").kms.inspect()


def good(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"record_id": ["a"], "ciphertext_blob": [BLOB], **columns})


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame(), "no column 'ciphertext_blob'; found: no column at all"),
        (pd.DataFrame({"blob": [BLOB]}), "found: 'blob'"),
        (
            pd.DataFrame({"cipher_text_blob": [BLOB]}),
            "df.rename(columns={'cipher_text_blob': 'ciphertext_blob'})",
        ),
        (
            pd.DataFrame([[BLOB, BLOB]], columns=["ciphertext_blob", "ciphertext_blob"]),
            "column 'ciphertext_blob' is there twice",
        ),
        (pd.DataFrame({"ciphertext_blob": [1.5]}), "holds float64, and texts are needed"),
        (good(provider=[3]), "column 'provider' holds int64, and texts are needed"),
        (good(key_id=[["a"]]), "column 'key_id', row 0: list, and a text is needed"),
        (good(key_id=[["a", "b"]]), "column 'key_id', row 0: list, and a text is needed"),
        (good(created_at=[["2026-01-01", "b"]]), "column 'created_at', row 0: "),
        (good(re_encrypted_at=["yesterday"]), "column 're_encrypted_at', row 0: 'yesterday'"),
        (good(created_at=[5]), "pd.to_datetime(df['created_at'], unit='s', utc=True)"),
        (good(created_at=["yesterday"]), "'yesterday' is neither an ISO 8601 time nor Unix"),
        (good(created_at=["2026/01/03"]), "pd.to_datetime(df['created_at'], format=..., utc=True)"),
        (
            pd.DataFrame({0: ["a"], "blob": [BLOB]}),
            "found: 0, 'blob'. If 'blob' is meant: df.rename(columns={'blob': 'ciphertext_blob'})",
        ),
        (pd.DataFrame({7: [BLOB]}), "found: 7. Rename"),
        (good(encryption_context=[{"app": "orders"}]), "row 0: dict, and a text is needed"),
    ],
)
def test_inspect_says_what_is_needed(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(FrameError) as raised:
        frame.kms.inspect()
    assert said in str(raised.value)
    assert raised.value.column
    assert isinstance(raised.value, KmslabError)


def test_a_time_without_a_zone_is_no_now() -> None:
    with pytest.raises(FrameError, match="without a time zone"):
        good().kms.inspect(now=datetime(2026, 1, 1))


def test_columns_of_several_levels_are_none() -> None:
    with pytest.raises(FrameError, match="the columns have 2 levels"):
        good().set_axis(pd.MultiIndex.from_product([["x"], good().columns]), axis=1).kms.inspect()


def test_empty_texts_are_no_times() -> None:
    assert good(created_at=[""]).kms.inspect()["age_days"].isna().all()


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: good().kms.inspect("lab"), "providers are a Lab or Remotes, not 'lab'"),
        (lambda: good().kms.census("lab"), "a Lab or Remotes"),
        (lambda: good().kms.plan(None), "a Lab or Remotes, not None"),
        (lambda: good().kms.re_encrypt(None), "a Lab or Remotes, not None"),
        (lambda: frames.versions("lab"), "a Lab or Remotes"),
        (lambda: good().kms.plan(_Nobody(), rates=50), "by provider, {'tencent': 50}; not 50"),
        (lambda: good().kms.inspect(now="2026-01-01"), "'2026-01-01', and a datetime with a time"),
        (lambda: rotation.ages("inventory"), "a DataFrame is needed, not str"),
        (lambda: rotation.Policy(rotate_days="90"), "a number of days from 0, or None; not '90'"),
        (lambda: rotation.forecast(EMPTY, rates=50), r"[50, 100]; not 50"),
        (lambda: rotation.forecast(EMPTY, rates=["50"]), "0 calls a second, not '50'"),
        (lambda: rotation.forecast(EMPTY, points=0), "a whole number from 2, not 0"),
        (lambda: frames.read("orders.csv", provider="aws"), "'aws' is neither tencent nor ctyun"),
    ],
)
def test_what_is_of_another_kind_is_named(ask, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        ask()


@pytest.mark.parametrize("freq", ["0D", "often", 5])
def test_a_period_is_a_frequency(shared_world, freq) -> None:
    inventory = shared_world.frame().kms.inspect(shared_world.lab)
    with pytest.raises(ValueError, match="freq is a pandas frequency above 0"):
        rotation.census_over_time(inventory, freq=freq)


def test_ages_need_times() -> None:
    with pytest.raises(FrameError, match="If 'created' is meant"):
        rotation.ages(good(created=[START]).kms.inspect())
    assert rotation.ages(good(created_at=[None]).kms.inspect())["undated"].tolist() == [1]


def test_errors_of_reading_speak_of_arguments(tmp_path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("record_id,provider,blob\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"meant: columns=Columns\(ciphertext_blob='blob'\)"):
        frames.read(path)
    with pytest.raises(SourceError, match="name one with table="):
        frames.read(f"sqlite:///{tmp_path}/orders.db")


@pytest.mark.parametrize("ask", ["stale", "exposure"])
def test_questions_to_an_inventory_need_one(ask: str) -> None:
    with pytest.raises(FrameError, match=r"df\.kms\.inspect\(lab\) adds it"):
        getattr(good(owner="me", provider="tencent", key_id="k").kms, ask)()


@pytest.mark.parametrize(
    "ask",
    [
        rotation.ages,
        rotation.version_ages,
        rotation.blast_radius,
        rotation.exposure,
        rotation.forecast,
        rotation.census_over_time,
        lambda frame: rotation.compliance(frame, rotation.Policy(max_age_days=1)),
        lambda frame: rotation.retirable(frame, frame),
    ],
)
def test_every_analysis_says_what_it_lacks(ask) -> None:
    with pytest.raises(FrameError, match="no column"):
        ask(good())


def test_exposure_needs_owners(shared_world) -> None:
    inventory = shared_world.frame().drop(columns="owner").kms.inspect(shared_world.lab)
    with pytest.raises(FrameError, match="no column 'owner'"):
        inventory.kms.exposure()


def test_versions_are_asked_for_by_name(shared_world) -> None:
    inventory = shared_world.frame().kms.inspect(shared_world.lab)
    with pytest.raises(FrameError, match=r"frames\.versions\(lab\) has it"):
        rotation.retirable(inventory, inventory.drop(columns="is_primary"))


def test_a_column_that_is_there_twice_is_said_to_be(shared_world) -> None:
    versions = frames.versions(shared_world.lab)
    twice = pd.concat([versions, versions[["alias"]]], axis=1)
    with pytest.raises(FrameError, match="column 'alias' is there twice"):
        rotation.retirable(shared_world.frame().kms.inspect(), twice)


def test_words_are_neither_true_nor_false(shared_world) -> None:
    """What pandas reads with dtype=str: "False" would be true."""
    inventory = shared_world.frame().kms.inspect(shared_world.lab)
    words = inventory.assign(stale=inventory["stale"].astype("string"))
    for ask in (words.kms.stale, words.kms.exposure, lambda: rotation.forecast(words)):
        with pytest.raises(FrameError, match="column 'stale' holds str, and True, False or NA"):
            ask()
    for kind in ("bool", "object", "boolean"):
        assert len(inventory.astype({"stale": kind}).kms.stale()) == 12


def test_a_frame_is_not_edited_as_a_source() -> None:
    from kmslab.frames.columns import FrameRecords
    from kmslab.frames.planning import FramePart

    with pytest.raises(SourceError, match="re_encrypt"):
        FramePart(FrameRecords(good(provider="tencent"))).edit()


def test_times_of_every_kind_are_times() -> None:
    moments = {
        "aware": [START],
        "naive": [START.replace(tzinfo=None)],
        "text": ["2026-01-01T08:00:00+08:00"],
        "seconds": ["1767225600"],
        "objects": pd.Series([START], dtype="object"),
    }
    for kind, created_at in moments.items():
        found = good(created_at=created_at).kms.inspect(now=START)
        assert found["created_at"].tolist() == [START], kind
        assert found["age_days"].tolist() == [0.0]


def test_policies_are_days() -> None:
    with pytest.raises(ValueError, match="max_age_days is a number of days from 0"):
        rotation.Policy(max_age_days=-1)
    assert frames.versions(_Nobody()).empty


class _Nobody:
    def providers(self) -> tuple[str, ...]:
        return ()
