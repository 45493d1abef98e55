"""A report as one page of HTML: no script, no address, light and dark, and fit to be printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Final

from kmslab.analysis.census import CensusRow
from kmslab.campaign.accounts import differing, more, rest, results, summary, untouched
from kmslab.campaign.plan import Plan
from kmslab.campaign.rendering import LEFT, MEANINGS, NAMED, asked, both_censuses, visible
from kmslab.campaign.report import Report
from kmslab.campaign.wording import counted, version_of

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6474; --line: #d9dee7;
  --paper: #ffffff; --card: #f5f7fa; --good: #2a7d5f; --calm: #8a97ab; --bad: #c0392b;
  --warn: #b7791f; --before: #b9c3d3; --after: #2f6fb2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --soft: #9aa4b5; --line: #343c4a;
  --paper: #14181f; --card: #1d232d; --good: #4fb58e; --calm: #66738a; --bad: #ef7567;
  --warn: #e0a94b; --before: #4a566b; --after: #6aa7e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC",
  "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: .95rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0 .8rem; } .soft { color: var(--soft); }
.state { font-size: .85rem; font-weight: 600; padding: .1rem .6rem; border-radius: 1rem;
  border: 1px solid currentColor; vertical-align: middle; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.calm { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: .75rem; margin: 1rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem .9rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.strip { display: flex; height: .6rem; border-radius: .3rem; overflow: hidden;
  background: var(--line); }
.strip i { display: block; height: 100%; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem;
  white-space: nowrap; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.sum td { font-weight: 600; border-bottom: 0; }
code { font: .87em/1.4 ui-monospace, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace; }
td.bars { width: 32%; min-width: 9rem; vertical-align: middle; }
.bar { height: .45rem; margin: .12rem 0; border-radius: .2rem; min-width: 0; }
.bar.before, .key.before { background: var(--before); }
.bar.after, .key.after { background: var(--after); }
.key { display: inline-block; width: .8rem; height: .6rem; border-radius: .15rem;
  margin: 0 .3rem 0 .8rem; } .key:first-child { margin-left: 0; }
ul { padding-left: 1.2rem; margin: .4rem 0; }
@media (max-width: 40rem) { .cards { grid-template-columns: repeat(2, 1fr); }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --card: #fff; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } h2 { break-after: avoid; }
  tr, .card { break-inside: avoid; } thead { display: table-header-group; }
  .bar, .strip i, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

_COLOURS: Final = {
    "re-encrypted": "good",
    "unchanged": "calm",
    "failed": "bad",
    "lost": "warn",
}
_ENDED: Final = frozenset({"finished", "undone", "closed"})
_MARKS: Final = {"good": "✓", "warn": "!", "bad": "✗", "calm": "…"}


def html(report: Report) -> str:
    """The report as a page of HTML, which loads nothing and runs nothing."""
    title = f"Campaign {report.campaign}"
    colour, what = _standing(report)
    state = f'<span class="state {colour}">{_MARKS[colour]} {_text(what)}</span>'
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{_text(title)} {state}</h1>\n<p>{_text(summary(report))}</p>",
        _cards(report),
        f'<p class="soft">{_text(untouched(report))}</p>',
        "<h2>What was asked</h2>\n<dl>",
        *(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in asked(report)),
        "</dl>",
    ]
    if report.plan is not None:
        parts += [_never_sent(report), _plan(report.plan)]
        parts.append(_census(report.plan, report.census_after))
    parts += [_failures(report), _list("Lost", report.losses, report.results.lost)]
    parts.append(_list("Left by the undo", report.undo_lost, report.undo_left))
    if report.plan is not None:
        notes = "".join(f"<li>{_text(note)}</li>" for note in report.plan.notes)
        parts.append(f"<h2>Notes</h2>\n<ul>{notes}</ul>")
    parts.append("</body>\n</html>")
    return "\n".join(part for part in parts if part) + "\n"


def _standing(report: Report) -> tuple[str, str]:
    """How a campaign stands: a colour, and the words for it, which say as much without it.

    Green is done, with nothing left over; red is aborted, or records failed; amber is done, with
    records that somebody should look at; grey is still under way.
    """
    left = {
        "failed": report.results.failed,
        "lost": report.results.lost,
        "left by the undo": report.undo_left,
        "never sent": sum(report.never_sent.values()) if report.gone_over else 0,
    }
    words = [report.state, *(f"{count:,} {what}" for what, count in left.items() if count)]
    if report.state == "aborted" or report.results.failed:
        colour = "bad"
    elif any(left.values()):
        colour = "warn"
    else:
        colour = "good" if report.state in _ENDED else "calm"
    return colour, ", ".join(words)


def _text(value: object) -> str:
    return escape(visible(str(value)))


def _cards(report: Report) -> str:
    found = results(report)
    also = rest(report)
    total = sum(count for _, count in [*found, *also])
    cards = "".join(
        f'<div class="card"><b{_alarm(name, count)}>{count:,}</b>{_text(name)}</div>'
        for name, count in found
    )
    strip = "".join(
        f'<i style="width:{100 * count / total:.4f}%;background:var(--{_COLOURS[name]})"></i>'
        for name, count in found
        if count
    )
    listed = "".join(f"; {count:,} {name}" for name, count in also)
    said = " ".join(filter(None, (f"of {counted(total, 'record')}{listed}.", differing(report))))
    said = f'<p class="soft">{_text(said)}</p>'
    return f'<div class="cards">{cards}</div>\n<div class="strip">{strip}</div>\n{said}'


def _alarm(name: str, count: int) -> str:
    return f' class="{_COLOURS[name]}"' if count and name in ("failed", "lost") else ""


def _never_sent(report: Report) -> str:
    if not report.never_sent:
        return ""
    rows = [
        [_code(outcome.value), _text(MEANINGS[outcome]), f"{count:,}"]
        for outcome, count in report.never_sent.items()
    ]
    said = "These records should perhaps be re-encrypted, and could not be sent."
    table = _table(["outcome", "why", "records"], rows, numbers={2})
    return f'<h2>Never sent</h2>\n<p class="soft">{said}</p>\n{table}'


def _plan(plan: Plan) -> str:
    rows = [
        [
            _code(each.outcome.value),
            _text(each.reason or MEANINGS[each.outcome]),
            f"{each.records:,}",
        ]
        for each in plan.reasons
    ]
    table = _table(["outcome", "why", "records"], rows, numbers={2}, last=["total", "", plan.total])
    return f"<h2>What was planned</h2>\n{table}"


def _census(plan: Plan, after: Sequence[CensusRow] | None) -> str:
    both = both_censuses(plan.census, after or ())
    most = max((max(was, now) for _, was, now in both), default=0) or 1
    rows = [
        [
            _text(row.provider or "unknown"),
            "-" if row.key_id is None else _key(row.key_id, plan),
            version_of(row) or "-",
            {None: "-", True: "primary", False: "old"}[row.is_primary],
            _bar("before", was, most) + ("" if after is None else _bar("after", now, most)),
            f"{was:,}",
            "-" if after is None else f"{now:,}",
        ]
        for row, was, now in both
    ]
    columns = ["provider", "key", "version", "", "", "before", "after"]
    table = _table(columns, rows, numbers={2, 5, 6}, bars=4)
    legend = '<p class="soft"><span class="key before"></span>before'
    legend += '<span class="key after"></span>after</p>'
    if after is None:
        legend = '<p class="soft">The census after is taken when the campaign finishes.</p>'
    return f"<h2>Records on each key version</h2>\n{legend}\n{table}"


def _key(key_id: str, plan: Plan) -> str:
    alias = plan.aliases.get(key_id)
    return _code(key_id) + (f" {_text(alias)}" if alias else "")


def _bar(when: str, count: int, most: int) -> str:
    # So that a few of very many can still be seen.
    width = max(100 * count / most, 0.6) if count else 0
    return f'<div class="bar {when}" style="width:{width:.3f}%"></div>'


def _failures(report: Report) -> str:
    if not report.failure_codes:
        return ""
    kinds = [
        [
            _text(each.provider),
            _code(each.code),
            _text(each.message),
            ", ".join(map(_code, each.examples[:NAMED])),
            f"{each.records:,}",
        ]
        for each in report.failure_groups
    ]
    columns = ["provider", "code", "message", "for example", "records"]
    rows = [
        [_code(f.record_id), _code(f.code), _text(f.message), _code(f.request_id)]
        for f in report.failures
    ]
    return "\n".join(
        [
            '<h2>Failed</h2>\n<p class="soft">' + f"{_text(LEFT)}</p>",
            _table(columns, kinds, numbers={4}),
            "<h3>Each of them</h3>",
            _table(["record", "code", "message", "request"], rows),
            _also(more(len(rows), report.results.failed)),
        ]
    )


def _list(title: str, found: Sequence[Any], total: int) -> str:
    if not found:
        return ""
    rows = [[_code(each.record_id), _text(each.reason)] for each in found]
    said = f'<p class="soft">{_text(LEFT)}</p>'
    also = _also(more(len(rows), total))
    return f"<h2>{_text(title)}</h2>\n{said}\n{_table(['record', 'why'], rows)}{also}"


def _also(said: str) -> str:
    return f'<p class="soft">{_text(said)}</p>' if said else ""


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: frozenset[int] | set[int] = frozenset(),
    bars: int | None = None,
    last: Sequence[object] | None = None,
) -> str:
    """A table of cells that are HTML already; those of `numbers` stand to the right."""

    def kind(at: int) -> str:
        return ' class="n"' if at in numbers else ' class="bars"' if at == bars else ""

    head = "".join(f"<th{kind(at)}>{_text(name)}</th>" for at, name in enumerate(columns))
    lines = [
        f"<tr>{''.join(f'<td{kind(at)}>{cell}</td>' for at, cell in enumerate(row))}</tr>"
        for row in rows
    ]
    if last is not None:
        shown = [f"{cell:,}" if isinstance(cell, int) else _text(cell) for cell in last]
        cells = "".join(f"<td{kind(at)}>{cell}</td>" for at, cell in enumerate(shown))
        lines.append(f'<tr class="sum">{cells}</tr>')
    body = "\n".join(lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
