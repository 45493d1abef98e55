"""Where the root key is: a file beside the lab, a file elsewhere, or a passphrase.

A rekey writes the new key beside the old one under a name of its own, changes the lab in one
transaction, then renames the file. Whichever step it is killed at, one of the two opens the lab.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kmslab.crypto import Argon2Parameters, argon2id
from kmslab.encoding import b64, unb64
from kmslab.errors import FormatError, LabPermissions, RootKeyError, TamperedLab
from kmslab.keystore.sealing import ROOT_BYTES
from kmslab.secret import Secret

ROOT_FILE = "root.key"
_PREFIX = "kmslab-root-key-1 "
_ROOT_ID = re.compile("[0-9a-f]{32}")
_MOST_BYTES = 1024
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class RootKeyFile:
    """A root key kept in a file of mode 0600."""

    path: Path

    def next_path(self, root_id: str) -> Path:
        """Where a rekey keeps the new key until the lab is on it."""
        return self.path.with_name(f"{self.path.name}.{root_id}")


@dataclass(frozen=True, slots=True, repr=False)
class Passphrase:
    """A passphrase, from which Argon2id makes the root key."""

    text: Secret

    @classmethod
    def of(cls, text: str) -> Passphrase:
        """Wrap the text of a passphrase; RootKeyError for an empty one."""
        if not text:
            raise RootKeyError("the passphrase is empty")
        return cls(Secret(text.encode("utf-8")))


RootSource = RootKeyFile | Passphrase


def write_root_key(path: Path, root: Secret) -> None:
    """Write a root key to a new file of mode 0600, and make file and name durable.

    RootKeyError where something is there already or it cannot be written.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise RootKeyError(f"{path} is there already; a root key belongs to one lab") from None
    except OSError as error:
        raise RootKeyError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_PREFIX + b64(root.expose()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RootKeyError(f"{path} cannot be written: {error.strerror}") from None


def read_root_key(source: RootKeyFile, root_id: str, id_of: Callable[[Secret], str]) -> Secret:
    """The root key whose id is `root_id`; RootKeyError if it is not there.

    While a rekey is on its way, or was killed on it, the key waits under a name of its own. The
    names are tried in the order in which the key moves, so that it cannot slip by.
    """
    if not _ROOT_ID.fullmatch(root_id):
        raise TamperedLab("the lab names its root key by what is no id")
    found = None
    for path in (source.next_path(root_id), source.path):
        found = _read(path)
        if found is not None and id_of(found) == root_id:
            return found
    if found is None:
        raise RootKeyError(
            f"no root key at {source.path}; name it with --root-key or KMSLAB_ROOT_KEY"
        )
    raise RootKeyError(f"{source.path} is not the root key of this lab")


def _read(path: Path) -> Secret | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        check_private(path)  # says it better where it is a link
        raise RootKeyError(f"the root key at {path} cannot be read: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "rb") as file:
            _check_private(path, os.fstat(descriptor))
            text = Secret(file.read(_MOST_BYTES))
    except OSError as error:
        raise RootKeyError(f"the root key at {path} cannot be read: {error.strerror}") from None
    root = _parsed(text)
    if root is None:
        raise RootKeyError(f"{path} is not a root key of kmslab")
    return root


def _parsed(text: Secret) -> Secret | None:
    try:
        prefix, _, encoded = text.expose().decode("ascii").partition(" ")
        root = Secret(unb64(encoded.removesuffix("\n")))
    except ValueError:
        return None
    return root if prefix == _PREFIX.strip() and len(root) == ROOT_BYTES else None


def switch_root_key(source: RootKeyFile, root_id: str) -> None:
    """Put the key that the lab is on in the place of the old one, if it is not there yet.

    RootKeyError where it cannot be; the lab opens all the same.
    """
    waiting = source.next_path(root_id)
    try:
        # Another process that opened the lab meanwhile may have done it already.
        if waiting.exists():
            with suppress(FileNotFoundError):
                waiting.replace(source.path)
                sync_directory(source.path.parent)
    except OSError as error:
        raise RootKeyError(
            f"the lab's root key is {waiting} and cannot be renamed to {source.path}: "
            f"{error.strerror}"
        ) from None


def remove_unused_keys(source: RootKeyFile) -> None:
    """Remove what rekeys left behind that were killed before the lab changed."""
    prefix = source.path.name + "."
    try:
        for path in list(source.path.parent.iterdir()):
            if path.name.startswith(prefix) and _ROOT_ID.fullmatch(path.name.removeprefix(prefix)):
                path.unlink()
    except OSError as error:
        raise RootKeyError(f"{source.path.parent} cannot be written: {error.strerror}") from None


def new_kdf() -> str:
    """The Argon2id cost and a fresh salt, as the text that the lab keeps."""
    return json.dumps(
        {"argon2id": Argon2Parameters().as_dict(), "salt": b64(os.urandom(SALT_BYTES))},
        sort_keys=True,
    )


def derive_root(passphrase: Passphrase, kdf: str) -> Secret:
    """The root key that a passphrase makes with the lab's cost and salt."""
    try:
        parameters = json.loads(kdf)
        cost = Argon2Parameters(**parameters["argon2id"])
        salt = unb64(parameters["salt"])
        if len(salt) != SALT_BYTES:
            raise FormatError("no salt")
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RootKeyError("the lab's passphrase parameters are damaged") from None
    return Secret(argon2id(passphrase.text.expose(), salt, cost))


def check_private(path: Path) -> None:
    """LabPermissions unless `path`, if there, is ours alone and no link."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LabPermissions(f"{path} cannot be looked at: {error.strerror}") from None
    _check_private(path, status)


def _check_private(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise LabPermissions(f"{path} is a symbolic link; name the file itself")
    if status.st_uid != os.geteuid():
        raise LabPermissions(f"{path} belongs to another user")
    if status.st_mode & 0o077:
        mode = "0700" if stat.S_ISDIR(status.st_mode) else "0600"
        raise LabPermissions(f"{path} can be read by others; chmod it to {mode}")


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
