"""How results show themselves in a notebook: plain tables, escaped, without styles.

What strips styles (GitHub does) shows them as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape


def html_table(rows: Iterable[Sequence[object]], columns: Sequence[str] = ()) -> str:
    """Rows as a table; without columns the first cell of each row is its name.

    >>> html_table([["records", 1200], ["<b>", 0.25]])
    '<table><tbody><tr><th>records</th><td>1,200</td></tr><tr><th>&lt;b&gt;</th><td>0.25</td></tr>\
</tbody></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(_row(row, named=not columns) for row in rows)
    thead = f"<thead><tr>{head}</tr></thead>" if columns else ""
    return f"<table>{thead}<tbody>{body}</tbody></table>"


def _row(row: Sequence[object], *, named: bool) -> str:
    cells = [escape(shown(cell)) for cell in row]
    first = f"<th>{cells[0]}</th>" if named else f"<td>{cells[0]}</td>"
    return f"<tr>{first}{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>"


def shown(value: object) -> str:
    """A value as a cell has it.

    >>> shown(None), shown(True), shown(1234567), shown(0.5), shown(12345.678), shown(math.nan)
    ('-', 'yes', '1,234,567', '0.5', '12,345.7', '-')
    """
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float() if math.isnan(value):
            return "-"
        case float() if math.isfinite(value):
            return f"{value:,.0f}" if value == round(value) else f"{value:,.6g}"
        case _:
            return str(value)
