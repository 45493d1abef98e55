"""Verdicts for the grid: where a provider does not answer, its records say so, and others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

# What judges Tencent Cloud's blobs loads it, in a thread; from a slow disk that would hold up keys
# for 0.1 s. Here nothing is on the screen yet.
import numpy  # noqa: F401

from kmslab.analysis.classify import Classifier, Outcome, Verdict
from kmslab.errors import KmslabError
from kmslab.model import Record
from kmslab.providers.base import Kms, Providers

NO_ANSWER: Final = "no answer"
"""How the reason begins for a record whose provider did not answer."""


class Judge:
    """Judges records as they are, none of them moved; a provider that fails is not asked again."""

    __slots__ = ("_classifier", "_failures", "_heads")

    def __init__(self, providers: Providers) -> None:
        self._classifier = Classifier(providers)
        self._heads = Classifier(_Nobody())
        self._failures: dict[str, _Failure] = {}

    @property
    def failures(self) -> Mapping[str, KmslabError]:
        """What the providers said that do not answer, by provider."""
        return {provider: failure.error for provider, failure in self._failures.items()}

    def verdicts(self, records: Sequence[Record]) -> list[Verdict]:
        """The verdict on each record."""
        if not self._failures:
            try:
                return self._classifier.classify_many(records)
            except KmslabError:
                pass  # one by one it is seen which provider it was, and whether it still fails
        return list(map(self._verdict, records))

    def _verdict(self, record: Record) -> Verdict:
        if record.provider not in self._failures:
            try:
                return self._classifier.classify(record)
            except KmslabError as error:
                self._failures[record.provider] = _Failure(error)
        return self._failures[record.provider].verdict(self._heads.classify(record))


class _Failure:
    """What a provider said that does not answer, and the verdicts on its records."""

    __slots__ = ("_verdicts", "error")

    def __init__(self, error: KmslabError) -> None:
        self.error = error
        self._verdicts: dict[Verdict, Verdict] = {}

    def verdict(self, head: Verdict) -> Verdict:
        """The verdict where the blob's head alone gives this one."""
        if head.outcome is Outcome.INVALID:
            return head
        found = self._verdicts.get(head)
        if found is None:
            reason = f"{NO_ANSWER}: {self.error}"
            found = replace(head, outcome=Outcome.BLOCKED, reason=reason)
            self._verdicts[head] = found
        return found


class _Nobody:
    """No provider at all: what is left is what the heads of blobs name."""

    def providers(self) -> tuple[str, ...]:
        return ()

    def kms(self, provider: str) -> Kms:
        raise KeyError(provider)
