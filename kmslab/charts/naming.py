"""What keys are called on an axis."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import pandas as pd

KEY: Final = ("provider", "key_id")

_Key = tuple[str | None, str | None]


def key_columns(*frames: pd.DataFrame) -> list[str]:
    """The columns that tell one key from another, as far as all these frames have them."""
    return [name for name in KEY if all(name in frame.columns for frame in frames)]


def key_names(rows: pd.DataFrame) -> list[str]:
    """A name for the key of each row: its alias, or the start of its id; more of it where two keys
    would have one name.

    >>> rows = {"provider": ["tencent", "ctyun"], "key_id": ["23e80852-1e38", "241ede22-6261"]}
    >>> key_names(pd.DataFrame(rows))
    ['23e80852', '241ede22']
    >>> key_names(pd.DataFrame(rows | {"alias": ["orders", "orders"]}))
    ['orders (tencent)', 'orders (ctyun)']
    """
    columns = [_texts(rows, name) for name in (*KEY, "alias")]
    spellings = [_spellings(*cells) for cells in zip(*columns, strict=True)]
    keys = list(zip(*columns[:2], strict=True))
    names = [each[0] for each in spellings]
    for longer in (1, 2):
        meant: defaultdict[str, set[_Key]] = defaultdict(set)
        for name, key in zip(names, keys, strict=True):
            meant[name].add(key)
        names = [
            each[longer] if len(meant[name]) > 1 else name
            for name, each in zip(names, spellings, strict=True)
        ]
    return names


def _texts(rows: pd.DataFrame, name: str) -> list[Any]:
    if name not in rows.columns:
        return [None] * len(rows)
    return [cell if isinstance(cell, str) and cell else None for cell in rows[name].tolist()]


def _spellings(provider: str | None, key_id: str | None, alias: str | None) -> tuple[str, str, str]:
    """The names that a key may have, each longer than the one before."""
    if key_id is None:
        nobody = "provider not known" if provider is None else f"{provider}, key not known"
        return nobody, nobody, nobody
    if alias is None:
        return key_id[:8], key_id, f"{key_id} ({provider})"
    return alias, f"{alias} ({provider})", f"{alias} {key_id}"
