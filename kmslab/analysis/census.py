"""How many records are on which key version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kmslab.analysis.classify import Classifier, Verdict
from kmslab.columns import column_of
from kmslab.model import CTYUN, TENCENT, Record
from kmslab.providers.base import Providers


@dataclass(frozen=True, slots=True)
class CensusRow:
    """The records on one key version, as their blobs' heads say (unverified).

    What is not known is None: the provider where it is none of the two; key and version where the
    blob is malformed, or a Tencent cloud's own, and names none; number and primary where the Kms
    does not have the version, or does not tell. A pair has no primary. Public-key ciphertext is
    counted on the version that its record names. `inferred`: a head names the version, and the Kms
    does not bear it out.
    """

    provider: str | None
    key_id: str | None
    key_version_id: str | None
    version_number: int | None
    is_primary: bool | None
    records: int
    inferred: bool = False


_Version = tuple[str | None, str | None, str | None, int | None, bool | None, bool]


class Census:
    """A census being taken, of records that are classified anyway."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: Counter[_Version] = Counter()

    def add(self, record: Record, verdict: Verdict) -> None:
        """Count one record."""
        self.add_many(record.provider, verdict, 1)

    def add_many(self, provider: str, verdict: Verdict, records: int) -> None:
        """Count so many records of a provider that have the same verdict."""
        self._counts[
            provider if provider in (TENCENT, CTYUN) else None,
            verdict.key_id,
            verdict.key_version_id,
            verdict.version_number,
            verdict.is_primary,
            verdict.version_inferred,
        ] += records

    def add_rows(self, rows: Iterable[CensusRow]) -> None:
        """Count what another census has counted."""
        for row in rows:
            self._counts[
                row.provider,
                row.key_id,
                row.key_version_id,
                row.version_number,
                row.is_primary,
                row.inferred,
            ] += row.records

    def rows(self) -> list[CensusRow]:
        """The rows so far, by provider, key id, version number; in each, unknown ones last."""
        rows = (
            CensusRow(*version[:-1], records, inferred=version[-1])
            for version, records in self._counts.items()
        )
        return sorted(rows, key=_order)


def by_identity(verdicts: Sequence[Verdict]) -> dict[int, Verdict]:
    """The different ones among verdicts, each by its identity.

    A `Classifier` gives the same verdict to records that are judged alike, so verdicts are told
    apart by identity, which is much quicker than to look at what they say.
    """
    return dict(zip(map(id, verdicts), verdicts, strict=True))


def alike(
    records: Sequence[Record], verdicts: Sequence[Verdict]
) -> Iterator[tuple[str, Verdict, int]]:
    """Providers and verdicts of records, each pair once with how many records have it.

    >>> from types import SimpleNamespace
    >>> records = [Record("1", "ctyun", "a"), Record("2", "ctyun", "b")]
    >>> verdict = Classifier(SimpleNamespace(providers=lambda: ())).classify(records[0])
    >>> [(provider, count) for provider, _, count in alike(records, [verdict, verdict])]
    [('ctyun', 2)]
    """
    found = by_identity(verdicts)
    providers = column_of(records, "provider")
    if providers and providers.count(providers[0]) == len(providers):
        for identity, count in Counter(map(id, verdicts)).items():
            yield providers[0], found[identity], count
        return
    pairs = zip(providers, map(id, verdicts), strict=True)
    for (provider, identity), count in Counter(pairs).items():
        yield provider, found[identity], count


def _order(row: CensusRow) -> tuple[tuple[bool, str | int], ...]:
    order = row.provider, row.key_id, row.version_number, row.key_version_id
    return tuple((value is None, "" if value is None else value) for value in order)


def census(records: Iterable[Record], providers: Providers) -> list[CensusRow]:
    """Count records by provider, key and version. Every record is counted, in one row.

    One pass; memory is bounded by the number of versions named. What the Kms raises comes through,
    but for KeyNotFound and InvalidKeyId.

    >>> from types import SimpleNamespace
    >>> nowhere = SimpleNamespace(providers=lambda: ())
    >>> [row.records for row in census([Record("order-1", "tencent", "cut")] * 3, nowhere)]
    [3]
    """
    classifier = Classifier(providers)
    taken = Census()
    for record in records:
        taken.add(record, classifier.classify(record))
    return taken.rows()
