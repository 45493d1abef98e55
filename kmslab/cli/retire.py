"""kmslab retire: is a key still needed? If not, disable it, and later have it deleted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer

from kmslab.cli.failures import answers
from kmslab.cli.grounds import StateFolder, ground_of, hidden_state, state_of
from kmslab.cli.hints import Hints
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, KeyName, example, settings
from kmslab.cli.output import narrate, plain, write_json, write_line, write_table

if TYPE_CHECKING:
    from kmslab.campaign.retire import Retirement
    from kmslab.campaign.run import Ground
    from kmslab.campaign.state import State
    from kmslab.lab import Lab
    from kmslab.model import Key

app = typer.Typer(**settings())

_NAMED: Final = 10


@app.command(
    epilog=example(
        "kmslab retire orders",
        "kmslab retire orders --key-version 1",
        "kmslab retire orders --disable",
        "kmslab retire orders --schedule-deletion 30",
    )
)
@opens_lab
def retire(
    opening: Opening,
    key: KeyName,
    key_version: Annotated[
        str | None,
        typer.Option(
            "--key-version", metavar="N|ID", help="Only say what is left on this version."
        ),
    ] = None,
    disable: Annotated[
        bool, typer.Option("--disable", help="Disable the key, if nothing is left on it.")
    ] = False,
    schedule_deletion: Annotated[
        int | None,
        typer.Option(
            "--schedule-deletion",
            metavar="DAYS",
            help="Have it deleted in 7 to 30 days, if nothing is left and it is disabled.",
        ),
    ] = None,
    accept_unreadable: Annotated[
        bool,
        typer.Option(
            "--accept-unreadable",
            help="Records of which nobody can tell what they are on do not count.",
        ),
    ] = False,
    accept_empty: Annotated[
        bool, typer.Option("--accept-empty", help="A source may have no records.")
    ] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Disable or delete a key once nothing is left on it.

    Every registered source is read anew and every blob opened, and so is every journal of a
    campaign that is not closed, in the state folder that is named and in the lab's own. What is
    left is named, and makes the exit code 1; nothing is done then. Disable first, delete later:
    --schedule-deletion takes a key that is disabled already.
    """
    _check_usage(key_version, disable, schedule_deletion)
    hints = Hints(opening, state)
    with opening() as lab:
        found = lab.key(key)
        if disable or schedule_deletion is not None:
            _check_state(found, hints, delete=not disable)
        used = state_of(opening, state)
        looked = _survey(
            ground_of(lab, used),
            found,
            key_version,
            hidden_state(opening, used),
            accept_unreadable=accept_unreadable,
            accept_empty=accept_empty,
        )
        done = found
        if looked.ready:
            done = _carry_out(lab, found, disable, schedule_deletion)
    if as_json:
        change = {"state": done.state, "deletion_at": done.deletion_at}
        write_json({**plain(looked), "ready": looked.ready, **change})
    else:
        _show(looked, key if key_version is None else f"{key} version {key_version}")
        if disable or schedule_deletion is not None:
            _tell(looked, key, done, hints)
        if looked.unregistered:
            _tell_unregistered(looked.unregistered, hints)
    if not looked.ready:
        raise typer.Exit(1)


def _check_usage(key_version: str | None, disable: bool, schedule_deletion: int | None) -> None:
    from kmslab.errors import SettingError

    if disable and schedule_deletion is not None:
        raise SettingError("disable first, delete later: give --disable or --schedule-deletion")
    if key_version is not None and (disable or schedule_deletion is not None):
        raise SettingError(
            "one version of a key cannot be disabled or deleted, neither cloud does that; "
            "--key-version looks whether anything is left on it"
        )


def _check_state(key: Key, hints: Hints, *, delete: bool) -> None:
    """RetireRefused for a key that is not where this step begins."""
    from kmslab.cli.output import shown
    from kmslab.errors import RetireRefused
    from kmslab.model import KeyState

    name = key.alias or key.key_id
    if key.state is KeyState.PENDING_DELETION:
        raise RetireRefused(
            f"key {name} is {key.state.value} already: it will be deleted on "
            f"{shown(key.deletion_at)}; to end that: {_cancel(name, hints)}"
        )
    if delete and key.state is not KeyState.DISABLED:
        raise RetireRefused(
            f"disable first, delete later: key {name} is {key.state.value}. "
            "After --disable wait until everybody who may still need it has had time to complain"
        )


def _cancel(key: str, hints: Hints) -> str:
    # The state folder is no option of this command.
    return replace(hints, state=None)(f"key cancel-deletion {shlex.quote(key)}")


def _survey(
    ground: Ground,
    key: Key,
    key_version: str | None,
    hidden: State | None,
    *,
    accept_unreadable: bool,
    accept_empty: bool,
) -> Retirement:
    from kmslab.campaign.retire import survey
    from kmslab.cli.progress import watching
    from kmslab.cli.providers import version_of

    with watching("") as watch:
        return survey(
            ground,
            key,
            key_version_id=None if key_version is None else version_of(key, key_version),
            also=() if hidden is None else (hidden,),
            accept_unreadable=accept_unreadable,
            accept_empty=accept_empty,
            watch=watch,
        )


def _carry_out(lab: Lab, key: Key, disable: bool, days: int | None) -> Key:
    from kmslab.keys import kms_of
    from kmslab.model import KeyState

    kms = kms_of(lab, key)
    if disable and key.state is not KeyState.DISABLED:
        with answers(key.provider, "DisableKey"):
            return kms.disable_key(key.key_id)
    if days is not None:
        with answers(key.provider, "ScheduleKeyDeletion"):
            return kms.schedule_key_deletion(key.key_id, days)
    return key


def _tell_unregistered(names: Sequence[str], hints: Hints) -> None:
    """Name where campaigns were at work and nobody looked."""
    for name in names[:_NAMED]:
        narrate(f"not looked into, though a campaign was at work there: {name}")
    if len(names) > _NAMED:
        narrate(f"(and {len(names) - _NAMED:,} more)")
    narrate(f"if records are kept there: {hints('source add NAME SOURCE')}")


def _show(looked: Retirement, what: str) -> None:
    from kmslab.campaign.wording import counted

    if looked.ready:
        write_line(f"nothing is left on {what}")
    else:
        write_line(f"Left on {what}, or not known")
        write_table(
            ["WHAT", "WHERE", "RECORDS", "FOR EXAMPLE"],
            [
                [each.kind.value, each.where, each.records or None, ", ".join(each.examples[:3])]
                for each in looked.left
            ],
        )
    sources = ", ".join(looked.sources) or "none"
    narrate(f"{counted(looked.records, 'record')} read; sources: {sources}")
    for state in looked.states:
        narrate(f"state folder: {state}")


def _tell(looked: Retirement, key: str, done: Key, hints: Hints) -> None:
    from kmslab.cli.output import shown

    if not looked.ready:
        narrate(f"{key} was left as it is")
    elif done.deletion_at is not None:
        narrate(
            f"{key} will be deleted on {shown(done.deletion_at)}; until then: {_cancel(key, hints)}"
        )
    else:
        narrate(f"{key} is {done.state.value}")
