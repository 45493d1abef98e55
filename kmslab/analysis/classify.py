"""What a campaign would do with a record: one outcome each (design section 9).

Told from the head of the blob and from what the Kms says of its keys. Nothing is opened: until the
blob is authenticated (`--deep`, and every run) a verdict is *unverified*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Final

from kmslab.analysis.heads import (
    FORMATS,
    SOURCE_COLUMNS,
    Head,
    Heads,
    Like,
    Standing,
    likes_of,
    one_form,
)
from kmslab.analysis.lengths import Crossing, longest_blob
from kmslab.columns import column_of
from kmslab.context import Context, context_text
from kmslab.errors import FormatError
from kmslab.model import CTYUN, TENCENT, BlobFormat, KeyState, OaepAlgorithm, Record
from kmslab.providers.base import KEEP, Keep, Providers, Unknown, home_for


class Outcome(StrEnum):
    """What becomes of a record. Every record has exactly one.

    >>> [outcome.value for outcome in Outcome if outcome.sent]
    ['stale', 'move', 'may_change']
    """

    STALE = "stale"
    """Not on the primary version of its key: gets a blob that is."""
    MOVE = "move"
    """Gets a blob of another key, of either provider, or under another context; all public-key
    ciphertext that can be sent does."""
    CURRENT = "current"
    """Nothing is to be done."""
    MAY_CHANGE = "may_change"
    """A cloud's own blob whose version cannot be read: the cloud's answer decides."""
    FOREIGN = "foreign"
    """A cloud's own blob, and no remote to ask."""
    BLOCKED = "blocked"
    """Well-formed, but something else stands in the way; the reason says what."""
    INVALID = "invalid"
    """Not a blob of its provider, or its record contradicts itself; the reason says where."""
    NEEDS_CONTEXT = "needs_context"
    """Made under a context, which the record does not have."""
    NEEDS_PUBLIC_KEY_INFO = "needs_public_key_info"
    """Public-key ciphertext without all three of source key, version and algorithm."""

    @property
    def sent(self) -> bool:
        """Whether a campaign makes a call for such a record."""
        return self in _SENT


_SENT: Final = (Outcome.STALE, Outcome.MOVE, Outcome.MAY_CHANGE)


class Drop(Enum):
    """The type of `DROP`: a destination context that is none, although the source has one."""

    DROP = "drop"


DROP: Final = Drop.DROP


@dataclass(frozen=True, slots=True)
class Target:
    """Where records are to go.

    `key_id` is a symmetric key; with None each symmetric record stays on its own key. `provider`
    is the key's: records of the other one cross over to it. With None nothing crosses: the key is
    looked for at each record's own provider.

    `context` is the context of every new blob: KEEP (the record's own), a context, or DROP (none).
    None and "" mean none too, but block the records that have one: a context is lost only by name.
    `max_length` is the greatest length of a new blob, in characters. ValueError for a provider that
    is none of the two, or without a key.

    >>> Target(key_id="23e80852-1e38-11e9-b129-5cb9019b4b01").context
    <Keep.KEEP: 'keep'>
    """

    key_id: str | None = None
    context: Context | Keep | Drop = KEEP
    max_length: int | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        if self.provider is None:
            return
        if self.provider not in FORMATS:
            raise ValueError(f"provider {self.provider[:40]!r} is neither tencent nor ctyun")
        if self.key_id is None:
            raise ValueError("a target's provider is that of its key: give key_id too")

    def provider_for(self, provider: str) -> str:
        """The provider of the new blob of a record that is at `provider`.

        >>> Target(key_id="23e80852-1e38-11e9-b129-5cb9019b4b01").provider_for("tencent")
        'tencent'
        """
        return self.provider or provider


NO_KMS: Final = "no Kms of this provider"
"""The reason of a record whose provider cannot be asked."""

STAY: Final = Target()
"""Every record on its own key, under its own context."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one record, and why.

    `reason` is a short text, always the same for the same cause; "" where nothing needs a reason.
    Key and version are what the blob names (for public-key ciphertext: what the record says), None
    where it names none. `version_number` and `is_primary` are None where the Kms does not know, or
    does not tell; a pair has no primary. `destination_provider` and `destination_key_id` are those
    of the new blob where one would be made; the key is None where it is not known.

    While `unverified`, all of this rests on the blob's head alone, which whoever wrote the record
    could have forged; only a blob that was authenticated has a verdict with False.
    `version_inferred`: the Kms does not bear out the version that the head names.
    """

    outcome: Outcome
    reason: str = ""
    key_id: str | None = None
    key_version_id: str | None = None
    version_number: int | None = None
    is_primary: bool | None = None
    destination_key_id: str | None = None
    destination_provider: str | None = None
    unverified: bool = True
    version_inferred: bool = False


class _Change(StrEnum):
    """What the target does to a record's context."""

    SAME = "same"
    OTHER = "other"
    LOST = "context would be lost"
    IMPOSSIBLE = "provider has no contexts"

    @property
    def reason(self) -> str:
        """Why the record is blocked by it; "" where it is not."""
        return self.value if self in (_Change.LOST, _Change.IMPOSSIBLE) else ""


_Ruling = tuple[Outcome, str]

_UNUSABLE: Final = frozenset(KeyState) - {KeyState.ENABLED, KeyState.ARCHIVED}

# The longest plaintext that public-key ciphertext of 2,048 bits can hold (RFC 8017, 7.1.1).
_OAEP_BYTES: Final = {OaepAlgorithm.SHA_1.value: 214, OaepAlgorithm.SHA_256.value: 190}


_MAX_VERDICTS: Final = 65_536


class Classifier:
    """Judges records for one target; asks the Kms once for each key and version.

    Keys are seen as they were when first asked for: take a new one to look again.
    """

    __slots__ = (
        "_context",
        "_crossing",
        "_heads",
        "_measured",
        "_refusals",
        "_target",
        "_usual",
        "_verdicts",
    )

    def __init__(self, providers: Providers, target: Target = STAY) -> None:
        """ContextError where the target's context is none."""
        self._heads = Heads(providers)
        self._target = target
        if not isinstance(target.context, Keep | Drop):
            self._target = replace(target, context=context_text(target.context))
        self._context: Callable[[str | None], str] = lru_cache(4096)(context_text)
        # Whether lengths matter at all: those of what crosses do, and with a limit all.
        self._measured = target.provider is not None or target.max_length is not None
        self._crossing = Crossing(target.provider or "", max_length=target.max_length)
        self._refusals: dict[str, str] = {}
        self._verdicts: dict[tuple[Head, _Change, bool, str], Verdict] = {}
        # The verdicts on lab blobs, of which all that is alike in these four is judged alike.
        self._usual: dict[Like, Verdict] = {}

    @property
    def refused(self) -> tuple[str, ...]:
        """The providers that so far gave the credential no right to look at a key."""
        return tuple(self._heads.refused)

    def classify(self, record: Record) -> Verdict:
        """The outcome for one record, and why. See `classify`."""
        form = FORMATS.get(record.provider)
        if form is None or _names_source(record) or record.region or record.account:
            return self._judge(record)
        text = record.ciphertext_blob
        like = record.provider, text[: form.head_chars], len(text), record.context
        verdict = self._usual.get(like)
        if verdict is not None and form.tail_fits(text):
            return verdict
        verdict = self._judge(record)
        if self._heads.knows(like[1]) and verdict.outcome is not Outcome.INVALID:
            if len(self._usual) >= _MAX_VERDICTS:
                self._usual.clear()
            self._usual[like] = verdict
        return verdict

    def classify_many(self, records: Sequence[Record]) -> list[Verdict]:
        """`classify` for each, faster where many are alike."""
        form = one_form(records)
        if form is None:
            return list(map(self.classify, records))
        texts = column_of(records, "ciphertext_blob")
        verdicts = list(map(self._usual.get, likes_of(form, records, texts)))
        if not all(verdicts):
            likes = likes_of(form, records, texts)
            for row in dict(zip(likes, range(len(records)), strict=True)).values():
                self.classify(records[row])
            verdicts = list(map(self._usual.get, likes_of(form, records, texts)))
        if all(verdicts) and form.tails_fit(texts):
            return verdicts  # type: ignore[return-value]
        return list(map(self.classify, records))

    def _judge(self, record: Record) -> Verdict:
        try:
            head = self._heads.read(record)
        except FormatError as error:
            return Verdict(Outcome.INVALID, str(error))
        try:
            context = self._context(record.context)
        except FormatError as error:
            return self._verdict(head, (Outcome.INVALID, str(error)))
        if reason := self._lost(head, record):
            return self._verdict(head, (Outcome.BLOCKED, reason))
        change = self._change(head, context)
        if head.format is BlobFormat.PUBLIC_KEY:
            return self._verdict(head, self._public_key(head, record, change))
        if _names_source(record) and (fault := self._source_fault(head, record)):
            return self._verdict(head, (Outcome.INVALID, fault))
        too_long = self._length_fault(head, record.ciphertext_blob) if self._measured else ""
        case = head, change, context == "", too_long
        verdict = self._verdicts.get(case)
        if verdict is None:
            if len(self._verdicts) >= _MAX_VERDICTS:
                self._verdicts.clear()
            verdict = self._verdicts[case] = self._verdict(head, self._symmetric(*case))
        return verdict

    def _symmetric(self, head: Head, change: _Change, no_context: bool, too_long: str) -> _Ruling:
        if fault := _source_unusable(head):
            return fault
        if head.has_context and no_context:
            return Outcome.NEEDS_CONTEXT, ""
        crosses = self._crosses(head)
        stays = not crosses and self._target.key_id in (None, head.key_id)
        refusal = "" if stays else self._refusal(self._target.provider_for(head.provider))
        if reason := refusal or change.reason:
            return Outcome.BLOCKED, reason
        outcome = Outcome.MOVE if crosses else self._work(head, change)
        if outcome is Outcome.CURRENT:
            return Outcome.CURRENT, ""
        if stays and head.key is not None and head.key.state is not KeyState.ENABLED:
            return Outcome.BLOCKED, f"key {head.key.state}"
        return (Outcome.BLOCKED, too_long) if too_long else (outcome, "")

    def _work(self, head: Head, change: _Change) -> Outcome:
        """What is to be done with a symmetric blob that can be read, at its own provider."""
        target = self._target.key_id
        if target is not None and head.key_id is not None and target != head.key_id:
            return Outcome.MOVE
        if head.is_primary is False:
            return Outcome.STALE
        if change is _Change.OTHER:
            return Outcome.MOVE
        return Outcome.CURRENT if head.is_primary else Outcome.MAY_CHANGE

    def _public_key(self, head: Head, record: Record, change: _Change) -> _Ruling:
        if missing := [name for name in SOURCE_COLUMNS if getattr(record, name) is None]:
            return Outcome.NEEDS_PUBLIC_KEY_INFO, f"no {', '.join(missing)}"
        plaintext_bytes = _OAEP_BYTES.get(record.source_encryption_algorithm or "")
        if plaintext_bytes is None:
            return Outcome.INVALID, "source_encryption_algorithm is none that is known"
        if fault := _source_unusable(head):
            return fault
        if self._target.key_id is None:
            return Outcome.BLOCKED, "no symmetric destination"
        provider = self._target.provider_for(head.provider)
        if reason := self._refusal(provider) or change.reason:
            return Outcome.BLOCKED, reason
        if self._too_long(longest_blob(provider, plaintext_bytes)):
            return Outcome.BLOCKED, "too long"
        return Outcome.MOVE, ""

    def _lost(self, head: Head, record: Record) -> str:
        """Why there is no one remote that a record is for; "" where there is, or one Kms for all.

        A record that crosses to another provider takes no region or account along: what it has
        would be wrong there.
        """
        kms = self._heads.kms(head.provider)
        if kms is None or kms.capabilities.homes is None:
            return ""
        if self._crosses(head) and (record.region or record.account):
            return "its region and account are not those of the destination"
        home = home_for(kms.capabilities.homes, record.region, record.account)
        return home if isinstance(home, str) else ""

    def _crosses(self, head: Head) -> bool:
        return self._target.provider not in (None, head.provider)

    def _refusal(self, provider: str) -> str:
        """Why the target's key cannot take records of a provider; "" where it can."""
        if provider not in self._refusals:
            key_id = self._target.key_id or ""
            key = self._heads.key(provider, key_id)
            if self._heads.kms(provider) is None:
                reason = "no Kms of the destination"
            elif isinstance(key, Unknown):
                reason = ""  # the cloud's answer decides
            elif key is None:
                elsewhere = any(self._heads.key(other, key_id) for other in (TENCENT, CTYUN))
                reason = "destination at another provider" if elsewhere else "destination missing"
            elif not key.spec.symmetric:
                reason = "destination not symmetric"
            else:
                reason = "" if key.state is KeyState.ENABLED else f"destination {key.state}"
            self._refusals[provider] = reason
        return self._refusals[provider]

    def _change(self, head: Head, context: str) -> _Change:
        target = self._target.context
        if target is KEEP and self._target.provider is None:
            return _Change.SAME
        crosses = self._crosses(head)
        if target is KEEP and not crosses:
            return _Change.SAME
        kms = self._heads.kms(self._target.provider_for(head.provider))
        bare = kms is not None and not kms.capabilities.contexts
        if target is KEEP:
            return _Change.LOST if bare and context else _Change.SAME
        text = "" if target is DROP else target
        if bare and text:
            return _Change.IMPOSSIBLE
        # A record's own context means nothing to a provider without contexts that it stays at.
        if text == context or (bare and not crosses):
            return _Change.SAME
        return _Change.OTHER if text or target is DROP else _Change.LOST

    def _source_fault(self, head: Head, record: Record) -> str:
        """What a symmetric blob's source_* columns say wrong, as the API would refuse them."""
        kms = self._heads.kms(head.provider)
        if kms is None or not kms.capabilities.public_key_source:
            return ""
        if record.source_encryption_algorithm is not None:
            return "source_encryption_algorithm is for public-key ciphertext"
        if record.source_key_id not in (None, head.key_id):
            return "source_key_id is not the blob's"
        if record.source_key_version_id not in (None, head.key_version_id):
            return "source_key_version_id is not the blob's"
        return ""

    def _length_fault(self, head: Head, text: str) -> str:
        """Why the new blob of a symmetric one may be too long; "" where it is not."""
        if self._crosses(head):
            return self._crossing.fault(head.provider, head.format, text)
        # At its own provider it has the old one's length: see `classify`.
        return "too long" if self._too_long(len(text)) else ""

    def _too_long(self, characters: int) -> bool:
        return self._target.max_length is not None and characters > self._target.max_length

    def _verdict(self, head: Head, ruling: _Ruling) -> Verdict:
        outcome, reason = ruling
        sent, target = outcome.sent, self._target
        return Verdict(
            outcome,
            reason,
            head.key_id,
            head.key_version_id,
            None if head.version is None else head.version.number,
            head.is_primary,
            (target.key_id or head.key_id) if sent else None,
            target.provider_for(head.provider) if sent else None,
            version_inferred=head.version_inferred,
        )


def _names_source(record: Record) -> bool:
    return not (
        record.source_encryption_algorithm is None
        and record.source_key_id is None
        and record.source_key_version_id is None
    )


def _source_unusable(head: Head) -> _Ruling | None:
    """Why what a blob names cannot be read, or None where it can, as far as is known."""
    missing = head.standing is Standing.MISSING
    if head.standing is Standing.NO_KMS:
        return Outcome.BLOCKED, NO_KMS
    if missing and head.format is BlobFormat.CLOUD:
        return Outcome.FOREIGN, ""
    if head.key is None:
        return (Outcome.BLOCKED, "key missing") if missing else None
    if head.key.spec.symmetric is (head.format is BlobFormat.PUBLIC_KEY):
        return Outcome.INVALID, "the key is not of this kind"
    if head.key.state in _UNUSABLE:
        return Outcome.BLOCKED, f"key {head.key.state}"
    if missing:
        return Outcome.BLOCKED, "key version missing"
    if head.version is not None and not head.version.has_material:
        return Outcome.BLOCKED, "key version without material"
    return None


def sendable(head: Head) -> bool:
    """Whether a record on a blob with this head can be re-encrypted on its own key, as far as the
    head tells: a campaign sends it then, unless it is current or the record lacks something.

    >>> sendable(Head("tencent", BlobFormat.CLOUD, None, None, None, Standing.MISSING))
    False
    """
    if head.format is BlobFormat.PUBLIC_KEY or _source_unusable(head):
        return False
    return head.key is None or head.key.state is KeyState.ENABLED


def classify(record: Record, providers: Providers, target: Target = STAY) -> Verdict:
    """What a campaign to `target` would do with a record, told from its head alone.

    The rules, in this order (design section 9; where marked * the lab's choice):

    * `invalid`: no blob of its provider, a malformed context, source_* columns that contradict the
      blob* (the API refuses them). No other provider than the two is known.
    * `blocked`: among remotes, none or several of the region and account that the record names*.
    * `needs_public_key_info`: public-key ciphertext whose record lacks what must be said of it.
    * `foreign`: a cloud's own blob, of a version that the Kms does not have.
    * `blocked`: no Kms of the provider; the key or version missing, or in a state that forbids
      decryption, even where the blob is on the primary version*: nothing can be done with it, and
      it may soon be lost.
    * `needs_context`: made under a context (inferred from the blob), which the record lacks.
    * `blocked`: a destination that is not there, not enabled, not symmetric or at another provider
      than it should be, or without a Kms; public-key ciphertext without a destination; a context
      that would be lost, or that the destination's provider does not have.
    * `move`: to another key, whether stale or not*; to `target.provider`, where that is another
      one; or on the primary version, and only the context changes* (the provider makes a new blob
      then). A context is compared as text.
    * `stale`, `current`, `may_change`: by the version. A `current` blob of an archived key is
      current*, since nothing has to be encrypted; a stale one is blocked unless it moves.
    * `blocked`: a new blob longer than `target.max_length`. A symmetric one gets no longer or
      shorter at its own provider; elsewhere, and for public-key ciphertext, the longest possible
      plaintext counts: padding hides up to 15 bytes, so a blob that would just fit may be blocked*.
      Also a plaintext that the other provider does not take, whatever the padding hides.

    A context means nothing to a provider without contexts (CTyun): a target's blocks, a record's
    own is not looked at beyond its form* while the record stays there. A record that leaves takes
    it along as any other, and one that comes would lose it. What the Kms raises comes through, but
    for KeyNotFound and InvalidKeyId; ContextError where the target's context is none. For many
    records, `Classifier` is faster.

    >>> from types import SimpleNamespace
    >>> nowhere = SimpleNamespace(providers=lambda: ())
    >>> verdict = classify(Record("order-1", "tencent", "Ade234dasdeEWdG"), nowhere)
    >>> verdict.outcome.value, verdict.reason
    ('invalid', 'not three segments joined by "-k-"')
    """
    return Classifier(providers, target).classify(record)
