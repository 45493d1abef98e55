"""Campaigns over remotes: at full rate, through a server that goes away, on a cloud that shows no
versions, in several regions and accounts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from remote_world import (
    CloudLink,
    LabLink,
    blobs_of,
    ground_on,
    remote_over,
    remotes_over,
    served,
    write_records,
)

from kmslab import Lab, ManualClock, Record, connect, errors
from kmslab.analysis.classify import DROP, Classifier, Outcome, Target
from kmslab.campaign.closing import close
from kmslab.campaign.journal import Journal
from kmslab.campaign.plan import Options, Plan
from kmslab.campaign.planning import make_plan
from kmslab.campaign.proof import verify
from kmslab.campaign.report import Report
from kmslab.campaign.run import Ground, resume, run
from kmslab.campaign.undo import undo
from kmslab.campaign.watching import QUIET, Progress, Watch
from kmslab.clock import SystemClock
from kmslab.lab import REGIONS
from kmslab.model import CTYUN, TENCENT
from kmslab.providers.base import KEEP
from kmslab.providers.remote import Reply
from kmslab.records.opening import open_source
from kmslab.records.spec import SourceSpec
from kmslab.remotes import Remotes

LIMIT = 100  # what a server allows of ReEncrypt in a second, as documented
SOAK = pytest.mark.soak
OTHER_REGION = "ap-beijing"
NOBODY = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab.in_memory() as made:
        yield made


def stale_records(lab: Lab, provider: str, count: int, context: str | None = None) -> list[Record]:
    """Records on the old version of a key that was rotated."""
    kms: Any = lab.kms(provider)
    key_id = kms.create_key(alias=f"{provider}-{time.monotonic_ns()}").key_id
    sealed = kms.encrypt_many([b"%d" % n for n in range(count)], key_id=key_id, contexts=context)
    lab.rotate(key_id)
    return [
        Record(f"{provider}-{n}", provider, blob, context=context)
        for n, blob in enumerate(sealed.ciphertext_blob)
    ]


def opens_to(lab: Lab, provider: str, path: Path) -> list[bytes]:
    """What the blobs of a file hold, by the lab itself."""
    kms: Any = lab.kms(provider)
    return [bytes(kms.decrypt(blob)) for blob in blobs_of(path).values()]


def plan_of(ground: Ground, spec: SourceSpec, target: Target | None = None) -> Plan:
    source = ground.open_source(spec)
    chosen = target or Target()
    return make_plan(source, spec, ground.providers, chosen, clock=ground.clock)


def counts(outcomes: Any) -> dict[str, int]:
    return {str(getattr(name, "value", name)): n for name, n in outcomes.items() if n}


class TestThroughAServer:
    @pytest.mark.scale
    @pytest.mark.parametrize("provider", [TENCENT, pytest.param(CTYUN, marks=SOAK)])
    def test_at_full_rate_99_percent_of_it_are_kept_and_none_is_refused(
        self, lab: Lab, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soak: bool
    ) -> None:
        count = 5_000 if soak else 200  # of whole seconds
        path = write_records(tmp_path / "r.csv", stale_records(lab, provider, count))
        with served(lab, rate_limit=True) as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            kms = connect(provider, region=REGIONS[provider], endpoint=server.url, rate=LIMIT)
            with Remotes([kms]) as remotes:
                report = run(ground_on(remotes, tmp_path), SourceSpec(str(path)))
            codes, times = server.codes("ReEncrypt"), server.times("ReEncrypt")
        assert report.results.re_encrypted == count
        assert codes == ["OK"] * count
        if soak:  # a busy machine may not get as far
            # After the first second's, which may come at once, as many as the limit allows.
            assert (count - LIMIT) / (times[-1] - times[LIMIT - 1]) >= 0.99 * LIMIT
        assert opens_to(lab, provider, path) == [b"%d" % n for n in range(count)]

    @pytest.mark.scale
    @pytest.mark.parametrize("provider", [pytest.param(TENCENT, marks=SOAK), CTYUN])
    def test_a_server_that_is_killed_and_restarted_loses_nothing(
        self, lab: Lab, provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_records(tmp_path / "r.csv", stale_records(lab, provider, 150))
        with served(lab) as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)

            def kill_and_restart() -> None:
                while len(server.codes("ReEncrypt")) < 20:
                    time.sleep(0.005)
                server.stop(at_once=True)
                time.sleep(0.2)
                server.start()

            killer = threading.Thread(target=kill_and_restart, daemon=True)
            killer.start()
            kms = connect(provider, region=REGIONS[provider], endpoint=server.url, rate=1e6)
            with Remotes([kms]) as remotes:
                ground = replace(ground_on(remotes, tmp_path), jitter=lambda: 0.3)
                report = run(ground, SourceSpec(str(path)))
            killer.join()
        assert report.results.re_encrypted == 150
        assert sum(report.calls.values()) > 150
        assert opens_to(lab, provider, path) == [b"%d" % n for n in range(150)]

    def test_a_server_that_stays_away_interrupts_and_the_campaign_is_resumed(
        self, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_records(tmp_path / "r.csv", stale_records(lab, TENCENT, 8))
        link = LabLink(lab.tencent())
        clock = Sleepless()
        with remotes_over(link, clock=clock, rate=40) as remotes:
            ground = ground_on(remotes, tmp_path)
            away = errors.Unreachable("tencent at https://kms.test could not be reached")
            sleepless = replace(ground, clock=clock)

            def goes_away(progress: Progress) -> None:
                if progress.doing == "re-encrypting":
                    link.faults = [away] * 500

            with pytest.raises(errors.CampaignInterrupted, match=r"kms\.test") as caught:
                run(sleepless, SourceSpec(str(path)), watch=Watch(goes_away))
            link.faults.clear()
            report = resume(ground, caught.value.campaign_id)
        assert report.results.re_encrypted == 8


class Sleepless(SystemClock):
    """A clock that does not wait, and knows that it would have."""

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead = 0.0

    def time(self) -> float:
        return super().time() + self._ahead

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        self._ahead += seconds


class TestOnACloud:
    """A lab that plays Tencent Cloud: no blob shows a key or a version."""

    @pytest.fixture
    def cloud(self, lab: Lab) -> CloudLink:
        return CloudLink(lab.tencent())

    @pytest.fixture
    def path(self, lab: Lab, cloud: CloudLink, tmp_path: Path) -> Path:
        """Three stale records, two current ones, one with a context that was lost."""
        kms: Any = remote_over(cloud, TENCENT)
        key_id = lab.tencent().create_key("orders").key_id
        blobs = [kms.encrypt(key_id, b"old %d" % n) for n in range(3)]
        lab.rotate(key_id)
        blobs += [kms.encrypt(key_id, b"new %d" % n) for n in range(2)]
        blobs.append(kms.encrypt(key_id, b"bound", context='{"a":"b"}'))
        records = [Record(f"r{n}", TENCENT, blob) for n, blob in enumerate(blobs)]
        assert all(blob.count("-k-") == 2 and not blob.startswith("S01M") for blob in blobs)
        return write_records(tmp_path / "r.csv", records)

    def test_the_plan_says_what_cannot_be_known(
        self, cloud: CloudLink, path: Path, tmp_path: Path
    ) -> None:
        plan = plan_of(ground_on(remotes_over(cloud), tmp_path), SourceSpec(str(path)))
        assert counts(plan.outcomes) == {"may_change": 5, "needs_context": 1}
        assert plan.rights == {TENCENT: ("ReEncrypt",)}
        assert plan.options.verify == "answer"
        assert any(
            "5 records are on a version that the cloud does not tell" in n for n in plan.notes
        )
        [row] = plan.census
        assert (row.key_id, row.is_primary, row.records) == (None, None, 6)

    def test_a_lab_alone_says_foreign(self, lab: Lab, path: Path) -> None:
        ground = Ground(lab, ground_on(remotes_over(), path.parent).state, SystemClock())
        plan = plan_of(ground, SourceSpec(str(path)))
        assert counts(plan.outcomes) == {"foreign": 6}

    def test_the_answers_decide_and_the_census_knows(
        self, lab: Lab, cloud: CloudLink, path: Path, tmp_path: Path
    ) -> None:
        before = blobs_of(path)
        ground = ground_on(remotes_over(cloud), tmp_path)
        report = run(ground, SourceSpec(str(path)))
        results = report.results
        assert (results.re_encrypted, results.unchanged, results.failed) == (3, 3, 0)
        assert counts(report.never_sent) == {"needs_context": 1}
        key_id = lab.tencent().list_keys()[0].key_id
        after = {(row.key_id, row.is_primary): row.records for row in report.census_after}
        assert after == {(key_id, True): 5, (None, None): 1}
        now = blobs_of(path)
        assert {name for name in before if before[name] != now[name]} == {"r0", "r1", "r2"}
        assert cloud.asked.count("Decrypt") == 0
        kms: Any = remote_over(cloud, TENCENT)
        assert [kms.decrypt(now[f"r{n}"]) for n in range(5)] == [
            *(b"old %d" % n for n in range(3)),
            *(b"new %d" % n for n in range(2)),
        ]
        shown = json.dumps(report.as_dict())
        assert not any(blob in shown for blob in now.values())

    def test_what_was_shown_is_in_the_journal_until_it_is_closed(
        self, cloud: CloudLink, path: Path, tmp_path: Path
    ) -> None:
        ground = ground_on(remotes_over(cloud), tmp_path)
        report = run(ground, SourceSpec(str(path)))
        journal_path = ground.state.journal_path(report.campaign)

        def rows() -> int:
            with Journal.open(journal_path) as journal:
                tables = journal._query("SELECT name FROM sqlite_master WHERE name = 'shown'")
                return len(journal._query("SELECT * FROM shown")) if tables else 0

        assert rows() == 5
        close(ground, report.campaign)
        assert rows() == 0

    def test_what_was_shown_before_a_rotation_shows_nothing(
        self, memory_lab: Lab, manual_clock: ManualClock, tmp_path: Path
    ) -> None:
        """Stopped while it counted, and resumed when the key had been rotated once more."""
        local = memory_lab.tencent()
        rotated, other = (local.create_key(name).key_id for name in ("rotated", "other"))
        cloud = CloudLink(local)
        kms: Any = remote_over(cloud, TENCENT)
        records = [
            Record(f"r{n}", TENCENT, kms.encrypt(key_id, b"%d" % n))
            for n, key_id in enumerate((rotated, rotated, other))
        ]
        path = write_records(tmp_path / "r.csv", records)
        ground = replace(ground_on(remotes_over(cloud), tmp_path), clock=manual_clock)
        counting: list[Progress] = []
        watch = Watch(
            lambda told: counting.append(told) if told.doing == "counting" else None,
            lambda: bool(counting),
        )
        with pytest.raises(errors.CampaignInterrupted, match="all is stored") as caught:
            run(ground, SourceSpec(str(path)), watch=watch)
        manual_clock.advance(timedelta(seconds=1))
        memory_lab.rotate(rotated)
        report = resume(ground, caught.value.campaign_id)
        after = {(row.key_id, row.is_primary): row.records for row in report.census_after or ()}
        assert after == {(other, True): 1, (None, None): 2}

    def test_decrypt_verifies_by_name_with_calls_of_its_own(
        self, cloud: CloudLink, path: Path, tmp_path: Path
    ) -> None:
        ground = ground_on(remotes_over(cloud), tmp_path)
        report = run(ground, SourceSpec(str(path)), options=Options(verify="decrypt"))
        assert report.results.re_encrypted == 3
        assert cloud.asked.count("Decrypt") == 6
        assert report.plan.rights == {TENCENT: ["Decrypt", "ReEncrypt"]}

    def test_it_is_undone_and_verified_by_decrypting(
        self, cloud: CloudLink, path: Path, tmp_path: Path
    ) -> None:
        before = blobs_of(path)
        ground = ground_on(remotes_over(cloud), tmp_path)
        report = run(ground, SourceSpec(str(path)))
        proof = verify(ground, report.campaign)
        assert (proof.proven, proof.complete) == (3, True)
        undone = undo(ground, report.campaign)
        assert (undone.state, blobs_of(path)) == ("undone", before)

    def test_what_was_journalled_is_stored_without_being_opened(
        self, cloud: CloudLink, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed between journal and source: the credential may have no right to decrypt."""
        ground = ground_on(remotes_over(cloud), tmp_path)

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "intend", after(Journal.intend, killed))
            with pytest.raises(KeyboardInterrupt):
                run(ground, SourceSpec(str(path)))
        before, asked = blobs_of(path), len(cloud.asked)
        [journal_path] = ground.state.journals()
        report = resume(ground, journal_path.stem)
        assert (report.results.re_encrypted, report.results.lost) == (3, 0)
        assert sum(before[name] != blob for name, blob in blobs_of(path).items()) == 3
        # What was intended is not asked again, and nothing is opened.
        assert cloud.asked[asked:].count("ReEncrypt") == 2
        assert cloud.asked.count("Decrypt") == 0

    def test_to_another_key(self, lab: Lab, cloud: CloudLink, path: Path, tmp_path: Path) -> None:
        other = lab.tencent().create_key("other").key_id
        ground = ground_on(remotes_over(cloud), tmp_path)
        report = run(ground, SourceSpec(str(path)), Target(key_id=other))
        assert report.results.re_encrypted == 5
        after = {(row.key_id, row.is_primary): row.records for row in report.census_after}
        assert after == {(other, True): 5, (None, None): 1}

    def test_a_campaign_goes_on_where_it_was_begun(
        self, lab: Lab, cloud: CloudLink, path: Path, tmp_path: Path
    ) -> None:
        ground = ground_on(remotes_over(cloud), tmp_path, remotes=("prod",))
        report = run(ground, SourceSpec(str(path)))
        elsewhere = replace(ground, providers=lab, remotes=())
        for again in (undo, verify):
            with pytest.raises(errors.CampaignState, match="on the remote prod"):
                again(elsewhere, report.campaign)


class TestAnswersThatContradict:
    """Of a blob that names nothing, only the answer says which keys it was and is on."""

    @pytest.mark.parametrize(
        ("to", "context", "answered", "said"),
        [
            ("b", KEEP, {"KeyId": "b"}, "nothing was to be done"),
            ("b", KEEP, {}, "not of"),
            (None, KEEP, {"KeyId": "b"}, "nothing was to be done"),
            (None, KEEP, {"KeyId": "b", "CiphertextBlob": "new", "ReEncrypted": True}, "not of"),
            (None, DROP, {}, "the context changes"),
            (None, '{"a":"c"}', {}, "the context changes"),
            (None, '{"a":"b"}', {}, None),
            (None, KEEP, {}, None),
            ("a", KEEP, {}, None),
            ("b", KEEP, {"KeyId": "b", "SourceKeyId": "b"}, None),
        ],
    )
    def test_they_are_errors_and_the_record_stays(
        self,
        lab: Lab,
        to: str | None,
        context: Any,
        answered: dict[str, Any],
        said: str | None,
        tmp_path: Path,
    ) -> None:
        kms: Any = lab.tencent()
        link = CloudLink(kms)
        cloud: Any = remote_over(link, TENCENT)
        ids = {name: kms.create_key(name).key_id for name in "ab"}
        blobs = {
            name: cloud.encrypt(ids["a"], b"x", context='{"a":"b"}') for name in ("old", "new")
        }
        record = Record("r", TENCENT, blobs["old"], context='{"a":"b"}')
        path = write_records(tmp_path / "r.csv", [record])
        told = {"CiphertextBlob": "old", "ReEncrypted": False, "KeyId": "a", "SourceKeyId": "a"}
        response = {
            name: (ids | blobs).get(value, value) for name, value in (told | answered).items()
        }
        remotes = Remotes([remote_over(Answering({"Response": response}), TENCENT)])
        target = Target(key_id=to and ids[to], context=context)
        [verdict] = Classifier(remotes, target).classify_many([record])
        assert verdict.outcome.sent
        report = run(ground_on(remotes, tmp_path), SourceSpec(str(path)), target)
        assert blobs_of(path) == {"r": blobs["old"]}
        assert (report.results.failed, report.results.unchanged) == ((1, 0) if said else (0, 1))
        assert [said in failure.message for failure in report.failures if said] == [True] * bool(
            said
        )


class Answering:
    """A link that answers ReEncrypt as it is told to, and knows no other call."""

    def __init__(self, envelope: dict[str, Any]) -> None:
        self._envelope = envelope

    def send(self, action: str, _request: Any) -> Reply:
        if action == "ReEncrypt":
            return Reply(self._envelope)
        return Reply({"Response": {"Error": {"Code": "UnauthorizedOperation"}}})

    def close(self) -> None:
        pass


def after(method: Any, then: Any) -> Any:
    """The method, and then something else."""

    def both(*args: Any) -> Any:
        found = method(*args)
        then()
        return found

    return both


class TestWhereOnlyReEncryptIsKnown:
    """Of CTyun's calls only reEncrypt has a public page."""

    def test_the_answers_decide(self, lab: Lab, tmp_path: Path) -> None:
        link = CloudLink(lab.ctyun())
        kms: Any = remote_over(link, CTYUN)
        key_id = lab.ctyun().create_key(alias="pay").key_id
        blobs = [kms.encrypt(key_id, b"%d" % n) for n in range(3)]
        lab.rotate(key_id)
        path = write_records(
            tmp_path / "r.csv", [Record(str(n), CTYUN, blob) for n, blob in enumerate(blobs)]
        )
        link.calls = ("reEncrypt",)
        ground = ground_on(remotes_over(link), tmp_path)
        plan = plan_of(ground, SourceSpec(str(path)), Target(key_id=key_id, provider=CTYUN))
        assert counts(plan.outcomes) == {"may_change": 3}
        report = run(ground, SourceSpec(str(path)))
        assert report.results.re_encrypted == 3
        [row] = report.census_after
        assert (row.key_id, row.is_primary, row.records) == (key_id, True, 3)
        link.calls = ()
        assert [kms.decrypt(blob) for blob in blobs_of(path).values()] == [b"0", b"1", b"2"]


def test_a_credential_that_may_only_re_encrypt(lab: Lab, tmp_path: Path) -> None:
    records = stale_records(lab, TENCENT, 3) + stale_records(lab, CTYUN, 3)
    path = write_records(tmp_path / "r.csv", records)
    made = lab.credentials.create("campaign", rights=["ReEncrypt", "reEncrypt"])
    who = made.credential.secret_id
    links = [LabLink(lab.tencent(credential=who)), LabLink(lab.ctyun(credential=who))]
    ground = ground_on(remotes_over(*links), tmp_path)
    plan = plan_of(ground, SourceSpec(str(path)))
    assert counts(plan.outcomes) == {"may_change": 6}
    assert plan.rights == {TENCENT: ("ReEncrypt",), CTYUN: ("reEncrypt",)}
    report = run(ground, plan.spec, plan=plan)
    assert report.results.re_encrypted == 6
    assert [row.is_primary for row in report.census_after] == [True, True]


class TestSeveralOfOneProvider:
    @pytest.fixture
    def links(self, lab: Lab) -> list[LabLink]:
        return [LabLink(lab.tencent()), LabLink(lab.tencent(region=OTHER_REGION))]

    @pytest.fixture
    def remotes(self, links: list[LabLink]) -> Remotes:
        first, second = links
        return Remotes(
            [
                remote_over(first, TENCENT, account="main"),
                remote_over(second, TENCENT, region=OTHER_REGION, account="main"),
            ]
        )

    @pytest.fixture
    def path(self, lab: Lab, tmp_path: Path) -> Path:
        here, there = lab.tencent(), lab.tencent(region=OTHER_REGION)
        records = []
        for kms, region, account in (
            (here, REGIONS[TENCENT], "main"),
            (there, OTHER_REGION, None),
            (here, "ap-nowhere", None),
            (here, None, None),
            (here, None, "other"),
        ):
            key_id = kms.create_key(f"key-{len(records)}").key_id
            blob = kms.encrypt(key_id, b"secret")
            lab.rotate(key_id)
            name = f"r{len(records)}"
            records.append(Record(name, TENCENT, blob, region=region, account=account))
        return write_records(tmp_path / "r.csv", records)

    def test_region_and_account_choose_the_remote(
        self, lab: Lab, links: list[LabLink], remotes: Remotes, path: Path, tmp_path: Path
    ) -> None:
        ground = ground_on(
            remotes, tmp_path, open_source=lambda spec: open_source(spec, placed=True)
        )
        plan = plan_of(ground, SourceSpec(str(path)))
        assert counts(plan.outcomes) == {"may_change": 2, "blocked": 3}
        told = {reason.reason: reason.records for reason in plan.reasons if reason.reason}
        assert told == {
            "no remote of the region and account that the record names": 2,
            "several remotes fit: the record has to name its region or account": 1,
        }
        before = blobs_of(path)
        report = run(ground, SourceSpec(str(path)))
        now = blobs_of(path)
        assert report.results.re_encrypted == 2
        assert [name for name in before if before[name] != now[name]] == ["r0", "r1"]
        assert [link.asked.count("ReEncrypt") for link in links] == [1, 1]

    def test_where_none_is_asked_for_the_columns_mean_nothing(
        self, lab: Lab, path: Path, tmp_path: Path
    ) -> None:
        """A column `region` may be anything where there is one lab."""
        ground = Ground(lab, ground_on(remotes_over(), tmp_path).state, SystemClock())
        plan = plan_of(ground, SourceSpec(str(path)))
        assert plan.outcomes[Outcome.STALE] == 4

    def test_keys_are_looked_for_in_each(self, lab: Lab, remotes: Remotes, path: Path) -> None:
        kms = remotes.kms(TENCENT)
        key = lab.tencent(region=OTHER_REGION).list_keys()[0]
        assert kms.describe_key(key.key_id).region == OTHER_REGION
        assert remotes.key(key.key_id).key_id == remotes.key(key.alias).key_id == key.key_id
        assert len(remotes.keys()) == len(lab.keys())
        for name in ("nobody", "00000000-0000-4000-8000-00000000dead"):
            with pytest.raises(errors.KeyNotFound):
                remotes.key(name)
        sealed = kms.encrypt_many([b"x"], key_id=key.key_id)
        assert sealed.error == [None]

    def test_one_that_may_not_be_asked_does_not_end_the_search(self, lab: Lab) -> None:
        here, pay = lab.tencent(), lab.ctyun()
        ours, theirs = here.create_key("ours").key_id, pay.create_key(alias="theirs").key_id
        denied = remote_over(Answering({}), TENCENT, account="denied")
        remotes = Remotes(
            [denied, remote_over(LabLink(here), TENCENT), remote_over(LabLink(pay), CTYUN)]
        )
        assert remotes.kms(TENCENT).describe_key(ours).alias == "ours"
        assert remotes.key(ours).alias == "ours"
        assert remotes.key(theirs).alias == "theirs"
        with pytest.raises(errors.Unauthorized):
            remotes.key(NOBODY)
        with pytest.raises(errors.KeyNotFound):
            Remotes([remote_over(LabLink(here), TENCENT)]).key(NOBODY)

    def test_two_of_one_region_and_account_are_none(self, links: list[LabLink]) -> None:
        with pytest.raises(errors.ProfileError, match="differ in region or account"):
            remotes_over(links[0], links[0])

    def test_what_crosses_takes_no_region_along(
        self, lab: Lab, remotes: Remotes, path: Path, tmp_path: Path
    ) -> None:
        key_id = lab.ctyun().create_key(alias="pay").key_id
        both = Remotes([*remotes._remotes, remote_over(LabLink(lab.ctyun()), CTYUN)])
        ground = ground_on(both, tmp_path, open_source=lambda s: open_source(s, placed=True))
        plan = plan_of(ground, SourceSpec(str(path)), Target(key_id=key_id, provider=CTYUN))
        told = {reason.reason for reason in plan.reasons if reason.outcome is Outcome.BLOCKED}
        assert "its region and account are not those of the destination" in told
        assert plan.outcomes[Outcome.MOVE] == 0


def test_from_one_cloud_to_the_other(lab: Lab, tmp_path: Path) -> None:
    key_id = lab.ctyun().create_key(alias="pay").key_id
    path = write_records(tmp_path / "r.csv", stale_records(lab, TENCENT, 5))
    links = [LabLink(lab.tencent()), LabLink(lab.ctyun())]
    with remotes_over(*links) as remotes:
        target = Target(key_id=key_id, provider=CTYUN)
        report: Report = run(ground_on(remotes, tmp_path), SourceSpec(str(path)), target)
    assert report.results.re_encrypted == 5
    assert opens_to(lab, CTYUN, path) == [b"%d" % n for n in range(5)]


def test_a_forecast_counts_on_the_remotes_own_rate(lab: Lab, tmp_path: Path) -> None:
    path = write_records(tmp_path / "r.csv", stale_records(lab, CTYUN, 10))
    link = LabLink(lab.ctyun())
    for rate, given, wanted in ((25.0, None, 25.0), (25.0, {CTYUN: 5.0}, 5.0)):
        ground = ground_on(remotes_over(link, rate=rate), tmp_path)
        source = ground.open_source(SourceSpec(str(path)))
        options = Options(verify="answer", rates=given or {})
        plan = make_plan(
            source,
            SourceSpec(str(path)),
            ground.providers,
            Target(),
            clock=ground.clock,
            options=options,
            watch=QUIET,
        )
        assert plan.forecast.providers[0].rate == wanted
