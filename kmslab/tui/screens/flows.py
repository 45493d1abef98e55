"""What is done in several steps: plan, agree, watch, see the result, undo. All of it is the
campaigns' own; here it is only asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from rich.text import Text

from kmslab.analysis.classify import STAY, Target
from kmslab.campaign.accounts import summary
from kmslab.campaign.closing import campaigns, close
from kmslab.campaign.journal import Journal
from kmslab.campaign.plan import Plan
from kmslab.campaign.rendering import markdown
from kmslab.campaign.report import Report, read_report
from kmslab.campaign.rest import check_rest, plan_rest
from kmslab.campaign.run import UNFINISHED, resume, run
from kmslab.campaign.standing import abandoned, said, why_no_resume, why_no_undo
from kmslab.campaign.undo import UndoPlan, plan_undo, undo
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted, CampaignState, PlanOutdated
from kmslab.tui.activity import command_line
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Choose
from kmslab.tui.host import Host
from kmslab.tui.jobs import Job
from kmslab.tui.saving import FORMATS, ask_place, exported
from kmslab.tui.screens.plan import Asked, PlanScreen
from kmslab.tui.screens.progress import AtWork, Ended
from kmslab.tui.screens.result import ResultScreen
from kmslab.tui.sheet import Laid
from kmslab.tui.shown import rest_text, undo_text
from kmslab.tui.texts import records, visible
from kmslab.tui.view import View

T = TypeVar("T")

_LOOKING: Final = "Looking what can be undone"
_NOTHING_TO_UNDO: Final = "no record has its blob any more; nothing to undo"


async def re_encrypt(app: Host, asked: Asked, what: str) -> None:
    """Plan, ask, run, show; then whatever is asked for there. Where keys or source have changed
    since it was planned, it is planned anew. `asked` and `what` are those of `PlanScreen`."""
    target: Target = STAY
    while True:
        screen = PlanScreen(app.session, asked, what, target)
        plan = await app.push_screen_wait(screen)
        if plan is None or await carry_out(app, plan, screen.command):
            return
        target = plan.target


async def carry_out(app: Host, plan: Plan, command: str) -> bool:
    """Run a plan that somebody has agreed to, and show what came of it; False where keys or source
    are not what they were when it was made. `command` does the same."""
    ground = app.session.ground

    def begin(watch: Watch) -> Report:
        try:
            return run(ground, plan.spec, plan=plan, watch=watch)
        except PlanOutdated as error:
            raise PlanOutdated(_with_names(str(error), plan)) from None

    ended = await at_work(app, "Re-encrypting", begin, campaign=True)
    if isinstance(ended.error, PlanOutdated):
        app.refused(ended.error)
        app.read_again()
        return False
    report = await _reported(app, ended)
    if report is not None:
        if report.state not in UNFINISHED:
            app.done(f"campaign {report.campaign}: {summary(report)}", line=command)
        await show_result(app, report)
    return True


def _with_names(text: str, plan: Plan) -> str:
    """A text with what the keys of a plan are called in place of their ids."""
    for key_id, alias in plan.aliases.items():
        text = text.replace(key_id, alias)
    return text


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
                failed = await app.away(partial(failed_ids, app, report.campaign))
                await app.mark_records(failed)
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
    ends = ""
    if not would.restorable:
        now = await app.away(lambda: report_of(app, campaign_id, listed=0))
        if now.state not in UNFINISHED:
            app.refused(CampaignState(f"campaign {campaign_id}: {_NOTHING_TO_UNDO}"))
            return None
        ends = "Nothing in the source is to be changed. The undo ends the campaign, so that it "
        ends += "does not stand in the way of the next one."
    words = ["campaign", "undo", campaign_id, "--yes"]
    body = partial(undo_text, would, command_line(words, app.session.options), ends)
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
        pending = report_of(app, campaign_id, listed=0).pending
        return rest, partial(rest_text, rest, pending, app.session.names(), command)

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


async def close_campaign(app: Host, report: Report) -> None:
    """Ask, and erase the blobs in a journal, which ends the undo.

    One that is not finished, or not all undone, is abandoned so: its source stays as it is.
    """
    campaign_id, given_up = report.campaign, abandoned(report)
    words = ["campaign", "close", campaign_id]
    body = Text(
        "Its journal forgets every old blob: after that it cannot be undone. Counts, ids and "
        "failures stay. No record is touched."
    )
    verb = "Close"
    if given_up is not None:
        words.append("--abandon")
        verb = "Abandon"
        body.append(f"\n\n{_given_up(report)}")
    body.append(f"\n\nThe same: {visible(command_line(words, app.session.options))}")
    agreed = await app.push_screen_wait(
        Confirm(f"{verb} campaign {campaign_id}?", body, answer=verb, records=given_up or 0)
    )
    if agreed and not app.read_only:
        await app.away(lambda: close(app.session.ground, campaign_id, abandon=given_up is not None))
        app.done(f"campaign {campaign_id} is closed", *words)


def _given_up(report: Report) -> str:
    """What abandoning a campaign leaves as it is."""
    if report.state not in UNFINISHED:
        return (
            f"Its undo has left {records(report.undo_left)}: these keep their new blobs, and "
            "their old ones may be nowhere else."
        )
    instead = "c continues it instead." if not why_no_resume(report) else ""
    instead += " u takes it back instead." if not why_no_undo(report) else ""
    return (
        f"It is {said(report.state)}: by its journal {records(report.results.re_encrypted)} "
        "re-encrypted so far. All stay as they are now, and it stands in the way of no other "
        f"campaign any more. {instead.strip()}"
    )


async def export(app: Host, view: View) -> None:
    """Ask for a format and a place, and write what is marked, else what is shown."""
    table, rows = view.table, view.marked_rows() if view.marked else view.rows
    which = f"{view.marked:,} marked" if view.marked else f"{view.shown:,} shown"
    options = [(form, f"{which} records as {form}", "") for form in FORMATS]
    form = await app.push_screen_wait(Choose("Export", options))
    if form is None:
        return
    ended = await at_work(
        app, f"Exporting {which}", lambda watch: exported(table, rows, form, watch)
    )
    text = _value(app, ended)
    if text is not None:
        await ask_place(app, f"Export {which}", f"records.{form}", lambda: text)


async def write_report(app: Host, campaign_id: str) -> None:
    """Write the report of a campaign to a file."""
    name = f"report-{campaign_id}.md"

    def text() -> list[str]:
        return [markdown(report_of(app, campaign_id))]

    await ask_place(app, "Write the report", name, text)


def report_of(app: Host, campaign_id: str, *, listed: int | None = 1_000) -> Report:
    """The report of a campaign as its journal is now."""
    with Journal.open(app.session.ground.state.journal_path(campaign_id)) as journal:
        return read_report(journal, listed=listed)


def failed_ids(app: Host, campaign_id: str) -> frozenset[str]:
    """The ids of all records of a campaign that failed or were lost."""
    report = report_of(app, campaign_id, listed=None)
    failed = {failure.record_id for failure in report.failures}
    return frozenset(failed | {lost.record_id for lost in report.losses})


async def at_work(
    app: Host, title: str, work: Callable[[Watch], T], *, campaign: bool = False
) -> Ended[T]:
    """Do a pass in a thread, with its bar, until it has ended."""
    return await app.push_screen_wait(AtWork(title, Job(title, app.turns, campaign=campaign), work))


async def _campaign(app: Host, title: str, work: Callable[[Watch], Report]) -> Report | None:
    """A pass that writes: its report, also where it was stopped on the way."""
    return await _reported(app, await at_work(app, title, work, campaign=True))


async def _reported(app: Host, ended: Ended[Report]) -> Report | None:
    """What came of it. The source is read again once that is there: one after the other."""
    error = ended.error
    try:
        if isinstance(error, CampaignInterrupted) and error.campaign_id:
            app.refused(error)
            campaign_id = error.campaign_id
            return await app.away(lambda: report_of(app, campaign_id))
        return _value(app, ended)
    finally:
        app.read_again()


def _value(app: Host, ended: Ended[T]) -> T | None:
    if ended.error is not None:
        app.refused(ended.error)
    return ended.value
