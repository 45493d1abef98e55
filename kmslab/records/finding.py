"""Which files a path or a glob names, and of which format they are."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from kmslab.errors import SourceError
from kmslab.records.replacing import explained

_FORMATS: Final = {
    ".csv": "CSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
_KNOWN: Final = "known are " + ", ".join(_FORMATS)
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_SHOWN: Final = 3  # files that an error names


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a source. `folders` are those on the way to it from the folder that was named."""

    path: Path
    folders: tuple[str, ...] = ()

    @property
    def format(self) -> str | None:
        """CSV, JSONL or Parquet, as the suffix says, or None.

        >>> Found(Path("orders.CSV")).format
        'CSV'
        """
        return _FORMATS.get(self.path.suffix.lower())

    @property
    def partition(self) -> dict[str, str | None]:
        """The columns whose value stands in the names of folders, as Hive writes it.

        >>> Found(Path("t/provider=ctyun/1.parquet"), ("provider=ctyun",)).partition
        {'provider': 'ctyun'}
        """
        pairs = (folder.split("=", 1) for folder in self.folders if "=" in folder)
        return {
            unquote(key): None if value == _HIVE_NULL else unquote(value) for key, value in pairs
        }


def find(location: str) -> tuple[str, str, Sequence[Found]]:
    """What a location names absolutely, the format of its files, and the files, each once.

    SourceError where there is no file, or not all are of one format.
    """
    path = Path(location)
    with explained(path):
        if path.exists() or not glob.has_magic(location):
            real = path.resolve(strict=True)
            name, found = str(real), list(_at(real, named=True))
        else:
            name = os.path.abspath(location)  # noqa: PTH100  # a glob is no path to be resolved
            matches = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207
            found = [file for match in matches for file in _at(match, named=True)]
        found = _once(found)
    if not found:
        raise SourceError(f"{location}: there is no file; {_KNOWN}", source=name)
    return name, _one_format(name, found), found


def _at(
    path: Path,
    *,
    named: bool,
    folders: tuple[str, ...] = (),
    seen: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[Found]:
    """The files at a path: itself, or those in it and below, in the order of their names.

    One that was `named` is taken whatever its name; `folders` are those on the way to another.
    """
    if not named and path.name.startswith((".", "_")):
        return
    try:
        status = path.stat()
    except FileNotFoundError:
        if named:
            raise
        yield Found(path, folders)  # a link to nothing: an error about it names it
        return
    if not stat.S_ISDIR(status.st_mode):
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path} is no regular file", source=str(path))
        yield Found(path, folders)
        return
    here = (status.st_dev, status.st_ino)
    if here in seen:
        return  # a link to a folder above
    inner = folders if named else (*folders, path.name)
    for entry in sorted(path.iterdir()):
        yield from _at(entry, named=False, folders=inner, seen=seen | {here})


def _once(found: Sequence[Found]) -> list[Found]:
    """Each file once, also where links give it several names: it has its records once."""
    first: dict[Path, Found] = {}
    for file in found:
        first.setdefault(file.path.resolve(), file)
    return list(first.values())


def _one_format(name: str, found: Sequence[Found]) -> str:
    unknown = [file for file in found if file.format is None]
    if unknown:
        if len(found) == 1:
            raise SourceError(f"{name}: the suffix tells no format; {_KNOWN}", source=name)
        if len(unknown) == len(found):
            raise SourceError(
                f"{name}: none of its {len(found):,} files is of a known format; {_KNOWN}",
                source=name,
            )
        raise SourceError(
            f"{name}: {_listed(unknown)} of no known format; {_KNOWN}. Take the others by a glob,"
            " or move it away",
            source=name,
        )
    formats = {file.format: file for file in reversed(found)}
    if len(formats) > 1:
        raise SourceError(
            f"{name}: files of several formats ({_listed(list(formats.values()))}); take those of"
            " one format by a glob",
            source=name,
        )
    return str(found[0].format)


def _listed(files: Sequence[Found]) -> str:
    shown = ", ".join(str(file.path) for file in files[:_SHOWN])
    more = f" and {len(files) - _SHOWN:,} more" if len(files) > _SHOWN else ""
    return f"{shown}{more}"
