"""The steps that commands for campaigns share: plan, ask, tell what was done."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kmslab.cli.output import narrate, write_json

if TYPE_CHECKING:
    from kmslab.analysis.classify import Target
    from kmslab.campaign.plan import Options, Plan
    from kmslab.campaign.report import Report
    from kmslab.campaign.run import Ground
    from kmslab.campaign.state import State
    from kmslab.cli.opening import Opening
    from kmslab.keys import Names
    from kmslab.lab import Lab
    from kmslab.records.spec import SourceSpec


def ground_in(lab: Lab, opening: Opening, state: str | None, source: str = "") -> Ground:
    """What a command with this lab stands on; `source` may hold the password of a database."""
    from kmslab.cli.grounds import ground_of, state_of
    from kmslab.cli.source_options import opener

    return ground_of(lab, state_of(opening, state), opener(source))


def made_plan(
    ground: Ground,
    spec: SourceSpec,
    target: Target,
    options: Options,
    *,
    deep: bool = False,
) -> Plan:
    """A plan that is made now, with a bar while it is."""
    from kmslab.campaign.planning import make_plan
    from kmslab.cli.progress import watching

    with watching("") as watch:
        return make_plan(
            ground.open_source(spec),
            spec,
            ground.providers,
            target,
            clock=ground.clock,
            options=options,
            deep=deep,
            watch=watch,
        )


def wanted(planned: Plan, names: Names, *, as_json: bool) -> bool:
    """Show a plan, and ask whether it is to be carried out, where somebody can be asked."""
    from kmslab.cli.campaign_options import agreed, may_ask
    from kmslab.cli.campaign_shown import show_intent, show_plan

    if as_json:
        write_json(planned.as_dict())
        return False
    show_plan(planned, names)
    if not planned.to_send:
        narrate("nothing is to be re-encrypted")
        return False
    if not may_ask():
        narrate("nothing was changed; --yes does it")
        return False
    show_intent(planned)
    if not agreed(planned.to_send):
        narrate("nothing was changed")
        raise typer.Exit(1)
    return True


def tell(report: Report, names: Names, *, as_json: bool, fails: bool = True) -> None:
    """Show what a campaign did, and end with the exit code for it."""
    from kmslab.campaign.rendering import summary
    from kmslab.cli.campaign_shown import never_sent, show_report

    if as_json:
        write_json(report.as_dict())
    else:
        show_report(report, names)
        narrate("")
        if fails:
            for outcome, count in never_sent(report).items():
                narrate(f"{count:,} records were not sent, since they are {outcome}")
        if report.results.re_encrypted and report.state == "finished":
            narrate(f"to take it back: kmslab campaign undo {report.campaign}")
    if report.state == "aborted":
        said = summary(report)
        narrate(f"{said[:1].lower()}{said[1:]}")
    wrong = report.state == "aborted" or report.results.failed or report.results.lost
    if wrong and fails:
        raise typer.Exit(1)


@contextmanager
def naming_unfinished(state: State, *, as_json: bool) -> Iterator[None]:
    """Where an error ends a new campaign on the way, say how to go on with it.

    With --json nothing is said: there is one object on stderr, and that is the error.
    """
    from kmslab.errors import KmslabError

    before = set(state.journals())
    try:
        yield
    except KmslabError:
        # The state folder may be what cannot be used.
        with suppress(KmslabError):
            for campaign_id in [] if as_json else _unfinished(state, before):
                narrate(f"to go on, once that is mended: kmslab campaign resume {campaign_id}")
        raise


def _unfinished(state: State, before: Set[Path]) -> list[str]:
    from kmslab.campaign.journal import Journal
    from kmslab.campaign.run import UNFINISHED

    found = []
    for path in state.journals():
        if path not in before:
            with Journal.open(path) as journal:
                if journal.facts()["state"] in UNFINISHED:
                    found.append(path.stem)
    return found
