"""How new blobs are verified before they take the place of old ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

_SAMPLE: Final = re.compile(r"sample:([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Verify:
    """One in how many new blobs is opened and compared with the old one; 0 for none.

    Every answer is looked at, whatever the mode: the blob must be one of its provider's, short
    enough, and name the key and version that the answer names. `ANSWER` does no more; `DECRYPT`
    opens every new blob, `sample:N` the first and every Nth one after it. Where a Kms cannot
    compare in the call itself, opening takes further calls and rights.

    >>> Verify.parse("sample:100").opened(250), Verify.parse("answer").opened(250)
    (3, 0)
    >>> str(Verify.parse("decrypt"))
    'decrypt'
    """

    every: int

    ANSWER: ClassVar[Verify]
    DECRYPT: ClassVar[Verify]

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"one in {self.every} blobs cannot be opened; 0 is none, 1 is all")

    @classmethod
    def parse(cls, text: str) -> Verify:
        """The mode that `answer`, `decrypt` or `sample:N` names; ValueError for another text."""
        if text == "answer":
            return cls.ANSWER
        if text == "decrypt":
            return cls.DECRYPT
        sample = _SAMPLE.fullmatch(text)
        if sample is None:
            raise ValueError(
                f"{text[:40]!r} verifies nothing: answer, decrypt, or sample:N with N from 1"
            )
        return cls(int(sample[1]))

    def opens(self, number: int) -> bool:
        """Whether the new blob with this number, counted from 0, is opened.

        >>> [Verify(3).opens(number) for number in range(5)]
        [True, False, False, True, False]
        """
        return self.every > 0 and number % self.every == 0

    def opened(self, blobs: int) -> int:
        """How many of so many new blobs are opened."""
        return -(-blobs // self.every) if self.every else 0

    def __str__(self) -> str:
        return {0: "answer", 1: "decrypt"}.get(self.every) or f"sample:{self.every}"


Verify.ANSWER = Verify(0)
Verify.DECRYPT = Verify(1)
