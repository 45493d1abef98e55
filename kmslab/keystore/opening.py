"""Making a lab, in a directory or in a database, opening it, and giving it another root key."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from kmslab.clock import Clock
from kmslab.database_url import EXTRAS, POSTGRESQL
from kmslab.errors import (
    LabError,
    LabExists,
    LabNotFound,
    LabRolledBack,
    LabUncertain,
    RootKeyError,
    SettingError,
)
from kmslab.keystore import state, writing
from kmslab.keystore.audit import AuditMode
from kmslab.keystore.changes import Change
from kmslab.keystore.database import Database
from kmslab.keystore.lab_url import in_database
from kmslab.keystore.lifecycle import Act, now_of, random_id
from kmslab.keystore.root import (
    ROOT_FILE,
    Passphrase,
    RootKeyFile,
    RootSource,
    check_private,
    derive_root,
    new_kdf,
    read_root_key,
    remove_unused_keys,
    switch_root_key,
    sync_directory,
    write_root_key,
)
from kmslab.keystore.schema import SCHEMA_VERSION, metadata
from kmslab.keystore.sealing import ROOT_BYTES, Subkeys
from kmslab.keystore.sqlite import DATABASE_FILE, SqliteDatabase
from kmslab.keystore.state import LabRow
from kmslab.keystore.store import Keystore
from kmslab.secret import Entropy, Secret, system_entropy

if TYPE_CHECKING:
    from kmslab.keystore.postgres import PostgresDatabase

DEFAULT_SETTINGS = {"balance": 100, "cmk_uuid": "destination", "faults": []}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a keystore is given from outside."""

    clock: Clock
    audit_mode: AuditMode = AuditMode.GROUPED
    entropy: Entropy = system_entropy


def root_source(location: str | Path, given: RootSource | None) -> RootSource:
    """Where a lab's root key is: where it is said to be, or else in the lab's own directory.

    RootKeyError where there is no directory.
    """
    if given is not None:
        return given
    if in_database(location):
        raise RootKeyError(
            "a lab in a database has no directory for its root key: name the file with --root-key "
            "PATH or KMSLAB_ROOT_KEY, on each machine, or have the lab under a passphrase"
        )
    return RootKeyFile(Path(location).absolute() / ROOT_FILE)


def create(location: str | Path, source: RootSource | None, surroundings: Surroundings) -> None:
    """Make a lab in a directory or a database, all of it or none. LabExists where something is
    there already.

    Without a `source` the root key is a new file in the lab's directory.
    """
    if isinstance(location, str) and in_database(location):
        _create_in_database(_postgres(location), root_source(location, source), surroundings.clock)
    else:
        _create_in_directory(Path(location), source, surroundings.clock)


def _create_in_directory(path: Path, source: RootSource | None, clock: Clock) -> None:
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise LabExists(f"{path} is there already; choose another place or open it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise LabError(f"no lab can be made at {path}: {error.strerror}") from None
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, making, ignore_errors=True)
        root = _first_root(source or RootKeyFile(making / ROOT_FILE), undo)
        try:
            _fill(making, root, clock)
            making.rename(path)
            undo.pop_all()
            sync_directory(path.parent)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise LabExists(f"{path} is there already; choose another place") from None
            raise LabError(f"no lab can be made at {path}: {error.strerror}") from None


def _create_in_database(database: PostgresDatabase, source: RootSource, clock: Clock) -> None:
    with ExitStack() as undo:
        undo.callback(database.close)
        with ExitStack() as root_undo:
            root = _first_root(source, root_undo)
            written = False
            try:
                with database.making() as connection:
                    _write_tables(connection, root, clock)
                    written = True
            except BaseException as error:
                refused = isinstance(error, LabError) and not isinstance(error, LabUncertain)
                if written and not refused:
                    # The lab may be there, and then this is its root key.
                    root_undo.pop_all()
                raise
            root_undo.pop_all()


def _first_root(source: RootSource, undo: ExitStack) -> Secret | Passphrase:
    """A new root key, which is in its file already; `undo` takes the file away."""
    if isinstance(source, Passphrase):
        return source
    root = Secret(os.urandom(ROOT_BYTES))
    write_root_key(source.path, root)
    undo.callback(source.path.unlink, missing_ok=True)
    return root


def open_lab(
    location: str | Path,
    source: RootSource,
    surroundings: Surroundings,
    expect: int | None = None,
) -> Keystore:
    """Open the lab in a directory or a database, and check everything in it but the audit log's
    chain.

    `expect` is the generation that the lab must have reached (LabRolledBack below it).
    """
    database: Database
    if isinstance(location, str) and in_database(location):
        database = _postgres(location)
    else:
        database = _in_directory(Path(location))
    try:
        keystore = _keystore(database, _subkeys_by(database, source), surroundings)
    except BaseException:
        database.close()
        raise
    if expect is not None and keystore.lab.generation < expect:
        found, where = keystore.lab.generation, keystore.where
        keystore.close()
        raise LabRolledBack(f"{where} is at generation {found}, and {expect} was expected")
    if isinstance(source, RootKeyFile):
        # A rekey may have been killed after the lab had changed and before the key was renamed.
        with suppress(RootKeyError):
            switch_root_key(source, keystore.lab.root_id)
    return keystore


def _in_directory(path: Path) -> SqliteDatabase:
    file = path / DATABASE_FILE
    check_private(path)
    if not file.exists():
        raise LabNotFound(f"there is no lab at {path}; make one with `kmslab lab init {path}`")
    check_private(file)
    # From here on the lab is where it is, wherever this process goes.
    return SqliteDatabase(path.absolute())


def _postgres(url: str) -> PostgresDatabase:
    try:
        from kmslab.keystore.postgres import PostgresDatabase
    except ImportError as error:
        if not (error.name or "psycopg").startswith("psycopg"):
            raise
        raise SettingError(
            f"a lab in a database needs a driver that is not installed{EXTRAS[POSTGRESQL]}"
        ) from None
    return PostgresDatabase(url)


def in_memory(surroundings: Surroundings) -> Keystore:
    """A lab that leaves nothing behind."""
    database = SqliteDatabase(None)
    root = Secret(os.urandom(ROOT_BYTES))
    with database.writing() as connection:
        _write_tables(connection, root, surroundings.clock)
    return _keystore(database, lambda lab: Subkeys(root, lab.lab_id), surroundings)


def rekey(keystore: Keystore, source: RootSource, new: Passphrase | None, act: Act) -> bool:
    """Give the lab another root key: a fresh one in the same file, or another passphrase.

    What was sealed under the old one is then rewritten away; False where somebody still holds it.
    """
    lab_id = keystore.lab.lab_id
    entry = act.entry(now_of(keystore))
    if isinstance(source, Passphrase):
        if new is None:
            raise RootKeyError("a lab under a passphrase is rekeyed to another passphrase")
        kdf = new_kdf()
        subkeys = Subkeys(derive_root(new, kdf), lab_id)
        with keystore.change(entry, unhurried=True) as change:
            writing.rekey(change, subkeys, kdf, keystore.units)
        keystore.subkeys_for = _subkeys_by(keystore.database, new)
        return _erased_old(keystore)
    if new is not None:
        raise RootKeyError("this lab is under a root key file, not under a passphrase")
    root = Secret(os.urandom(ROOT_BYTES))
    subkeys = Subkeys(root, lab_id)
    with keystore.change(entry, unhurried=True) as change:
        # The key that the lab is on may still be waiting: it is no unused one.
        switch_root_key(source, change.lab.root_id)
        remove_unused_keys(source)
        write_root_key(source.next_path(subkeys.root_id), root)
        writing.rekey(change, subkeys, None, keystore.units)
    switch_root_key(source, subkeys.root_id)
    return _erased_old(keystore)


def _erased_old(keystore: Keystore) -> bool:
    try:
        return keystore.erase_deleted_bytes()
    except LabError:
        return False


def _fill(making: Path, root: Secret | Passphrase, clock: Clock) -> None:
    (making / ".gitignore").write_text("*\n", encoding="ascii")
    file = making / DATABASE_FILE
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    database = SqliteDatabase(making)
    try:
        with database.writing() as connection:
            _write_tables(connection, root, clock)
    finally:
        database.close()
    sync_directory(making)


def _write_tables(connection: Connection, root: Secret | Passphrase, clock: Clock) -> None:
    lab_id = random_id(system_entropy)
    kdf = None
    if isinstance(root, Passphrase):
        kdf = new_kdf()
        root = derive_root(root, kdf)
    subkeys = Subkeys(root, lab_id)
    lab = LabRow(
        lab_id=lab_id,
        schema_version=SCHEMA_VERSION,
        created_at=int(clock.time() * 1e6),
        unsafe=False,
        root_id=subkeys.root_id,
        kdf=kdf,
        settings=json.dumps(DEFAULT_SETTINGS, sort_keys=True),
        generation=1,
        keys_digest=state.keys_digest({}),
        credentials_digest=state.credentials_digest(()),
    )
    metadata.create_all(connection, checkfirst=False)
    writing.write_first(Change(connection, subkeys, lab, ()))


def _keystore(
    database: Database, subkeys_for: Callable[[LabRow], Subkeys], surroundings: Surroundings
) -> Keystore:
    return Keystore(
        database,
        subkeys_for,
        clock=surroundings.clock,
        entropy=surroundings.entropy,
        audit_mode=surroundings.audit_mode,
    )


_NEW_FILE: Final = (
    "where another machine has given the lab another root key, put the file that it has now in "
    "this place; it is taken from the next call on"
)
_NEW_WORDS: Final = "where another machine has given the lab another one, open it with that"


def _subkeys_by(database: Database, source: RootSource) -> Callable[[LabRow], Subkeys]:
    """What opens the lab row of a lab, by its root key."""
    if database.path is not None:
        return lambda lab: _subkeys(lab, source)

    def subkeys(lab: LabRow) -> Subkeys:
        try:
            return _subkeys(lab, source)
        except RootKeyError as error:
            typed = isinstance(source, Passphrase)
            raise RootKeyError(f"{error} ({_NEW_WORDS if typed else _NEW_FILE})") from None

    return subkeys


def _subkeys(lab: LabRow, source: RootSource) -> Subkeys:
    if isinstance(source, Passphrase):
        if lab.kdf is None:
            raise RootKeyError("this lab is under a root key file, not under a passphrase")
        subkeys = Subkeys(derive_root(source, lab.kdf), lab.lab_id)
        if subkeys.root_id != lab.root_id:
            raise RootKeyError("the passphrase is not this lab's")
        return subkeys
    if lab.kdf is not None:
        raise RootKeyError(
            "this lab is under a passphrase; give it with --passphrase or KMSLAB_PASSPHRASE"
        )
    return _subkeys_from_file(lab, source)


def _subkeys_from_file(lab: LabRow, source: RootKeyFile) -> Subkeys:
    root = read_root_key(source, lab.root_id, lambda root: Subkeys(root, lab.lab_id).root_id)
    return Subkeys(root, lab.lab_id)
