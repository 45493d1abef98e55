"""Copying to the clipboard of the terminal, and writing to files: new ones, 0600."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from kmslab.errors import SourceError
from kmslab.tui.cells import version_text
from kmslab.tui.dialogs.form import Choose, Field, Form
from kmslab.tui.dialogs.notice import Whole
from kmslab.tui.host import Host
from kmslab.tui.table import Table
from kmslab.tui.view import View

FORMATS: Final = ("csv", "jsonl")
COLUMNS: Final = (
    "record_id",
    "provider",
    "outcome",
    "reason",
    "key_id",
    "key_version_id",
    "version",
    "created_at",
    "owner",
    "encryption_context",
    "ciphertext_blob",
)
"""What an export has of each record."""


def copy(app: Host, what: str, text: str) -> None:
    """Send a text to the terminal's clipboard, which does not answer whether it took it."""
    app.copy_to_clipboard(text)
    app.tell(f"{what} sent to the terminal's clipboard; Y shows it, to be selected by hand")


def show_whole(app: Host, what: str, text: str) -> None:
    """Show a text whole, to be selected by hand."""
    app.push_screen(Whole(what, text))


async def ask_place(app: Host, title: str, name: str, text: str) -> Path | None:
    """Ask where a text is to be written, and write it; None where nobody wants it."""

    def wrong(values: Mapping[str, str]) -> str:
        return place_fault(values["file"])

    form = Form(title, [Field("file", "file", name)], wrong, answer="Write")
    values = await app.push_screen_wait(form)
    if values is None:
        return None
    path = Path(values["file"]).expanduser().absolute()
    await app.away(lambda: write_new(path, text))
    app.tell(f"written: {path}")
    return path


async def export(app: Host, view: View) -> None:
    """Ask for a format and a place, and write what is marked, else what is shown."""
    marked = view.marked_rows()
    rows = marked or list(view.rows)
    which = f"{len(rows):,} {'marked' if marked else 'shown'}"
    options = [(form, f"{which} records as {form}", "") for form in FORMATS]
    form = await app.push_screen_wait(Choose("Export", options))
    if form is not None:
        text = await app.away(lambda: exported(view.table, rows, form))
        await ask_place(app, f"Export {which}", f"records.{form}", text)


def place_fault(name: str) -> str:
    """Why no file of this name can be made; "" where one can."""
    if not name:
        return "a file needs a name"
    path = Path(name).expanduser()
    if path.exists():
        return f"{path} is there already; it is not written over"
    if not path.absolute().parent.is_dir():
        return f"there is no folder {path.absolute().parent}"
    return ""


def write_new(path: Path, text: str) -> None:
    """Write a new file, for its owner alone. SourceError where it cannot be."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="") as file:
            file.write(text)
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error.strerror}") from None


def exported(table: Table, rows: Sequence[int], form: str) -> str:
    """Rows of a table as CSV or JSON lines; all of them, whatever is on the screen."""
    out = io.StringIO()
    if form == "csv":
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        writer.writerows(
            ["" if value is None else value for value in values] for values in _values(table, rows)
        )
    else:
        for values in _values(table, rows):
            record = dict(zip(COLUMNS, values, strict=True))
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    return out.getvalue()


def _values(table: Table, rows: Sequence[int]) -> Iterator[list[str | None]]:
    for row in rows:
        record, kind = table.record(row), table.kind(row)
        verdict = kind.verdict
        created = record.created_at
        yield [
            record.record_id,
            record.provider,
            verdict.outcome.value,
            verdict.reason or None,
            verdict.key_id,
            verdict.key_version_id,
            version_text(kind, table) or None,
            None if created is None else created.isoformat(),
            record.owner,
            record.context,
            record.ciphertext_blob,
        ]
