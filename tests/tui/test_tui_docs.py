"""docs/tui.md has every key there is, and no other.

`pytest tests/tui --update-golden` writes its tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.binding import Binding

from kmslab.tui import actions
from kmslab.tui.actions import Action
from kmslab.tui.detail import Detail
from kmslab.tui.filtering import FIELDS
from kmslab.tui.grid import Grid
from kmslab.tui.panes import PANES
from kmslab.tui.tree import KeyTree

PAGE = Path(__file__).parents[2] / "docs" / "tui.md"
_TABLES = re.compile(r"<!-- keys -->\n.*?(?=## Decrypt)", re.DOTALL)

SCREENS = {
    "Everywhere": actions.APP,
    "The records screen": actions.RECORDS,
    "A plan": actions.PLAN,
    "A result": actions.RESULT,
    "The journals (`J`)": actions.JOURNALS,
    "A key (`K`)": actions.KEY,
    "The audit log (`H`)": actions.AUDIT,
    "The sources (`O`)": actions.SOURCES,
}


def table(title: str, rows: list[tuple[str, str]]) -> Iterator[str]:
    yield from (f"### {title}", "", "| key | action |", "|---|---|")
    for keys, what in rows:
        yield f"| {' '.join(f'`{key}`' for key in keys.split())} | {what} |"
    yield ""


def tables() -> str:
    lines: list[str] = []
    for title, found in SCREENS.items():
        lines += table(title, [(each.shown_keys, each.title) for each in found])
    for pane in PANES:
        lines += table(pane.title, pane.keys)
    return "\n".join(lines)


def test_the_page_has_the_keys(request: pytest.FixtureRequest) -> None:
    page = PAGE.read_text(encoding="utf-8")
    if request.config.getoption("--update-golden"):
        page = _TABLES.sub(lambda _: f"<!-- keys -->\n\n{tables()}\n", page)
        PAGE.write_text(page, encoding="utf-8")
    assert tables() in page


def test_the_page_has_the_fields_of_the_filter() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in FIELDS if f"`{name}:" not in page] == []


@pytest.mark.parametrize("found", SCREENS.values(), ids=SCREENS)
def test_no_key_has_two_meanings_on_a_screen(found: tuple[Action, ...]) -> None:
    keys = [key for each in {*found, *actions.APP} for key in each.keys.split(",")]
    assert sorted(keys) == sorted(set(keys))


@pytest.mark.parametrize(
    ("pane", "widget"), [(PANES[0], KeyTree), (PANES[1], Grid), (PANES[2], Detail)]
)
def test_a_pane_tells_of_its_own_keys(pane: object, widget: type[object]) -> None:
    told = " ".join(keys for keys, _ in pane.keys).lower().split()  # type: ignore[attr-defined]
    signs = {"pagedown": "pgdn", "pageup": "pgup", "escape": "esc"}
    bound = [b for b in widget.BINDINGS if isinstance(b, Binding)]  # type: ignore[attr-defined]
    own = [key for each in bound for key in each.key.split(",")]
    missing = [key for key in own if signs.get(key, key).lower() not in [*told, "esc"]]
    assert missing == []


def test_no_key_of_a_pane_hides_one_of_the_screen() -> None:
    screen = {key for each in (*actions.RECORDS, *actions.APP) for key in each.keys.split(",")}
    for widget in (KeyTree, Grid, Detail):
        bound = [b for b in widget.BINDINGS if isinstance(b, Binding)]
        assert screen & {key for b in bound for key in b.key.split(",")} <= {"escape"}
