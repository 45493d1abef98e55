"""The records screen: the tree of keys, the records, the one under the cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import ClassVar, Final, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import DescendantFocus
from textual.timer import Timer
from textual.widgets import Input, Static

from kmslab.campaign.selection import Selection
from kmslab.errors import FilterError, KmslabError
from kmslab.keys import Names
from kmslab.model import Key, Record
from kmslab.tui import saving
from kmslab.tui.actions import RECORDS, Action, bindings
from kmslab.tui.census import Tallies
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.detail import Detail
from kmslab.tui.dialogs import keys as key_dialogs
from kmslab.tui.dialogs.decrypt import decrypt
from kmslab.tui.filtering import Query
from kmslab.tui.grid import Grid
from kmslab.tui.host import Flow, Host, away_for, host_of, in_worker
from kmslab.tui.reader import Came, ReadEnded, Reader, rows_of
from kmslab.tui.screen import ShownOnce
from kmslab.tui.screens import flows
from kmslab.tui.screens.audit import AuditLog
from kmslab.tui.screens.inspect import InspectScreen
from kmslab.tui.screens.journals import Journals
from kmslab.tui.screens.key import KeyScreen
from kmslab.tui.screens.layout import LAYOUT, FilterLine
from kmslab.tui.screens.plan import PlanScreen
from kmslab.tui.screens.sources import SourcesScreen
from kmslab.tui.session import Session
from kmslab.tui.status import crumbs, marked_text, status_text, twins_text
from kmslab.tui.stopping import Stopped
from kmslab.tui.table import Table
from kmslab.tui.tree import NO_KEY, Everything, KeyTree, Place
from kmslab.tui.view import View
from kmslab.tui.watching import Watched

COUNT_SECONDS: Final = 0.5
"""How often the tree counts anew while a source is read."""

LOOK_SECONDS: Final = 1.0
"""How often lab and source are looked at: somebody else may have changed them."""

UNREADABLE: Final = "the source cannot be read: F5 tries again, O opens another"

READING: Final = "reading"

_NAMED: Final = 3

Kind = Literal["filter", "lab", "source", "judging", "order"]
"""What can be wrong at the same time, each until it is so no more."""

_PANES: Final = {"tree": "#tree", "records": "#records", "detail": "#detail"}


def _moves_focus(action: str) -> bool:
    """Whether what is typed next is for another pane: nothing may overtake such an action."""
    return action == "filter" or action.startswith("pane")


class Records(ShownOnce[None]):
    """Three panes, or one at a time where there is no room for more."""

    AUTO_FOCUS = "#records"
    ACTIONS: tuple[Action, ...] = RECORDS
    BINDINGS: ClassVar[list[BindingType]] = [
        *(replace(binding, priority=_moves_focus(binding.action)) for binding in bindings(RECORDS)),
        Binding("enter", "leave_filter", show=False, priority=True),
    ]
    DEFAULT_CSS = LAYOUT
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as Textual declares it
        (0, "-narrow"),
        (100, "-wide"),
        (170, "-extra"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.keys: Mapping[str, Key] = {}
        self.names = Names({})
        self.tallies = Tallies()
        self.place: Place = Everything
        self.watched = Watched(session)
        self._errors: dict[Kind, str] = {}
        self._judge_wanted = False
        self._read_wanted = False
        self._twins_wanted = False
        self._campaigns_wanted = False
        self._twins = 0
        self._unfinished = ""
        self._typed = Query()
        self._looking_at_keys = asyncio.Lock()
        self._looking_at_campaigns = asyncio.Lock()
        self._looking: Timer
        self._reader: Reader | None = None
        self._counted_at = 0.0
        self._could: tuple[bool, ...] = ()

    def compose(self) -> ComposeResult:
        """The bars, the panes, the lines below."""
        yield TopBar()
        yield Crumbs()
        with Horizontal(id="panes"):
            yield KeyTree()
            with Vertical(id="right"):
                view = View(Table(), self.session.ground.clock)
                yield Grid(view, self.explorer.turns, id="records")
                yield Detail(id="detail")
        yield FilterLine(
            placeholder="text, key:x ver:<3 prov:ctyun age:>90d out:stale,no_key is:marked !word",
            select_on_focus=False,
        )
        yield Static("", id="status", markup=False)
        yield KeyLine()

    async def on_mount(self) -> None:
        """Show the records, and begin to read."""
        self.add_class("at-records")
        self.grid.focus()
        self._looking = self.set_interval(LOOK_SECONDS, self._look)
        await self.explorer.guarded(self._see_keys)
        self.read_again()

    def on_unmount(self) -> None:
        """What is being read is not wanted any more."""
        self.reader.leave()

    @property
    def explorer(self) -> Host:
        """The app."""
        return host_of(self)

    @property
    def grid(self) -> Grid:
        """The records."""
        return self.query_one(Grid)

    @property
    def reader(self) -> Reader:
        """What keeps the records as they are."""
        if self._reader is None:
            self._reader = Reader(self, self.grid, self.session)
        return self._reader

    # What is there

    async def _see_keys(self) -> None:
        """Take in the keys as they are now: only what changes later is a change."""
        try:
            await away_for(self, self.watched.keys_seen)
        except KmslabError as error:
            self._tell("lab", str(error))
        else:
            await self._look_at_keys()

    async def _look_at_keys(self) -> None:
        """Take in the keys as they are now; where the lab does not answer, the status says so."""
        async with self._looking_at_keys:
            try:
                keys = await away_for(self, self.session.keyring.keys)
            except KmslabError as error:
                self._tell("lab", str(error))
                return
        self._tell("lab", "")
        self.keys = {key.key_id: key for key in keys}
        self.names = Names.among(keys)
        if self.is_running:
            self._show_tree()

    async def _look_at_campaigns(self) -> None:
        """See whether a campaign on the source is not finished: no other can be begun then."""
        async with self._looking_at_campaigns:
            while self._campaigns_wanted:
                self._campaigns_wanted = False
                self._unfinished = await away_for(self, self.session.unfinished)
        self._show_status()

    def read_again(self) -> None:
        """Read the source anew; marks, filter and order stay."""
        if self.session.spec is None:
            self.grid.empty = "no source"
            self._show_status()
            self.explorer.begin("no source", self._say_what_opens)
            return
        self.grid.empty = READING
        self._read_wanted = False
        self.watched.source_seen()
        in_worker(self, self.reader.read, group="read")

    async def _say_what_opens(self) -> None:
        """Where there is no source: say how one is opened."""
        found = await away_for(self, lambda: list(self.session.sources.all()))
        how = "kmslab tui --source FILE opens one, kmslab source add NAME FILE registers one"
        self.grid.empty = f"no source: {'O opens one that is registered' if found else how}"

    async def _judge(self) -> None:
        """Tell anew what is said of records, until no key has changed meanwhile.

        While a source is read nothing is done: the end of the reading begins it again.
        """
        while self._judge_wanted and not self.reader.busy:
            self._judge_wanted = False
            await self._see_keys()
            error = await self.reader.judge()
            if not self.is_running:
                return
            self._tell_error("judging", error)
            self._refresh()
            for screen in self.app.screen_stack:  # also where a dialog is in front of it
                if isinstance(screen, KeyScreen):
                    screen.changed(self.keys)

    @on(Came)
    def _came(self, message: Came) -> None:
        if self.reader.came(message):
            self._show_status()
            now = monotonic()
            if now - self._counted_at > COUNT_SECONDS:
                self._counted_at = now
                self._show_counts()

    @on(ReadEnded)
    async def _read(self, message: ReadEnded) -> None:
        if not await self.reader.ended(message):
            return
        self._tell_error("source", self.reader.error)
        self._say_what_is_not_shown()
        if self.reader.notes:
            self.explorer.tell("\n".join(self.reader.notes), severity="warning")
        await self.explorer.guarded(self._look_at_keys)
        self._campaigns_wanted = True
        await self.explorer.guarded(self._look_at_campaigns)
        self._refresh()
        self._marks_changed()
        if self._judge_wanted:
            self.explorer.begin("judge", self._judge)
        if self._read_wanted:
            self.read_again()

    def _tell_error(self, kind: Kind, error: Exception | None) -> None:
        """Say what went wrong, or that it does so no more."""
        told = error is not None and isinstance(error, KmslabError)
        self._tell(kind, str(error) if told else "")
        if isinstance(error, KmslabError):
            self.explorer.refused(error)
        elif error is not None:
            self.explorer.unforeseen(error)

    def _tell(self, kind: Kind, error: str) -> None:
        """Have the status line say what is wrong; "" where nothing of this kind is any more."""
        self._errors.pop(kind, None)
        if error:
            self._errors[kind] = error
        if self.is_running:
            self._show_status()

    def keys_changed(self) -> None:
        """Keys are not what they were: all that is said of them and of the records is told anew."""
        self._judge_wanted = True
        self.explorer.begin("judge", self._judge)

    async def _look(self) -> None:
        """See whether somebody else has changed the lab or the source."""
        if self.explorer.job is not None:
            return
        try:
            seen = await away_for(self, self.watched.look)
        except Stopped:
            return
        except Exception as error:  # once, and not each second: F5 begins it again
            self._looking.pause()
            self.explorer.unforeseen(error)
            return
        wrong = "" if seen.error is None else str(seen.error)
        if wrong != self._errors.get("lab", ""):
            self._tell("lab", wrong)
        if self._has_campaign():  # which began meanwhile, and ends with a reading
            seen = replace(seen, source=False)
        if seen.keys:
            first, more = seen.keys[:_NAMED], len(seen.keys) - _NAMED
            what = "; ".join(first) + (f"; and {more} keys more" if more > 0 else "")
            self.explorer.noticed(f"keys were changed by somebody else: {what}")
            self.keys_changed()
            if isinstance(self.app.screen, PlanScreen):
                self.app.screen.keys_changed(what)
        if seen.source and not seen.gone:  # reading it tells that it is gone
            self.explorer.noticed("the source was changed by somebody else; it is read again")
        self._read_wanted = self._read_wanted or seen.source
        if self._read_wanted and not self.reader.busy:
            self.read_again()

    def _has_campaign(self) -> bool:
        job = self.explorer.job
        return job is not None and job.campaign

    # What is shown

    def _show_counts(self) -> None:
        self.tallies = Tallies.of(self.grid.view.table.counts, missing=self._missing())
        self._show_tree()

    def _missing(self) -> str:
        """Why the counts may not be those of all records; "" where they are."""
        if self.session.spec is None:
            return "none is open"
        if "source" in self._errors:
            return "it cannot be read"
        return "" if self.reader.counted else "not counted yet"

    def counted(self) -> Tallies:
        """The records that are counted by now."""
        self._show_counts()
        return self.tallies

    def _say_what_is_not_shown(self) -> None:
        """What stands where no record is shown."""
        if "source" in self._errors:
            self.grid.empty = UNREADABLE
        elif not self.grid.view.total:
            self.grid.empty = READING if self.reader.busy else "the source holds no record"
        elif self.query_one(FilterLine).value:
            self.grid.empty = "no record is shown: Esc clears the filter"
        else:
            self.grid.empty = "no record is here: Esc shows all of them"

    def _refresh(self) -> None:
        self._show_counts()
        self._show_status()
        self._show_detail()

    def _show_tree(self) -> None:
        self.query_one(KeyTree).show(list(self.keys.values()), self.names, self.tallies)

    @on(Grid.Arranged)
    def _arranged(self) -> None:
        self._tell("order", "")

    @on(Grid.Arranging)
    def _show_status(self) -> None:
        status = self.query_one("#status", Static)
        error = "; ".join(self._errors.values())
        busy = self.reader.rows if self.reader.busy else None
        silent = [name for name, tally in self.tallies.providers.items() if tally.unanswered]
        said = status_text(
            self.grid, self._twins, busy, error, silent, unfinished=bool(self._unfinished)
        )
        status.update(said, layout=bool(error) or status.has_class("wrong"))
        status.set_class(bool(error), "wrong")
        self.query_one(Crumbs).show(*crumbs(self.session, self.place, self.names, self.grid.view))

    @on(Grid.Failed)
    def _arranging_failed(self, event: Grid.Failed) -> None:
        self._tell_error("order", event.error)

    @on(Grid.MarksChanged)
    def _marks_changed(self) -> None:
        self.explorer.marked = self.grid.view.marked
        self._twins, self._twins_wanted = 0, True
        self.explorer.begin("twins", self._count_twins)
        self._show_status()

    async def _count_twins(self) -> None:
        """See how many records have the id of one that is marked: a campaign takes them too."""
        while self._twins_wanted and self.is_running:
            self._twins_wanted = False
            self._twins = await away_for(self, self.grid.view.twins(self.explorer.turns.rest))
        if self.is_running:
            self._show_status()

    @on(Grid.Highlighted)
    def _show_detail(self) -> None:
        detail, row = self.query_one(Detail), self.grid.row
        self._show_what_can_be_done()
        if row is None:
            detail.clear()
            return
        table = self.grid.view.table
        verdict = table.verdict(row)
        key = self.keys.get(verdict.key_id or "")
        now = self.session.ground.clock.now()
        detail.show(table.record(row), verdict, key, self.names, now)

    @on(KeyTree.NodeHighlighted)
    def _show_what_can_be_done(self) -> None:
        """What cannot be done is grey."""
        can = tuple(not self.why_not(action) for action in self.ACTIONS)
        if can != self._could:
            self._could = can
            self.refresh_bindings()

    @property
    def record(self) -> Record | None:
        """The record under the cursor."""
        row = self.grid.row
        return None if row is None else self.grid.view.table.record(row)

    @property
    def key(self) -> Key | None:
        """The key that is meant: in the tree that of the node, elsewhere that of the record."""
        if self.query_one(KeyTree).has_focus:
            return self.query_one(KeyTree).place.key
        row = self.grid.row
        if row is None:
            return self.place.key
        return self.keys.get(self.grid.view.table.verdict(row).key_id or "")

    # Panes, filter

    @on(DescendantFocus)
    def _focused(self) -> None:
        self._show_what_can_be_done()
        for pane, selector in _PANES.items():
            if self.query_one(selector).has_focus:
                self._be_at(pane)

    def _be_at(self, pane: str) -> None:
        """Show where one is: what is styled by it is styled once, and only where one pane has all
        the room."""
        if not self.has_class(f"at-{pane}"):
            self.remove_class(*(f"at-{each}" for each in _PANES), update=False)
            self.add_class(f"at-{pane}", update=self.has_class("-narrow"))

    def action_pane(self, pane: str) -> None:
        """Go to a pane."""
        self._be_at(pane)
        self.set_focus(self.query_one(_PANES[pane]))

    def action_back(self) -> None:
        """Out: of the filter, of the detail, of the place that the tree has chosen."""
        line = self.query_one(FilterLine)
        if line.has_focus or (line.value and self.grid.has_focus):
            line.value = ""
            line.remove_class("used")
            self.action_pane("records")
        elif self.query_one(Detail).has_focus:
            self.action_pane("records")
        elif self.place != Everything and self.grid.has_focus:
            self._go_to(Everything)
        else:
            self.action_pane("tree")

    @on(Grid.Chosen)
    def _chosen(self) -> None:
        self.action_pane("detail")

    @on(KeyTree.Shown)
    def _shown(self, event: KeyTree.Shown) -> None:
        self._go_to(event.place)
        self.action_pane("records")

    def _go_to(self, place: Place) -> None:
        """Show the records of a place."""
        self.place = place
        self._filter()

    def action_filter(self) -> None:
        """Write a filter."""
        line = self.query_one(FilterLine)
        line.add_class("used")
        line.action_end()
        self.set_focus(line)  # at once: what is typed next is for the line

    @on(Input.Changed)
    def _filter(self) -> None:
        try:
            typed = Query.parse(self.query_one(FilterLine).value)
        except FilterError as error:
            self.grid.unclear = "the filter is wrong"
            self._tell("filter", f"filter: {error}; nothing is filtered by it")
            self._ask()
            return
        self.grid.unclear, self._typed = "", typed
        self._ask()
        self._tell("filter", "")
        if self.session.spec is not None:
            self._say_what_is_not_shown()

    def _ask(self) -> None:
        """Show what is wanted; while the filter is wrong that is what it was before."""
        wanted = Query(self.place.terms() + self._typed.terms)
        if wanted != self.grid.wanted.query:
            self.grid.ask_query(wanted)

    async def action_leave_filter(self) -> None:
        """To the records, once the line has all that was typed before: what comes next is theirs,
        and they must know by then what they are to show."""
        line, typed = self.query_one(FilterLine), asyncio.Event()
        if line.call_later(typed.set):
            await typed.wait()
        self._filter()
        line.set_class(bool(line.value), "used")
        self.action_pane("records")

    # What can be done

    def why_not(self, action: Action) -> str:
        """Why an action cannot be done now."""
        name = action.name
        if action.deed:
            return key_dialogs.why_not(action.deed, self.key)
        if name == "key":
            return "" if self.key is not None else "the cursor is on no key of this lab"
        if name in ("re_encrypt", "undo") and self.session.spec is None:
            return "there is no source"
        if name == "re_encrypt":
            return self._why_no_plan()
        if name in ("inspect", "decrypt", "copy", "whole", "write") and self.grid.row is None:
            return "there is no record"
        if name == "export" and not self.grid.view.total:
            return "there is no record"
        if name == "export" and not self.grid.view.marked:
            return self.grid.unclear
        return ""

    def _why_no_plan(self) -> str:
        """Why nothing can be planned; what is meant is that of `selection`."""
        if self.grid.view.marked:
            return ""
        tree = self.query_one(KeyTree)
        if not tree.has_focus:
            return "" if self.grid.row is not None else "no record is marked or under the cursor"
        if self.reader.busy and not self.reader.counted:
            return "not all records are read yet; marked ones can be planned"
        if not self.grid.view.total:
            return "there is no record"
        return "the blobs there name no key" if tree.place.key_id == NO_KEY else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions that cannot be done now are grey; in the line of the filter some are letters."""
        if action == "leave_filter":
            return isinstance(self.focused, FilterLine)
        if _moves_focus(action) and isinstance(self.focused, Input):
            return False
        return self.explorer.allowed(self, self.ACTIONS, action, parameters)

    def _begin(self, name: str, flow: Flow) -> None:
        self.explorer.begin(name, flow, of=self)

    def selection(self) -> tuple[Selection, str]:
        """What a re-encryption is about where nothing is marked: where the cursor is, in the tree a
        place and elsewhere a record."""
        tree = self.query_one(KeyTree)
        if tree.has_focus:
            place = tree.place
            return place.selection(), place.told(self.names)
        ids = frozenset() if self.record is None else frozenset({self.record.record_id})
        return Selection(record_ids=ids), ", ".join(ids)

    def action_re_encrypt(self) -> None:
        """Plan a re-encryption."""
        view, rest = self.grid.view, self.explorer.turns.rest
        blocks, marked = view.table.blocks, view.marked
        marked_ids = view.asked_ids(rest)
        at_cursor, what = (Selection(), marked_text(view, 0)) if marked else self.selection()

        def asked() -> tuple[Selection, str]:
            if marked:
                all_ids, twins = marked_ids()
                return Selection(record_ids=all_ids), what + twins_text(twins)
            ids = at_cursor.record_ids
            twins = 0 if ids is None else len(rows_of(blocks, ids)) - 1
            return at_cursor, what + twins_text(twins)

        self._begin("campaign", lambda: flows.re_encrypt(self.explorer, asked, what))

    def action_undo(self) -> None:
        """Undo the last campaign."""
        self._begin("undo", lambda: flows.undo_last(self.explorer))

    async def mark(self, record_ids: frozenset[str]) -> None:
        """Mark the records with these ids, and no other."""
        while True:
            table = self.grid.view.table
            blocks = table.blocks
            rows = await away_for(self, partial(rows_of, blocks, record_ids))
            # Rows are numbers in one table: meanwhile another may have come, or more records.
            if self.grid.view.table is table and len(table.blocks) == len(blocks):
                break
        self.grid.view.clear_marks()
        self.grid.view.mark(rows)
        self.grid.refresh()
        self._marks_changed()
        self.place, line = Everything, self.query_one(FilterLine)
        line.add_class("used")
        line.value = "is:marked"
        self._filter()

    def action_inspect(self) -> None:
        """The blob on a screen of its own."""
        row, record = self.grid.row, self.record
        if row is not None and record is not None and self.explorer.is_free(self):
            verdict = self.grid.view.table.verdict(row)
            key = self.keys.get(verdict.key_id or "")
            self.app.push_screen(InspectScreen(self.session, record, verdict, key, self.names))

    def action_decrypt(self) -> None:
        """Preview the plaintext."""
        record, key = self.record, None
        if record is not None:
            row = self.grid.row
            if row is not None:
                key = self.keys.get(self.grid.view.table.verdict(row).key_id or "")
            self._begin("decrypt", lambda: decrypt(self.explorer, record, key))

    def action_copy(self) -> None:
        """Copy the blob."""
        if self.record is not None:
            saving.copy(self.explorer, "the blob", self.record.ciphertext_blob)

    def action_whole(self) -> None:
        """Show the blob whole."""
        if self.record is not None:
            saving.show_whole(self.explorer, self.record.record_id, self.record.ciphertext_blob)

    def action_write(self) -> None:
        """Write the blob to a file."""
        record = self.record
        if record is not None:
            text = f"{record.ciphertext_blob}\n"
            self._begin("write", lambda: self._write(text))

    async def _write(self, text: str) -> None:
        await saving.ask_place(self.explorer, "Write the blob", "blob.txt", lambda: [text])

    def action_export(self) -> None:
        """Export records."""
        view = self.grid.view
        self._begin("export", lambda: flows.export(self.explorer, view))

    def action_key(self) -> None:
        """The key on a screen of its own."""
        self._begin("key", self._key)

    async def _key(self) -> None:
        if self.key is not None:
            place = await self.app.push_screen_wait(KeyScreen(self.key, self.counted))
            if place is not None:
                self._go_to(place)
                self.action_pane("records")

    def action_create(self) -> None:
        """Make a key."""
        provider = self.key.provider if self.key is not None else "tencent"
        self._begin("create", lambda: key_dialogs.create(self.explorer, provider))

    def action_deed(self, name: str) -> None:
        """Do something to the key."""
        key_dialogs.begin(self.explorer, name, self.key, self.counted, of=self)

    def action_journals(self) -> None:
        """The journals."""
        self._begin("journals", self._journals)

    async def _journals(self) -> None:
        await self.app.push_screen_wait(Journals())
        self._campaigns_wanted = True
        self.explorer.begin("campaigns", self._look_at_campaigns)  # no key waits for that

    def action_audit(self) -> None:
        """The audit log."""
        if self.explorer.is_free(self):
            self.app.push_screen(AuditLog())

    def action_sources(self) -> None:
        """Another source."""
        self._begin("sources", self._sources)

    async def _sources(self) -> None:
        found = await away_for(self, lambda: list(self.session.sources.all()))
        chosen = await self.app.push_screen_wait(SourcesScreen(found))
        if chosen is not None:
            self.session.spec, self.session.source = chosen.spec, chosen.name
            self.reader.leave()
            self._tell("source", "")
            self.grid.show_table(View(Table(), self.session.ground.clock, self.grid.wanted))
            self._go_to(Everything)
            self.read_again()

    def action_reload(self) -> None:
        """Look at everything again."""
        self.explorer.begin("reload", self._reload, on=self)

    async def _reload(self) -> None:
        self._looking.resume()
        await self._look_at_keys()
        self.read_again()
