"""What became of a campaign's records: numbers that sum to the plan's total, and sentences."""

from __future__ import annotations

from typing import Final

from kmslab.campaign.report import Report
from kmslab.campaign.wording import counted

_UNFINISHED: Final = frozenset({"planning", "running"})


def results(report: Report) -> list[tuple[str, int]]:
    """What became of the records; these sum to those that were gone over."""
    found = report.results
    return [
        ("re-encrypted", found.re_encrypted),
        ("unchanged", found.unchanged),
        ("failed", found.failed),
        ("lost", found.lost),
    ]


def rest(report: Report) -> list[tuple[str, int]]:
    """The records of the plan that are in no result, and why; with the results they sum to it."""
    if report.plan is None:
        return []
    left = report.plan.total - report.results.total
    if report.gone_over:
        found = [("not there any more", report.gone)]
    elif report.state in _UNFINISHED:
        pending = min(report.pending, left)
        found = [("in the journal, not stored yet", pending), ("not done yet", left - pending)]
    else:
        found = [("not stored" if report.state == "aborted" else "not done", left)]
    return [(name, count) for name, count in found if count > 0]


def account(report: Report) -> list[tuple[str, int]]:
    """The results, what completes them, and the total that all of these sum to."""
    rows = [*results(report), *rest(report)]
    return [*rows, ("total", sum(count for _, count in rows))]


def summary(report: Report) -> str:
    """One sentence on how it went."""
    found = report.results
    done = counted(found.re_encrypted, "record was re-encrypted", "records were re-encrypted")
    match report.state:
        case "planning" | "running":
            return f"The campaign is not finished. So far {done}{_pending(report)}."
        case "aborted" if found.re_encrypted:
            return f"The campaign was aborted on the way, and {done} before; an undo takes it back."
        case "aborted":
            return f"Nothing was stored{_why_nothing(report)}."
        case "undoing":
            return _undoing(report)
        case "undone":
            rest = (
                f", {report.undone_unproven:,} of them without proof, as the new one does not open"
            )
            back = counted(report.undone, "record got its", "records got their")
            rest = rest if report.undone_unproven else ""
            return f"The campaign was undone: {back} old blob again{rest}."
        case _:
            lost = counted(found.lost, "was", "were")
            return f"{done}; {found.failed:,} failed, {lost} lost to changes by others."


def _undoing(report: Report) -> str:
    """How far an undo has come that is at work or was stopped: a file is stored at its end."""
    if report.undone or _is_table(report):
        back = counted(report.undone, "record has its", "records have their")
        return f"The undo is not finished: {back} old blob so far."
    return (
        "The undo is not finished, and a file is stored only at the end of one: so far as the "
        "journal knows, the source is as it was before it."
    )


def _pending(report: Report) -> str:
    """What is answered, and not in the source yet."""
    if not report.pending:
        return ""
    more = counted(report.pending, "more is", "more are")
    return f"; {more} in the journal, and {when_stored(report)}"


def when_stored(report: Report) -> str:
    """When what is only in the journal is in the source too. A table may have it already."""
    if _is_table(report):
        return "a resume sees whether they are stored"
    return "stored when the file is finished"


def _is_table(report: Report) -> bool:
    return report.plan is not None and report.plan.spec.table is not None


def _why_nothing(report: Report) -> str:
    """Why an aborted campaign has stored nothing, and what it would have stored."""
    plan, found = report.plan, report.results
    if plan is None:
        return ": it could not be planned"
    would = counted(plan.to_send, "record was", "records were")
    of = f"; {would} to be re-encrypted"
    causes = []
    if found.failed:
        causes.append(f"{found.failed:,} failed")
    if found.lost:
        causes.append(f"{counted(found.lost, 'was', 'were')} lost to changes by others")
    if not causes and (out := report.never_sent):
        listed = ", ".join(f"{count:,} {outcome.value}" for outcome, count in out.items())
        causes.append(f"{sum(out.values()):,} cannot be sent ({listed})")
    if not plan.options.atomic:
        return f", and nothing was sent{of}"
    why = " and ".join(causes) or "not every record would have succeeded"
    return f", since it was to be all or nothing, and {why}{of}"


def differing(report: Report) -> str:
    """A sentence where there were other records than planned; "" where there were not.

    Only how many more or fewer there were is known.
    """
    if report.gone:
        gone = counted(report.gone, "record of the plan was", "records of the plan were")
        return f"{gone} not there any more."
    if report.new:
        planned = 0 if report.plan is None else report.plan.total
        came = counted(report.new, "record came", "records came")
        return f"{came} after the plan, which had {planned:,}."
    return ""


def untouched(report: Report) -> str:
    """What can be said of the records that were not re-encrypted."""
    location = "" if report.plan is None else report.plan.spec.location
    left = report.untouched - report.results.lost
    lost = report.results.lost
    if "://" in location:
        how = counted(left, "record was", "records were") + " not written to"
    elif not report.gone_over:
        how = counted(left, "record was left as it was", "records were left as they were")
    elif location.lower().endswith((".parquet", ".pq")):
        one, many = "record has the values that it", "records have the values that they"
        how = f"{counted(left, one, many)} had"
        how += "; the new file was read back and compared with the old one before it took its place"
    else:
        how = counted(left, "record was left as it was", "records were left as they were")
        how += ", byte for byte; each new file was read back and compared with the old one"
        how += " before it took its place"
    said = f" {counted(lost, 'is', 'are')} what somebody else has made of {_them(lost)}."
    return f"{how}.{said if lost else ''}"


def more(shown: int, total: int) -> str:
    """A sentence on what is left out of a list; "" where nothing is."""
    if total <= shown:
        return ""
    listed = counted(total - shown, "more is", "more are")
    return f"{listed} in the journal: `kmslab campaign report ID --failures FILE` writes all."


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
