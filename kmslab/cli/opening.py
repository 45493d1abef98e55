"""How a command finds and opens its lab: the same options on each, and the environment."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kmslab.cli.options import LAB_HELP, ROOT_KEY_HELP, inherited

if TYPE_CHECKING:
    from kmslab.lab import Lab

RootKey = Annotated[
    str | None,
    typer.Option("--root-key", metavar="PATH", callback=inherited, help=ROOT_KEY_HELP),
]

Passphrase = Annotated[
    bool,
    typer.Option(
        "--passphrase",
        help="The lab is under a passphrase: ask for it. Without this, or without a terminal, it"
        " comes from KMSLAB_PASSPHRASE.",
    ),
]


@dataclass(frozen=True, slots=True)
class Opening:
    """The options that say which lab, and how it is opened. Call it to open the lab.

    What is given on the command line goes before the environment.
    """

    lab: Annotated[
        str | None, typer.Option("--lab", metavar="PATH", callback=inherited, help=LAB_HELP)
    ] = None
    root_key: RootKey = None
    passphrase: Passphrase = False
    audit: Annotated[
        Literal["grouped", "sync"],
        typer.Option("--audit", help="sync makes the audit row of each call durable at once."),
    ] = "grouped"
    expect_generation: Annotated[
        int | None,
        typer.Option(
            "--expect-generation",
            metavar="N",
            min=1,
            help="Refuse a lab that is older than this generation (see `kmslab lab info`).",
        ),
    ] = None

    def __call__(self) -> Lab:
        """The lab, open. LabError says what is wrong with it, SettingError with the options."""
        from kmslab.cli.waiting import telling_waits
        from kmslab.errors import LabNotFound
        from kmslab.keystore.audit import AuditMode
        from kmslab.lab import Lab

        path = self.path
        if path is None:
            raise LabNotFound(
                "no lab is named: give --lab PATH or set KMSLAB_LAB; "
                "`kmslab lab init PATH` makes one"
            )
        root_key, passphrase = self.protection()
        with telling_waits():
            return Lab.open(
                path,
                root_key=root_key,
                passphrase=passphrase,
                audit=AuditMode(self.audit),
                expect_generation=self.expect_generation,
            )

    @property
    def path(self) -> str | None:
        """The lab's directory or URL, where one is named. A URL may hold a password."""
        return self.lab or os.environ.get("KMSLAB_LAB") or None

    @property
    def shown(self) -> str | None:
        """`path` less a password: fit to be shown, and to be said or started in commands."""
        from kmslab.keystore.lab_url import shown

        return None if self.path is None else shown(self.path)

    @property
    def directory(self) -> Path | None:
        """The lab's directory, where one is named and it is no URL."""
        from kmslab.keystore.lab_url import in_database

        path = self.path
        return None if path is None or in_database(path) else Path(path)

    def protection(self, *, confirm: bool = False) -> tuple[str | None, str | None]:
        """The root key's path and the passphrase; one of them at most, by these options or by the
        environment."""
        from kmslab.cli.passphrases import passphrase
        from kmslab.errors import SettingError

        if self.passphrase:
            if self.root_key:
                raise SettingError("a lab is under --root-key or --passphrase, not both")
            return None, passphrase("Passphrase of the lab", "KMSLAB_PASSPHRASE", confirm=confirm)
        if self.root_key:
            return self.root_key, None
        given = os.environ.get
        return given("KMSLAB_ROOT_KEY") or None, given("KMSLAB_PASSPHRASE") or None


def opens_lab(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Opening`, and of other bundles that it takes.

    Each parameter that is annotated with a dataclass of options gets what they say.
    """
    bundles: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            bundles[parameter.name] = parameter.annotation
        else:
            parameters.append(parameter)
    for bundle in bundles.values():
        parameters += inspect.signature(bundle, eval_str=True).parameters.values()

    @functools.wraps(command)
    def run(**values: Any) -> None:
        made = {
            name: bundle(**{field.name: values.pop(field.name) for field in fields(bundle)})
            for name, bundle in bundles.items()
        }
        command(**made, **values)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
