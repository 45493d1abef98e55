"""Whether somebody else has changed the lab or the source, asked cheaply and often."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from kmslab.database_url import is_url
from kmslab.errors import KmslabError
from kmslab.model import Key
from kmslab.tui.session import Session

T = TypeVar("T")

_GONE: Final = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is not as it was when it was looked at last; `gone` says that the file is not there.

    `keys` says of each key that was changed what, as in "orders was rotated".
    """

    keys: tuple[str, ...] = ()
    source: bool = False
    gone: bool = False
    error: KmslabError | None = None


def change(before: Mapping[str, Key], key: Key) -> str:
    """What became of a key since it was as it is in `before`; "" where nothing did."""
    old = before.get(key.key_id)
    if old is None:
        return f"{_name(key)} is new"
    found = []
    if (key.primary_version_id, len(key.versions)) != (old.primary_version_id, len(old.versions)):
        found.append("was rotated")
    if key.state != old.state:
        found.append(f"is {key.state.value}")
    if key.alias != old.alias:
        found.append(f"was {old.alias or 'without an alias'}")
    if key.rotation_days != old.rotation_days:
        days = key.rotation_days
        found.append("rotates no more by itself" if days is None else f"rotates every {days} days")
    if key.deletion_at != old.deletion_at and key.state == old.state:
        found.append("is deleted at another time")
    return f"{_name(key)} {', '.join(found)}" if found else ""


def _name(key: Key) -> str:
    return key.alias or key.key_id


class Watched:
    """Lab and source as they were seen last.

    Threads look one at a time (`look`, `while_changing_keys`, `source_taken`); the event loop waits
    for none of them (`source_seen`).
    """

    def __init__(self, session: Session) -> None:
        self._one_at_a_time = Lock()
        self._session = session
        self._epoch = -1
        self._keys: dict[str, Key] | None = None
        self._where = ""
        self._source: Hashable = None

    def look(self) -> Seen:
        """Look again; a thread may do it. An error of the lab is told, and not raised."""
        with self._one_at_a_time:
            try:
                return Seen(self.keys_seen(), self.source_seen(), self._source == _GONE)
            except KmslabError as error:
                return Seen(error=error)

    def while_changing_keys(self, change: Callable[[], T]) -> T:
        """Do what changes keys: no look takes it for what somebody else has done."""
        with self._one_at_a_time:
            try:
                return change()
            finally:
                with suppress(KmslabError):
                    self.keys_seen()

    def source_taken(self) -> None:
        """Take in the source as it is now: what was changed is known."""
        with self._one_at_a_time:
            self.source_seen()

    def keys_seen(self) -> tuple[str, ...]:
        """What keys are not what they were: what matters for people and for records."""
        lab = self._session.keyring
        epoch = lab.epoch()
        if epoch == self._epoch:
            return ()
        keys = {key.key_id: key for key in lab.keys()}
        before, self._keys, self._epoch = self._keys, keys, epoch
        if before is None:
            return ()
        gone = [f"{_name(key)} is gone" for key in before.values() if key.key_id not in keys]
        return (*(said for key in keys.values() if (said := change(before, key))), *gone)

    def source_seen(self) -> bool:
        """Whether the file of a source is another one, by its size and time.

        A table, and files that are many, are not looked at: F5 reads them again.
        """
        spec = self._session.spec
        if spec is None or is_url(spec.location):
            return False
        try:
            found = Path(spec.location).stat()
            now: Hashable = (found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            now = _GONE
        where, before = self._where, self._source
        self._where, self._source = spec.location, now
        return where == spec.location and before != now
