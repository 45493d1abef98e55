"""kmslab inspect: what a blob says of itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kmslab.cli.options import Json, example, settings
from kmslab.cli.output import (
    json_text,
    narrate,
    write_fields,
    write_json,
    write_line,
    write_table,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmslab.inspection import Inspection

app = typer.Typer(**settings())


@app.command(
    "inspect",
    epilog=example('kmslab inspect "$BLOB"', "cut -d, -f2 records.csv | kmslab inspect - --json"),
)
def inspect_(
    blob: Annotated[
        str,
        typer.Argument(metavar="BLOB|-", help="The blob's text, or - for one a line on stdin."),
    ],
    as_json: Json = False,
) -> None:
    """Explain a blob part by part; no lab is needed.

    Nothing that it says is proven until the blob is opened. With - every line gives one answer, in
    JSON one line each. Text that is no blob is explained too, and is no error.
    """
    from kmslab.inspection import inspect

    if blob != "-":
        found = inspect(blob)
        write_json(found.as_dict()) if as_json else _show(found)
        return
    for number, line in enumerate(_lines(), start=1):
        found = inspect(line)
        if as_json:
            print(json_text(found.as_dict()))
            continue
        write_line(f"line {number}" if number == 1 else f"\nline {number}")
        _show(found)


def _lines() -> Iterator[str]:
    """The lines on stdin."""
    from kmslab.errors import SettingError

    if sys.stdin.isatty():
        narrate("reading blobs from the terminal, one a line; end with Ctrl-D")
    empty = True
    for line in sys.stdin.buffer:
        empty = False
        yield line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if empty:
        raise SettingError("stdin is empty; it should hold blobs, one a line")


def _show(found: Inspection) -> None:
    size = found.plaintext_bytes
    fields = [
        ("provider", found.provider),
        ("format", found.format.value),
        ("characters", found.characters),
        ("key", found.key_id),
        ("version", found.key_version_id),
        ("fingerprint", found.fingerprint),
        ("context", found.has_context),
        ("plaintext", None if size is None else _bytes(*size)),
    ]
    write_fields([(name, value) for name, value in fields if value is not None])
    if found.parts:
        write_line("")
        write_table(
            ["SEGMENT", "OFFSET", "BYTES", "PART", "VALUE", "MEANING"],
            [[p.segment, p.offset, p.length, p.name, p.value, p.meaning] for p in found.parts],
            whole=16,
        )
    if found.notes:
        write_line("")
    for note in found.notes:
        write_text(f"note: {note}")


def _bytes(least: int, most: int) -> str:
    return f"{least} bytes" if least == most else f"{least} to {most} bytes"
