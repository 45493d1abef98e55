"""When automatic rotation is due, and the versions it makes.

A due rotation happens on the next use of the key, one version for each period that was missed,
each with the date it was due and the date it was made. A key that is not enabled does not rotate;
when it is enabled again the dates that passed meanwhile are skipped (lab's choice).
"""

from __future__ import annotations

from kmslab.keystore.units import KeyRow

DAY = 86_400_000_000


def due_dates(row: KeyRow, now: int) -> list[int]:
    """The dates up to `now` at which the key should have rotated, oldest first.

    Times are microseconds since 1970.
    """
    if row.next_rotation_at is None or row.rotation_days is None or row.next_rotation_at > now:
        return []
    return list(range(row.next_rotation_at, now + 1, row.rotation_days * DAY))


def next_after(row: KeyRow, now: int) -> int | None:
    """The first date after `now` on the key's own calendar; None while rotation is off."""
    if row.next_rotation_at is None or row.rotation_days is None:
        return None
    if row.next_rotation_at > now:
        return row.next_rotation_at
    period = row.rotation_days * DAY
    missed = (now - row.next_rotation_at) // period + 1
    return row.next_rotation_at + missed * period
