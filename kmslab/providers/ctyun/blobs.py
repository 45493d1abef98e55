"""From a blob to the key version that opens it, in the order in which the calls check.

Parse, find the version (an unknown one is an invalid ciphertext), rights on source and
destination, states. What is left to the caller is balance, rate and tag.
"""

from __future__ import annotations

from dataclasses import dataclass

from kmslab import crypto
from kmslab.encoding import is_uuid
from kmslab.errors import (
    BalanceExhausted,
    DecryptFailed,
    FormatError,
    InvalidCiphertext,
    InvalidRequest,
    KmsError,
    MissingParameter,
)
from kmslab.keystore.units import Handle, Unit
from kmslab.model import BlobFormat, OaepAlgorithm
from kmslab.providers.ctyun import blob as blobs
from kmslab.providers.ctyun import rules
from kmslab.providers.ctyun.blob import HEAD_CHARS, IV_BYTES, REFUSED, CtyunBlob, VersionCipher
from kmslab.providers.local import (
    Lookups,
    Route,
    Session,
    check_usable,
    oaep_algorithm,
    pair_of,
    unusable,
)


@dataclass(frozen=True, slots=True)
class PublicKeySource:
    """What a request says of a public-key ciphertext's key; None and "" count as not given."""

    key_id: str | None = None
    key_version_id: str | None = None
    algorithm: OaepAlgorithm | str | None = None

    @staticmethod
    def of(
        key_id: str | None, version_id: str | None, algorithm: OaepAlgorithm | str | None
    ) -> PublicKeySource:
        """The source of these three, the one `NO_SOURCE` where none is given."""
        if not (key_id or version_id or algorithm):
            return NO_SOURCE
        return PublicKeySource(key_id, version_id, algorithm)

    @property
    def given(self) -> bool:
        """Whether any of the three is there."""
        return bool(self.key_id or self.key_version_id or self.algorithm)


NO_SOURCE = PublicKeySource()


@dataclass(frozen=True, slots=True)
class Source:
    """A version that opens a blob; `algorithm` is None for a symmetric one."""

    handle: Handle
    algorithm: OaepAlgorithm | None = None


class Blobs:
    """The versions of one session's keys, by what their blobs begin with."""

    __slots__ = ("_lookups", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lookups = Lookups(session.keystore)

    def iv(self) -> bytes:
        """A fresh IV."""
        return self.session.keystore.entropy(IV_BYTES)

    def source(self, text: str, action: str, given: PublicKeySource = NO_SOURCE) -> Source:
        """The version that opens a blob, ready to decrypt."""
        lookups = self._lookups.now()
        named = (text[:HEAD_CHARS], action, given)
        found = lookups.sources.get(named)
        if found is None or self._must_parse:
            found = self._find(text, given)
            self.session.authorise(action, found.handle.unit)
            self._check(found)
            if found.algorithm is None:
                lookups.sources[named] = found
        return found

    def route(
        self, text: str, destination_key_id: str, given: PublicKeySource
    ) -> tuple[Source, Route]:
        """The version that opens a blob and the primary version that it moves to."""
        lookups = self._lookups.now()
        named = (text[:HEAD_CHARS], destination_key_id, given)
        found: tuple[Source, Route] | None = lookups.routes.get(named)
        if found is None or self._must_parse:
            source = self._find(text, given)
            self.session.authorise("reEncrypt", source.handle.unit)
            destination = self.session.find(destination_key_id, "destinationKeyId")
            self.session.authorise("reEncrypt", destination)
            self._check(source)
            primary = self.destination(destination, "destinationKeyId")
            found = (source, Route(source.handle, primary))
            if source.algorithm is None:
                lookups.routes[named] = found
        return found

    @property
    def _must_parse(self) -> bool:
        # A malformed blob is refused as such before balance and rate are looked at.
        return self.session.limited or self.session.keystore.settings["balance"] <= 0

    def destination(self, unit: Unit, parameter: str) -> Handle:
        """The primary version of a key, with its cipher, ready to encrypt."""
        rules.symmetric(unit, parameter)
        check_usable(unit)
        primary = unit.primary
        if primary is None or primary.row.sealed is None:
            raise unusable(unit.row)
        self._cipher(primary)
        return primary

    def check_balance(self) -> None:
        """BalanceExhausted unless the account's balance is above 0 (seed 004)."""
        if self.session.keystore.settings["balance"] <= 0:
            raise BalanceExhausted("the account's balance is not above 0")

    def key_called(self, name: str) -> str:
        """The id of the key with this alias; any other text as it is."""
        if name and not is_uuid(name):
            for unit in self.session.units():
                if unit.row.alias == name:
                    return unit.row.key_id
        return name

    def key_named(self, text: str) -> str | None:
        """The id of the key that a blob names, if it names one."""
        header = blobs.read_header(text)
        return None if header is None else header.key_id

    def open(self, source: Source, text: str) -> bytes:
        """The plaintext of a blob."""
        if source.algorithm is None:
            plaintext: bytes = source.handle.cipher.open(text)
            return plaintext
        pair = pair_of(self.session, source.handle)
        try:
            return crypto.oaep_decrypt(pair, source.algorithm, blobs.parse(text).data)
        except DecryptFailed:
            raise InvalidCiphertext(REFUSED) from None

    def _find(self, text: str, given: PublicKeySource) -> Source:
        parsed = self._parse(text, given)
        if parsed is None or parsed.format is BlobFormat.PUBLIC_KEY:
            if not given.given:
                raise InvalidCiphertext(REFUSED)
            return self._public_key_source(parsed, given)
        _check_agreement(parsed.key_id, parsed.key_version_id, given)
        return Source(self._named(parsed))

    def _parse(self, text: str, given: PublicKeySource) -> CtyunBlob | None:
        try:
            return blobs.parse(text)
        except (FormatError, TypeError):
            # With source fields, a blob that is not symmetric means public-key ciphertext, and
            # what is missing among the fields is said before what is wrong with the blob.
            if given.given:
                return None
            raise InvalidCiphertext(REFUSED) from None

    def _public_key_source(self, parsed: CtyunBlob | None, given: PublicKeySource) -> Source:
        key_id = _needed(given.key_id, "sourceKeyId")
        version_id = _needed(given.key_version_id, "sourceKeyVersionId")
        algorithm = _needed(given.algorithm, "sourceEncryptionAlgorithm")
        oaep = oaep_algorithm(algorithm, "sourceEncryptionAlgorithm")
        if parsed is None:
            raise InvalidCiphertext(REFUSED)
        unit = self.session.find(key_id, "sourceKeyId")
        return Source(rules.version(unit, version_id, "sourceKeyId"), oaep)

    def _named(self, parsed: CtyunBlob) -> Handle:
        handle = None
        if parsed.format is BlobFormat.LAB and parsed.key_version_id is not None:
            handle = self.session.handle(parsed.key_version_id)
        if handle is None or handle.row.key_id != parsed.key_id:
            raise InvalidCiphertext(REFUSED)
        if not handle.unit.row.spec.symmetric:
            raise InvalidCiphertext(REFUSED)
        return handle

    def _check(self, source: Source) -> None:
        handle = source.handle
        check_usable(handle.unit)
        if handle.row.sealed is None:
            raise unusable(handle.unit.row)
        if source.algorithm is None:
            self._cipher(handle)

    def _cipher(self, handle: Handle) -> VersionCipher:
        if handle.cipher is None:
            row = handle.row
            handle.cipher = VersionCipher(
                row.key_id,
                row.version_id,
                handle.unit.row.spec,
                self.session.keystore.material(handle).expose(),
            )
        cipher: VersionCipher = handle.cipher
        return cipher

    # For the owner of the lab

    def explain(self, text: str) -> str:
        """Why a blob does or does not open."""
        try:
            parsed = blobs.parse(text)
        except FormatError as error:
            return f"It is no blob of CTyun: {error}."
        if parsed.format is BlobFormat.PUBLIC_KEY:
            return (
                "It is public-key ciphertext, which names no key: give the source key, its version "
                "and the algorithm. Hash and MGF1 hash must be the same."
            )
        named = f"key {parsed.key_id} version {parsed.key_version_id}"
        if parsed.format is BlobFormat.CLOUD:
            return f"The cloud made it, with {named}; only the cloud's own key opens it."
        try:
            handle = self._named(parsed)
        except InvalidCiphertext:
            return f"It names {named}, which this lab does not have in {self.session.region}."
        named = f"key {handle.row.key_id} version {handle.row.number}"
        if handle.row.sealed is None:
            return f"The material of {named} is gone."
        try:
            self._cipher(handle).open(text)
        except KmsError:
            return (
                f"It names {named}, which is here: the blob was altered, or made in another lab "
                "with the same ids."
            )
        return f"It opens with {named}; the key is {handle.unit.row.state}."


def _check_agreement(key_id: str | None, version_id: str | None, given: PublicKeySource) -> None:
    if not given.given:
        return
    if given.algorithm:
        raise InvalidRequest(
            "sourceEncryptionAlgorithm is for public-key ciphertext, and this blob is symmetric",
            parameter="sourceEncryptionAlgorithm",
        )
    if given.key_id and given.key_id != key_id:
        raise InvalidRequest("sourceKeyId is not the blob's key", parameter="sourceKeyId")
    if given.key_version_id and given.key_version_id != version_id:
        raise InvalidRequest(
            "sourceKeyVersionId is not the blob's version", parameter="sourceKeyVersionId"
        )


def _needed(value: str | None, parameter: str) -> str:
    if not value:
        raise MissingParameter(
            f"{parameter} is needed with public-key ciphertext", parameter=parameter
        )
    return value
