"""What was done in this session, and how the command line does the same."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Final

from kmslab.records.columns import DEFAULT_COLUMNS

if TYPE_CHECKING:
    from kmslab.records.spec import SourceSpec
    from kmslab.tui.session import Session

_MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done or refused; `command` is the equivalent line, "" for none."""

    at: datetime
    text: str
    command: str = ""
    failed: bool = False


class Activity:
    """The log of a session, the newest entries of it.

    >>> from datetime import UTC
    >>> log = Activity()
    >>> log.add(Entry(datetime(2026, 1, 1, tzinfo=UTC), "rotated", "kmslab key rotate orders"))
    >>> [entry.command for entry in log.entries]
    ['kmslab key rotate orders']
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Write down what was done; what is refused again and again, once."""
        last = self.entries[-1] if self.entries else None
        if last is not None and entry.failed and (last.text, last.failed) == (entry.text, True):
            self.entries.pop()
        self.entries.append(entry)
        del self.entries[:-_MOST]


def command_line(words: Sequence[str], options: Sequence[str] = ()) -> str:
    """A command that can be pasted into a shell.

    >>> command_line(["key", "rotate", "my key"], ["--lab", "./lab"])
    "kmslab key rotate 'my key' --lab ./lab"
    """
    return shlex.join(["kmslab", *words, *options])


_COLUMN_OPTIONS: Final = {
    "record_id": "id",
    "ciphertext_blob": "blob",
    "provider": "provider",
    "context": "context",
    "key_id": "key",
    "created_at": "created",
    "owner": "owner",
    "source_key_id": "source-key",
    "source_key_version_id": "source-key-version",
    "source_encryption_algorithm": "source-algorithm",
    "region": "region",
    "account": "account",
}


def source_words(session: Session) -> list[str]:
    """The source of a session as the command line is told of it."""
    spec = session.spec
    if spec is None:
        return []
    names = [each.name for each in session.sources.all() if each.spec == spec]
    return names or spec_words(spec)  # one at the most is registered so


def spec_words(spec: SourceSpec) -> list[str]:
    """A source that is not registered: its place, and the options that are not as they are anyway.

    >>> from kmslab.records.spec import SourceSpec
    >>> spec_words(SourceSpec("sqlite:///shop.db", table="secrets", provider="ctyun"))
    ['sqlite:///shop.db', '--table', 'secrets', '--provider', 'ctyun']
    """
    words = [spec.location]
    options = {
        "--table": spec.table,
        "--provider": spec.provider,
        "--context-template": spec.context_template,
    }
    for field in fields(spec.columns):
        value = getattr(spec.columns, field.name)
        if value != getattr(DEFAULT_COLUMNS, field.name):
            options[f"--{_COLUMN_OPTIONS[field.name]}-column"] = value
    for option, value in options.items():
        if value is not None:
            words += [option, value]
    return words
