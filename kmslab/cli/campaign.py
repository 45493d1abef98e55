"""kmslab campaign: re-encrypt everything that a source holds."""

from __future__ import annotations

from typing import Annotated

import typer

from kmslab.cli.campaign_options import (
    CampaignId,
    PaceOptions,
    ReportOptions,
    RunOptions,
    SelectionOptions,
    TargetOptions,
    check_usage,
)
from kmslab.cli.campaign_steps import (
    agreed_plan,
    ground_in,
    made_plan,
    naming_campaign,
    tell,
    undo_wanted,
)
from kmslab.cli.grounds import StateFolder
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_json, write_table
from kmslab.cli.reaching import Reaching
from kmslab.cli.source_options import READ_HELP, ReadSource, SourceOptions
from kmslab.cli.worker_options import WorkerOptions

app = typer.Typer(
    name="campaign",
    help="Re-encrypt everything that a source holds.",
    epilog=example("kmslab campaign plan orders.csv"),
    no_args_is_help=True,
    **settings(),
)

_NOTHING_SAID = TargetOptions(), PaceOptions(), SelectionOptions()
_RESUME = "campaign resume {id}"
Yes = Annotated[bool, typer.Option("--yes", help="Do it, and do not ask.")]


@app.command(
    epilog=example(
        "kmslab campaign plan orders.csv",
        "kmslab campaign plan sqlite:///shop.db --table secrets --to payments --json",
        "kmslab campaign plan orders.csv --key orders --key-version 1",
        "kmslab campaign plan orders.csv --remote prod",
    )
)
@opens_lab
def plan(
    columns: SourceOptions,
    target: TargetOptions,
    pace: PaceOptions,
    some: SelectionOptions,
    opening: Opening,
    reaching: Reaching,
    source: ReadSource,
    deep: Annotated[
        bool, typer.Option("--deep", help="Open every blob, and do not just read its head.")
    ] = False,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Keep the plan, for `campaign run --plan`."),
    ] = None,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Say what would become of each record.

    Nothing is changed. The outcomes sum to the total: stale, move and may_change are sent, current
    ones need nothing, the others cannot be sent and the reason says why. The time is that at the
    documented rate, or at --rate.
    """
    import json
    import shlex

    from kmslab.cli.campaign_shown import show_plan
    from kmslab.cli.hints import Hints
    from kmslab.cli.reaching import names_of
    from kmslab.cli.streams import refuse_existing, write_private_file

    refuse_existing(save)
    hints = Hints(opening, state, reaching.names)
    with reaching.open(opening, rate=pace.rate) as lab:
        ground = ground_in(lab, opening, reaching, state, source)
        options = pace.options(lab, some.selection(lab))
        spec = columns.find(source, ground.state)
        made = made_plan(ground, spec, target.target(lab), options, deep=deep)
        names = names_of(lab)
    if save is not None:
        text = json.dumps(made.as_dict(), ensure_ascii=False, indent=1)
        write_private_file(save, f"{text}\n".encode())
    if as_json:
        write_json(made.as_dict())
    else:
        show_plan(made, names)
    if save is not None:
        command = hints(f"campaign run --plan {shlex.quote(save)} --yes")
        narrate(f"the plan is in {save}; to carry it out: {command}")


@app.command(
    epilog=example(
        "kmslab campaign run orders.csv",
        "kmslab campaign run orders.csv --yes --json",
        "kmslab campaign run orders.csv --only-ids first.txt --yes",
        "kmslab campaign run --plan orders.plan --yes",
        "kmslab campaign run orders/ --workers 4 --yes",
    )
)
@opens_lab
def run(
    what: RunOptions,
    columns: SourceOptions,
    target: TargetOptions,
    pace: PaceOptions,
    some: SelectionOptions,
    crew: WorkerOptions,
    opening: Opening,
    reaching: Reaching,
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help=READ_HELP)] = None,
    yes: Yes = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Re-encrypt what a source holds, in place.

    Without --yes this shows the plan, and on a terminal asks. Each chunk is re-encrypted, verified,
    written into a journal, and then back into the source. It can be interrupted at any moment, and
    resumed. What cannot be sent is left as it is, and counted; that is no failure.

    With --workers or --scheduler several do it at once, file by file, or a table by ranges of its
    ids. They open the lab by themselves: its root key is where they find it, or KMSLAB_ROOT_KEY or
    KMSLAB_PASSPHRASE says it.
    """
    from kmslab.campaign.run import run as run_campaign
    from kmslab.cli.hints import Hints
    from kmslab.cli.progress import watching
    from kmslab.cli.reaching import names_of

    hints = Hints(opening, state, reaching.names)
    given = columns.given or what.given or (target, pace, some) != _NOTHING_SAID
    check_usage(source, what.plan_file, given)
    again = _RESUME + crew.again
    workers = crew.workers_for(_opened(opening, reaching), source or "")
    with reaching.open(opening, rate=pace.rate) as lab:
        planned = what.saved()
        ground = ground_in(lab, opening, reaching, state, source or "")
        spec = columns.find(source or "", ground.state) if planned is None else planned.spec
        names = names_of(lab)
        goes_to = target.target(lab)
        options = pace.options(lab, some.selection(lab), atomic=what.atomic, output=what.output)
        if not yes:
            planned = agreed_plan(ground, spec, goes_to, options, planned, names, as_json=as_json)
            if planned is None:
                return
        naming = naming_campaign(ground.state, hints, again, spec)
        with crew.quiet(), naming, watching(hints(again)) as watch:
            report = run_campaign(
                ground,
                spec,
                goes_to,
                options=options,
                plan=planned,
                workers=workers,
                watch=watch,
            )
    tell(report, names, hints, as_json=as_json)


@app.command(epilog=example("kmslab campaign resume 20260102-030405-6e1f"))
@opens_lab
def resume(
    crew: WorkerOptions,
    opening: Opening,
    reaching: Reaching,
    campaign: CampaignId,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Take up a campaign where it was interrupted.

    After Ctrl-C, a kill or a power loss, with as many workers as is said now. One that was
    interrupted while planning plans again. Of a finished one this shows what it did.
    """
    from kmslab.campaign.journal import Journal
    from kmslab.campaign.run import UNFINISHED
    from kmslab.campaign.run import resume as resume_campaign
    from kmslab.cli.campaign_options import found_id
    from kmslab.cli.hints import Hints
    from kmslab.cli.progress import watching
    from kmslab.cli.reaching import names_of

    hints = Hints(opening, state, reaching.names)
    again = _RESUME + crew.again
    workers = crew.workers_for(_opened(opening, reaching))
    with reaching.open(opening) as lab:
        ground = ground_in(lab, opening, reaching, state)
        campaign_id = found_id(ground.state, campaign)
        with Journal.open(ground.state.journal_path(campaign_id)) as journal:
            unfinished = journal.facts()["state"] in UNFINISHED
        naming = naming_campaign(ground.state, hints, again, campaign_id)
        with crew.quiet(), naming, watching(hints(again)) as watch:
            report = resume_campaign(ground, campaign_id, workers=workers, watch=watch)
        names = names_of(lab)
    if not unfinished:
        narrate(f"campaign {campaign_id} was {report.state} already; nothing was done")
    tell(report, names, hints, as_json=as_json, fails=unfinished)


@app.command(epilog=example("kmslab campaign verify 20260102-030405-6e1f"))
@opens_lab
def verify(
    opening: Opening,
    reaching: Reaching,
    campaign: CampaignId,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Read what a campaign changed again, and open it.

    Each record that still holds its new blob is proven: old and new blob open to the same. The exit
    code is 1 unless all that were changed are. Plaintexts are compared here and shown nowhere.
    """
    from kmslab.campaign.proof import verify as verify_campaign
    from kmslab.campaign.wording import counted
    from kmslab.cli.campaign_options import found_id
    from kmslab.cli.hints import Hints
    from kmslab.cli.progress import watching

    with reaching.open(opening) as lab:
        ground = ground_in(lab, opening, reaching, state)
        with watching(Hints(opening, state, reaching.names)("campaign verify {id}")) as watch:
            proof = verify_campaign(ground, found_id(ground.state, campaign), watch=watch)
    if as_json:
        write_json(proof)
    else:
        rows = [
            ["proven", proof.proven],
            ["hold their old blob", proof.reverted],
            ["changed since", proof.touched],
            ["not there any more", proof.gone],
            ["not proven", proof.unproven],
        ]
        write_table(["RECORDS", "COUNT"], [*rows, ["re-encrypted", proof.changed]])
    if proof.unproven:
        some = ", ".join(proof.unproven_ids[:10])
        one, many = "record does not open to what it", "records do not open to what they"
        narrate(f"{counted(proof.unproven, one, many)} held before: {some}")
    if not proof.complete:
        narrate(f"{proof.proven:,} of {counted(proof.changed, 'record')} are proven")
        raise typer.Exit(1)


@app.command(epilog=example("kmslab campaign undo 20260102-030405-6e1f --yes"))
@opens_lab
def undo(
    opening: Opening,
    reaching: Reaching,
    campaign: CampaignId,
    yes: Yes = False,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Also where only the old blob opens, not the new.")
    ] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Give every record its old blob back.

    Without --yes this says what it would do, and on a terminal asks. Records that somebody has
    changed since are left as they are, and named; so are those whose blobs do not both open to the
    same. Where the new key is disabled or gone that cannot be seen: --unproven restores the old
    blob if it opens, and counts it apart. Interrupted, it goes on when it is run again.
    """
    from kmslab.campaign.undo import undo as undo_campaign
    from kmslab.cli.campaign_options import found_id
    from kmslab.cli.campaign_shown import show_undone
    from kmslab.cli.hints import Hints
    from kmslab.cli.progress import watching

    with reaching.open(opening) as lab:
        ground = ground_in(lab, opening, reaching, state)
        campaign_id = found_id(ground.state, campaign)
        if not yes and not undo_wanted(ground, campaign_id, as_json=as_json):
            return
        again = "campaign undo {id} --yes" + (" --unproven" if unproven else "")
        hints = Hints(opening, state, reaching.names)
        naming = naming_campaign(ground.state, hints, again, campaign_id)
        with naming, watching(hints(again)) as watch:
            report = undo_campaign(ground, campaign_id, unproven=unproven, watch=watch)
    if as_json:
        write_json(report.as_dict())
    else:
        show_undone(report)
    if report.undo_left:
        raise typer.Exit(1)


@app.command(epilog=example("kmslab campaign close 20260102-030405-6e1f"))
@opens_lab
def close(
    opening: Opening,
    reaching: Reaching,
    campaign: CampaignId,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Also one that is not finished, or not all undone.")
    ] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Erase a campaign's blobs, which ends its undo.

    Counts, ids and failures stay. One whose undo has left records is refused: their old blobs may
    be nowhere else. A key can be retired only when the campaigns that moved records away from it
    are closed: their journals hold blobs under it.
    """
    from kmslab.campaign.closing import close as close_campaign
    from kmslab.cli.campaign_options import found_id

    with reaching.open(opening) as lab:
        ground = ground_in(lab, opening, reaching, state)
        report = close_campaign(ground, found_id(ground.state, campaign), abandon=abandon)
    if as_json:
        write_json(report.as_dict())
    else:
        narrate(f"campaign {report.campaign} is closed; its journal holds no blob any more")


@app.command(
    epilog=example(
        "kmslab campaign report 20260102-030405-6e1f",
        "kmslab campaign report 20260102-030405-6e1f --format html --output report.html",
        "kmslab campaign report 20260102-030405-6e1f --failures failures.jsonl",
    )
)
@opens_lab
def report(
    how: ReportOptions,
    opening: Opening,
    reaching: Reaching,
    campaign: CampaignId,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Give the report of a campaign.

    What was asked, what was planned, what became of the records, the censuses before and after,
    failures with the providers' codes. It holds record ids and no blob. No lab is opened.

    A report names the first 1,000 records that failed or were lost; --failures writes them all.
    """
    from kmslab.campaign.journal import Journal
    from kmslab.campaign.report import read_report
    from kmslab.cli.campaign_options import found_id
    from kmslab.cli.campaign_steps import count_workers, write_failures
    from kmslab.cli.grounds import state_of

    how.check(as_json=as_json)
    there = state_of(opening, state, reaching.names)
    campaign_id = found_id(there, campaign)
    count_workers(there, campaign_id)
    with Journal.open(there.journal_path(campaign_id)) as journal:
        if how.failures is not None:
            write_failures(journal, how.failures)
            return
        found = read_report(journal)
    how.write(found, as_json=as_json)


@app.command("list", epilog=example("kmslab campaign list --json"))
@opens_lab
def list_(
    opening: Opening, reaching: Reaching, state: StateFolder = None, as_json: Json = False
) -> None:
    """List the campaigns, oldest first, closed ones too.

    What workers have done counts once nobody is at work any more, and until then by whole tasks. A
    campaign whose journal cannot be read is `unreadable`. No lab is opened.
    """
    from kmslab.campaign.closing import campaigns
    from kmslab.cli.campaign_shown import as_listed, show_list
    from kmslab.cli.campaign_steps import count_workers
    from kmslab.cli.grounds import state_of

    there = state_of(opening, state, reaching.names)
    for path in there.journals():
        count_workers(there, path.stem)
    found = list(campaigns(there))
    if as_json:
        write_json([as_listed(each) for each in found])
    elif not found:
        narrate("no campaigns; `kmslab campaign run SOURCE` makes one")
    else:
        show_list(found)


def _opened(opening: Opening, reaching: Reaching) -> str | None:
    """The lab that workers are to open; None where remotes are asked."""
    return None if reaching.names else opening.path
