"""Tables as text keep to the room there is, whatever stands in them."""

from __future__ import annotations

import pytest
from rich.cells import cell_len, set_cell_size

from kmslab.tui.texts import table

LONG = "L" * 200
ROWS = [
    ["○ stale", "12,345", "not on the primary version of its key: gets a new blob"],
    ["! invalid", "7", f"no blob of its provider: {LONG}, 账单密钥账单密钥账单密钥账单密钥, rec-1"],
    ["total", "12,352", ""],
]


@pytest.mark.parametrize("width", [38, 50, 78, 138])
def test_no_line_is_wider_than_the_room(width: int) -> None:
    found = table(["OUTCOME", "RECORDS", "WHY"], ROWS, width, right=frozenset({1}), wrapped=True)
    lines = found.plain.split("\n")
    assert max(map(cell_len, lines)) <= width
    counted = [line for line in lines if line.split()[-1:] and not line.startswith("  ")]
    assert len(counted) == 1 + len(ROWS)
    for line, count in zip(counted[1:], ("12,345", "7", "12,352"), strict=True):
        assert set_cell_size(line, 18).rstrip().endswith(f" {count}"), "under its heading"
    assert " ".join(found.plain.split()).count("gets a new blob") == 1


@pytest.mark.parametrize("width", [30, 78])
def test_the_widest_column_is_cut_and_no_number(width: int) -> None:
    rows = [["tencent", LONG, "1 ● primary", "1,234,567"], ["ctyun", "账单" * 40, "-", "1"]]
    columns = ["PROVIDER", "KEY", "VERSION", "RECORDS"]
    lines = table(columns, rows, width, right=frozenset({3})).plain.split("\n")
    assert {cell_len(line) for line in lines} == {width}
    assert all("…" in line for line in lines[1:])
    assert lines[1].endswith("1,234,567")
