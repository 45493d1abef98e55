"""The documentation is run: its Python snippets, and the command session of the README."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_readme_session_runs(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    session = next(text for _, text in _FENCE.findall(readme) if "kmslab lab init" in text)
    commands = [line.removeprefix("$ ") for line in session.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 6
    kmslab = f'kmslab() {{ "{sys.executable}" -m kmslab "$@"; }}'
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-euc", "\n".join([kmslab, *commands])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ReEncrypt" in done.stdout
    assert "secret" not in done.stdout + done.stderr


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
