"""One record: what is known of it, its blob part by part with offsets, and its bytes."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from kmslab.analysis.classify import Verdict
from kmslab.inspection import Inspection, inspect
from kmslab.keys import Names
from kmslab.model import Key, Record
from kmslab.tui.ages import age_text
from kmslab.tui.judging import NO_ANSWER
from kmslab.tui.states import state_text
from kmslab.tui.texts import moment, visible

_MOST_BYTES: Final = 4_096
_BLANK: Final = 12


class Detail(VerticalScroll):
    """What is known of the record under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
    ]
    DEFAULT_CSS = "Detail Static { width: 1fr; height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._shown: tuple[Record, Verdict, Key | None, datetime] | None = None
        self._names = Names({})

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(Text("no record"), id="detail-text")

    def show(
        self, record: Record, verdict: Verdict, key: Key | None, names: Names, now: datetime
    ) -> None:
        """Show a record."""
        self._shown = (record, verdict, key, now)
        self._names = names
        self._draw()
        self.scroll_home(animate=False)

    def clear(self) -> None:
        """Show that there is none."""
        self._shown = None
        self._draw()

    def on_resize(self, _event: Resize) -> None:
        """The hex dump is as wide as there is room."""
        self._draw()

    def _draw(self) -> None:
        static = self.query_one("#detail-text", Static)
        if self._shown is None:
            static.update(Text("no record"))
            return
        width = max(self.scrollable_content_region.width, 24)
        record, verdict, key, now = self._shown
        static.update(described(record, verdict, key, self._names, now, width))


def described(
    record: Record, verdict: Verdict, key: Key | None, names: Names, now: datetime, width: int
) -> Text:
    """All that is known of a record, as text of this width."""
    found = inspect(record.ciphertext_blob)
    text = Text()
    for name, value in _known(record, verdict, key, names, now):
        _field(text, name, value)
    _heading(text, "Blob", "read from its bytes, not proven")
    for name, value in _blob(found):
        _field(text, name, value)
    for part in found.parts:
        text.append(f"\n{part.segment} +{part.offset:<4} {part.length:>3} B  ", "dim")
        text.append(visible(part.name), "bold")
        text.append(f"\n  {visible(part.value)}")
        text.append(f"\n  {visible(part.meaning)}", "dim italic")
    for note in found.notes:
        text.append(f"\nnote: {visible(note)}")
    for name, data in segments(record.ciphertext_blob):
        _heading(text, f"Bytes of {name}", f"{len(data):,}")
        for line in hex_lines(data[:_MOST_BYTES], width):
            text.append(f"\n{line}")
        if len(data) > _MOST_BYTES:
            text.append(f"\n({len(data) - _MOST_BYTES:,} more)")
    return text


def _known(
    record: Record, verdict: Verdict, key: Key | None, names: Names, now: datetime
) -> Iterator[tuple[str, str]]:
    yield "record", record.record_id
    said = verdict.reason.removeprefix(f"{NO_ANSWER}: ")  # which the state says
    reason = f": {said}" if said else ""
    yield "outcome", f"{state_text(verdict)}{reason}"
    yield "provider", record.provider
    if verdict.key_id is not None:
        name = names(verdict.key_id) or verdict.key_id
        state = "" if key is None else f", {key.state.value}"
        yield "key", f"{name}{state}"
        if name != verdict.key_id:
            yield "key id", verdict.key_id
    yield from _version(verdict, key)
    yield "owner", record.owner or "-"
    created = record.created_at
    yield (
        "created",
        "-"
        if created is None
        else f"{moment(created)}, {age_text((now - created).total_seconds())} ago",
    )
    yield "context", record.context or "none"
    if record.source_key_id or record.source_encryption_algorithm:
        yield "source key", record.source_key_id or "-"
        yield "version", record.source_key_version_id or "-"
        yield "algorithm", record.source_encryption_algorithm or "-"


def _version(verdict: Verdict, key: Key | None) -> Iterator[tuple[str, str]]:
    if verdict.version_number is not None:
        of = "" if key is None else f" of {len(key.versions)}"
        which = {True: ", primary", False: ", not the primary one", None: ""}[verdict.is_primary]
        yield "version", f"{verdict.version_number}{of}{which}"
    if verdict.key_version_id is not None:
        yield "version id", verdict.key_version_id + (", inferred" * verdict.version_inferred)


def _blob(found: Inspection) -> Iterator[tuple[str, str]]:
    yield "format", f"{found.provider or 'no provider'}, {found.format.value}"
    yield "characters", f"{found.characters:,}"
    if found.plaintext_bytes is not None:
        least, most = found.plaintext_bytes
        size = f"{least}" if least == most else f"{least} to {most}"
        yield "plaintext", f"{size} bytes"


def segments(blob: str) -> Iterator[tuple[str, bytes]]:
    """The bytes of a blob, segment by segment; what is no base64 is not there.

    >>> list(segments("AAEC-k-BAUG")), list(segments("?"))
    ([('s1', b'\\x00\\x01\\x02'), ('s2', b'\\x04\\x05\\x06')], [])
    """
    pieces = blob.split("-k-")
    for at, piece in enumerate(pieces, start=1):
        try:
            data = binascii.a2b_base64(piece, strict_mode=True)
        except ValueError:
            continue
        yield ("the blob" if len(pieces) == 1 else f"s{at}"), data


def hex_lines(data: bytes, width: int) -> Iterator[str]:
    """Bytes as lines of offset, hex and letters, as many in a line as there is room for.

    >>> list(hex_lines(b"KML1\\x00", 24))
    ['0000 4b4d 4c31  KML1', '0004 00         .']
    """
    step = next((n for n in (32, 16, 8, 4) if 6 + n * 5 // 2 + 1 + n <= width), 4)
    for at in range(0, len(data), step):
        row = data[at : at + step]
        digits = row.hex(" ", -2)
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{at:04x} {digits:<{step * 5 // 2}} {letters}"


def _heading(text: Text, title: str, note: str) -> None:
    text.append(f"\n\n{title}", "bold underline")
    text.append(f" ({note})", "dim")


def _field(text: Text, name: str, value: str) -> None:
    if text:
        text.append("\n")
    text.append(f"{name:<{_BLANK}}", "bold")
    text.append(visible(value))
