"""Laying out tables: aligned lines in a pipe, columns that fit on a terminal.

Widths are counted in cells, of which a Chinese letter takes two. Nothing is cut off: what is too
long for its column goes on in the next line, and words are parted only where there is no other way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from typing import Final

Row = Sequence[str]

ID_CELLS: Final = 36
LEAST_CELLS: Final = 8
_CAMPAIGN: Final = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}")
_PIECES: Final = re.compile(r"[^ -]*[ -]|[^ -]+")


def plain_lines(rows: Sequence[Row], right: Collection[int] = ()) -> Iterator[str]:
    """Rows in aligned columns; those whose numbers are in `right` stand to the right.

    >>> list(plain_lines([["KEY", "RECORDS"], ["订单", "12"]], right={1}))
    ['KEY   RECORDS', '订单       12']
    """
    widths = _widest(rows)
    for row in rows:
        yield _line(row, widths, right, gap=2)


def print_fitted(header: Row, rows: Sequence[Row], right: Collection[int], whole: int) -> None:
    """Print a table on a terminal, folded where it would not fit.

    Words of up to `whole` cells are kept whole where that can be, ids among them always.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    lines = [header, *rows]
    widths = _widest(lines)
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= console.width else 1
    widths = fitted(lines, console.width - gap * (len(widths) - 1), whole)
    for number, row in enumerate(lines):
        columns = [folded(cell, width) for cell, width in zip(row, widths, strict=True)]
        for cells in zip_longest(*columns, fillvalue=""):
            line = _line(cells, widths, right, gap)
            console.print(line, style=None if number else "bold", soft_wrap=True)


def fitted(rows: Sequence[Row], room: int, whole: int = ID_CELLS) -> list[int]:
    """The width of each column, `room` cells together where that can be.

    >>> row = ["23e80852-1e38-11e9-b129-5cb9019b4b01", "made by a lab", "pending-deletion"]
    >>> fitted([row], 70), fitted([row], 58), fitted([row], 50)
    ([36, 13, 16], [36, 6, 16], [36, 4, 10])
    >>> fitted([["20260102-030405-6e1f", "/data/shop/2026/orders.csv"]], 32)
    [20, 12]
    """
    widths = _widest(rows)
    for floor in (_whole_words, _ids):
        floors = [max(floor(cell, whole) for cell in column) for column in zip(*rows, strict=True)]
        _shrink(widths, floors, room)
    return widths


def _shrink(widths: list[int], floors: list[int], room: int) -> None:
    """Make the widest columns narrower, none below its floor, until there is room for all."""
    while sum(widths) > room:
        spare = [width if width > floor else 0 for width, floor in zip(widths, floors, strict=True)]
        if not any(spare):
            return
        widths[spare.index(max(spare))] -= 1


def _whole_words(cell: str, whole: int) -> int:
    """The least width of a cell that parts no word of up to `whole` cells."""
    from rich.cells import cell_len

    lengths = [cell_len(word) for word in cell.split()]
    return max((length for length in lengths if length <= whole), default=1)


def _ids(cell: str, whole: int) -> int:
    """The least width of a cell that may part every word but ids."""
    words = cell.split() if whole >= ID_CELLS else []
    least = min(_whole_words(cell, whole), LEAST_CELLS)
    ids = (len(word) for word in words if len(word) == ID_CELLS or _CAMPAIGN.fullmatch(word))
    return max(ids, default=least)


def _widest(rows: Sequence[Row]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def folded(cell: str, width: int) -> list[str]:
    """The lines of a cell that is `width` wide, parted after spaces and hyphens if that can be.

    >>> folded("customer-profiles", 10), folded("5cd15c009a8f", 8)
    (['customer-', 'profiles'], ['5cd15c00', '9a8f'])
    """
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for piece in _PIECES.findall(cell):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip(" ")) > width:
            lines.append("")
        if cell_len(piece.rstrip(" ")) > width:
            *full, piece = chop_cells(piece, width)
            lines[-1:] = [*full, ""]
        lines[-1] += piece
    return [line.rstrip(" ") for line in lines]


def _line(row: Row, widths: Sequence[int], right: Collection[int], gap: int) -> str:
    from rich.cells import cell_len

    cells = []
    for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
        blank = " " * (width - cell_len(cell))
        cells.append(blank + cell if at in right else cell + blank)
    return (" " * gap).join(cells).rstrip()
