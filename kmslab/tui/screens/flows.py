"""What is done in several steps: plan, agree, watch, see the result, undo. All of it is the
campaigns' own; here it is only asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from rich.text import Text

from kmslab.campaign.accounts import summary
from kmslab.campaign.closing import campaigns, close
from kmslab.campaign.journal import Journal
from kmslab.campaign.plan import Plan
from kmslab.campaign.rendering import markdown
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.rest import check_rest, plan_rest
from kmslab.campaign.run import UNFINISHED, resume, run
from kmslab.campaign.selection import Selection
from kmslab.campaign.standing import why_no_undo
from kmslab.campaign.undo import UndoPlan, plan_undo, undo
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted, CampaignState
from kmslab.tui.activity import command_line
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.host import Host
from kmslab.tui.jobs import Job
from kmslab.tui.saving import ask_place
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.progress import AtWork, Ended
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.sheet import Laid
from kmslab.tui.shown import rest_text, undo_text
from kmslab.tui.texts import records, visible

T = TypeVar("T")

_LOOKING: Final = "Looking what can be undone"


async def re_encrypt(app: Host, selection: Selection, what: str) -> None:
    """Plan, ask, run, show; then whatever is asked for there."""
    plan = await app.push_screen_wait(PlanScreen(app.session, selection, what))
    if plan is not None:
        await carry_out(app, plan)


async def carry_out(app: Host, plan: Plan) -> None:
    """Run a plan that somebody has agreed to, and show what came of it."""
    ground = app.session.ground
    report = await _campaign(
        app, "Re-encrypting", lambda watch: run(ground, plan.spec, plan=plan, watch=watch)
    )
    if report is None:
        return
    if report.state not in UNFINISHED:
        app.done(
            f"campaign {report.campaign}: {summary(report)}", "campaign", "report", report.campaign
        )
    await show_result(app, report)


async def show_result(app: Host, report: Report) -> None:
    """The result of a campaign, and what is asked for there."""
    while True:
        names = await app.away(app.session.names)
        chosen = await app.push_screen_wait(ResultScreen(app.session.source, report, names))
        match chosen:
            case "undo":
                again = await undo_campaign(app, report.campaign)
            case "resume":
                again = await resume_campaign(app, report.campaign)
            case "mark":
                await app.mark_records(failed_ids(app, report.campaign))
                return
            case "write":
                await write_report(app, report.campaign)
                again = None
            case _:
                return
        report = again or report


async def undo_campaign(app: Host, campaign_id: str) -> Report | None:
    """Say what an undo would do, ask, do it; its report, None where nothing was done."""
    ground = app.session.ground
    looked = await at_work(app, _LOOKING, lambda w: plan_undo(ground, campaign_id, watch=w))
    would = _value(app, looked)
    return None if would is None else await _undo(app, would)


async def _undo(app: Host, would: UndoPlan) -> Report | None:
    ground, campaign_id = app.session.ground, would.campaign
    if not would.restorable:
        app.tell(f"campaign {campaign_id}: no record has its blob any more; nothing to undo")
        return None
    words = ["campaign", "undo", campaign_id, "--yes"]
    body = partial(undo_text, would, command_line(words, app.session.options))
    agreed = await app.push_screen_wait(
        Confirm(f"Undo campaign {campaign_id}?", body, answer="Undo", records=would.restorable)
    )
    if not agreed or app.read_only:
        return None
    report = await _campaign(app, "Undoing", lambda w: undo(ground, campaign_id, watch=w))
    if report is not None and report.state not in UNFINISHED:
        app.done(
            f"campaign {campaign_id} undone: {records(report.undone)} restored, "
            f"{report.undo_left:,} left",
            *words,
        )
    return report


async def undo_last(app: Host) -> None:
    """Undo the last campaign on this source that left something to undo."""
    ground, spec = app.session.ground, app.session.spec

    def look(watch: Watch) -> UndoPlan:
        source = None if spec is None else ground.open_source(spec).name
        found = [each for each in campaigns(ground.state) if isinstance(each, Report)]
        ids = [each.campaign for each in found if each.source == source and not why_no_undo(each)]
        if not ids:
            raise CampaignState("no campaign on this source has anything to undo; J lists them all")
        return plan_undo(ground, ids[-1], watch=watch)

    # All of the looking is behind a dialog: what is typed meanwhile reaches nothing.
    would = _value(app, await at_work(app, _LOOKING, look))
    report = None if would is None else await _undo(app, would)
    if report is not None:
        await show_result(app, report)


async def resume_campaign(app: Host, campaign_id: str) -> Report | None:
    """Plan what is left of a campaign, ask, and take it up where it was stopped."""
    ground = app.session.ground
    words = ["campaign", "resume", campaign_id]

    def look(watch: Watch) -> tuple[Plan, Laid]:
        rest = plan_rest(ground, campaign_id, watch=watch)
        command = command_line(words, app.session.options)
        return rest, partial(rest_text, rest, app.session.names(), command)

    looked = _value(app, await at_work(app, "Planning what is left", look))
    if looked is None:
        return None
    rest, body = looked
    agreed = await app.push_screen_wait(
        Confirm(f"Continue campaign {campaign_id}?", body, answer="Continue", records=rest.to_send)
    )
    if not agreed or app.read_only:
        return None

    check = partial(check_rest, ground, campaign_id, rest)
    report = await _campaign(
        app, "Re-encrypting", lambda w: resume(ground, campaign_id, check=check, watch=w)
    )
    if report is not None and report.state not in UNFINISHED:
        app.done(f"campaign {campaign_id} continued: {summary(report)}", *words)
    return report


async def close_campaign(app: Host, campaign_id: str) -> None:
    """Ask, and erase the blobs in a journal, which ends the undo."""
    words = ["campaign", "close", campaign_id]
    body = Text(
        "Its journal forgets every old blob: after that it cannot be undone. Counts, ids and "
        "failures stay. No record is touched."
    )
    body.append(f"\n\nThe same: {visible(command_line(words, app.session.options))}")
    agreed = await app.push_screen_wait(
        Confirm(f"Close campaign {campaign_id}?", body, answer="Close")
    )
    if agreed and not app.read_only:
        await app.away(lambda: close(app.session.ground, campaign_id))
        app.done(f"campaign {campaign_id} is closed", *words)


async def write_report(app: Host, campaign_id: str) -> None:
    """Write the report of a campaign to a file."""
    report = await app.away(lambda: report_of(app, campaign_id))
    await ask_place(app, "Write the report", f"report-{campaign_id}.md", markdown(report))


def report_of(app: Host, campaign_id: str, *, listed: int | None = 1_000) -> Report:
    """The report of a campaign as its journal is now."""
    with Journal.open(app.session.ground.state.journal_path(campaign_id)) as journal:
        return read_report(journal, listed=listed)


def failed_ids(app: Host, campaign_id: str) -> frozenset[str]:
    """The ids of all records of a campaign that failed or were lost."""
    report = report_of(app, campaign_id, listed=None)
    failed = {failure.record_id for failure in report.failures}
    return frozenset(failed | {lost.record_id for lost in report.losses})


async def at_work(app: Host, title: str, work: Callable[[Watch], T]) -> Ended[T]:
    """Do a pass in a thread, with its bar, until it has ended."""
    return await app.push_screen_wait(AtWork(title, Job(title), work))


async def _campaign(app: Host, title: str, work: Callable[[Watch], Report]) -> Report | None:
    """A pass that writes: its report, also where it was stopped on the way."""
    ended = await at_work(app, title, work)
    app.read_again()
    error = ended.error
    if isinstance(error, CampaignInterrupted) and error.campaign_id:
        app.refused(error)
        campaign_id = error.campaign_id
        return await app.away(lambda: report_of(app, campaign_id))
    return _value(app, ended)


def _value(app: Host, ended: Ended[T]) -> T | None:
    if ended.error is not None:
        app.refused(ended.error)
    return ended.value
