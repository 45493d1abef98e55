"""Run the notebooks, and write them so that a second run gives the same bytes.

    python notebooks/build.py           execute all and write them
    python notebooks/build.py 03 06     execute some
    python notebooks/build.py --check   execute all and write nothing; fail where one is not what
                                        comes out

It fails too where a notebook fails or writes to stderr, which is then not written, and where a name
is that of none. A notebook runs offline, in a new directory of its own, which is gone afterwards.
`--check` compares cells and the kinds of their outputs, and not the outputs: pictures are others on
other machines.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import perf_counter

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

HERE = Path(__file__).parent
TIMEOUT = 120
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path) -> NotebookNode:
    """The notebook after a run, without what differs from run to run. Where a cell fails the run
    ends: its error is the last output, and `faults` tells of it."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata = {}
    with tempfile.TemporaryDirectory(prefix="kmslab-notebook-") as place:
        # Nothing of the user's own set-up, and no port: the kernel is talked to through a file.
        os.environ["IPYTHONDIR"] = os.environ["JUPYTER_RUNTIME_DIR"] = str(Path(place) / "jupyter")
        work = Path(place) / "work"
        work.mkdir()
        client = NotebookClient(
            notebook,
            config=Config(KernelManager={"transport": "ipc", "ip": str(Path(place) / "kernel")}),
            kernel_name="python3",
            timeout=TIMEOUT,
            record_timing=False,
            resources={"metadata": {"path": str(work)}},
        )
        with suppress(CellExecutionError):
            client.execute()
    return normalised(notebook)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """The notebook with fixed ids and no metadata but the kernel's."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"c{number:02}"
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if "metadata" in output:
                output.metadata = {}
    return notebook


def faults(notebook: NotebookNode) -> list[str]:
    """What a reader should not see: errors, and whatever was written to stderr."""
    return [
        f"{cell.id}: {_said(output)}".strip()
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def _said(output: NotebookNode) -> str:
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return str(output.text)


def structure(notebook: NotebookNode) -> list[object]:
    """The cells with their sources, and the kinds of their outputs."""
    return [
        (
            cell.cell_type,
            cell.source,
            cell.get("execution_count"),
            [
                (output.output_type, output.get("name"), sorted(output.get("data", {})))
                for output in cell.get("outputs", [])
            ],
        )
        for cell in notebook.cells
    ]


def main(words: list[str]) -> int:
    """Run what is named; the exit code."""
    check = "--check" in words
    names = tuple(word for word in words if not word.startswith("-"))
    root = str(HERE.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    paths = sorted(HERE.glob("*.ipynb"))
    if strange := [n for n in names if not any(path.name.startswith(n) for path in paths)]:
        print(f"no notebook begins with {', '.join(strange)}", file=sys.stderr)
        return 2
    status = 0
    for path in paths:
        if names and not path.name.startswith(names):
            continue
        begun = perf_counter()
        before = path.read_text("utf-8")
        notebook = execute(path)
        said = faults(notebook)
        if check and structure(nbformat.reads(before, as_version=4)) != structure(notebook):
            said.append("it is not what a run makes: make notebooks")
        if not check and not said:
            path.write_text(nbformat.writes(notebook) + "\n", "utf-8")
        print(f"{path.name}: {perf_counter() - begun:.1f} s", *said, sep="\n  ")
        status |= bool(said)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
