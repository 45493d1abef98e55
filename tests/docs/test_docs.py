"""The documentation is run: its Python snippets, and the sessions of the README and the runbook."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Warm
from postgres_server import Server, free_port
from typer.testing import CliRunner

from kmslab import Lab
from kmslab.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[pytest.param]:
    found = []
    for page in PAGES:
        for number, (kind, text) in enumerate(_FENCE.findall(page.read_text("utf-8")), start=1):
            if kind == language:
                marks = [pytest.mark.scale] if "workers=" in text else []
                found.append(pytest.param(text, id=f"{page.name}-{number}", marks=marks))
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
        self._going_on: list[subprocess.Popen[bytes]] = []

    def end(self) -> None:
        """End what was begun with `&`."""
        for process in self._going_on:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._going_on:
            process.wait(timeout=30)

    def run(self, command: str) -> list[list[str]]:
        """What is on stdout and on stderr. It must succeed, unless it says its exit code."""
        name, _, value = command.removeprefix("export ").partition("=")
        if command.startswith("export "):
            self._environment[name] = self._here(value)
            return []
        command, says_code, _ = self._here(command).partition("; echo $?")
        if not command.startswith("kmslab ") or "$(" in command:
            return [stream.splitlines() for stream in self._in_shell(command)]
        result = CliRunner().invoke(app, shlex.split(command)[1:], env=self._environment)
        assert says_code or result.exit_code == 0, result.output
        code = [str(result.exit_code)] if says_code else []
        return [result.stdout.splitlines(), result.stderr.splitlines(), code]

    def _in_shell(self, command: str) -> tuple[str, str]:
        shell = [shutil.which("bash") or "sh", "-euc"]
        environment = os.environ | self._environment
        if command.endswith(" &"):
            line = [*shell, f"exec {command[:-2]}"]
            process = subprocess.Popen(line, env=environment, start_new_session=True)
            self._going_on.append(process)
            return "", ""
        done = subprocess.run(
            [*shell, f"{self._kmslab}\n{command}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

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


def run_the_session(
    page: Path, warm: Warm, directory: Path, words: dict[str, str] | None = None
) -> str:
    """Run the commands of a page, which print what it shows; all that they printed.

    `words` are what stands for what in it.
    """
    return run_commands(page.read_text("utf-8"), Session(directory, warm, words))


def run_commands(text: str, session: Session) -> str:
    """Run the commands of a text, which print what it shows; all that they printed."""
    blocks = [block for kind, block in _FENCE.findall(text) if kind == "console"]
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
    assert len(steps) >= 10
    everything = []
    for command, shown in steps:
        printed = session.run(command)
        if shown or command.startswith("kmslab "):
            session.check(shown.splitlines(), printed)
        everything += ["\n".join(stream) for stream in printed]
    return "\n".join(everything)


def test_the_session_of_the_readme_runs(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "secret" not in run_the_session(ROOT / "README.md", warm, tmp_path)


@pytest.mark.scale
def test_the_runbook_runs(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_commands("".join(runbook()[::2]), Session(tmp_path, warm))
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")


def runbook() -> tuple[str, str, str]:
    """The page on operations: what is before the section on teams, that section, and what is
    behind it."""
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    before, rest = page.split("## A team of several machines\n")
    section, heading, after = rest.partition("\n## ")
    return before, section, heading + after


@pytest.mark.scale
def test_the_page_for_a_team_runs(
    warm: Warm, postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = {
        "/etc/kmslab": str(tmp_path),
        "dba@": "kmslab@",
        "db.example": f"127.0.0.1:{postgres.port}",
        "dask.example": "127.0.0.1",
        "8786": str(free_port()),
    }
    session = Session(tmp_path, warm, words)
    try:
        run_commands(runbook()[1], session)
    finally:
        session.end()
        for name in ("kmslab", "shop", "again"):
            postgres.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        for name in ("kms", "app"):
            postgres.execute(f"DROP ROLE IF EXISTS {name}")


def test_the_seed_file_of_the_page_is_planted(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    (tmp_path / "keys.yaml").write_text(
        next(text for kind, text in _FENCE.findall(page) if kind == "yaml"), "utf-8"
    )
    with Lab.create(tmp_path / "lab") as lab:
        (key_id,) = lab.seed(tmp_path / "keys.yaml")
        assert lab.key("orders-fixed").key_id == key_id


@pytest.mark.scale
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
        words = {"postgresql://kms@db.example/kmslab": url}
        run_the_session(page, warm, tmp_path, words)
    finally:
        postgres.execute("DROP DATABASE kmslab WITH (FORCE)")
        postgres.execute("DROP ROLE kms")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text("utf-8")):
        assert "://" not in target, target
        place = page.parent / target if target else page
        assert place.exists(), target
        assert not heading or heading in headings(place), f"{target}#{heading}"


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


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
