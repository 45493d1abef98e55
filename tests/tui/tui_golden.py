"""Screens as text, and what they are held against."""

from __future__ import annotations

import re
from pathlib import Path

from textual.app import App

GOLDEN = Path(__file__).parents[1] / "golden" / "tui"
# What is another one in every run, with as many letters.
_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CAMPAIGNS = re.compile(r"(20261101-120000-)[0-9a-f]{4}")


def screen_text(app: App[None]) -> str:
    """What is on the screen, without colours."""
    drawn = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    lines = ("".join(strip.text for strip in line).rstrip() for line in drawn.strips)
    return "\n".join(lines) + "\n"


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
