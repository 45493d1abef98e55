"""How long new blobs get, told from old ones without opening them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kmslab.model import CTYUN, TENCENT, BlobFormat
from kmslab.providers.ctyun import blob as ctyun
from kmslab.providers.ctyun.rules import PLAINTEXT_LIMIT as CTYUN_LIMIT
from kmslab.providers.tencent import blob as tencent
from kmslab.providers.tencent.rules import MOST_PLAINTEXT_BYTES

# A CTyun cloud's own blob is never longer than a lab's of the same plaintext.
_LONGEST: Final[Mapping[str, Callable[[int], int]]] = {
    TENCENT: tencent.blob_length,
    CTYUN: ctyun.blob_length,
}
_MOST_BYTES: Final[Mapping[str, int]] = {TENCENT: MOST_PLAINTEXT_BYTES, CTYUN: CTYUN_LIMIT - 1}

_MAX_SIZES: Final = 65_536


def longest_blob(provider: str, plaintext_bytes: int) -> int:
    """The most characters that a provider's blob of so many bytes has.

    >>> longest_blob("tencent", 11), longest_blob("ctyun", 11)
    (166, 196)
    """
    return _LONGEST[provider](plaintext_bytes)


class Crossing:
    """What stands in the way of the length of a blob that crosses to another provider.

    The old blob's length bounds its plaintext, and that the new blob's length. The bound is exact
    for a CTyun lab's blob; others hide up to 15 bytes of padding, and the longest plaintext that
    they can hold counts against `max_length`, the shortest against what the provider takes.

    >>> names = "23e80852-1e38-11e9-b129-5cb9019b4b01", "5cb9019b-1e38-11e9-b129-23e808524b01"
    >>> from kmslab.model import KeySpec
    >>> blob = ctyun.VersionCipher(*names, KeySpec.SM4, bytes(16)).seal(b"secret", bytes(12))
    >>> Crossing("tencent", max_length=165).fault("ctyun", BlobFormat.LAB, blob)
    'too long'
    """

    __slots__ = ("_faults", "_max_length", "_provider")

    def __init__(self, provider: str, *, max_length: int | None) -> None:
        self._provider = provider
        self._max_length = max_length
        self._faults: dict[tuple[str, BlobFormat, int, int], str] = {}

    def fault(self, provider: str, form: BlobFormat, text: str) -> str:
        """Why the plaintext of a blob at `provider` may not fit; "" where it does.

        FormatError where the text is no blob.
        """
        # Length and padding signs tell the number of bytes, and that the plaintext's.
        size = provider, form, len(text), text.find("=", -2)
        fault = self._faults.get(size)
        if fault is None:
            if len(self._faults) >= _MAX_SIZES:
                self._faults.clear()
            parse = tencent.parse if provider == TENCENT else ctyun.parse
            fault = self._faults[size] = self._fault(*parse(text).plaintext_bytes())
        return fault

    def _fault(self, fewest: int, most: int) -> str:
        if fewest > _MOST_BYTES[self._provider]:
            return "too long for the destination"
        if self._max_length is None:
            return ""
        # A plaintext longer than the provider takes makes no blob at all.
        most = min(most, _MOST_BYTES[self._provider])
        return "too long" if longest_blob(self._provider, most) > self._max_length else ""
