"""Several threads and processes on one lab: who comes after a change sees it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keystore_labs import Servant, key_of, python, rows
from keystore_victim import cheap

from kmslab import Lab, inspect
from kmslab.errors import KeyDisabled, KmsError


@pytest.fixture
def key_id(lab_path: Path) -> str:
    """A key in a lab on the machine's clock."""
    with Lab.create(lab_path) as lab:
        return lab.tencent().create_key("orders").key_id


@pytest.fixture
def servant(key_id: str, lab_path: Path) -> Iterator[Servant]:
    with Servant(lab_path) as found:
        yield found


@pytest.fixture
def here(key_id: str, lab_path: Path) -> Iterator[Lab]:
    """The lab in this process."""
    with Lab.open(lab_path) as lab:
        yield lab


def version_of(blob: str) -> str:
    found = inspect(blob).key_version_id
    assert found is not None
    return found


def test_a_rotation_is_seen(here: Lab, servant: Servant, key_id: str) -> None:
    kms = here.tencent()
    blob = kms.encrypt(key_id, b"plain")
    for _ in range(10):
        primary = servant.ask("rotate", key_id)
        assert version_of(kms.encrypt(key_id, b"plain")) == primary
        assert kms.re_encrypt(blob).key_version_id == primary
        blob = kms.re_encrypt(blob).ciphertext_blob
        mine = here.rotate(key_id).primary_version_id
        assert servant.ask("primary", key_id) == mine
        assert version_of(servant.ask("encrypt", key_id)) == mine
    assert servant.ask("decrypt", blob) == "plain"


def test_disabling_is_seen(here: Lab, servant: Servant, key_id: str) -> None:
    kms = here.tencent()
    blob = kms.encrypt(key_id, b"plain")
    for _ in range(10):
        assert servant.ask("disable", key_id) == "disabled"
        for call in (
            lambda: kms.encrypt(key_id, b"plain"),
            lambda: kms.decrypt(blob),
            lambda: kms.re_encrypt(blob),
        ):
            with pytest.raises(KeyDisabled):
                call()
        assert kms.re_encrypt_many([blob]).error[0] is not None
        kms.enable_key(key_id)
        assert servant.ask("decrypt", blob) == "plain"


def test_a_scheduled_deletion_is_seen(here: Lab, servant: Servant, key_id: str) -> None:
    kms = here.tencent()
    blob = kms.encrypt(key_id, b"plain")
    kms.disable_key(key_id)
    kms.schedule_key_deletion(key_id, 7)
    assert servant.ask("decrypt", blob) == "KeyPendingDeletion"
    assert servant.ask("encrypt", key_id) == "KeyPendingDeletion"
    kms.cancel_key_deletion(key_id)
    kms.enable_key(key_id)
    assert servant.ask("decrypt", blob) == "plain"


def test_a_new_key_is_seen(here: Lab, servant: Servant) -> None:
    for number in range(10):
        key = servant.ask("create", f"key{number}")
        assert here.tencent().encrypt(key, b"plain")
        mine = here.tencent().create_key(f"mine{number}").key_id
        assert servant.ask("state", mine) == "enabled"


def test_a_rekey_is_seen(here: Lab, servant: Servant, lab_path: Path, key_id: str) -> None:
    kms = here.tencent()
    blob = kms.encrypt(key_id, b"plain")
    for _ in range(4):
        assert servant.ask("rekey") == "done"
        assert kms.decrypt(blob) == b"plain"
        here.rotate(key_id)
        here.rekey()
        assert servant.ask("decrypt", blob) == "plain"
        servant.ask("rotate", key_id)
    assert here.audit.verify().intact
    assert servant.ask("audit") == "True"
    assert [p.name for p in lab_path.glob("root.key*")] == ["root.key"]


def test_a_revoked_credential_is_seen(here: Lab, servant: Servant, key_id: str) -> None:
    here.credentials.create("app")
    blob = servant.ask("as", "app", key_id)
    assert here.tencent().decrypt(blob) == b"plain"
    mine = here.tencent(credential="app")
    mine.encrypt(key_id, b"plain")
    assert servant.ask("revoke", "app") == "app"
    with pytest.raises(KmsError):
        mine.encrypt(key_id, b"plain")
    with pytest.raises(KmsError):
        mine.decrypt(blob)
    here.credentials.create("other")
    assert servant.ask("as", "other", key_id)
    here.credentials.revoke("other")
    assert servant.ask("as", "other", key_id) in ("CredentialError", "Unauthorized")


def test_a_setting_is_seen(here: Lab, servant: Servant) -> None:
    for value in range(10):
        servant.ask("set", "cmk_uuid", "source" if value % 2 else "destination")
        assert here.settings.all()["cmk_uuid"] == ("source" if value % 2 else "destination")


def test_what_a_killed_process_has_changed_is_seen_soon(
    here: Lab, servant: Servant, lab_path: Path, key_id: str
) -> None:
    """Killed after the commit, and before it could tell anybody."""
    before = key_of(here, key_id).primary_version_id
    servant.tell("rotate_many", key_id, "100000")
    until = time.monotonic() + 60
    while len(rows(lab_path, "versions")) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    servant.kill()
    time.sleep(0.06)
    kms = here.tencent()
    blob = kms.encrypt(key_id, b"plain")
    assert version_of(blob) != before
    assert version_of(blob) == here.rotate(key_id).versions[-2].version_id


def test_two_rekeys_at_once(here: Lab, servant: Servant, lab_path: Path, key_id: str) -> None:
    blob = here.tencent().encrypt(key_id, b"plain")
    for _ in range(4):
        servant.tell("rekey")
        here.rekey()
        assert servant.answer() == "done"
        with Lab.open(lab_path) as opened:
            assert opened.tencent().decrypt(blob) == b"plain"
    assert [p.name for p in lab_path.glob("root.key*")] == ["root.key"]


def test_opening_while_others_rekey(here: Lab, servant: Servant, lab_path: Path) -> None:
    for _ in range(3):
        servant.tell("rekey")
        for _ in range(8):
            Lab.open(lab_path).close()
        assert servant.answer() == "done"


def test_two_rekeys_of_passphrases_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmslab.keystore.root.Argon2Parameters", cheap)
    path = tmp_path / "lab"
    Lab.create(path, passphrase="zero").close()
    outcomes: dict[str, bool] = {}

    def rekey(lab: Lab, passphrase: str) -> None:
        try:
            lab.rekey(new_passphrase=passphrase)
            outcomes[passphrase] = True
        except Exception:
            outcomes[passphrase] = False

    labs = [Lab.open(path, passphrase="zero") for _ in range(2)]
    threads = [
        threading.Thread(target=rekey, args=(lab, name))
        for lab, name in zip(labs, ("one", "two"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lab in labs:
        try:
            lab.close()
        except Exception:
            assert not all(outcomes.values())
    (winner,) = [name for name, done in outcomes.items() if done]
    Lab.open(path, passphrase=winner).close()


# Random schedules


class History:
    """What one key must be able to explain: the rotations that had returned before a call began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 1
        self.faults: list[str] = []

    def returned(self, number: int) -> None:
        with self._lock:
            self._number = max(self._number, number)

    @property
    def at_least(self) -> int:
        return self._number

    def check(self, what: str, number: int, at_least: int) -> None:
        if number < at_least:
            self.faults.append(f"{what} used version {number} when {at_least} was primary")


def numbers(lab: Lab, key_id: str) -> dict[str, int]:
    return {version.version_id: version.number for version in key_of(lab, key_id).versions}


def worker(
    lab: Lab, kms: object, key_id: str, history: History, seed: int, going: Callable[[], bool]
) -> Callable[[], None]:
    def run() -> None:
        chance = random.Random(seed)
        own = kms or lab.tencent()
        blob = own.encrypt(key_id, b"plain")  # type: ignore[attr-defined]
        try:
            while going():
                at_least, kind = history.at_least, chance.random()
                if kind < 0.1:
                    history.returned(len(lab.rotate(key_id).versions))
                elif kind < 0.5:
                    blob = own.encrypt(key_id, b"plain")  # type: ignore[attr-defined]
                    history.check("encrypt", numbers(lab, key_id)[version_of(blob)], at_least)
                elif kind < 0.8:
                    done = own.re_encrypt(blob)  # type: ignore[attr-defined]
                    blob = done.ciphertext_blob
                    number = numbers(lab, key_id)[done.key_version_id]
                    history.check("re_encrypt", number, at_least)
                elif kind < 0.9:
                    done = own.re_encrypt_many([blob] * 3, verify=True)  # type: ignore[attr-defined]
                    number = numbers(lab, key_id)[done.key_version_id[0]]
                    history.check("re_encrypt_many", number, at_least)
                elif own.decrypt(blob) != b"plain":  # type: ignore[attr-defined]
                    history.faults.append("a wrong plaintext")
        except Exception as error:
            history.faults.append(repr(error))

    return run


def run_all(targets: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.scale
@pytest.mark.parametrize("shared", [False, True], ids=["a Kms each", "one Kms for all"])
def test_eight_threads_and_two_processes(
    here: Lab, servant: Servant, lab_path: Path, key_id: str, soak: bool, shared: bool
) -> None:
    history = History()
    begun, seconds = time.monotonic(), 60 if soak else 0.5
    kms = here.tencent() if shared else None

    def going() -> bool:
        """For a while, and on a busy machine until enough has happened."""
        passed = time.monotonic() - begun
        return passed < seconds or (history.at_least <= 5 and passed < seconds + 30)

    def rotate_elsewhere() -> None:
        while going():
            made = servant.ask("rotate", key_id)
            if "-" not in made:
                history.faults.append(made)
                return
            found = numbers(here, key_id).get(made)
            if found is None:
                history.faults.append("a version that another process has made is not seen")
            else:
                history.returned(found)
            time.sleep(0.01)

    workers = [worker(here, kms, key_id, history, seed, going) for seed in range(8)]
    run_all([*workers, rotate_elsewhere])
    assert history.faults == []
    assert len(key_of(here, key_id).versions) > 5
    assert here.audit.verify().intact
    here.close()
    with Lab.open(lab_path) as opened:
        assert opened.audit.verify().intact


@pytest.mark.parametrize("shared", [False, True], ids=["a Kms each", "one Kms for all"])
def test_a_disabled_key_is_not_used_by_any_thread(here: Lab, key_id: str, shared: bool) -> None:
    """While it is disabled, a call that begins and ends meanwhile is refused."""
    kms = here.tencent()
    blob = kms.encrypt(key_id, b"plain")
    disabled, faults, until = [0], [], time.monotonic() + 0.3

    def use() -> None:
        own = kms if shared else here.tencent()
        while time.monotonic() < until:
            before = disabled[0]
            try:
                own.decrypt(blob)
            except KeyDisabled:
                continue
            if before % 2 and disabled[0] == before:
                faults.append("a disabled key was used")

    def toggle() -> None:
        while time.monotonic() < until:
            kms.disable_key(key_id)
            disabled[0] += 1
            time.sleep(0.002)
            disabled[0] += 1
            kms.enable_key(key_id)

    run_all([use] * 6 + [toggle])
    assert faults == []


def test_keys_are_listed_while_others_are_made(here: Lab) -> None:
    faults: list[str] = []
    done = threading.Event()

    def look() -> None:
        kms = here.tencent()
        try:
            while not done.is_set():
                here.keys()
                kms.list_keys()
        except Exception as error:
            faults.append(repr(error))

    def make() -> None:
        for number in range(12):
            here.tencent().create_key(f"key{number}")
        done.set()

    run_all([look, look, make])
    assert faults == []


def test_a_rekey_disturbs_no_thread(here: Lab, key_id: str) -> None:
    faults: list[str] = []
    done = threading.Event()

    def use() -> None:
        try:
            while not done.is_set():
                kms = here.tencent()
                key = kms.create_key(f"key-{random.randrange(10**12)}")
                kms.decrypt(kms.encrypt(key.key_id, b"plain"))
        except Exception as error:
            faults.append(repr(error))

    def rekey() -> None:
        for _ in range(5):
            here.rekey()
        done.set()

    run_all([use, use, rekey])
    assert faults == []


# Forks

FORK_AND_LEAVE = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
import os, subprocess, sys, time
from kmslab import Lab
lab = Lab.open(sys.argv[1])
kms, key = lab.tencent(), sys.argv[2]
kms.encrypt(key, b"plain")
if os.fork():
    os._exit(0)          # the parent is gone, and with it its locks
time.sleep(0.2)
for number in range(20):
    lab.rotate(key)
    Lab.open(sys.argv[1]).close()    # comes and goes
    if number == 10:
        code = "import sys; from kmslab import Lab; Lab.open(sys.argv[1]).close()"
        subprocess.run([sys.executable, "-c", code, sys.argv[1]], check=True)
print(len(lab.keys()[0].versions), flush=True)
lab.close()
"""


@pytest.mark.scale
@pytest.mark.sqlite("locks that hang on processes")
def test_a_child_holds_locks_of_its_own(lab_path: Path, key_id: str) -> None:
    done = python(FORK_AND_LEAVE, lab_path, key_id)
    assert done.stdout == "21\n", done.stderr
    with Lab.open(lab_path) as opened:
        assert len(key_of(opened, key_id).versions) == 21
        assert opened.audit.verify().intact


FORK_BUSY = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
import os, sys, threading
from kmslab import Lab
lab = Lab.open(sys.argv[1])
kms, key = lab.tencent(), sys.argv[2]
stop = threading.Event()
def work():
    own = lab.tencent()
    while not stop.is_set():
        lab.rotate(key)
        own.encrypt(key, b"plain")
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
children = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        lab.rotate(key)
        blob = kms.encrypt(key, b"plain")
        ok = kms.decrypt(blob) == b"plain"
        lab.close()
        os._exit(0 if ok else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
for thread in threads:
    thread.join()
check = lab.audit.verify()
print(codes, check.intact, check.open_ends, flush=True)
lab.close()
"""


def test_forks_of_a_busy_process(lab_path: Path, key_id: str) -> None:
    done = python(FORK_BUSY, lab_path, key_id)
    assert done.stdout == f"{[0] * 5} True 0\n", done.stderr
    with Lab.open(lab_path) as opened:
        assert opened.audit.verify().intact


FORK_MEMORY = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
import os, sys
from kmslab import Lab
lab = Lab.in_memory()
kms = lab.tencent()
key = kms.create_key("orders").key_id
blob = kms.encrypt(key, b"plain")
child = os.fork()
ok = kms.decrypt(blob) == b"plain" and len(lab.rotate(key).versions) == 2
lab.close()
if child == 0:
    os._exit(0 if ok else 1)
print(ok, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.sqlite("memory")
def test_a_lab_in_memory_forks_in_two(tmp_path: Path) -> None:
    done = python(FORK_MEMORY)
    assert done.stdout == "True 0\n", done.stderr
