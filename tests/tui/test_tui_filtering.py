"""The filter language: what a text means, what is refused, and which records it lets through."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tui_tables import BILLS, KEYS, NOW, ORDERS, VERSIONS, Rows, row, rows, table_of, texts

from kmslab.analysis import Outcome, Verdict
from kmslab.errors import FilterError, FormatError
from kmslab.model import Record
from kmslab.tui.filtering import (
    COMPARISONS,
    FIELDS,
    Age,
    Has,
    Is,
    Marked,
    Part,
    Provider,
    Query,
    Term,
    Test,
    Version,
    VersionId,
)
from kmslab.tui.matching import Matcher
from kmslab.tui.states import state_text
from kmslab.tui.table import pack

MEANINGS: list[tuple[str, list[Term]]] = [
    ("", []),
    ("   ", []),
    ("word", [Term(Has(Part.ANY, "word"))]),
    ("Word ORDER", [Term(Has(Part.ANY, "word")), Term(Has(Part.ANY, "order"))]),
    ("!word", [Term(Has(Part.ANY, "word"), negated=True)]),
    ('"two words"', [Term(Has(Part.ANY, "two words"))]),
    ('!"two words"', [Term(Has(Part.ANY, "two words"), negated=True)]),
    ('"key:x"', [Term(Has(Part.ANY, "key:x"))]),
    ('a"b c"d', [Term(Has(Part.ANY, "ab cd"))]),
    ('"say ""hi"""', [Term(Has(Part.ANY, 'say "hi"'))]),
    ("12:30", [Term(Has(Part.ANY, "12:30"))]),
    ("订单", [Term(Has(Part.ANY, "订单"))]),
    ("key:Orders", [Term(Has(Part.KEY, "orders"))]),
    ("KEY:orders", [Term(Has(Part.KEY, "orders"))]),
    ('owner:"Li Lei"', [Term(Has(Part.OWNER, "li lei"))]),
    ("!owner:x", [Term(Has(Part.OWNER, "x"), negated=True)]),
    ("id:7", [Term(Has(Part.ID, "7"))]),
    ('context:"tenant"":""7"', [Term(Has(Part.CONTEXT, 'tenant":"7'))]),
    ("reason:disabled", [Term(Has(Part.REASON, "disabled"))]),
    ("prov:CT", [Term(Provider("ct"))]),
    ("out:stale", [Term(Is("stale"))]),
    ("out:may", [Term(Is("may"))]),
    ("out:Stale,no_key", [Term(Is("stale,no_key"))]),
    ('out:"no key"', [Term(Is("no_key"))]),
    ("!is:marked", [Term(Marked(), negated=True)]),
    ("ver:3", [Term(Version("=", 3))]),
    ("ver:=3", [Term(Version("=", 3))]),
    ("ver:<3", [Term(Version("<", 3))]),
    ("ver:<=3", [Term(Version("<=", 3))]),
    ("ver:>=03", [Term(Version(">=", 3))]),
    ("ver:999999", [Term(Version("=", 999_999))]),
    ("ver:1234567", [Term(VersionId("1234567"))]),
    ("ver:A1b2-", [Term(VersionId("a1b2-"))]),
    ("age:>90d", [Term(Age(">", 90 * 86_400))]),
    ("age:<=2W", [Term(Age("<=", 14 * 86_400))]),
    ("age:>=1y", [Term(Age(">=", 365 * 86_400))]),
    ("age:<90m", [Term(Age("<", 5_400))]),
]

REFUSALS = [
    ("tenant:3", 0, "'tenant' is no field; fields are key:, ver:, prov:, age:, owner:, out:, is:"),
    ("a !tenant:3", 3, "put in quotes"),
    ("a !", 3, "after ! comes what is not wanted"),
    ('a "b c', 2, "a quote that is never closed"),
    ('owner:"b', 6, "a quote that is never closed"),
    ('""', 0, "an empty text is in every record"),
    ("key:", 4, "key: wants a part of a key's id, alias or description"),
    ("out: stale", 4, "out: wants a word of the column STATE"),
    ("out:old", 4, "'old' is not a word of the column STATE, or several parted by commas"),
    ("out:stale,", 4, "'' is not a word of the column STATE"),
    ("is:stale", 3, "'stale' is not marked"),
    ("prov:aws", 5, "'aws' is none of tencent, ctyun"),
    ("ver:new", 4, "'new' is not a version's number, as in ver:2 or ver:<3"),
    ("ver:<", 4, "is not a version's number"),
    ("ver:<a1", 4, "is not a version's number"),
    ("age:90d", 4, "'90d' is not < or > and a time, as in age:>90d; times end in s, m, h, d, w, y"),
    ("age:>90", 4, "is not < or > and a time"),
    ("age:>d", 4, "is not < or > and a time"),
]


@pytest.mark.parametrize(("text", "terms"), MEANINGS)
def test_what_a_text_means(text: str, terms: list[Term]) -> None:
    assert Query.parse(text) == Query(tuple(terms))


@pytest.mark.parametrize(("text", "offset", "says"), REFUSALS)
def test_what_is_refused_is_named_with_its_place(text: str, offset: int, says: str) -> None:
    with pytest.raises(FilterError, match=r"^at ") as refused:
        Query.parse(text)
    assert refused.value.offset == offset
    assert str(refused.value).startswith(f"at {offset + 1}, ")
    assert says in str(refused.value)
    assert isinstance(refused.value, FormatError)


def test_every_field_says_what_it_wants() -> None:
    for field, wanted in FIELDS.items():
        with pytest.raises(FilterError) as refused:
            Query.parse(f"{field}:")
        assert str(refused.value).endswith(f"{field}: wants {wanted}")


@given(st.text() | st.text(st.sampled_from('aA!:"<>=19d keyvrout'), max_size=12))
def test_every_text_is_a_query_or_refused_at_a_place_in_it(text: str) -> None:
    try:
        query = Query.parse(text)
    except FilterError as refused:
        at = refused.offset
    else:
        assert Query.parse(str(query)) == query
        at = 0
    assert at is not None
    assert 0 <= at <= len(text)


folded = texts.map(str.casefold).filter(bool)
tests: st.SearchStrategy[Test] = st.one_of(
    st.builds(Has, st.sampled_from(Part), folded),
    st.builds(Provider, st.sampled_from(["t", "ctyun"])),
    st.builds(Is, st.sampled_from(["stale", "m", "needs_", "current,no_k", "disabled"])),
    st.builds(Version, st.sampled_from(list(COMPARISONS)), st.integers(0, 11)),
    st.builds(VersionId, st.sampled_from(["a1", "12345678", "f"])),
    st.builds(Age, st.sampled_from(["<", "<=", ">", ">="]), st.integers(0, 500 * 86_400)),
)
queries = st.lists(st.builds(Term, tests, st.booleans()), max_size=3).map(
    lambda terms: Query(tuple(terms))
)


@given(queries)
def test_a_query_as_text_is_the_same_query(query: Query) -> None:
    assert Query.parse(str(query)) == query


def passes(test: Test, record: Record, verdict: Verdict) -> bool:
    """The same, told of one record as the documentation says it."""
    key = KEYS.get(verdict.key_id or "")
    of_key = [verdict.key_id or ""] + ([key.alias, key.description] if key else [])
    looked_at = {
        Part.ID: [record.record_id],
        Part.KEY: of_key,
        Part.OWNER: [record.owner or ""],
        Part.CONTEXT: [record.context or ""],
        Part.REASON: [verdict.reason],
        Part.ANY: [
            *(record.record_id, *of_key, record.owner or "", record.context or ""),
            state_text(verdict)[2:],
        ],
    }
    match test:
        case Has(part, text):
            return any(text in each.casefold() for each in looked_at[part])
        case Provider(start):
            return record.provider.startswith(start)
        case Is(start):
            names = verdict.outcome.value, state_text(verdict)[2:].replace(" ", "_")
            return any(name.startswith(part) for part in start.split(",") for name in names)
        case Version(comparison, number):
            known = verdict.version_number
            return known is not None and COMPARISONS[comparison](known, number)
        case VersionId(start):
            return (verdict.key_version_id or "").startswith(start)
        case Age(comparison, seconds):
            at = record.created_at
            return at is not None and COMPARISONS[comparison](
                (NOW - at).total_seconds(), float(seconds)
            )


def let_through(text: str, some: Rows) -> list[str]:
    table = table_of(some)
    matcher = Matcher(Query.parse(text), table, NOW)
    mask = b"".join(matcher.mask(block) for block in table.blocks)
    return [record.record_id for (record, _), there in zip(some, mask, strict=True) if there]


@given(queries, rows)
def test_a_record_passes_where_every_term_holds_for_it(query: Query, some: Rows) -> None:
    table = table_of(some)
    matcher = Matcher(query, table, NOW)
    mask = b"".join(matcher.mask(block) for block in table.blocks)
    assert [bool(each) for each in mask] == [
        all(passes(term.test, *pair) is not term.negated for term in query.terms) for pair in some
    ]


SOME: Rows = [
    *row("order-1", key=ORDERS, version_number=1, key_version_id=VERSIONS[0], owner="Ada"),
    *row("order-2", Outcome.CURRENT, key=ORDERS, version_number=2, owner="Li Lei"),
    *row("BILL-3", Outcome.BLOCKED, reason="key disabled", key=BILLS, provider="ctyun"),
    *row("lost-4", Outcome.INVALID, created_at=NOW - timedelta(days=90), context='{"t":"7"}'),
    *row("new-5", created_at=NOW - timedelta(days=89)),
]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", "order-1 order-2 BILL-3 lost-4 new-5"),
        ("order", "order-1 order-2"),
        ("ORDER !order-1", "order-2"),
        ("bill", "BILL-3"),
        ("订单", "order-1 order-2"),
        ("key:5cd15c00", "order-1 order-2"),
        ("!key:orders", "BILL-3 lost-4 new-5"),
        ("ver:1", "order-1"),
        ("ver:<=2", "order-1 order-2"),
        ("!ver:1", "order-2 BILL-3 lost-4 new-5"),
        ("ver:a1b2", "order-1"),
        ("prov:ct", "BILL-3"),
        ("age:>89d", "lost-4"),
        ("age:>=89d", "lost-4 new-5"),
        ("age:<90d", "new-5"),
        ("age:<=90d", "lost-4 new-5"),
        ("!age:>1d", "order-1 order-2 BILL-3"),
        ('owner:"li l"', "order-2"),
        ("out:blocked", "BILL-3"),
        ("out:disabled", "BILL-3"),
        ("out:current,disabled,inv", "order-2 BILL-3 lost-4"),
        ("disabled", "BILL-3"),
        ("!out:stale", "order-2 BILL-3 lost-4"),
        ("reason:disabled", "BILL-3"),
        ("context:7", "lost-4"),
        ('"t"":""7"', "lost-4"),
        ("7", "order-1 order-2 BILL-3 lost-4"),  # in the ids of keys too
        ("out:stale ver:1 key:orders ada", "order-1"),
        ("nowhere", ""),
    ],
)
def test_what_a_filter_lets_through(text: str, ids: str) -> None:
    assert " ".join(let_through(text, SOME)) == ids


def test_more_kinds_than_a_byte_can_number() -> None:
    some = [pair for n in range(600) for pair in row(f"r-{n}", reason=f"reason {n}", owner=f"o{n}")]
    assert let_through("reason:599", some) == ["r-599"]
    assert let_through("owner:o59", some) == ["r-59", *(f"r-{n}" for n in range(590, 600))]


def test_a_filter_learns_of_kinds_and_owners_that_come_later() -> None:
    table = table_of(row("order-1", owner="Ada"))
    matcher = Matcher(Query.parse("out:current owner:lei"), table, NOW)
    assert matcher.mask(table.blocks[0]) == b"\0"
    ((record, verdict),) = row("order-2", Outcome.CURRENT, owner="Li Lei")
    table.append(pack([record], [verdict], table.shared))
    assert matcher.mask(table.blocks[1]) == b"\1"
