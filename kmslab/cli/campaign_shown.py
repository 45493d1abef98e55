"""Plans, reports and what else campaigns give, as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from kmslab.cli.output import narrate, narrate_text, write_line, write_table, write_text

if TYPE_CHECKING:
    from kmslab.analysis.census import CensusRow
    from kmslab.campaign.closing import Unreadable
    from kmslab.campaign.plan import Plan
    from kmslab.campaign.report import Report
    from kmslab.campaign.undo import UndoPlan
    from kmslab.keys import Names

_NAMED: Final = 10
"""So many records are named on a screen; the report has more."""

_VERSIONS: Final = 10
"""So many key versions of a campaign are shown on a screen: the others are summed up."""

_SHOWN: Final = 3
"""How many records are named for each reason; --json names ten."""


def show_plan(plan: Plan, names: Names) -> None:
    """What would become of the records, what is there now, and what it takes."""
    from kmslab.campaign.rendering import destination, selected

    write_line(f"Plan for {plan.source}")
    if plan.target.key_id is not None:
        write_text(f"Destination: {destination(plan)}.")
    if some := selected(plan):
        write_text(f"Records: {some}. The census counts all.")
    _show_reasons(plan)
    write_line("\nCensus: the records on each key version now")
    _show_versions(plan, names)
    if plan.forecast.calls:
        write_line("\nCalls, how long they take, and the rights that they need")
        write_table(["PROVIDER", "CALLS", "A SECOND", "TIME", "RIGHTS"], _calls(plan))
    write_line("")
    for note in plan.notes:
        write_text(note)


def _show_reasons(plan: Plan) -> None:
    rows = [[each.outcome.value, each.reason, each.records] for each in plan.reasons]
    rows.append(["total", "", plan.total])
    columns = ["OUTCOME", "REASON", "RECORDS"]
    if any(each.examples for each in plan.reasons):
        columns.append("FOR EXAMPLE")
        for row, each in zip(rows, plan.reasons, strict=False):
            row.append(", ".join(each.examples[:_SHOWN]))
        rows[-1].append("")
    write_table(columns, rows)


def _by_name(row: CensusRow, names: Names) -> tuple[tuple[bool, str | int], ...]:
    """The order of tables: by what is shown of provider, key and version; unknown ones last."""
    order = row.provider, names(row.key_id), row.version_number
    return tuple((value is None, "" if value is None else value) for value in order)


def show_census(rows: Iterable[CensusRow], names: Names) -> None:
    """A census as a table."""
    from kmslab.campaign.wording import version_of

    write_table(
        ["PROVIDER", "KEY", "VERSION", "PRIMARY", "RECORDS"],
        [
            [r.provider, names(r.key_id), version_of(r), r.is_primary, r.records]
            for r in sorted(rows, key=lambda row: _by_name(row, names))
        ],
    )


def _show_versions(plan: Plan, names: Names, after: Sequence[CensusRow] | None = None) -> None:
    """The key versions of a plan as a table: after a run those that changed, or are still stale.

    The others, and those that would not fit a screen, are summed up below it.
    """
    from kmslab.campaign.rendering import both_censuses
    from kmslab.campaign.wording import counted, version_of

    both = both_censuses(plan.census, plan.census if after is None else after)
    told = [each for each in both if after is None or each[1] != each[2] or _is_stale(each)]
    shown = sorted(told, key=lambda each: (not _is_stale(each), -max(each[1], each[2])))[:_VERSIONS]
    columns = ["PROVIDER", "KEY", "VERSION", "PRIMARY", "RECORDS"]
    if after is not None:
        columns[-1:] = ["BEFORE", "AFTER"]
    rows = [
        [r.provider, names(r.key_id), version_of(r), r.is_primary, was, now][: len(columns)]
        for r, was, now in sorted(shown, key=lambda each: _by_name(each[0], names))
    ]
    if rows:
        write_table(columns, rows)
    elif not both:
        write_line("There are no records.")
    notes = []
    if others := [each for each in told if each not in shown]:
        was, now = sum(each[1] for each in others), sum(each[2] for each in others)
        held = counted(was, "record") + ("" if after is None else f" before and {now:,} after")
        notes.append(f"{counted(len(others), 'row')} more with {held}")
    if len(told) < len(both):
        notes.append(f"{counted(len(both) - len(told), 'row')} unchanged")
    if notes:
        write_text(f"and {', '.join(notes)}; --json has all")


def _is_stale(found: tuple[CensusRow, int, int]) -> bool:
    """Whether records are on a key version now that is not the primary one."""
    row, _, now = found
    return row.is_primary is False and now > 0


def _calls(plan: Plan) -> list[list[Any]]:
    from kmslab.campaign.rendering import duration

    return [
        [
            each.provider,
            each.calls,
            f"{each.rate:g}",
            duration(each.seconds),
            ", ".join(plan.rights.get(each.provider, ())),
        ]
        for each in plan.forecast.providers
    ]


def show_intent(plan: Plan) -> None:
    """Say exactly what a run would do, to whoever is asked."""
    from kmslab.campaign.rendering import intent
    from kmslab.campaign.wording import counted

    outcomes = ", ".join(f"{n:,} {outcome.value}" for outcome, n in plan.outcomes.items() if n)
    narrate_text(f"\n{counted(plan.total, 'record')}: {outcomes}.")
    for sentence in intent(plan):
        narrate_text(sentence)


def show_report(report: Report, names: Names) -> None:
    """What a campaign has done."""
    from kmslab.campaign.accounts import account
    from kmslab.campaign.rendering import selected

    write_line(f"Campaign {report.campaign} on {report.source}: {report.state}")
    if report.plan is not None and (some := selected(report.plan)):
        write_text(f"Records: {some}. The census counts all.")
    write_table(["RESULT", "RECORDS"], account(report))
    if report.plan is not None and report.census_after is not None:
        write_line("\nCensus: the records on each key version, before and after")
        _show_versions(report.plan, names, report.census_after)
    _show_failures(report)
    _show_lost("Lost: left as they are", [(lost.record_id, lost.reason) for lost in report.losses])


def _show_failures(report: Report) -> None:
    if not report.failure_codes:
        return
    write_line("\nFailed: left as they are")
    shown = report.failure_groups[:_NAMED]
    rows = [[g.provider, g.code, g.records, ", ".join(g.examples[:_SHOWN])] for g in shown]
    write_table(["PROVIDER", "CODE", "RECORDS", "FOR EXAMPLE"], rows)
    for group in shown:
        request = f" (request {group.request_id})" if group.request_id else ""
        write_text(f"{group.code}: {group.message}{request}")
    if more := len(report.failure_groups) - len(shown):
        write_text(f"(the report has {more:,} more kinds of failures)")


def _show_lost(title: str, lost: Sequence[tuple[str, str]]) -> None:
    if not lost:
        return
    write_line(f"\n{title}")
    write_table(["RECORD", "WHY"], lost[:_NAMED])
    if len(lost) > _NAMED:
        write_text("(the report names more)")


def show_undo_plan(plan: UndoPlan) -> None:
    """What an undo would do."""
    write_line(f"Undo of campaign {plan.campaign} on {plan.source}")
    write_table(
        ["RECORDS THAT", "COUNT"],
        [
            ["get their old blob back", plan.restorable],
            ["have it already", plan.already],
            ["were changed since, and are left", plan.touched_count],
            ["are not there any more", plan.gone_count],
        ],
    )
    _show_lost("Changed since", [(name, "holds another blob") for name in plan.touched])


def show_undone(report: Report) -> None:
    """What an undo has done."""
    write_line(f"Campaign {report.campaign} on {report.source}: {report.state}")
    rows = [["restored", report.undone], ["left as they are", report.undo_left]]
    if report.undone_unproven:
        rows.insert(1, ["of these without proof", report.undone_unproven])
    write_table(["RESULT", "RECORDS"], rows)
    _show_lost("Left", [(lost.record_id, lost.reason) for lost in report.undo_lost])


_LISTED: Final = ("campaign", "state", "source", "started_at", "finished_at", "total", "outcomes")


def as_listed(campaign: Report | Unreadable) -> dict[str, Any]:
    """A campaign in the list, as JSON takes it: all of its report but the long lists.

    Of an unreadable one there is only its error; of the others there is none.
    """
    from kmslab.campaign.report import Report

    names = (*_LISTED, "results", "pending", "undone")
    if isinstance(campaign, Report):
        everything = campaign.as_dict() | {"error": None}
    else:
        everything = dict.fromkeys(names) | {
            "campaign": campaign.campaign,
            "state": campaign.state,
            "error": campaign.error,
        }
    return {name: everything[name] for name in (*names, "error")}


def show_list(campaigns: Sequence[Report | Unreadable]) -> None:
    """Campaigns as a table; what is on its way into the source, and what cannot be read, below."""
    from kmslab.campaign.accounts import when_stored
    from kmslab.campaign.report import Report
    from kmslab.campaign.wording import counted

    columns = ["CAMPAIGN", "STATE", "TOTAL", "RE-ENCRYPTED", "FAILED", "LOST", "SOURCE"]
    write_table(columns, [_line(campaign) for campaign in campaigns])
    for each in campaigns:
        if not isinstance(each, Report):
            narrate(f"{each.campaign}: {each.error}")
        elif each.pending and each.state == "running":
            more = counted(each.pending, "more is", "more are")
            narrate_text(f"{each.campaign}: {more} in the journal, {when_stored(each)}")


def _line(campaign: Report | Unreadable) -> list[Any]:
    from kmslab.campaign.report import Report

    if not isinstance(campaign, Report):
        return [campaign.campaign, campaign.state, *[None] * 5]
    results = campaign.results
    return [
        campaign.campaign,
        campaign.state,
        None if campaign.plan is None else campaign.plan.total,
        results.re_encrypted,
        results.failed,
        results.lost,
        campaign.source,
    ]
