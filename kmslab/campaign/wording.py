"""Counts in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something; `many` is what stands where it is not 1, else `one` with an s.

    >>> counted(1, "record"), counted(0, "record"), counted(1200, "record")
    ('1 record', '0 records', '1,200 records')
    >>> counted(1, "record was", "records were"), counted(2, "record was", "records were")
    ('1 record was', '2 records were')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
