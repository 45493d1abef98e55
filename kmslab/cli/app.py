"""The root of the command line: which commands there are, and what becomes of their errors.

The module of a command is imported when the command is used, so that `kmslab --help` is quick.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from kmslab.cli.options import JSON_HELP, LAB_HELP, ROOT_KEY_HELP, example, settings

CLOSED_PIPE: Final = 141
"""What a shell reports of a program whose reader went away."""

# Each command's module and the first line of its help (a test compares them).
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("demo", "Make the demo lab, rotate, re-encrypt, show before and after."),
    "tui": ("tui", "Explore keys, versions and records; plan, re-encrypt, undo."),
    "lab": ("lab", "Make a lab, look at it, set it up, move it."),
    "key": ("key", "Create, show, rotate, enable, disable and delete keys."),
    "encrypt": ("data", "Encrypt bytes under a key."),
    "decrypt": ("data", "Decrypt a blob."),
    "data-key": ("data", "Make a data key, in the clear and as a blob."),
    "re-encrypt": ("data", "Re-encrypt a blob to its key's primary version or another key."),
    "inspect": ("inspect_", "Explain a blob part by part; no lab is needed."),
    "call": ("call", "Make one call with the provider's own request and answer."),
    "serve": ("serve", "Serve a lab over HTTP to the vendors' own clients."),
    "campaign": ("campaign", "Re-encrypt everything that a source holds."),
    "census": ("census", "Count the records of a source by key and version."),
    "retire": ("retire", "Disable or delete a key once nothing is left on it."),
    "source": ("source", "Register the sources that are looked at before a key goes."),
    "simulate": ("simulate", "Say how old ciphertexts get under a rotation policy."),
    "audit": ("audit", "Show the audit log, and check that it is whole."),
    "credential": ("credential", "Create, list and revoke credentials."),
}


@cache
def _command(name: str) -> Any:
    found = get_command(import_module(f"kmslab.cli.{COMMANDS[name][0]}").app)
    return found.commands.get(name, found) if isinstance(found, TyperGroup) else found


class LazyCommands(Mapping[str, Any]):
    """The commands by name, each imported and made when it is first asked for."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Root(TyperGroup):
    """The group of all commands. Errors become a line on stderr and an exit code here."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = LazyCommands()  # type: ignore[assignment]

    def list_commands(self, _ctx: Any) -> list[str]:
        """The names of every group and command, in the order of the table."""
        return list(COMMANDS)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write the table of commands without loading any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: Any) -> Any:
        """Run the command, with what stood before it."""
        try:
            result = super().invoke(ctx)
            print(end="", flush=True)
        except BrokenPipeError:
            _forget_stdout()
            raise typer.Exit(CLOSED_PIPE) from None
        return result

    def main(self, args: Any = None, **rest: Any) -> Any:  # type: ignore[override]
        """Run the command line and end with its exit code."""
        words = sys.argv[1:] if args is None else list(args)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                # A lone surrogate in a file name must not end the program.
                stream.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings():
            warnings.showwarning = _narrate_warning  # type: ignore[assignment]
            try:
                return super().main(args=words, **rest)
            except Exception as error:
                from kmslab.cli.failures import report

                _forget_stdout()
                sys.exit(report(error, as_json="--json" in words))


def _forget_stdout() -> None:
    """Let go of what cannot be written, of which the interpreter would complain at its end."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _narrate_warning(message: Warning | str, *_: Any) -> None:
    from kmslab.cli.output import narrate

    narrate(f"warning: {message}")


app = typer.Typer(cls=Root, no_args_is_help=True, **settings(add_completion=True))


def _version(wanted: bool) -> None:
    if wanted:
        from kmslab import __version__

        print(__version__)
        raise typer.Exit


@app.callback(epilog=example("kmslab demo"))
def root(
    lab: Annotated[str | None, typer.Option("--lab", metavar="PATH", help=LAB_HELP)] = None,
    root_key: Annotated[
        str | None, typer.Option("--root-key", metavar="PATH", help=ROOT_KEY_HELP)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """A strict local KMS for Tencent Cloud and CTyun, to rotate and re-encrypt.

    Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 refused, 2 usage or
    configuration, 3 retryable provider error, 70 an error of kmslab itself, 130 interrupted, 141
    stdout closed by its reader.
    """
