"""JSONL files become records, and a pass changes the text of members and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_files import edit, names_in, new_blob, part_of, records_of

from kmslab.errors import SourceChanged, SourceError
from kmslab.model import Record
from kmslab.records.columns import Columns
from kmslab.records.files import open_files
from kmslab.records.source import ABSENT, Change, Value
from kmslab.records.spec import SourceSpec

ROW = '{"record_id": "1", "ciphertext_blob": "A", "provider": "tencent"'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.jsonl"


class TestRecords:
    def test_every_member(self, path: Path) -> None:
        path.write_text(
            '{"record_id":"订单-1","ciphertext_blob":"AAAA","provider":"tencent",'
            '"encryption_context":"{\\"租户\\": \\"7\\"}","key_id":"k1","owner":"王芳",'
            '"created_at":"2026-01-02T03:04:05Z","source_key_id":"k2","x":{"y":[1,{}]},'
            '"source_key_version_id":"v2","source_encryption_algorithm":"RSA"}\n'
            '{"record_id":2,"ciphertext_blob":"BBBB","provider":"ctyun","owner":7,'
            '"created_at":1767312000.25,"key_id":null}',
            "utf-8",
        )
        assert records_of(path) == [
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
            Record(
                "2",
                "ctyun",
                "BBBB",
                2,
                owner="7",
                created_at=datetime(2026, 1, 2, 0, 0, 0, 250_000, tzinfo=UTC),
            ),
        ]

    def test_lines(self, path: Path) -> None:
        path.write_bytes(f"\ufeff{ROW}}}\r\n\n  \t\r\n {ROW}}} \n\n".encode())
        assert [record.row for record in records_of(path)] == [1, 2]

    def test_empty(self, path: Path) -> None:
        for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
            path.write_bytes(content)
            source = open_files(SourceSpec(str(path)))
            assert list(source.parts[0].read()) == []
            assert source.fields == frozenset()
            edit(source.parts[0], new_blob)
            assert path.read_bytes() == content

    def test_a_context_of_other_members(self, path: Path) -> None:
        path.write_text(f'{ROW}, "tenant": 7}}\n{ROW}, "tenant": "租户"}}\n{ROW}}}\n', "utf-8")
        template = '{"tenant":"{tenant}"}'
        contexts = [r.context for r in records_of(path, context_template=template)]
        assert contexts == ['{"tenant":"7"}', '{"tenant":"租户"}', '{"tenant":""}']


class TestFields:
    def test_the_members_of_the_first_thousand(self, path: Path) -> None:
        rows = [f"{ROW}}}"] * 1000 + [f'{ROW}, "owner": "x"}}']
        path.write_text("\n".join(rows))
        assert open_files(SourceSpec(str(path))).fields == {
            "record_id",
            "ciphertext_blob",
            "provider",
        }
        path.write_text("\n".join(rows[1:]))
        assert "owner" in open_files(SourceSpec(str(path))).fields

    def test_of_several_files_together(self, tmp_path: Path) -> None:
        (tmp_path / "1.jsonl").write_text(f"{ROW}}}\n")
        (tmp_path / "2.ndjson").write_text(f'{ROW}, "key_id": null}}\n')
        (tmp_path / "3.jsonl").touch()
        assert "key_id" in open_files(SourceSpec(str(tmp_path))).fields

    @pytest.mark.parametrize(
        ("columns", "missing"),
        [(Columns(context="ctx"), "ctx"), (Columns(ciphertext_blob="b"), "b")],
    )
    def test_what_must_be_there(self, path: Path, columns: Columns, missing: str) -> None:
        path.write_text(f"{ROW}}}\n")
        with pytest.raises(SourceError, match=f"no column '{missing}'.*first 1,000 objects"):
            open_files(SourceSpec(str(path), columns=columns))


# name: (line, what the message says)
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{record_id: 1}", "not JSON: Expecting property name"),
    "two objects": (b"{} {}", "not JSON: Extra data"),
    "list": (b"[1]", "not a JSON object"),
    "text": (b'"x"', "not a JSON object"),
    "twice": (b'{"a": 1, "b": 2, "a": 3}', "member 'a' is there twice"),
    "nan": (b'{"a": NaN}', "NaN, which JSON does not know"),
    "infinity": (b'{"a": [-Infinity]}', "-Infinity, which JSON does not know"),
    "number as blob": (b'{"ciphertext_blob": 1}', "member 'ciphertext_blob' is a number and not"),
    "object as context": (b'{"encryption_context": {"a": "b"}}', "an object and not a string; the"),
    "list as id": (b'{"record_id": [1]}', "member 'record_id' is a list"),
    "true as id": (b'{"record_id": true}', "member 'record_id' is true or false"),
    "fraction as id": (b'{"record_id": 1.5}', "member 'record_id' is a number"),
    "time": (b'{"created_at": "yesterday"}', "created_at: 'yesterday'"),
    "time as a number": (b'{"created_at": -1}', "created_at: '-1'"),
    "not utf-8": (b'{"a": "\xff"}', "not UTF-8"),
    "nul": (b'{"a": "\0"}', "a NUL byte"),
    "half a pair": (b'{"record_id": "\\ud800"}', "half a surrogate pair"),
    "deep": (b'{"a":' + b"[" * 100_000, "nesting too deep"),
    "digits": (b'{"a":' + b"1" * 5_000 + b"}", "a number too long"),
    "too long": (b'{"a":"' + b"x" * (16 * 1024 * 1024) + b'"}', "longer than 16,777,216 bytes"),
    "utf-16": ("{}".encode("utf-16-le"), "a NUL byte"),
}


@pytest.mark.parametrize(("line", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable(path: Path, line: bytes, message: str) -> None:
    path.write_bytes(ROW.encode() + b"}\n")
    part = part_of(path)
    path.write_bytes(ROW.encode() + b"}\n\n" + line + b"\n")
    for use in (lambda: list(part.read()), lambda: edit(part, new_blob)):
        with pytest.raises(SourceError) as caught:
            use()
        assert message in str(caught.value)
        assert str(caught.value).startswith(f"{path}, row 2 (line 3): ")
    assert names_in(path.parent) == [path.name]


MOVE = {"provider": ("tencent", "ctyun"), "key_id": (None, "k9"), "context": ("{}", None)}
# name: (row before, other changes, row after)
ROWS: dict[str, tuple[str, dict[str, tuple[Value, Value]], str]] = {
    "spaces, order, numbers": (
        '  {"n":1.50e3 ,"ciphertext_blob" :  "A","record_id":7, "d":"\\u0041\\/" } \r',
        {},
        '  {"n":1.50e3 ,"ciphertext_blob" :  "NEW","record_id":7, "d":"\\u0041\\/" } \r',
    ),
    "several": (
        '{"key_id":null,"record_id":"1","ciphertext_blob":"A","provider":"tencent",'
        '"x":{"provider":"tencent","ciphertext_blob":"A"},"encryption_context":"{}"}',
        MOVE,
        '{"key_id":"k9","record_id":"1","ciphertext_blob":"NEW","provider":"ctyun",'
        '"x":{"provider":"tencent","ciphertext_blob":"A"},"encryption_context":null}',
    ),
    "one that was not there": (
        '{"record_id":"1","ciphertext_blob":"A" }',
        {"key_id": (None, "k9"), "source_key_id": (None, None)},
        '{"record_id":"1","ciphertext_blob":"NEW", "key_id": "k9" }',
    ),
    "one that is to be gone": (
        '{"key_id":"k" , "record_id":"1", "ciphertext_blob":"A",  "provider":"p" }',
        {"key_id": ("k", ABSENT), "provider": ("p", ABSENT), "context": (ABSENT, "{}")},
        '{"record_id":"1", "ciphertext_blob":"NEW", "encryption_context": "{}" }',
    ),
    "empty, null and not there": (
        '{"record_id":"1","ciphertext_blob":"A","key_id":"","provider":null,"source_key_id":"s"}',
        {
            "key_id": ("", None),
            "provider": (None, ""),
            "context": (ABSENT, None),
            "source_key_id": ("s", ""),
        },
        '{"record_id":"1","ciphertext_blob":"NEW","key_id":null,"provider":"","source_key_id":"",'
        ' "encryption_context": null}',
    ),
    "escaped names": (
        '{"record\\u005fid":"1","ciphertext_blob":"\\u0041"}',
        {},
        '{"record\\u005fid":"1","ciphertext_blob":"NEW"}',
    ),
    "ASCII stays ASCII": (
        '{"record_id":"\\u8ba2","ciphertext_blob":"A","key_id":""}',
        {"key_id": (None, "钥")},
        '{"record_id":"\\u8ba2","ciphertext_blob":"NEW","key_id":"\\u94a5"}',
    ),
    "Chinese stays Chinese": (
        '{"record_id":"订","ciphertext_blob":"A"}',
        {"key_id": (None, '钥"')},
        '{"record_id":"订","ciphertext_blob":"NEW", "key_id": "钥\\""}',
    ),
}


@pytest.mark.parametrize(("before", "others", "after"), ROWS.values(), ids=ROWS)
def test_only_the_changed_members(
    path: Path, before: str, others: dict[str, tuple[Value, Value]], after: str
) -> None:
    rest = f'\ufeff{ROW}, "s": 1}}\n\n%s\n\r\n{ROW}, "s": 2}}'
    path.write_text(rest % before, "utf-8", newline="")

    def change(record: Record) -> Change | None:
        return Change(2, record.record_id, "A", "NEW", others) if record.row == 2 else None

    old = records_of(path)
    edit(part_of(path), change)
    assert path.read_bytes().decode() == rest % after
    edit(part_of(path), lambda record: change(record).undone() if record.row == 2 else None)
    assert records_of(path) == old
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(1, "1", "A", "C", {"note": ("k", None)}), "no column for note"),
        (Change(1, "1", "A", "\ud800"), "cannot be written as JSON"),
        (Change(1, "1", "A", "x" * (16 * 1024 * 1024)), "cannot be written as JSON"),
    ],
)
def test_refused_changes(path: Path, change: Change, message: str) -> None:
    path.write_text(f'{ROW}, "n": "租"}}\n', "utf-8")
    before = path.read_bytes()
    with pytest.raises(SourceError, match=message) as caught:
        edit(part_of(path), lambda _: change)
    assert not isinstance(caught.value, SourceChanged)
    assert path.read_bytes() == before


values = st.sampled_from(
    [None, True, -1, 10**30, 1.5e-300, [], [{"ciphertext_blob": "A"}], '\\"租']
)
texts = st.text(st.characters(codec="utf-8"), max_size=6)


@given(
    st.lists(st.tuples(texts, texts, st.dictionaries(st.sampled_from("abcd"), values)), max_size=5),
    st.data(),
)
def test_any_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, dict[str, Any]]],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    lines = []
    for identity, blob, others in rows:
        members = [("record_id", identity), ("ciphertext_blob", blob), *others.items()]
        ordered = dict(data.draw(st.permutations(members)))
        separators = data.draw(st.sampled_from([None, (",", ":"), (" ,\t", "  : ")]))
        ascii_only = data.draw(st.booleans())
        lines.append(json.dumps(ordered, ensure_ascii=ascii_only, separators=separators))
    path.write_bytes("\n".join(lines).encode())
    before = records_of(path, "ctyun")
    assert [(r.record_id, r.ciphertext_blob) for r in before] == [row[:2] for row in rows]
    new = {r.row: new_blob(r, data.draw(texts)) for r in before if data.draw(st.booleans())}
    edit(part_of(path, "ctyun"), lambda record: new.get(record.row))
    after = path.read_bytes().decode().split("\n") if rows else []
    for number, (old, line) in enumerate(zip(lines, after, strict=True), start=1):
        if number not in new or new[number].new_blob == new[number].old_blob:
            assert line == old
        else:
            expected = list((json.loads(old) | {"ciphertext_blob": new[number].new_blob}).items())
            assert list(json.loads(line).items()) == expected
            texts_of = (json.dumps(new[number].new_blob, ensure_ascii=a) for a in (True, False))
            assert any(text in line for text in texts_of)
            assert len(old) - len(line) < 100
