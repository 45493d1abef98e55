"""Sources of very many records, all of them stale, and campaigns over them in a process of its own.

As a program: `make DIR PROVIDER KIND ROWS [URL]` makes a lab with a source in DIR, `run DIR KIND
[URL]` runs a campaign over it, which must re-encrypt everything, and prints the most memory that it
had, in KiB. The URL is of the PostgreSQL database that holds a table of the kind `postgresql`.
"""

from __future__ import annotations

import csv
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from kmslab import Lab
from kmslab.campaign.run import Ground, run
from kmslab.campaign.state import State
from kmslab.clock import SystemClock
from kmslab.model import TENCENT
from kmslab.records.spec import SourceSpec

CONTEXT = '{"app":"orders"}'
COLUMNS = (
    "record_id", "provider", "key_id", "ciphertext_blob", "encryption_context", "created_at",
    "owner",
)  # fmt: skip
KINDS = ("csv", "jsonl", "parquet", "sqlite", "postgresql")
GROUP_ROWS = 10_000

Row = tuple[str | None, ...]


def stale_blobs(lab: Lab, provider: str, counts: Iterable[int]) -> Iterator[tuple[str, list[str]]]:
    """The id of one key and so many blobs on its first version, at each step. Rotate it after."""
    kms = lab.kms(provider)
    key_id = kms.create_key(alias="bulk").key_id
    context = {"contexts": CONTEXT} if provider == TENCENT else {}
    for count in counts:
        plaintexts = [os.urandom(32) for _ in range(count)]
        sealed = kms.encrypt_many(plaintexts, key_id=key_id, **context)
        yield key_id, [str(blob) for blob in sealed.ciphertext_blob]


def rows_of(provider: str, key_id: str, blobs: Sequence[str], first: int) -> list[Row]:
    """Records as they are stored."""
    context = CONTEXT if provider == TENCENT else None
    return [
        (
            f"order-{n:09}",
            provider,
            key_id,
            blob,
            context,
            f"2026-01-{n % 28 + 1:02}T03:04:05Z",
            f"team-{n % 40}",
        )
        for n, blob in enumerate(blobs, first)
    ]


def write_source(
    folder: Path, kind: str, batches: Iterable[Sequence[Row]], url: str = ""
) -> SourceSpec:
    """A source of `KINDS` with these records; `url` is of a PostgreSQL database."""
    path = folder / f"orders.{kind}"
    if kind == "postgresql":
        _copy_into(url, batches)
        return SourceSpec(url, table="orders")
    if kind == "sqlite":
        _write_table(path, batches)
        return SourceSpec(f"sqlite:///{path}", table="orders")
    if kind == "parquet":
        _write_parquet(path, batches)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            if kind == "csv":
                csv.writer(file).writerow(COLUMNS)
            for rows in batches:
                if kind == "csv":
                    csv.writer(file).writerows(rows)
                else:
                    lines = (json.dumps(dict(zip(COLUMNS, r, strict=True))) + "\n" for r in rows)
                    file.writelines(lines)
    return SourceSpec(str(path))


def _write_table(path: Path, batches: Iterable[Sequence[Row]]) -> None:
    with closing(sqlite3.connect(path)) as database:
        columns = ", ".join(f"{name} TEXT" for name in COLUMNS[1:])
        database.execute(f"CREATE TABLE orders (record_id TEXT PRIMARY KEY, {columns})")
        marks = ", ".join("?" * len(COLUMNS))
        for rows in batches:
            database.executemany(f"INSERT INTO orders VALUES ({marks})", rows)
        database.commit()


def _copy_into(url: str, batches: Iterable[Sequence[Row]]) -> None:
    with psycopg.connect(url) as database, database.cursor() as cursor:
        columns = ", ".join(f"{name} TEXT" for name in COLUMNS[1:])
        cursor.execute("DROP TABLE IF EXISTS orders")
        cursor.execute(f"CREATE TABLE orders (record_id TEXT PRIMARY KEY, {columns})".encode())
        with cursor.copy("COPY orders FROM STDIN") as copy:
            for rows in batches:
                for row in rows:
                    copy.write_row(row)


def _write_parquet(path: Path, batches: Iterable[Sequence[Row]]) -> None:
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in batches:
            columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
            table = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(table, row_group_size=GROUP_ROWS)


def ground_in(folder: Path, lab: Lab) -> Ground:
    """What campaigns in this folder stand on."""
    return Ground(lab, State.of(None, str(folder / "state")), SystemClock())


def _make(folder: Path, provider: str, kind: str, rows: int, url: str) -> None:
    steps = [min(GROUP_ROWS, rows - at) for at in range(0, rows, GROUP_ROWS)]
    with Lab.create(folder / "lab") as lab:
        first, key_id = 0, ""

        def batches() -> Iterator[list[Row]]:
            nonlocal first, key_id
            for key_id, blobs in stale_blobs(lab, provider, steps):
                yield rows_of(provider, key_id, blobs, first)
                first += len(blobs)

        write_source(folder, kind, batches(), url)
        lab.rotate(key_id)


def _run(folder: Path, kind: str, url: str) -> None:
    path = folder / f"orders.{kind}"
    spec = {
        "sqlite": SourceSpec(f"sqlite:///{path}", "orders"),
        "postgresql": SourceSpec(url, "orders"),
    }.get(kind, SourceSpec(str(path)))
    with Lab.open(folder / "lab") as lab:
        results = run(ground_in(folder, lab), spec).results
    assert (results.unchanged, results.failed, results.lost) == (0, 0, 0)
    # Not ru_maxrss, which begins at what the process that started this one had.
    status = Path("/proc/self/status").read_text("ascii")
    print(results.re_encrypted, status.split("VmHWM:")[1].split()[0])


def peak_mb(folder: Path, kind: str, rows: int, provider: str = TENCENT, url: str = "") -> float:
    """The most memory that a campaign over so many records had, planning included, in MB."""
    folder.mkdir()
    _program("make", folder, provider, kind, rows, url)
    done, peak = map(int, _program("run", folder, kind, url).split())
    assert done == rows
    return peak * 1024 / 1e6


def _program(*arguments: object) -> str:
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    return done.stdout


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, provider, kind, rows, url]:
            _make(Path(folder), provider, kind, int(rows), url)
        case ["run", folder, kind, url]:
            _run(Path(folder), kind, url)
