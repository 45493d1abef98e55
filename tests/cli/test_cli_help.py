"""Every command has help with an example, fits its line in the list, and is in docs/cli.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from kmslab.cli import INTERRUPTED
from kmslab.cli.app import CLOSED_PIPE, COMMANDS, app
from kmslab.cli.failures import BUG, REFUSED, RETRYABLE, USAGE
from kmslab.providers.parameters import Kind, Parameter
from kmslab.providers.tencent.wire import ACTIONS, Action

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(get_command(app)))


def help_of(*path: str) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="kmslab")
    assert result.exit_code == 0
    assert not result.stderr
    return result.stdout


def examples(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if re.match(r"(.* \| )?kmslab ", line)]


def parse(line: str) -> None:
    """Parse an example as the program would, without running it; a usage error raises."""
    words = shlex.split(line)
    words = words[words.index("kmslab") + 1 :]
    ends = [at for at, word in enumerate(words) if word in ("|", ">", "<")]
    words = words[: ends[0]] if ends else words
    command = get_command(app)
    context: Any = None
    while isinstance(command, TyperGroup):
        context = command.make_context("kmslab", words[:1], parent=context)
        command, words = command.commands[words[0]], words[1:]
    command.make_context("kmslab", words, parent=context)


def test_there_are_the_commands_of_the_design() -> None:
    groups = {
        "lab": "init info set rekey export import seed fault",
        "key": "create list show versions rotate enable disable alias rotation schedule-deletion"
        " cancel-deletion archive import-material public-key",
        "audit": "show verify",
        "campaign": "plan run resume verify undo close report list",
        "source": "add list forget hold",
        "credential": "create list revoke",
    }
    expected = {(group, name) for group, names in groups.items() for name in names.split()}
    alone = "demo tui encrypt decrypt data-key re-encrypt inspect call serve census simulate retire"
    assert set(ALL) == expected | {(name,) for name in alone.split()}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_has_help_with_an_example_of_itself(path: tuple[str, ...]) -> None:
    found = examples(help_of(*path))
    assert found
    for line in found:
        assert f"kmslab {' '.join(path)}" in line
        parse(line)


@pytest.mark.parametrize("path", [path for path in ALL if path != ("tui",)], ids=" ".join)
def test_a_command_takes_json(path: tuple[str, ...]) -> None:
    assert "--json" in help_of(*path)


@pytest.mark.parametrize("name", ["", "lab", "key", "audit", "credential", "campaign", "source"])
def test_a_list_of_commands_is_not_cut_off(name: str) -> None:
    text = help_of(*name.split())
    assert "..." not in text.replace("[ARGS]...", "")
    assert examples(text)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_commands_say(name: str) -> None:
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.name == name
    assert command.help.splitlines()[0] == COMMANDS[name][1]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_is_in_the_docs_with_an_example(path: tuple[str, ...]) -> None:
    rows = [row.split(" | ") for row in DOCS.read_text(encoding="utf-8").splitlines()]
    row = next(row for row in rows if row[0] == f"| `{' '.join(path)}`")
    line = row[2].strip("`")
    assert line.startswith(f"kmslab {' '.join(path)}")
    parse(line)


def test_the_docs_name_every_variable_of_the_environment() -> None:
    package = Path(__file__).parents[2] / "kmslab"
    code = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    named = set(re.findall(r"KMSLAB_[A-Z_]+", code))
    assert named == set(re.findall(r"KMSLAB_[A-Z_]+", DOCS.read_text(encoding="utf-8")))


def table_of(calls: Mapping[str, Action]) -> str:
    """The calls of a provider with their parameters, as the docs have them."""
    lines = ["| call | parameters |", "|---|---|"]
    for name, call in calls.items():
        lines.append(f"| `{name}` | {' '.join(map(shown, call.parameters))} |")
    return "\n".join(lines)


def shown(parameter: Parameter) -> str:
    kind = "" if parameter.kind is Kind.STRING else f": {parameter.kind.name.lower()}"
    text = f"{parameter.name}{kind}"
    return f"`{text}`" if parameter.required else f"`[{text}]`"


def test_the_docs_list_every_call_with_its_parameters() -> None:
    """Those of CTyun are in docs/wire.md: see tests/server/test_server_docs.py."""
    text = DOCS.read_text(encoding="utf-8")
    section = text.partition("### `kmslab call tencent`\n\n")[2].partition("\n\n")[0]
    assert section == table_of(ACTIONS)


def test_every_exit_code_is_told_of() -> None:
    help_text, docs = help_of(), DOCS.read_text(encoding="utf-8")
    for code in (0, REFUSED, USAGE, RETRYABLE, BUG, INTERRUPTED, CLOSED_PIPE):
        assert re.search(rf"\b{code}\s", help_text)
        assert f"\n| {code} | " in docs


def test_a_misspelt_command_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["decript"], prog_name="kmslab")
    assert result.exit_code == 2
    assert "'decrypt'" in result.stderr
