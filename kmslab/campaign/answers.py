"""What a provider answered for a record, once it has been looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import eq
from typing import Final, overload

from kmslab.analysis import Drop, Outcome, Target, Verdict
from kmslab.analysis.heads import FORMATS
from kmslab.campaign.retrying import code_of
from kmslab.columns import column_of
from kmslab.context import context_text
from kmslab.errors import BadAnswer, FormatError, KmsError
from kmslab.many import many_of
from kmslab.model import BlobFormat, Record, UnverifiedHeader
from kmslab.providers.base import Keep, ReEncrypted

_Case = tuple[int, str | None, str | None, str | None, str | None, str]

_MAX_CASES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one record that was sent.

    `ciphertext_blob` is the new blob, or the old text where `re_encrypted` is False: it was on the
    primary version already. Provider, key and version are those of that blob, the source's those
    of the old one; a version is None where the cloud does not tell. `verified` is True where the
    blob was opened and compared, None where it was not.

    Where `error` is not None there is no blob; `code` is the provider's code of it.
    """

    ciphertext_blob: str | None
    re_encrypted: bool
    provider: str
    key_id: str | None = None
    key_version_id: str | None = None
    source_key_id: str | None = None
    source_key_version_id: str | None = None
    verified: bool | None = None
    error: KmsError | None = None
    code: str = ""


_answers: Final = many_of(Answer)


class NewBlobs(Sequence[Answer]):
    """The answers to records of `provider`, which all have a new blob there, and no fault.

    `done` is what was answered. An `Answer` is made only for who asks for one.
    """

    __slots__ = ("_made", "done", "provider")

    def __init__(self, provider: str, done: ReEncrypted) -> None:
        self.provider = provider
        self.done = done
        self._made: list[Answer] | None = None

    @property
    def blobs(self) -> Sequence[str]:
        """The new blobs."""
        return self.done.ciphertext_blob  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.done)

    @overload
    def __getitem__(self, row: int) -> Answer: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Answer]: ...
    def __getitem__(self, row: int | slice) -> Answer | Sequence[Answer]:
        if self._made is None:
            done = self.done
            self._made = _answers(
                done.ciphertext_blob,
                repeat(True),
                repeat(self.provider),
                done.key_id,
                done.key_version_id,
                done.source_key_id,
                done.source_key_version_id,
                done.verified,
                repeat(None),
                repeat(""),
            )
        return self._made[row]


def refused(provider: str, error: KmsError) -> Answer:
    """The answer that is an error."""
    code = error.code or code_of(provider, error, "Encrypt")
    return Answer(None, False, provider, error=error, code=code)


class Reader:
    """Looks at every answer: what contradicts itself, or what was asked, is none.

    A new blob must be one of the destination's provider, no longer than the target allows, and
    name the key and version that the answer names; the key is the target's or the record's own.
    Where nothing was to be done, key and context stay what they were.
    """

    __slots__ = ("_sound", "_target")

    def __init__(self, target: Target) -> None:
        self._target = target
        # Verdict, ids and head together, of which all has been looked at.
        self._sound: dict[_Case, Verdict] = {}

    def read_many(
        self, records: Sequence[Record], verdicts: Sequence[Verdict], done: ReEncrypted
    ) -> Sequence[Answer]:
        """`read` for each, of records of one provider; faster where all is as it should be."""
        provider = column_of(records, "provider")[0]
        if self._is_new(records, done) and self._is_sound(provider, verdicts, records, done):
            return NewBlobs(provider, done)
        rows = zip(records, verdicts, strict=True)
        return [self.read(*each, done, row) for row, each in enumerate(rows)]

    def _is_new(self, records: Sequence[Record], done: ReEncrypted) -> bool:
        """Whether all have new blobs at their own provider, opened, and of the right lengths."""
        rows, blobs = len(records), done.ciphertext_blob
        if any(done.error) or set(map(type, blobs)) != {str}:
            return False
        if not (_all_true(done.re_encrypted) and _all_true(done.verified)):
            return False
        algorithms = column_of(records, "source_encryption_algorithm")
        if algorithms.count(None) < rows:
            return False
        old, provider = column_of(records, "ciphertext_blob"), column_of(records, "provider")[0]
        lengths = list(map(len, old))
        most = self._target.max_length
        return (
            self._target.provider in (None, provider)
            and not any(map(eq, old, blobs))
            and lengths == list(map(len, blobs))  # type: ignore[arg-type]
            and (most is None or max(lengths) <= most)
        )

    def _is_sound(
        self,
        provider: str,
        verdicts: Sequence[Verdict],
        records: Sequence[Record],
        done: ReEncrypted,
    ) -> bool:
        """Whether all are lab blobs on the keys and versions that were asked for, and answered."""
        size = FORMATS[provider].head_chars
        cases = zip(
            map(id, verdicts),
            done.key_id,
            done.key_version_id,
            done.source_key_id,
            done.source_key_version_id,
            [blob[:size] for blob in done.ciphertext_blob],  # type: ignore[index]
            strict=True,
        )
        found = dict(zip(cases, range(len(records)), strict=True))
        for case, row in found.items():
            if case not in self._sound:
                self.read(records[row], verdicts[row], done, row)
        return found.keys() <= self._sound.keys()

    def read(self, record: Record, verdict: Verdict, done: ReEncrypted, row: int) -> Answer:
        """The answer in `row` of `done`, which was asked for `record`."""
        provider = self._target.provider or record.provider
        error = done.error[row]
        if error is not None:
            return refused(provider, error)
        answer = Answer(
            done.ciphertext_blob[row],
            bool(done.re_encrypted[row]),
            provider,
            done.key_id[row],
            done.key_version_id[row],
            done.source_key_id[row],
            done.source_key_version_id[row],
            done.verified[row],
        )
        fault = self._fault(record, verdict, answer)
        if fault:
            return self._bad(provider, fault)
        return answer

    def _bad(self, provider: str, fault: str) -> Answer:
        return refused(
            provider, BadAnswer(f"{provider} answered {fault}; the record was left as it is")
        )

    def _fault(self, record: Record, verdict: Verdict, answer: Answer) -> str:
        """What is wrong with an answer; "" where nothing is."""
        new, old = answer.ciphertext_blob, record.ciphertext_blob
        if not isinstance(new, str) or not new:
            return "without a blob"
        if answer.re_encrypted is (new == old):
            return "that the blob is " + ("another one" if new == old else "the same, with another")
        if not answer.re_encrypted and (fault := self._unchanged_fault(record, answer)):
            return fault
        form = FORMATS[answer.provider]
        case = (
            id(verdict),
            answer.key_id,
            answer.key_version_id,
            answer.source_key_id,
            answer.source_key_version_id,
            new[: form.head_chars],
        )
        lab = case in self._sound
        if not lab:
            try:
                header = form.parse(new).header()
            except FormatError as error:
                return f"with what is no blob of its own: {error}"
            if fault := self._ids_fault(verdict, answer, header):
                return fault
            lab = header.format is BlobFormat.LAB
            # Only a lab blob begins with nothing but what it names.
            if lab:
                self._remember(case, verdict)
        elif not (answer.verified or form.tail_fits(new)):
            return "with what is no blob of its own behind its head"
        return self._length_fault(record, answer, len(new), lab=lab)

    def _unchanged_fault(self, record: Record, answer: Answer) -> str:
        """What was to change, although the answer says that nothing had to."""
        if _differ(answer.key_id, answer.source_key_id):
            return f"that nothing was to be done, with key {answer.key_id} in place of the blob's"
        context = self._target.context
        if isinstance(context, Keep):
            return ""
        after = "" if isinstance(context, Drop) else context_text(context)
        if after != context_text(record.context):
            return "that nothing was to be done, although the context changes"
        return ""

    def _ids_fault(self, verdict: Verdict, answer: Answer, header: UnverifiedHeader) -> str:
        """What the ids contradict: those asked for, those answered, and those in the blob."""
        if _differ(answer.source_key_id, verdict.key_id) or _differ(
            answer.source_key_version_id, verdict.key_version_id
        ):
            return "for another source key or version than the blob's"
        wanted = self._target.key_id or verdict.key_id or answer.source_key_id
        if _differ(answer.key_id, wanted):
            return f"with a blob of key {answer.key_id}, not of {wanted}"
        if header.format is BlobFormat.PUBLIC_KEY:
            return "with public-key ciphertext"
        if _differ(header.key_id, wanted) or _differ(header.key_id, answer.key_id):
            return f"with a blob that names key {header.key_id}"
        if _differ(header.key_version_id, answer.key_version_id):
            return f"with a blob that names version {header.key_version_id}"
        version = header.key_version_id or answer.key_version_id
        if verdict.outcome is Outcome.STALE and version and version == verdict.key_version_id:
            return "with a blob on the old version"
        return ""

    def _remember(self, case: _Case, verdict: Verdict) -> None:
        if len(self._sound) >= _MAX_CASES:
            self._sound.clear()
        # The verdict is kept, so that no other one has its identity meanwhile.
        self._sound[case] = verdict

    def _length_fault(self, record: Record, answer: Answer, length: int, *, lab: bool) -> str:
        if not answer.re_encrypted:
            return ""
        most = self._target.max_length
        if most is not None and length > most:
            return f"with a blob of {length} characters, longer than can be stored"
        stays = record.provider == answer.provider and record.source_encryption_algorithm is None
        if lab and stays and length != len(record.ciphertext_blob):
            # The plaintext is the same, so that can only be another record's.
            return "with a blob of another length than the old one"
        return ""


def _all_true(values: Iterable[object]) -> bool:
    return set(map(id, values)) == {id(True)}


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other
