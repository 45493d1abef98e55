"""Styles that are parsed once, and beforehand, are those that Textual parses each time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.app import App
from textual.css.stylesheet import Stylesheet
from textual.geometry import Size
from textual.screen import Screen

from kmslab.tui.styles import Styles, fit, variables_of
from kmslab.tui.theme import THEMES


def texts(styles: Stylesheet) -> list[Any]:
    return [
        (rule.selectors, str(rule.styles.get_rules()), rule.is_default_rules)
        for rule in styles.rules
    ]


def test_the_rules_of_each_theme_are_textuals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    app: App[Any] = App()
    app.stylesheet = own = Styles(variables=app.get_css_variables())

    async def seen() -> None:
        async with app.run_test():
            for theme in THEMES:
                own.prepare(variables_of(app, theme), lambda: None)
            monkeypatch.setattr(Stylesheet, "_parse_rules", None)  # all of it is there
            found = {}
            for theme in (*THEMES, THEMES[0]):
                own.set_variables(variables_of(app, theme))
                own.reparse()
                found[theme] = texts(own)
            monkeypatch.undo()
            for theme in THEMES:
                plain = Stylesheet(variables=variables_of(app, theme))
                plain.source = dict(own.source)
                plain.reparse()
                assert found[theme] == texts(plain)
            assert found[THEMES[0]] != found[THEMES[1]]

    asyncio.run(seen())


@pytest.mark.parametrize(("size", "classes"), [((50, 12), "-narrow -short"), ((90, 40), "-wide")])
def test_a_screen_knows_what_room_it_has_before_it_is_shown(
    size: tuple[int, int], classes: str
) -> None:
    class Fitted(Screen[None]):
        HORIZONTAL_BREAKPOINTS = [(60, "-wide"), (0, "-narrow")]  # noqa: RUF012
        VERTICAL_BREAKPOINTS = [(0, "-short")] if size[1] < 20 else None

    screen = Fitted()
    fit(screen, Size(*size))
    assert screen.classes == set(classes.split())

    async def seen() -> None:
        app: App[Any] = App()
        async with app.run_test(size=size):
            await app.push_screen(other := Fitted())
            assert other.classes == screen.classes, "as Textual has it"

    asyncio.run(seen())
