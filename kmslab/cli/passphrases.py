"""Asking for passphrases: hidden, on a terminal, never on the command line."""

from __future__ import annotations

import os
import sys


def passphrase(prompt: str, variable: str, *, confirm: bool = False) -> str:
    """A passphrase typed at a terminal, twice with `confirm`; without one from the environment.

    SettingError where there is neither, where it is empty and where the two differ.
    """
    from getpass import getpass

    from kmslab.errors import SettingError

    if not sys.stderr.isatty():
        found = os.environ.get(variable)
        if not found:
            raise SettingError(f"no terminal to ask for a passphrase on; set {variable}")
        return found
    try:
        typed = getpass(f"{prompt}: ")
        again = getpass(f"{prompt}, again: ") if confirm and typed else typed
    except EOFError:
        raise SettingError("no passphrase was given") from None
    if not typed:
        raise SettingError("no passphrase was given")
    if typed != again:
        raise SettingError("the two passphrases differ; nothing was changed")
    return typed
