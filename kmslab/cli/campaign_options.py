"""What the commands for campaigns are told: where records go, and how they get there."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from kmslab.cli.options import ProviderName

if TYPE_CHECKING:
    from kmslab.analysis.classify import Target
    from kmslab.campaign.plan import Options, Plan
    from kmslab.campaign.report import Report
    from kmslab.campaign.selection import Selection
    from kmslab.campaign.state import State
    from kmslab.lab import Lab
    from kmslab.model import Key
    from kmslab.remotes import Remotes

CampaignId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The campaign's id, or the beginning of it that is unique."),
]

_IDS_BYTES: Final = 256 * 1024 * 1024
"""Millions of ids."""


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """The options that say where records are to go."""

    to: Annotated[
        str | None,
        typer.Option("--to", metavar="KEY", help="To this key; else each stays on its own."),
    ] = None
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="JSON", help="Each new blob's context; else its own."),
    ] = None
    drop_context: Annotated[
        bool, typer.Option("--drop-context", help="The new blobs have no context.")
    ] = False
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max-length", metavar="N", min=1, help="The most characters that a blob may have."
        ),
    ] = None

    def target(self, lab: Lab | Remotes) -> Target:
        """Where that is, in this lab or on these remotes."""
        from kmslab.analysis.classify import DROP, Target
        from kmslab.context import context_text
        from kmslab.errors import SettingError
        from kmslab.providers.base import KEEP

        if self.drop_context and self.context is not None:
            raise SettingError("a new blob has --context, or none with --drop-context; not both")
        if self.context is not None and not context_text(self.context):
            raise SettingError("--context gives none; --drop-context drops those that there are")
        key = None if self.to is None else lab.key(self.to)
        return Target(
            key_id=None if key is None else key.key_id,
            provider=None if key is None else key.provider,
            context=DROP if self.drop_context else KEEP if self.context is None else self.context,
            max_length=self.max_length,
        )


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """The options that say which of a source's records a campaign is about."""

    only_ids: Annotated[
        str | None,
        typer.Option(
            "--only-ids",
            metavar="FILE",
            help="Only the records with these ids, one on each line; - for stdin.",
        ),
    ] = None
    key: Annotated[
        str | None, typer.Option("--key", metavar="KEY", help="Only the records on this key.")
    ] = None
    key_version: Annotated[
        str | None,
        typer.Option(
            "--key-version",
            metavar="N|ID",
            help="Only those on this version; a number needs --key.",
        ),
    ] = None
    only_provider: Annotated[
        ProviderName | None,
        typer.Option("--only-provider", help="Only the records of this provider."),
    ] = None

    def selection(self, lab: Lab | Remotes) -> Selection:
        """Which records those are, in this lab."""
        from kmslab.campaign.selection import Selection

        ids = None if self.only_ids is None else _read_ids(self.only_ids)
        key = None if self.key is None else lab.key(self.key)
        version = None if self.key_version is None else _version_id(lab, key, self.key_version)
        return Selection(ids, None if key is None else key.key_id, version, self.only_provider)


def _read_ids(path: str) -> frozenset[str]:
    from kmslab.cli.streams import decoded, read_bytes
    from kmslab.errors import SettingError

    what = "the list of ids"
    text = decoded(read_bytes(path, what, most=_IDS_BYTES), what).removeprefix("\ufeff")
    ids = frozenset(line.removesuffix("\r") for line in text.split("\n")) - {""}
    if not ids:
        raise SettingError(f"{path}: {what} is empty; it has one id on each line")
    return ids


def _version_id(lab: Lab | Remotes, key: Key | None, named: str) -> str:
    from kmslab.cli.providers import version_of
    from kmslab.errors import SettingError

    if key is not None:
        return version_of(key, named)
    if named in {version.version_id for key in lab.keys() for version in key.versions}:
        return named
    raise SettingError(
        f"--key-version {named} is the id of no version in the lab; a number needs --key KEY"
    )


@dataclass(frozen=True, slots=True)
class PaceOptions:
    """The options that say how fast, and how it is verified."""

    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="The most calls a second to each provider."),
    ] = None
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify",
            metavar="HOW",
            help="decrypt opens each new blob, as a lab does unless told; sample:N one in N; answer"
            " none, as is usual on a remote.",
        ),
    ] = None

    def options(
        self,
        lab: Lab | Remotes,
        selection: Selection,
        *,
        atomic: bool = False,
        output: str | None = None,
    ) -> Options:
        """How a campaign in this lab is run, and over which records."""
        from kmslab.analysis.forecast import usual_verify
        from kmslab.analysis.verify import Verify
        from kmslab.campaign.plan import Options
        from kmslab.errors import SettingError
        from kmslab.providers.base import own_rates

        if self.rate is not None and not (self.rate > 0 and math.isfinite(self.rate)):
            raise SettingError(f"--rate is more than 0 calls a second, not {self.rate:g}")
        verify = str(usual_verify(lab)) if self.verify is None else self.verify
        try:
            Verify.parse(verify)
        except ValueError as error:
            raise SettingError(f"--verify: {error}") from None
        rates = own_rates(lab)  # of remotes, which were told --rate
        if self.rate is not None and not rates:
            rates = dict.fromkeys(lab.providers(), self.rate)
        place = None if output is None else str(Path(output).absolute())
        return Options(verify=verify, rates=rates, atomic=atomic, output=place, selection=selection)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options that say what a run writes, and by which plan."""

    plan_file: Annotated[
        str | None,
        typer.Option("--plan", metavar="FILE", help="Carry out this plan, in place of SOURCE."),
    ] = None
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Write nothing unless every record succeeds.")
    ] = False
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="PATH", help="Write a changed copy, not the source."),
    ] = None

    @property
    def given(self) -> bool:
        """Whether any of them is that a plan brings along."""
        return self.atomic or self.output is not None

    def saved(self) -> Plan | None:
        """The plan that is to be carried out, where one is named."""
        return None if self.plan_file is None else _saved_plan(self.plan_file)


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """The options that say what a report looks like, and where it goes."""

    form: Annotated[
        Literal["json", "md", "html"],
        typer.Option("--format", show_default=True, help="Markdown, JSON, or a page by itself."),
    ] = "md"
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="Write it to a new file.")
    ] = None
    failures: Annotated[
        str | None,
        typer.Option(
            "--failures",
            metavar="FILE",
            help="In place of a report: every record that failed or was lost, to a new JSONL file.",
        ),
    ] = None

    def check(self, *, as_json: bool) -> None:
        """SettingError for options that do not go together."""
        from kmslab.errors import SettingError

        shaped = self.output is not None or as_json or self.form != "md"
        if self.failures is not None and shaped:
            raise SettingError(
                "--failures FILE writes no report: give no --output, --format or --json"
            )

    def write(self, found: Report, *, as_json: bool) -> None:
        """Write a report as they say, to stdout or to a new file."""
        from kmslab.campaign.rendering import markdown
        from kmslab.campaign.rendering_html import html
        from kmslab.cli.output import json_text, narrate, write_line
        from kmslab.cli.streams import write_private_file

        if as_json or self.form == "json":
            text = json_text(found.as_dict(), indent=self.output is not None)
        else:
            text = html(found) if self.form == "html" else markdown(found)
        if self.output is None:
            write_line(text.rstrip("\n"))
            return
        data = f"{text.rstrip()}\n".encode("utf-8", "backslashreplace")
        write_private_file(self.output, data)
        narrate(f"the report is in {self.output}")


def check_usage(source: str | None, plan_file: str | None, given: bool) -> None:
    """SettingError unless there is a source or a plan; `given` says that options came with it."""
    from kmslab.errors import SettingError

    if (source is None) is (plan_file is None):
        raise SettingError("give SOURCE, or --plan FILE in its place")
    if plan_file is not None and given:
        raise SettingError(
            "a plan brings its own source, columns, target and options; give none with --plan"
        )


def _saved_plan(path: str) -> Plan:
    """The plan in a file."""
    from kmslab.campaign.plan import Plan
    from kmslab.cli.streams import decoded, read_bytes
    from kmslab.errors import SettingError

    try:
        values = json.loads(decoded(read_bytes(path, "the plan"), "the plan"))
    except (ValueError, RecursionError):
        raise SettingError(f"{path} is no saved plan: it is not JSON") from None
    if not isinstance(values, dict):
        raise SettingError(f"{path} is no saved plan")
    return Plan.from_dict(values)


def found_id(state: State, given: str) -> str:
    """The id of the campaign that is meant; CampaignNotFound where none or several may be."""
    from kmslab.errors import CampaignNotFound

    ids = [path.stem for path in state.journals()]
    if given in ids:
        return given
    found = [each for each in ids if given and each.startswith(given)]
    if len(found) == 1:
        return found[0]
    which = f"there are {len(found)} campaigns" if found else "there is no campaign"
    raise CampaignNotFound(
        f"{which} whose id begins with {given[:60]!r} in {state.path}; "
        "`kmslab campaign list` shows them"
    )


def may_ask() -> bool:
    """Whether somebody is there who can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


def agreed(records: int) -> bool:
    """Ask whether to go on. Anything but the wanted answer is a no."""
    from kmslab.campaign.plan import SURE

    wanted = f"type {records} to go on" if records > SURE else "go on? [y/N]"
    sys.stderr.write(f"{wanted}: ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip().lower()
    if records > SURE:
        return answer.replace(",", "") == str(records)
    return answer in ("y", "yes")
