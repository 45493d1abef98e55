"""How the records screen is laid out: three panes, or one where there is no room for more."""

from __future__ import annotations

from typing import Final

from kmslab.tui.line import Line


class FilterLine(Line):
    """What is to be shown, in the language of the filter."""

    DEFAULT_CSS = """
    FilterLine { height: 1; border: none; padding: 0 1; display: none; }
    FilterLine.used { display: block; }
    FilterLine:focus { border: none; }
    """


LAYOUT: Final = """
    Records #panes { height: 1fr; }
    Records #right { width: 1fr; }
    Records #tree { width: 41; border-right: solid $panel; }
    Records Grid { height: 2fr; scrollbar-size-vertical: 1; }
    Records #detail { height: 1fr; border-top: solid $panel; padding: 0 1; }
    Records #status {
        height: 1; padding: 0 1; background: $panel; text-wrap: nowrap; text-overflow: ellipsis;
    }
    Records #status.wrong {
        color: $text-error; text-style: bold; height: auto; max-height: 3; text-wrap: wrap;
    }
    Records.-extra #right { layout: horizontal; }
    Records.-extra Grid { width: 1fr; height: 1fr; }
    Records.-extra #detail {
        width: 46; height: 1fr; border-top: none; border-left: solid $panel;
    }
    Records.-narrow #tree, Records.-narrow Grid, Records.-narrow #detail { display: none; }
    Records.-narrow #right { display: none; }
    Records.-narrow.at-tree #tree { display: block; width: 1fr; border-right: none; }
    Records.-narrow.at-records #right, Records.-narrow.at-detail #right { display: block; }
    Records.-narrow.at-records Grid { display: block; height: 1fr; }
    Records.-narrow.at-detail #detail { display: block; height: 1fr; border-top: none; }
"""
"""The styles of the records screen. From 170 columns on the record stands beside the records."""
