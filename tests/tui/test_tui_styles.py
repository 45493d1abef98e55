"""Styles that are parsed once, and beforehand, are those that Textual parses each time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from textual.app import App
from textual.css.stylesheet import Stylesheet

from kmslab.tui.styles import Styles, variables_of
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
                own.prepare(variables_of(app, theme))
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
