"""What stands beside the analysis: names of keys, the lab's clock, altered blobs, lengths."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kmslab.frames as frames
from kmslab import InvalidCiphertext, Lab, ManualClock, charts
from kmslab.analysis.lengths import longest_blob
from kmslab.demo import sample_path
from kmslab.errors import FrameError

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def lab(clock: ManualClock) -> Iterator[Lab]:
    with Lab.in_memory(clock=clock) as lab:
        yield lab


def test_ages_are_counted_by_the_labs_own_clock(lab: Lab, clock: ManualClock) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders")
    df = pd.DataFrame({"ciphertext_blob": [kms.encrypt(key.key_id, b"a")], "created_at": [START]})
    clock.advance(timedelta(days=3))
    lab.rotate(key.key_id)
    clock.advance(timedelta(days=4))
    assert lab.clock is clock
    inventory = df.kms.inspect(lab)
    assert inventory[["age_days", "stale_days"]].values.tolist() == [[7.0, 4.0]]
    assert df.kms.plan(lab).made_at == clock.now()
    moved = df.kms.re_encrypt(lab)
    assert moved["re_encrypted_at"].tolist() == [clock.now()]
    clock.advance(timedelta(days=1))
    assert moved.kms.inspect(lab)[["age_days", "stale_days"]].values.tolist() == [[1.0, 0.0]]


def test_a_time_or_a_clock_that_is_given_goes_before_the_labs(lab: Lab) -> None:
    kms = lab.ctyun()
    key = kms.create_key()
    df = pd.DataFrame({"ciphertext_blob": [kms.encrypt(key.key_id, b"a")], "created_at": [START]})
    lab.rotate(key.key_id)
    later = ManualClock(START + timedelta(days=2))
    assert df.kms.inspect(lab, now=later.now())["age_days"].tolist() == [2.0]
    assert df.kms.plan(lab, clock=later).made_at == later.now()
    moved = df.kms.re_encrypt(lab, clock=later)
    assert moved["re_encrypted_at"].tolist() == [later.now()]


def test_keys_of_one_alias_are_named_at_their_own_provider(lab: Lab) -> None:
    ids = [lab.tencent().create_key("orders").key_id, lab.ctyun().create_key(alias="orders").key_id]
    nameless = lab.ctyun().create_key().key_id
    table = pd.DataFrame(
        {
            "provider": pd.Categorical(["ctyun", "tencent", "ctyun", "tencent", None]),
            "key_id": [ids[1], ids[0], nameless, "of another lab", None],
            "records": range(5),
        },
        index=[7, 7, 8, 9, 10],
    )
    before = table.copy(deep=True)
    named = frames.with_alias(table, frames.versions(lab))
    assert named["alias"].fillna("none").tolist() == ["orders", "orders", "none", "none", "none"]
    pd.testing.assert_frame_equal(named.drop(columns="alias"), before)
    pd.testing.assert_frame_equal(table, before)


def test_a_key_has_one_name_however_many_versions(lab: Lab) -> None:
    key = lab.tencent().create_key("orders")
    lab.rotate(key.key_id)
    blob = lab.tencent().encrypt(key.key_id, b"secret")
    inventory = pd.DataFrame({"ciphertext_blob": [blob]}).kms.inspect(lab)
    named = frames.with_alias(inventory.kms.census(), frames.versions(lab))
    assert named[["alias", "version_number"]].values.tolist() == [["orders", 2]]


def test_naming_says_what_a_table_lacks(lab: Lab) -> None:
    versions = frames.versions(lab)
    with pytest.raises(FrameError, match="no column 'key_id'"):
        frames.with_alias(pd.DataFrame({"records": [1]}), versions)
    with pytest.raises(FrameError, match=r"no column 'alias'; frames\.versions\(lab\) has it"):
        frames.with_alias(pd.DataFrame({"key_id": ["a"]}), pd.DataFrame({"key_id": ["a"]}))


@pytest.mark.parametrize("provider", ["tencent", "ctyun"])
def test_no_altered_blob_opens(lab: Lab, provider: str) -> None:
    kms = lab.kms(provider)
    blob = kms.encrypt(kms.create_key(alias="orders").key_id, b"a secret")
    found = frames.altered(blob)
    assert len(found) == {"tencent": 8, "ctyun": 6}[provider]
    assert found["ciphertext_blob"].nunique() == len(found)
    for text in found["ciphertext_blob"]:
        assert len(text) == len(blob)
        with pytest.raises(InvalidCiphertext):
            kms.decrypt(text)


def test_an_altered_blob_has_one_other_byte_where_it_says() -> None:
    blobs = frames.read(sample_path("records.csv")).kms.inspect()
    for blob in blobs.drop_duplicates(["provider", "format"])["ciphertext_blob"].dropna():
        fields = frames.parts(blob)
        found = frames.altered(blob)
        assert fields.empty == found.empty
        for name, row in found.iterrows():
            begin, size = fields.loc[name, ["offset", "length"]]
            assert begin <= row["offset"] < begin + size
            changed = sum(a != b for a, b in zip(blob, row["ciphertext_blob"], strict=True))
            assert changed == 1  # six bits are a letter: one bit changes one


@given(st.text())
def test_what_is_no_blob_has_nothing_to_alter(text: str) -> None:
    assert frames.altered(text).empty


def test_lengths_are_drawn_as_steps_with_a_line_for_each_provider() -> None:
    sizes = range(0, 40, 8)
    names = ("tencent", "ctyun")
    table = pd.DataFrame({n: [longest_blob(n, size) for size in sizes] for n in names}, sizes)
    axes = charts.blob_lengths(table)
    assert axes.get_title(loc="left") == "Length of a blob"
    assert axes.get_xlabel() == "plaintext (bytes)"
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert {name: list(lines[name].get_ydata()) for name in names} == table.to_dict("list")
    assert lines["tencent"].get_linestyle() != lines["ctyun"].get_linestyle()
    _, own = plt.subplots()
    assert charts.blob_lengths(table.iloc[:0], ax=own) is own
