"""Tables of a few hundred rows, with the keys that tree and records have."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import DataTable


class Rows(DataTable[Any], inherit_bindings=True):
    """A table whose cursor is a row: g and G go to the first and the last one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        Binding("g,home", "scroll_top", show=False),
        Binding("G,end", "scroll_bottom", show=False),
    ]

    def __init__(self, *, zebra_stripes: bool = False) -> None:
        super().__init__(cursor_type="row", zebra_stripes=zebra_stripes)
