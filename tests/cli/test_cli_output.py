"""Tables fit, show everything and obey nobody; JSON is JSON."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kmslab.cli import output, tables
from kmslab.model import KeySpec
from kmslab.secret import Plaintext

ID = "23e80852-1e38-11e9-b129-5cb9019b4b01"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=50)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        """What was written, but for the header's bold type."""
        return re.sub("\x1b\\[[01]m", "", self.getvalue())


def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 60) -> Terminal:
    """Have stdout be a terminal from now on."""
    found = Terminal()
    monkeypatch.setattr(sys, "stdout", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    return found


def test_chinese_letters_take_two_cells(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_table(["KEY", "RECORDS"], [["订单", 5], ["orders", None]])
    assert capsys.readouterr().out.splitlines() == [
        "KEY     RECORDS",
        "订单          5",
        "orders        -",
    ]


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_columns_begin_in_the_same_cell(rows: list[tuple[str, str]]) -> None:
    lines = list(tables.plain_lines([(first, f"|{second}") for first, second in rows]))
    starts = {
        cell_len(line[: line.index("|", len(row[0]))])
        for line, row in zip(lines, rows, strict=True)
    }
    assert len(starts) == 1


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=5), st.integers(10, 120))
def test_fitted_columns_have_room(rows: list[tuple[str, str, str]], room: int) -> None:
    widths = tables.fitted(rows, room)
    natural = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    assert all(width <= most for width, most in zip(widths, natural, strict=True))
    if room >= 3 * tables.ID_CELLS:
        assert sum(widths) <= room or sum(widths) == sum(natural)


@given(TEXT, st.integers(2, 20))
def test_a_folded_cell_fits_and_keeps_its_letters(cell: str, width: int) -> None:
    lines = tables.folded(cell, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == cell.replace(" ", "")


def test_a_table_is_folded_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    said = "the quick brown fox jumps over the lazy dog"
    output.write_table(["KEY", "SAID", "N"], [[ID, said, 7]])
    lines = screen.text().splitlines()
    assert all(cell_len(line) <= 60 for line in lines)
    assert ID in lines[1]
    words = [word for line in lines[1:] for word in line.split()]
    assert sorted(words) == sorted([ID, *said.split(), "7"])


def test_an_id_is_whole_on_the_narrowest_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch, columns=20)
    output.write_table(["KEY", "OTHER"], [[ID, ID]])
    assert f"{ID} {ID}" in screen.text()


def test_no_value_controls_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    evil = "\x1b[31m[bold]red[/]\r\x07\x9b\u202eabc"
    output.write_table(["A"], [[evil]])
    output.write_fields([("a", evil)])
    output.write_line(evil)
    output.write_text(evil)
    found = screen.text()
    assert not any(c in found for c in "\x1b\r\x07\x9b\u202e")
    assert "[bold]red[/]" in found


@pytest.mark.parametrize("at_terminal", [False, True])
def test_no_value_forges_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at_terminal: bool
) -> None:
    evil = "a\nb\tc\r\x0b\x85\u2028d"
    escaped = r"a\nb\tc\r\x0b\x85\u2028d"
    screen = terminal(monkeypatch) if at_terminal else None
    output.write_table(["A", "B"], [[evil, 1]])
    output.write_fields([("key", evil)])
    found = screen.text() if screen else capsys.readouterr().out
    assert [line.split() for line in found.splitlines()] == [
        ["A", "B"],
        [escaped, "1"],
        ["key", escaped],
    ]


def test_json_is_indented_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    output.write_json({"a": [1]})
    assert screen.text() == '{\n  "a": [\n    1\n  ]\n}\n'


def test_json_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    value = {"at": moment, "spec": KeySpec.SM4, "ids": ("a",), "名": "订单"}
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="gb18030"))
    text = output.json_text(value)
    assert text.isascii()
    assert json.loads(text) == {
        "at": "2026-01-02T03:04:05Z",
        "spec": "SM4",
        "ids": ["a"],
        "名": "订单",
    }


def test_no_plaintext_gets_into_json_by_chance() -> None:
    with pytest.raises(TypeError):
        output.json_text({"plaintext": Plaintext(b"secret")})
