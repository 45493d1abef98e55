"""Pairs and bundles that cost next to nothing."""

from __future__ import annotations

from functools import partial

import pytest
from keystore_kinds import CHEAP

from kmslab.crypto import Argon2Parameters
from kmslab.keystore import bundle


@pytest.fixture(scope="module", autouse=True)
def cheap_pairs(pairs_made_once: None) -> None:
    """No test here is about the making of pairs, unless it says so."""


@pytest.fixture(autouse=True)
def cheap_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles that a test makes cost next to nothing to open."""
    monkeypatch.setattr(bundle, "Argon2Parameters", partial(Argon2Parameters, **CHEAP))
