"""The memory of a campaign does not grow with its records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from campaign_bulk import peak_mb


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["csv", "parquet", "sqlite", "postgresql"])
def test_ten_million_records_take_no_more_memory_than_a_million(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From one million on, since one row group of a Parquet file is in memory."""
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    million = peak_mb(tmp_path / "million", kind, 1_000_000, url=url)
    shutil.rmtree(tmp_path / "million")
    assert peak_mb(tmp_path / "ten", kind, 10_000_000, url=url) < million + 32
