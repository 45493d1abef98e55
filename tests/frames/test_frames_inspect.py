"""What an inspection tells of each record, and how it is known."""

from __future__ import annotations

from base64 import b64encode
from binascii import crc32
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from frame_data import CONTEXT, PUBLIC, START, World, cloud_blob
from hypothesis import given
from hypothesis import strategies as st

import kmslab.frames as frames
from kmslab.analysis.inventory import ADDED, as_recorded
from kmslab.analysis.many_heads import many_heads
from kmslab.analysis.versions import periods
from kmslab.demo import DEMO_TIME, make_lab, sample_path
from kmslab.inspection import inspect_many, read_headers
from kmslab.providers.tencent.blob import NO_CONTEXT

NAMES = b"241ede22-6261-4617-9caf-10d89990516c&49ec76d7-cc4c-400e-9f19-f9001587ae0f"
CTYUN_HEADER = b"0064" + b64encode(NAMES)

DTYPES = {
    "provider": "category",
    "format": "category",
    "key_id": "string",
    "key_known_by": "category",
    "claimed_key_id": "string",
    "key_version_id": "string",
    "version_number": "Int64",
    "version_known_by": "category",
    "is_primary": "boolean",
    "stale": "boolean",
    "sendable": "boolean",
    "has_context": "boolean",
    "context_known_by": "category",
    "version_made_at": "datetime64[us, UTC]",
    "primary_until": "datetime64[us, UTC]",
    "age_days": "float64",
    "stale_days": "float64",
    "error": "string",
}


def test_columns_and_dtypes_are_the_same_however_many_rows(shared_world: World) -> None:
    frame = shared_world.frame()
    for rows in (0, 1, len(frame)):
        found = frame.iloc[:rows].kms.inspect(shared_world.lab)
        assert {name: str(found[name].dtype) for name in ADDED} == DTYPES
        assert list(found.index) == list(frame.index[:rows])
        assert found["note"].tolist() == ["x"] * rows


def test_lab_blobs_tell_everything(shared_world: World) -> None:
    now = shared_world.clock.now()
    found = shared_world.frame().kms.inspect(shared_world.lab, now=now)
    assert found["version_number"].tolist() == [n for n in (1, 2, 3) for _ in range(4)] + [4, 4]
    assert found["stale"].tolist() == [True] * 12 + [False] * 2
    assert set(found["key_known_by"]) == set(found["version_known_by"]) == {"header"}
    # Rotated on day 30, 60 and 90, and it is day 90 now.
    assert found["stale_days"].tolist() == [60.0] * 4 + [30.0] * 4 + [0.0] * 6
    assert found["age_days"].tolist()[:4] == [90.0, 90.0, 80.0, 80.0]
    assert found["has_context"].tolist() == [True, False] * 7
    assert found["context_known_by"].tolist() == ["record", "header"] * 7
    assert found["error"].isna().all()


def test_without_a_lab_only_the_blobs_speak(shared_world: World) -> None:
    frame = shared_world.frame()[["ciphertext_blob"]]
    found = frame.kms.inspect()
    assert (
        found["key_id"].tolist()
        == [
            shared_world.tencent.key_id,
            shared_world.ctyun.key_id,
        ]
        * 7
    )
    assert found["provider"].tolist() == ["tencent", "ctyun"] * 7
    for name in ("version_number", "is_primary", "stale", "primary_until", "age_days"):
        assert found[name].isna().all()
    assert found["context_known_by"].tolist() == ["unknown", "header"] * 7


def test_a_frame_is_never_changed(shared_world: World) -> None:
    frame = shared_world.frame()
    before = frame.copy(deep=True)
    inventory = frame.kms.inspect(shared_world.lab)
    inventory_before = inventory.copy(deep=True)
    inventory.kms.census()
    inventory.kms.stale()
    inventory.kms.exposure()
    frame.kms.plan(shared_world.lab)
    frame.kms.re_encrypt(shared_world.lab)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(inventory, inventory_before)


def test_an_inventory_inspected_again_is_the_same(shared_world: World) -> None:
    blobs = [cloud_blob(1, n) for n in range(3)]
    keys = [shared_world.tencent.key_id, None, None]
    cloud = pd.DataFrame({"ciphertext_blob": blobs, "key_id": keys, "created_at": START})
    contradicting = cloud.assign(key_id=["key-a", "key-b", None])
    overruled = shared_world.frame().assign(key_id="what the record said")
    for frame in (shared_world.frame(), cloud, contradicting, overruled):
        once = frame.kms.inspect(shared_world.lab, now=START)
        again = once.kms.inspect(shared_world.lab, now=START)
        pd.testing.assert_frame_equal(once, again)


def test_what_a_record_says_is_kept_beside_what_is_inferred(shared_world: World) -> None:
    blobs = [cloud_blob(1), cloud_blob(1, 1), "cut", shared_world.rows[0]["ciphertext_blob"]]
    raw = pd.DataFrame({"ciphertext_blob": blobs, "key_id": ["mine", None, "cut's", "wrong"]})
    inventory = raw.kms.inspect(shared_world.lab)
    assert inventory["key_id"].tolist() == ["mine", "mine", pd.NA, shared_world.tencent.key_id]
    assert inventory["claimed_key_id"].tolist() == ["mine", pd.NA, "cut's", "wrong"]
    assert as_recorded(inventory)["key_id"].tolist() == inventory["claimed_key_id"].tolist()
    # Beside records that were never inspected: those say it in key_id.
    new = pd.DataFrame({"ciphertext_blob": [cloud_blob(2)], "key_id": ["other"]})
    both = pd.concat([inventory, new]).kms.inspect(shared_world.lab)
    assert both["key_known_by"].tolist() == ["record", "fingerprint", "unknown", "header", "record"]
    assert both["claimed_key_id"].tolist() == [*inventory["claimed_key_id"], "other"]


def test_a_re_encrypted_inventory_has_the_keys_of_its_records(world: World) -> None:
    blobs = [cloud_blob(1), cloud_blob(1, 1), "cut", world.rows[1]["ciphertext_blob"]]
    raw = pd.DataFrame({"ciphertext_blob": blobs, "key_id": ["mine", None, "cut's", None]})
    moved = raw.kms.inspect(world.lab).kms.re_encrypt(world.lab)
    assert moved["result"].tolist() == ["left"] * 3 + ["re_encrypted"]
    assert moved["key_id"].tolist() == ["mine", pd.NA, "cut's", pd.NA]
    assert "claimed_key_id" not in moved


def test_a_key_by_fingerprint_and_a_version_by_time(shared_world: World) -> None:
    """A Tencent cloud's blob names nothing: what other records say of it does."""
    key_id = shared_world.tencent.key_id
    rows = [
        # fingerprint, key in the record, day -> key and how, version and how
        (1, key_id, 5.0, (key_id, "record", 1, "created_at")),
        (1, None, 29.99, (key_id, "fingerprint", 1, "created_at")),
        (1, None, 30.0, (key_id, "fingerprint", 2, "created_at")),
        (1, None, 365.0, (key_id, "fingerprint", 4, "created_at")),
        (1, None, -1.0, (key_id, "fingerprint", None, "unknown")),
        (1, None, None, (key_id, "fingerprint", None, "unknown")),
        (2, None, 5.0, (None, "unknown", None, "unknown")),
        (3, "no-such-key", 5.0, ("no-such-key", "record", None, "unknown")),
    ]
    frame = pd.DataFrame(
        {
            "ciphertext_blob": [cloud_blob(print_, n) for n, (print_, *_) in enumerate(rows)],
            "key_id": [key for _, key, _, _ in rows],
            "created_at": [
                None if day is None else START + timedelta(days=day) for *_, day, _ in rows
            ],
        }
    )
    found = frame.kms.inspect(shared_world.lab)
    columns = ["key_id", "key_known_by", "version_number", "version_known_by"]
    told = [
        tuple(None if pd.isna(cell) else cell for cell in row)
        for row in found[columns].itertuples(index=False)
    ]
    assert told == [expected for *_, expected in rows]
    assert found["stale"].tolist()[:4] == [True, True, True, False]
    assert found["error"].isna().all()


def test_when_a_blob_was_re_encrypted_goes_before_when_it_was_created(shared_world: World) -> None:
    frame = pd.DataFrame(
        {
            "ciphertext_blob": [cloud_blob(1), cloud_blob(1, 1)],
            "key_id": shared_world.tencent.key_id,
            "created_at": START,
            "re_encrypted_at": [None, START + timedelta(days=91)],
        }
    )
    found = frame.kms.inspect(shared_world.lab, now=START + timedelta(days=100))
    assert found["version_number"].tolist() == [1, 4]
    assert found["age_days"].tolist() == [100.0, 9.0]


def test_records_that_contradict_each_other_name_no_key() -> None:
    keys = ["key-a", "key-b", None]
    frame = pd.DataFrame({"ciphertext_blob": [cloud_blob(1, n) for n in range(3)], "key_id": keys})
    found = frame.kms.inspect()
    assert found["key_id"].isna().all()
    assert found["error"].str.contains("name different keys: key-a, key-b").all()
    long = frame.assign(key_id=["a" * 5_000, "b" * 5_000, None]).kms.inspect()
    assert long["error"].str.len().max() < 200


def test_at_a_time_before_its_rotation_no_version_was_stale(shared_world: World) -> None:
    for day, expected in ((0, [0.0, 0.0]), (45, [15.0, 0.0]), (75, [45.0, 15.0])):
        now = START + timedelta(days=day)
        found = shared_world.frame().iloc[[0, 4]].kms.inspect(shared_world.lab, now=now)
        assert found["stale_days"].tolist() == expected


@pytest.mark.parametrize(
    ("provider", "blob", "error"),
    [
        ("aws", cloud_blob(1), "provider 'aws' is neither tencent nor ctyun"),
        ("ctyun", cloud_blob(1), "the blob is of tencent, and the record says ctyun"),
        (None, cloud_blob(1)[:-1], "s3 is not canonical base64"),
        (None, "订单", "not base64"),
        (None, "", "there is no blob"),
        (None, pd.NA, "there is no blob"),
        (None, None, "there is no blob"),
        (None, 7, "not a text"),
        (None, "lone \ud800", "not base64"),
    ],
)
def test_what_is_no_blob_says_why(provider: str | None, blob: object, error: str) -> None:
    blobs = pd.Series([blob, cloud_blob(1)], dtype="object")
    frame = pd.DataFrame({"ciphertext_blob": blobs, "provider": [provider, None]})
    found = frame.kms.inspect()
    assert error in found["error"].iloc[0]
    assert found["format"].tolist() == ["unknown", "cloud"]
    assert pd.isna(found["error"].iloc[1])


@pytest.mark.parametrize(
    "odd",
    [
        b"abc",
        memoryview(b"abc"),
        2**70,
        7,
        1.5,
        True,
        Decimal(1),
        START,
        START.date(),
        timedelta(1),
        np.datetime64("2020"),
        UUID(int=1),
        {"a": 1},
        [1, 2],
        pd.Interval(1, 2),
        pd.NaT,
        None,
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_one_cell_that_is_no_text_costs_only_itself(odd: object) -> None:
    for before, after in ((1, 1), (0, 1), (1, 0)):
        cells = [*[cloud_blob(1)] * before, odd, *[cloud_blob(2)] * after]
        column = np.empty(len(cells), dtype="object")
        for row, cell in enumerate(cells):
            column[row] = cell
        frame = pd.DataFrame({"ciphertext_blob": pd.Series(column)})
        expected = ["cloud"] * before + ["unknown"] + ["cloud"] * after
        assert frame.kms.inspect()["format"].tolist() == expected
        assert frame.kms.census()["provider"].isna().sum() == 1


def test_more_than_any_blob_has_is_none() -> None:
    """As one by one, though all of it is well-formed."""
    third = bytes(16 * 4_000)
    third += crc32(third).to_bytes(4, "little")
    blobs = [
        "-k-".join([b64encode(bytes(64)).decode(), NO_CONTEXT, b64encode(third).decode()]),
        b64encode(CTYUN_HEADER + bytes(16 * 4_000)).decode(),
    ]
    found = many_heads(blobs, strict=True)
    assert list(found.errors.values()) == inspect_many(blobs).error
    assert found.codes.tolist() == [0, 0]


def test_the_blobs_of_public_documentation() -> None:
    """CTyun's names key and version in its header; the lab has neither, and does not guess."""
    blobs = [entry["blob"] for entry in PUBLIC if entry["blob"].startswith("MDA2N")]
    assert blobs
    found = pd.DataFrame({"ciphertext_blob": blobs}).kms.inspect()
    assert found["key_known_by"].tolist() == ["inferred"] * len(blobs)
    assert found["version_known_by"].tolist() == ["inferred"] * len(blobs)
    assert found["stale"].isna().all()


def text_near_a_blob(blob: str) -> st.SearchStrategy[str]:
    cut = st.integers(0, len(blob)).map(lambda at: blob[:at])
    changed = st.tuples(st.integers(0, len(blob) - 1), st.sampled_from("A=-k+/é\n")).map(
        lambda change: blob[: change[0]] + change[1] + blob[change[0] + 1 :]
    )
    return st.one_of(st.just(blob), cut, changed)


def test_versions_follow_each_other_even_where_their_times_do_not(shared_world: World) -> None:
    """A seed may say so, and a clock may go back."""
    key = shared_world.lab.tencent().describe_key(shared_world.tencent.key_id)
    first, second, third, fourth = key.versions
    fallen = (first, replace(second, made_at=START - timedelta(days=9)), third, fourth)
    kms = SimpleNamespace(versions=lambda key_id: fallen)
    found = periods(kms, key)
    assert [period.since for period in found] == [START, START, third.made_at, fourth.made_at]
    assert [period.until for period in found] == [*(p.since for p in found[1:]), None]


@given(data=st.data())
def test_many_heads_are_what_one_by_one_would_be(shared_world: World, data: st.DataObject) -> None:
    """However rows are alike, cut or changed: strict as inspect_many, else as read_headers."""
    known = shared_world.frame()["ciphertext_blob"].tolist()
    known += [cloud_blob(1), cloud_blob(1, context=True), "A" * 342 + "==", ""]
    known += [entry["blob"] for entry in PUBLIC]
    cloud = [blob for blob in known if blob.startswith("MDA2N")][-1:]
    cells = data.draw(
        st.lists(
            st.one_of(
                st.sampled_from(known),
                st.none(),
                *(text_near_a_blob(b) for b in [*known[:3], *cloud, "A" * 342 + "=="]),
            ),
            max_size=12,
        )
    )
    strict, lenient = many_heads(cells, strict=True), many_heads(cells, strict=False)
    one, other = inspect_many(cells), read_headers(cells)
    for row, cell in enumerate(cells):
        header, seen = strict.headers[strict.codes[row]], lenient.headers[lenient.codes[row]]
        assert (header.provider or None, header.format) == (one.provider[row], one.format[row])
        assert header.key_version_id == one.key_version_id[row]
        assert strict.errors.get(row) == one.error[row]
        if isinstance(cell, str) and len(cell) >= 144 and cell.startswith(cloud[0][:138]):
            continue  # six letters of it may be anything
        assert (seen.provider or None, seen.format) == (other.provider[row], other.format[row])
        assert (seen.key_version_id, seen.fingerprint, seen.has_context) == (
            other.key_version_id[row],
            other.fingerprint[row],
            other.has_context[row],
        )


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (CTYUN_HEADER + bytes(16), True),
        (CTYUN_HEADER + b"...." + b"KML1" + bytes(8), True),  # the magic, but not where it counts
        (CTYUN_HEADER[:-1] + b"." + bytes(16), False),  # one letter of the header's end is another
        (CTYUN_HEADER + bytes(15), False),
        (CTYUN_HEADER, False),
    ],
    ids=["blocks", "magic inside", "another end", "15 bytes", "no body"],
)
def test_a_ctyun_cloud_s_blobs_are_looked_at_together(data: bytes, good: bool) -> None:
    text = b64encode(data).decode()
    fine = b64encode(CTYUN_HEADER + b"b" * (len(data) - len(CTYUN_HEADER))).decode()
    found = many_heads([fine, text, fine], strict=True)
    one_by_one = inspect_many([fine, text, fine])
    assert [found.errors.get(row) for row in range(3)] == one_by_one.error
    assert (1 not in found.errors) is good


def test_text_of_every_kind_is_text(shared_world: World) -> None:
    frame = shared_world.frame()
    expected = frame.kms.inspect(shared_world.lab, now=START)["version_number"].tolist()
    for kind in ("object", "string", "category", "str", "large_string[pyarrow]"):
        try:
            column = frame["ciphertext_blob"].astype(kind)
        except TypeError:
            continue
        found = frame.assign(ciphertext_blob=column).kms.inspect(shared_world.lab, now=START)
        assert found["version_number"].tolist() == expected, kind


@pytest.fixture(scope="session")
def sample_inventory(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    with make_lab(tmp_path_factory.mktemp("demo") / "lab") as lab:
        return frames.read(sample_path("records.csv")).kms.inspect(lab, now=DEMO_TIME)


def test_csv_read_by_pandas_is_read_alike(sample_inventory: pd.DataFrame) -> None:
    plain = pd.read_csv(sample_path("records.csv")).kms.inspect(now=DEMO_TIME)
    for name in ("provider", "format", "key_id", "has_context", "age_days", "error"):
        assert plain[name].astype("object").equals(sample_inventory[name].astype("object")), name


def test_public_key_ciphertext_is_what_its_record_says(sample_inventory: pd.DataFrame) -> None:
    pairs = sample_inventory[sample_inventory["format"] == "public-key"]
    assert set(pairs["key_known_by"]) == {"record", "unknown"}
    named = pairs[pairs["key_known_by"] == "record"]
    assert (named["key_id"] == named["source_key_id"]).all()
    assert pairs["is_primary"].isna().all()


def test_contexts_of_white_space_are_none() -> None:
    world = World()
    with world.lab as lab:
        blob = lab.tencent().encrypt(world.tencent.key_id, b"x")
        contexts = [CONTEXT, "{}", " { } ", "", None, "{"]
        frame = pd.DataFrame({"ciphertext_blob": blob, "encryption_context": contexts})
        found = frame.kms.inspect(lab)["has_context"].tolist()
    assert found == [True, False, False, False, False, True]
