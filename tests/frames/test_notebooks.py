"""The committed notebooks: executed, quiet, normalised; and the figures of one, counted again.

`make notebooks-check` runs all of them.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from kmslab import inspect
from kmslab.model import BlobFormat, Key

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def test_there_are_six() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_executed_and_quiet(path: Path) -> None:
    notebook = load(path)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] or path.stem.startswith(("02", "05", "06")) for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert notebook["cells"][0]["source"][0].startswith("# ")
    assert [cell["id"] for cell in notebook["cells"]] == [
        f"c{number:02}" for number in range(len(notebook["cells"]))
    ]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert not any(cell["metadata"] for cell in notebook["cells"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_no_plaintext_and_no_style(path: Path) -> None:
    cells = load(path)["cells"]
    shown = json.dumps([cell.get("outputs", []) for cell in cells])
    sources = "".join("".join(cell["source"]) for cell in cells)
    for secret in re.findall(r'\bb"([^"]+)"', sources):
        assert secret not in shown
        assert secret.encode().hex() not in shown
    assert "/tmp/" not in shown
    assert "/home/" not in shown
    html = [
        o["data"].get("text/html", []) for c in cells for o in c.get("outputs", []) if "data" in o
    ]
    # pandas puts one <style scoped> of its own before each table; what strips it loses nothing.
    assert all("".join(part).count("<style") <= 1 for part in html)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_the_library_and_holds_no_logic(path: Path) -> None:
    """The one loop is the year of an application in the first, in which its records are made."""
    logic = (ast.FunctionDef, ast.ClassDef, ast.Try, ast.If, ast.IfExp, ast.While)
    cells = [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]
    nodes = [node for cell in cells for node in ast.walk(ast.parse("".join(cell["source"])))]
    assert not [node.lineno for node in nodes if isinstance(node, logic)]
    loops = [node for node in nodes if isinstance(node, ast.For)]
    assert len(loops) == (2 if path.stem.startswith("01") else 0)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`notebooks/build.py` over two notebooks, with a kernel that knows `raise` and `warn`."""
    spec = spec_from_file_location("notebooks_build", NOTEBOOKS[0].parent / "build.py")
    build: Any = module_from_spec(spec)
    spec.loader.exec_module(build)
    for name, source in (("01_one", "raise"), ("02_two", "warn"), ("03_three", "fine")):
        book = build.nbformat.v4.new_notebook(
            cells=[build.nbformat.v4.new_code_cell(source) for _ in range(2)]
        )
        (tmp_path / f"{name}.ipynb").write_text(build.nbformat.writes(book), "utf-8")

    class Client:
        def __init__(self, notebook: Any, **options: object) -> None:
            self._cells = notebook.cells

        def execute(self) -> None:
            new_output = build.nbformat.v4.new_output
            for cell in self._cells:
                if cell.source == "raise":
                    cell.outputs = [new_output("error", ename="KeyError", evalue="'that'")]
                    raise build.CellExecutionError("", "KeyError", "'that'")
                kind = "stderr" if cell.source == "warn" else "stdout"
                cell.outputs = [new_output("stream", name=kind, text="it says so")]

    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "NotebookClient", Client)
    for name in ("PYTHONPATH", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, "")
    return build


def test_a_notebook_that_is_not_there_is_not_built(build: Any, capsys: Any) -> None:
    assert build.main(["03", "99"]) == 2
    assert capsys.readouterr().err == "no notebook begins with 99\n"


def test_a_notebook_that_fails_is_told_of_and_not_written(build: Any, capsys: Any) -> None:
    before = {path.name: path.read_text("utf-8") for path in build.HERE.iterdir()}
    assert build.main([]) == 1
    said = re.sub(r": [0-9.]+ s\n", "\n", capsys.readouterr().out)
    assert said == (
        "01_one.ipynb\n  c00: KeyError: 'that'\n"
        "02_two.ipynb\n  c00: it says so\n  c01: it says so\n"
        "03_three.ipynb\n"
    )
    after = {path.name: path.read_text("utf-8") for path in build.HERE.iterdir()}
    assert [name for name in before if after[name] != before[name]] == ["03_three.ipynb"]
    assert build.main(["03", "--check"]) == 0


@pytest.fixture(scope="module")
def analysis() -> dict[str, Any]:
    """The names of notebook 03 once it has run, over fewer records and without its charts."""
    (path,) = (path for path in NOTEBOOKS if path.stem.startswith("03"))
    cells = [c for c in load(path)["cells"] if c["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        lines = [line for line in cell["source"] if not line.startswith("charts.")]
        source = "".join(lines).replace("100_000", "3_000")
        exec(compile(source, path.name, "exec"), names)
    return names


class Plain:
    """A record, told by plain Python: `inspect` one by one, and the lab's versions."""

    def __init__(self, row: dict[str, Any], named: dict[str, str], keys: dict[str, Key]) -> None:
        found = inspect(row["ciphertext_blob"])
        self.blob = found.format is not BlobFormat.UNKNOWN
        self.cloud = found.format is BlobFormat.CLOUD
        self.owner = row["owner"]
        self.provider = row["provider"]
        self.at = row["created_at"]
        self.key_id = found.key_id or named.get(found.fingerprint or "")
        versions = keys[self.key_id].versions if self.key_id else ()
        ends = [version.made_at for version in versions[1:]]
        self.until = self.number = None
        for version, end in zip_longest(versions, ends):
            named_here = found.key_version_id == version.version_id
            then = version.made_at <= self.at and (end is None or self.at < end)
            if named_here or (found.key_version_id is None and then):
                self.number = version.number
                self.until = end
        self.stale = self.until is not None


@pytest.fixture(scope="module")
def plain(analysis: dict[str, Any]) -> list[Plain]:
    rows = analysis["df"].to_dict("records")
    named = {}
    for row in rows:
        if isinstance(row["key_id"], str):
            named[inspect(row["ciphertext_blob"]).fingerprint] = row["key_id"]
    keys = {key.key_id: key for key in analysis["lab"].keys()}
    return [Plain(row, named, keys) for row in rows]


def test_stale_records_are_those_that_plain_python_counts(
    analysis: dict[str, Any], plain: list[Plain]
) -> None:
    assert len(plain) == 3_000
    assert len(analysis["stale"]) == sum(record.stale for record in plain)
    assert analysis["share"] == sum(record.stale for record in plain) / len(plain)
    assert analysis["inventory"]["error"].notna().sum() == sum(not r.blob for r in plain)
    assert sum(record.number is not None for record in plain) > 2_900


def test_the_census_is_what_plain_python_counts(
    analysis: dict[str, Any], plain: list[Plain]
) -> None:
    counted = Counter((record.key_id, record.number) for record in plain if record.key_id)
    census = analysis["census"].dropna(subset=["key_id"])
    found = zip(census["key_id"], census["version_number"], census["records"], strict=True)
    assert {(key, number): records for key, number, records in found} == counted


def test_record_days_and_quarters_are_what_plain_python_counts(
    analysis: dict[str, Any], plain: list[Plain]
) -> None:
    now = analysis["now"]
    days = Counter()
    for record in plain:
        if record.stale:
            days[record.owner] += (now - record.until) / timedelta(days=1)
    exposure = analysis["exposure"].groupby("owner", observed=True)["record_days"].sum()
    assert exposure.to_dict() == pytest.approx(dict(days))

    policy = analysis["held"]
    overdue = sum(r.stale and now - r.until > timedelta(days=30) for r in plain)
    too_old = sum(now - r.at > timedelta(days=365) for r in plain)
    assert (policy["overdue"].sum(), policy["too_old"].sum()) == (overdue, too_old)

    quarters = analysis["table"]
    for label in quarters.index:
        at = analysis["pd"].Timestamp(label, tz="UTC") if label != quarters.index[-1] else now
        there = [r for r in plain if r.at <= at and r.number is not None]
        stale = sum(r.until is not None and r.until <= at for r in there)
        assert quarters["stale"][label] == stale
        assert quarters["current"][label] == len(there) - stale


def test_what_is_left_after_re_encryption(analysis: dict[str, Any], plain: list[Plain]) -> None:
    cloud = sum(
        inspect(blob).format is BlobFormat.CLOUD for blob in analysis["df"]["ciphertext_blob"]
    )
    stale_cloud = len(analysis["stale"]) - (analysis["moved"]["result"] == "re_encrypted").sum()
    assert 0 < stale_cloud <= cloud
    assert analysis["after"]["stale"].sum() == stale_cloud


def test_versions_may_go_that_plain_python_finds_nothing_on(
    analysis: dict[str, Any], plain: list[Plain]
) -> None:
    keys = analysis["lab"].keys()
    cut = {record.provider for record in plain if not record.blob}
    assert cut
    left = {(r.key_id, r.number) for r in plain if r.cloud and r.stale}
    there = {(r.key_id, r.number) for r in plain}
    old = {(key.key_id, v.number) for key in keys for v in key.versions[:-1]}
    safe = {(key.key_id, v.number) for key in keys if key.provider not in cut for v in key.versions}
    gone = analysis["gone"].query("retirable")
    assert set(zip(gone["key_id"], gone["version_number"], strict=True)) == old - left
    assert analysis["may_go"] == {
        "before": len((old - there) & safe),
        "after": len((old - left) & safe),
        "after, without the cut ones": len(old - left),
    }
