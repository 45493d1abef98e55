"""A census counts every record once, by provider, key and version."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from fake_kms import ctyun_blob, lab, make_key, tencent_blob, uuid, version_id

from kmslab.analysis import CensusRow, census
from kmslab.model import CTYUN, TENCENT, KeySpec, Record

KEYS = (
    make_key(1, versions=12),
    make_key(2),
    make_key(11, CTYUN, versions=2),
    make_key(13, CTYUN, spec=KeySpec.RSA_2048),
)
PUBLIC_KEY_BLOB = base64.b64encode(b"\x80" + bytes(255)).decode()


def test_no_records() -> None:
    assert census([], lab(*KEYS)) == []


def test_rows_are_sorted_and_sum_to_the_records() -> None:
    records = [
        Record("bad", TENCENT, "cut"),
        Record("strange", "aws", "blob"),
        Record("nameless", "", ""),
        Record("lost", TENCENT, tencent_blob(9, 1)),
        *(Record(f"t{n}", TENCENT, tencent_blob(1, 12, iv=n)) for n in range(4)),
        *(Record(f"u{n}", TENCENT, tencent_blob(1, 2, iv=n)) for n in range(3)),
        Record("v", TENCENT, tencent_blob(2)),
        Record("context", TENCENT, tencent_blob(1, 2), context="not JSON"),
        Record("c", CTYUN, ctyun_blob(11, 1)),
        Record(
            "pair",
            CTYUN,
            PUBLIC_KEY_BLOB,
            source_key_id=uuid(13),
            source_key_version_id=version_id(13, 1),
        ),
        Record("pair without ids", CTYUN, PUBLIC_KEY_BLOB),
    ]
    rows = census(records, lab(*KEYS))
    assert rows == [
        CensusRow(CTYUN, uuid(11), version_id(11, 1), 1, False, 1),
        CensusRow(CTYUN, uuid(13), version_id(13, 1), 1, None, 1),
        CensusRow(CTYUN, None, None, None, None, 1),
        CensusRow(TENCENT, uuid(1), version_id(1, 2), 2, False, 4),
        CensusRow(TENCENT, uuid(1), version_id(1, 12), 12, True, 4),
        CensusRow(TENCENT, uuid(2), version_id(2, 1), 1, True, 1),
        CensusRow(TENCENT, uuid(9), version_id(9, 1), None, None, 1),
        CensusRow(TENCENT, None, None, None, None, 1),
        CensusRow(None, None, None, None, None, 2),
    ]
    assert sum(row.records for row in rows) == len(records)


def test_it_holds_no_records() -> None:
    alive = 0

    class Counted(Record):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def records() -> Iterator[Record]:
        nonlocal alive
        for number in range(1000):
            alive += 1
            assert alive < 5
            yield Counted(f"r{number}", TENCENT, tencent_blob(1, 1, iv=number))

    assert [row.records for row in census(records(), lab(*KEYS))] == [1000]
