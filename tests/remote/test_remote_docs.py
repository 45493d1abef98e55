"""docs/remote.md is run: its snippets, its profiles and its commands, against a served lab."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from remote_world import Server, write_records
from typer.testing import CliRunner

from kmslab import Lab, Record
from kmslab.cli.app import app
from kmslab.model import CTYUN, TENCENT

PAGE = Path(__file__).parents[2] / "docs" / "remote.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_page_runs(
    served_lab: Lab, signed_in: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KMSLAB_STATE", str(tmp_path / "state"))
    monkeypatch.setitem(
        __import__("kmslab.profiles").profiles._USUAL_ENDPOINTS, TENCENT, signed_in.url
    )
    blocks = _FENCE.findall(PAGE.read_text("utf-8"))
    records = []
    for provider in (TENCENT, CTYUN):
        kms: Any = served_lab.kms(provider)
        key_id = kms.create_key(alias=f"docs-{provider}").key_id
        blob = kms.encrypt(key_id, b"secret")
        served_lab.rotate(key_id)
        records.append(Record(provider, provider, blob))
    write_records(tmp_path / "orders.csv", records)
    [profiles] = [text for kind, text in blocks if kind == "toml"]
    made = signed_in.environment
    profiles = profiles.replace("https://kms.example", signed_in.url)
    profiles = profiles.replace('secret_id = "..."', f'secret_id = "{made["CTYUN_AK"]}"')
    profiles = profiles.replace('secret_key = "..."', f'secret_key = "{made["CTYUN_SK"]}"')
    place = tmp_path / "profiles.toml"
    place.touch(mode=0o600)
    place.write_text(profiles, encoding="utf-8")

    snippets = [text for kind, text in blocks if kind == "py"]
    assert len(snippets) == 2
    for text in snippets:
        exec(compile(text, "snippet", "exec"), {"__name__": "snippet"})
    commands = [
        line.removeprefix("$ kmslab ").split()
        for kind, text in blocks
        if kind == "console"
        for line in text.splitlines()
    ]
    assert len(commands) == 4
    for words in commands:
        done = CliRunner().invoke(app, words, prog_name="kmslab")
        assert done.exit_code == 0, done.output
