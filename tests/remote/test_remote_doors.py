"""The command line, frames and the explorer on remotes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from remote_world import (
    SECRET_KEY,
    CloudLink,
    LabLink,
    Server,
    blobs_of,
    ground_on,
    remote_over,
    remotes_over,
    write_records,
)
from typer.testing import CliRunner, Result

import kmslab.frames  # df.kms
from kmslab import Lab, ManualClock, Record
from kmslab.analysis.census import census
from kmslab.analysis.classify import Classifier, Target
from kmslab.campaign.plan import CTYUN_LENGTH, INFERRED
from kmslab.campaign.planning import make_plan
from kmslab.campaign.watching import Watch
from kmslab.campaign.wording import version_of
from kmslab.cli.app import app
from kmslab.cli.campaign_shown import show_census
from kmslab.cli.census import census_of
from kmslab.cli.opening import Opening
from kmslab.cli.reaching import Reaching, names_of
from kmslab.cli.source_options import SourceOptions
from kmslab.cli.tui import _session as open_session
from kmslab.cli.tui import _words as words_of
from kmslab.clock import SystemClock
from kmslab.errors import SettingError
from kmslab.keys import Names
from kmslab.lab import REGIONS
from kmslab.model import CTYUN, TENCENT
from kmslab.records.opening import open_source
from kmslab.records.spec import SourceSpec
from kmslab.tui.actions import AUDIT, KEY, RECORDS
from kmslab.tui.app import Explorer
from kmslab.tui.cells import version_text
from kmslab.tui.screens.records import Records
from kmslab.tui.session import Session
from kmslab.tui.table import Table

Run = Callable[..., Result]


@pytest.fixture
def run(signed_in: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line; there are profiles for both providers of the served lab."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KMSLAB_STATE", str(tmp_path / "state"))
    profiles = tmp_path / "profiles.toml"
    profiles.touch(mode=0o600)
    profiles.write_text(
        "".join(
            f'[{name}]\nprovider = "{name}"\nregion = "{REGIONS[name]}"\n'
            f'endpoint = "{signed_in.url}"\nrate = 1000\n'
            for name in (TENCENT, CTYUN)
        ),
        encoding="utf-8",
    )

    def invoke(*args: str) -> Result:
        return CliRunner().invoke(app, list(args), prog_name="kmslab")

    return invoke


@pytest.fixture
def path(served_lab: Lab, tmp_path: Path) -> Path:
    """Three stale records and a current one of each provider."""
    records = []
    for provider in (TENCENT, CTYUN):
        kms: Any = served_lab.kms(provider)
        alias = f"orders-{len(served_lab.keys())}"
        key_id = kms.create_key(alias=alias).key_id
        blobs = [kms.encrypt(key_id, b"old %d" % n) for n in range(3)]
        served_lab.rotate(key_id)
        blobs.append(kms.encrypt(key_id, b"new"))
        records += [Record(f"{provider}-{n}", provider, blob) for n, blob in enumerate(blobs)]
    return write_records(tmp_path / "records.csv", records)


BOTH = ("--remote", TENCENT, "--remote", CTYUN)


class TestCommands:
    def test_plan_run_resume_verify_undo(self, run: Run, path: Path, server: Server) -> None:
        before = blobs_of(path)
        planned = json.loads(run("campaign", "plan", str(path), *BOTH, "--json").stdout)
        outcomes = {name: n for name, n in planned["outcomes"].items() if n}
        assert outcomes == {"may_change": 4, "stale": 3, "current": 1}
        assert planned["options"]["verify"] == "answer"
        assert planned["rights"] == {"ctyun": ["reEncrypt"], "tencent": ["ReEncrypt"]}
        rates = {name: each["rate"] for name, each in planned["forecast"]["providers"].items()}
        assert rates == {"ctyun": 1000.0, "tencent": 1000.0}

        done = run("campaign", "run", str(path), *BOTH, "--yes", "--json")
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert report["results"] == {
            "re_encrypted": 6,
            "unchanged": 2,
            "failed": 0,
            "lost": 0,
        }
        after = [
            (row["provider"], row["is_primary"], row["records"]) for row in report["census_after"]
        ]
        assert after == [("ctyun", True, 4), ("tencent", True, 4)]
        assert "Decrypt" not in server.text.getvalue().split('"ReEncrypt"')[-1]

        campaign = report["campaign"]
        assert report["remotes"] == [CTYUN, TENCENT]
        written = run("campaign", "report", campaign, *BOTH).stdout
        assert "remote ctyun, tencent" in written
        assert "1000 calls a second to tencent" in written
        assert run("campaign", "resume", campaign, *BOTH).exit_code == 0
        proof = json.loads(run("campaign", "verify", campaign, *BOTH, "--json").stdout)
        assert proof["proven"] == 6
        refused = run("campaign", "undo", campaign, "--yes", "--remote", TENCENT)
        assert (refused.exit_code, "was run on the remote ctyun, tencent" in refused.stderr) == (
            1,
            True,
        )
        undone = run("campaign", "undo", campaign, "--yes", *BOTH)
        assert undone.exit_code == 0, undone.output
        assert blobs_of(path) == before
        listed = json.loads(run("campaign", "list", *BOTH, "--json").stdout)
        assert [each["campaign"] for each in listed][-1] == campaign

    def test_the_census(self, run: Run, path: Path) -> None:
        rows = json.loads(run("census", str(path), *BOTH, "--json").stdout)
        told = [(r["provider"], r["version_number"], r["is_primary"], r["records"]) for r in rows]
        assert sorted(told, key=str) == [
            ("ctyun", 1, False, 3),
            ("ctyun", 2, True, 1),
            ("tencent", None, None, 1),
            ("tencent", None, None, 3),
        ]

    def test_hints_name_the_remote(self, run: Run, path: Path) -> None:
        done = run("campaign", "run", str(path), "--remote", CTYUN, "--yes")
        assert "campaign undo" in done.stderr
        assert "--remote ctyun" in done.stderr

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (("--remote", "nobody"), "has no profile nobody"),
            (("--remote", CTYUN, "--lab", "lab"), "a lab or --remote, not both"),
            (("--remote", CTYUN, "--remote", CTYUN), "differ in region or account"),
        ],
    )
    def test_what_is_no_remote(
        self, run: Run, path: Path, args: tuple[str, ...], said: str
    ) -> None:
        refused = run("census", str(path), *args)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.output

    def test_a_provider_that_cannot_be_reached_is_retryable(
        self, run: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kmslab.providers.remote._WAITS", ())
        profiles = tmp_path / "profiles.toml"
        text = profiles.read_text("utf-8")
        port = text.partition("127.0.0.1:")[2].partition('"')[0]
        profiles.write_text(text.replace(port, "1"), encoding="utf-8")
        failed = run("campaign", "plan", str(path), *BOTH)
        assert failed.exit_code == 3
        assert "could not be reached" in failed.stderr
        assert "http://127.0.0.1:1" in failed.stderr

    @pytest.mark.parametrize("words", [("--write",), ("--remote", CTYUN, "--write", "--read-only")])
    def test_the_explorer_writes_on_a_remote_by_name_only(
        self, run: Run, words: tuple[str, ...]
    ) -> None:
        refused = run("tui", *words)
        assert (refused.exit_code, "--write goes with" in refused.stderr) == (2, True)

    def test_the_explorer_is_opened_on_a_remote(self, run: Run, path: Path) -> None:
        opening, reaching = Opening(), Reaching([TENCENT, CTYUN])
        given = opening, reaching, SourceOptions(), str(path), None
        with open_session(*given, locked=True) as session:
            assert session.remote
            assert session.where == "remote tencent, ctyun"
            assert session.options == BOTH
            assert session.ground.remotes == (CTYUN, TENCENT)
        words = words_of(opening, reaching, SourceOptions(), str(path), None)
        assert words == ["--source", str(path), *BOTH]

    def test_no_command_takes_a_credential(self, run: Run) -> None:
        for command in (("campaign", "run"), ("census",), ("tui",)):
            text = run(*command, "--help").stdout
            assert "--remote" in text
            for word in ("--secret", "--token", "--access-key"):
                assert word not in text
        assert "--remote" not in run("encrypt", "--help").stdout


def test_a_census_names_the_rights_that_it_lacks(
    memory_lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = memory_lab.credentials.create("campaign", rights=["ReEncrypt"])
    who = made.credential.secret_id
    remotes = remotes_over(LabLink(memory_lab.tencent(credential=who)))
    records = []
    for name, kms in ((TENCENT, memory_lab.tencent()), (CTYUN, memory_lab.ctyun())):
        key: Any = kms.create_key(alias=name)
        records.append(Record(name, name, kms.encrypt(key.key_id, b"secret")))
    source = open_source(SourceSpec(str(write_records(tmp_path / "r.csv", records))))
    census_of(source, remotes, Watch())
    names_of(remotes)
    said = capsys.readouterr().err
    assert "tencent: the credential has no right to DescribeKey" in said
    assert "tencent: keys are shown by their ids: no right to ListKeyDetail" in said
    assert "ctyun: 1 record is of this provider, of which no --remote was given" in said


class TestFrames:
    @pytest.fixture
    def frame(self, memory_lab: Lab, manual_clock: ManualClock) -> pd.DataFrame:
        """Two blobs of a cloud, one older than the key's last rotation, and one of CTyun's."""
        self.links = [CloudLink(memory_lab.tencent()), LabLink(memory_lab.ctyun())]
        self.remotes = remotes_over(*self.links, rate=20)
        kms: Any = remote_over(self.links[0], TENCENT)
        key_id = memory_lab.tencent().create_key("orders").key_id
        pay = memory_lab.ctyun().create_key(alias="pay").key_id
        blobs = [kms.encrypt(key_id, b"old"), memory_lab.ctyun().encrypt(pay, b"old")]
        times = [manual_clock.now()] * 2
        manual_clock.advance(timedelta(days=10))
        memory_lab.rotate(key_id)
        memory_lab.rotate(pay)
        manual_clock.advance(timedelta(days=10))
        blobs.append(kms.encrypt(key_id, b"new"))
        times.append(manual_clock.now())
        return pd.DataFrame(
            {"ciphertext_blob": blobs, "key_id": [key_id, None, key_id], "created_at": times}
        )

    def test_a_plan_on_a_remote(self, frame: pd.DataFrame) -> None:
        plan = frame.kms.plan(self.remotes)
        found = {outcome.value: n for outcome, n in plan.outcomes.items() if n}
        assert found == {"may_change": 2, "stale": 1}
        assert plan.options.verify == "answer"
        assert {each.rate for each in plan.forecast.providers} == {20.0}

    def test_what_cannot_be_known_is_said_to_be_unknown(self, frame: pd.DataFrame) -> None:
        found = frame.drop(columns="created_at").kms.inspect(self.remotes)
        assert found["format"].tolist() == ["cloud", "lab", "cloud"]
        assert found["version_number"].isna().tolist() == [True, False, True]
        assert found["version_known_by"].tolist() == ["unknown", "header", "unknown"]
        assert found["stale"].isna().tolist() == [True, False, True]

    def test_what_is_inferred_says_so(self, frame: pd.DataFrame) -> None:
        """A record that is older than the key's last rotation is stale, as far as dates tell."""
        found = frame.kms.inspect(self.remotes)
        assert found["version_known_by"].tolist() == ["created_at", "header", "created_at"]
        assert found["stale"].tolist() == [True, True, False]

    def test_a_version_is_alike_wherever_it_is_shown(
        self, memory_lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Lab blobs over a Tencent remote: they name versions that no cloud bears out."""
        remotes = remotes_over(LabLink(memory_lab.tencent()), LabLink(memory_lab.ctyun()))
        records = []
        for name, kms in ((TENCENT, memory_lab.tencent()), (CTYUN, memory_lab.ctyun())):
            key: Any = kms.create_key(alias=name)
            records.append(Record(name, name, kms.encrypt(key.key_id, b"secret")))
            memory_lab.rotate(key.key_id)
        short = memory_lab.tencent().list_keys()[0].versions[0].version_id[:8]
        plan = make_plan(
            open_source(SourceSpec(str(write_records(tmp_path / "r.csv", records)))),
            SourceSpec(str(tmp_path / "r.csv")),
            remotes,
            Target(),
            clock=SystemClock(),
        )
        assert [version_of(row) for row in plan.census] == ["1", f"{short} (inferred)"]
        assert INFERRED in plan.notes
        assert CTYUN_LENGTH not in plan.notes  # it is of blobs that this machine makes
        show_census(census(records, remotes), Names({}))
        assert f"{short} (inferred)" in capsys.readouterr().out
        frame = pd.DataFrame({"ciphertext_blob": [each.ciphertext_blob for each in records]})
        found = frame.kms.inspect(remotes)
        assert found["key_known_by"].tolist() == ["header"] * 2
        assert found["version_known_by"].tolist() == ["inferred", "header"]
        table = Table.of(records, [Classifier(remotes).classify(each) for each in records])
        shown = [version_text(table.shared.kinds[n], table) for n in table.blocks[0].kinds]
        assert shown == ["inferred", "1"]

    def test_re_encryption_into_a_new_frame(self, frame: pd.DataFrame) -> None:
        made = frame.kms.re_encrypt(self.remotes)
        assert made["result"].tolist() == ["re_encrypted", "re_encrypted", "unchanged"]
        assert "Decrypt" not in self.links[0].asked

    def test_the_last_rotation_parts_what_a_cloud_does_not_tell(self, frame: pd.DataFrame) -> None:
        rows = kmslab.frames.versions(self.remotes)
        tencent = rows[rows["provider"] == TENCENT]
        assert tencent["version_number"].isna().all()
        assert tencent["is_primary"].tolist() == [False, True]
        assert rows[rows["provider"] == CTYUN]["version_number"].tolist() == [1, 2]


class TestTheExplorer:
    @pytest.fixture
    def session(self, memory_lab: Lab, tmp_path: Path) -> Session:
        link = CloudLink(memory_lab.tencent())
        kms: Any = remote_over(link, TENCENT)
        key_id = memory_lab.tencent().create_key("orders").key_id
        blob = kms.encrypt(key_id, b"old")
        memory_lab.rotate(key_id)
        path = write_records(tmp_path / "r.csv", [Record("r1", TENCENT, blob)])
        remotes = remotes_over(link)
        ground = ground_on(remotes, tmp_path)
        return Session(
            remotes,
            ground,
            "remote prod",
            spec=SourceSpec(str(path)),
            source=str(path),
            options=("--remote", "prod"),
            locked=True,
        )

    def test_it_shows_what_is_not_known_and_changes_nothing(
        self, session: Session, tmp_path: Path
    ) -> None:
        explorer = Explorer(session, tmp_path / "log")

        async def scene() -> tuple[str, str, dict[str, str]]:
            async with explorer.run_test(size=(120, 40)) as pilot:
                for _ in range(6000):
                    await pilot.pause(0.01)
                    screen = pilot.app.screen
                    if isinstance(screen, Records) and screen.reader.counted and screen.keys:
                        break
                text = "\n".join(
                    "".join(segment.text for segment in strip)
                    for strip in pilot.app.screen._compositor.render_strips()
                )
                screen = pilot.app.screen
                assert isinstance(screen, Records)
                why = {each.name: explorer.why_not(screen, each) for each in screen.ACTIONS}
                return text, pilot.app.screen.names(next(iter(screen.keys))) or "", why

        text, name, why = asyncio.run(scene())
        assert "may change" in text
        assert "remote prod" in text
        assert name == "orders"
        for action in ("create", "deed('rotate')", "audit"):
            assert why[action]
        assert "read-only" in why["decrypt"]
        assert SECRET_KEY not in text

    def test_what_needs_a_lab_is_not_offered(self, session: Session, tmp_path: Path) -> None:
        session.locked = session.read_only = False
        explorer = Explorer(session, tmp_path / "log")
        nowhere: Any = object()
        refused = [
            action.name
            for action in (*RECORDS, *KEY, *AUDIT)
            if "own tools" in explorer.why_not(nowhere, action)
        ]
        assert {"create", "audit", "deed('rotate')", "deed('deletion')"} <= set(refused)
        with pytest.raises(SettingError):
            _ = session.lab
