"""What the tests of the command line say of it."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

Run = Callable[..., Result]
"""Run the command line with these arguments; `stdin=` and variables of the environment by name."""
