"""Several Kms of one provider as one: each record goes to that of its region and account."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol, TypeVar

from kmslab.context import Context
from kmslab.errors import (
    InvalidKeyId,
    InvalidRequest,
    KeyNotFound,
    KmsError,
    ProfileError,
    Unauthorized,
    UnknownAction,
)
from kmslab.model import Key, KeyVersion, Record, UnverifiedHeader
from kmslab.providers.base import (
    KEEP,
    UNKNOWN,
    Capabilities,
    Home,
    Keep,
    Kms,
    Opened,
    ReEncrypted,
    Sealed,
    Unknown,
    home_for,
)

T = TypeVar("T", ReEncrypted, Opened)
K = TypeVar("K", bound=Kms)


class PlacedKms(Kms, Protocol):
    """A Kms that says whose keys it has."""

    @property
    def account(self) -> str | None:
        """What the user calls the account."""
        ...


def find_key(places: Sequence[K], key_id: str) -> tuple[Key, K]:
    """The key, and the first place that has it. KeyNotFound where none of them has it;
    Unauthorized or UnknownAction where one that does not let itself be asked may have it."""
    missing: KmsError = KeyNotFound(f"there is no key {key_id}")
    hidden: KmsError | None = None
    for each in places:
        try:
            return each.describe_key(key_id), each
        except (KeyNotFound, InvalidKeyId) as error:
            missing = error
        except (Unauthorized, UnknownAction) as error:
            hidden = hidden or error
    raise hidden or missing


class RoutedKms:
    """Some Kms of one provider, as one: see `home_for` for which of them a record goes to.

    A key is looked for in each of them, in their order. ProfileError for two of the same region
    and account: no record could choose one.
    """

    def __init__(self, members: Sequence[PlacedKms]) -> None:
        self._members = tuple(members)
        self._homes = tuple(Home(each.region, each.account) for each in self._members)
        if len(set(self._homes)) < len(members):
            raise ProfileError("the remotes of one provider differ in region or account")
        self._owners: dict[str, PlacedKms] = {}

    @property
    def provider(self) -> str:
        """The provider that all are of."""
        return self._members[0].provider

    @property
    def region(self) -> str:
        """The regions that the keys are in."""
        return ", ".join(dict.fromkeys(each.region for each in self._members))

    @property
    def capabilities(self) -> Capabilities:
        """What they can do, and where they are."""
        rates = [each.capabilities.rate for each in self._members]
        return replace(
            self._members[0].capabilities,
            homes=self._homes,
            rate=None if None in rates else sum(filter(None, rates)),
        )

    def describe_key(self, key_id: str) -> Key:
        """The key: see `find_key`."""
        key, owner = find_key(self._members, key_id)
        self._owners[key_id] = owner
        return key

    def list_keys(self) -> tuple[Key, ...]:
        """The keys of all, those of each oldest first."""
        return tuple(key for each in self._members for key in each.list_keys())

    def versions(self, key_id: str) -> tuple[KeyVersion, ...] | Unknown:
        """The versions of a key, oldest first."""
        return self._home(key_id).versions(key_id)

    def version_of(self, header: UnverifiedHeader) -> KeyVersion | Unknown:
        """The version that a header names; UNKNOWN where it names no key."""
        if header.key_id is None:
            return UNKNOWN
        return self._home(header.key_id).version_of(header)

    def key_marks(self) -> Hashable | Unknown:
        """What is another when a key has changed; UNKNOWN where one of them does not tell."""
        marks = tuple(each.key_marks() for each in self._members)
        return UNKNOWN if UNKNOWN in marks else marks

    def re_encrypt_records(
        self,
        records: Sequence[Record],
        *,
        destination_key_id: str | None = None,
        destination_context: Context | Keep = KEEP,
        verify: bool = False,
    ) -> ReEncrypted:
        """Re-encrypt records, each where it belongs."""

        def ask(kms: Kms, some: Sequence[Record]) -> ReEncrypted:
            return kms.re_encrypt_records(
                some,
                destination_key_id=destination_key_id,
                destination_context=destination_context,
                verify=verify,
            )

        return self._each(ReEncrypted, records, ask)

    def decrypt_records(self, records: Sequence[Record]) -> Opened:
        """Decrypt records, each where it belongs."""
        return self._each(Opened, records, lambda kms, some: kms.decrypt_records(some))

    def encrypt_many(
        self,
        plaintexts: Sequence[bytes | None],
        *,
        key_id: str,
        contexts: Sequence[Context] | Context = None,
    ) -> Sealed:
        """Encrypt each plaintext under one key, where that is."""
        return self._home(key_id).encrypt_many(plaintexts, key_id=key_id, contexts=contexts)

    def call(self, action: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """See `Kms.call`. ValueError where there are several to call."""
        if len(self._members) > 1:
            raise ValueError(f"there are several remotes of {self.provider}: call one of them")
        return self._members[0].call(action, request)

    def _home(self, key_id: str) -> PlacedKms:
        """The Kms that has a key: the first where none is known to have it."""
        if len(self._members) > 1 and key_id not in self._owners:
            self.describe_key(key_id)
        return self._owners.get(key_id, self._members[0])

    def _each(
        self,
        kind: type[T],
        records: Sequence[Record],
        ask: Callable[[Kms, Sequence[Record]], T],
    ) -> T:
        rows_of: dict[int | str, list[int]] = {}
        for row, record in enumerate(records):
            home = home_for(self._homes, record.region, record.account)
            rows_of.setdefault(home, []).append(row)
        if len(rows_of) == 1 and isinstance(only := next(iter(rows_of)), int):
            return ask(self._members[only], records)
        columns: dict[str, list[Any]] = {each.name: [None] * len(records) for each in fields(kind)}
        for home, rows in rows_of.items():
            if isinstance(home, str):
                for row in rows:
                    columns["error"][row] = InvalidRequest(home, parameter="region")
                continue
            done = ask(self._members[home], [records[row] for row in rows])
            for name, column in columns.items():
                for row, value in zip(rows, getattr(done, name), strict=True):
                    column[row] = value
        return kind(**columns)
