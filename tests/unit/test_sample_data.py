"""The sample data are what their script makes, open with their seed, and hold all of real life."""

from __future__ import annotations

import base64
import csv
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from kmslab import Lab, ManualClock, Record
from kmslab.analysis import Classifier, Outcome, Target
from kmslab.context import canonical_context
from kmslab.demo import DEMO_TIME, sample_path
from kmslab.errors import InvalidCiphertext, SourceError
from kmslab.inspection import inspect
from kmslab.model import CTYUN, TENCENT, BlobFormat, Key, KeySpec, KeyState
from kmslab.providers.ctyun import blob as ctyun
from kmslab.records import read_csv

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"
FILES = ("seed.yaml", "records.csv")
RECORDS = list(read_csv(SAMPLE_DATA / "records.csv"))


def rows() -> list[dict[str, str]]:
    with (SAMPLE_DATA / "records.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


NOTES = {row["record_id"]: row["note"] for row in rows()}


def keys_of(lab: Lab) -> tuple[Key, ...]:
    """A Lab is no dict, whatever the linter takes its `keys()` for."""
    return lab.keys()


def noted(text: str) -> list[Record]:
    """The records whose note has a text in it; at least one."""
    found = [record for record in RECORDS if text in NOTES[record.record_id]]
    assert found, text
    return found


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab.in_memory(clock=ManualClock(DEMO_TIME)) as made:
        made.seed(SAMPLE_DATA / "seed.yaml")
        yield made


# The script


def test_the_script_makes_the_same_bytes(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE_DATA / "inputs", tmp_path / "inputs")
    shutil.copy(SAMPLE_DATA / "make.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make.py"], check=True, timeout=60)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SAMPLE_DATA / name).read_bytes(), name


def test_the_size() -> None:
    assert 3_000 <= len(RECORDS) <= 4_000
    assert (SAMPLE_DATA / "records.csv").stat().st_size < 2_000_000
    readme = (SAMPLE_DATA / "README.md").read_text(encoding="utf-8")
    assert f"{len(RECORDS):,} records" in readme
    assert len({record.record_id for record in RECORDS}) == len(RECORDS)


def test_sample_path_says_where_it_looked() -> None:
    assert sample_path("records.csv").read_bytes() == (SAMPLE_DATA / "records.csv").read_bytes()
    with pytest.raises(SourceError, match=r"sample_data.*nothing\.csv"):
        sample_path("nothing.csv")


def test_installed_sample_data_are_found_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "kmslab" / "sample_data" / "seed.yaml"
    stranger = tmp_path / "sample_data" / "seed.yaml"
    for file in (installed, stranger):
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.setattr("kmslab.demo.__file__", str(tmp_path / "kmslab" / "demo.py"))
    assert sample_path("seed.yaml") == installed


# Keys


def test_keys_of_every_kind_and_state(lab: Lab) -> None:
    assert lab.info().unsafe
    for provider in (TENCENT, CTYUN):
        keys = [key for key in keys_of(lab) if key.provider == provider]
        symmetric = [key for key in keys if key.spec.symmetric]
        assert max(len(key.versions) for key in symmetric) >= 4
        assert any(key.spec is KeySpec.SM4 and len(key.versions) > 1 for key in symmetric)
        assert {key.state for key in keys} >= {
            KeyState.ENABLED,
            KeyState.DISABLED,
            KeyState.PENDING_DELETION,
            KeyState.DELETED,
        }
    assert lab.key("legacy-app").state is KeyState.ARCHIVED
    assert lab.key("exchange").spec is KeySpec.RSA_2048
    assert len(lab.key("exchange").versions) == 2
    assert any(not key.description.isascii() for key in keys_of(lab))


def test_automatic_rotations_are_dated_and_none_is_due(lab: Lab) -> None:
    for key in keys_of(lab):
        assert [v.number for v in key.versions] == list(range(1, len(key.versions) + 1))
        assert all(v.due_at is None or v.due_at <= v.made_at for v in key.versions)
        if key.rotation_days is not None:
            assert key.next_rotation_at is not None
            assert key.next_rotation_at > DEMO_TIME
            assert all(v.due_at is not None for v in key.versions[1:])
        if key.state is KeyState.PENDING_DELETION:
            assert key.deletion_at is not None
            assert key.deletion_at > DEMO_TIME


def test_deleted_keys_have_no_material_anywhere(lab: Lab) -> None:
    seed = yaml.safe_load((SAMPLE_DATA / "seed.yaml").read_text(encoding="utf-8"))
    deleted = [key for key in seed["keys"] if key["state"] == "deleted"]
    assert deleted
    assert all("material" not in version for key in deleted for version in key["versions"])
    for key in keys_of(lab):
        gone = key.state is KeyState.DELETED
        assert all(version.has_material is not gone for version in key.versions)


def test_key_material_is_only_in_the_seed() -> None:
    seed = yaml.safe_load((SAMPLE_DATA / "seed.yaml").read_text(encoding="utf-8"))
    records = (SAMPLE_DATA / "records.csv").read_bytes()
    for version in (version for key in seed["keys"] for version in key["versions"]):
        text = version.get("material", "")
        if text and not text.startswith("-----"):
            assert text.encode() not in records
            assert base64.b64decode(text).hex().encode() not in records


def test_encryptions_are_counted_never_too_low(lab: Lab) -> None:
    made: dict[str, set[str]] = {}
    for record in RECORDS:
        found = inspect(record.ciphertext_blob)
        if found.format is BlobFormat.LAB and not NOTES[record.record_id].startswith(
            ("one bit", "from another lab")
        ):
            made.setdefault(found.key_version_id or "", set()).add(record.ciphertext_blob)
    for key in keys_of(lab):
        for version in key.versions:
            assert version.encryptions >= len(made.get(version.version_id, ()))


# Records


def test_what_is_in_order_opens(lab: Lab) -> None:
    usable = {k.key_id for k in keys_of(lab) if k.state in (KeyState.ENABLED, KeyState.ARCHIVED)}
    classifier = Classifier(lab)
    opened: Counter[str] = Counter()
    for provider in (TENCENT, CTYUN):
        records = [
            record
            for record in RECORDS
            if record.provider == provider
            and classifier.classify(record).outcome in (Outcome.STALE, Outcome.CURRENT)
        ]
        answer = lab.kms(provider).decrypt_records(records)
        for record, plaintext, key_id in zip(records, answer.plaintext, answer.key_id, strict=True):
            if plaintext is not None:
                assert len(plaintext) >= 8
                assert key_id in usable
                opened[provider] += 1
            else:
                assert NOTES[record.record_id]
    assert opened[TENCENT] > 1_500
    assert opened[CTYUN] > 900


def test_every_outcome_of_a_local_lab_occurs(lab: Lab) -> None:
    stay = Classifier(lab)
    move = Classifier(lab, Target(key_id=lab.key("documents").key_id))
    found = {classifier.classify(r).outcome for classifier in (stay, move) for r in RECORDS}
    # Both are about a cloud's own blob that a remote knows.
    assert found == set(Outcome) - {Outcome.MAY_CHANGE, Outcome.NEEDS_CONTEXT}


def test_every_reason_to_be_blocked_occurs(lab: Lab) -> None:
    classifier = Classifier(lab)
    verdicts = map(classifier.classify, RECORDS)
    reasons = {verdict.reason for verdict in verdicts if verdict.outcome is Outcome.BLOCKED}
    assert reasons == {
        "key archived",
        "key disabled",
        "key missing",
        "key pending-deletion",
        "key version missing",
        "no symmetric destination",
    }


def test_cloud_made_blobs_of_both_providers(lab: Lab) -> None:
    classifier = Classifier(lab)
    records = noted("from public documentation")
    outcomes = Counter((r.provider, classifier.classify(r).outcome) for r in records)
    assert outcomes == {
        (TENCENT, Outcome.FOREIGN): 7,
        (TENCENT, Outcome.INVALID): 1,
        (CTYUN, Outcome.FOREIGN): 1,
        (CTYUN, Outcome.INVALID): 2,
    }


def test_flipped_bits_with_the_crc_repaired_parse_and_do_not_open(lab: Lab) -> None:
    records = [r for r in noted("flipped") if "CRC repaired" in NOTES[r.record_id]]
    for record in records:
        assert inspect(record.ciphertext_blob).format is BlobFormat.LAB
        with pytest.raises(InvalidCiphertext):
            lab.tencent().decrypt(record.ciphertext_blob, context=record.context)
    classifier = Classifier(lab)
    for record in noted("CRC broken"):
        assert "CRC" in classifier.classify(record).reason


@pytest.mark.parametrize("how", ["cut at", "last character", "lower case", "broken into lines"])
def test_what_is_no_blob_any_more_is_invalid(lab: Lab, how: str) -> None:
    classifier = Classifier(lab)
    for record in noted(how):
        assert classifier.classify(record).outcome is Outcome.INVALID


@pytest.mark.parametrize(
    "how",
    ["another tenant's context", "spelled otherwise", "context was lost", "without a context"],
)
def test_wrong_contexts_are_only_seen_when_opened(lab: Lab, how: str) -> None:
    classifier = Classifier(lab)
    for record in noted(how):
        assert classifier.classify(record).outcome in (Outcome.STALE, Outcome.CURRENT)
        with pytest.raises(InvalidCiphertext):
            lab.tencent().decrypt(record.ciphertext_blob, context=record.context)


def test_contexts_in_several_spellings_and_scripts(lab: Lab) -> None:
    contexts = {r.context for r in RECORDS if r.context and not NOTES[r.record_id]}
    assert any(text != canonical_context(text) for text in contexts)
    assert any(not text.isascii() for text in contexts)
    classifier = Classifier(lab)
    for record in noted("malformed context"):
        assert "context" in classifier.classify(record).reason


def test_public_key_ciphertext_of_openssl(lab: Lab) -> None:
    kms = lab.ctyun()
    records = [r for r in RECORDS if len(r.ciphertext_blob) == ctyun.PUBLIC_KEY_CHARS]
    records = [r for r in records if inspect(r.ciphertext_blob).format is BlobFormat.PUBLIC_KEY]
    answer = kms.decrypt_records(records)
    sizes: Counter[tuple[str, int]] = Counter()
    for record, plaintext in zip(records, answer.plaintext, strict=True):
        if plaintext is not None:
            sizes[record.source_encryption_algorithm or "", len(plaintext)] += 1
            assert not NOTES[record.record_id]
        else:
            assert NOTES[record.record_id]
    assert sizes == {
        ("RSAES_OAEP_SHA_256", 32): 24,
        ("RSAES_OAEP_SHA_256", 190): 1,
        ("RSAES_OAEP_SHA_1", 32): 18,
        ("RSAES_OAEP_SHA_1", 214): 1,
    }
    for record in noted("MGF1-SHA-1"):
        with pytest.raises(InvalidCiphertext):
            kms.re_encrypt(
                record.ciphertext_blob,
                destination_key_id=lab.key("documents").key_id,
                source_key_id=record.source_key_id,
                source_key_version_id=record.source_key_version_id,
                source_algorithm=record.source_encryption_algorithm,
            )
    (without,) = noted("source columns are missing")
    assert Classifier(lab).classify(without).outcome is Outcome.NEEDS_PUBLIC_KEY_INFO


def test_duplicates_owners_and_other_columns() -> None:
    pairs = Counter((r.provider, r.ciphertext_blob, r.context) for r in RECORDS)
    assert sum(count > 1 for count in pairs.values()) >= 20
    assert any(record.owner and not record.owner.isascii() for record in RECORDS)
    notes = set(NOTES.values())
    for sign in (",", '"', "\n"):
        assert any(sign in note for note in notes)
    assert all("tenant_id" in row for row in rows())


def test_records_keep_to_the_two_years() -> None:
    times = [record.created_at for record in RECORDS if record.created_at is not None]
    assert len(times) == len(RECORDS)
    assert times == sorted(times)
    assert times[-1] < DEMO_TIME
    assert (times[-1] - times[0]).days > 700
