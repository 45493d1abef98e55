"""The steps that commands for campaigns share: plan, ask, tell what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kmslab.cli.output import json_text, narrate, narrate_text, plain, write_json

if TYPE_CHECKING:
    from kmslab.analysis.classify import Target
    from kmslab.campaign.journal import Journal
    from kmslab.campaign.plan import Options, Plan
    from kmslab.campaign.report import Report
    from kmslab.campaign.run import Ground
    from kmslab.campaign.state import State
    from kmslab.cli.failures import Failure
    from kmslab.cli.hints import Hints
    from kmslab.cli.opening import Opening
    from kmslab.cli.reaching import Reaching
    from kmslab.keys import Names
    from kmslab.lab import Lab
    from kmslab.records.spec import SourceSpec
    from kmslab.remotes import Remotes


def ground_in(
    lab: Lab | Remotes, opening: Opening, reaching: Reaching, state: str | None, source: str = ""
) -> Ground:
    """What a command with this lab, or on these remotes, stands on; `source` may hold the password
    of a database."""
    from kmslab.cli.grounds import ground_of, state_of
    from kmslab.cli.source_options import opener

    names = reaching.names
    there, open_source = state_of(opening, state, names), opener(source, placed=bool(names))
    return ground_of(lab, there, open_source, names)


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


def agreed_plan(
    ground: Ground,
    spec: SourceSpec,
    target: Target,
    options: Options,
    saved: Plan | None,
    names: Names,
    *,
    as_json: bool,
) -> Plan | None:
    """The plan that somebody has agreed to: the saved one, or one that is made now; None where
    nobody has."""
    from kmslab.campaign.planning import check_current

    if saved is None:
        planned = made_plan(ground, spec, target, options)
    else:
        planned = saved
        check_current(planned, ground.open_source(spec), ground.providers)
    return planned if _wanted(planned, names, as_json=as_json) else None


def _wanted(planned: Plan, names: Names, *, as_json: bool) -> bool:
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


def undo_wanted(ground: Ground, campaign_id: str, *, as_json: bool) -> bool:
    """Show what an undo would do, and ask whether it is to be done, where somebody can be asked."""
    from kmslab.campaign.undo import plan_undo
    from kmslab.cli.campaign_options import agreed, may_ask
    from kmslab.cli.campaign_shown import show_undo_plan
    from kmslab.cli.progress import watching

    with watching("") as watch:
        would = plan_undo(ground, campaign_id, watch=watch)
    if as_json:
        write_json(would)
        return False
    show_undo_plan(would)
    if not may_ask():
        narrate("nothing was changed; --yes does it")
        return False
    if not would.restorable:
        narrate("nothing is to be restored")
        return False
    if not agreed(would.restorable):
        narrate("nothing was changed")
        raise typer.Exit(1)
    return True


def tell(report: Report, names: Names, hints: Hints, *, as_json: bool, fails: bool = True) -> None:
    """Show what a campaign did, and end with the exit code for it."""
    from kmslab.campaign.accounts import summary
    from kmslab.cli.campaign_shown import show_report

    if as_json:
        write_json(report.as_dict())
    else:
        show_report(report, names)
        narrate("")
        if fails and report.state != "aborted":
            _tell_left(report)
        if report.results.re_encrypted and report.state == "finished":
            narrate(f"to take it back: {hints(f'campaign undo {report.campaign}')}")
    if report.state == "aborted":
        narrate_text(_lower(summary(report)))
    wrong = report.state == "aborted" or report.results.failed or report.results.lost
    if wrong and fails:
        raise typer.Exit(1)


def _tell_left(report: Report) -> None:
    """Say what was not re-encrypted; how it went comes last, where a table may hide it."""
    from kmslab.campaign.accounts import differing, summary
    from kmslab.campaign.rendering import MEANINGS
    from kmslab.campaign.wording import counted

    for outcome, count in report.never_sent.items():
        how = counted(count, "record was", "records were")
        narrate(f"{how} not sent: {outcome.value}, {MEANINGS[outcome]}")
    if said := differing(report):
        narrate_text(said)
    if report.results.failed or report.results.lost:
        narrate_text(_lower(summary(report)))


def _lower(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:]}"


def count_workers(state: State, campaign_id: str) -> None:
    """Have a campaign's journal know of what workers have done of whom nobody hears any more.

    What stands in the way of that is told, and the journal has what it had.
    """
    from kmslab.campaign.shards import settle_if_free
    from kmslab.errors import KmslabError

    try:
        settle_if_free(state, campaign_id)
    except KmslabError as error:
        narrate(f"warning: {campaign_id} is counted without what workers have left: {error}")


def write_failures(journal: Journal, path: str) -> None:
    """Every record that failed, was lost or was left by an undo, to a file of JSON lines."""
    from kmslab.campaign.journal import Step
    from kmslab.campaign.wording import counted
    from kmslab.cli.streams import write_private_lines

    written = Counter[str]()

    def line(result: str, found: object) -> bytes:
        written[result] += 1
        return f"{json_text({'result': result, **plain(found)})}\n".encode()

    parts = (
        ("failed", journal.each_failure()),
        ("lost", journal.each_lost(Step.APPLIED)),
        ("left by the undo", journal.each_lost(Step.UNDONE)),
    )
    write_private_lines(path, (line(result, each) for result, found in parts for each in found))
    listed = ", ".join(f"{count:,} {result}" for result, count in written.items()) or "none"
    narrate(f"{counted(written.total(), 'record')} in {path}: {listed}")


@contextmanager
def naming_campaign(
    state: State, hints: Hints, again: str, campaign: str | SourceSpec
) -> Iterator[None]:
    """Where an error ends a campaign on the way, say which one it was, and how to go on with it.

    `again` is the command that does so, in which {id} stands for the campaign: that of this id, or
    the one that is made meanwhile for this source. Where somebody else is at work on the source,
    it is theirs.
    """
    from kmslab.cli.failures import Refused, failure_of
    from kmslab.errors import CampaignState, KmslabError, SourceBusy

    before = set(state.journals())

    def is_ours(path: Path, facts: Mapping[str, Any]) -> bool:
        if isinstance(campaign, str):
            return path.stem == campaign
        return path not in before and facts["spec"] == campaign.as_dict()

    try:
        yield
    except CampaignState:
        raise  # it says what can be done with which campaign
    except KmslabError as error:
        failure = failure_of(error)
        # The state folder may be what cannot be used.
        with suppress(KmslabError):
            if isinstance(error, SourceBusy):
                busy = error.source
                theirs = _unfinished(state, lambda _, facts: facts["source"] == busy)
                failure = _held_up(failure, theirs, hints)
            elif found := _unfinished(state, is_ours):
                hint = f"to go on, once that is mended: {hints(again.replace('{id}', found))}"
                failure = replace(failure.explained(hint), campaign=found)
        raise Refused(failure) from error


def _held_up(failure: Failure, theirs: str | None, hints: Hints) -> Failure:
    """A failure for which the campaign of somebody else is the reason."""
    if theirs is None:
        return failure
    hint = f"campaign {theirs} is not finished; if nobody is at work on it any more: "
    hint += hints(f"campaign resume {theirs}")
    return replace(failure.explained(hint), campaign=theirs)


def _unfinished(state: State, wanted: Callable[[Path, Mapping[str, Any]], bool]) -> str | None:
    """The last campaign that is wanted and not finished."""
    from kmslab.campaign.journal import Journal
    from kmslab.campaign.run import UNFINISHED
    from kmslab.campaign.state import content_errors
    from kmslab.errors import KmslabError

    for path in reversed(state.journals()):
        # One that cannot be read hides none of the others.
        with suppress(KmslabError), content_errors(path), Journal.open(path) as journal:
            facts = journal.facts()
            if facts["state"] in UNFINISHED and wanted(path, facts):
                return path.stem
    return None
