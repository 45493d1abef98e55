"""A pass over a CSV file changes what it is told to, and no other byte."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_files import edit, names_in, new_blob, part_of, records_of

from kmslab.errors import SourceChanged, SourceError
from kmslab.model import Record
from kmslab.records import text
from kmslab.records.columns import Columns
from kmslab.records.files import open_files
from kmslab.records.source import CHUNK_ROWS, Change
from kmslab.records.spec import SourceSpec

HEADER = b"record_id,ciphertext_blob,provider,encryption_context,key_id,note\n"
MOVE = {"provider": ("tencent", "ctyun"), "key_id": ("k1", None), "context": (None, '{"a":"b"}')}


@pytest.fixture
def field_limit() -> Iterator[None]:
    """Puts the standard library's limit on a field back, which long rows raise."""
    limit = csv.field_size_limit()
    yield
    csv.field_size_limit(limit)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


# name: (rows before, change of the second row, rows after)
ROWS: dict[str, tuple[bytes, Change, bytes]] = {
    "plain": (
        b"1,A,tencent,,k1,x\n2,A,tencent,,k1,x\n",
        Change(2, "2", "A", "B"),
        b"1,A,tencent,,k1,x\n2,B,tencent,,k1,x\n",
    ),
    "all at once": (
        b'1,A,tencent,,k1,x\n2,"A",tencent,,k1,"x ""y"""\n',
        Change(2, "2", "A", "B", MOVE),
        b'1,A,tencent,,k1,x\n2,"B",ctyun,"{""a"":""b""}",,"x ""y"""\n',
    ),
    "line ends and blank lines": (
        b"1,A,tencent,,k1,x\r\n\r\n\n2,A,tencent,,k1,x\n\r\n3,A,tencent,,k1,\r",
        Change(2, "2", "A", "B"),
        b"1,A,tencent,,k1,x\r\n\r\n\n2,B,tencent,,k1,x\n\r\n3,A,tencent,,k1,\r",
    ),
    "a last line without end": (
        b"1,A,tencent,,k1,x\n2,A,tencent,,,",
        Change(2, "2", "A", "B", {"key_id": (None, "k9")}),
        b"1,A,tencent,,k1,x\n2,B,tencent,,k9,",
    ),
    "quotes stay, where they are not needed too": (
        b'1,"A",,,,\n"2","A","tencent","","k1","\r\n,"""\r\n',
        Change(2, "2", "A", "B", {"key_id": ("k1", None)}),
        b'1,"A",,,,\n"2","B","tencent","","","\r\n,"""\r\n',
    ),
    "a quote inside a cell without quotes": (
        b'1,A,,,,\n2,A,te"nc"ent,,k"1,x\n',
        Change(2, "2", "A", "B", {"key_id": ('k"1', "k2")}),
        b'1,A,,,,\n2,B,te"nc"ent,,k2,x\n',
    ),
    "Chinese": (
        '1,A,,,,\n订单-2,A,腾讯,"{""租户"":""七""}",k1,备注\n'.encode(),
        Change(2, "订单-2", "A", "B", {"provider": ("腾讯", "天翼云,一")}),
        '1,A,,,,\n订单-2,B,"天翼云,一","{""租户"":""七""}",k1,备注\n'.encode(),
    ),
    "quotes go with the need for them, where the row has no others": (
        b'1,A,,,,\n2,A,tencent,"{""a"":""b""}",k1,"x,y"\n',
        Change(2, "2", "A", "B", {"context": ('{"a":"b"}', None), "key_id": ("k1", "k,2")}),
        b'1,A,,,,\n2,B,tencent,,"k,2","x,y"\n',
    ),
    "and stay where it has": (
        b'1,A,,,,\n"2","A","tencent","{""a"":""b""}","k1","x"\n',
        Change(2, "2", "A", "B", {"context": ('{"a":"b"}', None)}),
        b'1,A,,,,\n"2","B","tencent","","k1","x"\n',
    ),
    "to nothing": (
        b"1,A,,,,\n2,A,tencent,{},k1,\n",
        Change(2, "2", "A", "B", {"context": ("{}", None), "key_id": ("k1", None)}),
        b"1,A,,,,\n2,B,tencent,,,\n",
    ),
}


@pytest.mark.parametrize(("before", "change", "after"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "marked"])
def test_only_the_changed_cells(
    path: Path, before: bytes, change: Change, after: bytes, mark: bytes
) -> None:
    path.write_bytes(mark + HEADER + before)
    edit(part_of(path), lambda record: change if record.row == change.place else None)
    assert path.read_bytes() == mark + HEADER + after
    edit(part_of(path), lambda record: change.undone() if record.row == change.place else None)
    assert records_of(path) == records_of(_written(path, mark + HEADER + before))
    assert names_in(path.parent) == [path.name]


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=8
) | st.sampled_from(["", '"', ",", "\n", "\r\n", " ", '{"租户":"7"}'])


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, list[list[str]]]:
    """A CSV file in any spelling, and its rows."""
    rows = draw(st.lists(st.lists(cells, min_size=4, max_size=4), max_size=6))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = "note,record_id,ciphertext_blob,provider" + end
    for row in rows:
        quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
        if "\r" in "".join(row):  # which not every Python quotes where lines end otherwise
            quoting = csv.QUOTE_ALL
        line = io.StringIO()
        end = draw(st.sampled_from(["\n", "\r\n"]))
        csv.writer(line, quoting=quoting, lineterminator=end).writerow(row)
        text += line.getvalue() + draw(st.sampled_from(["", "", "\n", "\r\n"]))
    if draw(st.booleans()):
        text = text.removesuffix("\n").removesuffix("\r")
    mark = draw(st.sampled_from(["", "\ufeff"]))
    return (mark + text).encode(), rows


@given(files(), st.data())
def test_any_rows(
    tmp_path_factory: pytest.TempPathFactory,
    file: tuple[bytes, list[list[str]]],
    data: st.DataObject,
) -> None:
    content, rows = file
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    expected = [Record(row[1], row[3], row[2], n) for n, row in enumerate(rows, start=1)]
    assert records_of(path) == expected
    inode = path.stat().st_ino
    new = {
        n: Change(n, row[1], row[2], data.draw(cells), {"provider": (row[3], data.draw(cells))})
        for n, row in enumerate(rows, start=1)
        if data.draw(st.booleans())
    }
    edit(part_of(path), lambda record: new.get(record.row))
    after = [
        [row[0], row[1], new[n].new_blob, new[n].others["provider"][1] or ""] if n in new else row
        for n, row in enumerate(rows, start=1)
    ]
    assert records_of(path) == [Record(r[1], r[3], r[2], n) for n, r in enumerate(after, start=1)]
    text = path.read_bytes().decode("utf-8-sig")
    read = list(filter(None, csv.reader(io.StringIO(text, newline=""))))
    assert read[1:] == after
    if after == rows:
        assert path.read_bytes() == content
        assert path.stat().st_ino == inode
    edit(part_of(path), lambda record: new[record.row].undone() if record.row in new else None)
    assert records_of(path) == expected


def test_rows_that_stay_keep_every_byte(path: Path) -> None:
    """Each row is spelt in a way of its own; every third one changes."""
    spellings = [
        b'%d,A,"tencent","{""a"":""b""}",k1,"1\r\n2"\r\n',
        b'"%d","A",tencent,,,\n\n',
        b'%d,A,te"ncent,,,"\xe7\xa7\x9f,"\r\n',
    ]
    rows = [spellings[n % 3] % n for n in range(1, CHUNK_ROWS + 501)]
    path.write_bytes(HEADER + b"".join(rows))
    edit(part_of(path), lambda record: new_blob(record) if record.row % 5 == 0 else None)
    expected = [
        row.replace(b",A,", b",NEW,").replace(b'"A"', b'"NEW"') if n % 5 == 0 else row
        for n, row in enumerate(rows, start=1)
    ]
    assert path.read_bytes() == HEADER + b"".join(expected)


def test_chunks_and_places(path: Path) -> None:
    rows = range(1, 2 * CHUNK_ROWS + 502)
    path.write_bytes(HEADER + b"".join(b"%d,A,tencent,,,\n" % n for n in rows))
    chunks = list(part_of(path).read())
    assert [len(chunk.records) for chunk in chunks] == [CHUNK_ROWS, CHUNK_ROWS, 501]
    assert [place for chunk in chunks for place in chunk.places] == list(rows)


def test_long_rows_make_short_chunks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_CHUNK_BYTES", 20_000)
    row = b"%d,A,tencent,,," + b"x" * 6_000 + b"\n"
    path.write_bytes(HEADER + b"\n" * 50_000 + b"".join(row % n for n in range(1, 8)))
    assert [len(chunk.records) for chunk in part_of(path).read()] == [4, 3]
    edit(part_of(path), new_blob)
    assert {record.ciphertext_blob for record in records_of(path)} == {"NEW"}
    assert path.read_bytes().startswith(HEADER + b"\n" * 50_000 + b"1,NEW,")


@pytest.mark.usefixtures("field_limit")
def test_a_cell_may_become_long(path: Path) -> None:
    path.write_bytes(HEADER + b"1,A,tencent,,,\n2,A,tencent,,,\n")
    edit(part_of(path), lambda record: new_blob(record, "x" * 1_000_000))
    assert [len(record.ciphertext_blob) for record in records_of(path)] == [1_000_000] * 2


def test_a_header_alone(path: Path) -> None:
    path.write_bytes(HEADER)
    assert list(part_of(path).read()) == []
    assert edit(part_of(path), new_blob) == []
    assert path.read_bytes() == HEADER


class TestFields:
    def test_those_with_a_column(self, path: Path) -> None:
        path.write_bytes(b"record_id,blob,provider,note\n")
        spec = SourceSpec(str(path), columns=Columns(ciphertext_blob="blob"))
        source = open_files(spec)
        assert source.fields == {"record_id", "ciphertext_blob", "provider"}
        assert (source.blob_capacity, source.name) == (None, str(path))

    def test_not_those_that_something_stands_for(self, path: Path) -> None:
        path.write_bytes(HEADER)
        spec = SourceSpec(str(path), provider="ctyun", context_template='{"a":"{note}"}')
        assert open_files(spec).fields == {"record_id", "ciphertext_blob", "key_id"}


# name: (change, what the message says)
REFUSED: dict[str, tuple[Change, str]] = {
    "no such column": (Change(1, "1", "A", "B", {"source_key_id": (None, "k")}), "no column for"),
    "no such row": (Change(2, "1", "A", "B"), "row 2 is not in the chunk"),
    "no such place": (Change("1", "1", "A", "B"), "row 1 is not in the chunk"),
    "nul": (Change(1, "1", "A", "B\0"), "cannot be written as CSV"),
    "half a pair": (Change(1, "1", "A", "\ud800"), "cannot be written as CSV"),
    "too long": (Change(1, "1", "A", "x" * (16 * 1024 * 1024)), "cannot be written as CSV"),
}


@pytest.mark.usefixtures("field_limit")
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_changes_leave_the_file_alone(path: Path, change: Change, message: str) -> None:
    path.write_bytes(HEADER + b"1,A,tencent,,,\n")
    before = path.stat()
    with pytest.raises(SourceError, match=message) as caught:
        edit(part_of(path), lambda _: change)
    assert not isinstance(caught.value, SourceChanged)
    assert path.read_bytes() == HEADER + b"1,A,tencent,,,\n"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert names_in(path.parent) == [path.name]


def test_a_bad_row_is_named_and_nothing_is_changed(path: Path) -> None:
    path.write_bytes(HEADER + b"1,A,tencent,,,\n2,A\n")
    with pytest.raises(SourceError, match=r"row 2 \(line 3\): 2 cells where the header has 6"):
        edit(part_of(path), new_blob)
    assert names_in(path.parent) == [path.name]


def test_a_pass_that_was_not_ended_is_not_finished(path: Path) -> None:
    path.write_bytes(HEADER + b"1,A,tencent,,,\n" * 3000)
    with part_of(path).edit() as pass_:
        for chunk in pass_:
            pass_.write([new_blob(chunk.records[0])])
            break
        with pytest.raises(SourceError, match="not all records were taken"):
            pass_.finish()
    assert b"NEW" not in path.read_bytes()


def test_a_chunk_that_nobody_wrote_stays(path: Path) -> None:
    path.write_bytes(HEADER + b"1,A,tencent,,,\n" * (CHUNK_ROWS + 500))
    with part_of(path).edit() as pass_:
        for chunk in pass_:
            if chunk.places[0] == CHUNK_ROWS + 1:
                pass_.write([new_blob(chunk.records[0])])
        pass_.finish()
    rows = path.read_bytes().splitlines(keepends=True)
    assert [n for n, row in enumerate(rows) if b"NEW" in row] == [CHUNK_ROWS + 1]
    assert len(rows) == CHUNK_ROWS + 501
