"""Sources that are divided into several tasks, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from campaign_data import WRITERS, Row, read_rows, write_table
from campaign_sources import plaintexts

from kmslab import Lab
from kmslab.records.spec import SourceSpec

FILES = 5
RECORDS = 120
RANGE_ROWS = 30
"""The records of a table in one task."""

Write = Callable[[Path, Sequence[Row]], SourceSpec]


def write_files(path: Path, rows: Sequence[Row], kind: str) -> SourceSpec:
    """The records in a folder of files."""
    path.mkdir()
    each = -(-len(rows) // FILES)
    for number in range(FILES):
        WRITERS[kind](path / f"part-{number}", rows[number * each : (number + 1) * each])
    return SourceSpec(str(path))


SOURCES: dict[str, Write] = {
    "csv": lambda path, rows: write_files(path, rows, "csv"),
    "parquet": lambda path, rows: write_files(path, rows, "parquet"),
    "table": write_table,
}


def contents(lab: Lab, spec: SourceSpec) -> dict[str, bytes | None]:
    """What all records of a source open to."""
    return plaintexts(lab, all_rows(spec))


def all_rows(spec: SourceSpec) -> list[Row]:
    """All rows of a source, read by something that is not kmslab."""
    if spec.table:
        return read_rows(spec)
    paths = sorted(Path(spec.location).iterdir())
    return [row for path in paths for row in read_rows(SourceSpec(str(path)))]
