"""Records of every kind, in a source of every kind, for the tests of campaigns."""

from __future__ import annotations

import csv
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kmslab import Lab
from kmslab.model import KeySpec, OaepAlgorithm
from kmslab.records.spec import SourceSpec

COLUMNS = (
    "record_id",
    "provider",
    "key_id",
    "ciphertext_blob",
    "encryption_context",
    "created_at",
    "owner",
    "source_key_id",
    "source_key_version_id",
    "source_encryption_algorithm",
    "note",
)
Row = dict[str, str | None]

TWENTIES = 3
RECORDS = 20 * TWENTIES
"""What a test has, unless it says otherwise."""

CHUNK_TWENTIES = 50 if os.environ.get("KMSLAB_SOAK") == "1" else 2
CHUNK = 20 * CHUNK_TWENTIES
"""How many records a chunk has where a test is about chunks: few, so that it is quick."""

MANY_TWENTIES = CHUNK_TWENTIES + 1
TWO_CHUNKS = 20 * MANY_TWENTIES
"""What a test has then."""

# From Tencent's public documentation (its ReEncrypt page): a cloud's own blob.
CLOUD_BLOB = (
    "M1UPpYhWviWGrfn78MLVBG1n5G2H6+pGK5u7xOmoWoCcWpxVKC1OAQujzQSLHWBE54p3Kd8Qji+7FOPN3nkQeA==-k-"
    "fKVP3WIlGpg8m9LMW4jEkQ==-k-8VyKJSv97jE/+mKGeevmUUvCXLYzWs6Zxn3PZoeBW4aPCjYX"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of the test lab, by what they are for."""

    orders: str
    sessions: str
    billing: str
    archive: str
    disabled: str
    pair: str


@dataclass(frozen=True, slots=True)
class World:
    """A lab at `path`, closed, with its keys, and records for a source."""

    path: Path
    keys: Keys
    rows: list[Row]


def make_keys(lab: Lab) -> Keys:
    """One version each; `rotate` and `disable` come after the records are made."""
    tencent, ctyun = lab.tencent(), lab.ctyun()
    return Keys(
        orders=tencent.create_key(alias="orders").key_id,
        sessions=tencent.create_key(alias="sessions").key_id,
        billing=ctyun.create_key(alias="billing").key_id,
        archive=ctyun.create_key(alias="archive").key_id,
        disabled=tencent.create_key(alias="frozen").key_id,
        pair=ctyun.create_key(alias="pair", spec=KeySpec.RSA_2048).key_id,
    )


def make_rows(lab: Lab, keys: Keys, count: int) -> list[Row]:
    """`count` records of mixed providers, versions, contexts and outcomes; two keys are rotated.

    Of twenty: eight on old versions, six on primary ones, one of a disabled key, public-key
    ciphertext, a cloud's own, a cut one, one without its context, one equal to the one before.
    """
    kinds = [_KINDS[index % len(_KINDS)] for index in range(count)]
    made = {"old": iter(_symmetric(lab, keys, kinds, "old"))}
    others = _others(lab, keys)
    lab.rotate(keys.orders)
    lab.rotate(keys.billing)
    made["new"] = iter(_symmetric(lab, keys, kinds, "new"))
    lab.tencent().disable_key(keys.disabled)
    rows: list[Row] = []
    for index, kind in enumerate(kinds):
        source = made.get(kind[0])
        values = next(source) if source else others[kind[1]]
        if kind[1] == "twin":
            values = {
                name: rows[-1][name]
                for name in ("provider", "ciphertext_blob", "encryption_context", "key_id")
            }
        rows.append(
            dict.fromkeys(COLUMNS)
            | {"record_id": f"rec-{index:07}", "created_at": "2026-01-02T03:04:05Z"}
            | {"owner": ("docs", "欧阳建国", 'say "x", y')[index % 3], "note": f"n{index}"}
            | values
        )
    return rows


# What each of twenty records in a row is: when it was made, and under which key.
_KINDS = (
    ("old", "orders"), ("old", "billing"), ("new", "orders"), ("old", "orders+"),
    ("new", "billing"), ("old", "orders"), ("x", "twin"), ("new", "sessions"),
    ("x", "disabled"), ("old", "billing"), ("new", "orders+"), ("x", "pair"),
    ("old", "orders+"), ("x", "cloud"), ("new", "sessions"), ("x", "cut"),
    ("old", "billing"), ("x", "no context"), ("new", "archive"), ("old", "orders"),
)  # fmt: skip


def _symmetric(lab: Lab, keys: Keys, kinds: Sequence[tuple[str, str]], when: str) -> list[Row]:
    """The symmetric records that are made before or after the rotation, in their order."""
    wanted = [(i, kind) for i, (at, kind) in enumerate(kinds) if at == when]
    rows: dict[int, Row] = {}
    for name in {kind for _, kind in wanted}:
        key_id = getattr(keys, name.rstrip("+"))
        kms = lab.tencent() if name.rstrip("+") in ("orders", "sessions") else lab.ctyun()
        context = '{"app":"订单"}' if name.endswith("+") else None
        numbers = [i for i, kind in wanted if kind == name]
        sealed = kms.encrypt_many(
            [b"secret %07d" % i for i in numbers], key_id=key_id, contexts=context
        )
        for i, blob in zip(numbers, sealed.ciphertext_blob, strict=True):
            rows[i] = {
                "provider": kms.provider,
                "ciphertext_blob": blob,
                "encryption_context": context,
                "key_id": key_id,
            }
    return [rows[i] for i, _ in wanted]


def _others(lab: Lab, keys: Keys) -> dict[str, Row]:
    tencent, ctyun = lab.tencent(), lab.ctyun()
    pair = ctyun.describe_key(keys.pair).versions[0].version_id
    sealed = ctyun.asymmetric_encrypt(keys.pair, pair, OaepAlgorithm.SHA_256, b"from outside")
    with_context = tencent.encrypt(keys.orders, b"kept", context={"app": "orders"})
    return {
        "twin": {},
        "disabled": {
            "provider": "tencent",
            "ciphertext_blob": tencent.encrypt(keys.disabled, b"x"),
        },
        "pair": {
            "provider": "ctyun",
            "ciphertext_blob": sealed,
            "source_key_id": keys.pair,
            "source_key_version_id": pair,
            "source_encryption_algorithm": OaepAlgorithm.SHA_256.value,
        },
        "cloud": {"provider": "tencent", "ciphertext_blob": CLOUD_BLOB},
        "cut": {"provider": "tencent", "ciphertext_blob": with_context[:-9]},
        "no context": {"provider": "tencent", "ciphertext_blob": with_context},
    }


# Sources


def write_csv(path: Path, rows: Sequence[Row]) -> SourceSpec:
    path = path.with_suffix(".csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return SourceSpec(str(path))


def write_jsonl(path: Path, rows: Sequence[Row]) -> SourceSpec:
    path = path.with_suffix(".jsonl")
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return SourceSpec(str(path))


def write_parquet(path: Path, rows: Sequence[Row]) -> SourceSpec:
    path = path.with_suffix(".parquet")
    table = pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in COLUMNS})
    pq.write_table(table, path, row_group_size=max(1, min(20_000, len(rows) // 3 or 1)))
    return SourceSpec(str(path))


def write_table(path: Path, rows: Sequence[Row]) -> SourceSpec:
    path = path.with_suffix(".db")
    with closing(sqlite3.connect(path)) as database:
        columns = ", ".join(f"{name} TEXT" for name in COLUMNS[1:])
        database.execute(f"CREATE TABLE secrets (record_id TEXT PRIMARY KEY, {columns})")
        marks = ", ".join("?" * len(COLUMNS))
        database.executemany(
            f"INSERT INTO secrets VALUES ({marks})", ([row[n] for n in COLUMNS] for row in rows)
        )
        database.commit()
    return SourceSpec(f"sqlite:///{path}", table="secrets")


WRITERS: dict[str, Callable[[Path, Sequence[Row]], SourceSpec]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "sqlite": write_table,
}


def read_rows(spec: SourceSpec) -> list[Row]:
    """The rows of a source, read by something that is not kmslab."""
    path = Path(spec.location.removeprefix("sqlite:///"))
    match path.suffix:
        case ".csv":
            with path.open(encoding="utf-8", newline="") as file:
                return [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
        case ".jsonl":
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        case ".parquet":
            return list(pq.read_table(path).to_pylist())
        case _:
            with closing(sqlite3.connect(path)) as database:
                database.row_factory = sqlite3.Row
                cursor = database.execute("SELECT * FROM secrets ORDER BY record_id")
                return [dict(row) for row in cursor]
