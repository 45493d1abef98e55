"""kmslab source: the sources that are looked at before a key is retired."""

from __future__ import annotations

from typing import Annotated

import typer

from kmslab.cli.grounds import StateFolder, state_of, tell_state
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import narrate, write_json, write_line, write_table
from kmslab.cli.source_options import SourceName, SourceOptions

app = typer.Typer(
    name="source",
    help="Register the sources that are looked at before a key goes.",
    epilog=example("kmslab source add orders orders.csv"),
    no_args_is_help=True,
    **settings(),
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]


@app.command(
    epilog=example(
        "kmslab source add orders orders.csv",
        "kmslab source add shop sqlite:///shop.db --table secrets --blob-column secret",
    )
)
@opens_lab
def add(
    columns: SourceOptions,
    opening: Opening,
    name: _Name,
    source: SourceName,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Register a source.

    It is opened once, to see that it is there and has its columns, and it is remembered where it is
    and how it is read. A password is not remembered. Commands that read a source take NAME for it.
    """
    from kmslab.campaign.sources import Sources
    from kmslab.cli.source_options import opener

    spec = columns.spec(source)
    opener(source)(spec)
    added = Sources(state_of(opening, state)).add(name, spec)
    if as_json:
        write_json(added)
    else:
        narrate(f"{added.name} is registered: {added.spec.location}")


@app.command("list", epilog=example("kmslab source list --json"))
@opens_lab
def list_(opening: Opening, state: StateFolder = None, as_json: Json = False) -> None:
    """List the registered sources, and the holds that stand."""
    from kmslab.campaign.sources import Sources

    used = state_of(opening, state)
    registered = Sources(used)
    tell_state(opening, used)
    sources, holds = registered.all(), registered.holds()
    if as_json:
        write_json({"sources": sources, "holds": holds})
        return
    if not sources:
        narrate("no sources; `kmslab source add NAME SOURCE` registers one")
    else:
        rows = [[s.name, s.spec.location, s.spec.table, s.added_at] for s in sources]
        write_table(["SOURCE", "WHERE", "TABLE", "ADDED"], rows)
    if holds:
        write_line("")
        rows = [[hold.name, hold.reason, hold.key_id, hold.since] for hold in holds]
        write_table(["HOLD", "REASON", "KEY", "SINCE"], rows)


@app.command(epilog=example("kmslab source forget orders"))
@opens_lab
def forget(opening: Opening, name: _Name, state: StateFolder = None, as_json: Json = False) -> None:
    """Forget a registered source.

    The source itself is left alone. From now on nobody looks there before a key is retired.
    """
    from kmslab.campaign.sources import Sources

    used = state_of(opening, state)
    tell_state(opening, used)
    Sources(used).forget(name)
    if as_json:
        write_json({"forgotten": name})
    else:
        narrate(f"{name} is forgotten; nobody looks there any more before a key is retired")


@app.command(
    epilog=example(
        'kmslab source hold tapes --reason "monthly backups, the last of 2026-03"',
        "kmslab source hold tapes --release",
    )
)
@opens_lab
def hold(
    opening: Opening,
    name: _Name,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="What it is, and until when.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Only this key; else every one.")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="It holds no longer.")] = False,
    state: StateFolder = None,
    as_json: Json = False,
) -> None:
    """Name what cannot be looked at: backups, replicas, exports.

    While a hold stands the key, or every key, is not retired.
    """
    from kmslab.campaign.sources import Sources
    from kmslab.errors import SettingError

    if release is (reason is not None) or (release and key is not None):
        raise SettingError("give --reason TEXT to hold, or --release alone to end it")
    used = state_of(opening, state)
    registered = Sources(used)
    tell_state(opening, used)
    if reason is None:
        registered.release(name)
        if as_json:
            write_json({"released": name})
        else:
            narrate(f"{name} holds no longer")
        return
    key_id = None
    if key is not None:
        with opening() as lab:
            key_id = lab.key(key).key_id
    made = registered.hold(name, reason, key_id)
    if as_json:
        write_json(made)
    else:
        narrate(f"{name} holds {'every key' if key is None else key} until it is released")
