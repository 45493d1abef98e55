"""A new file in the place of an old one: all of it or none, whatever happens meanwhile.

The new file is made beside the old one under a name of its own, and is renamed over it when it has
been written, read back and found right, and the old one is still the one that was read. Both are
locked as long as this takes (`flock`, which the system drops with the process that took it), so
that a file is changed by one at a time, and what a killed process left can be told and removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from kmslab.disk import FULL, refusal
from kmslab.errors import SourceBusy, SourceChanged, SourceError
from kmslab.keystore.root import sync_directory

BLOCK_BYTES: Final = 1024 * 1024
"""So much of a file is read or written at once.

While it does so, a thread lets others go on, but is back before one of them has noticed; and that
one waits from the beginning. With the usual 8 KB, which is a few rows, none of them has a turn: the
terminal could answer no key until a chunk is read.
"""
_LONGEST_STEM: Final = 200  # bytes of a name that is made longer; a system allows 255
_SUFFIX: Final = r"\.kmslab-[0-9a-f]{8}\.tmp"
_NOT_THE_FOLDER: Final = (errno.EIO, errno.EMFILE)  # to make it writable would not help
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the system as a SourceError that says what is wrong with `path` and what to do.

    >>> with explained(Path("orders.csv")):
    ...     raise FileNotFoundError
    Traceback (most recent call last):
    ...
    kmslab.errors.SourceError: orders.csv: there is no such file
    """
    try:
        yield
    except OSError as error:
        raise SourceError(f"{path}: {_why(error)}", source=str(path)) from error


def _why(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "this is a directory; name a file in it"
        case PermissionError():
            return "the file may not be read by this user"
        case _ if error.errno in FULL:
            return (
                "the disk is full; nothing was changed. A new file is written beside the old one:"
                " make room for it and try again"
            )
        case _:
            return f"the file cannot be read: {refusal(error)}"


@contextmanager
def _written(target: Path) -> Iterator[None]:
    """The same for what is done in the folder of `target`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            why = _why(error)
        elif error.errno in _NOT_THE_FOLDER:
            why = f"no file can be made in {target.parent}: {refusal(error)}"
        else:
            why = (
                f"no file can be made in {target.parent} ({error.strerror or error});"
                " make it writable, or have the output written elsewhere"
            )
        raise SourceError(f"{target}: {why}", source=str(target)) from error


def file_digest(file: BinaryIO) -> str:
    """The SHA-256 of all of an open file, which is left at its end."""
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """The SHA-256 of a file.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("record_id,ciphertext_blob\\n")
    >>> fingerprint(path)[:8]
    '38988b01'
    """
    with explained(path), path.open("rb") as file:
        return file_digest(file)


class Replacement:
    """A file that is about to be replaced (`source`), and the one that will do it.

    `path` is the file itself, no link to it. Only what was given to `write`, or to `file`, will be
    there, after `finish`.
    """

    __slots__ = ("_before", "_output", "_temporary", "file", "path", "source")

    def __init__(
        self, path: Path, source: BinaryIO, file: BinaryIO, temporary: Path, output: Path | None
    ) -> None:
        self.path = path
        self.source = source
        self.file = file
        self._temporary = temporary
        self._output = output
        self._before = os.fstat(source.fileno())
        with _written(self._target):
            self._take_on(self._before)

    @property
    def elsewhere(self) -> bool:
        """Whether the new file leaves the old one where it is."""
        return self._output is not None

    @property
    def _target(self) -> Path:
        return self._output or self.path

    def write(self, data: bytes) -> None:
        """Append to the new file."""
        with _written(self._target):
            self.file.write(data)

    def finish(self, *, read: str, changed: bool, prove: Callable[[BinaryIO], None]) -> None:
        """Put the new file in its place, durably; or leave it alone if nothing `changed`.

        `read` is the SHA-256 of the source as it was read. `prove` gets the new file once it is on
        the disk, and raises if it is not what was meant. SourceChanged where the source is not
        the one that was read.
        """
        if not changed and self._output is None:
            return
        with _written(self._target):
            self.file.flush()
            self._take_on(os.fstat(self.source.fileno()))
            os.fsync(self.file.fileno())
        prove(self.file)
        with explained(self.path):
            self._check_same(file_digest(self.source) == read)
        with _written(self._target):
            if self._output is None:
                self._temporary.replace(self.path)
            else:
                _place_new(self._temporary, self._output)
            sync_directory(self._target.parent)

    def _check_same(self, same: bool) -> None:
        try:
            now = self.path.stat()
        except FileNotFoundError:
            raise SourceChanged(
                f"{self.path}: the file has gone since it was read; nothing was changed",
                source=str(self.path),
            ) from None
        for status in (now, os.fstat(self.source.fileno())):
            same = same and _identity(status) == _identity(self._before)
        if not same:
            raise SourceChanged(
                f"{self.path}: the file was changed by somebody else while it was read; it was"
                " left as it is now. Go on when nobody writes to it",
                source=str(self.path),
            )

    def _take_on(self, status: os.stat_result) -> None:
        """Owner, extended attributes (access lists among them) and mode of the source."""
        descriptor = self.file.fileno()
        own = os.fstat(descriptor)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            try:
                os.fchown(descriptor, status.st_uid, status.st_gid)
            except PermissionError:
                if self._output is None:
                    raise SourceError(
                        f"{self.path} belongs to another user or group, which a new file cannot be"
                        " given; run this as its owner, or have the output written elsewhere",
                        source=str(self.path),
                    ) from None
        _copy_attributes(self.source.fileno(), descriptor)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _copy_attributes(source: int, target: int) -> None:
    # What a file system does not know, or keeps for the system itself, stays behind.
    with suppress(OSError, AttributeError):
        for name in os.listxattr(source):
            with suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))


def _place_new(temporary: Path, output: Path) -> None:
    """Give a file its name, unless there is one of this name."""
    try:
        os.link(temporary, output)
    except FileExistsError:
        raise _exists(output) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if output.exists():
            raise _exists(output) from None
        temporary.replace(output)
    else:
        temporary.unlink()


def _exists(output: Path) -> SourceError:
    return SourceError(
        f"{output} is there already; name a file that is not, or remove it", source=str(output)
    )


@contextmanager
def replacing(path: Path, output: Path | None = None) -> Iterator[Replacement]:
    """Replace a file, or what it is a link to; with `output` write that one, which must be new.

    Leaving this without `Replacement.finish`, by an error for example, leaves everything as it
    was. SourceBusy where the file is being replaced already. Other hard links to the file keep
    what was in it.

    >>> path = getfixture("tmp_path") / "orders.csv"
    >>> _ = path.write_text("1")
    >>> with replacing(path) as replacement:
    ...     replacement.write(b"2")
    ...     replacement.finish(read=fingerprint(path), changed=True, prove=lambda file: None)
    >>> path.read_text()
    '2'
    """
    with ExitStack() as stack:
        with explained(path):
            real = path.resolve(strict=True)
            source = stack.enter_context(_locked(real))
        target = real if output is None else _checked_output(output)
        with _written(target):
            remove_leftovers(target)
            temporary, file = _new_beside(target)
        stack.callback(_close, file)
        stack.callback(_forget, temporary)  # it has no such name any more once it is in its place
        yield Replacement(real, source, file, temporary, None if output is None else target)


def _checked_output(output: Path) -> Path:
    """Where an output is written to, in a folder that is there now."""
    with _written(output):
        if output.exists() or output.is_symlink():
            raise _exists(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        return output.parent.resolve() / output.name


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # what it still holds finds no room, and is not wanted any more
        file.close()


def _forget(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _locked(path: Path) -> BinaryIO:
    """A file opened for reading and locked; the one that has this name now, not one before it."""
    while True:
        # Not to wait for the other end where this is a pipe
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        file = os.fdopen(descriptor, "rb", BLOCK_BYTES)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(f"{path} is no regular file", source=str(path))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = path.stat()
        except BlockingIOError:
            file.close()
            raise SourceBusy(
                f"{path} is being changed by another campaign; wait until it is done",
                source=str(path),
            ) from None
        except BaseException:
            file.close()
            raise
        if (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino):
            return file
        file.close()  # it was replaced between opening and locking


def _stem(target: Path) -> str:
    """What the names of new files for `target` begin with."""
    name = os.fsencode(target.name)
    if len(name) > _LONGEST_STEM:
        return f".{hashlib.sha256(name).hexdigest()}"
    return f".{target.name}"


def _new_beside(target: Path) -> tuple[Path, BinaryIO]:
    """A new, empty, locked file beside `target`, for this user alone."""
    while True:
        path = target.with_name(f"{_stem(target)}.kmslab-{secrets.token_hex(4)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        file = os.fdopen(descriptor, "w+b", BLOCK_BYTES)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return path, file
        except BlockingIOError:
            pass  # who cleans up took it for a leftover, between its making and its locking
        except BaseException:
            file.close()
            _forget(path)
            raise
        file.close()


def remove_leftovers(target: Path) -> None:
    """Remove the new files for `target` that a killed process has left.

    What else has such a name stays: whoever may write to the folder can put anything there, and
    is to hinder nobody by it. So does what cannot be removed.
    """
    pattern = re.compile(re.escape(_stem(target)) + _SUFFIX)
    for path in list(target.parent.iterdir()):
        if pattern.fullmatch(path.name):
            with suppress(OSError):
                _remove_leftover(path, target)


def _remove_leftover(path: Path, target: Path) -> None:
    """Remove a file, unless the process that makes it lives: it has the file locked."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid not in _makers(target):
        return
    # By now it may be a link, or a pipe that waits for its other end.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), status):
            path.unlink()
    finally:
        os.close(descriptor)


def _makers(target: Path) -> set[int]:
    """Who a new file for `target` may belong to: this user, and the owner, who is given it."""
    owner = {target.stat().st_uid} if target.exists() else set()
    return {os.geteuid(), *owner}
