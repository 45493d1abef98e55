"""The verdicts of a run: as the keys are at each chunk, and not as they were when it began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kmslab.analysis.classify import Classifier, Target, Verdict
from kmslab.campaign.sending import Sender
from kmslab.clock import Clock
from kmslab.model import Record
from kmslab.providers.base import Providers, Unknown

LOOK_AGAIN_AFTER: Final = 60.0
"""Where a cloud tells of changes only when it is asked: seconds until it is (lab's choice)."""


class Judging:
    """Judges chunk after chunk; where a key has changed meanwhile, it looks and asks anew.

    A sender remembers answers: it is told to forget them then.
    """

    def __init__(self, providers: Providers, target: Target, sender: Sender, clock: Clock) -> None:
        self._providers = providers
        self._target = target
        self._sender = sender
        self._clock = clock
        self._marks = self._look()
        self._looked_at = clock.time()
        self._classifier = Classifier(providers, target)

    @property
    def looked_at(self) -> float:
        """When the keys were last looked at, in seconds since 1970. No answer that the sender has
        is older."""
        return self._looked_at

    def verdicts(self, records: Sequence[Record]) -> list[Verdict]:
        """The verdicts on records, as the keys are now."""
        return self._classifier.classify_many(records)

    def look_again(self) -> None:
        """Before a chunk: see whether a key has changed since the one before."""
        marks = self._look()
        late = self._clock.time() - self._looked_at > LOOK_AGAIN_AFTER
        if marks == self._marks and not (late and Unknown.UNKNOWN in marks):
            return
        self._marks, self._looked_at = marks, self._clock.time()
        self._classifier = Classifier(self._providers, self._target)
        self._sender.forget()

    def _look(self) -> list[object]:
        return [self._providers.kms(name).key_marks() for name in self._providers.providers()]
