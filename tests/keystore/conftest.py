"""Pairs that cost nothing."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def cheap_pairs(pairs_made_once: None) -> None:
    """No test here is about the making of pairs."""
