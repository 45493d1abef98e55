"""What a path or a glob names as a source."""

from __future__ import annotations

from pathlib import Path

import pytest
from record_files import records_of

from kmslab.errors import ContextError, SourceError
from kmslab.records.files import open_files
from kmslab.records.spec import SourceSpec

HEADER = "record_id,ciphertext_blob,provider\n"


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{HEADER}{name},A,tencent\n")
    return folder


def names_of(location: str | Path) -> list[str]:
    return [record.record_id for record in records_of(Path(location))]


def test_a_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    make(tmp_path, "b.csv", "a/2.csv", "a/10.CSV", "c/d/e.csv")
    make(tmp_path, "_SUCCESS", ".hidden.csv", "_old/x.csv", ".git/y.csv", "a/.b.csv.kmslab-0.tmp")
    assert names_of(tmp_path) == ["a/10.CSV", "a/2.csv", "b.csv", "c/d/e.csv"]
    source = open_files(SourceSpec(str(tmp_path)))
    assert source.name == str(tmp_path)
    assert [part.name for part in source.parts][:2] == [
        str(tmp_path / "a/10.CSV"),
        str(tmp_path / "a/2.csv"),
    ]


def test_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "1.csv", "2.csv", "a/3.csv", "note.txt", ".4.csv")
    assert names_of(tmp_path / "*.csv") == ["1.csv", "2.csv"]
    assert names_of(tmp_path / "**" / "*.csv") == ["1.csv", "2.csv", "a/3.csv"]
    assert names_of(tmp_path / "[a1]*") == ["1.csv", "a/3.csv"]  # a folder with all that is in it
    monkeypatch.chdir(tmp_path)
    assert open_files(SourceSpec("*.csv")).name == str(tmp_path / "*.csv")
    assert open_files(SourceSpec("1.csv")).name == str(tmp_path / "1.csv")


def test_a_name_that_looks_like_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "[1].csv", "1.csv")
    assert names_of(tmp_path / "[1].csv") == ["[1].csv"]


def test_each_file_once(tmp_path: Path) -> None:
    make(tmp_path, "a/1.csv")
    (tmp_path / "a" / "2.csv").symlink_to("1.csv")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    (tmp_path / "b").symlink_to("a")
    assert names_of(tmp_path) == ["a/1.csv"]
    assert names_of(tmp_path / "*") == ["a/1.csv"]


# name: (files, location, what the message says)
REFUSED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "nothing": ((), "orders.csv", "orders.csv: there is no such file"),
    "empty folder": (("x/_a.csv",), "x", "x: there is no file; known are .csv, .jsonl"),
    "glob of nothing": (("x.csv",), "*.parquet", "there is no file"),
    "unknown": (("orders.csv.gz",), "orders.csv.gz", "the suffix tells no format; known are .csv"),
    "no suffix": (("orders",), "orders", "the suffix tells no format"),
    "unknown in a folder": (("1.csv", "2.csv.gz"), ".", "2.csv.gz of no known format"),
    "mixed": (("1.csv", "2.csv", "3.jsonl"), ".", "files of several formats"),
}


@pytest.mark.parametrize(("files", "location", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, files: tuple[str, ...], location: str, message: str) -> None:
    make(tmp_path, *files)
    with pytest.raises(SourceError) as caught:
        open_files(SourceSpec(str(tmp_path / location)))
    assert message in str(caught.value)


def test_mixed_formats_are_named(tmp_path: Path) -> None:
    make(tmp_path, "1.csv", "2.jsonl")
    with pytest.raises(SourceError, match=r"2\.jsonl.*1\.csv|1\.csv.*2\.jsonl"):
        open_files(SourceSpec(str(tmp_path)))


def test_parts_with_other_columns(tmp_path: Path) -> None:
    make(tmp_path, "1.csv", "2.csv", "3.csv")
    (tmp_path / "2.csv").write_text("note,provider,record_id,ciphertext_blob\n")
    assert len(open_files(SourceSpec(str(tmp_path))).parts) == 3  # only the fields count
    (tmp_path / "3.csv").write_text("record_id,ciphertext_blob,provider,key_id\n")
    with pytest.raises(SourceError, match=r"3\.csv: columns differ from .*1\.csv: key_id"):
        open_files(SourceSpec(str(tmp_path)))


def test_a_template_that_is_none(tmp_path: Path) -> None:
    make(tmp_path, "1.csv")
    with pytest.raises(ContextError):
        open_files(SourceSpec(str(tmp_path), context_template="{x}"))
