"""The state folder: journals, plans, registered sources and locks.

It is beside the lab's database, or wherever the operator says. Whoever reads it learns which
ciphertexts are stored where, so it is its owner's alone: folders 0700, files 0600.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from kmslab.clock import Clock
from kmslab.disk import refusal
from kmslab.errors import (
    CampaignNotFound,
    KmslabError,
    LabPermissions,
    SourceBusy,
    StateError,
)
from kmslab.keystore.root import check_private, sync_directory

FOLDER: Final = "state"
UPDATE_SECONDS: Final = 10
"""How long a change of a file waits for another process's change of the same file."""

LOCK_SECONDS: Final = 5.0
"""How long a source is waited for that somebody else has: who only looks at a campaign lets go of
it soon."""

_CAMPAIGNS: Final = "campaigns"
_LOCKS: Final = "locks"
_WAIT: Final = 0.005
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SAME_SECOND: Final = 64  # ids of one second are at most so far apart, so that thousands fit
_SUFFIXES: Final = 0x10000


@dataclass(frozen=True, slots=True)
class State:
    """A state folder, which is made when something is first written to it.

    >>> state = State.of(getfixture("tmp_path"), None)
    >>> state.write_json("notes.json", {"format": 1})
    >>> state.read_json("notes.json")
    {'format': 1}
    >>> state.path.name, state.journals()
    ('state', ())
    """

    path: Path

    @classmethod
    def of(cls, lab_path: Path | None, override: str | None) -> State:
        """The folder `override` (`--state` or KMSLAB_STATE), or else the one of the lab.

        StateError where neither is there: a lab in memory, a remote.
        """
        if override:
            return cls(Path(override).absolute())
        if lab_path is None:
            raise StateError(
                "there is no state folder: open a lab that is on disk, or name a folder "
                "with --state DIR or KMSLAB_STATE"
            )
        return cls(lab_path.absolute() / FOLDER)

    def journals(self) -> Sequence[Path]:
        """The journals of all campaigns, oldest first."""
        if not self._is_there():
            return ()
        with state_errors(self.path, "cannot be read"):
            return tuple(sorted((self.path / _CAMPAIGNS).glob("*.db")))

    def journal_path(self, campaign_id: str) -> Path:
        """Where the journal of a campaign is, or is to be; its folder is there.

        CampaignNotFound for what can be no id of a campaign.
        """
        if not _NAME.fullmatch(campaign_id):
            raise CampaignNotFound(
                f"{campaign_id[:60]!r} is no id of a campaign; `kmslab campaign list` shows them"
            )
        return self._folder(_CAMPAIGNS) / f"{campaign_id}.db"

    def campaigns_path(self) -> Path:
        """The folder of the journals; it is there."""
        return self._folder(_CAMPAIGNS)

    def shards_path(self, campaign_id: str) -> Path:
        """Where the workers of a campaign write, if it has any: a folder beside its journal."""
        return self.journal_path(campaign_id).with_suffix(".shards")

    def new_id(self, clock: Clock) -> str:
        """An id that no campaign has yet: the time, to sort by, and four random hex digits.

        It sorts after those of the same second too. It is drawn, and not kept: until a journal of
        this id is there, another process may draw the same one. So whoever makes the journal must
        fail where one is there already, and draw again: what has been made since is seen then.

        >>> from kmslab import ManualClock
        >>> clock = ManualClock(datetime.fromisoformat("2026-01-01T12:00:00Z"))
        >>> State.of(getfixture("tmp_path"), None).new_id(clock)
        '20260101-120000-...'
        """
        names = [path.stem for path in self.journals()]
        return _next_id(clock.now(), names)

    @contextmanager
    def lock(self, source_name: str, *, seconds: float | None = None) -> Iterator[None]:
        """Be the only campaign at work on a source; SourceBusy where somebody else stays at work on
        it for so many `seconds`, LOCK_SECONDS if none are given.

        Whoever looks whether a key may be retired has the lock too, and for a moment whoever counts
        what workers have left. A process that ends lets go, however it ends.
        """
        digest = hashlib.sha256(source_name.encode("utf-8", "surrogatepass")).hexdigest()
        path = self._folder(_LOCKS) / f"{digest}.lock"
        with _open_lock(path) as descriptor:
            if not _taken_within(descriptor, path, LOCK_SECONDS if seconds is None else seconds):
                raise SourceBusy(
                    f"{source_name}: another campaign is at work on it, or `kmslab retire` is "
                    "reading it; wait until it has ended, or interrupt it",
                    source=source_name,
                )
            yield

    @contextmanager
    def updating(self, name: str) -> Iterator[None]:
        """Be the only one to read, change and write a file of this folder.

        Waits for another process that does so; StateError where it takes too long.
        """
        path = self._folder(_LOCKS) / f"{_checked(name).replace('/', '+')}.lock"
        with _open_lock(path) as descriptor:
            if not _taken_within(descriptor, path, UPDATE_SECONDS):
                raise StateError(
                    f"{self.path / name}: another process has been changing it for over "
                    f"{UPDATE_SECONDS} s; try again"
                )
            yield

    def read_json(self, name: str) -> Any:
        """What a file of this folder holds (`sources.json`, `plans/x.json`); None without it."""
        path = self.path / _checked(name)
        if not self._is_there():
            return None
        with state_errors(path, "cannot be read"):
            _private(path)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                data = file.read()
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise StateError(
                f"{path} is damaged: it is no JSON; move it away, or restore it from a backup"
            ) from None

    def write_json(self, name: str, value: object) -> None:
        """Have a file of this folder hold `value`: durably, and all of it or none."""
        path = self.path / _checked(name)
        folder = self._folder(path.parent.name) if "/" in name else self._folder()
        text = json.dumps(value, ensure_ascii=False, indent=1) + "\n"
        write_private(path, text)
        with state_errors(path, "cannot be written"):
            sync_directory(folder)

    def _is_there(self) -> bool:
        """Whether the folder has been made; StateError where it is not ours alone."""
        _private(self.path)
        if self.path.is_dir():
            return True
        # Another process may make it at any moment, so what is there is looked at once more.
        if self.path.exists() and not self.path.is_dir():
            raise StateError(f"{self.path} is no folder; name another one with --state DIR")
        return self.path.is_dir()

    def _folder(self, name: str | None = None) -> Path:
        """The folder, or one in it; made where it is not there."""
        if not self._is_there():
            with state_errors(self.path, "cannot be made"):
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Journals hold ids and contexts: no `git add` shall take them along.
                with suppress(FileExistsError):
                    _write_new(self.path / ".gitignore", b"*\n")
                sync_directory(self.path.parent)
        if name is None:
            return self.path
        folder = self.path / name
        if not folder.is_dir():
            with state_errors(folder, "cannot be made"):
                folder.mkdir(mode=0o700, exist_ok=True)
                sync_directory(self.path)
        return folder


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Lock a file, which is made where it is not there; whether nobody else has it.

    A process that ends lets go, however it ends.
    """
    with _open_lock(path) as descriptor:
        yield _take(descriptor, path)


def write_private(path: Path, text: str) -> None:
    """Have a file that is its owner's alone hold a text: all of it or none."""
    making = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with state_errors(path, "cannot be written"):
        try:
            _write_new(making, text.encode("utf-8", "surrogatepass"))
            making.replace(path)
        finally:
            making.unlink(missing_ok=True)


def _next_id(moment: datetime, names: Sequence[str]) -> str:
    while True:
        prefix = f"{moment:%Y%m%d-%H%M%S}-"
        taken = [int(name[-4:], 16) for name in names if re.fullmatch(prefix + "[0-9a-f]{4}", name)]
        if not taken:
            return f"{prefix}{secrets.randbelow(_SUFFIXES // 2):04x}"
        suffix = max(taken) + 1 + secrets.randbelow(_SAME_SECOND)
        if suffix < _SUFFIXES:
            return f"{prefix}{suffix:04x}"
        moment += timedelta(seconds=1)


def _checked(name: str) -> str:
    if not all(_NAME.fullmatch(part) for part in name.split("/")) or name.count("/") > 1:
        raise StateError(f"{name[:60]!r} is no name of a file in the state folder")
    return name


def _private(path: Path) -> None:
    try:
        check_private(path)
    except LabPermissions as error:
        raise StateError(str(error)) from None


def _write_new(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    # The file stays: were it removed, two could each lock a file of this name.
    with state_errors(path, "cannot be opened"):
        _private(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> bool:
    """Whether the lock was free, and is now ours."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StateError(f"{path} cannot be locked: {refusal(error)}") from None
    return True


def _taken_within(descriptor: int, path: Path, seconds: float) -> bool:
    """Whether the lock became free in so many seconds, and is now ours."""
    until = time.monotonic() + seconds
    while not _take(descriptor, path):
        if time.monotonic() >= until:
            return False
        time.sleep(_WAIT)
    return True


@contextmanager
def state_errors(path: Path, what: str) -> Iterator[None]:
    """Turn what the system refuses of a file into a StateError that names it."""
    try:
        yield
    except OSError as error:
        raise StateError(f"{path} {what}: {refusal(error)}") from None


@contextmanager
def content_errors(path: Path) -> Iterator[None]:
    """Turn what is found wanting in a file that kmslab writes into a StateError that names it.

    >>> with content_errors(Path("x.db")):
    ...     {}["source"]
    Traceback (most recent call last):
    kmslab.errors.StateError: x.db: this is not what kmslab writes there: KeyError('source')
    """
    try:
        yield
    except KmslabError:  # which may be a ValueError too
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StateError(f"{path}: this is not what kmslab writes there: {error!r}") from error
