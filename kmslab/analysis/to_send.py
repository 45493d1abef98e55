"""Which stale records of an inventory a campaign would send."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from kmslab.analysis.frame_columns import column_numbered, flags, strings
from kmslab.context import context_text
from kmslab.errors import ContextError
from kmslab.model import CTYUN

_SOURCES: Final = (
    ("source_key_id", "key_id"),
    ("source_key_version_id", "key_version_id"),
    ("source_encryption_algorithm", None),
)
"""What a record may say of its blob's source, and what that is by the blob's own head."""

_MALFORMED, _NONE, _SOME = range(3)


def to_send(inventory: pd.DataFrame) -> pd.DataFrame:
    """The stale records that a campaign would send: those that a plan has as `stale`.

    >>> columns = {"provider": "tencent", "stale": [True, True], "sendable": [True, False]}
    >>> len(to_send(pd.DataFrame(columns)))
    1
    """
    sent = flags(inventory, "stale") & flags(inventory, "sendable")
    found = inventory[sent.fillna(value=False)]
    contexts = _contexts(found)
    left = (contexts == _MALFORMED) | _contradicted(found)
    if "has_context" in found.columns:
        made_under_one = flags(found, "has_context").fillna(value=False).to_numpy(bool)
        left |= made_under_one & (contexts == _NONE)
    sent_ones: pd.DataFrame = found[~left]
    return sent_ones


def _contexts(found: pd.DataFrame) -> Any:
    """What each record has of a context, by number."""
    codes, texts = column_numbered(found, "encryption_context")
    return np.array([*map(_context, texts), _NONE])[codes]  # the last is that of an empty cell


def _context(text: str) -> int:
    try:
        return _SOME if context_text(text) else _NONE
    except ContextError:
        return _MALFORMED


def _contradicted(found: pd.DataFrame) -> Any:
    """Which records on CTyun's blobs say of their source what the API would refuse."""
    wrong = np.zeros(len(found), dtype=bool)
    for name, of in _SOURCES:
        if name in found.columns:
            said = strings(found, name)
            same = said.eq(found[of]) if of in found.columns else pd.Series(False, found.index)
            wrong |= (said.notna() & ~same.fillna(value=False)).to_numpy(bool)
    return wrong & (found["provider"] == CTYUN).to_numpy(bool)
