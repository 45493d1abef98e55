"""What answers have shown of blobs whose version nobody can read.

Tencent Cloud's answer says whether a blob was on the primary version already: `ReEncrypted` false
is evidence that it was, and true that the new one is. Both are written into the journal, so that
the census after a campaign knows what no blob tells. It is how things stood when the cloud
answered: of a key that was rotated since, it shows nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

from kmslab.analysis.census import by_identity
from kmslab.analysis.classify import Drop, Outcome, Target, Verdict
from kmslab.campaign.answers import Answer
from kmslab.campaign.journal import Journal
from kmslab.context import context_text
from kmslab.errors import KmsError, Retryable
from kmslab.model import Record
from kmslab.providers.base import Keep, Providers


@dataclass(frozen=True, slots=True)
class Shown:
    """A blob with its context, as a digest, that an answer showed to be on the primary version of
    a key; its id is None where the answer did not name it."""

    digest: bytes
    key_id: str | None


def digest_of(blob: str, context: str | None) -> bytes:
    """What stands for a blob and its context in a journal."""
    text = f"{blob}\0{context or ''}".encode("utf-8", "surrogatepass")
    return sha256(text).digest()[:16]


def shown_by(record: Record, verdict: Verdict, answer: Answer, target: Target) -> Shown | None:
    """What an answer shows of the blob that the record holds then; None where the blob itself, or
    the keys, tell as much."""
    blob = answer.ciphertext_blob
    told = verdict.outcome is not Outcome.MAY_CHANGE and answer.key_version_id is not None
    if blob is None or told:
        return None
    context = record.context
    if answer.re_encrypted and not isinstance(target.context, Keep):
        context = None if isinstance(target.context, Drop) else context_text(target.context)
    return Shown(digest_of(blob, context), answer.key_id)


class Evidence:
    """What a journal has shown. Each key is asked about once, when it was rotated last; where that
    is not told, what was shown stands."""

    __slots__ = ("_journal", "_providers", "_rotated")

    def __init__(self, journal: Journal, providers: Providers) -> None:
        self._journal = journal
        self._providers = providers
        self._rotated: dict[tuple[str, str], datetime | None] = {}

    def weigh(self, records: Sequence[Record], verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Verdicts on records, `current` in place of `may_change` where an answer has shown so.

        Records that are judged alike have one verdict, and have one afterwards. Retryable where a
        provider does not answer.
        """
        found = list(verdicts)
        if all(v.outcome is not Outcome.MAY_CHANGE for v in by_identity(verdicts).values()):
            return found
        rows = [n for n, verdict in enumerate(verdicts) if verdict.outcome is Outcome.MAY_CHANGE]
        digests = [digest_of(records[row].ciphertext_blob, records[row].context) for row in rows]
        shown = self._journal.shown(digests)
        made: dict[tuple[int, str | None], Verdict] = {}
        for row, digest in zip(rows, digests, strict=True):
            if digest not in shown:
                continue
            told, at = shown[digest]
            key_id = verdicts[row].key_id or told
            if not self._holds(records[row].provider, key_id, at):
                continue
            case = id(verdicts[row]), key_id
            if case not in made:
                made[case] = _current(verdicts[row], key_id)
            found[row] = made[case]
        return found

    def _holds(self, provider: str, key_id: str | None, at: float) -> bool:
        if key_id is None:
            return True
        key = provider, key_id
        if key not in self._rotated:
            self._rotated[key] = self._last_rotation(*key)
        rotated = self._rotated[key]
        # Told in whole seconds: a campaign may follow a rotation within one, as in a script.
        return rotated is None or rotated.timestamp() <= at

    def _last_rotation(self, provider: str, key_id: str) -> datetime | None:
        try:
            return self._providers.kms(provider).describe_key(key_id).last_rotated_at
        except Retryable:
            raise
        except KmsError:
            return None  # a campaign needs no right to look at keys


def _current(verdict: Verdict, key_id: str | None) -> Verdict:
    return replace(
        verdict,
        outcome=Outcome.CURRENT,
        key_id=key_id,
        is_primary=True,
        destination_key_id=None,
        destination_provider=None,
        unverified=False,
    )
