"""Counts and times in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kmslab.analysis.forecast import action_name
from kmslab.errors import CampaignInterrupted, KmsError, Unauthenticated

if TYPE_CHECKING:
    from kmslab.analysis.census import CensusRow

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something; `many` is what stands where it is not 1, else `one` with an s.

    >>> counted(1, "record"), counted(0, "record"), counted(1200, "record")
    ('1 record', '0 records', '1,200 records')
    >>> counted(1, "record was", "records were"), counted(2, "record was", "records were")
    ('1 record was', '2 records were')
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def stopped(campaign_id: str, where: str, error: KmsError | None) -> CampaignInterrupted:
    """What is raised where a campaign was stopped, by somebody or by what a provider answered.

    >>> from kmslab.errors import Throttled
    >>> print(stopped("20260102-030405-6e1f", "after 2 records", Throttled("later")))
    campaign 20260102-030405-6e1f stopped after 2 records, since a provider does not answer: later
    """
    said = f"campaign {campaign_id} stopped {where}"
    if error is not None:
        refused = isinstance(error, Unauthenticated)
        why = "refuses the credential" if refused else "does not answer"
        said = f"{said}, since a provider {why}: {error}"
    return CampaignInterrupted(said, campaign_id=campaign_id, error=error)


def version_text(number: int | None, version_id: str | None, *, inferred: bool) -> str | None:
    """A key version as it is shown: its number, where that is known; how its id begins, where
    nothing but a blob's head says it; None where it is not known.

    >>> version_text(2, "217b4872-1e38", inferred=False), version_text(None, None, inferred=False)
    ('2', None)
    >>> version_text(None, "217b4872-1e38", inferred=True)
    '217b4872 (inferred)'
    """
    known = str(version_id or "")[:8] if number is None and inferred else number
    if known in (None, ""):
        return None
    return f"{known} (inferred)" if inferred else str(known)


def version_of(row: CensusRow) -> str | None:
    """The version of a row of a census as it is shown."""
    return version_text(row.version_number, row.key_version_id, inferred=row.inferred)


def not_looked_at(provider: str) -> str:
    """What is not known where the credential may not look at keys.

    >>> not_looked_at("ctyun").partition(",")[0]
    'ctyun: the credential has no right to describeKey'
    """
    right = action_name(provider, "DescribeKey")
    return (
        f"{provider}: the credential has no right to {right}, so what a look at its keys tells is "
        "a dash"
    )


def duration(seconds: float) -> str:
    """A time as it is said.

    >>> duration(0), duration(0.4), duration(95), duration(7260), duration(200_000)
    ('0 s', 'under 1 s', '1 min 35 s', '2 h 1 min', '2 d 7 h')
    """
    if 0 < seconds < 1:
        return "under 1 s"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 ")) or "0 s"
