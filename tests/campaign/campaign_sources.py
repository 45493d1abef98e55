"""What the records of a source open to."""

from __future__ import annotations

from campaign_data import Row

from kmslab.model import Record
from kmslab.providers.base import Providers


def plaintexts(lab: Providers, rows: list[Row]) -> dict[str, bytes | None]:
    """What each record opens to, None where it does not. Equal ones are opened once."""
    found: dict[str, bytes | None] = {}
    for provider in lab.providers():
        own = {row["record_id"] or "": _opening(row) for row in rows if row["provider"] == provider}
        distinct = list(set(own.values()))
        opened = lab.kms(provider).decrypt_records(distinct).plaintext
        texts = [None if each is None else bytes(each) for each in opened]
        by_record = dict(zip(distinct, texts, strict=True))
        found |= {record_id: by_record[record] for record_id, record in own.items()}
    return found


def _opening(row: Row) -> Record:
    """What it takes to open a record."""
    return Record(
        "",
        row["provider"] or "",
        row["ciphertext_blob"] or "",
        context=row["encryption_context"],
        source_key_id=row["source_key_id"],
        source_key_version_id=row["source_key_version_id"],
        source_encryption_algorithm=row["source_encryption_algorithm"],
    )
