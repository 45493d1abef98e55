"""Verify: what the records hold now, each counted once."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaign_data import TWENTIES, World, read_rows, write_csv

from kmslab import Lab
from kmslab.campaign.proof import verify
from kmslab.campaign.run import Ground, run
from kmslab.campaign.undo import undo
from kmslab.errors import CampaignState
from kmslab.records.spec import SourceSpec


def test_a_restored_backup_proves_nothing(ground: Ground, world: World, tmp_path: Path) -> None:
    spec = write_csv(tmp_path / "s", world.rows)
    report = run(ground, spec)
    assert verify(ground, report.campaign).complete
    write_csv(tmp_path / "s", world.rows)
    proof = verify(ground, report.campaign)
    assert (proof.changed, proof.reverted) == (9 * TWENTIES, 9 * TWENTIES)
    assert (proof.proven, proof.touched, proof.gone, proof.unproven) == (0, 0, 0, 0)
    assert not proof.complete


def test_every_record_counts_once(ground: Ground, world: World, tmp_path: Path, lab: Lab) -> None:
    spec = write_csv(tmp_path / "s", world.rows)
    report = run(ground, spec)
    rows = read_rows(spec)
    old = {row["record_id"]: row["ciphertext_blob"] for row in world.rows}
    changed = [row for row in rows if row["ciphertext_blob"] != old[row["record_id"]]]
    changed[0]["ciphertext_blob"] = old[changed[0]["record_id"]]
    changed[1]["ciphertext_blob"] = "AAAA"
    rows.remove(changed[2])
    write_csv(tmp_path / "s", rows)
    lab.ctyun().disable_key(world.keys.billing)
    proof = verify(ground, report.campaign)
    assert (proof.reverted, proof.touched, proof.gone) == (1, 1, 1)
    assert proof.unproven == sum(row["key_id"] == world.keys.billing for row in changed[3:])
    assert len(proof.unproven_ids) == proof.unproven > 0
    counts = (proof.proven, proof.reverted, proof.touched, proof.gone, proof.unproven)
    assert sum(counts) == proof.changed == report.results.re_encrypted


def test_what_was_undone_is_not_verified(ground: Ground, spec: SourceSpec) -> None:
    report = run(ground, spec)
    undo(ground, report.campaign)
    with pytest.raises(CampaignState, match="is undone; a finished one can be verified"):
        verify(ground, report.campaign)
