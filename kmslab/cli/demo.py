"""kmslab demo: the main job on the sample data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_json, write_line, write_table, write_text
from kmslab.keys import Names

if TYPE_CHECKING:
    from kmslab.analysis import CensusRow
    from kmslab.demo import DemoReport

app = typer.Typer(**settings())


@app.command(epilog=example("kmslab demo", "kmslab demo ./demo-lab"))
def demo(
    directory: Annotated[
        str | None,
        typer.Argument(metavar="DIR", help="Keep the lab here; else it is gone afterwards."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the demo lab, rotate, re-encrypt, show before and after.

    The sample data are some thousand records of both providers, with everything that happens in
    real life. They are re-encrypted in memory: no file of theirs is changed.
    """
    from kmslab.demo import run

    narrate("making the demo lab, rotating some of its keys, re-encrypting the sample data")
    report = run(None if directory is None else Path(directory))
    if as_json:
        write_json(_as_dict(report))
    else:
        _show(report)
    if report.kept:
        narrate(f"the lab is kept; look at it with: kmslab key list --lab {quote(str(report.lab))}")


def _show(report: DemoReport) -> None:
    names = Names(report.aliases)
    write_line("Keys rotated")
    write_table(
        ["PROVIDER", "KEY", "NEW VERSION", "RECORDS LEFT BEHIND"],
        [[r.provider, names(r.key_id), r.version_number, r.records] for r in report.rotated],
    )
    write_line("\nCensus: the records on each key version, before and after")
    write_table(
        ["PROVIDER", "KEY", "VERSION", "PRIMARY", "BEFORE", "AFTER"], _census(report, names)
    )
    if report.failures:
        _show_failures(report)
    write_line("\nWhat is to be done with the records, before and after")
    write_table(
        ["OUTCOME", "BEFORE", "AFTER"],
        [
            [outcome.value, count, report.after.outcomes[outcome]]
            for outcome, count in report.before.outcomes.items()
            if count or report.after.outcomes[outcome]
        ],
    )
    write_line("")
    write_text(_summary(report))


def _show_failures(report: DemoReport) -> None:
    write_line("\nRefused, as they should be")
    codes = Counter((failed.provider, failed.code) for failed in report.failures)
    examples = {(failed.provider, failed.code): failed for failed in reversed(report.failures)}
    write_table(
        ["PROVIDER", "CODE", "RECORDS", "FOR EXAMPLE"],
        [[*key, count, examples[key].record_id] for key, count in codes.items()],
    )
    for failed in examples.values():
        write_text(f"{failed.record_id}: {failed.explanation}")
    write_text("(--json has the explanation of each)")


def _summary(report: DemoReport) -> str:
    done, calls = report.results, report.forecast.calls
    return (
        f"{done.re_encrypted:,} of {report.before.total:,} records were re-encrypted in memory in "
        f"{report.re_encrypt_seconds:.2f} s, {done.verified:,} of them verified; {done.failed} "
        f"were refused. Against the clouds the {calls:,} calls take "
        f"{report.forecast.seconds:.0f} s, at the documented rate."
    )


def _census(report: DemoReport, names: Names) -> list[list[Any]]:
    """Both censuses as one, in the order of the later one."""
    counts: dict[tuple[Any, ...], list[int]] = {}
    for at, state in enumerate((report.before, report.after)):
        for row in state.census:
            counts.setdefault(_version(row), [0, 0])[at] = row.records
    known = sorted(counts, key=lambda v: tuple((x is None, "" if x is None else x) for x in v[:4]))
    return [
        [provider, names(key_id), number, primary, *counts[provider, key_id, number, id_, primary]]
        for provider, key_id, number, id_, primary in known
    ]


def _version(row: CensusRow) -> tuple[Any, ...]:
    return row.provider, row.key_id, row.version_number, row.key_version_id, row.is_primary


def _as_dict(report: DemoReport) -> dict[str, Any]:
    return {
        "lab": report.lab if report.kept else None,
        "source": report.source,
        "total": report.before.total,
        "rotated": report.rotated,
        "outcomes": report.before.outcomes,
        "outcomes_after": report.after.outcomes,
        "reasons": report.before.reasons,
        "forecast": report.forecast.as_dict(),
        "results": report.results,
        "failures": report.failures,
        "census_before": report.before.census,
        "census_after": report.after.census,
        "re_encrypt_seconds": report.re_encrypt_seconds,
        "seconds": report.seconds,
    }
