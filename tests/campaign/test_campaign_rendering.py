"""Reports as Markdown and as HTML: what they say, and that names cannot say anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from typing import Any

import pytest

from kmslab.analysis.census import CensusRow
from kmslab.analysis.classify import DROP, Outcome, Target
from kmslab.analysis.forecast import forecast
from kmslab.campaign.accounts import account
from kmslab.campaign.journal import Failure, Lost
from kmslab.campaign.plan import DATA_KEYS, KeyMark, Options, Plan, Reason
from kmslab.campaign.rendering import both_censuses, intent, markdown
from kmslab.campaign.rendering_html import html
from kmslab.campaign.report import FailureGroup, Report, Results, failure_groups
from kmslab.campaign.selection import Selection
from kmslab.records.spec import SourceSpec

STRANGE = [
    "<script>alert(1)</script>",
    "[red]x[/]",
    "订单-欧阳",
    "a|b`c``d",
    '"><img src=x onerror=alert(1)>',
    "&amp;",
    "[link](javascript:x)",
]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = "23e80852-1e38-11e9-b129-5cb9019b4b01"


def census(*records: int) -> tuple[CensusRow, ...]:
    return tuple(
        CensusRow("tencent", KEY, f"version-{number}", number, number == 2, count)
        for number, count in enumerate(records, start=1)
        if count
    )


PLAN = Plan(
    spec=SourceSpec("/data/orders.csv"),
    source="/data/orders.csv",
    target=Target(),
    options=Options(rates={"tencent": 50.0}),
    made_at=AT,
    total=100,
    outcomes=dict.fromkeys(Outcome, 0) | {Outcome.STALE: 90, Outcome.BLOCKED: 10},
    reasons=(Reason(Outcome.STALE, "", 90), Reason(Outcome.BLOCKED, "key disabled", 10)),
    census=census(90, 10),
    forecast=forecast({"tencent": 90}, 50.0),
    rights={"tencent": ("ReEncrypt",)},
    unverified=True,
    fingerprints={},
    keys=(),
    notes=(DATA_KEYS,),
)
REPORT = Report(
    campaign="20260102-030405-6e1f",
    state="finished",
    source="/data/orders.csv",
    started_at=AT,
    finished_at=AT + timedelta(seconds=95),
    plan=PLAN,
    results=Results(re_encrypted=80, unchanged=10, failed=7, lost=3),
    failure_codes={"InternalError": 7},
    failures=tuple(
        Failure(name, "tencent", "InternalError", f"of {name}", f"request-{number}")
        for number, name in enumerate(STRANGE)
    ),
    losses=tuple(Lost(name, "changed by somebody else meanwhile") for name in STRANGE[:3]),
    outcomes_after={},
    census_after=census(10, 90),
    calls={"tencent": 90},
    undone=0,
    undo_left=0,
    undo_lost=(),
)


class Page(HTMLParser):
    """What a browser makes of a page: its tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_loads_and_runs_nothing() -> None:
    page = Page(html(REPORT))
    assert not {"script", "img", "link", "iframe", "object", "a", "form"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert names <= {"lang", "charset", "name", "content", "http-equiv", "class", "style"}
    assert "://" not in html(REPORT)
    assert "url(" not in html(REPORT)
    assert "prefers-color-scheme: dark" in html(REPORT)
    assert "@media print" in html(REPORT)


@pytest.mark.parametrize("name", STRANGE)
def test_names_are_shown_as_they_are(name: str) -> None:
    assert name in Page(html(REPORT)).text
    text = markdown(REPORT)
    if "<" in name or "&" in name:
        # As HTML, in which nothing is a tag.
        assert "<script" not in text
        assert "<img" not in text
        assert f"<code>{escape(name, quote=False)}</code>".replace("!", r"\!") in text
    else:
        # In Markdown a bar has to be escaped in a table, in code too.
        assert name.replace("|", r"\|") in text


@pytest.mark.parametrize("render", [html, markdown])
def test_what_a_terminal_obeys_is_shown_as_escapes(render: Callable[[Report], str]) -> None:
    lost = tuple(Lost(name, "gone") for name in ("a\x1b[31mb", "a\nb", "a\u202eb", "a\ud800b"))
    text = render(replace(REPORT, losses=lost))
    for escaped in (r"a\x1b[31mb", r"a\nb", r"a\u202eb", r"a\ud800b"):
        assert escaped in text
    text.encode("utf-8")


def test_markdown_code_cannot_be_left() -> None:
    text = markdown(REPORT)
    assert "```a\\|b`c``d```" in text
    (row,) = [
        line for line in text.splitlines() if line.startswith("| <code>&lt;script") and "of" in line
    ]
    assert r"of &lt;script&gt;alert(1)&lt;/script&gt;" in row


@pytest.mark.parametrize("render", [lambda report: Page(html(report)).text, markdown])
class TestBothSay:
    def test_what_was_asked(self, render: Callable[[Report], str]) -> None:
        text = render(REPORT)
        for said in (
            "/data/orders.csv",
            "each record stays on its own key",
            "each record keeps its own",
            "every new blob is opened",
            "50 calls a second to tencent",
            "2026-01-02 03:04:05 UTC",
            "1 min 35 s",
            "90 to tencent",
            DATA_KEYS,
        ):
            assert said in text
        target = Target(key_id=KEY, provider="ctyun", context=DROP)
        options = Options(verify="sample:7", atomic=True, output="/data/new.csv")
        other = replace(PLAN, target=target, options=options)
        text = render(replace(REPORT, plan=other))
        for said in (f"key {KEY} of ctyun", "dropped", "one new blob in 7", "/data/new.csv"):
            assert said in text
        named = replace(PLAN, target=Target(context='{"a":"订单"}'), options=Options("answer"))
        assert '{"a":"订单"}' in render(replace(REPORT, plan=named))

    def test_results_that_sum_to_the_total(self, render: Callable[[Report], str]) -> None:
        numbers = re.findall("[0-9,]+", render(REPORT))
        assert {"80", "10", "7", "3", "100"} <= set(numbers)

    def test_what_was_left(self, render: Callable[[Report], str]) -> None:
        assert "17 records were left as they were, byte for byte" in render(REPORT)
        assert "3 are what somebody else has made of them." in render(REPORT)
        for location, said in (
            ("sqlite:////data/shop.db", "17 records were not written to."),
            ("/data/orders.parquet", "17 records have the values that they had"),
        ):
            spec = SourceSpec(location)
            assert said in render(replace(REPORT, plan=replace(PLAN, spec=spec)))

    def test_that_a_list_goes_on(self, render: Callable[[Report], str]) -> None:
        results = replace(REPORT.results, failed=1_007)
        text = render(replace(REPORT, results=results, failure_codes={"InternalError": 1_007}))
        assert "1,000 more are in the journal:" in text
        assert "--failures FILE" in text

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ("running", "not finished. So far 80 records were"),
            ("aborted", "aborted on the way, and 80 records were re-encrypted before"),
            ("undoing", "undo is not finished: 5 records have their old blob so far."),
            ("undone", "was undone: 5 records got their old blob again."),
            ("closed", "80 records were re-encrypted; 7 failed"),
        ],
    )
    def test_how_far_it_is(self, render: Callable[[Report], str], state: str, said: str) -> None:
        text = render(replace(REPORT, state=state, undone=5))
        assert state in text
        assert said in text

    def test_that_an_undo_of_a_file_stores_at_its_end(
        self, render: Callable[[Report], str]
    ) -> None:
        stopped = replace(REPORT, state="undoing", undone=0)
        assert "the source is as it was before it." in render(stopped)
        table = replace(PLAN, spec=SourceSpec("sqlite:////data/shop.db", table="secrets"))
        text = render(replace(stopped, plan=table))
        assert "undo is not finished: 0 records have their old blob so far." in text

    def test_what_was_undone_without_proof(self, render: Callable[[Report], str]) -> None:
        text = render(replace(REPORT, state="undone", undone=5, undone_unproven=2))
        assert "5 records got their old blob again, 2 of them without proof" in text

    def test_one_that_was_aborted_and_has_changed_nothing(
        self, render: Callable[[Report], str]
    ) -> None:
        none = replace(REPORT.results, re_encrypted=0)
        assert "Nothing was stored" in render(replace(REPORT, state="aborted", results=none))

    @pytest.mark.parametrize(
        ("results", "options", "said"),
        [
            (Results(0, 0, 0, 0), Options(atomic=True), "10 cannot be sent (10 blocked)"),
            (Results(0, 0, 1, 0), Options(atomic=True), "all or nothing, and 1 failed; 90 records"),
            (Results(0, 0, 2, 1), Options(atomic=True), "2 failed and 1 was lost to changes"),
            (Results(0, 0, 0, 0), Options(), "Nothing was stored, and nothing was sent; 90"),
        ],
    )
    def test_why_nothing_was_stored(
        self, render: Callable[[Report], str], results: Results, options: Options, said: str
    ) -> None:
        plan = replace(PLAN, options=options)
        aborted = replace(REPORT, state="aborted", results=results, plan=plan, census_after=None)
        assert said in render(aborted)
        assert account(aborted)[-2:] == [("not stored", 100 - results.total), ("total", 100)]
        assert "it could not be planned" in render(replace(aborted, plan=None))

    def test_what_was_never_sent(self, render: Callable[[Report], str]) -> None:
        assert "Never sent" in render(REPORT)  # as planned, where the run does not tell
        met = replace(REPORT, kept_out={Outcome.INVALID: 4_321})
        assert "4,321" in render(met)
        assert "Never sent" not in render(replace(REPORT, kept_out={}))

    def test_kinds_of_failures(self, render: Callable[[Report], str]) -> None:
        group = FailureGroup("ctyun", "KMS_4003", "odd", "r-1", 4_321, ("order-1", "order-2"))
        text = render(replace(REPORT, failure_groups=(group,)))
        for said in ("KMS_4003", "odd", "4,321", "order-2"):
            assert said in text

    def test_names_of_keys(self, render: Callable[[Report], str]) -> None:
        assert "orders-key" not in render(REPORT)
        keys = (KeyMark("tencent", KEY, "enabled", "version-2", "orders-key"),)
        target = Target(key_id=KEY, provider="tencent")
        text = render(replace(REPORT, plan=replace(PLAN, keys=keys, target=target)))
        assert f"key {KEY} (orders-key) of tencent" in text
        assert re.search(f"{KEY}`? orders-key", text)

    def test_which_records(self, render: Callable[[Report], str]) -> None:
        assert "all of the source" in render(REPORT)
        some = Selection(frozenset({"a"}), KEY, "version-2", "tencent")
        plan = replace(PLAN, options=Options(selection=some))
        said = f"only those named by id (1), on key {KEY}, on version 2, of tencent"
        told = render(replace(REPORT, plan=plan))
        assert said in told or said.replace("(1)", r"\(1\)") in told
        ids = frozenset(map(str, range(102)))
        plan = replace(PLAN, options=Options(selection=Selection(ids)))
        assert "2 ids have no such record" in render(replace(REPORT, plan=plan))

    def test_a_context_that_was_erased(self, render: Callable[[Report], str]) -> None:
        closed = replace(PLAN, context_erased=True)
        assert "was erased when the campaign was closed" in render(replace(REPORT, plan=closed))

    def test_a_campaign_that_was_hardly_begun(self, render: Callable[[Report], str]) -> None:
        report = replace(
            REPORT,
            state="planning",
            finished_at=None,
            plan=None,
            results=Results(0, 0, 0, 0),
            failure_codes={},
            failures=(),
            losses=(),
            census_after=None,
            calls={},
        )
        assert "not finished" in render(report)
        assert "The census after is taken" in render(replace(report, plan=PLAN))

    def test_what_an_undo_left(self, render: Callable[[Report], str]) -> None:
        left = (Lost("order-9", "changed by somebody else since"),)
        text = render(replace(REPORT, state="undone", undo_left=1_001, undo_lost=left))
        assert "Left by the undo" in text
        assert "order-9" in text
        assert "1,000 more are in the journal:" in text


def test_whoever_is_asked_is_told_what_a_run_would_do() -> None:
    done = "open each new blob and compare, and write the new blobs back into"
    assert intent(PLAN) == [
        f"This will re-encrypt 90 records (90 calls to tencent, 2 s at that rate), {done}"
        " /data/orders.csv.",
        "10 other records are left as they are.",
    ]
    # A plan does not hold a table: applications go on writing to it.
    table = replace(PLAN, spec=SourceSpec("sqlite:///shop.db", table="orders"))
    assert intent(table)[2:] == ["Rows that the table gets until then are judged and counted too."]


def test_two_censuses_become_one() -> None:
    unknown = (CensusRow("tencent", None, None, None, None, 4),)
    rows = both_censuses((*unknown, *census(90, 10)), (*census(0, 100), *unknown))
    assert [(row.version_number, was, now) for row, was, now in rows] == [
        (1, 90, 0),
        (2, 10, 100),
        (None, 4, 4),
    ]


@pytest.mark.parametrize(
    ("change", "badge"),
    [
        ({"results": Results(90, 10, 0, 0)}, "state good|✓ finished"),
        ({}, "state bad|✗ finished, 7 failed, 3 lost"),
        (
            {"results": Results(90, 10, 0, 0), "kept_out": {Outcome.BLOCKED: 10}},
            "state warn|! finished, 10 never sent",
        ),
        ({"results": Results(89, 10, 0, 1)}, "state warn|! finished, 1 lost"),
        ({"results": Results(0, 0, 0, 0), "state": "aborted"}, "state bad|✗ aborted"),
        ({"results": Results(5, 0, 0, 0), "state": "running"}, "state calm|… running"),
        ({"results": Results(90, 10, 0, 0), "state": "undone"}, "state good|✓ undone"),
        (
            {"results": Results(90, 10, 0, 0), "state": "undone", "undo_left": 2},
            "state warn|! undone, 2 left by the undo",
        ),
    ],
)
def test_a_badge_says_how_it_stands_in_colour_and_in_words(
    change: dict[str, Any], badge: str
) -> None:
    colour, _, words = badge.partition("|")
    report = replace(REPORT, **{"kept_out": {}, **change})
    assert f'<span class="{colour}">{words}</span>' in html(report)


@pytest.mark.parametrize(
    ("state", "results", "pending", "rest"),
    [
        ("finished", Results(80, 10, 7, 3), 0, []),
        ("finished", Results(80, 10, 7, 1), 0, [("not there any more", 2)]),
        ("finished", Results(80, 10, 7, 5), 0, []),
        (
            "running",
            Results(0, 0, 1, 0),
            12,
            [("in the journal, not stored yet", 12), ("not done yet", 87)],
        ),
        ("undone", Results(40, 10, 0, 0), 0, [("not done", 50)]),
    ],
)
def test_what_is_shown_sums(
    state: str, results: Results, pending: int, rest: list[tuple[str, int]]
) -> None:
    after = REPORT.census_after if state == "finished" else None
    report = replace(REPORT, state=state, results=results, pending=pending, census_after=after)
    assert account(report)[4:-1] == rest
    *rows, (_, total) = account(report)
    assert sum(count for _, count in rows) == total == max(100, results.total)


def test_failures_are_alike_but_for_numbers_ids_and_quotes() -> None:
    messages = [
        f"key {KEY} is gone",
        "key 098a921c-1e38-11e9-b129-5cb9019b4b01 is gone",
        "row 1: 'a' does not open",
        "row 22: 'b' does not open",
        "row 22: it does not open",
    ]
    failures = [Failure(f"r{n}", "ctyun", "E", text, "") for n, text in enumerate(messages)]
    failures.append(replace(failures[0], provider="tencent"))
    failures.append(replace(failures[0], code="F"))
    assert [group.records for group in failure_groups(failures)] == [2, 2, 1, 1, 1]
    many = [replace(failures[0], record_id=str(number)) for number in range(20)]
    (group,) = failure_groups(many)
    assert (group.records, group.examples) == (20, tuple(map(str, range(10))))


def test_bars_are_as_long_as_their_counts() -> None:
    widths = re.findall(r'class="bar (before|after)" style="width:([0-9.]+)%"', html(REPORT))
    assert widths == [
        ("before", "100.000"),
        ("after", "11.111"),
        ("before", "11.111"),
        ("after", "100.000"),
    ]


def test_rows_of_one_version_are_counted_together() -> None:
    """An answer may have shown of some of a version's records that they are on the primary one."""
    row = CensusRow("tencent", KEY, "version-1", None, True, 2, inferred=True)
    both = both_censuses([row], [row, replace(row, is_primary=None, records=3)])
    assert [(each.is_primary, was, now) for each, was, now in both] == [(None, 2, 5)]
