"""What is left of an interrupted campaign is what resuming it does, with the keys as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from campaign_data import TWO_CHUNKS, World

from kmslab import Lab
from kmslab.analysis.classify import STAY
from kmslab.campaign.journal import Journal, Step
from kmslab.campaign.plan import Options, target_as_dict
from kmslab.campaign.rest import check_rest, plan_rest
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.standing import why_no_resume, why_no_undo
from kmslab.campaign.undo import undo
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted, CampaignState, PlanOutdated
from kmslab.records.spec import SourceSpec


@pytest.fixture
def records(small_chunks: None) -> int:
    return TWO_CHUNKS


@pytest.fixture(params=["csv", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stopped(ground: Ground, spec: SourceSpec, where: Literal["planning", "running"]) -> str:
    """A campaign that was stopped: before it had a plan, or after its first chunk."""
    if where == "running":
        with pytest.raises(CampaignInterrupted):
            run(ground, spec, watch=Watch(stop=iter([False, False, True, True]).__next__))
    else:
        facts = {
            "state": "planning",
            "source": ground.open_source(spec).name,
            "spec": spec.as_dict(),
            "target": target_as_dict(STAY),
            "options": Options().as_dict(),
            "started_at": ground.clock.now().isoformat(),
            "plan": None,
        }
        Journal.create(ground.state.journal_path(ground.state.new_id(ground.clock)), facts).close()
    return ground.state.journals()[-1].stem


@pytest.mark.parametrize("where", ["planning", "running"])
def test_it_is_what_resuming_does_after_a_rotation(
    ground: Ground,
    world: World,
    lab: Lab,
    spec: SourceSpec,
    where: Literal["planning", "running"],
) -> None:
    campaign_id = stopped(ground, spec, where)
    with Journal.open(ground.state.journal_path(campaign_id)) as journal:
        assert journal.facts()["state"] == where
        done = journal.count(Step.APPLIED)
    lab.rotate(world.keys.orders)
    rest = plan_rest(ground, campaign_id)
    check_rest(ground, campaign_id, rest)
    results = resume(ground, campaign_id).results
    assert results.re_encrypted - done + results.failed == rest.to_send


def test_it_is_refused_where_keys_are_not_what_they_were(
    ground: Ground, world: World, lab: Lab, spec: SourceSpec
) -> None:
    campaign_id = stopped(ground, spec, "planning")
    rest = plan_rest(ground, campaign_id)
    lab.rotate(world.keys.orders)
    with pytest.raises(PlanOutdated, match="was rotated after the plan was made"):
        check_rest(ground, campaign_id, rest)
    with pytest.raises(PlanOutdated, match="was rotated after the plan was made"):
        resume(ground, campaign_id, plan=rest)
    results = resume(ground, campaign_id, plan=plan_rest(ground, campaign_id)).results
    assert results.re_encrypted > rest.to_send


def test_it_is_planned_where_it_was_run(ground: Ground, spec: SourceSpec) -> None:
    campaign_id = stopped(ground, spec, "running")
    with pytest.raises(CampaignState, match="was run on a lab: name the same again"):
        plan_rest(replace(ground, remotes=("prod",)), campaign_id)


def test_what_may_be_done_is_what_is_done(
    ground: Ground, world: World, lab: Lab, spec: SourceSpec
) -> None:
    report = run(ground, spec)
    assert (why_no_undo(report), why_no_resume(report)) == ("", "it is finished")
    with pytest.raises(CampaignState, match="is finished; nothing is to be continued"):
        plan_rest(ground, report.campaign)
    undone = undo(ground, report.campaign)
    assert why_no_undo(undone) == "it is undone already"
