"""What commands read from files and stdin, and the files that they write."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Final

from kmslab.cli.output import narrate
from kmslab.errors import SettingError

STDIN: Final = "-"
MOST_BYTES: Final = 16 * 1024 * 1024
"""More than any call takes; what bounds the memory for it."""


def read_bytes(source: str, what: str, *, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file, or of stdin for `-`, just as they are."""
    if source != STDIN:
        with Path(source).open("rb") as file:
            return _all_of(file, what, most)
    if sys.stdin.isatty():
        narrate(f"reading {what} from the terminal; end with Ctrl-D (twice within a line)")
    return _all_of(sys.stdin.buffer, what, most)


def _all_of(file: BinaryIO, what: str, most: int) -> bytes:
    data = file.read(most + 1)
    if len(data) > most:
        raise SettingError(f"{what} has more than {most:,} bytes")
    return data


def read_text(argument: str, what: str) -> str:
    """An argument, or for `-` the text on stdin, without the end of its last line."""
    if argument != STDIN:
        return argument
    text = decoded(read_bytes(STDIN, what), what).removesuffix("\n").removesuffix("\r")
    if not text:
        raise SettingError(f"stdin is empty; it should hold {what}")
    return text


def decoded(data: bytes, what: str) -> str:
    """The text of bytes in UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise SettingError(f"{what} is not text in UTF-8") from None


def read_object(argument: str, what: str) -> dict[str, Any]:
    """A JSON object out of an argument, or out of stdin for `-`."""
    text = read_text(argument, what)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SettingError(f"{what} is not JSON ({place})") from None
    except (ValueError, RecursionError):
        raise SettingError(f"{what} is JSON beyond what can be read") from None
    if not isinstance(value, dict):
        raise SettingError(f"{what} is not a JSON object")
    return value


def write_bytes(data: bytes) -> None:
    """Bytes to stdout, with a warning where a terminal would have to show what is no text."""
    if sys.stdout.isatty() and not _readable(data):
        narrate("warning: these bytes are no readable text; --out FILE writes them to a file")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    if sys.stdout.isatty() and not data.endswith(b"\n"):
        narrate("")


def refuse_existing(path: str | None) -> None:
    """SettingError for a file that is there, before much is done for what it is to hold."""
    if path is not None and Path(path).exists():
        raise SettingError(f"{path} is there already; choose another name or remove it")


def write_private_file(path: str, data: bytes) -> None:
    """Bytes to a new file that nobody else may read; one that is there is left alone."""
    write_private_lines(path, [data])


def write_private_lines(path: str, lines: Iterable[bytes]) -> None:
    """The same for what comes piece by piece."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise SettingError(f"{path} is there already; choose another name or remove it") from None
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(lines)


def _readable(data: bytes) -> bool:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\n\t\r" for c in text)
