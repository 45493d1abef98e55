"""Reports for people: as Markdown, and as a page of HTML that needs nothing else.

Whatever stands in a report is shown as it is: a record may be called `<script>` or `[red]x[/]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from kmslab.analysis.census import CensusRow
from kmslab.analysis.classify import Drop, Outcome
from kmslab.campaign.accounts import account, differing, more, summary, untouched
from kmslab.campaign.plan import Plan
from kmslab.campaign.report import Report
from kmslab.campaign.wording import counted, version_of
from kmslab.campaign.wording import duration as duration
from kmslab.context import context_text
from kmslab.providers.base import Keep

MEANINGS: Final = {
    Outcome.STALE: "not on the primary version of its key: gets a new blob",
    Outcome.MOVE: "gets a blob of another key, or under another context",
    Outcome.CURRENT: "on the primary version already",
    Outcome.MAY_CHANGE: "a cloud's own blob: the cloud's answer decides",
    Outcome.FOREIGN: "a cloud's own blob, and no cloud to ask",
    Outcome.BLOCKED: "something stands in the way",
    Outcome.INVALID: "no blob of its provider",
    Outcome.NEEDS_CONTEXT: "made under a context that the record does not have",
    Outcome.NEEDS_PUBLIC_KEY_INFO: "public-key ciphertext; key, version or algorithm is missing",
}
"""What each outcome of a plan means, in a few words."""

NAMED: Final = 3
"""So many records are named for each kind of failure."""

LEFT: Final = "These records were left as they are."
"""What is said of the records that a campaign or its undo has lost."""

_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|~#!])")
_BACKTICKS: Final = re.compile(r"`+")


def visible(text: str) -> str:
    """A text with escapes in place of what cannot be seen.

    >>> visible("订单\\x1b[31m")
    '订单\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def moment(at: datetime | None) -> str:
    """A time as it is shown."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def both_censuses(
    before: Sequence[CensusRow], after: Sequence[CensusRow]
) -> list[tuple[CensusRow, int, int]]:
    """Two censuses as one: each key version, with its records before and after.

    Which version is the primary one is told as of the later census.
    """
    rows: dict[tuple[Any, ...], tuple[CensusRow, int, int]] = {}
    for row in before:
        _, was, _ = rows.get(_version(row), (row, 0, 0))
        rows[_version(row)] = row, was + row.records, 0
    for row in after:
        # An answer may have shown of some records of a version that it is the primary one.
        held, was, now = rows.get(_version(row), (row, 0, 0))
        told = (
            row if not now or held.is_primary == row.is_primary else replace(row, is_primary=None)
        )
        rows[_version(row)] = told, was, now + row.records
    return sorted(rows.values(), key=lambda each: _order(each[0]))


def _version(row: CensusRow) -> tuple[Any, ...]:
    return row.provider, row.key_id, row.key_version_id, row.inferred


def _order(row: CensusRow) -> list[tuple[bool, str | int]]:
    values = row.provider, row.key_id, row.version_number, row.key_version_id
    return [(value is None, "" if value is None else value) for value in values]


# What a report says, whatever it is written in


def asked(report: Report) -> list[tuple[str, str]]:
    """What the campaign was to do, and when it did it."""
    rows = [("source", report.source)]
    if report.plan is not None:
        rows += [("on", f"remote {', '.join(report.remotes)}")] if report.remotes else []
        rows += _asked_of(report.plan)
    rows += [("started", moment(report.started_at)), ("finished", moment(report.finished_at))]
    if report.finished_at is not None:
        rows.append(("took", duration((report.finished_at - report.started_at).total_seconds())))
    calls = ", ".join(f"{count:,} to {name}" for name, count in report.calls.items())
    return [*rows, ("calls", calls or "none so far")]


def named(key_id: str, plan: Plan) -> str:
    """A key by its id, and by its alias where it had one when the plan was made."""
    alias = plan.aliases.get(key_id)
    return f"{key_id} ({alias})" if alias else key_id


def selected(plan: Plan) -> str:
    """Which records of the source the campaign is about; "" for all of them."""
    some, parts = plan.options.selection, []
    if some.record_ids is not None:
        parts.append(f"named by id ({len(some.record_ids):,})")
    if some.key_id is not None:
        parts.append(f"on key {named(some.key_id, plan)}")
    if some.key_version_id is not None:
        numbers = {row.key_version_id: row.version_number for row in plan.census}
        number = numbers.get(some.key_version_id)
        parts.append(f"on version {some.key_version_id if number is None else number}")
    if some.provider is not None:
        parts.append(f"of {some.provider}")
    return f"only those {', '.join(parts)}{_unmet(plan)}" if parts else ""


def _unmet(plan: Plan) -> str:
    """That some of the ids were named for nothing; "" where each may have a record."""
    ids = plan.options.selection.record_ids
    unmet = 0 if ids is None else len(ids) - plan.total
    return f"; {counted(unmet, 'id has', 'ids have')} no such record" if unmet > 0 else ""


def destination(plan: Plan) -> str:
    """Where a plan's records are to go."""
    key, provider = plan.target.key_id, plan.target.provider
    to = "each record stays on its own key" if key is None else f"key {named(key, plan)}"
    return f"{to} of {provider}" if provider else to


def _asked_of(plan: Plan) -> list[tuple[str, str]]:
    rates = ", ".join(f"{rate:g} calls a second to {n}" for n, rate in plan.options.rates.items())
    verified = {
        "decrypt": "every new blob is opened and compared with the old one",
        "answer": "answers are looked at, and no new blob is opened",
    }
    one_in = plan.options.verify.partition(":")[2]
    return [
        ("records", selected(plan) or "all of the source"),
        ("written to", plan.options.output or "the source itself, in place"),
        ("destination", destination(plan)),
        ("context", _context(plan)),
        ("verified", verified.get(plan.options.verify) or f"one new blob in {one_in} is opened"),
        ("rate", rates or "not held back"),
        ("all or nothing", "yes" if plan.options.atomic else "no"),
    ]


def _context(plan: Plan) -> str:
    if plan.context_erased:
        return "one that was named, and was erased when the campaign was closed"
    match plan.target.context:
        case Keep():
            return "each record keeps its own"
        case Drop():
            return "dropped"
        case named:
            return context_text(named)


def intent(plan: Plan) -> list[str]:
    """What a run of a plan would do, in sentences for whoever is asked to agree."""
    calls = [f"{counted(one.calls, 'call')} to {one.provider}" for one in plan.forecast.providers]
    if calls and plan.options.rates:
        calls[-1] += f", {duration(plan.forecast.seconds)} at that rate"
    verified = {"decrypt": "open each new blob and compare", "answer": "open no new blob"}
    how = verified.get(plan.options.verify) or f"open one in {plan.options.verify[7:]} new blobs"
    place = (
        f"write the changed copy to {plan.options.output}, and leave the source as it is"
        if plan.options.output
        else f"write the new blobs back into {plan.source}"
    )
    some = counted(plan.to_send, "record")
    sentences = [f"This will re-encrypt {some} ({' and '.join(calls)}), {how}, and {place}."]
    if left := plan.total - plan.to_send:
        one, many = "other record is left as it is", "other records are left as they are"
        sentences.append(f"{counted(left, one, many)}.")
    if plan.spec.table is not None:
        sentences.append("Rows that the table gets until then are judged and counted too.")
    if plan.options.atomic:
        sentences.append("With --atomic nothing is written unless every record succeeds.")
    return sentences


# Markdown


def markdown(report: Report) -> str:
    """The report as Markdown.

    Names of others stand as code, so that nothing in them is taken for Markdown.
    """
    lines = [f"# Campaign {report.campaign}: {report.state}", "", summary(report), ""]
    # Places and contexts are the texts of others.
    names = {"source", "written to", "context"}
    rows: list[tuple[Any, ...]]
    rows = [(name, (_code if name in names else _plain)(value)) for name, value in asked(report)]
    lines += _table(("what", "how"), rows)
    lines += _section("Results", " ".join(filter(None, (untouched(report), differing(report)))))
    lines += _table(("result", "records"), account(report))
    lines += _markdown_never_sent(report)
    if report.plan is not None:
        lines += _section("Plan", "What was to become of each record.")
        rows = [(r.outcome.value, _plain(r.reason), r.records) for r in report.plan.reasons]
        lines += _table(("outcome", "reason", "records"), [*rows, ("total", "", report.plan.total)])
        lines += _markdown_census(report.plan, report.census_after)
    lines += _markdown_failures(report)
    lines += _markdown_list("Lost", report.losses, report.results.lost)
    lines += _markdown_list("Left by the undo", report.undo_lost, report.undo_left)
    if report.plan is not None:
        lines += [*_section("Notes"), *(f"- {_plain(note)}" for note in report.plan.notes)]
    return "\n".join(lines) + "\n"


def _markdown_never_sent(report: Report) -> list[str]:
    if not report.never_sent:
        return []
    rows = [(o.value, _plain(MEANINGS[o]), count) for o, count in report.never_sent.items()]
    said = "These records should perhaps be re-encrypted, and could not be sent."
    return [*_section("Never sent", said), *_table(("outcome", "why", "records"), rows)]


def _markdown_census(plan: Plan, after: Sequence[CensusRow] | None) -> list[str]:
    said = "" if after is not None else "The census after is taken when the campaign finishes."
    rows = [
        (
            row.provider,
            None if row.key_id is None else _markdown_key(row.key_id, plan),
            version_of(row),
            {None: None, True: "yes", False: "no"}[row.is_primary],
            records,
            None if after is None else later,
        )
        for row, records, later in both_censuses(plan.census, after or ())
    ]
    columns = ("provider", "key", "version", "primary", "before", "after")
    return [*_section("Census", said), *_table(columns, rows)]


def _markdown_key(key_id: str, plan: Plan) -> str:
    alias = plan.aliases.get(key_id)
    return _code(key_id) + (f" {_plain(alias)}" if alias else "")


def _markdown_failures(report: Report) -> list[str]:
    if not report.failure_codes:
        return []
    lines = _section("Failed", LEFT)
    kinds = [
        (
            _plain(each.provider),
            _code(each.code),
            _plain(each.message),
            each.records,
            ", ".join(map(_code, each.examples[:NAMED])),
        )
        for each in report.failure_groups
    ]
    columns: tuple[str, ...] = ("provider", "code", "message", "records", "for example")
    lines += [*_table(columns, kinds), ""]
    columns = ("record", "provider", "code", "request", "message")
    lines += _table(
        columns,
        [
            (
                _code(f.record_id),
                _plain(f.provider),
                _code(f.code),
                _plain(f.request_id),
                _plain(f.message),
            )
            for f in report.failures
        ],
    )
    return [*lines, *_also(more(len(report.failures), report.results.failed))]


def _markdown_list(title: str, found: Sequence[Any], total: int) -> list[str]:
    if not found:
        return []
    rows = [(_code(each.record_id), _plain(each.reason)) for each in found]
    return [
        *_section(title, LEFT),
        *_table(("record", "why"), rows),
        *_also(more(len(found), total)),
    ]


def _section(title: str, said: str = "") -> list[str]:
    return ["", f"## {title}", "", *([said, ""] if said else [])]


def _also(said: str) -> list[str]:
    return ["", said] if said else []


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    values = [list(row) for row in rows]
    marks = [
        "---:" if values and all(isinstance(row[at], int) for row in values) else "---"
        for at in range(len(columns))
    ]
    shown = [
        [f"{c:,}" if isinstance(c, int) else "-" if c is None else c for c in row] for row in values
    ]
    return [f"| {' | '.join(cells)} |" for cells in (columns, marks, *shown)]


def _plain(text: str) -> str:
    """A text that is no Markdown, and no HTML either.

    >>> print(_plain("a|b <i> &amp;"))
    a\\|b &lt;i&gt; &amp;amp;
    """
    return _MARKDOWN.sub(r"\\\1", escape(visible(text), quote=False))


def _code(text: str) -> str:
    """A text as code, in a table. With what is HTML in it, it is written as HTML.

    >>> print(_code("[red]x[/]"), _code("a`b"), _code("<b>"))
    `[red]x[/]` ``a`b`` <code>&lt;b&gt;</code>
    """
    shown = visible(text)
    if "<" in shown or "&" in shown:
        return f"<code>{_plain(shown)}</code>"
    fence = "`" * (max((len(run) for run in _BACKTICKS.findall(shown)), default=0) + 1)
    space = " " if shown[:1] in ("`", "") or shown[-1:] == "`" else ""
    escaped = shown.replace("|", r"\|")
    return f"{fence}{space}{escaped}{space}{fence}"
