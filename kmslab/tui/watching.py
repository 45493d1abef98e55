"""Whether somebody else has changed the lab or the source, asked cheaply and often."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kmslab.errors import KmslabError
from kmslab.records.opening import is_url
from kmslab.tui.session import Session

_GONE: Final = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is not as it was when it was looked at last; `gone` says that the file is not there."""

    keys: bool = False
    source: bool = False
    gone: bool = False
    error: KmslabError | None = None


class Watched:
    """Lab and source as they were seen last."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._epoch = -1
        self._keys: Hashable = None
        self._where = ""
        self._source: Hashable = None

    def look(self) -> Seen:
        """Look again; a thread may do it. An error of the lab is told, and not raised."""
        try:
            return Seen(self.keys_seen(), self.source_seen(), self._source == _GONE)
        except KmslabError as error:
            return Seen(error=error)

    def keys_seen(self) -> bool:
        """Whether keys are not what they were: what matters for people and for records."""
        lab = self._session.keyring
        epoch = lab.epoch()
        if epoch == self._epoch:
            return False
        keys = tuple(
            (
                key.key_id,
                key.state,
                key.alias,
                key.primary_version_id,
                len(key.versions),
                key.rotation_days,
                key.deletion_at,
            )
            for key in lab.keys()
        )
        before, self._keys, self._epoch = self._keys, keys, epoch
        return before is not None and before != keys

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
