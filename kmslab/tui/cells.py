"""What the grid says of a record, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kmslab.tui.ages import age_text
from kmslab.tui.sorting import By
from kmslab.tui.states import state_text
from kmslab.tui.table import Kind, Table, moment_of


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what it is sorted by, its title, its least width in cells, its share of room."""

    by: By
    title: str
    width: int
    share: int = 0


COLUMNS: Final = (
    Column(By.STATE, "STATE", 12),
    Column(By.ID, "RECORD", 14, 3),
    Column(By.PROVIDER, "PROVIDER", 9),
    Column(By.KEY, "KEY", 14, 3),
    Column(By.VERSION, "VERSION", 8),
    Column(By.AGE, "AGE", 5),
    Column(By.OWNER, "OWNER", 6, 2),
)
"""The columns that are always there: 75 cells with one between each two. Behind each title there is
room for the arrow of what is sorted by."""

MORE: Final = (Column(By.CONTEXT, "CONTEXT", 22, 3), Column(By.REASON, "REASON", 20, 2))
"""Columns that come where there is room for them, and the others have all that they want."""

_WANTED: Final = 16  # cells that the others want beyond their least widths


def version_text(kind: Kind, table: Table) -> str:
    """Which of its key's versions a blob is on: `3 of 5`; how its id begins where that is all;
    `inferred` where nothing but the blob's head says it."""
    verdict = kind.verdict
    key = table.keys.get(verdict.key_id or "")
    if verdict.version_number is None:
        if verdict.version_inferred:
            return "inferred"
        return (verdict.key_version_id or "")[:8]
    return str(verdict.version_number) + (f" of {len(key.versions)}" if key else "")


def cells(table: Table, row: int, columns: Sequence[Column], now: datetime) -> list[str]:
    """What some columns say of a row."""
    block, at = table.find(row)
    kind = table.shared.kinds[block.kinds[at]]
    found = []
    for column in columns:
        match column.by:
            case By.STATE:
                text = state_text(kind.verdict)
            case By.ID:
                text = block.ids[at]
            case By.PROVIDER:
                text = kind.provider
            case By.KEY:
                text = table.names(kind.verdict.key_id) or ""
            case By.VERSION:
                text = version_text(kind, table)
            case By.AGE:
                created = moment_of(block.created[at])
                text = "" if created is None else age_text((now - created).total_seconds())
            case By.OWNER:
                text = table.shared.owners[block.owners[at]] or ""
            case By.CONTEXT:
                text = block.contexts[at]
            case By.REASON:
                text = kind.verdict.reason
        found.append(text)
    return found


def laid_out(width: int) -> list[tuple[Column, int]]:
    """The columns that a grid has, and their widths, with one cell between each two.

    >>> sum(cells + 1 for _, cells in laid_out(200)) - 1, len(laid_out(60)), len(laid_out(200))
    (200, 7, 9)
    """
    there = list(COLUMNS)
    for column in MORE:
        if _cells(there) + _WANTED + 1 + column.width <= width:
            there.append(column)
    widths = {column.by: column.width for column in there}
    # Cell by cell to whoever has least of its share, so that nothing is left over.
    for _ in range(width - _cells(there)):
        least = min((c for c in there if c.share), key=lambda c: widths[c.by] / c.share)
        widths[least.by] += 1
    return [(column, widths[column.by]) for column in there]


def _cells(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(columns) - 1
