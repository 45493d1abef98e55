"""From a blob to the key version that opens it, in the order in which the cloud checks.

Parse, find the version (an unknown one is an invalid ciphertext), rights on source and
destination, key check value, states. What is left to the caller is rate and tag.
"""

from __future__ import annotations

from kmslab.context import Context, canonical_context, context_text
from kmslab.crypto import bytes_eq
from kmslab.errors import (
    ContextError,
    FormatError,
    InvalidCiphertext,
    InvalidKeyUsage,
    KmsError,
)
from kmslab.keystore.units import Handle, Unit
from kmslab.model import BlobFormat, KeyState
from kmslab.providers.local import Lookups, Route, Session, check_usable, unusable
from kmslab.providers.tencent import blob as blobs
from kmslab.providers.tencent import rules
from kmslab.providers.tencent.blob import HEAD_CHARS, IV_BYTES, REFUSED, VersionCipher

_MOST_CONTEXTS = 4096
_DECRYPTING = (KeyState.ENABLED, KeyState.ARCHIVED)


class Blobs:
    """The versions of one session's keys, by what their blobs begin with."""

    __slots__ = ("_contexts", "_lookups", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self._contexts: dict[object, str] = {}
        self._lookups = Lookups(session.keystore)

    def context(self, given: Context, parameter: str) -> str:
        """The text of a context, each distinct one checked once."""
        if given is None:
            return ""
        if not isinstance(given, str):
            return rules.context(given, parameter)
        known = self._contexts.get(given)
        if known is None:
            known = rules.context(given, parameter)
            if len(self._contexts) >= _MOST_CONTEXTS:
                self._contexts.clear()
            self._contexts[given] = known
        return known

    def iv(self) -> bytes:
        """A fresh IV."""
        return self.session.keystore.entropy(IV_BYTES)

    def source(self, text: str, action: str) -> Handle:
        """The version that a blob names, with its cipher, ready to decrypt."""
        lookups = self._lookups.now()
        named = (text[:HEAD_CHARS], action)
        found = lookups.sources.get(named)
        # A malformed blob is refused as such before a rate is looked at.
        if found is None or self.session.limited:
            found = self._named(text)
            self.session.authorise(action, found.unit)
            self._check_source(found, text)
            lookups.sources[named] = found
        return found

    def route(self, text: str, destination_key_id: str | None) -> Route:
        """The version that a blob names and the primary version that it moves to."""
        lookups = self._lookups.now()
        named = (text[:HEAD_CHARS], destination_key_id)
        found: Route | None = lookups.routes.get(named)
        # A malformed blob is refused as such before a rate is looked at.
        if found is None or self.session.limited:
            source = self._named(text)
            session = self.session
            session.authorise("ReEncrypt", source.unit)
            destination = source.unit
            if destination_key_id is not None and destination_key_id != source.row.key_id:
                destination = session.find(destination_key_id, "DestinationKeyId")
            session.authorise("ReEncrypt", destination)
            self._check_source(source, text)
            found = lookups.routes[named] = Route(source, self.destination(destination))
        return found

    def destination(self, unit: Unit) -> Handle:
        """The primary version of a key, with its cipher, ready to encrypt."""
        if not unit.row.spec.symmetric:
            raise InvalidKeyUsage(f"key {unit.row.key_id} is a pair", parameter="KeyId")
        check_usable(unit)
        primary = unit.primary
        if primary is None or primary.row.sealed is None:
            raise unusable(unit.row)
        self._cipher(primary)
        return primary

    def _named(self, text: str) -> Handle:
        try:
            header = blobs.parse(text).header()
        except (FormatError, TypeError):
            raise InvalidCiphertext(REFUSED) from None
        handle = None
        if header.format is BlobFormat.LAB and header.key_version_id is not None:
            handle = self.session.handle(header.key_version_id)
        if handle is None or handle.row.key_id != header.key_id:
            raise InvalidCiphertext(REFUSED)
        if not handle.unit.row.spec.symmetric:
            raise InvalidCiphertext(REFUSED)
        return handle

    def _check_source(self, handle: Handle, text: str) -> None:
        if handle.row.sealed is not None:
            head = self._cipher(handle).head
            if not bytes_eq(head.encode(), text[:HEAD_CHARS].encode()):
                raise InvalidCiphertext(REFUSED)
        if handle.unit.row.state not in _DECRYPTING or handle.row.sealed is None:
            raise unusable(handle.unit.row)

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

    def explain(self, text: str, context: Context) -> str:
        """Why a blob does or does not open."""
        try:
            header = blobs.parse(text).header()
        except FormatError as error:
            return f"It is no blob of Tencent Cloud: {error}."
        if header.format is BlobFormat.CLOUD:
            return "The cloud made it; only the cloud's own key opens it."
        try:
            source = self._named(text)
        except InvalidCiphertext:
            return (
                f"It names key {header.key_id} version {header.key_version_id}, which this lab "
                f"does not have in {self.session.region}."
            )
        if source.row.sealed is None:
            return f"The material of key {source.row.key_id} version {source.row.number} is gone."
        if self._cipher(source).head != text[:HEAD_CHARS]:
            return (
                f"It names key {source.row.key_id} version {source.row.number}, and its check "
                "value is of other material: the blob was altered, or made in another lab."
            )
        return self._explain_opening(source, text, context)

    def _explain_opening(self, source: Handle, text: str, context: Context) -> str:
        named = f"key {source.row.key_id} version {source.row.number}"
        try:
            given = context_text(context)
        except ContextError as error:
            return f"The blob is of {named}. {error}."
        if _opens(source, text, given):
            if source.unit.row.state in _DECRYPTING:
                return f"It opens with {named}."
            return f"It would open with {named}, but the key is {source.unit.row.state}."
        if given and _opens(source, text, ""):
            return f"The blob is of {named} and was encrypted without a context."
        if given and _opens(source, text, canonical_context(given)):
            return (
                f"The blob is of {named}; another spelling of the same context opens it: sorted "
                "by key, without white space."
            )
        wrong = "the context is wrong" if given else "it needs a context"
        return f"The blob is of {named}, whose material is right: {wrong}, or it was altered."


def _opens(source: Handle, text: str, context: str) -> bool:
    try:
        source.cipher.open(text, context)
    except KmsError:
        return False
    return True
