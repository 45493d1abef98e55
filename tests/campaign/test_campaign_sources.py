"""Registered sources and holds are kept, whoever else registers some at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kmslab
from kmslab import ManualClock
from kmslab.campaign.sources import Hold, RegisteredSource, Sources
from kmslab.campaign.state import State
from kmslab.errors import CampaignError, SourceError, StateError
from kmslab.records import Columns
from kmslab.records.spec import SourceSpec

SOURCE = Path(kmslab.__file__).parents[1]
ORDERS = SourceSpec("/data/订单.csv")
TABLE = SourceSpec(
    "postgresql://app@db.example:5432/shop",
    "sales.orders",
    Columns(ciphertext_blob="secret"),
    provider="ctyun",
    context_template='{"tenant":"{tenant}"}',
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def sources(state: State, manual_clock: ManualClock) -> Sources:
    return Sources(state, manual_clock)


def test_nothing_at_first(sources: Sources, state: State) -> None:
    assert (sources.all(), sources.holds()) == ((), ())
    assert not state.path.exists()


def test_sources_are_kept(sources: Sources, state: State, manual_clock: ManualClock) -> None:
    first = sources.add("orders", ORDERS)
    manual_clock.advance(timedelta(days=1))
    second = sources.add("订单 (生产)", TABLE)
    again = Sources(state)
    assert again.all() == (first, second)
    assert again.get("订单 (生产)") == RegisteredSource("订单 (生产)", TABLE, manual_clock.now())
    again.forget("orders")
    assert sources.all() == (second,)
    sources.add("orders", ORDERS)
    assert [source.name for source in again.all()] == ["订单 (生产)", "orders"]


def test_holds_are_kept(sources: Sources, state: State, manual_clock: ManualClock) -> None:
    tapes = sources.hold("tapes", "月度备份, until 2027")
    replica = sources.hold("replica", "read-only copy", key_id="k1")
    assert Sources(state).holds() == (tapes, replica)
    assert tapes == Hold("tapes", "月度备份, until 2027", manual_clock.now())
    assert [hold.covers("k1") for hold in (tapes, replica)] == [True, True]
    assert [hold.covers("k2") for hold in (tapes, replica)] == [True, False]
    Sources(state).release("tapes")
    assert sources.holds() == (replica,)


def test_a_name_may_be_a_sources_and_a_holds(sources: Sources) -> None:
    sources.add("orders", ORDERS)
    sources.hold("orders", "its backups")
    sources.forget("orders")
    assert [hold.name for hold in sources.holds()] == ["orders"]


def test_locations_are_made_absolute(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given_, kept in {
        "orders/*.csv": f"{tmp_path}/orders/*.csv",
        "sqlite:///订单.db": f"sqlite:///{tmp_path}/订单.db",
        "postgresql://app@db.example/shop": "postgresql://app@db.example/shop",
    }.items():
        assert sources.add(given_, SourceSpec(given_, "t")).spec.location == kept


def test_one_table_may_have_two_columns_of_blobs(sources: Sources) -> None:
    sources.add("a", TABLE)
    sources.add("b", replace(TABLE, columns=Columns(ciphertext_blob="other")))
    assert len(sources.all()) == 2


REFUSED: dict[str, tuple[Callable[[Sources], object], str]] = {
    "a name twice": (
        lambda s: s.add("orders", TABLE),
        "'orders' is registered already: /data/订单.csv; choose another name, or first `kmslab",
    ),
    "a source twice": (lambda s: s.add("new", ORDERS), "is registered already, as 'orders'"),
    "a hold twice": (lambda s: s.hold("tapes", "x"), "a hold 'tapes' stands already"),
    "no reason": (lambda s: s.hold("x", "  "), "say what it stands for"),
    "no such source": (lambda s: s.get("x"), "there is no source 'x'; there are: 'orders'"),
    "nothing to forget": (lambda s: s.forget("tapes"), "no source 'tapes'; there are: 'orders'"),
    "nothing to release": (lambda s: s.release("orders"), "no hold 'orders'; there are: 'tapes'"),
    "no name": (lambda s: s.add("", TABLE), "'' is no name of a source: 1 to 64 letters"),
    "a long name": (lambda s: s.add("x" * 65, TABLE), "1 to 64 letters"),
    "a name of two lines": (lambda s: s.hold("a\nb", "x"), r"'a\nb' is no name of a hold"),
    "a name with a tail": (lambda s: s.hold("a ", "x"), "no space at either end"),
}


@pytest.mark.parametrize(("use", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(sources: Sources, use: Callable[[Sources], object], message: str) -> None:
    sources.add("orders", ORDERS)
    sources.hold("tapes", "x")
    before = sources.state.read_json("sources.json")
    with pytest.raises(CampaignError) as caught:
        use(sources)
    assert message in str(caught.value)
    assert sources.state.read_json("sources.json") == before


@pytest.mark.parametrize(
    "location",
    ["postgresql://app:hunter2@db.example/shop", "postgresql://db.example/shop?password=hunter2"],
)
def test_a_password_is_not_stored(sources: Sources, location: str) -> None:
    with pytest.raises(SourceError, match=r"PGPASSWORD or ~/\.pgpass") as caught:
        sources.add("orders", SourceSpec(location, "t"))
    assert "hunter2" not in str(caught.value)
    assert not sources.state.path.exists()


def test_the_file_is_what_it_was_in_format_1(sources: Sources) -> None:
    sources.add("orders", TABLE)
    sources.hold("tapes", "backups", "k1")
    columns = {
        "record_id": "record_id",
        "ciphertext_blob": "secret",
        "provider": "provider",
        "context": "encryption_context",
        "key_id": "key_id",
        "created_at": "created_at",
        "owner": "owner",
        "source_key_id": "source_key_id",
        "source_key_version_id": "source_key_version_id",
        "source_encryption_algorithm": "source_encryption_algorithm",
    }
    assert json.loads((sources.state.path / "sources.json").read_text("utf-8")) == {
        "format": 1,
        "sources": [
            {
                "name": "orders",
                "spec": {
                    "location": "postgresql://app@db.example:5432/shop",
                    "table": "sales.orders",
                    "columns": columns,
                    "provider": "ctyun",
                    "context_template": '{"tenant":"{tenant}"}',
                },
                "added_at": "2026-01-01T00:00:00+00:00",
            }
        ],
        "holds": [
            {
                "name": "tapes",
                "reason": "backups",
                "since": "2026-01-01T00:00:00+00:00",
                "key_id": "k1",
            }
        ],
    }


@pytest.mark.parametrize(
    "content",
    [
        1,
        [],
        {},
        {"format": "1", "sources": [], "holds": []},
        {"format": 1},
        {"format": 1, "sources": [{}], "holds": []},
        {"format": 1, "sources": [1], "holds": []},
        {"format": 1, "sources": [], "holds": [{"name": "x"}]},
        {"format": 1, "sources": [], "holds": [{"name": "x", "reason": "", "since": "soon"}]},
    ],
)
def test_a_damaged_file(sources: Sources, content: Any) -> None:
    sources.state.write_json("sources.json", content)
    for use in (sources.all, sources.holds, lambda: sources.add("orders", ORDERS)):
        with pytest.raises(StateError, match=r"sources\.json is damaged"):
            use()
    assert sources.state.read_json("sources.json") == content


def test_a_newer_file(sources: Sources) -> None:
    sources.state.write_json("sources.json", {"format": 2, "somewhere": "else"})
    with pytest.raises(StateError, match=r"newer kmslab \(format 2; this one reads 1\)"):
        sources.all()


ADDS = """
import sys
from pathlib import Path
from kmslab.campaign.sources import Sources
from kmslab.campaign.state import State
from kmslab.records.spec import SourceSpec

sources = Sources(State(Path(sys.argv[1])))
for number in range(20):
    sources.add(f"{sys.argv[2]}-{number}", SourceSpec(f"/data/{sys.argv[2]}-{number}.csv"))
"""


@pytest.mark.scale
def test_two_processes_at_once_lose_nothing(sources: Sources) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ADDS, str(sources.state.path), name],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        for name in "ab"
    ]
    assert [process.wait() for process in processes] == [0, 0]
    names = [source.name for source in sources.all()]
    assert sorted(names) == sorted(f"{name}-{n}" for name in "ab" for n in range(20))


printable = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1)
optional = st.none() | printable


@settings(max_examples=20)
@given(
    st.builds(
        SourceSpec,
        location=printable.map(lambda text: "/" + text.replace("://", "")),
        table=optional,
        columns=st.builds(Columns, record_id=printable, ciphertext_blob=printable),
        provider=optional,
        context_template=optional,
    ),
    printable.map(lambda text: text[:64]),
)
def test_whatever_is_registered_is_found(
    tmp_path_factory: pytest.TempPathFactory, spec: SourceSpec, name: str
) -> None:
    sources = Sources(State(tmp_path_factory.mktemp("law") / "state"))
    sources.add(name, spec)
    assert replace(sources.get(name).spec, location="") == replace(spec, location="")
