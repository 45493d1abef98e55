"""A lab in PostgreSQL against one in a directory, in one run; the server is durable, and here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from postgres_server import programs, running

from kmslab import Lab

CALLS, BLOBS, CHANGES, ROUNDS = 2000, 10_000, 20, 3


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[dict[str, Lab]]:
    """One in each."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not here; install the package postgresql")
    with ExitStack() as stack:
        server = stack.enter_context(running(binaries, durable=True))
        directory = Lab.create(tmp_path / "lab")
        database = Lab.create(server.url(), root_key=tmp_path / "root.key")
        yield {
            "SQLite": stack.enter_context(directory),
            "PostgreSQL": stack.enter_context(database),
        }


def measured(lab: Lab) -> dict[str, float]:
    """Seconds for each kind of work."""
    kms = lab.ctyun()
    key = kms.create_key(alias=f"key-{time.monotonic_ns()}").key_id
    blobs = list(kms.encrypt_many([b"plain"] * BLOBS, key_id=key).ciphertext_blob)
    kms.encrypt(key, b"plain")

    def took(act: Callable[[], object]) -> float:
        begun = time.perf_counter()
        act()
        return time.perf_counter() - begun

    return {
        "encrypt": took(lambda: [kms.encrypt(key, b"plain") for _ in range(CALLS)]) / CALLS,
        "rotate": took(lambda: [lab.rotate(key) for _ in range(CHANGES)]) / CHANGES,
        "re_encrypt_many": took(lambda: kms.re_encrypt_many(blobs, destination_key_ids=key))
        / BLOBS,
    }


def test_a_lab_in_postgresql(labs: dict[str, Lab], benchmark, note: Callable[[str], None]) -> None:
    def all_of_them() -> dict[str, list[dict[str, float]]]:
        return {name: [measured(lab) for _ in range(ROUNDS)] for name, lab in labs.items()}

    for name, rounds in benchmark.pedantic(all_of_them, rounds=1, iterations=1).items():
        for what in rounds[0]:
            best = min(found[what] for found in rounds)
            note(f"{f'{what}, {name}':44} {best * 1e6:12,.1f} us each")
