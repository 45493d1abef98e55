"""Retiring a key or version: refused while anything is left on it, and what is left is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from campaign_data import COLUMNS, TWENTIES, WRITERS, Row, World, write_csv, write_table

from kmslab import Lab
from kmslab.analysis.classify import DROP, Target
from kmslab.campaign.closing import close
from kmslab.campaign.retire import Kind, Left, Retirement, survey
from kmslab.campaign.run import Ground, run
from kmslab.campaign.sources import Hold, RegisteredSource, Sources
from kmslab.campaign.state import State
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted, SourceBusy
from kmslab.model import KeySpec, OaepAlgorithm
from kmslab.records.opening import open_source
from kmslab.records.source import Chunk, Source
from kmslab.records.spec import SourceSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def sources(world: World, tmp_path: Path) -> list[RegisteredSource]:
    """Two sources: the rows of both providers, and those of CTyun once more, in a table."""
    ctyun = [row for row in world.rows if row["provider"] == "ctyun"]
    return [
        RegisteredSource("files", write_csv(tmp_path / "records", world.rows), NOW),
        RegisteredSource("table", write_table(tmp_path / "records", ctyun), NOW),
    ]


def asked(
    ground: Ground,
    lab: Lab,
    key_id: str,
    sources: list[RegisteredSource],
    holds: list[Hold] | None = None,
    **how: object,
) -> Retirement:
    return survey(ground, lab.key(key_id), sources=sources, holds=holds or [], **how)  # type: ignore[arg-type]


def told(retirement: Retirement) -> list[tuple[Kind, str, int]]:
    return [(left.kind, left.where, left.records) for left in retirement.left]


def test_every_source_is_asked(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    found = asked(ground, lab, world.keys.billing, sources)
    assert not found.ready
    assert found.records == sum(
        len(world.rows) if s.name == "files" else 6 * TWENTIES for s in sources
    )
    assert told(found) == [
        (Kind.RECORDS, "files", 4 * TWENTIES),
        # What is cut may have been anybody's.
        (Kind.UNREADABLE, "files", TWENTIES),
        (Kind.RECORDS, "table", 4 * TWENTIES),
    ]
    assert found.left[0].examples[0] == "rec-0000001"


def test_a_version_is_left_when_its_records_have_moved(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    old = lab.key(world.keys.billing).versions[0].version_id

    def looked() -> Retirement:
        how = {"key_version_id": old, "accept_unreadable": True}
        return asked(ground, lab, world.keys.billing, sources, **how)

    assert told(looked()) == [
        (Kind.RECORDS, "files", 3 * TWENTIES),
        (Kind.RECORDS, "table", 3 * TWENTIES),
    ]
    done = [run(ground, each.spec).campaign for each in sources]
    # The journals could still bring the old blobs back.
    assert told(looked()) == [
        (Kind.JOURNAL, done[0], 3 * TWENTIES),
        (Kind.JOURNAL, done[1], 3 * TWENTIES),
    ]
    for campaign in done:
        close(ground, campaign)
    assert (looked().ready, looked().left) == (True, ())
    assert not asked(ground, lab, world.keys.billing, sources).ready


def test_a_hold_stands_for_what_cannot_be_read(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    empty = lab.ctyun().create_key().key_id
    backup = Hold("backup", "nightly copies of orders", NOW, None)
    other = Hold("replica", "of sessions", NOW, world.keys.sessions)
    assert asked(ground, lab, empty, sources, accept_unreadable=True).ready
    assert asked(ground, lab, empty, sources, [backup, other], accept_unreadable=True).left == (
        Left(Kind.HOLD, "backup: nightly copies of orders"),
    )


def test_what_nobody_can_read_stands_in_the_way(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    unused = lab.tencent().create_key("unused").key_id
    # A cloud's own blob names no key, and neither does one that is cut.
    assert told(asked(ground, lab, unused, sources)) == [(Kind.UNREADABLE, "files", 2 * TWENTIES)]
    assert asked(ground, lab, unused, sources, accept_unreadable=True).ready


def test_a_blob_that_does_not_open_still_names_its_key(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    target = Target(key_id=world.keys.archive, provider="ctyun", context=DROP)
    close(ground, run(ground, sources[0].spec, target).campaign)
    found = asked(ground, lab, world.keys.orders, sources, accept_unreadable=True)
    assert told(found) == [(Kind.RECORDS, "files", TWENTIES)]


def test_nothing_registered_is_nothing_looked_at(ground: Ground, lab: Lab, world: World) -> None:
    (left,) = asked(ground, lab, world.keys.archive, []).left
    assert (left.kind, left.where) == (
        Kind.UNSCANNED,
        "no source is registered, so nothing was looked at",
    )


def test_a_source_that_cannot_be_read_is_named(
    ground: Ground, lab: Lab, sources: list[RegisteredSource], tmp_path: Path
) -> None:
    unused = lab.ctyun().create_key().key_id
    gone = RegisteredSource("gone", SourceSpec(str(tmp_path / "gone.csv")), NOW)
    (left,) = asked(ground, lab, unused, [*sources, gone], accept_unreadable=True).left
    assert left.kind is Kind.UNSCANNED
    assert left.where.startswith("gone: ")
    assert "there is no such file" in left.where


def test_a_campaign_that_is_not_finished_stands_in_the_way(
    ground: Ground, lab: Lab, sources: list[RegisteredSource]
) -> None:
    unused = lab.ctyun().create_key().key_id
    with pytest.raises(CampaignInterrupted):
        run(ground, sources[1].spec, watch=Watch(stop=lambda: True))
    (left,) = asked(ground, lab, unused, sources, accept_unreadable=True).left
    assert left.kind is Kind.UNFINISHED


# Records that are not what their columns say


def source_of(path: Path, *rows: Row, **how: str) -> list[RegisteredSource]:
    """A registered file of rows, of which only what is named is there."""
    whole = [dict.fromkeys(COLUMNS) | {"record_id": "r"} | row for row in rows]
    spec = write_csv(path, whole)
    return [RegisteredSource("source", replace(spec, **how), NOW)]  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["ctyun", "aws", None])
def test_a_record_of_another_provider_than_it_says(
    ground: Ground, lab: Lab, tmp_path: Path, label: str | None
) -> None:
    tencent = lab.tencent()
    key, other = tencent.create_key("used").key_id, tencent.create_key("other").key_id
    blob = tencent.encrypt(key, b"x")
    if label is None:  # the source as a whole was registered wrongly
        source = source_of(tmp_path / "x", {"ciphertext_blob": blob}, provider="ctyun")
    else:
        source = source_of(tmp_path / "x", {"ciphertext_blob": blob, "provider": label})
    assert told(asked(ground, lab, key, source)) == [(Kind.RECORDS, "source", 1)]
    old = lab.key(key).versions[0].version_id
    assert not asked(ground, lab, key, source, key_version_id=old).ready
    assert asked(ground, lab, other, source).ready


@pytest.mark.parametrize("label", ["tencent", "ctyun", "aws"])
def test_what_is_no_blob_is_unreadable_for_every_key(
    ground: Ground, lab: Lab, tmp_path: Path, label: str
) -> None:
    source = source_of(tmp_path / "x", {"ciphertext_blob": "b3JkZXJz", "provider": label})
    for key in (lab.tencent().create_key("t"), lab.ctyun().create_key(alias="c")):
        found = asked(ground, lab, key.key_id, source)
        assert told(found) == [(Kind.UNREADABLE, "source", 1)]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two pairs of which the first has two versions, and public-key ciphertext of its first."""

    used: str
    other: str
    versions: tuple[str, str]
    other_version: str
    blob: str

    def row(self, key: str | None, version: str | None) -> Row:
        return {
            "provider": "ctyun",
            "ciphertext_blob": self.blob,
            "source_key_id": key,
            "source_key_version_id": version,
            "source_encryption_algorithm": OaepAlgorithm.SHA_256.value,
        }


@pytest.fixture
def pairs(lab: Lab) -> Pairs:
    ctyun = lab.ctyun()
    used = ctyun.create_key(alias="used", spec=KeySpec.RSA_2048).key_id
    other = ctyun.create_key(alias="other", spec=KeySpec.RSA_2048)
    ctyun.create_key_version(used)
    first, second = (version.version_id for version in ctyun.describe_key(used).versions)
    blob = ctyun.asymmetric_encrypt(used, first, OaepAlgorithm.SHA_256, b"x")
    return Pairs(used, other.key_id, (first, second), other.versions[0].version_id, blob)


def test_public_key_ciphertext_is_on_the_pair_that_opens_it_or_may_be_on_every(
    ground: Ground, lab: Lab, tmp_path: Path, pairs: Pairs
) -> None:
    source = source_of(tmp_path / "right", pairs.row(pairs.used, pairs.versions[0]))
    assert told(asked(ground, lab, pairs.used, source)) == [(Kind.RECORDS, "source", 1)]
    second = asked(ground, lab, pairs.used, source, key_version_id=pairs.versions[1])
    assert (second.ready, asked(ground, lab, pairs.other, source).ready) == (True, True)
    third = lab.ctyun().create_key(alias="third", spec=KeySpec.RSA_2048).key_id
    for wrong, named in {
        "other pair": (pairs.other, pairs.other_version),
        "other version": (pairs.used, pairs.versions[1]),
        "no version": (pairs.used, None),
    }.items():
        source = source_of(tmp_path / wrong, pairs.row(*named))
        for version in (None, *pairs.versions):
            found = asked(ground, lab, pairs.used, source, key_version_id=version)
            assert not found.ready, wrong
        assert told(asked(ground, lab, third, source)) == [(Kind.UNREADABLE, "source", 1)], wrong


@pytest.mark.parametrize("usable", [True, False])
def test_another_version_is_believed_when_it_is_proven(
    ground: Ground, lab: Lab, tmp_path: Path, usable: bool
) -> None:
    tencent = lab.tencent()
    key = tencent.create_key("used").key_id
    lab.rotate(key)
    row = {"provider": "tencent", "ciphertext_blob": tencent.encrypt(key, b"x")}
    source = source_of(tmp_path / "x", row)
    if not usable:
        tencent.disable_key(key)
    old = lab.key(key).versions[0].version_id
    expected = [] if usable else [(Kind.UNREADABLE, "source", 1)]
    assert told(asked(ground, lab, key, source, key_version_id=old)) == expected


@pytest.mark.parametrize("writer", ["csv", "jsonl", "sqlite"])
def test_a_source_without_records_was_not_looked_at(
    ground: Ground, lab: Lab, tmp_path: Path, writer: str
) -> None:
    unused = lab.ctyun().create_key().key_id
    source = [RegisteredSource("nothing", WRITERS[writer](tmp_path / "x", []), NOW)]
    (left,) = asked(ground, lab, unused, source, accept_unreadable=True).left
    assert left.kind is Kind.UNSCANNED
    assert left.where.startswith("nothing: no records in it")
    assert asked(ground, lab, unused, source, accept_empty=True).ready


# Journals


def test_a_journal_holds_what_names_no_key(
    ground: Ground, lab: Lab, tmp_path: Path, pairs: Pairs
) -> None:
    row = pairs.row(pairs.used, pairs.versions[0])
    # The pair stands in the name of a folder, which a campaign does not change.
    folder = tmp_path / "x" / f"source_key_id={pairs.used}"
    folder.mkdir(parents=True)
    names = ("ciphertext_blob", "provider", "source_key_version_id", "source_encryption_algorithm")
    table = pa.table({name: [row[name]] for name in names} | {"record_id": ["r"]})
    pq.write_table(table, folder / "1.parquet")
    target = lab.ctyun().create_key().key_id
    done = run(ground, SourceSpec(str(tmp_path / "x")), Target(key_id=target))
    assert done.results.re_encrypted == 1
    elsewhere = source_of(tmp_path / "other", pairs.row(pairs.other, pairs.other_version))
    found = asked(ground, lab, pairs.used, elsewhere)
    assert (Kind.UNREADABLE, done.campaign, 1) in told(found)
    close(ground, done.campaign)
    assert done.campaign not in [left.where for left in asked(ground, lab, pairs.used, []).left]


# What is changed while it looks


def two_sources(lab: Lab, tmp_path: Path) -> tuple[str, list[RegisteredSource]]:
    """Two files with a record each of one key, and another key that nothing is on."""
    tencent = lab.tencent()
    row = {
        "provider": "tencent",
        "ciphertext_blob": tencent.encrypt(tencent.create_key("x").key_id, b"x"),
    }
    found = [*source_of(tmp_path / "a", row), *source_of(tmp_path / "b", row)]
    named = [replace(each, name=name) for each, name in zip(found, "ab", strict=True)]
    return tencent.create_key("unused").key_id, named


def reading(source: Source, then: Callable[[], object]) -> Source:
    """A source that something happens to when it is read."""

    class Part:
        def __getattr__(self, name: str) -> Any:
            return getattr(source.parts[0], name)

        def read(self) -> Iterator[Chunk]:
            yield from source.parts[0].read()
            then()

    class Wrapped:
        parts = (Part(),)

        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

    return Wrapped()  # type: ignore[return-value]


def test_no_campaign_gets_in_between(ground: Ground, lab: Lab, tmp_path: Path) -> None:
    unused, sources = two_sources(lab, tmp_path)
    Sources(ground.state, ground.clock).add("a", sources[0].spec)
    refused = []

    def move() -> None:
        with pytest.raises(SourceBusy) as caught:
            run(ground, sources[0].spec, Target(key_id=unused))
        refused.append(str(caught.value))

    def opened(spec: SourceSpec) -> Source:
        source = open_source(spec)
        return reading(source, move) if spec == sources[1].spec else source

    assert asked(replace(ground, open_source=opened), lab, unused, sources).ready
    assert len(refused) == 1
    assert "`kmslab retire` is reading it" in refused[0]
    # It is free again.
    assert run(ground, sources[0].spec, Target(key_id=unused)).state == "finished"


def test_a_campaign_before_the_locks_is_noticed(ground: Ground, lab: Lab, tmp_path: Path) -> None:
    unused, sources = two_sources(lab, tmp_path)

    def opened(spec: SourceSpec) -> Source:
        if spec == sources[1].spec:
            close(ground, run(ground, sources[0].spec, Target(key_id=unused)).campaign)
        return open_source(spec)

    found = asked(replace(ground, open_source=opened), lab, unused, sources)
    assert told(found)[0] == (Kind.RECORDS, "a", 1)
    assert "so look again: the campaigns" in found.left[1].where


def test_a_campaign_at_work_is_named(ground: Ground, lab: Lab, tmp_path: Path) -> None:
    unused, sources = two_sources(lab, tmp_path)
    with ground.state.lock(open_source(sources[0].spec).name):
        (left,) = asked(ground, lab, unused, sources).left
    assert left.kind is Kind.UNSCANNED
    assert "another campaign is at work on it" in left.where
    assert asked(ground, lab, unused, sources).ready


def test_what_is_changed_meanwhile_is_named(ground: Ground, lab: Lab, tmp_path: Path) -> None:
    unused, sources = two_sources(lab, tmp_path)
    registered = Sources(ground.state, ground.clock)

    def change() -> None:
        registered.add("late", sources[0].spec)
        registered.hold("tapes", "backups")
        lab.rotate(unused)

    ground = replace(ground, open_source=lambda spec: reading(open_source(spec), change))
    (left,) = asked(ground, lab, unused, sources[:1]).left
    assert left.kind is Kind.UNSCANNED
    assert left.where.endswith("look again: the registered sources, the holds, the key")


def test_several_state_folders(ground: Ground, lab: Lab, tmp_path: Path) -> None:
    unused, sources = two_sources(lab, tmp_path)
    other = State(tmp_path / "other")
    for state in (ground.state, other):
        Sources(state, ground.clock).add("a", sources[0].spec)
    Sources(other, ground.clock).add("b", sources[1].spec)
    found = survey(ground, lab.key(unused), also=[other])
    assert (found.ready, found.sources, found.records) == (True, ("a", "b"), 2)
    assert found.states == (str(ground.state.path), str(other.path))
    Sources(other, ground.clock).hold("tapes", "backups")
    done = run(replace(ground, state=other), sources[1].spec, Target(key_id=unused))
    left = told(survey(ground, lab.key("x"), also=[other]))
    assert left == [
        (Kind.RECORDS, "a", 1),
        (Kind.JOURNAL, done.campaign, 1),
        (Kind.HOLD, "tapes: backups", 0),
    ]
    with other.lock(open_source(sources[0].spec).name):
        assert Kind.UNSCANNED in [
            left.kind for left in survey(ground, lab.key("x"), also=[other]).left
        ]
