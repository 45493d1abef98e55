"""A lab against a model of it in plain Python, under every order of calls that Hypothesis tries."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from kmslab import Lab, ManualClock
from kmslab.errors import KmsError
from kmslab.model import CTYUN, TENCENT, KeySpec, KeyState

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BEIJING = timedelta(hours=8)
MOST_KEYS = 6

ENABLED, DISABLED = KeyState.ENABLED, KeyState.DISABLED
PENDING, DELETED = KeyState.PENDING_DELETION, KeyState.DELETED


@dataclass
class ModelVersion:
    due_at: datetime | None
    made: int = 0
    blobs: list[tuple[str, bytes]] = field(default_factory=list)


@dataclass
class ModelKey:
    """What a key should be, by the rules as the clouds' documents have them."""

    provider: str
    spec: KeySpec
    versions: list[ModelVersion]
    state: KeyState = ENABLED
    rotation_days: int | None = None
    next_rotation_at: datetime | None = None
    deletion_at: datetime | None = None

    def settle(self, now: datetime) -> None:
        """What the clock has brought."""
        if self.state is PENDING and self.deletion_at is not None and self.deletion_at <= now:
            self.state = DELETED
        while self.state is ENABLED and self.next_rotation_at and self.next_rotation_at <= now:
            self.versions.append(ModelVersion(self.next_rotation_at))
            self.next_rotation_at += timedelta(days=self.rotation_days or 0)

    def rotate_every(self, days: int | None, now: datetime) -> None:
        self.rotation_days = days
        self.next_rotation_at = None if days is None else now + days * DAY

    def rotate(self, now: datetime) -> None:
        self.versions.append(ModelVersion(None))
        if self.rotation_days is not None:
            self.next_rotation_at = now + self.rotation_days * DAY

    def enable(self, now: datetime) -> None:
        """Dates that passed while it was not enabled are skipped."""
        if self.state is not ENABLED:
            while self.next_rotation_at and self.next_rotation_at <= now:
                self.next_rotation_at += timedelta(days=self.rotation_days or 0)
        self.state = ENABLED

    def schedule(self, days: int, now: datetime) -> None:
        """At Tencent Cloud until the end of that day in Beijing, at CTyun to the second."""
        self.state = PENDING
        self.deletion_at = now + days * DAY
        if self.provider == TENCENT:
            day = (self.deletion_at + BEIJING).replace(hour=0, minute=0, second=0, microsecond=0)
            self.deletion_at = day - BEIJING + DAY - timedelta(seconds=1)

    def cancel(self, now: datetime) -> None:
        """The key is disabled then at Tencent Cloud, and enabled at CTyun."""
        self.state, self.deletion_at = DISABLED, None
        if self.provider == CTYUN:
            self.enable(now)

    def may_be_scheduled(self) -> bool:
        if self.provider == TENCENT:
            return self.state is DISABLED
        return self.state in (ENABLED, DISABLED)


class LabMachine(RuleBasedStateMachine):
    """One lab on disk, with one or two handles on it, each of which any call may come through."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "lab"
        self.clock = ManualClock(START)
        self.labs = [Lab.create(self.path, clock=self.clock)]
        self.model: dict[str, ModelKey] = {}
        self.generation = 0
        self.calls = {"encrypt": 0, "decrypt": 0, "re-encrypt": 0}

    def teardown(self) -> None:
        try:
            self.reopen()
            self.everything_opens(self.labs[0])
            self.the_log_has_every_call()
        finally:
            with suppress(IndexError):
                self.labs[0].close()
            self.folder.cleanup()

    def lab(self, other: bool) -> Lab:
        return self.labs[-1 if other else 0]

    def change(self, key_id: str, allowed: bool, call: object, *args: object) -> bool:
        """Make a call that the model allows or refuses; whether it allows it."""
        assert callable(call)
        if allowed:
            call(key_id, *args)
        else:
            with pytest.raises(KmsError):
                call(key_id, *args)
        return allowed

    @initialize(target=keys, spec=st.sampled_from([KeySpec.AES_256, KeySpec.SM4]))
    def begin(self, spec: KeySpec) -> object:
        """A rotating key of each provider, so that every rule has something to do."""
        made = [self.create(False, provider, spec) for provider in (TENCENT, CTYUN)]
        for key_id in made:
            self.rotate_automatically_every(key_id, False, 30)
        return multiple(*made)

    def create(self, other: bool, provider: str, spec: KeySpec) -> str:
        alias = f"key-{len(self.model)}"
        if provider == TENCENT:
            key = self.lab(other).tencent().create_key(alias, spec=spec)
        else:
            key = self.lab(other).ctyun().create_key(alias=alias, spec=spec)
        self.model[key.key_id] = ModelKey(provider, spec, [ModelVersion(None)])
        return key.key_id

    # Keys

    @precondition(lambda self: len(self.model) < MOST_KEYS)
    @rule(
        target=keys,
        other=st.booleans(),
        provider=st.sampled_from([TENCENT, CTYUN]),
        spec=st.sampled_from([KeySpec.AES_256, KeySpec.SM4]),
    )
    def create_key(self, other: bool, provider: str, spec: KeySpec) -> str:
        return self.create(other, provider, spec)

    @rule(key_id=keys, other=st.booleans())
    def rotate(self, key_id: str, other: bool) -> None:
        key = self.model[key_id]
        if self.change(key_id, key.state is ENABLED, self.lab(other).rotate):
            key.rotate(self.clock.now())

    @rule(key_id=keys, other=st.booleans(), days=st.none() | st.sampled_from([7, 30, 365]))
    def rotate_automatically(self, key_id: str, other: bool, days: int | None) -> None:
        self.rotate_automatically_every(key_id, other, days)

    def rotate_automatically_every(self, key_id: str, other: bool, days: int | None) -> None:
        key, lab = self.model[key_id], self.lab(other)

        def call(key_id: str) -> object:
            if key.provider == CTYUN:
                return lab.ctyun().update_rotation_policy(key_id, rotation_days=days)
            if days is None:
                return lab.tencent().disable_key_rotation(key_id)
            return lab.tencent().enable_key_rotation(key_id, rotate_days=days)

        allowed = key.state is ENABLED
        if key.provider == TENCENT and days is None:
            allowed = key.state is not DELETED
        if self.change(key_id, allowed, call):
            key.rotate_every(days, self.clock.now())

    @rule(key_id=keys, other=st.booleans())
    def enable(self, key_id: str, other: bool) -> None:
        key, kms = self.model[key_id], self.lab(other).kms(self.model[key_id].provider)
        if self.change(key_id, key.state in (ENABLED, DISABLED), kms.enable_key):
            key.enable(self.clock.now())

    @rule(key_id=keys, other=st.booleans())
    def disable(self, key_id: str, other: bool) -> None:
        key, kms = self.model[key_id], self.lab(other).kms(self.model[key_id].provider)
        if self.change(key_id, key.state in (ENABLED, DISABLED), kms.disable_key):
            key.state = DISABLED

    @rule(key_id=keys, other=st.booleans(), days=st.sampled_from([7, 8, 30]))
    def schedule_deletion(self, key_id: str, other: bool, days: int) -> None:
        key, kms = self.model[key_id], self.lab(other).kms(self.model[key_id].provider)
        if self.change(key_id, key.may_be_scheduled(), kms.schedule_key_deletion, days):
            key.schedule(days, self.clock.now())

    @rule(key_id=keys, other=st.booleans())
    def cancel_deletion(self, key_id: str, other: bool) -> None:
        key, kms = self.model[key_id], self.lab(other).kms(self.model[key_id].provider)
        if self.change(key_id, key.state is PENDING, kms.cancel_key_deletion):
            key.cancel(self.clock.now())

    @rule(
        step=st.sampled_from(
            [timedelta(microseconds=1), timedelta(hours=9), DAY, 7 * DAY, 40 * DAY, 400 * DAY]
        )
    )
    def time_passes(self, step: timedelta) -> None:
        self.clock.advance(step)
        for key in self.model.values():
            key.settle(self.clock.now())

    # Data

    @rule(key_id=keys, other=st.booleans(), plaintext=st.binary(min_size=1, max_size=40))
    def encrypt(self, key_id: str, other: bool, plaintext: bytes) -> None:
        key, kms = self.model[key_id], self.lab(other).kms(self.model[key_id].provider)
        if key.state is not ENABLED:
            with pytest.raises(KmsError):
                kms.encrypt(key_id, plaintext)
            return
        version = key.versions[-1]
        version.blobs.append((kms.encrypt(key_id, plaintext), plaintext))
        version.made += 1
        self.calls["encrypt"] += 1

    @rule(key_id=keys, other=st.booleans())
    def decrypt_everything(self, key_id: str, other: bool) -> None:
        self.each_blob_opens_while_its_key_is_enabled(self.lab(other), key_id)

    @rule(key_id=keys, other=st.booleans())
    def re_encrypt_the_oldest(self, key_id: str, other: bool) -> None:
        """Tencent Cloud gives back what is on the primary version already; CTyun never does."""
        key, lab = self.model[key_id], self.lab(other)
        primary = key.versions[-1]
        for version in key.versions:
            if version.blobs and key.state is ENABLED:
                blob, plaintext = version.blobs[0]
                if key.provider == TENCENT:
                    done = lab.tencent().re_encrypt(blob)
                else:
                    done = lab.ctyun().re_encrypt(blob, destination_key_id=key_id)
                self.calls["re-encrypt"] += 1
                kept = key.provider == TENCENT and version is primary
                assert done.re_encrypted is not kept
                assert (done.ciphertext_blob == blob) is kept
                if not kept:
                    primary.blobs.append((done.ciphertext_blob, plaintext))
                    primary.made += 1
                return

    # Handles

    @rule()
    def reopen(self) -> None:
        """Once everybody has closed the lab, its counts are what was made, to the one."""
        for lab in self.labs:
            lab.close()
        self.labs = [Lab.open(self.path, clock=self.clock)]
        for key in self.labs[0].keys():
            made = [version.made for version in self.model[key.key_id].versions]
            assert [version.encryptions for version in key.versions] == made

    @precondition(lambda self: len(self.labs) == 1)
    @rule()
    def open_another(self) -> None:
        self.labs.append(Lab.open(self.path, clock=self.clock))

    @precondition(lambda self: len(self.labs) == 2)
    @rule(which=st.sampled_from([0, 1]))
    def close_one(self, which: int) -> None:
        self.labs.pop(which).close()

    @rule(other=st.booleans())
    def rekey(self, other: bool) -> None:
        self.lab(other).rekey()

    # What always holds

    @invariant()
    def each_handle_sees_the_keys_as_they_are(self) -> None:
        for lab in self.labs:
            found = {key.key_id: key for key in lab.keys()}
            assert found.keys() == self.model.keys()
            for key_id, model in self.model.items():
                key = found[key_id]
                assert (key.provider, key.spec, key.state) == (
                    model.provider,
                    model.spec,
                    model.state,
                )
                assert key.rotation_days == model.rotation_days
                assert key.next_rotation_at == model.next_rotation_at
                assert [version.due_at for version in key.versions] == [
                    version.due_at for version in model.versions
                ]
                assert [version.number for version in key.versions] == [
                    *range(1, len(model.versions) + 1)
                ]
                assert key.primary_version_id == key.versions[-1].version_id
                has_material = model.state is not DELETED
                assert all(v.has_material is has_material for v in key.versions)
                if model.state is PENDING:
                    assert key.deletion_at == model.deletion_at

    @invariant()
    def no_encryption_goes_uncounted(self) -> None:
        for key in self.labs[0].keys():
            for found, model in zip(key.versions, self.model[key.key_id].versions, strict=True):
                assert found.encryptions >= model.made

    @invariant()
    def the_audit_log_is_intact(self) -> None:
        for lab in self.labs:
            check = lab.audit.verify()
            assert check.intact
            assert check.open_ends <= len(self.labs) - 1

    @invariant()
    def generations_only_grow(self) -> None:
        for lab in self.labs:
            found = lab.info().generation
            assert found >= self.generation
            self.generation = found

    def each_blob_opens_while_its_key_is_enabled(self, lab: Lab, key_id: str) -> None:
        key = self.model[key_id]
        kms = lab.kms(key.provider)
        for version in key.versions:
            for blob, plaintext in version.blobs:
                if key.state is ENABLED:
                    assert kms.decrypt(blob) == plaintext
                    self.calls["decrypt"] += 1
                else:
                    with pytest.raises(KmsError):
                        kms.decrypt(blob)

    def everything_opens(self, lab: Lab) -> None:
        for key_id in self.model:
            self.each_blob_opens_while_its_key_is_enabled(lab, key_id)

    def the_log_has_every_call(self) -> None:
        """All that was done, by whichever handle, is in the log as often as it was done."""
        found = dict.fromkeys(self.calls, 0)
        names = {"Encrypt": "encrypt", "Decrypt": "decrypt", "ReEncrypt": "re-encrypt"}
        names |= {"reEncrypt": "re-encrypt", "encrypt": "encrypt", "decrypt": "decrypt"}
        for entry in self.labs[0].audit.entries():
            if entry.outcome == "ok" and entry.action in names:
                found[names[entry.action]] += entry.count
        assert found == self.calls


TestLabMachine = LabMachine.TestCase
TestLabMachine.settings = settings(
    max_examples=settings.default.max_examples // 3, stateful_step_count=25
)
