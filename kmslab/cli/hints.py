"""Commands that another one says, so that they work as they stand."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from kmslab.cli.opening import Opening


@dataclass(frozen=True, slots=True)
class Hints:
    """Writes commands with the options of the one that says them: its lab or remotes, and its state
    folder.

    >>> Hints(Opening(lab="my lab"), "notes")("campaign list")
    "kmslab campaign list --lab 'my lab' --state notes"
    """

    opening: Opening
    state: str | None = None
    remotes: tuple[str, ...] = ()

    def __call__(self, command: str) -> str:
        """A command line, ready to be typed. What came from the environment is there again."""
        options: list[str] = []
        for name, value in (
            ("--lab", self.opening.lab and self.opening.shown),
            ("--root-key", self.opening.root_key),
            ("--state", self.state),
        ):
            options += [name, value] if value else []
        if self.opening.passphrase:
            options.append("--passphrase")
        for name in self.remotes:
            options += ["--remote", name]
        return f"kmslab {command} {shlex.join(options)}".rstrip()
