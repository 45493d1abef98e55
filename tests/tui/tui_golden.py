"""Screens as text, and what they are held against."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from rich.cells import cell_len
from textual.app import App

GOLDEN = Path(__file__).parents[1] / "golden" / "tui"
_TEXT = re.compile(r'<text [^>]*x="([0-9.]+)"[^>]*-line-([0-9]+)\)">(.*?)</text>', re.DOTALL)
_CELL = 12.2
# What is another one in every run, with as many letters.
_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CAMPAIGNS = re.compile(r"(20261101-120000-)[0-9a-f]{4}")


def screen_text(app: App[None]) -> str:
    """What is on the screen, without colours."""
    lines: dict[int, list[tuple[int, str]]] = {}
    for x, row, text in _TEXT.findall(app.export_screenshot()):
        lines.setdefault(int(row), []).append((round(float(x) / _CELL), unescape(text)))
    found = []
    for row in range(max(lines, default=-1) + 1):
        line = ""
        for at, text in sorted(lines.get(row, [])):
            line += " " * (at - cell_len(line)) + text
        found.append(line.replace("\xa0", " ").rstrip())
    return "\n".join(found) + "\n"


def steady(text: str) -> str:
    """A screen without what is another one in every run."""
    return _CAMPAIGNS.sub(r"\1xxxx", _IDS.sub("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", text))


class Golden:
    """Golden texts, by name; with `update` they are written."""

    def __init__(self, *, update: bool) -> None:
        self._update = update
        self.wrong: list[str] = []

    def take(self, app: App[None], name: str) -> None:
        """Hold what is on the screen against the text of this name."""
        found, path = steady(screen_text(app)), GOLDEN / f"{name}.txt"
        if self._update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != found:
            self.wrong.append(f"{name} is now\n{found}")
