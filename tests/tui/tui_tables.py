"""Small tables of records with verdicts, and what Hypothesis makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from kmslab.analysis import Outcome, Verdict
from kmslab.model import Key, KeyOrigin, KeySpec, KeyState, KeyVersion, Record
from kmslab.tui.table import Table, pack

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ORDERS = "5cd15c00-9a8f-11ef-a291-f7d511820cf1"
BILLS = "098a921c-9a8f-11ef-a291-f7d511820cf2"
VERSIONS = ("a1b2c3d4-0000-11ef-8000-000000000001", "12345678-0000-11ef-8000-000000000002")

Rows = list[tuple[Record, Verdict]]


def key(key_id: str, alias: str, description: str = "") -> Key:
    versions = tuple(KeyVersion(v, n, NOW) for n, v in enumerate(VERSIONS, start=1))
    return Key(
        key_id,
        "tencent",
        "ap-guangzhou",
        KeySpec.AES_256,
        KeyOrigin.KMS,
        KeyState.ENABLED,
        alias,
        description,
        NOW,
        versions,
        VERSIONS[1],
    )


KEYS = {each.key_id: each for each in (key(ORDERS, "orders", "订单 data"), key(BILLS, "Bills"))}


def table_of(rows: Sequence[tuple[Record, Verdict]], size: int = 4) -> Table:
    """A table in blocks of a few rows."""
    table = Table(keys=KEYS)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        records, verdicts = zip(*some, strict=True)
        table.append(pack(records, verdicts, table.shared))
    return table


def row(record_id: str, outcome: Outcome = Outcome.STALE, **fields: object) -> Rows:
    """One record; what is no field of a record is one of its verdict."""
    of_verdict = {n: v for n, v in fields.items() if n in Verdict.__slots__ and n != "key_id"}
    if "key" in fields:
        of_verdict["key_id"] = fields["key"]
    of_record = {n: v for n, v in fields.items() if n in Record.__slots__}
    record = replace(Record(record_id, "tencent", "blob"), **of_record)
    return [(record, replace(Verdict(outcome), **of_verdict))]


# Texts that share letters, so that filters meet; separators and what folds to more letters too.
texts = st.text(st.sampled_from('aAbB1-"! :\0\x1f\nß订İ'), max_size=5)
times = st.integers(-400, 400).map(lambda days: NOW - timedelta(days=days))
any_times = st.datetimes(timezones=st.just(UTC))
verdicts = st.builds(
    Verdict,
    st.sampled_from(Outcome),
    st.sampled_from(["", "key disabled", "aB"]),
    st.sampled_from([None, ORDERS, BILLS, "23e80852-1e38-11e9-b129-5cb9019b4b01"]),
    st.sampled_from([None, *VERSIONS]),
    st.sampled_from([None, 1, 2, 10]),
)


def records(of_times: st.SearchStrategy[datetime] = times) -> st.SearchStrategy[Record]:
    none_or_text = st.none() | texts.filter(bool)
    named = st.sampled_from([None, ORDERS, "a", '"!: \0\x1f\nß订İ'])
    return st.builds(
        Record,
        texts,
        st.sampled_from(["tencent", "ctyun", "", "other"]),
        texts,
        st.integers(1, 10**9),
        none_or_text,
        named,
        st.none() | of_times,
        none_or_text,
        named,
        named,
        named,
    )


rows = st.lists(st.tuples(records(), verdicts), max_size=12)
