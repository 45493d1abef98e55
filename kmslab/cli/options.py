"""What commands have in common: their options and arguments, and the shape of their help."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import typer

LAB_HELP: Final = "The lab's directory, or its database's URL; else from KMSLAB_LAB."
ROOT_KEY_HELP: Final = "The lab's root key, where it is not in the lab; else from KMSLAB_ROOT_KEY."
JSON_HELP: Final = "Give the result as JSON."


def settings(*, add_completion: bool = False) -> dict[str, Any]:
    """What every Typer app of the command line is made with."""
    return {
        "add_completion": add_completion,
        "rich_markup_mode": None,
        "pretty_exceptions_enable": False,
        "context_settings": {"help_option_names": ["--help", "-h"]},
    }


def example(*lines: str) -> str:
    """The end of a help text: command lines that can be copied."""
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])


def inherited(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    """An option's value, or, where it was not given, that of the same option before the command."""
    return value or ctx.find_root().params.get(param.name or "") or value


Json = Annotated[bool, typer.Option("--json", callback=inherited, help=JSON_HELP)]

KeyName = Annotated[
    str, typer.Argument(metavar="KEY", help="A key id, or an alias that one key alone has.")
]

ProviderName = Literal["tencent", "ctyun"]

Provider = Annotated[
    ProviderName | None, typer.Option("--provider", help="Whose key or blob it is.")
]

Region = Annotated[
    str | None,
    typer.Option("--region", metavar="NAME", help="The region, where it is not the usual one."),
]

Context = Annotated[
    str | None,
    typer.Option("--context", metavar="JSON", help="The encryption context, as its exact text."),
]

Blob = Annotated[
    str, typer.Argument(metavar="BLOB|-", help="The blob's text, or - to read it from stdin.")
]
