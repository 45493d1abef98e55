"""The plan of a campaign: what would become of each record, before anything is done.

One Plan serves the command line, the terminal and notebooks. It can be saved; it is refused later
where keys or source are not what they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from html import escape
from typing import Any, Final

from kmslab.analysis.census import CensusRow
from kmslab.analysis.classify import DROP, Drop, Outcome, Target
from kmslab.analysis.forecast import (
    Forecast,
    ProviderForecast,
)
from kmslab.campaign.large import in_order
from kmslab.campaign.selection import EVERYTHING, Given, Selection
from kmslab.campaign.wording import counted, duration
from kmslab.context import context_text
from kmslab.errors import (
    CampaignError,
)
from kmslab.providers.base import KEEP, Keep
from kmslab.records.spec import SourceSpec
from kmslab.showing import html_table

FORMAT: Final = 1
"""The format of saved plans."""

SURE: Final = 1_000
"""Whoever agrees to change more records than this types their number."""

DATA_KEYS: Final = (
    "Re-encryption does not change a data key: whoever has unwrapped one before still has it."
)

CTYUN_LENGTH: Final = (
    "A lab's CTyun blob is 20 to 44 characters longer than the cloud's (inferred): size a column "
    "by what is to be stored in it."
)

INFERRED: Final = (
    "A version that is called inferred is what the head of a blob names, and no cloud bears it out."
)

_ERASED: Final = {"context": {"erased": True}}


NEVER_SENT: Final = frozenset(
    {
        Outcome.FOREIGN,
        Outcome.BLOCKED,
        Outcome.INVALID,
        Outcome.NEEDS_CONTEXT,
        Outcome.NEEDS_PUBLIC_KEY_INFO,
    }
)
"""The outcomes of records that should perhaps be re-encrypted, and cannot be."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a campaign is run, and over which records.

    `rates` are in calls a second, by provider; one that is not named is not held back. `verify` is
    a text of `Verify`. `atomic` writes nothing unless every record succeeds. With `output` the
    changed copy is written there, and the source is left as it is. Records that are none of
    `selection` are left as they are.
    """

    verify: str = "decrypt"
    rates: Mapping[str, float] = field(default_factory=dict)
    atomic: bool = False
    output: str | None = None
    selection: Selection = EVERYTHING

    def as_dict(self, ids: Given = in_order) -> dict[str, Any]:
        """The options as JSON takes them; `ids` as in `Selection.as_dict`."""
        return {
            "verify": self.verify,
            "rates": dict(self.rates),
            "atomic": self.atomic,
            "output": self.output,
            "selection": self.selection.as_dict(ids),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Options:
        """The options that `as_dict` gave.

        >>> Options.from_dict(Options(atomic=True).as_dict()).atomic
        True
        """
        return cls(**{**values, "selection": Selection.from_dict(values["selection"])})


@dataclass(frozen=True, slots=True)
class Reason:
    """So many records have this outcome for this reason; "" where it needs none.

    `examples` are the first of their ids, where they are not to be re-encrypted and should perhaps
    be.
    """

    outcome: Outcome
    reason: str
    records: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyMark:
    """How a key stood when the plan was made; state None where it was not there."""

    provider: str
    key_id: str
    state: str | None
    primary_version_id: str | None
    alias: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What a campaign would do. The outcomes sum to `total`, the census to all records there are.

    `rights` are the calls that a credential must be allowed, by provider. `unverified` says that
    only heads were read; with `deep` every blob was authenticated. `fingerprints` are those of the
    source's parts, `keys` those that its blobs name and the destination. `notes` are sentences for
    whoever decides. `context_erased`: the target named a context, and its campaign was closed.
    """

    spec: SourceSpec
    source: str
    target: Target
    options: Options
    made_at: datetime
    total: int
    outcomes: Mapping[Outcome, int]
    reasons: tuple[Reason, ...]
    census: tuple[CensusRow, ...]
    forecast: Forecast
    rights: Mapping[str, Sequence[str]]
    unverified: bool
    fingerprints: Mapping[str, str]
    keys: tuple[KeyMark, ...]
    notes: tuple[str, ...]
    context_erased: bool = False

    @property
    def to_send(self) -> int:
        """The records for which a call would be made, or another's answer taken."""
        return sum(records for outcome, records in self.outcomes.items() if outcome.sent)

    @property
    def aliases(self) -> Mapping[str, str]:
        """What the keys were called when the plan was made, by id; those that had no name apart."""
        return {mark.key_id: mark.alias for mark in self.keys if mark.alias}

    def __repr__(self) -> str:
        outcomes = ", ".join(f"{count:,} {name}" for name, count in self.outcomes.items() if count)
        return f"Plan({self.source}: {self.total:,} records: {outcomes or 'none'})"

    def _repr_html_(self) -> str:
        rows = [(each.outcome.value, each.reason, each.records) for each in self.reasons]
        columns = ("outcome", "reason", "records")
        said = f"{self.total:,} records, {self.to_send:,} to send{self._calls()}"
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        listed = f"<ul>{notes}</ul>" if notes else ""
        return f"<p>{escape(said)}</p>{html_table(rows, columns)}{listed}"

    def _calls(self) -> str:
        """The calls to each provider, at which rate, and how long all take."""
        calls = [
            f"{counted(each.calls, 'call')} to {each.provider} at {each.rate:g} a second"
            for each in self.forecast.providers
        ]
        return f": {', '.join(calls)}, {duration(self.forecast.seconds)}" if calls else ""

    def as_dict(self, ids: Given = in_order) -> dict[str, Any]:
        """The plan as JSON takes it (design, Annex B); `from_dict` reads it. `ids` as in
        `Selection.as_dict`."""
        target = target_as_dict(self.target)
        return {
            "format": FORMAT,
            "spec": self.spec.as_dict(),
            "source": self.source,
            "target": target | _ERASED if self.context_erased else target,
            "options": self.options.as_dict(ids),
            "made_at": self.made_at.isoformat(),
            "total": self.total,
            "outcomes": {outcome.value: records for outcome, records in self.outcomes.items()},
            "reasons": [asdict(reason) for reason in self.reasons],
            "census": [asdict(row) for row in self.census],
            "forecast": self.forecast.as_dict(),
            "rights": {provider: list(calls) for provider, calls in self.rights.items()},
            "unverified": self.unverified,
            "fingerprints": dict(self.fingerprints),
            "keys": [asdict(mark) for mark in self.keys],
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """A plan that was saved; CampaignError where this is none, or of a later format."""
        if values.get("format") != FORMAT:
            raise CampaignError(
                f"a plan of format {values.get('format')!r}; this kmslab reads {FORMAT}"
            )
        try:
            return _from_dict(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CampaignError(f"this is not a saved plan: {error!r}") from None


# Plans and targets as JSON takes them


def target_as_dict(target: Target) -> dict[str, Any]:
    """A target as JSON takes it: `context` is {"keep": true}, {"drop": true} or {"text": ...}."""
    match target.context:
        case Keep():
            context: dict[str, Any] = {"keep": True}
        case Drop():
            context = {"drop": True}
        case text:
            context = {"text": context_text(text)}
    return {
        "key_id": target.key_id,
        "provider": target.provider,
        "context": context,
        "max_length": target.max_length,
    }


def without_context(target: Mapping[str, Any]) -> dict[str, Any]:
    """A target as JSON takes it, without the text of its context.

    >>> without_context(target_as_dict(Target(context='{"a":"b"}')))["context"]
    {'erased': True}
    """
    return {**target, **(_ERASED if "text" in target["context"] else {})}


def target_from_dict(values: Mapping[str, Any]) -> Target:
    """The target that `target_as_dict` gave; KEEP where its context was erased.

    >>> target_from_dict(target_as_dict(Target(context=DROP))) == Target(context=DROP)
    True
    """
    named = values["context"]
    kept = "keep" in named or "erased" in named
    context = KEEP if kept else DROP if "drop" in named else named["text"]
    return Target(
        key_id=values["key_id"],
        provider=values["provider"],
        context=context,
        max_length=values["max_length"],
    )


def _from_dict(values: Mapping[str, Any]) -> Plan:
    return Plan(
        spec=SourceSpec.from_dict(values["spec"]),
        source=values["source"],
        target=target_from_dict(values["target"]),
        options=Options.from_dict(values["options"]),
        made_at=datetime.fromisoformat(values["made_at"]),
        total=values["total"],
        outcomes={Outcome(name): records for name, records in values["outcomes"].items()},
        reasons=tuple(
            Reason(
                Outcome(each["outcome"]), each["reason"], each["records"], tuple(each["examples"])
            )
            for each in values["reasons"]
        ),
        census=tuple(CensusRow(**row) for row in values["census"]),
        forecast=Forecast(
            tuple(
                ProviderForecast(name, each["calls"], each["rate"], each["seconds"])
                for name, each in values["forecast"]["providers"].items()
            )
        ),
        rights=values["rights"],
        unverified=values["unverified"],
        fingerprints=values["fingerprints"],
        keys=tuple(KeyMark(**mark) for mark in values["keys"]),
        notes=tuple(values["notes"]),
        context_erased="erased" in values["target"]["context"],
    )
