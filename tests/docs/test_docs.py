"""The documentation is run: its Python snippets, and the command session of the README."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import Warm
from postgres_server import Server
from typer.testing import CliRunner

from kmslab.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[pytest.param]:
    found = []
    for page in PAGES:
        for number, (kind, text) in enumerate(_FENCE.findall(page.read_text("utf-8")), start=1):
            if kind == language:
                found.append(pytest.param(text, id=f"{page.name}-{number}"))
    return found


@pytest.mark.parametrize("text", blocks("python"))
def test_python_snippet_runs(text: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "snippet", "exec"), {"__name__": "snippet"})


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lab of whoever runs the tests gets in."""
    for name in ("KMSLAB_LAB", "KMSLAB_STATE"):
        monkeypatch.delenv(name, raising=False)


def test_readme_session_runs(warm: Warm, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    text = "".join(text for kind, text in _FENCE.findall(readme) if not kind)
    commands = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 11
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-euc", "\n".join([warm.shell_function, *commands])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ReEncrypt" in done.stdout
    assert "finished" in done.stdout
    assert "secret" not in done.stdout + done.stderr


OPERATIONS = ROOT / "docs" / "operations.md"
# What is another one in every run. The page's own word is bound to the first that stands there.
_VARIABLE = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]{8}-[0-9]{6}-[0-9a-f]{4}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"
)


class Session:
    """The commands of a page, run one after the other; knows which word of it is which one here."""

    def __init__(self, directory: Path, warm: Warm, words: dict[str, str] | None = None) -> None:
        self._kmslab = warm.shell_function
        self._words = {"/srv/shop": str(directory), **(words or {})}
        self._environment: dict[str, str] = {}

    def run(self, command: str) -> list[list[str]]:
        """What is on stdout and on stderr. It must succeed, unless it says its exit code."""
        name, _, value = command.removeprefix("export ").partition("=")
        if command.startswith("export "):
            self._environment[name] = self._here(value)
            return []
        if not command.startswith("kmslab "):
            return [self._in_shell(command).splitlines()]
        command, says_code, _ = self._here(command).partition("; echo $?")
        result = CliRunner().invoke(app, shlex.split(command)[1:], env=self._environment)
        assert says_code or result.exit_code == 0, result.output
        code = [str(result.exit_code)] if says_code else []
        return [result.stdout.splitlines(), result.stderr.splitlines(), code]

    def _in_shell(self, command: str) -> str:
        return subprocess.run(
            [shutil.which("bash") or "sh", "-euc", f"{self._kmslab}\n{self._here(command)}"],
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    def _here(self, text: str) -> str:
        for word, bound in self._words.items():
            text = text.replace(word, bound)
        return text

    def check(self, shown: list[str], streams: list[list[str]]) -> None:
        """Each line that is shown is the next one of a stream, and no other lines are there.

        `...` stands for the rest, of a line or of everything.
        """
        left = [list(stream) for stream in streams]
        for line in shown:
            if line == "...":
                return
            stream = next((s for s in left if s and self._is(line, s[0])), None)
            assert stream is not None, f"{line!r} is none of {[s[:1] for s in left]}"
            stream.pop(0)
        assert not any(left)

    def _is(self, line: str, printed: str) -> bool:
        words = list(zip(_VARIABLE.findall(line), _VARIABLE.findall(printed), strict=False))
        for word, real in words:
            line = line.replace(word, self._words.get(word, real))
        wanted, found = self._here(line).split(), printed.split()
        if wanted[-1:] == ["..."] and wanted[:-1] == found[: len(wanted) - 1]:
            found = wanted
        if wanted == found:
            self._words = {**dict(words), **self._words}
        return wanted == found


def run_page(page: Path, session: Session) -> int:
    """Run the commands that a page shows, and see that they print what it says; how many."""
    blocks = [text for kind, text in _FENCE.findall(page.read_text("utf-8")) if kind == "console"]
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
    for command, shown in steps:
        printed = session.run(command)
        if shown or command.startswith("kmslab "):
            session.check(shown.splitlines(), printed)
    return len(steps)


def test_the_runbook_runs(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(OPERATIONS, Session(tmp_path, warm)) > 30
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def test_the_page_on_postgresql_runs(
    warm: Warm, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rights are enough, and its commands print what it says."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "postgresql.md"
    (text,) = (text for kind, text in _FENCE.findall(page.read_text("utf-8")) if kind == "sql")
    for place, statements in zip(
        ("postgres", "kmslab"), text.split("-- in that database:\n"), strict=True
    ):
        for statement in statements.split(";\n")[:-1]:
            postgres.execute(statement, place)
    try:
        url = postgres.url("kmslab").replace("kmslab@", "kms@")
        session = Session(tmp_path, warm, {"postgresql://kms@db.example/kmslab": url})
        assert run_page(page, session) > 8
    finally:
        postgres.execute("DROP DATABASE kmslab WITH (FORCE)")
        postgres.execute("DROP ROLE kms")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert "://" not in target, target
        assert (page.parent / target).exists(), target


def test_every_module_is_on_the_map() -> None:
    """docs/architecture.md names every package and module."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    package = ROOT / "kmslab"
    names = {p.name for p in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    names |= {f"{p.name}/" for p in package.iterdir() if (p / "__init__.py").exists()} - {
        "providers/"
    }
    names |= {p.name for p in (package / "keystore").glob("*.py")} - {"__init__.py"}
    names |= {p.name for p in (package / "providers").rglob("*.py")} - {"__init__.py"}
    missing = sorted(name for name in names if f"{name}" not in page)
    assert not missing


def test_constraints_hold_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert "://" not in text
    assert "@" not in text
