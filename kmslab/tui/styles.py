"""What widgets are styled by, parsed once for each theme, and before it is needed.

Textual parses all of it anew with each change of the theme, and once more with the first widget of
a kind that is new after that: 50 ms, while somebody waits for what a key does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter, sleep
from typing import Any

from textual.app import App
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget

Source = tuple[str, Any, bool, int, str]
"""A text of styles, where it is from, and how it is to be taken."""


class Styles(Stylesheet):
    """Textual's, which forgets nothing that it has parsed."""

    def __init__(self, *, variables: dict[str, str]) -> None:
        self._parsed: dict[tuple[Source, frozenset[tuple[str, str]]], list[RuleSet]] = {}
        super().__init__(variables=variables)
        self._theme = frozenset(variables.items())

    def set_variables(self, variables: dict[str, str]) -> None:
        """Those of another theme."""
        super().set_variables(variables)
        self._theme = frozenset(variables.items())

    def reparse(self) -> None:
        """Take the rules of the theme that there is now."""
        self.parse()

    def prepare(self, variables: dict[str, str], rest: Callable[[], object]) -> None:
        """Parse what there is for a theme, and what may come; a thread may do so.

        It rests twice as long as it works, so that keys are answered as usual meanwhile, and
        besides wherever `rest` does.
        """
        other = Styles(variables=variables)
        other._parsed = self._parsed
        there = [(s.content, at, s.is_defaults, s.tie_breaker, s.scope) for at, s in self.sources()]
        for source in dict.fromkeys((*there, *_default_sources())):
            rest()
            begun = perf_counter()
            other._parse_rules(*source)
            sleep(2 * (perf_counter() - begun))

    def sources(self) -> list[tuple[Any, Any]]:
        """All that there are now, by where they are from."""
        return list(self.source.items())

    def _parse_rules(
        self,
        css: str,
        read_from: Any,
        is_default_rules: bool = False,
        tie_breaker: int = 0,
        scope: str = "",
    ) -> list[RuleSet]:
        source = (css, read_from, is_default_rules, tie_breaker, scope)
        known = self._parsed.get((source, self._theme))
        if known is None:
            known = super()._parse_rules(*source)
            self._parsed[source, self._theme] = known
        return known


def _default_sources() -> Iterator[Source]:
    """Those of all kinds of widgets that have been imported."""
    for kind in _kinds(Widget):
        for read_from, css, tie_breaker, scope in kind._get_default_css(kind.__new__(kind)):
            yield css, read_from, True, tie_breaker, scope


def _kinds(kind: type[DOMNode]) -> Iterator[type[DOMNode]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def variables_of(app: App[Any], theme: str) -> dict[str, str]:
    """What a theme has in place of the names in styles."""
    found = app.get_theme(theme)
    if found is None:
        return {}
    colours = found.to_color_system().generate()
    return {**app.get_theme_variable_defaults(), **colours, **found.variables}


def fit(screen: Screen[Any], size: Size) -> None:
    """Give a screen the classes of its breakpoints before it is shown in so much room."""
    for name in reached(screen, size):
        screen.set_class(True, name, update=False)


def reached(screen: Screen[Any], size: Size) -> Iterator[str]:
    """The classes of the breakpoints that a screen reaches in so much room."""
    for length, breakpoints in (
        (size.width, screen.HORIZONTAL_BREAKPOINTS),
        (size.height, screen.VERTICAL_BREAKPOINTS),
    ):
        found = [each for each in sorted(breakpoints or ()) if each[0] <= length]
        if found:
            yield found[-1][1]
