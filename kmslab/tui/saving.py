"""Copying to the clipboard of the terminal, and writing to files: new ones, 0600."""

from __future__ import annotations

import csv
import io
import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Final

from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.errors import SourceError
from kmslab.model import Record
from kmslab.tui.cells import version_text
from kmslab.tui.dialogs.form import Field, Form
from kmslab.tui.dialogs.notice import Whole
from kmslab.tui.host import Host
from kmslab.tui.table import Kind, Table

FORMATS: Final = ("csv", "jsonl")

_STEP: Final = 2_048
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


async def ask_place(
    app: Host, title: str, name: str, text: Callable[[], Iterable[str]]
) -> Path | None:
    """Ask where a text is to be written, and write it; None where nobody wants it.

    `text` gives it piece by piece, in a thread: there may be very much of it.
    """

    def wrong(values: Mapping[str, str]) -> str:
        return place_fault(values["file"])

    form = Form(title, [Field("file", "file", name)], wrong, answer="Write")
    values = await app.push_screen_wait(form)
    if values is None:
        return None
    path = Path(values["file"]).expanduser().absolute()
    await app.away(lambda: write_new(path, text()))
    app.tell(f"written: {path}")
    return path


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


def write_new(path: Path, text: Iterable[str]) -> None:
    """Write a new file, for its owner alone. SourceError where it cannot be.

    Half a surrogate pair, as the name of a file may hold, is written as its escape in JSON.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            for piece in text:
                file.write(piece.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise SourceError(f"{path} cannot be written: {error.strerror}") from None


def exported(table: Table, chosen: Iterable[int], form: str, watch: Watch = QUIET) -> list[str]:
    """Rows of a table as CSV or JSON lines; all of them, whatever is on the screen.

    Many lines in each piece, and pieces of no great length: whoever puts a million texts together,
    or lets go of them at once, holds up every other thread. CampaignInterrupted where `watch` says
    stop.
    """
    rows = _listed(chosen)
    line_of = _csv_line if form == "csv" else _json_line
    blocks, shared = table.blocks, table.shared
    starts = [0, *accumulate(map(len, blocks))]
    places: list[list[int]] = [[] for _ in blocks]  # a block is unpacked once: it takes long
    for place, row in enumerate(rows):
        places[bisect_right(starts, row) - 1].append(place)
    lines, done = [""] * len(rows), 0
    for block, start, wanted in zip(blocks, starts, places, strict=False):
        if wanted:
            records = block.records(shared)
            for place in wanted:
                at = rows[place] - start
                kind = shared.kinds[block.kinds[at]]
                lines[place] = line_of(_values(records[at], kind, table))
            done += len(wanted)
            watch.told(Progress("exporting", done, len(rows), {}))
    pieces = [_csv_line(COLUMNS)] if form == "csv" else []
    for start in range(0, len(lines), _STEP):
        pieces.append("".join(lines[start : start + _STEP]))
        lines[start : start + _STEP] = [""] * len(lines[start : start + _STEP])
    return pieces


def _listed(rows: Iterable[int]) -> array[int]:
    found, left = array("q"), iter(rows)
    while some := array("q", islice(left, _STEP)):
        found.extend(some)
    return found


def _csv_line(values: Sequence[str | None]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(["" if value is None else value for value in values])
    return line.getvalue()


def _json_line(values: Sequence[str | None]) -> str:
    return json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False) + "\n"


def _values(record: Record, kind: Kind, table: Table) -> list[str | None]:
    verdict, created = kind.verdict, record.created_at
    return [
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
