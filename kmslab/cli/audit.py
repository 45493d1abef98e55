"""kmslab audit: who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.failures import REFUSED
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, plain, write_fields, write_json, write_table

if TYPE_CHECKING:
    from kmslab.keystore.audit import AuditCheck

app = typer.Typer(
    name="audit",
    help="Show the audit log, and check that it is whole.",
    epilog=example("kmslab audit verify"),
    no_args_is_help=True,
    **settings(),
)


@app.command(epilog=example("kmslab audit show --last 20"))
@opens_lab
def show(
    opening: Opening,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Only the last N rows.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the audit log, oldest row first.

    Like calls within a second share a row: CALLS says how many. KEY is the key's alias, where it
    has one of its own; --json gives every id. The log holds no context, no blob and no plaintext.
    Exits 1 where the log is not just as it was written; what is there is shown all the same.
    """
    from kmslab.keys import Names

    with opening() as lab:
        entries = lab.audit.entries(last)
        check = lab.audit.verify()
        names = Names.of(lab)
    if as_json:
        write_json([{**plain(entry), "at": plain(entry.time)} for entry in entries])
    else:
        write_table(
            ["TIME", "WHO", "PROVIDER", "ACTION", "KEY", "OUTCOME", "CALLS"],
            [
                [e.time, e.who, e.provider or None, e.action, names(e.key_id), e.outcome, e.count]
                for e in entries
            ],
        )
    _refuse_broken(check)


@app.command(epilog=example("kmslab audit verify"))
@opens_lab
def verify(opening: Opening, as_json: Json = False) -> None:
    """Check that the audit log is just as it was written. Exits 1 where it is not.

    An open end is a process that is still at work or was killed: its last calls may be missing.
    """
    with opening() as lab:
        check = lab.audit.verify()
    if as_json:
        write_json({"intact": check.intact, **plain(check)})
    else:
        write_fields(
            [
                ("intact", check.intact),
                ("rows", check.rows),
                ("open ends", check.open_ends),
                ("head", check.head),
            ]
        )
    _refuse_broken(check)


def _refuse_broken(check: AuditCheck) -> None:
    if not check.intact:
        narrate(f"refused: row {check.broken_at} is not what was written")
        raise typer.Exit(REFUSED)
