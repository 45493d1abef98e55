"""What the records of a source open to."""

from __future__ import annotations

from campaign_data import Row

from kmslab import Lab
from kmslab.model import Record


def plaintexts(lab: Lab, rows: list[Row]) -> dict[str, bytes | None]:
    """What each record opens to, None where it does not."""
    records = [
        Record(
            row["record_id"] or "",
            row["provider"] or "",
            row["ciphertext_blob"] or "",
            context=row["encryption_context"],
            source_key_id=row["source_key_id"],
            source_key_version_id=row["source_key_version_id"],
            source_encryption_algorithm=row["source_encryption_algorithm"],
        )
        for row in rows
    ]
    found: dict[str, bytes | None] = {}
    for provider in lab.providers():
        own = [record for record in records if record.provider == provider]
        opened = lab.kms(provider).decrypt_records(own)
        for record, plaintext in zip(own, opened.plaintext, strict=True):
            found[record.record_id] = None if plaintext is None else bytes(plaintext)
    return found
