"""CSV files become records, or say which row does not and what to do."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmslab.context import context_text
from kmslab.errors import ContextError, FormatError, SourceError
from kmslab.model import Record
from kmslab.records import Columns, ContextTemplate, read_csv
from kmslab.records.columns import parse_time
from kmslab.records.files import MAX_ROW_BYTES

HEADER = "record_id,ciphertext_blob,provider"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "orders.csv"


@pytest.fixture
def field_limit() -> Iterator[int]:
    """The standard library's limit on a field, put back afterwards."""
    limit = csv.field_size_limit()
    yield limit
    csv.field_size_limit(limit)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestRecords:
    def test_every_column(self, source: Path) -> None:
        write(
            source,
            f"{HEADER},encryption_context,key_id,created_at,owner,source_key_id,"
            "source_key_version_id,source_encryption_algorithm,note\n"
            '订单-1,AAAA,tencent,"{""租户"": ""7""}",k1,2026-01-02T03:04:05Z,王芳,k2,v2,RSA,x\n'
            "order-2,BBBB,ctyun,,,,,,,,\n",
        )
        assert list(read_csv(source)) == [
            Record(
                record_id="订单-1",
                provider="tencent",
                ciphertext_blob="AAAA",
                row=1,
                context='{"租户": "7"}',
                key_id="k1",
                created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
                owner="王芳",
                source_key_id="k2",
                source_key_version_id="v2",
                source_encryption_algorithm="RSA",
            ),
            Record("order-2", "ctyun", "BBBB", 2),
        ]

    def test_only_what_is_needed(self, source: Path) -> None:
        write(source, f"{HEADER}\n1,AAAA,tencent\n")
        assert list(read_csv(str(source))) == [Record("1", "tencent", "AAAA", 1)]

    def test_other_names_in_another_order(self, source: Path) -> None:
        write(source, "blob,ctx,id,cloud\nAAAA,{},1,ctyun\n")
        columns = Columns(record_id="id", ciphertext_blob="blob", provider="cloud", context="ctx")
        assert list(read_csv(source, columns=columns)) == [
            Record("1", "ctyun", "AAAA", 1, context="{}")
        ]

    def test_one_provider_for_all_prevails(self, source: Path) -> None:
        write(source, f"{HEADER}\n1,AAAA,aws\n")
        assert next(read_csv(source, provider="tencent")).provider == "tencent"
        write(source, "record_id,ciphertext_blob\n1,AAAA\n")
        assert next(read_csv(source, provider="ctyun")).provider == "ctyun"

    def test_what_cells_mean_is_not_judged(self, source: Path) -> None:
        write(source, f"{HEADER},encryption_context\n,,aws,not JSON\n")
        assert list(read_csv(source)) == [Record("", "aws", "", 1, context="not JSON")]

    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    @pytest.mark.parametrize("last", ["", "end"])
    def test_line_ends(self, source: Path, newline: str, last: str) -> None:
        lines = [HEADER, "1,AAAA,tencent", "", "2,BBBB,ctyun"] + ([""] if last else [])
        write(source, newline.join(lines))
        assert [(r.record_id, r.provider, r.row) for r in read_csv(source)] == [
            ("1", "tencent", 1),
            ("2", "ctyun", 2),
        ]

    def test_byte_order_mark(self, source: Path) -> None:
        write(source, "\ufeff" + f'"record_id"{HEADER[9:]}\n1,AAAA,tencent\n')
        assert next(read_csv(source)).record_id == "1"

    def test_newlines_quotes_and_commas_in_cells(self, source: Path) -> None:
        write(source, f'{HEADER},owner\n"a\r\nb",AAAA,tencent,"x ""y"", z\n"\n2,BBBB,ctyun,\n')
        first, second = read_csv(source)
        assert (first.record_id, first.owner) == ("a\r\nb", 'x "y", z\n')
        assert (second.record_id, second.row) == ("2", 2)

    def test_header_alone(self, source: Path) -> None:
        assert list(read_csv(write(source, HEADER))) == []

    def test_a_row_longer_than_the_usual_limit(self, source: Path, field_limit: int) -> None:
        long = "x" * (field_limit + 1)
        write(source, f'{HEADER},owner\n1,A,tencent,\n2,A,tencent,"\n{long}"\n3,A,tencent,\n')
        assert [len(record.owner or "") for record in read_csv(source)] == [0, len(long) + 1, 0]

    def test_the_usual_limit_stays_for_usual_rows(self, source: Path, field_limit: int) -> None:
        write(source, f"{HEADER}\n" + "1,AAAA,tencent\n" * 20_000)
        assert sum(1 for _ in read_csv(source)) == 20_000
        assert csv.field_size_limit() == field_limit

    def test_the_file_is_closed_with_the_iterator(self, source: Path) -> None:
        write(source, f"{HEADER}\n" + "1,AAAA,tencent\n" * 3)
        records = read_csv(source)
        next(records)
        del records  # a file left open is a warning, and warnings are errors

    def test_records_come_before_the_end_is_read(self, source: Path) -> None:
        write(source, f"{HEADER}\n1,AAAA,tencent\n2,AAAA\n".encode() + b"\xff\n")
        records = read_csv(source)
        assert next(records).record_id == "1"
        with pytest.raises(SourceError):
            next(records)

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_characters="\0", codec="utf-8")),
                st.text(st.characters(exclude_characters="\0", codec="utf-8")),
            )
        )
    )
    def test_what_csv_writes_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "written.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["record_id", "ciphertext_blob", "owner"])
            writer.writerows((identity, "AAAA", owner) for identity, owner in rows)
        read = [(r.record_id, r.owner or "") for r in read_csv(path, provider="tencent")]
        assert read == rows


# name: (bytes of the file, row of the error, what the message says)
UNREADABLE: dict[str, tuple[bytes, int | None, str]] = {
    "empty": (b"", None, "the file is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", None, "the file is empty"),
    "only blank lines": (b"\n\n", None, "the file is empty"),
    "no blob column": (b"record_id,provider\n", None, "no column 'ciphertext_blob'; found: 'rec"),
    "no provider": (b"record_id,ciphertext_blob\n", None, "of which provider all records are"),
    "spaces in names": (b"record_id, ciphertext_blob,provider\n", None, "' ciphertext_blob'"),
    "names twice": (b"record_id,ciphertext_blob,provider,a,a\n", None, "column 'a' is there twice"),
    "too few": (f"{HEADER}\n1,A,tencent\n\n2,A\n".encode(), 2, "2 cells where the header has 3"),
    "too many": (f"{HEADER}\n1,A,tencent,\n".encode(), 1, "4 cells where the header has 3"),
    "not utf-8": (f"{HEADER}\n1,A,tencent\n".encode() + b"2,\xff,ctyun\n", 2, "not UTF-8"),
    "header not utf-8": (b"\xe5,record_id\n", None, "header: not UTF-8"),
    "gbk": (f"{HEADER}\n".encode() + "订单,A,ctyun\n".encode("gbk"), 1, "save the file as UTF-8"),
    "utf-16": (HEADER.encode("utf-16"), None, "the file is UTF-16"),
    "nul": (f"{HEADER}\n1,A\0,tencent\n".encode(), 1, "a NUL byte"),
    "old mac": (b"record_id,ciphertext_blob\r1,A\r", None, "a carriage return inside a row"),
    "open quote": (f'{HEADER}\n1,A,tencent\n2,"A,tencent\n'.encode(), 2, "close its quote"),
    "text after a quote": (f'{HEADER}\n1,"A"B,tencent\n'.encode(), 1, "malformed CSV"),
    "time": (
        f"{HEADER},created_at\n1,A,tencent,yesterday\n".encode(),
        1,
        "created_at: 'yesterday'",
    ),
    "row too long": (
        f"{HEADER}\n1,A,tencent\n".encode() + b"x" * (MAX_ROW_BYTES + 2),
        2,
        "longer than 16,777,216 bytes",
    ),
    "quote over all": (
        f'{HEADER}\n1,A,tencent\n"'.encode() + (b"x" * 1023 + b"\n") * (16 * 1024 + 1),
        2,
        "is a quote not closed?",
    ),
}


@pytest.mark.usefixtures("field_limit")
@pytest.mark.parametrize(("content", "row", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable(source: Path, content: bytes, row: int | None, message: str) -> None:
    write(source, content)
    with pytest.raises(SourceError) as caught:
        list(read_csv(source))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{source}, {'header' if row is None else f'row {row} '}")
    assert (caught.value.source, caught.value.row) == (str(source), row)


class TestNoFile:
    def test_missing(self, source: Path) -> None:
        records = read_csv(source)
        with pytest.raises(SourceError, match="there is no such file") as caught:
            next(records)
        assert caught.value.source == str(source)

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="this is a directory"):
            next(read_csv(tmp_path))

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (PermissionError(13, "Permission denied"), "the file may not be read by this user"),
            (OSError(5, "Input/output error"), "the file cannot be read: Input/output error"),
        ],
    )
    def test_unreadable(
        self, source: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
    ) -> None:
        def refuse(*_: object) -> None:
            raise error

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(SourceError, match=message) as caught:
            next(read_csv(source))
        assert caught.value.__cause__ is error


def test_a_column_that_was_renamed_must_be_there(source: Path) -> None:
    write(source, f"{HEADER},owner\n1,A,tencent,me\n")
    with pytest.raises(SourceError, match="no column 'ctx'"):
        next(read_csv(source, columns=Columns(context="ctx")))


def test_a_column_that_is_not_read_need_not_be_there(source: Path) -> None:
    write(source, "record_id,ciphertext_blob\n1,A\n")
    columns = Columns(provider="cloud", context="ctx")
    records = read_csv(source, columns=columns, provider="ctyun", context_template='{"a":"b"}')
    assert next(records) == Record("1", "ctyun", "A", 1, context='{"a":"b"}')


def test_an_error_names_a_few_of_many_columns(source: Path) -> None:
    write(source, ",".join(f"column-{n}" for n in range(100_000)))
    with pytest.raises(SourceError, match="and 99,970 more") as caught:
        next(read_csv(source))
    assert len(str(caught.value)) < 1000


def test_a_row_has_a_bound_where_fields_have_none(source: Path, field_limit: int) -> None:
    csv.field_size_limit(2**31 - 1)
    write(source, f'{HEADER}\n"'.encode() + (b"x" * 1023 + b"\n") * (16 * 1024 + 1))
    with pytest.raises(SourceError, match="is a quote not closed"):
        list(read_csv(source))
    assert csv.field_size_limit() == 2**31 - 1


class TestContextTemplate:
    def test_it_makes_every_context(self, source: Path) -> None:
        write(source, f"{HEADER},tenant_id,encryption_context\n1,A,tencent,租户,old\n2,A,ctyun,,\n")
        records = read_csv(source, context_template='{"tenant": "{tenant_id}"}')
        assert [record.context for record in records] == ['{"tenant": "租户"}', '{"tenant": ""}']

    def test_unknown_column(self, source: Path) -> None:
        write(source, f"{HEADER}\n1,A,tencent\n")
        with pytest.raises(SourceError, match="no column 'tenant_id'; found: 'record_id'"):
            next(read_csv(source, context_template='{"tenant":"{tenant_id}"}'))

    def test_a_bad_template_is_refused_at_once(self, source: Path) -> None:
        with pytest.raises(ContextError):
            read_csv(source, context_template="{tenant_id}")

    @pytest.mark.parametrize(
        ("text", "cells", "context"),
        [
            ('{"a":"{x}-{y}{x}"}', ["1", "2", "3"], '{"a":"1-23"}'),
            ('{"a":"{{x}}"}', [], '{"a":"{x}"}'),
            ('{"a":"{{{x}}}"}', ["1"], '{"a":"{1}"}'),
            ('{"{{a}}":"b"}', [], '{"{a}":"b"}'),
            ('{ "a" : "{tenant-id}" ,\n"b":"{租户 号}"}', ["1", "2"], '{ "a" : "1" ,\n"b":"2"}'),
            ('{"a":"{x}"}', ['"\\\n\t'], '{"a":"\\"\\\\\\n\\t"}'),
            ('{"a":"\\"{x}\\u007b"}', ["é"], '{"a":"\\"é\\u007b"}'),
            ('{"a":"b"}', [], '{"a":"b"}'),
        ],
    )
    def test_the_rules(self, text: str, cells: list[str], context: str) -> None:
        template = ContextTemplate.parse(text)
        assert len(template.columns) == len(cells)
        assert template.fill(cells) == context
        assert context_text(context) == context

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{}",
            "tenant",
            '["{x}"]',
            '{"a":{"b":"{x}"}}',
            '{"a":1}',
            '{"a":"{x"}',
            '{"a":"x}"}',
            '{"a":"{}"}',
            '{"{x}":"a"}',
            '{"a":"{x}","a":"{y}"}',
            '{"a":"{\\"b\\":1}"}',
        ],
    )
    def test_no_template(self, text: str) -> None:
        with pytest.raises(ContextError):
            ContextTemplate.parse(text)

    @settings(deadline=None)
    @given(st.text(st.characters(codec="utf-8"), max_size=100))
    def test_whatever_the_cell_it_is_a_context_with_that_value(self, cell: str) -> None:
        filled = ContextTemplate.parse('{"a":"<{x}>"}').fill([cell])
        assert json.loads(filled) == {"a": f"<{cell}>"}
        assert context_text(filled) == filled


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T08:00:00+08:00", 0),
            ("1970-01-01 00:00:00", 0),
            ("1970-01-02", 86_400),
            ("1970-01-01T00:00:00.5Z", 0.5),
            ("0", 0),
            ("1767312000", 1_767_312_000),
            ("1767312000.25", 1_767_312_000.25),
        ],
    )
    def test_read(self, text: str, seconds: float) -> None:
        moment = parse_time(text)
        assert (moment.timestamp(), moment.tzinfo) == (seconds, UTC)

    @pytest.mark.parametrize(
        "text",
        [
            "yesterday",
            "2026-13-01",
            "20260102",
            "1767312000000",
            "999999999999",
            "-1",
            "1e9",
            "nan",
            "１７６７",
            "0001-01-01T00:00:00+14:00",
            " 2026-01-02",
        ],
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(FormatError, match="neither an ISO 8601 time nor Unix seconds"):
            parse_time(text)
