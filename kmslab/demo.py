"""The main job on real input: the demo lab, some of its keys rotated, its records re-encrypted.

The records are re-encrypted in memory only; the sample data stay as they are.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final

from kmslab.analysis import (
    DOCUMENTED_RATE,
    Census,
    CensusRow,
    Classifier,
    Forecast,
    Outcome,
    Target,
    Verdict,
    forecast,
)
from kmslab.clock import ManualClock
from kmslab.errors import KmsError, LabExists, SourceError
from kmslab.lab import Lab
from kmslab.model import CTYUN, TENCENT, BlobFormat, Key, Record
from kmslab.providers.ctyun import codes as ctyun_codes
from kmslab.providers.ctyun.blob import read_header
from kmslab.providers.tencent import codes as tencent_codes
from kmslab.records import read_csv

SEED: Final = "seed.yaml"
RECORDS: Final = "records.csv"

DEMO_TIME: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
"""When the demo plays, whatever the date: just after the last record of the sample data.

In a demo lab that is opened later, by the real clock, scheduled deletions and rotations that were
due in between happen.
"""

ROTATED: Final = ("orders-data", "sessions", "billing", "documents")
"""The aliases of the keys that the demo rotates, two of each provider."""

DESTINATION: Final = "documents"
"""The alias of the CTyun key that public-key ciphertext moves to, which has no primary version."""

_REFUSALS: Final[Mapping[str, Callable[[KmsError], str]]] = {
    TENCENT: lambda error: tencent_codes.code_of(error, "ReEncrypt"),
    CTYUN: lambda error: ctyun_codes.code_of(error, "reEncrypt"),
}


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key that was rotated; `records` were on its primary version until then, and are stale."""

    provider: str
    key_id: str
    alias: str
    version_number: int
    records: int


@dataclass(frozen=True, slots=True)
class Reason:
    """So many records have this outcome for this reason; "" where it needs none."""

    outcome: Outcome
    reason: str
    records: int


@dataclass(frozen=True, slots=True)
class State:
    """What is known of all records at one time: the outcomes sum to `total`."""

    total: int
    outcomes: Mapping[Outcome, int]
    reasons: tuple[Reason, ...]
    census: tuple[CensusRow, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """What became of the records that were sent. `verified` ones were opened and compared."""

    re_encrypted: int
    unchanged: int
    failed: int
    verified: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A record that the provider refused, with its code; `explanation` is for the lab's owner."""

    record_id: str
    provider: str
    code: str
    explanation: str


@dataclass(frozen=True, slots=True)
class DemoReport:
    """All that the demo did. Times are in seconds.

    `lab` is where the demo lab was made, and `kept` whether it is still there; `aliases` are those
    of its keys, by id, deleted ones too.
    """

    lab: Path
    kept: bool
    source: Path
    aliases: Mapping[str, str]
    rotated: tuple[Rotated, ...]
    before: State
    forecast: Forecast
    results: Results
    failures: tuple[Failed, ...]
    after: State
    re_encrypt_seconds: float
    seconds: float


def sample_path(name: str) -> Path:
    """A file of the sample data: in the package once installed, beside it in a checkout.

    >>> sample_path("records.csv").name
    'records.csv'
    """
    package = Path(__file__).parent
    places = [package / "sample_data" / name, package.parent / "sample_data" / name]
    for place in places:
        if place.is_file():
            return place
    looked = " and ".join(str(place) for place in places)
    raise SourceError(f"the sample data are not installed: no {looked}", source=name)


def make_lab(directory: Path) -> Lab:
    """The demo lab, open, in a new or empty directory.

    It has the keys of the sample data, lives at DEMO_TIME while it stays open, and is marked
    unsafe. LabExists where there is something in the directory; nothing is changed then.
    """
    try:
        lab = Lab.create(directory, clock=ManualClock(DEMO_TIME))
    except LabExists:
        raise LabExists(
            f"{directory} is there already and was left as it is; "
            "the demo makes its lab in a new or empty directory"
        ) from None
    try:
        lab.seed(sample_path(SEED))
    except BaseException:
        lab.close()
        raise
    return lab


def run(directory: Path | None = None, *, rate: float = DOCUMENTED_RATE) -> DemoReport:
    """Make the demo lab (see `make_lab`), rotate, judge every record, re-encrypt, judge again.

    With a directory the lab is kept there; without one it is made in a temporary directory and is
    gone afterwards. `rate`, in calls a second, is what the forecast counts with.

    >>> report = run()
    >>> sum(report.before.outcomes.values()) == report.before.total == report.after.total
    True
    """
    if directory is not None:
        return _run(directory, rate, kept=True)
    with tempfile.TemporaryDirectory(prefix="kmslab-demo-") as place:
        return _run(Path(place) / "lab", rate, kept=False)


def _run(directory: Path, rate: float, *, kept: bool) -> DemoReport:
    started = perf_counter()
    source = sample_path(RECORDS)
    with make_lab(directory) as lab:
        olds = [lab.key(alias) for alias in ROTATED]
        news = [lab.rotate(old.key_id) for old in olds]
        destination = lab.key(DESTINATION).key_id
        records = list(read_csv(source))
        verdicts = _judge(lab, records, destination)
        before = _state(records, verdicts)
        batches = _batches(records, verdicts, destination)
        sending = perf_counter()
        done = _re_encrypt(lab, records, batches)
        sent = perf_counter()
        return DemoReport(
            lab=directory,
            kept=kept,
            source=source,
            aliases={key.key_id: key.alias for key in lab.keys()},
            rotated=tuple(
                _rotated(old, new, before.census) for old, new in zip(olds, news, strict=True)
            ),
            before=before,
            forecast=forecast(_calls(batches), rate),
            results=done.results(),
            failures=tuple(done.failures),
            after=_state(done.records, _judge(lab, done.records, destination)),
            re_encrypt_seconds=sent - sending,
            seconds=perf_counter() - started,
        )


def _rotated(old: Key, new: Key, census: Sequence[CensusRow]) -> Rotated:
    left = sum(row.records for row in census if row.key_version_id == old.primary_version_id)
    return Rotated(new.provider, new.key_id, new.alias, new.versions[-1].number, left)


def _judge(lab: Lab, records: Sequence[Record], destination: str) -> list[Verdict]:
    """Every record stays on its key, but for public-key ciphertext."""
    stay, move = Classifier(lab), Classifier(lab, Target(key_id=destination))
    return [(move if _is_public_key(record) else stay).classify(record) for record in records]


def _is_public_key(record: Record) -> bool:
    header = read_header(record.ciphertext_blob) if record.provider == CTYUN else None
    return header is not None and header.format is BlobFormat.PUBLIC_KEY


def _state(records: Sequence[Record], verdicts: Sequence[Verdict]) -> State:
    taken = Census()
    for record, verdict in zip(records, verdicts, strict=True):
        taken.add(record, verdict)
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    reasons = Counter((verdict.outcome, verdict.reason) for verdict in verdicts)
    return State(
        total=len(records),
        outcomes={outcome: outcomes[outcome] for outcome in Outcome},
        reasons=tuple(
            Reason(outcome, reason, count)
            for outcome in Outcome
            for (of, reason), count in reasons.most_common()
            if of is outcome
        ),
        census=tuple(taken.rows()),
    )


# Provider and destination (None: each its own key), what is sent, and the records it stands for.
_Batches = dict[tuple[str, str | None], dict[Record, list[int]]]


def _batches(records: Sequence[Record], verdicts: Sequence[Verdict], destination: str) -> _Batches:
    """What is sent, batch by batch. Equal blobs with equal contexts are sent once."""
    batches: _Batches = {}
    for index, (record, verdict) in enumerate(zip(records, verdicts, strict=True)):
        if verdict.outcome.sent:
            where = record.provider, destination if _is_public_key(record) else None
            sent = replace(record, record_id="", row=0, key_id=None, created_at=None, owner=None)
            batches.setdefault(where, {}).setdefault(sent, []).append(index)
    return batches


def _calls(batches: _Batches) -> dict[str, int]:
    calls: Counter[str] = Counter()
    for (provider, _), sent in batches.items():
        calls[provider] += len(sent)
    return dict(calls)


class _Done:
    """The records as they are re-encrypted, and what became of each."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)
        self.failures: list[Failed] = []
        self._re_encrypted = self._unchanged = self._verified = 0

    def take(self, index: int, blob: str, key_id: str | None, *, verified: bool) -> None:
        """A record has this blob now."""
        record = self.records[index]
        changed = blob != record.ciphertext_blob
        self._re_encrypted += changed
        self._unchanged += not changed
        self._verified += verified
        self.records[index] = replace(
            record,
            ciphertext_blob=blob,
            key_id=key_id,
            source_key_id=None,
            source_key_version_id=None,
            source_encryption_algorithm=None,
        )

    def fail(self, lab: Lab, index: int, error: KmsError) -> None:
        """A record was refused."""
        record = self.records[index]
        code = _REFUSALS[record.provider](error)
        explanation = lab.explain(record.ciphertext_blob, record.context)
        self.failures.append(Failed(record.record_id, record.provider, code, explanation))

    def results(self) -> Results:
        """The counts."""
        return Results(self._re_encrypted, self._unchanged, len(self.failures), self._verified)


def _re_encrypt(lab: Lab, records: Sequence[Record], batches: _Batches) -> _Done:
    done = _Done(records)
    for (provider, destination), sent in batches.items():
        answer = lab.kms(provider).re_encrypt_records(
            list(sent), destination_key_id=destination, verify=True
        )
        for row, indexes in enumerate(sent.values()):
            blob, error = answer.ciphertext_blob[row], answer.error[row]
            for index in indexes:
                if error is not None:
                    done.fail(lab, index, error)
                elif blob is not None:
                    verified = answer.verified[row] is True
                    done.take(index, blob, answer.key_id[row], verified=verified)
    done.failures.sort(key=lambda failed: failed.record_id)
    return done
