"""What a KMS is to the rest of kmslab, and what the two providers share.

`Kms` is the protocol that analysis, campaigns, frames and the terminal see: the local labs answer
it, and so do the remote clouds. Where a cloud does not tell, the answer is `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol, TypeVar, cast

from kmslab.context import Context
from kmslab.errors import KmsError
from kmslab.model import Key, KeyVersion, Record, UnverifiedHeader
from kmslab.secret import Plaintext

T = TypeVar("T")


class Unknown(Enum):
    """The type of `UNKNOWN`: a thing that the cloud does not tell."""

    UNKNOWN = "unknown"

    def __bool__(self) -> bool:
        return False


UNKNOWN: Final = Unknown.UNKNOWN


class Keep(Enum):
    """The type of `KEEP`: a destination context that is the source's own."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Home:
    """Where keys are, and what the user calls the account that they are in."""

    region: str
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a Kms can do. `missing` gives, for each thing it cannot, the reason in one sentence.

    `homes` are those that records may name; None where it does not look at what they name. `rate`
    is in calls a second: what it keeps by itself, as remotes do; None for no limit.
    """

    versions: bool
    contexts: bool
    public_key_source: bool
    authenticate: bool
    missing: Mapping[str, str] = field(default_factory=dict)
    homes: tuple[Home, ...] | None = None
    rate: float | None = None


def home_for(homes: Sequence[Home], region: str | None, account: str | None) -> int | str:
    """Which of the homes a record is in that names a region and an account, or neither.

    A sentence, with the reason, where it is in none of them, or may be in several.

    >>> home_for([Home("ap-guangzhou"), Home("ap-beijing")], "ap-beijing", None)
    1
    >>> home_for([Home("ap-guangzhou"), Home("ap-beijing")], None, None)
    'several remotes fit: the record has to name its region or account'
    """
    fitting = [
        number
        for number, home in enumerate(homes)
        if region in (None, home.region) and account in (None, home.account)
    ]
    if len(fitting) == 1:
        return fitting[0]
    return _SEVERAL if fitting else "no remote of the region and account that the record names"


def placed(providers: Providers) -> bool:
    """Whether a record's region and account mean anything to one of these."""
    return any(providers.kms(name).capabilities.homes is not None for name in providers.providers())


def own_rates(providers: Providers) -> dict[str, float]:
    """The rates, in calls a second, that Kms keep by themselves, by provider: those of remotes."""
    rates = {name: providers.kms(name).capabilities.rate for name in providers.providers()}
    return {name: rate for name, rate in rates.items() if rate is not None}


_SEVERAL: Final = "several remotes fit: the record has to name its region or account"


@dataclass(frozen=True, slots=True)
class ReEncrypted:
    """The columns that `re_encrypt_many` gives, row for row with what it was given.

    Where `error` of a row is not None every other column of the row is None. `verified` is None
    unless verification was asked for.
    """

    ciphertext_blob: list[str | None]
    re_encrypted: list[bool | None]
    key_id: list[str | None]
    key_version_id: list[str | None]
    source_key_id: list[str | None]
    source_key_version_id: list[str | None]
    verified: list[bool | None]
    error: list[KmsError | None]

    def __len__(self) -> int:
        return len(self.ciphertext_blob)


@dataclass(frozen=True, slots=True)
class Opened:
    """The columns that `decrypt_records` gives; a row has a plaintext or an error."""

    plaintext: list[Plaintext | None]
    key_id: list[str | None]
    key_version_id: list[str | None]
    error: list[KmsError | None]


@dataclass(frozen=True, slots=True)
class Sealed:
    """The columns that `encrypt_many` gives; a row has a blob or an error."""

    ciphertext_blob: list[str | None]
    key_id: list[str | None]
    key_version_id: list[str | None]
    error: list[KmsError | None]


class Kms(Protocol):
    """A key management service of one provider in one region, local or remote."""

    @property
    def provider(self) -> str:
        """`tencent` or `ctyun`."""
        ...

    @property
    def region(self) -> str:
        """The region that the keys are in."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this Kms can do."""
        ...

    def describe_key(self, key_id: str) -> Key:
        """The key; KeyNotFound where there is none of this id."""
        ...

    def list_keys(self) -> tuple[Key, ...]:
        """Every key of the region that is not deleted, oldest first."""
        ...

    def versions(self, key_id: str) -> tuple[KeyVersion, ...] | Unknown:
        """The versions of a key, oldest first."""
        ...

    def version_of(self, header: UnverifiedHeader) -> KeyVersion | Unknown:
        """The version that a header names; KeyNotFound where it names none of this Kms.

        A lab answers KeyNotFound for a cloud's own blob, whatever its header names.
        """
        ...

    def key_marks(self) -> Hashable | Unknown:
        """What is another when a key has changed; UNKNOWN where only calls would tell."""
        ...

    def re_encrypt_records(
        self,
        records: Sequence[Record],
        *,
        destination_key_id: str | None = None,
        destination_context: Context | Keep = KEEP,
        verify: bool = False,
    ) -> ReEncrypted:
        """Re-encrypt records: to `destination_key_id`, or each to its own key."""
        ...

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """Decrypt records, each with its own context or source key."""
        ...

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """Encrypt each plaintext under one key; a row of None stays None."""
        ...

    def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The provider's own request in, its own response envelope out; raises no KmsError but
        Unreachable, of a remote that has no answer."""
        ...


class Providers(Protocol):
    """Provider names and the Kms of each. A `Lab` is one."""

    def providers(self) -> tuple[str, ...]:
        """The names, in a fixed order."""
        ...

    def kms(self, provider: str) -> Kms:
        """The Kms of a provider; KeyError for a name that is not in `providers()`."""
        ...


def column(values: Sequence[T] | T, rows: int, name: str) -> Sequence[T]:
    """One value per row: a list or tuple of `rows` values as it is, anything else repeated.

    ValueError, naming the column, where the lengths differ.

    >>> list(column("a", 2, "contexts")), column(["a", "b"], 2, "contexts")
    (['a', 'a'], ['a', 'b'])
    """
    if isinstance(values, (list, tuple)):
        if len(values) != rows:
            raise ValueError(f"{name} has {len(values)} values for {rows} rows")
        return values
    return [cast(T, values)] * rows
