"""Making a lab's directory, opening it, and giving it another root key."""

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

from sqlalchemy import Engine

from kmslab.clock import Clock
from kmslab.errors import LabError, LabExists, LabNotFound, LabRolledBack, RootKeyError
from kmslab.keystore import state, writing
from kmslab.keystore.audit import AuditMode
from kmslab.keystore.changes import Change
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
from kmslab.keystore.schema import (
    DATABASE_FILE,
    SCHEMA_VERSION,
    database_errors,
    metadata,
    sqlite_engine,
)
from kmslab.keystore.sealing import ROOT_BYTES, Subkeys
from kmslab.keystore.state import LabRow
from kmslab.keystore.store import Keystore
from kmslab.secret import Entropy, Secret, system_entropy

DEFAULT_SETTINGS = {"balance": 100, "cmk_uuid": "destination", "faults": []}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a keystore is given from outside."""

    clock: Clock
    audit_mode: AuditMode = AuditMode.GROUPED
    entropy: Entropy = system_entropy


def default_source(path: Path) -> RootKeyFile:
    """The root key file of a lab that keeps it in its own directory."""
    return RootKeyFile(path.absolute() / ROOT_FILE)


def create(path: Path, source: RootSource | None, surroundings: Surroundings) -> None:
    """Make a lab at `path`, all of it or none. LabExists where something is there already.

    Without a `source` the root key is a new file in the lab's directory.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise LabExists(f"{path} is there already; choose another place or open it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise LabError(f"no lab can be made at {path}: {error.strerror}") from None
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, making, ignore_errors=True)
        root: Secret | Passphrase
        if isinstance(source, Passphrase):
            root = source
        else:
            root = Secret(os.urandom(ROOT_BYTES))
            file = (source or default_source(making)).path
            write_root_key(file, root)
            undo.callback(file.unlink, missing_ok=True)
        try:
            _fill(making, root, surroundings.clock)
            making.rename(path)
            undo.pop_all()
            sync_directory(path.parent)
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise LabExists(f"{path} is there already; choose another place") from None
            raise LabError(f"no lab can be made at {path}: {error.strerror}") from None


def open_lab(
    path: Path, source: RootSource | None, surroundings: Surroundings, expect: int | None = None
) -> Keystore:
    """Open the lab at `path` and check everything in it but the audit log's chain.

    `expect` is the generation that the lab must have reached (LabRolledBack below it).
    """
    database = path / DATABASE_FILE
    check_private(path)
    if not database.exists():
        raise LabNotFound(f"there is no lab at {path}; make one with `kmslab lab init {path}`")
    check_private(database)
    chosen = source or default_source(path)
    # From here on the lab is where it is, wherever this process goes.
    place = path.absolute()
    engine = sqlite_engine(place / DATABASE_FILE)
    try:
        keystore = _keystore(engine, place, lambda lab: _subkeys(lab, chosen), surroundings)
    except BaseException:
        engine.dispose()
        raise
    if expect is not None and keystore.lab.generation < expect:
        found = keystore.lab.generation
        keystore.close()
        raise LabRolledBack(f"{path} is at generation {found}, and {expect} was expected")
    if isinstance(chosen, RootKeyFile):
        # A rekey may have been killed after the lab had changed and before the key was renamed.
        with suppress(RootKeyError):
            switch_root_key(chosen, keystore.lab.root_id)
    return keystore


def in_memory(surroundings: Surroundings) -> Keystore:
    """A lab that leaves nothing behind."""
    engine = sqlite_engine(None)
    root = Secret(os.urandom(ROOT_BYTES))
    _write_tables(engine, lambda lab_id: (Subkeys(root, lab_id), None), surroundings.clock)
    return _keystore(engine, None, lambda lab: Subkeys(root, lab.lab_id), surroundings)


def rekey(keystore: Keystore, source: RootSource, new: Passphrase | None, act: Act) -> None:
    """Give the lab another root key: a fresh one in the same file, or another passphrase.

    What was sealed under the old one is then rewritten away, as far as no other process holds it.
    """
    lab_id = keystore.lab.lab_id
    entry = act.entry(now_of(keystore))
    if isinstance(source, Passphrase):
        if new is None:
            raise RootKeyError("a lab under a passphrase is rekeyed to another passphrase")
        kdf = new_kdf()
        subkeys = Subkeys(derive_root(new, kdf), lab_id)
        with keystore.change(entry) as change:
            writing.rekey(change, subkeys, kdf, keystore.units)
        keystore.subkeys_for = lambda lab: _subkeys(lab, new)
        _erase_old(keystore)
        return
    if new is not None:
        raise RootKeyError("this lab is under a root key file, not under a passphrase")
    root = Secret(os.urandom(ROOT_BYTES))
    subkeys = Subkeys(root, lab_id)
    with keystore.change(entry) as change:
        # The key that the lab is on may still be waiting: it is no unused one.
        switch_root_key(source, change.lab.root_id)
        remove_unused_keys(source)
        write_root_key(source.next_path(subkeys.root_id), root)
        writing.rekey(change, subkeys, None, keystore.units)
    switch_root_key(source, subkeys.root_id)
    _erase_old(keystore)


def _erase_old(keystore: Keystore) -> None:
    with suppress(LabError):
        keystore.erase_deleted_bytes()


def _fill(making: Path, root: Secret | Passphrase, clock: Clock) -> None:
    (making / ".gitignore").write_text("*\n", encoding="ascii")
    database = making / DATABASE_FILE
    os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def first_subkeys(lab_id: str) -> tuple[Subkeys, str | None]:
        if isinstance(root, Passphrase):
            kdf = new_kdf()
            return Subkeys(derive_root(root, kdf), lab_id), kdf
        return Subkeys(root, lab_id), None

    engine = sqlite_engine(database)
    try:
        with database_errors(str(making)):
            _write_tables(engine, first_subkeys, clock)
    finally:
        engine.dispose()
    sync_directory(making)


def _write_tables(
    engine: Engine, first_subkeys: Callable[[str], tuple[Subkeys, str | None]], clock: Clock
) -> None:
    lab_id = random_id(system_entropy)
    subkeys, kdf = first_subkeys(lab_id)
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
    with engine.begin() as connection:
        metadata.create_all(connection, checkfirst=False)
        writing.write_first(Change(connection, subkeys, lab, ()))


def _keystore(
    engine: Engine,
    path: Path | None,
    subkeys_for: Callable[[LabRow], Subkeys],
    surroundings: Surroundings,
) -> Keystore:
    return Keystore(
        engine,
        subkeys_for,
        path=path,
        clock=surroundings.clock,
        entropy=surroundings.entropy,
        audit_mode=surroundings.audit_mode,
    )


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
