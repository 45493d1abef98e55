"""kmslab tui: the terminal explorer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.grounds import StateFolder
from kmslab.cli.opening import Opening, opens_lab
from kmslab.cli.options import example, settings
from kmslab.cli.output import narrate, write_line
from kmslab.cli.reaching import Reaching
from kmslab.cli.source_options import READ_HELP, SourceOptions

if TYPE_CHECKING:
    from kmslab.tui.session import Session

app = typer.Typer(**settings())


@app.command(
    epilog=example(
        "kmslab tui",
        "kmslab tui --lab ./lab --source orders",
        "kmslab tui --lab ./lab --source sqlite:///shop.db --table secrets --read-only",
        "kmslab tui --lab ./lab --web",
        "kmslab tui --remote prod --source orders.csv",
    )
)
@opens_lab
def tui(
    columns: SourceOptions,
    opening: Opening,
    reaching: Reaching,
    source: Annotated[
        str | None, typer.Option("--source", metavar="SOURCE", help=READ_HELP)
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing, whatever is pressed.")
    ] = False,
    web: Annotated[
        bool, typer.Option("--web", help="Serve it to a browser on this machine, read-only.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="With --web or --remote: not read-only.")
    ] = False,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=1, max=65535, help="With --web: the port.")
    ] = 8000,
    state: StateFolder = None,
) -> None:
    """Explore keys, versions and records; plan, re-encrypt, undo.

    Without a lab the demo lab is made in a temporary directory, with the sample data, and is gone
    afterwards. Without --source the first registered one is looked at. In it, ? shows the keys.
    On a remote it is read-only without --write, and keys are shown, not changed.
    """
    from kmslab.errors import SettingError

    if write and (read_only or not (web or reaching.names)):
        raise SettingError("--write goes with --web or --remote, which is read-only without it")
    if web:
        words = _words(opening, reaching, columns, source, state)
        words += ["--write"] if write and reaching.names else []
        how = "it can be written there" if write else "it is read-only there"
        _serve(opening, words if write else [*words, "--read-only"], port, how)
        return
    from platformdirs import user_log_path

    _check_terminal()
    from kmslab.tui.app import explore

    locked = read_only or bool(reaching.names and not write)
    with _session(opening, reaching, columns, source, state, locked=locked) as session:
        code = explore(session, user_log_path("kmslab", appauthor=False))
    if code:
        raise typer.Exit(code)


def _check_terminal() -> None:
    """SettingError where nobody could see the explorer, or press a key: it would wait for ever."""
    from kmslab.errors import SettingError

    if os.environ.get("TEXTUAL_DRIVER"):  # set by who shows it elsewhere, as --web does
        return
    for stream in (sys.stdin, sys.stderr):  # stdout is for data, here as everywhere
        if stream is None or not stream.isatty():
            raise SettingError(
                f"{getattr(stream, 'name', 'a stream').strip('<>')} is no terminal, and the"
                " explorer needs one; `kmslab campaign` and `kmslab census` do without,"
                " and --web serves it to a browser"
            )


def _serve(opening: Opening, words: list[str], port: int, how: str) -> None:
    """Serve the explorer to tabs of a browser; each opens the lab by itself."""
    from kmslab.errors import SettingError

    try:
        from kmslab.tui.web import serve
    except ImportError:
        raise SettingError("--web needs the extra `web`: pip install 'kmslab[web]'") from None
    environment = {}
    if opening.passphrase:
        _, passphrase = opening.protection()
        environment["KMSLAB_PASSPHRASE"] = passphrase or ""
    if _holds_password(opening):
        environment["KMSLAB_LAB"] = str(opening.lab)
    narrate(f"serving to browsers on this machine; whoever has the address sees the lab; {how}")
    serve(words, port, environment, write_line)


def _holds_password(opening: Opening) -> bool:
    """Whether `--lab` was given what must not stand on a command line of ours."""
    return opening.lab is not None and opening.shown != opening.lab


def _words(
    opening: Opening,
    reaching: Reaching,
    columns: SourceOptions,
    source: str | None,
    state: str | None,
) -> list[str]:
    """The same options for another process, less those of the server."""
    given: dict[str, object] = {"--source": source, "--state": state}
    names = ("root_key", "expect_generation")
    given["--lab"] = None if _holds_password(opening) else opening.lab
    given |= {f"--{name.replace('_', '-')}": getattr(opening, name) for name in names}
    given["--audit"] = None if opening.audit == "grouped" else opening.audit
    for field in fields(columns):
        value = getattr(columns, field.name)
        if value != field.default:
            given[f"--{field.name.replace('_', '-')}"] = value
    words = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
    return words + [word for name in reaching.names for word in ("--remote", name)]


@contextmanager
def _session(
    opening: Opening,
    reaching: Reaching,
    columns: SourceOptions,
    source: str | None,
    state: str | None,
    *,
    locked: bool,
) -> Iterator[Session]:
    """What is explored: the remotes or the lab that is named, else the demo's."""
    from kmslab.cli.campaign_steps import ground_in
    from kmslab.cli.source_options import opener
    from kmslab.tui.session import Session, demo_session

    if opening.path is None and not reaching.names:
        narrate("no lab is named: making the demo lab in a temporary directory, gone afterwards")
        with demo_session(locked=locked) as session:
            if source is not None:
                session.ground = replace(session.ground, open_source=opener(source))
                _look_at(session, columns, source)
            yield session
        return
    with reaching.open(opening) as keyring:
        ground = ground_in(keyring, opening, reaching, state, source or "")
        where = f"remote {', '.join(reaching.names)}" if reaching.names else str(opening.shown)
        options = _options(opening, reaching, state)
        session = Session(keyring, ground, where, options=options, locked=locked)
        if source is not None:
            _look_at(session, columns, source)
        elif registered := session.sources.all():
            session.spec, session.source = registered[0].spec, registered[0].name
        yield session


def _look_at(session: Session, columns: SourceOptions, source: str) -> None:
    """Have a session look at the source that is named; a password in its URL is shown nowhere."""
    from kmslab.records.opening import split_location

    session.spec = columns.find(source, session.ground.state)
    session.source, password = split_location(source)
    if password is not None:
        session.password = (session.spec.location, password)


def _options(opening: Opening, reaching: Reaching, state: str | None) -> tuple[str, ...]:
    """What the command line needs to find the same lab or remotes, and state."""
    given = {
        "--lab": opening.lab and opening.shown,
        "--root-key": opening.root_key,
        "--state": state,
    }
    found = [word for option, value in given.items() if value for word in (option, value)]
    found += [word for name in reaching.names for word in ("--remote", name)]
    return (*found, *(["--passphrase"] if opening.passphrase else []))
