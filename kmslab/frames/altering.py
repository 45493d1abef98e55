"""Blobs that must not open, for tests of one's own code."""

from __future__ import annotations

from typing import Any, Final

import pandas as pd

from kmslab.encoding import b64, unb64
from kmslab.frames.reading import parts
from kmslab.providers.tencent.blob import SEPARATOR

_DTYPES: Final = {"segment": "string", "offset": "int64", "ciphertext_blob": "string"}


def altered(blob: str) -> pd.DataFrame:
    """A blob with one bit changed in each of its fields in turn: a row for each, none of which
    opens.

    For tests of code that must refuse them. `offset` is that of the byte whose bit is another one,
    the middle one of the field, in the decoded `segment`. A text that is no blob has no fields.

    >>> from kmslab import Lab
    >>> with Lab.in_memory() as lab:
    ...     kms = lab.tencent()
    ...     found = altered(kms.encrypt(kms.create_key("orders").key_id, b"secret"))
    ...     "re_encrypted" in found.kms.re_encrypt(lab)["result"].tolist()
    False
    """
    fields = parts(blob)
    segments = _segments(blob, fields)
    fields = fields[fields["segment"].isin(segments)]  # the others are parts of a field
    rows: list[Any] = []
    field: Any
    for field in fields.itertuples():
        at = field.offset + field.length // 2
        data = bytearray(segments[field.segment])
        data[at] ^= 1
        texts = [b64(part) for part in {**segments, field.segment: bytes(data)}.values()]
        rows.append((field.segment, at, SEPARATOR.join(texts)))
    return pd.DataFrame(rows, columns=list(_DTYPES), index=fields.index).astype(_DTYPES)


def _segments(blob: str, fields: pd.DataFrame) -> dict[str, bytes]:
    """What a blob's texts decode to, by the names that its fields have for them."""
    if fields.empty:
        return {}
    if "blob" in set(fields["segment"]):
        return {"blob": unb64(blob)}
    return {f"s{number}": unb64(text) for number, text in enumerate(blob.split(SEPARATOR), 1)}
