"""Every pass tells how far it is, and stops when it is asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from campaign_data import CHUNK, TWO_CHUNKS, World

from kmslab.campaign.plan import Options
from kmslab.campaign.proof import verify
from kmslab.campaign.retire import survey
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.sources import Sources
from kmslab.campaign.undo import plan_undo
from kmslab.campaign.watching import Progress, Watch
from kmslab.errors import CampaignInterrupted
from kmslab.records.spec import SourceSpec


@pytest.fixture
def records(small_chunks: None) -> int:
    return TWO_CHUNKS


@pytest.fixture
def kind() -> str:
    return "csv"


def surveyed(ground: Ground, _campaign_id: str, watch: Watch) -> Any:
    sources = Sources(ground.state)
    key = ground.providers.kms("tencent").list_keys()[0]
    return survey(ground, key, sources=sources.all(), holds=(), watch=watch)


LOOKS: dict[str, Callable[[Ground, str, Watch], Any]] = {
    "verifying": lambda ground, campaign_id, watch: verify(ground, campaign_id, watch=watch),
    "looking": lambda ground, campaign_id, watch: plan_undo(ground, campaign_id, watch=watch),
    "reading all": surveyed,
}


@pytest.mark.parametrize("doing", LOOKS)
def test_a_look_is_watched_and_stopped(
    ground: Ground, world: World, spec: SourceSpec, doing: str
) -> None:
    Sources(ground.state).add("all", spec)
    campaign_id = run(ground, spec).campaign
    seen: list[Progress] = []
    LOOKS[doing](ground, campaign_id, Watch(seen.append))
    assert {each.doing for each in seen} == {doing}
    assert [each.rows for each in seen] == [CHUNK, TWO_CHUNKS]
    with pytest.raises(CampaignInterrupted, match=f"stopped while {doing}; nothing was changed"):
        LOOKS[doing](ground, campaign_id, Watch(stop=lambda: True))


def test_a_run_is_watched_to_its_end(ground: Ground, world: World, spec: SourceSpec) -> None:
    seen: list[Progress] = []
    run(ground, spec, watch=Watch(seen.append))
    passes = ("planning", "re-encrypting", "counting")
    assert [each.doing for each in seen] == [doing for doing in passes for _ in range(2)]


def test_a_run_that_a_rate_holds_back_is_watched_batch_by_batch(
    ground: Ground, world: World, spec: SourceSpec
) -> None:
    seen: list[Progress] = []
    report = run(ground, spec, options=Options(rates={"ctyun": 100}), watch=Watch(seen.append))
    rows = [each.rows for each in seen if each.doing == "re-encrypting"]
    assert rows == sorted(rows)
    assert rows[-1] == TWO_CHUNKS
    assert len(rows) >= report.calls["ctyun"] // 10


def test_one_that_is_stopped_while_counting_counts_again(
    ground: Ground, world: World, spec: SourceSpec
) -> None:
    doing = ""

    def told(progress: Progress) -> None:
        nonlocal doing
        doing = progress.doing

    with pytest.raises(CampaignInterrupted, match="all is stored") as caught:
        run(ground, spec, watch=Watch(told, lambda: doing == "counting"))
    report = resume(ground, caught.value.campaign_id)
    assert report.state == "finished"
    assert sum(report.calls.values()) == report.plan.forecast.calls  # type: ignore[union-attr]
    assert sum(row.records for row in report.census_after or ()) == TWO_CHUNKS
