"""Plans, reports and undo plans as text: what the command line shows, laid out for a screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.text import Text

from kmslab.analysis.census import CensusRow
from kmslab.analysis.classify import Drop, Verdict
from kmslab.campaign.accounts import account, summary
from kmslab.campaign.plan import Plan, Reason
from kmslab.campaign.rendering import MEANINGS, both_censuses, duration, intent
from kmslab.campaign.report import Report
from kmslab.campaign.undo import UndoPlan
from kmslab.campaign.wording import counted, version_of
from kmslab.context import context_text
from kmslab.keys import Names
from kmslab.model import KeyState
from kmslab.providers.base import Keep
from kmslab.tui.states import state_text
from kmslab.tui.texts import fields, heading, table, visible

_NAMED: Final = 3
_LISTED: Final = 20
_WAYS_OUT: Final = {
    "key disabled": "e on the key enables it",
    "key pending-deletion": "D on the key cancels its deletion",
}
_OPENING: Final = frozenset({KeyState.ENABLED.value, KeyState.ARCHIVED.value})


def plan_text(plan: Plan, names: Names, width: int) -> Text:
    """Outcomes with their reasons, the census, calls and their time, and what is to be known."""
    text = heading("What would become of the records")
    rows = [
        [
            state_text(Verdict(each.outcome)),
            f"{each.records:,}",
            _why(each),
        ]
        for each in plan.reasons
    ]
    rows.append(["total", f"{plan.total:,}", ""])
    text.append("\n")
    columns = ["OUTCOME", "RECORDS", "WHY"]
    text.append(table(columns, rows, width, right=frozenset({1}), wrapped=True))
    if plan.forecast.calls:
        text.append("\n\n")
        text.append(heading("Calls against the clouds, and how long they take"))
        text.append("\n")
        columns = ["PROVIDER", "CALLS", "A SECOND", "TIME", "RIGHTS"]
        right = frozenset({1, 2})
        text.append(table(columns, _calls(plan), width, right=right, wrapped=True))
        if plan.forecast.calls < plan.to_send:
            text.append("\nFewer calls than records: those with equal blobs are sent once.")
    text.append("\n")
    for note in plan.notes:
        text.append(f"\n{visible(note.replace('--deep', 'p (--deep)'))}")
    keys = {mark.key_id for mark in plan.keys}
    census = [row for row in plan.census if row.key_id in keys]
    if census:
        text.append("\n\n")
        text.append(heading("All records of the source on these keys, by version"))
        text.append("\n")
        text.append(census_text(census, names, width))
    return text


def _why(reason: Reason) -> str:
    """Why records have their outcome, and some of them by name."""
    why = reason.reason or MEANINGS[reason.outcome]
    why += f" ({_WAYS_OUT[why]})" if why in _WAYS_OUT else ""
    examples = reason.examples[:_NAMED]
    return f"{why}: {', '.join(examples)}" if examples else why


def agreed_text(plan: Plan, what: str, names: Names) -> Text:
    """What somebody agrees to: which records, from which keys to which, under which context; calls.

    `what` says which records those are, "" where nobody knows.
    """
    text = fields(_facts(plan, what, names))
    sentences = "\n".join(visible(sentence) for sentence in intent(plan))
    return text.append(f"\n\n{sentences}")


def _facts(plan: Plan, what: str, names: Names) -> list[tuple[str, str]]:
    target = plan.target
    there = [mark for mark in plan.keys if mark.state in _OPENING and mark.key_id != target.key_id]
    keys = [f"{names(mark.key_id) or mark.key_id} of {mark.provider}" for mark in there[:_NAMED]]
    if len(there) > _NAMED:
        keys.append(f"{len(there) - _NAMED:,} more")
    to = "each on its own key, the primary version of it"
    if target.key_id is not None:
        provider = f" of {target.provider}" if target.provider else ""
        to = f"{names(target.key_id) or target.key_id}{provider}, all of them"
        if any(mark.provider != target.provider for mark in there) and target.provider:
            to += "; some cross from one provider to the other"
    match target.context:
        case Keep():
            context = "each keeps its own"
        case Drop():
            context = "DROPPED: no new blob has one"
        case named:
            context = context_text(named)
    facts = [("records", what), ("from", ", ".join(keys)), ("to", to), ("context", context)]
    return [(name, value) for name, value in facts if value]


def rest_text(plan: Plan, pending: int, names: Names, command: str, width: int) -> Text:
    """What continuing a campaign would do, judged with the keys as they are now.

    `pending` records have their new blob in the journal, and not in the source yet.
    """
    text = Text("What is left, judged with the keys as they are now. ")
    text.append("\n\n")
    text.append(agreed_text(plan, "", names))
    if pending:
        have = counted(pending, "has its new blob", "have their new blobs")
        text.append(f"\nOf what is to be re-encrypted {have} in the journal already: no call ")
        text.append("is made for them again.")
    text.append("\n\n")
    text.append(plan_text(plan, names, width))
    text.append(f"\n\nThe same: {visible(command)}")
    return text


def _calls(plan: Plan) -> list[list[str]]:
    return [
        [
            each.provider,
            f"{each.calls:,}",
            f"{each.rate:g}",
            duration(each.seconds),
            ", ".join(plan.rights.get(each.provider, ())),
        ]
        for each in plan.forecast.providers
    ]


def census_text(rows: Iterable[CensusRow], names: Names, width: int) -> Text:
    """A census, by what is shown of keys."""
    ordered = sorted(rows, key=lambda row: _by_name(row, names))
    columns = ["PROVIDER", "KEY", "VERSION", "RECORDS"]
    return table(
        columns,
        [[*_version(row, names), f"{row.records:,}"] for row in ordered],
        width,
        right=frozenset({3}),
    )


def _version(row: CensusRow, names: Names) -> list[str]:
    number = version_of(row) or "-"
    primary = {True: " ● primary", False: " ○ old", None: ""}[row.is_primary]
    return [row.provider or "-", names(row.key_id) or "-", number + primary]


def _by_name(row: CensusRow, names: Names) -> list[tuple[bool, Any]]:
    values = row.provider, names(row.key_id), row.version_number
    return [(value is None, "" if value is None else value) for value in values]


def report_text(report: Report, names: Names, width: int) -> Text:
    """What a campaign has done: results that sum to what was gone over, failures, censuses."""
    text = Text()
    text.append(visible(summary(report)), "bold")
    if report.state == "undoing":
        text.append(" u starts it again.")
    text.append("\n\n")
    text.append(_results(report, width))
    if report.undone or report.undo_left:
        text.append(
            f"\n\nundone: {report.undone:,} restored, {report.undo_left:,} left", "not bold"
        )
        if report.undone_unproven:
            text.append(f"\n{report.undone_unproven:,} of these without proof")
    for part in (_failures(report, width), _lost("Lost: left as they are", report.losses)):
        text.append(part)
    text.append(_lost("Left by the undo", report.undo_lost))
    if report.state == "finished" and report.plan is not None and report.census_after is not None:
        text.append("\n\n")
        text.append(heading("By key version, before and after"))
        text.append("\n")
        text.append(_both(report.plan.census, report.census_after, names, width))
    return text


def _results(report: Report, width: int) -> Text:
    rows = [[name, f"{count:,}"] for name, count in account(report)]
    return table(["RESULT", "RECORDS"], rows, width, right=frozenset({1}))


def _failures(report: Report, width: int) -> Text:
    text = Text()
    if not report.failure_codes:
        return text
    text.append("\n\n")
    text.append(heading("Failed: left as they are"))
    rows = [[code, f"{count:,}"] for code, count in report.failure_codes.items()]
    text.append("\n")
    text.append(table(["CODE", "RECORDS"], rows, width, right=frozenset({1})))
    for failure in report.failures[:_LISTED]:
        text.append(f"\n! {visible(failure.record_id)}  {visible(failure.code)}")
        text.append(f"\n    {visible(failure.message)}")
        if failure.request_id:
            text.append(f"\n    request {visible(failure.request_id)}")
    _more(text, len(report.failures), sum(report.failure_codes.values()))
    return text


def _lost(title: str, lost: Sequence[Any]) -> Text:
    text = Text()
    if not lost:
        return text
    text.append("\n\n")
    text.append(heading(title))
    for each in lost[:_LISTED]:
        text.append(f"\n! {visible(each.record_id)}: {visible(each.reason)}")
    _more(text, len(lost), len(lost))
    return text


def _more(text: Text, listed: int, count: int) -> None:
    if (left := count - min(listed, _LISTED)) > 0:
        text.append(f"\n(and {left:,} more, which the report names)")


def _both(
    before: Sequence[CensusRow], after: Sequence[CensusRow], names: Names, width: int
) -> Text:
    rows = sorted(both_censuses(before, after), key=lambda each: _by_name(each[0], names))
    changed = [each for each in rows if each[1] != each[2]]
    text = table(
        ["PROVIDER", "KEY", "VERSION", "BEFORE", "AFTER"],
        [[*_version(row, names), f"{old:,}", f"{new:,}"] for row, old, new in changed],
        width,
        right=frozenset({3, 4}),
    )
    if others := len(rows) - len(changed):
        same = counted(others, "version holds what it held", "versions hold what they held")
        text.append(f"\n({same} before)")
    return text


def undo_text(plan: UndoPlan, command: str, ends: str, width: int) -> Text:
    """What an undo would do; `ends` says what it is for where it changes no record."""
    rows = [
        ["get their old blob back", plan.restorable],
        ["have it already", plan.already],
        ["were changed since, and are left", plan.touched_count],
        ["are not there any more", plan.gone_count],
    ]
    text = table(
        ["RECORDS THAT", "COUNT"],
        [[str(what), f"{count:,}"] for what, count in rows],
        width,
        right=frozenset({1}),
    )
    if plan.touched:
        text.append(f"\nchanged since: {visible(', '.join(plan.touched[:_NAMED]))}")
    proof = (
        "A record is restored only if its old blob opens to what the new one holds; so the old key "
        "versions must still be there."
    )
    text.append(f"\n\n{ends or proof}")
    text.append(f"\n\nThe same: {visible(command)}")
    return text
