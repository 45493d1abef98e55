"""The plan of a re-encryption: what would become of each record, before anything is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from kmslab.analysis.classify import DROP, STAY, Target
from kmslab.analysis.forecast import usual_verify
from kmslab.campaign.large import listed
from kmslab.campaign.long_json import written
from kmslab.campaign.plan import Options, Plan
from kmslab.campaign.planning import make_plan
from kmslab.campaign.selection import Selection
from kmslab.errors import CampaignInterrupted, KmslabError
from kmslab.keys import Names
from kmslab.model import KeyState
from kmslab.providers.base import KEEP
from kmslab.tui.actions import PLAN, Action, bindings
from kmslab.tui.activity import command_line, source_words
from kmslab.tui.chrome import Crumbs, KeyLine, TopBar
from kmslab.tui.dialogs.confirm import Confirm
from kmslab.tui.dialogs.form import Choose
from kmslab.tui.finishing import finish, leave
from kmslab.tui.host import Host, away_for, host_of, in_worker, is_left
from kmslab.tui.jobs import Job
from kmslab.tui.saving import ask_place
from kmslab.tui.screen import ShownOnce
from kmslab.tui.screens.progress import figures
from kmslab.tui.session import Session
from kmslab.tui.sheet import SHORT, Sheet
from kmslab.tui.shown import agreed_text, plan_text
from kmslab.tui.stopping import Stopped
from kmslab.tui.texts import records, told, visible

_STAY = ""
_FAILED = "no plan could be made; Esc, and r plans again"


Asked = Callable[[], tuple[Selection, str]]
"""What gives the records that a plan is about, and says which those are; a thread asks it, since
there may be a million."""


class PlanScreen(ShownOnce[Plan | None]):
    """Plans, shows the plan, and gives it where somebody has agreed to it.

    `plan` is None until it is made; `what` says which records it is about, as far as that is known
    before `asked` is. The destination, the context and whether every blob is opened can be changed;
    each change plans anew.
    """

    ACTIONS: tuple[Action, ...] = PLAN
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(PLAN)]
    DEFAULT_CSS = """
    PlanScreen VerticalScroll { height: 1fr; }
    PlanScreen #asked { height: auto; padding: 0 1; background: $panel; }
    PlanScreen #plan { padding: 0 1; }
    PlanScreen #same { height: auto; padding: 0 1; color: $text-muted; }
    PlanScreen.-short #same { display: none; }
    """
    VERTICAL_BREAKPOINTS = SHORT

    def __init__(self, session: Session, asked: Asked, what: str, target: Target = STAY) -> None:
        super().__init__()
        self.plan: Plan | None = None
        self._session = replace(session)  # its own: whichever source is looked at meanwhile
        self._to_ask: Asked | None = asked
        self._what = what
        self._target = target
        self._changed = ""
        self._failed = False
        verify = usual_verify(session.ground.providers)
        self._options = Options(verify=str(verify))
        self._deep = False
        self._saved: Path | None = None
        self._job: Job | None = None
        self._names = Names({})
        self._unfinished = ""
        self._words: list[str] = []

    def compose(self) -> ComposeResult:
        """What was asked, the plan, the command that does the same."""
        yield TopBar()
        yield Crumbs(*self._where)
        with VerticalScroll():
            yield Static("", id="asked", markup=False)
            yield Sheet(id="plan")
        yield Static("", id="same", markup=False)
        yield KeyLine()

    def on_mount(self) -> None:
        """Plan."""
        self.query_one(VerticalScroll).focus()
        self.set_interval(0.1, self._show_progress)
        self._show()
        self.call_after_refresh(self._plan_anew)  # a thread at work would hold the screen up

    def on_unmount(self) -> None:
        """Nobody waits for the plan any more."""
        self._stop()

    @property
    def explorer(self) -> Host:
        """The app."""
        return host_of(self)

    @property
    def _where(self) -> tuple[str, ...]:
        return self._session.source, "Plan", self._what

    @property
    def _sheet(self) -> Sheet:
        return self.query_one("#plan", Sheet)

    def why_not(self, action: Action) -> str:
        """Why an action cannot be done now."""
        if action.name in ("close", "destination", "context", "deep"):
            return ""
        if self.plan is None:
            return _FAILED if self._failed else "the plan is not made yet"
        if action.name == "go_on" and not self.plan.to_send:
            return "nothing is to be re-encrypted"
        return in_the_way(self._unfinished) if action.name == "go_on" else ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Actions that cannot be done now are grey."""
        return self.explorer.allowed(self, self.ACTIONS, action, parameters)

    # Planning

    def _stop(self) -> None:
        if self._job is not None:
            self._job.stop()
            self._job = None

    def _plan_anew(self) -> None:
        self._stop()
        self._deep = self._deep and not self.explorer.read_only
        self.plan, self._saved, self._failed = None, None, False
        self._job = job = Job("the plan", self.explorer.turns)
        self._show()
        in_worker(self, partial(self._make, job), exclusive=True)

    async def _make(self, job: Job) -> None:
        try:
            if self._to_ask is not None:
                selection, self._what = await away_for(self, self._to_ask)
                self._options = replace(self._options, selection=selection)
                self._to_ask = None
                self.query_one(Crumbs).show(*self._where)
            self._names, self._words, self._unfinished = await away_for(self, self._known)
            self._show()
            made = await away_for(self, lambda: self._made(job))
        except (CampaignInterrupted, Stopped):
            return
        except KmslabError as error:
            if job is self._job and not is_left(self):
                self._end_without(told(error))
                self.explorer.refused(error)
            return
        except Exception as error:
            if job is self._job and not is_left(self):
                self._end_without("an error that nobody foresaw")
            self.explorer.unforeseen(error)
            return
        if job is self._job:
            self._job = None
            self.plan = made
            self._show()

    def _end_without(self, why: str) -> None:
        """There is no plan, and none is being made."""
        self._job, self._failed = None, True
        refusal = Text(f"No plan: {visible(why)}\n\nEsc, and r plans again.")
        self.refresh_bindings()
        self._sheet.show(lambda _: refusal)

    def _known(self) -> tuple[Names, list[str], str]:
        """What keys and source are called on a command line, and which campaign is in the way."""
        session = self._session
        return session.names(), source_words(session), session.unfinished()

    def _made(self, job: Job) -> Plan:
        session, spec = self._session, self._session.spec
        if spec is None:
            raise CampaignInterrupted("there is no source", campaign_id="")
        try:
            return make_plan(
                session.ground.open_source(spec),
                spec,
                session.ground.providers,
                self._target,
                clock=session.ground.clock,
                options=self._options,
                deep=self._deep,
                watch=job.watch,
            )
        finally:
            self._options.selection.put_away(self.explorer.turns.rest)

    def _show_progress(self) -> None:
        if self._job is not None:
            found = figures(self._job)
            self._sheet.show(lambda _: found)

    def _show(self) -> None:
        self.query_one("#asked", Static).update(self._asked())
        if self.plan is not None:
            self._sheet.show(partial(plan_text, self.plan, self._names))
            self.query_one(VerticalScroll).scroll_home(animate=False)
        note = "   (o writes FILE)" if self._needs_file and self._saved is None else ""
        same = f"the same: {visible(self.command)}{note}" if self._words else ""
        self.query_one("#same", Static).update(same)
        self.refresh_bindings()

    def _asked(self) -> str:
        target = self._target
        to = "each stays on its own key"
        if target.key_id is not None:
            to = f"all to {visible(self._named(target.key_id))} of {target.provider}"
        context = "each keeps its own" if target.context is KEEP else "dropped"
        how = "every blob is opened" if self._deep else "heads only, unverified"
        first = f"! {in_the_way(self._unfinished)}\n" if self._unfinished else ""
        first += f"! planned anew, since {visible(self._changed)}\n" if self._changed else ""
        return (
            f"{first}records: {visible(self._what)}\n"
            f"to: {to}   context: {context}\ntold from: {how}"
        )

    def _named(self, key_id: str) -> str:
        return self._names(key_id) or key_id

    def keys_changed(self, what: str) -> None:
        """Somebody else has changed keys: where nobody is asked just now, plan anew. A screen that
        is just coming up has planned nothing yet."""
        planned = self.plan is not None or self._job is not None or self._failed
        if self.is_current and planned:
            self._changed = what
            self._plan_anew()

    @property
    def _needs_file(self) -> bool:
        return self._options.selection.record_ids is not None or self._deep

    @property
    def command(self) -> str:
        """The command line that does the same; ids, and what every blob opened to, it takes from a
        plan in a file."""
        options, selection = self._session.options, self._options.selection
        if self._needs_file or self._saved is not None:
            file = "FILE" if self._saved is None else str(self._saved)
            return command_line(["campaign", "run", "--plan", file, "--yes"], options)
        words = ["campaign", "run", *self._words]
        if selection.provider is not None:
            words += ["--only-provider", selection.provider]
        if selection.key_id is not None:
            words += ["--key", self._named(selection.key_id)]
        if selection.key_version_id is not None:
            words += ["--key-version", selection.key_version_id]
        if self._target.key_id is not None:
            words += ["--to", self._named(self._target.key_id)]
        if self._target.context is DROP:
            words.append("--drop-context")
        return command_line([*words, "--yes"], options)

    # Actions

    def action_close(self) -> None:
        """Leave; nothing was changed."""
        leave(self, None)

    def action_deep(self) -> None:
        """Open every blob, or read only their heads."""
        self._deep = not self._deep
        self._plan_anew()

    def action_context(self) -> None:
        """Drop the contexts, or keep them."""
        kept = self._target.context is KEEP
        self._target = replace(self._target, context=DROP if kept else KEEP)
        self._plan_anew()

    def action_destination(self) -> None:
        """Choose where the records go."""
        self.explorer.begin("destination", self._choose, of=self)

    async def _choose(self) -> None:
        options = [(_STAY, "each record stays on its own key", "")]
        keys = {key.key_id: key for key in await away_for(self, self._session.keyring.keys)}
        for key in keys.values():
            if key.state is KeyState.DELETED:
                continue
            why = "" if key.state is KeyState.ENABLED else key.state.value
            why = why if key.spec.symmetric else "a pair encrypts nothing here"
            name = f"{visible(key.alias or key.key_id)}  {key.provider}  {key.spec.value}"
            options.append((key.key_id, name, why))
        chosen = await self.app.push_screen_wait(Choose("Where the records go", options))
        if chosen is None:
            return
        key_id, provider = None, None
        if chosen != _STAY:
            key_id, provider = chosen, keys[chosen].provider
        self._target = replace(self._target, key_id=key_id, provider=provider)
        self._plan_anew()

    def action_write(self) -> None:
        """Write the plan to a file, for the command line."""
        self.explorer.begin("write", self._write, of=self)

    async def _write(self) -> None:
        plan = self.plan
        if plan is None:
            return

        def text() -> Iterable[str]:
            return chain(written(plan.as_dict(listed), indent=1), "\n")

        saved = await ask_place(self.explorer, "Write the plan", "kmslab.plan", text)
        if saved is not None and not is_left(self) and plan is self.plan:
            self._saved = saved
            self._show()

    def action_go_on(self) -> None:
        """Ask whether it is to be carried out."""
        self.explorer.begin("go on", self._agree, of=self)

    async def _agree(self) -> None:
        plan = self.plan
        if plan is None or not plan.to_send or self._unfinished:
            return
        body = agreed_text(plan, self._what, self._names)
        body.append("\n\nIt can be undone from its journal until that is closed.")
        agreed = await self.app.push_screen_wait(
            Confirm(
                f"Re-encrypt {records(plan.to_send)}?",
                body,
                answer="Re-encrypt",
                records=plan.to_send,
            )
        )
        if agreed and plan is not self.plan:
            self.explorer.tell("the plan is another by now; nothing was done", severity="warning")
        elif agreed and not self.explorer.read_only:
            await finish(self, plan)


def in_the_way(campaign_id: str) -> str:
    """That a campaign has to be ended first; "" for none."""
    if not campaign_id:
        return ""
    return f"campaign {campaign_id} on this source is not finished: J continues, undoes or ends it"
