"""What an undo puts back is what was there; what somebody has edited beside a blob is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from campaign_data import COLUMNS, WRITERS, Row, read_rows, write_csv

from kmslab import Lab
from kmslab.analysis.classify import Target
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.undo import undo
from kmslab.campaign.watching import Watch
from kmslab.errors import CampaignInterrupted
from kmslab.records.source import CHUNK_ROWS
from kmslab.records.spec import SourceSpec


@pytest.fixture
def keys(lab: Lab) -> tuple[str, str]:
    return lab.tencent().create_key("from").key_id, lab.tencent().create_key("to").key_id


def rows_of(lab: Lab, key: str, count: int, **values: str | None) -> list[Row]:
    blob = lab.tencent().encrypt(key, b"x")
    row = dict.fromkeys(COLUMNS) | {"provider": "tencent", "ciphertext_blob": blob} | values
    return [row | {"record_id": f"rec-{n:05}"} for n in range(count)]


def of_source(spec: SourceSpec) -> Path:
    return Path(spec.location.removeprefix("sqlite:///"))


def test_empty_texts_and_nulls_come_back(
    ground: Ground, lab: Lab, keys: tuple[str, str], kind: str, tmp_path: Path
) -> None:
    old, new = keys
    rows = [
        row | {"key_id": key, "encryption_context": context}
        for row, (key, context) in zip(
            rows_of(lab, old, 6),
            [("", ""), ("", None), (None, ""), (None, None), (old, ""), (old, None)],
            strict=True,
        )
    ]
    spec = WRITERS[kind](tmp_path / "exact", rows)
    before, content = read_rows(spec), of_source(spec).read_bytes()
    report = run(ground, spec, Target(key_id=new, context={"app": "orders"}))
    assert report.results.re_encrypted == 6
    changed = [(row["key_id"], row["encryption_context"]) for row in read_rows(spec)]
    assert changed == [(new, '{"app":"orders"}')] * 6
    assert undo(ground, report.campaign).undone == 6
    assert read_rows(spec) == before
    assert kind in ("parquet", "sqlite") or of_source(spec).read_bytes() == content


def test_members_that_were_not_there_go_again(
    ground: Ground, lab: Lab, keys: tuple[str, str], tmp_path: Path
) -> None:
    old, new = keys
    path = tmp_path / "exact.jsonl"
    members: list[Row] = [{"key_id": old}, {}, {"key_id": None}, {"key_id": ""}]
    rows = [
        {name: value for name, value in row.items() if value is not None} | others
        for row, others in zip(rows_of(lab, old, 4), members, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    content = path.read_bytes()
    report = run(ground, SourceSpec(str(path)), Target(key_id=new))
    assert [row["key_id"] for row in read_rows(SourceSpec(str(path)))] == [new] * 4
    assert undo(ground, report.campaign).undone == 4
    assert path.read_bytes() == content


def edited(spec: SourceSpec, write: Callable[[Path, list[Row]], SourceSpec], row: int) -> None:
    """Somebody names the key of a row otherwise, and leaves its blob."""
    rows = read_rows(spec)
    rows[row]["key_id"] = "alias"
    of_source(spec).unlink()
    write(of_source(spec), rows)


def test_an_undo_leaves_a_row_edited_beside_its_blob(
    ground: Ground, lab: Lab, keys: tuple[str, str], kind: str, tmp_path: Path
) -> None:
    old, new = keys
    rows = rows_of(lab, old, 5, key_id=old)
    spec = WRITERS[kind](tmp_path / "edited", rows)
    report = run(ground, spec, Target(key_id=new))
    edited(spec, WRITERS[kind], 2)
    theirs = read_rows(spec)[2]
    report = undo(ground, report.campaign)
    assert report.undone == 4
    after = read_rows(spec)
    assert after.pop(2) == theirs
    assert [(row["ciphertext_blob"], row["key_id"]) for row in after] == [
        (row["ciphertext_blob"], old) for row in rows[:4]
    ]


def test_a_resume_leaves_a_row_edited_beside_its_blob(
    ground: Ground, lab: Lab, keys: tuple[str, str], tmp_path: Path
) -> None:
    old, new = keys
    spec = write_csv(tmp_path / "edited", rows_of(lab, old, 2 * CHUNK_ROWS, key_id=old))
    chunks: list[str] = []

    def progress(told: object) -> None:
        chunks.append(told.doing)  # type: ignore[attr-defined]

    with pytest.raises(CampaignInterrupted) as caught:
        run(
            ground,
            spec,
            Target(key_id=new),
            watch=Watch(progress, lambda: "re-encrypting" in chunks),
        )
    assert caught.value.campaign_id is not None
    edited(spec, write_csv, 2)
    results = resume(ground, caught.value.campaign_id).results
    assert (results.re_encrypted, results.lost) == (2 * CHUNK_ROWS - 1, 1)
    assert {row["key_id"] for row in read_rows(spec)} == {new, "alias"}
