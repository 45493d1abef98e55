"""Retiring a key or version: refused while anything is left on it, and what is left is named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from campaign_data import TWENTIES, World, write_csv, write_table

from kmslab import Lab
from kmslab.analysis.classify import DROP, Target
from kmslab.campaign.closing import close
from kmslab.campaign.retire import Kind, Left, Retirement, survey
from kmslab.campaign.run import Ground, run
from kmslab.campaign.sources import Hold, RegisteredSource
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted
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
        (Kind.RECORDS, "table", 4 * TWENTIES),
    ]
    assert found.left[0].examples[0] == "rec-0000001"


def test_a_version_is_left_when_its_records_have_moved(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    old = lab.key(world.keys.billing).versions[0].version_id
    assert told(asked(ground, lab, world.keys.billing, sources, key_version_id=old)) == [
        (Kind.RECORDS, "files", 3 * TWENTIES),
        (Kind.RECORDS, "table", 3 * TWENTIES),
    ]
    done = [run(ground, each.spec).campaign for each in sources]
    # The journals could still bring the old blobs back.
    assert told(asked(ground, lab, world.keys.billing, sources, key_version_id=old)) == [
        (Kind.JOURNAL, done[0], 3 * TWENTIES),
        (Kind.JOURNAL, done[1], 3 * TWENTIES),
    ]
    for campaign in done:
        close(ground, campaign)
    found = asked(ground, lab, world.keys.billing, sources, key_version_id=old)
    assert (found.ready, found.left) == (True, ())
    assert not asked(ground, lab, world.keys.billing, sources).ready


def test_a_hold_stands_for_what_cannot_be_read(
    ground: Ground, lab: Lab, world: World, sources: list[RegisteredSource]
) -> None:
    empty = lab.ctyun().create_key().key_id
    backup = Hold("backup", "nightly copies of orders", NOW, None)
    other = Hold("replica", "of sessions", NOW, world.keys.sessions)
    assert asked(ground, lab, empty, sources).ready
    assert asked(ground, lab, empty, sources, [backup, other]).left == (
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
    (left,) = asked(ground, lab, unused, [*sources, gone]).left
    assert left.kind is Kind.UNSCANNED
    assert left.where.startswith("gone: ")
    assert "there is no such file" in left.where


def test_a_campaign_that_is_not_finished_stands_in_the_way(
    ground: Ground, lab: Lab, sources: list[RegisteredSource]
) -> None:
    unused = lab.ctyun().create_key().key_id
    with pytest.raises(CampaignInterrupted):
        run(ground, sources[1].spec, watch=Watch(stop=lambda: True))
    (left,) = asked(ground, lab, unused, sources).left
    assert left.kind is Kind.UNFINISHED
