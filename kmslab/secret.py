"""Bytes that must not be shown: key material and plaintext.

Neither type prints its bytes, neither can be pickled or deep-copied, and both compare in constant
time. Python cannot promise that freed bytes are wiped; docs/security.md says so.
"""

from __future__ import annotations

import os
from typing import Final, NoReturn, Protocol, SupportsIndex

from cryptography.hazmat.primitives.constant_time import bytes_eq


class Entropy(Protocol):
    """A source of random bytes: `entropy(n)` gives `n` of them."""

    def __call__(self, size: int, /) -> bytes: ...


system_entropy: Final[Entropy] = os.urandom
"""Random bytes from the operating system, the only source a lab on disk ever uses."""


class Secret:
    """Key material in memory.

    >>> Secret(b"0123456789abcdef")
    Secret(16 bytes)
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)

    def expose(self) -> bytes:
        """The bytes themselves, for the one call that needs them."""
        return self._data

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"Secret({len(self._data)} bytes)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return bytes_eq(self._data, other._data)

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


class Plaintext(bytes):
    """What a decryption gives: bytes in every way, but shown only by their length.

    Equality takes the same time whatever the bytes are. Slices are ordinary bytes.

    >>> Plaintext(b"secret")
    Plaintext(6 bytes)
    >>> Plaintext(b"secret") == b"secret"
    True
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Plaintext({len(self)} bytes)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (bytes, bytearray, memoryview)):
            return NotImplemented
        return bytes_eq(bytes(self), bytes(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = bytes.__hash__

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Plaintext cannot be pickled or copied")
