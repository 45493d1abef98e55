"""Encryptions are counted ahead: too many perhaps, too few never."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keystore_labs import Program, Servant, key_of, python, rows

from kmslab import Lab
from kmslab.errors import EncryptionCountWarning, EncryptionLimitReached
from kmslab.keystore.counting import LARGEST_STEP, LIMIT, WARN_AT, Counter


def stored(path: Path) -> int:
    """The encryptions in the database, of all versions."""
    return sum(row["encryptions"] for row in rows(path, "versions"))


def set_count(lab: Lab, key_id: str, count: int) -> None:
    """Count up as if so many had been made."""
    primary = lab._keystore.unit(key_id).primary
    assert primary is not None
    with lab._keystore.change() as change:
        change.count(primary, count - primary.row.encryptions)


def test_a_clean_close_counts_just_what_was_made(lab: Lab, lab_path: Path) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders")
    for made in range(1, 40):
        kms.encrypt(key.key_id, b"plain")
        assert stored(lab_path) >= made
    lab.close()
    assert stored(lab_path) == 39


def test_what_encrypts_is_counted_and_what_does_not_is_not(lab: Lab, lab_path: Path) -> None:
    kms, ctyun = lab.tencent(), lab.ctyun()
    key, other = kms.create_key("orders").key_id, ctyun.create_key().key_id
    blob = kms.encrypt(key, b"plain")  # 1
    kms.generate_data_key(key, number_of_bytes=32)  # 2
    kms.decrypt(blob)
    kms.re_encrypt(blob)  # already there
    kms.re_encrypt(blob, destination_context={"a": "b"})  # 3
    mine = ctyun.encrypt(other, b"plain")  # 4
    ctyun.re_encrypt(mine, destination_key_id=other)  # 5
    ctyun.generate_data_key_without_plaintext(other, number_of_bytes=32)  # 6
    kms.re_encrypt_many([blob] * 10)
    kms.re_encrypt_many([blob, "nonsense"] * 5, destination_contexts={"a": "b"})  # 11
    lab.close()
    assert stored(lab_path) == 11


def test_a_killed_process_has_not_counted_too_few(lab: Lab, lab_path: Path, soak: bool) -> None:
    key = lab.tencent().create_key("orders").key_id
    lab.close()
    made = 0
    for count in range(1, 60 if soak else 5):
        with Servant(lab_path) as servant:
            servant.ask("encrypt", key, str(count * 3))
            made += count * 3
            servant.kill()
        assert stored(lab_path) >= made


KILLED_WHILE_COUNTING = """
import sys
from kmslab import Lab
lab = Lab.open(sys.argv[1])
kms, key = lab.tencent(), sys.argv[2]
for made in range(1, 100000):
    kms.encrypt(key, b"plain")
    sys.stdout.write(f"{made}\\n")
    sys.stdout.flush()
"""


def test_killed_in_the_middle_of_it(lab: Lab, lab_path: Path, soak: bool) -> None:
    key = lab.tencent().create_key("orders").key_id
    lab.close()
    made = 0
    for _ in range(30 if soak else 2):
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as stdout:
            with os.fdopen(writing, "wb") as pipe:
                counting = Program(
                    KILLED_WHILE_COUNTING, lab_path, key, stdout=pipe, stderr=sys.__stderr__.buffer
                )
            for _ in range(random.randrange(1, 300)):
                stdout.readline()
            counting.kill()
            last = stdout.read().splitlines(keepends=True)
        assert counting.wait() == -signal.SIGKILL
        printed = [line for line in last if line.endswith(b"\n")]
        made += int(printed[-1]) if printed else 0
        assert stored(lab_path) >= made
    with Lab.open(lab_path) as opened:
        assert opened.audit.verify().intact


FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
import os, sys
from kmslab import Lab
lab = Lab.open(sys.argv[1])
kms, key = lab.tencent(), sys.argv[2]
for _ in range(10):
    kms.encrypt(key, b"plain")
child = os.fork()
for _ in range(5):
    kms.encrypt(key, b"plain")
if child == 0:
    lab.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
lab.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_has_a_share_of_its_own(lab: Lab, lab_path: Path) -> None:
    key = lab.tencent().create_key("orders").key_id
    lab.close()
    done = python(FORK, lab_path, key)
    assert done.returncode == 0, done.stderr
    assert stored(lab_path) == 20
    with Lab.open(lab_path) as opened:
        assert opened.audit.verify().intact
        assert opened.audit.verify().open_ends == 0


def test_it_warns_once_at_half(lab: Lab) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    set_count(lab, key, WARN_AT - 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kms.encrypt(key, b"plain")
    with pytest.warns(EncryptionCountWarning, match="rotate the key"):
        kms.encrypt(key, b"plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            kms.encrypt(key, b"plain")


def test_it_refuses_at_the_limit_until_the_key_is_rotated(lab: Lab, lab_path: Path) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    set_count(lab, key, LIMIT - 3)
    blobs = [kms.encrypt(key, b"plain") for _ in range(3)]
    for _ in range(2):
        with pytest.raises(EncryptionLimitReached, match="rotate the key"):
            kms.encrypt(key, b"plain")
        with pytest.raises(EncryptionLimitReached):
            kms.generate_data_key(key, number_of_bytes=32)
        with pytest.raises(EncryptionLimitReached):
            kms.re_encrypt(blobs[0], destination_context={"a": "b"})
    assert stored(lab_path) == LIMIT
    assert all(kms.decrypt(blob) == b"plain" for blob in blobs)
    lab.rotate(key)
    assert kms.decrypt(kms.re_encrypt(blobs[0]).ciphertext_blob) == b"plain"


def until_refused(call: Callable[[], object], most: int) -> int:
    """How many calls are answered before one is refused."""
    for made in range(most):
        try:
            call()
        except EncryptionLimitReached:
            return made
    return most


def test_a_batch_does_not_pass_the_limit(lab: Lab, lab_path: Path) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    blob = kms.encrypt(key, b"plain")
    set_count(lab, key, LIMIT - 4)
    with suppress(EncryptionLimitReached):
        done = kms.re_encrypt_many([blob] * 10, destination_contexts={"a": "b"})
        assert sum(made is not None for made in done.ciphertext_blob) <= 4
    assert stored(lab_path) <= LIMIT


def test_two_processes_share_one_limit(lab: Lab, lab_path: Path) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    set_count(lab, key, LIMIT - 4)
    with Servant(lab_path) as servant:
        assert servant.ask("encrypt", key, "2") != "EncryptionLimitReached"
        made = until_refused(lambda: kms.encrypt(key, b"plain"), 9)
    assert made <= 2
    assert stored(lab_path) <= LIMIT


def test_threads_share_one_count(lab: Lab, lab_path: Path) -> None:
    key = lab.tencent().create_key("orders").key_id

    def work() -> None:
        kms = lab.tencent()
        for _ in range(100):
            kms.encrypt(key, b"plain")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert key_of(lab, key).versions[0].encryptions >= 800
    lab.close()
    assert stored(lab_path) == 800


Step = st.one_of(
    st.tuples(st.just("take"), st.integers(1, 1000)),
    st.tuples(st.just("give"), st.integers(0, 10)),
    st.tuples(st.just("drain"), st.just(0)),
)


@given(st.lists(Step, max_size=40))
def test_what_is_used_was_reserved_before(steps: list[tuple[str, int]]) -> None:
    reserved = used = returned = 0

    def reserve(least: int, step: int) -> int:
        nonlocal reserved
        assert least >= 1
        reserved += max(least, step)
        return max(least, step)

    counter = Counter(reserve)
    for step, count in steps:
        if step == "take":
            counter.take(count)
            used += count
        elif step == "give" and count <= used:
            counter.give(count)
            used -= count
        elif step == "drain":
            returned += counter.drain()
        assert used <= reserved - returned
    returned += counter.drain()
    assert used == reserved - returned


def test_reserving_gets_rarer() -> None:
    steps: list[int] = []
    counter = Counter(lambda least, step: steps.append(step) or step)  # type: ignore[func-returns-value]
    for _ in range(LARGEST_STEP * 4):
        counter.take()
    assert steps[:5] == [1, 2, 4, 8, 16]
    assert max(steps) == LARGEST_STEP


def test_a_rotation_begins_at_nothing(lab: Lab) -> None:
    kms = lab.tencent()
    key = kms.create_key("orders").key_id
    set_count(lab, key, 1000)
    lab.rotate(key)
    kms.encrypt(key, b"plain")
    assert [v.encryptions for v in key_of(lab, key).versions] == [1000, 1]
