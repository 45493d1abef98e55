"""Processes that rotate, disable, enable and encrypt at random, each on all keys.

What one of them has been answered binds the next call of every other one. Their clocks are one:
that of the machine, which no process can set.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from keystore_labs import python

from kmslab import Lab

WORK = """
import json, random, sys, time
from kmslab import Lab, inspect
from kmslab.errors import KmsError
path, round_of, seconds, number, *keys = sys.argv[1:]
chance = random.Random(int(number))
with Lab.open(path) as lab:
    kms = lab.ctyun()

    def encrypt(key):
        return [inspect(kms.encrypt(key, b"plain")).key_version_id]

    def encrypt_many(key):
        made = kms.encrypt_many([b"plain"] * 20, key_id=key)
        if any(made.error):
            raise made.error[0]
        return [inspect(blob).key_version_id for blob in made.ciphertext_blob]

    ACTIONS = {
        "encrypt": encrypt,
        "encrypt_many": encrypt_many,
        "rotate": lambda key: [lab.rotate(key).primary_version_id],
        "disable": lambda key: [kms.disable_key(key).state] and [],
        "enable": lambda key: [kms.enable_key(key).state] and [],
    }
    done = []
    until = time.monotonic() + float(seconds)
    while not done or time.monotonic() < until:
        asked = [name for name, times in json.loads(round_of).items() for _ in range(times)]
        chance.shuffle(asked)
        for name in asked:
            key = chance.choice(keys)
            began = time.monotonic_ns()
            try:
                versions = ACTIONS[name](key)
            except KmsError:
                name, versions = f"refused {name}", []
            done.append([name, key, began, time.monotonic_ns(), versions])
print(*map(json.dumps, done), sep="\\n")
"""


# What each process does in a round, in an order of its own.
ROUND = {"encrypt": 14, "encrypt_many": 3, "rotate": 3, "disable": 2, "enable": 3}


def run(path: Path, processes: int, seconds: float, keys: list[str]) -> list[list[Any]]:
    """What the processes did, in rounds for so many seconds, and in one at least: name, key,
    beginning, end, versions."""
    said: list[str] = []

    def work(number: int) -> None:
        done = python(WORK, path, json.dumps(ROUND), seconds, number, *keys)
        assert done.returncode == 0, done.stderr
        said.extend(done.stdout.splitlines())

    threads = [threading.Thread(target=work, args=[number]) for number in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [json.loads(line) for line in said]


class Spans:
    """Calls as pairs of beginning and end, asked for the latest value of those before a moment."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        """Each span is the moment by which they are found, and the value that is asked for."""
        ordered = sorted(spans)
        self._moments = [moment for moment, _ in ordered]
        self._latest = [*accumulate((value for _, value in ordered), max)]

    def latest(self, before: int) -> int:
        """The latest value of the spans whose moment is before this one; 0 where there is none."""
        found = bisect_left(self._moments, before)
        return self._latest[found - 1] if found else 0


def misuses(done: list[list[Any]], first: Iterable[str]) -> Iterator[tuple[str, list[Any]]]:
    """Encryptions that must not have been: under a version that was replaced before they began, or
    on a key that was disabled by then and not enabled since."""
    answered = dict.fromkeys(first, 0)
    by_key: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for name, key, began, ended, versions in done:
        by_key[key][name].append((began, ended))
        if name == "rotate":
            answered[versions[0]] = ended
    calls = {
        key: (
            Spans((ended, began) for began, ended in of["rotate"]),
            Spans((ended, began) for began, ended in of["disable"]),
            Spans(of["enable"]),
        )
        for key, of in by_key.items()
    }
    for call in done:
        name, key, began, ended, versions = call
        if not name.startswith("encrypt"):
            continue
        rotated, disabled, enabled = calls[key]
        # A rotation that began after this version's own was answered has made a later one.
        if any(rotated.latest(before=began) > answered[version] for version in versions):
            yield "old version", call
        if disabled.latest(before=began) > enabled.latest(before=ended):
            yield "disabled key", call


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([("rotate", 1, 2, "b"), ("encrypt", 3, 4, "a")], ["old version"]),
        ([("rotate", 1, 3, "b"), ("encrypt", 2, 4, "a")], []),
        ([("rotate", 1, 2, "b"), ("encrypt", 3, 4, "b")], []),
        ([("rotate", 1, 4, "b"), ("rotate", 2, 3, "c"), ("encrypt", 5, 6, "b")], []),
        ([("disable", 1, 2, ""), ("encrypt", 3, 4, "a")], ["disabled key"]),
        ([("disable", 1, 3, ""), ("encrypt", 2, 4, "a")], []),
        ([("disable", 1, 2, ""), ("enable", 3, 5, ""), ("encrypt", 4, 6, "a")], []),
        ([("enable", 1, 2, ""), ("disable", 3, 4, ""), ("encrypt", 5, 6, "a")], ["disabled key"]),
    ],
)
def test_a_misuse_would_be_seen(calls: list[tuple[str, int, int, str]], found: list[str]) -> None:
    done = [[name, "key", began, ended, [version]] for name, began, ended, version in calls]
    assert [what for what, _ in misuses(done, ["a"])] == found


@pytest.mark.scale
def test_a_storm_of_processes(tmp_path: Path, soak: bool) -> None:
    path = tmp_path / "lab"
    with Lab.create(path) as lab:
        made = [lab.ctyun().create_key(alias=f"key-{n}") for n in range(4)]
    first = [key.primary_version_id or "" for key in made]
    processes, seconds = (8, 60) if soak else (4, 0)
    done = run(path, processes, seconds, [key.key_id for key in made])
    names = Counter(call[0] for call in done)
    asked = Counter(call[0].removeprefix("refused ") for call in done)
    rounds = len(done) // sum(ROUND.values())
    assert asked == {name: times * rounds for name, times in ROUND.items()}
    assert soak or rounds == processes
    # A key is disabled and enabled whatever it is, and is used unless it is disabled.
    assert set(names) - set(ROUND) <= {f"refused {name}" for name in list(ROUND)[:3]}, names
    assert list(misuses(done, first)) == []
    with Lab.open(path) as lab:
        counted = {v.version_id: v.encryptions for key in lab.keys() for v in key.versions}
        check = lab.audit.verify()
    used = Counter(v for call in done if call[0].startswith("encrypt") for v in call[4])
    assert {v: n for v, n in used.items() if n > counted[v]} == {}
    assert (check.intact, check.open_ends) == (True, 0)
    assert len(counted) == len(made) + names["rotate"]
